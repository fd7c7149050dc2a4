//! 64 clients write and read through the gateway while servers are killed, frozen, cut off, promoted and switched over. A
//! checker then proves what became of every write, and that no client ever saw what was another's.
//!
//! Bounded in an ordinary run; with `HERDSMAN_SOAK` ten minutes for each version.

mod client;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use herdsman_sandbox::Sandbox;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use self::client::{Ack, Story};
use crate::harness::{self, DEADLINE, Running};
use crate::load::{tell, words};
use crate::switchover::Operator;

/// How many write at once.
const CLIENTS: i64 = 64;
/// How long a cycle runs before it breaks something, and after it has mended it.
const QUIET: Duration = Duration::from_millis(700);

/// One way to lose or move the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// kill -9 of every process of the primary; a standby is promoted.
    Kill,
    /// SIGSTOP of the primary; a standby is promoted; then the old one wakes up.
    Freeze,
    /// Nobody reaches the primary any more; a standby is promoted; then the way is mended.
    Cut,
    /// A standby is promoted beside a primary that lives.
    Promote,
    /// A planned change, by the gateway itself.
    Switchover,
    /// A standby is killed and comes back.
    Reader,
}

const FAULTS: [Fault; 6] =
    [Fault::Kill, Fault::Switchover, Fault::Freeze, Fault::Reader, Fault::Promote, Fault::Cut];

/// Who was primary from when to when, as the gateway's watcher saw it.
#[derive(Clone, Debug)]
struct Reign {
    node: String,
    from: Instant,
    until: Option<Instant>,
}

herdsman_sandbox::on_each_version! {
    async fn chaos_loses_nothing_but_what_a_lost_primary_took_along(version: u32) {
        let soak = std::env::var_os("HERDSMAN_SOAK").is_some();
        let length = Duration::from_secs(if soak { 600 } else { 40 });
        let cluster = Arc::new(Sandbox::builder().pg_version(version).standbys(2).start().await.unwrap());
        let operator = Operator::new(&cluster);
        let extra = format!("hold: 30s\npool: {{ size: 12 }}\n{}", operator.section());
        let running = Arc::new(harness::gateway(&cluster, &extra).await);
        running.until(|topology| topology.readers().count() == 2).await;
        client::prepare(&running).await;

        let (stop, calm) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let progress = Arc::<AtomicU64>::default();
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let (running, stop, calm) = (running.clone(), stop.clone(), calm.clone());
            let progress = progress.clone();
            clients.spawn(client::run(running, number, stop, calm, progress));
        }
        let reigns = tokio::spawn(reigns(running.clone(), stop.clone()));

        let begun = Instant::now();
        let mut cycles = BTreeMap::<String, u32>::new();
        let mut turn = usize::try_from(version).unwrap();
        while begun.elapsed() < length || turn < usize::try_from(version).unwrap() + FAULTS.len() {
            let fault = FAULTS[turn % FAULTS.len()];
            turn += 1;
            sleep(QUIET).await;
            cycle(&cluster, &running, fault, &calm).await;
            let goal = progress.load(Ordering::Relaxed) + 200;
            harness::eventually(&format!("writes go on after {fault:?}"), async || progress.load(Ordering::Relaxed) >= goal).await;
            *cycles.entry(format!("{fault:?}")).or_default() += 1;
        }
        stop.store(true, Ordering::Relaxed);
        let stories = timeout(DEADLINE * 2, clients.join_all()).await.expect("clients hang");
        let reigns = reigns.await.unwrap();
        let primary = cluster.primary().await.unwrap();
        let verdict = check(&cluster, &primary, &stories, &reigns).await;
        tell(&format!("PostgreSQL {version}: {cycles:?}; {verdict}"));
    }
}

async fn cycle(cluster: &Sandbox, running: &Running, fault: Fault, calm: &AtomicBool) {
    let old = running.watch().topology().primary().expect("a primary").to_string();
    let standbys: Vec<String> =
        cluster.node_names().into_iter().filter(|name| *name != old).collect();
    let (new, other) = (&standbys[0], &standbys[1]);
    match fault {
        Fault::Reader => {
            cluster.kill(other).await.unwrap();
            sleep(QUIET).await;
            cluster.start(other).await.unwrap();
        }
        Fault::Switchover => {
            calm.store(true, Ordering::SeqCst);
            let console = running.console().await;
            if let Err(error) = console.batch_execute(&format!("SWITCHOVER {new}")).await {
                panic!("the switchover to {new} failed: {}", words(&error));
            }
            running.until_primary(new).await;
            sleep(QUIET).await;
            calm.store(false, Ordering::SeqCst);
        }
        Fault::Kill | Fault::Freeze | Fault::Cut | Fault::Promote => {
            match fault {
                Fault::Kill => cluster.kill(&old).await.unwrap(),
                Fault::Freeze => cluster.freeze(&old).await.unwrap(),
                Fault::Cut => cluster.cut_off(&old).unwrap(),
                _ => {}
            }
            if fault != Fault::Promote {
                running.until(|topology| topology.primary().is_none()).await;
            }
            promote(cluster, new).await;
            // It may have followed the old one past the point where the new one branched off; then it is made anew below.
            let _diverged = cluster.follow(other, new).await.is_err();
            running.until_primary(new).await;
            sleep(QUIET).await;
            match fault {
                Fault::Freeze => cluster.thaw(&old).await.unwrap(),
                Fault::Cut => cluster.reconnect(&old).unwrap(),
                _ => {}
            }
            sleep(QUIET / 2).await;
            cluster.rejoin(&old).await.unwrap();
        }
    }
    whole_again(cluster, running).await;
}

