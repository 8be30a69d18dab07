//! Files of messages, as a topic would have brought them: protobuf behind lengths, Arrow streams and files. Comes in: bytes;
//! goes out: one frame per message, of Arrow one per batch with the schema before it. What a message means is decoding's.
//! Refuses messages that are longer than any collector writes, and files that end within one.

use crate::model::FrameBatch;
use crate::model::frames::NO_PEER;
use std::io::{self, BufRead, BufReader, Read};

/// Longest protobuf message.
const MAX_MESSAGE: u64 = 1 << 20;
/// Longest head of an Arrow message.
const MAX_HEAD: u64 = 16 << 20;
/// Longest batch: a frame's length is 32 bits.
const MAX_BODY: u64 = 1 << 30;

type Bytes = BufReader<Box<dyn Read + Send>>;

/// Messages, each behind its length as a varint. GoFlow2 writes a line break after each, unless told otherwise.
pub(super) struct Delimited {
    bytes: Bytes,
    number: u64,
    line_breaks: Option<bool>,
    message: Vec<u8>,
}

impl Delimited {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, number: 0, line_breaks: None, message: Vec::new() }
    }

    /// Adds the next message, with its length. False: there is none.
    pub(super) fn next(&mut self, out: &mut FrameBatch) -> Result<bool, String> {
        let said = |number: u64, what: String| format!("message {number}: {what}");
        if self.number > 0 {
            let next = self.bytes.fill_buf().map_err(|e| e.to_string())?.first();
            let line_breaks = *self.line_breaks.get_or_insert(next == Some(&b'\n'));
            if line_breaks && next == Some(&b'\n') {
                self.bytes.consume(1);
            }
        }
        if self.bytes.fill_buf().map_err(|e| e.to_string())?.is_empty() {
            return Ok(false);
        }
        self.number += 1;
        self.message.clear();
        let mut len = 0u64;
        loop {
            let mut byte = [0];
            self.bytes.read_exact(&mut byte).map_err(|e| said(self.number, e.to_string()))?;
            len |= u64::from(byte[0] & 0x7f) << (7 * self.message.len());
            self.message.push(byte[0]);
            if byte[0] < 0x80 {
                break;
            }
            if self.message.len() == 4 {
                return Err(said(
                    self.number,
                    "no length: this is no file of messages behind their lengths".to_owned(),
                ));
            }
        }
        if len > MAX_MESSAGE {
            return Err(said(self.number, format!("{len} bytes, more than a flow message has ({MAX_MESSAGE})")));
        }
        take(&mut self.bytes, len, &mut self.message).map_err(|e| said(self.number, e.to_string()))?;
        out.push(&self.message, NO_PEER, 0);
        Ok(true)
    }
}

/// An Arrow IPC stream, or an Arrow file: the same with a few bytes before it and an index behind it.
pub(super) struct Arrow {
    bytes: Bytes,
    number: u64,
    schema: Vec<u8>,
    message: Vec<u8>,
}

impl Arrow {
    pub(super) fn open(mut bytes: Bytes) -> Result<Self, String> {
        if bytes.fill_buf().map_err(|e| e.to_string())?.starts_with(b"ARROW1") {
            bytes.consume(6);
            // Up to the next multiple of 8 or 64; the first message begins with 0xff.
            while bytes.fill_buf().map_err(|e| e.to_string())?.first() == Some(&0) {
                bytes.consume(1);
            }
        }
        Ok(Self { bytes, number: 0, schema: Vec::new(), message: Vec::new() })
    }

    /// Adds the next batch. False: there is none.
    pub(super) fn next(&mut self, out: &mut FrameBatch) -> Result<bool, String> {
        loop {
            if self.bytes.fill_buf().map_err(|e| e.to_string())?.is_empty() {
                return Ok(false);
            }
            self.number += 1;
            let Some(is_schema) = self.message().map_err(|e| format!("Arrow message {}: {e}", self.number))? else {
                return Ok(false);
            };
            if is_schema {
                self.schema.clone_from(&self.message);
                continue;
            }
            let head = self.schema.len();
            self.schema.extend(&self.message);
            out.push(&self.schema, NO_PEER, 0);
            self.schema.truncate(head);
            return Ok(true);
        }
    }

