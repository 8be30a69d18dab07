//! Messages of one partition on their way to decoding, packed end to end.

use crate::config::decode_options::DecodeFormat;
use crate::model::FrameBatch;
use crate::model::frames::NO_PEER;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// Messages of one partition, in order.
#[derive(Debug, Default)]
pub struct Messages {
    /// The values: one frame each.
    pub frames: FrameBatch,
    /// Their positions.
    pub offsets: Vec<i64>,
    /// Where each key lies in the frames' bytes; empty where nobody asks for keys.
    keys: Vec<Range<u32>>,
    /// When they came in, on the source's clock.
    pub arrived_ns: u64,
}

/// What is taken of a message besides its value.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Keys, for dead letters.
    pub keys: bool,
    /// The exporter's address.
    pub exporter: bool,
    /// Header that has it.
    pub exporter_header: Option<String>,
}

impl Wanted {
    pub fn new(config: &super::KafkaConfig) -> Self {
        Self {
            keys: config.dead_letter_topic.is_some(),
            exporter: config.decode.format.is_none_or(|f| f == DecodeFormat::Netflow),
            exporter_header: config.exporter_header.clone(),
        }
    }
}

impl Messages {
    /// Bytes in it.
    pub fn bytes(&self) -> usize {
        self.frames.data.len()
    }

    /// The key of message `at`.
    pub fn key(&self, at: usize) -> Option<&[u8]> {
        let range = self.keys.get(at)?;
        (!range.is_empty()).then(|| &self.frames.data[range.start as usize..range.end as usize])
    }

    /// Appends one. False: it has no value.
    pub(super) fn push(&mut self, message: &BorrowedMessage<'_>, wanted: &Wanted, now_ns: u64) -> bool {
        let Some(payload) = message.payload() else { return false };
        let received_ns = message.timestamp().to_millis().and_then(|ms| u64::try_from(ms).ok());
        let received_ns = received_ns.map_or(now_ns, |ms| ms.saturating_mul(1_000_000));
        let peer = if wanted.exporter { exporter(message, wanted.exporter_header.as_deref()) } else { None };
        self.frames.push(payload, peer.unwrap_or(NO_PEER), received_ns);
        self.offsets.push(message.offset());
        if wanted.keys {
            let start = self.frames.data.len() as u32;
            self.frames.data.extend_from_slice(message.key().unwrap_or_default());
            self.keys.push(start..self.frames.data.len() as u32);
        }
        true
    }
}

/// Whose datagram it is, by the header or the key.
fn exporter(message: &BorrowedMessage<'_>, header: Option<&str>) -> Option<SocketAddr> {
    match header {
        Some(name) => {
            let headers = message.headers()?;
            address(headers.iter().find(|h| h.key == name)?.value?)
        }
        None => address(message.key()?),
    }
}

/// An address as text, with or without a port, or as 4 or 16 bytes.
fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(bytes).ok().and_then(|text| {
        let text = text.trim();
        text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0)).or_else(|_| text.parse()).ok()
    });
    text.or_else(|| match bytes.len() {
        4 => Some(SocketAddr::new(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?), 0)),
        16 => Some(SocketAddr::new(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(), 0)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exporter_is_text_or_bytes() {
        let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let of = |bytes: &[u8]| address(bytes).map(|a| a.ip());
        assert_eq!(of(b"192.0.2.1"), ip("192.0.2.1"));
        assert_eq!(of(b"192.0.2.1:2055"), ip("192.0.2.1"));
        assert_eq!(of(b"[2001:db8::1]:2055"), ip("2001:db8::1"));
        assert_eq!(of(&[192, 0, 2, 7]), ip("192.0.2.7"));
        assert_eq!(of(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7]), ip("192.0.2.7"));
        assert_eq!(of(b"router-1"), None);
    }
}
