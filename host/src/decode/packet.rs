//! The headers of a sampled frame (IPFIX 313 to 315): Ethernet, VLAN, MPLS with or without a control word, IPv4, IPv6 and
//! its extension headers, TCP, UDP, ICMP. Comes in: the first bytes of a frame, cut anywhere; goes out: what could be
//! read before the cut. Refuses nothing: a frame that it does not understand gives an empty [`Packet`].

use crate::model::Addr;

/// Labels kept of a stack.
const MAX_LABELS: usize = 8;
/// Headers followed before giving up (VLANs, IPv6 extensions).
const MAX_STEPS: usize = 8;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// What a frame's headers say. Absent values are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Packet {
    pub src_mac: [u8; 6],
    pub dst_mac: [u8; 6],
    pub vlan: u16,
    pub etype: u16,
    labels: [u32; MAX_LABELS],
    label_count: usize,
    pub src: Addr,
    pub dst: Addr,
    pub proto: u8,
    pub tos: u8,
    pub ttl: u8,
    /// Length of the IP packet by its own header.
    pub ip_len: u64,
    pub fragment_id: u32,
    pub fragment_offset: u16,
    pub ip_flags: u8,
    pub flow_label: u32,
    pub src_port: u16,
    pub dst_port: u16,
    pub tcp_flags: u16,
    pub icmp: Option<(u8, u8)>,
}

impl Packet {
    /// Reads an Ethernet frame.
    pub fn ethernet(frame: &[u8]) -> Self {
        let mut packet = Self::default();
        let _ = packet.read_ethernet(frame, 0);
        packet
    }

    /// Reads an IP packet.
    pub fn ip(bytes: &[u8]) -> Self {
        let mut packet = Self::default();
        let _ = packet.read_ip(bytes);
        packet
    }

    /// MPLS labels, top first.
    pub fn labels(&self) -> &[u32] {
        &self.labels[..self.label_count]
    }

    // The readers return None where the frame is cut: what was read before stays.

    fn read_ethernet(&mut self, mut b: &[u8], depth: usize) -> Option<()> {
        let (dst_mac, src_mac) = (take(&mut b)?, take(&mut b)?);
        if depth == 0 {
            // The frame's own addresses, not those of a frame that it carries.
            (self.dst_mac, self.src_mac) = (dst_mac, src_mac);
        }
        let mut etype = u16::from_be_bytes(take(&mut b)?);
        for _ in 0..MAX_STEPS {
            // 802.1Q, 802.1ad and the older QinQ types.
            if !matches!(etype, 0x8100 | 0x88a8 | 0x9100) {
                break;
            }
            self.vlan = u16::from_be_bytes(take(&mut b)?) & 0x0fff;
            etype = u16::from_be_bytes(take(&mut b)?);
        }
        match etype {
            IPV4 | IPV6 => self.read_ip(b),
            0x8847 | 0x8848 => self.read_mpls(b, depth),
            _ => {
                self.etype = etype;
                None
            }
        }
    }

    fn read_mpls(&mut self, mut b: &[u8], depth: usize) -> Option<()> {
        loop {
            let entry = u32::from_be_bytes(take(&mut b)?);
            if self.label_count < MAX_LABELS {
                self.labels[self.label_count] = entry >> 12;
                self.label_count += 1;
            }
            if entry & 0x100 != 0 {
                break;
            }
        }
        match b.first()? >> 4 {
            4 | 6 => self.read_ip(b),
            // RFC 4385: a pseudowire's control word starts with 0; Ethernet follows.
            0 if depth == 0 => self.read_ethernet(b.get(4..)?, depth + 1),
            _ => None,
        }
    }

    fn read_ip(&mut self, b: &[u8]) -> Option<()> {
        match b.first()? >> 4 {
            4 => self.read_ipv4(b),
            6 => self.read_ipv6(b),
            _ => None,
        }
    }

    fn read_ipv4(&mut self, b: &[u8]) -> Option<()> {
        let h = b.get(..20)?;
        self.etype = IPV4;
        self.tos = h[1];
        self.ip_len = u64::from(u16::from_be_bytes([h[2], h[3]]));
        self.fragment_id = u32::from(u16::from_be_bytes([h[4], h[5]]));
        let fragment = u16::from_be_bytes([h[6], h[7]]);
        self.ip_flags = (fragment >> 13) as u8;
        self.fragment_offset = fragment & 0x1fff;
        self.ttl = h[8];
        self.proto = h[9];
        self.src = Addr::from_v4_bytes([h[12], h[13], h[14], h[15]]);
        self.dst = Addr::from_v4_bytes([h[16], h[17], h[18], h[19]]);
        if self.fragment_offset != 0 {
            return None; // no transport header in a later fragment
        }
        self.read_transport(b.get(usize::from(h[0] & 0x0f) * 4..)?)
    }

