//! Plugins that do whatever they can do wrong (fixtures `hostile` and `hostile-raw`): all are survived, each is told and counted.

mod bombs;
mod calls;
mod delay;
mod files;
mod floods;
mod pipeline;
mod results;
mod world;

use crate::plugin_files::{frame, host, plan};
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use kaminari::config::{PluginLimits, PluginPlan};
use kaminari::model::frames::NO_PEER;
use kaminari::model::{FrameBatch, Verdict, WindowInfo};
use kaminari::plugin::{
    CallError, DecodedRows, Guarded, LoadedPlugin, PluginError, PluginInstance, Role, SourceOutput,
};
use kaminari::plugin::{Status, Unanswered, Use};
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The calls about data.
const WORK: [(Role, &str); 3] =
    [(Role::SourceDecoder, "decode"), (Role::FeatureExtractor, "extract"), (Role::Detector, "detect")];
const ROWS: usize = 3;

/// Little of everything, so that tests are quick.
fn tight(name: &str) -> PluginPlan {
    let limits = PluginLimits { deadline_ms: 200, memory_bytes: 32 << 20, ..PluginLimits::default() };
    PluginPlan { limits: PluginLimits { state_bytes: 4 << 20, ..limits }, ..plan(name) }
}

fn granted(name: &str) -> PluginPlan {
    PluginPlan { state: vec!["b".into()], metrics_series: 10, ..tight(name) }
}

fn does(what: &str, call: &str) -> serde_json::Value {
    serde_json::json!({ "misbehave": what, "in": call })
}

/// What came of a call.
enum Answer {
    Rows(DecodedRows),
    Features(RecordBatch),
    Verdict(Verdict),
}

/// A plugin in one role, with always the same three rows for it.
struct Used {
    guarded: Guarded,
    role: Role,
    user: Arc<str>,
    output: Option<SourceOutput>,
    agreed: Option<arrow_schema::SchemaRef>,
}

fn rows() -> RecordBatch {
    let columns: [(&str, ArrayRef); 2] = [
        ("name", Arc::new(StringArray::from(vec!["a", "b", "a"]))),
        ("value", Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn lines() -> FrameBatch {
    let mut frames = FrameBatch::default();
    ["1 a 1", "2 b 2", "3 a 3"].iter().for_each(|line| frames.push(line.as_bytes(), NO_PEER, 7_000_000_000));
    frames
}

fn window() -> WindowInfo {
    frame(&[("sum", &[0.0])]).window
}

impl Used {
    fn new(plan: &PluginPlan, role: Role, config: &serde_json::Value) -> Result<Self, PluginError> {
        Self::of(host().load(plan)?, role, config)
    }

    fn of(plugin: Arc<LoadedPlugin>, role: Role, config: &serde_json::Value) -> Result<Self, PluginError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let user: Arc<str> = format!("user-{}", NEXT.fetch_add(1, Ordering::Relaxed)).into();
        let of = Use { role, pipeline: "p".into(), user: user.clone(), config: config.to_string() };
        let mut guarded = Guarded::new(plugin, of)?;
        let (mut output, mut agreed) = (None, None);
        match role {
            Role::SourceDecoder => output = Some(guarded.ask(PluginInstance::source_output)?),
            Role::FeatureExtractor => agreed = Some(guarded.ask(|i| i.features_of(&rows().schema()))?),
            Role::Detector => guarded.ask(|i| i.requires(&frame(&[("sum", &[0.0])]).batch.schema()))?,
        }
        Ok(Self { guarded, role, user, output, agreed })
    }

    fn call(&mut self) -> Result<Answer, Unanswered> {
        let (role, output, agreed) = (self.role, &self.output, &self.agreed);
        let mut ask = |i: &mut PluginInstance| -> Result<Answer, CallError> {
            match role {
                Role::SourceDecoder => {
                    let input = lines();
                    i.decode(&input, &input.frames, "test", output.as_ref().unwrap()).map(Answer::Rows)
                }
                Role::FeatureExtractor => i.extract(&window(), rows(), agreed.as_ref().unwrap()).map(Answer::Features),
                Role::Detector => {
                    let frame = frame(&[("sum", &[1.0, 2.0, 3.0])]);
                    i.detect(&frame.window, frame.batch).map(Answer::Verdict)
                }
            }
        };
        let answer = self.guarded.call(&|| "three rows".into(), &mut ask);
        if let Err(unanswered) = &answer {
            self.guarded.dead_letter(&|| "three rows".into(), ROWS, unanswered);
        }
        answer
    }

    /// Why there is none: the reason, and what was said.
    fn fails(&mut self) -> (&'static str, String) {
        let Err(unanswered) = self.call() else { panic!("it answered") };
        (unanswered.reason, unanswered.cause.map(|cause| cause.to_string()).unwrap_or_default())
    }

    /// The verdict of a detector.
    fn judges(&mut self) -> Verdict {
        match self.call() {
            Ok(Answer::Verdict(verdict)) => verdict,
            Ok(_) => panic!("no detector"),
            Err(unanswered) => panic!("{unanswered:?}"),
        }
    }

    fn status(&self) -> Arc<Status> {
        let all = host().statuses().all();
        all.into_iter().find(|status| status.user == self.user).expect("it is in use")
    }
}

/// A counter of the plugin `hostile` or another.
fn counted(metrics: &PrometheusHandle, plugin: &str, name: &str, labels: &str) -> f64 {
    let series = format!("kaminari_plugin_{name}{{plugin=\"{plugin}\",pipeline=\"p\"{labels}}}");
    let text = metrics.render();
    text.lines().find_map(|l| l.strip_prefix(&series)?.strip_prefix(' ')?.parse().ok()).unwrap_or(0.0)
}

/// Another plugin, or the same one elsewhere, is none the worse for it.
fn others_go_on() {
    for (role, _) in WORK {
        let mut good = Used::new(&tight("hostile"), role, &serde_json::json!({})).unwrap();
        match good.call().unwrap() {
            Answer::Rows(rows) => assert_eq!(rows.rows.unwrap().num_rows(), ROWS),
            Answer::Features(features) => assert_eq!(features.num_rows(), 2),
            Answer::Verdict(verdict) => assert_eq!(verdict.scores, [1.0, 2.0, 3.0]),
        }
    }
}
