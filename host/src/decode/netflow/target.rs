//! Which field of a flow record an information element fills. Resolved once per template, so that a record costs a jump
//! per field and no look-up. Numbers: IANA IPFIX Information Elements; NetFlow v9's field types are the same up to 127.

/// RFC 5103: elements of the reverse direction stand under this enterprise number.
pub(super) const REVERSE_PEN: u32 = 29305;
/// CERT (YAF).
const CERT_PEN: u32 = 6871;
/// Marks a v9 scope field: scope types have numbers of their own (RFC 3954 6.1).
pub(super) const V9_SCOPE: u32 = u32::MAX;

/// Form of a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Seconds,
    Millis,
    Ntp,
    BeforeExport,
    Uptime,
}

/// What a field fills.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Skip,
    SrcV4,
    DstV4,
    SrcV6,
    DstV6,
    SrcPort,
    DstPort,
    Proto,
    TcpFlags,
    Bytes,
    Packets,
    /// Total since the flow's start: taken where there is no delta.
    BytesTotal,
    PacketsTotal,
    /// After a middlebox: taken where there is nothing else.
    BytesPost,
    PacketsPost,
    /// With layer 2 headers: taken where there is nothing else.
    BytesLayer2,
    InIf,
    OutIf,
    SrcAs,
    DstAs,
    SrcNetV4,
    DstNetV4,
    SrcNetV6,
    DstNetV6,
    NextHopV4,
    NextHopV6,
    BgpNextHopV4,
    BgpNextHopV6,
    Tos,
    Dscp,
    SrcVlan,
    DstVlan,
    Start(Form),
    End(Form),
    Observed(Form),
    DurationMillis,
    DurationMicros,
    InitMillis,
    SamplingRate,
    SamplerId,
    Frame,
    IpPacket,
    FrameSize,
    ReverseBytes,
    ReversePackets,
    ReverseTcpFlags,
    ReverseTos,
    ReverseStart(Form),
    ReverseEnd(Form),
    ReverseDelayMillis,
    // Only for `FlowExtra`.
    SrcMac,
    DstMac,
    PostSrcMac,
    PostDstMac,
    Ttl,
    IcmpTypeCode,
    IcmpType,
    IcmpCode,
    FlowLabel,
    FragmentId,
    FragmentOffset,
    ForwardingStatus,
    MplsLabel,
    ObservationPoint,
    Direction,
    EndReason,
    IngressVrf,
    EgressVrf,
    NatSrcV4,
    NatDstV4,
    NatSrcV6,
    NatDstV6,
    NatSrcPort,
    NatDstPort,
    NatEvent,
    FirewallEvent,
}

impl Target {
    /// The target of an element. `want_extra` false: what only `FlowExtra` holds is skipped.
    pub fn of(pen: u32, element: u16, want_extra: bool) -> Target {
        let target = match pen {
            0 => iana(element),
            REVERSE_PEN => reverse(element),
            CERT_PEN if element == 21 => Target::ReverseDelayMillis,
            _ => Target::Skip,
        };
        if !want_extra && target.only_extra() { Target::Skip } else { target }
    }

    /// True for fields that exist in `FlowExtra` alone.
    fn only_extra(self) -> bool {
        use Target::*;
        matches!(
            self,
            SrcMac
                | DstMac
                | PostSrcMac
                | PostDstMac
                | Ttl
                | IcmpTypeCode
                | IcmpType
                | IcmpCode
                | FlowLabel
                | FragmentId
                | FragmentOffset
                | ForwardingStatus
                | MplsLabel
                | ObservationPoint
                | Direction
                | EndReason
                | IngressVrf
                | EgressVrf
                | NatSrcV4
                | NatDstV4
                | NatSrcV6
                | NatDstV6
                | NatSrcPort
                | NatDstPort
                | NatEvent
                | FirewallEvent
                | DstVlan
        )
    }
}

fn iana(element: u16) -> Target {
    use Form::*;
    use Target::*;
    match element {
        1 => Bytes,
        2 => Packets,
        4 => Proto,
        5 => Tos,
        6 => TcpFlags,
        7 | 180 | 182 => SrcPort,
        8 => SrcV4,
        9 => SrcNetV4,
        10 => InIf,
        11 | 181 | 183 => DstPort,
        12 => DstV4,
        13 => DstNetV4,
        14 => OutIf,
        15 => NextHopV4,
        16 => SrcAs,
        17 => DstAs,
        18 => BgpNextHopV4,
        21 => End(Uptime),
        22 => Start(Uptime),
        23 => BytesPost,
        24 => PacketsPost,
        27 => SrcV6,
        28 => DstV6,
        29 => SrcNetV6,
        30 => DstNetV6,
        31 => FlowLabel,
        32 | 139 => IcmpTypeCode,
        34 | 50 => SamplingRate,
        48 | 302 => SamplerId,
        52 | 53 | 192 => Ttl,
        54 => FragmentId,
        56 => SrcMac,
        57 => PostDstMac,
        58 | 243 => SrcVlan,
        59 | 254 => DstVlan,
        61 => Direction,
        62 => NextHopV6,
        63 => BgpNextHopV6,
        70..=79 => MplsLabel,
        80 => DstMac,
        81 => PostSrcMac,
        85 => BytesTotal,
        86 => PacketsTotal,
        88 => FragmentOffset,
        89 => ForwardingStatus,
        104 | 315 => Frame,
        136 => EndReason,
        138 => ObservationPoint,
        150 => Start(Seconds),
        151 => End(Seconds),
        152 => Start(Millis),
        153 => End(Millis),
        154 | 156 => Start(Ntp),
        155 | 157 => End(Ntp),
        158 => Start(BeforeExport),
        159 => End(BeforeExport),
        160 => InitMillis,
        161 => DurationMillis,
        162 => DurationMicros,
        176 | 178 => IcmpType,
        177 | 179 => IcmpCode,
        195 => Dscp,
        // 40001 to 40005: the same under the numbers of older Cisco ASA software.
        225 | 40001 => NatSrcV4,
        226 | 40002 => NatDstV4,
        227 | 40003 => NatSrcPort,
        228 | 40004 => NatDstPort,
        230 => NatEvent,
        231 => Bytes,
        232 => ReverseBytes,
        233 | 40005 => FirewallEvent,
        234 => IngressVrf,
        235 => EgressVrf,
        281 => NatSrcV6,
        282 => NatDstV6,
        298 => Packets,
        299 => ReversePackets,
        312 => FrameSize,
        313 => IpPacket,
        322 => Observed(Seconds),
        323 => Observed(Millis),
        324 | 325 => Observed(Ntp),
        352 => BytesLayer2,
        _ => Skip,
    }
}

/// RFC 5103: what is counted and timed per direction. Addresses and ports of the reverse direction are those of the
/// forward direction exchanged.
fn reverse(element: u16) -> Target {
    match iana(element) {
        Target::Bytes | Target::BytesTotal => Target::ReverseBytes,
        Target::Packets | Target::PacketsTotal => Target::ReversePackets,
        Target::TcpFlags => Target::ReverseTcpFlags,
        Target::Tos => Target::ReverseTos,
        Target::Start(form) => Target::ReverseStart(form),
        Target::End(form) => Target::ReverseEnd(form),
        _ => Target::Skip,
    }
}
