//! Frames over a unix socket. In: connections that bring streams (`kind = "stream"`), or datagrams, each a frame. Out:
//! frames without a peer. A socket file that nobody listens on is a leaving and is replaced; one that somebody listens on,
//! and what is no socket, is refused. Both kinds wait: a full queue makes the senders wait. A source that is set up anew on the
//! same file goes on with the socket and all connections of the one before.

use super::clock::IngestClock;
use super::framing::Framing;
use super::handover::{Claim, Open, Place, place};
use super::stream::{Limits, Listener, Server, StreamReceiver, queue_len};
use super::tcp::{default_connections, default_frame_timeout, default_queue, limit};
use super::{Receive, SourceError, Takeover};
use crate::config::decode_options::DecodeOptions;
use crate::config::registry::ComponentDef;
use crate::model::frames::NO_PEER;
use crate::model::{Delivery, FrameBatch};
use crate::telemetry::{SOURCE_DATAGRAMS, SOURCE_RECEIVED_BYTES, SOURCE_REFUSED};
use crossbeam_channel::{Receiver, Sender};
use metrics::{Counter, counter};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::UnixListener;

/// `type = "unix"`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnixConfig {
    /// The socket's file. Its folder must exist.
    pub path: PathBuf,
    /// `stream`: connections. `datagram`: each datagram is a frame.
    #[serde(default)]
    pub kind: UnixKind,
    /// Who may send: permissions of the socket's file, in octal.
    #[serde(default = "default_mode", deserialize_with = "octal", serialize_with = "as_octal")]
    #[schemars(with = "String")]
    pub mode: u32,
    /// What tells frames of a stream apart. Of datagrams only `max_frame_bytes` counts.
    #[serde(default)]
    pub framing: Framing,
    /// Connections at a time; further ones are refused and counted.
    #[serde(default = "default_connections")]
    pub max_connections: usize,
    /// A connection that brings no frame for so long is closed. 0: never.
    #[serde(default)]
    pub idle_timeout_secs: u32,
    /// A frame that is not whole so long after its first byte closes its connection. 0: it may take for ever.
    #[serde(default = "default_frame_timeout")]
    pub frame_timeout_secs: u32,
    /// Bytes that wait for decoding; then nothing is read until there is room.
    #[serde(default = "default_queue")]
    pub queue_bytes: usize,
    /// What frames are.
    #[serde(default)]
    pub decode: DecodeOptions,
}

/// Kinds of unix sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnixKind {
    /// Connections.
    #[default]
    Stream,
    /// Datagrams.
    Datagram,
}

fn default_mode() -> u32 {
    0o660
}

fn octal<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let text = String::deserialize(from)?;
    let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| de::Error::custom(format!("`mode` is {text:?}, it must be octal permissions such as \"0660\"")))
}

// Serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn as_octal<S: Serializer>(mode: &u32, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format!("{mode:04o}"))
}

/// The component.
pub const DEF: ComponentDef = ComponentDef::new::<UnixConfig>(
    "unix",
    "frames over a unix socket: streams framed as over TCP, or datagrams",
    "path = \"/run/kaminari/flows.sock\"\nmode = \"0660\"\ndecode = { format = \"jsonl\" }\n",
)
.with_paths(&["path"]);

/// A batch of datagrams is handed over when it holds this much.
const BATCH_BYTES: usize = 256 << 10;
/// Time without a datagram after which a tick goes out.
const TICK: Duration = Duration::from_millis(50);
const BACKLOG: i32 = 1024;

/// What a source at work listens on, for one that takes its place. Keeps nothing open.
#[derive(Clone)]
pub struct Listening {
    path: PathBuf,
    /// Of its file.
    id: (u64, u64),
    claim: Claims,
}

#[derive(Clone)]
enum Claims {
    Stream(Claim<Server>),
    Datagram(Claim<Bound>),
}

impl Listening {
    /// Whether it is what this configuration asks for, and somebody is at work there, in a file that is still the same.
    pub fn serves(&self, config: &UnixConfig) -> bool {
        let held = match (&self.claim, config.kind) {
            (Claims::Stream(claim), UnixKind::Stream) => claim.is_held(),
            (Claims::Datagram(claim), UnixKind::Datagram) => claim.is_held(),
            _ => false,
        };
        held && self.path == config.path && identity(&self.path) == Some(self.id)
    }
}

