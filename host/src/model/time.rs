//! Event time as nanoseconds since the Unix epoch, and its text form.

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;
/// Nanoseconds in a millisecond.
pub const MILLISECOND: u64 = 1_000_000;

/// Wall clock now, in nanoseconds since the Unix epoch.
pub fn now_ns() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

/// RFC 3339 in UTC. Seconds only where the time falls on one, else milliseconds (or finer, down to ns, if needed).
pub fn rfc3339(ns: u64) -> String {
    let ts = jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    ts.to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_is_rfc3339_utc() {
        assert_eq!(super::rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(super::rfc3339(1_500 * super::MILLISECOND), "1970-01-01T00:00:01.5Z");
    }
}
