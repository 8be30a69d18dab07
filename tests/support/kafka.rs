//! What black-box tests need of Kafka: where the brokers are, topics, writing and reading back by a client that is none of
//! the engine's. Brokers are those of `cargo xtask test`, or of the environment; without them tests are skipped. What fails
//! panics, but for the `try_` functions.

use kaminari_broker::{Kafka, env};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub use kaminari_broker::{Broker, Options, PLAIN_USERS, Resource, SCRAM_USER};

/// Longest wait for brokers to do something.
const PATIENCE: Duration = Duration::from_secs(60);

/// The brokers of the listener that lets everybody do everything, or `None` with a line that says what is skipped.
pub fn brokers(what: &str) -> Option<String> {
    var(env::BROKERS).or_else(|| skip(what, env::BROKERS))
}

/// All listeners of the broker, or `None` with a line that says what is skipped.
pub fn listeners(what: &str) -> Option<Listeners> {
    let need = |name| var(name).or_else(|| skip(what, name));
    Some(Listeners {
        plaintext: need(env::BROKERS)?,
        sasl: need(env::SASL)?,
        ssl: need(env::SSL)?,
        sasl_ssl: need(env::SASL_SSL)?,
        ca: need(env::CA)?.into(),
        lib: need(env::LIB)?.into(),
    })
}

/// A broker of the test's own, to be stopped and killed; or `None` with a line that says what is skipped.
pub fn own_broker(what: &str, options: &Options) -> Option<Own> {
    let lib = var(env::LIB).or_else(|| skip(what, env::LIB))?;
    let parent = crate::root().join("target/tmp");
    std::fs::create_dir_all(&parent).expect("target/ can be written");
    let dir = tempfile::Builder::new().prefix("broker-").tempdir_in(parent).expect("target/ can be written");
    let broker = Kafka::at(Path::new(&lib)).and_then(|kafka| Broker::start(&kafka, dir.path(), options));
    Some(Own { broker: broker.unwrap_or_else(|e| panic!("{e:#}")), _dir: dir })
}

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn skip<T>(what: &str, missing: &str) -> Option<T> {
    println!("SKIPPED: {what}: no Kafka broker ({missing} is not set; `cargo xtask test` brings one)");
    None
}

/// A broker of a test's own and its folder; dereferences to the broker.
pub struct Own {
    broker: Broker,
    _dir: tempfile::TempDir,
}

