//! A candidate runs beside what is live, on the same windows, and is promoted with what it has learned.

use super::{Config, Engine, Exporter, wait_for};
use kaminari_tests::run;

#[test]
fn a_shadow_is_compared_and_promoted() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::limit(50_000.0);
    // The candidate's limit is one that the traffic of the other host reaches, too.
    config.detectors += "\n[detectors.candidate]\nplugin = \"threshold\"\n\
        config = { limits = [ { name = \"packet-flood\", feature = \"packets_per_s\", above = 5000.0 } ] }";
    config.pipeline += "\n[pipelines.ddos.shadow]\ndetectors = [\"candidate\"]";
    let engine = Engine::start(dir.path(), &config.text(), &[]);
    let to = engine.listens("edge");
    let _attack = Exporter::start(to, 3_000, 100, Some([198, 18, 7, 7]));
    let _busy = Exporter::start(to, 600, 20, Some([198, 18, 9, 9]));
    let report = wait_for("an incident of both and one of the shadow alone", || {
        let report = engine.ask("GET", "/api/v1/shadow").1[0].clone();
        (report["shadow"]["unmatched"] == 1 && report["shadow"]["matched"] == 1).then_some(report)
    });
    assert_eq!(report["pipeline"], "ddos");
    assert_eq!(report["live"]["matched"], 1, "{report:#}");
    assert_eq!(report["extra"][0]["entity"]["value"], "198.18.9.9", "{report:#}");
    assert_eq!(report["missing"].as_array().unwrap().len(), 0, "{report:#}");
    assert!(report["rows"]["both"].as_u64().unwrap() > 0 && report["rows"]["shadow_only"].as_u64().unwrap() > 0);
    let opens = || engine.events().into_iter().filter(|e| e["event"] == "open").collect::<Vec<_>>();
    wait_for("the one that is told", || opens().pop());
    assert_eq!(opens().len(), 1, "nobody is told what a shadow finds: {:#?}", engine.events());

    // As an operator asks.
    let url = format!("http://{}", engine.api);
    let out = run(["diff", "--live", "--url", &url]);
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("ddos") && text.contains("198.18.9.9"), "{text}{}", String::from_utf8_lossy(&out.stderr));

    // Promoted.
    let mut promoted = config.clone();
    promoted.pipeline = promoted.pipeline.replace("\n[pipelines.ddos.shadow]\ndetectors = [\"candidate\"]", "");
    promoted.names = "\"candidate\"";
    let limits = promoted.detectors.find("[detectors.candidate]").unwrap();
    promoted.detectors.replace_range(..limits, "");
    engine.becomes(&promoted.text());
    let second =
        wait_for("what it finds, told now", || opens().into_iter().find(|e| e["entity"]["value"] == "198.18.9.9"));
    assert_eq!(second["plan_digest"], engine.digest());
    assert_eq!(opens().len(), 2, "the attack goes on as the same incident");
    assert_eq!(engine.ask("GET", "/api/v1/shadow").1.as_array().unwrap().len(), 0);
}