fn limits(config: &UnixConfig) -> Limits {
    Limits {
        framing: config.framing,
        max_connections: config.max_connections,
        idle: limit(config.idle_timeout_secs),
        frame: limit(config.frame_timeout_secs),
    }
}

/// Makes the socket; nothing is received yet.
pub fn bind(id: &str, config: &UnixConfig) -> Result<(Box<dyn Receive>, Listening), SourceError> {
    let unusable = |why: String| unusable(id, config, why);
    let kind = if config.kind == UnixKind::Stream { Type::STREAM } else { Type::DGRAM };
    let (socket, file) = open(config, kind).map_err(unusable)?;
    let at = |id, claim| Listening { path: config.path.clone(), id, claim };
    let file_id = file.id;
    if config.kind == UnixKind::Datagram {
        let socket: UnixDatagram = socket.into();
        socket.set_read_timeout(Some(TICK)).map_err(|e| unusable(e.to_string()))?;
        let (receiver, claim) = Datagrams::new(id, config, Open::Own(Bound { socket, _file: file }));
        return Ok((Box::new(receiver), at(file_id, Claims::Datagram(claim))));
    }
    let receiver = StreamReceiver::new(id, None, limits(config), || {
        socket.set_nonblocking(true)?;
        let listener = UnixListener::from_std(socket.into())?;
        Ok(Listener::Unix { listener, file })
    });
    let (receiver, claim) = receiver.map_err(|e| unusable(e.to_string()))?;
    Ok((Box::new(receiver), at(file_id, Claims::Stream(claim))))
}

/// A receiver that will go on with what a source at work has open. Nothing changes for that before [`Takeover::begin`]; then it
/// hands all over when it is told to stop.
pub fn take_over(id: &str, config: &UnixConfig, old: &Listening) -> (Box<dyn Receive>, Listening, Takeover) {
    let (receiver, claim): (Box<dyn Receive>, _) = match &old.claim {
        Claims::Stream(claim) => {
            let (receiver, claim) = StreamReceiver::after(claim, None, limits(config));
            (Box::new(receiver), Claims::Stream(claim))
        }
        Claims::Datagram(claim) => {
            let (receiver, claim) = Datagrams::new(id, config, Open::Before(claim.clone()));
            (Box::new(receiver), Claims::Datagram(claim))
        }
    };
    let (id, config, before) = (id.to_owned(), config.clone(), old.claim.clone());
    let begin = Takeover::new(move || {
        permit(&config).map_err(|e| unusable(&id, &config, e.to_string()))?;
        let made = match &before {
            Claims::Stream(claim) => claim.make(),
            Claims::Datagram(claim) => claim.make(),
        };
        let ended = || unusable(&id, &config, "the receiver of the source at work has ended".to_owned());
        if made { Ok(()) } else { Err(ended()) }
    });
    (receiver, Listening { claim, ..old.clone() }, begin)
}

fn unusable(id: &str, config: &UnixConfig, why: String) -> SourceError {
    SourceError::Unusable { id: id.to_owned(), key: "path", path: config.path.clone(), why }
}

/// Batches that may wait between the socket and the decoder.
pub fn queue(config: &UnixConfig) -> usize {
    queue_len(config.queue_bytes)
}

/// The socket's file, removed when the socket is closed, unless another has taken its place.
pub(in crate::source) struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl SocketFile {
    pub(in crate::source) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_some_and(|id| id == self.id) {
            // It may be gone by now, which is as good.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

fn open(config: &UnixConfig, kind: Type) -> Result<(Socket, SocketFile), String> {
    let path = &config.path;
    remove_leaving(path)?;
    let told = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => format!("{e}: create the folder first"),
        _ => e.to_string(),
    };
    let socket = Socket::new(Domain::UNIX, kind, None).map_err(told)?;
    socket.bind(&SockAddr::unix(path).map_err(told)?).map_err(told)?;
    let id = identity(path).ok_or("its file is gone at once")?;
    let file = SocketFile { path: path.clone(), id };
    // Nobody can connect before `listen`.
    permit(config).map_err(told)?;
    if kind == Type::STREAM {
        socket.listen(BACKLOG).map_err(told)?;
    }
    Ok((socket, file))
}

fn permit(config: &UnixConfig) -> io::Result<()> {
    fs::set_permissions(&config.path, fs::Permissions::from_mode(config.mode))
}

/// Removes the socket file of a process that is gone.
fn remove_leaving(path: &Path) -> Result<(), String> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    if !meta.file_type().is_socket() {
        return Err("something is there that is no socket: remove it, or give another `path`".to_owned());
    }
    let stream = UnixStream::connect(path).map(drop);
    let taken = match stream {
        Ok(()) => true,
        // A socket of the other kind.
        Err(e) if e.raw_os_error() == Some(libc::EPROTOTYPE) => {
            UnixDatagram::unbound().and_then(|s| s.connect(path)).is_ok()
        }
        Err(e) => e.kind() != io::ErrorKind::ConnectionRefused,
    };
    if taken {
        return Err("another process listens there: stop it, or give another `path`".to_owned());
    }
    fs::remove_file(path).map_err(|e| e.to_string())
}

