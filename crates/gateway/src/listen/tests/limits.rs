//! How many, and for how long.

use serde_json::json;

use super::*;

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
async fn beyond_the_most_clients_of_a_pool_others_get_in() {
    let shared = shared(json!({ "trust_loopback": true, "pool": { "max_clients": 1 } }));
    let _other = shared.reception.client_of(&"app".into(), &"ann".into(), 1).unwrap();
    let mut guest = at_unix(&shared);
    guest.say(&startup(0, &[("user", "ann"), ("database", "app")])).await;
    let (tag, ok) = guest.hear().await;
    assert_eq!((tag, &ok[..]), (b'R', &[0; 4][..]));
    let (code, message) = guest.refused().await;
    assert_eq!(
        (&*code, &*message),
        ("53300", "too many clients of database \"app\" as user \"ann\"")
    );
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
