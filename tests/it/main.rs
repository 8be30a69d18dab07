//! All black-box tests, one module per promise.

mod config_errors;
mod corpus;
mod plugin_faults;
mod plugin_files;
