//! The plugin. In: frames, one syslog message each. Out: a row per message. Refused: what is no message ([`Refusal`]).

use crate::{Bounds, Miner, Options, parse};
use kaminari_plugin_sdk::prelude::*;

config! {
    /// `decode.config` of a source.
    pub struct Config {
        /// Year of times without one (RFC 3164). Default: the one nearest to when the message was received.
        year: Option<i32>,
        /// Minutes east of UTC of times without a zone.
        #[serde(default)]
        utc_offset_minutes: i32,
        /// Message templates.
        #[serde(default)]
        templates: Templates,
    }
    /// How texts become templates (Drain, He et al. 2017), and what bounds them.
    pub struct Templates {
        /// Look for templates.
        #[serde(default = "yes")]
        enabled: bool,
        /// Templates that are remembered; the one not seen for longest gives way.
        #[serde(default = "most")]
        max: usize,
        /// Share of words, 0 to 1, that a text must have in common with a template to be one of it.
        #[serde(default = "similarity")]
        similarity: f64,
    }
}

fn yes() -> bool {
    true
}
fn most() -> usize {
    Bounds::default().max_templates
}
fn similarity() -> f64 {
    Bounds::default().similarity
}

impl Default for Templates {
    fn default() -> Self {
        Self { enabled: yes(), max: most(), similarity: similarity() }
    }
}

/// Columns, in order.
const COLUMNS: [(&str, DataType); 12] = [
    ("time", DataType::TimestampNs),
    ("host", DataType::Utf8),
    ("app", DataType::Utf8),
    ("procid", DataType::Utf8),
    ("msgid", DataType::Utf8),
    ("facility", DataType::Uint64),
    ("severity", DataType::Uint64),
    ("message", DataType::Utf8),
    ("structured_data", DataType::Utf8),
    ("template", DataType::Utf8),
    ("template_is_new", DataType::Boolean),
    ("peer", DataType::Utf8),
];

/// Syslog messages.
pub struct Syslog {
    options: Options,
    miner: Option<Miner>,
}

impl Source for Syslog {
    type Config = Config;
    const STATE_VERSION: u32 = 1;

    fn new(config: Config) -> Result<Self> {
        if !(-24 * 60..=24 * 60).contains(&config.utc_offset_minutes) {
            return Err(error::config("utc_offset_minutes", "write minutes from -1440 to 1440"));
        }
        let Templates { enabled, max, similarity } = config.templates;
        if !(1..=1_000_000).contains(&max) {
            return Err(error::config("templates.max", "write a number from 1 to 1000000"));
        }
        if !(0.0..=1.0).contains(&similarity) {
            return Err(error::config("templates.similarity", "write a share from 0 to 1"));
        }
        let bounds = Bounds { max_templates: max, similarity, ..Bounds::default() };
        Ok(Self {
            options: Options { year: config.year, offset_secs: config.utc_offset_minutes * 60 },
            miner: enabled.then(|| Miner::new(bounds)),
        })
    }

    fn schema(&self) -> Schema {
        Schema::of(COLUMNS)
    }

    fn decode(&mut self, frames: &Frames) -> Result<Decoded> {
        let mut out = Decoded::new(&self.schema());
        for frame in frames.iter() {
            let (line, _replaced) = crate::text(frame.bytes);
            let message = match parse(&line, frame.received_ns, &self.options) {
                Ok(message) => message,
                Err(refusal) => {
                    out.reject(&frame, refusal.name());
                    continue;
                }
            };
            let rows = &mut out.rows;
            // A message without a time was written when it came.
            rows.u64(0, message.time_ns.unwrap_or(frame.received_ns));
            let texts = [
                (1, message.host),
                (2, message.app),
                (3, message.procid),
                (4, message.msgid),
                (7, Some(message.text)),
                (8, message.structured_data),
                (11, Some(frame.peer)),
            ];
            for (column, text) in texts {
                if let Some(text) = text {
                    rows.text(column, text);
                }
            }
            for (column, number) in [(5, message.facility), (6, message.severity)] {
                if let Some(number) = number {
                    rows.u64(column, u64::from(number));
                }
            }
            if let Some(miner) = &mut self.miner {
                let assigned = miner.add(message.text);
                rows.text(9, &format!("{:016x}", assigned.id)).u64(10, u64::from(assigned.is_new));
                if assigned.is_new && log::enabled(log::Level::Debug) {
                    log::debug(format!(
                        "template {:016x}: {}",
                        assigned.id,
                        miner.template(assigned.id).unwrap_or_default()
                    ));
                }
            }
            rows.end_row();
        }
        Ok(out)
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        state::to_bytes(&self.miner)
    }

