//! What a decoder counts. Comes in: events of the decoders; goes out: numbers for the end-of-run line and the `decode`
//! metrics of the catalogue. Reasons are enums, so that no label can grow without bound.

use crate::model::FlowType;
use crate::telemetry as t;
use std::fmt;

macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $id:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum $name { $($(#[doc = $doc])+ $id,)+ }
        impl $name {
            /// Every one, in order.
            pub const ALL: &'static [$name] = &[$($name::$id,)+];
            /// Label value.
            pub const fn name(self) -> &'static str {
                match self { $($name::$id => $text,)+ }
            }
        }
    };
}

reasons! {
    /// Why a datagram, set or record was not decoded.
    Refusal {
        /// Shorter than the header of its version.
        ShortHeader = "short_header",
        /// First two bytes are not 5, 7, 9 or 10.
        UnsupportedVersion = "unsupported_version",
        /// v5/v7: the count is 0, above the maximum, or more than the datagram holds.
        BadCount = "bad_count",
        /// IPFIX: the message length is not the datagram's.
        BadLength = "bad_length",
        /// A set's length is less than its header.
        BadSetLength = "bad_set_length",
        /// A set is longer than what is left of the datagram.
        TruncatedSet = "truncated_set",
        /// The end of a data set is no whole record and no padding.
        TruncatedRecord = "truncated_record",
        /// A template that makes no sense, or is too large.
        BadTemplate = "bad_template",
        /// Data whose template never came.
        MissingTemplate = "missing_template",
        /// Set ids that no RFC gives a meaning to.
        ReservedSet = "reserved_set",
        /// Too many templates for one exporter.
        TemplateLimit = "template_limit",
        /// Too many observation domains for one exporter.
        DomainLimit = "domain_limit",
        /// Too many exporters.
        ExporterLimit = "exporter_limit",
        /// Text line that is no record.
        BadLine = "bad_line",
        /// Text line with a field that cannot be read.
        BadField = "bad_field",
        /// Text line without addresses.
        NoAddress = "no_address",
        /// csv line with another number of fields than the header.
        FieldCount = "field_count",
        /// A message that is no protobuf or Arrow stream of its format, or breaks off.
        BadMessage = "bad_message",
        /// An Arrow stream whose columns are not those of a flow batch.
        BadSchema = "bad_schema",
        /// A RawFlow whose payload is for a decoder that there is none of (sFlow).
        UnsupportedDecoder = "unsupported_decoder",
    }
}

reasons! {
    /// Where a record's sampling rate came from.
    RateOrigin {
        /// Config: `sampling_overrides`.
        Override = "override",
        /// The record (or a v5 header) says it.
        Record = "record",
        /// Options data, by sampler or selector id.
        Sampler = "sampler",
        /// Options data of the domain or the exporter.
        Exporter = "exporter",
        /// Config: `sampling_rate`.
        Config = "config",
        /// Nobody says it: the rate is 0.
        Unknown = "unknown",
    }
}

/// Reasons that there are.
pub const REFUSALS: usize = Refusal::ALL.len();
const ORIGINS: usize = RateOrigin::ALL.len();
const TYPES: usize = FlowType::ALL.len();

/// Counters since the start; `templates`, `exporters` and `pending_bytes` are current values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecodeStats {
    /// Datagrams (or lines) seen.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Flow records by [`FlowType`].
    pub flows: [u64; TYPES],
    /// Rows of features that came as they are.
    pub rows: u64,
    /// Records of options data.
    pub options_records: u64,
    /// Refusals of all kinds: one look tells whether a frame had any.
    pub refusals: u64,
    /// Datagrams, sets or records refused, by [`Refusal`].
    pub errors: [u64; REFUSALS],
    /// Of these: bytes of an earlier frame, which waited for their template. The frame that is decoded when they are
    /// refused is not to blame.
    pub late_errors: [u64; REFUSALS],
    /// Bytes left undecoded, by [`Refusal`].
    pub undecoded_bytes: [u64; REFUSALS],
    /// Bytes of data sets that became records (v5 and v7: bytes of records).
    pub decoded_bytes: u64,
    /// Bytes of padding in data sets.
    pub padding_bytes: u64,
    /// Bytes of headers of datagrams and sets, and of template sets that were understood.
    pub framing_bytes: u64,
    /// Data sets that came before their template.
    pub missing_template: u64,
    /// Of these: kept.
    pub pending_buffered: u64,
    /// Of the kept: decoded when the template came.
    pub pending_replayed: u64,
    /// Of the kept: given up (too old, or no room).
    pub pending_expired: u64,
    /// Bytes kept now.
    pub pending_bytes: u64,
    /// Records (v5, v7, IPFIX) or datagrams (v9) missing by sequence number, by [`FlowType`].
    pub sequence_gap: [u64; TYPES],
    /// Sequence numbers that started anew.
    pub sequence_restarts: u64,
    /// Flow records by the origin of their sampling rate.
    pub sampling: [u64; ORIGINS],
    /// Templates known now.
    pub templates: u64,
    /// Exporters known now.
    pub exporters: u64,
    /// Datagrams of exporters that are not on the allow-list.
    pub strangers: u64,
    /// First text line that was refused: number and cause.
    pub first_error: Option<String>,
}

