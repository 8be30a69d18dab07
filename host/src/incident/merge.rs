//! All detections of a window to one per entity: the leading one, whatever order they came in.

use crate::model::{Detection, EntityKey};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// What all detectors together said about one entity in one window.
#[derive(Debug)]
pub struct Seen {
    /// The leading detection: highest severity, then highest strength.
    pub lead: Detection,
    /// Every kind that was said, the leading one included.
    pub kinds: BTreeSet<String>,
}

impl Seen {
    /// Strength of the leading detection.
    pub fn strength(&self) -> f64 {
        strength(&self.lead)
    }

    /// Packets and bytes of the entity in this window.
    pub fn volume(&self) -> Volume {
        Volume { packets: self.feature("packets"), bytes: self.feature("bytes") }
    }

    fn feature(&self, name: &str) -> f64 {
        self.lead.feature(name).filter(|v| v.is_finite()).unwrap_or(0.0)
    }
}

/// Packets and bytes of one window.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Volume {
    /// Packets.
    pub packets: f64,
    /// Bytes.
    pub bytes: f64,
}

/// How far above its limit: score / threshold, so that detectors with different scales compare.
/// The score itself when there is no positive threshold.
pub fn strength(d: &Detection) -> f64 {
    let a = &d.alert;
    let s = if a.threshold > 0.0 { a.score / a.threshold } else { a.score };
    if s.is_nan() { 0.0 } else { s }
}

/// One entry per entity. The result does not depend on the order of `detections`.
pub fn by_entity(detections: Vec<Detection>) -> BTreeMap<EntityKey, Seen> {
    let mut out: BTreeMap<EntityKey, Seen> = BTreeMap::new();
    for d in detections {
        match out.get_mut(&d.key) {
            None => {
                let kinds = BTreeSet::from([d.alert.kind.clone()]);
                out.insert(d.key, Seen { lead: d, kinds });
            }
            Some(seen) => {
                seen.kinds.insert(d.alert.kind.clone());
                if leads(&d, &seen.lead) == Ordering::Greater {
                    seen.lead = d;
                }
            }
        }
    }
    out
}

/// A total order, down to the last field that shows in an event, so that ties do not let arrival order through.
fn leads(a: &Detection, b: &Detection) -> Ordering {
    let (x, y) = (&a.alert, &b.alert);
    x.severity
        .cmp(&y.severity)
        .then_with(|| strength(a).total_cmp(&strength(b)))
        .then_with(|| b.detector.cmp(&a.detector))
        .then_with(|| b.plugin.cmp(&a.plugin))
        .then_with(|| y.kind.cmp(&x.kind))
        .then_with(|| x.score.total_cmp(&y.score))
        .then_with(|| y.message.cmp(&x.message))
        .then_with(|| y.attributes.cmp(&x.attributes))
        .then_with(|| format!("{:?}", x.contributions).cmp(&format!("{:?}", y.contributions)))
        .then_with(|| format!("{:?}", a.observed).cmp(&format!("{:?}", b.observed)))
}
