//! Exporters' times to nanoseconds since the Unix epoch.

use crate::model::time::MILLISECOND;

/// Seconds from the NTP epoch (1900) to the Unix epoch.
const NTP_TO_UNIX: u64 = 2_208_988_800;
/// sysUptime is 32 bits of milliseconds: it wraps every 49.7 days.
const WRAP_MS: u64 = 1 << 32;
/// A switch time this little after the header's sysUptime is clock skew inside the exporter, not 49.7 days ago.
const SKEW_MS: u32 = 3_600_000;

/// The times in the header of one datagram, and what is known of the exporter's start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// Export time.
    pub export_ns: u64,
    /// sysUptime at the export time (v5, v7, v9).
    pub uptime_ms: Option<u32>,
    /// When the exporter started, ms since the Unix epoch (IPFIX 160); 0 unknown.
    pub init_ms: u64,
}

impl Clock {
    /// A sysUptime of milliseconds (elements 21 and 22). 0 when nothing says when the exporter started.
    #[inline]
    pub fn uptime(&self, at_ms: u32) -> u64 {
        match self.uptime_ms {
            // RFC 3954 8: relative to the header's; modulo 2^32, because the counter may have wrapped in between.
            Some(now) => {
                let age = now.wrapping_sub(at_ms);
                if age > u32::MAX - SKEW_MS {
                    self.export_ns.saturating_add(u64::from(age.wrapping_neg()) * MILLISECOND)
                } else {
                    self.export_ns.saturating_sub(u64::from(age) * MILLISECOND)
                }
            }
            None if self.init_ms > 0 => {
                let first = self.init_ms.saturating_add(u64::from(at_ms));
                // The counter wrapped as often as brings the time closest to, but not after, the export time.
                let room = (self.export_ns / MILLISECOND + u64::from(SKEW_MS)).saturating_sub(first);
                (first + room / WRAP_MS * WRAP_MS).saturating_mul(MILLISECOND)
            }
            None => 0,
        }
    }

    /// Microseconds before the export time (elements 158 and 159).
    pub fn before_export(&self, micros: u64) -> u64 {
        self.export_ns.saturating_sub(micros.saturating_mul(1000))
    }
}

/// RFC 7011 6.1.9, 6.1.10: seconds since 1900 and a binary fraction.
pub(super) fn ntp(value: u64) -> u64 {
    let seconds = (value >> 32).saturating_sub(NTP_TO_UNIX);
    let nanos = ((value & 0xffff_ffff) * 1_000_000_000) >> 32;
    seconds * 1_000_000_000 + nanos
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn uptime_of_ipfix_needs_the_start() {
        let mut c = Clock { export_ns: 1_431_516_026_000 * MILLISECOND, ..Clock::default() };
        assert_eq!(c.uptime(12_726), 0);
        c.init_ms = 1_431_516_013_506;
        assert_eq!(c.uptime(12_726), 1_431_516_026_232 * MILLISECOND);
        c.init_ms -= 3 * WRAP_MS;
        assert_eq!(c.uptime(12_726), 1_431_516_026_232 * MILLISECOND, "three wraps ago");
    }

    #[test]
    fn ntp_times() {
        let unix = 1_700_000_000u64;
        assert_eq!(ntp((unix + NTP_TO_UNIX) << 32 | 1 << 31), unix * 1_000_000_000 + 500_000_000);
        assert_eq!(ntp(0), 0);
    }

    proptest! {
        /// Whatever sysUptime is at the export, a flow that ended `age` ms before it ended `age` ms before it.
        #[test]
        fn uptime_wraps(now in any::<u32>(), age in 0..(u32::MAX - SKEW_MS)) {
            let c = Clock { export_ns: 1_800_000_000_000_000_000, uptime_ms: Some(now), init_ms: 0 };
            prop_assert_eq!(c.uptime(now.wrapping_sub(age)), c.export_ns - u64::from(age) * MILLISECOND);
        }

        /// A little skew forward stays a little.
        #[test]
        fn skew_is_not_a_wrap(now in any::<u32>(), ahead in 1..SKEW_MS) {
            let c = Clock { export_ns: 1_800_000_000_000_000_000, uptime_ms: Some(now), init_ms: 0 };
            prop_assert_eq!(c.uptime(now.wrapping_add(ahead)), c.export_ns + u64::from(ahead) * MILLISECOND);
        }
    }
}
