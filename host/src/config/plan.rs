//! What the configuration means: every default filled in, every reference resolved. Nothing optional is left that
//! has a default. The rest of the engine reads only this.

use super::contents::ReadFile;
use crate::model::{BackendChoice, Device, Dtype, KeyKind, KeyLevel};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// A whole configuration, resolved.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `sha256:` of the normalised text of all files: stands in every incident.
    pub digest: String,
    /// Process-wide settings.
    pub engine: EnginePlan,
    /// The HTTP surface.
    pub api: ApiPlan,
    /// How a change of the configuration is taken up.
    pub reload: ReloadPlan,
    /// Who scores models.
    pub inference: InferencePlan,
    /// Sources by id.
    pub sources: BTreeMap<Arc<str>, Component>,
    /// Models by id.
    pub models: BTreeMap<Arc<str>, ModelPlan>,
    /// Plugins by id.
    pub plugins: BTreeMap<Arc<str>, PluginPlan>,
    /// Detectors by id.
    pub detectors: BTreeMap<Arc<str>, DetectorPlan>,
    /// Sinks by id.
    pub sinks: BTreeMap<Arc<str>, Component>,
    /// Pipelines by id.
    pub pipelines: BTreeMap<Arc<str>, PipelinePlan>,
    /// Finds the place in the operator's files that a dotted path came from.
    pub places: Arc<super::Places>,
}

impl Plan {
    /// True when some detector of the pipeline, or of its shadow, judges entities of that level. Other levels are not
    /// aggregated.
    pub fn judges(&self, pipeline: &PipelinePlan, kind: KeyKind) -> bool {
        let mut detectors = pipeline.all_detectors().filter_map(|id| self.detectors.get(id));
        detectors.any(|d| d.keys.as_ref().is_none_or(|keys| keys.contains(&kind)))
    }

    /// The levels that a pipeline aggregates by: those that somebody judges.
    pub fn levels(&self, pipeline: &PipelinePlan) -> Vec<KeyLevel> {
        pipeline.keys.iter().copied().filter(|level| self.judges(pipeline, level.kind)).collect()
    }
}

/// `[engine]`.
#[derive(Clone, Debug, PartialEq)]
pub struct EnginePlan {
    /// Window worker threads per pipeline.
    pub window_workers: usize,
    /// Where compiled plugins are kept; owned by the service user, mode 0700.
    pub plugin_cache_dir: PathBuf,
    /// Where what was learned while running is kept; `None`: it is forgotten at the end.
    pub state_dir: Option<PathBuf>,
}

/// `[api]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiPlan {
    /// Off: no listener at all.
    pub enabled: bool,
    /// Where `/metrics`, `/livez`, `/readyz`, `/version` answer.
    pub listen: SocketAddr,
    /// A file with the token that every request must bring; needed where others than this machine can ask.
    pub token_file: Option<PathBuf>,
    /// `/livez` and `/readyz` answer without the token.
    pub open_probes: bool,
}

/// `[reload]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReloadPlan {
    /// So many windows of each changed pipeline after a change, faults of its new plugins take the change back; 0: never.
    pub probation_windows: u32,
    /// Calls that may break in that time.
    pub probation_faults: u64,
    /// How long each step of a change may take.
    pub timeout_secs: u64,
}

impl Default for ReloadPlan {
    fn default() -> Self {
        Self { probation_windows: 5, probation_faults: 3, timeout_secs: 60 }
    }
}

/// `[inference]`.
#[derive(Clone, Debug, PartialEq)]
pub struct InferencePlan {
    /// Who scores.
    pub backend: BackendChoice,
    /// Where libtorch computes; `None`: on the first CUDA device if there is one.
    pub device: Option<Device>,
    /// With what arithmetic.
    pub dtype: Dtype,
    /// The folder with `libtorch_cpu.so`.
    pub libtorch: Option<PathBuf>,
    /// The shared object that speaks for it; `None`: beside the program.
    pub library: Option<PathBuf>,
    /// Most rows of one transfer to a CUDA device.
    pub max_batch: usize,
    /// How long rows wait for those of other threads, microseconds.
    pub max_wait_us: u64,
}

