//! Output to a Kafka topic. Comes in: incidents, scores, features or flow records; goes out: records (`encode.rs`) in order
//! per key, acknowledged by all replicas in sync. Refused: records that the brokers will never take (too large), which are
//! lost, counted and told. While the brokers take nothing, records wait in memory, or in a spool file (`spool.rs`) that
//! outlives the process. At least once: what was under way when a broker fell silent or the program died may be there
//! twice.

mod config;
mod deliver;
mod encode;
mod link;
mod partition;
mod spool;
mod voice;

pub use config::{Format, KafkaSinkConfig, Key};
pub use deliver::KafkaSink;
pub use encode::Encoder;

use crate::config::kafka::SECURITY_FILES;
use crate::config::registry::ComponentDef;
use serde::Deserialize;

/// `type = "kafka"`.
pub const DEF: ComponentDef = ComponentDef {
    check,
    ..ComponentDef::new::<KafkaSinkConfig>(
        "kafka",
        "incidents, scores, features or flow records in a Kafka topic",
        "brokers = [\"localhost:9092\"]\ntopic = \"kaminari.incidents\"\ncontent = \"incidents\"",
    )
    .with_paths(&[
        "spool",
        "security.ca_file",
        "security.certificate_file",
        "security.key_file",
        "security.password.file",
        "security.key_password.file",
    ])
    .with_contents(&SECURITY_FILES)
};

fn check(body: toml::de::ValueDeserializer<'_>) -> Result<(), toml::de::Error> {
    KafkaSinkConfig::deserialize(body)?.check().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests;
