//! The broker: up, faults, and gone again.

use std::{fs, time::Duration};

use herdsman_sandbox::{Kafka, ProcessState};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

/// Asks for the metadata of a topic, which makes it where it is missing, and gives the answer from the brokers on.
async fn metadata_of(kafka: &Kafka, topic: &str) -> Vec<u8> {
    let mut request = vec![0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 1];
    request.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
    request.extend(topic.as_bytes());
    let mut stream = TcpStream::connect(kafka.bootstrap()).await.unwrap();
    stream.write_u32(u32::try_from(request.len()).unwrap()).await.unwrap();
    stream.write_all(&request).await.unwrap();
    let mut answer = vec![0; usize::try_from(stream.read_u32().await.unwrap()).unwrap()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer.first_chunk(), Some(&[0, 0, 0, 7]), "the answer to our request");
    answer
}

/// Whether an answer tells of the topic without an error, which stands before its name.
fn knows(answer: &[u8], topic: &str) -> bool {
    let mut told = vec![0, 0];
    told.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
    told.extend(topic.as_bytes());
    answer.windows(told.len()).any(|part| part == told)
}

/// Whether the topic has exactly so many partitions on disk.
fn has_partitions(kafka: &Kafka, topic: &str, count: usize) -> bool {
    let data = kafka.dir().join("kafka/data");
    let there = |number: usize| data.join(format!("{topic}-{number}")).is_dir();
    (0..count).all(there) && !there(count)
}

async fn until(condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn processes_of(folder: &str) -> usize {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|command| String::from_utf8_lossy(command).contains(folder))
        .count()
}

#[tokio::test]
async fn a_broker_answers_survives_a_kill_and_leaves_nothing_behind() {
    let kafka = Kafka::builder().partitions(3).start().await.unwrap();
    let folder = kafka.dir().to_path_buf();
    let bootstrap = kafka.bootstrap();
    assert_eq!(kafka.state(), ProcessState::Running);
    assert!(!knows(&metadata_of(&kafka, "words").await, "words"), "it is only being made");
    until(async || knows(&metadata_of(&kafka, "words").await, "words")).await;
    until(async || has_partitions(&kafka, "words", 3)).await;
    kafka.kill().await.unwrap();
    assert_eq!(kafka.state(), ProcessState::Stopped);
    assert!(!kafka.answers().await);
    kafka.kill().await.unwrap();
    kafka.start().await.unwrap();
    assert_eq!(kafka.bootstrap(), bootstrap, "where clients know it");
    // It would be asked twice for a topic it did not know.
    assert!(knows(&metadata_of(&kafka, "words").await, "words"));
    kafka.stop().await.unwrap();
    assert!(kafka.stop().await.is_err(), "there is nothing to stop");
    kafka.start().await.unwrap();
    assert!(kafka.start().await.is_err(), "it runs already");
    kafka.freeze().await.unwrap();
    let name = folder.to_string_lossy().into_owned();
    assert_eq!(processes_of(&name), 1);
    drop(kafka);
    assert_eq!(processes_of(&name), 0, "a frozen one goes, too");
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_frozen_broker_keeps_still_until_it_is_thawed() {
    let kafka = Kafka::builder().start().await.unwrap();
    kafka.freeze().await.unwrap();
    assert_eq!(kafka.state(), ProcessState::Frozen);
    assert!(!kafka.answers().await);
    assert!(kafka.stop().await.unwrap_err().one_line().contains("thaw it first"));
    kafka.thaw().await.unwrap();
    until(async || kafka.answers().await).await;
    assert_eq!(kafka.state(), ProcessState::Running);
}

#[tokio::test]
async fn a_wrong_setting_is_told_in_the_brokers_own_words() {
    let error = Kafka::builder().setting("process.roles", "juggler").start().await.unwrap_err();
    assert!(error.one_line().contains("juggler"), "{}", error.one_line());
}
