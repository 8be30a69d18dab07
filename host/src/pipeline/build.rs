//! Plan in, everything built and nothing running out: plugins compiled and configured, sinks opened, sockets bound.
//! What cannot be built is a [`Problem`] with the place in the config that asked for it; all are found in one go.

use super::collect::{Collector, Wanted};
use super::grouping::Grouping;
use super::judges::{Judges, Loaded, plugins};
use super::kafka::{self, Letters};
use super::models;
use super::receivers::{self, Receivers};
use super::saved::{self, Saved};
use super::scores::ScoreWriter;
use super::state::{self, Keeper};
use super::worker::{Keep, Worker};
use crate::checkpoint::Store;
use crate::config::decode_options::DecodeOptions;
use crate::config::registry::Registry;
use crate::config::{Mode, PipelinePlan, Plan, code};
use crate::detect::follow::Followers;
use crate::detect::{Combiner, Detector};
use crate::features::{FEATURES, FrameBuilder, catalogue};
use crate::incident::{Context, IncidentTracker};
use crate::model::{Content, FeatureFrame, KeyLevel, Needs};
use crate::sink::kafka::KafkaSinkConfig;
use crate::sink::{SINKS, Sink};
use crate::source::file::{self, FileConfig, FileReader};
use crate::source::kafka::{Feed, KafkaConfig};
use crate::source::{SOURCES, SourceError};
use crate::window::{Hasher, Ingest, RowWindows, Shard};
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

/// A Kafka source, and what it takes to make its pipelines each time that a partition begins.
pub(super) struct BuiltLog {
    pub(super) feed: Feed,
    pub(super) config: KafkaConfig,
    pub(super) plan: Plan,
    pub(super) pipelines: Vec<Arc<str>>,
    pub(super) judges: Arc<Judges>,
    pub(super) in_transaction: BTreeMap<Arc<str>, KafkaSinkConfig>,
    pub(super) letters: Option<Arc<Letters>>,
    pub(super) store: Option<Arc<Store>>,
}

/// A pipeline ready to run.
pub(super) struct BuiltPipeline {
    pub(super) plan: PipelinePlan,
    pub(super) ingest: Ingest,
    pub(super) workers: Vec<Worker>,
    pub(super) followers: Followers,
    pub(super) keeper: Option<Keeper>,
    pub(super) saved: Option<Saved>,
    pub(super) tracker: IncidentTracker,
    pub(super) scores: Option<ScoreWriter>,
}

/// Sources whose flow records these sinks take as they are.
pub(super) struct Forward {
    pub(super) sources: Vec<Arc<str>>,
    pub(super) sinks: Vec<Arc<str>>,
}

/// Everything built.
pub struct Built {
    pub(super) sources: BTreeMap<Arc<str>, BuiltSource>,
    pub(super) pipelines: Vec<BuiltPipeline>,
    pub(super) sinks: BTreeMap<Arc<str>, Box<dyn Sink>>,
    pub(super) forwards: Vec<Forward>,
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
        problems.extend(judges.detectors(plan, pipeline).err().into_iter().flatten());
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
    let (mut pipelines, mut forwards) = (Vec::new(), Vec::new());
    for pipeline in plan.pipelines.values() {
        let of_log = live && kafka::is_of_log(plan, pipeline);
        if !of_log {
            let flows = |s: &&Arc<str>| plan.sinks.get(*s).is_some_and(|s| crate::sink::content(s) == Content::Flows);
            let sinks: Vec<Arc<str>> = pipeline.sinks.iter().filter(flows).cloned().collect();
            forwards.push(Forward { sources: pipeline.sources.clone(), sinks });
        }
        if pipeline.is_forward() {
            continue;
        }
        let judges = || loaded.detectors(plan, pipeline);
        if of_log {
            // Made again for every partition; what is wrong is told now.
            problems.extend(judges().err().into_iter().flatten());
            problems.extend(loaded.features(plan, pipeline).err().into_iter().flatten());
            continue;
        }
        // The config has warned about levels that nobody judges.
        let levels: Vec<KeyLevel> = pipeline.keys.iter().copied().filter(|k| plan.judges(pipeline, k.kind)).collect();
        match build_pipeline(plan, pipeline, &levels, Some(&loaded), judges, scores.as_ref(), live) {
            Ok(built) => pipelines.push(built),
            Err(more) => problems.extend(more),
        }
    }
    let mut sinks: BTreeMap<Arc<str>, Box<dyn Sink>> = BTreeMap::new();
    if let Some(replay_sinks) = replay_sinks.take() {
        let ids: Vec<Arc<str>> = replay_sinks.iter().map(|(id, _)| Arc::from(id.as_str())).collect();
        sinks.extend(ids.iter().cloned().zip(replay_sinks.into_iter().map(|(_, sink)| sink)));
        pipelines.iter_mut().for_each(|p| p.plan.sinks.clone_from(&ids));
    } else {
        let digest = Arc::from(plan.digest.as_str());
        for (id, component) in &plan.sinks {
            if kafka::only_in_transactions(plan, id) {
                continue;
            }
            match crate::sink::build(component, &digest) {
                Ok(sink) => drop(sinks.insert(id.clone(), sink)),
                Err(error) => problems.push(Problem {
                    code: code::SINK_UNUSABLE,
                    path: if component.kind == "kafka" { format!("sinks.{id}") } else { format!("sinks.{id}.path") },
                    message: error.to_string(),
                    help: None,
                }),
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
                if component.kind == crate::source::kafka::DEF.kind {
                    sources.insert(id.clone(), BuiltSource::Kafka(Box::new(kafka::build(plan, component, &loaded)?)));
                    continue;
                }
                let source = match receivers::build(plan, component)? {
                    Some(receivers) => {
                        bound.extend(receivers.bound.clone().map(|at| (id.clone(), at)));
                        BuiltSource::Live(Box::new(receivers))
                    }
                    None => {
                        let config: FileConfig = component.config().map_err(|e| BuildError::Input(e.to_string()))?;
                        BuiltSource::File(open_all(&config)?)
                    }
                };
                sources.insert(id.clone(), source);
            }
        }
    }
    Ok(Built { sources, pipelines, sinks, forwards, live, judges: Some(loaded), bound })
}

