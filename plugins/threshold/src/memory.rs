//! What it knows, saved under the names of its rules: whoever comes after, with other limits, more rules or fewer, goes on with what
//! was learned for those that are the same. An adaptive rule is the same by name, feature and half-life.

use super::config::{Adaptive, Config};
use super::{Alerted, Threshold, new_levels};
use kaminari_plugin_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// The same as [`Saved`], with the levels where they lie: there may be many.
#[derive(Serialize)]
struct Saving<'a> {
    adaptive: Vec<(String, String, f64)>,
    levels: Vec<(&'a Key, &'a [Ewma])>,
    rules: Vec<(String, String)>,
    alerted: Vec<(&'a Key, u64, u64)>,
}

#[derive(Deserialize)]
struct Saved {
    /// Adaptive rules, in the order of each entity's levels.
    adaptive: Vec<(String, String, f64)>,
    levels: Vec<(Key, Vec<Ewma>)>,
    /// All rules, in the order of the bits of `alerted`.
    rules: Vec<(String, String)>,
    /// Who was alerted until when, by which rules.
    alerted: Vec<(Key, u64, u64)>,
}

fn identity(rule: &Adaptive) -> (String, String, f64) {
    (rule.name.clone(), rule.feature.clone(), rule.half_life_windows)
}

fn rules(config: &Config) -> Vec<(String, String)> {
    let limits = config.limits.iter().map(|rule| (rule.name.clone(), rule.feature.clone()));
    limits.chain(config.adaptive.iter().map(|rule| (rule.name.clone(), rule.feature.clone()))).collect()
}

impl Threshold {
    pub(super) fn save(&self) -> Result<Vec<u8>> {
        state::to_bytes(&Saving {
            adaptive: self.config.adaptive.iter().map(identity).collect(),
            levels: self.levels.iter().map(|(key, levels)| (key, &**levels)).collect(),
            rules: rules(&self.config),
            alerted: self.alerted.iter().map(|(key, a)| (key, a.end_ns, a.rules)).collect(),
        })
    }

    pub(super) fn load(&mut self, bytes: &[u8]) -> Result<()> {
        let saved: Saved = state::from_bytes(bytes)?;
        if saved.levels.iter().any(|(_, levels)| levels.len() != saved.adaptive.len()) {
            return Err(error::other("the saved state has levels of no rule"));
        }
        let place = |rule: &Adaptive| saved.adaptive.iter().position(|known| *known == identity(rule));
        let places: Vec<Option<usize>> = self.config.adaptive.iter().map(place).collect();
        if places.iter().any(Option::is_some) {
            self.levels.extend(saved.levels.into_iter().map(|(key, known)| {
                let mut levels = new_levels(&self.config.adaptive);
                for (level, place) in levels.iter_mut().zip(&places) {
                    *level = place.map_or(*level, |place| known[place]);
                }
                (key, levels)
            }));
        }
        let now = rules(&self.config);
        let bit = |known: &(String, String)| now.iter().position(|rule| rule == known).filter(|bit| *bit < 64);
        let bits: Vec<Option<usize>> = saved.rules.iter().take(64).map(bit).collect();
        for (key, end_ns, known) in saved.alerted {
            let moved = bits.iter().enumerate().filter(|(old, _)| known & 1 << old != 0).filter_map(|(_, bit)| *bit);
            let rules = moved.fold(0, |rules, bit| rules | 1 << bit);
            if rules != 0 {
                *self.alerted.get_or_insert_with(&key, || Alerted { end_ns, rules: 0 }) = Alerted { end_ns, rules };
            }
        }
        Ok(())
    }
}
