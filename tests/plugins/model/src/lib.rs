//! Opens the model in the config in every call and answers with what it says: as the scores of the rows, or as alerts.

use kaminari_plugin_sdk::inference::{Model, RowLoss};
use kaminari_plugin_sdk::prelude::*;

config! {
    pub struct Config {
        model: String,
        ask: Ask,
        /// For `limit`.
        #[serde(default)]
        false_alarms_per_day: f64,
    }

    #[serde(rename_all = "snake_case")]
    pub enum Ask {
        Mse,
        Log1p,
        Tails,
        Limit,
        Revision,
        /// An alert for every row, with the features as contributions and their errors as weights.
        Explain,
        /// A row that does not exist.
        ExplainBeyond,
        /// An alert that tells name, version, features and whether it is calibrated.
        Info,
    }
}

pub struct Asker(Config);

impl Detector for Asker {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Self(config))
    }

    fn detect(&mut self, _window: &Window, batch: &Batch) -> Result<Verdict> {
        let model = Model::open(&self.0.model)?;
        let all = |x: f64| vec![x; batch.len()];
        let alert = |row: usize| Alert::new("told", Severity::Info).row(row);
        let scores = match self.0.ask {
            Ask::Mse => model.reconstruction(batch, RowLoss::Mse)?,
            Ask::Log1p => model.reconstruction(batch, RowLoss::Log1p)?,
            Ask::Tails => model.tails(batch)?,
            Ask::Limit => all(model.limit(self.0.false_alarms_per_day)?),
            Ask::Revision => all(model.revision()? as f64),
            Ask::ExplainBeyond => {
                model.explain(batch, &[batch.len() as u32])?;
                Vec::new()
            }
            Ask::Explain => {
                let rows: Vec<u32> = (0..batch.len() as u32).collect();
                let mut verdict = Verdict::default();
                for (row, errors) in model.explain(batch, &rows)?.into_iter().enumerate() {
                    verdict.push(
                        errors
                            .iter()
                            .fold(alert(row), |alert, e| alert.because(&e.column, e.error, e.observed, e.expected)),
                    );
                }
                return Ok(verdict);
            }
            Ask::Info => {
                let info = model.info()?;
                let message = format!("{} {} {:?} {}", info.name, info.version, info.features, info.calibrated);
                return Ok(Verdict { scores: Vec::new(), alerts: vec![alert(0).message(message)] });
            }
        };
        Ok(Verdict::scores(scores))
    }
}

export_detector!(Asker, name = "model");
