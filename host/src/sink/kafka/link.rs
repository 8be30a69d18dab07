//! A producer and what it reports. In: records; out: which of them the brokers have, which they refuse, and those that are
//! called back. Nothing here decides what becomes of a refusal.

use super::config::KafkaSinkConfig;
use crate::kafka::{self, Record, SettingsError};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Headers, Message};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext, PurgeConfig};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long purged records take to come back, at most.
const RECALL: Duration = Duration::from_secs(2);

/// What travels with a record.
#[derive(Debug)]
pub(super) struct Handed {
    seq: u64,
    /// Events or rows in it.
    pub(super) rows: u32,
    /// The partition that was asked for.
    place: Option<i32>,
    /// Where it ends in the spool file that it came from.
    pub(super) spool: Option<u64>,
}

/// A record that the brokers do not have.
#[derive(Debug)]
pub(super) struct Back {
    /// Order in which it was handed over.
    pub(super) seq: u64,
    pub(super) rows: u32,
    pub(super) spool: Option<u64>,
    pub(super) record: Record,
    pub(super) error: KafkaError,
}

/// Reports since the last look.
#[derive(Default)]
pub(super) struct Reports {
    /// The brokers have these.
    pub(super) acked: Vec<Handed>,
    /// And not these.
    pub(super) back: Vec<Back>,
    /// What ails the client as a whole.
    pub(super) trouble: Option<KafkaError>,
}

/// Collects reports on the thread that polls.
#[derive(Default)]
struct Inbox(Mutex<Reports>);

impl ClientContext for Inbox {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters comes as an error.
        tracing::debug!(target: "librdkafka", "{facility} {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
        let all =
            [Code::AllBrokersDown, Code::Authentication, Code::SSL, Code::Fatal, Code::ClusterAuthorizationFailed];
        // One broker of many may be down: the others take over.
        if let (true, Ok(mut inbox)) = (error.rdkafka_error_code().is_some_and(|c| all.contains(&c)), self.0.lock()) {
            inbox.trouble = Some(error);
        }
    }
}

impl ProducerContext for Inbox {
    type DeliveryOpaque = Box<Handed>;

    fn delivery(&self, result: &DeliveryResult<'_>, handed: Box<Handed>) {
        let Ok(mut inbox) = self.0.lock() else { return };
        match result {
            Ok(_) => inbox.acked.push(*handed),
            Err((error, message)) => {
                let Handed { seq, rows, place, spool } = *handed;
                let record = rebuilt(message, place);
                inbox.back.push(Back { seq, rows, spool, record, error: error.clone() });
            }
        }
    }
}

/// The record that a report is about.
fn rebuilt(message: &BorrowedMessage<'_>, partition: Option<i32>) -> Record {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into();
    let headers = message.headers().map(|all| all.iter().map(|h| (h.key.into(), text(h.value.unwrap_or_default()))));
    Record {
        topic: message.topic().into(),
        partition,
        key: message.key().map(<[u8]>::to_vec),
        payload: message.payload().unwrap_or_default().to_vec(),
        headers: headers.into_iter().flatten().collect(),
    }
}

/// The producer.
pub(super) struct Link {
    config: ClientConfig,
    producer: BaseProducer<Inbox>,
    /// Number of the next record.
    seq: u64,
    /// Handed over and not reported.
    outstanding: usize,
    /// When the brokers last acknowledged something, or were given something while they had nothing to do.
    heard: Instant,
}

impl Link {
    /// Makes the client; it connects by itself, when it can.
    pub(super) fn new(config: &KafkaSinkConfig) -> Result<Self, SettingsError> {
        let mut client = kafka::client(&config.brokers, &config.security, &config.client)?;
        for (name, value) in [
            ("compression.type", "lz4"),
            // Never: how long to keep a record is decided here.
            ("message.timeout.ms", "0"),
            // As Kafka's Java client, and as flow records are placed.
            ("partitioner", "murmur2_random"),
            ("reconnect.backoff.max.ms", "2000"),
            ("socket.keepalive.enable", "true"),
        ] {
            if !config.client.contains_key(name) {
                client.set(name, value);
            }
        }
        client.set("enable.idempotence", "true");
        client.set("acks", "all");
        client.set("linger.ms", config.linger_ms().to_string());
        client.set("queue.buffering.max.kbytes", (config.buffer_bytes >> 10).to_string());
        // Bytes are the limit.
        client.set("queue.buffering.max.messages", "0");
        let producer = BaseProducer::from_config_and_context(&client, Inbox::default())?;
        Ok(Self { config: client, producer, seq: 0, outstanding: 0, heard: Instant::now() })
    }

