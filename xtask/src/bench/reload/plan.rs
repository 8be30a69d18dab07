//! The configurations of the bench: two pipelines over two sources, of which one is never touched, and the changes that take
//! turns. A round of them ends where it began, but for a plugin of another content.

use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The pipeline that is left alone, and the one that changes.
pub const NEIGHBOUR: &str = "neighbour";
pub const CHANGED: &str = "changed";

/// Changes of a round, in order.
pub const ROUND: [Kind; 10] = [
    Kind::Limit,
    Kind::Added,
    Kind::PluginNew,
    Kind::Removed,
    Kind::Window,
    Kind::BrokenText,
    Kind::Window,
    Kind::PluginBefore,
    Kind::Limit,
    Kind::BrokenPlugin,
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Limit,
    /// Of a content that the cache does not have.
    PluginNew,
    /// Of one that it has.
    PluginBefore,
    Window,
    Added,
    Removed,
    BrokenText,
    BrokenPlugin,
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Limit,
        Self::PluginNew,
        Self::PluginBefore,
        Self::Window,
        Self::Added,
        Self::Removed,
        Self::BrokenText,
        Self::BrokenPlugin,
    ];

    /// Without commas: names of rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit of a detector",
            Self::PluginNew => "plugin file exchanged (to be compiled)",
            Self::PluginBefore => "plugin file exchanged (in the cache)",
            Self::Window => "window size",
            Self::Added => "pipeline added",
            Self::Removed => "pipeline removed",
            Self::BrokenText => "broken configuration",
            Self::BrokenPlugin => "broken plugin",
        }
    }

    /// What must come of it.
    pub fn outcome(self) -> &'static str {
        if matches!(self, Self::BrokenText | Self::BrokenPlugin) { "refused" } else { "applied" }
    }
}

/// What is read.
pub enum Sources {
    /// Where the sources of the changing pipeline and of its neighbour listen.
    Udp([SocketAddr; 2]),
    /// One topic for both, and where tasks keep what they know.
    Log { brokers: String, topic: String, state_dir: PathBuf },
}

/// What is in force, and where it lies.
pub struct Plan {
    dir: PathBuf,
    config: PathBuf,
    api: SocketAddr,
    sources: Sources,
    /// A plugin as it was built.
    plugin: PathBuf,
    /// Where the changing pipeline's lies.
    changing: PathBuf,
    limit: f64,
    window_secs: u32,
    third: bool,
    /// Contents of the plugin so far.
    contents: u32,
}

impl Plan {
    /// A folder, the file to write, where the API listens, what is read, and a plugin.
    pub fn new(dir: &Path, config: PathBuf, api: SocketAddr, sources: Sources, plugin: PathBuf) -> Result<Self> {
        let (dir, changing) = (dir.to_owned(), dir.join("changing.wasm"));
        let (limit, window_secs, third, contents) = (20_000.0, 1, false, 0);
        let plan = Self { dir, config, api, sources, plugin, changing, limit, window_secs, third, contents };
        plan.put_plugin(0)?;
        plan.put_config(&plan.text())?;
        Ok(plan)
    }

    /// Changes the files. Where the change is broken, what is in force stays as it is.
    pub fn change(&mut self, kind: Kind) -> Result<()> {
        match kind {
            Kind::Limit => self.limit = 40_001.0 - self.limit,
            Kind::Window => self.window_secs = 3 - self.window_secs,
            Kind::Added => self.third = true,
            Kind::Removed => self.third = false,
            Kind::PluginNew => {
                self.contents += 1;
                self.put_plugin(self.contents)?;
            }
            Kind::PluginBefore => self.put_plugin(self.contents - 1)?,
            Kind::BrokenText => {
                return self.put_config(&self.text().replace("[pipelines.changed]", "[pipelines.changed"));
            }
            Kind::BrokenPlugin => {
                let broken = self.dir.join("broken.wasm");
                std::fs::write(&broken, b"\0asm")?;
                return self.put_config(&self.text().replace("changing.wasm", "broken.wasm"));
            }
        }
        self.put_config(&self.text())
    }

    fn put_config(&self, text: &str) -> Result<()> {
        put(&self.config, text.as_bytes())
    }

    /// The plugin, with a number that does nothing: a custom section.
    fn put_plugin(&self, number: u32) -> Result<()> {
        let mut plugin =
            std::fs::read(&self.plugin).with_context(|| format!("cannot read {}", self.plugin.display()))?;
        plugin.extend(section(number));
        put(&self.changing, &plugin)
    }

