//! Sources that receive on threads of their own: sockets and streams. In: a source of the plan. Out: receivers, bound and
//! ready, with what decodes what they bring. Refused: what cannot be bound or read, and formats that do not come that way.

use super::build::{BuildError, Problem};
use super::progress::Progress;
use super::saved::{self, Saved};
use crate::config::decode_options::{DecodeFormat, DecodeOptions};
use crate::config::{Component, ConfigError, Plan, code};
use crate::source::framing::FramingKind;
use crate::source::tail::{self, TailConfig};
use crate::source::tcp::{self, TcpConfig};
use crate::source::udp::{self, Sockets, UdpConfig, UdpReceiver};
use crate::source::unix::{self, UnixConfig, UnixKind};
use crate::source::{Held, Receive, SourceError, Takeover};
use std::fmt::Display;

/// A source's receivers, each with a decoder of its own.
pub(super) struct Receivers {
    pub(super) receivers: Vec<(Box<dyn Receive>, Option<Saved>)>,
    /// Deliveries that may wait before each decoder.
    pub(super) queue: usize,
    pub(super) decode: DecodeOptions,
    /// Whoever sends waits when the engine does: nothing is shed.
    pub(super) waits: bool,
    /// Keeps the positions of a source that can be read again.
    pub(super) progress: Option<Progress>,
    /// Where it listens, with the kind before it.
    pub(super) bound: Option<String>,
    /// What a successor may go on with.
    pub(super) held: Option<Held>,
    /// The change from the receivers before.
    pub(super) takeover: Option<Takeover>,
}

/// The receivers of a source; `None`: it is none of that kind.
pub(super) fn build(plan: &Plan, component: &Component) -> Result<Option<Receivers>, BuildError> {
    let id = &component.id;
    let keep = |lane: String, section| saved::store(plan).map(|s| Saved::new(&s, lane, section, &plan.digest));
    Ok(Some(if component.kind == udp::DEF.kind {
        let config: UdpConfig = read(component)?;
        let (receivers, address) = udp::bind(id, &config)?;
        of_udp(plan, component, config, receivers, Some(format!("udp {address}")))
    } else if component.kind == tcp::DEF.kind {
        let config: TcpConfig = read(component)?;
        let (receiver, listening) = tcp::bind(id, &config).map_err(|e| unusable(id, e))?;
        let kind = if config.tls.is_some() { "tls" } else { "tcp" };
        let bound = Some(format!("{kind} {}", listening.address));
        let queue = tcp::queue(&config);
        Receivers { bound, ..of_stream(plan, id, receiver, (queue, config.decode), Some(Held::Tcp(listening))) }
    } else if component.kind == unix::DEF.kind {
        let config: UnixConfig = read(component)?;
        let (receiver, listening) = unix::bind(id, &config).map_err(|e| unusable(id, e))?;
        let bound = Some(format!("unix {}", config.path.display()));
        let queue = unix::queue(&config);
        Receivers { bound, ..of_stream(plan, id, receiver, (queue, config.decode), Some(Held::Unix(listening))) }
    } else if component.kind == tail::DEF.kind {
        let config: TailConfig = read(component)?;
        let kept = keep(saved::files(id), "positions");
        if kept.is_none() {
            tracing::warn!(component_id = &**id, "positions are not kept: `[engine] state_dir` says where");
        }
        let known = kept.as_ref().and_then(Saved::load);
        let opened = tail::open(id, &config, known.as_deref()).or_else(|error| {
            tracing::warn!(component_id = &**id, "{error}: files are read as at the very first start");
            tail::open(id, &config, None)
        });
        let (receiver, places) = opened.map_err(|e| BuildError::Input(format!("source {id:?}: {e}")))?;
        let queue = tail::queue(&config);
        let progress = kept.map(|kept| Progress::new(places, kept));
        Receivers { progress, ..of_stream(plan, id, receiver, (queue, config.decode), None) }
    } else {
        return Ok(None);
    }))
}

