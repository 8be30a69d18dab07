//! Streams of frames over TCP, with or without TLS. In: connections of one port. Out: frames with their sender's address.
//! What is promised and what is refused is that of every stream (`stream/`). Peers that are gone without a word are found
//! by keep-alive probes.

use super::framing::Framing;
use super::handover::Claim;
use super::stream::{Limits, Listener, Server, StreamReceiver, queue_len};
use super::tls::{self, Tls, TlsConfig};
use super::{Receive, SourceError, Takeover};
use crate::config::decode_options::DecodeOptions;
use crate::config::registry::ComponentDef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;

/// `type = "tcp"`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpConfig {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// What tells frames apart.
    #[serde(default)]
    pub framing: Framing,
    /// Certificate and key. Without it, connections are plain.
    pub tls: Option<TlsConfig>,
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

pub(super) fn default_connections() -> usize {
    1024
}
pub(super) fn default_frame_timeout() -> u32 {
    60
}
pub(super) fn default_queue() -> usize {
    16 << 20
}

/// The component.
pub const DEF: ComponentDef = ComponentDef::new::<TcpConfig>(
    "tcp",
    "frames over TCP and TLS: lines, octet-counted (RFC 6587, RFC 5425) or behind their length",
    "listen = \"0.0.0.0:6514\"\nframing = { type = \"newline\" }\ntls = { cert = \"server.pem\", key = \"server.key\" }\ndecode = { format = \"jsonl\" }\n",
)
.with_paths(&["tls.cert", "tls.key", "tls.client_ca"])
.with_contents(&["tls.cert", "tls.key", "tls.client_ca"]);

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Reads certificates and keys; fails as [`bind`] would.
pub fn check(id: &str, config: &TcpConfig) -> Result<(), SourceError> {
    tls(id, config).map(drop)
}

fn tls(id: &str, config: &TcpConfig) -> Result<Option<Tls>, SourceError> {
    let read = config.tls.as_ref().map(tls::read).transpose();
    read.map_err(|tls::Unusable { key, path, why }| SourceError::Unusable { id: id.to_owned(), key, path, why })
}

fn limits(config: &TcpConfig) -> Limits {
    Limits {
        framing: config.framing,
        max_connections: config.max_connections,
        idle: limit(config.idle_timeout_secs),
        frame: limit(config.frame_timeout_secs),
    }
}

/// What a source at work listens on, for one that takes its place. Keeps nothing open.
#[derive(Clone)]
pub struct Listening {
    /// Where, with a port that the system chose.
    pub address: SocketAddr,
    claim: Claim<Server>,
}

impl Listening {
    /// Whether it is what this `listen` asks for, and somebody is at work there; port 0 is any port.
    pub fn serves(&self, listen: SocketAddr) -> bool {
        let same = self.address.ip() == listen.ip() && [0, self.address.port()].contains(&listen.port());
        same && self.claim.is_held()
    }
}

/// Listens; nothing is accepted yet.
pub fn bind(id: &str, config: &TcpConfig) -> Result<(Box<dyn Receive>, Listening), SourceError> {
    let tls = tls(id, config)?;
    let mut address = config.listen;
    let receiver = StreamReceiver::new(id, tls, limits(config), || {
        let listener = TcpListener::from_std(listen(config.listen)?)?;
        address = listener.local_addr()?;
        Ok(Listener::Tcp(listener))
    });
    let (receiver, claim) =
        receiver.map_err(|source| SourceError::Bind { id: id.to_owned(), listen: config.listen, source })?;
    Ok((Box::new(receiver), Listening { address, claim }))
}

/// A receiver that will go on with the listener and the connections of a source at work. Nothing changes for that before
/// [`Takeover::begin`]; then it hands all over when it is told to stop.
pub fn take_over(
    id: &str,
    config: &TcpConfig,
    old: &Listening,
) -> Result<(Box<dyn Receive>, Listening, Takeover), SourceError> {
    let (receiver, claim) = StreamReceiver::after(&old.claim, tls(id, config)?, limits(config));
    let (id, listen, before) = (id.to_owned(), old.address, old.claim.clone());
    let begin = Takeover::new(move || {
        let ended = || std::io::Error::other("the receiver of the source at work has ended");
        if before.make() { Ok(()) } else { Err(SourceError::Bind { id, listen, source: ended() }) }
    });
    Ok((Box::new(receiver), Listening { address: old.address, claim }, begin))
}

/// Batches that may wait between the connections and the decoder.
pub fn queue(config: &TcpConfig) -> usize {
    queue_len(config.queue_bytes)
}

pub(super) fn limit(secs: u32) -> Option<Duration> {
    (secs > 0).then(|| Duration::from_secs(secs.into()))
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart need not wait for the last connections of the process before; who still listens keeps the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
