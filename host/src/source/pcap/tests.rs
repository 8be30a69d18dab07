use super::*;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
use proptest::prelude::*;
use std::time::Duration;

const PAYLOAD: &[u8] = b"\x00\x05payload";

fn ipv4(proto: u8, fragment: u16) -> Vec<u8> {
    let len = 20 + 8 + PAYLOAD.len();
    let mut p = vec![0x45, 0, 0, len as u8, 0, 0];
    p.extend(fragment.to_be_bytes());
    p.extend([64, proto, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    p.extend([0xc3, 0x50, 0x08, 0x07, 0, (8 + PAYLOAD.len()) as u8, 0, 0]);
    p.extend(PAYLOAD);
    p
}

fn framed(prefix: &[u8], ip: &[u8]) -> Vec<u8> {
    [prefix, ip, &[0; 6]].concat() // 6 bytes of frame padding
}

fn pcap(link: DataLink, packets: &[Vec<u8>]) -> Vec<u8> {
    let header = PcapHeader { datalink: link, ..Default::default() };
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for p in packets {
        writer.write_packet(&PcapPacket::new(Duration::from_micros(1_500_000), p.len() as u32, p)).unwrap();
    }
    writer.into_writer()
}

fn read(bytes: &[u8]) -> (FrameBatch, Skipped, Result<bool, String>) {
    let mut capture = Capture::open(bytes).unwrap();
    let mut batch = FrameBatch::default();
    loop {
        match capture.next(&mut batch) {
            Ok(true) => {}
            end => return (batch, capture.skipped(), end),
        }
    }
}

fn assert_one(batch: &FrameBatch) {
    assert_eq!(batch.frames.len(), 1);
    let frame = &batch.frames[0];
    assert_eq!(batch.bytes(frame), PAYLOAD);
    assert_eq!(frame.peer, "192.0.2.1:50000".parse().unwrap());
}

#[test]
fn every_link_type() {
    let ip = ipv4(17, 0x4000);
    let cases: [(DataLink, &[u8]); 8] = [
        (DataLink::RAW, &[]),
        (DataLink::Unknown(12), &[]),
        (DataLink::ETHERNET, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]),
        (DataLink::ETHERNET, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0]),
        (DataLink::LINUX_SLL, &[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0]),
        (DataLink::LINUX_SLL2, &[8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0]),
        (DataLink::NULL, &[2, 0, 0, 0]),
        (DataLink::LOOP, &[0, 0, 0, 2]),
    ];
    for (link, prefix) in cases {
        let (batch, skipped, end) = read(&pcap(link, &[framed(prefix, &ip)]));
        assert_eq!((skipped.total(), end), (0, Ok(false)), "{link:?}");
        assert_one(&batch);
        assert_eq!(batch.frames[0].received_ns, 1_500_000_000);
    }
}

#[test]
fn what_is_no_datagram_is_counted() {
    let mut cut = ipv4(17, 0);
    cut.truncate(30);
    let packets = [ipv4(6, 0), ipv4(17, 0x2000), ipv4(17, 5), cut, ipv4(17, 0)];
    let (batch, skipped, _) = read(&pcap(DataLink::RAW, &packets));
    assert_one(&batch);
    assert_eq!(skipped, Skipped { fragments: 2, not_udp: 1, truncated: 1, link_type: 0 });
    let (batch, skipped, _) = read(&pcap(DataLink::PPP, &[ipv4(17, 0)]));
    assert_eq!((batch.frames.len(), skipped.link_type), (0, 1));
}

#[test]
fn a_broken_off_file_keeps_what_came_before() {
    let mut bytes = pcap(DataLink::RAW, &[ipv4(17, 0), ipv4(17, 0)]);
    bytes.truncate(bytes.len() - 5);
    let mut capture = Capture::open(&bytes[..]).unwrap();
    let mut batch = FrameBatch::default();
    assert_eq!(capture.next(&mut batch), Ok(true));
    assert_eq!(capture.next(&mut batch), Err("the file breaks off".to_owned()));
    assert_eq!(capture.next(&mut batch), Ok(false), "an error is told once");
    assert_eq!(capture.packets(), 1);
    assert_one(&batch);
}

#[test]
fn pcapng_times_follow_the_interface() {
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    let mut fast = InterfaceDescriptionBlock::new(DataLink::RAW, 0xffff);
    fast.options.push(InterfaceDescriptionOption::IfTsResol(9));
    writer.write_pcapng_block(InterfaceDescriptionBlock::new(DataLink::RAW, 0xffff)).unwrap();
    writer.write_pcapng_block(fast).unwrap();
    let data = ipv4(17, 0);
    for interface_id in [0, 1] {
        let packet = EnhancedPacketBlock {
            interface_id,
            timestamp: Duration::from_nanos(1_700_000_000_000_000),
            original_len: data.len() as u32,
            data: (&data[..]).into(),
            options: vec![],
        };
        writer.write_pcapng_block(packet).unwrap();
    }
    let (batch, ..) = read(&writer.into_inner());
    let times: Vec<u64> = batch.frames.iter().map(|f| f.received_ns).collect();
    assert_eq!(times, [1_700_000_000_000_000_000, 1_700_000_000_000_000]);
    assert_eq!(batch.bytes(&batch.frames[1]), PAYLOAD);
}

#[test]
fn other_files_are_refused() {
    assert!(Capture::open(&b"hello world, this is text"[..]).err().unwrap().contains("no pcap or pcapng file"));
    assert!(Capture::open(&b""[..]).is_err());
}

proptest! {
    #[test]
    fn any_packet_is_taken_or_counted(link in 0u32..300, packet in prop::collection::vec(any::<u8>(), 0..120)) {
        let mut batch = FrameBatch::default();
        let mut skipped = Skipped::default();
        take(DataLink::from(link), &packet, 0, &mut batch, &mut skipped);
        prop_assert_eq!(batch.frames.len() as u64 + skipped.total(), 1);
    }
}
