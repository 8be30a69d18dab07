//! The WebAssembly engine of the process: one compiler, one linker, one clock for deadlines. Comes in: the plan of a
//! plugin; goes out: a [`LoadedPlugin`], or what is wrong with the file and what to do.

use super::bindings::kaminari::plugin;
use super::cache::{Cache, sha256_hex};
use super::error::PluginError;
use super::instance::State;
use super::limits::TICK;
use super::loaded::{Linked, LoadedPlugin};
use super::models::Models;
use super::roles::Exports;
use super::status::Statuses;
use super::{compat, data, waiting};
use crate::config::PluginPlan;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Engine, OptLevel};

/// Loads plugins.
pub struct PluginHost {
    engine: Engine,
    linker: Linker<State>,
    cache: Cache,
    pub(super) ticker: Arc<Ticker>,
    models: Arc<Models>,
    statuses: Arc<Statuses>,
}

impl PluginHost {
    /// `cache_dir` holds compiled plugins; it is made (mode 0700) if it is not there.
    pub fn new(cache_dir: &Path) -> Result<Arc<Self>, PluginError> {
        let cache = Cache::open(cache_dir)?;
        let mut config = Config::new();
        config.wasm_component_model(true).epoch_interruption(true).cranelift_opt_level(OptLevel::Speed);
        let engine = Engine::new(&config).map_err(PluginError::Engine)?;
        let linker = linker(&engine).map_err(PluginError::Engine)?;
        let ticker = Arc::new(Ticker::start(&engine).map_err(|e| PluginError::Engine(e.into()))?);
        Ok(Arc::new(Self { engine, linker, cache, ticker, models: Arc::default(), statuses: Arc::default() }))
    }

    /// The models that plugins score with, as far as each is granted them.
    pub fn models(&self) -> &Arc<Models> {
        &self.models
    }

    /// How each use of each plugin fares.
    pub fn statuses(&self) -> &Arc<Statuses> {
        &self.statuses
    }

    /// Reads, checks, compiles (or takes from the cache) and describes a plugin. Runs none of its logic.
    pub fn load(&self, plan: &PluginPlan) -> Result<Arc<LoadedPlugin>, PluginError> {
        self.load_with(plan, self.models.clone())
    }

    /// The same with other models than the host's own: those of the next plan.
    pub fn load_with(&self, plan: &PluginPlan, models: Arc<Models>) -> Result<Arc<LoadedPlugin>, PluginError> {
        let (id, path) = (plan.id.clone(), plan.path.clone());
        let wasm = std::fs::read(&plan.path).map_err(|source| PluginError::Read {
            id: id.clone(),
            path: path.clone(),
            source,
        })?;
        let digest = sha256_hex(&wasm);
        if let Some(pinned) = plan.sha256.as_ref().filter(|p| !p.eq_ignore_ascii_case(&digest)) {
            return Err(PluginError::Digest { id, path, pinned: pinned.clone(), actual: digest });
        }
        let component = self.cache.component(&self.engine, &digest, &wasm).map_err(|e| PluginError::NotAComponent {
            id: id.clone(),
            path: path.clone(),
            cause: if wasm.starts_with(b"\0asm") {
                e.root_cause().to_string()
            } else {
                "it does not begin like WebAssembly".into()
            },
        })?;
        let api_version = compat::check(&self.engine, &component.component_type(), plan)?;
        let linked = self.linker.instantiate_pre(&component).and_then(|pre| {
            let exports = Exports::find(&self.engine, &component, &pre)?;
            Ok(Linked { pre, exports })
        });
        let linked = linked.map_err(|e| PluginError::Contract {
            id,
            path,
            cause: format!(
                "was built for kaminari:plugin@{api_version}, this kaminari offers kaminari:plugin@{}; it asks for what plugins \
                 are not given: {e:#}",
                compat::API_VERSION
            ),
        })?;
        LoadedPlugin::describe(plan, linked, api_version, digest, (self, models)).map(Arc::new)
    }
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    data::add_to_linker(&mut linker)?;
    plugin::logging::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    plugin::inference::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    plugin::metrics::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    plugin::state::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    plugin::clock::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    // The standard libraries of Rust and others import WASI; behind it is nothing (`State::new`).
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    waiting::forbid(&mut linker)?;
    Ok(linker)
}

/// Moves the epoch on, so that calls past their deadline are stopped. Lives as long as the host and its plugins.
pub(super) struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: &Engine) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let engine = engine.clone();
        let thread = std::thread::Builder::new().name("plugin-ticker".into()).spawn(move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                engine.increment_epoch();
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
