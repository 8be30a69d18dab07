//! Datagrams over UDP, one connected socket per exporter. On loopback each exporter sends from its own address
//! (127.0.0.11 and up); elsewhere exporters differ by port and observation domain.

use super::Output;
use crate::generate::GenerateError;
use crate::generate::exporter::Exporter;
use crate::model::time::now_ns;
use crate::model::{Frame, FrameBatch};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Datagrams handed to the kernel at once.
#[cfg(target_os = "linux")]
const BURST: usize = 32;

/// The sockets.
#[derive(Debug)]
pub struct UdpOutput {
    to: SocketAddr,
    sockets: Vec<(SocketAddr, UdpSocket)>,
}

impl UdpOutput {
    /// Binds one socket per exporter.
    pub fn connect(to: SocketAddr, exporters: &[Exporter]) -> Result<Self, GenerateError> {
        let sockets = exporters
            .iter()
            .map(|exporter| {
                let peer = exporter.encoder().peer();
                let from = match to.ip() {
                    IpAddr::V4(ip) if ip.is_loopback() => peer.ip(),
                    IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                let bind = || {
                    let socket = UdpSocket::bind((from, 0))?;
                    socket.connect(to)?;
                    Ok(socket)
                };
                let socket =
                    bind().map_err(|error| GenerateError::Send { from: SocketAddr::new(from, 0), to, error })?;
                Ok((peer, socket))
            })
            .collect::<Result<_, GenerateError>>()?;
        Ok(Self { to, sockets })
    }
}

impl Output for UdpOutput {
    fn send(&mut self, frames: &FrameBatch) -> Result<u64, GenerateError> {
        let sent_ns = now_ns();
        let mut rest = &frames.frames[..];
        while let Some(first) = rest.first() {
            let run = rest.iter().take_while(|f| f.peer == first.peer).count();
            let (_, socket) =
                self.sockets.iter().find(|(peer, _)| *peer == first.peer).expect("every exporter got a socket");
            send_all(socket, frames, &rest[..run]).map_err(|error| GenerateError::Send {
                from: first.peer,
                to: self.to,
                error,
            })?;
            rest = &rest[run..];
        }
        Ok(sent_ns)
    }

    fn finish(&mut self) -> Result<(), GenerateError> {
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
fn send_all(socket: &UdpSocket, batch: &FrameBatch, frames: &[Frame]) -> io::Result<()> {
    frames.iter().try_for_each(|f| socket.send(batch.bytes(f)).map(|_| ()))
}

#[cfg(target_os = "linux")]
fn send_all(socket: &UdpSocket, batch: &FrameBatch, frames: &[Frame]) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let mut rest = frames;
    while !rest.is_empty() {
        let count = rest.len().min(BURST);
        let mut parts = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BURST];
        for (part, frame) in parts.iter_mut().zip(rest) {
            let bytes = batch.bytes(frame);
            // The kernel only reads what sendmmsg is given.
            *part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        }
        // SAFETY: an all-zero mmsghdr is a valid one (null pointers, zero lengths).
        let mut messages: [libc::mmsghdr; BURST] = unsafe { std::mem::zeroed() };
        for (message, part) in messages.iter_mut().zip(&mut parts) {
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: the socket is open, the first `count` messages point to `parts`, those to bytes of `batch`; all of
        // them outlive the call.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count as u32, 0) };
        if sent < 0 {
            let error = io::Error::last_os_error();
            match error.kind() {
                // A full send queue: the datagrams were not taken; try again.
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => continue,
                _ if error.raw_os_error() == Some(libc::ENOBUFS) => std::thread::yield_now(),
                _ => return Err(error),
            }
            continue;
        }
        rest = &rest[sent as usize..];
    }
    Ok(())
}
