use super::*;

/// Opens a block, keeps these messages of these subtransactions, closes it.
async fn block(spools: &mut Spools, xid: u32, first: bool, messages: &[(u32, &str)]) {
    spools.open(xid, first, Lsn(u64::from(xid)));
    for (number, (subxid, text)) in messages.iter().enumerate() {
        let (tag, rest) = text.as_bytes().split_at(1);
        spools.push(*subxid, Lsn(number as u64), tag, rest);
        spools.make_room().await.unwrap();
    }
    spools.close_block();
}

async fn played(spools: &mut Spools, xid: u32) -> Vec<String> {
    spools.play(xid, Lsn(100), Lsn(200), Timestamp(0), None);
    assert_eq!(spools.begin().unwrap().transaction.xid, xid);
    let mut texts = Vec::new();
    while let Some(place) = spools.next().await.unwrap() {
        texts.push(String::from_utf8(spools.bytes_at(&place.at).to_vec()).unwrap());
    }
    assert_eq!(spools.finish(), Some((Lsn(200), false)));
    texts
}

#[tokio::test]
async fn interleaved_transactions_come_back_whole_from_memory_and_disk() {
    for bound in [0, 60, 1 << 20] {
        let mut spools = Spools::new(bound, None);
        block(&mut spools, 1, true, &[(1, "Ia"), (1, "Ib")]).await;
        block(&mut spools, 2, true, &[(2, "Ix")]).await;
        block(&mut spools, 1, false, &[(1, "Ic")]).await;
        if bound == 0 {
            assert_eq!(spools.bytes(), (0, 4 * (HEADER as u64 + 2)));
        }
        assert_eq!(played(&mut spools, 2).await, ["Ix"]);
        assert_eq!(played(&mut spools, 1).await, ["Ia", "Ib", "Ic"]);
        assert_eq!(spools.bytes(), (0, 0));
    }
}

#[tokio::test]
async fn what_never_happened_is_left_out_but_descriptions_of_tables_are_kept() {
    let mut spools = Spools::new(0, None);
    block(&mut spools, 1, true, &[(1, "Ia"), (7, "R?"), (7, "Ib"), (1, "Ic")]).await;
    block(&mut spools, 2, true, &[(2, "Ix")]).await;
    spools.abort(1, 7);
    spools.abort(2, 2);
    assert_eq!(played(&mut spools, 1).await, ["Ia", "R?", "Ic"]);
    assert_eq!(spools.bytes(), (0, 0));
}

#[tokio::test]
async fn a_transaction_sent_anew_from_its_beginning_replaces_what_was_kept_of_it() {
    let mut spools = Spools::new(1 << 20, None);
    block(&mut spools, 1, true, &[(1, "Iold")]).await;
    block(&mut spools, 1, true, &[(1, "Inew")]).await;
    assert_eq!(played(&mut spools, 1).await, ["Inew"]);
}

#[tokio::test]
async fn a_wait_that_is_given_up_loses_nothing() {
    let mut spools = Spools::new(0, None);
    for number in 0..50 {
        spools.open(1, number == 0, Lsn(1));
        spools.push(1, Lsn(number), b"I", number.to_string().as_bytes());
        spools.close_block();
        // Polled once, then dropped.
        let _polled = futures_util::poll!(std::pin::pin!(spools.make_room()));
    }
    spools.make_room().await.unwrap();
    let expected: Vec<_> = (0..50).map(|number| format!("I{number}")).collect();
    assert_eq!(played(&mut spools, 1).await, expected);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let mut spools = Spools::new(0, Some("/nowhere/at/all".into()));
    spools.open(9, true, Lsn(1));
    spools.push(9, Lsn(1), b"I", b"a");
    let error = spools.make_room().await.unwrap_err().to_string();
    assert!(error.contains("transaction 9 in /nowhere/at/all"), "{error}");
}
