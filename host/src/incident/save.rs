//! A tracker as bytes, and back. Saved is what decides about later events: the count of windows, who was alerted and is
//! covered, open incidents with all that their events show, the minute of the rate limit. Worked out anew: fingerprints,
//! prefix lengths, counts, the gauge. Plan and context are the restored tracker's own. Refused: another pipeline's
//! state, another version, and what no tracker can hold; the tracker is then as it was.

use super::cover::Lengths;
use super::limit::RateLimit;
use super::merge::Volume;
use super::track::{Cover, Incident, Track};
use super::windows::{Windows, load_number};
use super::{ENTITIES_MAX, IncidentTracker, id};
use crate::model::saved::{Loader, NotLoaded, Saver};
use crate::model::{Alert, Contribution, Detection, EntityKey, KeyKind};
use std::collections::{BTreeMap, VecDeque};

const WHAT: &str = "incidents";
const VERSION: u8 = 1;
/// Windows alerted, of one incident: 60 years of seconds.
const WINDOWS_MAX: u32 = 1 << 31;

impl IncidentTracker {
    /// All that later events depend on.
    pub fn save(&self) -> Vec<u8> {
        let mut s = Saver::new(WHAT, VERSION);
        s.text(&self.context.pipeline);
        self.windows.save(&mut s);
        s.option(self.newest.as_ref(), Saver::window);
        self.limit.save(&mut s);
        s.count(self.tracks.len());
        for (key, track) in &self.tracks {
            s.key(key);
            save_track(track, &mut s);
        }
        s.done()
    }

    /// Goes on where the tracker stood that was saved. What it knew before is forgotten.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.load(bytes).map_err(|e| e.to_string())?;
        self.show(self.open);
        Ok(())
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), NotLoaded> {
        let mut l = Loader::new(bytes, WHAT, VERSION)?;
        if l.text()? != &*self.context.pipeline {
            return Err(NotLoaded::Insane("the incidents of another pipeline"));
        }
        let windows = Windows::load(&mut l)?;
        let newest = l.option(Loader::window)?;
        let limit = RateLimit::load(self.plan.max_open_per_minute, &mut l)?;
        let (mut tracks, mut lengths) = (BTreeMap::new(), Lengths::default());
        for _ in 0..l.count(TRACK_LEAST)? {
            let key = l.key()?;
            let track = load_track(&key, &self.context.pipeline, self.n() as usize, &mut l)?;
            if key.kind == KeyKind::DstPrefix {
                lengths.note(&key);
            }
            tracks.insert(key, track);
        }
        l.end()?;
        let covered = tracks.values().filter_map(|t| t.cover.as_ref()).map(|c| c.hosts.len()).sum();
        if tracks.len() + covered > ENTITIES_MAX {
            return Err(NotLoaded::Insane("more entities than are tracked"));
        }
        self.open = tracks.values().filter(|t| t.open.is_some()).count();
        (self.windows, self.newest, self.limit) = (windows, newest, limit);
        (self.tracks, self.lengths, self.covered) = (tracks, lengths, covered);
        Ok(())
    }
}

/// Bytes of the least track with its key.
const TRACK_LEAST: usize = 5 + 4 + 8 + 4;

fn save_track(track: &Track, s: &mut Saver) {
    s.count(track.alerts.len());
    for (number, start_ns) in &track.alerts {
        s.u64(*number);
        s.u64(*start_ns);
    }
    s.u64(track.told_until);
    s.bool(track.counted);
    s.bool(track.stands_alone);
    s.option(track.open.as_deref(), |s, incident| save_incident(incident, s));
    s.option(track.cover.as_deref(), |s, cover| save_cover(cover, s));
}

/// `open_n` alerts are kept, by a plan that may have changed.
fn load_track(key: &EntityKey, pipeline: &str, open_n: usize, l: &mut Loader<'_>) -> Result<Track, NotLoaded> {
    let mut alerts = (0..l.count(16)?).map(|_| Ok((load_number(l)?, l.u64()?))).collect::<Result<VecDeque<_>, _>>()?;
    if !alerts.iter().is_sorted_by(|a, b| a.0 < b.0) {
        return Err(NotLoaded::Insane("alerts out of order"));
    }
    alerts.drain(..alerts.len().saturating_sub(open_n));
    Ok(Track {
        alerts,
        told_until: load_number(l)?,
        counted: l.bool()?,
        stands_alone: l.bool()?,
        open: l.option(|l| load_incident(key, pipeline, l))?.map(Box::new),
        cover: l.option(load_cover)?.map(Box::new),
    })
}

