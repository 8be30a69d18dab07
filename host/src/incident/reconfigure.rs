//! A tracker whose rules change while it runs. Comes in: another plan and context; goes out: the events that the change itself
//! causes. What is open stays open: an attack does not end because somebody changed a limit.

use super::{Context, IncidentTracker};
use crate::config::IncidentPlan;
use crate::model::EntityKey;
use crate::model::incident::{IncidentEvent, IncidentEventKind};

impl IncidentTracker {
    /// Goes on under other rules. `windows_anew`: windows to come are not of the length of those before.
    ///
    /// Falling silent, it closes what it has told, because nobody would hear the end (`close_reason` = `shadow`); speaking up,
    /// it tells what is open.
    pub fn reconfigure(&mut self, context: Context, plan: IncidentPlan, windows_anew: bool) -> Vec<IncidentEvent> {
        let at_ns = self.newest.map_or(0, |w| w.watermark_ns);
        let (was, is) = (self.context.shadow, context.shadow);
        let mut events = if is && !was { self.close_all(at_ns, "shadow") } else { Vec::new() };
        self.limit.set(plan.max_open_per_minute);
        (self.context, self.plan) = (context, plan);
        let (n, windows) = (self.n() as usize, self.windows.last());
        for track in self.tracks.values_mut() {
            let more = track.alerts.len().saturating_sub(n);
            track.alerts.drain(..more);
        }
        if windows_anew && windows > 0 {
            self.windows.begin_anew();
        }
        if was && !is {
            events.extend(self.tell_open(at_ns));
        }
        events
    }

    /// After a restore: windows to come are of this length, whatever those before were of.
    pub fn expect_windows_of(&mut self, size_ns: u64) {
        if self.newest.is_some_and(|w| !w.partial && w.end_ns - w.start_ns != size_ns) {
            self.windows.begin_anew();
        }
    }

    /// Everything open, as if it opened now.
    fn tell_open(&mut self, at_ns: u64) -> Vec<IncidentEvent> {
        let open: Vec<EntityKey> = self.tracks.iter().filter(|(_, t)| t.open.is_some()).map(|(k, _)| *k).collect();
        let mut events = Vec::with_capacity(open.len());
        for key in open {
            let Some(track) = self.tracks.get_mut(&key) else { continue };
            let Some(incident) = &mut track.open else { continue };
            incident.told = (incident.severity, incident.peak.0, incident.told.2);
            let cover = track.cover.as_deref();
            events.push(self.context.event(IncidentEventKind::Open, incident, cover, at_ns, None));
        }
        events
    }
}
