//! What the tests share: a server, a slot, a stream, and the events as words.

use std::time::Duration;

use herdsman_node::{Conninfo, Lsn, Tls};
use herdsman_sandbox::Sandbox;
use herdsman_wal::{
    CreateSlot, Event, Kind, PublicationName, Replication, SlotName, Start, Stream, StreamOptions,
};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) async fn sandbox(version: u32) -> Sandbox {
    Sandbox::builder().pg_version(version).start().await.unwrap()
}

pub(crate) fn conninfo(sandbox: &Sandbox) -> Conninfo {
    Conninfo::from_pairs(sandbox.conninfo("n1", "postgres").unwrap()).unwrap()
}

pub(crate) async fn sql(sandbox: &Sandbox, sql: &str) {
    sandbox.sql("n1", "postgres").await.unwrap().batch_execute(sql).await.unwrap();
}

pub(crate) async fn connect(sandbox: &Sandbox) -> Replication {
    let info = conninfo(sandbox);
    Replication::connect(&info, &Tls::new(&info).unwrap(), LIMIT).await.unwrap()
}

pub(crate) fn start(from: Lsn, options: StreamOptions) -> Start {
    Start {
        slot: SlotName::new("s").unwrap(),
        publications: vec![PublicationName::new("p").unwrap()],
        from,
        options,
    }
}

pub(crate) async fn make_slot(sandbox: &Sandbox) {
    let slot = SlotName::new("s").unwrap();
    connect(sandbox).await.create_slot(&slot, &CreateSlot::default()).await.unwrap();
}

pub(crate) async fn stream(sandbox: &Sandbox, from: Lsn, options: StreamOptions) -> Stream {
    connect(sandbox).await.start(start(from, options)).await.unwrap()
}

/// What happens up to the commit of the transaction that writes the message `stop`, a word for each event.
pub(crate) async fn words(stream: &mut Stream) -> Vec<String> {
    let mut words = Vec::new();
    let mut stopping = false;
    loop {
        let event = tokio::time::timeout(LIMIT, stream.next()).await.unwrap().unwrap();
        match event {
            Event::Begin(_) => words.push("begin".to_owned()),
            Event::Commit { .. } if stopping => return words,
            Event::Commit { .. } => words.push("commit".to_owned()),
            Event::Change(change) if change.kind() == Kind::Message => stopping = true,
            Event::Change(change) => {
                let row = change.key_row().and_then(|row| row.field("id")?.text());
                words.push(format!("{} {}", change.kind().name(), row.unwrap_or("-")));
            }
            _ => {}
        }
    }
}

pub(crate) const STOP: &str = "SELECT pg_logical_emit_message(true, 'stop', '')";
