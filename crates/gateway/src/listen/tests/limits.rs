//! How many, and for how long.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::client::Order;

#[tokio::test]
async fn beyond_the_most_clients_only_the_console_is_open() {
    let shared = shared(json!({ "max_clients": 1, "trust_loopback": true }));
    let _other = shared.reception.client(1).unwrap();
    let mut guest = at_unix(&shared);
    guest.say(&startup(0, &[("user", "ann"), ("database", "app")])).await;
    assert_eq!(guest.refused().await.0, "53300");
    assert!(guest.sent_away().await);
    let mut root = at_unix(&shared);
    root.say(&to_console("root")).await;
    root.welcomed().await;
}

#[tokio::test]
async fn beyond_the_most_clients_of_a_pool_a_user_or_a_database_others_get_in() {
    let whole = "`max_clients` of it is 1, and so many are here.";
    let bounds = [
        (
            json!({ "pool": { "max_clients": 1 } }),
            "too many clients of database \"app\" as user \"ann\"",
            "`max_clients` of their pool is 1, and so many are here.",
        ),
        (json!({ "max_user_clients": 1 }), "too many clients of user \"ann\"", whole),
        (
            json!({ "users": { "root": { "password": "secret" }, "ann": { "max_clients": 1 } } }),
            "too many clients of user \"ann\"",
            whole,
        ),
        (json!({ "max_database_clients": 1 }), "too many clients of database \"app\"", whole),
        (
            json!({ "max_database_clients": 7, "databases": { "app": { "max_clients": 1 } } }),
            "too many clients of database \"app\"",
            whole,
        ),
    ];
    for (mut bound, message, detail) in bounds {
        bound["trust_loopback"] = json!(true);
        bound["hold"] = json!("1h");
        let shared = shared(bound.clone());
        let _first = waiting(&shared).await;
        let mut second = at_unix(&shared);
        second.say(&startup(0, &[("user", "ann"), ("database", "app")])).await;
        let (tag, ok) = second.hear().await;
        assert_eq!((tag, &ok[..]), (b'R', &[0; 4][..]), "{bound}");
        let (tag, body) = second.hear().await;
        assert_eq!(tag, b'E', "{bound}");
        let told = String::from_utf8_lossy(&body).into_owned();
        for words in ["53300", message, detail] {
            assert!(told.contains(words), "{bound}: {told}");
        }
        // The first one still is; of the other kinds there is room.
        let mut root = at_unix(&shared);
        root.say(&to_console("root")).await;
        root.welcomed().await;
    }
}

#[tokio::test]
async fn beyond_the_most_connections_of_an_address_nothing_more_is_read_from_it() {
    let shared = shared(json!({ "trust_loopback": true, "max_address_clients": 2 }));
    let mut there = Vec::new();
    for _ in 0..2 {
        there.push(at_tcp(&shared).await);
    }
    until(|| shared.reception.address([127, 0, 0, 1].into(), 2).is_none()).await;
    let mut third = at_tcp(&shared).await;
    let (code, message) = third.refused().await;
    assert_eq!((&*code, &*message), ("53300", "too many clients of this address"));
    drop(there);
    until(|| shared.reception.address([127, 0, 0, 1].into(), 1).is_some()).await;
    let mut root = at_tcp(&shared).await;
    root.say(&to_console("root")).await;
    root.welcomed().await;
}

#[tokio::test]
async fn a_gateway_that_shuts_down_lets_nobody_in() {
    let shared = shared(json!({ "trust_loopback": true }));
    shared.draining.cancel();
    let mut guest = at_unix(&shared);
    guest.say(&startup(0, &[("user", "ann"), ("database", "app")])).await;
    assert_eq!(guest.refused().await.0, "57P03");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_sent_away() {
    let shared = shared(json!({}));
    let mut guest = at_unix(&shared);
    assert!(guest.sent_away().await);
    let mut guest = at_unix(&shared);
    guest.say(&[0, 0]).await;
    assert!(guest.sent_away().await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_go_on_is_told_and_sent_away() {
    let shared = shared(json!({}));
    let mut guest = at_unix(&shared);
    guest.say(&to_console("root")).await;
    assert_eq!(guest.hear().await.0, b'R');
    assert_eq!(guest.refused().await.0, "57014");
    assert!(guest.sent_away().await);
}

#[tokio::test]
async fn a_step_of_a_login_that_is_too_long_is_refused_by_its_length() {
    let shared = shared(json!({}));
    for length in [1_u32 << 30, 3_000, u32::MAX] {
        let mut guest = at_unix(&shared);
        guest.say(&to_console("root")).await;
        assert_eq!(guest.hear().await.0, b'R');
        guest.say(&[&b"p"[..], &length.to_be_bytes()].concat()).await;
        assert_eq!(guest.refused().await.0, "08P01", "{length}");
    }
}

#[tokio::test]
async fn what_is_no_step_of_a_login_is_refused() {
    let shared = shared(json!({}));
    let mut guest = at_unix(&shared);
    guest.say(&to_console("root")).await;
    assert_eq!(guest.hear().await.0, b'R');
    guest.say(b"Q\0\0\0\x0dSELECT 1\0").await;
    assert_eq!(guest.refused().await.0, "08P01");
}

/// Somebody who has proven who it is and waits for a server, of which there is none.
async fn waiting(shared: &Arc<Shared>) -> Guest<UnixStream> {
    let mut guest = at_unix(shared);
    guest.say(&startup(0, &[("user", "ann"), ("database", "app")])).await;
    until(|| shared.clients.all().len() == 1).await;
    guest
}

async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it never came");
}

#[tokio::test]
async fn a_client_that_leaves_while_its_login_is_held_is_gone() {
    let shared = shared(json!({ "trust_loopback": true, "hold": "1h" }));
    let mut guest = waiting(&shared).await;
    // What it says ahead does not hide that.
    guest.say(b"Q\0\0\0\x0dSELECT 1\0").await;
    drop(guest);
    until(|| shared.clients.all().is_empty() && shared.herd.waiting() == 0).await;
}

#[tokio::test]
async fn a_client_can_be_sent_away_while_its_login_is_held() {
    for (order, code) in [(Order::End, "57P01"), (Order::Drain, "57P03")] {
        let shared = shared(json!({ "trust_loopback": true, "hold": "1h" }));
        let mut guest = waiting(&shared).await;
        shared.clients.all()[0].order(order);
        assert_eq!(guest.hear().await.0, b'R');
        assert_eq!(guest.refused().await.0, code);
        assert!(guest.sent_away().await);
    }
}

fn looked_up(hold: &str) -> Value {
    json!({ "auth_query": { "user": "root", "database": "app" }, "hold": hold })
}

#[tokio::test(start_paused = true)]
async fn who_has_to_be_looked_up_waits_for_a_node_as_long_as_clients_are_held() {
    let shared = shared(looked_up("3s"));
    let began = Instant::now();
    let mut guest = at_unix(&shared);
    guest.say(&startup(0, &[("user", "zoe"), ("database", "app")])).await;
    let (code, message) = guest.refused().await;
    assert_eq!((&*code, &*message), ("57P03", "users cannot be looked up now"));
    // The clock is the test's own.
    assert!(began.elapsed() >= Duration::from_secs(3));
}

#[tokio::test]
async fn who_leaves_while_it_waits_to_be_looked_up_is_gone() {
    let shared = shared(looked_up("1h"));
    let mut guest = at_unix(&shared);
    guest.say(&startup(0, &[("user", "zoe"), ("database", "app")])).await;
    until(|| shared.herd.waiting() == 1).await;
    drop(guest);
    until(|| shared.herd.waiting() == 0).await;
}
