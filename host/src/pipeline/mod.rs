//! The only room that knows all stages: builds them from a plan, connects them by bounded queues, runs and stops them.
//!
//! Threads: per UDP socket, and per source that brings streams, a receiver and an intake (decoding), per file one intake; per pipeline one router
//! (event time, watermark), `window_workers` workers (windows, features, detectors) and one desk (incidents); one per
//! sink. Data flows one way. Stopping does too: receivers stop, queues run empty, windows close, incidents leave.

mod assemble;
mod build;
mod change;
mod collect;
mod desk;
mod differs;
mod files;
mod gate;
mod grouping;
mod intake;
mod judges;
mod kafka;
mod live;
mod models;
mod next;
mod outlet;
mod panel;
mod progress;
mod reading;
mod receivers;
mod router;
mod rows;
mod running;
mod saved;
mod scores;
mod shadow;
mod state;
mod summary;
mod worker;

pub use build::{BuildError, Built, Input, Problem, build, check, contradictions, registry};
pub use change::{Change, Changed, Generation, NotChanged};
pub use collect::{Wanted, collect};
pub use models::options as inference_options;
pub use running::{Outcome, Progress, Running};
pub use scores::ScoreWriter;
pub use summary::{Summary, publish_process, summarise};