impl Default for InferencePlan {
    fn default() -> Self {
        Self {
            backend: BackendChoice::Auto,
            device: None,
            dtype: Dtype::F32,
            libtorch: None,
            library: None,
            max_batch: 262_144,
            max_wait_us: 500,
        }
    }
}

/// A source or a sink: its type and its own table, already checked against the type's struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// Name chosen by the operator.
    pub id: Arc<str>,
    /// `type` in the config: a [`super::registry::ComponentDef::kind`].
    pub kind: &'static str,
    /// The table without `type`.
    pub body: toml::Table,
    /// The same with all defaults of the type filled in.
    pub full: serde_json::Value,
    /// Files that are read when it is made, by the (dotted) keys that name them.
    pub files: BTreeMap<&'static str, ReadFile>,
}

/// `[models.ID]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelPlan {
    /// Name chosen by the operator: what plugins open it by.
    pub id: Arc<str>,
    /// The model's folder (`model.toml` and weights), already joined to the config file's folder.
    pub path: PathBuf,
    /// Pin: lower-case hex sha256 over manifest and weights.
    pub sha256: Option<String>,
    /// What `kaminari train` makes it from.
    pub train: Option<TrainPlan>,
}

/// `[models.ID.train]`. What is `None` is the trainer's own default.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainPlan {
    /// Whose windows and features.
    pub pipeline: Arc<str>,
    /// Which of its levels; `None`: it has only one.
    pub level: Option<KeyKind>,
    /// Inputs in order; `None`: all features of the pipeline.
    pub features: Option<Vec<String>>,
    /// Who moves the weights.
    pub backend: TrainBackend,
    /// Which kind of autoencoder.
    pub architecture: TrainArchitecture,
    /// Of a variational one: share of the code's divergence in the loss.
    pub kl_weight: Option<f64>,
    /// Widths of the hidden layers.
    pub hidden: Option<Vec<usize>>,
    /// How many runs, of which the best is kept.
    pub seeds: Option<u32>,
    /// Most epochs of a run.
    pub epochs: Option<u32>,
    /// Rows trained on; of more, every n-th is taken.
    pub max_rows: Option<usize>,
}

/// Who moves the weights in a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainBackend {
    /// The built-in one.
    BuiltIn,
    /// libtorch.
    Torch,
}

impl TrainBackend {
    /// As it is written.
    pub const WORDS: [(&str, Self); 2] = [("built-in", Self::BuiltIn), ("torch", Self::Torch)];
}

/// Which kind of autoencoder is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainArchitecture {
    /// A plain one.
    Autoencoder,
    /// A variational one, which libtorch alone trains.
    Variational,
}

impl TrainArchitecture {
    /// As it is written.
    pub const WORDS: [(&str, Self); 2] = [("autoencoder", Self::Autoencoder), ("variational", Self::Variational)];
}

/// `[plugins.ID]`.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginPlan {
    /// Name chosen by the operator.
    pub id: Arc<str>,
    /// The component (.wasm), absolute or relative to the config file's folder (already joined).
    pub path: PathBuf,
    /// Pin: lower-case hex sha256 of the file.
    pub sha256: Option<String>,
    /// Ids of the models that it may score with.
    pub inference: Vec<Arc<str>>,
    /// Buckets of keyed state that it may use.
    pub state: Vec<Arc<str>>,
    /// Series of its own metrics; 0: none.
    pub metrics_series: usize,
    /// Limits of every instance.
    pub limits: PluginLimits,
}

impl PluginPlan {
    /// A plugin without a pin that is granted nothing, with the default limits.
    pub fn new(id: &str, path: PathBuf) -> Self {
        Self {
            id: Arc::from(id),
            path,
            sha256: None,
            inference: Vec::new(),
            state: Vec::new(),
            metrics_series: 0,
            limits: PluginLimits::default(),
        }
    }
}

