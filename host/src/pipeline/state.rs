//! What a pipeline learns while it runs, kept over restarts: the followed tails of its detectors' scores. Comes in: the
//! plan and its detectors; goes out: followers, each where it was when it was last written. A file that cannot be used is
//! told, the follower starts from what was trained, and the next writing takes the file's place.

use super::judges::seats;
use crate::calibration::{FollowSettings, Follower, Identity};
use crate::config::{CombinePlan, CombineRule, PipelinePlan, Plan};
use crate::detect::follow::{Follow, Followable, Followers, Subject};
use crate::detect::{COMBINED, Combiner, SHADOW_COMBINED};
use crate::model::KeyKind;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often what was learned is written.
const EVERY: Duration = Duration::from_secs(300);

/// What is followed in a pipeline, of all that can be. A detector without a model is followed only where somebody asks how
/// rare its scores are.
pub(super) fn followed(pipeline: &PipelinePlan, followable: &BTreeMap<Arc<str>, Vec<Followable>>) -> Vec<Followable> {
    let levels: Vec<KeyKind> = pipeline.keys.iter().map(|k| k.kind).collect();
    let asks = |combine: Option<&CombinePlan>| combine.is_some_and(|c| c.rule == CombineRule::TailSum);
    let shadow = pipeline.shadow.as_ref();
    let shadow_combine = shadow.and_then(|s| s.combine.as_ref());
    let (asked, asked_aside) = (asks(pipeline.combine.as_ref()), asks(shadow_combine));
    let of_seats = seats(pipeline).into_iter().flat_map(|id| {
        let live = pipeline.detectors.contains(&id);
        let aside = shadow.is_some_and(|s| s.detectors.contains(&id));
        let all = followable.get(&id).into_iter().flatten();
        all.filter(move |f| (asked && live) || (asked_aside && aside) || f.trained.is_some())
    });
    let combined = pipeline.combine.iter().flat_map(|c| Combiner::followable(COMBINED, c, &levels));
    let aside = shadow_combine.into_iter().flat_map(|c| Combiner::followable(SHADOW_COMBINED, c, &levels));
    of_seats.cloned().chain(combined).chain(aside).collect()
}

/// One that begins; where what was learned is kept, with that. A replay neither reads nor writes what a live run has learned:
/// it would not repeat.
pub(super) fn follow(plan: &Plan, pipeline: &PipelinePlan, followable: &Followable, kept: bool) -> Follow {
    let dir = plan.engine.state_dir.as_ref().filter(|_| kept);
    let file = dir.map(|dir| path(dir, pipeline, &followable.subject));
    let follower = follower(plan, pipeline, followable, file.as_deref());
    Follow::new(followable.subject.clone(), follower, followable.revision)
}

fn follower(plan: &Plan, pipeline: &PipelinePlan, followable: &Followable, file: Option<&Path>) -> Follower {
    let subject = &followable.subject;
    let settings = match plan.detectors.get(&subject.detector).map(|d| d.follow) {
        Some(f) => FollowSettings { max_shift: f.max_shift, warm_up_rows: f.warm_up_rows, frozen: !f.follow },
        None => FollowSettings::default(),
    };
    let identity = Identity {
        pipeline: pipeline.id.to_string(),
        detector: subject.detector.to_string(),
        level: subject.level.name().to_owned(),
        model: followable.digest.clone(),
    };
    match file.map(|path| Follower::load(path, &identity, settings.clone())) {
        Some(Ok(Some(resumed))) => {
            let (detector, level) = (&*subject.detector, subject.level.name());
            tracing::info!(pipeline = &*pipeline.id, detector, level, "goes on with the tail learned before");
            return resumed;
        }
        Some(Err(error)) => tracing::warn!("what was learned before is not used: {error}"),
        _ => {}
    }
    match &followable.trained {
        Some((tail, rows_per_day)) => Follower::trained(identity, settings, tail.clone(), *rows_per_day),
        None => Follower::learning(identity, settings),
    }
}

fn path(dir: &Path, pipeline: &PipelinePlan, subject: &Subject) -> PathBuf {
    let model = subject.model.as_ref().map(|m| format!(".{m}")).unwrap_or_default();
    dir.join(format!("tail.{}.{}.{}{model}.json", pipeline.id, subject.detector, subject.level.name()))
}

/// Writes what a pipeline has learned, now and then.
pub(super) struct Keeper {
    files: Vec<PathBuf>,
    next: Instant,
}

impl Keeper {
    /// `None` where nothing is kept.
    pub(super) fn new(plan: &Plan, pipeline: &PipelinePlan, followed: &[Followable]) -> Option<Self> {
        let dir = plan.engine.state_dir.as_ref()?;
        if let Err(error) = std::fs::create_dir_all(dir) {
            tracing::error!("cannot make {}: {error}; what is learned is forgotten at the end", dir.display());
            return None;
        }
        let files = followed.iter().map(|f| path(dir, pipeline, &f.subject)).collect();
        Some(Self { files, next: Instant::now() + EVERY })
    }

    /// Writes when it is time.
    pub(super) fn tick(&mut self, followers: &Followers) {
        if Instant::now() >= self.next {
            self.write(followers);
        }
    }

    /// Writes now.
    pub(super) fn write(&mut self, followers: &Followers) {
        self.next = Instant::now() + EVERY;
        for (follow, path) in followers.all().iter().zip(&self.files) {
            if let Err(error) = follow.follower.save(path) {
                tracing::error!("what was learned is not kept: {error}");
            }
        }
    }
}
