//! Plan in, everything built and nothing running out: plugins compiled and configured, sinks opened, sockets bound.
//! What cannot be built is a [`Problem`] with the place in the config that asked for it; all are found in one go.

use super::assemble::{BuiltPipeline, Shop};
use super::collect::{Collector, Wanted};
use super::judges::{Judges, Loaded, plugins};
use super::kafka;
use super::models;
use super::receivers::{self, Receivers};
use super::saved;
use super::scores::ScoreWriter;
use crate::config::decode_options::DecodeOptions;
use crate::config::registry::Registry;
use crate::config::{Component, PipelinePlan, Plan, code};
use crate::detect::Detector;
use crate::features::FEATURES;
use crate::model::{FeatureFrame, PlanDigest};
use crate::sink::{SINKS, Sink, SinkError};
use crate::source::file::{self, FileConfig, FileReader};
use crate::source::kafka::{Feed, KafkaConfig};
use crate::source::{SOURCES, SourceError, Takeover};
use crossbeam_channel::Sender;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Every component of every stage, for `config`.
pub fn registry() -> Registry {
    Registry { sources: SOURCES, sinks: SINKS, features: FEATURES }
}

/// Something that the plan asks for and that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// One of [`crate::config::code`].
    pub code: &'static str,
    /// Dotted path of the key that asked for it.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Why a plan could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The plan asks for what cannot be had.
    #[error("{} problem(s) in the configuration", .0.len())]
    Problems(Vec<Problem>),
    /// A source cannot start.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] file::FileError),
    /// What is known could not be kept.
    #[error("{0}")]
    Checkpoint(String),
    /// A component's own settings, or the input of a replay.
    #[error("{0}")]
    Input(String),
}

/// Where flow records come from.
pub enum Input {
    /// The plan's sources.
    Live,
    /// Files through every pipeline, in event time; no sinks of the plan, incidents go to these.
    Replay {
        /// Captures, JSON lines, CSV or Parquet, read one after the other.
        paths: Vec<PathBuf>,
        /// The source whose `decode` settings count; needed when the plan has several.
        source: Option<String>,
        /// Where incidents go.
        sinks: Vec<(String, Box<dyn Sink>)>,
        /// Where scored rows go.
        scores: Option<ScoreWriter>,
    },
    /// Files through the windows and features of one pipeline; its frames go out instead of to detectors.
    Frames {
        /// Which.
        wanted: Wanted,
        /// Where they go, in order of time where there is one window worker.
        frames: Sender<FeatureFrame>,
    },
}

/// A source ready to run.
pub(super) enum BuiltSource {
    Live(Box<Receivers>),
    Kafka(Box<BuiltLog>),
    File(Vec<(FileReader, DecodeOptions)>),
}

/// A Kafka source, and what it takes to make its pipelines.
pub(super) struct BuiltLog {
    pub(super) feed: Feed,
    pub(super) parts: kafka::LogParts,
}

/// Everything built.
pub struct Built {
    pub(super) sources: BTreeMap<Arc<str>, BuiltSource>,
    pub(super) pipelines: Vec<BuiltPipeline>,
    pub(super) sinks: BTreeMap<Arc<str>, Box<dyn Sink>>,
    pub(super) plan: Arc<Plan>,
    pub(super) digest: PlanDigest,
    pub(super) live: bool,
    /// Plugins; keeps their engine's clock ticking.
    pub(super) judges: Option<Arc<Judges>>,
    /// Sources that listen, and where.
    pub bound: Vec<(Arc<str>, String)>,
}

/// What does not go together, as far as the plan alone tells.
pub fn contradictions(plan: &Plan) -> Vec<Problem> {
    [kafka::problems(plan, false), receivers::problems(plan, false)].concat()
}

/// Everything that `validate` can try without starting: plugins, detectors, brokers.
pub fn check(plan: &Plan) -> Vec<Problem> {
    let (judges, mut problems) = match plugins(plan) {
        Ok(loaded) => (loaded.judges, loaded.problems),
        Err(problem) => return vec![problem],
    };
    for pipeline in plan.pipelines.values() {
        problems.extend(judges.all_detectors(plan, pipeline).err().into_iter().flatten());
        problems.extend(judges.features(plan, pipeline).err().into_iter().flatten());
    }
    problems.extend(kafka::problems(plan, true));
    problems.extend(receivers::problems(plan, true));
    problems.extend(kafka::unreachable(plan));
    problems.sort_by(|a, b| a.path.cmp(&b.path));
    problems.dedup();
    problems
}

