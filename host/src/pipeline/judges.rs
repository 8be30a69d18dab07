//! What the plan's plugins become: decoders of sources, extractors and detectors of pipelines. In: a plan. Out: each of them as
//! often as there are threads that need one, or what is wrong, with its place in the configuration.

use super::build::Problem;
use super::models;
use crate::config::diff::Contents;
use crate::config::{PipelinePlan, Plan, code};
use crate::decode::PluginDecoder;
use crate::detect::{DetectError, Detector, Offer, PluginDetector};
use crate::features::{FeatureError, PluginFeatures};
use crate::plugin::{CallErrorKind, FrameScorer, LoadedPlugin, Models, PluginError, PluginHost, PluginReply, Statuses};
use arrow_schema::SchemaRef;
use std::collections::BTreeMap;
use std::sync::Arc;

type Plugins = BTreeMap<Arc<str>, Arc<LoadedPlugin>>;

/// Plugins, and the models that they may score with: what decoders, extractors and detectors of one plan are made of.
pub(super) struct Judges {
    host: Arc<PluginHost>,
    plugins: Plugins,
    models: models::Kept,
}

/// What could be loaded, and what could not.
pub(super) struct Loaded {
    pub(super) judges: Arc<Judges>,
    pub(super) problems: Vec<Problem>,
    pub(super) told: Vec<models::Told>,
}

/// The plugins of the first plan.
pub(super) fn plugins(plan: &Plan) -> Result<Loaded, Problem> {
    let host = PluginHost::new(&plan.engine.plugin_cache_dir).map_err(|e| Problem {
        code: code::PLUGIN_CACHE,
        path: "engine.plugin_cache_dir".into(),
        message: e.to_string(),
        help: None,
    })?;
    Ok(load(plan, host, None))
}

/// The plugins of the next plan. What has not changed is taken over: the very plugin, the very model.
pub(super) fn succeed(plan: &Plan, before: (&Plan, &Judges)) -> Loaded {
    load(plan, before.1.host.clone(), Some(before))
}

fn load(plan: &Plan, host: Arc<PluginHost>, before: Option<(&Plan, &Judges)>) -> Loaded {
    let (models, mut problems, told) = models::load(plan, before.map(|(plan, judges)| (plan, &judges.models)));
    let mut loaded = Plugins::new();
    for (id, plugin) in &plan.plugins {
        // A plugin without its model has one problem, which was told.
        if plugin.inference.iter().any(|name| models.of.get(name).is_none()) {
            continue;
        }
        let known = before.and_then(|(was, judges)| Some((was.plugins.get(id)?, judges.plugins.get(id)?)));
        let known = known.filter(|(was, known)| {
            let same_models = || plugin.inference.iter().all(|name| models.of.same(known.models(), name));
            *was == plugin
                && same_models()
                && crate::plugin::file_digest(&plugin.path).is_ok_and(|d| d == known.info().digest)
        });
        if let Some((_, known)) = known {
            loaded.insert(id.clone(), known.clone());
            continue;
        }
        match host.load_with(plugin, Arc::new(models.of.only(&plugin.inference))) {
            Ok(plugin) => drop(loaded.insert(id.clone(), plugin)),
            Err(error) => problems.push(plugin_problem(id, plugin, &error)),
        }
    }
    Loaded { judges: Arc::new(Judges { host, plugins: loaded, models }), problems, told }
}

fn plugin_problem(id: &str, plan: &crate::config::PluginPlan, error: &PluginError) -> Problem {
    if !plan.path.exists() {
        return Problem {
            code: code::PLUGIN_MISSING,
            path: format!("plugins.{id}.path"),
            message: format!("plugin `{id}`: there is no file {}", plan.path.display()),
            help: Some(
                "build it (`cargo xtask plugins` builds the ones of this repository) or correct the path".into(),
            ),
        };
    }
    let key = if matches!(error, PluginError::Digest { .. }) { "sha256" } else { "path" };
    Problem { code: code::PLUGIN_REFUSED, path: format!("plugins.{id}.{key}"), message: error.to_string(), help: None }
}

/// Ids of all who judge in a pipeline: its detectors, then those that only its shadow has.
pub(super) fn seats(pipeline: &PipelinePlan) -> Vec<Arc<str>> {
    let mut ids = pipeline.detectors.clone();
    let aside = pipeline.shadow.iter().flat_map(|s| &s.detectors).filter(|id| !pipeline.detectors.contains(id));
    ids.extend(aside.cloned());
    ids
}

impl Judges {
    /// The models that plugins may be granted.
    pub(super) fn models(&self) -> &Arc<Models> {
        &self.models.of
    }

