//! `cargo xtask eval nab`: every detector that needs no model on the series of the Numenta Anomaly Benchmark, through the
//! engine, with configs/eval/nab.toml. First the published results beside the data must give the scores that they are
//! known to have: another scorer would say nothing. A missed goal is no failure of the run.

use crate::markers;
use crate::plugins;
use crate::shell::{cargo, must, root, say, target};
use anyhow::{Context, Result, ensure};
use kaminari_nab::{Best, PROFILES, REFERENCES, Series, all_profiles, engine, read, reference};
use serde_json::json;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// What the best detector is to reach on the standard profile.
const GOAL: f64 = 55.0;
const DOC: &str = "docs/quality.md";

/// Runs the recipe.
pub fn run(data: &Path, update_docs: bool) -> Result<()> {
    let series = read(data)?;
    let mut rows: Vec<(String, [Best; 3])> = Vec::new();
    for (name, wanted) in REFERENCES {
        rows.push((format!("{name} (published)"), reproduced(data, &series, name, wanted)?));
    }
    say("building plugins and the engine (as for tests: there is little data)");
    plugins::run()?;
    must(cargo().args(["build", "-p", "kaminari", "--bin", "kaminari"]))?;
    let out = target().join("eval/nab");
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let config = root().join("configs/eval/nab.toml");
    say(&format!("kaminari replay --scores, {} series", series.len()));
    let kaminari = || Command::new(target().join("debug/kaminari"));
    let mut own: Vec<(String, [Best; 3])> = engine::run(kaminari, &config, &series, &out)?
        .into_iter()
        .map(|(detector, scores)| (detector, all_profiles(&series, &scores)))
        .collect();
    own.sort_by(|a, b| b.1[0].score.total_cmp(&a.1[0].score));
    let best = own.first().map(|(name, best)| (name.clone(), best[0].score));
    rows.extend(own);
    std::fs::write(out.join("result.json"), format!("{:#}\n", as_json(&rows)))?;
    let table = table(&rows);
    println!("{table}");
    if let Some((name, score)) = best {
        let mark = if score >= GOAL { "" } else { " !" };
        println!(
            "best of ours: {name} {score:.1}{mark}, goal >= {GOAL}; result: {}",
            out.join("result.json").display()
        );
    }
    if update_docs {
        let path = root().join(DOC);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {DOC}"))?;
        std::fs::write(&path, markers::replace(&text, "nab", DOC, &table)?)?;
    }
    Ok(())
}

/// The scores of a published result; an error when they are not those that it has.
fn reproduced(data: &Path, series: &[Series], name: &str, wanted: [f64; 3]) -> Result<[Best; 3]> {
    let is = all_profiles(series, &reference(data, name, series)?);
    for ((is, wanted), profile) in is.iter().zip(wanted).zip(PROFILES) {
        ensure!(
            (is.score - wanted).abs() <= 0.1,
            "{name} scores {:.2} ({}) and should score {wanted}: the scorer or the data are not NAB's",
            is.score,
            profile.name
        );
    }
    Ok(is)
}

/// Markdown: a row per detector, a column per profile.
fn table(rows: &[(String, [Best; 3])]) -> String {
    let mut out = String::from("| detector |");
    PROFILES.iter().for_each(|p| write!(out, " {} |", p.name).expect("a string takes everything"));
    out.push_str(" windows found | false alarms |\n| --- | --- | --- | --- | --- | --- |\n");
    for (name, [standard, low_fp, low_fn]) in rows {
        writeln!(
            out,
            "| {name} | {:.1} | {:.1} | {:.1} | {} of {} | {} |",
            standard.score, low_fp.score, low_fn.score, standard.found, standard.windows, standard.false_alarms
        )
        .expect("a string takes everything");
    }
    out
}

fn as_json(rows: &[(String, [Best; 3])]) -> serde_json::Value {
    let one = |(name, best): &(String, [Best; 3])| {
        let profiles = PROFILES.iter().zip(best).map(|(p, b)| {
            // Where it is best to say nothing there is no threshold: null.
            json!({"profile": p.name, "score": b.score, "threshold": b.threshold, "windows_found": b.found,
                "windows": b.windows, "false_alarms": b.false_alarms})
        });
        json!({"detector": name, "profiles": profiles.collect::<Vec<_>>()})
    };
    json!({"recipe": "nab", "goal": GOAL, "detectors": rows.iter().map(one).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_per_detector() {
        let best = |score| Best { score, threshold: 1.0, found: 3, windows: 4, false_alarms: 5 };
        let text = table(&[("likelihood".into(), [best(55.04), best(1.0), best(2.0)])]);
        assert_eq!(text.lines().last(), Some("| likelihood | 55.0 | 1.0 | 2.0 | 3 of 4 | 5 |"));
        let json = as_json(&[("a".into(), [best(1.0), best(2.0), best(3.0)])]);
        assert_eq!(json["detectors"][0]["profiles"][2]["score"], 3.0);
    }
}
