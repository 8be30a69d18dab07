//! Syslog messages to fields and templates. In: frames, one message each. Out: [`parse::Message`]s, and for a message's
//! text the id of its [`template`]. Pure: no clock, no I/O. What is no message is refused with a reason.

mod mask;
pub mod parse;
mod ras;
pub mod template;
mod time;

pub use parse::{Message, Options, Refusal, parse, text};
pub use template::{Assigned, Bounds, Miner};
