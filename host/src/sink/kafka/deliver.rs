//! The sink itself: hands records to the producer, hears what became of them, and keeps those that the brokers do not take
//! yet, in order: in memory, or in the spool file.

use super::config::KafkaSinkConfig;
use super::encode::Encoder;
use super::link::{Back, Link, Reports};
use super::spool::Spool;
use super::voice::{Voice, records_fault};
use crate::model::{Content, Output, PlanDigest};
use crate::sink::{Sink, SinkError};
use crate::{kafka, kafka::Record};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Brokers that say nothing for so long about what they were given are taken for gone, when there is a spool file.
const SILENCE: Duration = Duration::from_secs(5);
/// Pauses before brokers that took nothing are asked again; doubles.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// How long a question for the topic's partitions may take.
const ASK: Duration = Duration::from_millis(500);
/// The number of partitions is asked for again so often.
const REFRESH: Duration = Duration::from_secs(180);
/// How long one call waits for room, and for acknowledgements.
const ROOM_WAIT: Duration = Duration::from_millis(50);
const FLUSH_WAIT: Duration = Duration::from_millis(500);
/// Records read from the spool file at one go.
const DRAIN: usize = 4096;

/// `type = "kafka"`.
pub struct KafkaSink {
    topic: String,
    content: Content,
    encoder: Encoder,
    link: Link,
    voice: Voice,
    /// Records that wait in memory; older than all in the spool file, newer than all with the producer.
    again: VecDeque<(Record, u32)>,
    spool: Option<Spool>,
    /// Records of the spool file with the producer: where each ends, and how many parts are not acknowledged.
    under_way: VecDeque<(u64, usize)>,
    /// Parts of the last one for which the producer had no room.
    rest: VecDeque<(Record, u32, u64)>,
    /// Records with the producer that are not in the spool file.
    direct: usize,
    /// The brokers answered, and have not failed since.
    up: bool,
    silence: Duration,
    partitions: u32,
    ask_at: Instant,
    send_at: Instant,
    pause: Duration,
}

impl KafkaSink {
    /// Makes the producer and opens the spool file. The brokers need not be there.
    pub fn new(id: &Arc<str>, config: &KafkaSinkConfig, plan_digest: PlanDigest) -> Result<Self, SinkError> {
        let wrong = |e: String| SinkError::config(format!("sink `{id}`: {e}"));
        config.check().map_err(wrong)?;
        let link = Link::new(config).map_err(|e| wrong(e.to_string()))?;
        let mut voice = Voice::new(id.clone(), kafka::brokers(&config.brokers), config.topic.clone());
        let spool = match &config.spool {
            None => None,
            Some(path) => {
                let (spool, cut) = Spool::open(path, config.spool_bytes)?;
                if cut > 0 {
                    voice.lost("spool_torn", 1, &format!("the last {cut} bytes of the spool are no whole record"));
                }
                Some(spool)
            }
        };
        let now = Instant::now();
        Ok(Self {
            topic: config.topic.clone(),
            content: config.content,
            encoder: Encoder::new(config, plan_digest),
            link,
            voice,
            again: VecDeque::new(),
            spool,
            under_way: VecDeque::new(),
            rest: VecDeque::new(),
            direct: 0,
            up: false,
            silence: SILENCE,
            partitions: 0,
            ask_at: now,
            send_at: now,
            pause: PAUSE.0,
        })
    }

    /// Hears reports, asks for the brokers, sends what waits.
    fn serve(&mut self, wait: Duration) {
        let reports = self.link.collect(wait);
        let mut back = self.hear(reports);
        let silent = self.spool.is_some() && self.link.silence() > self.silence;
        let fatal = self.link.fatal();
        if !back.is_empty() || silent || fatal.is_some() {
            let silence = KafkaError::Global(Code::MessageTimedOut);
            let error = fatal.or_else(|| back.first().map(|b| b.error.clone())).unwrap_or(silence);
            self.voice.hindered(&error);
            back.extend(self.recall());
            self.take_back(back);
            self.later();
        }
        let asks = self.spool.is_some() || self.encoder.places_records();
        if asks && Instant::now() >= self.ask_at {
            self.ask();
        }
        self.resume();
        self.voice.levels(self.link.outstanding(), self.spool.as_ref().map(Spool::bytes));
    }

    /// Counts what arrived and what is lost; gives back the rest.
    fn hear(&mut self, reports: Reports) -> Vec<Back> {
        let rows: u64 = reports.acked.iter().map(|h| u64::from(h.rows)).sum();
        let mut ends: Vec<Option<u64>> = reports.acked.iter().map(|h| h.spool).collect();
        if !ends.is_empty() {
            self.voice.delivered(rows);
            self.voice.relieved();
            self.pause = PAUSE.0;
        } else if let Some(error) = &reports.trouble {
            self.voice.hindered(error);
        }
        let (lost, back): (Vec<Back>, Vec<Back>) = reports.back.into_iter().partition(|b| records_fault(&b.error));
        for record in lost {
            self.voice.refused(&record.error, record.rows);
            ends.push(record.spool);
        }
        self.direct -= back.iter().filter(|b| b.spool.is_none()).count();
        self.settle(&ends);
        back
    }

