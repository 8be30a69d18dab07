//! Warnings that a stranger can cause: one of a kind now and then, with how many were withheld.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between two warnings of a kind.
const EVERY: Duration = Duration::from_secs(10);

/// When each kind was said last, and how often it was withheld since.
#[derive(Debug, Default)]
pub(super) struct Seldom(BTreeMap<&'static str, (Option<Instant>, u64)>);

impl Seldom {
    /// The end of the warning to say now; `None`: not now.
    pub(super) fn due(&mut self, kind: &'static str) -> Option<String> {
        let (last, withheld) = self.0.entry(kind).or_default();
        if last.is_some_and(|at| at.elapsed() < EVERY) {
            *withheld += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(match std::mem::take(withheld) {
            0 => String::new(),
            n => format!(" (and {n} more of the kind since)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_kind_is_said() {
        let mut seldom = Seldom::default();
        let said = [seldom.due("idle"), seldom.due("idle"), seldom.due("framing")];
        assert_eq!(said, [Some(String::new()), None, Some(String::new())]);
        seldom.0.get_mut("idle").unwrap().0 = Instant::now().checked_sub(EVERY);
        assert_eq!(seldom.due("idle").unwrap(), " (and 1 more of the kind since)");
    }
}
