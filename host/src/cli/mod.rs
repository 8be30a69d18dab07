//! cli

pub mod decode;
