use crate::batch::Schema;
use crate::error::Result;
use crate::rows::Rows;

/// A source of another kind: frames (datagrams, messages, lines) in, rows out. The host owns sockets, files and topics.
///
/// ```
/// use kaminari_plugin_sdk::prelude::*;
///
/// config! { struct Config {} }
///
/// /// Lines of `SECONDS VALUE`.
/// struct Lines;
///
/// impl Source for Lines {
///     type Config = Config;
///     fn new(_: Config) -> Result<Self> { Ok(Lines) }
///     fn schema(&self) -> Schema {
///         Schema::of([("time", DataType::TimestampNs), ("value", DataType::Float64)])
///     }
///     fn decode(&mut self, frames: &Frames) -> Result<Decoded> {
///         let mut out = Decoded::new(&self.schema());
///         for frame in frames.iter() {
///             let text = frame.text();
///             let mut words = text.split_ascii_whitespace();
///             let time = words.next().and_then(|w| w.parse::<u64>().ok());
///             let value = words.next().and_then(|w| w.parse().ok());
///             match time.zip(value) {
///                 Some((time, value)) => out.rows.u64(0, time * 1_000_000_000).f64(1, value).end_row(),
///                 None => out.reject(&frame, "no-pair"),
///             }
///         }
///         Ok(out)
///     }
/// }
///
/// export_plugin!(name = "lines", source = Lines);
/// # fn main() {}
/// ```
pub trait Source: Sized {
    /// The plugin's own table of the operator's configuration (`decode.config` of a source).
    type Config: serde::de::DeserializeOwned + schemars::JsonSchema;

    /// Checks the configuration and makes an instance. Complain with [`crate::error::config`].
    fn new(config: Self::Config) -> Result<Self>;

    /// The columns of all rows.
    fn schema(&self) -> Schema;

    /// Column (of type [`crate::DataType::TimestampNs`]) with the event time of each row. A row without one has the time at
    /// which the last frame of its call was received.
    fn time_column(&self) -> String {
        "time".to_owned()
    }

    /// Turns frames into rows. An error loses all of them (the host counts and tells it): refuse single frames by
    /// [`Decoded::reject`] instead.
    fn decode(&mut self, frames: &Frames) -> Result<Decoded>;

    /// Of what [`snapshot`](Self::snapshot) gives; raise it when that changes. 0: nothing is saved.
    const STATE_VERSION: u32 = 0;

    /// What decides about later calls, for the host's checkpoints. Asked between calls.
    fn snapshot(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    /// Goes on with what an instance before has saved. An error: it begins anew.
    fn restore(&mut self, version: u32, bytes: &[u8]) -> Result<()> {
        let _ = (version, bytes);
        Ok(())
    }

    /// What an instance of state version `from` has saved, in the form of this one's [`STATE_VERSION`](Self::STATE_VERSION): then
    /// [`restore`](Self::restore) gets that. Without it `restore` gets the bytes as they are, under the version that they had.
    fn migrate(&self, from: u32, bytes: &[u8]) -> Result<Vec<u8>> {
        let _ = bytes;
        Err(crate::error::no_migration(from))
    }
}

/// Frames of one call.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    /// All bytes, end to end.
    pub data: Vec<u8>,
    /// End of each frame.
    pub ends: Vec<u32>,
    /// When each was received, ns since the Unix epoch.
    pub received_ns: Vec<u64>,
    /// Index into `peers` for each.
    pub peer: Vec<u32>,
    /// Senders.
    pub peers: Vec<String>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Which.
    pub index: u32,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// When it was received, ns since the Unix epoch.
    pub received_ns: u64,
    /// Who sent it: an address and port, a path, or topic/partition.
    pub peer: &'a str,
}

impl<'a> Frame<'a> {
    /// The bytes as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(self.bytes)
    }
}

impl Frames {
    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// In the order received.
    pub fn iter(&self) -> impl Iterator<Item = Frame<'_>> {
        (0..self.ends.len()).map(|i| {
            let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
            let bytes = self.data.get(start..self.ends[i] as usize).unwrap_or_default();
            let peer = self.peer.get(i).and_then(|p| self.peers.get(*p as usize)).map_or("", String::as_str);
            Frame { index: i as u32, bytes, received_ns: self.received_ns.get(i).copied().unwrap_or(0), peer }
        })
    }
}

/// What became of frames.
#[derive(Debug)]
pub struct Decoded {
    /// The rows.
    pub rows: Rows,
    /// Frames that were refused, and why.
    pub rejected: Vec<(u32, String)>,
}

impl Decoded {
    /// Nothing yet.
    pub fn new(schema: &Schema) -> Self {
        Self { rows: Rows::new(schema), rejected: Vec::new() }
    }

    /// Refuses a frame: the host counts it under this reason. Use few reasons, in kebab-case, that do not depend on the
    /// frame's contents.
    pub fn reject(&mut self, frame: &Frame<'_>, reason: &str) {
        self.rejected.push((frame.index, reason.to_owned()));
    }
}
