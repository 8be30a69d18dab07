//! What a configuration asks of Kafka beyond each component's own keys: what does not go together is told with its place,
//! and `validate` asks the brokers.

use super::super::build::{BuildError, BuiltLog, Problem};
use super::super::differs::{same_decoder, touched};
use super::super::judges::Judges;
use super::letters::Letters;
use super::transaction::TransactionSettings;
use crate::checkpoint::Store;
use crate::config::{Component, PipelinePlan, Plan, code};
use crate::kafka::{SettingsError, client, explain};
use crate::model::PlanDigest;
use crate::sink;
use crate::sink::kafka::KafkaSinkConfig;
use crate::sink::worker::SinkHandle;
use crate::source::kafka::{DEF, Feed, KafkaConfig};
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How long `validate` waits for brokers.
const ASK: Duration = Duration::from_secs(10);

fn sources(plan: &Plan) -> impl Iterator<Item = (&Component, KafkaConfig)> {
    plan.sources.values().filter(|c| c.kind == DEF.kind).filter_map(|c| Some((c, c.config().ok()?)))
}

fn sinks(plan: &Plan) -> impl Iterator<Item = (&Component, KafkaSinkConfig)> {
    plan.sinks.values().filter(|c| c.kind == sink::kafka::DEF.kind).filter_map(|c| Some((c, c.config().ok()?)))
}

fn readers<'p>(plan: &'p Plan, source: &'p Arc<str>) -> impl Iterator<Item = &'p PipelinePlan> {
    plan.pipelines.values().filter(move |p| p.sources.contains(source))
}

/// True when the pipeline reads a Kafka source.
pub(in crate::pipeline) fn is_of_log(plan: &Plan, pipeline: &PipelinePlan) -> bool {
    pipeline.sources.iter().any(|s| plan.sources.get(s).is_some_and(|c| c.kind == DEF.kind))
}

/// True when every pipeline that names the sink puts its records into a transaction: it needs no producer of its own.
pub(in crate::pipeline) fn only_in_transactions(plan: &Plan, sink: &Arc<str>) -> bool {
    let is_kafka = plan.sinks.get(sink).is_some_and(|c| c.kind == sink::kafka::DEF.kind);
    let users: Vec<&PipelinePlan> = plan.pipelines.values().filter(|p| p.sinks.contains(sink)).collect();
    let exactly_once =
        |p: &&PipelinePlan| sources(plan).any(|(c, config)| config.exactly_once && p.sources.contains(&c.id));
    is_kafka && !users.is_empty() && users.iter().all(exactly_once)
}

/// Mistakes that can be seen without a broker; with or without those that depend on this machine's files and variables.
pub(in crate::pipeline) fn problems(plan: &Plan, environment: bool) -> Vec<Problem> {
    let mut out = Vec::new();
    let counts = |error: &SettingsError| environment || !matches!(error, SettingsError::Secret { .. });
    let problem = |path: String, message: String, help: &str| Problem {
        code: code::KAFKA,
        path,
        message,
        help: Some(help.to_owned()),
    };
    for (component, config) in sources(plan) {
        let at = |key: &str| format!("sources.{}.{key}", component.id);
        for (key, list) in [("brokers", &config.brokers), ("topics", &config.topics)] {
            if list.is_empty() || list.iter().any(|entry| entry.trim().is_empty()) {
                let message = format!("`{}` is empty, or one of it is", at(key));
                out.push(problem(at(key), message, "name one or more"));
            }
        }
        for (i, topic) in config.topics.iter().enumerate().filter(|(_, topic)| topic.starts_with('^')) {
            let path = format!("{}[{i}]", at("topics"));
            out.push(problem(path, format!("{topic:?} is no topic's name"), "name each topic: patterns are not taken"));
        }
        if config.group.trim().is_empty() {
            out.push(problem(at("group"), format!("`{}` is empty", at("group")), "name the consumer group"));
        }
        if let Err(error) = client(&config.brokers, &config.security, &config.client)
            && counts(&error)
        {
            out.push(problem(at(error.key()), format!("source `{}`: {error}", component.id), "see docs/kafka.md"));
        }
        if !config.exactly_once {
            continue;
        }
        for pipeline in readers(plan, &component.id) {
            for (i, id) in pipeline.sinks.iter().enumerate() {
                let path = format!("pipelines.{}.sinks[{i}]", pipeline.id);
                let help = "use a Kafka sink on the brokers of the source, or `exactly_once = false`";
                match sinks(plan).find(|(c, _)| c.id == *id) {
                    None => {
                        let message =
                            format!("sink `{id}` cannot be part of the transactions of source `{}`", component.id);
                        out.push(problem(path, message, help));
                    }
                    Some((_, sink)) if brokers(&sink.brokers) != brokers(&config.brokers) => {
                        let message = format!(
                            "sink `{id}` has other brokers than source `{}`: a transaction is of one cluster",
                            component.id
                        );
                        out.push(problem(path, message, help));
                    }
                    Some(_) => {}
                }
            }
        }
    }
    for (component, config) in sinks(plan) {
        let at = |key: &str| format!("sinks.{}.{key}", component.id);
        if config.brokers.is_empty() || config.brokers.iter().any(|entry| entry.trim().is_empty()) {
            let message = format!("`{}` is empty, or one of it is", at("brokers"));
            out.push(problem(at("brokers"), message, "name one or more"));
        }
        if config.topic.trim().is_empty() {
            out.push(problem(at("topic"), format!("`{}` is empty", at("topic")), "name the topic"));
        }
        if let Err(error) = client(&config.brokers, &config.security, &config.client)
            && counts(&error)
        {
            out.push(problem(at(error.key()), format!("sink `{}`: {error}", component.id), "see docs/kafka.md"));
        }
    }
    out
}