    /// Scores frames ahead, for the detectors of one worker.
    pub(super) fn scorer(&self) -> Arc<FrameScorer> {
        Arc::new(FrameScorer::new(self.models.of.clone()))
    }

    /// The plugin of that name in the plan, as far as it loaded.
    pub(super) fn plugin(&self, id: &str) -> Option<&Arc<LoadedPlugin>> {
        self.plugins.get(id)
    }

    /// All of them.
    pub(super) fn loaded(&self) -> impl Iterator<Item = &Arc<LoadedPlugin>> {
        self.plugins.values()
    }

    /// Models in use: id, version and digest.
    pub(super) fn model_infos(&self) -> Vec<(Arc<str>, String, String)> {
        let info = |id: &Arc<str>| {
            let (model, _) = self.models.of.get(id)?;
            Some((id.clone(), model.manifest.version.clone(), model.digest.clone()))
        };
        self.models.digests.keys().filter_map(info).collect()
    }

    /// Digests of the files that the plan names.
    pub(super) fn contents(&self) -> Contents {
        let plugins = self.plugins.iter().map(|(id, plugin)| (id.clone(), plugin.info().digest.clone()));
        Contents { plugins: plugins.collect(), models: self.models.digests.clone() }
    }

    /// All detectors of one worker, those of the shadow too.
    pub(super) fn all_detectors(
        &self,
        plan: &Plan,
        pipeline: &PipelinePlan,
    ) -> Result<Vec<Box<dyn Detector>>, Vec<Problem>> {
        self.detectors(plan, pipeline, &seats(pipeline), &self.scorer())
    }

    /// Some detectors of one worker.
    pub(super) fn detectors(
        &self,
        plan: &Plan,
        pipeline: &PipelinePlan,
        ids: &[Arc<str>],
        scorer: &Arc<FrameScorer>,
    ) -> Result<Vec<Box<dyn Detector>>, Vec<Problem>> {
        let names: Vec<&str> = pipeline.features.iter().map(String::as_str).collect();
        let offer = Offer {
            pipeline: pipeline.id.clone(),
            schema: crate::features::schema(&names),
            window_secs: pipeline.window.size_ns as f64 / 1e9,
            levels: pipeline.keys.iter().map(|k| k.kind).collect(),
        };
        let (mut built, mut problems): (Vec<Box<dyn Detector>>, _) = (Vec::new(), Vec::new());
        for id in ids {
            let Some(detector) = plan.detectors.get(id) else { continue };
            // A plugin that did not load has its own problem.
            let Some(plugin) = self.plugins.get(&detector.plugin) else { continue };
            match PluginDetector::new(plugin.clone(), detector, &offer, scorer) {
                Ok(detector) => built.push(Box::new(detector)),
                Err(error) => problems.push(detector_problem(id, pipeline, &error)),
            }
        }
        if problems.is_empty() { Ok(built) } else { Err(problems) }
    }
    /// How each use of each plugin fares.
    pub(super) fn statuses(&self) -> &Arc<Statuses> {
        self.host.statuses()
    }

