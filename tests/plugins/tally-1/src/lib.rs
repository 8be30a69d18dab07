//! One plugin in several versions, each a crate of its own (`tally-2`, `tally-3`, ...) made of this text: a row's score is how
//! often its entity was judged. The first number of the crate's version is that of the state. Version 1 saves the counts; 2 saves
//! how often it was called before them, and migrates 1; 3 saves the same as 2, and reads nothing else.

use kaminari_plugin_sdk::prelude::*;

config! {
    pub struct Config {
        /// Function to panic in: `snapshot`, `migrate` or `restore`.
        trap_in: Option<String>,
    }
}

const STATE_VERSION: u32 = (env!("CARGO_PKG_VERSION_MAJOR").as_bytes()[0] - b'0') as u32;

type Counts = Vec<(Key, u32)>;

pub struct Tally {
    config: Config,
    /// Since the start, over all instances from version 2 on.
    calls: u64,
    /// Of this instance.
    own_calls: u32,
    seen: KeyMap<u32>,
}

impl Tally {
    fn enters(&self, function: &str) {
        assert!(self.config.trap_in.as_deref() != Some(function), "as the fixture was told, in {function}");
    }
}

impl Detector for Tally {
    type Config = Config;
    const STATE_VERSION: u32 = STATE_VERSION;

    fn new(config: Config) -> Result<Self> {
        if cfg!(feature = "broken") {
            panic!("this version cannot be configured");
        }
        Ok(Self { config, calls: 0, own_calls: 0, seen: KeyMap::new(100_000) })
    }

    fn detect(&mut self, _window: &Window, batch: &Batch) -> Result<Verdict> {
        self.calls += 1;
        self.own_calls += 1;
        assert!(!cfg!(feature = "frail") || self.own_calls < 3, "this version breaks on its third call");
        let mut score = |key: &Key| {
            let seen = self.seen.get_or_insert_with(key, || 0);
            *seen += 1;
            f64::from(*seen)
        };
        Ok(Verdict::scores(batch.keys()?.iter().map(&mut score).collect()))
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        self.enters("snapshot");
        let counts: Counts = self.seen.iter().map(|(key, seen)| (*key, *seen)).collect();
        if STATE_VERSION == 1 { state::to_bytes(&counts) } else { state::to_bytes(&(self.calls, counts)) }
    }

    fn migrate(&self, from: u32, bytes: &[u8]) -> Result<Vec<u8>> {
        self.enters("migrate");
        if (from, STATE_VERSION) != (1, 2) {
            return Err(error::no_migration(from));
        }
        let counts: Counts = state::from_bytes(bytes)?;
        let calls = counts.iter().map(|(_, seen)| u64::from(*seen)).max().unwrap_or(0);
        state::to_bytes(&(calls, counts))
    }

    fn restore(&mut self, version: u32, bytes: &[u8]) -> Result<()> {
        self.enters("restore");
        if version != STATE_VERSION {
            return Err(error::other(format!("state of version {version} cannot be read")));
        }
        let (calls, counts) = if STATE_VERSION == 1 {
            (0, state::from_bytes(bytes)?)
        } else {
            state::from_bytes::<(u64, Counts)>(bytes)?
        };
        self.calls = calls;
        self.seen.extend(counts);
        Ok(())
    }
}

#[cfg(not(feature = "duet"))]
export_detector!(Tally, name = "tally");

#[cfg(feature = "duet")]
export_plugin!(name = "duet", source = lines::Lines, detector = Tally);

#[cfg(feature = "duet")]
mod lines {
    use super::*;

    /// A row per frame, with how many there were before. Its state is of version 1 in all versions of the plugin.
    pub struct Lines(u64);

    impl Source for Lines {
        type Config = Config;
        const STATE_VERSION: u32 = 1;

        fn new(_: Config) -> Result<Self> {
            Ok(Self(0))
        }

        fn schema(&self) -> Schema {
            Schema::of([("time", DataType::TimestampNs), ("before", DataType::Uint64)])
        }

        fn decode(&mut self, frames: &Frames) -> Result<Decoded> {
            let mut out = Decoded::new(&self.schema());
            for frame in frames.iter() {
                out.rows.u64(0, frame.received_ns).u64(1, self.0).end_row();
                self.0 += 1;
            }
            Ok(out)
        }

        fn snapshot(&self) -> Result<Vec<u8>> {
            state::to_bytes(&self.0)
        }

        fn restore(&mut self, version: u32, bytes: &[u8]) -> Result<()> {
            if version != 1 {
                return Err(error::other(format!("state of version {version} is not the source's")));
            }
            self.0 = state::from_bytes(bytes)?;
            Ok(())
        }
    }
}
