//! The consumer of a source: polls, packs messages by partition, and tells when partitions come and go. The thread that
//! polls never decodes and never waits for windows: who is behind has its partitions paused.

use super::context::{Context, Rebalance};
use super::health::{Clock, STATISTICS_MS};
use super::messages::{Messages, Wanted};
use super::{KafkaConfig, StartAt, TopicPartition};
use crate::kafka::{SettingsError, client};
use crate::model::time::now_ns;
use crate::telemetry::{SOURCE_DATAGRAMS, SOURCE_RECEIVED_BYTES, SOURCE_REFUSED};
use metrics::{Counter, counter};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError as Error;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// A batch of one partition leaves with so many bytes or messages, or at this age.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_MESSAGES: usize = 8192;
const BATCH_AGE: Duration = Duration::from_millis(25);
/// Time without a message after which the ends of partitions are told.
const TICK: Duration = Duration::from_millis(100);
/// How long brokers may take to answer a question.
const ASK: Duration = Duration::from_secs(10);

/// Why a source could not be made.
#[derive(Debug, thiserror::Error)]
#[error("source {id:?}: {source}")]
pub struct KafkaError {
    /// Source id.
    pub id: String,
    /// Why.
    pub source: SettingsError,
}

/// Where a partition begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which.
    pub at: TopicPartition,
    /// The first position to be read.
    pub next: i64,
    /// What was committed with it.
    pub metadata: String,
}

/// What comes out of the group.
#[derive(Debug)]
pub enum Event {
    /// These partitions are ours: [`Feed::begin`] makes them flow.
    Given(Vec<TopicPartition>),
    /// They no longer are: [`Feed::end`] lets them go. `lost`: others may have them already.
    Taken {
        /// Which.
        partitions: Vec<TopicPartition>,
        /// Whether nothing can be committed for them any more.
        lost: bool,
    },
    /// Messages of one partition.
    Messages(TopicPartition, Messages),
    /// These partitions have nothing new at this time of the source's clock.
    Quiet(Vec<TopicPartition>, u64),
    /// The brokers say that a position is not there any more.
    PositionGone,
    /// Nothing to tell.
    Nothing,
}

/// See the module.
pub struct Feed {
    consumer: Arc<BaseConsumer<Context>>,
    config: KafkaConfig,
    wanted: Wanted,
    open: Vec<Open>,
    /// Where the last message's partition stands in `open`: most come from the one that the one before came from.
    last: usize,
    /// Partitions have begun before: what comes without a position now is new.
    has_begun: bool,
    clock: Clock,
    quiet_at: Instant,
    bytes: Counter,
    messages: Counter,
    tombstones: Counter,
}

struct Open {
    at: TopicPartition,
    next: i64,
    batch: Messages,
    since: Instant,
    paused: bool,
}

impl Feed {
    /// Makes the consumer. Nothing is asked of the brokers yet.
    pub fn open(id: &Arc<str>, config: &KafkaConfig) -> Result<Self, KafkaError> {
        let consumer = consumer(id, config).map_err(|source| KafkaError { id: id.to_string(), source })?;
        let label = || id.to_string();
        Ok(Self {
            consumer: Arc::new(consumer),
            wanted: Wanted::new(config),
            config: config.clone(),
            open: Vec::new(),
            last: 0,
            has_begun: false,
            clock: Clock::new(now_ns()),
            quiet_at: Instant::now(),
            bytes: counter!(SOURCE_RECEIVED_BYTES, "component_id" => label()),
            messages: counter!(SOURCE_DATAGRAMS, "component_id" => label()),
            tombstones: counter!(SOURCE_REFUSED, "component_id" => label(), "reason" => "tombstone"),
        })
    }

    /// The consumer itself, for whoever commits.
    pub fn consumer(&self) -> Arc<BaseConsumer<Context>> {
        self.consumer.clone()
    }

    /// True while the brokers answer.
    pub fn connected(&self) -> Arc<AtomicBool> {
        self.consumer.context().health(|h| h.flag())
    }

