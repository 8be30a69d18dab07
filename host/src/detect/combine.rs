//! Several detectors' opinions on one frame as one. Comes in: per member its tail scores (-log10 of how rare a benign
//! row would get that score) and its alerts; goes out: one verdict. Refused: nothing; a member without an opinion on a
//! row does not count there.
//!
//! The members are taken for independent, which they are not when they look at the same features: what `tail_sum` calls
//! one row in 10^6 may come more often. A tail fitted to the combined scores corrects that.

use crate::model::{Alert, Contribution, Verdict};
use std::f64::consts::LN_10;

/// When several detectors together alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// At least one member alerts.
    Any,
    /// Every member alerts; one without an opinion does not.
    All,
    /// At least so many members alert.
    KOfN(usize),
    /// The tails of all members with an opinion, together, are rarer than the limit: Fisher's method. Finds what no
    /// member alone is sure of.
    TailSum,
}

/// One detector and what it says about the frame.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Id in the config.
    pub detector: &'a str,
    /// -log10 tail probability per row (NaN: no opinion); empty: it has no tail.
    pub scores: &'a [f64],
    /// Its alerts, by row; of several on one row the first counts.
    pub alerts: &'a [Alert],
}

impl Rule {
    /// Combines what the members say about a frame of `rows` rows. `limit`: the -log10 tail probability above which
    /// `tail_sum` alerts, for the others what the score is compared with for strength.
    ///
    /// The score of a row is a -log10 tail probability: of the members with an opinion the highest (`any`), the lowest of
    /// all members (`all`), the k-th highest (`k_of_n`), or the tail probability of their sum (`tail_sum`). NaN where too
    /// few members have an opinion.
    pub fn combine(self, members: &[Member<'_>], rows: usize, limit: f64) -> Verdict {
        let mut alerts: Vec<Vec<Option<&Alert>>> = members.iter().map(|_| vec![None; rows]).collect();
        for (by_row, member) in alerts.iter_mut().zip(members) {
            for alert in member.alerts {
                if let Some(place) = by_row.get_mut(alert.row as usize) {
                    place.get_or_insert(alert);
                }
            }
        }
        let mut verdict = Verdict { scores: Vec::with_capacity(rows), alerts: Vec::new() };
        let mut opinions = Vec::with_capacity(members.len());
        for row in 0..rows {
            opinions.clear();
            opinions.extend(members.iter().zip(&alerts).map(|(member, by_row)| Opinion {
                detector: member.detector,
                tail: member.scores.get(row).copied().filter(|s| !s.is_nan()),
                alert: by_row[row],
            }));
            let score = self.score(&opinions);
            verdict.scores.push(score);
            if self.alerts(&opinions, score, limit) {
                verdict.alerts.push(self.alert(row as u32, &opinions, score, limit));
            }
        }
        verdict
    }

    /// Name as in the config.
    pub const fn name(self) -> &'static str {
        match self {
            Rule::Any => "any",
            Rule::All => "all",
            Rule::KOfN(_) => "k_of_n",
            Rule::TailSum => "tail_sum",
        }
    }

