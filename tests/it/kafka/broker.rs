//! The broker of these tests is one: each listener takes and gives records, users do what they may, nothing is lost when
//! it stops.

use kaminari_tests::kafka::{self, Listeners, Login, Message, Options, Record, Resource};
use rdkafka::error::RDKafkaErrorCode;

#[test]
fn records_come_back_as_they_were_written() {
    let Some(brokers) = kafka::brokers("a Kafka broker") else { return };
    let topic = kafka::unique("whole");
    kafka::create_topic(&brokers, &topic, 3);
    assert_eq!(kafka::consume_all(&brokers, &topic, true), []);

    let headers = vec![("a".to_owned(), b"1".to_vec()), ("a".to_owned(), Vec::new())];
    let whole = Record { key: Some(b"k".to_vec()), payload: b"v".to_vec(), headers: headers.clone() };
    kafka::produce(&brokers, &topic, 1, [whole]);
    let many = 20_000;
    kafka::produce(&brokers, &topic, 2, (0..many).map(|n: i64| n.to_string()));

    let (first, second): (Vec<_>, Vec<_>) =
        kafka::consume_all(&brokers, &topic, true).into_iter().partition(|m| m.partition == 1);
    let expected =
        Message { partition: 1, offset: 0, key: Some(b"k".to_vec()), payload: b"v".to_vec(), headers: headers.clone() };
    assert_eq!(first, [expected]);
    assert_eq!(second.len() as i64, many);
    assert!(second.iter().zip(0..).all(|(m, n)| m.offset == n && m.payload == n.to_string().as_bytes()));
    assert_eq!(kafka::end_offsets(&brokers, &topic), [(0, 0), (1, 1), (2, many)]);
    assert_eq!(kafka::committed(&brokers, &kafka::unique("group"), &topic), []);
    kafka::delete_topic(&brokers, &topic);
}

#[test]
fn each_listener_and_login_serves_those_who_may() {
    let Some(listeners) = kafka::listeners("logins at a Kafka broker") else { return };
    let topic = kafka::unique("logins");
    kafka::create_topic(&listeners.plaintext, &topic, 1);
    listeners.acl("scram", &[Resource::Topic(&topic)], &["Read", "Write", "Describe"]);
    let clients = [
        listeners.client(false, Login::None),
        listeners.client(true, Login::None),
        listeners.client(false, Login::Plain("admin")),
        listeners.client(true, Login::Plain("admin")),
        listeners.client(false, Login::Scram("SCRAM-SHA-256")),
        listeners.client(true, Login::Scram("SCRAM-SHA-512")),
    ];
    for (count, client) in (1..).zip(&clients) {
        kafka::produce(client, &topic, 0, ["record"]);
        assert_eq!(kafka::consume_all(client, &topic, false).len(), count);
    }

    let nobody = listeners.client(true, Login::Plain("nobody"));
    let refused = kafka::try_produce(&nobody, &topic, 0, ["record"]).unwrap_err();
    assert_eq!(refused.rdkafka_error_code(), Some(RDKafkaErrorCode::TopicAuthorizationFailed));
    let refused = kafka::try_consume_all(&nobody, &topic, false).unwrap_err();
    assert_eq!(refused.rdkafka_error_code(), Some(RDKafkaErrorCode::TopicAuthorizationFailed));
    kafka::delete_topic(&listeners.plaintext, &topic);
}

#[test]
fn a_broker_of_a_tests_own_keeps_its_data() {
    let Some(mut broker) = kafka::own_broker("a Kafka broker that stops", &Options::default()) else { return };
    let brokers = broker.bootstrap();
    kafka::create_topic(&brokers, "kept", 1);
    kafka::produce(&brokers, "kept", 0, ["before"]);
    broker.stop().unwrap();
    broker.restart().unwrap();
    assert_eq!(broker.bootstrap(), brokers);
    kafka::produce(&brokers, "kept", 0, ["stopped"]);
    broker.kill().unwrap();
    broker.restart().unwrap();
    kafka::produce(&Listeners::of(&broker).client(true, Login::Scram("SCRAM-SHA-512")), "kept", 0, [""; 0]);
    let kept = kafka::consume_all(&brokers, "kept", true);
    assert_eq!(kept.iter().map(|m| m.payload.as_slice()).collect::<Vec<_>>(), [&b"before"[..], b"stopped"]);
}
