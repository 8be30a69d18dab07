//! Tests only: an engine that answers what it is told to, behind the real HTTP surface.

use super::{Guard, State, bind, serve};
use crate::config::diff::PlanDiff;
use crate::config::{ApiPlan, Plan, parse};
use crate::plugin::Statuses;
use crate::reload::{Busy, Control, Outcome, Report, Trigger};
use metrics_exporter_prometheus::PrometheusBuilder;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// A configuration that needs nothing.
pub(crate) const CONFIG: &str = "[sources.edge]\ntype = \"udp\"\nlisten = \"127.0.0.1:0\"\n\
    [sinks.out]\ntype = \"stdout\"\n[pipelines.ddos]\nsources = [\"edge\"]\nkeys = [\"dst_addr\"]\nfeatures = [\"bits_per_s\"]\ndetectors = [\"limits\"]\nsinks = [\"out\"]\n\
    window = { type = \"tumbling\", size_secs = 10 }\n[detectors.limits]\nplugin = \"limits\"\n[plugins.limits]\npath = \"/limits.wasm\"\n";

/// The engine.
pub(crate) struct Fake {
    plan: Arc<Plan>,
    /// What the next reloads and rollbacks come to.
    pub(crate) outcome: Mutex<Result<Outcome, Busy>>,
    /// In the reports.
    pub(crate) diff: Mutex<PlanDiff>,
    /// What was asked for.
    pub(crate) asked: Mutex<Vec<Report>>,
}

impl Fake {
    pub(crate) fn new() -> Arc<Self> {
        let plan = parse("k.toml", CONFIG, &crate::pipeline::registry()).unwrap();
        let asked = Mutex::default();
        Arc::new(Self {
            plan: Arc::new(plan),
            outcome: Mutex::new(Ok(Outcome::Applied)),
            diff: Mutex::default(),
            asked,
        })
    }

    pub(crate) fn answer(&self, outcome: Result<Outcome, Busy>) {
        *self.outcome.lock().unwrap() = outcome;
    }

    fn report(&self, trigger: Trigger) -> Result<Report, Busy> {
        let outcome = (*self.outcome.lock().unwrap())?;
        let mut asked = self.asked.lock().unwrap();
        let bad = matches!(outcome, Outcome::Refused | Outcome::Failed);
        let report = Report {
            number: asked.len() as u64 + 1,
            trigger,
            began_at: "2026-01-01T00:00:00Z".into(),
            took_ms: 12.3,
            outcome,
            old_digest: self.plan.digest.clone(),
            new_digest: (!bad).then(|| "sha256:22".into()),
            diff: if outcome == Outcome::Applied { self.diff.lock().unwrap().clone() } else { PlanDiff::default() },
            step: bad.then_some("read"),
            errors: if bad { vec!["k.toml:3: unknown key `lisen`".into()] } else { Vec::new() },
            notes: vec!["a note".into()],
        };
        asked.insert(0, report.clone());
        Ok(report)
    }
}

impl Control for Fake {
    fn reload(&self, trigger: Trigger) -> Result<Report, Busy> {
        self.report(trigger)
    }

    fn rollback(&self, trigger: Trigger) -> Result<Report, Busy> {
        self.report(trigger)
    }

    fn history(&self) -> Vec<Report> {
        self.asked.lock().unwrap().clone()
    }

    fn plan(&self) -> Arc<Plan> {
        self.plan.clone()
    }

    fn plugins(&self) -> Option<Arc<Statuses>> {
        None
    }

    fn not_connected(&self) -> Vec<Arc<str>> {
        vec!["kafka".into()]
    }

    fn shadows(&self) -> serde_json::Value {
        serde_json::json!([{"pipeline": "ddos"}])
    }
}

/// Serves it; ends with the runtime.
pub(crate) struct Served {
    /// `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    _runtime: tokio::runtime::Runtime,
}

pub(crate) fn serve_fake(fake: &Arc<Fake>, token_file: Option<std::path::PathBuf>, open_probes: bool) -> Served {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(bind("127.0.0.1:0".parse().unwrap())).unwrap();
    let listen = listener.local_addr().unwrap();
    let guard = Guard::new(&ApiPlan { enabled: true, listen, token_file, open_probes }).unwrap();
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    let ready = Arc::new(AtomicBool::new(true));
    runtime.spawn(serve(listener, State { metrics, ready, control: fake.clone(), guard: Arc::new(guard) }));
    Served { url: format!("http://{listen}"), _runtime: runtime }
}
