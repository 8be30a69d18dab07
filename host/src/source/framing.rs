//! A stream of bytes to frames. In: bytes as reads bring them, cut anywhere. Out: frames, the same however the bytes were
//! cut. Refused: frames that are too long (the stream goes on after them where it can), and what is no frame at all (the
//! stream is then lost, [`Broken`]). Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

/// How frames stand in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Framing {
    /// `newline`, `octet_counted`, `auto` or `length_prefixed`.
    #[serde(rename = "type", default)]
    pub kind: FramingKind,
    /// Longest frame, bytes; a longer one is refused and counted.
    #[serde(default = "default_max", deserialize_with = "max_frame")]
    pub max_frame_bytes: usize,
    /// `length_prefixed`: bytes of the length, 2 or 4.
    #[serde(default = "default_width", deserialize_with = "width")]
    pub length_bytes: u8,
}

/// What tells frames apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FramingKind {
    /// A line break after each: LF, CR LF or NUL (RFC 6587 3.4.2).
    #[default]
    Newline,
    /// The length in decimal digits and a space before each (RFC 6587 3.4.1, RFC 5425).
    OctetCounted,
    /// Each as it begins: with a digit (not 0), octet counted; else a line.
    Auto,
    /// The length as a big-endian number before each.
    LengthPrefixed,
}

impl Default for Framing {
    fn default() -> Self {
        Self { kind: FramingKind::default(), max_frame_bytes: default_max(), length_bytes: default_width() }
    }
}

fn default_max() -> usize {
    64 << 10
}
fn default_width() -> u8 {
    4
}

/// Largest `max_frame_bytes`: each connection may hold so much.
const MAX_FRAME: usize = 16 << 20;
/// A frame that is said to be longer than this is not passed over: more likely the length is none.
const SKIP_MAX: u64 = 64 << 20;
/// Digits of an octet count.
const DIGITS_MAX: usize = 10;
/// A buffer larger than this is given back when its frame is whole: idle connections are many.
const KEEP: usize = 4 << 10;

fn max_frame<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    let n = usize::deserialize(from)?;
    let error = || de::Error::custom(format!("`max_frame_bytes` is {n}, it may be 1 to {MAX_FRAME}"));
    (1..=MAX_FRAME).contains(&n).then_some(n).ok_or_else(error)
}

fn width<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    let n = u8::deserialize(from)?;
    let error = || de::Error::custom(format!("`length_bytes` is {n}, it may be 2 or 4"));
    matches!(n, 2 | 4).then_some(n).ok_or_else(error)
}

/// Where the next frame begins cannot be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// No octet count where one must be.
    #[error("a frame does not begin with its length in digits and a space: is the sender's framing another?")]
    NoCount,
    /// Too long to pass over.
    #[error("a frame says that it has {0} bytes: is the sender's framing another?")]
    TooLong(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a frame.
    Start,
    /// In a line; in `partial` what came of it.
    Line,
    /// In a line that is too long.
    SkipLine,
    /// In an octet count; its digits are in `partial`.
    Count,
    /// In a length.
    Length { value: u64, left: u8 },
    /// In a frame of known length.
    Body { left: usize },
    /// In one that is too long.
    Skip { left: u64 },
}

/// One stream's.
#[derive(Debug)]
pub struct Framer {
    framing: Framing,
    state: State,
    partial: Vec<u8>,
    pending: u64,
    oversized: u64,
}

impl Framer {
    /// Before the first byte.
    pub fn new(framing: Framing) -> Self {
        Self { framing, state: State::Start, partial: Vec::new(), pending: 0, oversized: 0 }
    }

    /// Takes bytes and gives out every frame that is whole with them, without what frames it. Empty frames are none.
    pub fn feed(&mut self, mut bytes: &[u8], frame: &mut impl FnMut(&[u8])) -> Result<(), Broken> {
        while let Some(first) = bytes.first() {
            let taken = match self.state {
                State::Start => {
                    self.pending = 0;
                    self.state = self.begin(*first)?;
                    0
                }
                State::Line => self.line(bytes, frame),
                State::SkipLine => self.skip_line(bytes),
                State::Count => {
                    self.count(*first)?;
                    usize::from(self.state != State::Line)
                }
                State::Length { value, left } => {
                    let value = value << 8 | u64::from(*first);
                    self.state = if left > 1 { State::Length { value, left: left - 1 } } else { self.body(value)? };
                    1
                }
                State::Body { left } => self.take(left, bytes, frame),
                State::Skip { left } => {
                    let n = left.min(bytes.len() as u64);
                    self.state = if n < left { State::Skip { left: left - n } } else { State::Start };
                    n as usize
                }
            };
            self.pending += taken as u64;
            bytes = &bytes[taken..];
        }
        if self.state == State::Start {
            self.pending = 0;
        }
        Ok(())
    }

