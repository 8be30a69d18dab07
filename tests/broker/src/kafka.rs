//! Kafka as jars. Fetched once by Maven into a cache folder, with a certificate that keytool makes beside them:
//! `lib/*.jar`, `tls/keystore.p12`, `tls/ca.pem`. The folder gets its name when it is whole; then a broker runs once to
//! leave `classes.jsa`, the classes as Java has them in memory, which halves the start of all others.

use crate::{Broker, Options};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of Kafka.
pub const VERSION: &str = "4.1.2";
/// The oldest Java that runs it.
const JAVA: u32 = 17;
/// Password of the keystore; guards nothing.
pub(crate) const STORE_PASSWORD: &str = "keystore-secret";

/// The broker; of its tools only the jar that has the command for ACLs; a logger that writes (slf4j alone is silent).
const POM: &str = r#"<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>kaminari</groupId>
  <artifactId>test-broker</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>4.1.2</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka-tools</artifactId>
      <version>4.1.2</version>
      <exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>2.25.3</version>
    </dependency>
  </dependencies>
</project>
"#;

/// Kafka's jars and a certificate.
#[derive(Clone, Debug)]
pub struct Kafka {
    home: PathBuf,
}

/// What an ACL speaks of, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A topic.
    Topic(&'a str),
    /// A consumer group.
    Group(&'a str),
    /// A transactional producer.
    TransactionalId(&'a str),
}

impl Kafka {
    /// Kafka in `cache/kafka-VERSION`; fetched where it is missing, which `say` is told.
    pub fn assemble(cache: &Path, say: impl Fn(&str)) -> Result<Self> {
        check_java()?;
        let home = cache.join(format!("kafka-{VERSION}"));
        if !home.is_dir() {
            fetch(cache, &home, &say)?;
            let kafka = Self::open(&home)?;
            if let Err(error) = kafka.archive_classes(cache) {
                say(&format!("brokers start slowly: Java leaves no archive of classes: {error:#}"));
            }
        }
        Self::open(&home).with_context(|| format!("delete {} and try again", home.display()))
    }

    /// Has Java write down the classes of a broker. It finds them under this very path only.
    fn archive_classes(&self, cache: &Path) -> Result<()> {
        let work = tempfile::Builder::new().prefix("kafka-").suffix(".part").tempdir_in(cache)?;
        let archive = work.path().join("classes.jsa");
        let options =
            Options { jvm: vec![format!("-XX:ArchiveClassesAtExit={}", archive.display())], ..Options::default() };
        Broker::start(self, work.path(), &options)?.stop()?;
        Ok(std::fs::rename(archive, self.archive())?)
    }

    fn archive(&self) -> PathBuf {
        self.home.join("classes.jsa")
    }

    /// The Kafka whose jars lie in `lib`, as [`Kafka::lib`] says.
    pub fn at(lib: &Path) -> Result<Self> {
        Self::open(lib.parent().context("a folder of jars has a parent")?)
    }

    fn open(home: &Path) -> Result<Self> {
        let home = home.canonicalize().with_context(|| format!("there is no {}", home.display()))?;
        let this = Self { home };
        for file in [this.lib().join(format!("kafka_2.13-{VERSION}.jar")), this.keystore(), this.ca_file()] {
            if !file.is_file() {
                bail!("there is no {}", file.display());
            }
        }
        Ok(this)
    }

    /// Folder of the jars.
    pub fn lib(&self) -> PathBuf {
        self.home.join("lib")
    }

    /// The certificate of every broker that starts from here, as PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.home.join("tls/ca.pem")
    }

    /// Certificate and key, as PKCS12.
    pub(crate) fn keystore(&self) -> PathBuf {
        self.home.join("tls/keystore.p12")
    }

    /// A Java that finds the classes and starts fast.
    pub(crate) fn java(&self) -> Command {
        let mut command = Command::new("java");
        command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-XX:-UsePerfData", "-Xmx512m"]);
        command.arg("-Djava.net.preferIPv4Stack=true");
        if self.archive().exists() {
            // One of another Java is not taken.
            command.arg(format!("-XX:SharedArchiveFile={}", self.archive().display()));
        }
        command.arg("-cp").arg(self.lib().join("*"));
        command
    }

    /// Lets `user` do `operations` (`Read`, `Write`, `Describe`, ...) on `resources`. `brokers` is a listener that may do
    /// everything.
    pub fn allow(&self, brokers: &str, user: &str, resources: &[Resource], operations: &[&str]) -> Result<()> {
        let mut command = self.java();
        command.args(["org.apache.kafka.tools.AclCommand", "--bootstrap-server", brokers]);
        command.args(acl(user, resources, operations));
        run(&mut command)
    }
}

/// The arguments of the command for ACLs.
fn acl(user: &str, resources: &[Resource], operations: &[&str]) -> Vec<String> {
    let mut args = vec!["--add".to_owned(), "--allow-principal".to_owned(), format!("User:{user}")];
    for operation in operations {
        args.extend(["--operation".to_owned(), (*operation).to_owned()]);
    }
    for resource in resources {
        let (option, name) = match resource {
            Resource::Topic(name) => ("--topic", name),
            Resource::Group(name) => ("--group", name),
            Resource::TransactionalId(name) => ("--transactional-id", name),
        };
        args.extend([option.to_owned(), (*name).to_owned()]);
    }
    args
}

/// Runs it to the end; what it said is told only when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{name} failed ({}): {}", output.status, String::from_utf8_lossy(&said).trim());
    }
    Ok(())
}

