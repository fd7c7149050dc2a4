use herdsman_wal::Change;

use super::*;
use crate::sinks::conformance::{self, Seen, batch, row};

fn config(path: &std::path::Path, rotate: RotateConfig) -> FileConfig {
    FileConfig { path: path.to_owned(), rotate }
}

fn sink(config: &FileConfig) -> FileSink {
    FileSink::new(config, Shape::Herdsman).unwrap()
}

async fn deliver(sink: &FileSink, changes: Vec<Change>) {
    sink.deliver(&batch(changes)).await.unwrap();
}

fn seen(text: &str) -> Vec<Seen> {
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.map(|json| conformance::seen(&json).unwrap()).collect()
}

fn ids(text: &str) -> Vec<u64> {
    seen(text).into_iter().map(|seen| seen.ordinal).collect()
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_and_whole_ones_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changes.jsonl");
    let config = config(&path, RotateConfig::default());
    let first = sink(&config);
    first.open().await.unwrap();
    deliver(&first, vec![row(1, "a"), row(2, "b")]).await;
    first.close().await;
    let whole = std::fs::read_to_string(&path).unwrap();
    let line = whole.lines().next().unwrap();
    // Torn at every place: from nothing but the first byte to all but the line end.
    for torn in 1..=line.len() {
        std::fs::write(&path, [whole.as_bytes(), &line.as_bytes()[..torn]].concat()).unwrap();
        let again = sink(&config);
        again.open().await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole, "{torn}");
        again.close().await;
    }
    let again = sink(&config);
    deliver(&again, vec![row(3, "c")]).await;
    assert_eq!(ids(&std::fs::read_to_string(&path).unwrap()), [1, 2, 3]);
}

#[tokio::test]
async fn a_torn_line_longer_than_one_look_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changes.jsonl");
    let whole = "{}\n";
    std::fs::write(&path, whole.to_owned() + &"x".repeat(200_000)).unwrap();
    sink(&config(&path, RotateConfig::default())).open().await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    std::fs::write(&path, "x".repeat(200_000)).unwrap();
    sink(&config(&path, RotateConfig::default())).open().await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
}

#[tokio::test]
async fn files_are_rotated_by_size_and_only_so_many_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changes.jsonl");
    let rotate = RotateConfig { bytes: 1024, keep: Some(2), ..RotateConfig::default() };
    let config = config(&path, rotate);
    let sink = sink(&config);
    let stranger = folder.path().join("changes.notes.jsonl");
    std::fs::write(&stranger, "mine").unwrap();
    for ordinal in 0..40 {
        deliver(&sink, vec![row(ordinal, &"x".repeat(200))]).await;
    }
    sink.close().await;
    let rotated = name::rotated(&path).unwrap();
    assert_eq!(rotated.len(), 2, "{rotated:?}");
    let mut kept = Vec::new();
    for file in rotated.iter().chain([&path]) {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.len() <= 1024 && text.ends_with('\n'), "{}", text.len());
        kept.extend(ids(&text));
    }
    let expected: Vec<u64> = (kept[0]..40).collect();
    assert_eq!(kept, expected, "the newest are kept, in order, without a gap");
    assert!(stranger.exists());
}

#[tokio::test]
async fn a_file_is_rotated_by_age_also_after_a_restart_and_an_empty_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changes.jsonl");
    let rotate = RotateConfig { age: Some(Duration::from_secs(60)), ..RotateConfig::default() };
    let config = config(&path, rotate);
    let later = SystemTime::now() + Duration::from_secs(61);
    let empty = Log::open(&config).unwrap();
    assert!(!empty.is_due(&config, 10, later));
    drop(empty);
    deliver(&sink(&config), vec![row(1, "a")]).await;
    let log = Log::open(&config).unwrap();
    assert!(!log.is_due(&config, 10, SystemTime::now()));
    assert!(log.is_due(&config, 10, later));
    let log = log.rotate(&config, later).unwrap();
    assert!(!log.is_due(&config, 10, SystemTime::now()));
    assert_eq!(name::rotated(&path).unwrap().len(), 1);
}

#[tokio::test]
async fn a_batch_larger_than_a_file_is_not_split() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changes.jsonl");
    let rotate = RotateConfig { bytes: 1024, ..RotateConfig::default() };
    let sink = sink(&config(&path, rotate));
    deliver(&sink, (0..20).map(|n| row(n, &"x".repeat(200))).collect()).await;
    assert_eq!(ids(&std::fs::read_to_string(&path).unwrap()).len(), 20);
    assert!(name::rotated(&path).unwrap().is_empty());
}

#[tokio::test]
async fn a_second_writer_is_refused_and_a_missing_folder_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changes.jsonl");
    let config = config(&path, RotateConfig::default());
    let first = sink(&config);
    first.open().await.unwrap();
    let error = sink(&config).open().await.unwrap_err();
    assert!(error.to_string().contains("another program writes to it") && error.reopen, "{error}");
    let nowhere = self::config(&folder.path().join("no/such"), RotateConfig::default());
    let error = sink(&nowhere).open().await.unwrap_err();
    assert!(error.to_string().ends_with("make its folder"), "{error}");
}

#[tokio::test]
async fn the_file_keeps_the_contract_of_sinks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changes.jsonl");
    let rotate = RotateConfig { bytes: 4096, ..RotateConfig::default() };
    let sink = sink(&config(&path, rotate));
    let read = async || {
        let files = name::rotated(&path).unwrap().into_iter().chain([path.clone()]);
        files.flat_map(|file| seen(&std::fs::read_to_string(file).unwrap())).collect()
    };
    conformance::check(&sink, read).await.unwrap();
}
