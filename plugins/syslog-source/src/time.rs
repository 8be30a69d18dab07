//! Times as log lines write them, to ns since the Unix epoch. RFC 3164 names neither year nor zone: both come from outside.
//! Refused (`None`): dates that no calendar has, times before 1970.

/// What lines do not say about their times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// When the line was received, ns since the Unix epoch. 0: unknown, as in a file; then years that are not said are 1970.
    pub received_ns: u64,
    /// Year of times without one. `None`: the one that brings them nearest to `received_ns`.
    pub year: Option<i32>,
    /// Seconds east of UTC of times without a zone.
    pub offset_secs: i32,
}

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400;
/// A line's time may be so far ahead of when it was received: clocks and zones differ.
const AHEAD_SECS: i64 = DAY;
/// Years that a time without one may lie back: a leap day is found.
const YEARS_BACK: i64 = 8;

/// A date and a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Civil {
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    nanos: u32,
}

/// Walks over a text.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn digits(&mut self, least: usize, most: usize) -> Option<u32> {
        let n = self.0.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.0.split_at(n);
        self.0 = rest;
        (n >= least).then(|| digits.parse().ok())?
    }

    fn take(&mut self, of: &[char]) -> Option<char> {
        let c = self.0.chars().next().filter(|c| of.contains(c))?;
        self.0 = &self.0[c.len_utf8()..];
        Some(c)
    }

    fn spaces(&mut self) -> Option<()> {
        let rest = self.0.trim_start_matches(' ');
        (rest.len() < self.0.len()).then(|| self.0 = rest)
    }

    /// `hh:mm:ss`, with or without a fraction.
    fn time_of_day(&mut self) -> Option<(u32, u32, u32, u32)> {
        let hour = self.digits(1, 2)?;
        self.take(&[':'])?;
        let minute = self.digits(2, 2)?;
        self.take(&[':'])?;
        let second = self.digits(2, 2)?;
        // A leap second is the second after.
        let valid = hour < 24 && minute < 60 && second <= 60;
        valid.then(|| (hour, minute, second, self.fraction()))
    }

    /// Nanoseconds of `.123` or `,123`; 0 where there is none.
    fn fraction(&mut self) -> u32 {
        let mut ahead = Cursor(self.0);
        if ahead.take(&['.', ',']).is_none() || !ahead.0.starts_with(|c: char| c.is_ascii_digit()) {
            return 0;
        }
        let n = ahead.0.bytes().take_while(u8::is_ascii_digit).count();
        let nanos = ahead.0.bytes().take(n.min(9)).fold(0, |sum, b| sum * 10 + u32::from(b - b'0'));
        self.0 = &ahead.0[n..];
        nanos * 10u32.pow(9 - n.min(9) as u32)
    }

    /// `Z`, `+02:00`, `+0200`: seconds east of UTC.
    fn zone(&mut self) -> Option<i32> {
        if self.take(&['Z', 'z']).is_some() {
            return Some(0);
        }
        let mut ahead = Cursor(self.0);
        let sign = if ahead.take(&['+', '-'])? == '-' { -1 } else { 1 };
        let hours = ahead.digits(2, 2)?;
        ahead.take(&[':']);
        let minutes = ahead.digits(2, 2)?;
        if hours > 23 || minutes > 59 {
            return None;
        }
        self.0 = ahead.0;
        Some(sign * (hours * 3600 + minutes * 60) as i32)
    }
}

/// `2024-10-11T22:14:15.003Z`, also with a space for the `T` and without a zone. Time and what follows it.
pub fn iso<'a>(text: &'a str, clock: &Clock) -> Option<(u64, &'a str)> {
    let mut at = Cursor(text);
    let year = at.digits(4, 4)?;
    at.take(&['-'])?;
    let month = at.digits(2, 2)?;
    at.take(&['-'])?;
    let day = at.digits(2, 2)?;
    at.take(&['T', 't', ' '])?;
    let (hour, minute, second, nanos) = at.time_of_day()?;
    let zone = at.zone().unwrap_or(clock.offset_secs);
    Some((Civil { month, day, hour, minute, second, nanos }.at(i64::from(year), zone)?, at.0))
}

