//! Times as metrics have them. In: text. Out: ns since the Unix epoch (UTC where no zone is said). Refused (`None`): what no
//! calendar has, and times before 1970.

/// A number since the epoch (seconds, or ms, µs, ns by its size), or `YYYY-MM-DD[T ]hh:mm[:ss[.fraction]][Z|+hh:mm]`.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        return of_number(text, number);
    }
    let bytes = text.as_bytes();
    let digits = |from: usize, to: usize| {
        let part = text.get(from..to)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<i64>().ok())?
    };
    let at = |i: usize, of: &[u8]| bytes.get(i).is_some_and(|b| of.contains(b));
    if !(at(4, b"-") && at(7, b"-")) {
        return None;
    }
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    if !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let (mut secs, mut nanos, mut rest) = (0, 0, 10);
    if bytes.len() > 10 {
        if !(at(10, b"T ") && at(13, b":")) {
            return None;
        }
        let (hour, minute) = (digits(11, 13)?, digits(14, 16)?);
        rest = 16;
        let mut second = 0;
        if at(16, b":") {
            second = digits(17, 19)?;
            rest = 19;
            if at(19, b".,") {
                let fraction = text[20..].bytes().take_while(u8::is_ascii_digit).count();
                let shown = text.get(20..20 + fraction.min(9)).filter(|f| !f.is_empty())?;
                nanos = shown.parse::<i64>().ok()? * 10i64.pow(9 - shown.len() as u32);
                rest = 20 + fraction;
            }
        }
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        secs = hour * 3600 + minute * 60 + second;
    }
    let offset = match &text[rest..] {
        "" | "Z" | "z" => 0,
        zone => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let zone = zone.strip_prefix(['+', '-'])?.replace(':', "");
            let (hours, minutes) = (zone.get(..2)?.parse::<i64>().ok()?, zone.get(2..)?);
            let minutes = if minutes.is_empty() { 0 } else { minutes.parse::<i64>().ok()? };
            if hours > 23 || minutes > 59 {
                return None;
            }
            sign * (hours * 3600 + minutes * 60)
        }
    };
    let secs = days_since_epoch(year, month, day) * 86_400 + secs - offset;
    u64::try_from(i128::from(secs) * 1_000_000_000 + i128::from(nanos)).ok()
}

/// Seconds until the year 5138, then the finer units: they cannot be mistaken for one another.
fn of_number(text: &str, number: f64) -> Option<u64> {
    let unit = match number {
        n if !n.is_finite() || n < 0.0 => return None,
        n if n < 1e11 => 1e9,
        n if n < 1e14 => 1e6,
        n if n < 1e17 => 1e3,
        n if n < 1.8e19 => 1.0,
        _ => return None,
    };
    match text.parse::<u64>() {
        // Whole numbers stay exact.
        Ok(whole) => whole.checked_mul(unit as u64),
        Err(_) => Some((number * unit) as u64),
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Howard Hinnant's `days_from_civil`.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::parse;
    use proptest::prelude::*;

    #[test]
    fn times_in_all_forms() {
        const S: u64 = 1_000_000_000;
        for (text, ns) in [
            ("0", 0),
            ("1392388200", 1_392_388_200 * S),
            ("1392388200.5", 1_392_388_200 * S + S / 2),
            ("1392388200123", 1_392_388_200_123 * 1_000_000),
            ("1392388200123456789", 1_392_388_200_123_456_789),
            ("2014-02-14 14:30:00", 1_392_388_200 * S),
            ("2014-02-14T14:30:00Z", 1_392_388_200 * S),
            ("2014-02-14T15:30:00.25+01:00", 1_392_388_200 * S + S / 4),
            ("2014-02-14T12:30-0200", 1_392_388_200 * S),
            ("2014-02-14", 1_392_336_000 * S),
            ("2000-02-29 00:00", 951_782_400 * S),
        ] {
            assert_eq!(parse(text), Some(ns), "{text}");
        }
        for text in [
            "",
            "x",
            "-1",
            "1e30",
            "2014-02-30",
            "1900-01-01",
            "2014-02-14 25:00",
            "2014-02-14x",
            "2014-02-14 14:30:00 x",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,40}", date in "20[0-9]{2}-[01][0-9]-[0-3][0-9].{0,20}") {
            let _ = (parse(&text), parse(&date));
        }
    }
}
