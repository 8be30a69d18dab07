//! Does a broker answer? One Metadata request, by hand: the answer names the broker once it takes requests.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for one step.
const PATIENCE: Duration = Duration::from_secs(2);
/// More than any answer has.
const LARGEST: usize = 1 << 20;

/// Metadata, version 1, of no topic; client `probe`.
const REQUEST: [u8; 23] = *b"\0\0\0\x13\0\x03\0\x01\0\0\0\x07\0\x05probe\0\0\0\0";

/// True when something accepts connections there.
pub(crate) fn connects(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PATIENCE).is_ok()
}

/// How many brokers the one on this port knows that serve.
pub(crate) fn brokers(port: u16) -> Result<u32> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    ask(&mut stream)
}

fn ask(stream: &mut (impl Read + Write)) -> Result<u32> {
    stream.write_all(&REQUEST)?;
    let mut word = [0; 4];
    stream.read_exact(&mut word)?;
    let size = u32::from_be_bytes(word) as usize;
    if !(8..=LARGEST).contains(&size) {
        return Err(Error::new(ErrorKind::InvalidData, "not an answer of Kafka"));
    }
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer)?;
    // Number of the request, then an array of brokers.
    if answer[..4] != REQUEST[8..12] {
        return Err(Error::new(ErrorKind::InvalidData, "the answer to another request"));
    }
    word.copy_from_slice(&answer[4..8]);
    Ok(u32::from_be_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Wire(Vec<u8>, std::io::Cursor<Vec<u8>>);

    impl Write for Wire {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            self.0.write(bytes)
        }
        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    impl Read for Wire {
        fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
            self.1.read(bytes)
        }
    }

    fn answered(answer: &[u8]) -> Result<u32> {
        let mut wire = Wire(Vec::new(), std::io::Cursor::new(answer.to_vec()));
        let brokers = ask(&mut wire);
        assert_eq!(wire.0.len(), 4 + 0x13);
        brokers
    }

    #[test]
    fn brokers_are_counted() {
        assert_eq!(answered(b"\0\0\0\x0a\0\0\0\x07\0\0\0\x01xx").unwrap(), 1);
        assert_eq!(answered(b"\0\0\0\x08\0\0\0\x07\0\0\0\0").unwrap(), 0);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        assert!(answered(b"\0\0\0\x08\0\0\0\x08\0\0\0\x01").is_err());
        assert!(answered(b"HTTP/1.1 400 Bad Request").is_err());
        assert!(answered(b"\0\0\0\x02\0\0").is_err());
        assert!(answered(b"").is_err());
    }
}
