//! The report for a terminal, and the remarks that both forms share.

use super::chart::number;
use super::report::{Data, Report};
use crate::inference::Transform;
use crate::model::time::{SECOND, rfc3339};
use std::fmt::Write;

/// Whole numbers in groups of three.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(d);
    }
    out
}

/// A length of time in its largest fitting unit.
pub(super) fn span(data: &Data) -> String {
    let secs = ((data.to_ns - data.from_ns) / SECOND) as f64;
    match secs {
        s if s >= 2.0 * 86_400.0 => format!("{:.1} days", s / 86_400.0),
        s if s >= 2.0 * 3600.0 => format!("{:.1} hours", s / 3600.0),
        s if s >= 120.0 => format!("{:.0} minutes", s / 60.0),
        s => format!("{s:.0} seconds"),
    }
}

pub(super) fn transform(t: Transform) -> &'static str {
    match t {
        Transform::Identity => "identity",
        Transform::Log1p => "log1p",
    }
}

impl Report {
    /// What an operator should look at before the model goes into service.
    pub fn remarks(&self) -> Vec<String> {
        let mut out = Vec::new();
        for (which, data) in [("training", &self.training), ("validation", &self.validation)] {
            if data.left_out > 0 {
                let n = grouped(data.left_out);
                out.push(format!("{n} {which} rows were left out: a feature was not finite"));
            }
        }
        if self.training.rows < self.training.usable {
            let (n, of) = (grouped(self.training.rows), grouped(self.training.usable));
            out.push(format!("training rows were thinned to {n} of {of}"));
        }
        let names = |pick: &dyn Fn(&super::FeatureReport) -> bool| {
            let names: Vec<&str> = self.features.iter().filter(|f| pick(f)).map(|f| f.name.as_str()).collect();
            names.join(", ")
        };
        let flat = names(&|f| f.seen.quantiles[0] == f.seen.quantiles[4]);
        if !flat.is_empty() {
            out.push(format!("constant in training, so that any other value stands out: {flat}"));
        }
        let floored = names(&|f| f.floored() && f.seen.quantiles[0] < f.seen.quantiles[4]);
        if !floored.is_empty() {
            out.push(format!("hardly moves in training, the floor is its scale: {floored}"));
        }
        let clipped = names(&|f| f.clipped > 0.001);
        if !clipped.is_empty() {
            out.push(format!("more than 0.1 % of validation values at the clip: {clipped}"));
        }
        if self.features.len() > 3 {
            let owner = names(&|f| f.share > 0.5);
            if !owner.is_empty() {
                out.push(format!("owns more than half of the validation error: {owner}"));
            }
        }
        let kept = self.runs[self.best].best();
        if kept.validation > 2.0 * kept.training {
            out.push(format!(
                "the validation loss is {:.1} times the training loss: the later traffic differs, or there are too few rows",
                kept.validation / kept.training
            ));
        }
        out
    }

    /// For a terminal.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let dims: Vec<String> = self.dims.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "model       {} {}  ({})", self.name, self.version, dims.join("-"));
        let _ = writeln!(out, "network     {}, trained by {}", self.architecture(), self.tool);
        if let Some(input) = &self.input {
            let _ = writeln!(out, "input       {input}");
        }
        for (which, data) in [("training", &self.training), ("validation", &self.validation)] {
            let (from, to) = (rfc3339(data.from_ns), rfc3339(data.to_ns));
            let _ = writeln!(out, "{which:<11} {} rows, {from} to {to} ({})", grouped(data.rows), span(data));
        }
        let _ = writeln!(out, "\n  seed  epochs  best  training loss  validation loss");
        for (k, run) in self.runs.iter().enumerate() {
            let (best, kept) = (run.best(), if k == self.best { "  kept" } else { "" });
            let early = if run.stopped_early { "  stopped early" } else { "" };
            let _ = writeln!(
                out,
                "{:>6}  {:>6}  {:>4}  {:>13}  {:>15}{kept}{early}",
                run.seed,
                run.epochs.len(),
                run.best + 1,
                number(best.training),
                number(best.validation)
            );
        }
        let wide = self.features.iter().map(|f| f.name.len()).max().unwrap_or(7).max(7);
        let _ = writeln!(
            out,
            "\n{:<wide$}  transform     center      scale  error share  mean error  worst error",
            "feature"
        );
        for f in &self.features {
            let floor = if f.floored() { "*" } else { " " };
            let _ = writeln!(
                out,
                "{:<wide$}  {:<9}  {:>9}  {:>9}{floor} {:>10.1}%  {:>10}  {:>11}",
                f.name,
                transform(f.transform),
                number(f.center),
                number(f.scale),
                f.share * 100.0,
                number(f.error),
                number(f.worst)
            );
        }
        if self.features.iter().any(super::FeatureReport::floored) {
            out.push_str("* the floor is the scale\n");
        }
        for h in self.histograms.iter().filter(|h| !h.marks.is_empty()) {
            let marks: Vec<String> = h.marks.iter().map(|m| format!("{} at {}", number(m.at), m.label)).collect();
            let _ = writeln!(out, "limits of the {}: {}", h.title.to_lowercase(), marks.join(", "));
        }
        for remark in self.remarks() {
            let _ = writeln!(out, "note: {remark}");
        }
        out
    }
}
