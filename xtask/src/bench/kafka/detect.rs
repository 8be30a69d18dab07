//! Detectors that read a topic from its beginning to its end, as one group: how long, what it cost, and whether all was
//! read and found.

use super::super::live::{cache, metric};
use super::stream::{Topic, create, helper, unique};
use crate::engine::{Engine, Site, table};
use crate::kafka::ForBench;
use crate::shell::target;
use anyhow::{Context, Result, bail};
use std::time::{Duration, Instant};

/// Between the ends of the log and the end of the processes: idle partitions close their windows, incidents leave.
const SETTLE: Duration = Duration::from_millis(2500);
const POLL: Duration = Duration::from_millis(50);
const READ_WITHIN: Duration = Duration::from_secs(240);
/// Packets a second between an attack and the busiest prefix.
const LIMIT: f64 = 1_000_000.0;

/// Who reads.
pub struct Group {
    pub processes: usize,
    /// `None`: as many as the configuration says.
    pub threads: Option<u32>,
}

/// What one process did.
pub struct Process {
    pub flows: u64,
    pub cpu_seconds: f64,
}

/// What it came to.
pub struct Reading {
    /// From the first record that some process had windowed to the last.
    pub wall_seconds: f64,
    pub processes: Vec<Process>,
    /// Of the largest process.
    pub peak_rss_bytes: f64,
    /// CPU seconds of the broker over that time; `None`: it is not ours.
    pub broker_cpu_seconds: Option<f64>,
    /// Load average of the machine before.
    pub load: f64,
}

impl Reading {
    pub fn cpu_seconds(&self) -> f64 {
        self.processes.iter().map(|p| p.cpu_seconds).sum()
    }
}

impl Group {
    /// Reads the topic as a new group.
    pub fn read(&self, broker: &ForBench, topic: &Topic) -> Result<Reading> {
        let (group, incidents, dead) = (unique("group"), create(broker, "incidents", 1)?, create(broker, "dead", 1)?);
        let sites = (1..=self.processes).map(|n| Site::new(&format!("bench/kafka/detector-{n}")));
        let sites = sites.collect::<Result<Vec<Site>>>()?;
        for site in &sites {
            site.configure_as("detector.toml", |config| {
                self.configure(config, broker, topic, &sites[0], [&group, &incidents, &dead])
            })?;
        }
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let load = load.split(' ').next().unwrap_or_default().parse()?;
        let mut engines = sites.iter().map(Site::start).collect::<Result<Vec<Engine>>>()?;
        let (wall, broker_cpu_seconds) = self.follow(&mut engines, broker, topic)?;
        std::thread::sleep(SETTLE);
        engines.iter_mut().try_for_each(Engine::stop)?;
        drop(engines);

        let mut reading = Reading {
            wall_seconds: wall.as_secs_f64(),
            processes: Vec::new(),
            peak_rss_bytes: 0.0,
            broker_cpu_seconds,
            load,
        };
        for site in &sites {
            let summary = site.summary()?;
            if let Some((place, n)) = summary.losses().into_iter().find(|(_, n)| *n > 0.0) {
                bail!("{place}: {n}");
            }
            reading.peak_rss_bytes = reading.peak_rss_bytes.max(summary.peak_rss_bytes);
            reading.processes.push(Process { flows: summary.windowed(), cpu_seconds: summary.cpu_seconds });
        }
        let windowed: u64 = reading.processes.iter().map(|p| p.flows).sum();
        if windowed != topic.flows {
            bail!("{windowed} flow records were windowed of {} in the topic", topic.flows);
        }
        let found: usize = helper(&["incidents", &broker.bootstrap, &incidents])?.parse()?;
        if found != topic.attacks {
            bail!("{found} incidents of {} attacks, in topic {incidents}", topic.attacks);
        }
        Ok(reading)
    }

