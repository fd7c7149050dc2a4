//! The Kafka sink on a real broker.

mod changes;
mod topic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use herdsman_sandbox::Kafka;
use herdsman_stream::config::Shape;
use herdsman_stream::sinks::conformance::{self, Seen};
use herdsman_stream::sinks::kafka::{KafkaConfig, KafkaSink};
use herdsman_stream::{Batch, DeliveryError, Sink as _, SinkError, Why};
use tokio::sync::watch;
use tokio::time::Instant;

use changes::{Does, change, table, words};
use topic::{Found, by_key, read};

fn sink(kafka: &Kafka, more: &serde_json::Value) -> KafkaSink {
    let mut settings = serde_json::json!({ "brokers": [kafka.bootstrap()], "timeout": "20s" });
    settings.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
    let config: KafkaConfig = serde_json::from_value(settings).unwrap();
    KafkaSink::new(&config, Shape::Herdsman).unwrap()
}

fn unavailable(outcome: Result<(), DeliveryError>) -> SinkError {
    match outcome {
        Err(DeliveryError::Unavailable(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_does_what_every_sink_must_do() {
    let kafka = Kafka::builder().partitions(3).start().await.unwrap();
    let sink = sink(&kafka, &serde_json::json!({ "topic": "t" }));
    let arrived = async || {
        let found = read(&kafka, "t").await;
        let seen = |record: &Found| Seen {
            ordinal: record.ordinal(),
            id: record.id().try_into().unwrap(),
        };
        found.iter().map(seen).collect()
    };
    conformance::check(&sink, arrived).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_keeps_its_order_whatever_its_partition() {
    let kafka = Kafka::builder().partitions(3).start().await.unwrap();
    let (words_table, other) = (table("words"), table("other words"));
    for (more, topic) in [
        (serde_json::json!({}), "herdsman.public.words"),
        // Room for a few records only: sending waits for it.
        (
            serde_json::json!({ "topic": "small.{table}", "properties": { "queue.buffering.max.messages": 7 } }),
            "small.words",
        ),
    ] {
        let sink = sink(&kafka, &more);
        assert_eq!(sink.open().await.unwrap(), None);
        for first in [0, 500, 1000] {
            sink.deliver(&words(&words_table, first, 500, 40)).await.unwrap();
        }
        sink.deliver(&words(&other, 0, 10, 10)).await.unwrap();
        sink.close().await;
        let found = read(&kafka, topic).await;
        assert_eq!(found.len(), 1500);
        let partitions: BTreeSet<i32> = found.iter().map(|record| record.partition).collect();
        assert_eq!(partitions.len(), 3, "rows are spread");
        let ordinals = by_key(&found);
        assert_eq!(ordinals.len(), 40);
        for (key, ordinals) in ordinals {
            assert!(ordinals.is_sorted(), "{key}: {ordinals:?}");
        }
        assert_eq!(read(&kafka, &topic.replace("words", "other_words")).await.len(), 10);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_tells_where_its_change_comes_from() {
    let kafka = Kafka::builder().start().await.unwrap();
    let sink = sink(&kafka, &serde_json::json!({ "topic": "t" }));
    sink.open().await.unwrap();
    let changes = vec![change(&table("words"), 3, &Does::Put(5, "hello"))];
    sink.deliver(&Batch { changes, position: None }).await.unwrap();
    let found = read(&kafka, "t").await;
    let headers = [
        ("herdsman-commit-lsn", "0/2A"),
        ("herdsman-idempotency-key", "7-0/2A-3"),
        ("herdsman-kind", "insert"),
        ("herdsman-ordinal", "3"),
    ];
    let expected = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(found[0].headers, BTreeMap::from(expected));
    assert_eq!(found[0].key.as_deref(), Some(r#"{"id":5}"#));
    assert!(found[0].value.as_deref().unwrap().contains("hello"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_leaves_a_tombstone_where_that_is_wanted() {
    let kafka = Kafka::builder().start().await.unwrap();
    let words_table = table("words");
    let changes: Vec<_> = [
        Does::Put(1, "one"),
        Does::Move { from: 1, to: 2 },
        Does::Delete(2),
        Does::Truncate,
        Does::Say("psst"),
    ]
    .iter()
    .zip(0..)
    .map(|(does, ordinal)| change(&words_table, ordinal, does))
    .collect();
    for (tombstones, expected) in [
        (true, vec![(0, 1, true), (1, 1, false), (1, 2, true), (2, 2, true), (2, 2, false)]),
        (false, vec![(0, 1, true), (1, 2, true), (2, 2, true)]),
    ] {
        let topic = format!("with.{tombstones}");
        let sink = sink(
            &kafka,
            &serde_json::json!({
                "topic": topic, "messages_topic": format!("{topic}.messages"), "tombstones": tombstones,
            }),
        );
        sink.open().await.unwrap();
        sink.deliver(&Batch { changes: changes.clone(), position: None }).await.unwrap();
        let mut found = read(&kafka, &topic).await;
        let truncated = found.pop().unwrap();
        assert_eq!(
            (truncated.key, truncated.headers["herdsman-kind"].as_str()),
            (None, "truncate")
        );
        let seen: Vec<_> = found
            .iter()
            .map(|record| (record.ordinal(), record.id(), record.value.is_some()))
            .collect();
        assert_eq!(seen, expected);
        let said = read(&kafka, &format!("{topic}.messages")).await;
        assert_eq!((said.len(), said[0].key.as_ref()), (1, None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_in_the_middle_loses_nothing() {
    const BATCHES: u64 = 60;
    const SIZE: u64 = 100;
    let kafka = Kafka::builder().partitions(3).start().await.unwrap();
    // Shorter than the outage: batches fail and are tried again.
    let sink = Arc::new(sink(&kafka, &serde_json::json!({ "timeout": "1s" })));
    sink.open().await.unwrap();
    let (tell, mut told) = watch::channel((0, 0));
    let delivers = tokio::spawn(async move {
        let words_table = table("words");
        let deadline = Instant::now() + Duration::from_secs(60);
        for number in 0..BATCHES {
            let batch = words(&words_table, number * SIZE, SIZE, 10);
            while let Err(error) = sink.deliver(&batch).await {
                assert!(Instant::now() < deadline, "never again: {error}");
                let error = unavailable(Err(error));
                tell.send_modify(|(_, failures)| *failures += 1);
                if error.reopen {
                    // As the engine does.
                    while sink.open().await.is_err() {
                        assert!(Instant::now() < deadline, "never open again");
                    }
                }
            }
            tell.send_modify(|(delivered, _)| *delivered += 1);
        }
    });
    told.wait_for(|(delivered, _)| *delivered > BATCHES / 4).await.unwrap();
    kafka.kill().await.unwrap();
    assert!(told.borrow().0 < BATCHES, "it was in the middle");
    told.wait_for(|(_, failures)| *failures > 0).await.unwrap();
    kafka.start().await.unwrap();
    delivers.await.unwrap();
    let found = read(&kafka, "herdsman.public.words").await;
    for (key, ordinals) in by_key(&found) {
        let all: BTreeSet<u64> = ordinals.iter().copied().collect();
        assert_eq!(all.len(), usize::try_from(BATCHES * SIZE / 10).unwrap(), "{key}");
        assert_eq!(ordinals.last(), all.last(), "{key}: what is last in it happened last");
        let mut highest = 0;
        let firsts = ordinals.iter().filter(|ordinal| {
            let first = **ordinal >= highest;
            highest = highest.max(**ordinal);
            first
        });
        assert_eq!(
            firsts.copied().collect::<BTreeSet<_>>(),
            all,
            "{key}: whoever drops what it has seen sees all, in order"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_too_large_is_refused_and_the_others_arrive() {
    // The first limit is the broker's, beside the client's own. Requests are small, so that some with later changes are
    // taken before it is known which change another one was refused for.
    let kafka = Kafka::builder().setting("message.max.bytes", "20000").start().await.unwrap();
    let settings = serde_json::json!({ "topic": "t", "properties": { "batch.num.messages": 15 } });
    let sink = sink(&kafka, &settings);
    sink.open().await.unwrap();
    let words_table = table("words");
    let (large, huge) = ("x".repeat(30_000), "x".repeat(2_000_000));
    let changes: Vec<_> = (0..90)
        .map(|ordinal| {
            let word = match ordinal {
                20 => &huge,
                50 => &large,
                _ => "small",
            };
            let id = i64::try_from(ordinal % 10).unwrap();
            change(&words_table, ordinal, &Does::Put(id, word))
        })
        .collect();
    let outcome = sink.deliver(&Batch { changes, position: None }).await;
    let Err(DeliveryError::Partly(undelivered)) = outcome else { panic!("{outcome:?}") };
    let refused: Vec<usize> = undelivered
        .iter()
        .map(|one| {
            let Why::Rejected(error) = &one.why else { panic!("{one:?}") };
            assert!(error.to_string().contains("message.max.bytes"), "{error}");
            assert!(!error.to_string().contains("xxx"), "{error}");
            one.index
        })
        .collect();
    assert_eq!(refused, [20, 50]);
    for (key, ordinals) in by_key(&read(&kafka, "t").await) {
        let all: BTreeSet<u64> = ordinals.iter().copied().collect();
        let expected = if key.contains('0') { 7 } else { 9 };
        assert_eq!(all.len(), expected, "{key}: {ordinals:?}");
        assert_eq!(ordinals.last(), all.last(), "{key}: what is last in it happened last");
    }
    // It is as good as new.
    sink.deliver(&words(&words_table, 100, 10, 10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_is_told_of_and_what_it_missed_comes_later() {
    let kafka = Kafka::builder().start().await.unwrap();
    let sink = sink(&kafka, &serde_json::json!({ "topic": "t", "timeout": "1s" }));
    let batch = words(&table("words"), 0, 50, 5);
    let error = unavailable(sink.deliver(&batch).await);
    assert!(error.reopen, "it was never opened");
    sink.open().await.unwrap();
    kafka.freeze().await.unwrap();
    let error = unavailable(sink.deliver(&batch).await);
    assert!(error.target.contains(&kafka.bootstrap()), "{error}");
    kafka.thaw().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = sink.deliver(&batch).await {
        assert!(Instant::now() < deadline, "{error}");
        if unavailable(Err(error)).reopen {
            sink.open().await.unwrap();
        }
    }
    let found = read(&kafka, "t").await;
    let ordinals: BTreeSet<u64> = found.iter().map(Found::ordinal).collect();
    assert_eq!(ordinals.len(), 50);
    assert_eq!(found.last().map(Found::ordinal), Some(49));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_not_there_is_told_with_where_and_what_to_do() {
    let kafka = Kafka::builder().start().await.unwrap();
    kafka.stop().await.unwrap();
    let sink = sink(&kafka, &serde_json::json!({ "timeout": "2s" }));
    let error = sink.open().await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains(&kafka.bootstrap()), "{said}");
    assert!(said.contains("Connection refused"), "{said}");
    assert!(said.contains("check that the brokers run"), "{said}");
    kafka.start().await.unwrap();
    sink.open().await.unwrap();
    sink.deliver(&words(&table("words"), 0, 1, 1)).await.unwrap();
}