fn brokers(list: &[String]) -> BTreeSet<&str> {
    list.iter().map(|b| b.trim()).collect()
}

/// Asks the brokers: whether they answer, and have the topics.
pub(in crate::pipeline) fn unreachable(plan: &Plan) -> Vec<Problem> {
    let mut out = Vec::new();
    for (component, config) in sources(plan) {
        let topics = config.topics.iter().map(|t| ("topics", t.as_str()));
        let topics = topics.chain(config.dead_letter_topic.iter().map(|t| ("dead_letter_topic", t.as_str())));
        let client = client(&config.brokers, &config.security, &config.client);
        out.extend(ask(&format!("sources.{}", component.id), client.ok(), &config.brokers, topics));
    }
    out.extend(unreachable_sinks(plan, &|_| true));
    out
}

/// The same of some sinks.
pub(in crate::pipeline) fn unreachable_sinks(plan: &Plan, which: &dyn Fn(&Arc<str>) -> bool) -> Vec<Problem> {
    let one = |(component, config): (&Component, KafkaSinkConfig)| {
        let topics = std::iter::once(("topic", config.topic.as_str()));
        let client = client(&config.brokers, &config.security, &config.client);
        ask(&format!("sinks.{}", component.id), client.ok(), &config.brokers, topics)
    };
    sinks(plan).filter(|(component, _)| which(&component.id)).flat_map(one).collect()
}

/// True when the pipelines of a source are others than before, or mean something else.
pub(in crate::pipeline) fn is_touched(was: (&Plan, &Judges), is: (&Plan, &Judges), source: &Arc<str>) -> bool {
    let ids = |plan: &Plan| -> Vec<Arc<str>> { readers(plan, source).map(|p| p.id.clone()).collect() };
    let differs = |p: &PipelinePlan| was.0.pipelines.get(&p.id).is_none_or(|old| touched(old, was, is, p));
    ids(was.0) != ids(is.0) || !same_decoder(was, is, source) || readers(is.0, source).any(differs)
}

fn ask<'t>(
    path: &str,
    client: Option<rdkafka::ClientConfig>,
    brokers: &[String],
    topics: impl Iterator<Item = (&'static str, &'t str)>,
) -> Vec<Problem> {
    let names = crate::kafka::brokers(brokers);
    if names.trim().is_empty() {
        return Vec::new();
    }
    // What makes no client was told before.
    let Some(consumer) = client.and_then(|c| c.create::<BaseConsumer>().ok()) else { return Vec::new() };
    let problem = |key: &str, error: &rdkafka::error::KafkaError, what: String| {
        let trouble = explain(error, &names);
        Problem {
            code: code::KAFKA,
            path: format!("{path}.{key}"),
            message: format!("{what}{}", trouble.message),
            help: Some(trouble.help.to_owned()),
        }
    };
    if let Err(error) = consumer.fetch_metadata(Some(""), ASK).or_else(|_| consumer.fetch_metadata(None, ASK)) {
        return vec![problem("brokers", &error, String::new())];
    }
    let mut out = Vec::new();
    for (key, topic) in topics {
        let error = match consumer.fetch_metadata(Some(topic), ASK) {
            Err(error) => Some(error),
            Ok(metadata) => metadata
                .topics()
                .iter()
                .find_map(|t| t.error())
                .map(|error| rdkafka::error::KafkaError::MetadataFetch(error.into())),
        };
        if let Some(error) = error {
            out.push(problem(key, &error, format!("topic `{topic}`: ")));
        }
    }
    out
}

