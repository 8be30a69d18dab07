//! Charts as inline SVG: no script, no style sheet, nothing to fetch.

use super::report::{Histogram, Report};
use std::fmt::Write;

pub(super) const INK: &str = "#1f2733";
pub(super) const MUTED: &str = "#66707f";
pub(super) const BLUE: &str = "#1f6feb";
pub(super) const AMBER: &str = "#d97706";
const GRID: &str = "#e7eaf0";
const AXIS: &str = "#aab2bf";
const PALE: &str = "#b7c3d4";
const RED: &str = "#c62f3b";

/// A number as people write it: three digits that count, and powers of ten only where needed.
pub(super) fn number(x: f64) -> String {
    let size = x.abs();
    if x == 0.0 || !x.is_finite() {
        return format!("{x}");
    }
    if !(1e-4..1e6).contains(&size) {
        return format!("{x:.2e}");
    }
    let decimals = (2 - size.log10().floor() as i32).max(0) as usize;
    let text = format!("{x:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Linear,
    Log,
    /// Linear around 0, logarithmic far from it, on both sides.
    Both,
}

/// Values to pixels along one direction.
struct Scale {
    kind: Kind,
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Scale {
    fn at(&self, x: f64) -> f64 {
        let of = |x: f64| match self.kind {
            Kind::Linear => x,
            Kind::Log => x.max(f64::MIN_POSITIVE).log10(),
            Kind::Both => x.asinh(),
        };
        let part = (of(x) - of(self.from)) / (of(self.to) - of(self.from));
        self.start + part * (self.end - self.start)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.kind == Kind::Both {
            let ticks = [-100.0, -30.0, -10.0, -3.0, -1.0, 0.0, 1.0, 3.0, 10.0, 30.0, 100.0];
            return ticks.into_iter().filter(|x| *x >= self.from && *x <= self.to).collect();
        }
        if self.kind == Kind::Log {
            let decades = self.to.log10() - self.from.log10();
            let parts: &[f64] = match decades {
                d if d < 1.5 => &[1.0, 2.0, 3.0, 5.0, 7.0],
                d if d < 3.0 => &[1.0, 2.0, 5.0],
                _ => &[1.0],
            };
            let powers = self.from.log10().floor() as i32..=self.to.log10().ceil() as i32;
            let every = (decades / 8.0).ceil().max(1.0) as i32;
            let ticks = powers.filter(|p| p % every == 0).flat_map(|p| parts.iter().map(move |m| m * 10f64.powi(p)));
            return ticks.filter(|x| *x >= self.from * 0.999 && *x <= self.to * 1.001).collect();
        }
        let rough = (self.to - self.from) / 6.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough).unwrap_or(power * 10.0);
        let first = (self.from / step).ceil() as i64;
        let last = (self.to / step + 1e-9).floor() as i64;
        (first..=last).map(|k| k as f64 * step).collect()
    }
}

/// A frame with both axes.
struct Plot {
    svg: String,
    x: Scale,
    y: Scale,
}

impl Plot {
    fn new(width: f64, height: f64, left: f64, mut x: Scale, mut y: Scale, labels: (&str, &str), title: &str) -> Self {
        (x.start, x.end) = (left, width - 14.0);
        (y.start, y.end) = (height - 44.0, 14.0);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\" \
             font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"11\" fill=\"{MUTED}\">",
            escape(title)
        );
        for t in x.ticks() {
            let at = x.at(t);
            line(&mut svg, (at, y.start), (at, y.end), GRID, 1.0, "");
            text(&mut svg, (at, y.start + 16.0), "middle", MUTED, &number(t));
        }
        if !labels.1.is_empty() {
            for t in y.ticks() {
                let at = y.at(t);
                line(&mut svg, (x.start, at), (x.end, at), GRID, 1.0, "");
                text(&mut svg, (x.start - 7.0, at + 4.0), "end", MUTED, &number(t));
            }
            let middle = (y.start + y.end) / 2.0;
            let _ = write!(
                svg,
                "<text transform=\"translate(13 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
                escape(labels.1)
            );
        }
        line(&mut svg, (x.start, y.start), (x.end, y.start), AXIS, 1.0, "");
        text(&mut svg, ((x.start + x.end) / 2.0, height - 8.0), "middle", MUTED, labels.0);
        Self { svg, x, y }
    }

    fn curve(&mut self, points: &[(f64, f64)], colour: &str, width: f64, dash: &str) {
        let _ = write!(
            self.svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linejoin=\"round\""
        );
        if !dash.is_empty() {
            let _ = write!(self.svg, " stroke-dasharray=\"{dash}\"");
        }
        self.svg.push_str(" points=\"");
        for (x, y) in points {
            let _ = write!(self.svg, "{:.1},{:.1} ", self.x.at(*x), self.y.at(*y));
        }
        self.svg.push_str("\"/>");
    }

    fn end(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, width: f64, dash: &str) {
    let _ = write!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"",
        from.0, from.1, to.0, to.1
    );
    if !dash.is_empty() {
        let _ = write!(svg, " stroke-dasharray=\"{dash}\"");
    }
    svg.push_str("/>");
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, colour: &str, what: &str) {
    let (x, y) = at;
    let what = escape(what);
    let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{what}</text>");
}

