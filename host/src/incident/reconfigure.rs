//! A tracker whose rules change while it runs. Comes in: another plan and context; goes out: the events that the change itself
//! causes. What is open stays open: an attack does not end because somebody changed a limit.

use super::{Context, IncidentTracker};
use crate::config::IncidentPlan;
use crate::model::EntityKey;
use crate::model::incident::{IncidentEvent, IncidentEventKind};

/// What the windows to come are to those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextWindows {
    /// The same windows.
    GoOn,
    /// Those that were open have been closed early.
    Restarted,
    /// The same, and the next are of another length.
    OtherLength,
}

impl IncidentTracker {
    /// Goes on under other rules. Quiet windows are counted from here on where windows have been closed early: one that is not whole
    /// says little.
    ///
    /// Falling silent, it closes what it has told, because nobody would hear the end (`close_reason` = `shadow`); speaking up,
    /// it tells what is open.
    pub fn reconfigure(&mut self, context: Context, plan: IncidentPlan, next: NextWindows) -> Vec<IncidentEvent> {
        let at_ns = self.newest.map_or(0, |w| w.watermark_ns);
        let (was, is) = (self.context.shadow, context.shadow);
        let mut events = if is && !was { self.close_all(at_ns, "shadow") } else { Vec::new() };
        self.limit.set(plan.max_open_per_minute);
        (self.context, self.plan) = (context, plan);
        let (n, windows) = (self.n() as usize, self.windows.last());
        for track in self.tracks.values_mut() {
            let more = track.alerts.len().saturating_sub(n);
            track.alerts.drain(..more);
            if let Some(incident) = track.open.as_mut().filter(|_| next != NextWindows::GoOn) {
                incident.last_alert = incident.last_alert.max(windows);
            }
        }
        if next == NextWindows::OtherLength && windows > 0 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::tests::{at, detection, host, plan, tracker, window};

    #[test]
    fn an_attack_does_not_end_because_windows_were_closed_early() {
        let mut t = tracker(plan());
        let opened = t.observe(&window(0), at(0, &[detection(host(1), 200.0)]));
        assert_eq!(opened.len(), 1);
        let (context, plan) = (t.context().clone(), t.plan().clone());
        // Each change leaves a window that is not whole, and quiet.
        for n in 1..20 {
            assert!(t.observe(&window(n), Vec::new()).is_empty(), "closed at {n}");
            assert!(t.reconfigure(context.clone(), plan.clone(), NextWindows::Restarted).is_empty());
        }
        let quiet = u64::from(plan.close_after_windows);
        let closed: Vec<_> = (20..21 + quiet).flat_map(|n| t.observe(&window(n), Vec::new())).collect();
        assert_eq!(closed.len(), 1);
        assert_eq!(closed[0].incident_id, opened[0].incident_id);
    }

    #[test]
    fn windows_of_another_length_are_new_ones_wherever_they_start() {
        let mut t = tracker(plan());
        t.observe(&window(100), at(100, &[detection(host(1), 200.0)]));
        let (context, plan) = (t.context().clone(), t.plan().clone());
        t.reconfigure(context, plan, NextWindows::OtherLength);
        // Starts before the last one did: with the old count it would be one that was forgotten.
        let seen = t.observe(&window(95), at(95, &[detection(host(2), 200.0)]));
        assert_eq!(seen.len(), 1, "{seen:?}");
    }
}
