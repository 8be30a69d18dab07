//! Which scores of a pipeline are followed, and the two ends of it: detectors ask what a score means in this close order
//! and tell what they saw; the desk hears all of it in order and lets the followers learn. In between lies the timeline,
//! so that nothing depends on how many workers there are or which of them is ahead.

use crate::calibration::{Follower, Tail, Timeline};
use crate::model::saved::{Loader, NotLoaded, Saver};
use crate::model::{KeyKind, WindowInfo};
use std::sync::Arc;

const WHAT: &str = "followed tails";
const VERSION: u8 = 1;

/// Whose scores on which level: a detector's own, or what a model says to it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Subject {
    /// Detector id.
    pub detector: Arc<str>,
    /// Level of the entities.
    pub level: KeyKind,
    /// Model whose raw scores are followed; `None`: the scores of the detector itself.
    pub model: Option<Arc<str>>,
}

/// Scores that a detector has and that can be followed.
#[derive(Clone, Debug, PartialEq)]
pub struct Followable {
    /// Whose.
    pub subject: Subject,
    /// What gives them: digest of the model, or the plugin's name and version.
    pub digest: String,
    /// Revision of the model; 0 for a detector's own scores.
    pub revision: u64,
    /// The tail that they were trained to have, and rows a day; `None`: it has yet to be learned.
    pub trained: Option<(Tail, f64)>,
}

/// A detector's end: what counts for its scores.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Position among the pipeline's followers.
    pub at: usize,
    /// Whose scores.
    pub subject: Subject,
    /// Revision of the model that is followed; 0 for a detector's own scores.
    pub revision: u64,
    /// What counts when.
    pub timeline: Arc<Timeline>,
}

/// What one worker saw of a subject in one window.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Position among the pipeline's followers.
    pub at: usize,
    /// End of the window.
    pub window_end_ns: u64,
    /// Revision of the model; 0 for a detector's own scores.
    pub revision: u64,
    /// Rows with a score.
    pub rows: u64,
    /// Scores above the floor that was published.
    pub excesses: Vec<f64>,
}

impl Observed {
    /// What a frame teaches; `None`: nothing, because its window is not whole, or was told before.
    pub(super) fn of(heard: &Heard, window: &WindowInfo, revision: u64, scores: &[f64], floor: f64) -> Option<Self> {
        if window.partial || window.revision > 0 || scores.is_empty() {
            return None;
        }
        let rows = scores.iter().filter(|s| s.is_finite()).count() as u64;
        let excesses = scores.iter().copied().filter(|s| s.is_finite() && *s > floor).collect();
        Some(Self { at: heard.at, window_end_ns: window.end_ns, revision, rows, excesses })
    }
}

/// The desk's end: the followers of a pipeline.
pub struct Followers {
    of: Vec<Follow>,
}

/// One of them.
pub struct Follow {
    /// Whose scores.
    pub subject: Subject,
    /// What has been learned.
    pub follower: Follower,
    /// Revision of the model that it follows; 0 for a detector's own scores.
    pub revision: u64,
    /// Where detectors read it.
    pub timeline: Arc<Timeline>,
}

/// A follower of the next plan.
pub struct NextFollow {
    /// With what it begins where none is kept.
    pub follow: Follow,
    /// It goes on with what has been learned, on the same timeline.
    pub kept: bool,
}

impl Follow {
    /// One that begins.
    pub fn new(subject: Subject, follower: Follower, revision: u64) -> Self {
        let timeline = Arc::new(Timeline::new(follower.published()));
        Self { subject, follower, revision, timeline }
    }

    /// The end that detectors get of the one in this place.
    pub fn heard(&self, at: usize) -> Heard {
        let (subject, timeline) = (self.subject.clone(), self.timeline.clone());
        Heard { at, subject, revision: self.revision, timeline }
    }
}

impl Followers {
    /// In the order of [`Heard::at`].
    pub fn new(of: Vec<Follow>) -> Self {
        Self { of }
    }

    /// The ends that detectors get.
    pub fn heard(&self) -> Vec<Heard> {
        self.of.iter().enumerate().map(|(at, f)| f.heard(at)).collect()
    }