fn scale(kind: Kind, from: f64, to: f64) -> Scale {
    Scale { kind, from, to, start: 0.0, end: 1.0 }
}

/// Text that may stand in HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Losses of every run, epoch by epoch: validation solid, training dashed, the kept run in blue.
pub(super) fn losses(report: &Report) -> String {
    let all = || report.runs.iter().flat_map(|r| &r.epochs).flat_map(|e| [e.training, e.validation]);
    let finite = || all().filter(|l| l.is_finite() && *l > 0.0);
    let (least, most) = finite().fold((f64::MAX, f64::MIN), |(a, b), l| (a.min(l), b.max(l)));
    let (least, most) = if least > most { (0.1, 1.0) } else { (least, most) };
    let longest = report.runs.iter().map(|r| r.epochs.len()).max().unwrap_or(1).max(2);
    let x = scale(Kind::Linear, 1.0, longest as f64);
    let y = scale(Kind::Log, least / 1.15, most * 1.15);
    let mut plot = Plot::new(960.0, 300.0, 64.0, x, y, ("epoch", "loss (scales squared)"), "Loss by epoch");
    let kept_last = (0..report.runs.len()).filter(|k| *k != report.best).chain([report.best]);
    for k in kept_last {
        let run = &report.runs[k];
        let (colour, width) = if k == report.best { (BLUE, 2.2) } else { (PALE, 1.4) };
        let points = |of: fn(&super::Epoch) -> f64| -> Vec<(f64, f64)> {
            let losses = run.epochs.iter().map(of).enumerate();
            losses.filter(|(_, l)| l.is_finite() && *l > 0.0).map(|(e, l)| (e as f64 + 1.0, l)).collect()
        };
        plot.curve(&points(|e| e.training), colour, 1.2, "4 3");
        plot.curve(&points(|e| e.validation), colour, width, "");
        if k == report.best {
            let (cx, cy) = (plot.x.at(run.best as f64 + 1.0), plot.y.at(run.best().validation));
            let _ = write!(
                plot.svg,
                "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"4.5\" fill=\"{BLUE}\" stroke=\"#fff\" stroke-width=\"1.5\"/>"
            );
        }
    }
    let right = plot.x.end;
    for (k, (colour, width, dash, what)) in [
        (BLUE, 2.2, "", "validation, kept run"),
        (BLUE, 1.2, "4 3", "training, kept run"),
        (PALE, 1.4, "", "other runs"),
    ]
    .into_iter()
    .enumerate()
    {
        let y = 26.0 + 17.0 * k as f64;
        line(&mut plot.svg, (right - 150.0, y - 4.0), (right - 124.0, y - 4.0), colour, width, dash);
        text(&mut plot.svg, (right - 118.0, y), "start", INK, what);
    }
    plot.end()
}

