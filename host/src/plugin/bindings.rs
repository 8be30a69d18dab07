//! What wasmtime makes of the contract: types, the traits of the host's services, callers of what a plugin exports.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "everything",
    with: {
        "kaminari:plugin/data.record-batch": super::batch::Batch,
        "kaminari:plugin/data.batch-builder": super::builder::Builder,
        "kaminari:plugin/inference.model": super::inference::ModelHandle,
        "kaminari:plugin/state.bucket": super::state::BucketHandle,
    },
    imports: {
        "kaminari:plugin/inference": trappable,
        "kaminari:plugin/state": trappable,
    },
});
