//! Files that grow, line by line. In: paths, with wildcards in their last part, looked at now and then. Out: each line as a
//! frame, and [`Places`]: where to go on after a restart. Rotation is followed: files that are renamed (the rest of the old
//! one is read first), truncated (copytruncate), removed and made anew, or that appear later. A line that has no end yet
//! waits for it. Refused, by reason: lines that are too long, compressed files. A full queue makes reading wait.
//!
//! Metrics: `kaminari_source_{received_bytes,datagrams,refused,files,rotations,truncations}`.

mod follow;
mod places;
mod scan;
#[cfg(test)]
mod tests;

pub use places::Places;

use super::Receive;
use super::clock::IngestClock;
use super::framing::{Framing, FramingKind};
use super::seldom::Seldom;
use crate::config::decode_options::DecodeOptions;
use crate::config::registry::ComponentDef;
use crate::model::frames::NO_PEER;
use crate::model::{Delivery, FrameBatch};
use crate::telemetry::{
    SOURCE_DATAGRAMS, SOURCE_FILES, SOURCE_RECEIVED_BYTES, SOURCE_REFUSED, SOURCE_ROTATIONS, SOURCE_TRUNCATIONS,
};
use crossbeam_channel::{Receiver, Sender};
use follow::{Followed, Id, Opened};
use metrics::{Counter, Gauge, counter, gauge};
use places::{Change, Place};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// `type = "tail"`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TailConfig {
    /// Files; `*` and `?` may stand in the last part of a path.
    pub paths: Vec<PathBuf>,
    /// Where to begin in files that are there at the very first start: `end` or `beginning`. Files that come later are read
    /// whole.
    #[serde(default)]
    pub start: Start,
    /// How often files are looked at.
    #[serde(default = "default_poll")]
    pub poll_interval_ms: u32,
    /// Longest line, bytes; a longer one is refused and counted.
    #[serde(default = "default_line")]
    pub max_line_bytes: usize,
    /// Kept positions stay so far behind: after a crash the windows of that time are made again.
    #[serde(default)]
    pub replay_secs: u32,
    /// Bytes that wait for decoding; then nothing is read until there is room.
    #[serde(default = "super::tcp::default_queue")]
    pub queue_bytes: usize,
    /// What lines are.
    #[serde(default)]
    pub decode: DecodeOptions,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the next line that is written.
    #[default]
    End,
    /// With the first line.
    Beginning,
}

fn default_poll() -> u32 {
    250
}
fn default_line() -> usize {
    64 << 10
}

/// The component.
pub const DEF: ComponentDef = ComponentDef::new::<TailConfig>(
    "tail",
    "lines of files that grow, over rotation and restarts",
    "paths = [\"/var/log/flows/*.jsonl\"]\nstart = \"end\"\ndecode = { format = \"jsonl\" }\n",
)
.with_paths(&["paths"]);

/// A batch is handed over when it holds this much.
const BATCH_BYTES: usize = 256 << 10;
/// Bytes of one file before the next one has its turn.
const TURN_BYTES: usize = 1 << 20;
/// A file that is no longer where it was is read on for so long after its last byte: its writer may still have it open.
const LINGER: Duration = Duration::from_secs(30);
/// How soon a stop is seen.
const STOP_EVERY: Duration = Duration::from_millis(50);

/// Batches that may wait before the decoder.
pub fn queue(config: &TailConfig) -> usize {
    (config.queue_bytes / BATCH_BYTES).max(2)
}

/// What the configuration alone shows to be wrong.
pub fn complaint(config: &TailConfig) -> Option<String> {
    if config.paths.is_empty() {
        return Some("`paths` is empty".to_owned());
    }
    let wild = config.paths.iter().find(|path| path.parent().is_some_and(scan::is_wild))?;
    Some(format!("{}: a wildcard may stand in the last part of a path only", wild.display()))
}

