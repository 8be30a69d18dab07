//! Output to records, without a producer: who sends them is another's matter. Comes in: any output of the configured
//! content; goes out: records with key, partition, headers. Formats, keys and headers: `docs/kafka.md`.

use super::config::{Format, KafkaSinkConfig, Key};
use super::partition::{flow_key, partition};
use crate::kafka::{Header, Record};
use crate::model::flow_rows::FlowRows;
use crate::model::schema::FlowColumns;
use crate::model::{Content, Output, PlanDigest, flow_arrow, flow_json, flow_proto, row_json};
use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::take::take_record_batch;
use std::sync::Arc;

/// Most rows of an Arrow message.
const ROWS: usize = 4096;

/// Which of the headers names the plan.
const PLAN_HEADER: usize = 1;

/// Writes records for one sink.
pub struct Encoder {
    topic: Arc<str>,
    content: Content,
    format: Format,
    key: Key,
    headers: Arc<[Header]>,
    digest: PlanDigest,
    /// 0: not known yet.
    partitions: u32,
    key_text: Vec<u8>,
}

impl Encoder {
    /// For the sink of that configuration; the digest goes into a header.
    pub fn new(config: &KafkaSinkConfig, plan_digest: PlanDigest) -> Self {
        let (content, format) = (config.content, config.format());
        let schema = match (content, format) {
            (Content::Flows, Format::Arrow) => "flows-arrow/1",
            (Content::Flows, Format::Json) => "flows-json/1",
            (Content::Flows, Format::Goflow2) => "flows-goflow2/1",
            (Content::Incidents, _) => "incidents/1",
            (Content::Scores, _) => "scores/1",
            (Content::Features, _) => "features/1",
        };
        let content_type = match format {
            Format::Json => "application/json",
            Format::Arrow => "application/vnd.apache.arrow.stream",
            Format::Goflow2 => "application/x-protobuf",
        };
        let headers = [
            ("kaminari.schema".into(), schema.into()),
            ("kaminari.plan".into(), plan_digest.get()),
            ("content-type".into(), content_type.into()),
        ];
        Self {
            topic: config.topic.as_str().into(),
            content,
            format,
            key: config.key(),
            headers: headers.into(),
            digest: plan_digest,
            partitions: 0,
            key_text: Vec::new(),
        }
    }

    /// Tells how many partitions the topic has. Until then keyed flows carry no partition, and Arrow messages rows of all
    /// keys.
    pub fn set_partitions(&mut self, partitions: u32) {
        self.partitions = partitions;
    }

    /// A reload has changed the plan.
    fn name_plan(&mut self) {
        let digest = self.digest.get();
        if self.headers[PLAN_HEADER].1 != digest {
            let mut headers = self.headers.to_vec();
            headers[PLAN_HEADER].1 = digest;
            self.headers = headers.into();
        }
    }

    /// True when records must not be sent before [`set_partitions`](Self::set_partitions): an Arrow message has no key by
    /// which a producer could place it.
    pub fn needs_partitions(&self) -> bool {
        self.format == Format::Arrow && self.key != Key::None
    }

    /// True when it chooses the partitions itself.
    pub fn places_records(&self) -> bool {
        self.content == Content::Flows && self.key != Key::None
    }

    /// Appends the records of an output. An output of another content gives none.
    pub fn encode(&mut self, output: &Output, out: &mut Vec<Record>) {
        self.encode_each(output, &mut |record, _| out.push(record));
    }

    /// The same, each with the events or rows in it.
    pub(super) fn encode_each(&mut self, output: &Output, emit: &mut dyn FnMut(Record, u32)) {
        debug_assert_eq!(output.content(), self.content, "a sink is given what it is for");
        if output.content() != self.content {
            return;
        }
        self.name_plan();
        match output {
            Output::Incidents(events) => {
                for event in events {
                    let line = serde_json::to_vec(event).expect("an event has only string keys");
                    emit(self.keyed(event.entity.value.clone().into_bytes(), line), 1);
                }
            }
            Output::Scores(frames) => {
                for scored in frames.iter() {
                    for (row, key) in scored.frame.keys.iter().enumerate() {
                        let line = row_json::score(scored, row).to_string();
                        emit(self.keyed(key.to_string().into_bytes(), line.into_bytes()), 1);
                    }
                }
            }
            Output::Features(frames) => {
                for (pipeline, frame) in frames.iter() {
                    for (row, key) in frame.keys.iter().enumerate() {
                        let line = row_json::feature(pipeline, frame, row).to_string();
                        emit(self.keyed(key.to_string().into_bytes(), line.into_bytes()), 1);
                    }
                }
            }
            Output::Flows(batch) if self.format == Format::Arrow => self.arrow(batch, emit),
            Output::Flows(batch) => self.rows(batch, emit),
        }
    }