/// `Oct 11 22:14:15`, also with a fraction, with the year before or after the time of day, with a zone after it. Time and
/// what follows it.
pub fn bsd<'a>(text: &'a str, clock: &Clock) -> Option<(u64, &'a str)> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let name = text.get(..3)?;
    let month = MONTHS.iter().position(|m| m.eq_ignore_ascii_case(name))? as u32 + 1;
    let mut at = Cursor(&text[3..]);
    at.spaces()?;
    let day = at.digits(1, 2)?;
    at.spaces()?;
    let before = year_ahead(&mut at, true);
    let (hour, minute, second, nanos) = at.time_of_day()?;
    let after = if before.is_none() { year_after(&mut at) } else { None };
    let zone = at.zone().or_else(|| named_zone(&mut at, clock)).unwrap_or(clock.offset_secs);
    let civil = Civil { month, day, hour, minute, second, nanos };
    let year = before.or(after).map(i64::from).or(clock.year.map(i64::from));
    let ns = match year {
        Some(year) => civil.at(year, zone)?,
        None => civil.nearest(clock.received_ns, zone)?,
    };
    Some((ns, at.0))
}

/// `1563249630.774`: seconds since the Unix epoch, of at least nine digits. Time and what follows it.
pub fn epoch(text: &str) -> Option<(u64, &str)> {
    let n = text.bytes().take_while(u8::is_ascii_digit).count();
    if !(9..=10).contains(&n) {
        return None;
    }
    let mut at = Cursor(&text[n..]);
    let ns = text[..n].parse::<u64>().ok()?.checked_mul(SECOND as u64)?.checked_add(u64::from(at.fraction()))?;
    (at.0.is_empty() || at.0.starts_with(' ')).then_some((ns, at.0))
}

/// A year and the space after it.
fn year_ahead(at: &mut Cursor<'_>, needs_space: bool) -> Option<u32> {
    let mut ahead = Cursor(at.0);
    let year = ahead.digits(4, 4).filter(|y| (1970..2200).contains(y))?;
    if needs_space {
        ahead.spaces()?;
    }
    at.0 = ahead.0;
    Some(year)
}

/// ` 2024`, and nothing more of a word.
fn year_after(at: &mut Cursor<'_>) -> Option<u32> {
    let mut ahead = Cursor(at.0);
    ahead.spaces()?;
    let year = year_ahead(&mut ahead, false)?;
    // `2001:db8::7` is a host.
    let ends = ahead.0.is_empty() || ahead.0.starts_with(' ') || ahead.0.starts_with(": ");
    ends.then(|| at.0 = ahead.0)?;
    Some(year)
}

/// ` UTC:` as Cisco writes it. Names other than UTC's are many things: the zone is then the one from outside.
fn named_zone(at: &mut Cursor<'_>, clock: &Clock) -> Option<i32> {
    let name = at.0.strip_prefix(' ')?;
    let n = name.bytes().take_while(u8::is_ascii_uppercase).count();
    if !(2..=5).contains(&n) || !name[n..].starts_with(':') {
        return None;
    }
    at.0 = &name[n..];
    Some(if matches!(&name[..n], "UTC" | "GMT") { 0 } else { clock.offset_secs })
}

impl Civil {
    /// ns since the Unix epoch in that year.
    fn at(self, year: i64, offset_secs: i32) -> Option<u64> {
        let secs = self.seconds(year)?.checked_sub(i64::from(offset_secs))?;
        u64::try_from(secs.checked_mul(SECOND)?.checked_add(i64::from(self.nanos))?).ok()
    }

    /// In the last year that does not put it more than a day after `received_ns`: that is the nearest.
    fn nearest(self, received_ns: u64, offset_secs: i32) -> Option<u64> {
        if received_ns == 0 {
            return self.at(1970, offset_secs);
        }
        let received = received_ns as i64 / SECOND;
        let latest = received + AHEAD_SECS;
        // Years are at most a day or two off here; one too many is tried.
        let this = 1970 + received / (365 * DAY);
        let years = (this - YEARS_BACK..=this + 1).rev();
        years.filter_map(|year| self.at(year, offset_secs)).find(|ns| *ns as i64 / SECOND <= latest)
    }

