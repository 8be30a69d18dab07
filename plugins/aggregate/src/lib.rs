//! Rows of a window to features per entity, as the operator says: which column (or which part of a text) is the entity, and
//! what is counted, summed or compared. In: rows of any source. Out: one row per entity. Rows without an entity are left
//! out, and counted in `kaminari_plugin_custom_rows_without_entity` where metrics are granted.

mod fold;
mod select;

use fold::{Fold, Kind};
use kaminari_plugin_sdk::prelude::*;
use select::{Columns, Condition, Pattern, Rule};
use std::collections::HashMap;

config! {
    /// `extract.config` of a pipeline of records.
    pub struct Config {
        /// What a row is about; without it all rows are about one thing.
        entity: Option<Entity>,
        /// Rows that count at all: all of these must hold.
        #[serde(default)]
        r#where: Vec<RuleConfig>,
        /// Columns of the features, in order.
        features: Vec<Feature>,
    }
    /// Where the entity stands.
    pub struct Entity {
        /// Name of its column in the features: `records.entity` names it.
        name: String,
        /// Column of the rows: text, or an address.
        column: String,
        /// Part of the text: a regular expression whose first group that matches is the entity.
        pattern: Option<String>,
    }
    /// One feature.
    pub struct Feature {
        /// Its name.
        name: String,
        /// `count`, `rate` (a second), `sum`, `mean`, `min`, `max`, `first`, `last` or `distinct`.
        of: Kind,
        /// Column that it is about; not for `count` and `rate`.
        column: Option<String>,
        /// Rows that it is about: all of these must hold.
        #[serde(default)]
        r#where: Vec<RuleConfig>,
    }
    /// A condition on one column: exactly one of `matches`, `equals`, or `above` and `below`.
    pub struct RuleConfig {
        column: String,
        /// The text has a match of this regular expression.
        matches: Option<String>,
        /// The text is one of these.
        equals: Option<Vec<String>>,
        /// The number is above this.
        above: Option<f64>,
        /// The number is below this.
        below: Option<f64>,
    }
}

/// The extractor.
pub struct Aggregate {
    entity: Option<(String, String, Option<Pattern>)>,
    rules: Vec<Rule>,
    features: Vec<Plan>,
}

struct Plan {
    name: String,
    of: Kind,
    column: Option<String>,
    rules: Vec<Rule>,
}

