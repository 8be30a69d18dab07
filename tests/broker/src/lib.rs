//! A real Kafka broker for tests. Comes in: a folder of jars (fetched once by Maven) and an empty folder for data; goes
//! out: a single-node broker on loopback with one listener per protocol, users, a certificate and an authorizer, that can
//! be stopped, killed and started again on the same ports and data. Refused: machines without Java 17 or, where the jars
//! are missing, without Maven; the errors say what to do.

mod broker;
mod kafka;
mod ports;
mod probe;
mod process;
mod settings;

pub use broker::{Addresses, Broker, Loose, Options};
pub use kafka::{Kafka, Resource, VERSION};
pub use settings::{PLAIN_USERS, SCRAM_USER};

/// Environment variables that tell tests where a broker is. The first stands for "there is one".
pub mod env {
    /// Addresses of the listener without encryption and login; may do everything.
    pub const BROKERS: &str = "KAMINARI_TEST_BROKERS";
    /// The listener with login.
    pub const SASL: &str = "KAMINARI_TEST_BROKERS_SASL";
    /// The listener with encryption.
    pub const SSL: &str = "KAMINARI_TEST_BROKERS_SSL";
    /// The listener with both.
    pub const SASL_SSL: &str = "KAMINARI_TEST_BROKERS_SASL_SSL";
    /// Certificate (PEM) to trust.
    pub const CA: &str = "KAMINARI_TEST_KAFKA_CA";
    /// Folder of Kafka's jars, for brokers of a test's own.
    pub const LIB: &str = "KAMINARI_TEST_KAFKA_LIB";
}