fn save_cover(cover: &Cover, s: &mut Saver) {
    s.f64(cover.volume.packets);
    s.f64(cover.volume.bytes);
    s.u64(cover.covers_until);
    s.u64(cover.explained_until);
    s.count(cover.hosts.len());
    for (host, packets) in &cover.hosts {
        s.addr(host);
        s.f64(*packets);
    }
}

fn load_cover(l: &mut Loader<'_>) -> Result<Cover, NotLoaded> {
    Ok(Cover {
        volume: Volume { packets: l.f64()?, bytes: l.f64()? },
        covers_until: load_number(l)?,
        explained_until: load_number(l)?,
        hosts: (0..l.count(24)?).map(|_| Ok((l.addr()?, l.f64()?))).collect::<Result<_, _>>()?,
    })
}

fn save_incident(incident: &Incident, s: &mut Saver) {
    s.text(&incident.id);
    s.u64(incident.opened_at_ns);
    s.u64(incident.opened_window);
    s.u64(incident.last_alert);
    s.u32(incident.windows_alerted);
    s.severity(incident.severity);
    s.f64(incident.peak.0);
    s.f64(incident.peak.1);
    s.severity(incident.told.0);
    s.f64(incident.told.1);
    s.u64(incident.told.2);
    s.count(incident.kinds.len());
    incident.kinds.iter().for_each(|kind| s.text(kind));
    save_detection(&incident.lead, s);
}

fn load_incident(key: &EntityKey, pipeline: &str, l: &mut Loader<'_>) -> Result<Incident, NotLoaded> {
    let incident = Incident {
        id: l.text()?.to_owned(),
        fingerprint: id::fingerprint(pipeline, key),
        opened_at_ns: l.u64()?,
        opened_window: load_number(l)?,
        last_alert: load_number(l)?,
        windows_alerted: l.u32()?,
        severity: l.severity()?,
        peak: (l.f64()?, l.f64()?),
        told: (l.severity()?, l.f64()?, l.u64()?),
        kinds: (0..l.count(4)?).map(|_| l.text().map(str::to_owned)).collect::<Result<_, _>>()?,
        lead: load_detection(*key, l)?,
    };
    if incident.windows_alerted > WINDOWS_MAX {
        return Err(NotLoaded::Insane("an incident of more windows than there were"));
    }
    Ok(incident)
}

fn save_detection(d: &Detection, s: &mut Saver) {
    s.name(&d.detector);
    s.name(&d.plugin);
    s.option(d.model_digest.as_deref(), Saver::name);
    s.window(&d.window);
    let a = &d.alert;
    s.u32(a.row);
    s.text(&a.kind);
    s.severity(a.severity);
    s.f64(a.score);
    s.f64(a.threshold);
    s.text(&a.message);
    s.count(a.contributions.len());
    for c in &a.contributions {
        s.text(&c.column);
        s.f64(c.weight);
        s.f64(c.observed);
        s.f64(c.expected);
    }
    s.count(a.attributes.len());
    for (name, value) in &a.attributes {
        s.text(name);
        s.text(value);
    }
    s.count(d.observed.len());
    for (name, value) in &d.observed {
        s.name(name);
        s.f64(*value);
    }
}

fn load_detection(key: EntityKey, l: &mut Loader<'_>) -> Result<Detection, NotLoaded> {
    let (detector, plugin, model_digest, window) = (l.name()?, l.name()?, l.option(Loader::name)?, l.window()?);
    let contribution = |l: &mut Loader<'_>| {
        Ok(Contribution { column: l.text()?.to_owned(), weight: l.f64()?, observed: l.f64()?, expected: l.f64()? })
    };
    let alert = Alert {
        row: l.u32()?,
        kind: l.text()?.to_owned(),
        severity: l.severity()?,
        score: l.f64()?,
        threshold: l.f64()?,
        message: l.text()?.to_owned(),
        contributions: (0..l.count(28)?).map(|_| contribution(l)).collect::<Result<_, _>>()?,
        attributes: (0..l.count(8)?)
            .map(|_| Ok((l.text()?.to_owned(), l.text()?.to_owned())))
            .collect::<Result<_, _>>()?,
    };
    let observed = (0..l.count(12)?).map(|_| Ok((l.name()?, l.f64()?))).collect::<Result<_, _>>()?;
    Ok(Detection { detector, plugin, model_digest, key, window, alert, observed })
}
