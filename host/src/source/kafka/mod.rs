//! Topics of a Kafka cluster as a source. Comes in: messages of the partitions that the group gives this process; goes out:
//! batches of them, partition by partition, with their positions. Parses no payload, commits nothing: whoever takes the
//! messages says when they are done with (`pipeline/log`). Refused: messages without a value (counted as `tombstone`).
//!
//! Metrics: `kaminari_source_{received_bytes,datagrams,refused,errors}_total`, `kaminari_source_lag_messages`,
//! `kaminari_source_connected`.

mod context;
mod feed;
mod health;
mod messages;

pub use context::Context;
pub use feed::{Event, Feed, KafkaError, Start, commit_now, positions};
pub use messages::Messages;

use crate::config::decode_options::DecodeOptions;
use crate::config::kafka::{KafkaProperties, KafkaSecurity, SECURITY_FILES};
use crate::config::registry::ComponentDef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// `type = "kafka"`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port` of some brokers; they name the others.
    pub brokers: Vec<String>,
    /// Topics to read.
    pub topics: Vec<String>,
    /// Consumer group: processes with the same name share the partitions, and go on where one of them was.
    pub group: String,
    /// Each entity's records are in one partition only: then every partition has windows of its own, and processes may
    /// share them. Without it all partitions share windows, in one process.
    #[serde(default)]
    pub keyed: bool,
    /// Incidents, scores and positions leave in one Kafka transaction: nothing is told twice. All sinks of the pipelines
    /// must be Kafka topics of the same brokers for that.
    #[serde(default)]
    pub exactly_once: bool,
    /// Where to begin when the group has no position yet.
    #[serde(default)]
    pub start: StartAt,
    /// Threads that decode and judge; a partition stays on one.
    #[serde(default)]
    pub threads: Option<usize>,
    /// Bytes of messages that may wait per thread before partitions are paused.
    #[serde(default = "default_queue_bytes")]
    pub queue_bytes: usize,
    /// How often positions are committed, milliseconds.
    #[serde(default = "default_commit_interval_ms")]
    pub commit_interval_ms: u64,
    /// How long a dead process's transaction may hold up readers, milliseconds.
    #[serde(default = "default_transaction_timeout_ms")]
    pub transaction_timeout_ms: u64,
    /// Messages that cannot be decoded go here, as they are, with the reason in a header.
    #[serde(default)]
    pub dead_letter_topic: Option<String>,
    /// Header with the exporter's address, for `format = "netflow"`; without it the key is taken for it.
    #[serde(default)]
    pub exporter_header: Option<String>,
    /// Encryption and login.
    #[serde(default)]
    pub security: KafkaSecurity,
    /// Properties for librdkafka as they are.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, String>")]
    pub client: KafkaProperties,
    /// What the messages are.
    #[serde(default)]
    pub decode: DecodeOptions,
}

/// Where to begin without a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// With what comes from now on.
    #[default]
    Latest,
    /// With the oldest message there is.
    Earliest,
}

fn default_queue_bytes() -> usize {
    64 << 20
}
fn default_commit_interval_ms() -> u64 {
    1000
}
fn default_transaction_timeout_ms() -> u64 {
    30_000
}

/// The component.
pub const DEF: ComponentDef = ComponentDef::new::<KafkaConfig>(
    "kafka",
    "topics of a Kafka cluster, as a member of a consumer group",
    "brokers = [\"kafka:9092\"]\ntopics = [\"flows\"]\ngroup = \"kaminari\"\ndecode = { format = \"netflow\" }\n",
)
.with_paths(&SECURITY_FILES)
.with_contents(&SECURITY_FILES);

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Topic.
    pub topic: Arc<str>,
    /// Number.
    pub partition: i32,
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}
