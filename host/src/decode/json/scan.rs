//! JSON read in one pass, without a tree and without an allocation for what has no escapes. Comes in: bytes of one or more
//! objects; goes out: the values of known keys, as they come. Refuses what is no JSON, also in values that nobody asked
//! for. What it does not look at: whether strings that nobody asked for are UTF-8 and their surrogates in pairs.

use super::keys::Keys;
use super::text::leading_digits;

/// Levels of lists and objects inside one another; more is no flow record.
const MAX_DEPTH: u32 = 128;

/// A value of a known key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::decode) enum Value<'a> {
    /// Without its quotes, escapes undone. Not checked to be UTF-8 where it had none.
    Text(&'a [u8]),
    Integer(u64),
    /// Any other number.
    Float(f64),
    Bool(bool),
    Null,
    /// With its brackets; known to be valid.
    List(&'a [u8]),
    /// With its braces; known to be valid.
    Object,
}

/// No JSON: what was expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::decode) struct Invalid(pub &'static str);

type Result<T> = std::result::Result<T, Invalid>;

/// Where the reading stands.
pub(in crate::decode) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Skips white space, also line breaks. False: nothing is left.
    pub fn more(&mut self) -> bool {
        self.peek() != 0 || self.at < self.bytes.len()
    }

    /// After an object: nothing but white space up to the end of the line.
    pub fn end_of_line(&mut self) -> Result<()> {
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'\n' => break,
                _ => return Err(Invalid("something follows the object")),
            }
        }
        Ok(())
    }

    /// Goes to the end of the line that `start` is in. An object that breaks off goes on in the next line's for a while:
    /// that line shall not be lost with it.
    pub fn skip_line(&mut self, start: usize) {
        let rest = &self.bytes[start..];
        self.at = start + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    }

    /// One object: its known keys and their values, in their order. Of a key that comes twice both values are handed out.
    #[inline]
    pub fn object<T: Copy, E: From<Invalid>>(
        &mut self,
        keys: &mut Keys<T>,
        mut take: impl FnMut(T, Value<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        if self.peek() != b'{' {
            return Err(Invalid("no object").into());
        }
        self.at += 1;
        if self.peek() == b'}' {
            self.at += 1;
            return Ok(());
        }
        for n in 0.. {
            let key = match keys.guess(n, &self.bytes[self.at..]) {
                Some((len, key)) => {
                    self.at += len;
                    key
                }
                None => self.key(n, keys)?,
            };
            match key {
                None => self.skip(0)?,
                Some(key) => match self.value()? {
                    Raw::Plain(value) => take(key, value)?,
                    Raw::Escaped(text) => take(key, Value::Text(unescape(text)?.as_bytes()))?,
                },
            }
            match self.peek() {
                b',' => self.at += 1,
                b'}' => break,
                _ => return Err(Invalid("neither comma nor brace after a value").into()),
            }
        }
        self.at += 1;
        Ok(())
    }

    /// The next byte that is no white space; 0 at the end (which a 0 in the text may pass for: it is valid nowhere).
    #[inline(always)]
    fn peek(&mut self) -> u8 {
        loop {
            match self.bytes.get(self.at) {
                Some(byte) if *byte > b' ' => return *byte,
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                _ => return 0,
            }
        }
    }

    /// Reads up to a value: a key and its colon.
    fn key<T: Copy>(&mut self, n: usize, keys: &mut Keys<T>) -> Result<Option<T>> {
        let start = self.at;
        if self.peek() != b'"' {
            return Err(Invalid("no key"));
        }
        self.at += 1;
        let (key, escaped) = self.string()?;
        let key = if escaped { self.odd_key(key, keys)? } else { self.plain_key(key, keys)? };
        if self.peek() != b':' {
            return Err(Invalid("no colon after a key"));
        }
        self.at += 1;
        // So that the space before a value need not be looked for.
        self.peek();
        keys.learn(n, &self.bytes[start..self.at], key);
        Ok(key)
    }

    #[inline(always)]
    fn plain_key<T: Copy>(&self, key: &[u8], keys: &Keys<T>) -> Result<Option<T>> {
        let found = keys.get(key);
        // Known keys are ASCII or what the operator wrote: a check costs only the others, and they are short.
        if found.is_none() && !key.is_ascii() && std::str::from_utf8(key).is_err() {
            return Err(Invalid("a key is not UTF-8"));
        }
        Ok(found)
    }

    #[cold]
    fn odd_key<T: Copy>(&self, key: &[u8], keys: &Keys<T>) -> Result<Option<T>> {
        Ok(keys.get(unescape(key)?.as_bytes()))
    }

    /// The string whose first quote was read: what is between the quotes, and whether it has escapes.
    #[inline(always)]
    fn string(&mut self) -> Result<(&'a [u8], bool)> {
        let start = self.at;
        let mut escaped = false;
        loop {
            while let Some(eight) = self.bytes.get(self.at..).and_then(|b| b.first_chunk::<8>()) {
                let found = special(u64::from_le_bytes(*eight));
                if found != 0 {
                    self.at += (found.trailing_zeros() / 8) as usize;
                    break;
                }
                self.at += 8;
            }
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    let text = &self.bytes[start..self.at];
                    self.at += 1;
                    return Ok((text, escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(..0x20) => return Err(Invalid("a control character in a string")),
                // Only near the end of the text, where there are no eight bytes.
                Some(_) => self.at += 1,
                None => return Err(Invalid("a string without end")),
            }
        }
    }

    #[cold]
    fn escape(&mut self) -> Result<()> {
        let digits = |b: &[u8; 4]| b.iter().all(u8::is_ascii_hexdigit);
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') if self.bytes[self.at + 2..].first_chunk::<4>().is_some_and(digits) => self.at += 6,
            _ => return Err(Invalid("a bad escape in a string")),
        }
        Ok(())
    }

    #[inline(always)]
    fn value(&mut self) -> Result<Raw<'a>> {
        let value = match self.peek() {
            b'"' => {
                self.at += 1;
                let (text, escaped) = self.string()?;
                if escaped {
                    return Ok(Raw::Escaped(text));
                }
                Value::Text(text)
            }
            b'-' | b'0'..=b'9' => self.number()?,
            b'[' => {
                let start = self.at;
                self.skip(0)?;
                Value::List(&self.bytes[start..self.at])
            }
            b'{' => {
                self.skip(0)?;
                Value::Object
            }
            b't' => self.word(b"true", Value::Bool(true))?,
            b'f' => self.word(b"false", Value::Bool(false))?,
            b'n' => self.word(b"null", Value::Null)?,
            _ => return Err(Invalid("no value")),
        };
        Ok(Raw::Plain(value))
    }

    /// Whole numbers of up to seven digits, at once; others take slower ways.
    #[inline(always)]
    fn number(&mut self) -> Result<Value<'a>> {
        let Some(eight) = self.bytes.get(self.at..).and_then(|b| b.first_chunk::<8>()) else {
            return self.long_number();
        };
        let (n, digits) = leading_digits(u64::from_le_bytes(*eight));
        if digits == 8 {
            return self.long_number();
        }
        if digits == 0 || matches!(eight[digits], b'.' | b'e' | b'E') || (digits > 1 && eight[0] == b'0') {
            return self.odd_number();
        }
        self.at += digits;
        Ok(Value::Integer(n))
    }

    /// A number that is no whole one, or longer than 19 digits, takes the slow way.
    fn long_number(&mut self) -> Result<Value<'a>> {
        let (mut n, mut at) = (0u64, self.at);
        while let Some(digit) = self.bytes.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
            n = n.wrapping_mul(10).wrapping_add(u64::from(digit));
            at += 1;
        }
        let digits = at - self.at;
        let fraction = matches!(self.bytes.get(at), Some(b'.' | b'e' | b'E'));
        if digits == 0 || digits > 19 || fraction || (digits > 1 && self.bytes[self.at] == b'0') {
            return self.odd_number();
        }
        self.at = at;
        Ok(Value::Integer(n))
    }

    #[cold]
    fn odd_number(&mut self) -> Result<Value<'a>> {
        let start = self.at;
        self.skip_number()?;
        let text = std::str::from_utf8(&self.bytes[start..self.at]).map_err(|_| Invalid("no number"))?;
        if let Ok(n) = text.parse() {
            return Ok(Value::Integer(n));
        }
        text.parse().ok().filter(|x: &f64| x.is_finite()).map(Value::Float).ok_or(Invalid("no number"))
    }

    fn digits(&mut self) -> Result<()> {
        let rest = &self.bytes[self.at..];
        let n = rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
        self.at += n;
        if n == 0 { Err(Invalid("a bad number")) } else { Ok(()) }
    }

    fn skip_number(&mut self) -> Result<()> {
        self.at += usize::from(self.bytes.get(self.at) == Some(&b'-'));
        let start = self.at;
        self.digits()?;
        if self.bytes[start] == b'0' && self.at > start + 1 {
            return Err(Invalid("a number with a leading zero"));
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.bytes.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    #[inline]
    fn word<T>(&mut self, word: &[u8], value: T) -> Result<T> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(Invalid("no value"));
        }
        self.at += word.len();
        Ok(value)
    }

    /// A value that nobody asked for.
    #[inline]
    fn skip(&mut self, depth: u32) -> Result<()> {
        match self.peek() {
            b'"' => {
                self.at += 1;
                self.string().map(|_| ())
            }
            b'-' | b'0'..=b'9' => self.skip_number(),
            b't' => self.word(b"true", ()),
            b'f' => self.word(b"false", ()),
            b'n' => self.word(b"null", ()),
            b'[' => self.nested(depth, b']'),
            b'{' => self.nested(depth, b'}'),
            _ => Err(Invalid("no value")),
        }
    }

    #[cold]
    fn nested(&mut self, depth: u32, end: u8) -> Result<()> {
        if depth == MAX_DEPTH {
            return Err(Invalid("lists and objects too deep in one another"));
        }
        self.at += 1;
        if self.peek() == end {
            self.at += 1;
            return Ok(());
        }
        loop {
            if end == b'}' {
                if self.peek() != b'"' {
                    return Err(Invalid("no key"));
                }
                self.at += 1;
                self.string()?;
                if self.peek() != b':' {
                    return Err(Invalid("no colon after a key"));
                }
                self.at += 1;
            }
            self.skip(depth + 1)?;
            let next = self.peek();
            if next != end && next != b',' {
                return Err(Invalid("neither comma nor end after a value"));
            }
            self.at += 1;
            if next == end {
                return Ok(());
            }
        }
    }
}

