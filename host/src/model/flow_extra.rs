//! What a flow record may carry beyond the core columns. Filled only on request (`kaminari decode`): the hot path
//! does not pay for it.

/// Optional fields of a flow record. `None` or empty: the record did not carry it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlowExtra {}
