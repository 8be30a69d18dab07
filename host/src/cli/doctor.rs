//! `kaminari doctor inference`: what this machine has to score models with, what is missing and what to do. Loads what it
//! finds, to be sure. On stdout for a person or a program; exit code 1 when what was named by the operator cannot be used.

use super::{Format, config, print};
use crate::inference::torch::{Library, Place, everywhere, nvidia_driver};
use crate::inference::{Backend, Backends, CpuBackend, Model, Options};
use crate::model::Device;
use crate::pipeline::{inference_options, registry};
use clap::{Args, Subcommand};
use miette::miette;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(subcommand)]
    verb: DoctorVerb,
}

#[derive(Debug, Subcommand)]
enum DoctorVerb {
    /// What can score models: the built-in kernel, libtorch, a GPU
    Inference(InferenceArgs),
}

#[derive(Debug, Args)]
struct InferenceArgs {
    /// Configuration whose `[inference]` and models are looked at
    #[arg(short, long = "config", value_name = "FILE", num_args = 1.., env = "KAMINARI_CONFIG")]
    config: Vec<PathBuf>,
    /// Folder with libtorch_cpu.so, instead of the configuration's
    #[arg(long, value_name = "DIR")]
    libtorch: Option<PathBuf>,
    /// The shared object that speaks for it, instead of the configuration's or the one beside this program
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
    /// Python whose PyTorch is looked for. Default: that of the active environment, and python3
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// Form of the result
    #[arg(long, default_value = "text")]
    format: Format,
}

/// What was found.
struct Findings {
    kernel: String,
    cores: usize,
    driver: bool,
    places: Vec<Place>,
    library: PathBuf,
    /// What was loaded of them.
    loaded: Option<Result<Loaded, String>>,
    models: Vec<(String, Result<String, String>)>,
}

struct Loaded {
    dir: PathBuf,
    seconds: f64,
    /// Devices, or why there is none.
    cuda: Result<u16, String>,
}

/// Runs the verb.
pub fn run(args: DoctorArgs) -> miette::Result<()> {
    let DoctorVerb::Inference(args) = args.verb;
    let plan = match &args.config[..] {
        [] => None,
        files => Some(config::load(files, &registry())?),
    };
    let mut options = inference_options(&plan.as_ref().map(|plan| plan.inference.clone()).unwrap_or_default());
    if let Some(dir) = &args.libtorch {
        options.libtorch = Some(dir.clone());
    }
    if let Some(library) = &args.library {
        options.library = library.clone();
    }
    let named = options.libtorch.is_some();
    let mut findings = look(&options, args.python.as_deref());
    if let Some(plan) = &plan {
        options.libtorch = options.libtorch.or_else(|| findings.loaded()?.dir.clone().into());
        findings.models = models(plan, &options);
    }
    print(&match args.format {
        Format::Text => as_text(&findings),
        Format::Json => format!("{}\n", as_json(&findings)),
    })?;
    let refused = findings.models.iter().filter(|(_, placed)| placed.is_err()).count();
    if named && findings.loaded().is_none() {
        return Err(miette!("the libtorch that was named cannot be used"));
    }
    if refused > 0 {
        Err(miette!("{refused} of {} models cannot be scored here", findings.models.len()))
    } else {
        Ok(())
    }
}