impl std::ops::Deref for Own {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

impl std::ops::DerefMut for Own {
    fn deref_mut(&mut self) -> &mut Broker {
        &mut self.broker
    }
}

/// Where a broker listens.
#[derive(Clone, Debug)]
pub struct Listeners {
    /// No encryption, no login: may do everything.
    pub plaintext: String,
    /// Login.
    pub sasl: String,
    /// Encryption: may do everything.
    pub ssl: String,
    /// Both.
    pub sasl_ssl: String,
    /// Certificate to trust.
    pub ca: PathBuf,
    lib: PathBuf,
}

/// How to log in.
#[derive(Clone, Copy, Debug)]
pub enum Login<'a> {
    /// Not at all.
    None,
    /// With PLAIN, as one of [`PLAIN_USERS`].
    Plain(&'a str),
    /// With this mechanism, as [`SCRAM_USER`].
    Scram(&'a str),
}

impl Listeners {
    /// Those of a broker of the test's own.
    pub fn of(broker: &Broker) -> Self {
        let all = broker.addresses();
        let (plaintext, ca) = (all.bootstrap, all.ca_file);
        Self { plaintext, sasl: all.sasl, ssl: all.ssl, sasl_ssl: all.sasl_ssl, ca, lib: all.lib }
    }

    /// A client's settings, for a listener with or without encryption.
    pub fn client(&self, encrypted: bool, login: Login) -> ClientConfig {
        let (protocol, brokers) = match (encrypted, login) {
            (false, Login::None) => ("plaintext", &self.plaintext),
            (false, _) => ("sasl_plaintext", &self.sasl),
            (true, Login::None) => ("ssl", &self.ssl),
            (true, _) => ("sasl_ssl", &self.sasl_ssl),
        };
        let mut config = brokers.settings();
        config.set("security.protocol", protocol);
        if encrypted {
            config.set("ssl.ca.location", self.ca.to_string_lossy());
        }
        let (mechanism, user, password) = match login {
            Login::None => return config,
            Login::Scram(mechanism) => (mechanism, SCRAM_USER.0, SCRAM_USER.1),
            Login::Plain(user) => {
                let known = PLAIN_USERS.into_iter().find(|(name, _)| *name == user);
                let (user, password) = known.unwrap_or_else(|| panic!("there is no user {user}"));
                ("PLAIN", user, password)
            }
        };
        config.set("sasl.mechanism", mechanism).set("sasl.username", user).set("sasl.password", password);
        config
    }

    /// Lets a user do `operations` (`Read`, `Write`, `Describe`, ...) on all of `resources`. Starts a Java: a second.
    pub fn acl(&self, user: &str, resources: &[Resource], operations: &[&str]) {
        let kafka = Kafka::at(&self.lib);
        let done = kafka.and_then(|kafka| kafka.allow(&self.plaintext, user, resources, operations));
        done.unwrap_or_else(|e| panic!("{e:#}"));
    }
}

/// Whom a client speaks to: a list of brokers that let everybody do everything, or a client's settings.
pub trait To {
    /// Settings of any client.
    fn settings(&self) -> ClientConfig;
}

impl To for str {
    fn settings(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        // Brokers of tests come and go: ask again soon.
        config.set("bootstrap.servers", self).set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
        config
    }
}

impl To for String {
    fn settings(&self) -> ClientConfig {
        self.as_str().settings()
    }
}

impl To for ClientConfig {
    fn settings(&self) -> ClientConfig {
        self.clone()
    }
}

/// A name that no other topic, group or transactional id has.
pub fn unique(name: &str) -> String {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later than 1970");
    format!("{name}-{}-{}-{}", std::process::id(), CALLS.fetch_add(1, Relaxed), now.as_millis())
}

/// Makes a topic, and waits until each partition has a leader.
pub fn create_topic(to: &(impl To + ?Sized), name: &str, partitions: i32) {
    create_topic_with(to, name, partitions, &[]);
}

/// The same, with configuration of the topic (`retention.ms`, ...).
pub fn create_topic_with(to: &(impl To + ?Sized), name: &str, partitions: i32, config: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in config {
        topic = topic.set(key, value);
    }
    let done = admin(to, async |admin, options| admin.create_topics([&topic], options).await);
    done.unwrap_or_else(|e| panic!("topic {name} is not made: {e}"));
    let client: BaseConsumer = to.settings().create().expect("the settings are good");
    let deadline = Instant::now() + PATIENCE;
    while !client.fetch_metadata(Some(name), PATIENCE).is_ok_and(|all| {
        let found = all.topics().iter().find(|t| t.name() == name && t.error().is_none());
        found.is_some_and(|t| {
            t.partitions().len() == partitions as usize && t.partitions().iter().all(|p| p.leader() >= 0)
        })
    }) {
        assert!(Instant::now() < deadline, "topic {name} has no leaders");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Removes a topic.
pub fn delete_topic(to: &(impl To + ?Sized), name: &str) {
    let done = admin(to, async |admin, options| admin.delete_topics(&[name], options).await);
    done.unwrap_or_else(|e| panic!("topic {name} is not removed: {e}"));
}

/// Gives a topic more partitions: `total` from now on.
pub fn add_partitions(to: &(impl To + ?Sized), name: &str, total: usize) {
    let more = NewPartitions::new(name, total);
    let done = admin(to, async |admin, options| admin.create_partitions([&more], options).await);
    done.unwrap_or_else(|e| panic!("topic {name} gets no partitions: {e}"));
}

/// Removes the messages of a partition before `offset`, as retention does.
pub fn delete_records(to: &(impl To + ?Sized), name: &str, partition: i32, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(name, partition, Offset::Offset(offset)).expect("an offset is one");
    let done = administer(to, async |admin, options| admin.delete_records(&list, options).await.map(drop));
    done.unwrap_or_else(|e| panic!("{name} {partition} keeps its messages: {e}"));
}

/// One thing done to topics by an administrator.
fn admin(
    to: &(impl To + ?Sized),
    what: impl AsyncFnOnce(
        &AdminClient<DefaultClientContext>,
        &AdminOptions,
    ) -> KafkaResult<Vec<rdkafka::admin::TopicResult>>,
) -> KafkaResult<()> {
    let results = administer(to, what)?;
    results.into_iter().try_for_each(|result| match result {
        Ok(_) => Ok(()),
        Err((_, code)) => Err(KafkaError::AdminOp(code)),
    })
}

/// The same with whatever it gives.
fn administer<T>(
    to: &(impl To + ?Sized),
    what: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> KafkaResult<T>,
) -> KafkaResult<T> {
    let client: AdminClient<_> = to.settings().create()?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    runtime.block_on(what(&client, &options))
}

/// What is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub payload: Vec<u8>,
    /// Names and values.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl From<Vec<u8>> for Record {
    fn from(payload: Vec<u8>) -> Self {
        Self { payload, ..Self::default() }
    }
}

impl From<&[u8]> for Record {
    fn from(payload: &[u8]) -> Self {
        payload.to_vec().into()
    }
}

impl From<&str> for Record {
    fn from(payload: &str) -> Self {
        payload.as_bytes().into()
    }
}

impl From<String> for Record {
    fn from(payload: String) -> Self {
        payload.into_bytes().into()
    }
}

/// Writes records in order, in large batches, and waits for all acknowledgements. Without a partition the key chooses.
pub fn produce<R: Into<Record>>(
    to: &(impl To + ?Sized),
    topic: &str,
    partition: impl Into<Option<i32>>,
    records: impl IntoIterator<Item = R>,
) {
    try_produce(to, topic, partition, records).unwrap_or_else(|e| panic!("{topic} does not take records: {e}"));
}

/// The same; the first refusal is told.
pub fn try_produce<R: Into<Record>>(
    to: &(impl To + ?Sized),
    topic: &str,
    partition: impl Into<Option<i32>>,
    records: impl IntoIterator<Item = R>,
) -> KafkaResult<()> {
    let mut config = to.settings();
    let settings = [
        ("acks", "all"),
        ("linger.ms", "5"),
        ("batch.num.messages", "100000"),
        ("queue.buffering.max.messages", "200000"),
        ("queue.buffering.max.kbytes", "1048576"),
        // In order even when something is tried again.
        ("max.in.flight.requests.per.connection", "1"),
        ("message.timeout.ms", "60000"),
    ];
    settings.iter().for_each(|(key, value)| {
        config.set(*key, *value);
    });
    let producer: BaseProducer<Reports> = config.create_with_context(Reports::default())?;
    let partition = partition.into();
    for (sent, record) in records.into_iter().enumerate() {
        let Record { key, payload, headers } = record.into();
        let mut message = BaseRecord::<[u8], [u8]>::to(topic).payload(&payload);
        if let Some(key) = &key {
            message = message.key(key);
        }
        if let Some(partition) = partition {
            message = message.partition(partition);
        }
        if !headers.is_empty() {
            let add = |all: OwnedHeaders, (key, value): &(String, Vec<u8>)| {
                all.insert(Header { key: key.as_str(), value: Some(value) })
            };
            message = message.headers(headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), add));
        }
        while let Err((error, back)) = producer.send(message) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error);
            }
            producer.poll(Duration::from_millis(10));
            message = back;
        }
        if sent % 1024 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(PATIENCE)?;
    let refused = producer.context().0.lock().expect("nobody panics there").take();
    refused.map_or(Ok(()), Err)
}

