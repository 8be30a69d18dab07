//! Rows that a model of benign traffic finds rare. The host scores them; the features never come here.
//!
//! The score of a row is its tail, -log10 of how often a benign row is as odd. The limit follows from the false alarms
//! a day that the operator accepts.

pub mod config;

use config::Config;
use kaminari_plugin_sdk::inference::{FeatureError, Model};
use kaminari_plugin_sdk::{Column, prelude::*, short};

/// Features that an alert names as its reasons.
const REASONS: usize = 8;
/// Of those in its message.
const TOLD: usize = 3;

/// Nobody has seen so many rows: beyond this the tail is only a direction.
const MEANINGFUL: f64 = 15.0;

/// The detector.
pub struct Autoencoder {
    config: Config,
    model: Model,
}

impl Detector for Autoencoder {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        config.check()?;
        let bad = |e: Error| error::config("model", e.to_string());
        let model = Model::open(&config.model).map_err(bad)?;
        model.limit(config.false_alarms_per_day).map_err(bad)?;
        Ok(Self { config, model })
    }

    fn requires(&self, schema: &Schema) -> Result<()> {
        let features = self.model.info()?.features;
        let missing = |name: &&String| schema.field(name).is_none_or(|field| !field.ty.is_numeric());
        let missing: Vec<_> = features.iter().filter(missing).map(|name| format!("`{name}`")).collect();
        if !missing.is_empty() {
            let (model, missing) = (&self.config.model, missing.join(", "));
            let message = format!("model `{model}` takes features that the pipeline does not have: {missing}");
            return Err(error::config("model", message));
        }
        self.config.min_volume.keys().try_for_each(|name| schema.require(format!("min_volume.{name}"), name))
    }

    fn detect(&mut self, _window: &Window, batch: &Batch) -> Result<Verdict> {
        // Asked anew: the host follows the traffic, and the model may have been swapped.
        let limit = self.model.limit(self.config.false_alarms_per_day)?;
        let scores = self.model.tails(batch)?;
        let mut rows: Vec<u32> = (0u32..).zip(&scores).filter(|(_, s)| **s >= limit).map(|(row, _)| row).collect();
        if !rows.is_empty() {
            let volumes = self.config.min_volume.iter().map(|(name, least)| Ok((batch.f64s(name)?, *least)));
            let volumes: Vec<(Column<f64>, f64)> = volumes.collect::<Result<_>>()?;
            rows.retain(|&row| volumes.iter().all(|(values, least)| values[row as usize] >= *least));
        }
        // The rarest first: the host takes only so many alerts from one call.
        rows.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
        let errors = self.model.explain(batch, &rows)?;
        let alerts =
            rows.iter().zip(errors).map(|(&row, errors)| self.alert(row, scores[row as usize], limit, &errors));
        let alerts = alerts.collect();
        Ok(Verdict { scores, alerts })
    }
}

impl Autoencoder {
    fn alert(&self, row: u32, score: f64, limit: f64, errors: &[FeatureError]) -> Alert {
        let reasons = reasons(errors);
        let severity = self.config.severity.severity(score - limit);
        let mut message = match score {
            s if s > MEANINGFUL => format!("unlike benign traffic (rarer than 1 in 10^{MEANINGFUL:.0})"),
            s => format!("unlike benign traffic (1 in 10^{s:.1})"),
        };
        for (i, (error, _)) in reasons.iter().take(TOLD).enumerate() {
            let (observed, expected) = (short(error.observed), short(error.expected));
            let before = if i == 0 { ": " } else { ", " };
            message.push_str(&format!("{before}{} is {observed} where {expected} is expected", error.column));
        }
        let alert = Alert::new("anomaly", severity).row(row as usize).score(score, limit).message(message);
        let because = |alert: Alert, (error, weight): &(&FeatureError, f64)| {
            alert.because(&error.column, *weight, error.observed, error.expected)
        };
        reasons.iter().fold(alert, because)
    }
}

/// The features with the largest errors and their shares, which sum to 1. Of the log of the errors, as the score has
/// them: else one wild feature would hide the others.
fn reasons(errors: &[FeatureError]) -> Vec<(&FeatureError, f64)> {
    let largest = &errors[..errors.len().min(REASONS)];
    let sum: f64 = largest.iter().map(|e| e.error.ln_1p()).sum();
    let shares = largest.iter().map(|e| (e, e.error.ln_1p() / sum));
    shares.filter(|(_, share)| *share > 0.0).collect()
}

export_detector!(Autoencoder, name = "autoencoder");

#[cfg(test)]
mod tests;
