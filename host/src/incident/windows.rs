//! Counts windows: distinct window ends, in order. A window that fires again (late data, early firing) keeps its number.

use crate::model::WindowInfo;
use std::collections::VecDeque;

/// How many windows back a re-fired window may still open an incident.
pub const MEMORY_WINDOWS: u64 = 256;

/// Which window was observed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// A window end later than all before.
    New(u64),
    /// A window that was observed before, by its number.
    Again(u64),
    /// Older than everything remembered.
    Forgotten,
}

/// The remembered windows: end and number.
#[derive(Debug, Default)]
pub struct Windows {
    ends: VecDeque<(u64, u64)>,
    last: u64,
}

impl Windows {
    /// The number of this window; numbers start at 1.
    pub fn place(&mut self, window: &WindowInfo) -> Place {
        if self.ends.back().is_none_or(|(end, _)| window.end_ns > *end) {
            self.last += 1;
            self.ends.push_back((window.end_ns, self.last));
            if self.ends.len() as u64 > MEMORY_WINDOWS {
                self.ends.pop_front();
            }
            return Place::New(self.last);
        }
        match self.ends.binary_search_by_key(&window.end_ns, |(end, _)| *end) {
            Ok(i) => Place::Again(self.ends[i].1),
            Err(_) => Place::Forgotten,
        }
    }

    /// The number of the newest window; 0 before the first.
    pub fn last(&self) -> u64 {
        self.last
    }
}