/// The first refusal.
#[derive(Default)]
struct Reports(Mutex<Option<KafkaError>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().expect("nobody panics there").get_or_insert_with(|| error.clone());
        }
    }
}

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value; empty where there is none.
    pub payload: Vec<u8>,
    /// Names and values.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Everything in a topic now, each partition in its order. With `read_committed` what no transaction has taken back, up to
/// the first that is open.
pub fn consume_all(to: &(impl To + ?Sized), topic: &str, read_committed: bool) -> Vec<Message> {
    try_consume_all(to, topic, read_committed).unwrap_or_else(|e| panic!("{topic} cannot be read: {e}"))
}

/// The same; a refusal is told.
pub fn try_consume_all(to: &(impl To + ?Sized), topic: &str, read_committed: bool) -> KafkaResult<Vec<Message>> {
    let mut config = to.settings();
    // The group is a name only: partitions are assigned, nothing is committed.
    config.set("group.id", "kaminari-tests-read").set("enable.auto.commit", "false");
    config.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "10").set("queued.min.messages", "1000000");
    config.set("isolation.level", isolation(read_committed));
    let consumer: BaseConsumer = config.create()?;
    let mut open: BTreeSet<i32> = partitions(&consumer, topic)?.into_iter().collect();
    let mut list = TopicPartitionList::new();
    for partition in &open {
        list.add_partition_offset(topic, *partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut messages = Vec::new();
    let mut deadline = Instant::now() + PATIENCE;
    // Markers of transactions have offsets, too, and are not seen: only the end of a partition tells that all was read.
    while !open.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            None => {
                assert!(Instant::now() < deadline, "the ends of {open:?} of {topic} do not come");
                continue;
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            // The client asks for its group's coordinator whether or not it needs one.
            Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
                continue;
            }
            Some(Err(error)) => return Err(error),
            Some(Ok(message)) => {
                let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
                messages.push(Message {
                    partition: message.partition(),
                    offset: message.offset(),
                    key: message.key().map(<[u8]>::to_vec),
                    payload: message.payload().unwrap_or_default().to_vec(),
                    headers: headers.map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec())).collect(),
                });
            }
        }
        deadline = Instant::now() + PATIENCE;
    }
    Ok(messages)
}