    fn restore(&mut self, version: u32, bytes: &[u8]) -> Result<()> {
        if version != Self::STATE_VERSION {
            return Err(error::other(format!("state of version {version}; this plugin reads {}", Self::STATE_VERSION)));
        }
        let saved: Option<Miner> = state::from_bytes(bytes)?;
        if let (Some(now), Some(saved)) = (&mut self.miner, saved) {
            now.go_on(saved);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaminari_plugin_sdk::testing::{self, json};

    #[test]
    fn messages_become_rows_and_the_rest_is_refused() {
        let lines = [
            "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - 'su root' failed for lonvick on /dev/pts/8",
            "<13>Oct 11 22:14:15 web-1 sshd[42]: Failed password for root from 192.0.2.9 port 22 ssh2",
            "<13>Oct 11 22:14:16 web-1 sshd[43]: Failed password for root from 192.0.2.7 port 99 ssh2",
            "",
            "no syslog at all",
        ];
        let frames = testing::frames(1_065_910_455, lines);
        let (rows, rejected) = testing::decode::<Syslog>(json!({}), &frames).unwrap();
        assert_eq!(rejected.iter().map(|(frame, _)| *frame).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(rows.len(), 3);
        assert_eq!(rows.u64s("time").unwrap()[0], 1_065_910_455_003_000_000);
        assert_eq!(rows.u64s("time").unwrap()[1], 1_065_910_455_000_000_000, "the year of receipt");
        let text =
            |name: &str, row: usize| String::from_utf8(rows.bytes(name).unwrap().get(row).unwrap().to_vec()).unwrap();
        assert_eq!((text("host", 1), text("app", 1), text("procid", 1)), ("web-1".into(), "sshd".into(), "42".into()));
        assert_eq!((text("msgid", 0), text("peer", 0)), ("ID47".into(), "192.0.2.1:514".into()));
        assert_eq!(text("template", 1), text("template", 2), "they differ in parameters");
        assert_eq!(&*rows.u64s("template_is_new").unwrap(), [1, 1, 0]);
        assert_eq!((rows.u64s("facility").unwrap()[0], rows.u64s("severity").unwrap()[0]), (4, 2));
    }

    #[test]
    fn a_restored_instance_knows_its_templates() {
        let new = || Syslog::new(serde_json::from_str("{}").unwrap()).unwrap();
        let frames = testing::frames(1_000_000_000, ["<13>Sep  9 01:46:40 h a: session opened for user x"]);
        let mut first = new();
        first.decode(&frames).unwrap();
        let mut second = new();
        second.restore(1, &first.snapshot().unwrap()).unwrap();
        let again = second.decode(&frames).unwrap().rows.into_batch();
        assert_eq!(&*again.u64s("template_is_new").unwrap(), [0]);
        assert!(second.restore(9, &[]).is_err());
    }

    #[test]
    fn bad_configurations_are_told_by_their_key() {
        for (config, key) in [
            (json!({ "utc_offset_minutes": 5000 }), "utc_offset_minutes"),
            (json!({ "templates": { "max": 0 } }), "templates.max"),
            (json!({ "templates": { "similarity": 2.0 } }), "templates.similarity"),
            (json!({ "yaer": 2003 }), "yaer"),
        ] {
            let error = testing::decode::<Syslog>(config, &Frames::default()).err().expect("refused").to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