    fn read_ipv6(&mut self, b: &[u8]) -> Option<()> {
        let h = b.get(..40)?;
        self.etype = IPV6;
        self.tos = (h[0] << 4) | (h[1] >> 4);
        self.flow_label = u32::from_be_bytes([0, h[1] & 0x0f, h[2], h[3]]);
        self.ip_len = 40 + u64::from(u16::from_be_bytes([h[4], h[5]]));
        self.ttl = h[7];
        self.src = Addr(h[8..24].try_into().expect("16 bytes"));
        self.dst = Addr(h[24..40].try_into().expect("16 bytes"));
        self.proto = h[6];
        let mut rest = &b[40..];
        for _ in 0..MAX_STEPS {
            // Hop-by-hop, routing and destination options have a length; a fragment header is 8 bytes (RFC 8200 4).
            let len = match self.proto {
                0 | 43 | 60 => 8 + usize::from(*rest.get(1)?) * 8,
                44 => {
                    let f = rest.get(..8)?;
                    self.fragment_id = u32::from_be_bytes([f[4], f[5], f[6], f[7]]);
                    self.fragment_offset = u16::from_be_bytes([f[2], f[3]]) >> 3;
                    8
                }
                _ => break,
            };
            self.proto = *rest.first()?;
            rest = rest.get(len..)?;
        }
        if self.fragment_offset != 0 { None } else { self.read_transport(rest) }
    }

    fn read_transport(&mut self, b: &[u8]) -> Option<()> {
        match self.proto {
            6 | 17 | 132 => {
                let p = b.get(..4)?;
                self.src_port = u16::from_be_bytes([p[0], p[1]]);
                self.dst_port = u16::from_be_bytes([p[2], p[3]]);
                if self.proto == 6 {
                    let f = b.get(12..14)?;
                    self.tcp_flags = u16::from_be_bytes([f[0], f[1]]) & 0x0fff;
                }
            }
            1 | 58 => {
                let p = b.get(..2)?;
                self.icmp = Some((p[0], p[1]));
            }
            _ => {}
        }
        Some(())
    }
}

fn take<const N: usize>(b: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = b.split_first_chunk::<N>()?;
    *b = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 20 bytes of IPv4 and 20 of TCP, ACK and SYN set.
    fn ipv4_tcp() -> Vec<u8> {
        let mut p = vec![0x45, 0xb8, 0, 40, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2];
        p.extend([0x01, 0xbb, 0xc0, 0x00, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x12, 0, 0, 0, 0, 0, 0]);
        p
    }

    fn ethernet(etype: u16, payload: &[u8]) -> Vec<u8> {
        let mut f = vec![2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 4];
        f.extend(etype.to_be_bytes());
        f.extend(payload);
        f
    }

    #[test]
    fn vlan_and_tcp() {
        let mut tagged = vec![0x20, 0xe7, 0x08, 0x00];
        tagged.extend(ipv4_tcp());
        let p = Packet::ethernet(&ethernet(0x8100, &tagged));
        assert_eq!((p.vlan, p.etype, p.proto, p.tos, p.ttl, p.ip_len), (0xe7, IPV4, 6, 0xb8, 64, 40));
        assert_eq!((p.src_port, p.dst_port, p.tcp_flags, p.fragment_id), (443, 49152, 0x12, 0x1234));
        assert_eq!((p.src.to_string(), p.dst.to_string()), ("192.0.2.1".into(), "198.51.100.2".into()));
    }

    #[test]
    fn ethernet_over_mpls_with_control_word() {
        let mut body = vec![];
        body.extend(((300_012u32 << 12) | 64).to_be_bytes());
        body.extend(((17u32 << 12) | 0x100 | 64).to_be_bytes());
        body.extend([0, 0, 0, 0]);
        body.extend(ethernet(IPV4, &ipv4_tcp()));
        let p = Packet::ethernet(&ethernet(0x8847, &body));
        assert_eq!(p.labels(), [300_012, 17]);
        assert_eq!((p.dst_port, p.etype), (49152, IPV4));
    }

    #[test]
    fn ipv6_behind_extension_headers() {
        let mut b = vec![0x6a, 0xb1, 0x23, 0x45, 0, 16, 0, 61];
        b.extend([0x20; 16]);
        b.extend([0x30; 16]);
        b.extend([17, 0, 0, 0, 0, 0, 0, 0]); // hop-by-hop, then UDP
        b.extend([0, 53, 0x10, 0, 0, 8, 0, 0]);
        let p = Packet::ip(&b);
        assert_eq!((p.proto, p.src_port, p.dst_port, p.tos, p.flow_label), (17, 53, 4096, 0xab, 0x12345));
        assert_eq!((p.ip_len, p.ttl), (56, 61));
    }

    proptest! {
        #[test]
        fn any_cut_and_any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Packet::ethernet(&bytes);
            let _ = Packet::ip(&bytes);
            for cut in 0..bytes.len() {
                let mut framed = ethernet([IPV4, IPV6, 0x8100, 0x8847][cut % 4], &bytes[..cut]);
                let _ = Packet::ethernet(&framed);
                framed.truncate(cut);
                let _ = Packet::ethernet(&framed);
            }
        }
    }
}
