//! temporary
#![allow(missing_docs)]
#[derive(Default, serde::Serialize)]
pub struct Comparison {}
impl Comparison {
    pub fn window(&mut self, _: &crate::model::WindowInfo, _: bool) {}
    pub fn live(&mut self, _: &[crate::model::incident::IncidentEvent]) {}
    pub fn shadow(&mut self, _: &[crate::model::incident::IncidentEvent]) {}
}
