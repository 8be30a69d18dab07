//! What can be done wrong in every call.

use kaminari_plugin_sdk::log::{Level, log};
use kaminari_plugin_sdk::prelude::*;
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

config! {
    #[derive(Clone)]
    pub struct Config {
        /// What; nothing: behave.
        misbehave: Option<String>,
        /// In which call.
        r#in: Option<String>,
        /// `random` traps at one of so many calls, by this seed.
        seed: Option<u64>,
        one_of: Option<u64>,
        /// Alert on sums above this.
        pub above: Option<f64>,
    }
}

impl Config {
    pub fn is(&self, call: &str, what: &str) -> bool {
        self.r#in.as_deref() == Some(call) && self.misbehave.as_deref() == Some(what)
    }

    /// Does what is wanted of this call: the `number`-th of the instance.
    pub fn act(&self, call: &str, number: u64) -> Result<()> {
        if self.r#in.as_deref() != Some(call) {
            return Ok(());
        }
        match self.misbehave.as_deref().unwrap_or_default() {
            "loop" => loop {
                std::hint::spin_loop();
            },
            "memory" => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(black_box(vec![1u8; 1 << 20]));
                }
            }
            "stack" => drop(black_box(deep(number))),
            "trap" => panic!("as the fixture was told, in {call}"),
            "random" => {
                let mixed = (number + self.seed.unwrap_or(0)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                assert!(!mixed.is_multiple_of(self.one_of.unwrap_or(2)), "as the fixture was told, by chance");
            }
            "exit" => std::process::exit(3),
            "sleep" => std::thread::sleep(std::time::Duration::from_secs(3600)),
            "error" => return Err(error::other("a long error\n\u{1b}[31m".repeat(1 << 18))),
            "retry" => return Err(Error::Retry("again".into())),
            "config" => return Err(error::config("misbehave", "as the fixture was told")),
            "print" => (0..10_000).for_each(|_| println!("{}", "x".repeat(1000))),
            "logs" => (0..10_000).for_each(|i| log(Level::Info, &format!("line {i}\n2026 ERROR forged"), &[])),
            "long-log" => {
                let long = "x".repeat(1 << 20);
                log(Level::Info, &long, &vec![("key", long.as_str()); 8]);
            }
            "series" => {
                let flood = (0..10_000).map(|i| metrics::add("flood", &[("n", &i.to_string())], 1));
                // To its end, whatever is refused: that is the flood.
                let answers: Vec<Result<()>> = flood.collect();
                return answers.into_iter().collect();
            }
            "long-metric" => return metrics::add(&"x".repeat(4 << 20), &[], 1),
            "odd-metrics" => {
                for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE] {
                    metrics::set("level", &[], odd)?;
                    let _ = metrics::observe("size", &[], odd);
                }
                (0..3).try_for_each(|_| metrics::add("total", &[], u64::MAX))?;
                return metrics::observe("size", &[], f64::NAN);
            }
            "state" => {
                let bucket = bucket::Bucket::open("b")?;
                for i in 0..u32::MAX {
                    bucket.put(&[(i.to_le_bytes().to_vec(), vec![7; 1 << 16])], None)?;
                }
            }
            "state-churn" => {
                let bucket = bucket::Bucket::open("b")?;
                loop {
                    bucket.put(&[(b"k".to_vec(), vec![7; 1 << 20])], Some(u64::MAX - 1))?;
                    bucket.delete(&[b"k".to_vec()])?;
                }
            }
            "state-get" => {
                let bucket = bucket::Bucket::open("b")?;
                bucket.put(&[(b"k".to_vec(), vec![7; 1 << 19])], None)?;
                bucket.get(&vec![b"k".to_vec(); 100_000])?;
            }
            "ungranted-bucket" => drop(bucket::Bucket::open("never")?),
            "ungranted-metric" => return metrics::add("seen", &[], 1),
            "ungranted-model" => drop(inference::Model::open("never")?),
            "wasi" => return Err(error::other(world())),
            _ => {}
        }
        Ok(())
    }
}

/// Deep, and not by a loop.
fn deep(n: u64) -> u64 {
    let room = black_box([n; 64]);
    if n == u64::MAX { 0 } else { deep(n + 1) + room[(n % 64) as usize] }
}

/// Many texts that are one and the same piece of memory.
pub fn alike(count: usize, bytes: usize) -> Vec<String> {
    let text = String::leak("x".repeat(bytes));
    // SAFETY: none. The host reads them all before it gives any back, and is to refuse that.
    (0..count).map(|_| unsafe { String::from_raw_parts(text.as_mut_ptr(), bytes, bytes) }).collect()
}

/// Two thousand million bytes, of which there are eight.
pub fn huge() -> Vec<f64> {
    let one: &'static mut f64 = Box::leak(Box::new(1.0));
    // SAFETY: none, as above.
    unsafe { Vec::from_raw_parts(one, 1 << 28, 1 << 28) }
}

pub fn contribution(column: &str) -> Contribution {
    Contribution { column: column.to_owned(), weight: f64::NAN, observed: f64::INFINITY, expected: f64::NAN }
}

/// All that there is of the world.
fn world() -> String {
    let refused = |done: bool| if done { "DONE" } else { "refused" };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line).unwrap_or(0);
    format!(
        "env={} args={} dir={} read={} write={} tcp={} listen={} udp={} name={} stdin={read} time={now} chance={}",
        std::env::vars().count(),
        std::env::args().count(),
        refused(std::fs::read_dir("/").is_ok() || std::fs::read_dir(".").is_ok()),
        refused(std::fs::read("/etc/passwd").is_ok()),
        refused(std::fs::write("/tmp/kaminari-hostile", "x").is_ok()),
        refused(TcpStream::connect("127.0.0.1:1").is_ok()),
        refused(TcpListener::bind("127.0.0.1:0").is_ok()),
        refused(UdpSocket::bind("127.0.0.1:0").is_ok()),
        refused("localhost:80".to_socket_addrs().is_ok_and(|mut found| found.next().is_some())),
        RandomState::new().hash_one(1u8),
    )
}
