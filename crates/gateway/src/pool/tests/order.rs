//! Whose turn it is, and which connection is taken.

use super::super::queue::{PATIENCE, Queue, Ticket, Waiter};
use super::*;

fn waiter(ticket: Ticket, worker: usize) -> Waiter {
    let (answer, _nobody) = tokio::sync::oneshot::channel();
    Waiter { ticket, worker, runtime: tokio::runtime::Handle::current(), answer }
}

fn push(queue: &mut Queue, worker: usize, since: Instant) -> Ticket {
    let ticket = queue.ticket(since);
    queue.push(waiter(ticket, worker));
    ticket
}

fn next(queue: &mut Queue, worker: usize) -> Option<u64> {
    queue.next_for(worker).map(|waiter| waiter.ticket.id)
}

#[tokio::test]
async fn a_client_of_the_same_worker_comes_first_unless_another_has_waited_much_longer() {
    let start = Instant::now();
    let almost = start + PATIENCE - Duration::from_millis(1);
    for (since, expected) in [(almost, 2), (start + PATIENCE, 1)] {
        let mut queue = Queue::default();
        push(&mut queue, 0, start);
        push(&mut queue, 1, since);
        assert_eq!(next(&mut queue, 1), Some(expected), "came {:?} later", since - start);
    }
}

#[tokio::test]
async fn within_a_worker_and_without_one_of_the_worker_the_first_to_come_is_the_first_to_go() {
    let start = Instant::now();
    let mut queue = Queue::default();
    for worker in [2, 1, 2, 1] {
        push(&mut queue, worker, start);
    }
    let order: Vec<_> = std::iter::from_fn(|| next(&mut queue, 0)).collect();
    assert_eq!(order, [1, 2, 3, 4]);
    assert!(queue.is_empty());
}

#[tokio::test]
async fn who_queues_again_keeps_its_place() {
    let start = Instant::now();
    let mut queue = Queue::default();
    let first = push(&mut queue, 0, start);
    push(&mut queue, 0, start);
    assert_eq!(next(&mut queue, 0), Some(first.id));
    queue.push(waiter(first, 0));
    assert_eq!((next(&mut queue, 0), next(&mut queue, 0)), (Some(1), Some(2)));
}

#[tokio::test]
async fn who_leaves_the_queue_leaves_no_gap() {
    let mut queue = Queue::default();
    let tickets: Vec<_> = (0..4).map(|_| push(&mut queue, 0, Instant::now())).collect();
    assert!(queue.remove(0, tickets[1].id));
    assert!(!queue.remove(0, tickets[1].id), "it has left already");
    assert!(!queue.remove(7, tickets[2].id), "it is another worker's");
    assert_eq!(queue.len(), 3);
    let order: Vec<_> = std::iter::from_fn(|| next(&mut queue, 0)).collect();
    assert_eq!(order, [1, 3, 4]);
}

#[tokio::test]
async fn the_newest_connection_is_taken_unless_one_of_the_next_has_the_right_settings() {
    let (pool, _fake) = pool(4, 0);
    let mut leases = Vec::new();
    for id in 1..=4 {
        let mut lease = taken(&pool, 0).await.unwrap();
        lease.server.settings.id = id;
        leases.push(lease);
    }
    for lease in leases {
        lease.give_back(0, 0);
    }
    let wanted = |id| Settings { id, ..plain().clone() };
    let got = |id| pool.idle(0, &wanted(id), 0).unwrap();
    let (second, newest) = (got(2), got(99));
    assert_eq!((process(&second), process(&newest)), (2, 4));
}

#[tokio::test]
async fn a_worker_takes_its_own_connections_first_and_then_others() {
    let (pool, _fake) = pool(2, 0);
    let (first, second) = (taken(&pool, 0).await.unwrap(), taken(&pool, 0).await.unwrap());
    first.give_back(0, 0);
    second.give_back(1, 0);
    assert_eq!(process(&pool.idle(0, plain(), 0).unwrap()), 1);
    let stolen = pool.idle(0, plain(), 0).unwrap();
    assert_eq!(process(&stolen), 2);
}

#[test]
fn a_connection_works_on_the_runtime_it_moved_to() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let (pool, fake) = pool(1, 0);
    first.block_on(async {
        let lease = taken(&pool, 0).await.unwrap();
        lease.give_back(0, 0);
    });
    // What came while nobody's runtime was running is seen as well.
    fake.says(1, b"N\0\0\0\x04");
    let mut server =
        second.block_on(async { pool.idle(1, plain(), 0) }).expect("a notice is harmless");
    drop(first);
    second.block_on(async {
        let mut read = [0; 2];
        let reading = tokio::io::AsyncReadExt::read_exact(&mut server.stream, &mut read);
        let (_, outcome) = tokio::join!(async { fake.says(1, b"ok") }, reading);
        outcome.unwrap();
        assert_eq!(&read, b"ok");
    });
}