    fn text(&self) -> String {
        let Self { dir, api, plugin, changing, limit, window_secs, .. } = self;
        let (engine, sources, [edge, other]) = self.sources.text();
        let third = if self.third {
            let text = "[pipelines.third]\nsources = [\"edge\"]\nkeys = [\"dst_addr\", \"src_addr\"]\n\
             features = [\"packets_per_s\", \"bits_per_s\"]\nwindow = { type = \"sliding\", size_secs = 2, slide_secs = 1 }\n\
             detectors = [\"changing\"]\nsinks = [\"file\"]\nmode = \"shadow\"\n";
            text.replace("\"edge\"", &format!("{edge:?}"))
        } else {
            String::new()
        };
        let detector = |name, limit| {
            format!(
                "[detectors.{name}]\nplugin = \"{name}\"\n\
                 config = {{ limits = [ {{ name = \"packet-flood\", feature = \"packets_per_s\", above = {limit:?} }} ] }}\n"
            )
        };
        let pipeline = |name, source, detector, size| {
            format!(
                "[pipelines.{name}]\nsources = [\"{source}\"]\nkeys = [\"dst_addr\"]\nfeatures = [\"packets_per_s\"]\n\
                 window = {{ type = \"tumbling\", size_secs = {size} }}\ndetectors = [\"{detector}\"]\nsinks = [\"file\"]\n\
                 incident = {{ open_after = \"1/1\", update_interval_secs = 1 }}\n"
            )
        };
        [
            format!("[engine]\nplugin_cache_dir = {:?}\n{engine}[api]\nlisten = \"{api}\"\n", dir.join("cache")),
            sources,
            format!("[plugins.steady]\npath = {plugin:?}\n[plugins.changing]\npath = {changing:?}\n"),
            detector("steady", 20_000.0),
            detector("changing", *limit),
            format!("[sinks.file]\ntype = \"file\"\npath = {:?}\n", dir.join("incidents.jsonl")),
            pipeline(NEIGHBOUR, other, "steady", 1),
            pipeline(CHANGED, edge, "changing", *window_secs),
            third,
        ]
        .concat()
    }
}

impl Sources {
    /// Keys of the engine, tables of the sources, and which of them the changing pipeline and its neighbour read.
    fn text(&self) -> (String, String, [&'static str; 2]) {
        match self {
            Self::Udp([edge, other]) => {
                let source = |name, listen| {
                    format!(
                        "[sources.{name}]\ntype = \"udp\"\nlisten = \"{listen}\"\nreceive_buffer_bytes = 33554432\n"
                    )
                };
                (String::new(), source("edge", edge) + &source("other", other), ["edge", "other"])
            }
            Self::Log { brokers, topic, state_dir } => {
                let source = format!(
                    "[sources.log]\ntype = \"kafka\"\nbrokers = [{brokers:?}]\ntopics = [{topic:?}]\ngroup = {topic:?}\n\
                     start = \"earliest\"\nkeyed = true\ndecode = {{ format = \"arrow\" }}\n"
                );
                (format!("state_dir = {state_dir:?}\n"), source, ["log", "log"])
            }
        }
    }
}

/// As editors and deployments do it.
fn put(path: &Path, content: &[u8]) -> Result<()> {
    let aside = path.with_extension("new");
    std::fs::write(&aside, content).with_context(|| format!("cannot write {}", aside.display()))?;
    std::fs::rename(&aside, path).with_context(|| format!("cannot write {}", path.display()))
}

/// A custom section of WebAssembly: id 0, length, length of the name, name, content.
fn section(number: u32) -> Vec<u8> {
    let mut out = vec![0, 10, 5];
    out.extend(b"bench");
    out.extend(number.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_says_how_long_it_is() {
        let section = section(7);
        assert_eq!(usize::from(section[1]), section.len() - 2);
        assert_eq!(usize::from(section[2]), b"bench".len());
    }

    #[test]
    fn a_round_has_every_kind_and_ends_as_it_began() {
        let dir = tempfile::tempdir().unwrap();
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let (plugin, config) = (dir.path().join("plugin.wasm"), dir.path().join("demo.toml"));
        std::fs::write(&plugin, b"\0asm").unwrap();
        let mut plan = Plan::new(dir.path(), config.clone(), at(1), Sources::Udp([at(2), at(3)]), plugin).unwrap();
        let read = || std::fs::read_to_string(&config).unwrap();
        let first = read();
        let mut before = first.clone();
        for kind in ROUND {
            plan.change(kind).unwrap();
            let now = read();
            let files = !matches!(kind, Kind::PluginNew | Kind::PluginBefore);
            assert_eq!(now.parse::<toml::Table>().is_ok(), kind != Kind::BrokenText, "{}: {now}", kind.name());
            assert_eq!(now != before, files, "{}", kind.name());
            before = plan.text();
        }
        assert_eq!(plan.text(), first);
        assert!(Kind::ALL.iter().all(|kind| ROUND.contains(kind)));
    }
}
