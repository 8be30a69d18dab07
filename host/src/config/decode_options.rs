//! The `decode` table of a source: what the bytes are, whom to believe, what to bound. Shared by every source type.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a source's bytes become flow records.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DecodeOptions {
    /// `netflow` (v5, v7, v9 and IPFIX, told apart by their version), `rawflow` (the same in Akvorado's protobuf), `goflow2`
    /// (protobuf), `goflow2_json`, `pmacct` (JSON), `arrow` (IPC streams), `jsonl`, `csv` or `parquet`; docs/formats.md tells
    /// what each is. A file source may leave it out: then the file's name decides. Default: netflow.
    pub format: Option<DecodeFormat>,
    /// A plugin with the role `source-decoder` reads the bytes instead: name of `[plugins.NAME]`. Only for pipelines with
    /// `records`. A file is read line by line then (a capture datagram by datagram).
    pub plugin: Option<String>,
    /// The plugin's own table.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// Networks whose exporters are believed. Empty: all. Datagrams of strangers are refused and counted and never get
    /// any state. Only for netflow.
    #[schemars(with = "Vec<String>")]
    pub allow: Vec<IpNet>,
    /// Sampling rate (N of 1-in-N) of exporters that do not say theirs. Without it such records have the rate 0:
    /// unknown.
    pub sampling_rate: Option<u64>,
    /// Exporter network -> sampling rate. Wins over everything that the exporter says; the longest prefix counts.
    #[schemars(with = "BTreeMap<String, u64>")]
    pub sampling_overrides: BTreeMap<IpNet, u64>,
    /// Seconds after which a template that was not sent again is forgotten. 0: never.
    pub template_ttl_secs: u64,
    /// Exporters whose state is kept. When all places are taken, one that was silent for a minute gives way; else the
    /// newcomer is refused and counted.
    pub max_exporters: usize,
    /// Templates kept per exporter. When all places are taken, the one least recently used gives way.
    pub max_templates_per_exporter: usize,
    /// Bytes of data sets kept until their template comes. 0: none are kept.
    pub pending_bytes: usize,
    /// Canonical name -> column (csv, parquet) or key (jsonl) of the file, for names that differ. `duration` may be mapped too:
    /// with the start it gives the end, with the end the start.
    pub columns: BTreeMap<String, String>,
    /// Separator of a csv file.
    pub csv_delimiter: char,
    /// Unit of the times in csv, jsonl and parquet files that are plain numbers.
    pub time_unit: TimeUnit,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            format: None,
            plugin: None,
            config: serde_json::Map::new(),
            allow: Vec::new(),
            sampling_rate: None,
            sampling_overrides: BTreeMap::new(),
            template_ttl_secs: 86_400,
            max_exporters: 4096,
            max_templates_per_exporter: 1024,
            pending_bytes: 4 << 20,
            columns: BTreeMap::new(),
            csv_delimiter: ',',
            time_unit: TimeUnit::Nanos,
        }
    }
}

/// What the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecodeFormat {
    /// NetFlow v5, v7, v9 and IPFIX.
    Netflow,
    /// Akvorado's RawFlow: NetFlow datagrams with their origin, in protobuf.
    Rawflow,
    /// GoFlow2's FlowMessage in protobuf, with and without a length before each.
    Goflow2,
    /// GoFlow2's FlowMessage as JSON.
    Goflow2Json,
    /// pmacct's JSON.
    Pmacct,
    /// Arrow IPC streams with the columns of a flow batch.
    Arrow,
    /// One JSON object per line.
    Jsonl,
    /// One record per line, names in the first line.
    Csv,
    /// Apache Parquet: a record per row.
    Parquet,
}

impl DecodeFormat {
    /// Every one, with its word in the configuration.
    pub const ALL: [(&'static str, DecodeFormat); 9] = [
        ("netflow", DecodeFormat::Netflow),
        ("rawflow", DecodeFormat::Rawflow),
        ("goflow2", DecodeFormat::Goflow2),
        ("goflow2_json", DecodeFormat::Goflow2Json),
        ("pmacct", DecodeFormat::Pmacct),
        ("arrow", DecodeFormat::Arrow),
        ("jsonl", DecodeFormat::Jsonl),
        ("csv", DecodeFormat::Csv),
        ("parquet", DecodeFormat::Parquet),
    ];

    /// The format of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == word).map(|(_, format)| format)
    }
}

/// Unit of a time given as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Seconds; decimals allowed.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

impl TimeUnit {
    /// Nanoseconds of one.
    pub const fn nanos(self) -> u64 {
        match self {
            TimeUnit::Seconds => 1_000_000_000,
            TimeUnit::Millis => 1_000_000,
            TimeUnit::Micros => 1_000,
            TimeUnit::Nanos => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_config() {
        for (word, format) in DecodeFormat::ALL {
            let read: DecodeOptions = toml::from_str(&format!("format = \"{word}\"")).unwrap();
            assert_eq!((read.format, DecodeFormat::from_word(word)), (Some(format), Some(format)));
        }
        assert_eq!(DecodeFormat::from_word("pcap"), None);
    }
}
