//! What the fast path costs: `cargo test --release -p herdsman-gateway --lib pool::tests::bench -- --ignored --nocapture`.

use super::*;

/// Short enough that some of the pieces are not interrupted by whatever else the machine does.
const ROUNDS: u32 = 2_000;
const PIECES: usize = 1_000;

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
    let mut pieces: Vec<_> = (0..PIECES)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..ROUNDS {
                let server = pool.idle(0, plain(), 1).unwrap();
                Lease::new(server, Arc::clone(&pool), 0, false).give_back(0, 1);
            }
            began.elapsed() / ROUNDS
        })
        .collect();
    pieces.sort_unstable();
    let (least, median) = (pieces[0].as_nanos(), pieces[PIECES / 2].as_nanos());
    eprintln!("idle and give_back: {median} ns (median), {least} ns (least)");
}