impl Extractor for Aggregate {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if config.features.is_empty() {
            return Err(error::config("features", "name at least one"));
        }
        let entity = match config.entity {
            None => None,
            Some(Entity { name, column, pattern }) => {
                let pattern = pattern.map(|p| Pattern::capturing("entity.pattern", &p)).transpose()?;
                Some((name, column, pattern))
            }
        };
        let mut features: Vec<Plan> = Vec::new();
        for (i, feature) in config.features.into_iter().enumerate() {
            let at = format!("features[{i}]");
            let taken = entity.as_ref().is_some_and(|(name, ..)| *name == feature.name);
            if taken || features.iter().any(|f| f.name == feature.name) {
                return Err(error::config(format!("{at}.name"), format!("`{}` is there already", feature.name)));
            }
            match (&feature.column, feature.of.needs_column()) {
                (None, true) => return Err(error::config(at, "add the `column` that it is about")),
                (Some(_), false) => {
                    return Err(error::config(format!("{at}.column"), "it is about rows, not a column"));
                }
                _ => {}
            }
            let rules = rules(&format!("{at}.where"), feature.r#where)?;
            features.push(Plan { name: feature.name, of: feature.of, column: feature.column, rules });
        }
        Ok(Self { entity, rules: rules("where", config.r#where)?, features })
    }

    fn schema(&self, input: &Schema) -> Result<Schema> {
        let known = || input.fields.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ");
        let field = |at: String, name: &str| {
            input
                .field(name)
                .ok_or_else(|| error::config(at, format!("the rows have no column `{name}`; they have {}", known())))
        };
        let checked = |at: String, rule: &Rule| match (&rule.condition, field(format!("{at}.column"), &rule.column)?.ty)
        {
            (Condition::Number { .. }, ty) if !ty.is_numeric() => {
                Err(error::config(at, format!("`{}` is no number", rule.column)))
            }
            (Condition::Matches(_) | Condition::Equals(_), ty) if ty.is_numeric() => {
                Err(error::config(at, format!("`{}` is a number: use `above` and `below`", rule.column)))
            }
            _ => Ok(()),
        };
        for (i, rule) in self.rules.iter().enumerate() {
            checked(format!("where[{i}]"), rule)?;
        }
        let mut columns = Vec::new();
        if let Some((name, column, pattern)) = &self.entity {
            let ty = field("entity.column".into(), column)?.ty;
            if ty.is_numeric() || (pattern.is_some() && ty == DataType::Ip) {
                return Err(error::config("entity.column", format!("`{column}` is no text")));
            }
            columns.push((name.as_str(), if ty == DataType::Ip { ty } else { DataType::Utf8 }));
        }
        for (i, feature) in self.features.iter().enumerate() {
            if let Some(name) = &feature.column {
                let at = format!("features[{i}].column");
                let ty = field(at.clone(), name)?.ty;
                if feature.of != Kind::Distinct && !ty.is_numeric() {
                    return Err(error::config(at, format!("`{name}` is no number")));
                }
            }
            for (j, rule) in feature.rules.iter().enumerate() {
                checked(format!("features[{i}].where[{j}]"), rule)?;
            }
            columns.push((feature.name.as_str(), DataType::Float64));
        }
        Ok(Schema::of(columns))
    }

    fn extract(&mut self, window: &Window, rows: &Batch) -> Result<Rows> {
        let columns = Columns::new(rows);
        let entity = match &self.entity {
            Some((_, column, pattern)) => Some((columns.bytes(column)?, pattern.as_ref())),
            None => None,
        };
        let rules = columns.bind(&self.rules)?;
        let features =
            self.features.iter().map(|f| Ok((columns.bind(&f.rules)?, columns.value(f.of, f.column.as_deref())?)));
        let features: Vec<_> = features.collect::<Result<_>>()?;
        let seconds = (window.end_ns - window.start_ns) as f64 / 1e9;

        // In the order of their first rows: the same rows always give the same features.
        let mut order: Vec<Vec<u8>> = Vec::new();
        let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut folds: Vec<Fold> = Vec::new();
        let mut without = 0u64;
        for row in 0..rows.len() {
            if !rules.iter().all(|rule| rule.holds(row)) {
                continue;
            }
            let key: &[u8] = match &entity {
                None => b"",
                Some((column, pattern)) => {
                    let text = column.get(row).unwrap_or_default();
                    match pattern.map_or(Some(text), |p| p.first_group(text)) {
                        Some(key) if !key.is_empty() => key,
                        _ => {
                            without += 1;
                            continue;
                        }
                    }
                }
            };
            let place = match places.get(key) {
                Some(place) => *place,
                None => {
                    places.insert(key.to_vec(), order.len());
                    order.push(key.to_vec());
                    folds.extend(self.features.iter().map(|f| Fold::new(f.of)));
                    order.len() - 1
                }
            };
            let mine = &mut folds[place * features.len()..][..features.len()];
            for (fold, (rules, value)) in mine.iter_mut().zip(&features) {
                if rules.iter().all(|rule| rule.holds(row)) {
                    fold.add(value, row);
                }
            }
        }
        if without > 0 {
            // Not granted is no reason to fail.
            let _ = metrics::add("rows_without_entity", &[], without);
        }
        let mut out = Rows::new(&self.schema(rows.schema())?);
        let first = usize::from(self.entity.is_some());
        for (key, folds) in order.iter().zip(folds.chunks(self.features.len())) {
            if first == 1 {
                out.bytes(0, key);
            }
            for (i, fold) in folds.iter().enumerate() {
                out.f64(first + i, fold.value(seconds));
            }
            out.end_row();
        }
        Ok(out)
    }
}

fn rules(at: &str, rules: Vec<RuleConfig>) -> Result<Vec<Rule>> {
    let rule = |(i, rule): (usize, RuleConfig)| {
        let at = format!("{at}[{i}]");
        let number = rule.above.is_some() || rule.below.is_some();
        let condition = match (rule.matches, rule.equals, number) {
            (Some(pattern), None, false) => Condition::Matches(Pattern::new(&format!("{at}.matches"), &pattern)?),
            (None, Some(texts), false) => Condition::Equals(texts),
            (None, None, true) => Condition::Number { above: rule.above, below: rule.below },
            _ => return Err(error::config(at, "write one of `matches`, `equals`, or `above` and `below`")),
        };
        Ok(Rule { column: rule.column, condition })
    };
    rules.into_iter().enumerate().map(rule).collect()
}

export_plugin!(name = "aggregate", extractor = Aggregate);

#[cfg(test)]
mod tests;