impl DecodeStats {
    /// Counts one refusal and the bytes that it cost.
    #[cold]
    pub(crate) fn refuse(&mut self, why: Refusal, bytes: usize) {
        self.refusals += 1;
        self.errors[why as usize] += 1;
        self.undecoded_bytes[why as usize] += bytes as u64;
    }

    /// What rose since `errors` was `before` was the fault of an earlier frame.
    #[cold]
    pub(crate) fn blame_earlier(&mut self, before: &[u64; REFUSALS]) {
        for (late, (now, before)) in self.late_errors.iter_mut().zip(self.errors.iter().zip(before)) {
            *late += now - before;
        }
    }

    /// Refusals by reason that were the fault of the frame in which they were found.
    pub fn own_errors(&self) -> [u64; REFUSALS] {
        std::array::from_fn(|i| self.errors[i] - self.late_errors[i])
    }

    /// The reasons for which something of the frames since [`own_errors`](Self::own_errors) was `before` was refused.
    #[cold]
    pub fn reasons_since(&self, before: &[u64; REFUSALS]) -> Vec<Refusal> {
        let now = self.own_errors();
        Refusal::ALL.iter().copied().filter(|why| now[*why as usize] > before[*why as usize]).collect()
    }

    /// Flow records of all types.
    pub fn flows_total(&self) -> u64 {
        self.flows.iter().sum()
    }

    /// Refusals of all kinds.
    pub fn errors_total(&self) -> u64 {
        self.errors.iter().sum()
    }

    /// Undecoded bytes of all kinds.
    pub fn undecoded_total(&self) -> u64 {
        self.undecoded_bytes.iter().sum()
    }

    /// Flow records whose sampling rate nobody says.
    pub fn sampling_unknown(&self) -> u64 {
        self.sampling[RateOrigin::Unknown as usize]
    }

    /// Adds what happened since `previous` to the metrics of the source `component_id`, and makes `previous` equal to
    /// this. Meant to be called about once a second, not per datagram.
    pub fn publish(&self, previous: &mut DecodeStats, component_id: &str) {
        self.log_what_is_new(previous, component_id);
        let id = || component_id.to_owned();
        let labelled = |name, label: &'static str, value: &'static str, now: u64, before: u64| {
            if now > before {
                metrics::counter!(name, "component_id" => id(), label => value).increment(now - before);
            }
        };
        for (i, kind) in FlowType::ALL.into_iter().enumerate() {
            labelled(t::DECODE_FLOWS, "version", kind.name(), self.flows[i], previous.flows[i]);
            let (gap, before) = (self.sequence_gap[i], previous.sequence_gap[i]);
            labelled(t::DECODE_SEQUENCE_GAP, "version", kind.name(), gap, before);
        }
        for (i, why) in Refusal::ALL.iter().enumerate() {
            labelled(t::DECODE_ERRORS, "reason", why.name(), self.errors[i], previous.errors[i]);
            let (bytes, before) = (self.undecoded_bytes[i], previous.undecoded_bytes[i]);
            labelled(t::DECODE_UNDECODED_BYTES, "reason", why.name(), bytes, before);
        }
        labelled(t::SOURCE_REFUSED, "reason", "not_allowed", self.strangers, previous.strangers);
        for (outcome, now, before) in [
            ("buffered", self.pending_buffered, previous.pending_buffered),
            ("replayed", self.pending_replayed, previous.pending_replayed),
            ("expired", self.pending_expired, previous.pending_expired),
        ] {
            labelled(t::DECODE_PENDING_SETS, "outcome", outcome, now, before);
        }
        for (name, now, before) in [
            (t::DECODE_ROWS, self.rows, previous.rows),
            (t::DECODE_MISSING_TEMPLATE, self.missing_template, previous.missing_template),
            (t::DECODE_SAMPLING_UNKNOWN, self.sampling_unknown(), previous.sampling_unknown()),
        ] {
            if now > before {
                metrics::counter!(name, "component_id" => id()).increment(now - before);
            }
        }
        // Differences, because the decoders of several sockets share a gauge.
        for (name, now, before) in [
            (t::DECODE_TEMPLATES, self.templates, previous.templates),
            (t::DECODE_EXPORTERS, self.exporters, previous.exporters),
        ] {
            metrics::gauge!(name, "component_id" => id()).increment(now as f64 - before as f64);
        }
        previous.clone_from(self);
    }
}

