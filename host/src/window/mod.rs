//! Groups flow records by entity in windows of event time.
//!
//! In: batches of flow records. Out: one [`Aggregate`](crate::model::Aggregate) per entity and fired window, handed to
//! a `WindowSink`. [`Ingest`] runs once per pipeline: it gives every record its pane, decides what is late, keeps the
//! watermark and says which panes close. [`Shard`]s run one per worker thread: each owns the entities whose hash falls
//! to it, so there are no locks. Both are synchronous and pure: no clock, no channel (the idle timeout is driven by
//! heartbeats that carry ingest time).
//!
//! A window is made of panes. Sliding windows fire each time a pane closes; tumbling ones when their last pane closes
//! and, with early firing, for every pane before it. A firing has a row for each entity that had traffic in the pane
//! that closed (a tumbling window's last firing: in the whole window).
//!
//! Rows of any kind (of source plugins) are not aggregated: [`RowWindows`] keeps them until their windows fire, and a feature
//! extractor makes of them what it makes.
//!
//! Refused and counted: records behind the allowed lateness, the part of a spread flow that lies before every window
//! still kept, records of new entities when a pane's
//! table is full, and rows for which there is no room.

mod backlog;
mod ingest;
mod rows;
mod shard;
mod sliding;
mod stacks;
mod table;
mod tumbling;
mod watermark;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod resume;

pub use backlog::Backlog;
pub use ingest::{Close, Ingest, IngestCounts, PlacedRows, Prepared};
pub use rows::{FiredRows, RowWindows};
pub use shard::{Hasher, Shard};
pub use watermark::Partition;
