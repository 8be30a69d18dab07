//! Reads the files of a source to their end: flow records for an intake, rows of features for pipelines of rows. In: open
//! files. Out: what their readers give, at the pace that a replay asks for. A file that cannot be read on is told at the
//! end, with its name; the next one is read.

use super::intake::Intake;
use super::reading::Reading;
use super::rows::RowsIntake;
use super::running::Progress;
use crate::config::decode_options::{DecodeFormat, DecodeOptions};
use crate::model::FrameBatch;
use crate::source::file::FileReader;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A replay that waits for the time of its next records looks so often whether it shall stop.
const NAP: Duration = Duration::from_millis(100);
/// Frames read from a file at a time.
const READ_FRAMES: usize = 256;

/// A file, what it holds, and the decoder for it.
pub(super) type OpenFile = (FileReader, Option<DecodeFormat>, Reading);

/// Keeps a replay at a multiple of the pace at which the records were received.
pub(super) struct Pace {
    speed: Option<f64>,
    start: Option<(Instant, u64)>,
}

impl Pace {
    /// `None`: as fast as it goes.
    pub(super) fn new(speed: Option<f64>) -> Self {
        Self { speed, start: None }
    }

    fn keep(&mut self, first: u64, last: u64, stop: &AtomicBool) {
        let Some(speed) = self.speed else { return };
        let (began, first) = *self.start.get_or_insert_with(|| (Instant::now(), first));
        let due = Duration::from_nanos((last.saturating_sub(first) as f64 / speed) as u64);
        if let Some(ahead) = due.checked_sub(began.elapsed()) {
            let until = Instant::now() + ahead;
            while Instant::now() < until && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(until.saturating_duration_since(Instant::now()).min(NAP));
            }
        }
    }
}

/// Files of flow records.
pub(super) fn flows(
    files: Vec<OpenFile>,
    mut intake: Intake,
    mut pace: Pace,
    stop: &AtomicBool,
    progress: Option<Progress>,
) -> Result<(), String> {
    let (mut errors, mut last) = (Vec::new(), None);
    for (at, (mut reader, format, reading)) in files.into_iter().enumerate() {
        if at > 0 && stop.load(Ordering::Relaxed) {
            break;
        }
        // Captures in a row are one stream with one set of templates; a CSV file has a header of its own.
        if last != format || format == Some(DecodeFormat::Csv) {
            intake.replace(reading);
            last = format;
        }
        intake.of_file(reader.path().display().to_string());
        let read = drain(&mut reader, stop, progress.as_ref(), |frames| {
            intake.read_from_file(frames, |first, last| pace.keep(first, last, stop));
            Ok(())
        });
        errors.extend(read.err());
        intake.skipped(&reader.skipped().reasons());
    }
    intake.finish();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}

/// Files of rows of features.
pub(super) fn rows(
    files: Vec<(FileReader, DecodeOptions)>,
    mut pipelines: Vec<RowsIntake>,
    mut pace: Pace,
    stop: &AtomicBool,
    progress: Option<Progress>,
) -> Result<(), String> {
    let mut errors = Vec::new();
    for (at, (mut reader, options)) in files.into_iter().enumerate() {
        if at > 0 && stop.load(Ordering::Relaxed) {
            break;
        }
        pipelines.iter_mut().for_each(|p| p.open(&options));
        let name = reader.path().display().to_string();
        let read = drain(&mut reader, stop, progress.as_ref(), |frames| {
            for pipeline in &mut pipelines {
                let times = pipeline.read(frames).map_err(|missing| format!("{name}: {missing}"))?;
                if let Some((first, last)) = times {
                    pace.keep(first, last, stop);
                }
            }
            Ok(())
        });
        errors.extend(read.err());
    }
    pipelines.into_iter().for_each(RowsIntake::finish);
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}

/// Gives `take` all frames of a file, as many at a time as are read at a time; what came before an error too. Told to stop,
/// it ends after the piece at hand: one that was told before it began has read one, and can say so.
fn drain(
    reader: &mut FileReader,
    stop: &AtomicBool,
    progress: Option<&Progress>,
    mut take: impl FnMut(&FrameBatch) -> Result<(), String>,
) -> Result<(), String> {
    let mut frames = FrameBatch::default();
    loop {
        frames.clear();
        let more = reader.read(&mut frames, READ_FRAMES).map_err(|error| error.to_string());
        take(&frames)?;
        if let Some(progress) = progress {
            let (done, total) = reader.position();
            progress(done, total);
        }
        if !more? || stop.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}
