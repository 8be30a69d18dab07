//! Background, attacks and exporters moved forward together, one tick of event time after the other.

use super::GenerateError;
use super::attacks::{Attack, AttackSpec};
use super::dist::mix;
use super::encode::{V5_MAX_SAMPLING, Version};
use super::exporter::{BENIGN, Exporter};
use super::traffic::{Background, MAX_HOSTS};
use super::truth::{AttackTruth, ExporterTruth, Truth};
use crate::model::{FlowRecord, FrameBatch};

/// Length of a tick: short, so that what one tick sends fits into any socket buffer.
pub const TICK_NS: u64 = 1_000_000;

/// What to generate.
#[derive(Clone, Debug)]
pub struct Options {
    /// Length of the traffic, seconds.
    pub seconds: f64,
    /// Benign flows a second, over all exporters.
    pub rate: f64,
    /// Destination hosts.
    pub hosts: usize,
    /// Everything random follows from it.
    pub seed: u64,
    /// Event time of the start, ns since the Unix epoch.
    pub start_ns: u64,
    /// One exporter each.
    pub exporters: Vec<Version>,
    /// N of 1-in-N, at every exporter.
    pub sampling: u32,
    /// Attacks, placed or not.
    pub attacks: Vec<AttackSpec>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seconds: 60.0,
            rate: 10_000.0,
            hosts: 5_000,
            seed: 1,
            start_ns: 0,
            exporters: Version::ALL.to_vec(),
            sampling: 1,
            attacks: Vec::new(),
        }
    }
}

impl Options {
    fn check(&self) -> Result<(), GenerateError> {
        let must = |ok: bool, what, allowed: String, got: String| {
            if ok { Ok(()) } else { Err(GenerateError::OutOfRange { what, allowed, got }) }
        };
        must(self.seconds > 0.0 && self.seconds <= 1e6, "seconds", "above 0".into(), self.seconds.to_string())?;
        must((0.0..=5e7).contains(&self.rate), "rate", "0 to 50000000".into(), self.rate.to_string())?;
        must((1..=MAX_HOSTS).contains(&self.hosts), "hosts", format!("1 to {MAX_HOSTS}"), self.hosts.to_string())?;
        let exporters = self.exporters.len();
        must((1..=200).contains(&exporters), "the number of exporters", "1 to 200".into(), exporters.to_string())?;
        let most = if self.exporters.contains(&Version::V5) { V5_MAX_SAMPLING } else { 1 << 24 };
        must((1..=most).contains(&self.sampling), "sampling", format!("1 to {most}"), self.sampling.to_string())?;
        let v6 = self.attacks.iter().any(|a| a.target.is_some_and(|t| !t.is_v4()));
        must(!v6 || self.ipv6(), "an IPv6 target's exporters", "v9 or ipfix".into(), "only v5".into())
    }

    fn ipv6(&self) -> bool {
        self.exporters.iter().any(|v| *v != Version::V5)
    }
}

/// The run.
#[derive(Debug)]
pub struct Generator {
    background: Background,
    attacks: Vec<Attack>,
    truths: Vec<AttackTruth>,
    exporters: Vec<Exporter>,
    /// Exporters that can say IPv6.
    v6_exporters: Vec<usize>,
    now_ns: u64,
    background_end_ns: u64,
    end_ns: u64,
    flows: Vec<FlowRecord>,
    /// Attacks with records in the frames of the last tick.
    in_flight: Vec<usize>,
}