/// The receivers of a source that takes the place of one on the same address, and goes on with what that has open; `None`: it is
/// none of those that can.
pub(super) fn beside(plan: &Plan, old: Option<&Held>, component: &Component) -> Result<Option<Receivers>, BuildError> {
    let id = &component.id;
    let (mut made, takeover) = match old {
        Some(Held::Udp(old)) if component.kind == udp::DEF.kind => {
            let config: UdpConfig = read(component)?;
            if !old.serve(config.listen) {
                return Ok(None);
            }
            let (receivers, takeover) = udp::take_over(id, &config, old)?;
            (of_udp(plan, component, config, receivers, None), Takeover::new(move || takeover.begin()))
        }
        Some(Held::Tcp(old)) if component.kind == tcp::DEF.kind => {
            let config: TcpConfig = read(component)?;
            if !old.serves(config.listen) {
                return Ok(None);
            }
            let (receiver, held, takeover) = tcp::take_over(id, &config, old).map_err(|e| unusable(id, e))?;
            let queue = tcp::queue(&config);
            (of_stream(plan, id, receiver, (queue, config.decode), Some(Held::Tcp(held))), takeover)
        }
        Some(Held::Unix(old)) if component.kind == unix::DEF.kind => {
            let config: UnixConfig = read(component)?;
            if !old.serves(&config) {
                return Ok(None);
            }
            let (receiver, held, takeover) = unix::take_over(id, &config, old);
            let queue = unix::queue(&config);
            (of_stream(plan, id, receiver, (queue, config.decode), Some(Held::Unix(held))), takeover)
        }
        _ => return Ok(None),
    };
    made.takeover = Some(takeover);
    Ok(Some(made))
}

/// One receiver of something that waits.
fn of_stream(
    plan: &Plan,
    id: &str,
    receiver: Box<dyn Receive>,
    (queue, decode): (usize, DecodeOptions),
    held: Option<Held>,
) -> Receivers {
    let saved = saved::store(plan).map(|s| Saved::new(&s, saved::socket(id, 0), "templates", &plan.digest));
    Receivers {
        receivers: vec![(receiver, saved)],
        queue,
        decode,
        waits: true,
        progress: None,
        bound: None,
        held,
        takeover: None,
    }
}

fn of_udp(
    plan: &Plan,
    component: &Component,
    config: UdpConfig,
    receivers: Vec<UdpReceiver>,
    bound: Option<String>,
) -> Receivers {
    let store = saved::store(plan);
    let held = Some(Held::Udp(Sockets::of(&receivers)));
    let saved = |number| {
        let lane = saved::socket(&component.id, number);
        store.as_ref().map(|s| Saved::new(s, lane, "templates", &plan.digest))
    };
    let receivers = receivers.into_iter().enumerate().map(|(n, r)| (Box::new(r) as Box<dyn Receive>, saved(n)));
    Receivers {
        receivers: receivers.collect(),
        queue: udp::queue_len(&config),
        decode: config.decode,
        waits: false,
        progress: None,
        bound,
        held,
        takeover: None,
    }
}

/// True when the successor of a source that cannot go on with what that has open must be opened after it: it has the same address,
/// or the same positions.
pub(super) fn holds_alone(was: &Component, component: &Component) -> bool {
    let same = |key: &str| was.kind == component.kind && was.body.get(key) == component.body.get(key);
    match component.kind {
        kind if kind == tcp::DEF.kind => same("listen"),
        kind if kind == udp::DEF.kind => false,
        kind if kind == unix::DEF.kind => same("path"),
        _ => was.kind == component.kind,
    }
}

