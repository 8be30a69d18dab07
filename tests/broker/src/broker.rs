//! A broker that runs: start, stop, kill, restart. Everything of it lies in one folder: server.properties, data/, broker.log
//! (warnings), output.log (what Java prints).

use crate::kafka::{Kafka, run};
use crate::ports::Ports;
use crate::{env, probe, process, settings};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Longest wait for an answer, and for an end.
const PATIENCE: Duration = Duration::from_secs(90);

/// How a broker is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// It goes on when this process ends ([`Broker::leave`]). Otherwise the kernel kills it then.
    pub outlives: bool,
    /// Further lines of server.properties; they count over what is set anyway.
    pub settings: Vec<(String, String)>,
    /// Further flags of Java.
    pub jvm: Vec<String>,
}

impl Options {
    /// With one more line of server.properties.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// Where a broker listens, each as a client's list of brokers; and the certificate to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// No encryption, no login; may do everything.
    pub bootstrap: String,
    /// Login with PLAIN or SCRAM.
    pub sasl: String,
    /// Encryption; may do everything.
    pub ssl: String,
    /// Encryption and login.
    pub sasl_ssl: String,
    /// PEM.
    pub ca_file: PathBuf,
    /// Folder of Kafka's jars.
    pub lib: PathBuf,
}

impl Addresses {
    /// As environment variables of tests.
    pub fn env(&self) -> [(&'static str, OsString); 6] {
        [
            (env::BROKERS, self.bootstrap.clone().into()),
            (env::SASL, self.sasl.clone().into()),
            (env::SSL, self.ssl.clone().into()),
            (env::SASL_SSL, self.sasl_ssl.clone().into()),
            (env::CA, self.ca_file.clone().into()),
            (env::LIB, self.lib.clone().into()),
        ]
    }
}

/// A broker; killed when dropped.
#[derive(Debug)]
pub struct Broker {
    kafka: Kafka,
    dir: PathBuf,
    ports: Ports,
    options: Options,
    child: Option<Child>,
}

impl Broker {
    /// Starts one with its data in `dir`, which is made and formatted if need be, and waits until it answers. A folder
    /// that has been a broker's gives one with the same ports and data.
    pub fn start(kafka: &Kafka, dir: &Path, options: &Options) -> Result<Self> {
        std::fs::create_dir_all(dir.join("tmp")).with_context(|| format!("cannot make {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        let before = std::fs::read_to_string(dir.join("server.properties")).ok().and_then(|text| Ports::of(&text));
        let ports = before.map_or_else(Ports::free, Ok)?;
        std::fs::write(dir.join("log4j2.xml"), settings::LOG4J)?;
        let mut broker = Self { kafka: kafka.clone(), dir, ports, options: options.clone(), child: None };
        for last in [false, false, true] {
            broker.configure()?;
            broker.format()?;
            match broker.launch() {
                // Somebody took a port between our look and Kafka's.
                Err(_) if !last && broker.log().contains("Address already in use") => broker.ports = Ports::free()?,
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        Ok(broker)
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            bootstrap: self.bootstrap(),
            sasl: self.sasl(),
            ssl: self.ssl(),
            sasl_ssl: self.sasl_ssl(),
            ca_file: self.ca_file(),
            lib: self.kafka.lib(),
        }
    }

    /// The listener that lets everybody do everything.
    pub fn bootstrap(&self) -> String {
        at(self.ports.plaintext)
    }

    /// The listener with login (SASL_PLAINTEXT).
    pub fn sasl(&self) -> String {
        at(self.ports.sasl)
    }

    /// The listener with encryption; lets everybody do everything.
    pub fn ssl(&self) -> String {
        at(self.ports.ssl)
    }

    /// The listener with encryption and login.
    pub fn sasl_ssl(&self) -> String {
        at(self.ports.sasl_ssl)
    }

    /// The certificate to trust, as PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.kafka.ca_file()
    }

    /// Its process. `None`: it does not run.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Folder with a folder per partition, `TOPIC-NUMBER`.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Its jars and tools.
    pub fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// Ends it as an operator would, and waits. Nothing to do if it does not run.
    pub fn stop(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        process::terminate(child.id());
        process::wait(PATIENCE, || Ok(child.try_wait()?.is_some())).context("the broker does not stop")?;
        self.child = None;
        Ok(())
    }

    /// Kills it as a crash would. Nothing to do if it does not run.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Starts it again on the same ports and data, and waits until it answers; one that runs is stopped first.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.launch()
    }

    /// Lets go of one that was started to outlive this process.
    pub fn leave(mut self) -> Result<Loose> {
        if !self.options.outlives {
            bail!("a broker that ends with this process cannot be left alone");
        }
        let child = self.child.take().context("the broker does not run")?;
        Ok(Loose { pid: child.id(), dir: self.dir.clone() })
    }

    fn properties(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    fn configure(&self) -> Result<()> {
        let text = settings::properties(&self.kafka, &self.data(), &self.ports, &self.options.settings);
        Ok(std::fs::write(self.properties(), text)?)
    }

    /// Java with the log in our folder.
    fn java(&self) -> Command {
        let mut command = self.kafka.java();
        let set = |name: &str, file: &str| format!("-D{name}={}", self.dir.join(file).display());
        command.arg(set("log4j2.configurationFile", "log4j2.xml")).arg(set("kaminari.log", "broker.log"));
        // Compression unpacks its libraries there, and a killed broker leaves them.
        command.arg(set("java.io.tmpdir", "tmp"));
        command
    }

    fn format(&self) -> Result<()> {
        if self.dir.join("data/meta.properties").exists() {
            return Ok(());
        }
        let mut command = self.java();
        command.args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER, "--config"]);
        command.arg(self.properties());
        settings::scram().for_each(|user| {
            command.args(["--add-scram", &user]);
        });
        run(&mut command).context("cannot format the broker's storage")
    }

