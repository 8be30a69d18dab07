//! How the shadows of a running engine compare with what is live, for a person who is to promote one. In: the answer of
//! `/api/v1/shadow`; out: text.

use serde_json::Value;
use std::fmt::Write;

/// Incidents of each kind that a person is shown.
const SHOWN: usize = 10;

/// True when some shadow and its pipeline do not agree on an incident.
pub(super) fn differ(all: &Value) -> bool {
    let unmatched = |report: &Value, side: &str| report[side]["unmatched"].as_u64().unwrap_or(0) > 0;
    all.as_array().is_some_and(|all| all.iter().any(|r| unmatched(r, "live") || unmatched(r, "shadow")))
}

/// One block for each pipeline that has a shadow.
pub(super) fn as_text(all: &Value) -> String {
    let all = all.as_array().map(Vec::as_slice).unwrap_or_default();
    if all.is_empty() {
        return "no pipeline has a shadow (`[pipelines.NAME.shadow]`)\n".into();
    }
    all.iter().map(one).collect()
}

fn one(report: &Value) -> String {
    let count = |side: &str, what: &str| report[side][what].as_u64().unwrap_or(0);
    let mut out = String::new();
    let agreement = report["agreement"].as_f64();
    let agreement = agreement.map_or("nothing is decided yet".into(), |share| format!("{:.1} % agree", share * 100.0));
    // A String takes any text.
    let _ = writeln!(
        out,
        "{}: {agreement}; {} windows since {}",
        report["pipeline"].as_str().unwrap_or_default(),
        report["windows"],
        report["since"].as_str().unwrap_or("now"),
    );
    for (side, alone) in [("live", "missing in the shadow"), ("shadow", "extra")] {
        let _ = writeln!(
            out,
            "  {side:<7} {} incidents: {} matched, {} {alone}, {} too new to say",
            count(side, "opened"),
            count(side, "matched"),
            count(side, "unmatched"),
            count(side, "undecided") + count(side, "uncompared"),
        );
    }
    let rows = &report["rows"];
    let _ = writeln!(
        out,
        "  rows    alerted by both {}, live alone {}, shadow alone {}",
        rows["both"], rows["live_only"], rows["shadow_only"]
    );
    for (list, sign) in [("extra", '+'), ("missing", '-')] {
        let incidents = report[list].as_array().map(Vec::as_slice).unwrap_or_default();
        for incident in incidents.iter().take(SHOWN) {
            let text = |key: &str| incident[key].as_str().unwrap_or_default();
            let entity = &incident["entity"];
            let _ = writeln!(
                out,
                "  {sign} {} {} {} {} (score {}, limit {}) from {}",
                text("severity"),
                entity["kind"].as_str().unwrap_or_default(),
                entity["value"].as_str().unwrap_or_default(),
                text("kind"),
                incident["score"],
                incident["threshold"],
                text("opened_at"),
            );
        }
        if incidents.len() > SHOWN {
            let _ = writeln!(out, "  {sign} and {} more (`--format json`)", incidents.len() - SHOWN);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_person_needs_to_promote() {
        let side = |unmatched: u64| json!({"opened": 2, "matched": 1, "unmatched": unmatched, "undecided": 0, "uncompared": 0});
        let extra = json!({"entity": {"kind": "dst_addr", "value": "192.0.2.1"}, "kind": "flood", "severity": "high",
            "score": 3.5, "threshold": 1.0, "opened_at": "2026-01-01T00:00:00Z"});
        let report = json!([{"pipeline": "ddos", "since": "2026-01-01T00:00:00Z", "windows": 60, "agreement": 0.75,
            "live": side(0), "shadow": side(1), "rows": {"both": 5, "live_only": 0, "shadow_only": 7},
            "extra": [extra], "missing": []}]);
        let text = as_text(&report);
        for part in
            ["ddos: 75.0 % agree; 60 windows", "1 extra", "+ high dst_addr 192.0.2.1 flood (score 3.5, limit 1.0)"]
        {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(differ(&report) && !differ(&json!([])));
        assert!(as_text(&json!([])).contains("no pipeline has a shadow"));
    }
}