    /// Records are done with, each with its end in the spool file if it came from there.
    fn settle(&mut self, ends: &[Option<u64>]) {
        let mut done = None;
        for end in ends {
            match end {
                None => self.direct -= 1,
                Some(end) => {
                    if let Ok(at) = self.under_way.binary_search_by_key(end, |(end, _)| *end) {
                        self.under_way[at].1 -= 1;
                    }
                }
            }
        }
        while let Some((end, 0)) = self.under_way.front() {
            done = Some(*end);
            self.under_way.pop_front();
        }
        if let (Some(end), Some(spool)) = (done, &mut self.spool)
            && let Err(error) = spool.done(end)
        {
            // They are sent again after a restart.
            self.voice.spool_failed(&error);
        }
    }

    /// Takes everything back from the producer, which is replaced.
    fn recall(&mut self) -> Vec<Back> {
        let reports = self.link.recall();
        let back = self.hear(reports);
        let forgotten = self.link.outstanding();
        if forgotten > 0 {
            self.voice.lost("unacknowledged", forgotten as u64, "the producer does not say what became of them");
        }
        self.link.renew();
        self.direct = 0;
        back
    }

    /// Keeps what the brokers did not take: before all that is newer.
    fn take_back(&mut self, mut back: Vec<Back>) {
        back.sort_unstable_by_key(|b| b.seq);
        let Some(spool) = &mut self.spool else {
            back.into_iter().rev().for_each(|b| self.again.push_front((b.record, b.rows)));
            return;
        };
        // Those of the file are still in it.
        spool.rewind();
        self.under_way.clear();
        self.rest.clear();
        let older: Vec<_> = back.into_iter().filter(|b| b.spool.is_none()).map(|b| (b.record, b.rows)).collect();
        if spool.bytes() == 0 {
            if let Err(older) = self.keep(older) {
                self.again.extend(older);
            }
        } else if !older.is_empty() {
            // Nothing is sent past what is in the file: all of these are older.
            match spool.prepend(&older) {
                Ok(()) => self.voice.spooled(older.iter().map(|(_, rows)| u64::from(*rows)).sum()),
                Err(error) => {
                    self.voice.spool_failed(&error);
                    self.again.extend(older);
                }
            }
        }
    }

    /// Writes records to the end of the spool file; gives them back when that fails.
    fn keep(&mut self, records: Vec<(Record, u32)>) -> Result<(), Vec<(Record, u32)>> {
        let Some(spool) = &mut self.spool else { return Err(records) };
        if records.is_empty() {
            return Ok(());
        }
        if let Err(error) = spool.append(&records) {
            self.voice.spool_failed(&error);
            return Err(records);
        }
        self.voice.spooled(records.iter().map(|(_, rows)| u64::from(*rows)).sum());
        Ok(())
    }

    /// The brokers took nothing: not at once again.
    fn later(&mut self) {
        self.up = false;
        let at = Instant::now() + self.pause;
        (self.ask_at, self.send_at) = (at, at);
        self.pause = (self.pause * 2).min(PAUSE.1);
    }

    /// Asks for the topic's partitions; an answer says that the brokers are there.
    fn ask(&mut self) {
        match self.link.partitions(&self.topic, ASK) {
            Ok(n) => {
                if self.partitions != 0 && n != self.partitions {
                    let (id, was) = (&**self.voice.id(), self.partitions);
                    tracing::warn!(component_id = id, topic = self.topic, was, now = n, "partitions: keys move");
                }
                self.partitions = n;
                self.encoder.set_partitions(n);
                self.up = true;
                self.ask_at = Instant::now() + REFRESH;
            }
            // It was only a refresh: what is sent will tell.
            Err(_) if self.up => self.ask_at = Instant::now() + PAUSE.1,
            Err(error) => {
                self.voice.hindered(&error);
                self.later();
            }
        }
    }

    /// Sends what waits: first from memory, then from the file.
    fn resume(&mut self) {
        if Instant::now() < self.send_at {
            return;
        }
        while let Some((record, rows)) = self.again.pop_front() {
            if let Some(record) = self.hand(record, rows, None) {
                return self.again.push_front((record, rows));
            }
        }
        if !self.up {
            return;
        }
        for _ in 0..DRAIN {
            while let Some((record, rows, end)) = self.rest.pop_front() {
                if let Some(record) = self.hand(record, rows, Some(end)) {
                    return self.rest.push_front((record, rows, end));
                }
            }
            if !self.read_spool() {
                return;
            }
        }
    }

    /// Takes the next record out of the spool file; `false`: there is none.
    fn read_spool(&mut self) -> bool {
        let Some(spool) = &mut self.spool else { return false };
        match spool.next() {
            Ok(Some(next)) => {
                let (record, end) = (next.record, next.end);
                let parts = self.encoder.split(&record).unwrap_or_else(|| vec![(record, next.rows)]);
                self.under_way.push_back((end, parts.len()));
                self.rest.extend(parts.into_iter().map(|(record, rows)| (record, rows, end)));
                true
            }
            Ok(None) => false,
            Err(error) => {
                let bytes = spool.cut();
                self.voice.lost("spool_torn", 1, &format!("{bytes} bytes of the spool cannot be read: {error}"));
                false
            }
        }
    }