/// On a machine as busy as this one a server may take longer to answer than the sandbox waits.
async fn promote(cluster: &Sandbox, node: &str) {
    for _ in 0..5 {
        if cluster.promote(node).await.is_ok() {
            return;
        }
    }
    cluster.promote(node).await.unwrap();
}

/// Waits until both standbys can be read, making anew those that have gone astray.
async fn whole_again(cluster: &Sandbox, running: &Running) {
    let begun = Instant::now();
    loop {
        let whole = running.watch().subscribe();
        let mut whole = whole;
        let wait = whole.wait_for(|topology| topology.readers().count() == 2);
        if timeout(Duration::from_secs(5), wait).await.is_ok() {
            return;
        }
        let topology = running.watch().topology();
        assert!(begun.elapsed() < DEADLINE * 3, "not whole in time: {topology:?}");
        let primary = topology.primary().cloned();
        for (name, view) in &topology.nodes {
            if Some(name) != primary.as_ref() && !view.readable {
                // It may have come to itself meanwhile, or take another turn.
                let _again = cluster.rejoin(name.as_str()).await.is_err();
            }
        }
    }
}

/// Who was primary when, until the clients are told to stop.
async fn reigns(running: Arc<Running>, stop: Arc<AtomicBool>) -> Vec<Reign> {
    let mut changes = running.watch().subscribe();
    let mut reigns: Vec<Reign> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        let primary = changes.borrow_and_update().primary().map(ToString::to_string);
        let current = reigns.last_mut().filter(|reign| reign.until.is_none());
        match (current, primary) {
            (Some(reign), Some(node)) if reign.node == node => {}
            (current, primary) => {
                if let Some(reign) = current {
                    reign.until = Some(now);
                }
                if let Some(node) = primary {
                    reigns.push(Reign { node, from: now, until: None });
                }
            }
        }
        let _quiet = timeout(Duration::from_millis(200), changes.changed()).await;
    }
    reigns
}

/// Proves what became of every write; returns it in words.
async fn check(cluster: &Sandbox, primary: &str, stories: &[Story], reigns: &[Reign]) -> String {
    let survivor = cluster.sql(primary, "app").await.unwrap();
    let rows = survivor
        .query("SELECT client, number, count(*) FROM chaos GROUP BY 1, 2", &[])
        .await
        .unwrap();
    let mut there = BTreeMap::<(i64, i64), i64>::new();
    for row in rows {
        there.insert((row.get(0), row.get(1)), row.get(2));
    }
    let twice: Vec<_> = there.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "written twice: {twice:?}");

    let (mut acknowledged, mut unknown, mut refused, mut lost, mut stale) = (0, 0, 0, 0, 0);
    let mut errors = BTreeMap::<&str, usize>::new();
    for story in stories {
        assert!(
            story.leaks.is_empty(),
            "client {} saw what was another's: {:?}",
            story.number,
            story.leaks
        );
        assert!(story.in_calm.is_empty(), "errors in a planned switchover: {:?}", story.in_calm);
        acknowledged += story.acks.len();
        unknown += story.unknown.len();
        refused += story.refused.len();
        for (code, count) in &story.errors {
            *errors.entry(code).or_default() += count;
        }
        for number in &story.refused {
            assert!(
                !there.contains_key(&(story.number, *number)),
                "client {} was told that write {number} had not happened, and it is there",
                story.number
            );
        }
        for (number, ack) in &story.acks {
            to_the_right_node(story.number, *number, ack, reigns);
            if !there.contains_key(&(story.number, *number)) {
                lost += 1;
                taken_along(story.number, *number, ack, primary, reigns);
            }
        }
        // A session that did not find its own write, which is there in the end, was shown the past.
        stale += story
            .missed
            .iter()
            .filter(|number| there.contains_key(&(story.number, **number)))
            .count();
    }
    assert_eq!(stale, 0, "sessions did not see their own writes");
    assert!(acknowledged > 1000, "only {acknowledged} writes were acknowledged");
    format!(
        "{acknowledged} writes acknowledged, {lost} of them lost with their primary, {unknown} of unknown outcome, {refused} refused; errors {errors:?}"
    )
}

/// A write that was begun when its node was not the proven primary was acknowledged by a wrong one.
fn to_the_right_node(client: i64, number: i64, ack: &Ack, reigns: &[Reign]) {
    let proven = reigns.iter().any(|reign| {
        reign.node == ack.node
            && reign.until.is_none_or(|until| ack.begun <= until)
            && ack.at >= reign.from
    });
    // The reign that was there before the log of reigns began.
    assert!(
        proven || reigns.is_empty(),
        "write {number} of client {client} was acknowledged by {}, which was not the proven primary: {ack:?} {reigns:?}",
        ack.node
    );
}

/// An acknowledged write that is not there may only have been lost by an unplanned change away from its node, at which it
/// was acknowledged shortly before.
fn taken_along(client: i64, number: i64, ack: &Ack, primary: &str, reigns: &[Reign]) {
    let end = reigns.iter().find(|reign| {
        reign.node == ack.node
            && reign.until.is_some_and(|until| until + Duration::from_secs(2) >= ack.at)
    });
    assert!(
        end.is_some(),
        "write {number} of client {client} was acknowledged by {} and is lost, though {primary} never lost anything: {ack:?}",
        ack.node
    );
}