impl Generator {
    /// Refuses what cannot be generated.
    pub fn new(options: &Options) -> Result<Self, GenerateError> {
        options.check()?;
        let start_ns = options.start_ns;
        let background = Background::new(options.rate, options.hosts, options.seed, options.ipv6());
        let count = options.attacks.len();
        let attacks = (0..count)
            .map(|i| {
                let spec = options.attacks[i].clone().place(i, count, options.seconds, background.hosts())?;
                Ok(Attack::new(spec, start_ns, mix(options.seed ^ (i as u64 + 1) << 32)))
            })
            .collect::<Result<Vec<_>, GenerateError>>()?;
        let exporters: Vec<Exporter> = options
            .exporters
            .iter()
            .enumerate()
            .map(|(i, version)| Exporter::new(i, *version, options.sampling, start_ns))
            .collect();
        let background_end_ns = start_ns + (options.seconds * 1e9) as u64;
        Ok(Self {
            truths: attacks.iter().enumerate().map(|(i, a)| AttackTruth::new(i, a)).collect(),
            end_ns: attacks.iter().map(Attack::reported_by_ns).max().unwrap_or(0).max(background_end_ns),
            v6_exporters: (0..exporters.len()).filter(|i| exporters[*i].encoder().version() != Version::V5).collect(),
            background,
            attacks,
            exporters,
            now_ns: start_ns,
            background_end_ns,
            flows: Vec::new(),
            in_flight: Vec::new(),
        })
    }

    /// Event time reached.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Event time at which the run ends.
    pub fn end_ns(&self) -> u64 {
        self.end_ns
    }

    /// The exporters, for outputs that need their addresses.
    pub fn exporters(&self) -> &[Exporter] {
        &self.exporters
    }

    /// Moves one tick forward and appends what was exported during it. False when the run is over; the last tick
    /// exports everything that still waited.
    pub fn tick(&mut self, out: &mut FrameBatch) -> bool {
        if self.now_ns >= self.end_ns {
            return false;
        }
        let (from_ns, to_ns) = (self.now_ns, (self.now_ns + TICK_NS).min(self.end_ns));
        self.now_ns = to_ns;
        let mut flows = std::mem::take(&mut self.flows);
        if from_ns < self.background_end_ns {
            self.background.tick(from_ns, to_ns.min(self.background_end_ns), &mut flows);
        }
        self.observe(&mut flows, BENIGN, to_ns);
        for i in 0..self.attacks.len() {
            self.attacks[i].tick(from_ns, to_ns, &mut flows);
            self.observe(&mut flows, i as u16, to_ns);
        }
        self.flows = flows;

        self.in_flight.clear();
        let last = to_ns == self.end_ns;
        for exporter in &mut self.exporters {
            exporter.export(to_ns, last, out, |flow, mark| {
                if let Some(truth) = self.truths.get_mut(usize::from(mark)) {
                    truth.flows += 1;
                    truth.packets += flow.packets * flow.sampling_rate;
                    truth.bytes += flow.bytes * flow.sampling_rate;
                    if self.in_flight.last() != Some(&usize::from(mark)) {
                        self.in_flight.push(usize::from(mark));
                    }
                }
            });
        }
        true
    }

    /// Hands every flow to the exporter that its source comes in by.
    fn observe(&mut self, flows: &mut Vec<FlowRecord>, mark: u16, now_ns: u64) {
        for flow in flows.drain(..) {
            let way = u64::from_le_bytes(flow.src_addr.0[8..].try_into().expect("eight bytes are eight bytes"));
            let way = mix(way) as usize;
            let index = if flow.src_addr.is_v4() {
                way % self.exporters.len()
            } else {
                self.v6_exporters[way % self.v6_exporters.len()]
            };
            self.exporters[index].observe(flow, mark, now_ns);
        }
    }

    /// To be told when the frames of the last tick really left.
    pub fn sent_at(&mut self, sent_ns: u64) {
        for &i in &self.in_flight {
            let truth = &mut self.truths[i];
            if truth.first_sent_ns == 0 {
                truth.first_sent_ns = sent_ns;
            }
            truth.last_sent_ns = sent_ns;
        }
    }

    /// What happened so far.
    pub fn truth(&self) -> Truth {
        Truth { attacks: self.truths.clone(), exporters: self.exporters.iter().map(ExporterTruth::from).collect() }
    }
}
