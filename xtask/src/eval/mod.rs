//! `cargo xtask eval`: trains on benign data, scores other days and holds the scores against their labels, with the
//! recipe of configs/eval/. Comes in: a folder or files of labelled data; goes out: a table on stdout, and in `--out`
//! the model, the scores, the incidents, a page per test file and `result.json`. Goals stand beside the figures; a
//! missed goal is no failure of the run.

mod goals;
mod nab;

use crate::engine::kaminari;
use crate::plugins;
use crate::shell::{cargo, must, root, say, target};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use goals::{CTU, FLOWS, Goals, Tested};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// What is evaluated.
#[derive(Subcommand)]
pub enum Recipe {
    /// Flow records: 60 s windows per destination.
    Flows {
        /// Folder with train.csv.gz, validation.csv.gz, test.csv.gz and events.csv.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Where the model, scores and result go; target/eval/flows when left out.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// CTU-13: 10 s windows of a whole network, rows of features.
    Ctu {
        /// Windows to learn from.
        #[arg(long, value_name = "FILE")]
        train: PathBuf,
        /// Later windows: they stop the training and set the threshold.
        #[arg(long, value_name = "FILE")]
        validation: PathBuf,
        /// Windows to judge, with or without attacks.
        #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
        test: Vec<PathBuf>,
        /// Where the model, scores and result go; target/eval/ctu when left out.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// NAB: metrics of servers with labelled anomalies, one threshold for all of them.
    Nab {
        /// Folder of NAB's layout: folders of series, windows.json, reference/.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Put the table into docs/quality.md.
        #[arg(long)]
        update_docs: bool,
    },
}

/// A recipe with its files found.
struct Plan {
    name: &'static str,
    goals: Goals,
    train: PathBuf,
    validation: PathBuf,
    /// What is known of train and validation: attacks in them are no benign traffic.
    known: Vec<String>,
    tests: Vec<Test>,
    out: PathBuf,
}

/// A file to judge.
struct Test {
    /// What it is called in the table and in file names.
    name: String,
    file: PathBuf,
    /// Given to `kaminari evaluate`.
    labels: Vec<String>,
}

/// Runs the verb.
pub fn run(recipe: Recipe) -> Result<()> {
    let plan = match recipe {
        Recipe::Nab { data, update_docs } => return nab::run(&data, update_docs),
        trained => Plan::new(trained)?,
    };
    say("building plugins and the engine (release; the first time takes a few minutes)");
    plugins::run()?;
    must(cargo().args(["build", "--release", "-p", "kaminari", "--bin", "kaminari"]))?;
    std::fs::create_dir_all(&plan.out).with_context(|| format!("cannot make {}", plan.out.display()))?;
    let config = plan.configure()?;
    let begun = Instant::now();
    must(&mut train(&config, &plan))?;
    let train_seconds = begun.elapsed().as_secs_f64();
    let mut tested = Vec::new();
    for test in &plan.tests {
        let begun = Instant::now();
        let found = plan.judge(&config, test)?;
        tested.push(Tested { name: test.name.clone(), found, replay_seconds: begun.elapsed().as_secs_f64() });
    }
    let result = json!({
        "recipe": plan.name,
        "train": plan.train, "validation": plan.validation, "train_seconds": train_seconds,
        "goals": plan.goals.json(),
        "tests": tested.iter().map(|t| t.json(&plan.goals)).collect::<Vec<_>>(),
    });
    let file = plan.out.join("result.json");
    std::fs::write(&file, format!("{result:#}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{}", goals::table(&tested, &plan.goals));
    println!("trained in {train_seconds:.1} s; result, model, scores and pages: {}", plan.out.display());
    Ok(())
}

/// What makes the model. The one place that knows the arguments of `kaminari train`.
fn train(config: &Path, plan: &Plan) -> Command {
    let mut command = kaminari();
    command.arg("train").arg("-c").arg(config);
    command.arg("--input").arg(&plan.train).arg("--validation").arg(&plan.validation);
    command.args(&plan.known);
    command
}

impl Plan {
    fn new(recipe: Recipe) -> Result<Self> {
        let here = std::env::current_dir()?;
        // Absolute: cargo and we may stand in different folders.
        let found = |path: PathBuf| {
            let path = here.join(path);
            if path.is_file() { Ok(path) } else { Err(anyhow::anyhow!("no file {}", path.display())) }
        };
        let out = |given: Option<PathBuf>, name| given.map_or(target().join("eval").join(name), |o| here.join(o));
        Ok(match recipe {
            Recipe::Flows { data, out: given } => {
                let events = found(data.join("events.csv"))?;
                let file = found(data.join("test.csv.gz"))?;
                let validation = found(data.join("validation.csv.gz"))?;
                let labels = |flows: &Path| -> Result<Vec<String>> {
                    Ok(["--labels", text(&events)?, "--flows", text(flows)?].map(String::from).to_vec())
                };
                let (known, labels) = (labels(&validation)?, labels(&file)?);
                Plan {
                    name: "flows",
                    goals: FLOWS,
                    train: found(data.join("train.csv.gz"))?,
                    validation,
                    known,
                    tests: vec![Test { name: "test".into(), file, labels }],
                    out: out(given, "flows"),
                }
            }
            Recipe::Ctu { train, validation, test, out: given } => {
                let mut tests: Vec<Test> = Vec::new();
                for file in test {
                    let file = found(file)?;
                    let mut labels = ["--labels", text(&file)?].map(String::from).to_vec();
                    // Labels as the data's README has them: more than 50 botnet flows; up to 50 is not judged.
                    labels.extend(
                        ["--label-time", "t", "--label-column", "botnet_flow_count", "--positive-above", "50"]
                            .map(String::from),
                    );
                    labels.extend(["--ignore-above", "0"].map(String::from));
                    let name = unused(&stem(&file), &tests);
                    tests.push(Test { name, file, labels });
                }
                let (train, validation) = (found(train)?, found(validation)?);
                Plan { name: "ctu", goals: CTU, train, validation, known: Vec::new(), tests, out: out(given, "ctu") }
            }
            Recipe::Nab { .. } => bail!("nothing is trained for NAB"),
        })
    }

    /// Writes the recipe's configuration with this run's folders to `out`; returns its path.
    fn configure(&self) -> Result<PathBuf> {
        let template = root().join("configs/eval").join(format!("{}.toml", self.name));
        let text = std::fs::read_to_string(&template).with_context(|| format!("cannot read {}", template.display()))?;
        let mut config: toml::Table = text.parse().with_context(|| format!("in {}", template.display()))?;
        adapt(&mut config, &target().join("plugins"), &self.out.join("model"))?;
        let path = self.out.join(format!("{}.toml", self.name));
        std::fs::write(&path, toml::to_string(&config)?).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Scores a test file and holds the scores against its labels.
    fn judge(&self, config: &Path, test: &Test) -> Result<Value> {
        let file = |ending: &str| self.out.join(format!("{}.{ending}", test.name));
        let (scores, incidents, figures) = (file("scores.jsonl"), file("incidents.jsonl"), file("evaluation.json"));
        let told = File::create(&incidents).with_context(|| format!("cannot write {}", incidents.display()))?;
        let mut replay = kaminari();
        replay.arg("replay").arg("-c").arg(config).arg("--input").arg(&test.file).arg("--scores").arg(&scores);
        must(replay.stdout(told))?;
        let mut evaluate = kaminari();
        evaluate.arg("evaluate").arg("--scores").arg(&scores).args(&test.labels);
        // A pipeline in shadow mode tells nothing: no incident would read as everything missed.
        if std::fs::metadata(&incidents)?.len() > 0 {
            evaluate.arg("--incidents").arg(&incidents);
        }
        must(evaluate.arg("--output").arg(&figures).arg("--plot").arg(file("html")))?;
        let text = std::fs::read_to_string(&figures)?;
        serde_json::from_str(&text).with_context(|| format!("in {}", figures.display()))
    }
}

/// This checkout's plugins, and the model where this run makes it.
fn adapt(config: &mut toml::Table, plugins: &Path, model: &Path) -> Result<()> {
    for plugin in tables(config, "plugins")? {
        let path = plugin.get("path").and_then(toml::Value::as_str).context("a plugin has no path")?;
        let name = Path::new(path).file_name().context("a plugin's path has no file name")?;
        let path = plugins.join(name).display().to_string();
        plugin.insert("path".into(), path.into());
    }
    let models = tables(config, "models")?;
    let [only] = &mut models.into_iter().collect::<Vec<_>>()[..] else {
        bail!("the recipe needs one model, not none or several")
    };
    only.insert("path".into(), model.display().to_string().into());
    Ok(())
}

/// The named tables of a section.
fn tables<'a>(config: &'a mut toml::Table, section: &str) -> Result<Vec<&'a mut toml::Table>> {
    let section_table = config.get_mut(section).and_then(toml::Value::as_table_mut);
    let named = section_table.with_context(|| format!("the recipe has no [{section}.NAME]"))?;
    Ok(named.iter_mut().filter_map(|(_, table)| table.as_table_mut()).collect())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is no text", path.display()))
}

/// `a/scenario10.csv.gz` is scenario10.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.split('.').next().unwrap_or(&name).to_owned()
}

/// That name, with a number if a test has it already.
fn unused(name: &str, tests: &[Test]) -> String {
    let taken = |n: &str| tests.iter().any(|t| t.name == n);
    let numbered = (2..).map(|n| format!("{name}-{n}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|n| !taken(n)).expect("numbers do not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_get_this_checkouts_plugins_and_the_runs_model() {
        for name in ["flows", "ctu"] {
            let text = std::fs::read_to_string(root().join(format!("configs/eval/{name}.toml"))).unwrap();
            let mut config: toml::Table = text.parse().unwrap();
            adapt(&mut config, Path::new("/p"), Path::new("/m")).unwrap();
            assert_eq!(config["plugins"]["autoencoder"]["path"].as_str(), Some("/p/autoencoder.wasm"), "{name}");
            let models = config["models"].as_table().unwrap();
            assert!(models.values().all(|m| m["path"].as_str() == Some("/m")), "{name}");
            assert!(config["pipelines"].is_table(), "the rest is kept");
        }
        let adapted = |text: &str| adapt(&mut text.parse().unwrap(), Path::new("/p"), Path::new("/m"));
        let error = adapted("[plugins.x]\npath = \"x.wasm\"").unwrap_err().to_string();
        assert_eq!(error, "the recipe has no [models.NAME]");
        let error = adapted("[plugins.x]\npath = \"x\"\n[models.a]\n[models.b]").unwrap_err().to_string();
        assert_eq!(error, "the recipe needs one model, not none or several");
    }

    #[test]
    fn test_files_of_one_name_do_not_overwrite_each_other() {
        let test = |name: &str| Test { name: name.into(), file: "x".into(), labels: Vec::new() };
        assert_eq!(stem(Path::new("a/scenario10.csv.gz")), "scenario10");
        assert_eq!(unused("a", &[]), "a");
        assert_eq!(unused("a", &[test("a"), test("a-2")]), "a-3");
    }

    #[test]
    fn missing_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = Recipe::Flows { data: dir.path().into(), out: None };
        let error = Plan::new(recipe).err().unwrap().to_string();
        assert!(error.starts_with("no file ") && error.ends_with("events.csv"), "{error}");
    }
}
