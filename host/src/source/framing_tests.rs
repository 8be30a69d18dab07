use super::*;
use proptest::prelude::*;

fn framing(kind: FramingKind) -> Framing {
    Framing { kind, max_frame_bytes: 20, length_bytes: 2 }
}

#[derive(Debug, PartialEq, Default)]
struct Got {
    frames: Vec<String>,
    oversized: u64,
    broken: Option<Broken>,
    incomplete: bool,
}

/// What comes of bytes that are read in pieces of these sizes, round and round.
fn got(framing: Framing, bytes: &[u8], pieces: &[usize]) -> Got {
    let (mut framer, mut got, mut rest) = (Framer::new(framing), Got::default(), bytes);
    for piece in pieces.iter().cycle() {
        let (now, later) = rest.split_at((*piece).min(rest.len()));
        let mut take = |frame: &[u8]| got.frames.push(String::from_utf8_lossy(frame).into_owned());
        let fed = framer.feed(now, &mut take);
        got.oversized += framer.take_oversized();
        if let Err(broken) = fed {
            got.broken = Some(broken);
            return got;
        }
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    got.incomplete = framer.finish(&mut |frame| got.frames.push(String::from_utf8_lossy(frame).into_owned()));
    got
}

fn whole(kind: FramingKind, bytes: &[u8]) -> Got {
    got(framing(kind), bytes, &[usize::MAX])
}

fn frames(frames: &[&str]) -> Got {
    Got { frames: frames.iter().map(|&f| f.to_owned()).collect(), ..Got::default() }
}

#[test]
fn lines_end_with_lf_crlf_or_nul_and_the_last_needs_none() {
    assert_eq!(
        whole(FramingKind::Newline, b"one\ntwo\r\n\r\n\nthree\0four\r"),
        frames(&["one", "two", "three", "four"])
    );
    assert_eq!(whole(FramingKind::Newline, b"a\rb\n"), frames(&["a\rb"]));
    let long = whole(FramingKind::Newline, b"aaaaaaaaaaaaaaaaaaaaa\nb\naaaaaaaaaaaaaaaaaaaaaaaa");
    assert_eq!(long, Got { oversized: 2, ..frames(&["b"]) }, "the stream goes on after a line that is too long");
}

#[test]
fn octet_counts() {
    assert_eq!(whole(FramingKind::OctetCounted, b"3 a\nb5 <1>xy"), frames(&["a\nb", "<1>xy"]));
    let long = whole(FramingKind::OctetCounted, b"21 aaaaaaaaaaaaaaaaaaaaa1 b");
    assert_eq!(long, Got { oversized: 1, ..frames(&["b"]) });
    assert!(
        whole(FramingKind::OctetCounted, b"1 a12").incomplete && whole(FramingKind::OctetCounted, b"4 abc").incomplete
    );
    for wrong in [&b"<1>x"[..], b"01 x", b"1a x", b" 1 x", b"12345678901 x", b"0 "] {
        assert_eq!(whole(FramingKind::OctetCounted, wrong).broken, Some(Broken::NoCount), "{wrong:?}");
    }
    let lost = whole(FramingKind::OctetCounted, b"1 a9999999999 ");
    assert_eq!(lost, Got { oversized: 1, broken: Some(Broken::TooLong(9_999_999_999)), ..frames(&["a"]) });
}

#[test]
fn auto_tells_frame_by_frame() {
    assert_eq!(
        whole(FramingKind::Auto, b"5 <1>xy<2>line\n3 a\nb\n{\"a\":1}\n"),
        frames(&["<1>xy", "<2>line", "a\nb", "{\"a\":1}"])
    );
    // A digit without a count is a line that begins with a digit.
    assert_eq!(whole(FramingKind::Auto, b"2024-01-01 x\n0 y\n12"), frames(&["2024-01-01 x", "0 y", "12"]));
    assert_eq!(whole(FramingKind::Auto, b"123456789012 x\n"), frames(&["123456789012 x"]));
    assert!(whole(FramingKind::Auto, b"12 x").incomplete);
}

#[test]
fn lengths_before_frames() {
    assert_eq!(whole(FramingKind::LengthPrefixed, b"\0\x03abc\0\0\0\x01d"), frames(&["abc", "d"]));
    let long = whole(FramingKind::LengthPrefixed, b"\0\x15aaaaaaaaaaaaaaaaaaaaa\0\x01b");
    assert_eq!(long, Got { oversized: 1, ..frames(&["b"]) });
    assert!(
        whole(FramingKind::LengthPrefixed, b"\0").incomplete
            && whole(FramingKind::LengthPrefixed, b"\0\x02a").incomplete
    );
    let four = Framing { length_bytes: 4, ..framing(FramingKind::LengthPrefixed) };
    assert_eq!(got(four, b"\0\0\0\x02ab", &[1]), frames(&["ab"]));
    assert_eq!(got(four, b"\xff\0\0\0x", &[9]).broken, Some(Broken::TooLong(0xff00_0000)));
}

#[test]
fn what_is_pending_counts_from_the_last_whole_frame() {
    let mut framer = Framer::new(framing(FramingKind::Newline));
    let mut fed = |bytes: &[u8]| {
        framer.feed(bytes, &mut |_| {}).unwrap();
        framer.pending()
    };
    assert_eq!([fed(b"ab"), fed(b"c\nde"), fed(b"\n"), fed(&[b'x'; 50]), fed(b"\nyz")], [2, 2, 0, 50, 2]);
}

#[test]
fn settings_are_checked() {
    let read = |text: &str| toml::from_str::<Framing>(text).map_err(|e| e.message().to_owned());
    assert_eq!(read(""), Ok(Framing::default()));
    assert_eq!(read("type = \"auto\"").unwrap().kind, FramingKind::Auto);
    assert!(read("length_bytes = 3").unwrap_err().contains("2 or 4"));
    assert!(read("max_frame_bytes = 0").unwrap_err().contains("1 to"));
}

fn kinds() -> impl Strategy<Value = FramingKind> {
    prop_oneof![
        Just(FramingKind::Newline),
        Just(FramingKind::OctetCounted),
        Just(FramingKind::Auto),
        Just(FramingKind::LengthPrefixed)
    ]
}

proptest! {
    /// Bytes that have much to do with framing, and any.
    #[test]
    fn any_cuts_give_the_same(
        kind in kinds(),
        bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(0), Just(b' '), b'0'..=b'9', Just(b'x'), any::<u8>()], 0..120),
        pieces in prop::collection::vec(1usize..30, 1..10),
    ) {
        prop_assert_eq!(got(framing(kind), &bytes, &pieces), whole(kind, &bytes));
    }

    #[test]
    fn what_was_framed_comes_back(kind in kinds(), sent in prop::collection::vec("[a-z]{1,20}", 0..20), pieces in prop::collection::vec(1usize..30, 1..10)) {
        let mut bytes = Vec::new();
        for (i, frame) in sent.iter().enumerate() {
            match kind {
                FramingKind::Newline => bytes.extend(format!("{frame}\n").bytes()),
                FramingKind::Auto if i % 2 == 0 => bytes.extend(format!("{frame}\n").bytes()),
                FramingKind::OctetCounted | FramingKind::Auto => bytes.extend(format!("{} {frame}", frame.len()).bytes()),
                FramingKind::LengthPrefixed => {
                    bytes.extend((frame.len() as u16).to_be_bytes());
                    bytes.extend(frame.bytes());
                }
            }
        }
        let all: Vec<&str> = sent.iter().map(String::as_str).collect();
        prop_assert_eq!(got(framing(kind), &bytes, &pieces), frames(&all));
    }
}
