//! The role `feature-extractor`. Comes in: the rows of one window; goes out: rows of features. Refused as a whole: features of
//! another schema than was agreed at plan time.

use super::batch::Batch;
use super::bindings::exports::kaminari::plugin::feature_extractor as raw;
use super::builder::{arrow_schema, with_schema};
use super::error::CallError;
use super::instance::{PluginInstance, window};
use super::limits::SETUP_DEADLINE_MS;
use super::roles::Guest;
use crate::model::WindowInfo;
use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use std::sync::Arc;
use wasmtime::component::Resource;

fn extractor(guest: &Guest) -> wasmtime::Result<&raw::Guest> {
    guest.extractor.as_ref().ok_or_else(|| wasmtime::Error::msg("the plugin extracts no features"))
}

impl PluginInstance {
    /// What it makes of rows like these.
    pub fn features_of(&mut self, input: &Schema) -> Result<SchemaRef, CallError> {
        const CALL: &str = "output-schema";
        let input = Batch::lent(RecordBatch::new_empty(Arc::new(input.clone()))).schema();
        let said =
            self.call(CALL, SETUP_DEADLINE_MS, |guest, store| extractor(guest)?.call_output_schema(store, &input))?;
        arrow_schema(said).map(Arc::new).map_err(|text| self.refused(CALL, text))
    }

    /// The features of one window's rows.
    pub fn extract(
        &mut self,
        of: &WindowInfo,
        rows: RecordBatch,
        agreed: &SchemaRef,
    ) -> Result<RecordBatch, CallError> {
        let (loan, mut back) = (self.store.data().account.loan(), None);
        let batch = Batch::on_loan(rows, loan.clone());
        let features = self.work("extract", of.watermark_ns, |guest, store| {
            let ours = store.data_mut().table.push(batch)?;
            let lent = Resource::new_borrow(ours.rep());
            let answer = extractor(guest)?.call_extract(&mut *store, window(of), lent);
            back = Some(store.data_mut().table.delete(ours)?.batch);
            Ok(match answer? {
                Ok(features) => Ok(store.data_mut().table.delete(features)?.batch),
                Err(error) => Err(error),
            })
        });
        let checked = self.given_back("extract", (loan, back), features).and_then(|features| {
            let text = |cause| format!("features that are not those agreed at plan time: {cause}");
            with_schema(features, agreed).map_err(|cause| self.refused("extract", text(cause)))
        });
        self.counted(checked)
    }
}
