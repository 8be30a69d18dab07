//! Where log events go: stderr, as text for a person or JSON for a machine. Comes in: the wish of the command line and
//! `KAMINARI_LOG` (a filter such as `info,kaminari::decode=debug`), which wins. A bad filter is refused, not ignored.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Form of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One line for a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// Sets up logging for the process. `verbosity`: 0 is info, each step up or down one level. Fails on a bad filter in
/// `KAMINARI_LOG`.
pub fn init(format: LogFormat, verbosity: i8, color: bool) -> Result<(), ParseError> {
    let filter = match std::env::var("KAMINARI_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(text)?,
        _ => EnvFilter::try_new(level(verbosity))?,
    };
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    let json = match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    // A second call (tests in one process) keeps the first set-up.
    let _ = if json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        builder.with_ansi(color).with_target(false).try_init()
    };
    Ok(())
}

fn level(verbosity: i8) -> &'static str {
    match verbosity {
        ..=-3 => "off",
        -2 => "error",
        -1 => "warn",
        0 => "info",
        1 => "info,kaminari=debug",
        _ => "info,kaminari=trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verbosity_is_a_filter() {
        for verbosity in i8::MIN..=i8::MAX {
            EnvFilter::try_new(level(verbosity)).unwrap();
        }
        assert_eq!((level(-1), level(0)), ("warn", "info"));
    }
}
