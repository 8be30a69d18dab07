//! Configuration to client settings. Refused: properties that the engine sets itself, secrets that are not where they
//! should be, logins that cannot be.

use crate::config::kafka::{KafkaProperties, KafkaSecurity, SecretError};
use rdkafka::ClientConfig;

/// Settings that make no client.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// `client` names a property that decides about delivery, or that has a key of its own.
    #[error("`client.\"{0}\"` is set by kaminari itself: {1}")]
    Reserved(String, &'static str),
    /// A secret is not there.
    #[error("`security.{key}`: {source}")]
    Secret {
        /// `password` or `key_password`.
        key: &'static str,
        /// Why.
        source: SecretError,
    },
    /// Protocol, mechanism and login do not go together.
    #[error("`security`: {0}")]
    Login(&'static str),
    /// librdkafka does not take them.
    #[error("{0}")]
    Client(String),
}

impl SettingsError {
    /// The key of the component that is at fault.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Reserved(..) | Self::Client(_) => "client",
            Self::Secret { .. } | Self::Login(_) => "security",
        }
    }
}

impl From<rdkafka::error::KafkaError> for SettingsError {
    fn from(error: rdkafka::error::KafkaError) -> Self {
        use rdkafka::error::KafkaError::ClientConfig;
        Self::Client(match error {
            ClientConfig(_, text, name, value) if !name.is_empty() => format!("`client.\"{name}\"` = {value}: {text}"),
            other => other.to_string(),
        })
    }
}

/// What the engine decides itself, and the reason or the key to use instead.
const RESERVED: &[(&str, &str)] = &[
    ("bootstrap.servers", "use `brokers`"),
    ("metadata.broker.list", "use `brokers`"),
    ("group.id", "use `group`"),
    ("security.protocol", "use `security.protocol`"),
    ("sasl.mechanism", "use `security.mechanism`"),
    ("sasl.mechanisms", "use `security.mechanism`"),
    ("sasl.username", "use `security.username`"),
    ("sasl.password", "use `security.password`"),
    ("ssl.ca.location", "use `security.ca_file`"),
    ("ssl.certificate.location", "use `security.certificate_file`"),
    ("ssl.key.location", "use `security.key_file`"),
    ("ssl.key.password", "use `security.key_password`"),
    ("enable.auto.commit", "positions are committed when their windows are done"),
    ("enable.auto.offset.store", "positions are committed when their windows are done"),
    ("auto.offset.reset", "use `start`"),
    ("enable.partition.eof", "the engine counts on it"),
    ("statistics.interval.ms", "the engine counts on it"),
    ("partition.assignment.strategy", "windows move between processes one partition at a time"),
    ("isolation.level", "records of aborted transactions are never read"),
    ("enable.idempotence", "a record that is sent again must not be there twice"),
    ("acks", "a record counts when all replicas in sync have it"),
    ("transactional.id", "use `exactly_once` of the source"),
];

/// Settings of any client: brokers, login, TLS, and what `client` adds.
pub fn client(
    brokers: &[String],
    security: &KafkaSecurity,
    properties: &KafkaProperties,
) -> Result<ClientConfig, SettingsError> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers.join(","));
    config.set("client.id", "kaminari");
    config.set("security.protocol", security.protocol.name());
    let login = (security.mechanism, &security.username, &security.password);
    match (security.protocol.logs_in(), login) {
        (true, (Some(mechanism), Some(username), Some(password))) => {
            let password = password.reveal().map_err(|source| SettingsError::Secret { key: "password", source })?;
            config.set("sasl.mechanism", mechanism.name());
            config.set("sasl.username", username);
            config.set("sasl.password", password);
        }
        (true, _) => {
            let text = "a `sasl_` protocol needs `mechanism`, `username` and `password`";
            return Err(SettingsError::Login(text));
        }
        (false, (None, None, None)) => {}
        (false, _) => {
            let text = "`mechanism`, `username` and `password` need `protocol = \"sasl_ssl\"` (or \"sasl_plaintext\")";
            return Err(SettingsError::Login(text));
        }
    }
    for (name, file) in [
        ("ssl.ca.location", &security.ca_file),
        ("ssl.certificate.location", &security.certificate_file),
        ("ssl.key.location", &security.key_file),
    ] {
        if let Some(file) = file {
            config.set(name, file.to_string_lossy());
        }
    }
    if let Some(password) = &security.key_password {
        let secret = password.reveal().map_err(|source| SettingsError::Secret { key: "key_password", source })?;
        config.set("ssl.key.password", secret);
    }
    if !security.verify_hostname {
        config.set("ssl.endpoint.identification.algorithm", "none");
    }
    for (name, value) in properties {
        if let Some((_, instead)) = RESERVED.iter().find(|(reserved, _)| reserved == name) {
            return Err(SettingsError::Reserved(name.clone(), instead));
        }
        config.set(name, value.to_string());
    }
    Ok(config)
}

/// `host:9092` of every broker, for messages.
pub fn brokers(brokers: &[String]) -> String {
    brokers.join(", ")
}
