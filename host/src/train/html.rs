//! The report as one HTML page that needs nothing else: no script, no font, no picture to fetch.

use super::chart::{self, AMBER, BLUE, INK, MUTED, escape, number};
use super::report::{Data, Report};
use super::text::{grouped, span, transform};
use crate::model::time::rfc3339;
use std::fmt::Write;

const STYLE: &str = "
*{box-sizing:border-box}
body{margin:0;background:#f4f6f9;color:#1f2733;font:15px/1.5 system-ui,'Segoe UI','DejaVu Sans',sans-serif;
 -webkit-print-color-adjust:exact;print-color-adjust:exact}
main{max-width:1060px;margin:0 auto;padding:36px 28px 60px}
h1{font-size:27px;line-height:1.2;margin:0;letter-spacing:-.01em}
h1 small{font-weight:400;font-size:16px;color:#66707f;margin-left:8px}
header p{margin:6px 0 22px;color:#66707f}
h2{font-size:17px;margin:0 0 4px}
section{background:#fff;border:1px solid #e2e6ec;border-radius:10px;padding:20px 22px;margin:0 0 18px;break-inside:avoid}
section>p{margin:0 0 14px;color:#66707f;max-width:78ch}
.cards{display:grid;grid-template-columns:repeat(4,1fr);gap:14px;margin:0 0 18px}
.card{background:#fff;border:1px solid #e2e6ec;border-radius:10px;padding:14px 16px}
.card b{display:block;overflow-wrap:anywhere;font-size:22px;line-height:1.25;font-variant-numeric:tabular-nums}
.card span{color:#66707f;font-size:13px}
.notes{border-left:4px solid #d97706}
.notes ul{margin:6px 0 0;padding-left:20px}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:18px}
.pair h3{font-size:14px;margin:0 0 2px}
svg{display:block;width:100%;height:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th{text-align:right;font-weight:600;color:#66707f;font-size:12.5px;padding:6px 10px;border-bottom:1px solid #d5dae2;vertical-align:bottom}
td{text-align:right;padding:5px 10px;border-bottom:1px solid #eef1f5}
th:first-child,td:first-child{text-align:left;padding-left:0}
tr:last-child td{border-bottom:0}
tr.kept td{font-weight:600;background:#eff5ff}
.left{text-align:left}
.tag{font-weight:400;font-size:12px;color:#b45309;background:#fef3e2;border-radius:4px;padding:1px 6px;margin-left:6px}
.tag.blue{color:#1f5fcc;background:#e3eeff}
.bar{display:inline-block;vertical-align:middle;width:110px;height:9px;border-radius:3px;background:#eef1f5;margin-right:8px}
.bar i{display:block;height:9px;border-radius:3px}
footer{color:#66707f;font-size:13px}
@media(max-width:760px){.cards,.pair{grid-template-columns:1fr 1fr}.pair{grid-template-columns:1fr}section{overflow-x:auto}}
@media print{body{background:#fff;font-size:12px}main{padding:0;max-width:none}section,.card{border-color:#cfd5de}
 @page{margin:14mm}}
";

impl Report {
    /// One self-contained page.
    pub fn to_html(&self) -> String {
        let mut out = String::with_capacity(64 * 1024);
        let name = escape(&self.name);
        let _ = write!(
            out,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width,initial-scale=1\"><title>{name}: training report</title><style>{STYLE}</style></head>\
             <body><main><header><h1>{name}<small>{}</small></h1><p>Training report &middot; {}{}</p></header>",
            escape(&self.version),
            escape(&self.architecture()),
            self.input.as_ref().map(|i| format!(" &middot; {}", escape(i))).unwrap_or_default()
        );
        self.cards(&mut out);
        self.notes(&mut out);
        self.data(&mut out);
        self.learning(&mut out);
        self.errors(&mut out);
        self.feature_tables(&mut out);
        let _ = writeln!(out, "<footer>Made by {}. Times are UTC.</footer></main></body></html>", escape(&self.tool));
        out
    }

    fn cards(&self, out: &mut String) {
        let kept = &self.runs[self.best];
        let dims: Vec<String> = self.dims.iter().map(ToString::to_string).collect();
        let cards = [
            (grouped(self.training.rows), format!("rows learnt from, {}", span(&self.training))),
            (grouped(self.validation.rows), format!("rows held back, {}", span(&self.validation))),
            (number(kept.best().validation), "validation loss of the kept run".into()),
            (dims.join("-"), format!("network; {} seeds", self.runs.len())),
        ];
        out.push_str("<div class=\"cards\">");
        for (value, what) in cards {
            let _ = write!(out, "<div class=\"card\"><b>{value}</b><span>{what}</span></div>");
        }
        out.push_str("</div>");
    }

    fn notes(&self, out: &mut String) {
        let remarks = self.remarks();
        if remarks.is_empty() {
            return;
        }
        out.push_str("<section class=\"notes\"><h2>To look at</h2><ul>");
        for remark in remarks {
            let _ = write!(out, "<li>{}</li>", escape(&remark));
        }
        out.push_str("</ul></section>");
    }

    fn data(&self, out: &mut String) {
        out.push_str(
            "<section><h2>Data</h2><p>A row is one entity in one window. The validation rows come after the training rows in \
             time and are never learnt from.</p><table><tr><th></th><th>rows used</th><th>rows usable</th>\
             <th>left out, not finite</th><th>first window end</th><th>last window end</th><th>span</th></tr>",
        );
        let mut row = |which: &str, d: &Data| {
            let (used, usable, left_out) = (grouped(d.rows), grouped(d.usable), grouped(d.left_out));
            let (from, to, span) = (rfc3339(d.from_ns), rfc3339(d.to_ns), span(d));
            let _ = write!(
                out,
                "<tr><td>{which}</td><td>{used}</td><td>{usable}</td><td>{left_out}</td><td>{from}</td><td>{to}</td><td>{span}</td></tr>"
            );
        };
        row("training", &self.training);
        row("validation", &self.validation);
        out.push_str("</table></section>");
    }

    fn learning(&self, out: &mut String) {
        let _ = write!(
            out,
            "<section><h2>Learning</h2><p>Mean squared error of the prepared features after each epoch, one run per seed. \
             The kept run is the one with the lowest validation loss (dot). Curves that part say that the later traffic \
             differs from what was learnt.</p>{}<table><tr><th>seed</th><th>epochs</th><th>best epoch</th>\
             <th>training loss</th><th>validation loss</th><th></th></tr>",
            chart::losses(self)
        );
        for (k, run) in self.runs.iter().enumerate() {
            let best = run.best();
            let class = if k == self.best { " class=\"kept\"" } else { "" };
            let mut tags = String::new();
            if k == self.best {
                tags.push_str("<span class=\"tag blue\">kept</span>");
            }
            if run.stopped_early {
                tags.push_str("<span class=\"tag\">stopped early</span>");
            }
            let _ = write!(
                out,
                "<tr{class}><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"left\">{tags}</td></tr>",
                run.seed,
                run.epochs.len(),
                run.best + 1,
                number(best.training),
                number(best.validation)
            );
        }
        out.push_str("</table></section>");
    }

    fn errors(&self, out: &mut String) {
        let limits = if self.histograms.iter().any(|h| !h.marks.is_empty()) {
            " Dashed lines are limits: expected false alarms a day over all entities."
        } else {
            ""
        };
        let _ = write!(
            out,
            "<section><h2>Errors of benign rows</h2><p>How well the validation rows are reconstructed. Both axes are \
             logarithmic, so single rows in the tail are seen.{limits}</p><div class=\"pair\">"
        );
        for h in &self.histograms {
            let _ = write!(out, "<div><h3>{}</h3>{}</div>", escape(&h.title), chart::histogram(h));
        }
        out.push_str("</div></section>");
    }

    fn feature_tables(&self, out: &mut String) {
        let _ = write!(
            out,
            "<section><h2>Scales</h2><p>Where the training values lie once prepared: bar from 1&nbsp;% to 99&nbsp;%, line from \
             least to most, notch at the median. <span style=\"color:{BLUE}\">Blue</span>: the scale is the feature's own \
             standard deviation. <span style=\"color:{AMBER}\">Amber</span>: it moves so little that a floor took its place. \
             Values beyond &plusmn;{} are clipped.</p>{}</section>",
            self.features.first().map_or_else(String::new, |f| number(f.clip)),
            chart::scales(self)
        );
        let _ = write!(
            out,
            "<section><h2>Features</h2><p>Center and scale are in transformed units. Errors are of the validation rows, in \
             scales squared; the share is the feature's part in the error of all features.</p><table><tr><th>feature</th>\
             <th class=\"left\">transform</th><th>center</th><th>scale</th><th>deviation</th><th>clipped</th>\
             <th class=\"left\">share of the error</th><th>mean error</th><th>worst error</th></tr>"
        );
        let most = self.features.iter().map(|f| f.share).fold(1e-9, f64::max);
        for f in &self.features {
            let (tag, colour) = if f.floored() { ("<span class=\"tag\">floor</span>", AMBER) } else { ("", BLUE) };
            let ink = if f.clipped > 0.0 { INK } else { MUTED };
            let _ = write!(
                out,
                "<tr><td>{}</td><td class=\"left\">{}</td><td>{}</td><td>{}{tag}</td><td>{}</td>\
                 <td style=\"color:{ink}\">{}&nbsp;%</td><td class=\"left\"><span class=\"bar\"><i style=\"width:{:.0}%;\
                 background:{colour}\"></i></span>{:.1}&nbsp;%</td><td>{}</td><td>{}</td></tr>",
                escape(&f.name),
                transform(f.transform),
                number(f.center),
                number(f.scale),
                number(f.seen.deviation),
                number(f.clipped * 100.0),
                f.share / most * 100.0,
                f.share * 100.0,
                number(f.error),
                number(f.worst)
            );
        }
        out.push_str("</table></section>");
    }
}