impl DecodeStats {
    /// The first of each kind of trouble, once: a person who watches only the log must hear of it, and a flood of
    /// garbage must not fill the disk.
    fn log_what_is_new(&self, previous: &DecodeStats, component_id: &str) {
        let why = Refusal::ALL.iter().enumerate().filter(|(i, _)| self.errors[*i] > 0 && previous.errors[*i] == 0);
        for (i, why) in why {
            tracing::error!(
                component_id,
                error_type = why.name(),
                refused = self.errors[i],
                "input is refused ({}): from now on only {} tells how much",
                why.name(),
                t::DECODE_ERRORS
            );
        }
        let gap = |stats: &DecodeStats| stats.sequence_gap.iter().sum::<u64>();
        if gap(self) > 0 && gap(previous) == 0 {
            tracing::error!(
                component_id,
                error_type = "sequence_gap",
                missing = gap(self),
                "exporters' sequence numbers have gaps: records were lost on the way; from now on only {} tells how many",
                t::DECODE_SEQUENCE_GAP
            );
        }
        if self.strangers > 0 && previous.strangers == 0 {
            tracing::warn!(
                component_id,
                error_type = "not_allowed",
                "datagrams of exporters that `decode.allow` does not name are refused; {} tells how many",
                t::SOURCE_REFUSED
            );
        }
    }
}

/// One line for a person.
impl fmt::Display for DecodeStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows > 0 {
            write!(f, "{} lines, {} rows", self.datagrams, self.rows)?;
        } else {
            write!(f, "{} packets, {} records", self.datagrams, self.flows_total())?;
        }
        list(f, " (", FlowType::ALL.into_iter().zip(self.flows).map(|(k, n)| (k.name(), n)), ")")?;
        write!(f, ", {} errors", self.errors_total())?;
        list(f, " (", Refusal::ALL.iter().zip(self.errors).map(|(r, n)| (r.name(), n)), ")")?;
        for (what, n) in [
            ("undecoded bytes", self.undecoded_total()),
            ("sets still waiting for a template", self.waiting()),
            ("missing by sequence numbers", self.sequence_gap.iter().sum()),
            ("records with unknown sampling rate", self.sampling_unknown()),
            ("datagrams from exporters not allowed", self.strangers),
        ] {
            if n > 0 {
                write!(f, ", {n} {what}")?;
            }
        }
        Ok(())
    }
}

impl DecodeStats {
    fn waiting(&self) -> u64 {
        self.pending_buffered - self.pending_replayed - self.pending_expired
    }
}

fn list(
    f: &mut fmt::Formatter<'_>,
    open: &str,
    items: impl Iterator<Item = (&'static str, u64)>,
    close: &str,
) -> fmt::Result {
    let mut any = false;
    for (name, n) in items.filter(|(_, n)| *n > 0) {
        write!(f, "{}{name} {n}", if any { ", " } else { open })?;
        any = true;
    }
    if any { f.write_str(close) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_what_happened() {
        let mut stats = DecodeStats { datagrams: 3, ..DecodeStats::default() };
        stats.flows[FlowType::Ipfix as usize] = 7;
        stats.refuse(Refusal::TruncatedSet, 12);
        let line = stats.to_string();
        assert_eq!(line, "3 packets, 7 records (IPFIX 7), 1 errors (truncated_set 1), 12 undecoded bytes");
    }

    #[test]
    fn a_snapshot_tells_what_rose() {
        let mut stats = DecodeStats::default();
        stats.refuse(Refusal::BadLine, 3);
        let before = stats.errors;
        assert_eq!(stats.reasons_since(&before), []);
        stats.refuse(Refusal::NoAddress, 0);
        stats.refuse(Refusal::BadLine, 1);
        assert_eq!(stats.reasons_since(&before), [Refusal::BadLine, Refusal::NoAddress]);
        assert_eq!(stats.refusals, stats.errors_total());
    }

    #[test]
    fn a_frame_is_not_blamed_for_an_earlier_one() {
        let mut stats = DecodeStats::default();
        let before = stats.errors;
        stats.refuse(Refusal::MissingTemplate, 21);
        stats.blame_earlier(&before);
        stats.refuse(Refusal::BadSetLength, 1);
        assert_eq!(stats.reasons_since(&before), [Refusal::BadSetLength]);
        assert_eq!(stats.errors_total(), 2);
    }

    #[test]
    fn the_decoders_of_several_sockets_share_a_gauge() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let templates = || {
            let text = recorder.handle().render();
            let line = text.lines().find_map(|l| l.strip_prefix("kaminari_decode_templates{component_id=\"edge\"} "));
            line.map(str::to_owned)
        };
        metrics::with_local_recorder(&recorder, || {
            let (mut one, mut two) = (DecodeStats::default(), DecodeStats::default());
            DecodeStats { templates: 5, ..Default::default() }.publish(&mut one, "edge");
            DecodeStats { templates: 7, ..Default::default() }.publish(&mut two, "edge");
            assert_eq!(templates().as_deref(), Some("12"));
            DecodeStats { templates: 2, ..Default::default() }.publish(&mut one, "edge");
            assert_eq!(templates().as_deref(), Some("9"));
        });
    }

    #[test]
    fn type_numbers_index_the_arrays() {
        for (i, kind) in FlowType::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, i);
        }
    }
}