    fn score(self, opinions: &[Opinion<'_>]) -> f64 {
        let mut tails: Vec<f64> = opinions.iter().filter_map(|o| o.tail).collect();
        tails.sort_unstable_by(|a, b| b.total_cmp(a));
        let place = match self {
            Rule::Any => 1,
            Rule::All => opinions.len(),
            Rule::KOfN(k) => k,
            Rule::TailSum => return if tails.is_empty() { f64::NAN } else { fisher(tails.len(), tails.iter().sum()) },
        };
        place.checked_sub(1).and_then(|i| tails.get(i)).copied().unwrap_or(f64::NAN)
    }

    fn alerts(self, opinions: &[Opinion<'_>], score: f64, limit: f64) -> bool {
        let alerting = opinions.iter().filter(|o| o.alert.is_some()).count();
        match self {
            Rule::Any => alerting > 0,
            Rule::All => alerting == opinions.len() && alerting > 0,
            Rule::KOfN(k) => alerting >= k.max(1),
            Rule::TailSum => score > limit,
        }
    }

    fn alert(self, row: u32, opinions: &[Opinion<'_>], score: f64, limit: f64) -> Alert {
        let mut alerting: Vec<&Opinion<'_>> = opinions.iter().filter(|o| o.alert.is_some()).collect();
        // The strongest first; equals stay in the order of the config.
        alerting.sort_by(|a, b| b.strength(limit).total_cmp(&a.strength(limit)));
        let strongest = alerting.first().and_then(|o| o.alert);
        let severity = alerting.iter().filter_map(|o| o.alert).map(|alert| alert.severity).max();
        // Members that alert by limits of their own have no tail: then their strength says how far above the limit.
        let score = match score {
            s if !s.is_nan() => s,
            _ => alerting.first().map_or(limit, |o| o.strength(limit) * limit),
        };
        let mut attributes: Vec<(String, String)> = strongest.map(|a| a.attributes.clone()).unwrap_or_default();
        attributes.retain(|(name, _)| name != "detectors");
        let detectors: Vec<&str> = alerting.iter().map(|o| o.detector).collect();
        attributes.push(("detectors".into(), detectors.join(",")));
        Alert {
            row,
            kind: strongest.map_or("combined", |a| a.kind.as_str()).into(),
            severity: severity.unwrap_or(UNCERTAIN),
            score,
            threshold: limit,
            message: self.message(opinions, &alerting, score),
            contributions: contributions(&alerting, limit),
            attributes,
        }
    }

    /// "2 of 3 detectors: ae at 1 in 10^5.2, ewma at 1 in 10^3.1". Of a sum all members with an opinion are named.
    fn message(self, opinions: &[Opinion<'_>], alerting: &[&Opinion<'_>], score: f64) -> String {
        if self != Rule::TailSum {
            let named: Vec<String> = alerting.iter().map(|o| o.to_string()).collect();
            return format!("{} of {} detectors: {}", alerting.len(), opinions.len(), named.join(", "));
        }
        let mut with_tail: Vec<(f64, &Opinion<'_>)> = opinions.iter().filter_map(|o| Some((o.tail?, o))).collect();
        with_tail.sort_by(|a, b| b.0.total_cmp(&a.0));
        let named: Vec<String> = with_tail.iter().map(|(_, o)| o.to_string()).collect();
        format!("{} of {} detectors together at 1 in 10^{score:.1}: {}", named.len(), opinions.len(), named.join(", "))
    }
}

/// Severity where no member alerts, only their sum.
const UNCERTAIN: crate::model::Severity = crate::model::Severity::Low;

/// One member on one row.
#[derive(Clone, Copy)]
struct Opinion<'a> {
    detector: &'a str,
    tail: Option<f64>,
    alert: Option<&'a Alert>,
}

impl Opinion<'_> {
    /// How far above the limit, 1 being at it: by the tail where there is one, else by the alert's own threshold.
    fn strength(&self, limit: f64) -> f64 {
        let strength = match (self.tail, self.alert) {
            (Some(tail), _) => tail / limit,
            (None, Some(alert)) => alert.score / alert.threshold,
            (None, None) => 0.0,
        };
        // Whatever the numbers are, an alert is one.
        if strength.is_finite() && strength > 0.0 { strength } else { 1.0 }
    }
}

impl std::fmt::Display for Opinion<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.tail {
            Some(tail) => write!(f, "{} at 1 in 10^{tail:.1}", self.detector),
            None => write!(f, "{} by its own limits", self.detector),
        }
    }
}

