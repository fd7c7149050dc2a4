use futures_util::FutureExt as _;
use herdsman_node::NodeName;

use super::*;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn happen(events: &Events, count: usize) {
    for _ in 0..count {
        events.publish(&Event::Fenced { node: name("n1") }, SystemTime::UNIX_EPOCH);
    }
}

/// What there is to read now.
fn read(feed: &mut LiveFeed) -> String {
    let mut text = String::new();
    while let Some(Some(bytes)) = feed.next().now_or_never() {
        text.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    text
}

fn ids(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("id: ")).collect()
}

#[test]
fn whoever_comes_back_gets_what_it_missed_once() {
    let events = Events::new();
    happen(&events, 1);
    let mut feed = events.follow(None).unwrap();
    assert!(read(&mut feed).starts_with("retry: "));
    happen(&events, 3);
    let text = read(&mut feed);
    let seen = ids(&text);
    assert_eq!(seen.len(), 3, "{text}");
    assert!(text.contains("\"at\":\"1970-01-01T00:00:00.000Z\",\"event\":\"fenced\""), "{text}");
    drop(feed);
    happen(&events, 2);
    let mut again = events.follow(Some(seen[1])).unwrap();
    let text = read(&mut again);
    assert_eq!(ids(&text).len(), 3, "{text}");
    assert_eq!(ids(&text)[0], seen[2]);
    assert!(!text.contains("event: gap"), "{text}");
}

#[test]
fn what_is_no_longer_kept_is_a_gap_and_who_reads_too_slowly_is_told_and_let_go() {
    let events = Events::new();
    happen(&events, 2);
    let mut slow = events.follow(None).unwrap();
    happen(&events, KEPT + 1);
    let text = read(&mut slow);
    assert!(text.ends_with("event: lagged\ndata: {}\n\n"), "{text}");
    assert!(slow.next().now_or_never().unwrap().is_none());
    for unknown in
        ["0-1", "nonsense", &format!("{}-0", events.0.run), &format!("{}-99999", events.0.run)]
    {
        let text = read(&mut events.follow(Some(unknown)).unwrap());
        assert!(text.contains("event: gap"), "{unknown}");
        assert_eq!(ids(&text).len(), KEPT, "{unknown}");
    }
}

#[tokio::test]
async fn what_others_report_is_among_it_also_after_a_reload() {
    let (_publisher, topology) = watch::channel(Arc::new(Topology::default()));
    let watch = herdsman_watch::Watch::detached(topology);
    let state = Arc::new(ApiState {
        watch: watch.clone(),
        groups: crate::Groups::new(),
        config: crate::ApiConfig::default(),
        writes: false,
    });
    let (reload, states) = watch::channel(Arc::clone(&state));
    let (events, stop) = (Events::new(), CancellationToken::new());
    let mut feed = events.follow(None).unwrap();
    let gathering = events.gather(states, stop.clone());
    let mut text = String::new();
    let reporting = async {
        // Whoever follows gets what comes after that only.
        tokio::task::yield_now().await;
        for conflicts in [1, 2] {
            watch.report(Event::Conflict { node: name("n1"), conflicts, total: 7 });
            reload.send_replace(Arc::clone(&state));
            while ids(&text).len() < usize::try_from(conflicts).unwrap() {
                tokio::task::yield_now().await;
                text.push_str(&read(&mut feed));
            }
        }
        stop.cancel();
    };
    let both = async { tokio::join!(gathering, reporting) };
    let ended = tokio::time::timeout(std::time::Duration::from_secs(30), both).await;
    assert!(ended.is_ok(), "{text}");
    let told = "\"event\":\"conflict\",\"node\":\"n1\",\"conflicts\":2,\"total\":7}";
    assert!(text.contains(told), "{text}");
}

#[test]
fn followers_are_bounded_and_places_come_free() {
    let events = Events::new();
    let mut feeds: Vec<_> = (0..MOST).map(|_| events.follow(None).unwrap()).collect();
    assert!(events.follow(None).is_none());
    feeds.pop();
    assert!(events.follow(None).is_some());
}
