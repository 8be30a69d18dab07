//! Flow records as an Arrow IPC stream: schema, one batch, end. Comes in and goes out: a batch with
//! [`flow_schema`](super::schema::flow_schema), and bytes. Refused on the way in: what is no such stream, other columns.

use super::schema::flow_schema;
use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;

/// Appends the stream of one batch.
pub fn write(batch: &RecordBatch, out: &mut Vec<u8>) {
    let written = StreamWriter::try_new(&mut *out, batch.schema_ref()).and_then(|mut stream| {
        stream.write(batch)?;
        stream.finish()
    });
    written.expect("memory takes what has the schema it was opened with");
}

/// The batches of a stream that [`write`] has made, also by an earlier run.
pub fn read(bytes: &[u8]) -> Result<Vec<RecordBatch>, ArrowError> {
    let stream = StreamReader::try_new(bytes, None)?;
    if stream.schema().fields() != flow_schema().fields() {
        return Err(ArrowError::SchemaError("the columns are not those of flow records".into()));
    }
    stream.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::flow_rows::fixtures;

    #[test]
    fn a_batch_comes_back() {
        let batch = fixtures::batch(200);
        let mut bytes = Vec::new();
        write(&batch, &mut bytes);
        assert_eq!(read(&bytes).unwrap(), std::slice::from_ref(&batch));
        // A slice takes its own rows along, not all of them.
        let mut part = Vec::new();
        write(&batch.slice(3, 2), &mut part);
        assert_eq!(read(&part).unwrap(), [batch.slice(3, 2)]);
        assert!(part.len() < bytes.len() / 3, "{} of {}", part.len(), bytes.len());
    }

    #[test]
    fn what_is_no_such_stream_is_refused() {
        assert!(read(b"").is_err());
        assert!(read(b"{\"type\":\"IPFIX\"}").is_err());
        let mut bytes = Vec::new();
        write(&fixtures::batch(2).project(&[0, 1]).unwrap(), &mut bytes);
        assert!(read(&bytes).unwrap_err().to_string().contains("columns"));
    }
}