/// A source ready to join its group.
pub(in crate::pipeline) fn build(
    plan: &Plan,
    component: &Component,
    judges: &Arc<Judges>,
) -> Result<BuiltLog, BuildError> {
    let config: KafkaConfig = component.config().map_err(|e| BuildError::Input(e.to_string()))?;
    let feed = Feed::open(&component.id, &config).map_err(|e| BuildError::Input(e.to_string()))?;
    let letters = (config.dead_letter_topic.is_some() && !config.exactly_once)
        .then(|| Letters::new(&component.id, &settings(&config)))
        .transpose()
        .map_err(|e| BuildError::Input(format!("source {:?}: {e}", component.id)))?;
    let store = plan.engine.state_dir.as_ref().map(|dir| Store::open(&dir.join("checkpoints"))).transpose();
    let store = store.map_err(|e| BuildError::Input(format!("engine.state_dir: {e}")))?;
    let parts = LogParts {
        source: component.id.clone(),
        config,
        plan: Arc::new(plan.clone()),
        pipelines: Vec::new(),
        settled: BTreeMap::new(),
        judges: judges.clone(),
        in_transaction: BTreeMap::new(),
        letters: letters.map(Arc::new),
        store: store.map(Arc::new),
        digest: PlanDigest::from(plan.digest.as_str()),
        back: false,
    };
    Ok(BuiltLog { feed, parts: parts.succeed(plan, judges, false) })
}

/// What it takes to make the pipelines of a source each time that a partition begins.
#[derive(Clone)]
pub(in crate::pipeline) struct LogParts {
    source: Arc<str>,
    pub(in crate::pipeline) config: KafkaConfig,
    /// With one window worker: a task is one thread's.
    pub(in crate::pipeline) plan: Arc<Plan>,
    /// Pipelines that read the source.
    pub(in crate::pipeline) pipelines: Vec<Arc<str>>,
    /// Of each, windows that its tasks have settled, all together.
    pub(in crate::pipeline) settled: BTreeMap<Arc<str>, Arc<AtomicU64>>,
    pub(in crate::pipeline) judges: Arc<Judges>,
    /// Sinks whose records go into the task's transaction.
    pub(in crate::pipeline) in_transaction: BTreeMap<Arc<str>, KafkaSinkConfig>,
    pub(in crate::pipeline) letters: Option<Arc<Letters>>,
    pub(in crate::pipeline) store: Option<Arc<Store>>,
    /// What events say: one cell for all of the source, also where the next plan changes nothing of it.
    pub(in crate::pipeline) digest: PlanDigest,
    /// The plan was in force before the one that is left.
    pub(in crate::pipeline) back: bool,
}

impl LogParts {
    /// The same source under the next plan.
    pub(in crate::pipeline) fn succeed(&self, plan: &Plan, judges: &Arc<Judges>, back: bool) -> Self {
        let mut plan = plan.clone();
        plan.engine.window_workers = 1;
        let in_transaction = if self.config.exactly_once {
            sinks(&plan).map(|(c, config)| (c.id.clone(), config)).collect()
        } else {
            BTreeMap::new()
        };
        let ids = || readers(&plan, &self.source).map(|p| p.id.clone());
        let settled = |id: Arc<str>| (id.clone(), self.settled.get(&id).cloned().unwrap_or_default());
        Self {
            pipelines: ids().collect(),
            settled: ids().map(settled).collect(),
            in_transaction,
            judges: judges.clone(),
            plan: Arc::new(plan),
            back,
            ..self.clone()
        }
    }

    /// Of all sinks with a queue, those that its pipelines tell. Others are let go of: whoever holds one keeps it from its end.
    pub(in crate::pipeline) fn sinks(
        &self,
        all: &BTreeMap<Arc<str>, Arc<SinkHandle>>,
    ) -> BTreeMap<Arc<str>, Arc<SinkHandle>> {
        let mut sinks = all.clone();
        sinks.retain(|id, _| readers(&self.plan, &self.source).any(|p| p.sinks.contains(id)));
        sinks
    }

    /// True when a pipeline means something else than it did there.
    pub(super) fn differs_from(&self, was: &Self, pipeline: &PipelinePlan) -> bool {
        let old = was.plan.pipelines.get(&pipeline.id);
        old.is_none_or(|old| touched(old, (&was.plan, &was.judges), (&self.plan, &self.judges), pipeline))
    }

    /// True when messages are decoded by the same plugin as there, or by none.
    pub(super) fn decodes_as(&self, was: &Self) -> bool {
        same_decoder((&was.plan, &was.judges), (&self.plan, &self.judges), &self.source)
    }
}

/// What a producer of the source's own is made of.
pub(in crate::pipeline) fn settings(config: &KafkaConfig) -> TransactionSettings {
    // The consumer's own properties are no producer's.
    let client = config.client.iter().filter(|(name, _)| !is_of_consumer(name));
    TransactionSettings {
        brokers: config.brokers.clone(),
        security: config.security.clone(),
        client: client.map(|(name, value)| (name.clone(), value.clone())).collect(),
        timeout_ms: config.transaction_timeout_ms,
    }
}

fn is_of_consumer(property: &str) -> bool {
    ["fetch.", "queued.", "max.poll", "session.", "heartbeat.", "group.", "max.partition", "check.crcs"]
        .iter()
        .any(|prefix| property.starts_with(prefix))
}
