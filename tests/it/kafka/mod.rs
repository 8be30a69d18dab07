//! kaminari and a real Kafka broker. `cargo xtask test` brings one; where there is none these tests say that they are
//! skipped.

mod broker;
mod collectors;
pub mod engine;
mod faults;
mod interop;
mod memory;
mod poison;
mod proof;
mod rows;
mod stream;
