//! `kaminari decode INPUT`: canonical JSON lines on stdout, one line of counters on stderr.

use crate::config::decode_options::{DecodeFormat, DecodeOptions};
use crate::decode;
use crate::model::{FlowRecord, FlowSink, FrameBatch, flow_json};
use crate::source::file::{FileReader, format_of};
use miette::{IntoDiagnostic, miette};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// Frames per batch.
const BATCH: usize = 256;

/// Prints the flow records of a capture or flow file.
#[derive(clap::Args, Debug)]
pub struct DecodeArgs {
    /// pcap, pcapng, JSON lines, CSV or messages of other collectors, each also .gz; Parquet
    input: PathBuf,
    /// What the file is, when its name does not say: netflow (a capture), rawflow, goflow2, goflow2_json, pmacct, arrow,
    /// jsonl, csv or parquet
    #[arg(long, value_parser = parse_format)]
    format: Option<DecodeFormat>,
    /// Stop after so many flow records
    #[arg(long)]
    limit: Option<u64>,
    /// Sampling rate (N of 1-in-N) of exporters that do not say theirs
    #[arg(long)]
    sampling_rate: Option<u64>,
}

fn parse_format(text: &str) -> Result<DecodeFormat, String> {
    if text == "pcap" {
        return Ok(DecodeFormat::Netflow);
    }
    let known = || DecodeFormat::ALL.map(|(word, _)| word).join(", ");
    DecodeFormat::from_word(text).ok_or_else(|| format!("known are {}", known()))
}

/// Runs the verb.
pub fn run(args: DecodeArgs) -> miette::Result<()> {
    let mut options =
        DecodeOptions { format: args.format, sampling_rate: args.sampling_rate, ..DecodeOptions::default() };
    // A person looks at the file as it is: templates of any age count.
    options.template_ttl_secs = 0;
    let mut reader = FileReader::open(&args.input, &options).into_diagnostic()?;
    options.format = format_of(&args.input, &options);
    let mut decoder = decode::build(&options, true).into_diagnostic()?;
    let stdout = io::stdout().lock();
    let mut printer = Printer {
        out: BufWriter::with_capacity(1 << 16, stdout),
        line: Vec::new(),
        left: args.limit.unwrap_or(u64::MAX),
        failed: None,
    };
    let mut batch = FrameBatch::default();
    let mut broken = None;
    while printer.left > 0 && printer.failed.is_none() {
        batch.clear();
        let more = reader.read(&mut batch, BATCH).unwrap_or_else(|error| {
            broken = Some(error);
            false
        });
        decoder.decode(&batch, &mut printer);
        if !more {
            break;
        }
    }
    let flushed = printer.out.flush();
    match printer.failed.or(flushed.err()) {
        // Whoever read our output has seen enough.
        Some(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        Some(e) => return Err(miette!("cannot write to stdout: {e}")),
        None => {}
    }
    eprint!("{}", decoder.stats());
    for (reason, n) in reader.skipped().reasons().into_iter().filter(|(_, n)| *n > 0) {
        eprint!(", {n} packets skipped ({reason})");
    }
    eprintln!();
    if let Some(first) = &decoder.stats().first_error {
        eprintln!("first refused: {}: {first}", args.input.display());
    }
    broken.map_or(Ok(()), |error| Err(error).into_diagnostic())
}

/// Prints records until the limit or the first failure.
struct Printer<W: Write> {
    out: W,
    line: Vec<u8>,
    left: u64,
    failed: Option<io::Error>,
}

impl<W: Write> FlowSink for Printer<W> {
    fn push(&mut self, record: &FlowRecord) {
        if self.left == 0 || self.failed.is_some() {
            return;
        }
        self.left -= 1;
        self.line.clear();
        flow_json::write(record, &mut self.line);
        self.line.push(b'\n');
        self.failed = self.out.write_all(&self.line).err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_limit_and_a_gone_reader_stop_the_printing() {
        let mut printer = Printer { out: Vec::new(), line: Vec::new(), left: 2, failed: None };
        for _ in 0..5 {
            printer.push(&FlowRecord::default());
        }
        assert_eq!(printer.out.iter().filter(|b| **b == b'\n').count(), 2);
        let mut printer = Printer { out: Gone, line: Vec::new(), left: 9, failed: None };
        printer.push(&FlowRecord::default());
        printer.push(&FlowRecord::default());
        assert_eq!((printer.left, printer.failed.map(|e| e.kind())), (8, Some(io::ErrorKind::BrokenPipe)));
    }
}
