//! Pipelines over several sources in one process: adding, changing and removing one leaves no gap in the windows of another.

use super::{Config, Engine, Exporter, counted, wait_for};
use kaminari_tests::plugin;

#[test]
fn a_neighbour_has_every_window_while_others_come_change_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::limit(50_000.0);
    config.more = "[sources.other]\ntype = \"udp\"\nlisten = \"127.0.0.1:0\"\nreceive_buffer_bytes = 33554432\n\
                   [pipelines.neighbour]\nsources = [\"other\"]\nkeys = [\"dst_addr\"]\nfeatures = [\"packets_per_s\"]\n\
                   window = { type = \"tumbling\", size_secs = 1 }\ndetectors = [\"limits\"]\nsinks = [\"file\"]\n\
                   incident = { open_after = \"1/1\" }"
        .into();
    let engine = Engine::start(dir.path(), &config.text(), &[]);
    let of_ddos = Exporter::start(engine.listens("edge"), 3_000, 1, None);
    let of_neighbour = Exporter::start(engine.listens("other"), 3_000, 1, None);
    let begun = std::time::Instant::now();
    wait_for("windows", || (engine.metric("kaminari_window_fired_total", &["neighbour"]) >= 2.0).then_some(()));
    let third = |config: &Config, n: usize| {
        let mut config = config.clone();
        config.plugins += &format!("\n[plugins.cusum]\npath = {:?}", plugin("cusum"));
        config.detectors += "\n[detectors.steps]\nplugin = \"cusum\"\nconfig = { features = [\"packets_per_s\"] }";
        config.more += &format!(
            "\n[pipelines.third]\nsources = [\"edge\", \"other\"]\nkeys = [\"dst_addr\", \"src_addr\"]\n\
             features = [\"packets_per_s\", \"bits_per_s\"]\nwindow = {{ type = \"sliding\", size_secs = {}, slide_secs = 1 }}\n\
             detectors = [\"limits\", \"steps\"]\ncombine = {{ rule = \"any\" }}\nsinks = [\"file\"]",
            2 + n % 3
        );
        config
    };
    for n in 0..11 {
        let next = if n % 4 == 3 { config.clone() } else { third(&config, n) };
        engine.becomes(&next.text());
        std::thread::sleep(std::time::Duration::from_millis(400));
    }
    engine.becomes(&config.text());
    let elapsed = begun.elapsed().as_secs_f64();
    let fired = engine.metric("kaminari_window_fired_total", &["neighbour"]);
    assert!(fired >= elapsed - 3.0, "{fired} windows in {elapsed} s");
    let (sent, sent_ddos) = (of_neighbour.stop(), of_ddos.stop());
    let summary = engine.stop();
    assert_eq!(counted(&summary, "kaminari_window_records_total", "\"neighbour\""), sent as f64);
    assert_eq!(counted(&summary, "kaminari_window_records_total", "\"ddos\""), sent_ddos as f64);
    assert_eq!(counted(&summary, "kaminari_window_late_records_total", "dropped"), 0.0);
}