/// Why the members alerted: each one's contributions at its share of the strength, one entry per feature, summing to 1.
/// Of a feature that several name the strongest member's expectation stands.
fn contributions(alerting: &[&Opinion<'_>], limit: f64) -> Vec<Contribution> {
    let mut merged: Vec<Contribution> = Vec::new();
    for opinion in alerting {
        let own = opinion.alert.map_or(&[][..], |alert| &alert.contributions);
        let counts = |weight: f64| if weight.is_finite() && weight > 0.0 { weight } else { 0.0 };
        let sum: f64 = own.iter().map(|c| counts(c.weight)).sum();
        if sum <= 0.0 {
            continue;
        }
        for contribution in own {
            let weight = counts(contribution.weight) / sum * opinion.strength(limit);
            match merged.iter_mut().find(|c| c.column == contribution.column) {
                Some(known) => known.weight += weight,
                None => merged.push(Contribution { weight, ..contribution.clone() }),
            }
        }
    }
    let total: f64 = merged.iter().map(|c| c.weight).sum();
    merged.iter_mut().for_each(|c| c.weight /= total);
    merged.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    merged
}

/// -log10 of the tail probability of a sum of `n` -log10 tail probabilities (Fisher 1932). -ln of a uniform number is
/// exponential, so their sum x is gamma distributed: Q(n, x) = exp(-x) * sum over k < n of x^k / k!. Exact where Q
/// underflows.
fn fisher(n: usize, sum_log10: f64) -> f64 {
    let x = (sum_log10 * LN_10).max(0.0);
    // By the logarithms of the terms: none overflows.
    let mut ln_terms = Vec::with_capacity(n);
    let mut ln_term = 0.0;
    for k in 0..n {
        if k > 0 {
            ln_term += (x / k as f64).ln();
        }
        ln_terms.push(ln_term);
    }
    let most = ln_terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let ln_sum = most + ln_terms.iter().map(|t| (t - most).exp()).sum::<f64>().ln();
    ((x - ln_sum) / LN_10).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Severity;

    const NO: f64 = f64::NAN;

    fn alert(row: u32, kind: &str, severity: Severity, contributions: &[(&str, f64, f64)]) -> Alert {
        let contribution = |&(column, weight, expected): &(&str, f64, f64)| Contribution {
            column: column.into(),
            weight,
            observed: 100.0,
            expected,
        };
        Alert {
            row,
            kind: kind.into(),
            severity,
            score: 8.0,
            threshold: 2.0,
            message: "too much".into(),
            contributions: contributions.iter().map(contribution).collect(),
            attributes: vec![("from".into(), kind.into())],
        }
    }

    fn rows_of(verdict: &Verdict) -> Vec<u32> {
        verdict.alerts.iter().map(|a| a.row).collect()
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6 || (a.is_nan() && b.is_nan())
    }

    /// Rows: nobody; ae alone; ae and ewma; all three; ae and ewma, the third without an opinion.
    fn three(rule: Rule) -> Verdict {
        let say = |rows: &[u32]| -> Vec<Alert> { rows.iter().map(|r| alert(*r, "odd", Severity::Low, &[])).collect() };
        let members = [
            Member { detector: "ae", scores: &[0.1, 6.0, 6.0, 9.0, 6.0], alerts: &say(&[1, 2, 3, 4]) },
            Member { detector: "ewma", scores: &[0.2, 0.3, 5.5, 8.0, 5.5], alerts: &say(&[2, 3, 4]) },
            Member { detector: "forest", scores: &[0.3, 0.2, 1.0, 7.0, NO], alerts: &say(&[3]) },
        ];
        rule.combine(&members, 5, 5.0)
    }

    #[test]
    fn any_all_and_k_of_n_count_members() {
        assert_eq!(rows_of(&three(Rule::Any)), [1, 2, 3, 4]);
        assert_eq!(three(Rule::Any).scores, [0.3, 6.0, 6.0, 9.0, 6.0]);
        assert_eq!(rows_of(&three(Rule::All)), [3]);
        let all = three(Rule::All).scores;
        assert_eq!(all[..4], [0.1, 0.2, 1.0, 7.0]);
        assert!(all[4].is_nan(), "a member without an opinion: {all:?}");
        assert_eq!(rows_of(&three(Rule::KOfN(2))), [2, 3, 4]);
        assert_eq!(three(Rule::KOfN(2)).scores, [0.2, 0.3, 5.5, 8.0, 5.5]);
        assert!(three(Rule::KOfN(4)).alerts.is_empty());
    }

    #[test]
    fn fisher_equals_values_worked_out_by_hand() {
        // One: unchanged.
        assert!(near(fisher(1, 3.7), 3.7));
        // Two at 10^-2: x = 4 ln 10 = 9.210340, Q = 10^-4 * (1 + 9.210340) = 1.0210340e-3.
        assert!(near(fisher(2, 4.0), 2.990960));
        // Three with a sum of 6: x = 13.815511, Q = 10^-6 * (1 + 13.815511 + 95.434167) = 1.10249678e-4.
        assert!(near(fisher(3, 6.0), 3.957623));
        assert_eq!(fisher(4, 0.0), 0.0);
        // Where Q is no longer a number: x = 4605.170, ln(1 + x) = 8.435152.
        assert!((fisher(2, 2000.0) - (2000.0 - 8.435152 / LN_10)).abs() < 1e-5);
        assert!(fisher(500, 1e9).is_finite());
    }

    #[test]
    fn tail_sum_finds_what_no_member_is_sure_of() {
        let members = [
            Member { detector: "ae", scores: &[4.0, 4.0, NO, 0.0], alerts: &[] },
            Member { detector: "ewma", scores: &[4.0, NO, NO, 0.0], alerts: &[] },
            Member { detector: "static", scores: &[], alerts: &[alert(1, "flood", Severity::High, &[])] },
        ];
        let verdict = Rule::TailSum.combine(&members, 4, 5.0);
        // x = 8 ln 10 = 18.420681, Q = 10^-8 * 19.420681: 8 - log10(19.420681) = 6.711735.
        assert!(near(verdict.scores[0], 6.711735) && near(verdict.scores[1], 4.0), "{:?}", verdict.scores);
        assert!(verdict.scores[2].is_nan() && verdict.scores[3] == 0.0, "{:?}", verdict.scores);
        assert_eq!(rows_of(&verdict), [0]);
        let found = &verdict.alerts[0];
        assert_eq!(found.kind, "combined");
        assert_eq!((found.score, found.threshold), (verdict.scores[0], 5.0));
        assert_eq!(found.message, "2 of 3 detectors together at 1 in 10^6.7: ae at 1 in 10^4.0, ewma at 1 in 10^4.0");
        assert!(found.contributions.is_empty());
    }

    #[test]
    fn an_alert_says_who_and_why() {
        let ae = [alert(0, "odd-mix", Severity::Medium, &[("syn_share", 3.0, 0.1), ("packets", 1.0, 50.0)])];
        let ewma = [alert(0, "surge", Severity::High, &[("packets", 0.5, 60.0)])];
        let members = [
            Member { detector: "ewma", scores: &[3.0], alerts: &ewma },
            Member { detector: "ae", scores: &[6.0], alerts: &ae },
            Member { detector: "forest", scores: &[0.5], alerts: &[] },
        ];
        let verdict = Rule::KOfN(2).combine(&members, 1, 2.0);
        let [found] = &verdict.alerts[..] else { panic!("{verdict:?}") };
        assert_eq!((found.kind.as_str(), found.severity, found.score), ("odd-mix", Severity::High, 3.0));
        assert_eq!(found.message, "2 of 3 detectors: ae at 1 in 10^6.0, ewma at 1 in 10^3.0");
        // ae has 2/3 of the strength, and three quarters of that are the SYN share: 1/2; packets 1/6 + 1/3.
        let parts: Vec<(&str, f64)> = found.contributions.iter().map(|c| (c.column.as_str(), c.weight)).collect();
        assert_eq!(parts.len(), 2);
        assert!(parts.iter().all(|(_, weight)| near(*weight, 0.5)), "{parts:?}");
        let packets = found.contributions.iter().find(|c| c.column == "packets").map(|c| c.expected);
        assert_eq!(packets, Some(50.0), "the strongest member's expectation");
        assert_eq!(found.attributes, [("from".into(), "odd-mix".into()), ("detectors".into(), "ae,ewma".to_owned())]);
    }

    #[test]
    fn members_without_tails_count_by_their_alerts() {
        let alerts = [alert(1, "flood", Severity::High, &[("packets", NO, 1.0)])];
        let members = [Member { detector: "static", scores: &[], alerts: &alerts }];
        let verdict = Rule::Any.combine(&members, 2, 5.0);
        assert!(verdict.scores.iter().all(|s| s.is_nan()));
        let [found] = &verdict.alerts[..] else { panic!("{verdict:?}") };
        // Four times its own threshold.
        assert_eq!((found.row, found.score), (1, 20.0));
        assert_eq!(found.message, "1 of 1 detectors: static by its own limits");
        assert!(found.contributions.is_empty(), "a weight that is no number");
    }

    #[test]
    fn nothing_comes_of_nothing() {
        for rule in [Rule::Any, Rule::All, Rule::KOfN(0), Rule::TailSum] {
            assert_eq!(rule.combine(&[], 0, 5.0), Verdict::default());
            let verdict = rule.combine(&[], 1, 5.0);
            assert!(verdict.scores[0].is_nan() && verdict.alerts.is_empty(), "{rule:?}");
        }
    }
}
