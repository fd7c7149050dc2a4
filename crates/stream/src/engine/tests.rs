//! The engine against scripted streams and sinks.

mod crash;
mod reconnect;
mod script;
mod sinks;

use std::sync::atomic::Ordering::Relaxed;

use herdsman_node::SystemId;
use herdsman_wal::{Change, Kind};

use self::script::{Script, Server};
use self::sinks::{Answer, Recorder};
use super::*;
use crate::checkpoint::Checkpoint;
use crate::config::RetryConfig;
use crate::dead_letter::DeadLetters;
use crate::lanes::fixture::{insert, source, table, transaction};
use crate::sink::{Order, Position, Sink};

/// Commits at 100, 200 and so on, with as many inserts as told; each ends 10 further.
fn server(sizes: &[u64]) -> Server {
    let users = table("users");
    let transactions = (1..).zip(sizes).map(|(number, size)| {
        let tx = transaction(number * 100);
        let changes = (0..*size).map(|n| insert(&tx, n, &users, &format!("{number}.{n}")));
        (tx.clone(), changes.collect())
    });
    Server::new(transactions.collect())
}

fn parts(sinks: &[(&str, &Recorder)]) -> Parts {
    let sinks = sinks.iter().map(|(name, sink)| {
        let sink: Arc<dyn Sink> = Arc::new((*sink).clone());
        ((*name).to_owned(), sink)
    });
    Parts { sinks: sinks.collect(), ..Parts::default() }
}

/// Runs until everything that there is has been acknowledged, then shuts down.
async fn run_to_end(engine: &mut Engine, server: &Server) -> Result<End, StreamError> {
    let shutdown = CancellationToken::new();
    let mut events = Script::new(server);
    let stop = async {
        server.wait_for_all().await;
        shutdown.cancel();
    };
    let both = async { tokio::join!(engine.run(&mut events, shutdown.clone()), stop).0 };
    timeout(Duration::from_secs(1_000_000), both)
        .await
        .expect("everything is delivered at some time")
}

