//! Bytes that no client would send: whatever comes, the login ends, and the next client gets in.

use std::time::Duration;

use serde_json::json;

use super::*;

/// A run of `cargo test`; `HERDSMAN_SOAK=1` for a long one.
fn rounds() -> usize {
    if std::env::var_os("HERDSMAN_SOAK").is_some() { 200_000 } else { 2_000 }
}

fn seeds() -> Vec<Vec<u8>> {
    let scram = step(b"SCRAM-SHA-256\0\0\0\0\x1en,,n=,r=abcdefghijklmnopqrstuvw");
    let proof =
        step(b"c=biws,r=abcdefghijklmnopqrstuvw,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    vec![
        [to_console("root"), scram, proof].concat(),
        [&SSL_REQUEST[..], &GSS_REQUEST, &to_console("root")].concat(),
        cancel(7, &[1; 32]),
        startup(2, &[("user", "root"), ("options", "-c a=b --c=d"), ("_pq_.x", "1")]),
        startup(9, &[("user", "ann"), ("database", "herdsman"), ("replication", "off")]),
    ]
}

fn mutated(random: &mut fastrand::Rng, seed: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.usize(1..5) {
        let at = random.usize(0..bytes.len().max(1));
        match random.u8(0..5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), random.u8(..)),
            2 if !bytes.is_empty() => drop(bytes.remove(at)),
            3 => bytes.extend(std::iter::repeat_n(random.u8(..), random.usize(0..64))),
            _ => {
                let any = random.u8(..);
                let value = [0, 1, 0x7f, 0x80, 0xff, any][random.usize(..6)];
                bytes.get_mut(at).into_iter().for_each(|byte| *byte = value);
            }
        }
    }
    bytes
}

#[tokio::test]
async fn any_bytes_end_a_login_or_are_one() {
    let shared = shared(json!({}));
    let seeds = seeds();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..rounds() {
        let bytes = mutated(&mut random, &seeds[round % seeds.len()]);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let socket = Socket::Unix(ours.into_std().unwrap());
        let serving = tokio::spawn(serve(socket, Arc::clone(&shared), 0));
        drop(theirs.write_all(&bytes).await);
        drop(theirs.shutdown().await);
        let mut answers = Vec::new();
        drop(theirs.read_to_end(&mut answers).await);
        let ended = tokio::time::timeout(Duration::from_secs(30), serving).await;
        assert!(matches!(ended, Ok(Ok(()))), "seed {seed}, round {round}: {bytes:?}");
        // Nobody knows the password.
        assert!(!answers.windows(5).any(|window| window == b"Z\0\0\0\x05"), "seed {seed}");
    }
    assert_eq!(shared.clients.count(), 0);
    let mut guest = at_unix(&shared);
    guest.say(&to_console("root")).await;
    guest.scram("secret", None).await;
    guest.welcomed().await;
}
