//! Datagrams to columns: records a second on one core, per export version. Templates are known before the clock starts
//! and come again as exporters repeat them.

use crate::measure::{REPETITIONS, repetition, row};
use crate::{Outcome, traffic};
use kaminari::config::decode_options::DecodeOptions;
use kaminari::decode;
use kaminari::generate::Version;
use kaminari::model::FlowBatchBuilder;
use std::hint::black_box;

/// Records of one pass: datagrams and columns do not fit any cache.
const FLOWS: f64 = 300_000.0;

pub fn run() -> Outcome {
    for version in Version::ALL {
        let (packed, sent) = traffic::datagrams(version, FLOWS)?;
        let mut decoder = decode::build(&DecodeOptions::default(), false)?;
        let mut builder = FlowBatchBuilder::default();
        let mut pass = || {
            let mut records = 0;
            for frames in &packed {
                decoder.decode(frames, &mut builder);
                if builder.len() >= traffic::BATCH_ROWS {
                    records += black_box(builder.finish()).num_rows() as u64;
                }
            }
            records += black_box(builder.finish()).num_rows() as u64;
            if records == sent { Ok(records) } else { Err(format!("{records} records of {sent} were decoded")) }
        };
        pass()?;
        for rep in 1..=REPETITIONS {
            let (records, seconds) = repetition(&mut pass)?;
            row("decode", version.name(), "records/s", records as f64 / seconds, rep);
        }
    }
    Ok(())
}