struct Meters {
    frames: Counter,
    bytes: Counter,
    oversized: Counter,
}

impl Meters {
    fn new(id: &str) -> Self {
        let id: Arc<str> = id.into();
        Self {
            frames: counter!(SOURCE_DATAGRAMS, "component_id" => id.clone()),
            bytes: counter!(SOURCE_RECEIVED_BYTES, "component_id" => id.clone()),
            oversized: counter!(SOURCE_REFUSED, "component_id" => id, "reason" => "oversized"),
        }
    }
}

/// A socket of datagrams.
struct Bound {
    socket: UnixDatagram,
    _file: SocketFile,
}

struct Datagrams {
    open: Open<Bound>,
    max: usize,
    meters: Meters,
    place: Place<Bound>,
}

impl Datagrams {
    fn new(id: &str, config: &UnixConfig, open: Open<Bound>) -> (Self, Claim<Bound>) {
        let (place, claim) = place();
        (Self { open, max: config.framing.max_frame_bytes, meters: Meters::new(id), place }, claim)
    }
}

impl Receive for Datagrams {
    /// A stop empties the socket first, unless there is a successor, who has it then.
    fn run(self: Box<Self>, out: &Sender<Delivery>, recycled: &Receiver<FrameBatch>, stop: &Arc<AtomicBool>) {
        let Self { open, max, meters, place } = *self;
        let Some(bound) = open.get() else { return };
        let mut clock = IngestClock::default();
        // One byte more tells a datagram that is too long.
        let mut space = vec![0; max + 1];
        loop {
            let stopping = stop.load(Ordering::Acquire);
            if stopping && place.is_claimed() {
                return place.leave(bound);
            }
            let mut batch = recycled.try_recv().unwrap_or_default();
            batch.clear();
            let mut wait = !stopping;
            while batch.data.len() < BATCH_BYTES {
                // An error is a time-out, or that nothing is there.
                let _ = bound.socket.set_nonblocking(!wait);
                let Ok(n) = bound.socket.recv(&mut space) else { break };
                wait = false;
                match n {
                    0 => {}
                    n if n > max => meters.oversized.increment(1),
                    n => batch.push(&space[..n], NO_PEER, clock.now()),
                }
            }
            let delivery = if batch.frames.is_empty() {
                if stopping {
                    return;
                }
                Delivery::Tick(clock.now())
            } else {
                meters.frames.increment(batch.frames.len() as u64);
                meters.bytes.increment(batch.data.len() as u64);
                Delivery::Frames(batch)
            };
            // A full queue makes the senders wait: the kernel's buffer fills.
            if out.send(delivery).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: PathBuf, text: &str) -> UnixConfig {
        let path = path.display().to_string();
        toml::from_str(&format!("path = {path:?}\n{text}")).unwrap()
    }

    #[test]
    fn datagrams_arrive_whole_and_the_file_goes_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let config = config(path.clone(), "kind = \"datagram\"\nmode = \"0600\"\nframing = { max_frame_bytes = 5 }");
        let (receiver, _) = bind("t", &config).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let sender = UnixDatagram::unbound().unwrap();
        for text in ["one", "", "longer", "two\n", "three"] {
            sender.send_to(text.as_bytes(), &path).unwrap();
        }
        let (out, deliveries) = crossbeam_channel::bounded(10);
        let (_used, recycled) = crossbeam_channel::bounded(1);
        receiver.run(&out, &recycled, &Arc::new(AtomicBool::new(true)));
        let Ok(Delivery::Frames(batch)) = deliveries.recv() else { panic!("no frames") };
        let frames: Vec<&[u8]> = batch.frames.iter().map(|f| batch.bytes(f)).collect();
        assert_eq!(frames, [&b"one"[..], b"two\n", b"three"]);
        assert!(!path.exists());
    }

