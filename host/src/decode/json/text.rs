//! Numbers, addresses and times out of bytes of text. `None`: they are none. What the standard library and jiff read of
//! these forms they read alike (property tests); they want checked UTF-8 first and cost several times as much.

use crate::model::Addr;
use crate::model::time::SECOND;

/// A whole number: decimal, or hexadecimal behind `0x`.
pub(super) fn integer(text: &[u8]) -> Option<u64> {
    if let Some(hex) = text.strip_prefix(b"0x") {
        let text = std::str::from_utf8(hex).ok().filter(|t| !t.starts_with('+'))?;
        return u64::from_str_radix(text, 16).ok();
    }
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0u64, |n, b| n.checked_mul(10)?.checked_add(digit(*b)?))
}

#[inline(always)]
fn digit(byte: u8) -> Option<u64> {
    let digit = byte.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

/// An address of either family.
#[inline]
pub(super) fn address(text: &[u8]) -> Option<Addr> {
    match ipv4(text) {
        Some(bytes) => Some(Addr::from_v4_bytes(bytes)),
        None => ipv6(text).map(Addr),
    }
}

/// All bytes at once: where numbers have no fixed length, a branch per byte is one that is often guessed wrong.
#[inline]
fn ipv4(text: &[u8]) -> Option<[u8; 4]> {
    const ONES: u128 = u128::MAX / 255;
    const HIGH: u128 = ONES << 7;
    let len = text.len();
    if len > 15 {
        return None;
    }
    // Two words that overlap in the middle.
    let bytes = match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(first), Some(last)) => {
            u128::from(u64::from_le_bytes(*first)) | u128::from(u64::from_le_bytes(*last)) << (8 * (len - 8))
        }
        _ => {
            let first = text.first_chunk::<4>().filter(|_| len == 7)?;
            u128::from(u32::from_le_bytes(*first)) | u128::from(u32::from_le_bytes(*text.last_chunk::<4>()?)) << 24
        }
    };
    // A dot behind the last number, too. The sum carries nowhere, so that a byte's upper bit is exact.
    let bytes = bytes | u128::from(b'.') << (8 * len);
    let other = bytes ^ (ONES * u128::from(b'.'));
    let mut dots = !(((other & !HIGH) + !HIGH) | other) & HIGH;
    let digits = (bytes ^ (ONES * u128::from(b'0'))) & !(dots | (dots - (dots >> 7))) & !(u128::MAX << (8 * len));
    let wrong = (digits | ((digits & (ONES * 0x0f)) + ONES * 6)) & (ONES * 0xf0);
    if dots.count_ones() != 4 || wrong != 0 {
        return None;
    }
    let (mut out, mut start, mut good) = ([0; 4], 0, true);
    for byte in &mut out {
        let end = dots.trailing_zeros() / 8;
        let digits = ((digits << ((8 * (16 - end)) & 127)) >> 104) as u32;
        let digits = if end - start < 3 { digits & 0xff_ff00 } else { digits };
        let n = (digits & 0xff) * 100 + (digits >> 8 & 0xff) * 10 + (digits >> 16);
        // As everywhere: no leading zeros, which some take for octal.
        good &= n < 256 && end - start == 1 + u32::from(n > 9) + u32::from(n > 99);
        *byte = n as u8;
        (start, dots) = (end + 1, dots & dots.wrapping_sub(1));
    }
    good.then_some(out)
}

