//! New incidents a minute of event time. What is withheld is counted per minute and told when the minute is over.

use crate::model::saved::{Loader, NotLoaded, Saver};
use crate::model::{EntityKey, Severity, time::SECOND};
use std::collections::HashSet;

const MINUTE: u64 = 60 * SECOND;

/// What a minute held back.
#[derive(Clone, PartialEq, Debug)]
pub struct Withheld {
    /// Start of the minute, event time.
    pub start_ns: u64,
    /// Its end.
    pub end_ns: u64,
    /// Incidents told in it.
    pub opened: u32,
    /// Entities whose incident was withheld.
    pub withheld: usize,
    /// The worst of them.
    pub worst: Severity,
}

/// The limiter. Time is the end of the newest window.
#[derive(Debug)]
pub struct RateLimit {
    per_minute: u32,
    minute: u64,
    opened: u32,
    withheld: HashSet<EntityKey>,
    worst: Severity,
}

impl RateLimit {
    /// So many new incidents a minute.
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, minute: 0, opened: 0, withheld: HashSet::new(), worst: Severity::Info }
    }

    /// So many from now on.
    pub fn set(&mut self, per_minute: u32) {
        self.per_minute = per_minute;
    }

    /// Goes on to the minute of `end_ns`; says what the last one withheld, if anything.
    pub fn advance(&mut self, end_ns: u64) -> Option<Withheld> {
        let minute = end_ns / MINUTE;
        if minute <= self.minute {
            return None;
        }
        let told = self.take();
        self.minute = minute;
        told
    }

    /// Ends the minute now.
    pub fn take(&mut self) -> Option<Withheld> {
        let told = (!self.withheld.is_empty()).then(|| Withheld {
            start_ns: self.minute * MINUTE,
            end_ns: (self.minute + 1) * MINUTE,
            opened: self.opened,
            withheld: self.withheld.len(),
            worst: self.worst,
        });
        self.opened = 0;
        self.withheld.clear();
        self.worst = Severity::Info;
        told
    }

    /// May it open now?
    pub fn admit(&mut self) -> bool {
        let admitted = self.opened < self.per_minute;
        self.opened += u32::from(admitted);
        admitted
    }

    /// Notes that an incident was held back. True the first time in this minute.
    pub fn withhold(&mut self, entity: EntityKey, severity: Severity) -> bool {
        self.worst = self.worst.max(severity);
        self.withheld.insert(entity)
    }

    /// Where the minute stands.
    pub fn save(&self, s: &mut Saver) {
        s.u64(self.minute);
        s.u32(self.opened);
        s.severity(self.worst);
        s.count(self.withheld.len());
        let mut withheld: Vec<&EntityKey> = self.withheld.iter().collect();
        withheld.sort_unstable();
        withheld.into_iter().for_each(|key| s.key(key));
    }

    /// As it was saved, under this limit.
    pub fn load(per_minute: u32, l: &mut Loader<'_>) -> Result<Self, NotLoaded> {
        let (minute, opened, worst) = (l.u64()?, l.u32()?, l.severity()?);
        if minute >= u64::MAX / MINUTE {
            return Err(NotLoaded::Insane("a minute out of bounds"));
        }
        let withheld = (0..l.count(5)?).map(|_| l.key()).collect::<Result<_, _>>()?;
        Ok(Self { per_minute, minute, opened, withheld, worst })
    }
}
