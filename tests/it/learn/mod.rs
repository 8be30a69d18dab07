//! From benign traffic to incidents, as an operator goes: generate, train, inspect, replay, evaluate; and what is told
//! when something is missing.

mod bad_input;
mod deep;
mod flows;
mod rows;
mod state;
mod together;
mod torch;

use kaminari_tests::{kaminari, plugin};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::LazyLock;

/// The attack of [`attacked`], and whom it hits.
const ATTACK: &str = "syn-flood@10+5:target=198.18.7.7,fps=200,pps=20000";
const VICTIM: &str = "198.18.7.7";

/// What the detectors of the pipeline `hosts` look at.
const FEATURES: [&str; 7] =
    ["flows", "bytes", "packets", "uniq_src", "mean_packet_size", "syn_share", "single_packet_share"];

/// Hosts in windows of 2 s. `more` goes into the table of the pipeline; `detectors` of it are `names`.
fn config(names: &[&str], detectors: &str, more: &str) -> String {
    format!(
        "[sources.flows]
         type = \"file\"
         paths = [\"unused.pcap\"]

         [sources.foreign]
         type = \"file\"
         paths = [\"unused.csv\"]
         decode = {{ csv_delimiter = \";\", columns = {{ time_received_ns = \"Seen\", src_addr = \"SrcIP\", dst_addr = \"DstIP\" }} }}

         [models.hosts]
         path = \"model\"
         train = {{ pipeline = \"hosts\", hidden = [8, 3, 8], seeds = 1, epochs = 2 }}

         [plugins.autoencoder]
         path = {:?}
         inference = [\"hosts\"]

         [detectors.odd-hosts]
         plugin = \"autoencoder\"
         config = {{ model = \"hosts\", false_alarms_per_day = 1.0, min_volume = {{ flows = 20 }} }}

         {detectors}

         [pipelines.hosts]
         sources = [\"flows\", \"foreign\"]
         keys = [\"dst_addr\"]
         features = {FEATURES:?}
         detectors = {names:?}
         window = {{ type = \"tumbling\", size_secs = 2 }}
         incident = {{ open_after = \"1/1\" }}
         sinks = [\"out\"]
         {more}

         [sinks.out]
         type = \"stdout\"\n",
        plugin("autoencoder")
    )
}

/// The autoencoder alone, and this source alone.
fn config_with_source(source: &str) -> String {
    let text = config(&["odd-hosts"], "", "");
    let models = text.find("[models.hosts]").unwrap();
    let rest = text[models..].replace("sources = [\"flows\", \"foreign\"]", "sources = [\"flows\"]");
    format!("[sources.flows]\n{source}\n{rest}")
}

/// A folder with a configuration, and commands that run in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new(config: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.put("kaminari.toml", config);
        place
    }

    /// With the autoencoder alone.
    fn plain() -> Self {
        Self::new(&config(&["odd-hosts"], "", ""))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Words are separated by blanks.
    fn run(&self, words: &str) -> Output {
        let mut command = kaminari();
        command.current_dir(self.0.path()).args(["--color", "never", "--log-format", "text"]);
        command.args(words.split_whitespace()).output().unwrap()
    }

    /// Stdout of what must succeed.
    fn ok(&self, words: &str) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(0), "{words}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What must fail with this code says, without the marks of diagnostics.
    fn fails(&self, code: i32, words: &str) -> String {
        let output = self.run(words);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{words}: {told}");
        unwrapped(&told)
    }

    /// Incident events of a replay.
    fn replay(&self, words: &str) -> Vec<Value> {
        lines(&self.ok(&format!("replay -c kaminari.toml --source flows {words}")))
    }

    /// Rows of a scores file that are of this detector and of whole windows.
    fn scores(&self, name: &str, detector: &str) -> Vec<Value> {
        let mut rows = lines(&self.text(name));
        rows.retain(|r| r["detector"] == detector && r["window"]["partial"] == false);
        assert!(!rows.is_empty(), "{name} has no row of {detector}");
        rows
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A diagnostic on one line, with single blanks.
fn unwrapped(text: &str) -> String {
    let words = text.split_whitespace().filter(|w| !matches!(*w, "│" | "×" | "╰─▶" | "├─▶"));
    words.collect::<Vec<_>>().join(" ")
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

/// Whom incidents are about.
fn entities(events: &[Value]) -> Vec<&str> {
    let mut found: Vec<&str> = events.iter().map(|e| e["entity"]["value"].as_str().unwrap()).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn opened(events: &[Value]) -> &Value {
    events.iter().find(|e| e["event"] == "open").unwrap_or_else(|| panic!("no incident opened: {events:?}"))
}

/// Captures and a model that many tests take: made once.
struct Made {
    place: Place,
    /// What `train` said on stdout and stderr.
    told: (String, String),
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let place = Place::plain();
    let traffic = "generate flows --rate 300 --hosts 60";
    place.ok(&format!("{traffic} --seconds 60 --seed 7 --pcap benign.pcap"));
    place.ok(&format!("{traffic} --seconds 30 --seed 8 --pcap attacked.pcap --attack {ATTACK} --truth truth.jsonl"));
    let output = place.run("train -c kaminari.toml --source flows --input benign.pcap");
    assert!(output.status.success(), "{}", stderr(&output));
    let told = (String::from_utf8(output.stdout.clone()).unwrap(), stderr(&output));
    Made { place, told }
});

/// 60 s of benign traffic to 60 hosts.
fn benign() -> String {
    MADE.place.path("benign.pcap").display().to_string()
}

/// 30 s of another seed, with [`ATTACK`].
fn attacked() -> String {
    MADE.place.path("attacked.pcap").display().to_string()
}

/// Copies the model that was trained on [`benign`].
fn copy_model(to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in ["model.toml", "weights.safetensors"] {
        std::fs::copy(MADE.place.path("model").join(file), to.join(file)).unwrap();
    }
}

/// Digest of the weights alone: the manifest also says when it was trained.
fn weights_digest(dir: &Path) -> String {
    let manifest: toml::Table = std::fs::read_to_string(dir.join("model.toml")).unwrap().parse().unwrap();
    manifest["weights"]["sha256"].as_str().unwrap().to_owned()
}
