//! A pipeline from its plan: the first time, with its threads' parts, or as what an older one of its id becomes. In: plans and
//! loaded plugins. Out: all that the threads need, and what must be known of them to change them later. Whoever has not
//! changed is not made again. Refused: plugins that do not start, with their place in the configuration.

use super::build::Problem;
use super::gate::Gate;
use super::grouping::Grouping;
use super::judges::{Judges, seats};
use super::next::{NextDesk, NextFeatures, NextPipeline, NextWorker};
use super::outlet::Outlet;
use super::panel::{Keep, NextPanel, NextSeat, Panel, Seat};
use super::saved::{self, Saved};
use super::scores::ScoreWriter;
use super::shadow::{Compared, Shadow, compared};
use super::state::{self, Keeper};
use super::worker::Worker;
use crate::calibration::Timeline;
use crate::checkpoint::Store;
use crate::config::diff::restarts_windows;
use crate::config::{DetectorPlan, Mode, PipelinePlan, Plan};
use crate::detect::follow::{Follow, Followable, Followers, Heard, NextFollow};
use crate::detect::{COMBINED, Combiner, Detector, SHADOW_COMBINED};
use crate::features::{FrameBuilder, PluginFeatures, catalogue};
use crate::incident::{Context, IncidentTracker, NextWindows};
use crate::model::{Content, KeyLevel, PlanDigest};
use crate::plugin::FrameScorer;
use crate::window::{Hasher, Ingest, RowWindows, Shard};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A pipeline ready to run.
pub(super) struct BuiltPipeline {
    pub(super) plan: PipelinePlan,
    pub(super) ingest: Ingest,
    pub(super) workers: Vec<Worker>,
    pub(super) followers: Followers,
    pub(super) keeper: Option<Keeper>,
    pub(super) saved: Option<Saved>,
    pub(super) tracker: IncidentTracker,
    pub(super) shadow: Option<Shadow>,
    pub(super) scores: Option<ScoreWriter>,
    pub(super) facts: Facts,
}

/// What is known from outside of a pipeline that runs.
#[derive(Clone)]
pub(super) struct Facts {
    /// Which entity is whose.
    hasher: Hasher,
    /// Levels that are aggregated.
    levels: Vec<KeyLevel>,
    /// Of each detector, which of its scores can be followed.
    followable: BTreeMap<Arc<str>, Vec<Followable>>,
    /// What is followed, on which timeline.
    followed: Vec<(Followable, Arc<Timeline>)>,
    /// How its shadow compares.
    pub(super) compared: Option<Compared>,
    /// In its events.
    pub(super) digest: PlanDigest,
    /// Columns of the rows that its windows keep.
    input: Option<arrow_schema::SchemaRef>,
}

/// What pipelines are assembled from.
#[derive(Clone, Copy)]
pub(super) struct Shop<'a> {
    pub(super) plan: &'a Plan,
    /// `None` where no plugin is needed.
    pub(super) judges: Option<&'a Judges>,
    /// What is known is kept, where the configuration says so.
    pub(super) live: bool,
    pub(super) store: Option<&'a Arc<Store>>,
    /// What its events say; `None`: each pipeline has a cell of its own.
    pub(super) digest: Option<&'a PlanDigest>,
}

fn frames(pipeline: &PipelinePlan) -> FrameBuilder {
    FrameBuilder::new(&pipeline.features, pipeline.level_half_life_windows, pipeline.window.max_keys)
}

/// Makes the detectors of one worker.
type Make<'a> = &'a dyn Fn(&Arc<FrameScorer>) -> Result<Vec<Box<dyn Detector>>, Vec<Problem>>;

