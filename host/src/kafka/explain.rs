//! What a broker's refusal means and what to do about it: a label for metrics, and words for a person.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// A refusal, explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Metric label, from a fixed set.
    pub reason: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: &'static str,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.message, self.help)
    }
}

/// Explains an error of a client of `brokers`.
pub fn explain(error: &KafkaError, brokers: &str) -> Trouble {
    let (reason, help) = match error.rdkafka_error_code() {
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve | Code::OperationTimedOut) => {
            ("unreachable", "check `brokers` and that one of them listens there; it is tried again until one answers")
        }
        Some(Code::RequestTimedOut | Code::MessageTimedOut) => {
            ("timeout", "the brokers did not answer in time; it is tried again")
        }
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
            ("unknown_topic", "create the topic, or correct its name; it is tried again")
        }
        Some(Code::TopicAuthorizationFailed) => {
            ("not_authorized", "grant READ and DESCRIBE (a source) or WRITE and DESCRIBE (a sink) on the topic")
        }
        Some(Code::GroupAuthorizationFailed) => ("not_authorized", "grant READ on the consumer group"),
        Some(Code::TransactionalIdAuthorizationFailed) => {
            ("not_authorized", "grant WRITE and DESCRIBE on the transactional ids that begin with the group's name")
        }
        Some(Code::ClusterAuthorizationFailed) => ("not_authorized", "grant IDEMPOTENT_WRITE on the cluster"),
        Some(Code::SaslAuthenticationFailed | Code::Authentication) => {
            ("login_failed", "check `security.mechanism`, `username` and `password`")
        }
        Some(Code::SSL) => ("tls", "check `security.ca_file` and that the brokers speak TLS on this port"),
        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
            ("offset_gone", "the topic's retention is shorter than the time that was missed, or it was made anew")
        }
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => {
            ("too_large", "raise the topic's max.message.bytes and `client.\"message.max.bytes\"`")
        }
        Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => {
            ("fenced", "another process has taken this partition over; nothing is lost")
        }
        Some(Code::QueueFull) => ("queue_full", "the brokers take less than is sent"),
        _ => ("other", "see the message"),
    };
    Trouble { reason, message: format!("Kafka at {brokers}: {error}"), help }
}
