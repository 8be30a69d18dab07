//! `[pipelines.NAME.combine]`: how the detectors of a pipeline speak together; `[detectors.NAME.calibration]`: how their
//! scores become comparable.

use super::plan::*;
use super::raw::{CalibrationSection, CombineSection};
use super::resolve::Resolver;

impl Resolver<'_> {
    pub(super) fn combine(&mut self, path: &str, written: &CombineSection, detectors: usize) -> Option<CombinePlan> {
        let rules = [
            ("any", CombineRule::Any),
            ("all", CombineRule::All),
            ("k_of_n", CombineRule::KOfN(written.k.unwrap_or(0))),
            ("tail_sum", CombineRule::TailSum),
        ];
        let word = self.required(path, "rule", written.rule.clone(), "rule = \"tail_sum\"");
        let rule = word.and_then(|word| self.word(&format!("{path}.rule"), &word, &rules));
        match (rule, written.k) {
            (Some(CombineRule::KOfN(_)), None) => {
                self.required::<usize>(path, "k", None, "k = 2");
            }
            (Some(CombineRule::KOfN(_)), Some(k)) if !(1..=detectors.max(1)).contains(&k) => {
                let text = format!("an alert of {k} of {detectors} detectors makes no sense");
                let help = format!("write a number from 1 to {detectors}, as many as the pipeline has");
                self.bad(&format!("{path}.k"), text, "out of range", help);
            }
            (Some(CombineRule::Any | CombineRule::All | CombineRule::TailSum), Some(_)) => {
                let at = format!("{path}.k");
                self.bad(&at, format!("`{at}` is only for the rule `k_of_n`"), "not for this rule", "remove it");
            }
            _ => {}
        }
        let rate = written.false_alarms_per_day;
        self.rate(&format!("{path}.false_alarms_per_day"), rate);
        Some(CombinePlan { rule: rule?, false_alarms_per_day: rate })
    }

    pub(super) fn calibration(&mut self, path: &str, written: &CalibrationSection) -> FollowPlan {
        let at = format!("{path}.max_shift");
        if !(written.max_shift.is_finite() && written.max_shift >= 1.0) {
            let help = "write a factor from 1 (never moves) up, such as 1.25";
            self.bad(&at, format!("`{at}` is {}", written.max_shift), "1 or more", help);
        }
        self.in_range(&format!("{path}.warm_up_rows"), written.warm_up_rows, 1000, 1 << 40);
        FollowPlan { follow: written.follow, max_shift: written.max_shift, warm_up_rows: written.warm_up_rows }
    }

    fn rate(&mut self, path: &str, rate: f64) {
        if !(rate.is_finite() && rate > 0.0) {
            let help = "write how many false alarms a day you can live with, such as 1.0";
            self.bad(path, format!("`{path}` is {rate}"), "more than 0", help);
        }
    }
}
