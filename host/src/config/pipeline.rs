//! `[pipelines.NAME]`: what feeds it, what it aggregates by, its windows, when it speaks. Seconds become nanoseconds
//! here, and windows must add up: a window is a whole number of panes.

use super::Entry;
use super::diagnostic::{code, near_miss, quoted};
use super::plan::*;
use super::raw::{IncidentSection, PipelineSection, WindowSection};
use super::read::meant;
use super::resolve::Resolver;
use crate::model::KeyLevel;
use crate::model::time::SECOND;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;

/// Columns every frame has, whether or not the operator names them.
const ALWAYS: [&str; 3] = ["flows", "bytes", "packets"];
/// More panes in one window cost memory without telling more.
const MAX_PANES: u64 = 10_000;
/// Longest time that any key takes: a day.
const MAX_SECS: f64 = 86_400.0;
/// Hysteresis looks back over at most so many windows.
const MAX_OPEN_N: u32 = 64;

impl Resolver<'_> {
    pub(super) fn pipeline(&mut self, id: &str, entry: &Entry<'_>) -> Option<PipelinePlan> {
        let path = &format!("pipelines.{id}");
        let written: PipelineSection = self.read(path, entry)?;

        let sources = self.required(path, "sources", written.sources.clone(), "sources = [\"NAME\"]");
        let sources = self.named_list(path, "sources", sources, |r, at, name| r.reference("sources", at, name));
        if written.detectors.is_none() && self.takes_flows(&written.sinks) {
            return self.forward(id, path, sources, &written);
        }
        let of_log = sources.iter().any(|s| self.word_of("sources", s, "type") == Some("kafka"));
        if of_log && sources.len() > 1 {
            let at = format!("{path}.sources");
            let help = "put the topics into one source, or give each source a pipeline of its own";
            self.bad(
                &at,
                format!("pipeline `{id}` reads a Kafka source and another one"),
                "one Kafka source, or none",
                help,
            );
        }
        let detectors = self.required(path, "detectors", written.detectors, "detectors = [\"NAME\"]");
        let judges = detectors.as_ref().map_or(0, Vec::len);
        let detectors = self.named_list(path, "detectors", detectors, |r, at, name| r.reference("detectors", at, name));
        let sinks = self.list(&format!("{path}.sinks"), &written.sinks, |r, at, name| r.reference("sinks", at, name));

        for (key, value, most) in [("prefix_v4", written.prefix_v4, 32), ("prefix_v6", written.prefix_v6, 128)] {
            self.in_range(&format!("{path}.{key}"), u64::from(value), 1, most);
        }
        let (v4_prefix, v6_prefix) = (written.prefix_v4, written.prefix_v6);
        let of_rows = written.rows.as_ref().map(super::rows::level);
        let records = written.records.as_ref().map(|r| self.records(path, r));
        let keys = match (of_rows, &records) {
            (Some(kind), _) => vec![KeyLevel { kind, v4_prefix, v6_prefix }],
            (None, Some(records)) => super::records::levels(records.as_ref(), (v4_prefix, v6_prefix)),
            (None, None) => {
                let keys = self.required(path, "keys", written.keys, "keys = [\"dst_addr\"]");
                self.named_list(path, "keys", keys, |r, at, name| {
                    Some(KeyLevel { kind: r.flow_level(at, name)?, v4_prefix, v6_prefix })
                })
            }
        };
        let of_flows = of_rows.is_none() && records.is_none();

        let features =
            self.required(path, "features", written.features, "features = [\"bits_per_s\", \"packets_per_s\"]");
        let one = if of_flows { Self::feature } else { Self::row_feature };
        let mut features = self.named_list(path, "features", features, one);
        for name in ALWAYS.iter().filter(|_| of_flows) {
            if !features.iter().any(|f| f == name) {
                features.push((*name).to_owned());
            }
        }
        let half_life = written.level_half_life_windows;
        if !(half_life.is_finite() && half_life > 0.0) {
            let at = format!("{path}.level_half_life_windows");
            self.bad(
                &at,
                format!("`{at}` is {half_life}"),
                "more than 0",
                "write how many windows it takes to forget half",
            );
        }

        let mode =
            self.word(&format!("{path}.mode"), &written.mode, &[("shadow", Mode::Shadow), ("alert", Mode::Alert)]);
        if mode == Some(Mode::Alert) && written.sinks.is_empty() && !self.findings.is_broken(&format!("{path}.sinks")) {
            let text = format!("pipeline `{id}` alerts, and nobody is told");
            let silent = self.findings.about(code::NO_SINK, path, text).warning().label("no sinks");
            self.findings.diagnostics.push(silent.help("add `sinks = [\"NAME\"]`, or say `mode = \"shadow\"`"));
        }

        let (rows, window) = match &written.rows {
            Some(rows) => self.rows(path, rows).map_or((None, None), |(rows, window)| (Some(rows), Some(window))),
            None => (None, self.window(path, &written.window, of_log, records.is_some())),
        };
        let combine = match &written.combine {
            Some(combine) => Some(self.combine(&format!("{path}.combine"), combine, judges)?),
            None => None,
        };
        let incident = self.incident(&format!("{path}.incident"), &written.incident)?;
        let shadow = match &written.shadow {
            Some(shadow) => Some(self.shadow(path, shadow, (&detectors, combine, &incident))?),
            None => None,
        };
        Some(PipelinePlan {
            id: Arc::from(id),
            sources,
            keys,
            window: window?,
            rows,
            records: match records {
                Some(records) => Some(records?),
                None => None,
            },
            features,
            level_half_life_windows: half_life,
            detectors,
            combine,
            incident,
            sinks,
            mode: mode?,
            forward: false,
            shadow,
        })
    }

    /// The word at a key of a named table, as it is written.
    fn word_of(&self, section: &str, name: &str, key: &str) -> Option<&str> {
        let entry = self.merged.named.get(section)?.get(name)?;
        entry.value.get_ref().as_table()?.get(key)?.get_ref().as_str()
    }

    /// True when all these sinks take flow records.
    fn takes_flows(&self, sinks: &[String]) -> bool {
        !sinks.is_empty() && sinks.iter().all(|s| self.word_of("sinks", s, "content") == Some("flows"))
    }

    /// A pipeline that hands records on has no windows, and nobody judges them.
    fn forward(
        &mut self,
        id: &str,
        path: &str,
        sources: Vec<Arc<str>>,
        written: &PipelineSection,
    ) -> Option<PipelinePlan> {
        let sinks = self.list(&format!("{path}.sinks"), &written.sinks, |r, at, name| r.reference("sinks", at, name));
        for key in ["keys", "features", "window", "rows", "records", "combine", "incident", "mode", "shadow"] {
            let at = format!("{path}.{key}");
            if self.findings.places.contains(&at) {
                let help = "remove it, or name the `detectors` that judge the windows";
                let text = format!("pipeline `{id}` only hands flow records on: it has no `{key}`");
                self.bad(&at, text, "nobody judges here", help);
            }
        }
        // Nobody looks at it.
        let window = WindowPlan {
            kind: WindowKind::Tumbling,
            size_ns: SECOND,
            pane_ns: SECOND,
            event_time: EventTime::Received,
            max_spread_ns: SECOND,
            out_of_order_ns: 0,
            allowed_lateness_ns: 0,
            idle_timeout_ns: SECOND,
            max_future_ns: SECOND,
            max_keys: 1,
        };
        Some(PipelinePlan {
            id: Arc::from(id),
            sources,
            keys: Vec::new(),
            window,
            rows: None,
            records: None,
            features: Vec::new(),
            level_half_life_windows: written.level_half_life_windows,
            detectors: Vec::new(),
            combine: None,
            incident: self.incident(&format!("{path}.incident"), &IncidentSection::default())?,
            sinks,
            mode: Mode::Alert,
            forward: true,
            shadow: None,
        })
    }

    /// A list that must be there with something in it.
    pub(super) fn named_list<T>(
        &mut self,
        path: &str,
        key: &str,
        items: Option<Vec<String>>,
        one: impl FnMut(&mut Self, &str, &str) -> Option<T>,
    ) -> Vec<T> {
        let Some(items) = items else { return Vec::new() };
        let at = format!("{path}.{key}");
        self.filled(&at, &items, &format!("name one or more {key}"));
        self.list(&at, &items, one)
    }

    fn feature(&mut self, path: &str, name: &str) -> Option<String> {
        let names = || self.registry.features.iter().map(|f| f.name);
        if names().any(|known| known == name) {
            return Some(name.to_owned());
        }
        let unknown = self.findings.about(code::UNKNOWN_FEATURE, path, format!("unknown feature `{name}`"));
        let unknown = meant(unknown, name, names(), "no such feature").help("`kaminari list features` names them all");
        self.findings.push(path, unknown);
        None
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, path: &str, word: &str, values: &[(&str, T)]) -> Option<T> {
        let known = values.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        if known.is_none() {
            let names = || values.iter().map(|(name, _)| *name);
            let label =
                near_miss(word, names()).map_or("not one of its values".into(), |n| format!("did you mean `{n}`?"));
            self.bad(path, format!("`{word}` is no value for `{path}`"), label, format!("values: {}", quoted(names())));
        }
        known
    }

    fn window(
        &mut self,
        pipeline: &str,
        written: &WindowSection,
        of_log: bool,
        of_records: bool,
    ) -> Option<WindowPlan> {
        let path = &format!("{pipeline}.window");
        if !self.findings.places.contains(path) {
            return self.required(pipeline, "window", None, "window = { type = \"sliding\", size_secs = 10 }");
        }
        let at = |key: &str| format!("{path}.{key}");
        let kind = self.required(path, "type", written.kind.as_deref(), "type = \"sliding\"");
        let kinds = [("tumbling", WindowKind::Tumbling), ("sliding", WindowKind::Sliding)];
        let kind = kind.and_then(|word| self.word(&at("type"), word, &kinds));
        let size = self.required(path, "size_secs", written.size_secs, "size_secs = 10");
        let size = size.and_then(|secs| self.duration(&at("size_secs"), secs, false));
        let slide = written.slide_secs.map(|secs| self.duration(&at("slide_secs"), secs, false));
        let early = written.early_secs.map(|secs| self.duration(&at("early_secs"), secs, false));
        let (pane_key, pane) = match kind {
            Some(WindowKind::Sliding) => ("slide_secs", slide.unwrap_or(Some(SECOND))),
            _ => ("early_secs", early.unwrap_or(size)),
        };
        let foreign = match kind {
            Some(WindowKind::Sliding) => {
                early.map(|_| ("early_secs", "tumbling", "`slide_secs` sets how often a sliding window fires"))
            }
            Some(WindowKind::Tumbling) => {
                slide.map(|_| ("slide_secs", "sliding", "`early_secs` makes a tumbling window fire early"))
            }
            None => None,
        };
        if let Some((key, other, help)) = foreign {
            let message = format!("`{key}` is only for {other} windows");
            self.bad(&at(key), message, format!("not for {} windows", kind.map_or("such", WindowKind::name)), help);
        }
        if let (Some(size), Some(pane)) = (size, pane) {
            self.panes(path, pane_key, size, pane);
        }

        let times = [("received", EventTime::Received), ("end", EventTime::End), ("spread", EventTime::Spread)];
        let event_time = if !of_records {
            self.word(&at("event_time"), &written.event_time, &times)
        } else if self.findings.places.contains(&at("event_time")) {
            let times = [("record", EventTime::End), ("received", EventTime::Received)];
            self.word(&at("event_time"), &written.event_time, &times)
        } else {
            // Its plugin says when a row happened.
            Some(EventTime::End)
        };
        let out_of_order = written.out_of_order_secs.unwrap_or(match event_time {
            Some(EventTime::End | EventTime::Spread) => 5.0,
            // Several collectors write to a partition, each a little behind the other.
            _ if of_log => 1.0,
            _ => 0.0,
        });
        let max_spread = self.duration(&at("max_spread_secs"), written.max_spread_secs, false);
        let out_of_order = self.duration(&at("out_of_order_secs"), out_of_order, true);
        let lateness = self.duration(&at("allowed_lateness_secs"), written.allowed_lateness_secs, true);
        let idle = self.duration(&at("idle_timeout_secs"), written.idle_timeout_secs, false);
        let future = self.duration(&at("max_future_secs"), written.max_future_secs, false);
        self.in_range(&at("max_keys"), written.max_keys as u64, 1, u64::from(u32::MAX));
        Some(WindowPlan {
            kind: kind?,
            size_ns: size?,
            pane_ns: pane?,
            event_time: event_time?,
            max_spread_ns: max_spread?,
            out_of_order_ns: out_of_order?,
            allowed_lateness_ns: lateness?,
            idle_timeout_ns: idle?,
            max_future_ns: future?,
            max_keys: written.max_keys,
        })
    }

    /// A window is a whole number of panes, and not of too many.
    fn panes(&mut self, path: &str, pane_key: &str, size: u64, pane: u64) {
        let at = format!("{path}.size_secs");
        let (size_secs, pane_secs) = (size as f64 / 1e9, pane as f64 / 1e9);
        if !size.is_multiple_of(pane) {
            let text = format!("a window of {size_secs} s is no multiple of `{pane_key}` = {pane_secs}");
            let (below, above) = ((size / pane) * pane, (size / pane + 1) * pane);
            let near =
                [below, above].iter().filter(|n| **n > 0).map(|n| (*n as f64 / 1e9).to_string()).collect::<Vec<_>>();
            let label = format!("not a multiple of {pane_secs}");
            self.bad(&at, text, label, format!("write {}, or change `{pane_key}`", near.join(" or ")));
        } else if size / pane > MAX_PANES {
            let text = format!("a window of {size_secs} s has {} panes of {pane_secs} s", size / pane);
            self.bad(
                &at,
                text,
                format!("more than {MAX_PANES} panes"),
                format!("make the window shorter or `{pane_key}` longer"),
            );
        }
    }

    /// Seconds (fractions allowed) to nanoseconds.
    pub(super) fn duration(&mut self, path: &str, secs: f64, zero_allowed: bool) -> Option<u64> {
        let good = (zero_allowed && secs == 0.0) || (0.001..=MAX_SECS).contains(&secs);
        if !good {
            let (label, least) = if zero_allowed {
                ("0, or from 0.001 to 86400", "0, or 0.001")
            } else {
                ("from 0.001 to 86400", "0.001")
            };
            self.bad(path, format!("`{path}` is {secs}"), label, format!("write seconds: {least} to 86400"));
        }
        good.then(|| (secs * SECOND as f64).round() as u64)
    }

    pub(super) fn incident(&mut self, path: &str, written: &IncidentSection) -> Option<IncidentPlan> {
        let at = |key: &str| format!("{path}.{key}");
        let open = self.open_after(&at("open_after"), &written.open_after);
        for (key, value, most) in [
            ("close_after_windows", u64::from(written.close_after_windows), 1_000_000),
            ("update_interval_secs", written.update_interval_secs, 86_400),
            ("cover_min_hosts", u64::from(written.cover_min_hosts), u64::from(u32::MAX)),
            ("max_open_per_minute", u64::from(written.max_open_per_minute), 1_000_000),
        ] {
            self.in_range(&at(key), value, 1, most);
        }
        if !(written.dominant_share > 0.0 && written.dominant_share <= 1.0) {
            let (path, value) = (at("dominant_share"), written.dominant_share);
            self.bad(&path, format!("`{path}` is {value}"), "more than 0, at most 1", "write a share such as 0.5");
        }
        let suppress = self.list(&at("suppress"), &written.suppress, Self::network);
        let (open_m, open_n) = open?;
        Some(IncidentPlan {
            open_m,
            open_n,
            close_after_windows: written.close_after_windows,
            update_interval_secs: written.update_interval_secs,
            cover_min_hosts: written.cover_min_hosts,
            dominant_share: written.dominant_share,
            max_open_per_minute: written.max_open_per_minute,
            suppress,
        })
    }

    /// `m/n`.
    fn open_after(&mut self, path: &str, text: &str) -> Option<(u32, u32)> {
        let parsed = text.split_once('/').and_then(|(m, n)| Some((m.trim().parse().ok()?, n.trim().parse().ok()?)));
        let Some((m, n)) = parsed else {
            let help = "write m/n: open when m of the last n windows alerted, such as \"2/3\"";
            self.bad(path, format!("`{text}` is no value for `{path}`"), "expected m/n", help);
            return None;
        };
        if m > n {
            let help = format!("write \"{n}/{m}\" or \"{n}/{n}\"");
            self.bad(path, format!("an incident cannot open after {m} of {n} windows"), "more than there are", help);
            return None;
        }
        if m == 0 || n > MAX_OPEN_N {
            let help = format!("write m/n with 1 <= m <= n <= {MAX_OPEN_N}");
            self.bad(path, format!("`{path}` is \"{text}\""), "out of range", help);
            return None;
        }
        Some((m, n))
    }

    /// A prefix or a single address.
    fn network(&mut self, path: &str, text: &str) -> Option<IpNet> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Some(IpNet::from(ip));
        }
        let Ok(net) = text.parse::<IpNet>() else {
            let help = "write a prefix such as \"192.0.2.0/24\" or an address";
            self.bad(path, format!("`{text}` is no prefix"), "neither prefix nor address", help);
            return None;
        };
        if net != net.trunc() {
            let help = format!("write \"{}\" for the prefix or \"{}\" for the host", net.trunc(), net.addr());
            self.bad(path, format!("`{text}` has host bits set"), format!("did you mean `{}`?", net.trunc()), help);
            return None;
        }
        Some(net)
    }
}