fn ipv6(text: &[u8]) -> Option<[u8; 16]> {
    let mut groups = [0u16; 8];
    // Groups so far, and how many of them stand before the `::`.
    let (mut count, mut gap) = (0, None);
    let mut rest = text;
    if let Some(tail) = rest.strip_prefix(b"::") {
        gap = Some(0);
        rest = tail;
    }
    while !rest.is_empty() {
        let (mut n, mut len) = (0u16, 0);
        while let Some(digit) = rest.get(len).and_then(|b| char::from(*b).to_digit(16)) {
            if len == 4 {
                return None;
            }
            n = n << 4 | digit as u16;
            len += 1;
        }
        if rest.get(len) == Some(&b'.') {
            let [a, b, c, d] = ipv4(rest)?;
            *groups.get_mut(count)? = u16::from_be_bytes([a, b]);
            *groups.get_mut(count + 1)? = u16::from_be_bytes([c, d]);
            count += 2;
            break;
        }
        if len == 0 {
            return None;
        }
        *groups.get_mut(count)? = n;
        count += 1;
        rest = &rest[len..];
        if let Some(tail) = rest.strip_prefix(b"::") {
            if gap.replace(count).is_some() {
                return None;
            }
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix(b":") {
            if tail.is_empty() {
                return None;
            }
            rest = tail;
        } else if !rest.is_empty() {
            return None;
        }
    }
    match gap {
        // `::` stands for one group at least.
        Some(_) if count == 8 => return None,
        Some(gap) => {
            groups[gap..].rotate_right(8 - count);
        }
        None if count < 8 => return None,
        None => {}
    }
    let mut out = [0; 16];
    for (bytes, group) in out.chunks_exact_mut(2).zip(groups) {
        bytes.copy_from_slice(&group.to_be_bytes());
    }
    Some(out)
}

/// The minutes that times were in lately, by their last digit: what comes together is of few minutes.
#[derive(Default)]
pub(super) struct Minutes([Minute; 16]);

/// A calendar's text up to the minute, and its seconds since the Unix epoch.
#[derive(Clone, Copy, Default)]
struct Minute {
    text: u128,
    seconds: i64,
}

/// A time in any of the forms that collectors write, ns since the Unix epoch: a number of `unit` ns each, with decimals or
/// without; `YYYY-MM-DD hh:mm:ss`, with `T` or a space between, decimals or without, and an offset, `Z` or neither (UTC).
#[inline]
pub(super) fn time(text: &[u8], unit: u64, minutes: &mut Minutes) -> Option<u64> {
    match text.get(4) {
        Some(b'-') => calendar(text, minutes),
        _ => decimal(text, unit),
    }
}

/// Without the rounding of a float.
fn decimal(text: &[u8], unit: u64) -> Option<u64> {
    let dot = text.iter().position(|b| *b == b'.').unwrap_or(text.len());
    let mut ns = integer(&text[..dot]).filter(|_| !text.starts_with(b"0x"))?.checked_mul(unit)?;
    let mut worth = unit;
    for byte in text.get(dot + 1..).unwrap_or_default() {
        worth /= 10;
        ns = ns.checked_add(digit(*byte)? * worth)?;
    }
    Some(ns)
}

#[inline]
fn calendar(text: &[u8], minutes: &mut Minutes) -> Option<u64> {
    let (head, rest) = text.split_first_chunk::<16>()?;
    let (seconds, rest) = rest.split_first_chunk::<3>()?;
    if seconds[0] != b':' {
        return None;
    }
    let second = digit(seconds[1])? * 10 + digit(seconds[2])?;
    let known = &mut minutes.0[usize::from(head[15] & 0xf)];
    let text = u128::from_le_bytes(*head);
    if known.text != text {
        // Written for a time that is not known.
        let Some(seconds) = minute(text)? else { return Some(0) };
        *known = Minute { text, seconds };
    }
    if second > 60 {
        return None;
    }
    let (nanos, zone) = match rest.first_chunk().filter(|_| rest.len() == 7).and_then(micros) {
        Some(micros) => (micros * 1000, &[][..]),
        None => fraction(rest)?,
    };
    let seconds = known.seconds + second.min(59) as i64 - offset(zone)?;
    u64::try_from(seconds).ok()?.checked_mul(SECOND)?.checked_add(nanos)
}

/// Seconds since the Unix epoch at `YYYY-MM-DD hh:mm`. `Some(None)`: of the day 0.
fn minute(text: u128) -> Option<Option<i64>> {
    let pairs = pairs(text)?;
    let pair = |at: u32| (pairs >> (8 * at)) as u64 & 0xff;
    let (month, day, hour, minute) = (pair(5), pair(8), pair(11), pair(14));
    if !matches!((text >> 80) as u8, b' ' | b'T' | b't') {
        return None;
    }
    let year = pair(0) * 100 + pair(2);
    if year == 0 && month == 0 && day == 0 {
        return Some(None);
    }
    if !(1..=12).contains(&month) || day == 0 || day > days_of(year, month) || hour > 23 || minute > 59 {
        return None;
    }
    Some(Some(days(year, month, day) * 86_400 + (hour * 3600 + minute * 60) as i64))
}

/// Decimals of a second as nanoseconds, if there are any, and what follows.
fn fraction(text: &[u8]) -> Option<(u64, &[u8])> {
    let Some((b'.', fraction)) = text.split_first() else { return Some((0, text)) };
    let len = fraction.iter().position(|b| !b.is_ascii_digit()).unwrap_or(fraction.len());
    if len == 0 {
        return None;
    }
    let nanos = fraction[..len.min(9)].iter().fold(0, |n, b| n * 10 + u64::from(b - b'0'));
    Some((nanos * 10u64.pow(9 - len.min(9) as u32), &fraction[len..]))
}

/// A dot and six digits.
#[inline(always)]
fn micros(text: &[u8; 7]) -> Option<u64> {
    let [dot, a, b, c, d, e, f] = *text;
    let (n, len) = leading_digits(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]));
    (dot == b'.' && len == 6).then_some(n)
}

