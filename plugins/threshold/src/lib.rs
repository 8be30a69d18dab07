//! Static limits, and limits that follow each entity's own level.
//!
//! Works rule by rule over whole columns and touches only those its rules name. The score of a row is the largest of
//! what its rules say: observed over limit. Above 1 it alerts.

pub mod config;
mod memory;

use config::{Adaptive, Condition, Config};
use kaminari_plugin_sdk::{Lanes, prelude::*, short};

/// A deviation is taken to be at least this share of the level: an entity that was perfectly steady may still move.
const MIN_RELATIVE_DEVIATION: f64 = 0.05;

/// The detector.
pub struct Threshold {
    config: Config,
    /// Levels per entity, one per adaptive rule.
    levels: KeyMap<Box<[Ewma]>>,
    /// Entities alerted of late: hysteresis.
    alerted: KeyMap<Alerted>,
}

/// When and by which rules an entity was last alerted.
struct Alerted {
    /// End of that window.
    end_ns: u64,
    /// Bit i: rule i, limits first, then adaptive ones. Rules past the 64th have no hysteresis.
    rules: u64,
}

/// One rule broken by one row.
struct Hit {
    row: u32,
    rule: u32,
    ratio: f64,
    /// The limit; for adaptive rules level plus allowed deviations.
    limit: f64,
    /// What is normal for the entity: the limit of a static rule, the level of an adaptive one.
    expected: f64,
}

impl Detector for Threshold {
    type Config = Config;
    const STATE_VERSION: u32 = 1;

    fn new(config: Config) -> Result<Self> {
        config.check()?;
        let max = config.max_entities;
        Ok(Self { config, levels: KeyMap::new(max), alerted: KeyMap::new(max) })
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        self.save()
    }

    fn restore(&mut self, _version: u32, bytes: &[u8]) -> Result<()> {
        self.load(bytes)
    }

    fn requires(&self, schema: &Schema) -> Result<()> {
        self.config.features_exist(schema)
    }

    fn detect(&mut self, window: &Window, batch: &Batch) -> Result<Verdict> {
        // A static limit always has an opinion: a feature without a value does not break it.
        let mut scores = vec![if self.config.limits.is_empty() { f64::NAN } else { 0.0 }; batch.len()];
        let mut hits = Vec::new();
        for rule in 0..self.config.limits.len() {
            self.limit(rule, window, batch, &mut scores, &mut hits)?;
        }
        if !self.config.adaptive.is_empty() {
            self.adapt(window, batch, &mut scores, &mut hits)?;
        }
        let mut verdict = Verdict::scores(scores);
        if !hits.is_empty() {
            self.alert(window, batch, hits, &mut verdict)?;
        }
        Ok(verdict)
    }
}

impl Threshold {
    /// One static rule over all rows.
    fn limit(
        &mut self,
        rule: usize,
        window: &Window,
        batch: &Batch,
        scores: &mut [f64],
        hits: &mut Vec<Hit>,
    ) -> Result<()> {
        let limit = &self.config.limits[rule];
        let values = batch.f64s(&limit.feature)?;
        let conditions = columns(batch, &limit.when)?;
        let inverse = 1.0 / limit.above;
        let floor = if self.alerted.is_empty() { 1.0 } else { self.config.hysteresis };
        let near = match &conditions[..] {
            [] => raise(scores, &values, inverse, floor),
            [(condition, y)] => raise_where(scores, &values, y, condition.bounds(), inverse, floor),
            many => {
                let mut all_hold = vec![1.0; values.len()];
                many.iter().for_each(|(condition, y)| clear_unless(&mut all_hold, y, condition.bounds()));
                raise_where(scores, &values, &all_hold, (0.5, f64::INFINITY), inverse, floor)
            }
        };
        if !near {
            return Ok(());
        }
        for (row, ratio) in values.iter().map(|x| x * inverse).enumerate().filter(|(_, r)| *r > floor) {
            if !conditions.iter().all(|(condition, y)| condition.holds(y[row])) {
                continue;
            }
            if ratio > 1.0 || still_alerted(&mut self.alerted, window, &batch.keys()?[row], rule) {
                let limit = limit.above;
                hits.push(Hit { row: row as u32, rule: rule as u32, ratio, limit, expected: limit });
                // An alert scores at least its threshold, also on the way down.
                scores[row] = higher(scores[row], 1.0);
            }
        }
        Ok(())
    }

