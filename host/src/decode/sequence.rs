//! How much is missing by the exporter's sequence numbers. Comes in: the number of each datagram and how many units it
//! stands for (v5, v7: flows; v9: 1 datagram, RFC 3954 5.1; IPFIX: data records, RFC 7011 3.1); goes out: units
//! missing. Restarts and datagrams out of order are no gaps.

/// A number so far ahead of the expected one is a restart, not a gap.
const MAX_GAP: u32 = 1 << 20;
/// A number so little behind the expected one is a late datagram, not a restart.
const MAX_LATE: u32 = 1 << 12;

/// The expected number of one exporter and domain.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    expected: Option<u32>,
}

/// What a sequence number said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// As expected, or late, or the first.
    Nothing,
    /// So many units missing before this datagram.
    Gap(u64),
    /// The exporter started anew.
    Restart,
}

impl Sequence {
    /// Takes a datagram's number. `units`: how many it stands for; `None` when that cannot be known (a data set without
    /// its template): the next datagram is then taken as it comes.
    pub fn see(&mut self, number: u32, units: Option<u32>) -> Seen {
        let next = units.map(|n| number.wrapping_add(n));
        let Some(expected) = self.expected else {
            self.expected = next;
            return Seen::Nothing;
        };
        let ahead = number.wrapping_sub(expected);
        if ahead.wrapping_neg() <= MAX_LATE && ahead != 0 {
            return Seen::Nothing;
        }
        self.expected = next;
        match ahead {
            0 => Seen::Nothing,
            1..=MAX_GAP => Seen::Gap(u64::from(ahead)),
            _ => Seen::Restart,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_counted_and_nothing_else() {
        let mut s = Sequence::default();
        assert_eq!(s.see(u32::MAX - 9, Some(10)), Seen::Nothing);
        assert_eq!(s.see(0, Some(10)), Seen::Nothing, "wraps");
        assert_eq!(s.see(40, Some(10)), Seen::Gap(30));
        assert_eq!(s.see(30, Some(10)), Seen::Nothing, "late");
        assert_eq!(s.see(50, Some(10)), Seen::Nothing);
        assert_eq!(s.see(3_000_000_000, Some(1)), Seen::Restart);
        assert_eq!(s.see(3_000_000_001, None), Seen::Nothing);
        assert_eq!(s.see(3_000_000_900, Some(1)), Seen::Nothing, "nobody knows what was expected");
    }
}