    fn configure(
        &self,
        config: &mut toml::Table,
        broker: &ForBench,
        topic: &Topic,
        first: &Site,
        [group, incidents, dead]: [&str; 3],
    ) -> Result<()> {
        let brokers = vec![broker.bootstrap.clone()];
        let engine = table(config, &["engine"])?;
        // One that all processes of the group see.
        engine.insert("state_dir".into(), first.dir.join("state").display().to_string().into());
        engine.insert("plugin_cache_dir".into(), cache().display().to_string().into());
        let source = table(config, &["sources", "flows"])?;
        source.insert("brokers".into(), brokers.clone().into());
        source.insert("topics".into(), vec![topic.name.clone()].into());
        source.insert("group".into(), group.into());
        source.insert("start".into(), "earliest".into());
        source.insert("dead_letter_topic".into(), dead.into());
        if let Some(threads) = self.threads {
            source.insert("threads".into(), i64::from(threads).into());
        }
        table(config, &["sources", "flows", "decode"])?.insert("format".into(), topic.format.source().into());
        let plugin = target().join("plugins/threshold.wasm");
        table(config, &["plugins", "threshold"])?.insert("path".into(), plugin.display().to_string().into());
        let limits = table(config, &["detectors", "limits", "config"])?.get_mut("limits");
        let limit = limits.and_then(toml::Value::as_array_mut).and_then(|limits| limits.first_mut());
        let limit = limit.and_then(toml::Value::as_table_mut).context("there is no limit")?;
        limit.insert("above".into(), LIMIT.into());
        let sink = table(config, &["sinks", "incidents"])?;
        sink.insert("brokers".into(), brokers.into());
        sink.insert("topic".into(), incidents.into());
        Ok(())
    }

    /// Waits until everything is read; how long from the first record on, and what the broker spent.
    fn follow(&self, engines: &mut [Engine], broker: &ForBench, topic: &Topic) -> Result<(Duration, Option<f64>)> {
        let begun = Instant::now();
        let mut first = None;
        loop {
            let mut windowed = 0;
            let mut at_the_end = true;
            for engine in &mut *engines {
                engine.must_live()?;
                // It does not answer before it listens.
                let page = engine.get("/metrics").map(|(_, page)| page).unwrap_or_default();
                windowed += metric(&page, "kaminari_window_records_total") as u64;
                let lag = "kaminari_source_lag_messages";
                at_the_end &= page.contains(lag) && metric(&page, lag) == 0.0;
            }
            if windowed > 0 && first.is_none() {
                first = Some((Instant::now(), broker_cpu(broker)?));
            }
            if let Some((since, cpu)) = first.filter(|_| windowed >= topic.flows) {
                let (wall, after) = (since.elapsed(), broker_cpu(broker)?);
                self.no_lag(engines, at_the_end)?;
                return Ok((wall, after.zip(cpu).map(|(after, before)| after - before)));
            }
            if begun.elapsed() > READ_WITHIN {
                bail!("{windowed} of {} flow records are read after {READ_WITHIN:?}", topic.flows);
            }
            std::thread::sleep(POLL);
        }
    }

    /// The brokers tell how much is left now and then only.
    fn no_lag(&self, engines: &[Engine], mut at_the_end: bool) -> Result<()> {
        let begun = Instant::now();
        while !at_the_end {
            if begun.elapsed() > READ_WITHIN {
                bail!("the lag does not go to 0");
            }
            std::thread::sleep(POLL);
            at_the_end = true;
            for engine in engines {
                let (_, page) = engine.get("/metrics")?;
                at_the_end &= metric(&page, "kaminari_source_lag_messages") == 0.0;
            }
        }
        Ok(())
    }
}

/// User and system CPU seconds of a broker of ours so far.
fn broker_cpu(broker: &ForBench) -> Result<Option<f64>> {
    let Some(pid) = broker.pid() else { return Ok(None) };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the broker is gone")?;
    ticks(&stat).map(|ticks| Some(ticks / TICKS_PER_SECOND)).context("/proc/PID/stat is not understood")
}

/// USER_HZ: the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// utime and stime, the 14th and 15th field; the 2nd may hold spaces, in brackets.
fn ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::ticks;

    #[test]
    fn ticks_of_a_process_with_a_strange_name() {
        assert_eq!(ticks("7 (ja) va) S 1 7 7 0 -1 4194304 9 9 9 9 150 25 0 0 20 0"), Some(175.0));
        assert_eq!(ticks("7 (java) S 1"), None);
    }
}