    /// Joins the group.
    pub fn join(&self) -> Result<(), Error> {
        let topics: Vec<&str> = self.config.topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics)
    }

    /// What happens next; waits a moment for it.
    pub fn poll(&mut self) -> Event {
        if let Some(full) = self.due(false) {
            return full;
        }
        if let Some(event) = self.rebalance() {
            return event;
        }
        let begun = Instant::now();
        let connected = self.consumer.context().health(|h| h.is_connected());
        let now_ns = self.clock.step(connected);
        while begun.elapsed() < BATCH_AGE {
            match self.consumer.poll(BATCH_AGE) {
                Some(Ok(message)) => {
                    let is = |o: &Open| o.at.partition == message.partition() && *o.at.topic == *message.topic();
                    if !self.open.get(self.last).is_some_and(is) {
                        // A partition that was taken a moment ago: whoever has it now reads it.
                        let Some(found) = self.open.iter().position(is) else { continue };
                        self.last = found;
                    }
                    let open = &mut self.open[self.last];
                    if open.batch.offsets.is_empty() {
                        open.since = Instant::now();
                        open.batch.arrived_ns = now_ns;
                    }
                    open.next = message.offset() + 1;
                    let len = message.payload_len();
                    if !open.batch.push(&message, &self.wanted, now_ns) {
                        self.tombstones.increment(1);
                        continue;
                    }
                    self.messages.increment(1);
                    self.bytes.increment(len as u64);
                    if open.batch.bytes() >= BATCH_BYTES || open.batch.offsets.len() >= BATCH_MESSAGES {
                        return Event::Messages(open.at.clone(), std::mem::take(&mut open.batch));
                    }
                }
                Some(Err(error)) => {
                    self.consumer.context().trouble(&error, "");
                    use rdkafka::error::RDKafkaErrorCode::{AutoOffsetReset, OffsetOutOfRange};
                    if matches!(error.rdkafka_error_code(), Some(AutoOffsetReset | OffsetOutOfRange)) {
                        return Event::PositionGone;
                    }
                }
                None => break,
            }
            if let Some(event) = self.rebalance() {
                return event;
            }
        }
        self.due(true).or_else(|| self.rebalance()).or_else(|| self.quiet(now_ns)).unwrap_or(Event::Nothing)
    }

    fn rebalance(&mut self) -> Option<Event> {
        match self.consumer.context().rebalance_due()? {
            Rebalance::Given(partitions) => Some(Event::Given(partitions)),
            Rebalance::Taken { partitions, lost } => {
                // What was read of them and not handed over is read again by whoever has them next.
                self.forget(&partitions);
                Some(Event::Taken { partitions, lost })
            }
        }
    }

    /// A batch that is old enough, or any when nothing came.
    fn due(&mut self, idle: bool) -> Option<Event> {
        let due = |o: &Open| !o.batch.offsets.is_empty() && (idle || o.since.elapsed() >= BATCH_AGE);
        let open = self.open.iter_mut().find(|o| due(o))?;
        Some(Event::Messages(open.at.clone(), std::mem::take(&mut open.batch)))
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        self.open.retain(|o| !partitions.contains(&o.at));
    }

    fn quiet(&mut self, now_ns: u64) -> Option<Event> {
        if self.quiet_at.elapsed() < TICK {
            return None;
        }
        self.quiet_at = Instant::now();
        let quiet = self.consumer.context().health(|health| {
            let quiet = |o: &&Open| !o.paused && health.is_at_end(&o.at, o.next);
            let connected = health.is_connected();
            self.open.iter().filter(|o| connected && quiet(o)).map(|o| o.at.clone()).collect::<Vec<_>>()
        });
        (!quiet.is_empty()).then_some(Event::Quiet(quiet, now_ns))
    }

    /// The committed positions of partitions. Where there is none, where the configuration says to begin; that is committed
    /// at once, so that a crash before the first message does not skip what comes meanwhile. A partition that is added
    /// while we read is read from its oldest message: it was not there when the group began with the latest.
    pub fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<Start>, Error> {
        let asked = self.consumer.committed_offsets(list(partitions.iter().map(|p| (p, None))), ASK)?;
        let (mut out, mut fresh) = (Vec::new(), Vec::new());
        for (element, at) in asked.elements().iter().zip(partitions) {
            element.error()?;
            let Offset::Offset(next) = element.offset() else {
                let (low, high) = self.consumer.fetch_watermarks(&at.topic, at.partition, ASK)?;
                let latest = self.config.start == StartAt::Latest && !self.has_begun;
                fresh.push(Start { at: at.clone(), next: if latest { high } else { low }, metadata: String::new() });
                continue;
            };
            out.push(Start { at: at.clone(), next, metadata: element.metadata().to_owned() });
        }
        if !fresh.is_empty()
            && let Err(error) = self.reset(&fresh)
        {
            // The first commit of their windows says the same.
            self.trouble(&error, "committing where new partitions begin");
        }
        out.append(&mut fresh);
        Ok(out)
    }

    /// Of these positions, those that the brokers no longer have, moved to the oldest message there is.
    pub fn gone(&self, positions: &[(TopicPartition, i64)]) -> Result<Vec<(TopicPartition, i64, i64)>, Error> {
        let mut out = Vec::new();
        for (at, next) in positions {
            let (low, high) = self.consumer.fetch_watermarks(&at.topic, at.partition, ASK)?;
            if *next < low || *next > high {
                out.push((at.clone(), *next, low));
            }
        }
        Ok(out)
    }

    /// Moves the group's positions.
    pub fn reset(&self, to: &[Start]) -> Result<(), Error> {
        commit_now(&self.consumer, &positions(to))
    }

    /// Partitions of the topics that others of the group read, or nobody.
    pub fn elsewhere(&self) -> Result<usize, Error> {
        let mut all = 0;
        for topic in &self.config.topics {
            let found = self.consumer.fetch_metadata(Some(topic), ASK)?;
            all += found.topics().iter().map(|t| t.partitions().len()).sum::<usize>();
        }
        Ok(all.saturating_sub(self.open.len()))
    }

    /// Positions up to which messages were handed out.
    pub fn positions(&self) -> Vec<(TopicPartition, i64)> {
        self.open.iter().map(|o| (o.at.clone(), o.next)).collect()
    }

    /// Lets partitions that were given flow from there on.
    pub fn begin(&mut self, starts: &[Start]) -> Result<(), Error> {
        self.consumer.incremental_assign(&list(starts.iter().map(|s| (&s.at, Some(s.next)))))?;
        self.has_begun |= !starts.is_empty();
        self.opened(starts);
        Ok(())
    }

    /// Lets partitions that flow already go on from there.
    pub fn seek(&mut self, starts: &[Start]) -> Result<(), Error> {
        // Nothing of what was fetched before may come after.
        self.open.retain(|o| starts.iter().all(|s| s.at != o.at));
        let partitions = list(starts.iter().map(|s| (&s.at, None)));
        self.consumer.incremental_unassign(&partitions)?;
        self.begin(starts)
    }

    fn opened(&mut self, starts: &[Start]) {
        for start in starts {
            let at = start.at.clone();
            let open = Open { at, next: start.next, batch: Messages::default(), since: Instant::now(), paused: false };
            self.open.push(open);
        }
    }

    /// Lets partitions go that were taken.
    pub fn end(&mut self, partitions: &[TopicPartition]) {
        self.forget(partitions);
        if let Err(error) = self.consumer.incremental_unassign(&list(partitions.iter().map(|p| (p, None)))) {
            self.consumer.context().trouble(&error, "partitions were not given back");
        }
    }

    /// Stops or goes on fetching.
    pub fn pause(&mut self, partitions: &[TopicPartition], paused: bool) {
        let mut found = Vec::new();
        for open in self.open.iter_mut().filter(|o| partitions.contains(&o.at)) {
            open.paused = paused;
            found.push(&open.at);
        }
        let list = list(found.into_iter().map(|p| (p, None)));
        let done = if paused { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        if let Err(error) = done {
            self.consumer.context().trouble(&error, "partitions were not paused");
        }
    }

    /// Nothing is read any more: whoever drops the consumer last leaves the group.
    pub fn leave(self) {
        self.consumer.context().leave();
        // Partitions that were given or taken a moment ago, and not dealt with: leaving waits for an answer to that too.
        // Where nothing is left of either it is refused, and nothing is to be done.
        if let Err(error) = self.consumer.unassign() {
            tracing::debug!(component_id = self.consumer.context().id(), "leaving the group: {error}");
        }
    }

    /// Says why something failed, and counts it.
    pub fn trouble(&self, error: &Error, doing: &str) {
        self.consumer.context().trouble(error, doing);
    }
}