/// Builds a plan. Sockets are bound last: nothing is received before all else stands.
pub fn build(plan: &Plan, input: Input) -> Result<Built, BuildError> {
    let (live, mut replay_sinks, scores, replay) = match input {
        Input::Live => (true, None, None, None),
        Input::Replay { paths, source, sinks, scores } => (false, Some(sinks), scores, Some((paths, source))),
        Input::Frames { wanted, frames } => return build_frames(plan, wanted, &frames),
    };
    let loaded = plugins(plan).map_err(|p| BuildError::Problems(vec![p]))?;
    let Loaded { judges: loaded, mut problems, told } = loaded;
    problems.extend(kafka::problems(plan, true));
    if live {
        problems.extend(receivers::problems(plan, true));
    }
    let store = if live { saved::store(plan) } else { None };
    let shop = Shop { plan, judges: Some(&loaded), live, store: store.as_ref(), digest: None };
    let mut pipelines = Vec::new();
    for pipeline in plan.pipelines.values().filter(|p| !p.is_forward()) {
        if live && kafka::is_of_log(plan, pipeline) {
            // Made again for every partition; what is wrong is told now.
            problems.extend(loaded.all_detectors(plan, pipeline).err().into_iter().flatten());
            problems.extend(loaded.features(plan, pipeline).err().into_iter().flatten());
            continue;
        }
        match shop.pipeline(pipeline, None, scores.as_ref()) {
            Ok(built) => pipelines.push(built),
            Err(more) => problems.extend(more),
        }
    }
    let digest = PlanDigest::from(plan.digest.as_str());
    let mut sinks: BTreeMap<Arc<str>, Box<dyn Sink>> = BTreeMap::new();
    if let Some(replay_sinks) = replay_sinks.take() {
        let ids: Vec<Arc<str>> = replay_sinks.iter().map(|(id, _)| Arc::from(id.as_str())).collect();
        sinks.extend(ids.iter().cloned().zip(replay_sinks.into_iter().map(|(_, sink)| sink)));
        pipelines.iter_mut().for_each(|p| p.plan.sinks.clone_from(&ids));
    } else {
        for (id, component) in &plan.sinks {
            if kafka::only_in_transactions(plan, id) {
                continue;
            }
            match crate::sink::build(component, &digest) {
                Ok(sink) => drop(sinks.insert(id.clone(), sink)),
                Err(error) => problems.push(sink_problem(component, &error)),
            }
        }
    }
    if !problems.is_empty() {
        return Err(BuildError::Problems(problems));
    }
    models::tell(&told);
    let (mut sources, mut bound) = (BTreeMap::new(), Vec::new());
    match replay {
        Some((paths, source)) => {
            let (id, file) = replay_source(plan, paths, source, plan.sources.keys())?;
            // Flow records are no rows of features, nor rows of plugins, nor the other way round.
            let kind = |p: &PipelinePlan| (p.rows.is_some(), p.records.is_some());
            let of_source = plan.pipelines.values().find(|p| p.sources.contains(&id)).map_or((false, false), kind);
            pipelines.retain(|p| kind(&p.plan) == of_source);
            pipelines.iter_mut().for_each(|p| p.plan.sources = vec![id.clone()]);
            sources.insert(id, file);
        }
        None => {
            for (id, component) in &plan.sources {
                let source = source(plan, component, &loaded)?;
                bound.extend(source.bound().map(|at| (id.clone(), at)));
                sources.insert(id.clone(), source);
            }
        }
    }
    let plan = Arc::new(plan.clone());
    Ok(Built { sources, pipelines, sinks, plan, digest, live, judges: Some(loaded), bound })
}

/// One pipeline whose detectors are replaced by a collector of frames: no detector is loaded.
fn build_frames(plan: &Plan, wanted: Wanted, frames: &Sender<FeatureFrame>) -> Result<Built, BuildError> {
    let pipeline = plan.pipelines.get(&wanted.pipeline);
    let pipeline = pipeline.ok_or_else(|| BuildError::Input(format!("there is no pipeline {:?}", wanted.pipeline)))?;
    let mut only = pipeline.clone();
    only.keys.retain(|k| k.kind == wanted.level);
    only.sinks.clear();
    let collector =
        |_: &_| -> Result<Vec<Box<dyn Detector>>, Vec<Problem>> { Ok(vec![Box::new(Collector::new(frames.clone()))]) };
    // Only rows of plugins need any of them.
    let loaded = match pipeline.records {
        Some(_) => Some(plugins(plan).map_err(|p| BuildError::Problems(vec![p]))?.judges),
        None => None,
    };
    let shop = Shop { plan, judges: loaded.as_deref(), live: false, store: None, digest: None };
    let mut built = shop.pipeline(&only, Some(&collector), None).map_err(BuildError::Problems)?;
    let (id, file) = replay_source(plan, wanted.paths, wanted.source, pipeline.sources.iter())?;
    built.plan.sources = vec![id.clone()];
    Ok(Built {
        sources: BTreeMap::from([(id, file)]),
        pipelines: vec![built],
        sinks: BTreeMap::new(),
        plan: Arc::new(plan.clone()),
        digest: PlanDigest::from(plan.digest.as_str()),
        live: false,
        judges: loaded,
        bound: Vec::new(),
    })
}

