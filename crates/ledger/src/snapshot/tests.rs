use super::*;
use crate::{
    RequestId,
    entry::{Attempt, Genesis},
    replica::{Outcome, Settled},
    table::{Catalogue, tests::account},
};

fn parts() -> Vec<Part> {
    let genesis = Genesis::new(LogId([3; 16]));
    let note = |at, attempt, outcome| Settled {
        at: Offset(at),
        hash: ChainHash([7; 32]),
        attempt,
        outcome,
    };
    let attempt = Attempt { request: RequestId([4; 16]), number: 2 };
    let settled = vec![
        note(8, None, Outcome::Noted),
        note(9, Some(attempt), Outcome::Duplicate(Offset(5))),
        note(10, Some(attempt), Outcome::Refused(*b"42P01")),
    ];
    let catalogue = Catalogue([("account".to_owned(), account())].into());
    let (applied, hash) = (Offset(10), ChainHash([7; 32]));
    let durable = Durable { genesis, applied, hash, catalogue, settled, fenced: None };
    let row = |id| vec![Value::Int(id), Value::Null, Value::Null, Value::Text("é".to_owned())];
    vec![
        Part::Begin(Box::new(durable)),
        Part::Rows { table: "account".to_owned(), rows: vec![row(1), row(2)] },
        Part::Rows { table: "account".to_owned(), rows: vec![row(3)] },
        Part::End,
    ]
}

fn written(path: &Path, parts: &[Part]) -> Result<Backup, SnapshotError> {
    let (to, from) = mpsc::channel(10);
    for part in parts {
        to.try_send(part.clone()).unwrap();
    }
    drop(to);
    write(path, from)
}

#[test]
fn a_backup_comes_back_from_its_file_and_nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup");
    let backup = written(&path, &parts()).unwrap();
    assert_eq!((backup.at, backup.rows, backup.tables), (Offset(10), 3, 1));
    assert_eq!(check(&path).unwrap(), backup);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let (to, mut from) = mpsc::channel(10);
    read(&path, &to).unwrap();
    drop(to);
    let mut back = Vec::new();
    while let Some(part) = from.blocking_recv() {
        back.push(part);
    }
    assert_eq!(back, parts());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn a_file_that_is_not_whole_is_refused_whatever_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup");
    written(&path, &parts()).unwrap();
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        assert!(check(&path).is_err(), "bit {at}");
        std::fs::write(&path, &good[..at]).unwrap();
        assert!(check(&path).is_err(), "the first {at} bytes");
    }
    std::fs::write(&path, [good.as_slice(), b"x"].concat()).unwrap();
    assert!(check(&path).is_err(), "a byte more");
    let mut newer = good.clone();
    newer[8] = FORMAT + 1;
    std::fs::write(&path, &newer).unwrap();
    assert!(check(&path).unwrap_err().to_string().contains("later version"));
}

#[test]
fn parts_that_are_missing_or_out_of_order_make_no_backup_and_leave_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup");
    written(&path, &parts()).unwrap();
    let all = parts();
    for bad in [&all[..3], &all[1..], &[]] {
        assert!(written(&path, bad).is_err());
    }
    let beyond = [all.as_slice(), &all[1..2]].concat();
    assert!(written(&path, &beyond).is_err());
    assert!(check(&path).is_ok());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
