//! Hides what varies in a message's text: numbers, addresses, hex. In: a text; out: the same with `<num>`, `<ip>`, `<hex>`.
//! Words in which letters and digits mix (`eth0`, `ssh2`) stay: what they are is not known here.

use std::net::Ipv6Addr;

/// Least length of hex without `0x` before it; it has letters and digits.
const HEX_MIN: usize = 6;

pub(crate) fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut inside_word = false;
    while let Some(c) = rest.chars().next() {
        if !inside_word
            && c.is_ascii()
            && let Some((mask, len)) = parameter(rest)
        {
            out.push_str(mask);
            rest = &rest[len..];
            inside_word = true;
            continue;
        }
        inside_word = is_word(c);
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// What a text begins with, if it is something that varies, and its length.
fn parameter(text: &str) -> Option<(&'static str, usize)> {
    let bytes = text.as_bytes();
    let run = |of: fn(&u8) -> bool| bytes.iter().take_while(|b| of(b)).count();
    let ends = |len: usize| !text[len..].chars().next().is_some_and(is_word);
    // Colons: IPv6 and hardware addresses.
    let colons = run(|b| b.is_ascii_hexdigit() || *b == b':');
    let dotted = run(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
    for len in [dotted, colons] {
        let word = text[..len].trim_end_matches(['.', ':']);
        let whole = if text[..len].ends_with("::") { text[..len].trim_end_matches('.') } else { word };
        if whole.matches(':').count() >= 2 && ends(whole.len()) {
            if whole.parse::<Ipv6Addr>().is_ok() {
                return Some(("<ip>", whole.len()));
            }
            if whole.split(':').map(str::len).eq([2; 6]) {
                return Some(("<hex>", whole.len()));
            }
        }
    }
    if let Some(len) = ipv4(bytes).filter(|len| ends(*len)) {
        return Some(("<ip>", len));
    }
    if bytes.starts_with(b"0x") {
        let len = 2 + bytes[2..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
        if len > 2 && ends(len) {
            return Some(("<hex>", len));
        }
    }
    let digits = run(u8::is_ascii_digit);
    if digits > 0 && ends(digits) {
        // With its decimals.
        let decimals = match bytes.get(digits) {
            Some(b'.') => bytes[digits + 1..].iter().take_while(|b| b.is_ascii_digit()).count(),
            _ => 0,
        };
        let len = if decimals > 0 && ends(digits + 1 + decimals) { digits + 1 + decimals } else { digits };
        return Some(("<num>", len));
    }
    let hex = run(u8::is_ascii_hexdigit);
    let mixed = bytes[..hex].iter().any(u8::is_ascii_digit) && bytes[..hex].iter().any(u8::is_ascii_alphabetic);
    (hex >= HEX_MIN && mixed && ends(hex)).then_some(("<hex>", hex))
}

/// Length of the IPv4 address that the bytes begin with.
fn ipv4(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    for part in 0..4 {
        let n = bytes[at..].iter().take(4).take_while(|b| b.is_ascii_digit()).count();
        if !(1..=3).contains(&n) {
            return None;
        }
        at += n;
        if part < 3 {
            (bytes.get(at) == Some(&b'.')).then_some(())?;
            at += 1;
        }
    }
    // A fifth part: a version, or an object id.
    let more = bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
    (!more).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_varies_is_hidden_and_words_stay() {
        for (text, expected) in [
            ("Failed password from 198.51.100.7 port 22 ssh2", "Failed password from <ip> port <num> ssh2"),
            ("rhost=198.51.100.7 uid=0 pid[77]", "rhost=<ip> uid=<num> pid[<num>]"),
            ("198.51.100.7:443 (198.51.100.7).", "<ip>:<num> (<ip>)."),
            ("from 2001:db8::1, ::1 and fe80::", "from <ip>, <ip> and <ip>"),
            ("::ffff:192.0.2.1 x", "<ip> x"),
            ("mac 00:1b:44:11:3a:b7: seen", "mac <hex>: seen"),
            ("at 0x0b85eee0, mask 0x05", "at <hex>, mask <hex>"),
            ("commit deadbeef42 of decade", "commit <hex> of decade"),
            ("took 12.5 s, -3 or 1.2.3.4.5", "took <num> s, -<num> or <num>.<num>.<num>"),
            ("eth0 R02-M1 user_1 10ms", "eth0 R02-M1 user_1 10ms"),
            ("06:55:46 12:30", "<num>:<num>:<num> <num>:<num>"),
            ("ends. 5.", "ends. <num>."),
            ("größe 5 ü6", "größe <num> ü6"),
        ] {
            assert_eq!(masked(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_or_grow_beyond_measure(text in "\\PC{0,60}|[0-9a-fx:. ]{0,60}") {
            prop_assert!(masked(&text).len() <= 5 * text.len());
        }

        #[test]
        fn addresses_are_hidden_whatever_they_are(v4 in any::<[u8; 4]>(), v6 in any::<[u16; 8]>()) {
            let (v4, v6) = (std::net::Ipv4Addr::from(v4), Ipv6Addr::from(v6));
            prop_assert_eq!(masked(&format!("a {v4} b=[{v6}]:7")), "a <ip> b=[<ip>]:<num>");
        }
    }
}
