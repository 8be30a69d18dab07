//! The body of a Kafka sink. Refused: formats and keys that do not go with the content.

use crate::config::kafka::{KafkaProperties, KafkaSecurity};
use crate::model::Content;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How a record's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object.
    Json,
    /// An Arrow IPC stream with up to 4096 rows; flows only.
    Arrow,
    /// GoFlow2's protobuf message with its length before it; flows only.
    Goflow2,
}

/// What decides about a record's partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// The entity that an incident, a score or a row of features is about.
    Entity,
    /// The destination's network: /24 of IPv4, /64 of IPv6. Flows.
    DstPrefix,
    /// The destination. Flows.
    DstAddr,
    /// The source. Flows.
    SrcAddr,
    /// The exporter. Flows.
    Exporter,
    /// Nothing: records go where there is room.
    None,
}

/// The body of a `kafka` sink.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSinkConfig {
    /// `host:port` of some of the brokers; they tell the others.
    pub brokers: Vec<String>,
    /// Where records go.
    pub topic: String,
    /// What goes there.
    #[serde(default)]
    pub content: Content,
    /// How. Default: `json`; for flows `arrow`.
    pub format: Option<Format>,
    /// By what it is partitioned. Default: `entity`; for flows `dst_prefix`.
    pub key: Option<Key>,
    /// Encryption and login.
    #[serde(default)]
    pub security: KafkaSecurity,
    /// More of librdkafka's properties.
    #[serde(default)]
    pub client: KafkaProperties,
    /// A file that takes records while the brokers do not. Default: none.
    pub spool: Option<PathBuf>,
    /// Most bytes in it.
    #[serde(default = "default_spool_bytes")]
    pub spool_bytes: u64,
    /// Most bytes in memory that the brokers have not acknowledged.
    #[serde(default = "default_buffer_bytes")]
    pub buffer_bytes: u64,
    /// How long a record may wait for others to travel with. Default: 5; for flows 20.
    pub linger_ms: Option<u64>,
}

fn default_spool_bytes() -> u64 {
    1 << 30
}

fn default_buffer_bytes() -> u64 {
    64 << 20
}

impl KafkaSinkConfig {
    /// The format, or its default.
    pub fn format(&self) -> Format {
        let default = if self.content == Content::Flows { Format::Arrow } else { Format::Json };
        self.format.unwrap_or(default)
    }

    /// The key, or its default.
    pub fn key(&self) -> Key {
        let default = if self.content == Content::Flows { Key::DstPrefix } else { Key::Entity };
        self.key.unwrap_or(default)
    }

    /// How long a record waits, or its default.
    pub fn linger_ms(&self) -> u64 {
        self.linger_ms.unwrap_or(if self.content == Content::Flows { 20 } else { 5 })
    }

    /// What does not go together.
    pub fn check(&self) -> Result<(), String> {
        let (flows, content) = (self.content == Content::Flows, self.content.name());
        if self.brokers.is_empty() {
            return Err("`brokers` is empty: name at least one as \"host:9092\"".into());
        }
        let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !(1..250).contains(&self.topic.len()) || !self.topic.bytes().all(named) {
            return Err("`topic` is no name of a topic: letters, digits, `.`, `_` and `-`".into());
        }
        if !flows && self.format() != Format::Json {
            return Err(format!("`format`: {content} are written as \"json\" only"));
        }
        match (flows, self.key()) {
            (true, Key::Entity) => {
                let keys = "\"dst_prefix\", \"dst_addr\", \"src_addr\", \"exporter\" or \"none\"";
                Err(format!("`key`: flows have no entity; use {keys}"))
            }
            (false, Key::DstPrefix | Key::DstAddr | Key::SrcAddr | Key::Exporter) => {
                Err(format!("`key`: {content} are keyed by \"entity\" or \"none\""))
            }
            // An Arrow message must fit in; the upper ones are librdkafka's own limits.
            _ if !(1 << 20..=2_147_483_647 << 10).contains(&self.buffer_bytes) => {
                Err("`buffer_bytes` is less than 1 MiB or more than 2 TiB".into())
            }
            _ if self.linger_ms() > 900_000 => Err("`linger_ms` is more than 15 minutes".into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(more: &str) -> Result<(), String> {
        let text = format!("brokers = [\"localhost:9092\"]\ntopic = \"t\"\n{more}");
        toml::from_str::<KafkaSinkConfig>(&text).map_err(|e| e.message().to_owned())?.check()
    }

    #[test]
    fn defaults_follow_the_content() {
        let config: KafkaSinkConfig =
            toml::from_str("brokers = [\"a:1\"]\ntopic = \"t\"\ncontent = \"flows\"").unwrap();
        assert_eq!((config.format(), config.key(), config.linger_ms()), (Format::Arrow, Key::DstPrefix, 20));
        let config: KafkaSinkConfig = toml::from_str("brokers = [\"a:1\"]\ntopic = \"t\"").unwrap();
        assert_eq!((config.format(), config.key(), config.linger_ms()), (Format::Json, Key::Entity, 5));
        assert_eq!((config.spool_bytes, config.buffer_bytes, config.spool), (1 << 30, 64 << 20, None));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        assert_eq!(check(""), Ok(()));
        assert_eq!(check("content = \"flows\"\nformat = \"goflow2\"\nkey = \"exporter\""), Ok(()));
        for (more, word) in [
            ("format = \"arrow\"", "format"),
            ("content = \"scores\"\nformat = \"goflow2\"", "format"),
            ("content = \"flows\"\nkey = \"entity\"", "entity"),
            ("key = \"dst_addr\"", "key"),
            ("buffer_bytes = 3", "buffer_bytes"),
            ("partitions = 3", "partitions"),
        ] {
            let error = check(more).unwrap_err();
            assert!(error.contains(word), "{more}: {error}");
        }
    }
}
