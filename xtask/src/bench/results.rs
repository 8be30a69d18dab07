//! Raw rows and the figures made of them, as CSV, as Markdown and for a terminal.

use crate::report::short;
use std::fmt::Write as _;

/// What was measured so far.
#[derive(Default)]
pub struct Results {
    rows: Vec<Row>,
    figures: Vec<Figure>,
}

struct Row {
    bench: String,
    case: String,
    unit: String,
    value: f64,
    rep: usize,
}

/// One line of the table.
struct Figure {
    name: String,
    measured: String,
    /// The goal in words, and whether it was met.
    goal: Option<(String, bool)>,
}

impl Results {
    /// Keeps a raw figure. Names must not contain commas.
    pub fn row(&mut self, bench: &str, case: &str, unit: &str, value: f64, rep: usize) {
        self.rows.push(Row { bench: bench.into(), case: case.into(), unit: unit.into(), value, rep });
    }

    /// All repetitions of a case, in order.
    pub fn values(&self, bench: &str, case: &str) -> Vec<f64> {
        self.rows.iter().filter(|r| r.bench == bench && r.case == case).map(|r| r.value).collect()
    }

    /// Median over the repetitions of a case; `NaN` when there is none.
    pub fn median(&self, bench: &str, case: &str) -> f64 {
        percentile(&self.values(bench, case), 0.5)
    }

    /// The same, of the rows with this unit.
    pub fn median_of(&self, bench: &str, case: &str, unit: &str) -> f64 {
        let mine = self.rows.iter().filter(|r| r.bench == bench && r.case == case && r.unit == unit);
        percentile(&mine.map(|r| r.value).collect::<Vec<_>>(), 0.5)
    }

    /// Cases and units of a benchmark, each once, in order.
    pub fn cases(&self, bench: &str) -> Vec<(String, String)> {
        let mut cases: Vec<(String, String)> = Vec::new();
        for row in self.rows.iter().filter(|r| r.bench == bench) {
            if !cases.iter().any(|(case, unit)| *case == row.case && *unit == row.unit) {
                cases.push((row.case.clone(), row.unit.clone()));
            }
        }
        cases
    }

    /// A figure without a goal.
    pub fn figure(&mut self, name: &str, value: f64, unit: &str) {
        self.figures.push(Figure { name: name.into(), measured: shown(value, unit), goal: None });
    }

    /// A figure that should not be above its goal.
    pub fn at_most(&mut self, name: &str, value: f64, goal: f64, unit: &str) {
        let goal = (format!("<= {}", shown(goal, unit)), value <= goal);
        self.figures.push(Figure { name: name.into(), measured: shown(value, unit), goal: Some(goal) });
    }

    /// A figure that should not be below its goal.
    pub fn at_least(&mut self, name: &str, value: f64, goal: f64, unit: &str) {
        let goal = (format!(">= {}", shown(goal, unit)), value >= goal);
        self.figures.push(Figure { name: name.into(), measured: shown(value, unit), goal: Some(goal) });
    }

    /// A figure in words, without a goal.
    pub fn told(&mut self, name: &str, measured: String) {
        self.figures.push(Figure { name: name.into(), measured, goal: None });
    }

    /// A figure in words, with a goal in words.
    pub fn said(&mut self, name: &str, measured: String, goal: &str, met: bool) {
        self.figures.push(Figure { name: name.into(), measured, goal: Some((goal.into(), met)) });
    }

    /// All rows.
    pub fn csv(&self) -> String {
        let mut out = String::from("bench,case,unit,value,rep\n");
        for Row { bench, case, unit, value, rep } in &self.rows {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{bench},{case},{unit},{value:.6},{rep}");
        }
        out
    }

    /// The table of figures.
    pub fn markdown(&self) -> String {
        let mut out = String::from("| figure | measured | goal | met |\n| --- | --- | --- | --- |\n");
        for [name, measured, goal, met] in self.cells() {
            let _ = writeln!(out, "| {name} | {measured} | {goal} | {met} |");
        }
        out
    }

    /// The table in columns.
    pub fn for_people(&self) -> String {
        let mut cells = vec![["figure", "measured", "goal", "met"].map(String::from)];
        cells.extend(self.cells());
        let width: Vec<usize> = (0..4).map(|c| cells.iter().map(|r| r[c].len()).max().unwrap_or(0)).collect();
        let line = |r: &[String; 4]| {
            let cells: Vec<String> = r.iter().zip(&width).map(|(cell, w)| format!("{cell:<w$}")).collect();
            cells.join("  ").trim_end().to_owned() + "\n"
        };
        cells.iter().map(line).collect()
    }

    fn cells(&self) -> impl Iterator<Item = [String; 4]> {
        self.figures.iter().map(|f| {
            let (goal, met) = f.goal.as_ref().map_or(("", ""), |(g, met)| (&**g, if *met { "yes" } else { "**no**" }));
            [&*f.name, &*f.measured, goal, met].map(String::from)
        })
    }
}

fn shown(value: f64, unit: &str) -> String {
    format!("{} {unit}", short(value)).trim_end().to_owned()
}

/// The value that a share `p` of all does not exceed (nearest rank).
pub fn percentile(values: &[f64], p: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (p * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let twenty: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        assert_eq!([0.5, 0.95, 0.99, 1.0].map(|p| percentile(&twenty, p)), [10.0, 19.0, 20.0, 20.0]);
        assert_eq!(percentile(&[3.0, 1.0, 2.0, 5.0, 4.0], 0.5), 3.0);
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_goal_is_met_or_not() {
        let mut results = Results::default();
        results.row("path", "v9", "cpu_s/M flows", 1.25, 1);
        results.row("path", "v9", "cpu_s/M flows", 2.0, 2);
        results.row("path", "v9", "cpu_s/M flows", 1.75, 3);
        results.at_most("v9", results.median("path", "v9"), 1.5, "CPU s");
        results.figure("rate", 1.5e6, "flows/s");
        results.at_least("ratio", 2.5, 2.0, "x");
        assert_eq!(results.csv().lines().nth(1), Some("path,v9,cpu_s/M flows,1.250000,1"));
        let table = results.markdown();
        assert!(
            table.contains("| v9 | 1.75 CPU s | <= 1.50 CPU s | **no** |\n| rate | 1.50M flows/s |  |  |\n| ratio | 2.50 x | >= 2.00 x | yes |"),
            "{table}"
        );
        // Nothing measured is no goal met.
        results.at_most("delay", percentile(&[], 0.5), 1.5, "s");
        assert!(results.markdown().ends_with("| <= 1.50 s | **no** |\n"));
    }
}
