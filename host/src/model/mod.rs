//! The words of the field as types: addresses, flow records, entities, windows, frames of features,
//! verdicts, incidents. No I/O, no logging, no knowledge of configuration.
//!
//! Stages never import one another; what passes between them on channels is defined here.

pub mod addr;
pub mod aggregate;
pub mod detection;
pub mod device;
pub mod flow;
pub mod flow_arrow;
pub mod flow_columns;
pub mod flow_extra;
pub mod flow_json;
pub mod flow_proto;
pub mod flow_rows;
pub mod frames;
pub mod handover;
pub mod incident;
pub mod key;
pub mod name;
pub mod output;
pub mod plan_digest;
pub mod row_json;
pub mod rows;
pub mod saved;
pub mod schema;
pub mod sketch;
pub mod time;
pub mod window;

pub use addr::{Addr, Prefix};
pub use aggregate::{Aggregate, Needs, WindowSink};
pub use detection::{Alert, Contribution, Detection, Severity, Verdict};
pub use device::{BackendChoice, Device, Dtype};
pub use flow::{FlowBatch, FlowBatchBuilder, FlowRecord, FlowSink, FlowType};
pub use frames::{Delivery, Frame, FrameBatch};
pub use handover::Handover;
pub use key::{EntityKey, KeyKind, KeyLevel};
pub use output::{Content, Output, ScoredFrame};
pub use plan_digest::PlanDigest;
pub use rows::{Batch, RowBatch};
pub use window::{FeatureFrame, WindowInfo};