/// The number that eight bytes begin with, if it has fewer than eight digits, and how many digits it has. All at once: a
/// loop that ends after the last digit is often guessed wrong.
#[inline(always)]
pub(super) fn leading_digits(eight: u64) -> (u64, usize) {
    const ONES: u64 = u64::MAX / 255;
    const EVERY_OTHER: u64 = 0xff_0000_00ff;
    let digits = eight ^ (ONES * b'0' as u64);
    // The lowest byte that is no digit is found for certain; higher ones may have carries of it.
    let others = (digits | digits.wrapping_add(ONES * 6)) & (ONES * 0xf0);
    let len = others.trailing_zeros() / 8;
    // The last digit to the top, zeros before the first.
    let digits = digits << ((64 - 8 * len) & 63);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let first = (pairs & EVERY_OTHER).wrapping_mul(100 + (1_000_000 << 32));
    let last = (pairs >> 16 & EVERY_OTHER).wrapping_mul(1 + (10_000 << 32));
    (first.wrapping_add(last) >> 32, len as usize)
}

/// `YYYY-MM-DD hh:mm` with any byte between day and hour, all digits at once: each two that stand together become their
/// number, at the place of the first.
#[inline(always)]
fn pairs(text: u128) -> Option<u128> {
    const ONES: u128 = u128::MAX / 255;
    const FORM: u128 = u128::from_le_bytes(*b"0000-00-00\x0000:00");
    const BETWEEN: u128 = 0xff << 80;
    const MARKS: u128 = 0xff << 32 | 0xff << 56 | 0xff << 104;
    let digits = (text & !BETWEEN) ^ FORM;
    // Every digit is now 0..=9, every mark 0; more than 9 carries into the upper half of its byte.
    let wrong = (digits | ((digits & (ONES * 0x0f)) + ONES * 6)) & (ONES * 0xf0) | digits & MARKS;
    if wrong != 0 { None } else { Some(digits * 10 + (digits >> 8)) }
}

/// Seconds east of Greenwich. Nothing is taken as UTC.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match *text {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign, a, b, b':', c, d] | [sign, a, b, c, d] => (sign, digit(a)? * 10 + digit(b)?, digit(c)? * 10 + digit(d)?),
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = (hours * 3600 + minutes * 60) as i64;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, counted in years that begin in March.
fn days(year: u64, month: u64, day: u64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.wrapping_sub(1), month + 9) };
    let year = year as i64;
    let of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year as i64 - 719_468
}

/// The bits of TCP flags by name, alone or with `|`, `,` or spaces between.
pub(super) fn tcp_flags(text: &[u8]) -> Option<u16> {
    let parts = text.split(|b| matches!(b, b'|' | b',' | b' ')).filter(|part| !part.is_empty());
    parts.map(tcp_flag).try_fold(0, |all, flag| Some(all | flag?))
}

fn tcp_flag(name: &[u8]) -> Option<u16> {
    const NAMES: [&[u8]; 9] = [b"FIN", b"SYN", b"RST", b"PSH", b"ACK", b"URG", b"ECE", b"CWR", b"NS"];
    NAMES.iter().position(|n| n.eq_ignore_ascii_case(name)).map(|bit| 1 << bit)
}

