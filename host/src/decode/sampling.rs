//! Which sampling rate a record has. Comes in: options data, the record's own fields, the config; goes out: N of
//! 1-in-N and where it came from. Order: config override > record > options by (domain, sampler) > options of the
//! exporter > config default > unknown (0). Nothing is guessed beyond that: an unknown rate stays visible.

use super::stats::RateOrigin;
use crate::config::decode_options::DecodeOptions;
use crate::model::saved::{Loader, NotLoaded, Saver};
use std::collections::HashMap;
use std::net::IpAddr;

/// Samplers kept per exporter: a box has a handful; more are a mistake or an attack.
const MAX_SAMPLERS: usize = 1024;

/// What one exporter said in options data, and what the config says about it.
#[derive(Debug)]
pub(crate) struct Sampling {
    fixed: Option<u64>,
    default: Option<u64>,
    by_sampler: HashMap<(u32, u64), u64>,
    by_domain: HashMap<u32, u64>,
    /// Rate of the options record that came last, without a sampler: some exporters send options under another domain
    /// than the data.
    any: Option<u64>,
    /// Rises with every change, so that users may remember an answer.
    pub generation: u64,
}

impl Sampling {
    /// What the config says about the exporter `peer`.
    pub fn new(options: &DecodeOptions, peer: IpAddr) -> Self {
        let best = options.sampling_overrides.iter().filter(|(net, _)| net.contains(&peer));
        Self {
            fixed: best.max_by_key(|(net, _)| net.prefix_len()).map(|(_, rate)| *rate),
            default: options.sampling_rate,
            by_sampler: HashMap::new(),
            by_domain: HashMap::new(),
            any: None,
            generation: 0,
        }
    }

    /// Takes a rate from options data.
    pub fn learn(&mut self, domain: u32, sampler: Option<u64>, rate: u64) {
        if rate == 0 {
            return;
        }
        let before = match sampler {
            Some(id) if self.by_sampler.len() < MAX_SAMPLERS || self.by_sampler.contains_key(&(domain, id)) => {
                self.by_sampler.insert((domain, id), rate)
            }
            Some(_) => Some(rate),
            None => {
                self.any = Some(rate);
                if self.by_domain.len() < MAX_SAMPLERS || self.by_domain.contains_key(&domain) {
                    self.by_domain.insert(domain, rate)
                } else {
                    Some(rate)
                }
            }
        };
        if before != Some(rate) {
            self.generation += 1;
        }
    }

    /// The rate of a record that names `sampler` (or none) and states `own` (0: nothing).
    pub fn resolve(&self, domain: u32, sampler: Option<u64>, own: u64) -> (u64, RateOrigin) {
        if let Some(rate) = self.fixed {
            return (rate, RateOrigin::Override);
        }
        if own > 0 {
            return (own, RateOrigin::Record);
        }
        self.by_options(domain, sampler)
            .or(self.default.map(|rate| (rate, RateOrigin::Config)))
            .unwrap_or((0, RateOrigin::Unknown))
    }

    fn by_options(&self, domain: u32, sampler: Option<u64>) -> Option<(u64, RateOrigin)> {
        if let Some(id) = sampler {
            let here = self.by_sampler.get(&(domain, id)).copied();
            let rate = here.or_else(|| agreed(self.by_sampler.iter().filter(|((_, i), _)| *i == id)));
            if let Some(rate) = rate {
                return Some((rate, RateOrigin::Sampler));
            }
        }
        let of_domain = self.by_domain.get(&domain).copied().or(self.any);
        // A record without a sampler id of an exporter whose samplers all have one rate has that rate.
        let rate = of_domain.or_else(|| if sampler.is_none() { agreed(self.by_sampler.iter()) } else { None });
        rate.map(|rate| (rate, RateOrigin::Exporter))
    }
}

/// What an exporter said, without what the config says about it.
#[derive(Debug, Default)]
pub(crate) struct SavedRates {
    by_sampler: Vec<(u32, u64, u64)>,
    by_domain: Vec<(u32, u64)>,
    any: Option<u64>,
}