    /// Gives a record to the producer; back comes one for which there is no room now.
    fn hand(&mut self, record: Record, rows: u32, spool: Option<u64>) -> Option<Record> {
        let refused = match self.link.send(record, rows, spool) {
            Ok(()) => {
                self.direct += usize::from(spool.is_none());
                return None;
            }
            Err(refused) => *refused,
        };
        if records_fault(&refused.error) {
            self.voice.refused(&refused.error, rows);
            if spool.is_some() {
                self.settle(&[spool]);
            }
            return None;
        }
        if refused.error.rdkafka_error_code() != Some(Code::QueueFull) {
            self.voice.hindered(&refused.error);
        }
        Some(refused.record)
    }

    /// Whether new records go to the spool file: the brokers are away, or do not have all that is in it.
    fn spooling(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| !self.up || spool.bytes() > 0)
    }

    /// Why nothing is taken just now.
    fn not_now(&self) -> SinkError {
        let (reason, why) = self.voice.trouble().unwrap_or(("queue_full", "the brokers take less than is sent".into()));
        SinkError::broker(reason, why)
    }
}

impl Sink for KafkaSink {
    fn content(&self) -> Content {
        self.content
    }

    fn deliver(&mut self, output: &Output) -> Result<(), SinkError> {
        if output.content() != self.content {
            let (takes, given) = (self.content.name(), output.content().name());
            return Err(SinkError::config(format!("this sink takes {takes}, not {given}")));
        }
        self.serve(Duration::ZERO);
        // Its last records are under way: once they have arrived, the file is out of the way.
        let last = self.up && self.spool.as_ref().is_some_and(|spool| spool.bytes() > 0 && spool.all_handed());
        if !self.again.is_empty() || last {
            self.serve(ROOM_WAIT);
        }
        let homeless = self.spool.is_none() && self.encoder.needs_partitions() && self.partitions == 0;
        if !self.again.is_empty() || homeless {
            return Err(self.not_now());
        }
        let mut records = Vec::new();
        self.encoder.encode_each(output, &mut |record, rows| records.push((record, rows)));
        if self.spooling() {
            if self.spool.as_ref().is_some_and(|spool| !spool.has_room(&records)) {
                return Err(SinkError::broker("spool_full", "the spool file is full, and the brokers take no records"));
            }
            let failed = "cannot write to the spool file, and the brokers take no records";
            return self.keep(records).map_err(|_| SinkError::broker("write", failed));
        }
        let mut records = records.into_iter();
        while let Some((record, rows)) = records.next() {
            if let Some(record) = self.hand(record, rows, None) {
                // What there is no room for is kept all the same, so that half an output is never offered again.
                let left = std::iter::once((record, rows)).chain(records).collect();
                if let Err(left) = self.keep(left) {
                    self.again.extend(left);
                }
                break;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        let until = Instant::now() + FLUSH_WAIT;
        loop {
            self.serve(Duration::from_millis(5));
            if self.direct == 0 && self.again.is_empty() {
                return self.spool.as_mut().map_or(Ok(()), Spool::sync);
            }
            if Instant::now() > until {
                let waiting = self.direct + self.again.len();
                let why = self.voice.trouble().map_or(String::new(), |(_, why)| format!("; {why}"));
                let message = format!("{waiting} records are not acknowledged{why}");
                return Err(SinkError::broker("unacknowledged", message));
            }
        }
    }

    fn tick(&mut self) {
        self.serve(Duration::ZERO);
        if let Some(Err(error)) = self.spool.as_mut().map(Spool::sync) {
            self.voice.spool_failed(&error);
        }
    }

    fn counts_deliveries(&self) -> bool {
        true
    }

    fn close(&mut self) {
        let back = self.recall();
        self.take_back(back);
        if let (false, Some(_)) = (self.again.is_empty(), &self.spool) {
            // Older than all in the file; one more try.
            let waiting: Vec<_> = std::mem::take(&mut self.again).into();
            if let Some(Err(_)) = self.spool.as_mut().map(|spool| spool.prepend(&waiting)) {
                self.again = waiting.into();
            }
        }
        if let Some(Err(error)) = self.spool.as_mut().map(Spool::sync) {
            self.voice.spool_failed(&error);
        }
        let lost: u64 = self.again.drain(..).map(|(_, rows)| u64::from(rows)).sum();
        if lost > 0 {
            let why = self.voice.trouble().map_or(String::new(), |(_, why)| format!(": {why}"));
            let why = format!("not acknowledged when the program ended (the brokers may have some){why}");
            self.voice.lost("unacknowledged", lost, &why);
        }
        self.voice.levels(self.link.outstanding(), self.spool.as_ref().map(Spool::bytes));
    }
}

#[cfg(test)]
#[path = "deliver_tests.rs"]
mod tests;
