//! kaminari and a real Kafka broker. `cargo xtask test` brings one; where there is none these tests say that they are
//! skipped.

mod broker;
pub mod engine;
mod faults;
mod memory;
mod proof;
mod stream;
