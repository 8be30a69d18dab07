//! Watermarks per source partition, merged by minimum. A partition that is silent for the idle timeout no longer
//! holds the others back; when all are silent the watermark goes on at the pace of ingest time, so that the last
//! windows come out when traffic stops.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Source id and partition number.
pub type Partition = (Arc<str>, u32);

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Newest event time, `None` before the first record.
    event_ns: Option<u64>,
    /// Ingest time of the newest record (of the first heartbeat before there is one).
    data_ns: u64,
}

/// Of a partition that has said nothing yet: no time is later, so it is never idle.
const UNHEARD: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Tracker {
    partitions: BTreeMap<Partition, State>,
    /// Newest ingest time of anything, heartbeats included.
    now_ns: u64,
    current_ns: u64,
    newest_event_ns: u64,
    out_of_order_ns: u64,
    idle_timeout_ns: u64,
    /// Event time is ingest time: a heartbeat moves event time too.
    follows_ingest: bool,
    /// After a restart: where event time stands in partitions that have nothing left to read.
    resumed_ns: Option<u64>,
}

impl Tracker {
    pub(super) fn new(out_of_order_ns: u64, idle_timeout_ns: u64, follows_ingest: bool) -> Self {
        Self {
            partitions: BTreeMap::new(),
            now_ns: 0,
            current_ns: 0,
            newest_event_ns: 0,
            out_of_order_ns,
            idle_timeout_ns,
            follows_ingest,
            resumed_ns: None,
        }
    }

    /// After a restart: the watermark stood there. Partitions that are read again come to it by their records, silent ones
    /// go on from it.
    pub(super) fn resume(&mut self, watermark_ns: u64) {
        self.resumed_ns = Some(watermark_ns.saturating_add(self.out_of_order_ns));
    }

    /// A partition of which nothing is known yet holds time back until it has said something, be it that it has nothing.
    pub(super) fn expect(&mut self, partition: &Partition) {
        self.partitions.insert(partition.clone(), State { event_ns: None, data_ns: UNHEARD });
    }

    /// Records of a partition: their newest event and ingest times.
    pub(super) fn records(&mut self, partition: &Partition, event_ns: u64, ingest_ns: u64) {
        let state = self.partitions.entry(partition.clone()).or_default();
        state.event_ns = Some(state.event_ns.map_or(event_ns, |e| e.max(event_ns)));
        state.data_ns = if state.data_ns == UNHEARD { ingest_ns } else { state.data_ns.max(ingest_ns) };
        self.newest_event_ns = self.newest_event_ns.max(event_ns);
        self.now_ns = self.now_ns.max(ingest_ns);
    }

    /// A partition says that all it received before `ingest_ns` has been handed over.
    pub(super) fn heartbeat(&mut self, partition: &Partition, ingest_ns: u64) {
        if self.follows_ingest {
            return self.records(partition, ingest_ns, ingest_ns);
        }
        let unheard = State { event_ns: None, data_ns: UNHEARD };
        let state = self.partitions.entry(partition.clone()).or_insert(unheard);
        if state.data_ns == UNHEARD {
            *state = State { event_ns: self.resumed_ns, data_ns: ingest_ns };
        }
        self.now_ns = self.now_ns.max(ingest_ns);
    }

    /// A partition has ended: it holds nothing back any more.
    pub(super) fn end(&mut self, partition: &Partition) {
        self.partitions.remove(partition);
    }

    /// The watermark now. Never goes back.
    pub(super) fn advance(&mut self) -> u64 {
        let active = |s: &&State| self.now_ns.saturating_sub(s.data_ns) <= self.idle_timeout_ns;
        let mut slowest = self.partitions.values().filter(active).map(|s| s.event_ns.unwrap_or(0)).min();
        if slowest.is_none() {
            // All idle: event time goes on as fast as ingest time does.
            let newest_data = self.partitions.values().map(|s| s.data_ns).max().unwrap_or(self.now_ns);
            let newest_event = self.partitions.values().filter_map(|s| s.event_ns).max();
            slowest = newest_event.map(|e| e + self.now_ns.saturating_sub(newest_data));
        }
        if let Some(event_ns) = slowest {
            self.current_ns = self.current_ns.max(event_ns.saturating_sub(self.out_of_order_ns));
        }
        self.current_ns
    }

    /// The newest event time of any record.
    pub(super) fn newest_event_ns(&self) -> u64 {
        self.newest_event_ns
    }

    /// How far the watermark is behind the newest event time.
    pub(super) fn delay_ns(&self) -> u64 {
        self.newest_event_ns.saturating_sub(self.current_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(n: u32) -> Partition {
        (Arc::from("s"), n)
    }

    #[test]
    fn slowest_partition_holds_until_idle_or_ended() {
        let mut t = Tracker::new(0, 100, false);
        t.records(&p(0), 1000, 10);
        t.records(&p(1), 50, 10);
        assert_eq!(t.advance(), 50);
        t.records(&p(0), 2000, 120);
        assert_eq!(t.advance(), 2000, "partition 1 has been silent for 110");
        t.records(&p(1), 60, 130);
        assert_eq!(t.advance(), 2000, "never back");
        t.records(&p(0), 3000, 140);
        assert_eq!(t.advance(), 2000);
        t.end(&p(1));
        assert_eq!(t.advance(), 3000);
    }

    #[test]
    fn all_idle_goes_on_with_ingest_time() {
        let mut t = Tracker::new(10, 100, false);
        t.records(&p(0), 1000, 10);
        assert_eq!(t.advance(), 990);
        t.heartbeat(&p(0), 100);
        assert_eq!(t.advance(), 990);
        t.heartbeat(&p(0), 210);
        assert_eq!(t.advance(), 1000 + 200 - 10);
    }

    #[test]
    fn a_silent_partition_goes_on_where_it_stood_before_the_restart() {
        let mut t = Tracker::new(10, 100, false);
        t.resume(1000);
        assert_eq!(t.advance(), 0, "records to be read again come first");
        t.heartbeat(&p(0), 50);
        assert_eq!(t.advance(), 1000);
        t.heartbeat(&p(0), 250);
        assert_eq!(t.advance(), 1200);
    }

    #[test]
    fn partitions_that_are_expected_are_waited_for() {
        let mut t = Tracker::new(0, 100, false);
        t.expect(&p(0));
        t.expect(&p(1));
        t.records(&p(0), 1000, 500);
        t.records(&p(0), 2000, 5000);
        assert_eq!(t.advance(), 0, "partition 1 may have older ones");
        t.records(&p(1), 900, 5000);
        assert_eq!(t.advance(), 900);
        t.expect(&p(2));
        t.records(&p(1), 1900, 5001);
        assert_eq!(t.advance(), 900);
        t.heartbeat(&p(2), 5001);
        t.records(&p(0), 2100, 5102);
        assert_eq!(t.advance(), 2100, "the others have been silent for 101");
    }

    #[test]
    fn heartbeats_move_received_time() {
        let mut t = Tracker::new(0, 100, true);
        t.heartbeat(&p(0), 500);
        assert_eq!(t.advance(), 500);
    }
}