fn consumer(id: &Arc<str>, config: &KafkaConfig) -> Result<BaseConsumer<Context>, SettingsError> {
    let mut settings = client(&config.brokers, &config.security, &config.client)?;
    settings
        .set("group.id", &config.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("isolation.level", "read_committed")
        .set("statistics.interval.ms", STATISTICS_MS.to_string());
    let mut default = |name: &str, value: &str| {
        if !config.client.contains_key(name) {
            settings.set(name, value);
        }
    };
    // A process that was killed is missed soon; what it read is rebuilt by the others.
    default("session.timeout.ms", "10000");
    default("heartbeat.interval.ms", "2000");
    // Records are wanted when they come, and in large pieces when many wait.
    default("fetch.wait.max.ms", "50");
    default("queued.max.messages.kbytes", "16384");
    // Who is behind empties that queue in less than the second that librdkafka would wait when it is full.
    default("fetch.queue.backoff.ms", "10");
    default("topic.metadata.refresh.interval.ms", "30000");
    default("reconnect.backoff.max.ms", "2000");
    let context = Context::new(id, crate::kafka::brokers(&config.brokers));
    Ok(settings.create_with_context(context)?)
}

/// Partitions as librdkafka lists them.
pub(super) fn list<'a>(partitions: impl Iterator<Item = (&'a TopicPartition, Option<i64>)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (at, next) in partitions {
        let mut element = list.add_partition(&at.topic, at.partition);
        if let Some(next) = next {
            // Only a position that is none is refused.
            let _ = element.set_offset(Offset::Offset(next));
        }
    }
    list
}

/// Commits positions and waits for the answer.
pub fn commit_now(consumer: &BaseConsumer<Context>, positions: &TopicPartitionList) -> Result<(), Error> {
    consumer.commit(positions, CommitMode::Sync)
}

/// Positions with what is committed with each.
pub fn positions(of: &[Start]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for start in of {
        let mut element = list.add_partition(&start.at.topic, start.at.partition);
        let _ = element.set_offset(Offset::Offset(start.next));
        element.set_metadata(&start.metadata);
    }
    list
}
