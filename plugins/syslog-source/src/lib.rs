//! Syslog messages to rows. In: frames, one message each. Out: a row with the fields of each [`parse::Message`], and for its
//! text the id of its [`template`]. What is no message is refused with a reason.

mod mask;
pub mod parse;
mod ras;
mod source;
pub mod template;
mod time;

pub use parse::{Message, Options, Refusal, parse, text};
pub use source::{Config, Syslog};
pub use template::{Assigned, Bounds, Miner};

kaminari_plugin_sdk::export_plugin!(name = "syslog-source", source = Syslog);