    /// Seconds since the Unix epoch, UTC.
    fn seconds(self, year: i64) -> Option<i64> {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match self.month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        if !(1..=days).contains(&self.day) {
            return None;
        }
        // Days since 1970-03-01 with the year beginning in March, so that the leap day is its last.
        let (y, m) = (year - i64::from(self.month <= 2), i64::from((self.month + 9) % 12));
        let (era, year_of_era) = (y.div_euclid(400), y.rem_euclid(400));
        let day_of_year = (153 * m + 2) / 5 + i64::from(self.day) - 1;
        let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
        Some(days * DAY + i64::from(self.hour * 3600 + self.minute * 60 + self.second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2024-10-12 00:00:00 UTC.
    const RECEIVED: u64 = 1_728_691_200 * SECOND as u64;
    const NOW: Clock = Clock { received_ns: RECEIVED, year: None, offset_secs: 0 };

    fn secs(found: Option<(u64, &str)>) -> (u64, &str) {
        let (ns, rest) = found.unwrap();
        (ns / SECOND as u64, rest)
    }

    #[test]
    fn iso_times_with_and_without_zone() {
        assert_eq!(secs(iso("2024-10-11T22:14:15Z x", &NOW)), (1_728_684_855, " x"));
        assert_eq!(secs(iso("2024-10-11 22:14:15 x", &NOW)), (1_728_684_855, " x"));
        assert_eq!(secs(iso("2024-10-12T00:14:15+02:00", &NOW)), (1_728_684_855, ""));
        assert_eq!(secs(iso("2024-10-11T17:14:15-0500", &NOW)), (1_728_684_855, ""));
        let east = Clock { offset_secs: 7200, ..NOW };
        assert_eq!(secs(iso("2024-10-12T00:14:15", &east)), (1_728_684_855, ""));
        assert_eq!(iso("2024-10-11T22:14:15.003000001Z", &NOW).unwrap().0 % SECOND as u64, 3_000_001);
        assert_eq!(iso("2024-10-11T22:14:15.1234567891Z", &NOW).unwrap().0 % SECOND as u64, 123_456_789);
        for bad in [
            "2024-02-30T00:00:00Z",
            "2024-10-11T24:00:00Z",
            "2024-13-11T22:14:15Z",
            "2024-10-11",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(iso(bad, &NOW), None, "{bad}");
        }
    }

    #[test]
    fn bsd_times_in_their_variants() {
        let at = 1_728_684_855;
        for (text, rest) in [
            ("Oct 11 22:14:15 host", " host"),
            ("oct 11 22:14:15 host", " host"),
            ("Oct 11 2024 22:14:15: x", ": x"),
            ("Oct 11 22:14:15 2024 x", " x"),
            ("Oct 11 22:14:15.000 UTC: %S", ": %S"),
            ("Oct 11 22:14:15Z x", " x"),
            ("Oct 12 00:14:15+02:00 x", " x"),
        ] {
            assert_eq!(secs(bsd(text, &NOW)), (at, rest), "{text}");
        }
        // What looks like a year is the begin of a word.
        assert_eq!(secs(bsd("Oct 11 22:14:15 2024host x", &NOW)), (at, " 2024host x"));
        assert_eq!(secs(bsd("Oct  1 22:14:15", &NOW)).0, at - 10 * 86_400);
        for bad in ["Okt 11 22:14:15", "Oct 32 22:14:15", "Oct 11 25:14:15", "Oct 11", "Octopus", "Feb 30 00:00:00"] {
            assert_eq!(bsd(bad, &NOW), None, "{bad}");
        }
    }

    #[test]
    fn the_year_is_the_nearest_and_hardly_in_the_future() {
        let year = |text: &str, received: &str| {
            let (received_ns, _) = iso(received, &NOW).unwrap();
            let (ns, _) = bsd(text, &Clock { received_ns, ..NOW }).unwrap();
            (1970..2100).rev().find(|y| ns >= iso(&format!("{y}-01-01T00:00:00Z"), &NOW).unwrap().0).unwrap()
        };
        assert_eq!(year("Dec 31 23:59:59", "2025-01-01T00:00:03Z"), 2024);
        assert_eq!(year("Jan  1 00:00:01", "2024-12-31T23:59:58Z"), 2025);
        assert_eq!(year("Jan  2 00:00:01", "2024-12-31T23:59:58Z"), 2024, "more than a day ahead");
        assert_eq!(year("Feb 29 12:00:00", "2025-03-01T00:00:00Z"), 2024);
        assert_eq!(year("Feb 29 12:00:00", "2103-03-01T00:00:00Z"), 2096);
        assert_eq!(bsd("Feb 29 12:00:00", &Clock { year: Some(2023), ..NOW }), None);
        let fixed = Clock { year: Some(2016), ..NOW };
        assert_eq!(bsd("Dec 10 06:55:46", &fixed), iso("2016-12-10T06:55:46Z", &NOW));
        assert_eq!(bsd("Jan  2 00:00:00", &Clock::default()).unwrap().0, 86_400 * SECOND as u64);
    }

    #[test]
    fn epoch_seconds() {
        assert_eq!(epoch("1563249630.5 host"), Some((1_563_249_630_500_000_000, " host")));
        assert_eq!(epoch("15632496.5 host"), None);
        assert_eq!(epoch("1563249630x"), None);
    }

    proptest! {
        /// The calendar is the one of everybody else.
        #[test]
        fn days_agree_with_a_calendar_walked_day_by_day(days in 0u64..60_000) {
            let (mut year, mut left) = (1970, days);
            let length = |y: u64| 365 + u64::from(y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400)));
            while left >= length(year) {
                left -= length(year);
                year += 1;
            }
            let mut month = 1;
            loop {
                let n = match month { 2 => length(year) - 337, 4 | 6 | 9 | 11 => 30, _ => 31 };
                if left < n {
                    break;
                }
                left -= n;
                month += 1;
            }
            let text = format!("{year:04}-{month:02}-{:02}T00:00:00Z", left + 1);
            prop_assert_eq!(iso(&text, &NOW), Some((days * 86_400 * SECOND as u64, "")));
        }

        #[test]
        fn a_time_without_a_year_is_never_far_ahead_and_less_than_a_year_back(
            received in 100_000_000u64..4_000_000_000, days in 0u64..365, second in 0u64..86_400,
        ) {
            let received_ns = received * SECOND as u64;
            let month_day = [("Jan", 31), ("Feb", 28), ("Mar", 31), ("Apr", 30), ("May", 31), ("Jun", 30), ("Jul", 31), ("Aug", 31), ("Sep", 30), ("Oct", 31), ("Nov", 30), ("Dec", 31)];
            let (mut left, mut at) = (days, 0);
            while left >= month_day[at].1 {
                left -= month_day[at].1;
                at += 1;
            }
            let text = format!("{} {:2} {:02}:{:02}:{:02}", month_day[at].0, left + 1, second / 3600, second / 60 % 60, second % 60);
            let (ns, rest) = bsd(&text, &Clock { received_ns, ..NOW }).unwrap();
            prop_assert_eq!(rest, "");
            let ahead = ns as i64 / SECOND - received as i64;
            prop_assert!(ahead <= DAY && ahead > DAY - 367 * DAY, "{text} {ahead}");
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}", year in any::<Option<i32>>(), offset in any::<i32>(), received in any::<u64>()) {
            let clock = Clock { received_ns: received, year, offset_secs: offset };
            let _ = (iso(&text, &clock), bsd(&text, &clock), epoch(&text));
            for begin in ["Oct 11 22:14:15", "2024-10-11T22:14:15", "Feb 29 1:02:03 "] {
                let text = format!("{begin}{text}");
                let _ = (iso(&text, &clock), bsd(&text, &clock));
            }
        }
    }
}
