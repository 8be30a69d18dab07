//! Ports of the loopback interface. Below those that the kernel gives to outgoing connections, so that a broker finds its
//! own free when it starts again.

use anyhow::{Result, bail};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Where they are looked for.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

/// A port for each listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) plaintext: u16,
    pub(crate) sasl: u16,
    pub(crate) ssl: u16,
    pub(crate) sasl_ssl: u16,
    /// The controller's, which only the broker itself speaks to.
    pub(crate) controller: u16,
}

impl Ports {
    /// Five that are free now.
    pub(crate) fn free() -> Result<Self> {
        // Held until all are found: no port twice.
        let mut held = Vec::new();
        let mut port = start();
        for _ in RANGE {
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
                held.push((port, listener));
            }
            if let [(plaintext, _), (sasl, _), (ssl, _), (sasl_ssl, _), (controller, _)] = held[..] {
                return Ok(Self { plaintext, sasl, ssl, sasl_ssl, controller });
            }
            port = if port + 1 < RANGE.end { port + 1 } else { RANGE.start };
        }
        bail!("no five ports of 127.0.0.1 are free in {RANGE:?}")
    }

    /// The value of `listeners`.
    pub(crate) fn listeners(&self) -> String {
        let Self { plaintext, sasl, ssl, sasl_ssl, controller } = self;
        format!(
            "PLAINTEXT://127.0.0.1:{plaintext},SASL_PLAINTEXT://127.0.0.1:{sasl},SSL://127.0.0.1:{ssl},\
             SASL_SSL://127.0.0.1:{sasl_ssl},CONTROLLER://127.0.0.1:{controller}"
        )
    }

    /// Those of a server.properties that was written before.
    pub(crate) fn of(properties: &str) -> Option<Self> {
        let listeners = properties.lines().find_map(|line| line.strip_prefix("listeners="))?;
        let port = |name: &str| {
            let address = listeners.split(',').find_map(|l| l.strip_prefix(name)?.strip_prefix("://"))?;
            address.rsplit(':').next()?.parse().ok()
        };
        Some(Self {
            plaintext: port("PLAINTEXT")?,
            sasl: port("SASL_PLAINTEXT")?,
            ssl: port("SSL")?,
            sasl_ssl: port("SASL_SSL")?,
            controller: port("CONTROLLER")?,
        })
    }

    /// Those that clients speak to.
    pub(crate) fn of_clients(&self) -> [u16; 4] {
        [self.plaintext, self.sasl, self.ssl, self.sasl_ssl]
    }
}

/// Another place each time, in each process.
fn start() -> u16 {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    let mixed =
        (now ^ std::process::id().rotate_left(16)).wrapping_add(CALLS.fetch_add(1, Relaxed)).wrapping_mul(0x9E37_79B1);
    RANGE.start + (mixed >> 8) as u16 % (RANGE.end - RANGE.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_different_free_ports() {
        // Somebody else on this machine may take one in between: then others are looked for.
        let bound = (0..5).any(|_| {
            let ports = Ports::free().unwrap();
            let mut all = ports.of_clients().to_vec();
            all.push(ports.controller);
            assert!(all.iter().all(|p| RANGE.contains(p)));
            // Held together: no port twice.
            all.iter().map(|p| TcpListener::bind(("127.0.0.1", *p))).collect::<Result<Vec<_>, _>>().is_ok()
        });
        assert!(bound);
    }

    #[test]
    fn ports_are_read_back() {
        let ports = Ports { plaintext: 1, sasl: 2, ssl: 3, sasl_ssl: 4, controller: 5 };
        assert_eq!(Ports::of(&format!("node.id=1\nlisteners={}\n", ports.listeners())), Some(ports));
        assert_eq!(Ports::of("node.id=1\n"), None);
        assert_eq!(Ports::of("listeners=PLAINTEXT://127.0.0.1:x"), None);
    }
}
