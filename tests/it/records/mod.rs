//! Pipelines of records: plugins decode what a source brings and make features of it, whatever it is.

mod kafka;
mod logs;
mod metrics;
mod plans;

use kaminari_tests::plugin;

/// A source `in` with these keys, read by the fixture of all roles, and a limit on the sums that it makes. `more`: further
/// tables.
pub fn config(source: &str, extract: &str, more: &str) -> String {
    format!(
        "[engine]
         state_dir = \"state\"

         [sources.in]
         {source}

         [plugins.roles]
         path = {:?}
         state = [\"seen\"]
         metrics_series = 10

         [detectors.sums]
         plugin = \"roles\"
         config = {{ feature = \"sum\", above = 10.0 }}

         [pipelines.p]
         sources = [\"in\"]
         features = [\"sum\", \"seen\"]
         window = {{ type = \"tumbling\", size_secs = 10, out_of_order_secs = 0, idle_timeout_secs = 3600 }}
         incident = {{ open_after = \"1/1\", close_after_windows = 1 }}
         detectors = [\"sums\"]
         sinks = [\"out\"]

         [pipelines.p.records]
         entity = \"name\"
         extract = {{ plugin = \"roles\", config = {{ {extract} }} }}

         {more}",
        plugin("roles")
    )
}
