//! One per pipeline: waits for all workers' word on a close order, then tells the incident tracker window by window, in
//! order of time, and hands its events to the sinks. In: judged orders. Out: incident events (and scored rows).

use super::outlet::Outlet;
use super::saved::Saved;
use super::scores::ScoreWriter;
use super::state::Keeper;
use super::worker::Judged;
use crate::detect::follow::{Followers, Observed};
use crate::incident::IncidentTracker;
use crate::model::time::{now_ns, rfc3339};
use crate::model::{Content, Detection, FeatureFrame, Output, ScoredFrame, WindowInfo};
use crate::telemetry::DETECTION_DELAY;
use crossbeam_channel::Receiver;
use metrics::{Histogram, histogram};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// An order that some workers have yet to answer.
#[derive(Default)]
struct Waiting {
    answers: usize,
    windows: Windows,
    scored: Vec<ScoredFrame>,
    frames: Vec<FeatureFrame>,
    observed: Vec<Observed>,
}

type Windows = BTreeMap<(u64, u32), (WindowInfo, Vec<Detection>)>;

pub(super) struct Desk {
    pipeline: Arc<str>,
    tracker: IncidentTracker,
    outlets: Vec<Box<dyn Outlet>>,
    scores: Option<ScoreWriter>,
    followers: Followers,
    keeper: Option<Keeper>,
    workers: usize,
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    last_end_ns: u64,
    /// Live: `emitted_at` is the wall clock and the delay is measured. A replay repeats exactly instead.
    live: bool,
    delay: Histogram,
    told: bool,
    /// Where its incidents are kept.
    saved: Option<Saved>,
}

impl Desk {
    pub(super) fn new(
        pipeline: &Arc<str>,
        tracker: IncidentTracker,
        outlets: Vec<Box<dyn Outlet>>,
        scores: Option<ScoreWriter>,
        (followers, keeper): (Followers, Option<Keeper>),
        workers: usize,
        live: bool,
    ) -> Self {
        let delay = histogram!(DETECTION_DELAY, "pipeline" => pipeline.to_string());
        Self {
            pipeline: pipeline.clone(),
            tracker,
            outlets,
            scores,
            followers,
            keeper,
            workers,
            waiting: BTreeMap::new(),
            next: 1,
            last_end_ns: 0,
            live,
            delay,
            told: false,
            saved: None,
        }
    }

    /// Goes on with the incidents that were open when the process ended without being asked to.
    pub(super) fn resume(&mut self, saved: Option<Saved>) {
        let Some(saved) = saved else { return };
        match saved.load().map(|bytes| self.tracker.restore(&bytes)) {
            Some(Ok(())) if self.tracker.open_count() > 0 => {
                let n = self.tracker.open_count();
                tracing::info!(pipeline = &*self.pipeline, "goes on with {n} open incident(s)");
            }
            Some(Err(error)) => {
                tracing::warn!(pipeline = &*self.pipeline, "incidents that were kept are not used: {error}");
            }
            _ => {}
        }
        self.saved = Some(saved);
    }

    /// Runs until all workers have hung up, then closes what is open: `shutdown` when `stopped`, else the input ended.
    pub(super) fn run(mut self, input: &Receiver<Judged>, stopped: &AtomicBool) {
        while let Ok(judged) = input.recv() {
            self.take(judged);
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.write(&self.followers);
        }
        let reason = if stopped.load(Ordering::Relaxed) { "shutdown" } else { "end_of_input" };
        let events = self.tracker.close_all(self.last_end_ns, reason);
        self.tell(events);
        if let Some(saved) = &mut self.saved {
            saved.write(self.tracker.save());
        }
        if let Some(scores) = self.scores.take()
            && let Err(error) = scores.finish()
        {
            tracing::error!("scored rows are incomplete: {error}");
        }
    }

    /// One worker's word on a close order; what is complete by it is settled.
    pub(super) fn take(&mut self, judged: Judged) {
        let waiting = self.waiting.entry(judged.seq).or_default();
        waiting.answers += 1;
        waiting.scored.extend(judged.scored);
        waiting.frames.extend(judged.frames);
        waiting.observed.extend(judged.observed);
        for (window, detections) in judged.windows {
            waiting
                .windows
                .entry((window.end_ns, window.revision))
                .or_insert_with(|| (window, Vec::new()))
                .1
                .extend(detections);
        }
        while self.waiting.get(&self.next).is_some_and(|w| w.answers == self.workers) {
            if let Some(Waiting { windows, scored, frames, observed, .. }) = self.waiting.remove(&self.next) {
                self.followers.learn(self.next, observed);
                self.settle(windows, scored);
                if self.wants(Content::Features) && !frames.is_empty() {
                    let frames = frames.into_iter().map(|f| (self.pipeline.clone(), f)).collect();
                    self.hand_out(Output::Features(Arc::new(frames)));
                }
                if let Some(keeper) = &mut self.keeper {
                    keeper.tick(&self.followers);
                }
                // Who is told of an opening is told of its end too, after a crash between the two.
                let told = std::mem::take(&mut self.told);
                if let Some(saved) = self.saved.as_mut().filter(|s| told || s.is_due()) {
                    saved.write(self.tracker.save());
                }
            }
            self.next += 1;
        }
    }

    /// What decides about later events.
    pub(super) fn state(&mut self) -> (&mut IncidentTracker, &mut Followers) {
        (&mut self.tracker, &mut self.followers)
    }

    /// True when something was told since it was last asked.
    pub(super) fn has_told(&mut self) -> bool {
        std::mem::take(&mut self.told)
    }

    fn settle(&mut self, windows: Windows, scored: Vec<ScoredFrame>) {
        for (window, detections) in windows.into_values() {
            self.last_end_ns = self.last_end_ns.max(window.end_ns);
            let any = !detections.is_empty();
            let events = self.tracker.observe(&window, detections);
            if any && self.live && !events.is_empty() {
                self.delay.record(now_ns().saturating_sub(window.end_ns) as f64 / 1e9);
            }
            self.tell(events);
        }
        if self.wants(Content::Scores) && !scored.is_empty() {
            let output = Output::Scores(Arc::new(scored.clone()));
            self.hand_out(output);
        }
        if let Some(scores) = &mut self.scores {
            scores.write(scored);
        }
    }

    fn wants(&self, content: Content) -> bool {
        self.outlets.iter().any(|o| o.content() == content)
    }

    /// To every outlet of its kind.
    fn hand_out(&mut self, output: Output) {
        let content = output.content();
        for outlet in self.outlets.iter_mut().filter(|o| o.content() == content) {
            outlet.put(output.clone());
        }
    }

    fn tell(&mut self, mut events: Vec<crate::model::incident::IncidentEvent>) {
        if events.is_empty() {
            return;
        }
        if self.live {
            let now = rfc3339(now_ns());
            events.iter_mut().for_each(|e| e.emitted_at.clone_from(&now));
        }
        self.told = true;
        self.hand_out(Output::Incidents(events));
    }
}
