use tokio::time::{Duration, timeout};

use super::*;
use crate::sinks::conformance::{self, batch, row};

fn sink(json: &str) -> (SseSink, Hub) {
    let config: SseConfig = serde_json::from_str(json).unwrap();
    (SseSink::new(&config, Shape::Herdsman), config.hub().clone())
}

async fn deliver(sink: &SseSink, ordinals: std::ops::Range<u64>) {
    let changes = ordinals.map(|ordinal| row(ordinal, "a")).collect();
    sink.deliver(&batch(changes)).await.unwrap();
}

async fn next(subscription: &mut Subscription) -> Option<String> {
    let next = timeout(Duration::from_secs(10), subscription.next()).await.expect("nothing came");
    next.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

fn ordinals(text: &str) -> Vec<u64> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|json| Some(conformance::seen(&serde_json::from_str(json).unwrap())?.ordinal))
        .collect()
}

fn id(ordinal: u64) -> String {
    format!("1/100/{ordinal}")
}

#[tokio::test]
async fn a_new_subscriber_gets_what_happens_from_now_on() {
    let (sink, hub) = sink("{}");
    deliver(&sink, 0..3).await;
    let mut subscription = hub.subscribe(&[], None).unwrap();
    assert_eq!(next(&mut subscription).await.unwrap(), "retry: 1000\nid: 1/100/2\n\n");
    deliver(&sink, 3..5).await;
    let text = next(&mut subscription).await.unwrap();
    assert!(text.starts_with("id: 1/100/3\ndata: {"), "{text}");
    assert!(text.ends_with("}\n\n"), "{text}");
    assert_eq!(ordinals(&text), [3, 4]);
}

#[tokio::test]
async fn who_comes_back_gets_what_it_missed_or_is_told_of_the_gap() {
    let (sink, hub) = sink(r#"{"keep": 4}"#);
    // 0 to 5 are forgotten, 6 to 9 are kept.
    deliver(&sink, 0..10).await;
    for (last, gap, expected) in [
        (id(7), false, &[8, 9][..]),
        (id(5), false, &[6, 7, 8, 9]),
        (id(4), true, &[6, 7, 8, 9]),
        ("1/100/77".to_owned(), true, &[6, 7, 8, 9]),
        ("nonsense".to_owned(), true, &[6, 7, 8, 9]),
    ] {
        let mut subscription = hub.subscribe(&[], Some(&last)).unwrap();
        let greeting = next(&mut subscription).await.unwrap();
        assert_eq!(greeting.contains("event: gap\ndata: {}\n\n"), gap, "{last}: {greeting}");
        assert_eq!(ordinals(&next(&mut subscription).await.unwrap()), expected, "{last}");
    }
    let mut subscription = hub.subscribe(&[], Some(&id(9))).unwrap();
    assert!(!next(&mut subscription).await.unwrap().contains("gap"));
    deliver(&sink, 10..11).await;
    assert_eq!(ordinals(&next(&mut subscription).await.unwrap()), [10]);
}

#[tokio::test]
async fn after_a_restart_who_comes_back_is_told_of_the_gap() {
    let (_, hub) = sink("{}");
    let mut subscription = hub.subscribe(&[], Some(&id(3))).unwrap();
    assert!(next(&mut subscription).await.unwrap().contains("event: gap"));
}

#[tokio::test]
async fn who_is_too_slow_is_told_and_let_go_and_nobody_else_notices() {
    let (sink, hub) = sink(r#"{"keep": 10}"#);
    let mut slow = hub.subscribe(&[], None).unwrap();
    let mut prompt = hub.subscribe(&[], None).unwrap();
    next(&mut slow).await;
    next(&mut prompt).await;
    let mut got = Vec::new();
    for round in 0..5 {
        deliver(&sink, round * 8..(round + 1) * 8).await;
        got.extend(ordinals(&next(&mut prompt).await.unwrap()));
    }
    assert_eq!(got, Vec::from_iter(0..40));
    assert_eq!(next(&mut slow).await.as_deref(), Some("event: lagged\ndata: {}\n\n"));
    assert_eq!(next(&mut slow).await, None);
}

#[tokio::test]
async fn the_bytes_kept_are_bounded_and_one_change_is_always_kept() {
    let (sink, hub) = sink(r#"{"keep_bytes": 65536}"#);
    let note = "x".repeat(40_000);
    let changes = (0..3).map(|ordinal| row(ordinal, &note)).collect();
    sink.deliver(&batch(changes)).await.unwrap();
    let mut subscription = hub.subscribe(&[], Some(&id(1))).unwrap();
    next(&mut subscription).await;
    assert_eq!(ordinals(&next(&mut subscription).await.unwrap()), [2]);
    let mut late = hub.subscribe(&[], Some(&id(0))).unwrap();
    assert!(next(&mut late).await.unwrap().contains("gap"));
    sink.deliver(&batch(vec![row(3, &"x".repeat(100_000))])).await.unwrap();
    assert_eq!(ordinals(&next(&mut subscription).await.unwrap()), [3]);
}

#[tokio::test]
async fn tables_are_selected_and_the_way_back_is_kept_open_all_the_same() {
    let (sink, hub) = sink("{}");
    let mut orders = hub.subscribe(&["shop.*", "public.order?"], None).unwrap();
    let mut others = hub.subscribe(&["shop.*"], None).unwrap();
    next(&mut orders).await;
    next(&mut others).await;
    deliver(&sink, 0..1).await;
    assert_eq!(ordinals(&next(&mut orders).await.unwrap()), [0]);
    // Nothing of it is wanted, but enough goes by that its place would be forgotten one day.
    deliver(&sink, 1..251).await;
    assert_eq!(next(&mut others).await.unwrap(), "id: 1/100/250\n\n");
    assert!(matches!(hub.subscribe(&["orders"], None), Err(NotSubscribed::Table(_))));
}

#[tokio::test]
async fn subscribers_are_counted_and_bounded() {
    let (_, hub) = sink(r#"{"subscribers": 2}"#);
    let first = hub.subscribe(&[], None).unwrap();
    let _second = hub.subscribe(&[], None).unwrap();
    assert_eq!(hub.subscribe(&[], None).err(), Some(NotSubscribed::Full(2)));
    drop(first);
    assert!(hub.subscribe(&[], None).is_ok());
}

#[tokio::test]
async fn delivering_to_nobody_and_to_who_never_reads_takes_no_time_to_wait() {
    let (sink, hub) = sink("{}");
    let _never_reads = hub.subscribe(&[], None).unwrap();
    // Would it wait for anybody, it would for ever.
    timeout(Duration::from_secs(30), deliver(&sink, 0..20_000)).await.unwrap();
}
