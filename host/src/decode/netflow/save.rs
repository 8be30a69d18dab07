//! What was learned of exporters as bytes, and back: templates as they were defined (so that they are laid out as this
//! decoder wants them), sampling rates, when exporters started. Not saved: sequence numbers and sets that wait for a
//! template. Exporters and domains come with the one heard last first, templates with the one used last at the end, so
//! that a smaller table keeps the right ones. Refused: another version, templates that could not have been learned.

use super::exporters::{Domain, Exporter, Exporters};
use super::layout::{Kind, Layout};
use crate::decode::sampling::SavedRates;
use crate::model::FlowType;
use crate::model::saved::{Loader, NotLoaded, Saver};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const WHAT: &str = "exporters";
const VERSION: u8 = 1;
/// Flags of a template.
const OPTIONS: u8 = 1;
const ENTERPRISE: u8 = 2;

/// One exporter.
#[derive(Debug)]
pub(super) struct SavedExporter {
    pub peer: IpAddr,
    pub seen_ns: u64,
    pub rates: SavedRates,
    pub domains: Vec<SavedDomain>,
}

/// One of its domains.
#[derive(Debug)]
pub(super) struct SavedDomain {
    pub version: FlowType,
    pub id: u32,
    pub seen_ns: u64,
    pub init_ms: u64,
    pub layouts: Vec<(u16, Layout)>,
}

/// Every exporter of which something is known.
pub(super) fn save(exporters: &Exporters) -> Vec<u8> {
    let mut s = Saver::new(WHAT, VERSION);
    let mut known = exporters.all();
    known.retain(|(_, _, e)| !e.sampling().is_empty() || e.domains().iter().any(|d| is_known(d.3)));
    s.count(known.len());
    for (peer, seen_ns, exporter) in known {
        match peer {
            IpAddr::V4(v4) => {
                s.u8(4);
                s.u32(v4.to_bits());
            }
            IpAddr::V6(v6) => {
                s.u8(6);
                s.addr(&crate::model::Addr(v6.octets()));
            }
        }
        s.u64(seen_ns);
        save_exporter(exporter, &mut s);
    }
    s.done()
}

fn is_known(domain: &Domain) -> bool {
    !domain.layouts.is_empty() || domain.init_ms > 0
}

fn save_exporter(exporter: &Exporter, s: &mut Saver) {
    exporter.sampling().save(s);
    let mut domains = exporter.domains();
    domains.retain(|d| is_known(d.3));
    s.count(domains.len());
    for (version, id, seen_ns, domain) in domains {
        s.u8(version as u8);
        s.u32(id);
        s.u64(seen_ns);
        s.u64(domain.init_ms);
        let layouts = domain.layouts.by_use();
        s.count(layouts.len());
        for (id, layout) in layouts {
            save_layout(id, layout, s);
        }
    }
}

fn save_layout(id: u16, layout: &Layout, s: &mut Saver) {
    let enterprise = layout.fields.iter().any(|f| f.pen != 0);
    s.u16(id);
    s.u8(if layout.kind == Kind::Options { OPTIONS } else { 0 } | if enterprise { ENTERPRISE } else { 0 });
    s.u64(layout.learned_ns);
    s.count(layout.fields.len());
    for field in &layout.fields {
        s.u16(field.element);
        s.u16(field.len);
        if enterprise {
            s.u32(field.pen);
        }
    }
}

/// As they were saved.
pub(super) fn load(bytes: &[u8], want_extra: bool) -> Result<Vec<SavedExporter>, NotLoaded> {
    let mut l = Loader::new(bytes, WHAT, VERSION)?;
    let mut exporters = Vec::new();
    for _ in 0..l.count(1 + 4 + 8 + 9 + 4)? {
        let peer = match l.u8()? {
            4 => IpAddr::V4(Ipv4Addr::from_bits(l.u32()?)),
            6 => IpAddr::V6(Ipv6Addr::from(l.addr()?.0)),
            _ => return Err(NotLoaded::Insane("an address of an unknown family")),
        };
        let (seen_ns, rates) = (l.u64()?, SavedRates::load(&mut l)?);
        let n = l.count(1 + 4 + 8 + 8 + 4)?;
        let domains = (0..n).map(|_| load_domain(&mut l, want_extra)).collect::<Result<_, _>>()?;
        exporters.push(SavedExporter { peer, seen_ns, rates, domains });
    }
    l.end()?;
    Ok(exporters)
}

fn load_domain(l: &mut Loader<'_>, want_extra: bool) -> Result<SavedDomain, NotLoaded> {
    let version = l.u8()?;
    let version = [FlowType::NetflowV9, FlowType::Ipfix].into_iter().find(|v| *v as u8 == version);
    let version = version.ok_or(NotLoaded::Insane("templates of a version that has none"))?;
    let (id, seen_ns, init_ms) = (l.u32()?, l.u64()?, l.u64()?);
    let n = l.count(2 + 1 + 8 + 4)?;
    let layouts = (0..n).map(|_| load_layout(l, want_extra)).collect::<Result<_, _>>()?;
    Ok(SavedDomain { version, id, seen_ns, init_ms, layouts })
}

fn load_layout(l: &mut Loader<'_>, want_extra: bool) -> Result<(u16, Layout), NotLoaded> {
    let (id, flags, learned_ns) = (l.u16()?, l.u8()?, l.u64()?);
    if flags & !(OPTIONS | ENTERPRISE) != 0 {
        return Err(NotLoaded::Insane("a template of an unknown kind"));
    }
    let enterprise = flags & ENTERPRISE != 0;
    let mut fields = Vec::new();
    for _ in 0..l.count(if enterprise { 8 } else { 4 })? {
        let (element, len) = (l.u16()?, l.u16()?);
        fields.push((if enterprise { l.u32()? } else { 0 }, element, len));
    }
    let kind = if flags & OPTIONS == 0 { Kind::Flows } else { Kind::Options };
    let layout = Layout::again(id, &fields, kind, learned_ns, want_extra);
    Ok((id, layout.ok_or(NotLoaded::Insane("a template that cannot be"))?))
}