impl Shop<'_> {
    fn kept(&self, lane: String, section: &'static str) -> Option<Saved> {
        self.store.map(|store| Saved::new(store, lane, section, &self.plan.digest))
    }

    /// Rows are whole windows, and of rows of plugins an extractor sees all: there is nothing to share out.
    fn workers(&self, pipeline: &PipelinePlan) -> usize {
        let whole = pipeline.rows.is_some() || pipeline.records.is_some();
        if whole { 1 } else { self.plan.engine.window_workers.max(1) }
    }

    /// Levels that somebody judges: the config has warned about the others.
    pub(super) fn levels(&self, pipeline: &PipelinePlan) -> Vec<KeyLevel> {
        pipeline.keys.iter().copied().filter(|k| self.plan.judges(pipeline, k.kind)).collect()
    }

    fn memory(&self, pipeline: &PipelinePlan, id: &str, number: usize) -> Option<Saved> {
        self.kept(saved::detector(&pipeline.id, id, number, self.workers(pipeline)), "detector")
    }

    fn keep(&self, pipeline: &PipelinePlan, scores: bool) -> Keep {
        let of = |s: &Arc<str>, content| self.plan.sinks.get(s).is_some_and(|s| crate::sink::content(s) == content);
        let has = |content| pipeline.sinks.iter().any(|s| of(s, content));
        Keep { scores: scores || has(Content::Scores), frames: has(Content::Features) }
    }

    fn extractor(&self, pipeline: &PipelinePlan) -> Result<Option<PluginFeatures>, Vec<Problem>> {
        match (&pipeline.records, self.judges) {
            (Some(_), Some(judges)) => match judges.features(self.plan, pipeline)? {
                Some(features) => Ok(Some(features)),
                // Without it its plugin did not load, which is a problem of its own.
                None => Err(Vec::new()),
            },
            _ => Ok(None),
        }
    }

    fn grouping(
        &self,
        pipeline: &PipelinePlan,
        (levels, hasher): (&[KeyLevel], &Hasher),
        number: usize,
        extractor: Option<PluginFeatures>,
    ) -> Grouping {
        if let Some((records, features)) = pipeline.records.as_ref().zip(extractor) {
            let windows = RowWindows::new(pipeline.window, records.max_bytes);
            return Grouping::Records { windows, features: Box::new(features) };
        }
        let needs = catalogue::needs(&pipeline.features);
        let shard = Shard::new(pipeline.window, needs, levels, hasher, number, self.workers(pipeline));
        Grouping::Flows { shard: Box::new(shard), frames: Box::new(frames(pipeline)) }
    }

    fn combiners(&self, pipeline: &PipelinePlan, heard: &[Heard]) -> (Option<Combiner>, Option<Combiner>) {
        let aside = pipeline.shadow.as_ref().and_then(|s| s.combine.as_ref());
        (
            pipeline.combine.as_ref().map(|c| Combiner::new(COMBINED, c, heard)),
            aside.map(|c| Combiner::new(SHADOW_COMBINED, c, heard)),
        )
    }

    fn digest(&self) -> PlanDigest {
        self.digest.cloned().unwrap_or_else(|| PlanDigest::from(self.plan.digest.as_str()))
    }

    fn context(&self, pipeline: &PipelinePlan, digest: &PlanDigest) -> Context {
        Context {
            pipeline: pipeline.id.clone(),
            window_kind: pipeline.window.kind.name(),
            plan_digest: digest.clone(),
            shadow: pipeline.mode == Mode::Shadow,
        }
    }

    /// A pipeline that begins. `only`: these take the place of its detectors.
    pub(super) fn pipeline(
        &self,
        pipeline: &PipelinePlan,
        only: Option<Make<'_>>,
        scores: Option<&ScoreWriter>,
    ) -> Result<BuiltPipeline, Vec<Problem>> {
        let levels = if only.is_some() { pipeline.keys.clone() } else { self.levels(pipeline) };
        // What a detector knows of an entity lies with the worker that has the entity, over restarts too.
        let hasher = self
            .kept(saved::shares(&pipeline.id), "seed")
            .map_or_else(Hasher::default, |saved| Hasher::with_seed(saved.number(Hasher::random_seed)));
        let (mut workers, mut followable, mut input) = (Vec::new(), BTreeMap::new(), None);
        let (mut followed, mut followers) = (Vec::new(), None::<Followers>);
        for number in 0..self.workers(pipeline) {
            let extractor = self.extractor(pipeline)?;
            input = extractor.as_ref().map(|e| e.input().clone());
            let grouping = self.grouping(pipeline, (&levels, &hasher), number, extractor);
            let scorer = self.judges.map_or_else(Arc::default, Judges::scorer);
            let mut detectors = match (only, self.judges) {
                (Some(make), _) => make(&scorer)?,
                (None, Some(judges)) => judges.detectors(self.plan, pipeline, &seats(pipeline), &scorer)?,
                (None, None) => Vec::new(),
            };
            let followers = followers.get_or_insert_with(|| {
                followable = detectors.iter().map(|d| (d.id().clone(), d.followable().to_vec())).collect();
                followed = state::followed(pipeline, &followable);
                let follow = |f: &Followable| state::follow(self.plan, pipeline, f, self.live);
                Followers::new(followed.iter().map(follow).collect())
            });
            let heard = followers.heard();
            detectors.iter_mut().for_each(|d| d.hear(&heard));
            let seat = |detector: Box<dyn Detector>| {
                let id = detector.id().clone();
                let live = only.is_some() || pipeline.detectors.contains(&id);
                let shadow = pipeline.shadow.as_ref().is_some_and(|s| s.detectors.contains(&id));
                Seat { detector, live, shadow, memory: self.memory(pipeline, &id, number) }
            };
            let (combiner, shadow_combiner) = self.combiners(pipeline, &heard);
            let (seats, keep) = (detectors.into_iter().map(seat).collect(), self.keep(pipeline, scores.is_some()));
            let panel = Panel { seats, combiner, shadow_combiner, keep, scorer };
            let mut worker = Worker::new(&pipeline.id, grouping, panel);
            if let Some(levels) = self.kept(saved::worker(&pipeline.id, number), "levels") {
                worker.resume(levels);
            }
            workers.push(worker);
        }
        let followers = followers.unwrap_or_else(|| Followers::new(Vec::new()));
        let timelines = followers.all().iter().map(|f| f.timeline.clone());
        let digest = self.digest();
        let context = self.context(pipeline, &digest);
        let comparison: Option<Compared> = pipeline.shadow.as_ref().map(|_| compared(&pipeline.id));
        let shadow = pipeline.shadow.as_ref().zip(comparison.clone());
        Ok(BuiltPipeline {
            ingest: Ingest::new(pipeline.window, catalogue::needs(&pipeline.features)),
            workers,
            keeper: if self.live { Keeper::new(self.plan, pipeline, &followed) } else { None },
            saved: self.kept(saved::desk(&pipeline.id), "incidents"),
            shadow: shadow.map(|(plan, compared)| Shadow::new(&context, plan.incident.clone(), compared)),
            tracker: IncidentTracker::new(context, pipeline.incident.clone()),
            scores: scores.cloned(),
            facts: Facts {
                hasher,
                levels,
                followable,
                followed: followed.into_iter().zip(timelines).collect(),
                compared: comparison,
                digest,
                input,
            },
            followers,
            plan: pipeline.clone(),
        })
    }

    /// What a pipeline of an older plan becomes.
    pub(super) fn succeed(
        &self,
        pipeline: &PipelinePlan,
        before: Before<'_>,
        outlets: Vec<Box<dyn Outlet>>,
        gate: Arc<Gate>,
    ) -> Result<(NextPipeline, Facts), Vec<Problem>> {
        let (was, facts) = (before.pipeline, before.facts);
        let levels = self.levels(pipeline);
        let stays: Vec<Arc<str>> = seats(pipeline).into_iter().filter(|id| self.stays(id, pipeline, &before)).collect();
        let new: Vec<Arc<str>> = seats(pipeline).into_iter().filter(|id| !stays.contains(id)).collect();
        let anew = was.window.size_ns != pipeline.window.size_ns || was.window.kind != pipeline.window.kind;
        let same_features = was.features == pipeline.features;
        let other_features = !same_features || was.level_half_life_windows != pipeline.level_half_life_windows;
        let other_plugin = pipeline.records.is_some() && {
            let plugin = |judges: Option<&Judges>, p: &PipelinePlan| {
                judges.zip(p.records.as_ref()).and_then(|(j, r)| j.plugin(&r.plugin).cloned())
            };
            let same =
                plugin(before.judges, was).zip(plugin(self.judges, pipeline)).is_some_and(|(a, b)| Arc::ptr_eq(&a, &b));
            !same || !same_features || was.records != pipeline.records || was.sources != pipeline.sources
        };
        let mut input = facts.input.clone();
        let (mut panels, mut groupings, mut extractors) = (Vec::new(), Vec::new(), Vec::new());
        let mut followable = BTreeMap::new();
        let mut restart = restarts_windows(was, pipeline) || levels != facts.levels;
        for number in 0..self.workers(pipeline) {
            let extractor =
                if other_plugin || (restart && pipeline.records.is_some()) { self.extractor(pipeline)? } else { None };
            if let Some(extractor) = &extractor {
                // Rows of other columns do not go into one window.
                restart |= facts.input.as_ref() != Some(extractor.input());
                input = Some(extractor.input().clone());
            }
            if restart {
                let grouping = self.grouping(pipeline, (&levels, &facts.hasher), number, extractor);
                groupings.push(Some(grouping));
                extractors.push(None);
            } else {
                groupings.push(None);
                let features = match extractor {
                    Some(extractor) => Some(NextFeatures::Records(Box::new(extractor))),
                    None => other_features.then(|| NextFeatures::Flows(Box::new(frames(pipeline)))),
                };
                extractors.push(features);
            }
            let scorer = before.scorers.get(number).cloned().unwrap_or_default();
            let mut made = match self.judges {
                Some(judges) => judges.detectors(self.plan, pipeline, &new, &scorer)?,
                None => Vec::new(),
            };
            followable = made.iter().map(|d| (d.id().clone(), d.followable().to_vec())).collect();
            let seat = |id: Arc<str>| {
                let at = made.iter().position(|d| *d.id() == id);
                let on_mismatch = self.plan.detectors.get(&id).map(|d| d.on_state_mismatch).unwrap_or_default();
                NextSeat {
                    live: pipeline.detectors.contains(&id),
                    shadow: pipeline.shadow.as_ref().is_some_and(|s| s.detectors.contains(&id)),
                    new: at.map(|at| (made.swap_remove(at), on_mismatch)),
                    memory: self.memory(pipeline, &id, number),
                    id,
                }
            };
            panels.push(seats(pipeline).into_iter().map(seat).collect::<Vec<_>>());
        }
        followable.extend(stays.iter().filter_map(|id| Some((id.clone(), facts.followable.get(id)?.clone()))));
        let followed = state::followed(pipeline, &followable);
        let (mut follows, mut fresh) = (Vec::new(), Vec::new());
        for one in &followed {
            let same = |(other, _): &&(Followable, _)| other.subject == one.subject && other.digest == one.digest;
            // Scores of windows of another length are others.
            let timeline = facts.followed.iter().find(same).map(|(_, t)| t.clone()).filter(|_| !anew);
            let kept = timeline.is_some();
            let mut follow: Follow = state::follow(self.plan, pipeline, one, false);
            match timeline {
                Some(timeline) => follow.timeline = timeline,
                None => fresh.push(follow.timeline.clone()),
            }
            follows.push(NextFollow { follow, kept });
        }
        let heard: Vec<Heard> = follows.iter().enumerate().map(|(at, next)| next.follow.heard(at)).collect();
        let keep = self.keep(pipeline, false);
        let models = self.judges.map(|j| j.models().clone()).unwrap_or_default();
        let workers = panels.into_iter().zip(groupings).zip(extractors).map(|((seats, grouping), features)| {
            let (combiner, shadow_combiner) = self.combiners(pipeline, &heard);
            let (heard, models) = (heard.clone(), models.clone());
            let panel = NextPanel { seats, combiner, shadow_combiner, keep, heard, models, back: before.back };
            NextWorker { panel, judged_since: grouping.is_some(), grouping, features }
        });
        // A shadow under the same rules goes on comparing.
        let comparison = match (&was.shadow, &pipeline.shadow, &facts.compared) {
            (Some(a), Some(b), Some(compared)) if a == b && new.is_empty() && !restart => Some(compared.clone()),
            (_, Some(_), _) => Some(compared(&pipeline.id)),
            (_, None, _) => None,
        };
        let digest = self.digest();
        let context = self.context(pipeline, &digest);
        let shadow = pipeline.shadow.as_ref().zip(comparison.clone());
        let desk = NextDesk {
            incident: pipeline.incident.clone(),
            outlets,
            keeper: if self.live { Keeper::new(self.plan, pipeline, &followed) } else { None },
            shadow: shadow.map(|(plan, compared)| Shadow::new(&context, plan.incident.clone(), compared)),
            windows: match (restart, anew) {
                (false, _) => NextWindows::GoOn,
                (true, false) => NextWindows::Restarted,
                (true, true) => NextWindows::OtherLength,
            },
            context,
            followers: Vec::new(),
        };
        let timelines: Vec<_> = follows.iter().map(|next| next.follow.timeline.clone()).collect();
        let facts = Facts {
            hasher: facts.hasher.clone(),
            levels,
            followable,
            followed: followed.into_iter().zip(timelines).collect(),
            compared: comparison,
            digest,
            input,
        };
        let ingest = restart.then(|| Ingest::new(pipeline.window, catalogue::needs(&pipeline.features)));
        let desk = NextDesk { followers: follows, ..desk };
        Ok((NextPipeline { workers: workers.collect(), desk, ingest, fresh, gate }, facts))
    }

    /// True when a detector of the plan before goes on as it is.
    fn stays(&self, id: &Arc<str>, pipeline: &PipelinePlan, before: &Before<'_>) -> bool {
        let plans = before.plan.detectors.get(id).zip(self.plan.detectors.get(id));
        let judges = before.judges.zip(self.judges);
        let Some(((was, is), (old, new))) = plans.zip(judges) else { return false };
        let same =
            |a: &DetectorPlan, b: &DetectorPlan| (&a.plugin, &a.keys, &a.config) == (&b.plugin, &b.keys, &b.config);
        let plugins = old.plugin(&was.plugin).zip(new.plugin(&is.plugin));
        let offer = |p: &PipelinePlan| (p.features.clone(), p.window.size_ns, p.keys.clone());
        seats(before.pipeline).contains(id)
            && same(was, is)
            && plugins.is_some_and(|(a, b)| Arc::ptr_eq(a, b))
            && offer(before.pipeline) == offer(pipeline)
    }
}

/// The pipeline of an older plan.
#[derive(Clone, Copy)]
pub(super) struct Before<'a> {
    pub(super) plan: &'a Plan,
    pub(super) judges: Option<&'a Judges>,
    pub(super) pipeline: &'a PipelinePlan,
    pub(super) facts: &'a Facts,
    /// Of its workers.
    pub(super) scorers: &'a [Arc<FrameScorer>],
    /// The next plan was in force before it.
    pub(super) back: bool,
}