/// How often errors of a size occur, on a logarithmic count axis, so that the few in the tail are seen.
pub(super) fn histogram(h: &Histogram) -> String {
    let value = |x: f64| if h.log { 10f64.powf(x) } else { x };
    let end = h.start + h.step * h.counts.len() as f64;
    // Limits lie past the last row as often as not.
    let marks = || h.marks.iter().map(|m| m.at).filter(|x| x.is_finite() && (!h.log || *x > 0.0));
    let stretch = |x: f64| if h.log { x * 1.25 } else { x + (end - h.start) * 0.03 };
    let from = marks().fold(value(h.start), f64::min);
    let to = marks().map(stretch).fold(value(end), f64::max);
    let most = h.counts.iter().copied().max().unwrap_or(1).max(2) as f64;
    let (x, y) = (scale(if h.log { Kind::Log } else { Kind::Linear }, from, to), scale(Kind::Log, 0.7, most * 1.6));
    let mut plot = Plot::new(470.0, 290.0, 58.0, x, y, (&h.axis, "validation rows per bin"), &h.title);
    for (k, count) in h.counts.iter().enumerate().filter(|(_, c)| **c > 0) {
        let left = plot.x.at(value(h.start + h.step * k as f64));
        let right = plot.x.at(value(h.start + h.step * (k + 1) as f64));
        let top = plot.y.at(*count as f64);
        let (width, height) = ((right - left - 0.6).max(0.8), plot.y.start - top);
        let _ = write!(
            plot.svg,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{BLUE}\" fill-opacity=\"0.75\"/>"
        );
    }
    for (k, mark) in h.marks.iter().filter(|m| m.at.is_finite() && (!h.log || m.at > 0.0)).enumerate() {
        let at = plot.x.at(mark.at);
        line(&mut plot.svg, (at, plot.y.start), (at, plot.y.end), RED, 1.4, "5 3");
        let height = plot.y.end + 10.0 + 15.0 * k as f64;
        // White behind the label keeps it legible on bars.
        let _ = write!(
            plot.svg,
            "<text x=\"{:.1}\" y=\"{height:.1}\" text-anchor=\"end\" fill=\"{RED}\" stroke=\"#fff\" stroke-width=\"3\" paint-order=\"stroke\">{}</text>",
            at - 4.0,
            escape(&mark.label)
        );
    }
    plot.end()
}

/// Where each feature's training values lie once prepared: bar 1 % to 99 %, line least to most, notch the median.
pub(super) fn scales(report: &Report) -> String {
    let ends = report.features.iter().flat_map(|f| f.seen.quantiles.map(|q| (q - f.center) / f.scale));
    let reach = ends.map(f64::abs).fold(3.0, f64::max).min(report.features.first().map_or(50.0, |f| f.clip)) * 1.05;
    let row = 22.0;
    let height = row * report.features.len() as f64 + 58.0;
    let (x, y) = (scale(Kind::Both, -reach, reach), scale(Kind::Linear, report.features.len() as f64, 0.0));
    let axis = "prepared value: distance from the center, in scales";
    let mut plot = Plot::new(960.0, height, 172.0, x, y, (axis, ""), "Prepared values of each feature");
    let zero = plot.x.at(0.0);
    line(&mut plot.svg, (zero, plot.y.start), (zero, plot.y.end), AXIS, 1.0, "");
    for (k, f) in report.features.iter().enumerate() {
        let middle = plot.y.at(k as f64 + 0.5);
        let [least, low, median, high, most] =
            f.seen.quantiles.map(|q| plot.x.at(((q - f.center) / f.scale).clamp(-reach, reach)));
        let colour = if f.floored() { AMBER } else { BLUE };
        text(&mut plot.svg, (plot.x.start - 10.0, middle + 4.0), "end", INK, &f.name);
        line(&mut plot.svg, (least, middle), (most, middle), colour, 1.2, "");
        for end in [least, most] {
            line(&mut plot.svg, (end, middle - 3.0), (end, middle + 3.0), colour, 1.2, "");
        }
        let _ = write!(
            plot.svg,
            "<rect x=\"{low:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"11\" rx=\"2\" fill=\"{colour}\" fill-opacity=\"0.45\"/>",
            middle - 5.5,
            (high - low).max(1.5)
        );
        line(&mut plot.svg, (median, middle - 5.5), (median, middle + 5.5), colour, 2.2, "");
    }
    plot.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases =
            [(0.0, "0"), (1.0, "1"), (0.012_345, "0.0123"), (1234.56, "1235"), (0.000_01, "1.00e-5"), (-2.5, "-2.5")];
        for (x, want) in cases {
            assert_eq!(number(x), want);
        }
    }

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(scale(Kind::Linear, 0.0, 12.0).ticks(), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
        assert_eq!(scale(Kind::Log, 0.5, 2000.0).ticks(), [1.0, 10.0, 100.0, 1000.0]);
        let s = Scale { kind: Kind::Log, from: 1.0, to: 100.0, start: 0.0, end: 200.0 };
        assert!((s.at(10.0) - 100.0).abs() < 1e-9);
        let s = Scale { kind: Kind::Both, from: -5.0, to: 5.0, start: 0.0, end: 200.0 };
        assert_eq!(s.ticks(), [-3.0, -1.0, 0.0, 1.0, 3.0]);
        assert!((s.at(0.0) - 100.0).abs() < 1e-9);
    }
}