    /// What decodes a source by a plugin.
    pub(super) fn decoder(
        &self,
        source: &Arc<str>,
        plugin: &str,
        config: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<PluginDecoder, Problem> {
        let at = format!("sources.{source}.decode");
        let Some(loaded) = self.plugins.get(plugin) else {
            let message = format!("source `{source}`: the plugin `{plugin}` did not load");
            return Err(Problem { code: code::PLUGIN_REFUSED, path: format!("{at}.plugin"), message, help: None });
        };
        PluginDecoder::new(loaded.clone(), source, config)
            .map_err(|error| user_problem(&format!("source `{source}`"), &at, &error, None))
    }

    /// What makes features of a pipeline's records; `None`: they are none of plugins, or its plugins have problems of their
    /// own.
    pub(super) fn features(
        &self,
        plan: &Plan,
        pipeline: &PipelinePlan,
    ) -> Result<Option<PluginFeatures>, Vec<Problem>> {
        let Some(records) = &pipeline.records else { return Ok(None) };
        let (mut first, mut problems) = (None::<(Arc<str>, SchemaRef)>, Vec::new());
        for (i, id) in pipeline.sources.iter().enumerate() {
            let Some(decode) = plan.sources.get(id).and_then(|s| s.body.get("decode")) else { continue };
            let Some(plugin) = decode.get("plugin").and_then(|p| p.as_str()) else { continue };
            if !self.plugins.contains_key(plugin) {
                return Ok(None);
            }
            // As the source reads it.
            let config = decode.get("config").and_then(|c| serde_json::to_value(c).ok());
            let config = config.and_then(|c| c.as_object().cloned()).unwrap_or_default();
            match (self.decoder(id, plugin, &config), &first) {
                (Err(problem), _) => problems.push(problem),
                (Ok(decoder), None) => first = Some((id.clone(), decoder.schema().clone())),
                (Ok(decoder), Some((other, schema))) if decoder.schema() != schema => problems.push(Problem {
                    code: code::WRONG_COLUMN,
                    path: format!("pipelines.{}.sources[{i}]", pipeline.id),
                    message: format!("source `{id}` brings other columns than source `{other}`"),
                    help: Some("give each a pipeline of its own, or decode both alike".into()),
                }),
                (Ok(_), Some(_)) => {}
            }
        }
        let Some((_, input)) = first.filter(|_| problems.is_empty()) else {
            return if problems.is_empty() { Ok(None) } else { Err(problems) };
        };
        let Some(plugin) = self.plugins.get(&records.plugin) else { return Ok(None) };
        let made = PluginFeatures::new(plugin.clone(), pipeline, records, &input);
        made.map(Some).map_err(|error| vec![feature_problem(pipeline, &input, &error)])
    }
}

/// What a plugin said about its configuration (then the place is in its own table), or why it does not start.
fn user_problem(who: &str, at: &str, error: &PluginError, help: Option<String>) -> Problem {
    let own = format!("{at}.config");
    let (path, message) = match error {
        PluginError::Role { .. } => (format!("{at}.plugin"), format!("{who}: {error}")),
        PluginError::Call(call) => match &call.kind {
            CallErrorKind::Plugin(PluginReply::Config { path, message }) if path.is_empty() => {
                (own, format!("{who} ({}): {message}", call.plugin))
            }
            CallErrorKind::Plugin(PluginReply::Config { path, message }) => {
                (format!("{own}.{path}"), format!("{who} ({}): `{path}`: {message}", call.plugin))
            }
            _ => (own, format!("{who}: {error}")),
        },
        _ => (own, format!("{who}: {error}")),
    };
    Problem { code: code::PLUGIN_CONFIG, path, message, help }
}

fn feature_problem(pipeline: &PipelinePlan, input: &SchemaRef, error: &FeatureError) -> Problem {
    let at = format!("pipelines.{}", pipeline.id);
    match error {
        FeatureError::Plugin { source, .. } => {
            let columns: Vec<&str> = input.fields().iter().map(|f| f.name().as_str()).collect();
            let help = format!("the rows of its sources have {}", columns.join(", "));
            user_problem(&format!("pipeline `{}`", pipeline.id), &format!("{at}.records.extract"), source, Some(help))
        }
        FeatureError::NoColumn { at: key, known, .. } => Problem {
            code: code::WRONG_COLUMN,
            path: format!("{at}.{key}"),
            message: error.to_string(),
            help: Some(format!("name one of {known}, or change `records.extract.config`")),
        },
    }
}

/// What a plugin said about its configuration (then the place is in its own table) or about the columns it is offered.
fn detector_problem(id: &str, pipeline: &PipelinePlan, error: &DetectError) -> Problem {
    let own = format!("detectors.{id}.config");
    let missing = || Some(format!("add it to the `features` of pipeline `{}`, or name another", pipeline.id));
    let source = match error {
        DetectError::Plugin { source, .. } => source,
        DetectError::Model { model, .. } => {
            let help = format!(
                "train one on this pipeline: `kaminari train --model {model}`; or judge what it was trained on"
            );
            let path = format!("detectors.{id}");
            return Problem { code: code::WRONG_MODEL, path, message: error.to_string(), help: Some(help) };
        }
    };
    if let PluginError::Role { .. } = source {
        let path = format!("detectors.{id}.plugin");
        return Problem { code: code::PLUGIN_CONFIG, path, message: error.to_string(), help: None };
    }
    let PluginError::Call(call) = source else {
        return Problem { code: code::DETECTOR_CONFIG, path: own, message: error.to_string(), help: None };
    };
    match &call.kind {
        CallErrorKind::Plugin(PluginReply::Config { path, message }) => {
            let columns = call.call == "requires";
            // The text that is marked may be a whole table: the key's name is said too.
            let message = if columns || path.is_empty() { message.clone() } else { format!("`{path}`: {message}") };
            Problem {
                code: if columns { code::WRONG_COLUMN } else { code::DETECTOR_CONFIG },
                path: if path.is_empty() { own } else { format!("{own}.{path}") },
                message: format!("detector `{id}` ({}): {message}", call.plugin),
                help: if columns { missing() } else { None },
            }
        }
        CallErrorKind::Plugin(PluginReply::Schema(_)) => {
            Problem { code: code::WRONG_COLUMN, path: own, message: error.to_string(), help: missing() }
        }
        _ => Problem { code: code::DETECTOR_CONFIG, path: own, message: error.to_string(), help: None },
    }
}
