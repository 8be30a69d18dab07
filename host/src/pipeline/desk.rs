//! One per pipeline: waits for all workers' word on a close order, then tells the incident tracker window by window, in
//! order of time, and hands its events to the sinks. In: judged orders. Out: incident events (and scored rows).

use super::next::NextDesk;
use super::outlet::Outlet;
use super::saved::Saved;
use super::scores::ScoreWriter;
use super::shadow::Shadow;
use super::state::Keeper;
use super::worker::{Judged, Windows};
use crate::detect::follow::{Followers, Observed};
use crate::incident::IncidentTracker;
use crate::incident::compare::alerted;
use crate::model::time::{now_ns, rfc3339};
use crate::model::{Content, Detection, FeatureFrame, Output, ScoredFrame};
use crate::telemetry::DETECTION_DELAY;
use crossbeam_channel::Receiver;
use metrics::{Histogram, histogram};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// An order that some workers have yet to answer.
#[derive(Default)]
struct Waiting {
    answers: usize,
    windows: Windows,
    shadow: Vec<Detection>,
    scored: Vec<ScoredFrame>,
    frames: Vec<FeatureFrame>,
    observed: Vec<Observed>,
    next: Option<Box<NextDesk>>,
}

/// How a pipeline ends.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    /// The engine stops.
    pub(super) stopped: Arc<AtomicBool>,
    /// The configuration has it no more.
    pub(super) removed: Arc<AtomicBool>,
}

impl Ending {
    /// As the last events have it.
    fn reason(&self) -> &'static str {
        match (self.stopped.load(Ordering::Relaxed), self.removed.load(Ordering::Relaxed)) {
            (true, _) => "shutdown",
            (false, true) => "removed",
            (false, false) => "end_of_input",
        }
    }
}

/// What a desk is made of.
pub(super) struct DeskParts {
    pub(super) pipeline: Arc<str>,
    pub(super) tracker: IncidentTracker,
    pub(super) outlets: Vec<Box<dyn Outlet>>,
    pub(super) scores: Option<ScoreWriter>,
    pub(super) followers: Followers,
    pub(super) keeper: Option<Keeper>,
    pub(super) shadow: Option<Shadow>,
    pub(super) workers: usize,
    /// Windows that were settled, for those who watch from outside.
    pub(super) settled: Arc<AtomicU64>,
    /// Live: `emitted_at` is the wall clock and the delay is measured. A replay repeats exactly instead.
    pub(super) live: bool,
}

pub(super) struct Desk {
    parts: DeskParts,
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    last_end_ns: u64,
    delay: Histogram,
    told: bool,
    /// Where its incidents are kept.
    saved: Option<Saved>,
}

impl Desk {
    pub(super) fn new(parts: DeskParts) -> Self {
        let delay = histogram!(DETECTION_DELAY, "pipeline" => parts.pipeline.to_string());
        Self { parts, waiting: BTreeMap::new(), next: 1, last_end_ns: 0, delay, told: false, saved: None }
    }

    /// Goes on with the incidents that were open when the process ended without being asked to.
    pub(super) fn resume(&mut self, saved: Option<Saved>, window_ns: u64) {
        self.restore(saved, window_ns);
        self.begin_shadow();
    }

    /// The shadow compares from here on with what is open.
    pub(super) fn begin_shadow(&mut self) {
        if let Some(shadow) = &mut self.parts.shadow {
            shadow.begin(&self.parts.tracker);
        }
    }

    fn restore(&mut self, saved: Option<Saved>, window_ns: u64) {
        let Some(saved) = saved else { return };
        let restored = saved.load().map(|bytes| self.parts.tracker.restore(&bytes));
        self.parts.tracker.expect_windows_of(window_ns);
        match restored {
            Some(Ok(())) if self.parts.tracker.open_count() > 0 => {
                let n = self.parts.tracker.open_count();
                tracing::info!(pipeline = &*self.parts.pipeline, "goes on with {n} open incident(s)");
            }
            Some(Err(error)) => {
                tracing::warn!(pipeline = &*self.parts.pipeline, "incidents that were kept are not used: {error}");
            }
            _ => {}
        }
        self.saved = Some(saved);
    }

    /// Runs until all workers have hung up, then closes what is open.
    pub(super) fn run(mut self, input: &Receiver<Judged>, ending: &Ending) {
        while let Ok(judged) = input.recv() {
            self.take(judged);
        }
        if let Some(keeper) = &mut self.parts.keeper {
            keeper.write(&self.parts.followers);
        }
        self.end(ending.reason());
        if let Some(saved) = &mut self.saved {
            saved.write(self.parts.tracker.save());
        }
        if let Some(scores) = self.parts.scores.take()
            && let Err(error) = scores.finish()
        {
            tracing::error!("scored rows are incomplete: {error}");
        }
    }

    /// Closes what is open.
    pub(super) fn end(&mut self, reason: &str) {
        let events = self.parts.tracker.close_all(self.last_end_ns, reason);
        self.tell(events);
    }

