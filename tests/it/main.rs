//! All black-box tests, one module per promise.

mod config_errors;
