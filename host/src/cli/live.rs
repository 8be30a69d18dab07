//! Verbs that speak to a running engine over its HTTP surface: `kaminari reload`, `kaminari rollback`, `kaminari diff --live`.
//! What came of it goes to stdout. Fails when the engine refuses, fails or is not there. HTTP only: TLS is a proxy's.

mod compare;
mod shadow;

use super::Format;
use crate::config::{self, effective};
use clap::Args;
use miette::{IntoDiagnostic, Report, WrapErr, miette};
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// A reload builds and connects, each step with a limit of its own.
const PATIENCE: Duration = Duration::from_secs(600);
const CONNECT: Duration = Duration::from_secs(5);
/// Digits of a digest that a person is shown.
const DIGITS: usize = "sha256:".len() + 12;

/// Which engine.
#[derive(Debug, Args)]
pub struct EngineArgs {
    /// Where the engine listens (`[api] listen`); plain HTTP
    #[arg(long, value_name = "URL", env = "KAMINARI_URL", default_value = "http://127.0.0.1:9977")]
    url: String,
    /// File with the token that the engine asks for (`[api] token_file`)
    #[arg(long, value_name = "FILE", env = "KAMINARI_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

/// Arguments of `reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// Form of the result
    #[arg(long, default_value = "text")]
    format: Format,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// Form of the result
    #[arg(long, default_value = "text")]
    format: Format,
}

/// Tells the engine to read its configuration again.
pub fn reload(args: ReloadArgs) -> miette::Result<()> {
    change(&args.engine, "/-/reload", args.format)
}

/// Tells the engine to go back.
pub fn rollback(args: RollbackArgs) -> miette::Result<()> {
    change(&args.engine, "/-/rollback", args.format)
}

/// What files would change in the running engine, on stdout. True: something. Paths are compared as both have them.
pub(super) fn diff_live(engine: &EngineArgs, files: &[PathBuf], format: Format) -> miette::Result<bool> {
    let plan = config::load(files, &crate::pipeline::registry())?;
    let running = Engine::new(engine)?.ask("GET", "/api/v1/plan")?.1;
    let differs = compare::plans(&running, &effective::masked(&plan));
    match format {
        Format::Json => super::print(&format!("{}\n", differs.as_json()))?,
        Format::Text => super::print(&differs.as_text())?,
    }
    Ok(!differs.is_empty())
}

/// How shadows compare with what is live, on stdout. True: they differ in an incident.
pub(super) fn diff_shadows(engine: &EngineArgs, format: Format) -> miette::Result<bool> {
    let (text, all) = Engine::new(engine)?.ask("GET", "/api/v1/shadow")?;
    match format {
        Format::Json => super::print(&text)?,
        Format::Text => super::print(&shadow::as_text(&all))?,
    }
    Ok(shadow::differ(&all))
}

fn change(engine: &EngineArgs, path: &str, format: Format) -> miette::Result<()> {
    let (text, report) = Engine::new(engine)?.ask("POST", path)?;
    let report: Told = serde_json::from_value(report)
        .into_diagnostic()
        .wrap_err("the answer is no report of a reload: is this engine of another version?")?;
    match format {
        Format::Json => super::print(&text)?,
        Format::Text => super::print(&report.as_text())?,
    }
    match report.outcome.as_str() {
        "applied" | "unchanged" => Ok(()),
        outcome => Err(miette!("{outcome}: the configuration before goes on")),
    }
}

/// An engine's HTTP surface.
struct Engine {
    url: String,
    token: Option<String>,
    agent: ureq::Agent,
}