    /// Records handed over and not reported.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// How long the brokers have kept silent about what they were given.
    pub(super) fn silence(&self) -> Duration {
        if self.outstanding == 0 { Duration::ZERO } else { self.heard.elapsed() }
    }

    /// Hands a record over; it comes back when there is no room for it or something is wrong with it.
    pub(super) fn send(&mut self, record: Record, rows: u32, spool: Option<u64>) -> Result<(), Box<kafka::Refused>> {
        let handed = Handed { seq: self.seq, rows, place: record.partition, spool };
        record.send(&self.producer, Box::new(handed)).map_err(|refused| Box::new(refused.0))?;
        self.seq += 1;
        if self.outstanding == 0 {
            self.heard = Instant::now();
        }
        self.outstanding += 1;
        Ok(())
    }

    /// Reports that are there; waits so long for all that are missing.
    pub(super) fn collect(&mut self, wait: Duration) -> Reports {
        let mut reports = Reports::default();
        if !wait.is_zero() {
            // Records leave at once; which are still under way is told by the reports.
            let _ = self.producer.flush(wait);
        }
        loop {
            self.producer.poll(Duration::ZERO);
            let more = self.take();
            let none = more.acked.is_empty() && more.back.is_empty() && more.trouble.is_none();
            reports.acked.extend(more.acked);
            reports.back.extend(more.back);
            reports.trouble = more.trouble.or(reports.trouble);
            if none {
                return reports;
            }
        }
    }

    fn take(&mut self) -> Reports {
        let inbox = &self.producer.context().0;
        let reports = inbox.lock().map(|mut inbox| std::mem::take(&mut *inbox)).unwrap_or_default();
        self.outstanding = self.outstanding.saturating_sub(reports.acked.len() + reports.back.len());
        if !reports.acked.is_empty() {
            self.heard = Instant::now();
        }
        reports
    }

    /// An error after which this producer sends nothing any more.
    pub(super) fn fatal(&self) -> Option<KafkaError> {
        self.producer.client().fatal_error().map(|(code, _)| KafkaError::Global(code))
    }

    /// Calls back everything that is not acknowledged. The brokers may have some of it. The producer is of no use then:
    /// see [`renew`](Self::renew).
    pub(super) fn recall(&mut self) -> Reports {
        self.producer.purge(PurgeConfig::default().queue().inflight());
        let until = Instant::now() + RECALL;
        let mut reports = Reports::default();
        loop {
            self.producer.poll(Duration::ZERO);
            let more = self.take();
            reports.acked.extend(more.acked);
            reports.back.extend(more.back);
            reports.trouble = more.trouble.or(reports.trouble);
            if self.outstanding == 0 || Instant::now() > until {
                return reports;
            }
            self.producer.poll(Duration::from_millis(5));
        }
    }

    /// A fresh producer; `false`: there is none, ask again.
    pub(super) fn renew(&mut self) -> bool {
        match BaseProducer::from_config_and_context(&self.config, Inbox::default()) {
            Ok(producer) => {
                self.producer = producer;
                self.outstanding = 0;
                true
            }
            Err(error) => {
                tracing::warn!("cannot start a Kafka producer anew: {error}");
                false
            }
        }
    }

    /// How many partitions the topic has.
    pub(super) fn partitions(&self, topic: &str, wait: Duration) -> Result<u32, KafkaError> {
        let metadata = self.producer.client().fetch_metadata(Some(topic), wait)?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        match found.map(|t| (t.error(), t.partitions().len() as u32)) {
            Some((Some(error), _)) => Err(KafkaError::MetadataFetch(error.into())),
            None | Some((None, 0)) => Err(KafkaError::MetadataFetch(Code::UnknownTopicOrPartition)),
            Some((None, n)) => Ok(n),
        }
    }
}
