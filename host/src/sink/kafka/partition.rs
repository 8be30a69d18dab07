//! Which partition a key belongs to: Kafka's own rule (murmur2 of the key's bytes, as its Java client does), so that every
//! format puts a key where any other producer would put it. Keys of flow records are texts.

use super::config::Key;
use crate::model::Addr;
use crate::model::schema::FlowColumns;
use std::io::Write;

/// Bits of an address that make the key `dst_prefix`: IPv4, IPv6.
const PREFIX: (u8, u8) = (24, 64);

/// The partition of a key among so many (at least one).
pub fn partition(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// The key's text of a row of flows, written over `out`. Keys of flows only: others give an empty text.
pub fn flow_key(key: Key, columns: &FlowColumns<'_>, row: usize, out: &mut Vec<u8>) {
    out.clear();
    match key {
        Key::DstPrefix => {
            let prefix = Addr(columns.dst_addr[row]).prefix(PREFIX.0, PREFIX.1);
            address(prefix.addr, out);
            out.push(b'/');
            decimal(prefix.len, out);
        }
        Key::DstAddr => address(Addr(columns.dst_addr[row]), out),
        Key::SrcAddr => address(Addr(columns.src_addr[row]), out),
        Key::Exporter => address(Addr(columns.sampler_address[row]), out),
        Key::Entity | Key::None => {}
    }
}

fn address(addr: Addr, out: &mut Vec<u8>) {
    if !addr.is_v4() {
        // A Vec takes everything.
        let _ = write!(out, "{addr}");
        return;
    }
    for (i, byte) in addr.0[12..].iter().enumerate() {
        if i > 0 {
            out.push(b'.');
        }
        decimal(*byte, out);
    }
}

fn decimal(n: u8, out: &mut Vec<u8>) {
    if n >= 100 {
        out.push(b'0' + n / 100);
    }
    if n >= 10 {
        out.push(b'0' + n / 10 % 10);
    }
    out.push(b'0' + n % 10);
}

/// Austin Appleby's MurmurHash2 with Kafka's seed.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ (data.len() as u32);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::flow_rows::fixtures;

    /// Values of Kafka's own test (`UtilsTest.testMurmur2`).
    #[test]
    fn the_hash_is_kafkas() {
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
        assert_eq!(murmur2(b"abc") as i32, 479_470_107);
    }

    #[test]
    fn keys_are_texts() {
        let batch = fixtures::batch(101);
        let columns = FlowColumns::new(&batch);
        let key = |key, row| {
            let mut out = b"old".to_vec();
            flow_key(key, &columns, row, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(key(Key::DstPrefix, 100), "203.0.100.0/24");
        assert_eq!(key(Key::DstAddr, 15), "203.0.15.7");
        assert_eq!(key(Key::SrcAddr, 9), "198.51.100.9");
        assert_eq!(key(Key::Exporter, 1), "192.0.2.1");
        assert_eq!(key(Key::None, 1), "");
    }
}