    /// Writes an Arrow message that was made before the partitions were known anew: one for each partition.
    /// `None`: it has its place, or is no such message.
    pub(super) fn split(&mut self, record: &Record) -> Option<Vec<(Record, u32)>> {
        if !self.needs_partitions() || record.partition.is_some() || self.partitions == 0 {
            return None;
        }
        let batches = flow_arrow::read(&record.payload).ok()?;
        let mut parts = Vec::new();
        for batch in &batches {
            // Its own headers stay: it was made under an earlier plan perhaps.
            self.arrow(batch, &mut |part, rows| {
                let (topic, headers) = (record.topic.clone(), record.headers.clone());
                parts.push((Record { topic, headers, ..part }, rows));
            });
        }
        Some(parts)
    }

    /// A record for whose place the producer cares.
    fn keyed(&self, key: Vec<u8>, payload: Vec<u8>) -> Record {
        self.record(None, (self.key != Key::None).then_some(key), payload)
    }

    fn record(&self, partition: Option<u32>, key: Option<Vec<u8>>, payload: Vec<u8>) -> Record {
        let partition = partition.map(u32::cast_signed);
        Record { topic: self.topic.clone(), partition, key, payload, headers: self.headers.clone() }
    }

    /// A record per row.
    fn rows(&mut self, batch: &RecordBatch, emit: &mut dyn FnMut(Record, u32)) {
        let (rows, columns) = (FlowRows::new(batch), FlowColumns::new(batch));
        for i in 0..rows.len() {
            let mut payload = Vec::with_capacity(512);
            match self.format {
                Format::Goflow2 => flow_proto::write(&rows.row(i), &mut payload),
                Format::Json | Format::Arrow => flow_json::write(&rows.row(i), &mut payload),
            }
            let (mut place, mut key) = (None, None);
            if self.key != Key::None {
                flow_key(self.key, &columns, i, &mut self.key_text);
                place = (self.partitions > 0).then(|| partition(&self.key_text, self.partitions));
                key = Some(self.key_text.clone());
            }
            emit(self.record(place, key, payload), 1);
        }
    }

    /// Messages of many rows, all of one partition.
    fn arrow(&mut self, batch: &RecordBatch, emit: &mut dyn FnMut(Record, u32)) {
        if self.key == Key::None || self.partitions <= 1 {
            let place = (self.key != Key::None && self.partitions == 1).then_some(0);
            return self.messages(batch, place, emit);
        }
        let columns = FlowColumns::new(batch);
        let mut groups = vec![Vec::new(); self.partitions as usize];
        for row in 0..batch.num_rows() {
            flow_key(self.key, &columns, row, &mut self.key_text);
            groups[partition(&self.key_text, self.partitions) as usize].push(row as u32);
        }
        for (place, rows) in (0..).zip(groups) {
            if rows.is_empty() {
                continue;
            }
            let group = take_record_batch(batch, &UInt32Array::from(rows)).expect("the rows are the batch's own");
            self.messages(&group, Some(place), emit);
        }
    }

    fn messages(&self, batch: &RecordBatch, place: Option<u32>, emit: &mut dyn FnMut(Record, u32)) {
        for start in (0..batch.num_rows()).step_by(ROWS) {
            let part = batch.slice(start, ROWS.min(batch.num_rows() - start));
            let mut payload = Vec::with_capacity(8192 + part.num_rows() * 180);
            flow_arrow::write(&part, &mut payload);
            emit(self.record(place, None, payload), part.num_rows() as u32);
        }
    }
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
