//! One task's transaction: outputs, dead letters and positions become visible together or not at all. The transactional id
//! is the partition's, so that whoever takes a partition over shuts out whoever had it before (zombie fencing), and ends
//! what that one had begun.

use crate::config::kafka::{KafkaProperties, KafkaSecurity};
use crate::kafka::{Record, SettingsError, client};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, DeliveryResult, NoCustomPartitioner, Producer, ProducerContext};
use rdkafka::{ClientContext, TopicPartitionList};
use std::time::{Duration, Instant};

/// How long brokers may take for one step.
const STEP: Duration = Duration::from_secs(30);
/// A step that may be tried again is, for so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between tries.
const PAUSE: Duration = Duration::from_millis(200);

/// How to make one.
#[derive(Clone, Debug)]
pub(in crate::pipeline) struct TransactionSettings {
    pub(super) brokers: Vec<String>,
    pub(super) security: KafkaSecurity,
    pub(super) client: KafkaProperties,
    pub(super) timeout_ms: u64,
}

pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        // What matters comes back as an error of the step at hand.
        tracing::debug!(?level, "librdkafka {fac}: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("librdkafka: {error}: {reason}");
    }
}

impl ProducerContext<NoCustomPartitioner> for Quiet {
    type DeliveryOpaque = ();

    /// A record that does not arrive makes the commit fail.
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// See the module.
pub(super) struct Transaction {
    producer: BaseProducer<Quiet>,
    open: bool,
    broken: Option<KafkaError>,
}

impl Transaction {
    /// Takes over `id`: whoever has it can commit nothing more.
    pub(super) fn take_over(settings: &TransactionSettings, id: &str) -> Result<Self, TransactionError> {
        let mut config = client(&settings.brokers, &settings.security, &settings.client)?;
        config.set("transactional.id", id).set("transaction.timeout.ms", settings.timeout_ms.to_string());
        let mut default = |name: &str, value: &str| {
            if !settings.client.contains_key(name) {
                config.set(name, value);
            }
        };
        // As the sinks' own producers choose, so that a key has one partition whoever writes it.
        default("partitioner", "murmur2_random");
        default("compression.codec", "lz4");
        default("linger.ms", "5");
        default("reconnect.backoff.max.ms", "2000");
        let producer: BaseProducer<Quiet> = config.create_with_context(Quiet)?;
        let begun = Instant::now();
        retried(begun, || producer.init_transactions(STEP))?;
        Ok(Self { producer, open: false, broken: None })
    }

    /// How many partitions a topic has.
    pub(super) fn partitions(&self, topic: &str) -> Result<u32, KafkaError> {
        let metadata = self.producer.client().fetch_metadata(Some(topic), STEP)?;
        let topic = metadata.topics().first();
        match topic.map(|t| (t.error(), t.partitions().len())) {
            Some((None, n)) if n > 0 => Ok(n as u32),
            Some((Some(error), _)) => Err(KafkaError::MetadataFetch(error.into())),
            _ => Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition)),
        }
    }

    /// Adds a record. What goes wrong is told by [`Self::commit`].
    pub(super) fn send(&mut self, record: Record) {
        if self.broken.is_some() {
            return;
        }
        if let Err(error) = self.begin() {
            self.broken = Some(error);
            return;
        }
        let (mut record, begun) = (record, Instant::now());
        while let Err(refused) = record.send(&self.producer, ()) {
            let (refused, ()) = *refused;
            let full = refused.error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
            if !full || begun.elapsed() > PATIENCE {
                self.broken = Some(refused.error);
                return;
            }
            record = refused.record;
            self.producer.poll(PAUSE);
        }
    }

    fn begin(&mut self) -> Result<(), KafkaError> {
        if !self.open {
            self.producer.begin_transaction()?;
            self.open = true;
        }
        Ok(())
    }

    /// True when something waits for the commit.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Commits what was added, with these positions of the group. After an error the transaction is of no more use: what
    /// was added may have been committed or not; the committed positions say which.
    pub(super) fn commit(
        &mut self,
        positions: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), KafkaError> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        self.begin()?;
        let begun = Instant::now();
        retried(begun, || self.producer.send_offsets_to_transaction(positions, group, STEP))?;
        retried(begun, || self.producer.commit_transaction(STEP))?;
        self.open = false;
        Ok(())
    }

    /// Leaves it: nothing that was added becomes visible.
    pub(super) fn abort(&mut self) {
        if std::mem::take(&mut self.open) {
            // Where this fails, the next owner's take-over ends it.
            let _ = self.producer.abort_transaction(Duration::from_secs(5));
        }
    }
}

/// Tries a step again while that may help.
fn retried(begun: Instant, mut step: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    loop {
        match step() {
            Err(KafkaError::Transaction(error))
                if error.is_retriable()
                    && !error.is_fatal()
                    && !error.txn_requires_abort()
                    && begun.elapsed() < PATIENCE =>
            {
                std::thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

/// Why there is no transaction.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransactionError {
    /// The configuration.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The brokers.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
}
