//! One message: RFC 5424, RFC 3164, and what devices and files really hold. In: a line, when it was received, what the
//! operator knows about years and zones. Out: its fields as slices of the line. Refused, each with a reason: what is empty,
//! has a priority that cannot be, or neither a priority nor a time.
//!
//! Taken beside the two formats: no priority (files), no host, ISO times and years in RFC 3164, a byte-order mark, Cisco's
//! sequence numbers, clock marks and `%FACILITY-SEVERITY-MNEMONIC`, times as epoch seconds, Blue Gene's RAS lines.

use crate::ras;
use crate::time::{self, Clock};
use std::borrow::Cow;

/// What the operator knows and messages do not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Year of times without one. `None`: the one that is nearest to when the message was received.
    pub year: Option<i32>,
    /// Seconds east of UTC of times without a zone.
    pub offset_secs: i32,
}

/// A message. Fields that it does not have, or has as `-`, are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message<'a> {
    /// When it was written, ns since the Unix epoch.
    pub time_ns: Option<u64>,
    /// 0 to 23 (RFC 5424 6.2.1).
    pub facility: Option<u8>,
    /// 0 (emergency) to 7 (debug).
    pub severity: Option<u8>,
    /// Who wrote it.
    pub host: Option<&'a str>,
    /// The program; of Cisco's the facility, as `SYS`.
    pub app: Option<&'a str>,
    /// Process id.
    pub procid: Option<&'a str>,
    /// Type of message; of Cisco's `SYS-5-CONFIG_I`.
    pub msgid: Option<&'a str>,
    /// Structured data as it stands, `[id name="value" ...]...`; [`params`] reads it.
    pub structured_data: Option<&'a str>,
    /// What is said.
    pub text: &'a str,
}

/// Why something is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Nothing, or only spaces.
    Empty,
    /// It begins with `<` and a number that is no priority (0 to 191).
    BadPriority,
    /// Neither a priority nor a time.
    NoHeader,
}

impl Refusal {
    /// Every one.
    pub const ALL: [Refusal; 3] = [Refusal::Empty, Refusal::BadPriority, Refusal::NoHeader];

    /// Its name in counters.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Empty => "empty",
            Refusal::BadPriority => "bad_priority",
            Refusal::NoHeader => "no_header",
        }
    }
}

/// Longest name of a program (RFC 5424 6); what is longer is part of the text.
const APP_MAX: usize = 48;
/// Longest process id that is looked for.
const PROCID_MAX: usize = 128;

/// A frame's text. True: something in it was no UTF-8 and has been replaced.
pub fn text(frame: &[u8]) -> (Cow<'_, str>, bool) {
    let text = String::from_utf8_lossy(frame);
    let replaced = matches!(text, Cow::Owned(_));
    (text, replaced)
}

/// Reads a message that was received at `received_ns` (since the Unix epoch; 0: unknown).
pub fn parse<'a>(line: &'a str, received_ns: u64, options: &Options) -> Result<Message<'a>, Refusal> {
    let line = line.trim_start_matches(['\u{feff}', ' ', '\t']).trim_end_matches(['\0', '\r', '\n', ' ', '\t']);
    if line.is_empty() {
        return Err(Refusal::Empty);
    }
    let clock = Clock { received_ns, year: options.year, offset_secs: options.offset_secs };
    let (priority, rest) = priority(line)?;
    let mut message =
        Message { facility: priority.map(|p| p / 8), severity: priority.map(|p| p % 8), ..Message::default() };
    if priority.is_some() {
        if rfc5424(rest, &clock, &mut message).is_none() {
            rfc3164(rest, &clock, &mut message);
        }
        return Ok(message);
    }
    if let Some(message) = ras::parse(line) {
        return Ok(message);
    }
    rfc3164(rest, &clock, &mut message);
    // Without either, any text would be a message.
    if message.time_ns.is_some() || message.msgid.is_some() { Ok(message) } else { Err(Refusal::NoHeader) }
}

/// `<34>`, and what follows.
fn priority(line: &str) -> Result<(Option<u8>, &str), Refusal> {
    let Some(rest) = line.strip_prefix('<') else { return Ok((None, line)) };
    let (digits, rest) = rest.split_once('>').ok_or(Refusal::BadPriority)?;
    let valid = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let priority = digits.parse::<u8>().ok().filter(|p| valid && *p <= 191).ok_or(Refusal::BadPriority)?;
    Ok((Some(priority), rest))
}

