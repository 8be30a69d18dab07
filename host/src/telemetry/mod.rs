//! Metric catalogue and logging set-up. Comes in: names and values; goes out: the text of `/metrics`, the summary at
//! the end of a run. Labels never hold an IP address.

pub mod catalogue;
mod info;
pub mod logging;
mod recorder;

pub use catalogue::*;
pub use info::{render, set_info};
pub use recorder::{Upkeep, install};
