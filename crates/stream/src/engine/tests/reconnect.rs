//! Connections that break.

use herdsman_node::Timeline;
use proptest::prelude::*;

use super::*;

/// Runs over one connection that breaks after so many events.
async fn run_until_break(engine: &mut Engine, server: &Server, events: usize) {
    let mut script = Script::new(server);
    script.breaks_after(events);
    let error = engine.run(&mut script, CancellationToken::new()).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_delivers_nothing_twice() {
    for order in [Order::Total, Order::PerKey { parallel: 2 }] {
        // Within the second transaction, right after it, and before anything.
        for events in [6, 8, 0] {
            let server = server(&[2, 3, 1]);
            let sink = Recorder::new(order);
            let pause = Duration::from_millis(50);
            sink.answer(move |_, _| Answer::After(pause, Box::new(Answer::Taken)));
            let mut engine = Engine::new(parts(&[("sink", &sink)]));
            run_until_break(&mut engine, &server, events).await;
            run_until_break(&mut engine, &server, 3).await;
            let end = run_to_end(&mut engine, &server).await.unwrap();
            assert_eq!(sink.labels(), ["1.0", "1.1", "2.0", "2.1", "2.2", "3.0"], "{events}");
            assert_eq!(end.safe, Lsn(310));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_promotion_what_waits_is_dropped_because_it_may_never_have_happened() {
    let server = server(&[1, 1]);
    let sink = Recorder::new(Order::Total);
    sink.answer(|_, _| Answer::Unavailable);
    let mut engine = Engine::new(parts(&[("sink", &sink)]));
    run_until_break(&mut engine, &server, 6).await;
    sink.answer(|_, _| Answer::Taken);
    // The new primary has only one of the two, and another one at the same position.
    let (tx, users) = (transaction(200), table("users"));
    let changes = vec![insert(&tx, 0, &users, "other")];
    let promoted = Server::new(vec![(tx, changes)]);
    let mut script = Script::new(&promoted);
    script.comes_from(Source { timeline: Timeline(2), ..Source::clone(&source()) });
    script.ends_by_itself();
    let end = engine.run(&mut script, CancellationToken::new()).await.unwrap();
    assert_eq!((sink.labels(), end.safe), (vec!["other".to_owned()], Lsn(210)));
}

#[tokio::test(start_paused = true)]
async fn an_engine_may_be_closed_without_a_connection() {
    let server = server(&[2]);
    let sink = Recorder::new(Order::Total);
    sink.answer(|_, _| Answer::After(Duration::from_secs(1), Box::new(Answer::Taken)));
    let mut engine = Engine::new(parts(&[("sink", &sink)]));
    run_until_break(&mut engine, &server, 4).await;
    let end = engine.close().await.unwrap();
    assert_eq!(end, End { safe: Lsn(110), undelivered: 0 });
    assert_eq!(server.acknowledged(), Lsn(0), "nobody is there to be told");
}

#[tokio::test(start_paused = true)]
async fn a_sink_whose_reader_has_left_is_not_waited_for() {
    let server = server(&[1]);
    let sink = Recorder::new(Order::Total);
    sink.answer(|_, _| Answer::Unavailable);
    let mut engine = Engine::new(parts(&[("sink", &sink)]));
    run_until_break(&mut engine, &server, 3).await;
    let began = Instant::now();
    engine.outboxes[0].leave();
    let end = engine.close().await.unwrap();
    assert_eq!(end, End { safe: Lsn(0), undelivered: 1 });
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_can_be_followed_by_another() {
    let server = server(&[2, 2]);
    let sink = Recorder::new(Order::PerKey { parallel: 2 });
    sink.answer(|_, _| Answer::After(Duration::from_secs(1), Box::new(Answer::Taken)));
    let mut engine = Engine::new(parts(&[("sink", &sink)]));
    for millis in [0, 1, 500] {
        let mut script = Script::new(&server);
        let run = engine.run(&mut script, CancellationToken::new());
        timeout(Duration::from_millis(millis), run).await.unwrap_err();
    }
    run_to_end(&mut engine, &server).await.unwrap();
    assert_eq!(sink.labels(), ["1.0", "1.1", "2.0", "2.1"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn however_often_it_breaks_everything_comes_once_and_in_order(
        sizes in prop::collection::vec(0_u64..5, 1..8),
        breaks in prop::collection::vec(0_usize..20, 0..6),
        pause in 0_u64..50,
        total: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let server = server(&sizes);
            let order = if total { Order::Total } else { Order::PerKey { parallel: 3 } };
            let sink = Recorder::new(order);
            let pause = Duration::from_millis(pause);
            sink.answer(move |_, _| Answer::After(pause, Box::new(Answer::Taken)));
            let mut engine = Engine::new(parts(&[("sink", &sink)]));
            for events in breaks {
                let mut script = Script::new(&server);
                script.breaks_after(events);
                let limit = Duration::from_millis(40);
                let _broken = timeout(limit, engine.run(&mut script, CancellationToken::new())).await;
            }
            run_to_end(&mut engine, &server).await.unwrap();
            let mut labels = sink.labels();
            if !total {
                labels.sort_unstable();
            }
            let all = (1..).zip(&sizes).flat_map(|(t, size)| (0..*size).map(move |n| format!("{t}.{n}")));
            assert_eq!(labels, all.collect::<Vec<_>>());
        });
    }
}