/// `1 TIME HOST APP PROCID MSGID DATA TEXT`. `None`, and nothing is changed: it is not that.
fn rfc5424<'a>(rest: &'a str, clock: &Clock, out: &mut Message<'a>) -> Option<()> {
    let (version, rest) = rest.split_once(' ')?;
    if version.is_empty()
        || version.len() > 3
        || version.starts_with('0')
        || !version.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let (time_ns, rest) = match rest.strip_prefix('-') {
        Some(rest) => (None, rest),
        None => {
            let (ns, rest) = time::iso(rest, clock).or_else(|| time::epoch(rest))?;
            (Some(ns), rest)
        }
    };
    let mut rest = match rest.strip_prefix(' ') {
        Some(rest) => rest,
        None if rest.is_empty() => rest,
        None => return None,
    };
    out.time_ns = time_ns;
    // What breaks off early has fewer fields.
    for field in [&mut out.host, &mut out.app, &mut out.procid, &mut out.msgid] {
        let (value, after) = rest.split_once(' ').unwrap_or((rest, ""));
        *field = Some(value).filter(|v| !matches!(*v, "-" | ""));
        rest = after;
    }
    if let Some(after) = rest.strip_prefix('-').filter(|after| after.is_empty() || after.starts_with(' ')) {
        rest = after;
    } else if let Some(end) = structured_data(rest) {
        out.structured_data = Some(&rest[..end]);
        rest = &rest[end..];
    }
    out.text = rest.strip_prefix(' ').unwrap_or(rest).trim_start_matches('\u{feff}');
    Some(())
}

/// Length of the structured data that a text begins with. `None`: none, or it does not end.
fn structured_data(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while bytes.get(at) == Some(&b'[') {
        let (mut quoted, mut escaped) = (false, false);
        at += 1 + bytes[at + 1..].iter().position(|b| {
            match (quoted, escaped, b) {
                (true, true, _) => escaped = false,
                (true, false, b'\\') => escaped = true,
                (_, _, b'"') => quoted = !quoted,
                (false, _, b']') => return true,
                _ => {}
            }
            false
        })?;
        at += 1;
    }
    (at > 0 && (at == bytes.len() || bytes[at] == b' ')).then_some(at)
}

/// The parameters of structured data: element, name, value without its escapes. What is malformed ends its element.
pub fn params(data: &str) -> Vec<(&str, &str, Cow<'_, str>)> {
    let mut out = Vec::new();
    let mut rest = data;
    while let Some(end) = rest.strip_prefix('[').and_then(|_| element_end(rest)) {
        let element = &rest[1..end];
        rest = &rest[end + 1..];
        let (id, mut list) = element.split_once(' ').unwrap_or((element, ""));
        while let Some((name, after)) = list.trim_start().split_once("=\"") {
            let Some(close) = quote_end(after) else { break };
            out.push((id, name, unescaped(&after[..close])));
            list = &after[close + 1..];
        }
    }
    out
}

/// Where the element that a text begins with has its `]`.
fn element_end(text: &str) -> Option<usize> {
    let mut at = 1;
    loop {
        let next = text[at..].find(['"', ']'])? + at;
        if text.as_bytes()[next] == b']' {
            return Some(next);
        }
        at = next + 1 + quote_end(&text[next + 1..])? + 1;
    }
}

/// Where a quoted value ends.
fn quote_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|b| {
        let end = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        end
    })
}

/// `\"`, `\\` and `\]` stand for the character; any other backslash is one (RFC 5424 6.3.3).
fn unescaped(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some('"' | '\\' | ']') if c == '\\' => out.extend(chars.next()),
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// `TIME HOST APP[PROCID]: TEXT`, each part of which may be missing.
fn rfc3164<'a>(rest: &'a str, clock: &Clock, out: &mut Message<'a>) {
    let rest = rest.trim_start();
    if let Some((ns, after)) = stamp(rest, clock) {
        out.time_ns = Some(ns);
        return tagged(after, out);
    }
    // Cisco: sequence numbers, the host, a mark of an unsure clock, uptime.
    if let Some((host, after)) = cisco(rest, clock, out) {
        out.host = host;
        out.text = after;
        mnemonic(out);
        return;
    }
    out.text = rest;
    mnemonic(out);
    if out.msgid.is_none() {
        tag(rest, out);
    }
}

/// A time that the header may have.
fn stamp<'a>(text: &'a str, clock: &Clock) -> Option<(u64, &'a str)> {
    let ends = |rest: &str| rest.is_empty() || rest.starts_with([' ', ':']);
    time::bsd(text, clock).or_else(|| time::iso(text, clock)).filter(|(_, rest)| ends(rest))
}

