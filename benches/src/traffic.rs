//! The generator's traffic as the stages of the engine see it: datagrams, and batches of decoded records.

use kaminari::decode::{self, Decoder};
use kaminari::generate::{GenerateError, Generator, Options, Version};
use kaminari::model::time::SECOND;
use kaminari::model::{FlowBatch, FlowBatchBuilder, FrameBatch};

/// Bytes of datagrams that a receiver hands over at once when much comes in.
const DELIVERY_BYTES: usize = 256 << 10;
/// Rows of a full batch of records, as the engine's intake makes them ...
pub const BATCH_ROWS: usize = 8192;
/// ... and event time after which one that is not full leaves.
const BATCH_AGE_NS: u64 = 50_000_000;
/// 2026-01-01T00:00:00Z.
const START_NS: u64 = 1_767_225_600 * SECOND;

/// Datagrams of four exporters of one version, packed as the receiver packs them, and the flow records in them.
pub fn datagrams(version: Version, flows: f64) -> Result<(Vec<FrameBatch>, u64), GenerateError> {
    let options =
        Options { seconds: 1.0, rate: flows, start_ns: START_NS, exporters: vec![version; 4], ..Options::default() };
    let mut generator = Generator::new(&options)?;
    let (mut packed, mut frames) = (Vec::new(), FrameBatch::default());
    let mut more = true;
    while more {
        more = generator.tick(&mut frames);
        if frames.data.len() >= DELIVERY_BYTES || !more {
            packed.push(std::mem::take(&mut frames));
        }
    }
    Ok((packed, generator.truth().flows()))
}

/// Batches of records from a v5, a v9 and an IPFIX exporter, as long as one asks.
pub struct Stream {
    generator: Generator,
    decoder: Box<dyn Decoder>,
    frames: FrameBatch,
    builder: FlowBatchBuilder,
}

impl Stream {
    /// `rate` flows a second of event time.
    pub fn new(rate: f64) -> Result<Self, Box<dyn std::error::Error>> {
        // So long that it never ends here.
        let options = Options { seconds: 1e5, rate, start_ns: START_NS, ..Options::default() };
        Ok(Self {
            generator: Generator::new(&options)?,
            decoder: decode::build(&Default::default(), false)?,
            frames: FrameBatch::default(),
            builder: FlowBatchBuilder::default(),
        })
    }

    /// The batches of the next second of event time.
    pub fn second(&mut self) -> Vec<FlowBatch> {
        let (mut out, end_ns) = (Vec::new(), self.generator.now_ns() + SECOND);
        let mut since = self.generator.now_ns();
        while self.generator.now_ns() < end_ns {
            self.frames.clear();
            self.generator.tick(&mut self.frames);
            self.decoder.decode(&self.frames, &mut self.builder);
            let now = self.generator.now_ns();
            if self.builder.len() >= BATCH_ROWS || now - since >= BATCH_AGE_NS || now >= end_ns {
                since = now;
                out.push(FlowBatch {
                    source: "edge".into(),
                    partition: 0,
                    arrived_ns: None,
                    batch: self.builder.finish(),
                });
            }
        }
        out
    }
}