/// What one plugin instance may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PluginLimits {
    /// Linear memory, bytes.
    pub memory_bytes: usize,
    /// Wall time of one call, milliseconds.
    pub deadline_ms: u64,
    /// Alerts taken from one call; the rest is cut and counted.
    pub alerts_per_call: usize,
    /// Keyed state that the host keeps for it in one place, bytes.
    pub state_bytes: usize,
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self { memory_bytes: 64 << 20, deadline_ms: 250, alerts_per_call: 1000, state_bytes: 16 << 20 }
    }
}

/// `[detectors.ID]`: a plugin with a configuration of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectorPlan {
    /// Name chosen by the operator.
    pub id: Arc<str>,
    /// Which plugin.
    pub plugin: Arc<str>,
    /// Levels it judges; all levels of the pipeline when the operator named none.
    pub keys: Option<Vec<KeyKind>>,
    /// The plugin's own table, as JSON.
    pub config: serde_json::Value,
    /// How the tail of its scores is followed.
    pub follow: FollowPlan,
    /// When what its predecessor knew cannot be read.
    pub on_state_mismatch: OnStateMismatch,
}

/// What is done with a detector that cannot read what its predecessor knew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStateMismatch {
    /// The change is refused, and the predecessor goes on.
    #[default]
    Refuse,
    /// It begins anew; counted.
    Reset,
}

impl OnStateMismatch {
    /// As it is written.
    pub const WORDS: [(&str, Self); 2] = [("refuse", Self::Refuse), ("reset", Self::Reset)];
}

/// `[detectors.ID.calibration]`: what a score means drifts with the traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FollowPlan {
    /// False: frozen. The tail of the model counts, or what was learned so far.
    pub follow: bool,
    /// The followed tail is stretched by this factor at most.
    pub max_shift: f64,
    /// Scores that a detector without a calibrated model shows before it has a tail.
    pub warm_up_rows: u64,
}

/// `[pipelines.ID.combine]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CombinePlan {
    /// When the detectors together alert.
    pub rule: CombineRule,
    /// For `tail_sum`: the limit of the sum.
    pub false_alarms_per_day: f64,
}

/// When the detectors of a pipeline together alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CombineRule {
    /// One of them does.
    Any,
    /// All of them do.
    All,
    /// At least so many do.
    KOfN(usize),
    /// The sum of their tails (-log10 of how rare each score is) is rare.
    TailSum,
}

/// `[pipelines.ID]`.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelinePlan {
    /// Name chosen by the operator.
    pub id: Arc<str>,
    /// Ids of sources.
    pub sources: Vec<Arc<str>>,
    /// Levels to aggregate by.
    pub keys: Vec<KeyLevel>,
    /// Windowing. Of a pipeline of rows: the window that each row is of.
    pub window: WindowPlan,
    /// The sources' records are rows of features already; `None`: flow records, which become windows.
    pub rows: Option<RowsPlan>,
    /// The sources' plugins bring rows of any kind, of which another plugin makes features; `None`: flow records.
    pub records: Option<RecordsPlan>,
    /// Feature names, in the order of the frame's columns. `flows`, `bytes` and `packets` are always among them.
    pub features: Vec<String>,
    /// Half-life of the entity's own level that relative features compare with, in windows.
    pub level_half_life_windows: f64,
    /// Ids of detectors.
    pub detectors: Vec<Arc<str>>,
    /// How they speak together, as one; `None`: each for itself.
    pub combine: Option<CombinePlan>,
    /// When incidents open and close.
    pub incident: IncidentPlan,
    /// Ids of sinks.
    pub sinks: Vec<Arc<str>>,
    /// Whether incidents leave.
    pub mode: Mode,
    /// It hands flow records on as they are and judges nothing: all its sinks take flows.
    pub forward: bool,
    /// Detectors that judge the same windows in silence, to be compared.
    pub shadow: Option<ShadowPlan>,
}

/// `[pipelines.ID.shadow]`: what a change would have told, without telling it.
#[derive(Clone, Debug, PartialEq)]
pub struct ShadowPlan {
    /// Ids of detectors; by default the pipeline's own.
    pub detectors: Vec<Arc<str>>,
    /// How they speak together; by default as the pipeline's own.
    pub combine: Option<CombinePlan>,
    /// When its incidents open and close; by default as the pipeline's own.
    pub incident: IncidentPlan,
}