/// What follows the time: host and tag, or a tag alone.
fn tagged<'a>(after: &'a str, out: &mut Message<'a>) {
    if let Some(after) = after.strip_prefix(':') {
        // Cisco and ASA: the host stood before, or nowhere.
        out.text = after.trim_start();
        mnemonic(out);
        if out.msgid.is_none() {
            tag(out.text, out);
        }
        return;
    }
    let after = after.trim_start();
    if tag(after, out) {
        return;
    }
    let (host, rest) = after.split_once(' ').unwrap_or((after, ""));
    let rest = rest.trim_start();
    // ASA: `TIME HOST : %ASA-...`.
    out.host = Some(host.trim_end_matches(':')).filter(|h| !matches!(*h, "-" | ""));
    out.text = rest.strip_prefix(": ").unwrap_or(rest);
    mnemonic(out);
    if out.msgid.is_none() {
        tag(rest, out);
    }
}

/// Takes `APP[PROCID]: ` or `APP: ` off the text's begin. False, and nothing is changed: there is none.
fn tag<'a>(text: &'a str, out: &mut Message<'a>) -> bool {
    let n = text.find([' ', '[', ':']).unwrap_or(text.len());
    if n == 0 || n > APP_MAX || text[..n].parse::<std::net::IpAddr>().is_ok() {
        return false;
    }
    // An IPv6 address is a host.
    let word = text.split(' ').next().unwrap_or(text);
    if word.trim_end_matches(':').parse::<std::net::Ipv6Addr>().is_ok() {
        return false;
    }
    let (mut procid, mut rest) = (None, &text[n..]);
    if let Some(inside) = rest.strip_prefix('[') {
        let Some(end) = inside.find(']').filter(|end| (1..=PROCID_MAX).contains(end)) else { return false };
        procid = Some(&inside[..end]);
        rest = &inside[end + 1..];
    }
    let Some(after) = rest.strip_prefix(':') else { return false };
    if !after.is_empty() && !after.starts_with([' ', '\t']) {
        return false;
    }
    out.app = Some(&text[..n]);
    out.procid = procid;
    out.text = after.strip_prefix(' ').unwrap_or(after);
    true
}

/// `45: router: *Mar  1 18:46:11.123 UTC: %SYS-5-...`: everything before `%` is optional. Host and the text after the head.
fn cisco<'a>(text: &'a str, clock: &Clock, out: &mut Message<'a>) -> Option<(Option<&'a str>, &'a str)> {
    let (mut rest, mut host, mut is_cisco) = (text, None, text.starts_with('%'));
    // Two numbers, a host and an uptime at most.
    for _ in 0..4 {
        let Some((word, after)) = rest.split_once(": ").filter(|(word, _)| !word.contains(' ')) else { break };
        if word.bytes().all(|b| b.is_ascii_digit()) && !word.is_empty() {
            is_cisco = true;
        } else if is_cisco && host.is_none() && !word.starts_with('%') {
            host = Some(word).filter(|w| !is_uptime(w.trim_start_matches(['*', '.'])));
        } else {
            break;
        }
        rest = after.trim_start();
    }
    let unsure = rest.trim_start_matches(['*', '.']);
    if (is_cisco || unsure.len() < rest.len())
        && let Some((ns, after)) = stamp(unsure, clock)
    {
        let after = after.strip_prefix(':').unwrap_or(after);
        out.time_ns = Some(ns);
        return Some((host, after.trim_start()));
    }
    is_cisco.then_some((host, rest))
}

/// `1w2d`, `00:00:46`: time since the device started.
fn is_uptime(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(|c| c.is_ascii_digit() || "ywdhms:".contains(c))
}

/// Takes `%FACILITY-SEVERITY-MNEMONIC: ` off the text's begin.
fn mnemonic(out: &mut Message<'_>) {
    let Some((head, after)) = out.text.strip_prefix('%').and_then(|t| t.split_once(':')) else { return };
    if head.len() > 64 || head.contains(' ') {
        return;
    }
    let parts: Vec<&str> = head.split('-').collect();
    let severity = |part: &&str| part.len() == 1 && matches!(part.as_bytes()[0], b'0'..=b'7');
    let Some(at) = parts.iter().position(severity).filter(|at| *at > 0 && *at + 1 < parts.len()) else { return };
    out.severity = out.severity.or(parts[at].parse().ok());
    out.app = Some(parts[0]);
    out.msgid = Some(head);
    out.text = after.trim_start();
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
