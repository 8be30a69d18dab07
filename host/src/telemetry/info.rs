//! Metrics that say in their labels what is in use: `kaminari_config_info{digest}` and its like. A recorder keeps every series it
//! has ever seen, so that each reload would leave one; here the whole set of a metric is replaced. Comes in: a metric's label
//! sets; goes out: the text of `/metrics` with them, each 1.

use super::catalogue::CATALOGUE;
use metrics_exporter_prometheus::PrometheusHandle;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

/// The labels of one series, in order.
pub type Labels = Vec<(&'static str, String)>;

static STORE: Mutex<BTreeMap<&'static str, Vec<Labels>>> = Mutex::new(BTreeMap::new());

/// From now on the metric has these series and no others. `name` is one of the catalogue that the recorder is never given.
pub fn set_info(name: &'static str, series: Vec<Labels>) {
    STORE.lock().unwrap_or_else(PoisonError::into_inner).insert(name, series);
}

/// What the recorder holds and what [`set_info`] set, as Prometheus text.
pub fn render(recorder: &PrometheusHandle) -> String {
    let mut text = recorder.render();
    tell(&STORE.lock().unwrap_or_else(PoisonError::into_inner), &mut text);
    text
}

fn tell(store: &BTreeMap<&'static str, Vec<Labels>>, text: &mut String) {
    for (name, series) in store.iter().filter(|(_, series)| !series.is_empty()) {
        let help = CATALOGUE.iter().find(|metric| metric.name == *name).map_or("", |metric| metric.help.trim());
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} gauge", escaped(help, false));
        for labels in series {
            let labels: Vec<String> =
                labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value, true))).collect();
            let _ = writeln!(text, "{name}{{{}}} 1", labels.join(","));
        }
        text.push('\n');
    }
}

/// As the exposition format asks for it; quotes only in values of labels.
fn escaped(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::CONFIG_INFO;
    use super::*;
    use metrics_exporter_prometheus::PrometheusBuilder;

    #[test]
    fn a_new_set_leaves_nothing_of_the_old_one() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || metrics::gauge!("other").set(2.0));
        let info = |text: &str| -> Vec<String> {
            text.lines().filter(|line| line.contains(CONFIG_INFO)).map(str::to_owned).collect()
        };
        set_info(CONFIG_INFO, vec![vec![("digest", "sha256:1".into())]]);
        set_info(CONFIG_INFO, vec![vec![("digest", "sha256:2".into())], vec![("digest", "a\"b\\c\nd".into())]]);
        let text = render(&recorder.handle());
        assert!(text.contains("other 2"), "{text}");
        let told = info(&text);
        assert_eq!(told[1], "# TYPE kaminari_config_info gauge");
        assert!(told[0].starts_with("# HELP kaminari_config_info ") && told[0].len() > 30, "{told:?}");
        assert_eq!(
            told[2..],
            [r#"kaminari_config_info{digest="sha256:2"} 1"#, r#"kaminari_config_info{digest="a\"b\\c\nd"} 1"#]
        );
        set_info(CONFIG_INFO, Vec::new());
        assert_eq!(info(&render(&recorder.handle())), Vec::<String>::new());
    }
}
