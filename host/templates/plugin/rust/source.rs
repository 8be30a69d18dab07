//! Lines of `SECONDS ADDRESS BYTES` as rows.

use kaminari_plugin_sdk::prelude::*;
use std::net::IpAddr;

config! {
    /// What an operator writes as `decode.config` of the source.
    struct Config {}
}

struct Lines;

impl Source for Lines {
    type Config = Config;
    fn new(_: Config) -> Result<Self> {
        Ok(Lines)
    }
    /// The columns of all rows; `time` is when it happened.
    fn schema(&self) -> Schema {
        Schema::of([("time", DataType::TimestampNs), ("addr", DataType::Ip), ("bytes", DataType::Uint64)])
    }
    /// Frames (datagrams, messages, lines) in, rows out. What is no line of ours is refused by a reason, and counted.
    fn decode(&mut self, frames: &Frames) -> Result<Decoded> {
        let mut out = Decoded::new(&self.schema());
        for frame in frames.iter() {
            match read(&frame.text()) {
                Some((seconds, addr, bytes)) => {
                    out.rows.u64(0, seconds * 1_000_000_000).ip(1, addr).u64(2, bytes).end_row()
                }
                None => out.reject(&frame, "no-line-of-ours"),
            }
        }
        Ok(out)
    }
}

fn read(line: &str) -> Option<(u64, IpAddr, u64)> {
    let mut words = line.split_ascii_whitespace();
    let mut next = || words.next();
    Some((next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?))
}

export_source!(Lines);
