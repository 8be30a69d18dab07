//! What `cargo xtask bench kafka` needs of a broker and kaminari itself does not do: topics, messages as other collectors
//! write them, and a look at the incidents. Panics when the broker refuses.
//!
//! `kaminari-bench kafka create BROKERS TOPIC PARTITIONS`,
//! `... kafka write FORMAT BROKERS TOPIC PARTITIONS PCAP` (prints messages, flow records, bytes of the messages),
//! `... kafka incidents BROKERS TOPIC` (prints how many there are).

use crate::Error;
use crate::messages;
use kaminari::config::decode_options::DecodeOptions;
use kaminari::decode;
use kaminari::model::{FlowRecord, FrameBatch};
use kaminari::source::file::FileReader;
use kaminari_tests::kafka::{self, Record};
use rdkafka::ClientConfig;
use serde_json::Value;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;

/// Records of a message of `pmacct-lines`: nfacctd's `kafka_multi_values`, a few dozen KB.
const LINES: usize = 100;
/// Packets of the capture that are decoded at a time.
const FRAMES: usize = 1024;

pub fn run(args: &[&str]) -> Result<(), Error> {
    match args {
        ["create", brokers, topic, partitions] => kafka::create_topic(*brokers, topic, partitions.parse()?),
        ["write", format, brokers, topic, partitions, pcap] => {
            let records = records(Path::new(pcap))?;
            let (messages, bytes) = write(format, brokers, topic, partitions.parse()?, &records)?;
            println!("{messages},{},{bytes}", records.len());
        }
        ["incidents", brokers, topic] => println!("{}", incidents(brokers, topic)?),
        _ => return Err("usage: kaminari-bench kafka create|write|incidents ...".into()),
    }
    Ok(())
}

fn records(pcap: &Path) -> Result<Vec<FlowRecord>, Error> {
    let options = DecodeOptions::default();
    let mut reader = FileReader::open(pcap, &options)?;
    let mut decoder = decode::build(&options, false)?;
    let (mut frames, mut records, mut more) = (FrameBatch::default(), Vec::new(), true);
    while more {
        frames.clear();
        more = reader.read(&mut frames, FRAMES)?;
        decoder.decode(&frames, &mut records);
    }
    messages::complete(&mut records);
    Ok(records)
}

/// Messages and their bytes.
fn write(
    format: &str,
    brokers: &str,
    topic: &str,
    partitions: usize,
    records: &[FlowRecord],
) -> Result<(u64, u64), Error> {
    let (one, lines): (fn(&FlowRecord, &mut Vec<u8>), _) = match format {
        "pmacct" => (messages::pmacct, 1),
        "pmacct-lines" => (messages::pmacct, LINES),
        "goflow2_json" => (messages::goflow2_json, 1),
        _ => return Err(format!("nobody writes {format} here").into()),
    };
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers).set("compression.codec", "lz4").set("partitioner", "murmur2_random");
    let (written, bytes) = (Cell::new(0), Cell::new(0));
    let message = |records: &[&FlowRecord]| {
        let mut payload = Vec::new();
        for record in records {
            one(record, &mut payload);
            payload.push(b'\n');
        }
        // A message ends without a line break.
        payload.pop();
        written.set(written.get() + 1);
        bytes.set(bytes.get() + payload.len() as u64);
        payload
    };
    if lines == 1 {
        let keyed = records.iter().map(|r| Record {
            key: Some(network(r).into_bytes()),
            payload: message(&[r]),
            headers: Vec::new(),
        });
        kafka::produce(&client, topic, None, keyed);
    } else {
        // Records of many networks share a message and have no key in common: what counts is that a network stays in one
        // partition.
        let mut shares = vec![Vec::new(); partitions];
        records.iter().for_each(|r| shares[share(r, partitions)].push(r));
        for (share, partition) in shares.iter().zip(0..) {
            kafka::produce(&client, topic, partition, share.chunks(lines).map(&message));
        }
    }
    Ok((written.get(), bytes.get()))
}

/// The key that the collector gives.
fn network(r: &FlowRecord) -> String {
    r.dst_addr.prefix(24, 64).to_string()
}

fn share(r: &FlowRecord, partitions: usize) -> usize {
    network(r).bytes().fold(0usize, |hash, b| hash.wrapping_mul(31).wrapping_add(b.into())) % partitions
}

/// Incidents in a topic that no transaction has taken back.
fn incidents(brokers: &str, topic: &str) -> Result<usize, Error> {
    let mut ids = BTreeSet::new();
    for message in kafka::consume_all(brokers, topic, true) {
        let event: Value = serde_json::from_slice(&message.payload)?;
        ids.insert(event["incident_id"].as_str().ok_or("an incident without id")?.to_owned());
    }
    Ok(ids.len())
}