fn check_java() -> Result<()> {
    let needed = format!("Java {JAVA} is needed to run Kafka {VERSION} (Debian: openjdk-17-jdk-headless)");
    let output =
        Command::new("java").arg("-version").output().with_context(|| format!("{needed}; there is no java"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    match major(&text) {
        Some(found) if found >= JAVA => Ok(()),
        Some(found) => bail!("{needed}; the one that is there is {found}"),
        None => bail!("{needed}; `java -version` says: {}", text.trim()),
    }
}

/// 17 of `openjdk version "17.0.15" 2025-04-15`, 8 of `"1.8.0_392"`.
fn major(text: &str) -> Option<u32> {
    let version = text.split('"').nth(1)?;
    let mut parts = version.split(['.', '-', '+', '_']).map(|part| part.parse::<u32>().ok());
    match parts.next()? {
        Some(1) => parts.next()?,
        first => first,
    }
}

/// Fetches and makes what `home` holds.
fn fetch(cache: &Path, home: &Path, say: &impl Fn(&str)) -> Result<()> {
    let works = |command: &mut Command| command.output().is_ok_and(|o| o.status.success());
    if !works(Command::new("mvn").arg("-version")) {
        bail!("Maven is needed to fetch Kafka {VERSION} (Debian: maven); there is no mvn");
    }
    say(&format!("fetching Kafka {VERSION} from Maven Central, once: 47 jars, 44 MB, into {}", home.display()));
    std::fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let work = tempfile::Builder::new().prefix("kafka-").suffix(".part").tempdir_in(cache)?;
    std::fs::write(work.path().join("pom.xml"), POM)?;
    run(Command::new("mvn")
        .args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=home/lib"])
        .current_dir(work.path()))
    .context("Maven did not fetch Kafka (is there a network?)")?;
    let whole = work.path().join("home");
    certify(&whole.join("tls"))?;
    match std::fs::rename(&whole, home) {
        // Somebody else was faster.
        Err(_) if home.is_dir() => Ok(()),
        done => done.with_context(|| format!("cannot make {}", home.display())),
    }
}

/// A certificate of loopback that signs itself.
fn certify(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let keytool = |args: &[&str]| {
        run(Command::new("keytool").args(args).current_dir(dir).args([
            "-alias",
            "broker",
            "-keystore",
            "keystore.p12",
            "-storetype",
            "PKCS12",
            "-storepass",
            STORE_PASSWORD,
        ]))
        .context("keytool, which comes with Java, makes the broker's certificate")
    };
    let key = ["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "3650"];
    keytool(&[&key[..], &["-dname", "CN=localhost", "-ext", "SAN=ip:127.0.0.1,dns:localhost"]].concat())?;
    keytool(&["-exportcert", "-rfc", "-file", "ca.pem"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_says_its_version_in_more_than_one_way() {
        assert_eq!(major("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime"), Some(17));
        assert_eq!(major("java version \"1.8.0_392\""), Some(8));
        assert_eq!(major("openjdk version \"25-ea\" 2025-09-16"), Some(25));
        assert_eq!(major("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(major("no such thing"), None);
    }

    #[test]
    fn the_pom_asks_for_the_version() {
        assert_eq!(POM.matches(&format!("<version>{VERSION}</version>")).count(), 2);
    }

    #[test]
    fn acls_name_user_operations_and_resources() {
        let args = acl("reader", &[Resource::Topic("t"), Resource::Group("g")], &["Read", "Describe"]);
        let expected = "--add --allow-principal User:reader --operation Read --operation Describe --topic t --group g";
        assert_eq!(args.join(" "), expected);
        assert_eq!(
            acl("w", &[Resource::TransactionalId("x")], &["All"]).last_chunk(),
            Some(&["--transactional-id", "x"].map(String::from))
        );
    }

    #[test]
    fn a_folder_without_jars_is_no_kafka() {
        let dir = tempfile::tempdir().unwrap();
        let told = Kafka::at(&dir.path().join("lib")).unwrap_err().to_string();
        assert!(told.contains("kafka_2.13-4.1.2.jar"), "{told}");
        assert!(Kafka::at(Path::new("/nowhere/lib")).is_err());
    }
}
