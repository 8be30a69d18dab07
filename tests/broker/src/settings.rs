//! The files that a broker reads: server.properties and the configuration of its log.

use crate::kafka::{Kafka, STORE_PASSWORD};
use crate::ports::Ports;
use std::fmt::Write;
use std::path::Path;

/// Users that log in with PLAIN, with their passwords. `admin` may do everything; the others what an ACL lets them.
pub const PLAIN_USERS: [(&str, &str); 3] =
    [("admin", "admin-secret"), ("nobody", "nobody-secret"), ("reader", "reader-secret")];

/// The user that logs in with SCRAM; may do what an ACL lets it.
pub const SCRAM_USER: (&str, &str) = ("scram", "scram-secret");

/// Mechanisms of the above.
pub(crate) const SCRAM: [&str; 2] = ["SCRAM-SHA-256", "SCRAM-SHA-512"];

/// What is the same for every broker: users that come without a login may do everything; small internal topics; nothing
/// waits, nothing is deleted by age. A killed broker comes back when its session has expired, which is 9 s unless set.
const COMMON: &str = "\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
ssl.keystore.type=PKCS12
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:admin
allow.everyone.if.no.acl.found=false
auto.create.topics.enable=false
delete.topic.enable=true
log.retention.ms=-1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
";

/// Warnings and worse into a file. The properties are set on the command line.
pub(crate) const LOG4J: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="ERROR">
  <Appenders>
    <File name="file" fileName="${sys:kaminari.log}"><PatternLayout pattern="%d %p %c{1}: %m%n"/></File>
  </Appenders>
  <Loggers><Root level="WARN"><AppenderRef ref="file"/></Root></Loggers>
</Configuration>
"#;

/// server.properties; `own` comes last and counts.
pub(crate) fn properties(kafka: &Kafka, data: &Path, ports: &Ports, own: &[(String, String)]) -> String {
    let mut text = COMMON.to_owned();
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "{key}={}", escaped(value));
    };
    line("listeners", &ports.listeners());
    line("controller.quorum.voters", &format!("1@127.0.0.1:{}", ports.controller));
    line("log.dirs", &data.to_string_lossy());
    line("ssl.keystore.location", &kafka.keystore().to_string_lossy());
    line("ssl.keystore.password", STORE_PASSWORD);
    for listener in ["sasl_plaintext", "sasl_ssl"] {
        line(&format!("listener.name.{listener}.plain.sasl.jaas.config"), &plain());
        for mechanism in SCRAM {
            line(
                &format!("listener.name.{listener}.{}.sasl.jaas.config", mechanism.to_ascii_lowercase()),
                "org.apache.kafka.common.security.scram.ScramLoginModule required;",
            );
        }
    }
    own.iter().for_each(|(key, value)| line(key, value));
    text
}

/// Who logs in with PLAIN.
fn plain() -> String {
    let users = PLAIN_USERS.map(|(user, password)| format!(" user_{user}=\"{password}\"")).concat();
    format!("org.apache.kafka.common.security.plain.PlainLoginModule required{users};")
}

/// The passwords of SCRAM, as the storage is formatted with them.
pub(crate) fn scram() -> impl Iterator<Item = String> {
    let (user, password) = SCRAM_USER;
    SCRAM.into_iter().map(move |mechanism| format!("{mechanism}=[name={user},password={password}]"))
}

/// A value as properties are written.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_test_sets_comes_last() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("lib")).unwrap();
        std::fs::create_dir_all(home.path().join("tls")).unwrap();
        for file in ["lib/kafka_2.13-4.1.2.jar", "tls/keystore.p12", "tls/ca.pem"] {
            std::fs::write(home.path().join(file), "").unwrap();
        }
        let kafka = Kafka::at(&home.path().join("lib")).unwrap();
        let ports = Ports { plaintext: 1, sasl: 2, ssl: 3, sasl_ssl: 4, controller: 5 };
        let own = [("auto.create.topics.enable".to_owned(), "a\\b".to_owned())];
        let text = properties(&kafka, Path::new("/data"), &ports, &own);
        assert!(text.ends_with("auto.create.topics.enable=a\\\\b\n"), "{text}");
        assert_eq!(Ports::of(&text), Some(ports));
        assert!(text.contains("controller.quorum.voters=1@127.0.0.1:5\n") && text.contains("log.dirs=/data\n"));
        assert!(text.contains("PlainLoginModule required user_admin=\"admin-secret\" user_nobody="));
        assert!(text.contains("listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config="));
        assert!(text.lines().all(|line| line.contains('=')));
    }

    #[test]
    fn scram_is_known_to_both() {
        assert_eq!(scram().next().unwrap(), "SCRAM-SHA-256=[name=scram,password=scram-secret]");
        assert!(scram().count() == 2 && SCRAM.iter().all(|m| COMMON.contains(m)));
    }
}