/// Makes the source; goes on where `saved` (of [`Places`]) says. `Err`: it is not what was saved.
pub fn open(id: &str, config: &TailConfig, saved: Option<&[u8]>) -> Result<(Box<dyn Receive>, Places), String> {
    let known = saved.map(places::decode).transpose()?;
    let places = Places::new(known.as_deref().unwrap_or_default(), Duration::from_secs(config.replay_secs.into()));
    let framing =
        Framing { kind: FramingKind::Newline, max_frame_bytes: config.max_line_bytes.max(1), ..Framing::default() };
    let mut tail = Tail {
        id: id.into(),
        config: config.clone(),
        framing,
        files: Vec::new(),
        ignored: BTreeMap::new(),
        first: known.is_none(),
        known: known.unwrap_or_default().into_iter().map(|p| (p.id, p)).collect(),
        places: places.clone(),
        batches: 0,
        clock: IngestClock::default(),
        seldom: Seldom::default(),
        meters: Meters::new(id),
    };
    // Where to begin is known before anything runs, and can be kept.
    tail.look();
    Ok((Box::new(tail), places))
}

struct Meters {
    lines: Counter,
    bytes: Counter,
    oversized: Counter,
    compressed: Counter,
    rotations: Counter,
    truncations: Counter,
    files: Gauge,
}

impl Meters {
    fn new(id: &str) -> Self {
        let id: Arc<str> = id.into();
        let refused = |reason: &'static str| counter!(SOURCE_REFUSED, "component_id" => id.clone(), "reason" => reason);
        Self {
            lines: counter!(SOURCE_DATAGRAMS, "component_id" => id.clone()),
            bytes: counter!(SOURCE_RECEIVED_BYTES, "component_id" => id.clone()),
            oversized: refused("oversized"),
            compressed: refused("compressed"),
            rotations: counter!(SOURCE_ROTATIONS, "component_id" => id.clone()),
            truncations: counter!(SOURCE_TRUNCATIONS, "component_id" => id.clone()),
            files: gauge!(SOURCE_FILES, "component_id" => id.clone()),
        }
    }
}

struct Tail {
    id: Arc<str>,
    config: TailConfig,
    framing: Framing,
    /// Those that are no longer where they were come first: what they still hold is older.
    files: Vec<Followed>,
    /// Files that are none of ours, whatever they are called; held open, so that no other gets to be the same.
    ignored: BTreeMap<Id, File>,
    /// Nothing was known, and nothing has been looked for yet.
    first: bool,
    /// Where to go on in files that have not been found yet.
    known: BTreeMap<Id, Place>,
    places: Places,
    /// Deliveries of frames so far.
    batches: u64,
    clock: IngestClock,
    seldom: Seldom,
    meters: Meters,
}

impl Receive for Tail {
    /// A stop ends it after one more round: what was not read is read after the next start.
    fn run(mut self: Box<Self>, out: &Sender<Delivery>, recycled: &Receiver<FrameBatch>, stop: &Arc<AtomicBool>) {
        let poll = Duration::from_millis(self.config.poll_interval_ms.max(1).into());
        let mut space = vec![0; 64 << 10];
        loop {
            let (began, stopping) = (Instant::now(), stop.load(Ordering::Relaxed));
            self.look();
            let Some(read) = self.round(&mut space, out, recycled) else { return };
            if stopping {
                return;
            }
            if read {
                continue;
            }
            if out.send(Delivery::Tick(self.clock.now())).is_err() {
                return;
            }
            while began.elapsed() < poll && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(poll.saturating_sub(began.elapsed()).min(STOP_EVERY));
            }
        }
    }
}

impl Tail {
    /// Which files there are now.
    fn look(&mut self) {
        let mut found = BTreeMap::new();
        for pattern in &self.config.paths {
            match scan::files(pattern) {
                Ok(files) => found.extend(files.into_iter().map(|(path, id)| (id, path))),
                Err(error) => {
                    if let Some(more) = self.seldom.due("unreadable") {
                        tracing::warn!(component_id = &*self.id, "{}: {error}{more}", pattern.display());
                    }
                }
            }
        }
        for file in &mut self.files {
            let now = found.remove(&file.id());
            if file.moved(now) {
                self.meters.rotations.increment(1);
            }
        }
        self.ignored.retain(|id, _| found.contains_key(id));
        for (id, path) in found {
            if !self.ignored.contains_key(&id) {
                let place = self.known.remove(&id);
                self.begin(path, place.as_ref(), true);
            }
        }
        // Files that were rotated while nobody looked are no longer where the patterns point.
        for place in std::mem::take(&mut self.known).into_values() {
            match scan::same_file(&place) {
                Some(path) => self.begin(path, Some(&place), false),
                None => {
                    tracing::warn!(
                        component_id = &*self.id,
                        "{} is gone: what was not read of it before byte {} is lost, if there was more",
                        place.path,
                        place.next
                    );
                    self.places.note(self.batches, vec![Change::Gone(place.id)]);
                }
            }
        }
        self.first = false;
        self.files.sort_by(|a, b| (a.is_listed(), a.path()).cmp(&(b.is_listed(), b.path())));
        self.meters.files.set(self.files.len() as f64);
    }

