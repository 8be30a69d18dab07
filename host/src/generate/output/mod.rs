//! Where datagrams go: a capture file, the network at the pace of event time, or a Kafka topic.

pub mod kafka;
pub mod pcap;
pub mod udp;

pub use kafka::KafkaOutput;
pub use pcap::PcapOutput;
pub use udp::UdpOutput;

use super::{GenerateError, Generator, Truth, generator::TICK_NS};
use crate::model::FrameBatch;
use std::time::{Duration, Instant};

/// Takes datagrams, and says when they left (capture time in a file, wall clock on the network).
pub trait Output {
    /// Sends all frames. The peer of a frame is the exporter it comes from.
    fn send(&mut self, frames: &FrameBatch) -> Result<u64, GenerateError>;
    /// Makes sure that everything has arrived where it goes.
    fn finish(&mut self) -> Result<(), GenerateError>;
}

/// How fast event time passes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Speed {
    /// So many seconds of event time a second.
    Paced(f64),
    /// As fast as it goes.
    Max,
}

/// Runs the generator to its end into `output`. `progress` hears of event time now and then.
pub fn drive(
    generator: &mut Generator,
    output: &mut dyn Output,
    speed: Speed,
    mut progress: impl FnMut(u64),
) -> Result<Truth, GenerateError> {
    let mut frames = FrameBatch::default();
    let mut pace = match speed {
        Speed::Paced(speed) => Some(Pace::new(Duration::from_nanos((TICK_NS as f64 / speed) as u64))),
        Speed::Max => None,
    };
    let mut ticks = 0u64;
    while generator.tick(&mut frames) {
        if let Some(pace) = &mut pace {
            pace.wait();
        }
        if !frames.frames.is_empty() {
            let sent_ns = output.send(&frames)?;
            generator.sent_at(sent_ns);
            frames.clear();
        }
        ticks += 1;
        if ticks.is_multiple_of(100) {
            progress(generator.now_ns());
        }
    }
    output.finish()?;
    Ok(generator.truth())
}

/// One tick after the other on the wall clock. A sender that was held up catches up at twice the rate, not in one
/// burst that would overflow the receiver's socket buffer.
struct Pace {
    start: Instant,
    tick: Duration,
    ticks: u64,
    last: Instant,
}

impl Pace {
    fn new(tick: Duration) -> Self {
        let now = Instant::now();
        Self { start: now, tick, ticks: 0, last: now }
    }

    fn wait(&mut self) {
        self.ticks += 1;
        let planned = self.start + Duration::from_nanos(self.tick.as_nanos() as u64 * self.ticks);
        let due = planned.max(self.last + self.tick / 2);
        let now = Instant::now();
        if due > now {
            std::thread::sleep(due - now);
        }
        self.last = Instant::now();
    }
}
