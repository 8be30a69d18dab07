//! One HTML page that needs nothing else: per detector its precision-recall curve, ROC curve, the scores of attacks
//! against benign rows, and the scores over time with events and alarms. Comes in: a report; goes out: text.

use super::metrics::{Label, Row, curve, span};
use super::rank::Point;
use super::report::{Evaluation, Report, number, ratio};
use crate::model::time::rfc3339;
use std::fmt::Write as _;

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;max-width:980px;margin:24px auto;padding:0 16px;color:#222}\
h2{margin:32px 0 4px}p{margin:4px 0}.row{display:flex;flex-wrap:wrap;gap:12px}svg{background:#fff}\
svg text{font:11px system-ui,sans-serif;fill:#555}.title{font-weight:600;fill:#222}.grid{stroke:#e4e4e4}\
.line{fill:none;stroke:#2b6cb0;stroke-width:1.8}.benign{fill:#8a94a3}.attack{fill:#c53030}.false{fill:#dd6b20}\
.event{fill:#c53030;opacity:.13}.limit{stroke:#222;stroke-dasharray:4 3}.own{fill:#222}.ignored{fill:#d6bcfa}\
.key{display:inline-block;width:10px;height:10px;margin:0 4px 0 12px}.warn{color:#9c4221}";

/// Points of a curve that are drawn: more cannot be seen.
const STEPS: usize = 600;
/// Columns of the timeline: of benign rows the highest and the lowest of each is drawn.
const COLUMNS: u64 = 900;

/// The page.
pub fn page(report: &Report) -> String {
    let mut out = format!("<!doctype html><meta charset=utf-8><title>kaminari evaluate</title><style>{STYLE}</style>");
    let (from, to) = (rfc3339(report.span.0), rfc3339(report.span.1));
    add(&mut out, format_args!("<h1>kaminari evaluate</h1><p>{from} to {to}</p>"));
    for warning in &report.warnings {
        add(&mut out, format_args!("<p class=warn>{}</p>", escape(warning)));
    }
    for detector in &report.detectors {
        section(&mut out, detector);
    }
    out
}

fn section(out: &mut String, d: &Evaluation) {
    let (s, m) = (&d.series, &d.metrics);
    let title = format!("{}, pipeline {}, by {}", s.detector, s.pipeline, s.entity_kind);
    add(out, format_args!("<h2>{}</h2>", escape(&title)));
    let figures = format!(
        "{} windows, {} of them attacks; precision {}, recall {}, F1 {}; {} of {} events; {} false alarms a day",
        m.rows,
        m.attacks,
        ratio(m.precision),
        ratio(m.recall),
        ratio(m.f1),
        m.events_found,
        m.events,
        number(m.false_alarms_per_day)
    );
    add(out, format_args!("<p>{figures}</p><div class=row>"));
    let ranking = curve(&s.rows);
    let (attacks, benign) = (ranking.attacks as f64, ranking.benign as f64);
    let own = Point { score: None, hits: m.hits as u64, false_alarms: (m.alerts - m.hits) as u64 };
    let recall = |p: &Point| p.hits as f64 / attacks;
    let precision = |p: &Point| p.hits as f64 / (p.hits + p.false_alarms).max(1) as f64;
    if ranking.attacks > 0 {
        let plot = Plot::new(470.0, 300.0, Scale::linear(0.0, 1.0), Scale::linear(0.0, 1.0));
        let title = format!("precision over recall, area {}", ratio(m.pr_auc));
        let points = thin(&ranking.points).map(|p| (recall(p), precision(p)));
        out.push_str(&plot.draw(&title, |svg| {
            plot.line(svg, points);
            plot.dot(svg, "own", recall(&own), precision(&own), 4.0, "the detector's own alerts");
        }));
    }
    if ranking.attacks > 0 && ranking.benign > 0 {
        // The left of a ROC curve is where detectors live: false alarm rates below one in a thousand.
        let plot = Plot::new(470.0, 300.0, Scale::log(0.5 / benign, 1.0), Scale::linear(0.0, 1.0));
        let rate = |p: &Point| (p.false_alarms as f64).max(0.5) / benign;
        let title = format!("ROC: recall over the false alarm rate, area {}", ratio(m.roc_auc));
        let points = thin(&ranking.points).map(|p| (rate(p), recall(p)));
        out.push_str(&plot.draw(&title, |svg| {
            plot.line(svg, points);
            plot.dot(svg, "own", rate(&own), recall(&own), 4.0, "the detector's own alerts");
        }));
    }
    out.push_str("</div>");
    if let Some(scores) = Scale::of(s.rows.iter().filter_map(|r| r.score)) {
        histogram(out, &s.rows, scores, s.threshold);
        timeline(out, d, scores);
    }
    legend(out);
}

fn legend(out: &mut String) {
    let keys = [
        ("#8a94a3", "benign"),
        ("#c53030", "attack"),
        ("#dd6b20", "false alarm"),
        ("#d6bcfa", "ignored"),
        ("#222", "the detector's own alerts, its threshold where all rows share one"),
    ];
    let keys = keys.map(|(colour, name)| format!("<span class=key style=\"background:{colour}\"></span>{name}"));
    add(out, format_args!("<p>{}</p>", keys.concat()));
}

fn histogram(out: &mut String, rows: &[Row], scores: Scale, threshold: Option<f64>) {
    const BINS: usize = 60;
    let mut counts = [[0u32; 2]; BINS];
    for (row, score) in rows.iter().filter(|r| r.label != Label::Ignored).filter_map(|r| Some((r, r.score?))) {
        if score.is_finite() {
            let bin = ((scores.place(score) * BINS as f64) as usize).min(BINS - 1);
            counts[bin][usize::from(row.label == Label::Attack)] += 1;
        }
    }
    let most = counts.iter().flatten().max().copied().unwrap_or(1).max(2);
    // From half a row: one row has a height too.
    let plot = Plot::new(952.0, 220.0, scores, Scale::log(0.5, f64::from(most)));
    out.push_str(&plot.draw("windows by score (logarithmic)", |svg| {
        let width = plot.width() / BINS as f64;
        for (bin, [benign, attack]) in counts.iter().enumerate() {
            for (count, class, part) in [(*benign, "benign", 0.0), (*attack, "attack", 0.5)] {
                if count > 0 {
                    let (x, top) = (LEFT + (bin as f64 + part) * width, plot.y(f64::from(count)));
                    let (w, h) = (width / 2.0 - 0.5, plot.bottom() - top);
                    let tip = format!("{count} {class}");
                    add(svg, format_args!("<rect class={class} x={x:.1} y={top:.1} width={w:.1} height={h:.1}><title>{tip}</title></rect>"));
                }
            }
        }
        if let Some(t) = threshold {
            let (x, low, high) = (plot.x(t), plot.bottom(), TOP);
            add(svg, format_args!("<line class=limit x1={x:.1} x2={x:.1} y1={low:.1} y2={high:.1} />"));
        }
    }));
}

fn timeline(out: &mut String, d: &Evaluation, scores: Scale) {
    let Some((from, to)) = span(&d.series.rows) else { return };
    let time = Scale { times: true, ..Scale::linear(from as f64, to as f64) };
    let plot = Plot::new(952.0, 300.0, time, scores);
    out.push_str(&plot.draw("scores over time", |svg| {
        for event in &d.events {
            let (left, right) = (plot.x(event.start_ns as f64), plot.x(event.end_ns as f64));
            let tip = escape(&format!("event {} {} {}", event.id, event.kind, event.entity));
            let (w, h) = ((right - left).max(1.5), plot.bottom() - TOP);
            add(
                svg,
                format_args!(
                    "<rect class=event x={left:.1} y={TOP} width={w:.1} height={h:.1}><title>{tip}</title></rect>"
                ),
            );
        }
        for row in drawn(&d.series.rows, (from, to)) {
            let Some(score) = row.score.filter(|s| s.is_finite()) else { continue };
            let (class, size) = match (row.label, row.alert) {
                (Label::Attack, _) => ("attack", 2.5),
                (Label::Benign, true) => ("false", 2.5),
                (Label::Benign, false) => ("benign", 1.0),
                (Label::Ignored, _) => ("ignored", 1.5),
            };
            let tip = if size > 2.0 {
                format!("{} {} score {score:.4}", row.entity, rfc3339(row.start_ns))
            } else {
                String::new()
            };
            plot.dot(svg, class, row.start_ns as f64, score, size, &tip);
        }
        if let Some(t) = d.series.threshold {
            let (y, right) = (plot.y(t), LEFT + plot.width());
            add(svg, format_args!("<line class=limit x1={LEFT} x2={right:.1} y1={y:.1} y2={y:.1} />"));
        }
    }));
}

/// Every attack and alert; of the others the extremes of each column. Attacks last, so that they lie on top.
fn drawn(rows: &[Row], (from, to): (u64, u64)) -> Vec<&Row> {
    let column =
        |r: &Row| (u128::from(r.start_ns - from) * u128::from(COLUMNS) / u128::from((to - from).max(1))) as usize;
    let mut extremes: Vec<Option<(&Row, &Row)>> = vec![None; COLUMNS as usize + 1];
    let (mut quiet, mut loud) = (Vec::new(), Vec::new());
    for row in rows.iter().filter(|r| r.score.is_some()) {
        if row.label == Label::Attack || (row.alert && row.label == Label::Benign) {
            loud.push(row);
        } else {
            let slot = &mut extremes[column(row)];
            let (low, high) = slot.unwrap_or((row, row));
            *slot =
                Some((if row.score < low.score { row } else { low }, if row.score > high.score { row } else { high }));
        }
    }
    quiet.extend(extremes.into_iter().flatten().flat_map(|(low, high)| [low, high]));
    loud.sort_by_key(|r| r.label == Label::Attack);
    quiet.into_iter().chain(loud).collect()
}

/// At most so many points, the last among them.
fn thin(points: &[Point]) -> impl Iterator<Item = &Point> {
    // By what changes the picture: one point per step of recall or of false alarms on a logarithmic scale.
    let attacks = points.last().map_or(1, |p| p.hits.max(1)) as f64;
    let cell = move |p: &Point| {
        let hits = (p.hits as f64 / attacks * STEPS as f64) as u64;
        (hits, ((p.false_alarms as f64 + 1.0).ln() * 40.0) as u64)
    };
    let ends = points.len().saturating_sub(1);
    let kept = (0..points.len()).filter(move |i| *i == 0 || *i == ends || cell(&points[*i]) != cell(&points[*i - 1]));
    kept.map(|i| &points[i])
}

/// Values to a place between 0 and 1.
#[derive(Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
    log: bool,
    times: bool,
}

impl Scale {
    fn linear(low: f64, high: f64) -> Self {
        Self { low, high: if high > low { high } else { low + 1.0 }, log: false, times: false }
    }

    fn log(low: f64, high: f64) -> Self {
        Self { low, high: if high > low { high } else { low * 10.0 }, log: true, times: false }
    }

    /// Of these values: logarithmic when they are positive and span more than three decades.
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let finite = values.filter(|v| v.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        (low <= high)
            .then(|| if low > 0.0 && high / low > 1e3 { Self::log(low, high) } else { Self::linear(low, high) })
    }

    fn place(&self, value: f64) -> f64 {
        let at = if self.log {
            (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        at.clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        if self.log {
            let (from, to) = (self.low.log10().ceil() as i32, self.high.log10().floor() as i32);
            let step = ((to - from) / 8).max(1) as usize;
            return (from..=to).step_by(step).map(|e| (10f64.powi(e), power(e))).collect();
        }
        let text = |v: f64| if self.times { clock(v) } else { short(v) };
        (0..=4).map(|i| self.low + (self.high - self.low) * f64::from(i) / 4.0).map(|v| (v, text(v))).collect()
    }
}

fn power(exponent: i32) -> String {
    if (-3..=4).contains(&exponent) { short(10f64.powi(exponent)) } else { format!("1e{exponent}") }
}

fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        a if (1e-3..1e5).contains(&a) => {
            let text = format!("{value:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => format!("{value:.1e}"),
    }
}

fn clock(ns: f64) -> String {
    let text = rfc3339(ns as u64);
    text.get(5..16).unwrap_or(&text).replace('T', " ")
}

const LEFT: f64 = 52.0;
const TOP: f64 = 26.0;
const RIGHT: f64 = 14.0;
const BELOW: f64 = 24.0;

/// A chart with two axes.
struct Plot {
    size: (f64, f64),
    across: Scale,
    up: Scale,
}

impl Plot {
    fn new(width: f64, height: f64, across: Scale, up: Scale) -> Self {
        Self { size: (width, height), across, up }
    }

    fn width(&self) -> f64 {
        self.size.0 - LEFT - RIGHT
    }

    fn bottom(&self) -> f64 {
        self.size.1 - BELOW
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.across.place(value) * self.width()
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom() - self.up.place(value) * (self.bottom() - TOP)
    }

    fn draw(&self, title: &str, content: impl FnOnce(&mut String)) -> String {
        let (w, h) = self.size;
        let mut svg = format!("<svg width={w} height={h} viewBox=\"0 0 {w} {h}\" role=img>");
        add(&mut svg, format_args!("<text class=title x={LEFT} y=15>{}</text>", escape(title)));
        for (value, text) in self.up.ticks() {
            let (y, right) = (self.y(value), LEFT + self.width());
            add(&mut svg, format_args!("<line class=grid x1={LEFT} x2={right:.1} y1={y:.1} y2={y:.1} />"));
            add(&mut svg, format_args!("<text x={} y={:.1} text-anchor=end>{text}</text>", LEFT - 6.0, y + 4.0));
        }
        for (value, text) in self.across.ticks() {
            let (x, bottom) = (self.x(value), self.bottom());
            add(&mut svg, format_args!("<line class=grid x1={x:.1} x2={x:.1} y1={TOP} y2={bottom:.1} />"));
            // The last one ends where the chart does.
            let anchor = if x > LEFT + self.width() - 30.0 { "end" } else { "middle" };
            add(&mut svg, format_args!("<text x={x:.1} y={:.1} text-anchor={anchor}>{text}</text>", bottom + 16.0));
        }
        content(&mut svg);
        svg + "</svg>"
    }

    fn line(&self, svg: &mut String, points: impl Iterator<Item = (f64, f64)>) {
        let points: Vec<String> = points.map(|(x, y)| format!("{:.1},{:.1}", self.x(x), self.y(y))).collect();
        add(svg, format_args!("<polyline class=line points=\"{}\" />", points.join(" ")));
    }

    fn dot(&self, svg: &mut String, class: &str, x: f64, y: f64, radius: f64, tip: &str) {
        let tip = if tip.is_empty() { String::new() } else { format!("<title>{}</title>", escape(tip)) };
        let (x, y) = (self.x(x), self.y(y));
        add(svg, format_args!("<circle class={class} cx={x:.1} cy={y:.1} r={radius}>{tip}</circle>"));
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn add(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes any text");
}

#[cfg(test)]
mod tests {
    use super::super::metrics::{Event, evaluate};
    use super::super::scores::Series;
    use super::*;

    fn report(rows: Vec<Row>) -> Report {
        let event = Event { id: "1".into(), kind: "a<b".into(), entity: "x".into(), start_ns: 0, end_ns: 1 << 40 };
        let events = if rows.iter().any(|r| r.label == Label::Attack) { vec![event] } else { Vec::new() };
        let metrics = evaluate(&rows, &events);
        let series = Series {
            pipeline: "p".into(),
            detector: "<ae>".into(),
            entity_kind: "dst_addr".into(),
            rows,
            threshold: Some(2.0),
        };
        Report { detectors: vec![Evaluation { series, events, metrics }], ..Default::default() }
    }

    fn row(n: u64, score: Option<f64>, label: Label, alert: bool) -> Row {
        let events = if label == Label::Attack { vec![0] } else { Vec::new() };
        Row { entity: "x".into(), start_ns: n << 36, end_ns: (n + 1) << 36, score, alert, label, events, scored: true }
    }

    fn count(text: &str, part: &str) -> usize {
        text.matches(part).count()
    }

    #[test]
    fn every_attack_and_alarm_is_drawn_and_text_is_escaped() {
        let mut rows: Vec<Row> = (0..5000).map(|n| row(n, Some(1e-3 * n as f64), Label::Benign, false)).collect();
        rows[7].alert = true;
        rows.extend((0..40).map(|n| row(n, Some(9.0), Label::Attack, true)));
        rows.push(row(3, None, Label::Attack, false));
        rows.push(row(4, Some(f64::INFINITY), Label::Benign, true));
        let html = page(&report(rows));
        assert_eq!(count(&html, "<svg"), 4);
        assert_eq!(count(&html, "<circle class=attack"), 40);
        assert_eq!(count(&html, "<circle class=false"), 1, "what is infinite has no place");
        assert!(count(&html, "<circle class=benign") <= 2 * COLUMNS as usize + 2);
        assert_eq!(count(&html, "<rect class=event"), 1);
        assert!(html.contains("&lt;ae&gt;") && html.contains("a&lt;b") && !html.contains("<ae>"));
        assert!(!html.contains("NaN") && !html.contains("inf"), "no place is no number");
        assert_eq!(count(&html, "http"), 0, "needs nothing from elsewhere");
    }

    #[test]
    fn without_attacks_or_scores_there_is_less_to_draw() {
        let html = page(&report((0..9).map(|n| row(n, Some(1.0), Label::Benign, false)).collect()));
        assert_eq!(count(&html, "<svg"), 2);
        let html = page(&report((0..9).map(|n| row(n, None, Label::Benign, false)).collect()));
        assert_eq!(count(&html, "<svg"), 0);
        assert_eq!(count(&page(&Report::default()), "<svg"), 0);
    }

    #[test]
    fn scales_place_their_ends_at_the_ends() {
        let scale = Scale::of([0.001, 10.0, f64::NAN].into_iter()).unwrap();
        assert!(scale.log);
        assert_eq!((scale.place(0.001), scale.place(10.0), scale.place(-1.0)), (0.0, 1.0, 0.0));
        assert_eq!(scale.ticks().len(), 5);
        let scale = Scale::of([-1.0, 3.0].into_iter()).unwrap();
        assert!(!scale.log && (scale.place(1.0) - 0.5).abs() < 1e-12);
        assert_eq!(Scale::of([2.0, 2.0].into_iter()).unwrap().place(2.0), 0.0);
        assert!(Scale::of(std::iter::empty()).is_none());
    }
}