impl Engine {
    fn new(args: &EngineArgs) -> miette::Result<Self> {
        let url = args.url.trim_end_matches('/').to_owned();
        if !url.starts_with("http://") {
            return Err(miette!(
                help = "name the engine itself, `http://HOST:PORT`; over a network let `ssh -L` or `kubectl port-forward` carry it",
                "{url} is no plain HTTP: this program speaks no TLS"
            ));
        }
        let token = match &args.token_file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .into_diagnostic()
                    .wrap_err_with(|| format!("cannot read the token file {}", path.display()))?;
                Some(text.trim().to_owned())
            }
        };
        // The token goes to nobody else: no proxy, no redirection.
        let config = ureq::Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(PATIENCE))
            .build();
        Ok(Self { url, token, agent: config.into() })
    }

    /// Text and JSON of an answer that is a report, a plan or an array.
    fn ask(&self, method: &str, path: &str) -> miette::Result<(String, Value)> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(()).map_err(|error| miette!("{} or the token cannot be sent: {error}", self.url))?;
        let mut answer = self.agent.run(request).map_err(|error| self.unanswered(error))?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string().map_err(|error| self.unanswered(error))?;
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let error = body["error"].as_str().map(str::to_owned);
        let url = &self.url;
        match (status, error) {
            (200 | 422 | 500, None) if body.is_object() || body.is_array() => Ok((text, body)),
            (401, error) => Err(miette!(
                help = "`--token-file FILE` (or KAMINARI_TOKEN_FILE) names the file with the engine's token",
                "{url} lets nobody in without its token: {}",
                error.unwrap_or_default()
            )),
            (409, Some(error)) => {
                Err(miette!(help = "`/api/v1/reloads` tells what came of it", "{error}: nothing was done"))
            }
            (_, Some(error)) => Err(miette!("{url} answers {status}: {error}")),
            (_, None) => Err(miette!(
                help = "is there another program, or an older engine? `--url` (or KAMINARI_URL) names the engine",
                "{url}{path} answers {status}, not as an engine would"
            )),
        }
    }

    fn unanswered(&self, error: ureq::Error) -> Report {
        let url = &self.url;
        match error {
            ureq::Error::Timeout(ureq::Timeout::Global | ureq::Timeout::RecvResponse | ureq::Timeout::RecvBody) => {
                miette!(
                    help = "it may still go on: `/api/v1/reloads` tells what came of it",
                    "no answer from {url} in {} s",
                    PATIENCE.as_secs()
                )
            }
            ureq::Error::BadUri(error) => miette!("{url} is no address of an engine: {error}"),
            error => miette!(
                help = "is the engine running, with `[api]` in its configuration? `--url` (or KAMINARI_URL) says where it listens",
                "nothing answers on {url}: {error}"
            ),
        }
    }
}

/// A report as it is read; what this program does not know is left out.
#[derive(Debug, Deserialize)]
struct Told {
    outcome: String,
    took_ms: f64,
    old_digest: String,
    new_digest: Option<String>,
    #[serde(default)]
    diff: Changes,
    step: Option<String>,
    #[serde(default)]
    errors: Vec<String>,
    #[serde(default)]
    notes: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Changes {
    changes: Vec<Change>,
}

#[derive(Debug, Deserialize)]
struct Change {
    component: String,
    what: String,
    class: String,
    keys: Vec<String>,
    effect: String,
    lost: Vec<String>,
}

impl Told {
    fn as_text(&self) -> String {
        let short = |digest: &str| digest.get(..DIGITS).unwrap_or(digest).to_owned();
        let at = self.step.as_ref().map_or(String::new(), |step| format!(" at step `{step}`"));
        let mut text = format!("{}{at} after {:.0} ms", self.outcome, self.took_ms);
        match &self.new_digest {
            Some(new) if *new != self.old_digest => {
                let _ = writeln!(text, ": {} -> {}", short(&self.old_digest), short(new));
            }
            _ => {
                let _ = writeln!(text, ": {}", short(&self.old_digest));
            }
        }
        for Change { component, what, class, keys, effect, lost } in &self.diff.changes {
            let _ = writeln!(text, "{} {component} ({class})", sign(what));
            let entries = [("keys", &keys.join(", ")), ("effect", effect), ("lost", &lost.join(", "))];
            for (name, entry) in entries.iter().filter(|(_, entry)| !entry.is_empty()) {
                let _ = writeln!(text, "    {name:<8}{entry}");
            }
        }
        for error in &self.errors {
            let _ = writeln!(text, "error: {error}");
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }
}

/// As `kaminari diff` has it.
fn sign(what: &str) -> char {
    match what {
        "added" => '+',
        "removed" => '-',
        _ => '~',
    }
}

#[cfg(test)]
mod tests;
