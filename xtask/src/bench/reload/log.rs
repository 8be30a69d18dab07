//! The same over Kafka: exporters send to a collector, which writes a topic; both pipelines read that topic as one source, by
//! partition. Who is left alone shares threads and partitions with the one that changes.

use super::exporter::Exporter;
use super::plan::{CHANGED, NEIGHBOUR, Sources};
use super::{Results, Run, SETTLE, Site, WARM_UP};
use crate::bench::kafka::create;
use crate::engine::{Engine, table};
use crate::kafka::{ForBench, for_bench};
use anyhow::Result;

/// Flows a second: broker, collector and engine share the machine.
const RATE: f64 = 50_000.0;
const PARTITIONS: u32 = 2;
const BLOCKS: usize = 2;

pub fn run(results: &mut Results) -> Result<()> {
    let broker = for_bench()?;
    let topic = create(&broker, "reload", PARTITIONS)?;
    let (of_collector, mut collector) = collector(&broker, &topic)?;
    let site = Site::new("bench/reload-log")?;
    let state_dir = site.dir.join("state");
    let sources = Sources::Log { brokers: broker.bootstrap.clone(), topic, state_dir };
    let mut run = Run::start("reload over Kafka", ", over Kafka", site, sources)?;
    let exporter = Exporter::start(of_collector.udp, RATE)?;
    std::thread::sleep(WARM_UP);
    let blocks = run.blocks(results, BLOCKS)?;
    let sent = exporter.stop()?;
    // All of it is in the topic when the collector has ended.
    std::thread::sleep(SETTLE);
    collector.stop()?;
    run.end(results, &blocks, [(CHANGED, sent), (NEIGHBOUR, sent)], RATE)
}

/// configs/collector.toml, on this topic.
fn collector(broker: &ForBench, topic: &str) -> Result<(Site, Engine)> {
    let site = Site::new("bench/reload-collector")?;
    site.configure_as("collector.toml", |config| {
        table(config, &["engine"])?.insert("state_dir".into(), site.dir.display().to_string().into());
        let source = table(config, &["sources", "edge"])?;
        source.insert("listen".into(), site.udp.to_string().into());
        source.insert("sockets".into(), 1.into());
        source.insert("receive_buffer_bytes".into(), (32 << 20).into());
        let sink = table(config, &["sinks", "flows"])?;
        sink.insert("brokers".into(), vec![broker.bootstrap.clone()].into());
        sink.insert("topic".into(), topic.into());
        sink.insert("key".into(), "dst_addr".into());
        sink.insert("spool".into(), site.dir.join("flows.spool").display().to_string().into());
        Ok(())
    })?;
    let mut engine = site.start()?;
    engine.wait_ready()?;
    Ok((site, engine))
}
