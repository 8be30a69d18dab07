//! All black-box tests, one module per promise.

mod plugin_faults;
mod plugin_files;