    /// Reads one message, and tells whether it is a schema. `None`: the end of the stream.
    fn message(&mut self) -> Result<Option<bool>, String> {
        let io = |e: io::Error| e.to_string();
        self.message.clear();
        take(&mut self.bytes, 4, &mut self.message).map_err(io)?;
        if self.message == [0xff; 4] {
            take(&mut self.bytes, 4, &mut self.message).map_err(io)?;
        }
        let head = self.message.last_chunk::<4>().map_or(0, |len| u64::from(u32::from_le_bytes(*len)));
        if head == 0 {
            return Ok(None);
        }
        if head > MAX_HEAD {
            return Err("no Arrow stream".to_owned());
        }
        let at = self.message.len();
        take(&mut self.bytes, head, &mut self.message).map_err(io)?;
        let message = arrow_ipc::root_as_message(&self.message[at..]).map_err(|e| format!("no Arrow stream: {e}"))?;
        let is_schema = message.header_type() == arrow_ipc::MessageHeader::Schema;
        let body = u64::try_from(message.bodyLength()).ok().filter(|len| *len <= MAX_BODY);
        let body = body.ok_or_else(|| format!("{} bytes, more than {MAX_BODY}", message.bodyLength()))?;
        take(&mut self.bytes, body, &mut self.message).map_err(io)?;
        Ok(Some(is_schema))
    }
}

/// Reads so many bytes. Memory grows with what is there, not with what a length says.
fn take(bytes: &mut Bytes, len: u64, out: &mut Vec<u8>) -> io::Result<()> {
    if bytes.take(len).read_to_end(out)? as u64 == len {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends within it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FlowBatchBuilder, FlowRecord, FlowSink};
    use arrow_ipc::writer::{FileWriter, StreamWriter};

    fn bytes(b: &[u8]) -> Bytes {
        BufReader::new(Box::new(io::Cursor::new(b.to_vec())))
    }

    fn delimited(b: &[u8]) -> (Vec<Vec<u8>>, Option<String>) {
        let (mut reader, mut out) = (Delimited::new(bytes(b)), FrameBatch::default());
        let error = loop {
            match reader.next(&mut out) {
                Ok(true) => {}
                Ok(false) => break None,
                Err(error) => break Some(error),
            }
        };
        (out.frames.iter().map(|f| out.bytes(f).to_vec()).collect(), error)
    }

    #[test]
    fn protobuf_with_and_without_line_breaks() {
        let frames = vec![vec![2, 8, 1], vec![1, 10], vec![0]];
        assert_eq!(delimited(&[2, 8, 1, 1, 10, 0]), (frames.clone(), None));
        assert_eq!(delimited(&[2, 8, 1, 10, 1, 10, 10, 0, 10]), (frames, None));
        assert_eq!(delimited(&[]), (vec![], None));
        let (frames, error) = delimited(&[2, 8, 1, 5, 1]);
        assert_eq!((frames.len(), error.as_deref()), (1, Some("message 2: the file ends within it")));
        assert!(delimited(&[0xff; 20]).1.unwrap().contains("no length"));
        assert!(delimited(&[0xff, 0xff, 0xff, 1]).1.unwrap().contains("more than a flow message has"));
    }

    #[test]
    fn arrow_streams_and_files() {
        let mut builder = FlowBatchBuilder::default();
        builder.push(&FlowRecord { bytes: 7, ..Default::default() });
        let batch = builder.finish();
        let (mut stream, mut file) = (Vec::new(), Vec::new());
        let mut writer = StreamWriter::try_new(&mut stream, &batch.schema()).unwrap();
        (0..2).for_each(|_| writer.write(&batch).unwrap());
        writer.finish().unwrap();
        let mut writer = FileWriter::try_new(&mut file, &batch.schema()).unwrap();
        (0..2).for_each(|_| writer.write(&batch).unwrap());
        writer.finish().unwrap();
        for whole in [&stream, &file] {
            let (mut reader, mut out) = (Arrow::open(bytes(whole)).unwrap(), FrameBatch::default());
            while reader.next(&mut out).unwrap() {}
            assert_eq!(out.frames.len(), 2);
            for frame in &out.frames {
                let mut reader = arrow_ipc::reader::StreamReader::try_new(out.bytes(frame), None).unwrap();
                assert_eq!(reader.next().unwrap().unwrap(), batch);
            }
        }
        let mut cut = Arrow::open(bytes(&stream[..stream.len() - 100])).unwrap();
        let mut out = FrameBatch::default();
        assert!(cut.next(&mut out).unwrap());
        assert_eq!(cut.next(&mut out).unwrap_err(), "Arrow message 3: the file ends within it");
        assert!(Arrow::open(bytes(&[7; 40])).unwrap().next(&mut out).unwrap_err().contains("no Arrow stream"));
    }
}
