//! Attacks one after the other on hosts of a live background: seconds from an attack's first flow record sent to its
//! incident leaving the engine.

use super::live;
use super::results::{Results, percentile};
use anyhow::Result;

const RATE: &str = "10000";
const ATTACKS: usize = 20;
/// The first begins when the windows hold some background.
const FIRST_AT: f64 = 3.0;
const LASTS: f64 = 3.0;
/// From one to the next, less up to a second: each begins at another place between two window ends.
const EVERY: f64 = 4.5;
const KINDS: [&str; 2] = ["udp-amplification", "syn-flood"];
const GOAL_P50: f64 = 1.5;

pub fn run(results: &mut Results) -> Result<()> {
    let seconds = FIRST_AT + ATTACKS as f64 * EVERY;
    let mut args = ["--rate", RATE, "--seconds", &seconds.to_string()].map(String::from).to_vec();
    for i in 0..ATTACKS {
        // The golden ratio's multiples fill [0, 1) evenly and in no order that a window would know.
        let offset = (i as f64 * 0.618_034).fract();
        let at = FIRST_AT + i as f64 * EVERY + offset;
        args.extend(["--attack".into(), format!("{}@{at:.3}+{LASTS}", KINDS[i % KINDS.len()])]);
    }
    let live = live::run(&args, |_| Ok(()))?;
    let delays = live.report.delays();
    for (i, (kind, delay)) in delays.iter().enumerate() {
        results.row("delay", kind, "s", delay.unwrap_or(f64::NAN), i + 1);
    }
    let found: Vec<f64> = delays.iter().filter_map(|(_, delay)| *delay).collect();
    let missed = delays.len() - found.len();
    let alarms = live.report.false_alarms().len();
    results.row("delay", "missed", "attacks", missed as f64, 1);
    results.row("delay", "false alarms", "incidents", alarms as f64, 1);
    results.at_most("first flow sent to incident, p50", percentile(&found, 0.5), GOAL_P50, "s");
    results.figure("first flow sent to incident, p99", percentile(&found, 0.99), "s");
    results.figure("first flow sent to incident, max", percentile(&found, 1.0), "s");
    let said = format!("{missed} of {} missed, {alarms} false alarms", delays.len());
    results.said("attacks", said, "0 missed, 0 false alarms", missed == 0 && alarms == 0);
    Ok(())
}