enum Raw<'a> {
    Plain(Value<'a>),
    Escaped(&'a [u8]),
}

/// The elements of a list that [`Scanner`] gave.
pub(in crate::decode) fn elements(list: &[u8], mut take: impl FnMut(Value<'_>) -> Option<()>) -> Option<()> {
    let mut scanner = Scanner { bytes: list, at: 1 };
    if scanner.peek() == b']' {
        return Some(());
    }
    loop {
        match scanner.value().ok()? {
            Raw::Plain(value) => take(value)?,
            Raw::Escaped(text) => take(Value::Text(unescape(text).ok()?.as_bytes()))?,
        }
        let next = scanner.peek();
        scanner.at += 1;
        if next != b',' {
            return Some(());
        }
    }
}

/// A bit in each byte that ends or breaks a string: quote, backslash, control character. The lowest is exact, which is
/// the one that counts (higher ones may be borrows of it).
#[inline(always)]
fn special(eight: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let quote = eight ^ (ONES * b'"' as u64);
    let backslash = eight ^ (ONES * b'\\' as u64);
    let equal = (quote.wrapping_sub(ONES) & !quote) | (backslash.wrapping_sub(ONES) & !backslash);
    (equal | (eight.wrapping_sub(ONES * 0x20) & !eight)) & HIGH
}

/// The text that a string with escapes stands for; its escapes are known to be well formed.
#[cold]
fn unescape(raw: &[u8]) -> Result<String> {
    const BAD: Invalid = Invalid("a surrogate without its other half");
    let text = std::str::from_utf8(raw).map_err(|_| Invalid("a string is not UTF-8"))?;
    let hex = |text: &str| text.get(..4).and_then(|four| u16::from_str_radix(four, 16).ok()).ok_or(BAD);
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, escape)) = rest.split_once('\\') {
        out.push_str(before);
        let mut tail = escape.get(1..).ok_or(BAD)?;
        match escape.as_bytes()[0] {
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'u' => {
                let mut units = [hex(tail)?, 0];
                tail = &tail[4..];
                let mut len = 1;
                if (0xd800..0xdc00).contains(&units[0]) {
                    let low = tail.strip_prefix("\\u").ok_or(BAD)?;
                    units[1] = hex(low)?;
                    (tail, len) = (&low[4..], 2);
                }
                out.push_str(&String::from_utf16(&units[..len]).map_err(|_| BAD)?);
            }
            same => out.push(same as char),
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}