    fn begin(&mut self, path: PathBuf, place: Option<&Place>, listed: bool) {
        let from_end = self.first && self.config.start == Start::End;
        match Followed::open(&path, self.framing, place, from_end, listed) {
            Ok(Opened::File { file, truncated }) => {
                tracing::info!(component_id = &*self.id, "follows {} from byte {}", path.display(), file.position());
                self.meters.truncations.increment(u64::from(truncated));
                self.places.note(self.batches, vec![Change::At(file.place())]);
                self.places.found();
                self.files.push(*file);
            }
            Ok(Opened::Compressed(id, file)) => {
                self.meters.compressed.increment(1);
                self.ignored.insert(id, file);
                tracing::warn!(component_id = &*self.id, "{} is compressed: it is not read", path.display());
            }
            Err(error) => {
                if let Some(more) = self.seldom.due("unreadable") {
                    tracing::warn!(component_id = &*self.id, "{}: {error}{more}", path.display());
                }
            }
        }
    }

    /// Reads what has come. True: there was something; `None`: nobody takes it.
    fn round(&mut self, space: &mut [u8], out: &Sender<Delivery>, recycled: &Receiver<FrameBatch>) -> Option<bool> {
        let (mut read, mut batch) = (false, FrameBatch::default());
        let mut changes = BTreeMap::new();
        let mut at = 0;
        while at < self.files.len() {
            let file = &mut self.files[at];
            let (mut turn, mut quiet) = (0, false);
            while turn < TURN_BYTES && !quiet {
                let now = self.clock.now();
                let step = file.step(space, &mut |line| batch.push(line, NO_PEER, now));
                self.meters.oversized.increment(file.take_oversized());
                match step {
                    Ok(step) => {
                        self.meters.truncations.increment(u64::from(step.truncated));
                        quiet = step.bytes == 0;
                        turn += step.bytes;
                    }
                    Err(error) => {
                        quiet = true;
                        if let Some(more) = self.seldom.due("unreadable") {
                            tracing::warn!(component_id = &*self.id, "{}: {error}{more}", file.path().display());
                        }
                    }
                }
                changes.insert(file.id(), Change::At(file.place()));
                if batch.data.len() >= BATCH_BYTES {
                    let full = std::mem::replace(&mut batch, recycled.try_recv().unwrap_or_default());
                    batch.clear();
                    deliver(full, std::mem::take(&mut changes), &mut self.batches, &self.places, &self.meters, out)?;
                }
            }
            read |= turn > 0;
            if quiet && !file.is_listed() && file.quiet_for() >= LINGER {
                let now = self.clock.now();
                file.finish(&mut |line| batch.push(line, NO_PEER, now));
                changes.insert(file.id(), Change::Gone(file.id()));
                self.files.remove(at);
            } else {
                at += 1;
            }
        }
        deliver(batch, changes, &mut self.batches, &self.places, &self.meters, out)?;
        Some(read)
    }
}

/// Hands frames over and notes where their files go on behind them.
fn deliver(
    batch: FrameBatch,
    changes: BTreeMap<Id, Change>,
    batches: &mut u64,
    places: &Places,
    meters: &Meters,
    out: &Sender<Delivery>,
) -> Option<()> {
    let has_frames = !batch.frames.is_empty();
    *batches += u64::from(has_frames);
    places.note(*batches, changes.into_values().collect());
    if has_frames {
        meters.lines.increment(batch.frames.len() as u64);
        meters.bytes.increment(batch.data.len() as u64);
        out.send(Delivery::Frames(batch)).ok()?;
    }
    Some(())
}