fn look(options: &Options, python: Option<&std::path::Path>) -> Findings {
    let places = everywhere(options.libtorch.as_deref(), python);
    // What was named counts; else the first, with CUDA before without.
    let all = places.iter().filter_map(|place| place.found.as_ref().ok());
    let chosen = match &options.libtorch {
        Some(named) => all.clone().find(|found| found.dir == *named),
        None => all.clone().find(|found| found.cuda).or_else(|| all.clone().next()),
    };
    let loaded = chosen.map(|found| {
        let began = Instant::now();
        let library = Library::open(&found.dir, &options.library).map_err(|e| e.to_string())?;
        let seconds = began.elapsed().as_secs_f64();
        Ok(Loaded { dir: found.dir.clone(), seconds, cuda: library.cuda().map_err(str::to_owned) })
    });
    Findings {
        kernel: CpuBackend::detect().name(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        driver: nvidia_driver(),
        library: options.library.clone(),
        places,
        loaded,
        models: Vec::new(),
    }
}

/// Who would score each model.
fn models(plan: &config::Plan, options: &Options) -> Vec<(String, Result<String, String>)> {
    let backends = Backends::open(options);
    let place = |path: &std::path::Path| -> Result<String, String> {
        let backends = backends.as_ref().map_err(|e| e.to_string())?;
        let model = Arc::new(Model::load(path).map_err(|e| e.to_string())?);
        let placed = backends.place(&model).map_err(|e| e.to_string())?;
        Ok(match &placed.measured {
            None => placed.no_gain.map_or_else(|| placed.backend.clone(), |why| format!("{} ({why})", placed.backend)),
            Some(m) => {
                let from = m.from_rows.map_or(m.cpu.clone(), |rows| format!("{} from {rows} rows on", m.device));
                format!("{from}; measured ({} / {}): {}", m.cpu, m.device, m.figures())
            }
        })
    };
    plan.models.values().map(|model| (model.id.to_string(), place(&model.path))).collect()
}

impl Findings {
    fn loaded(&self) -> Option<&Loaded> {
        self.loaded.as_ref()?.as_ref().ok()
    }

    /// The lines to use.
    fn lines(&self) -> Option<String> {
        let loaded = self.loaded()?;
        let (dir, library) = (&loaded.dir, &self.library);
        Some(format!("[inference]\nbackend = \"auto\"\nlibtorch = {dir:?}\nlibrary = {library:?}\n"))
    }
}

fn as_text(findings: &Findings) -> String {
    let Findings { kernel, cores, driver, places, library, loaded, models, .. } = findings;
    let mut out = format!("built-in   {kernel} on {cores} cores: always there, needs nothing\n");
    let driver = if *driver { "there (libcuda.so.1)" } else { "none (no libcuda.so.1): no GPU can be used" };
    let mut line = |head: &str, text: &str| writeln!(out, "{head:<10} {text}").expect("a String takes any text");
    line("driver", driver);
    for place in places {
        let text = match &place.found {
            Ok(found) => {
                let version = found.version.as_deref().unwrap_or("version not said");
                let cuda = if found.cuda { "with CUDA" } else { "without CUDA" };
                format!("{}: {version}, {cuda}, in {}", place.origin, found.dir.display())
            }
            Err(why) => format!("{}: {why}", place.origin),
        };
        line("libtorch", &text);
    }
    line(
        "backend",
        &format!("{}{}", library.display(), if library.is_file() { "" } else { ": there is no such file" }),
    );
    match loaded {
        None => line("loaded", "nothing: no libtorch of the right version was found"),
        Some(Err(why)) => line("loaded", &format!("no: {why}")),
        Some(Ok(loaded)) => {
            line("loaded", &format!("{} in {:.2} s", loaded.dir.display(), loaded.seconds));
            let cuda = match &loaded.cuda {
                Ok(count) => (0..*count).map(|n| Device::Cuda(n).to_string()).collect::<Vec<_>>().join(", "),
                Err(why) => format!("none: {why}"),
            };
            line("devices", &format!("cpu; CUDA: {cuda}"));
        }
    }
    for (id, placed) in models {
        let text =
            placed.as_ref().map_or_else(|why| format!("cannot be scored: {why}"), |who| format!("scored by {who}"));
        line("model", &format!("{id}: {text}"));
    }
    match findings.lines() {
        Some(lines) => out += &format!("\n# These lines use it:\n{lines}"),
        None => {
            out += "\nMissing for libtorch: `cargo xtask torch` fetches libtorch (by pip), builds the backend and prints the \
                    lines to use.\nPyTorch 2.11 in a Python environment serves as well: --python PROGRAM looks there.\n";
        }
    }
    out
}

fn as_json(findings: &Findings) -> Value {
    let place = |place: &Place| match &place.found {
        Ok(f) => json!({ "origin": place.origin, "dir": f.dir, "version": f.version, "cuda": f.cuda }),
        Err(why) => json!({ "origin": place.origin, "error": why }),
    };
    let loaded = findings.loaded.as_ref().map(|loaded| match loaded {
        Ok(l) => json!({
            "dir": l.dir,
            "seconds": l.seconds,
            "cuda_devices": l.cuda.as_ref().copied().unwrap_or(0),
            "why_no_cuda": l.cuda.as_ref().err(),
        }),
        Err(why) => json!({ "error": why }),
    });
    let model = |(id, placed): &(String, Result<String, String>)| match placed {
        Ok(who) => json!({ "model": id, "backend": who }),
        Err(why) => json!({ "model": id, "error": why }),
    };
    json!({
        "built_in": findings.kernel,
        "cores": findings.cores,
        "driver": findings.driver,
        "libtorch": findings.places.iter().map(place).collect::<Vec<_>>(),
        "library": findings.library,
        "loaded": loaded,
        "models": findings.models.iter().map(model).collect::<Vec<_>>(),
        "lines": findings.lines(),
    })
}
