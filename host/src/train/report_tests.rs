//! What the report says, in both forms.

use super::tests::{made, quick};
use super::*;

fn report() -> Report {
    let mut training = made(600, 7);
    training.columns[0][9] = f64::NAN;
    training.names[1] = "bytes<&>".into();
    let mut validation = made(300, 8);
    validation.names[1] = "bytes<&>".into();
    let options = Options { name: "a \"model\"".into(), epochs: 3, least_steps: 1, max_rows: 500, ..quick() };
    train(&training, &validation, &options, &mut |_| ()).expect("trains").report
}

#[test]
fn the_page_needs_nothing_else_and_takes_no_markup_from_names() {
    let mut report = report();
    report.mark(0.1, 3.0, 1.5);
    let html = report.to_html();
    for foreign in ["<script", "http:", "https:", "url(", "@import", "src=", "bytes<&>", "a \"model\""] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert_eq!(html.matches("<svg").count(), 4);
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    assert_eq!(html.matches("<section").count(), html.matches("</section>").count());
    for told in ["bytes&lt;&amp;&gt;", "a &quot;model&quot;", "icmp_share", "0.1/day", "kept"] {
        assert!(html.contains(told), "{told}");
    }
    assert!(!html.contains("NaN") && !html.contains(">inf"), "a number went wrong");
}

#[test]
fn the_text_has_every_run_and_feature_and_what_to_look_at() {
    let mut report = report();
    report.mark(1.0, 3.0, 1.5);
    let text = report.to_text();
    for f in &report.features {
        assert!(text.contains(&f.name), "{text}");
    }
    assert_eq!(text.matches("  kept").count(), 1);
    assert!(text.contains("limits of the mean squared error: 3 at 1/day"), "{text}");
    assert!(text.contains("note: 1 training rows were left out"), "{text}");
    assert!(text.contains("note: training rows were thinned to 500 of 599"), "{text}");
    assert!(text.contains("constant in training, so that any other value stands out: icmp_share"), "{text}");
}

#[test]
fn the_report_survives_json() {
    let report = report();
    let text = serde_json::to_string(&report).expect("writes");
    let back: Report = serde_json::from_str(&text).expect("reads");
    assert_eq!(back.features.len(), report.features.len());
    assert_eq!(back.runs.len(), report.runs.len());
    assert_eq!(back.to_text(), report.to_text());
}

#[test]
fn histograms_count_every_finite_value_once() {
    let values = [0.0, 1e-6, 0.5, 0.5, 2.0, f32::NAN, f32::INFINITY];
    let h = Histogram::new("t", "x", true, &values);
    assert_eq!(h.counts.iter().sum::<u64>(), 5);
    assert_eq!((h.counts[0], *h.counts.last().expect("bins")), (2, 1));
    let flat = Histogram::new("t", "x", false, &[3.0; 7]);
    assert_eq!(flat.counts[0], 7);
    assert_eq!(Histogram::new("t", "x", true, &[]).counts.iter().sum::<u64>(), 0);
}

#[test]
fn shares_of_the_error_add_up() {
    let report = report();
    assert!((report.features.iter().map(|f| f.share).sum::<f64>() - 1.0).abs() < 1e-9);
    assert!(report.features.iter().all(|f| f.worst >= f.error));
}
