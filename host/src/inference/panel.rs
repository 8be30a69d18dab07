//! Several models over the same rows. Comes in: the models; goes out: which columns they take together, and a panel that
//! scores them one by one, for backends that gain nothing by doing it at once.

use super::model::Model;
use super::scorer::{Backend, InferenceError, Losses, Panel, Scorer};
use std::sync::Arc;

/// The columns that some models take together, and where each finds its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Features, each once, in order of first appearance.
    pub names: Vec<String>,
    /// Per model, per feature: position in `names`.
    pub of: Vec<Vec<usize>>,
}

impl Columns {
    /// Those of these models.
    pub fn of(models: &[Arc<Model>]) -> Self {
        let mut names: Vec<String> = Vec::new();
        let mut position = |name: &String| {
            names.iter().position(|known| known == name).unwrap_or_else(|| {
                names.push(name.clone());
                names.len() - 1
            })
        };
        let of = models.iter().map(|m| m.manifest.features.iter().map(|f| position(&f.name)).collect()).collect();
        Self { names, of }
    }

    /// Rows, if these are the columns.
    pub(super) fn rows(&self, columns: &[&[f64]]) -> Result<usize, InferenceError> {
        rows(self.names.len(), columns)
    }
}

/// Rows of so many columns of one length.
pub(super) fn rows<T>(expected: usize, columns: &[&[T]]) -> Result<usize, InferenceError> {
    if columns.len() != expected {
        return Err(InferenceError::Columns { expected, got: columns.len() });
    }
    let rows = columns.first().map_or(0, |column| column.len());
    match columns.iter().position(|column| column.len() != rows) {
        Some(column) => Err(InferenceError::Lengths { column, expected: rows, got: columns[column].len() }),
        None => Ok(rows),
    }
}

/// Scores one model after the other.
pub(super) struct OneByOne {
    columns: Columns,
    scorers: Vec<Box<dyn Scorer>>,
}

impl OneByOne {
    pub(super) fn new<B: Backend + ?Sized>(backend: &B, models: &[Arc<Model>]) -> Result<Self, InferenceError> {
        let scorers = models.iter().map(|model| backend.scorer(model)).collect::<Result<_, _>>()?;
        Ok(Self { columns: Columns::of(models), scorers })
    }
}

impl Panel for OneByOne {
    fn columns(&self) -> &[String] {
        &self.columns.names
    }

    fn losses(&mut self, columns: &[&[f64]], out: &mut [Losses]) -> Result<(), InferenceError> {
        self.columns.rows(columns)?;
        for ((scorer, places), out) in self.scorers.iter_mut().zip(&self.columns.of).zip(out) {
            let mine: Vec<&[f64]> = places.iter().map(|&at| columns[at]).collect();
            scorer.losses(&mine, out)?;
        }
        Ok(())
    }
}
