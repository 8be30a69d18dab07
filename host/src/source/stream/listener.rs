//! Where connections come from.

use crate::model::frames::NO_PEER;
use crate::source::unix::SocketFile;
use socket2::{SockRef, TcpKeepalive};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A peer that is gone without a word is noticed after two minutes.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)).with_retries(6);

pub(in crate::source) enum Listener {
    Tcp(TcpListener),
    /// With its file, which goes with it.
    Unix {
        listener: UnixListener,
        file: SocketFile,
    },
}

pub(in crate::source) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Who is at the other end.
pub(in crate::source) enum Peer {
    Address(SocketAddr),
    Path(PathBuf),
}

impl Peer {
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Peer::Address(address) => *address,
            Peer::Path(_) => NO_PEER,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Address(address) => address.fmt(f),
            Peer::Path(path) => path.display().fmt(f),
        }
    }
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Without it the connection is as good, while it lasts.
                let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
                // A dual-stack socket reports IPv4 peers as mapped.
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                Ok((Socket::Tcp(stream), Peer::Address(peer)))
            }
            Listener::Unix { listener, file } => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::Unix(stream), Peer::Path(file.path().to_owned())))
            }
        }
    }
}