    /// All adaptive rules, row by row: one look-up of the entity's levels serves them all.
    fn adapt(&mut self, window: &Window, batch: &Batch, scores: &mut [f64], hits: &mut Vec<Hit>) -> Result<()> {
        let first = self.config.limits.len();
        let rules = &self.config.adaptive;
        let keys = batch.keys()?;
        let values = rules.iter().map(|r| batch.f64s(&r.feature)).collect::<Result<Vec<_>>>()?;
        let conditions = rules.iter().map(|r| columns(batch, &r.when)).collect::<Result<Vec<_>>>()?;
        let learns = window.is_final();
        for (row, key) in keys.iter().enumerate() {
            let levels = self.levels.get_or_insert_with(key, || new_levels(rules));
            for (i, rule) in rules.iter().enumerate() {
                let (x, level) = (values[i][row], &mut levels[i]);
                let warm = level.count() >= rule.warm_up_windows;
                let deviation = higher(level.deviation(), level.level().abs() * MIN_RELATIVE_DEVIATION);
                let limit = level.level() + rule.sigma * deviation;
                if warm {
                    let holds = x > rule.min && conditions[i].iter().all(|(c, column)| c.holds(column[row]));
                    // Deviations above the level, as a share of what is allowed.
                    let ratio = if holds { excess(x - level.level(), rule.sigma * deviation) } else { 0.0 };
                    scores[row] = if scores[row].is_nan() { ratio } else { higher(scores[row], ratio) };
                    let hit = ratio > 1.0
                        || ratio > self.config.hysteresis && still_alerted(&mut self.alerted, window, key, first + i);
                    if hit {
                        let (row_, rule_) = (row as u32, (first + i) as u32);
                        hits.push(Hit { row: row_, rule: rule_, ratio, limit, expected: level.level() });
                        scores[row] = higher(scores[row], 1.0);
                    }
                }
                if learns {
                    // What is above the limit teaches no more than the limit: an attack does not become normal in
                    // a few windows, and a level that rose for good is learned in the end.
                    let most = higher(limit, rule.min);
                    level.update(if warm && x > most { most } else { x });
                }
            }
        }
        Ok(())
    }

    /// One alert per row with hits; the first of the most severe rules names it.
    fn alert(&mut self, window: &Window, batch: &Batch, mut hits: Vec<Hit>, verdict: &mut Verdict) -> Result<()> {
        let keys = batch.keys()?;
        hits.sort_by_key(|h| (h.row, std::cmp::Reverse(self.rule(h.rule).severity), h.rule));
        for hits in hits.chunk_by(|a, b| a.row == b.row) {
            let row = hits[0].row as usize;
            let rules = hits.iter().filter(|h| h.rule < 64).fold(0, |bits, h| bits | 1 << h.rule);
            *self.alerted.get_or_insert_with(&keys[row], || Alerted { end_ns: 0, rules: 0 }) =
                Alerted { end_ns: window.end_ns, rules };
            verdict.push(self.describe(batch, hits, verdict.scores[row])?);
        }
        Ok(())
    }

    fn describe(&self, batch: &Batch, hits: &[Hit], score: f64) -> Result<Alert> {
        let row = hits[0].row as usize;
        let mut alert = Alert::new("", Severity::Info).row(row).score(score, 1.0);
        for hit in hits {
            let rule = self.rule(hit.rule);
            explain(&mut alert, rule.feature, hit.ratio, batch.f64s(rule.feature)?[row], hit.expected);
            for condition in rule.when {
                let x = batch.f64s(&condition.feature)?[row];
                let (ratio, bound) = match (condition.above, condition.below) {
                    (Some(above), _) => (excess(x, above), above),
                    (None, below) => (excess(below.unwrap_or(x), x), below.unwrap_or(f64::NAN)),
                };
                explain(&mut alert, &condition.feature, ratio, x, bound);
            }
        }
        let total: f64 = alert.contributions.iter().map(|c| c.weight).sum();
        alert.contributions.iter_mut().for_each(|c| c.weight /= total);
        alert.contributions.sort_by(|a, b| b.weight.total_cmp(&a.weight));

        let (hit, rule) = (&hits[0], self.rule(hits[0].rule));
        let x = batch.f64s(rule.feature)?[row];
        alert.kind = rule.name.to_owned();
        alert.severity = rule.severity;
        alert.message = if hit.ratio <= 1.0 {
            format!("{} is {}, not yet clearly below the limit of {}", rule.feature, short(x), short(hit.limit))
        } else if rule.adaptive {
            format!(
                "{} is {} where {} is usual for this entity (limit {})",
                rule.feature,
                short(x),
                short(hit.expected),
                short(hit.limit)
            )
        } else {
            format!("{} is {}, {:.1} times the limit of {}", rule.feature, short(x), hit.ratio, short(hit.limit))
        };
        for condition in rule.when {
            let x = batch.f64s(&condition.feature)?[row];
            alert.message.push_str(&format!(", with {} at {}", condition.feature, short(x)));
        }
        if hits.len() > 1 {
            let others: Vec<_> = hits[1..].iter().map(|h| self.rule(h.rule).name).collect();
            alert = alert.attribute("also", others.join(", "));
        }
        Ok(alert)
    }

    fn rule(&self, rule: u32) -> Rule<'_> {
        let (rule, limits) = (rule as usize, &self.config.limits);
        match limits.get(rule) {
            Some(r) => {
                Rule { name: &r.name, feature: &r.feature, when: &r.when, severity: r.severity, adaptive: false }
            }
            None => {
                let r = &self.config.adaptive[rule - limits.len()];
                Rule { name: &r.name, feature: &r.feature, when: &r.when, severity: r.severity, adaptive: true }
            }
        }
    }
}