/// A sink that cannot be had.
pub(super) fn sink_problem(component: &Component, error: &SinkError) -> Problem {
    let id = &component.id;
    Problem {
        code: code::SINK_UNUSABLE,
        path: if component.kind == "kafka" { format!("sinks.{id}") } else { format!("sinks.{id}.path") },
        message: error.to_string(),
        help: None,
    }
}

/// One source of the plan, ready to run.
pub(super) fn source(plan: &Plan, component: &Component, judges: &Arc<Judges>) -> Result<BuiltSource, BuildError> {
    if component.kind == crate::source::kafka::DEF.kind {
        return Ok(BuiltSource::Kafka(Box::new(kafka::build(plan, component, judges)?)));
    }
    Ok(match receivers::build(plan, component)? {
        Some(receivers) => BuiltSource::Live(Box::new(receivers)),
        None => {
            let config: FileConfig = component.config().map_err(|e| BuildError::Input(e.to_string()))?;
            BuiltSource::File(open_all(&config)?)
        }
    })
}

impl BuiltSource {
    /// Takes over what the one before has open; `None`: it has its own.
    pub(super) fn take_over(&mut self) -> Option<Result<(), SourceError>> {
        match self {
            BuiltSource::Live(live) => live.takeover.take().map(Takeover::begin),
            BuiltSource::Kafka(_) | BuiltSource::File(_) => None,
        }
    }

    /// How many decode what it brings: each has a partition of its own.
    pub(super) fn intakes(&self) -> usize {
        match self {
            BuiltSource::Live(live) => live.receivers.len(),
            BuiltSource::Kafka(_) | BuiltSource::File(_) => 1,
        }
    }

    /// Where it listens.
    pub(super) fn bound(&self) -> Option<String> {
        match self {
            BuiltSource::Live(live) => live.bound.clone(),
            BuiltSource::Kafka(_) | BuiltSource::File(_) => None,
        }
    }
}

/// Each file with the settings to decode it, its format worked out.
fn open_all(config: &FileConfig) -> Result<Vec<(FileReader, DecodeOptions)>, BuildError> {
    let open = |path: &PathBuf| {
        let format = file::format_of(path, &config.decode);
        let options = DecodeOptions { format, ..config.decode.clone() };
        Ok((FileReader::open(path, &options)?, options))
    };
    config.paths.iter().map(open).collect()
}

/// The replayed files take the place of one of these sources and are read with its `decode` settings.
fn replay_source<'a>(
    plan: &Plan,
    paths: Vec<PathBuf>,
    source: Option<String>,
    choice: impl Iterator<Item = &'a Arc<str>>,
) -> Result<(Arc<str>, BuiltSource), BuildError> {
    let known: Vec<&str> = choice.map(AsRef::as_ref).collect();
    let id = match (&source, &known[..]) {
        (Some(id), _) if known.contains(&id.as_str()) => id,
        (Some(id), _) => {
            let text = format!("--source {id:?} is not in the configuration; it has {}", known.join(", "));
            return Err(BuildError::Input(text));
        }
        (None, [only]) => *only,
        (None, _) => {
            return Err(BuildError::Input(format!(
                "the configuration has several sources: say with --source which one the file stands for ({})",
                known.join(", ")
            )));
        }
    };
    let component = plan.sources.get(id).ok_or_else(|| BuildError::Input(format!("there is no source {id:?}")))?;
    let bad = |e: crate::config::ConfigError| BuildError::Input(e.to_string());
    let live = receivers::decode(component)?;
    let is_live = live.is_some();
    let mut decode = if let Some(decode) = live {
        decode
    } else if component.kind == crate::source::kafka::DEF.kind {
        component.config::<KafkaConfig>().map_err(bad)?.decode
    } else {
        component.config::<FileConfig>().map_err(bad)?.decode
    };
    // The file's own name says what it is; a live source's format is about something else.
    if is_live {
        decode.format = None;
        decode.allow.clear();
    }
    let files = open_all(&FileConfig { paths, decode })?;
    Ok((component.id.clone(), BuiltSource::File(files)))
}
