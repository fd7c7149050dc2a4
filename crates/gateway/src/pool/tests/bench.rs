//! What the fast path costs: `cargo test --release -p herdsman-gateway --lib pool::tests::bench -- --ignored --nocapture`.

use super::*;

const ROUNDS: u32 = 2_000_000;

#[tokio::test]
#[ignore = "a measurement, of an optimised build"]
#[expect(clippy::print_stderr, reason = "a measurement has no other way out")]
async fn taking_an_idle_connection_and_giving_it_back() {
    let (pool, _fake) = pool(4, 10);
    let leases = tokio::join!(taken(&pool, 0), taken(&pool, 0), taken(&pool, 0));
    for lease in [leases.0, leases.1, leases.2] {
        lease.unwrap().give_back(0, 0);
    }
    settle().await;
    let began = Instant::now();
    for _ in 0..ROUNDS {
        let server = pool.idle(0, plain(), 1).unwrap();
        Lease::new(server, Arc::clone(&pool), 0, false).give_back(0, 1);
    }
    eprintln!("idle and give_back: {} ns", (began.elapsed() / ROUNDS).as_nanos());
}
