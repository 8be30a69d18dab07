//! Counts windows: distinct window starts, in order. A window that fires again (late data) or first fires early, up to
//! where it has come, keeps its number.

use crate::model::WindowInfo;
use crate::model::saved::{Loader, NotLoaded, Saver};
use std::collections::VecDeque;

/// How many windows back a re-fired window may still open an incident.
pub const MEMORY_WINDOWS: u64 = 256;

/// Numbers stay far from where sums of them would overflow.
pub const NUMBER_MAX: u64 = 1 << 62;

/// Which window was observed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// A window that starts later than all before.
    New(u64),
    /// A window that was observed before, by its number.
    Again(u64),
    /// Older than everything remembered.
    Forgotten,
}

/// The remembered windows: start and number.
#[derive(Debug, Default)]
pub struct Windows {
    starts: VecDeque<(u64, u64)>,
    last: u64,
}

impl Windows {
    /// The number of this window; numbers start at 1.
    pub fn place(&mut self, window: &WindowInfo) -> Place {
        if self.starts.back().is_none_or(|(start, _)| window.start_ns > *start) {
            self.last += 1;
            self.starts.push_back((window.start_ns, self.last));
            if self.starts.len() as u64 > MEMORY_WINDOWS {
                self.starts.pop_front();
            }
            return Place::New(self.last);
        }
        match self.starts.binary_search_by_key(&window.start_ns, |(start, _)| *start) {
            Ok(i) => Place::Again(self.starts[i].1),
            Err(_) => Place::Forgotten,
        }
    }

    /// Windows to come have another length: the next is a new one, wherever it starts.
    pub fn begin_anew(&mut self) {
        self.starts.clear();
    }

    /// The number of the newest window; 0 before the first.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Numbers are not saved: they go up one by one to the last.
    pub fn save(&self, s: &mut Saver) {
        s.u64(self.last);
        s.count(self.starts.len());
        self.starts.iter().for_each(|(start, _)| s.u64(*start));
    }

    /// As they were saved.
    pub fn load(l: &mut Loader<'_>) -> Result<Self, NotLoaded> {
        let last = load_number(l)?;
        let n = l.count(8)? as u64;
        if n > last.min(MEMORY_WINDOWS) {
            return Err(NotLoaded::Insane("more windows than it remembers"));
        }
        let starts = (0..n).map(|i| Ok((l.u64()?, last - n + 1 + i))).collect::<Result<VecDeque<_>, _>>()?;
        if !starts.iter().is_sorted_by(|a, b| a.0 < b.0) {
            return Err(NotLoaded::Insane("windows out of order"));
        }
        Ok(Self { starts, last })
    }
}

/// The number of a window.
pub fn load_number(l: &mut Loader<'_>) -> Result<u64, NotLoaded> {
    let number = l.u64()?;
    if number <= NUMBER_MAX { Ok(number) } else { Err(NotLoaded::Insane("a window number out of bounds")) }
}
