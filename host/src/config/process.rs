//! `[engine]`, `[api]`, `[reload]`: what belongs to the whole process.

use super::diagnostic::code;
use super::plan::*;
use super::raw::{ApiSection, EngineSection, ReloadSection};
use super::resolve::Resolver;
use super::resolved;
use std::path::{Path, PathBuf};

impl Resolver<'_> {
    pub(super) fn engine(&mut self) -> Option<EnginePlan> {
        let written: EngineSection = match self.merged.single.get("engine") {
            Some(entry) => self.read("engine", entry)?,
            None => EngineSection::default(),
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let window_workers = match written.window_workers {
            Some(0) => {
                self.bad("engine.window_workers", "`engine.window_workers` is 0", "at least 1", "write 1 or more");
                1
            }
            Some(n) => n,
            None if cores <= 2 => 1,
            None => (cores / 2).min(4),
        };
        let folder = self.merged.single.get("engine").map_or(Path::new(""), |e| self.findings.places.folder(e.file));
        let plugin_cache_dir = written.plugin_cache_dir.map_or_else(default_cache_dir, |path| resolved(folder, &path));
        let state_dir = written.state_dir.map(|path| resolved(folder, &path));
        Some(EnginePlan { window_workers, plugin_cache_dir, state_dir })
    }

    pub(super) fn api(&mut self) -> Option<ApiPlan> {
        let written: ApiSection = match self.merged.single.get("api") {
            Some(entry) => self.read("api", entry)?,
            None => ApiSection { enabled: false, ..ApiSection::default() },
        };
        let ApiSection { enabled, listen, token_file, open_probes } = written;
        if enabled && token_file.is_none() && !listen.ip().to_canonical().is_loopback() {
            let (path, text) = ("api.listen", format!("{listen} can be asked from other machines, without a token"));
            let open = self.findings.about(code::API_OPEN, path, text).label("not this machine only");
            let help =
                "add `token_file = \"FILE\"` with the token that requests must bring, or listen on 127.0.0.1 only";
            self.findings.push(path, open.help(help));
        }
        if open_probes && token_file.is_none() {
            let help = "remove it, or add `token_file = \"FILE\"`";
            self.bad("api.open_probes", "`api.open_probes` without a token", "everything is open", help);
        }
        let folder = self.merged.single.get("api").map_or(Path::new(""), |e| self.findings.places.folder(e.file));
        let token_file = token_file.map(|path| resolved(folder, &path));
        Some(ApiPlan { enabled, listen, token_file, open_probes })
    }

    pub(super) fn reload(&mut self) -> Option<ReloadPlan> {
        let written: ReloadSection = match self.merged.single.get("reload") {
            Some(entry) => self.read("reload", entry)?,
            None => ReloadSection::default(),
        };
        let ReloadSection { probation_windows, probation_faults, timeout_secs } = written;
        for (key, value, least, most) in [
            ("probation_windows", u64::from(probation_windows), 0, 1_000_000),
            ("probation_faults", probation_faults, 0, 1_000_000),
            ("timeout_secs", timeout_secs, 1, 3600),
        ] {
            self.in_range(&format!("reload.{key}"), value, least, most);
        }
        Some(ReloadPlan { probation_windows, probation_faults, timeout_secs })
    }
}

/// Where compiled plugins are kept unless `engine.plugin_cache_dir` says otherwise: `$XDG_CACHE_HOME/kaminari`,
/// `~/.cache/kaminari` or, for a service without a home, the system's cache folder.
pub fn default_cache_dir() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    folder("XDG_CACHE_HOME")
        .or_else(|| folder("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(|| PathBuf::from("/var/cache"))
        .join("kaminari")
}
