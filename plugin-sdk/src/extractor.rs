use crate::batch::{Batch, Schema};
use crate::error::Result;
use crate::rows::Rows;
use crate::window::Window;

/// Features of another kind: the rows of one window in, one row of features per entity out.
pub trait Extractor: Sized {
    /// The plugin's own table of the operator's configuration (`extract.config` of a pipeline).
    type Config: serde::de::DeserializeOwned + schemars::JsonSchema;

    /// Checks the configuration and makes an instance. Complain with [`crate::error::config`].
    fn new(config: Self::Config) -> Result<Self>;

    /// What it makes of rows like these. Complain here about columns that are not there: it is asked before anything runs.
    fn schema(&self, input: &Schema) -> Result<Schema>;

    /// The features of one window's rows, in the columns that [`schema`](Self::schema) named.
    fn extract(&mut self, window: &Window, rows: &Batch) -> Result<Rows>;

    /// Of what [`snapshot`](Self::snapshot) gives; raise it when that changes. 0: nothing is saved.
    const STATE_VERSION: u32 = 0;

    /// What decides about later calls, for the host's checkpoints. Asked between calls.
    fn snapshot(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    /// Goes on with what an instance before has saved. An error: it begins anew.
    fn restore(&mut self, version: u32, bytes: &[u8]) -> Result<()> {
        let _ = (version, bytes);
        Ok(())
    }

    /// What an instance of state version `from` has saved, in the form of this one's [`STATE_VERSION`](Self::STATE_VERSION): then
    /// [`restore`](Self::restore) gets that. Without it `restore` gets the bytes as they are, under the version that they had.
    fn migrate(&self, from: u32, bytes: &[u8]) -> Result<Vec<u8>> {
        let _ = bytes;
        Err(crate::error::no_migration(from))
    }
}
