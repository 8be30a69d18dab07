//! `[models.NAME]`: where a model lies, and what `kaminari train` makes it from.

use super::plan::*;
use super::raw::{ModelSection, TrainSection};
use super::resolve::{Named, Resolver, quoted_list};
use super::{Entry, diagnostic::code, resolved};
use crate::model::KeyKind;
use std::sync::Arc;

impl Resolver<'_> {
    pub(super) fn model(&mut self, id: &str, entry: &Entry<'_>) -> Option<ModelPlan> {
        let path = &format!("models.{id}");
        let written: ModelSection = self.read(path, entry)?;
        let folder = self.required(path, "path", written.path, "path = \"FOLDER\"");
        let sha256 = self.pin(path, written.sha256, "paste the digest that `kaminari model inspect FOLDER` tells");
        let train = match &written.train {
            Some(train) => Some(self.train(&format!("{path}.train"), train)?),
            None => None,
        };
        let path = resolved(self.findings.places.folder(entry.file), &folder?);
        Some(ModelPlan { id: Arc::from(id), path, sha256, train })
    }

    fn train(&mut self, path: &str, written: &TrainSection) -> Option<TrainPlan> {
        let pipeline = self.required(path, "pipeline", written.pipeline.clone(), "pipeline = \"NAME\"");
        let pipeline = pipeline.and_then(|name| self.reference("pipelines", &format!("{path}.pipeline"), &name));
        let level = written.level.as_ref().map(|name| self.level(&format!("{path}.level"), name));
        if let Some(features) = &written.features {
            self.filled(&format!("{path}.features"), features, "leave `features` out to take the pipeline's");
        }
        for (key, value, most) in [
            ("seeds", written.seeds.map(u64::from), 64),
            ("epochs", written.epochs.map(u64::from), 10_000),
            ("max_rows", written.max_rows.map(|n| n as u64), 1 << 32),
        ] {
            if let Some(value) = value {
                self.in_range(&format!("{path}.{key}"), value, 1, most);
            }
        }
        if let Some(hidden) = &written.hidden
            && (!(1..=16).contains(&hidden.len()) || hidden.iter().any(|width| !(1..=4096).contains(width)))
        {
            let at = format!("{path}.hidden");
            let help = "write the widths of the hidden layers, 16 at most, each from 1 to 4096: [16, 6, 16]";
            self.bad(&at, format!("`{at}` are no widths of layers"), "1 to 16 widths from 1 to 4096", help);
        }
        if let Some(weight) = written.kl_weight.filter(|weight| !(0.0..=1000.0).contains(weight)) {
            let at = format!("{path}.kl_weight");
            let help = "write a number from 0 to 1000; 0.001 suits most data";
            self.bad(&at, format!("`{at}` is {weight}"), "from 0 to 1000", help);
        }
        let backend = written.backend.as_deref().map_or(Some(TrainBackend::BuiltIn), |word| {
            self.word(&format!("{path}.backend"), word, &TrainBackend::WORDS)
        });
        let architecture = written.architecture.as_deref().map_or(Some(TrainArchitecture::Autoencoder), |word| {
            self.word(&format!("{path}.architecture"), word, &TrainArchitecture::WORDS)
        });
        Some(TrainPlan {
            pipeline: pipeline?,
            level: level.flatten(),
            features: written.features.clone(),
            backend: backend?,
            architecture: architecture?,
            kl_weight: written.kl_weight,
            hidden: written.hidden.clone(),
            seeds: written.seeds,
            epochs: written.epochs,
            max_rows: written.max_rows,
        })
    }

    /// Models are trained on levels and features that their pipeline has.
    pub(super) fn trainable(&mut self, models: &Named<ModelPlan>, pipelines: &Named<PipelinePlan>) {
        for (id, train) in models.iter().filter_map(|(id, m)| Some((id, m.train.as_ref()?))) {
            let Some(pipeline) = pipelines.get(&train.pipeline) else { continue };
            let kinds: Vec<KeyKind> = pipeline.keys.iter().map(|k| k.kind).collect();
            let names = || quoted_list(kinds.iter().map(|k| k.name()));
            let path = format!("models.{id}.train");
            match train.level {
                Some(level) if !kinds.contains(&level) => {
                    let at = format!("{path}.level");
                    let text = format!("pipeline `{}` does not aggregate by `{}`", pipeline.id, level.name());
                    let wrong =
                        self.findings.about(code::UNKNOWN_LEVEL, &at, text).label("not a level of the pipeline");
                    self.findings.push(&at, wrong.help(format!("levels of the pipeline: {}", names())));
                }
                None if kinds.len() > 1 => {
                    let text = format!("`{path}` has no `level`, and pipeline `{}` has several", pipeline.id);
                    let missing = self.findings.about(code::MISSING_KEY, &path, text).label("`level` belongs here");
                    self.findings.push(&path, missing.help(format!("add `level = ...`: one of {}", names())));
                }
                _ => {}
            }
            for (i, name) in train.features.iter().flatten().enumerate() {
                if !pipeline.features.contains(name) {
                    let at = format!("{path}.features[{i}]");
                    let text = format!("pipeline `{}` has no feature `{name}`", pipeline.id);
                    let wrong = self.findings.about(code::UNKNOWN_FEATURE, &at, text).label("not in the pipeline");
                    let help = format!("add it to `pipelines.{}.features`, or remove it here", pipeline.id);
                    self.findings.push(&at, wrong.help(help));
                }
            }
        }
    }
}