/// One pipeline whose detectors are replaced by a collector of frames: no detector is loaded.
fn build_frames(plan: &Plan, wanted: Wanted, frames: &Sender<FeatureFrame>) -> Result<Built, BuildError> {
    let pipeline = plan.pipelines.get(&wanted.pipeline);
    let pipeline = pipeline.ok_or_else(|| BuildError::Input(format!("there is no pipeline {:?}", wanted.pipeline)))?;
    let mut only = pipeline.clone();
    only.keys.retain(|k| k.kind == wanted.level);
    only.sinks.clear();
    let judges =
        || -> Result<Vec<Box<dyn Detector>>, Vec<Problem>> { Ok(vec![Box::new(Collector::new(frames.clone()))]) };
    // Only rows of plugins need any of them.
    let loaded = match pipeline.records {
        Some(_) => Some(plugins(plan).map_err(|p| BuildError::Problems(vec![p]))?.judges),
        None => None,
    };
    let built = build_pipeline(plan, &only, &only.keys, loaded.as_deref(), judges, None, false);
    let mut built = built.map_err(BuildError::Problems)?;
    let (id, file) = replay_source(plan, wanted.paths, wanted.source, pipeline.sources.iter())?;
    built.plan.sources = vec![id.clone()];
    Ok(Built {
        sources: BTreeMap::from([(id, file)]),
        pipelines: vec![built],
        sinks: BTreeMap::new(),
        forwards: Vec::new(),
        live: false,
        judges: loaded,
        bound: Vec::new(),
    })
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

pub(super) fn build_pipeline(
    plan: &Plan,
    pipeline: &PipelinePlan,
    levels: &[KeyLevel],
    loaded: Option<&Judges>,
    detectors: impl Fn() -> Result<Vec<Box<dyn Detector>>, Vec<Problem>>,
    scores: Option<&ScoreWriter>,
    live: bool,
) -> Result<BuiltPipeline, Vec<Problem>> {
    let needs: Needs = catalogue::needs(&pipeline.features);
    // Rows are whole windows: there is nothing to share out.
    // Of rows of plugins, an extractor sees all.
    let whole = pipeline.rows.is_some() || pipeline.records.is_some();
    let count = if whole { 1 } else { plan.engine.window_workers.max(1) };
    let store = if live { saved::store(plan) } else { None };
    let kept = |lane: String, section| store.as_ref().map(|store| Saved::new(store, lane, section, &plan.digest));
    // What a detector knows of an entity lies with the worker that has the entity, over restarts too.
    let hasher = kept(saved::shares(&pipeline.id), "seed")
        .map_or_else(Hasher::default, |saved| Hasher::with_seed(saved.number(Hasher::random_seed)));
    let (mut workers, mut followers) = (Vec::new(), None);
    let has =
        |content| pipeline.sinks.iter().any(|s| plan.sinks.get(s).is_some_and(|s| crate::sink::content(s) == content));
    let keep = Keep { scores: scores.is_some() || has(Content::Scores), frames: has(Content::Features) };
    for number in 0..count {
        let grouping = match (&pipeline.records, loaded) {
            (Some(records), Some(loaded)) => {
                // Without it its plugin did not load, which is a problem of its own.
                let Some(features) = loaded.features(plan, pipeline)? else { return Err(Vec::new()) };
                let windows = RowWindows::new(pipeline.window, records.max_bytes);
                Grouping::Records { windows, features: Box::new(features) }
            }
            _ => {
                let shard = Shard::new(pipeline.window, needs, levels, &hasher, number, count);
                let (half_life, most) = (pipeline.level_half_life_windows, pipeline.window.max_keys);
                let frames = FrameBuilder::new(&pipeline.features, half_life, most);
                Grouping::Flows { shard: Box::new(shard), frames: Box::new(frames) }
            }
        };
        let mut detectors = detectors()?;
        let followers = followers.get_or_insert_with(|| state::followers(plan, pipeline, &detectors, live));
        let heard = followers.heard();
        detectors.iter_mut().for_each(|d| d.hear(&heard));
        let combiner = pipeline.combine.as_ref().map(|c| Combiner::new(c, &heard));
        let mut worker = Worker::new(&pipeline.id, grouping, detectors, combiner, keep);
        if let Some(levels) = kept(saved::worker(&pipeline.id, number), "levels") {
            worker.resume(levels, |id| kept(saved::detector(&pipeline.id, id, number, count), "detector"));
        }
        workers.push(worker);
    }
    let followers = followers.unwrap_or_else(|| Followers::new(Vec::new()));
    let context = Context {
        pipeline: pipeline.id.clone(),
        window_kind: pipeline.window.kind.name(),
        plan_digest: Arc::from(plan.digest.as_str()),
        shadow: pipeline.mode == Mode::Shadow,
    };
    Ok(BuiltPipeline {
        plan: pipeline.clone(),
        ingest: Ingest::new(pipeline.window, needs),
        workers,
        keeper: if live { Keeper::new(plan, pipeline, &followers) } else { None },
        saved: kept(saved::desk(&pipeline.id), "incidents"),
        followers,
        tracker: IncidentTracker::new(context, pipeline.incident.clone()),
        scores: scores.cloned(),
    })
}
