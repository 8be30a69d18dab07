//! kaminari: flows in, incidents out. Rooms in the order data passes; `ARCHITECTURE.md` has the map and the table of
//! what may import what, `cargo xtask layers` checks it.

pub mod model;

pub mod config;

pub mod decode;
pub mod detect;
pub mod features;
pub mod incident;
pub mod sink;
pub mod source;
pub mod window;

pub mod calibration;
pub mod checkpoint;
pub mod inference;
pub mod kafka;
pub mod plugin;
pub mod telemetry;

pub mod api;
pub mod authoring;
pub mod cli;
pub mod evaluate;
pub mod generate;
pub mod pipeline;
pub mod reload;
pub mod train;