impl Sampling {
    /// True when the exporter has said nothing.
    pub fn is_empty(&self) -> bool {
        self.by_sampler.is_empty() && self.by_domain.is_empty() && self.any.is_none()
    }

    /// What the exporter said.
    pub fn save(&self, s: &mut Saver) {
        s.count(self.by_sampler.len());
        for ((domain, sampler), rate) in &self.by_sampler {
            s.u32(*domain);
            s.u64(*sampler);
            s.u64(*rate);
        }
        s.count(self.by_domain.len());
        for (domain, rate) in &self.by_domain {
            s.u32(*domain);
            s.u64(*rate);
        }
        s.option(self.any, Saver::u64);
    }

    /// Learns again what was saved.
    pub fn restore(&mut self, saved: SavedRates) {
        let any = saved.any.filter(|rate| *rate > 0).or(self.any);
        for (domain, sampler, rate) in saved.by_sampler {
            self.learn(domain, Some(sampler), rate);
        }
        for (domain, rate) in saved.by_domain {
            self.learn(domain, None, rate);
        }
        self.any = any;
        self.generation += 1;
    }
}

impl SavedRates {
    pub fn load(l: &mut Loader<'_>) -> Result<Self, NotLoaded> {
        Ok(Self {
            by_sampler: (0..l.count(20)?).map(|_| Ok((l.u32()?, l.u64()?, l.u64()?))).collect::<Result<_, _>>()?,
            by_domain: (0..l.count(12)?).map(|_| Ok((l.u32()?, l.u64()?))).collect::<Result<_, _>>()?,
            any: l.option(Loader::u64)?,
        })
    }
}

/// The rate that all of them have, if there is one.
fn agreed<'a>(rates: impl Iterator<Item = (&'a (u32, u64), &'a u64)>) -> Option<u64> {
    let mut rates = rates.map(|(_, rate)| *rate);
    let first = rates.next()?;
    rates.all(|rate| rate == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(options: &DecodeOptions) -> Sampling {
        Sampling::new(options, "192.0.2.1".parse().unwrap())
    }

    #[test]
    fn nearest_word_wins() {
        let mut options = DecodeOptions { sampling_rate: Some(7), ..Default::default() };
        let mut s = sampling(&options);
        assert_eq!(s.resolve(1, None, 0), (7, RateOrigin::Config));
        s.learn(1, None, 100);
        s.learn(1, Some(5), 1000);
        s.learn(2, Some(6), 2000);
        assert_eq!(s.resolve(1, Some(5), 0), (1000, RateOrigin::Sampler));
        assert_eq!(s.resolve(1, Some(6), 0), (2000, RateOrigin::Sampler), "options under another domain");
        assert_eq!(s.resolve(1, Some(9), 0), (100, RateOrigin::Exporter));
        assert_eq!(s.resolve(3, None, 0), (100, RateOrigin::Exporter));
        assert_eq!(s.resolve(1, Some(5), 64), (64, RateOrigin::Record));
        options.sampling_overrides.insert("192.0.2.0/24".parse().unwrap(), 4);
        options.sampling_overrides.insert("192.0.2.1/32".parse().unwrap(), 8);
        assert_eq!(sampling(&options).resolve(1, Some(5), 64), (8, RateOrigin::Override));
    }

    #[test]
    fn an_unknown_rate_stays_unknown() {
        let mut s = sampling(&DecodeOptions::default());
        assert_eq!(s.resolve(1, None, 0), (0, RateOrigin::Unknown));
        s.learn(1, Some(1), 100);
        s.learn(1, Some(2), 200);
        assert_eq!(s.resolve(1, None, 0), (0, RateOrigin::Unknown), "two samplers, none named");
        assert_eq!(s.resolve(1, Some(3), 0), (0, RateOrigin::Unknown), "a sampler nobody described");
    }

    #[test]
    fn samplers_are_bounded() {
        let mut s = sampling(&DecodeOptions::default());
        for id in 0..10_000 {
            s.learn(1, Some(id), 10);
            s.learn(id as u32, None, 10);
        }
        assert!(s.by_sampler.len() <= MAX_SAMPLERS && s.by_domain.len() <= MAX_SAMPLERS);
    }
}