/// `00:01:02:ab:04:05`.
pub(super) fn mac(text: &[u8]) -> Option<[u8; 6]> {
    let mut out = [0; 6];
    let mut parts = text.split(|b| *b == b':' || *b == b'-');
    for byte in &mut out {
        let part = parts.next().filter(|p| p.len() <= 2 && !p.starts_with(b"+"))?;
        *byte = u8::from_str_radix(std::str::from_utf8(part).ok()?, 16).ok()?;
    }
    parts.next().is_none().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    /// Also as one that was seen before.
    fn time(text: &[u8], unit: u64) -> Option<u64> {
        let mut minutes = Minutes::default();
        let first = super::time(text, unit, &mut minutes);
        assert_eq!(super::time(text, unit, &mut minutes), first, "from memory");
        first
    }

    #[test]
    fn times_in_every_form() {
        const T: u64 = 1_677_577_599 * SECOND;
        for (text, ns) in [
            ("2023-02-28 09:46:39", T),
            ("2023-02-28 09:46:39.000001", T + 1000),
            ("2023-02-28T09:46:39.5Z", T + 500_000_000),
            ("2023-02-28T11:46:39+02:00", T),
            ("2023-02-28T04:16:39.000000-0530", T),
            ("2023-02-28T04:16:39.5-0530", T + 500_000_000),
            ("1677577599.000000", T),
            ("1677577599", T),
            ("1677577599.123456789123", T + 123_456_789),
            ("0000-00-00 00:00:00.000000", 0),
            ("0", 0),
        ] {
            assert_eq!(time(text.as_bytes(), SECOND), Some(ns), "{text}");
        }
        for text in [
            "2023-02-29 09:46:39",
            "2023-02-28 24:46:39",
            "2023-02-28 09:46:39.",
            "2023-02-28 09:46:39 UTC",
            "2023-02-28",
            "1900-02-28 09:46:39",
            "9999-02-28 09:46:39",
            "167757x599",
            ".5",
            "",
            "0x12",
            "-1",
        ] {
            assert_eq!(time(text.as_bytes(), SECOND), None, "{text}");
        }
    }

    #[test]
    fn flags_and_macs() {
        assert_eq!(tcp_flags(b"SYN|ack"), Some(0x12));
        assert_eq!(tcp_flags(b"SYN,NAK"), None);
        assert_eq!(mac(b"00:01:02:ab:04:05"), Some([0, 1, 2, 0xab, 4, 5]));
        assert_eq!(mac(b"00:01:02:ab:04"), None);
    }

    proptest! {
        #[test]
        fn digits_as_one_by_one(text in "[0-9]{0,8}[,. }e:/\\xff]{8}") {
            let eight = text.as_bytes().first_chunk::<8>().unwrap();
            let len = eight.iter().position(|b| !b.is_ascii_digit()).unwrap_or(8);
            let (n, found) = leading_digits(u64::from_le_bytes(*eight));
            prop_assert_eq!(found, len);
            if (1..8).contains(&len) {
                prop_assert_eq!(n, text[..len].parse::<u64>().unwrap());
            }
        }

        #[test]
        fn dotted_numbers_as_the_standard_library(text in "([0-9]{1,4}[.:/]?){3,5}|[0-9.]{0,16}|(25[0-9]\\.|0?[0-9]\\.){3}[0-9]{1,3}[^0-9]?") {
            let theirs = text.parse::<Ipv4Addr>().ok().map(|a| a.octets());
            prop_assert_eq!(ipv4(text.as_bytes()), theirs, "{}", text);
        }

        #[test]
        fn addresses_as_the_standard_library(v4 in any::<u32>(), v6 in any::<u128>(), zeros in any::<u128>(), mess in "[0-9a-f:.]{0,24}") {
            // Some groups zero, so that there is something to shorten.
            let v6 = v6 & zeros & zeros.rotate_left(16);
            for text in [Ipv4Addr::from(v4).to_string(), Ipv6Addr::from(v6).to_string(), mess, format!("::{}", Ipv4Addr::from(v4))] {
                let theirs = text.parse::<IpAddr>().ok().map(Addr::from);
                prop_assert_eq!(address(text.as_bytes()), theirs, "{}", text);
            }
        }

        #[test]
        fn times_as_jiff(ns in 0..=253_402_207_200_999_999_999i128, hours in -14i8..=14) {
            let time_ = jiff::Timestamp::from_nanosecond(ns).unwrap();
            let there = time_.display_with_offset(jiff::tz::Offset::constant(hours));
            let expected = u64::try_from(ns).ok();
            prop_assert_eq!(time(time_.to_string().as_bytes(), 1), expected);
            if ns > 86_400_000_000_000 {
                prop_assert_eq!(time(there.to_string().as_bytes(), 1), expected);
            }
        }

        #[test]
        fn integers_as_the_standard_library(text in "[0-9+-]{0,22}|0x[0-9a-f+]{0,17}") {
            let theirs = match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).ok(),
                None => text.parse().ok(),
            };
            prop_assert_eq!(integer(text.as_bytes()), theirs.filter(|_| !text.contains('+')));
        }
    }
}
