//! Events on standard output: JSON lines for programs, one readable line each for people.

use super::{Sink, SinkError, incidents, json_lines, render};
use crate::config::registry::ComponentDef;
use crate::model::Output;
use serde::{Deserialize, Serialize};
use std::io::{self, IsTerminal, Write};
use std::path::Path;

/// `type = "stdout"`.
pub const DEF: ComponentDef = ComponentDef::new::<StdoutConfig>(
    "stdout",
    "incident events on standard output, as JSON lines or as readable text",
    "format = \"json\"",
);

/// How events look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// JSON lines.
    Json,
    /// One readable line per event.
    Text,
}

/// The body of a `stdout` sink.
#[derive(Clone, Default, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StdoutConfig {
    /// `text` when standard output is a terminal, else `json`.
    pub format: Option<Format>,
}

/// The sink; over any writer, so that tests can look.
pub struct StdoutSink<W = io::Stdout> {
    out: W,
    format: Format,
    colour: bool,
}

impl StdoutSink {
    /// On the process's standard output.
    pub fn new(config: StdoutConfig) -> Self {
        let out = io::stdout();
        let terminal = out.is_terminal();
        let format = config.format.unwrap_or(if terminal { Format::Text } else { Format::Json });
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self { out, format, colour }
    }
}

impl<W: Write + Send> Sink for StdoutSink<W> {
    fn deliver(&mut self, output: &Output) -> Result<(), SinkError> {
        let events = incidents(output)?;
        let text = match self.format {
            Format::Json => json_lines(events),
            Format::Text => events.iter().map(|e| render::line(e, self.colour) + "\n").collect(),
        };
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).map_err(failed)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.out.flush().map_err(failed)
    }
}

fn failed(e: io::Error) -> SinkError {
    match e.kind() {
        io::ErrorKind::BrokenPipe => SinkError::closed("standard output"),
        _ => SinkError::io("write", "write to", Path::new("standard output"), e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::incident::IncidentEvent;
    use crate::sink::fixtures::event;

    #[test]
    fn json_is_one_line_per_event_and_reads_back() {
        let mut sink = StdoutSink { out: Vec::new(), format: Format::Json, colour: false };
        sink.deliver(&Output::Incidents(vec![event(), event()])).unwrap();
        let text = String::from_utf8(sink.out).unwrap();
        let back: Vec<IncidentEvent> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(back, [event(), event()]);
    }

    #[test]
    fn a_reader_that_has_gone_is_not_tried_again() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let err = StdoutSink { out: Gone, format: Format::Text, colour: true }
            .deliver(&Output::Incidents(vec![event()]))
            .unwrap_err();
        assert_eq!((err.reason, err.retry), ("closed", false));
    }
}
