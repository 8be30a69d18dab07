//! Records to rows of features on one core: what the router thread (panes, hashes, watermark) and a window worker
//! (aggregation, firing, features) do, with the window and features of configs/demo.toml: with its levels, with all four
//! levels, and with each alone. Detectors are not in it.

use crate::Outcome;
use crate::measure::{LONG_ENOUGH, REPETITIONS, Stopwatch, row};
use crate::traffic::Stream;
use kaminari::config::{self, PipelinePlan};
use kaminari::features::{FrameBuilder, catalogue};
use kaminari::model::{FlowBatch, KeyKind, KeyLevel};
use kaminari::pipeline;
use kaminari::window::{Hasher, Ingest, Shard};
use std::hint::black_box;

const CONFIG: &str = include_str!("../../configs/demo.toml");
/// Flows a second of event time.
const RATES: [f64; 2] = [10_000.0, 300_000.0];
/// Cases whose repetitions must be long enough.
const MAIN: [&str; 3] = ["demo levels", "four levels", "dst_addr"];
/// Until the window is full: firing costs as much as it ever will.
const WARM_UP_SECONDS: usize = 11;

pub fn run() -> Outcome {
    let plan = config::parse("configs/demo.toml", CONFIG, &pipeline::registry())?;
    let demo = plan.pipelines.get("ddos").ok_or("configs/demo.toml has no pipeline ddos")?;
    for rate in RATES {
        // All see the same traffic, which is dear to make.
        let with =
            |keys: &[KeyKind]| Stages::new(&PipelinePlan { keys: keys.iter().map(level).collect(), ..demo.clone() });
        let mut stages = vec![("demo levels", Stages::new(demo)), ("four levels", with(&KeyKind::ALL))];
        stages.extend(KeyKind::ALL.map(|kind| (kind.name(), with(&[kind]))));
        let mut stream = Stream::new(rate)?;
        for _ in 0..WARM_UP_SECONDS {
            let batches = stream.second();
            stages.iter_mut().for_each(|(_, s)| s.second(&batches));
        }
        for rep in 1..=REPETITIONS {
            stages.iter_mut().for_each(|(_, s)| s.reset());
            // Levels with few entities get the time they get.
            let short = |(levels, s): &(&str, Stages)| MAIN.contains(levels) && s.spent() < LONG_ENOUGH.as_secs_f64();
            while stages.iter().any(short) {
                let batches = stream.second();
                stages.iter_mut().for_each(|(_, s)| s.second(&batches));
            }
            for (levels, s) in &stages {
                let case = format!("{levels} at {:.0}k flows/s", rate / 1e3);
                row("window", &case, "flows/s", s.records as f64 / s.spent(), rep);
                for (part, watch) in [("route", &s.route), ("aggregate", &s.aggregate), ("fire", &s.fire)] {
                    let ns = watch.total().as_secs_f64() * 1e9 / s.records as f64;
                    row("window", &format!("{case}: {part}"), "ns/flow", ns, rep);
                }
                row("window", &format!("{case}: rows"), "rows/flow", s.rows as f64 / s.records as f64, rep);
            }
        }
        stages.iter().try_for_each(|(_, s)| s.took_all())?;
    }
    Ok(())
}

/// A level with the default prefixes.
fn level(kind: &KeyKind) -> KeyLevel {
    KeyLevel { kind: *kind, v4_prefix: 24, v6_prefix: 64 }
}

/// One pipeline up to its detectors, and where its time goes.
pub struct Stages {
    ingest: Ingest,
    shard: Shard,
    frames: FrameBuilder,
    route: Stopwatch,
    aggregate: Stopwatch,
    fire: Stopwatch,
    records: u64,
    rows: u64,
}

impl Stages {
    pub fn new(plan: &PipelinePlan) -> Self {
        let needs = catalogue::needs(&plan.features);
        Self {
            ingest: Ingest::new(plan.window, needs),
            shard: Shard::new(plan.window, needs, &plan.keys, &Hasher::default(), 0, 1),
            frames: FrameBuilder::new(&plan.features, plan.level_half_life_windows, plan.window.max_keys),
            route: Stopwatch::default(),
            aggregate: Stopwatch::default(),
            fire: Stopwatch::default(),
            records: 0,
            rows: 0,
        }
    }

    pub fn reset(&mut self) {
        (self.route, self.aggregate, self.fire) = Default::default();
        (self.records, self.rows) = (0, 0);
    }

    /// Seconds since `reset`.
    pub fn spent(&self) -> f64 {
        (self.route.total() + self.aggregate.total() + self.fire.total()).as_secs_f64()
    }

    /// Records since `reset`.
    pub fn records(&self) -> u64 {
        self.records
    }

    fn second(&mut self, batches: &[FlowBatch]) {
        batches.iter().for_each(|batch| self.batch(batch));
    }

    pub fn batch(&mut self, batch: &FlowBatch) {
        let (prepared, orders) = self.route.time(|| (self.ingest.push(batch), self.ingest.close()));
        self.aggregate.time(|| self.shard.push(&prepared));
        for order in &orders {
            let frames = self.fire.time(|| {
                self.shard.close(order, &mut self.frames);
                self.frames.take()
            });
            self.rows += black_box(&frames).iter().map(|f| f.keys.len() as u64).sum::<u64>();
        }
        self.records += batch.batch.num_rows() as u64;
    }

    /// An error when a record was late or found no room.
    pub fn took_all(&self) -> Outcome {
        let counts = self.ingest.counts();
        if counts.on_time != counts.records || self.shard.refused() > 0 {
            return Err(format!("not every record was taken: {counts:?}").into());
        }
        Ok(())
    }
}
