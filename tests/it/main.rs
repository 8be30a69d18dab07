//! All black-box tests, one module per promise.

mod cli;
mod config_errors;
mod corpus;
mod evaluate;
mod kafka;
mod learn;
mod model_inspect;
mod plugin_authoring;
mod nab;
mod plugin_faults;
mod plugin_files;
mod plugin_frames;
mod plugin_models;
mod plugin_pipeline;
mod plugin_state;
mod records;
mod replay_files;
mod restart;
mod run;
mod scenario_inputs;
mod scenarios;
mod sources;
mod summary;
mod torch;