    /// Others follow from now on; in the order of their [`Heard::at`]. Those that are kept go on with what has been learned,
    /// under their new settings.
    pub fn succeed(&mut self, next: Vec<NextFollow>) {
        let mut before = std::mem::take(&mut self.of);
        for NextFollow { mut follow, kept } in next {
            if kept && let Some(at) = before.iter().position(|f| f.subject == follow.subject) {
                let settings = follow.follower.settings().clone();
                follow.follower = before.swap_remove(at).follower.with_settings(settings);
            }
            self.of.push(follow);
        }
        // Nobody asks these any more; one that does must not wait.
        before.iter().for_each(|f| f.timeline.release());
    }

    /// All followers.
    pub fn all(&self) -> &[Follow] {
        &self.of
    }

    /// All workers have answered order `seq`, and this is what they saw in it.
    pub fn learn(&mut self, seq: u64, mut observed: Vec<Observed>) {
        observed.sort_by_key(|o| (o.at, o.window_end_ns));
        for (at, follow) in self.of.iter_mut().enumerate() {
            let mine = observed.iter().filter(|o| o.at == at && o.revision == follow.revision);
            let mine: Vec<&Observed> = mine.collect();
            let mut learned = false;
            for window in mine.chunk_by(|a, b| a.window_end_ns == b.window_end_ns) {
                let rows = window.iter().map(|o| o.rows).sum();
                let excesses: Vec<f64> = window.iter().flat_map(|o| &o.excesses).copied().collect();
                learned |= follow.follower.observe(window[0].window_end_ns, rows, &excesses);
            }
            follow.timeline.done(seq, learned.then(|| follow.follower.published()));
        }
    }
}

/// Saved followers: whose, and the follower as JSON.
type Saved<'a> = Vec<(Subject, &'a str)>;

impl Followers {
    /// All that was learned.
    pub fn save(&self) -> Vec<u8> {
        let mut s = Saver::new(WHAT, VERSION);
        s.count(self.of.len());
        for Follow { subject, follower, .. } in &self.of {
            s.text(&subject.detector);
            s.u8(subject.level as u8);
            s.option(subject.model.as_deref(), Saver::text);
            s.text(&follower.to_json());
        }
        s.done()
    }

    /// Goes on with what was learned; it counts from the first close order on, also for ends that were given out before.
    /// Gives the reasons of what is not used: nobody asks for it any more, or it was learned with another model; such a
    /// follower starts from what was trained. Refused: bytes that are no such state, and when an order was heard already.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<Vec<String>, String> {
        let saved = load(bytes).map_err(|e| e.to_string())?;
        if self.of.iter().any(|f| f.timeline.begun()) {
            return Err("what was learned cannot be taken up after the first close order".into());
        }
        let mut unused = Vec::new();
        for (subject, json) in saved {
            if let Err(reason) = self.resume(&subject, json) {
                let model = subject.model.map(|m| format!(" of {m}")).unwrap_or_default();
                unused.push(format!("{} on {}{model}: {reason}", subject.detector, subject.level.name()));
            }
        }
        Ok(unused)
    }

    fn resume(&mut self, subject: &Subject, json: &str) -> Result<(), String> {
        let follow = self.of.iter_mut().find(|f| f.subject == *subject).ok_or("nobody follows it any more")?;
        let (identity, settings) = (follow.follower.identity(), follow.follower.settings().clone());
        let follower = Follower::from_json(json, identity, settings).map_err(|e| e.to_string())?;
        follow.timeline.begin(follower.published());
        follow.follower = follower;
        Ok(())
    }
}

fn load(bytes: &[u8]) -> Result<Saved<'_>, NotLoaded> {
    let mut l = Loader::new(bytes, WHAT, VERSION)?;
    let mut saved = Vec::new();
    for _ in 0..l.count(4 + 1 + 1 + 4)? {
        let (detector, level) = (l.text()?.into(), l.u8()?);
        let level = KeyKind::ALL.into_iter().find(|k| *k as u8 == level);
        let level = level.ok_or(NotLoaded::Insane("an unknown level"))?;
        let model = l.option(|l| l.text().map(Into::into))?;
        saved.push((Subject { detector, level, model }, l.text()?));
    }
    l.end()?;
    Ok(saved)
}

impl Drop for Followers {
    fn drop(&mut self) {
        // A desk that is gone must not keep workers waiting.
        self.of.iter().for_each(|f| f.timeline.release());
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