/// What a group has committed: partition, offset, metadata. Partitions without are left out.
pub fn committed(to: &(impl To + ?Sized), group: &str, topic: &str) -> Vec<(i32, i64, String)> {
    let mut config = to.settings();
    let consumer: BaseConsumer = config.set("group.id", group).create().expect("the settings are good");
    let mut list = TopicPartitionList::new();
    for partition in partitions(&consumer, topic).unwrap_or_else(|e| panic!("{topic} is not known: {e}")) {
        list.add_partition(topic, partition);
    }
    let found = consumer.committed_offsets(list, PATIENCE).unwrap_or_else(|e| panic!("no offsets of {group}: {e}"));
    let offset = |of: Offset| if let Offset::Offset(offset) = of { Some(offset) } else { None };
    let elements = found.elements();
    let mut all: Vec<_> =
        elements.iter().filter_map(|e| Some((e.partition(), offset(e.offset())?, e.metadata().to_owned()))).collect();
    all.sort();
    all
}

/// The next offset of each partition, by partition; markers and what is not committed count.
pub fn end_offsets(to: &(impl To + ?Sized), topic: &str) -> Vec<(i32, i64)> {
    let mut config = to.settings();
    config.set("group.id", "kaminari-tests-read").set("isolation.level", isolation(false));
    let consumer: BaseConsumer = config.create().expect("the settings are good");
    let end = |partition| {
        let marks = consumer.fetch_watermarks(topic, partition, PATIENCE);
        (partition, marks.unwrap_or_else(|e| panic!("no end of {topic} {partition}: {e}")).1)
    };
    partitions(&consumer, topic).unwrap_or_else(|e| panic!("{topic} is not known: {e}")).into_iter().map(end).collect()
}

fn isolation(read_committed: bool) -> &'static str {
    if read_committed { "read_committed" } else { "read_uncommitted" }
}

/// Partitions of a topic, in order.
fn partitions(consumer: &BaseConsumer, topic: &str) -> KafkaResult<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else {
        return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic));
    };
    if let Some(error) = found.error() {
        return Err(KafkaError::MetadataFetch(error.into()));
    }
    let mut ids: Vec<i32> = found.partitions().iter().map(|p| p.id()).collect();
    ids.sort_unstable();
    Ok(ids)
}