/// What both kinds of rules have in common.
struct Rule<'a> {
    name: &'a str,
    feature: &'a str,
    when: &'a [Condition],
    severity: Severity,
    adaptive: bool,
}

/// Rows a turn of the loops over columns: the deadline is checked once a turn.
const TURN: usize = 4 * Lanes::LEN;

/// Raises scores to `x * inverse`. Whether any of those is above `floor`.
fn raise(scores: &mut [f64], x: &[f64], inverse: f64, floor: f64) -> bool {
    let mut near = false;
    let ((scores, scores_rest), (x, x_rest)) = (scores.as_chunks_mut::<TURN>(), x.as_chunks::<TURN>());
    for (scores, x) in scores.iter_mut().zip(x) {
        for (score, x) in scores.as_chunks_mut().0.iter_mut().zip(x.as_chunks().0) {
            let ratio = Lanes::load(x) * Lanes::splat(inverse);
            Lanes::load(score).higher(ratio).store(score);
            near |= ratio.above(Lanes::splat(floor)).any();
        }
    }
    for (score, x) in scores_rest.iter_mut().zip(x_rest) {
        *score = higher(*score, x * inverse);
        near |= x * inverse > floor;
    }
    near
}

/// As [`raise`] where `y` lies within the bounds; elsewhere the rule says 0.
fn raise_where(scores: &mut [f64], x: &[f64], y: &[f64], (above, below): (f64, f64), inverse: f64, floor: f64) -> bool {
    let mut near = false;
    let ((scores, scores_rest), (x, x_rest), (y, y_rest)) =
        (scores.as_chunks_mut::<TURN>(), x.as_chunks::<TURN>(), y.as_chunks::<TURN>());
    for ((scores, x), y) in scores.iter_mut().zip(x).zip(y) {
        let eights = scores.as_chunks_mut().0.iter_mut().zip(x.as_chunks().0).zip(y.as_chunks().0);
        for ((score, x), y) in eights {
            let y = Lanes::load(y);
            let within = y.above(Lanes::splat(above)) & Lanes::splat(below).above(y);
            let ratio = (Lanes::load(x) * Lanes::splat(inverse)).only(within);
            Lanes::load(score).higher(ratio).store(score);
            near |= ratio.above(Lanes::splat(floor)).any();
        }
    }
    for ((score, x), y) in scores_rest.iter_mut().zip(x_rest).zip(y_rest) {
        let ratio = if *y > above && *y < below { x * inverse } else { 0.0 };
        *score = higher(*score, ratio);
        near |= ratio > floor;
    }
    near
}

/// 0 where `y` lies outside the bounds.
fn clear_unless(mask: &mut [f64], y: &[f64], (above, below): (f64, f64)) {
    for (mask, &y) in mask.iter_mut().zip(y) {
        *mask = if (y > above) & (y < below) { *mask } else { 0.0 };
    }
}

/// As `f64::max` of two numbers. That one minds NaN, which in WebAssembly is a call instead of an instruction.
#[inline]
fn higher(a: f64, b: f64) -> f64 {
    if a < b { b } else { a }
}

fn new_levels(rules: &[Adaptive]) -> Box<[Ewma]> {
    rules.iter().map(|r| Ewma::half_life(r.half_life_windows)).collect()
}

type Columns<'a> = Vec<(&'a Condition, kaminari_plugin_sdk::Column<f64>)>;

fn columns<'a>(batch: &Batch, when: &'a [Condition]) -> Result<Columns<'a>> {
    when.iter().map(|c| Ok((c, batch.f64s(&c.feature)?))).collect()
}

/// Alerted by this rule in a window that touches or overlaps this one.
fn still_alerted(alerted: &mut KeyMap<Alerted>, window: &Window, key: &Key, rule: usize) -> bool {
    rule < 64 && alerted.get_mut(key).is_some_and(|a| a.rules & 1 << rule != 0 && a.end_ns >= window.start_ns)
}

/// `x / limit`, finite also where the limit is 0 (a level that never moved).
fn excess(x: f64, limit: f64) -> f64 {
    const HIGHEST: f64 = 1e6;
    if limit > 0.0 {
        (x / limit).clamp(0.0, HIGHEST)
    } else if x > 0.0 {
        HIGHEST
    } else {
        0.0
    }
}

/// Adds a feature to the reasons, or raises its weight where it is one already.
fn explain(alert: &mut Alert, feature: &str, ratio: f64, observed: f64, expected: f64) {
    let weight = ratio.max(f64::MIN_POSITIVE);
    match alert.contributions.iter_mut().find(|c| c.column == feature) {
        Some(known) => known.weight = known.weight.max(weight),
        None => alert.contributions.push(Contribution { column: feature.to_owned(), weight, observed, expected }),
    }
}

export_detector!(Threshold, name = "threshold");

#[cfg(test)]
mod tests;