    fn launch(&mut self) -> Result<()> {
        let output = File::create(self.dir.join("output.log"))?;
        let mut command = self.java();
        command.arg("-XX:+ExitOnOutOfMemoryError").args(&self.options.jvm);
        command.arg("kafka.Kafka").arg(self.properties());
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let spawn = if self.options.outlives { process::spawn_loose } else { process::spawn_tied };
        let child = self.child.insert(spawn(command)?);
        let ports = self.ports;
        let up = process::wait(PATIENCE, || {
            if let Some(status) = child.try_wait()? {
                bail!("it ended ({status})");
            }
            let answers = probe::brokers(ports.plaintext).is_ok_and(|n| n > 0);
            Ok(answers && ports.of_clients().into_iter().all(probe::connects))
        });
        if up.is_err() {
            self.kill()?;
        }
        up.with_context(|| format!("the broker does not start; {}", self.log()))
    }

    /// The end of what it said.
    fn log(&self) -> String {
        let read = |file: &str| {
            let bytes = std::fs::read(self.dir.join(file)).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            format!("{file}:\n{}\n", lines[lines.len().saturating_sub(40)..].join("\n"))
        };
        read("output.log") + &read("broker.log")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It ends with us anyway.
        let _ = self.kill();
    }
}

/// Name of the one-node cluster.
const CLUSTER: &str = "4L6g3nShT-eMCtK--X86sw";

fn at(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// A broker that belongs to no process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loose {
    /// Its process.
    pub pid: u32,
    /// Its folder.
    pub dir: PathBuf,
}

impl Loose {
    /// True while it runs; another process with the same number does not count.
    pub fn lives(&self) -> bool {
        process::lives(self.pid, &self.dir.join("server.properties"))
    }

    /// Ends it, and waits.
    pub fn stop(&self) -> Result<()> {
        process::end(self.pid, &self.dir.join("server.properties"), Duration::from_secs(30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_variables_are_named_once() {
        let addresses = Addresses {
            bootstrap: at(1),
            sasl: at(2),
            ssl: at(3),
            sasl_ssl: at(4),
            ca_file: "ca.pem".into(),
            lib: "lib".into(),
        };
        let env = addresses.env();
        assert_eq!(env[0], ("KAMINARI_TEST_BROKERS", "127.0.0.1:1".into()));
        let names: std::collections::BTreeSet<_> = env.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 6);
    }

    #[test]
    fn a_process_with_the_number_of_a_broker_is_none() {
        let other = Loose { pid: std::process::id(), dir: "/nowhere".into() };
        assert!(!other.lives());
        other.stop().unwrap();
    }
}