/// How a source's bytes become records, where it is one of these kinds.
pub(super) fn decode(component: &Component) -> Result<Option<DecodeOptions>, BuildError> {
    Ok(Some(match component.kind {
        kind if kind == udp::DEF.kind => read::<UdpConfig>(component)?.decode,
        kind if kind == tcp::DEF.kind => read::<TcpConfig>(component)?.decode,
        kind if kind == unix::DEF.kind => read::<UnixConfig>(component)?.decode,
        kind if kind == tail::DEF.kind => read::<TailConfig>(component)?.decode,
        _ => return Ok(None),
    }))
}

/// What the plan alone tells; with `environment` also the files that it names.
pub(super) fn problems(plan: &Plan, environment: bool) -> Vec<Problem> {
    let mut out = Vec::new();
    for (id, component) in &plan.sources {
        // What cannot be read was told when the plan was made.
        let (decode, framing) = if component.kind == tcp::DEF.kind {
            let Ok(config) = component.config::<TcpConfig>() else { continue };
            if environment && let Err(BuildError::Problems(more)) = tcp::check(id, &config).map_err(|e| unusable(id, e))
            {
                out.extend(more);
            }
            (config.decode, config.framing.kind)
        } else if component.kind == unix::DEF.kind {
            let Ok(config) = component.config::<UnixConfig>() else { continue };
            // A datagram is a frame, whatever is in it.
            let datagrams = config.kind == UnixKind::Datagram;
            (config.decode, if datagrams { FramingKind::LengthPrefixed } else { config.framing.kind })
        } else if component.kind == tail::DEF.kind {
            let Ok(config) = component.config::<TailConfig>() else { continue };
            out.extend(tail::complaint(&config).map(|why| Problem {
                code: code::BAD_VALUE,
                path: format!("sources.{id}.paths"),
                message: format!("source `{id}`: {why}"),
                help: Some("name files, such as \"/var/log/flows/*.jsonl\"".to_owned()),
            }));
            (config.decode, FramingKind::Newline)
        } else {
            continue;
        };
        out.extend(format_problem(id, &decode, framing));
    }
    out
}

/// Formats that do not come in frames, or not in these.
fn format_problem(id: &str, decode: &DecodeOptions, framing: FramingKind) -> Option<Problem> {
    use DecodeFormat::{Arrow, Csv, Goflow2, Netflow, Parquet, Rawflow};
    if decode.plugin.is_some() {
        // What it takes is its own matter.
        return None;
    }
    let format = decode.format.unwrap_or(Netflow);
    let word = DecodeFormat::ALL.iter().find(|(_, known)| *known == format).map_or("", |(word, _)| word);
    let (message, help) = match format {
        Csv | Parquet => (
            format!("source `{id}`: {word} does not come in frames, each of which can be read alone"),
            "send JSON (`format = \"jsonl\"`), or read files with a source of type \"file\"",
        ),
        Netflow | Rawflow | Goflow2 | Arrow if matches!(framing, FramingKind::Newline | FramingKind::Auto) => (
            format!("source `{id}`: {word} is binary, and a line break would end a frame in its middle"),
            "set another `decode.format`, or, for a socket, `framing = { type = \"length_prefixed\" }`",
        ),
        _ => return None,
    };
    let path = if decode.format.is_some() { format!("sources.{id}.decode.format") } else { format!("sources.{id}") };
    Some(Problem { code: code::BAD_VALUE, path, message, help: Some(help.to_owned()) })
}

/// What a file of the configuration is to blame for has a place in the configuration.
fn unusable(id: &impl Display, error: SourceError) -> BuildError {
    match &error {
        SourceError::Unusable { key, .. } => BuildError::Problems(vec![Problem {
            code: code::SOURCE_UNUSABLE,
            path: format!("sources.{id}.{key}"),
            message: error.to_string(),
            help: None,
        }]),
        _ => error.into(),
    }
}

fn read<T: serde::de::DeserializeOwned>(component: &Component) -> Result<T, BuildError> {
    component.config().map_err(|e: ConfigError| BuildError::Input(e.to_string()))
}
