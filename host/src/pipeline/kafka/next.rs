//! What a task becomes at a reload, made beside it: pipelines that have changed take over what they know, new ones begin where
//! the task stands, the others are not touched. In: what is known of a task, and the next plan. Out: a [`NextTask`]. Refused:
//! plugins that do not start, topics of a transaction that nobody answers for.

use super::super::assemble::Before;
use super::super::gate::Gate;
use super::super::reading::Reading;
use super::factory::{Factory, NewLane, Ways, said};
use super::lane::{Known, NextLane};
use super::transaction::Transaction;
use crate::model::PlanDigest;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What must be known of a task to make what it becomes.
pub(super) struct TaskFacts {
    pub(super) transaction: Option<Arc<Mutex<Transaction>>>,
    /// By pipeline.
    pub(super) lanes: BTreeMap<Arc<str>, Known>,
}

/// See the module.
pub(super) struct NextTask {
    /// Pipelines of the source; others end.
    pub(super) pipelines: Vec<Arc<str>>,
    /// Those that have changed.
    pub(super) changed: Vec<NextLane>,
    /// Those that begin.
    pub(super) new: Vec<NewLane>,
    pub(super) reading: Option<Reading>,
    pub(super) ways: Ways,
    pub(super) digest: PlanDigest,
}

impl Factory {
    /// What a task of `was` becomes under this one.
    pub(super) fn next_task(&self, was: &Factory, facts: TaskFacts, gate: &Arc<Gate>) -> Result<NextTask, String> {
        let TaskFacts { transaction, mut lanes } = facts;
        let mut ways = Ways::default();
        let (mut changed, mut new) = (Vec::new(), Vec::new());
        for id in self.pipelines() {
            let pipeline = self.pipeline(id)?;
            let differs = !lanes.contains_key(id) || self.parts.differs_from(&was.parts, pipeline);
            let told = self.outlets(pipeline, transaction.as_ref(), &mut ways, differs)?;
            if pipeline.is_forward() || !differs {
                continue;
            }
            let before = was.parts.plan.pipelines.get(id).zip(lanes.remove(id));
            let Some((plan, Known { facts, scorer })) = before else {
                new.push(self.lane(pipeline, told)?);
                continue;
            };
            let before = Before {
                plan: &was.parts.plan,
                judges: Some(&was.parts.judges),
                pipeline: plan,
                facts: &facts,
                scorers: &[scorer],
                back: self.parts.back,
            };
            let (becomes, facts) = self.shop().succeed(pipeline, before, told, gate.clone()).map_err(said)?;
            facts.compared.iter().for_each(|compared| self.shadows.add(compared));
            changed.push(NextLane { plan: pipeline.clone(), becomes, facts });
        }
        Ok(NextTask {
            pipelines: self.pipelines().to_vec(),
            changed,
            new,
            reading: if self.parts.decodes_as(&was.parts) { None } else { Some(self.reading()?) },
            ways,
            digest: self.parts.digest.clone(),
        })
    }
}
