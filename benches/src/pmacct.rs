//! pmacct's messages to rows of features on one core: decoding, and what configs/detector.toml does with the records up to
//! its detectors. CPU seconds per million flows; windows fire every second, so they cost less per flow the more come.

use crate::Outcome;
use crate::measure::{LONG_ENOUGH, REPETITIONS, Stopwatch, row};
use crate::messages;
use crate::traffic::Stream;
use crate::window::Stages;
use kaminari::config::decode_options::{DecodeFormat, DecodeOptions};
use kaminari::config::{self, PipelinePlan};
use kaminari::decode::{self, Decoder};
use kaminari::model::frames::NO_PEER;
use kaminari::model::{FlowBatch, FlowBatchBuilder, FlowRecord, FlowSink, FrameBatch};
use kaminari::pipeline;

const CONFIG: &str = include_str!("../../configs/detector.toml");
/// Flows a second of event time.
const RATES: [f64; 3] = [10_000.0, 100_000.0, 300_000.0];
/// Until the window is full.
const WARM_UP_SECONDS: usize = 11;

pub fn run() -> Outcome {
    let plan = config::parse("configs/detector.toml", CONFIG, &pipeline::registry())?;
    let pipeline = plan.pipelines.get("ddos").ok_or("configs/detector.toml has no pipeline ddos")?;
    RATES.into_iter().try_for_each(|rate| at(rate, pipeline))
}

fn at(rate: f64, pipeline: &PipelinePlan) -> Outcome {
    let options = DecodeOptions { format: Some(DecodeFormat::Pmacct), ..DecodeOptions::default() };
    let mut decoder = decode::build(&options, false)?;
    let (mut stream, mut stages) = (Stream::new(rate)?, Stages::new(pipeline));
    let mut parse = Stopwatch::default();
    for _ in 0..WARM_UP_SECONDS {
        second(&mut stream, &mut *decoder, &mut parse, &mut stages);
    }
    for rep in 1..=REPETITIONS {
        parse = Stopwatch::default();
        stages.reset();
        while parse.total().as_secs_f64() + stages.spent() < 2.0 * LONG_ENOUGH.as_secs_f64() {
            second(&mut stream, &mut *decoder, &mut parse, &mut stages);
        }
        let case = format!("at {:.0}k flows/s", rate / 1e3);
        let per_million = |seconds: f64| seconds * 1e6 / stages.records() as f64;
        let parts = [("parse", parse.total().as_secs_f64()), ("windows", stages.spent())];
        for (part, seconds) in parts {
            row("pmacct", &format!("{case}: {part}"), "CPU s per million flows", per_million(seconds), rep);
        }
        row("pmacct", &case, "CPU s per million flows", per_million(parts[0].1 + parts[1].1), rep);
    }
    if decoder.stats().errors_total() > 0 {
        return Err(format!("not every message was read: {}", decoder.stats()).into());
    }
    stages.took_all()
}

/// One second of event time: written untimed, read and windowed.
fn second(stream: &mut Stream, decoder: &mut dyn Decoder, parse: &mut Stopwatch, stages: &mut Stages) {
    let mut builder = FlowBatchBuilder::default();
    for batch in stream.second() {
        let frames = written(&batch);
        let batch = parse.time(|| {
            decoder.decode(&frames, &mut builder);
            FlowBatch { batch: builder.finish(), ..batch }
        });
        stages.batch(&batch);
    }
}

fn written(batch: &FlowBatch) -> FrameBatch {
    let mut records: Vec<FlowRecord> = Vec::new();
    records.push_columns(&batch.batch);
    messages::complete(&mut records);
    let (mut frames, mut message) = (FrameBatch::default(), Vec::new());
    for record in &records {
        message.clear();
        messages::pmacct(record, &mut message);
        frames.push(&message, NO_PEER, record.time_received_ns);
    }
    frames
}