impl PipelinePlan {
    /// True when it judges nothing.
    pub fn is_forward(&self) -> bool {
        self.forward
    }

    /// Its detectors, then those that only its shadow has.
    pub fn all_detectors(&self) -> impl Iterator<Item = &Arc<str>> {
        let of_shadow = self.shadow.iter().flat_map(|shadow| &shadow.detectors);
        self.detectors.iter().chain(of_shadow.filter(|id| !self.detectors.contains(id)))
    }
}

/// `rows = {...}` of a pipeline: its sources' lines are windows of features already.
#[derive(Clone, Debug, PartialEq)]
pub struct RowsPlan {
    /// Column with the start of the row's window.
    pub time: String,
    /// Unit of a time that is a number.
    pub time_unit: super::decode_options::TimeUnit,
    /// Column with the address that the row is about; none: a row is about the whole network.
    pub entity: Option<String>,
}

/// `records = {...}` of a pipeline: its sources' plugins bring rows of any kind.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordsPlan {
    /// Column of the features with what a row is about; none: everything, as one.
    pub entity: Option<String>,
    /// Level of the entities.
    pub kind: KeyKind,
    /// Rows that windows keep, bytes; more are refused and counted.
    pub max_bytes: usize,
    /// The plugin that makes features of the rows of a window.
    pub plugin: Arc<str>,
    /// Its own table, as JSON.
    pub config: serde_json::Value,
}

/// Whether a pipeline speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Judge and count, send nothing.
    Shadow,
    /// Incidents go to the sinks.
    Alert,
}

/// Kind of window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    /// Back to back.
    Tumbling,
    /// Overlapping: `size` long, one every `pane`.
    Sliding,
}

impl WindowKind {
    /// Name in configs and incidents.
    pub const fn name(self) -> &'static str {
        match self {
            WindowKind::Tumbling => "tumbling",
            WindowKind::Sliding => "sliding",
        }
    }
}

/// Which time of a record counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventTime {
    /// When it was received (robust against exporters' clocks).
    Received,
    /// When the flow ended.
    End,
    /// As `End`, but bytes and packets are spread over [start, end].
    Spread,
}

/// `window = {...}` of a pipeline. All times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowPlan {
    /// Kind.
    pub kind: WindowKind,
    /// Length; a multiple of `pane_ns`.
    pub size_ns: u64,
    /// Length of a pane. Sliding: the slide. Tumbling: the period of early firing; `size_ns` when there is none.
    pub pane_ns: u64,
    /// Which time of a record counts.
    pub event_time: EventTime,
    /// Longest duration that `Spread` believes; longer flows are taken to be the last so much of themselves.
    pub max_spread_ns: u64,
    /// How much the watermark stays behind the newest event time of its partition.
    pub out_of_order_ns: u64,
    /// How long after its window has fired a record is still taken (and the window fired again).
    pub allowed_lateness_ns: u64,
    /// Wall time without data after which a partition no longer holds the watermark back.
    pub idle_timeout_ns: u64,
    /// Event times further ahead of the ingest time than this are taken as the ingest time, and counted.
    pub max_future_ns: u64,
    /// Entities of one level in one pane per worker; more are refused and counted.
    pub max_keys: usize,
}

/// `incident = {...}` of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct IncidentPlan {
    /// Open when alerted in `open_m` ...
    pub open_m: u32,
    /// ... of the last `open_n` windows.
    pub open_n: u32,
    /// Close after so many windows without an alert.
    pub close_after_windows: u32,
    /// An open incident says `update` when it got worse, and at least this often (seconds of event time).
    pub update_interval_secs: u64,
    /// So many hosts of a prefix alerted (or none, with the prefix alerted): one incident for the prefix.
    pub cover_min_hosts: u32,
    /// A host that makes this share of its prefix's packets or bytes stands alone and explains the prefix.
    pub dominant_share: f64,
    /// New incidents a minute (event time) before the rest is withheld, counted and reported.
    pub max_open_per_minute: u32,
    /// Prefixes and addresses whose incidents are never told (counted as suppressed).
    pub suppress: Vec<ipnet::IpNet>,
}
