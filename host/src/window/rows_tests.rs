use super::*;
use crate::config::EventTime;
use crate::model::RowBatch;
use crate::window::Ingest;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, UInt64Array};
use proptest::prelude::*;
use std::sync::Arc;

const SECOND: u64 = 1_000_000_000;

fn plan(kind: WindowKind, size: u64, pane: u64, lateness: u64) -> WindowPlan {
    WindowPlan {
        kind,
        size_ns: size * SECOND,
        pane_ns: pane * SECOND,
        event_time: EventTime::End,
        max_spread_ns: 0,
        out_of_order_ns: 0,
        allowed_lateness_ns: lateness * SECOND,
        idle_timeout_ns: SECOND,
        max_future_ns: SECOND,
        max_keys: 10,
    }
}

/// Rows that are their own times, in seconds.
fn rows(times: &[u64]) -> RowBatch {
    let column: ArrayRef = Arc::new(UInt64Array::from(times.to_vec()));
    RowBatch {
        source: "s".into(),
        partition: 0,
        arrived_ns: None,
        received_ns: 1_000_000 * SECOND,
        times: times.iter().map(|t| t * SECOND).collect(),
        first: 0,
        batch: RecordBatch::try_from_iter([("t", column)]).unwrap(),
    }
}

type Told = Vec<((u64, u64, u32, bool), Vec<u64>)>;

/// Windows as `(start, end, revision, partial)` in seconds, with their rows.
fn run(plan: WindowPlan, batches: &[Vec<u64>]) -> Told {
    let (mut ingest, mut windows) = (Ingest::new(plan, Default::default()), RowWindows::new(plan, 1 << 20));
    let mut told = Vec::new();
    let mut tell = |fired: Vec<FiredRows>| {
        for FiredRows { window: w, rows } in fired {
            let rows = rows.iter().flat_map(|r| r.column(0).as_primitive::<UInt64Type>().values().to_vec()).collect();
            told.push(((w.start_ns / SECOND, w.end_ns / SECOND, w.revision, w.partial), rows));
        }
    };
    for batch in batches {
        windows.push(&ingest.push_rows(&rows(batch)));
        ingest.close().iter().for_each(|order| tell(windows.close(order)));
    }
    ingest.close_all().iter().for_each(|order| tell(windows.close(order)));
    assert_eq!(windows.refused(), 0);
    told
}

#[test]
fn tumbling_windows_have_their_rows_and_fire_early_where_told() {
    let told = run(plan(WindowKind::Tumbling, 10, 10, 0), &[vec![1, 3], vec![12], vec![25]]);
    assert_eq!(told, [((0, 10, 0, false), vec![1, 3]), ((10, 20, 0, false), vec![12]), ((20, 30, 0, true), vec![25])]);
    let told = run(plan(WindowKind::Tumbling, 10, 5, 0), &[vec![1], vec![7], vec![12]]);
    assert_eq!(told[0], ((0, 5, 0, true), vec![1]));
    assert_eq!(told[1], ((0, 10, 0, false), vec![1, 7]));
    assert_eq!(told[2], ((10, 15, 0, true), vec![12]));
}

#[test]
fn sliding_windows_have_the_rows_of_all_their_panes() {
    let told = run(plan(WindowKind::Sliding, 3, 1, 0), &[vec![0], vec![1], vec![2], vec![5]]);
    let of = |end: u64| told.iter().find(|((_, e, ..), _)| *e == end).map(|(_, rows)| rows.clone());
    assert_eq!((of(2), of(3), of(4)), (Some(vec![0, 1]), Some(vec![0, 1, 2]), Some(vec![1, 2])));
    assert_eq!((of(5), of(6)), (Some(vec![2]), Some(vec![5])));
}

#[test]
fn a_late_row_makes_its_window_fire_again_within_the_allowed_lateness() {
    let told = run(plan(WindowKind::Tumbling, 10, 10, 15), &[vec![1], vec![12], vec![2], vec![40], vec![3]]);
    assert_eq!(told[0], ((0, 10, 0, false), vec![1]));
    assert!(told.contains(&((0, 10, 1, false), vec![1, 2])), "{told:?}");
    assert!(!told.iter().any(|(_, rows)| rows.contains(&3)), "too late: {told:?}");
}

#[test]
fn what_has_no_room_is_counted() {
    let plan = plan(WindowKind::Tumbling, 10, 10, 0);
    let (mut ingest, mut windows) = (Ingest::new(plan, Default::default()), RowWindows::new(plan, 4000));
    for _ in 0..100 {
        windows.push(&ingest.push_rows(&rows(&[1; 20])));
    }
    assert!(windows.refused() > 0 && windows.bytes() <= 4000, "{} {}", windows.refused(), windows.bytes());
    windows.push(&ingest.push_rows(&rows(&[30])));
    ingest.close().iter().for_each(|order| drop(windows.close(order)));
    windows.push(&ingest.push_rows(&rows(&[31])));
    assert!(windows.bytes() < 1000, "what has fired is forgotten");
}

proptest! {
    /// Every row that is not late is in every window that spans it, once; whatever the batches.
    #[test]
    fn rows_are_in_the_windows_that_span_them(
        times in prop::collection::vec(0u64..60, 1..60), cut in 1usize..20, size in 1u64..6, sliding in any::<bool>(),
    ) {
        let kind = if sliding { WindowKind::Sliding } else { WindowKind::Tumbling };
        let mut sorted = times;
        sorted.sort_unstable();
        let batches: Vec<Vec<u64>> = sorted.chunks(cut).map(<[u64]>::to_vec).collect();
        let pane = if sliding { 1 } else { size };
        let told = run(plan(kind, size, pane, 0), &batches);
        for ((start, end, revision, _), rows) in &told {
            let expected: Vec<u64> = sorted.iter().copied().filter(|t| (*start..*end).contains(t)).collect();
            prop_assert_eq!((revision, rows), (&0, &expected));
        }
        if !sliding {
            let all: Vec<u64> = told.iter().flat_map(|(_, rows)| rows.clone()).collect();
            prop_assert_eq!(all, sorted);
        }
    }
}
