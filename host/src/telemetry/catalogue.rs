//! Every metric of the engine: name, kind, labels, meaning. `docs/metrics.md` is generated from this list, and a test
//! checks that nothing is exported under a name that is not here.

/// Kind of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distribution.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct MetricDef {
    /// Exported name.
    pub name: &'static str,
    /// Kind.
    pub kind: MetricKind,
    /// Labels it carries.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

macro_rules! catalogue {
    ($($(#[doc = $help:literal])+ $id:ident = $name:literal, $kind:ident, [$($label:literal),*];)+) => {
        $($(#[doc = $help])+ pub const $id: &str = $name;)+
        /// All of them.
        pub const CATALOGUE: &[MetricDef] = &[$(MetricDef {
            name: $name, kind: MetricKind::$kind, labels: &[$($label),*], help: concat!($($help),+),
        }),+];
    };
}

catalogue! {
    /// Bytes of payload received.
    SOURCE_RECEIVED_BYTES = "kaminari_source_received_bytes_total", Counter, ["component_id"];
    /// Datagrams (or lines, or captured packets) received.
    SOURCE_DATAGRAMS = "kaminari_source_datagrams_total", Counter, ["component_id"];
    /// Datagrams the kernel dropped because the socket buffer was full (SO_RXQ_OVFL).
    SOURCE_SOCKET_DROPPED = "kaminari_source_socket_dropped_total", Counter, ["component_id"];
    /// Datagrams shed because decoding did not keep up.
    SOURCE_SHED = "kaminari_source_shed_datagrams_total", Counter, ["component_id"];
    /// Datagrams or frames refused before decoding, by reason.
    SOURCE_REFUSED = "kaminari_source_refused_total", Counter, ["component_id", "reason"];
    /// Times that reading waited because decoding did not keep up; the senders wait too.
    SOURCE_WAITS = "kaminari_source_waits_total", Counter, ["component_id"];
    /// Connections open now.
    SOURCE_CONNECTIONS = "kaminari_source_connections", Gauge, ["component_id"];
    /// Connections that were not served, by reason: limit, accept (the system has no descriptor), tls_not_tls,
    /// tls_incompatible, tls_no_certificate, tls_bad_certificate, tls_client_refused, tls_broken_off, tls_timeout, tls_other.
    SOURCE_CONNECTIONS_REFUSED = "kaminari_source_connections_refused_total", Counter, ["component_id", "reason"];
    /// Connections that ended, by reason: peer (the sender closed it), error, idle, slow (a frame took too long), framing,
    /// admission (a reload asks for TLS or another client certificate, and the sender went on after it was told the end), stop.
    SOURCE_CONNECTIONS_CLOSED = "kaminari_source_connections_closed_total", Counter, ["component_id", "reason"];
    /// Files followed now, those that were rotated away and are read to their end too.
    SOURCE_FILES = "kaminari_source_files", Gauge, ["component_id"];
    /// Files that were renamed or removed while they were followed.
    SOURCE_ROTATIONS = "kaminari_source_rotations_total", Counter, ["component_id"];
    /// Files that were truncated, or replaced under the same inode: they are read from their beginning.
    SOURCE_TRUNCATIONS = "kaminari_source_truncations_total", Counter, ["component_id"];
    /// Messages of a partition that are not read yet.
    SOURCE_LAG = "kaminari_source_lag_messages", Gauge, ["component_id", "topic", "partition"];
    /// 1 while the brokers of all partitions answer.
    SOURCE_CONNECTED = "kaminari_source_connected", Gauge, ["component_id"];
    /// Errors of the connection, by reason.
    SOURCE_ERRORS = "kaminari_source_errors_total", Counter, ["component_id", "reason"];
    /// Partitions read now.
    SOURCE_PARTITIONS = "kaminari_source_partitions", Gauge, ["component_id"];
    /// Partitions paused because windows did not keep up.
    SOURCE_PAUSED = "kaminari_source_paused_partitions", Gauge, ["component_id"];
    /// Positions that the brokers no longer had: reading went on with the oldest message.
    SOURCE_POSITIONS_GONE = "kaminari_source_positions_gone_total", Counter, ["component_id"];
    /// Messages that could not be decoded and went to the dead-letter topic, by reason.
    SOURCE_DEAD_LETTERED = "kaminari_source_dead_lettered_total", Counter, ["component_id", "reason"];
    /// Commits of positions, by outcome: done, failed, aborted.
    SOURCE_COMMITS = "kaminari_source_commits_total", Counter, ["component_id", "outcome"];
    /// Partitions whose windows were made again from the committed positions, by reason.
    SOURCE_REBUILDS = "kaminari_source_rebuilds_total", Counter, ["component_id", "reason"];
    /// Flow records decoded, by export protocol.
    DECODE_FLOWS = "kaminari_decode_flows_total", Counter, ["component_id", "version"];
    /// Rows of features that came as they are.
    DECODE_ROWS = "kaminari_decode_rows_total", Counter, ["component_id"];
    /// Datagrams, sets or records that could not be decoded, by reason.
    DECODE_ERRORS = "kaminari_decode_errors_total", Counter, ["component_id", "reason"];
    /// Bytes of sets left undecoded, by reason.
    DECODE_UNDECODED_BYTES = "kaminari_decode_undecoded_bytes_total", Counter, ["component_id", "reason"];
    /// Data sets that came before their template.
    DECODE_MISSING_TEMPLATE = "kaminari_decode_missing_template_total", Counter, ["component_id"];
    /// Data sets that came before their template, by outcome: buffered, replayed, expired.
    DECODE_PENDING_SETS = "kaminari_decode_pending_sets_total", Counter, ["component_id", "outcome"];
    /// Exporters known.
    DECODE_EXPORTERS = "kaminari_decode_exporters", Gauge, ["component_id"];
    /// Templates known.
    DECODE_TEMPLATES = "kaminari_decode_templates", Gauge, ["component_id"];
    /// Flow records (v5, IPFIX) or datagrams (v9) missing by the exporters' sequence numbers.
    DECODE_SEQUENCE_GAP = "kaminari_decode_sequence_gap_total", Counter, ["component_id", "version"];
    /// Flow records whose sampling rate is unknown.
    DECODE_SAMPLING_UNKNOWN = "kaminari_decode_sampling_unknown_total", Counter, ["component_id"];
    /// Flow records that reached a pipeline.
    WINDOW_RECORDS = "kaminari_window_records_total", Counter, ["pipeline"];
    /// Records behind the watermark: `accepted` within the allowed lateness, `dropped` after it.
    WINDOW_LATE_RECORDS = "kaminari_window_late_records_total", Counter, ["pipeline", "disposition"];
    /// Records with an event time too far in the future, taken at their ingest time.
    WINDOW_FUTURE_RECORDS = "kaminari_window_future_records_total", Counter, ["pipeline"];
    /// Bytes of spread flows that fell before every window still kept.
    WINDOW_SPREAD_CLIPPED_BYTES = "kaminari_window_spread_clipped_bytes_total", Counter, ["pipeline"];
    /// Records read again after a restart that no window needs any more.
    WINDOW_REPLAYED_RECORDS = "kaminari_window_replayed_records_total", Counter, ["pipeline"];
    /// Newest event time seen minus the watermark, seconds.
    WATERMARK_DELAY = "kaminari_watermark_delay_seconds", Gauge, ["pipeline"];
    /// Entities held in open panes.
    WINDOW_ENTITIES = "kaminari_window_entities", Gauge, ["pipeline"];
    /// Records not aggregated under one key level because that level's entity table was full.
    WINDOW_EVICTED_ENTITIES = "kaminari_window_evicted_entities_total", Counter, ["pipeline"];
    /// Window firings (one per level and worker).
    WINDOW_FIRED = "kaminari_window_fired_total", Counter, ["pipeline"];
    /// Rows of features judged.
    FEATURE_ROWS = "kaminari_feature_rows_total", Counter, ["pipeline"];
    /// Rows of features of a plugin that were refused: no_entity, no_address, duplicate_entity, max_keys.
    FEATURE_REFUSED_ROWS = "kaminari_feature_refused_rows_total", Counter, ["pipeline", "reason"];
    /// Rows of records for which windows had no room (`records.max_bytes`).
    WINDOW_REFUSED_RECORDS = "kaminari_window_refused_records_total", Counter, ["pipeline"];
    /// Bytes of the rows of records that windows keep.
    WINDOW_RECORD_BYTES = "kaminari_window_record_bytes", Gauge, ["pipeline"];
    /// Seconds per plugin call.
    PLUGIN_CALL_SECONDS = "kaminari_plugin_call_duration_seconds", Histogram, ["plugin", "pipeline"];
    /// Plugin calls by outcome: ok, error, trap, deadline, oom, refused.
    PLUGIN_CALLS = "kaminari_plugin_calls_total", Counter, ["plugin", "pipeline", "outcome"];
    /// Instances started anew after a trap, deadline or OOM.
    PLUGIN_RESTARTS = "kaminari_plugin_restarts_total", Counter, ["plugin", "pipeline"];
    /// 1 while a plugin is quarantined.
    PLUGIN_QUARANTINED = "kaminari_plugin_quarantined", Gauge, ["plugin", "pipeline"];
    /// Uses of a plugin by what they are: running, backoff (it broke and has not answered since), quarantined.
    PLUGIN_STATE = "kaminari_plugin_state", Gauge, ["plugin", "pipeline", "state"];
    /// Rows that no detector judged, by reason: trap, deadline, oom, error, refused, backoff, quarantine.
    PLUGIN_DEAD_LETTERED_ROWS = "kaminari_plugin_dead_lettered_rows_total", Counter, ["plugin", "pipeline", "reason"];
    /// Alerts cut, by reason: limit (more than allowed from one call), row (does not exist), score (not a number).
    PLUGIN_ALERTS_REFUSED = "kaminari_plugin_alerts_refused_total", Counter, ["plugin", "pipeline", "reason"];
    /// Linear memory of an instance, bytes (largest of the pipeline's).
    PLUGIN_MEMORY_BYTES = "kaminari_plugin_memory_bytes", Gauge, ["plugin", "pipeline"];
    /// Log lines of plugins that the rate limit withheld.
    PLUGIN_LOGS_SUPPRESSED = "kaminari_plugin_logs_suppressed_total", Counter, ["plugin"];
    /// Series of plugins' own metrics that were refused: over `metrics_series`.
    PLUGIN_SERIES_REFUSED = "kaminari_plugin_series_refused_total", Counter, ["plugin"];
    /// Bytes that plugins keep in buckets of the host.
    PLUGIN_STATE_BYTES = "kaminari_plugin_state_bytes", Gauge, ["plugin", "pipeline"];
    /// State of plugins offered to their successors at reloads, by outcome: restored, migrated, reset (the successor has begun
    /// anew), refused (the change was).
    PLUGIN_STATE_HANDOVERS = "kaminari_plugin_state_handovers_total", Counter, ["plugin", "pipeline", "outcome"];
    /// Rows offered to a model, by outcome: scored, non_finite (a feature was not a number).
    INFERENCE_ROWS = "kaminari_inference_rows_total", Counter, ["model", "outcome"];
    /// Seconds per batch of rows scored; models scored together share the time equally.
    INFERENCE_DURATION = "kaminari_inference_duration_seconds", Histogram, ["model"];
    /// 1 for each backend that scores some model.
    INFERENCE_BACKEND = "kaminari_inference_backend", Gauge, ["backend"];
    /// Rows of a batch from which on the device scores a model instead of the built-in kernel, as measured when the model
    /// was loaded; +Inf: never.
    INFERENCE_CROSSOVER = "kaminari_inference_crossover_rows", Gauge, ["model", "device"];
    /// Rows a second that were measured then, by batch size.
    INFERENCE_MEASURED = "kaminari_inference_measured_rows_per_second", Gauge, ["model", "backend", "rows"];
    /// Batches sent to a CUDA device: one transfer there, one back, whatever the number of models.
    INFERENCE_DEVICE_BATCHES = "kaminari_inference_device_batches_total", Counter, ["device"];
    /// Rows in them.
    INFERENCE_DEVICE_ROWS = "kaminari_inference_device_rows_total", Counter, ["device"];
    /// Seconds that the first rows of such a batch waited for it to leave.
    INFERENCE_DEVICE_WAIT = "kaminari_inference_device_wait_seconds", Histogram, ["device"];
    /// Seconds of such a batch, transfers included.
    INFERENCE_DEVICE_DURATION = "kaminari_inference_device_duration_seconds", Histogram, ["device"];
    /// Batches that a device failed to score and the CPU scored, by reason: out_of_memory, device_lost, refused.
    INFERENCE_FAILOVERS = "kaminari_inference_failovers_total", Counter, ["device", "reason"];
    /// 1 for each model in use; which one is in the labels.
    MODEL_INFO = "kaminari_model_info", Gauge, ["model", "version", "digest"];
    /// Detections by detector and severity.
    DETECTIONS = "kaminari_detections_total", Counter, ["pipeline", "detector", "severity"];
    /// Incidents open now.
    INCIDENTS_OPEN = "kaminari_incidents_open", Gauge, ["pipeline"];
    /// Incidents opened.
    INCIDENTS_OPENED = "kaminari_incidents_opened_total", Counter, ["pipeline", "severity"];
    /// Incidents known and not told, by reason: covered, explained, suppress_list, rate_limit, shadow, table_full, late.
    INCIDENTS_SUPPRESSED = "kaminari_incidents_suppressed_total", Counter, ["pipeline", "reason"];
    /// From the end of the window to the incident leaving, seconds.
    DETECTION_DELAY = "kaminari_detection_delay_seconds", Histogram, ["pipeline"];
    /// Events or rows delivered; to Kafka: acknowledged by the brokers.
    SINK_DELIVERED = "kaminari_sink_delivered_total", Counter, ["component_id"];
    /// Events or rows that could not be delivered and are lost, by reason: config, open, write, closed, queue_full, stopped,
    /// stuck, spool_full, too_large, refused, unacknowledged, or what keeps the brokers from taking them (unreachable,
    /// unknown_topic, not_authorized, login_failed, tls, timeout, fenced, offset_gone, other).
    SINK_FAILED = "kaminari_sink_failed_total", Counter, ["component_id", "reason"];
    /// Rows shed before a sink because their source cannot wait, by reason: queue_full, stopped.
    SINK_SHED = "kaminari_sink_shed_total", Counter, ["component_id", "reason"];
    /// Records handed to a Kafka producer that the brokers have not acknowledged yet.
    SINK_BUFFERED = "kaminari_sink_buffered_records", Gauge, ["component_id"];
    /// Events or rows written to a sink's spool file because the brokers did not take them.
    SINK_SPOOLED = "kaminari_sink_spooled_total", Counter, ["component_id"];
    /// Bytes in a sink's spool file that the brokers do not have yet.
    SINK_SPOOL_BYTES = "kaminari_sink_spool_bytes", Gauge, ["component_id"];
    /// Always 1; the digest of the configuration in force is in the label.
    CONFIG_INFO = "kaminari_config_info", Gauge, ["digest"];
    /// 1 for each plugin in use; which one is in the labels.
    PLUGIN_INFO = "kaminari_plugin_info", Gauge, ["plugin", "version", "digest", "api"];
    /// 1 when the last reload of the configuration was applied or had nothing to change; 0 when it was refused or failed.
    CONFIG_LAST_RELOAD_SUCCESSFUL = "kaminari_config_last_reload_successful", Gauge, [];
    /// When the configuration was last applied or found unchanged, Unix seconds.
    CONFIG_LAST_RELOAD_SUCCESS = "kaminari_config_last_reload_success_timestamp_seconds", Gauge, [];
    /// Reloads of the configuration, by who asked (watch, signal, api, rollback, probation) and how it ended (applied,
    /// unchanged, refused, failed).
    CONFIG_RELOADS = "kaminari_config_reloads_total", Counter, ["trigger", "outcome"];
    /// Seconds from the request to reload until it was decided.
    CONFIG_RELOAD_DURATION = "kaminari_config_reload_duration_seconds", Histogram, ["outcome"];
    /// HTTP requests that were turned away, by reason: no_token, wrong_token, no_token_file (what every token is compared with
    /// cannot be read), origin (a page of another site asked for a change).
    API_REFUSED = "kaminari_api_refused_requests_total", Counter, ["reason"];
    /// User and system CPU seconds of the process.
    PROCESS_CPU_SECONDS = "process_cpu_seconds_total", Gauge, [];
    /// Resident memory, bytes.
    PROCESS_RESIDENT_BYTES = "process_resident_memory_bytes", Gauge, [];
    /// Always 1; the version is in the label.
    BUILD_INFO = "kaminari_build_info", Gauge, ["version"];
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;
    use std::path::Path;

    /// `docs/metrics.md`.
    fn document() -> String {
        let mut text = String::from(
            "# Metrics\n\nOn `/metrics` (Prometheus text) while the engine runs, and in the file of `--summary` at the end. \
             Labels never hold an\naddress of the traffic. Generated from `host/src/telemetry/catalogue.rs` \
             (`KAMINARI_BLESS=1 cargo test -p kaminari catalogue`).\n\n| name | kind | labels | meaning |\n| --- | --- | --- | --- |\n",
        );
        for metric in CATALOGUE {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let kind = format!("{:?}", metric.kind).to_lowercase();
            writeln!(text, "| `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.help.trim()).unwrap();
        }
        text
    }

    #[test]
    fn the_document_is_the_catalogue() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        if std::env::var_os("KAMINARI_BLESS").is_some() {
            std::fs::write(&path, document()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        let wrong: Vec<_> = document().lines().map(str::to_owned).filter(|line| !written.contains(line)).collect();
        assert!(written == document(), "docs/metrics.md is old; run with KAMINARI_BLESS=1: {wrong:#?}");
    }

    #[test]
    fn names_are_unique_and_follow_their_kind() {
        for (i, metric) in CATALOGUE.iter().enumerate() {
            assert!(CATALOGUE[..i].iter().all(|other| other.name != metric.name), "{} stands twice", metric.name);
            // The CPU seconds are set from the kernel's count, which a counter of the recorder cannot be.
            let total = metric.name.ends_with("_total") && metric.name != PROCESS_CPU_SECONDS;
            assert_eq!(total, metric.kind == MetricKind::Counter, "{}", metric.name);
        }
    }
}