#[tokio::test(start_paused = true)]
async fn one_slot_feeds_every_sink_and_all_of_them_decide_what_is_acknowledged() {
    let server = server(&[2, 0, 3]);
    let (fast, slow) = (Recorder::new(Order::Total), Recorder::new(Order::PerKey { parallel: 2 }));
    slow.answer(|_, _| Answer::After(Duration::from_secs(30), Box::new(Answer::Taken)));
    let mut engine = Engine::new(parts(&[("fast", &fast), ("slow", &slow)]));
    let end = run_to_end(&mut engine, &server).await.unwrap();
    assert_eq!(end, End { safe: Lsn(310), undelivered: 0 });
    for sink in [&fast, &slow] {
        assert_eq!(sink.labels(), ["1.0", "1.1", "3.0", "3.1", "3.2"]);
        assert_eq!(sink.closed.load(Relaxed), 1);
    }
    assert_eq!(server.acknowledged(), Lsn(310));
    let stats = engine.stats().snapshot();
    assert_eq!((stats.received, stats.transactions, stats.lag_bytes), (5, 3, 0));
    assert_eq!(stats.sinks.iter().map(|sink| sink.delivered).collect::<Vec<_>>(), [5, 5]);
    assert_eq!(stats.sinks[0].position, Some(Position { commit_lsn: Lsn(300), changes: u64::MAX }));
    assert!(serde_json::to_string(&stats).unwrap().contains("\"waiting_bytes\":0"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_before_a_sink_has_it() {
    let server = server(&[1, 1]);
    let sink = Recorder::new(Order::Total);
    sink.answer(|_, tries| if tries < 5 { Answer::Unavailable } else { Answer::Taken });
    let mut engine = Engine::new(parts(&[("sink", &sink)]));
    let held = sink.clone();
    server.on_acknowledge(move |lsn| {
        let has = held.labels().len();
        assert!(lsn < Lsn(110) || has >= 1, "{lsn}");
        assert!(lsn < Lsn(210) || has >= 2, "{lsn}");
    });
    run_to_end(&mut engine, &server).await.unwrap();
    assert_eq!(sink.labels(), ["1.0", "2.0"]);
    assert_eq!(engine.stats().snapshot().sinks[0].unavailable, 5);
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_is_acknowledged_up_to_where_the_server_is() {
    let server = server(&[1]);
    server.idle_at(Lsn(5000));
    let sink = Recorder::new(Order::Total);
    let mut engine = Engine::new(parts(&[("sink", &sink)]));
    let end = run_to_end(&mut engine, &server).await.unwrap();
    assert_eq!((end.safe, server.acknowledged()), (Lsn(5000), Lsn(5000)));
}

#[tokio::test(start_paused = true)]
async fn reading_stops_when_too_much_waits_and_goes_on_later() {
    let server = server(&[500]);
    let sink = Recorder::new(Order::PerKey { parallel: 1 });
    let mut parts = parts(&[("sink", &sink)]);
    parts.batch = BatchConfig { changes: 10, bytes: 1 << 20, queue_bytes: 5000 };
    let mut engine = Engine::new(parts);
    let stats = engine.stats();
    sink.answer(move |_, _| {
        let waiting = stats.snapshot().sinks[0].waiting_bytes;
        assert!(waiting < 6000, "{waiting} bytes wait");
        Answer::After(Duration::from_millis(10), Box::new(Answer::Taken))
    });
    run_to_end(&mut engine, &server).await.unwrap();
    assert_eq!(sink.labels().len(), 500);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_larger_than_the_queue_goes_through_in_total_order() {
    let server = server(&[300]);
    let sink = Recorder::new(Order::Total);
    let mut parts = parts(&[("sink", &sink)]);
    // A batch may hold more than may wait at all.
    parts.batch = BatchConfig { changes: 10_000, bytes: 1 << 20, queue_bytes: 3000 };
    let mut engine = Engine::new(parts);
    run_to_end(&mut engine, &server).await.unwrap();
    assert_eq!(sink.labels().len(), 300);
    assert!(sink.batches() > 1);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_cannot_be_opened_is_tried_again_and_the_others_go_on() {
    let server = server(&[1]);
    let (good, late) = (Recorder::new(Order::Total), Recorder::new(Order::Total));
    late.fail_to_open(4);
    let mut engine = Engine::new(parts(&[("good", &good), ("late", &late)]));
    let waited = good.clone();
    late.answer(move |_, _| {
        assert_eq!(waited.labels(), ["1.0"]);
        Answer::Taken
    });
    run_to_end(&mut engine, &server).await.unwrap();
    assert_eq!(late.labels(), ["1.0"]);
    assert_eq!(late.opened.load(Relaxed), 5);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_knows_its_position_gets_nothing_up_to_it() {
    let server = server(&[2, 3, 1]);
    let sink = Recorder::new(Order::Total);
    sink.position_is(Position { commit_lsn: Lsn(200), changes: 2 });
    let mut engine = Engine::new(parts(&[("sink", &sink)]));
    run_to_end(&mut engine, &server).await.unwrap();
    assert_eq!(sink.labels(), ["2.2", "3.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_whose_answer_was_lost_is_opened_again_and_gets_nothing_twice() {
    let server = server(&[2, 1]);
    let sink = Recorder::new(Order::Total);
    sink.keep_position();
    sink.answer(|_, tries| if tries == 0 { Answer::TakenButLost } else { Answer::Taken });
    let mut engine = Engine::new(parts(&[("sink", &sink)]));
    run_to_end(&mut engine, &server).await.unwrap();
    assert_eq!(sink.labels(), ["1.0", "1.1", "2.0"]);
    assert!(sink.opened.load(Relaxed) > 1);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_went_back_stops_the_stream() {
    let server = server(&[1, 1]);
    let sink = Recorder::new(Order::Total);
    sink.keep_position();
    let restored = sink.clone();
    sink.answer(move |labels, _| {
        if labels == ["2.0"] {
            restored.position_is(Position { commit_lsn: Lsn(50), changes: u64::MAX });
            return Answer::Unavailable;
        }
        Answer::Taken
    });
    let mut parts = parts(&[("sink", &sink)]);
    parts.batch.changes = 1;
    let mut engine = Engine::new(parts);
    let mut events = Script::new(&server);
    let error = engine.run(&mut events, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, StreamError::SinkWentBack { .. }), "{error}");
    assert!(error.to_string().contains("0/32"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_no_try_delivers_is_kept_and_the_stream_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let letters = DeadLetters::open(folder.path()).unwrap();
    for order in [Order::Total, Order::PerKey { parallel: 3 }] {
        let server = server(&[3, 1]);
        let sink = Recorder::new(order);
        sink.poison("1.1");
        let mut parts = parts(&[("hook", &sink)]);
        parts.retry.attempts = 4;
        parts.dead_letters = Some(letters.clone());
        let mut engine = Engine::new(parts);
        let kept = letters.clone();
        server.on_acknowledge(move |lsn| {
            assert!(lsn < Lsn(110) || kept.list().unwrap().len() == 1, "{lsn}");
        });
        let end = run_to_end(&mut engine, &server).await.unwrap();
        assert_eq!(end.safe, Lsn(210));
        assert_eq!(sink.labels().len(), 3);
        assert_eq!(sink.tries_of("1.1"), 4);
        let kept = letters.list().unwrap();
        assert_eq!((kept[0].id.as_str(), kept[0].attempts), ("hook:0/64:1", 4));
        assert_eq!(engine.stats().snapshot().sinks[0].dead_letters, 1);
        letters.drop(&[kept[0].id.clone()]).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_sink_is_an_outage_and_not_the_end() {
    let server = server(&[1]);
    let sink = Recorder::new(Order::Total);
    sink.answer(|_, tries| if tries == 0 { panic!("on purpose") } else { Answer::Taken });
    let mut engine = Engine::new(parts(&[("sink", &sink)]));
    run_to_end(&mut engine, &server).await.unwrap();
    assert_eq!(sink.labels(), ["1.0"]);
    let stats = engine.stats().snapshot();
    assert!(stats.sinks[0].last_error.as_ref().unwrap().contains("panicked"), "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_transform_leaves_out_is_handled_and_its_error_stops_the_stream() {
    let server = server(&[2, 1]);
    let sink = Recorder::new(Order::Total);
    let mut made = parts(&[("sink", &sink)]);
    made.transform =
        Some(Box::new(|change| Ok((change.ordinal != 0).then(|| Change::from(change)))));
    let mut engine = Engine::new(made);
    let end = run_to_end(&mut engine, &server).await.unwrap();
    assert_eq!(sink.labels(), ["1.1"]);
    assert_eq!((end.safe, engine.stats().snapshot().left_out), (Lsn(210), 2));

    let mut made = parts(&[("sink", &sink)]);
    made.transform = Some(Box::new(|_| Err(StreamError::TwoPhase)));
    let mut engine = Engine::new(made);
    let server = self::server(&[2, 1]);
    let mut events = Script::new(&server);
    engine.run(&mut events, CancellationToken::new()).await.unwrap_err();
    assert_eq!(server.acknowledged(), Lsn(0));
}

#[tokio::test(start_paused = true)]
async fn a_message_of_no_transaction_is_delivered_on_its_own() {
    let server = server(&[1]);
    server.message_at(Lsn(150), "note");
    let sink = Recorder::new(Order::Total);
    let mut engine = Engine::new(parts(&[("sink", &sink)]));
    let end = run_to_end(&mut engine, &server).await.unwrap();
    assert_eq!(sink.labels(), ["1.0", "message"]);
    assert_eq!(end.safe, Lsn(150));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_deliveries_end_but_not_for_ever() {
    let server = server(&[1, 1]);
    let sink = Recorder::new(Order::Total);
    sink.answer(|labels, _| match labels.first().map(String::as_str) {
        Some("1.0") => Answer::After(Duration::from_secs(5), Box::new(Answer::Taken)),
        _ => Answer::After(Duration::from_secs(3600), Box::new(Answer::Taken)),
    });
    let mut parts = parts(&[("sink", &sink)]);
    parts.batch.changes = 1;
    parts.grace = Duration::from_secs(60);
    let mut engine = Engine::new(parts);
    let shutdown = CancellationToken::new();
    let mut events = Script::new(&server);
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        shutdown.cancel();
    };
    let (end, ()) = tokio::join!(engine.run(&mut events, shutdown.clone()), stop);
    assert_eq!(end.unwrap(), End { safe: Lsn(110), undelivered: 1 });
    assert_eq!((sink.labels(), sink.closed.load(Relaxed)), (vec!["1.0".to_owned()], 1));
    assert_eq!(server.acknowledged(), Lsn(110));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_within_a_transaction_leaves_all_of_it_for_the_next_time() {
    for order in [Order::Total, Order::PerKey { parallel: 2 }] {
        let server = server(&[1, 2]);
        server.cut_after_events(5);
        let sink = Recorder::new(order);
        let mut engine = Engine::new(parts(&[("sink", &sink)]));
        let shutdown = CancellationToken::new();
        let mut events = Script::new(&server);
        let stop = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            shutdown.cancel();
        };
        let (end, ()) = tokio::join!(engine.run(&mut events, shutdown.clone()), stop);
        assert_eq!(end.unwrap().safe, Lsn(110));
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_end_by_themselves_end_the_run_when_all_is_delivered() {
    let server = server(&[3]);
    let sink = Recorder::new(Order::Total);
    sink.answer(|_, _| Answer::After(Duration::from_secs(600), Box::new(Answer::Taken)));
    let mut engine = Engine::new(parts(&[("sink", &sink)]));
    let mut events = Script::new(&server);
    events.ends_by_itself();
    let end = engine.run(&mut events, CancellationToken::new()).await.unwrap();
    assert_eq!((end, sink.labels().len()), (End { safe: Lsn(110), undelivered: 0 }, 3));
    assert_eq!(sink.closed.load(Relaxed), 0, "it stays open for the stream that follows");
}

#[tokio::test(start_paused = true)]
async fn the_position_is_on_disk_before_the_server_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&[1, 1, 1]);
    let sink = Recorder::new(Order::Total);
    let mut parts = parts(&[("sink", &sink)]);
    parts.checkpoint = Some(Checkpoint::open(folder.path()).unwrap());
    let file = folder.path().join("position");
    server.on_acknowledge(move |lsn| {
        let text = std::fs::read_to_string(&file).unwrap();
        let saved: serde_json::Value = serde_json::from_str(&text).unwrap();
        let saved: Lsn = saved["safe"].as_str().unwrap().parse().unwrap();
        assert!(saved >= lsn, "{saved} on disk, {lsn} told");
    });
    let mut engine = Engine::new(parts);
    run_to_end(&mut engine, &server).await.unwrap();
    assert_eq!(engine.safe(), Lsn(310));
    drop(engine);
    let saved = Checkpoint::open(folder.path()).unwrap().load().unwrap().unwrap();
    assert_eq!((saved.safe, &saved.source), (Lsn(310), &*source()));
}

#[tokio::test(start_paused = true)]
async fn the_state_folder_of_another_cluster_is_refused_and_a_forgotten_position_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let other = Source { system_id: SystemId(8), ..Source::clone(&source()) };
    checkpoint.save(&other, Lsn(5)).unwrap();
    let server = server(&[1]);
    let sink = Recorder::new(Order::Total);
    let mut parts = parts(&[("sink", &sink)]);
    parts.checkpoint = Some(checkpoint);
    let mut engine = Engine::new(parts);
    let mut events = Script::new(&server);
    let error = engine.run(&mut events, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, StreamError::Checkpoint(_)), "{error}");
    assert!(sink.labels().is_empty());
    engine.forget_position().unwrap();
    run_to_end(&mut engine, &server).await.unwrap();
    assert_eq!(sink.labels(), ["1.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_lone_change_is_delivered_at_once() {
    let server = server(&[1]);
    let sink = Recorder::new(Order::PerKey { parallel: 1 });
    let began = Instant::now();
    let mut engine = Engine::new(parts(&[("sink", &sink)]));
    run_to_end(&mut engine, &server).await.unwrap();
    // The clock stands still unless somebody waits for it.
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_snapshot_are_delivered_whatever_position_a_sink_has() {
    let (tx, users) = (
        Arc::new(herdsman_wal::Transaction { commit_lsn: Lsn(50), ..Default::default() }),
        table("users"),
    );
    let row = crate::lanes::fixture::row(&[Some("a"), None]);
    let body = herdsman_wal::Body::Read { table: &users, new: row.tuple() };
    let chunks = (0..2).map(|n| (tx.clone(), vec![crate::lanes::fixture::change(&tx, n, body)]));
    let server = Server::new(chunks.collect());
    let sink = Recorder::new(Order::Total);
    sink.position_is(Position { commit_lsn: Lsn(900), changes: u64::MAX });
    let mut engine = Engine::new(parts(&[("sink", &sink)]));
    run_to_end(&mut engine, &server).await.unwrap();
    assert_eq!(sink.labels(), ["a", "a"]);
    assert!(sink.kinds().iter().all(|kind| *kind == Kind::Read));
}
