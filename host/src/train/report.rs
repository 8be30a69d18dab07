//! What a training was like, as numbers; `text` and `html` say it to people.

use super::Judged;
use super::options::Kind;
use super::prepare::{Matrix, Seen};
use super::rows::Rows;
use super::run::Run;
use crate::inference::{Manifest, Transform};
use serde::{Deserialize, Serialize};

/// A training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Of the model.
    pub name: String,
    /// Of the model.
    pub version: String,
    /// What trained it.
    pub tool: String,
    /// Level and window, if known.
    pub input: Option<String>,
    /// What kind of autoencoder.
    pub kind: Kind,
    /// Widths of the network.
    pub dims: Vec<usize>,
    /// Which of them is the code of a variational one.
    pub code: Option<usize>,
    /// Rows learnt from.
    pub training: Data,
    /// Rows held back.
    pub validation: Data,
    /// One per seed.
    pub runs: Vec<Run>,
    /// Position of the run that was kept.
    pub best: usize,
    /// In the model's order.
    pub features: Vec<FeatureReport>,
    /// Errors of the validation rows: mean squared, mean log1p; the caller may add the calibrated score.
    pub histograms: Vec<Histogram>,
}

/// Rows that went in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// Used.
    pub rows: u64,
    /// Usable, before thinning.
    pub usable: u64,
    /// Left out: a feature was not finite.
    pub left_out: u64,
    /// First window end.
    pub from_ns: u64,
    /// Last window end.
    pub to_ns: u64,
}

/// One feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureReport {
    /// Column.
    pub name: String,
    /// Applied first.
    pub transform: Transform,
    /// Subtracted.
    pub center: f64,
    /// Divided by.
    pub scale: f64,
    /// Bound of prepared values.
    pub clip: f64,
    /// Training rows, transformed.
    pub seen: Seen,
    /// Validation values at the bound, as a share.
    pub clipped: f64,
    /// Mean squared error in the validation rows.
    pub error: f64,
    /// Greatest squared error of one row.
    pub worst: f64,
    /// Part in the error of all features.
    pub share: f64,
}

impl FeatureReport {
    /// The deviation was so small that the floor took its place.
    pub fn floored(&self) -> bool {
        self.seen.deviation < self.scale
    }
}

/// How often values of a size occur.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// What is counted.
    pub title: String,
    /// Of the axis.
    pub axis: String,
    /// Bins are even in log10 of the value instead of the value.
    pub log: bool,
    /// Start of the first bin (log10, if `log`).
    pub start: f64,
    /// Width of a bin.
    pub step: f64,
    /// Rows per bin.
    pub counts: Vec<u64>,
    /// Limits to draw.
    pub marks: Vec<Mark>,
}

/// A limit in a histogram.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// In the histogram's value.
    pub at: f64,
    /// `1 a day`.
    pub label: String,
}

impl Histogram {
    const BINS: usize = 64;

    /// Counts the finite values. On a log axis values that are not above 0 fall into the first bin.
    pub fn new(title: &str, axis: &str, log: bool, values: &[f32]) -> Self {
        let place = |x: f32| if log { f64::from(x.max(f32::MIN_POSITIVE)).log10() } else { f64::from(x) };
        let counted = || values.iter().copied().filter(|x| x.is_finite());
        let positive = counted().filter(|x| !log || *x > 0.0).map(place);
        let (start, end) = positive.fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(x), b.max(x)));
        let (start, end) = if start > end { (0.0, 1.0) } else { (start, end) };
        let step = ((end - start) / Self::BINS as f64).max(1e-9);
        let mut counts = vec![0; Self::BINS];
        for x in counted() {
            counts[(((place(x) - start) / step).max(0.0) as usize).min(Self::BINS - 1)] += 1;
        }
        Self { title: title.into(), axis: axis.into(), log, start, step, counts, marks: Vec::new() }
    }

    /// Marks a limit.
    pub fn mark(&mut self, at: f64, label: impl Into<String>) {
        self.marks.push(Mark { at, label: label.into() });
    }
}

impl Data {
    pub(super) fn of(rows: &Rows, left_out: usize, most: usize) -> Self {
        let (from_ns, to_ns) = rows.span().unwrap_or_default();
        let usable = rows.len() as u64;
        Self { rows: rows.len().min(most) as u64, usable, left_out: left_out as u64, from_ns, to_ns }
    }
}

impl Report {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        manifest: &Manifest,
        kind: Kind,
        training: Data,
        validation: Data,
        runs: Vec<Run>,
        best: usize,
        seen: Vec<Seen>,
        judged: &Judged,
        rows: &Matrix,
    ) -> Self {
        let total: f64 = judged.features.iter().map(|f| f.0).sum();
        let features = manifest.features.iter().zip(seen).zip(&judged.features).enumerate();
        let features = features.map(|(i, ((spec, seen), (error, worst)))| {
            let bound = spec.clip as f32;
            let clipped = (0..rows.len()).filter(|r| rows.row(*r)[i].abs() >= bound).count();
            FeatureReport {
                name: spec.name.clone(),
                transform: spec.transform,
                center: spec.center,
                scale: spec.scale,
                clip: spec.clip,
                seen,
                clipped: clipped as f64 / rows.len() as f64,
                error: *error,
                worst: *worst,
                share: if total > 0.0 { error / total } else { 0.0 },
            }
        });
        let input = manifest.input.as_ref();
        Self {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            tool: manifest.training.as_ref().map_or_else(String::new, |t| t.tool.clone()),
            input: input.map(|i| format!("level {}, windows of {} s", i.level, i.window_secs)),
            kind,
            dims: manifest.architecture.dims.clone(),
            code: manifest.architecture.code,
            training,
            validation,
            runs,
            best,
            features: features.collect(),
            histograms: vec![
                Histogram::new("Mean squared error", "mean squared error of a row (scales squared)", true, &judged.mse),
                Histogram::new("Mean log1p error", "mean ln(1 + squared error) of a row", true, &judged.log1p),
            ],
        }
    }

    /// `autoencoder, tanh`, or what else it is.
    pub(super) fn architecture(&self) -> String {
        match (self.kind, self.code.and_then(|at| self.dims.get(at))) {
            (Kind::Variational { kl_weight }, Some(code)) => {
                format!("variational autoencoder, tanh, a code of {code}, KL weight {kl_weight}")
            }
            _ => "autoencoder, tanh".into(),
        }
    }

    /// Marks a limit in the histograms of both errors.
    pub fn mark(&mut self, false_alarms_per_day: f64, mse: f64, log1p: f64) {
        for (histogram, at) in self.histograms.iter_mut().zip([mse, log1p]) {
            histogram.mark(at, format!("{false_alarms_per_day}/day"));
        }
    }
}