    #[test]
    fn a_leaving_is_replaced_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for (kind, other) in [("stream", "datagram"), ("datagram", "stream")] {
            let path = dir.path().join(kind);
            let text = format!("kind = {kind:?}");
            let first = bind("t", &config(path.clone(), &text)).unwrap();
            for kind in [kind, other] {
                let error = bind("t", &config(path.clone(), &format!("kind = {kind:?}"))).err().unwrap().to_string();
                assert!(error.contains("another process listens") && error.contains("\"t\""), "{error}");
            }
            drop(first);
            assert!(!path.exists());
            // As a killed process leaves it.
            let leaving = UnixDatagram::bind(&path).unwrap();
            drop(leaving);
            assert!(path.exists());
            assert!(bind("t", &config(path.clone(), &text)).is_ok());
        }
        let file = dir.path().join("file");
        fs::write(&file, "mine").unwrap();
        let error = bind("t", &config(file.clone(), "")).err().unwrap().to_string();
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(fs::read(&file).unwrap(), b"mine");
        let error = bind("t", &config(dir.path().join("no/s"), "")).err().unwrap().to_string();
        assert!(error.contains("create the folder first"), "{error}");
    }

    /// A receiver at work; what it brings, and how to end it.
    fn run(receiver: Box<dyn Receive>) -> (Receiver<Delivery>, impl FnOnce()) {
        let (out, deliveries) = crossbeam_channel::bounded(100);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (_used, recycled) = crossbeam_channel::bounded(1);
            receiver.run(&out, &recycled, &stopped);
        });
        let end = move || {
            stop.store(true, Ordering::Release);
            thread.join().unwrap();
        };
        (deliveries, end)
    }

    fn frame(deliveries: &Receiver<Delivery>) -> String {
        loop {
            if let Delivery::Frames(batch) = deliveries.recv_timeout(Duration::from_secs(30)).unwrap() {
                assert_eq!(batch.frames.len(), 1);
                return String::from_utf8(batch.bytes(&batch.frames[0]).to_vec()).unwrap();
            }
        }
    }

    #[test]
    fn another_table_goes_on_with_the_socket_and_its_file() {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        for kind in ["stream", "datagram"] {
            let path = dir.path().join(kind);
            let (receiver, listening) = bind("t", &config(path.clone(), &format!("kind = {kind:?}"))).unwrap();
            let (deliveries, end) = run(receiver);
            let mut stream = (kind == "stream").then(|| UnixStream::connect(&path).unwrap());
            let datagram = UnixDatagram::unbound().unwrap();
            let mut send = |text: &str| match &mut stream {
                Some(stream) => stream.write_all(text.as_bytes()).unwrap(),
                None => drop(datagram.send_to(text.trim_end().as_bytes(), &path).unwrap()),
            };
            send("one\n");
            assert_eq!(frame(&deliveries), "one");
            let other = config(path.clone(), &format!("kind = {kind:?}\nmode = \"0600\"\nqueue_bytes = 1"));
            assert!(listening.serves(&other));
            let (receiver, next, takeover) = take_over("t", &other, &listening);
            assert_ne!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "nothing has happened yet");
            takeover.begin().unwrap();
            end();
            // Nobody reads now, and nobody is refused.
            send("two\n");
            drop(stream.as_ref().map(|_| UnixStream::connect(&path).unwrap()));
            let (deliveries, end) = run(receiver);
            assert_eq!(frame(&deliveries), "two");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert!(!listening.serves(&other) && next.serves(&other));
            // Somebody has put another file there.
            fs::rename(&path, dir.path().join("aside")).unwrap();
            assert!(!next.serves(&other));
            fs::rename(dir.path().join("aside"), &path).unwrap();
            end();
            assert!(!path.exists(), "the last one removes it");
        }
    }

    #[test]
    fn a_mode_is_octal() {
        assert_eq!(config("s".into(), "mode = \"0622\"").mode, 0o622);
        assert!(toml::from_str::<UnixConfig>("path = \"s\"\nmode = \"rw\"").unwrap_err().message().contains("octal"));
        let example: UnixConfig = toml::from_str(DEF.example).unwrap();
        assert_eq!(example.kind, UnixKind::Stream);
    }
}
