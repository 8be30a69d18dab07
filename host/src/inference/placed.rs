//! Models where they were placed. Comes in: rows; goes out: losses, from the device where it pays and from the CPU
//! elsewhere and whenever the device fails: the same batch, at once. Models on one device share one transfer.

use super::backends::Place;
use super::model::Model;
use super::network::Weights;
use super::panel::Columns;
use super::reference;
use super::scorer::{FeatureError, InferenceError, Losses, Panel, Reason, Scorer};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// Several models, for one thread.
pub(super) struct PlacedPanel {
    columns: Columns,
    members: Vec<Member>,
    /// Panels of the device, by the members in them.
    panels: HashMap<Vec<usize>, Shared>,
}

struct Member {
    model: Arc<Model>,
    place: Place,
    /// Made when it is first needed.
    cpu: Option<Box<dyn Scorer>>,
}

struct Shared {
    panel: Box<dyn Panel>,
    /// Position of its columns among ours.
    columns: Vec<usize>,
    out: Vec<Losses>,
}

impl PlacedPanel {
    pub fn new(models: &[Arc<Model>], places: Vec<Place>) -> Result<Self, InferenceError> {
        let columns = Columns::of(models);
        let member = |(model, place): (&Arc<Model>, Place)| Member { model: model.clone(), place, cpu: None };
        let mut members: Vec<Member> = models.iter().zip(places).map(member).collect();
        // What cannot be computed at all is told now.
        for member in members.iter_mut().filter(|m| m.place.device.is_none()) {
            member.cpu()?;
        }
        Ok(Self { columns, members, panels: HashMap::new() })
    }

    /// The members whose batches of so many rows go to the device, now.
    fn on_device(&self, rows: usize) -> Vec<usize> {
        let now = Instant::now();
        let goes = |m: &Member| m.place.device.as_ref().is_some_and(|(_, from)| rows >= *from);
        let permitted = |m: &Member| m.place.health.permits(now) && m.place.own_health.permits(now);
        (0..self.members.len()).filter(|&at| goes(&self.members[at]) && permitted(&self.members[at])).collect()
    }

    /// Those of the models that the device has scored.
    fn try_device(&mut self, which: Vec<usize>, columns: &[&[f64]], out: &mut [Losses]) -> Vec<usize> {
        let Some(&first) = which.first() else { return which };
        let (now, health) = (Instant::now(), self.members[first].place.health.clone());
        let Err(error) = self.together(&which, columns, out) else {
            health.success();
            which.iter().for_each(|&at| self.members[at].place.own_health.success());
            return which;
        };
        // A group on a device that failed may be unusable.
        self.panels.clear();
        match (told(&error), &which[..]) {
            // Not the device's fault, and only one of them may be at fault.
            ((Reason::Refused, message), [one]) => {
                let Member { model, place, .. } = &self.members[*one];
                let message = format!("model {}: {message}", model.manifest.name);
                place.own_health.failure(now, Reason::Refused, &message);
                Vec::new()
            }
            ((Reason::Refused, _), _) => {
                which.into_iter().flat_map(|one| self.try_device(vec![one], columns, out)).collect()
            }
            ((reason, message), _) => {
                health.failure(now, reason, &message);
                Vec::new()
            }
        }
    }

    /// Scores some of the models together on their device.
    fn together(&mut self, which: &[usize], columns: &[&[f64]], out: &mut [Losses]) -> Result<(), InferenceError> {
        if !self.panels.contains_key(which) {
            let models: Vec<Arc<Model>> = which.iter().map(|&at| self.members[at].model.clone()).collect();
            let Some((device, _)) = &self.members[which[0]].place.device else { return Ok(()) };
            let panel = device.panel(&models)?;
            let position = |name: &String| self.columns.names.iter().position(|known| known == name);
            let columns = panel.columns().iter().filter_map(position).collect();
            let out = vec![Losses::default(); which.len()];
            self.panels.insert(which.to_vec(), Shared { panel, columns, out });
        }
        let Some(shared) = self.panels.get_mut(which) else { return Ok(()) };
        let mine: Vec<&[f64]> = shared.columns.iter().map(|&at| columns[at]).collect();
        shared.panel.losses(&mine, &mut shared.out)?;
        for (&at, losses) in which.iter().zip(&mut shared.out) {
            std::mem::swap(&mut out[at], losses);
        }
        Ok(())
    }
}

impl Member {
    fn cpu(&mut self) -> Result<&mut Box<dyn Scorer>, InferenceError> {
        let scorer = match self.cpu.take() {
            Some(scorer) => scorer,
            None => self.place.cpu.scorer(&self.model)?,
        };
        Ok(self.cpu.insert(scorer))
    }
}

/// What went wrong on a device.
fn told(error: &InferenceError) -> (Reason, String) {
    match error {
        InferenceError::Backend { reason, message, .. } => (*reason, message.clone()),
        other => (Reason::Refused, other.to_string()),
    }
}

impl Panel for PlacedPanel {
    fn columns(&self) -> &[String] {
        &self.columns.names
    }

    fn losses(&mut self, columns: &[&[f64]], out: &mut [Losses]) -> Result<(), InferenceError> {
        let rows = self.columns.rows(columns)?;
        let done = self.try_device(self.on_device(rows), columns, out);
        for at in (0..self.members.len()).filter(|at| !done.contains(at)) {
            let mine: Vec<&[f64]> = self.columns.of[at].iter().map(|&column| columns[column]).collect();
            self.members[at].cpu()?.losses(&mine, &mut out[at])?;
        }
        Ok(())
    }
}

/// One model, for one thread.
pub(super) struct PlacedScorer {
    panel: PlacedPanel,
    /// Explains an archive's rows.
    explains: Option<Box<dyn Scorer>>,
}

impl PlacedScorer {
    pub fn new(model: &Arc<Model>, place: Place) -> Result<Self, InferenceError> {
        Ok(Self { panel: PlacedPanel::new(std::slice::from_ref(model), vec![place])?, explains: None })
    }
}

impl Scorer for PlacedScorer {
    fn losses(&mut self, columns: &[&[f64]], out: &mut Losses) -> Result<(), InferenceError> {
        self.panel.losses(columns, std::slice::from_mut(out))
    }

    fn explain(&mut self, row: &[f64]) -> Result<Vec<FeatureError>, InferenceError> {
        let member = &mut self.panel.members[0];
        if let Weights::Mlp(network) = &member.model.weights {
            return reference::explain(network, &member.model.manifest.features, row);
        }
        if let Some((device, _)) = &member.place.device
            && member.place.health.permits(Instant::now())
            && member.place.own_health.permits(Instant::now())
        {
            let explained = (|| {
                let scorer = match self.explains.take() {
                    Some(scorer) => scorer,
                    None => device.scorer(&member.model)?,
                };
                self.explains.insert(scorer).explain(row)
            })();
            match explained {
                Ok(parts) => return Ok(parts),
                Err(error) => {
                    let (reason, message) = told(&error);
                    let Place { health, own_health, .. } = &member.place;
                    let health = if reason == Reason::Refused { own_health } else { health };
                    health.failure(Instant::now(), reason, &message);
                    self.explains = None;
                }
            }
        }
        member.cpu()?.explain(row)
    }
}
