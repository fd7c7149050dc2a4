//! Who does not get in, and what they are told.

use serde_json::json;

use super::*;
use crate::wire::startup::LONGEST;

#[tokio::test]
async fn a_wrong_password_and_a_name_that_nobody_has_look_the_same() {
    let shared = shared(json!({}));
    let mut told = Vec::new();
    for name in ["ann", "nobody"] {
        let mut guest = at_unix(&shared);
        guest.say(&startup(0, &[("user", name), ("database", "app")])).await;
        guest.scram("wrong", None).await;
        let (code, message) = guest.refused().await;
        assert!(guest.sent_away().await);
        told.push((code, message.replace(name, "…")));
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0].0, "28P01");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named_only_to_those_who_have_logged_in() {
    let shared = shared(json!({ "databases": { "app": {} } }));
    let mut guest = at_unix(&shared);
    guest.say(&startup(0, &[("user", "ann"), ("database", "other")])).await;
    guest.scram("apple", None).await;
    assert_eq!(guest.hear().await.0, b'R');
    assert_eq!(guest.hear().await.0, b'R');
    assert_eq!(guest.refused().await.0, "3D000");

    let mut guest = at_unix(&shared);
    guest.say(&startup(0, &[("user", "ann"), ("database", "other")])).await;
    guest.scram("wrong", None).await;
    assert_eq!(guest.refused().await.0, "28P01");
}

#[tokio::test]
async fn the_console_is_for_those_who_are_named_for_it() {
    let shared = shared(json!({ "trust_loopback": true }));
    let mut guest = at_unix(&shared);
    guest.say(&to_console("ann")).await;
    assert_eq!(guest.hear().await.0, b'R');
    assert_eq!(guest.refused().await.0, "28000");
}

#[tokio::test]
async fn what_is_asked_for_and_cannot_be_had_is_said() {
    let shared = shared(json!({ "trust_loopback": true }));
    let asked = [
        (vec![("database", "app")], "28000"),
        (vec![("user", "ann"), ("replication", "database")], "0A000"),
        (vec![("user", "ann"), ("options", "-c herdsman.target=a/b")], "22023"),
    ];
    for (parameters, code) in asked {
        let mut guest = at_unix(&shared);
        guest.say(&startup(0, &parameters)).await;
        assert_eq!(guest.refused().await.0, code, "{parameters:?}");
        assert!(guest.sent_away().await);
    }
}

#[tokio::test]
async fn protocol_2_is_refused_in_its_own_words() {
    let shared = shared(json!({}));
    let mut guest = at_unix(&shared);
    guest.say(&packet(&[&[0, 2, 0, 0][..], &[0; 288]].concat())).await;
    let mut said = Vec::new();
    guest.0.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"EFATAL:  unsupported frontend protocol 2.0: 3.0 to 3.2 are spoken here\n\0");
}

#[tokio::test]
async fn another_major_version_is_refused() {
    let shared = shared(json!({}));
    let mut guest = at_unix(&shared);
    guest.say(&packet(&[0, 4, 0, 0])).await;
    let (code, message) = guest.refused().await;
    assert_eq!(code, "0A000");
    assert!(message.contains("4.0"), "{message}");
}

#[tokio::test]
async fn what_is_no_first_packet_is_refused() {
    let shared = shared(json!({}));
    let packets = [
        packet(&[0, 3, 0, 0]),
        packet(b"\0\x03\0\0user\0ann\0"),
        packet(b"\0\x03\0\0user\0ann\0\0\0"),
        packet(b"\0\x03\0\0user\0\xff\0\0"),
        packet(&[4, 210, 22, 47, 0]),
        packet(&[4, 210, 22, 46, 0, 0]),
    ];
    for bytes in packets {
        let mut guest = at_unix(&shared);
        guest.say(&bytes).await;
        assert_eq!(guest.refused().await.0, "08P01", "{bytes:?}");
        assert!(guest.sent_away().await);
    }
}

#[tokio::test]
async fn who_begins_with_no_first_packet_at_all_is_told_nothing() {
    let shared = shared(json!({}));
    let most = u32::try_from(LONGEST).unwrap();
    // As PostgreSQL: it may be a scanner, or a client that says goodbye before it has said anything.
    let strangers = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"X\0\0\0\x04".to_vec(),
        vec![0; 4],
        vec![0, 0, 0, 7],
        u32::MAX.to_be_bytes().to_vec(),
        (most + 1).to_be_bytes().to_vec(),
    ];
    for bytes in strangers {
        let mut guest = at_unix(&shared);
        guest.say(&bytes).await;
        assert!(guest.sent_away().await, "{bytes:?}");
    }
}

#[tokio::test]
async fn encryption_is_asked_for_once() {
    let shared = shared(json!({}));
    for request in [SSL_REQUEST, GSS_REQUEST] {
        let mut guest = at_unix(&shared);
        guest.say(&request).await;
        assert_eq!(guest.byte().await, b'N');
        guest.say(&request).await;
        assert_eq!(guest.refused().await.0, "08P01");
    }
}

fn proxied(family: u8, rest: &[u8]) -> Vec<u8> {
    proxy_header(0x21, family, rest)
}

fn proxy_header(kind: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([kind, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

#[tokio::test]
async fn trust_is_for_clients_of_this_machine_and_not_for_those_a_proxy_brings() {
    let config = json!({ "trust_loopback": true, "proxy_protocol": true });
    let shared = shared(config);
    let far = [10, 0, 0, 9, 10, 0, 0, 1, 0x9c, 0x40, 0, 1];
    for header in [proxied(0x11, &far), proxied(0x00, &[])] {
        let mut guest = at_tcp(&shared).await;
        guest.say(&[header, to_console("root")].concat()).await;
        guest.scram("secret", None).await;
        guest.welcomed().await;
    }
    // The proxy is on this machine, and so is its client; or it is the proxy itself.
    let near = [127, 0, 0, 1, 127, 0, 0, 1, 0x9c, 0x40, 0, 1];
    for header in [proxied(0x11, &near), proxy_header(0x20, 0, &[])] {
        let mut guest = at_tcp(&shared).await;
        guest.say(&[header, to_console("root")].concat()).await;
        guest.welcomed().await;
    }
}

#[test]
fn who_says_to_be_local_through_a_proxy_elsewhere_is_not() {
    let [near, far] = ["127.0.0.1:1", "10.0.0.1:1"].map(|address| address.parse().unwrap());
    assert!(Peer::direct(near).local);
    assert!(Peer::direct("[::ffff:127.0.0.1]:1".parse().unwrap()).local);
    assert!(Peer::proxied(near, near).local);
    assert!(!Peer::proxied(near, far).local);
    assert!(!Peer::proxied(far, near).local);
    assert!(!Peer::unknown(near).local);
    assert!(!Peer::direct(far).local);
}

#[tokio::test]
async fn without_its_header_a_connection_is_not_a_proxy_s() {
    let shared = shared(json!({ "trust_loopback": true, "proxy_protocol": true }));
    let mut guest = at_tcp(&shared).await;
    guest.say(&to_console("root")).await;
    let mut said = Vec::new();
    // Its bytes are not read to their end, so the end may look like a reset.
    drop(guest.0.read_to_end(&mut said).await);
    assert!(said.is_empty());
    // The unix socket has no proxy.
    let mut guest = at_unix(&shared);
    guest.say(&to_console("root")).await;
    guest.welcomed().await;
}
