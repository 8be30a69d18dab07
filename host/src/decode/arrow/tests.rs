use super::*;
use crate::decode::tests_support::record;
use crate::model::frames::NO_PEER;
use crate::model::{FlowBatchBuilder, FlowRecord, FrameBatch};
use arrow_array::Int64Array;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{Field, Schema, SchemaRef};
use proptest::prelude::*;

fn stream(schema: &SchemaRef, batches: &[RecordBatch]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = StreamWriter::try_new(&mut out, schema).unwrap();
    batches.iter().for_each(|b| writer.write(b).unwrap());
    writer.finish().unwrap();
    out
}

fn batch_of(records: &[FlowRecord]) -> RecordBatch {
    let mut builder = FlowBatchBuilder::default();
    records.iter().for_each(|r| builder.push(r));
    builder.finish()
}

fn feed(d: &mut ArrowDecoder, bytes: &[u8], out: &mut dyn FlowSink) {
    let mut batch = FrameBatch::default();
    batch.push(bytes, NO_PEER, 7);
    d.decode(&batch, out);
    let s = d.stats();
    assert_eq!(s.framing_bytes + s.decoded_bytes + s.undecoded_total(), s.bytes);
    assert_eq!(s.refusals, s.errors_total());
}

fn reasons(bytes: &[u8]) -> (usize, Vec<Refusal>) {
    let (mut d, mut out) = (ArrowDecoder::new(), Vec::new());
    feed(&mut d, bytes, &mut out);
    (out.len(), d.stats().reasons_since(&DecodeStats::default().errors))
}

/// The schema with its fields changed, and a batch of it.
fn changed(change: impl Fn(&Field) -> Field) -> (SchemaRef, RecordBatch) {
    let schema = Arc::new(Schema::new(flow_schema().fields().iter().map(|f| change(f)).collect::<Vec<_>>()));
    let columns = batch_of(&[FlowRecord::default()]).columns().to_vec();
    (schema.clone(), RecordBatch::try_new(schema, columns).unwrap())
}

#[test]
fn other_columns_are_refused() {
    let two = batch_of(&[FlowRecord::default(), FlowRecord::default()]);
    let (schema, batch) = changed(|f| f.clone().with_nullable(true));
    assert_eq!(reasons(&stream(&schema, &[batch])), (1, vec![]), "as pyarrow names them");
    let (schema, batch) = changed(|f| f.clone().with_name(f.name().replace("bytes", "octets")));
    assert_eq!(reasons(&stream(&schema, &[batch])), (0, vec![Refusal::BadSchema]));
    let fewer: Vec<usize> = (0..two.num_columns() - 1).collect();
    let fewer = two.project(&fewer).unwrap();
    assert_eq!(reasons(&stream(&fewer.schema(), &[fewer])), (0, vec![Refusal::BadSchema]));
    let other = Arc::new(Schema::new(vec![Field::new("bytes", DataType::Int64, true)]));
    let batch = RecordBatch::try_new(other.clone(), vec![Arc::new(Int64Array::from(vec![1]))]).unwrap();
    assert_eq!(reasons(&stream(&other, &[batch])), (0, vec![Refusal::BadSchema]));
}

#[test]
fn nulls_and_what_is_no_stream_are_refused() {
    let (schema, batch) = changed(|f| f.clone().with_nullable(true));
    let mut columns = batch.columns().to_vec();
    columns[col::BYTES] = Arc::new(arrow_array::UInt64Array::from(vec![None]));
    let nulls = RecordBatch::try_new(schema.clone(), columns).unwrap();
    assert_eq!(reasons(&stream(&schema, &[batch, nulls])), (1, vec![Refusal::BadMessage]));
    let good = stream(&flow_schema(), &[batch_of(&[FlowRecord::default()])]);
    for bad in [&[][..], b"{}", &[0xff; 4], &[0xff; 64], &[0; 8], &good[8..], &good[..good.len() - 9]] {
        assert_eq!(reasons(bad).1, [Refusal::BadMessage], "{} bytes", bad.len());
    }
    let twice = [&good[..], &good].concat();
    assert_eq!(reasons(&twice), (1, vec![Refusal::BadMessage]), "one stream in a message");
    assert_eq!(reasons(&good[..good.len() - 8]), (1, vec![]), "a stream that just ends");
}

#[test]
fn counts_by_type_and_rate() {
    let types = [FlowType::Ipfix, FlowType::Ipfix, FlowType::NetflowV5];
    let records =
        types.map(|flow_type| FlowRecord { flow_type, sampling_rate: flow_type as u64 - 2, ..Default::default() });
    let mut d = ArrowDecoder::new();
    feed(&mut d, &stream(&flow_schema(), &[batch_of(&records)]), &mut Vec::new());
    assert_eq!(d.stats().flows[FlowType::Ipfix as usize], 2);
    assert_eq!((d.stats().flows_total(), d.stats().sampling_unknown()), (3, 1));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(batches in prop::collection::vec(prop::collection::vec(record(), 0..20), 0..4)) {
        let written: Vec<_> = batches.iter().map(|b| batch_of(b)).collect();
        let bytes = stream(&flow_schema(), &written);
        let (mut d, mut rows, mut columns) = (ArrowDecoder::new(), Vec::new(), FlowBatchBuilder::default());
        feed(&mut d, &bytes, &mut rows);
        feed(&mut d, &bytes, &mut columns);
        let all = batches.concat();
        prop_assert_eq!(columns.finish(), batch_of(&all));
        prop_assert_eq!(rows, all);
        prop_assert_eq!(d.stats().refusals, 0);
    }

    /// Neither a panic nor an allocation by a length that somebody made up.
    #[test]
    fn whatever_comes_is_counted(
        records in prop::collection::vec(record(), 0..4),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(0xff), Just(0x7f), Just(0)]), 1..5),
        cut in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let whole = stream(&flow_schema(), &[batch_of(&records)]);
        let mut bytes = whole.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut d = ArrowDecoder::new();
        let cut = cut.index(whole.len());
        for bytes in [&bytes[..], &whole[..cut], &noise] {
            let (before, mut out) = (d.stats().clone(), Vec::new());
            feed(&mut d, bytes, &mut out);
            let framed = d.stats().framing_bytes > before.framing_bytes;
            prop_assert!(!out.is_empty() || d.stats().refusals > before.refusals || framed);
        }
    }
}
