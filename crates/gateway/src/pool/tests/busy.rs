//! Several workers at once, each with its own runtime.

use std::collections::HashSet;

use super::*;

const WORKERS: usize = 4;
const SIZE: usize = 5;
const CLIENTS: usize = 20;
const TRANSACTIONS: usize = 150;
const ROUNDS: usize = 400;

/// Who has a connection now.
#[derive(Debug, Default)]
struct InUse(Mutex<HashSet<u64>>);

impl InUse {
    fn begins(&self, id: u64) {
        let mut used = self.0.lock().unwrap();
        assert!(used.insert(id), "connection {id} is used twice");
        assert!(used.len() <= SIZE, "{} are used", used.len());
    }

    fn ends(&self, id: u64) {
        assert!(self.0.lock().unwrap().remove(&id));
    }
}

async fn client(pool: Arc<Pool>, used: Arc<InUse>, worker: usize, seed: u64) -> usize {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut served = 0;
    for _ in 0..TRANSACTIONS {
        let server = match pool.idle(worker, plain(), 0) {
            Some(server) => server,
            None => {
                let take = pool.take(worker, plain(), 0, Instant::now() + LONG);
                // Some lose patience at any moment of it.
                let patience = if random.u32(..4) == 0 { random.u64(..500) } else { 60_000_000 };
                match tokio::time::timeout(Duration::from_micros(patience), take).await {
                    Ok(server) => server.unwrap(),
                    Err(_) => continue,
                }
            }
        };
        let id = server.identity.id;
        used.begins(id);
        served += 1;
        for _ in 0..random.u32(..3) {
            tokio::task::yield_now().await;
        }
        used.ends(id);
        let lease = Lease::new(server, Arc::clone(&pool), 0, false);
        match random.u32(..50) {
            0 => drop(lease),
            1 => {
                let identity = Arc::clone(&lease.server.identity);
                identity.cancelling(true);
                lease.give_back(worker, 0);
                identity.cancelling(false);
            }
            _ => lease.give_back(worker, 0),
        }
    }
    served
}

/// Answers the questions that connections are asked after they were cancelled.
fn answer(fake: &Fake) {
    let ends: Vec<_> =
        fake.ends.lock().unwrap().iter().map(|end| end.try_clone().unwrap()).collect();
    for end in ends {
        if matches!((&end).read(&mut [0; 64]), Ok(1..)) {
            let _closed = (&end).write_all(b"I\0\0\0\x04Z\0\0\0\x05I");
        }
    }
}

#[test]
fn workers_share_a_pool_and_no_connection() {
    let (pool, fake) = pool(SIZE, 1000);
    let used = Arc::new(InUse::default());
    let threads: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (pool, used) = (Arc::clone(&pool), Arc::clone(&used));
            std::thread::spawn(move || {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().build().unwrap();
                runtime.block_on(async {
                    let clients = (0..CLIENTS).map(|number| {
                        let seed = u64::try_from(worker * CLIENTS + number).unwrap();
                        tokio::spawn(client(Arc::clone(&pool), Arc::clone(&used), worker, seed))
                    });
                    let clients: Vec<_> = clients.collect();
                    let mut served = 0;
                    for client in clients {
                        served += client.await.unwrap();
                    }
                    served
                })
            })
        })
        .collect();
    while !threads.iter().all(std::thread::JoinHandle::is_finished) {
        answer(&fake);
        std::thread::yield_now();
    }
    let served: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(served > WORKERS * CLIENTS * TRANSACTIONS / 2, "only {served} were served");
    let state = pool.lock();
    assert_eq!((state.queue.len(), state.parked.len(), state.opening), (0, 0, 0));
    assert_eq!((state.slots, state.known.len()), (state.idle.len(), state.idle.len()));
}

#[test]
fn one_client_is_opened_one_connection_whoever_else_looks_at_the_pool() {
    let (pool, fake) = pool(SIZE, 10);
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let looking = {
        let (pool, over) = (Arc::clone(&pool), Arc::clone(&over));
        std::thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                pool.sweep(0);
            }
        })
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let most = runtime.block_on(async {
        let mut most = 0;
        for _ in 0..ROUNDS {
            let lease = taken(&pool, 0).await.unwrap();
            settle().await;
            most = most.max(pool.counts().active + pool.counts().idle);
            drop(lease);
            pool.close_idle();
        }
        most
    });
    over.store(true, Ordering::SeqCst);
    looking.join().unwrap();
    assert_eq!((most, fake.opened()), (1, ROUNDS));
}
