use std::collections::HashSet;

use super::*;
use crate::auth::ServerLogin;
use crate::listen::tests::shared;

fn card() -> Arc<Card> {
    let shared = shared(serde_json::json!({}));
    let rules = shared.rules("app", "ann", ServerLogin::default()).unwrap();
    let pools = shared.pools.get_or_create("app", "ann", rules).unwrap();
    Arc::new(Card::new(1, pools, None, false, "", CancelSlot::default()))
}

#[tokio::test]
async fn a_key_is_good_for_its_client_until_it_is_dropped() {
    let cancels = Arc::new(Cancels::default());
    let (one, other) = (card(), card());
    let key = cancels.register(&one, 2).unwrap();
    let second = cancels.register(&other, 0).unwrap();
    assert!(Arc::ptr_eq(&cancels.find(key.process, &key.secret).unwrap(), &one));
    assert!(Arc::ptr_eq(&cancels.find(second.process, &second.secret).unwrap(), &other));
    assert!(cancels.find(key.process, &second.secret).is_none());
    assert!(cancels.find(second.process, &key.secret).is_none());
    let (process, secret) = (key.process, key.secret.clone());
    drop(key);
    assert!(cancels.find(process, &secret).is_none());
    drop(second);
    assert!(cancels.clients.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_key_does_not_keep_its_client_here() {
    let cancels = Arc::new(Cancels::default());
    let card = card();
    let key = cancels.register(&card, 2).unwrap();
    drop(card);
    assert!(cancels.find(key.process, &key.secret).is_none());
}

#[tokio::test]
async fn every_bit_of_the_secret_counts() {
    let cancels = Arc::new(Cancels::default());
    let card = card();
    for minor in [0, 2] {
        let key = cancels.register(&card, minor).unwrap();
        for bit in 0..key.secret.len() * 8 {
            let mut wrong = key.secret.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(cancels.find(key.process, &wrong).is_none(), "bit {bit}");
        }
        let (_, shorter) = key.secret.split_last().unwrap();
        assert!(cancels.find(key.process, shorter).is_none());
        assert!(cancels.find(key.process, &[]).is_none());
        assert!(cancels.find(key.process, &[&key.secret[..], &[0]].concat()).is_none());
    }
}

#[tokio::test]
async fn keys_have_the_length_of_the_protocol_and_are_all_different() {
    let cancels = Arc::new(Cancels::default());
    let card = card();
    let keys: Vec<_> = (0..1000).map(|_| cancels.register(&card, 2).unwrap()).collect();
    assert!(keys.iter().all(|key| key.secret.len() == 32 && key.process > 0));
    let processes: HashSet<_> = keys.iter().map(|key| key.process).collect();
    let secrets: HashSet<_> = keys.iter().map(|key| &key.secret).collect();
    assert_eq!((processes.len(), secrets.len()), (1000, 1000));
    for minor in [0, 1] {
        assert_eq!(cancels.register(&card, minor).unwrap().secret.len(), 4);
    }
}

#[test]
fn printing_a_key_shows_nothing_of_it() {
    let key = CancelKey { process: 7, secret: vec![77; 4], registry: Arc::default() };
    assert_eq!(format!("{key:?}"), "CancelKey(…)");
}