    /// The stream has ended: gives out a last line that has no line break. True: it ended within a frame whose length was
    /// said, which is lost.
    pub fn finish(&mut self, frame: &mut impl FnMut(&[u8])) -> bool {
        let state = std::mem::replace(&mut self.state, State::Start);
        self.pending = 0;
        let is_line = state == State::Line || state == State::Count && self.framing.kind == FramingKind::Auto;
        if is_line {
            self.emit_line(frame);
        }
        self.partial = Vec::new();
        !is_line && matches!(state, State::Count | State::Length { .. } | State::Body { .. })
    }

    /// From now on frames may be so long, where they stand in the stream as they did; else all stays: a sender does not change
    /// its framing in the middle of a stream.
    pub fn limit(&mut self, framing: Framing) {
        let max_frame_bytes = framing.max_frame_bytes;
        if (Framing { max_frame_bytes, ..self.framing }) == framing {
            self.framing = framing;
        }
    }

    /// Bytes taken since the last frame was whole.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// Frames that were too long, since this was asked last.
    pub fn take_oversized(&mut self) -> u64 {
        std::mem::take(&mut self.oversized)
    }

    fn begin(&self, first: u8) -> Result<State, Broken> {
        match self.framing.kind {
            FramingKind::Newline => Ok(State::Line),
            FramingKind::LengthPrefixed => Ok(State::Length { value: 0, left: self.framing.length_bytes }),
            FramingKind::OctetCounted | FramingKind::Auto if (b'1'..=b'9').contains(&first) => Ok(State::Count),
            FramingKind::OctetCounted => Err(Broken::NoCount),
            FramingKind::Auto => Ok(State::Line),
        }
    }

    fn line(&mut self, bytes: &[u8], frame: &mut impl FnMut(&[u8])) -> usize {
        let end = memchr::memchr2(b'\n', 0, bytes);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let fits = self.partial.len() + part.len() <= self.framing.max_frame_bytes;
        match end {
            Some(end) => {
                self.state = State::Start;
                if !fits {
                    self.oversized += 1;
                    self.partial = Vec::new();
                } else if self.partial.is_empty() {
                    emit(part.strip_suffix(b"\r").unwrap_or(part), frame);
                } else {
                    self.partial.extend_from_slice(part);
                    self.emit_line(frame);
                }
                end + 1
            }
            None if fits => {
                self.partial.extend_from_slice(part);
                part.len()
            }
            None => {
                self.oversized += 1;
                self.partial = Vec::new();
                self.state = State::SkipLine;
                part.len()
            }
        }
    }

    fn emit_line(&mut self, frame: &mut impl FnMut(&[u8])) {
        let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        emit(line, frame);
        self.emptied();
    }

    fn emptied(&mut self) {
        self.partial.clear();
        if self.partial.capacity() > KEEP {
            self.partial = Vec::new();
        }
    }

    fn skip_line(&mut self, bytes: &[u8]) -> usize {
        let Some(end) = memchr::memchr2(b'\n', 0, bytes) else { return bytes.len() };
        self.state = State::Start;
        end + 1
    }

    /// One byte of an octet count. What turns out to be a line goes on as one, with the byte not taken.
    fn count(&mut self, byte: u8) -> Result<(), Broken> {
        if byte.is_ascii_digit() && self.partial.len() < DIGITS_MAX {
            self.partial.push(byte);
        } else if byte == b' ' {
            let value = self.partial.iter().fold(0, |sum, b| sum * 10 + u64::from(b - b'0'));
            self.partial.clear();
            self.state = self.body(value)?;
        } else if self.framing.kind == FramingKind::Auto {
            self.state = State::Line;
        } else {
            return Err(Broken::NoCount);
        }
        Ok(())
    }

    fn body(&mut self, len: u64) -> Result<State, Broken> {
        if len == 0 {
            return Ok(State::Start);
        }
        if len <= self.framing.max_frame_bytes as u64 {
            return Ok(State::Body { left: len as usize });
        }
        self.oversized += 1;
        if len <= SKIP_MAX { Ok(State::Skip { left: len }) } else { Err(Broken::TooLong(len)) }
    }

    fn take(&mut self, left: usize, bytes: &[u8], frame: &mut impl FnMut(&[u8])) -> usize {
        let n = left.min(bytes.len());
        if n < left {
            self.partial.extend_from_slice(&bytes[..n]);
            self.state = State::Body { left: left - n };
            return n;
        }
        self.state = State::Start;
        if self.partial.is_empty() {
            emit(&bytes[..n], frame);
        } else {
            self.partial.extend_from_slice(&bytes[..n]);
            emit(&self.partial, frame);
            self.emptied();
        }
        n
    }
}

fn emit(bytes: &[u8], frame: &mut impl FnMut(&[u8])) {
    if !bytes.is_empty() {
        frame(bytes);
    }
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