    /// One worker's word on a close order; what is complete by it is settled.
    pub(super) fn take(&mut self, judged: Judged) {
        let waiting = self.waiting.entry(judged.seq).or_default();
        waiting.answers += 1;
        waiting.shadow.extend(judged.shadow);
        waiting.scored.extend(judged.scored);
        waiting.frames.extend(judged.frames);
        waiting.observed.extend(judged.observed);
        waiting.next = waiting.next.take().or(judged.next);
        for (at, (window, detections)) in judged.windows {
            waiting.windows.entry(at).or_insert_with(|| (window, Vec::new())).1.extend(detections);
        }
        while self.waiting.get(&self.next).is_some_and(|w| w.answers == self.parts.workers) {
            if let Some(Waiting { windows, shadow, scored, frames, observed, next, .. }) =
                self.waiting.remove(&self.next)
            {
                self.parts.followers.learn(self.next, observed);
                self.settle(windows, shadow, scored);
                if self.wants(Content::Features) && !frames.is_empty() {
                    let frames = frames.into_iter().map(|f| (self.parts.pipeline.clone(), f)).collect();
                    self.hand_out(Output::Features(Arc::new(frames)));
                }
                if let Some(keeper) = &mut self.parts.keeper {
                    keeper.tick(&self.parts.followers);
                }
                if let Some(next) = next {
                    self.succeed(*next);
                }
                // Who is told of an opening is told of its end too, after a crash between the two.
                let told = std::mem::take(&mut self.told);
                if let Some(saved) = self.saved.as_mut().filter(|s| told || s.is_due()) {
                    saved.write(self.parts.tracker.save());
                }
            }
            self.next += 1;
        }
    }

    /// From here on by the next plan. What the change itself ends is told to those who were told of its beginning.
    fn succeed(&mut self, next: NextDesk) {
        let NextDesk { context, incident, outlets, followers, keeper, shadow, windows } = next;
        let (was_silent, is_silent) = (self.parts.tracker.is_silent(), context.shadow);
        let events = self.parts.tracker.reconfigure(context, incident, windows);
        if is_silent && !was_silent {
            self.tell(events);
            self.parts.outlets = outlets;
        } else {
            self.parts.outlets = outlets;
            self.tell(events);
        }
        self.parts.followers.succeed(followers);
        self.parts.keeper = keeper;
        let before = std::mem::replace(&mut self.parts.shadow, shadow);
        if let Some(shadow) = &mut self.parts.shadow
            && !shadow.follow(before)
        {
            shadow.begin(&self.parts.tracker);
        }
    }

    /// What decides about later events.
    pub(super) fn state(&mut self) -> (&mut IncidentTracker, &mut Followers) {
        (&mut self.parts.tracker, &mut self.parts.followers)
    }

    /// True when something was told since it was last asked.
    pub(super) fn has_told(&mut self) -> bool {
        std::mem::take(&mut self.told)
    }

    fn settle(&mut self, windows: Windows, mut shadow: Vec<Detection>, scored: Vec<ScoredFrame>) {
        for (window, detections) in windows.into_values() {
            self.last_end_ns = self.last_end_ns.max(window.end_ns);
            self.parts.settled.fetch_add(1, Ordering::Relaxed);
            let any = !detections.is_empty();
            let alerted = self.parts.shadow.as_ref().map(|_| alerted(&detections));
            let events = self.parts.tracker.observe_all(&window, detections);
            if let Some((aside, alerted)) = self.parts.shadow.as_mut().zip(alerted) {
                let of = |d: &Detection| (d.window.end_ns, d.window.revision) == (window.end_ns, window.revision);
                let found = shadow.extract_if(.., |d| of(d)).collect();
                aside.observe(&window, found, (&alerted, &events));
            }
            if self.parts.tracker.is_silent() {
                continue;
            }
            if any && self.parts.live && !events.is_empty() {
                self.delay.record(now_ns().saturating_sub(window.end_ns) as f64 / 1e9);
            }
            self.tell(events);
        }
        if self.wants(Content::Scores) && !scored.is_empty() {
            let output = Output::Scores(Arc::new(scored.clone()));
            self.hand_out(output);
        }
        if let Some(scores) = &mut self.parts.scores {
            scores.write(scored);
        }
    }

    fn wants(&self, content: Content) -> bool {
        self.parts.outlets.iter().any(|o| o.content() == content)
    }

    /// To every outlet of its kind.
    fn hand_out(&mut self, output: Output) {
        let content = output.content();
        for outlet in self.parts.outlets.iter_mut().filter(|o| o.content() == content) {
            outlet.put(output.clone());
        }
    }

    fn tell(&mut self, mut events: Vec<crate::model::incident::IncidentEvent>) {
        if events.is_empty() {
            return;
        }
        if self.parts.live {
            let now = rfc3339(now_ns());
            events.iter_mut().for_each(|e| e.emitted_at.clone_from(&now));
        }
        self.told = true;
        self.hand_out(Output::Incidents(events));
    }
}
