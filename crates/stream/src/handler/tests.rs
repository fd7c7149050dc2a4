//! Handlers as a sink.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use herdsman_wal::decode::TupleWriter;
use herdsman_wal::{Row, RowError};

use super::*;
use crate::lanes::fixture::{
    delete, insert, label, message, relation, table, transaction, truncate,
};

type Log = Arc<Mutex<Vec<String>>>;

/// A handler that notes what it got under a name, and fails for some labels.
fn noting(log: &Log, name: &'static str, fails_for: &'static [&'static str]) -> impl Handler {
    let log = Arc::clone(log);
    handler_fn(move |change: Arc<Change>| {
        let log = Arc::clone(&log);
        async move {
            let label = label(&change);
            if fails_for.contains(&label.as_str()) {
                return Err(format!("no {label} today").into());
            }
            log.lock().unwrap().push(format!("{name}:{label}"));
            Ok(())
        }
    })
}

fn batch(changes: Vec<Arc<Change>>) -> Batch {
    Batch { changes, position: None }
}

async fn undelivered(handlers: &Handlers, changes: Vec<Arc<Change>>) -> Vec<(usize, String)> {
    match handlers.deliver(&batch(changes)).await {
        Ok(()) => Vec::new(),
        Err(DeliveryError::Unavailable(error)) => panic!("{error}"),
        Err(DeliveryError::Partly(undelivered)) => undelivered
            .into_iter()
            .map(|one| {
                let why = match one.why {
                    Why::Behind => "behind".to_owned(),
                    Why::Failed(error) => error.problem,
                    Why::Rejected(_) => "rejected".to_owned(),
                };
                (one.index, why)
            })
            .collect(),
    }
}

#[tokio::test]
async fn schema_and_table_both_decide_which_handler_is_called() {
    let log = Log::default();
    let tx = transaction(10);
    let mut other =
        relation("users", herdsman_wal::ReplicaIdentity::Default, &[("id", true, true)]);
    other.schema = "audit".into();
    let (users, other, orders) = (table("users"), Arc::new(other), table("orders"));
    let handlers = Handlers::new()
        .all(noting(&log, "all", &[]))
        .table("public.users", noting(&log, "users", &[]))
        .unwrap()
        .table("*.o*", noting(&log, "o", &[]))
        .unwrap();
    let changes = vec![
        insert(&tx, 0, &users, "1"),
        insert(&tx, 1, &other, "2"),
        insert(&tx, 2, &orders, "3"),
        truncate(&tx, 3, &[other.clone(), users.clone()]),
        message(&tx, 4, "note"),
    ];
    assert!(undelivered(&handlers, changes).await.is_empty());
    let mut log = log.lock().unwrap().clone();
    log.sort_unstable();
    assert_eq!(
        log,
        [
            "all:1",
            "all:2",
            "all:3",
            "all:message",
            "all:truncate",
            "o:3",
            "users:1",
            "users:truncate"
        ]
    );
    assert!(Handlers::new().table("users", noting(&Log::default(), "x", &[])).is_err());
}

#[tokio::test]
async fn a_failure_holds_back_its_own_row_and_tells_the_hooks() {
    let log = Log::default();
    let (told, lines) = (Log::default(), Log::default());
    let (hook, line_hook) = (Arc::clone(&told), Arc::clone(&lines));
    let handlers = Handlers::new()
        .all(noting(&log, "all", &["bad"]))
        .on_error(move |change, problem| {
            hook.lock().unwrap().push(format!("{}: {problem}", label(change)));
        })
        .on_log(move |line| line_hook.lock().unwrap().push(line.to_owned()));
    let (tx, users) = (transaction(10), table("users"));
    let changes = vec![
        insert(&tx, 0, &users, "good"),
        insert(&tx, 1, &users, "bad"),
        delete(&tx, 2, &users, "bad"),
        delete(&tx, 3, &users, "good"),
    ];
    let left = undelivered(&handlers, changes).await;
    assert_eq!(left, [(1, "no bad today".to_owned()), (2, "behind".to_owned())]);
    assert_eq!(*log.lock().unwrap(), ["all:good", "all:good"]);
    assert_eq!(*told.lock().unwrap(), ["bad: no bad today"]);
    let lines = lines.lock().unwrap().join("\n");
    assert!(
        lines.contains("failed to handle insert of public.users (0/A, change 1): no bad"),
        "{lines}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_call_without_end_are_failures() {
    let handlers = Handlers::new().timeout(Duration::from_secs(3)).all(handler_fn(
        |change: Arc<Change>| async move {
            match label(&change).as_str() {
                "panics" => panic!("on {}", "purpose"),
                "hangs" => std::future::pending().await,
                _ => Ok(()),
            }
        },
    ));
    let (tx, users) = (transaction(10), table("users"));
    let ids = ["fine", "panics", "hangs"];
    let changes = (0..).zip(ids).map(|(n, id)| insert(&tx, n, &users, id)).collect();
    let left = undelivered(&handlers, changes).await;
    assert_eq!(left[0], (1, "the handler panicked: on purpose".to_owned()));
    assert_eq!(left[1], (2, "the handler took longer than 3s".to_owned()));
    assert_eq!(left.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn rows_are_handled_side_by_side_up_to_the_bound() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (inside, peak) = (Arc::clone(&now), Arc::clone(&most));
    let handlers = Handlers::new().parallel(3).all(handler_fn(move |_| {
        let (inside, peak) = (Arc::clone(&inside), Arc::clone(&peak));
        async move {
            peak.fetch_max(inside.fetch_add(1, Relaxed) + 1, Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
            inside.fetch_sub(1, Relaxed);
            Ok(())
        }
    }));
    assert_eq!(handlers.order(), Order::PerKey { parallel: 3 });
    let (tx, users) = (transaction(10), table("users"));
    let changes = (0..20).map(|n| insert(&tx, n, &users, &n.to_string())).collect();
    assert!(undelivered(&handlers, changes).await.is_empty());
    assert_eq!(most.load(Relaxed), 3);
}

struct User {
    id: String,
}

impl FromChange for User {
    const TABLE: Option<(&'static str, &'static str)> = Some(("public", "users"));

    fn from_row(row: &Row<'_>) -> Result<Self, RowError> {
        Ok(Self { id: row.get("id")? })
    }
}

#[tokio::test]
async fn a_typed_handler_gets_the_row_as_it_is_or_as_it_was() {
    let log = Log::default();
    let typed = Arc::clone(&log);
    let handlers = Handlers::new().table_of(move |user: User, change: Arc<Change>| {
        typed.lock().unwrap().push(format!("{} {}", change.kind().name(), user.id));
        async { Ok(()) }
    });
    let (tx, users) = (transaction(10), table("users"));
    let mut null = TupleWriter::default();
    null.push(herdsman_wal::decode::Field::Null);
    let body = Body::Insert { table: &users, new: null.tuple() };
    let changes = vec![
        insert(&tx, 0, &users, "1"),
        delete(&tx, 1, &users, "1"),
        insert(&tx, 2, &table("others"), "2"),
        truncate(&tx, 3, std::slice::from_ref(&table("others"))),
        crate::lanes::fixture::change(&tx, 4, body),
    ];
    let left = undelivered(&handlers, changes).await;
    assert_eq!(*log.lock().unwrap(), ["insert 1", "delete 1"]);
    assert_eq!(left.len(), 1);
    assert!(left[0].0 == 4 && left[0].1.contains("`public.users.id` is NULL"), "{left:?}");
}
