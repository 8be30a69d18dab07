//! Service: how the program speaks to Kafka. Comes in: what the configuration says about brokers and logins; goes out:
//! client settings for librdkafka, records on their way to a topic, and messages that tell a person what a broker's refusal
//! means. Consumers and producers themselves live with the stages that use them.

mod explain;
mod record;
mod settings;

pub use explain::{Trouble, explain};
pub use record::{Header, Record, Refused};
pub use settings::{SettingsError, brokers, client};
