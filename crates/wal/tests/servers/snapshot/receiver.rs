//! A receiver that takes each row as the whole truth.

use std::collections::BTreeMap;

use herdsman_node::Lsn;
use herdsman_wal::decode::Field;
use herdsman_wal::{Body, ChangeRef, Event, Kind, Row, Stream};
use tokio_postgres::Client;

use crate::common::LIMIT;

/// What a value is known to be. The outer `None`: it was never told.
type Value = Option<Option<String>>;

/// A table of rows whose first column is the key.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    pub(super) rows: BTreeMap<String, Vec<Value>>,
}

fn key(row: Row<'_>) -> String {
    row.iter().next().unwrap().1.text().unwrap().to_owned()
}

impl Receiver {
    pub(super) fn take(&mut self, change: &ChangeRef<'_>) {
        match change.body {
            Body::Truncate { .. } => self.rows.clear(),
            Body::Delete { .. } => {
                self.rows.remove(&key(change.old_row().unwrap()));
            }
            Body::Insert { .. } | Body::Update { .. } | Body::Read { .. } => {
                let new = change.new_row().unwrap();
                let old = change.old_row().map(key).unwrap_or_else(|| key(new));
                let before = self.rows.remove(&old).unwrap_or_default();
                let values = new.iter().enumerate().map(|(place, (_, field))| match field {
                    Field::Unchanged => before.get(place).cloned().flatten(),
                    field => Some(field.text().map(str::to_owned)),
                });
                self.rows.insert(key(new), values.collect());
            }
            _ => {}
        }
    }

    /// Takes what a stream delivers, up to the message `stop`.
    pub(super) async fn follow(&mut self, stream: &mut Stream) {
        loop {
            let event = tokio::time::timeout(LIMIT, stream.next()).await.unwrap().unwrap();
            match event {
                Event::Change(change) if change.kind() == Kind::Message => {
                    if matches!(change.body, Body::Message { prefix: "stop", .. }) {
                        return;
                    }
                }
                Event::Change(change) => self.take(&change),
                _ => {}
            }
        }
    }

    /// Takes what a stream delivers of transactions before a place in the log, and stops within the next one.
    pub(super) async fn follow_to(&mut self, stream: &mut Stream, place: Lsn) {
        loop {
            let event = tokio::time::timeout(LIMIT, stream.next()).await.unwrap().unwrap();
            match event {
                Event::Begin(transaction) if transaction.commit_lsn >= place => return,
                Event::Change(change) => self.take(&change),
                _ => {}
            }
        }
    }

    /// Compares with what is in the table now.
    pub(super) async fn must_be(&self, client: &Client, sql: &str) {
        let rows = client.query(sql, &[]).await.unwrap();
        let rows = rows.iter().map(|row| {
            let values: Vec<Value> = (0..row.len()).map(|column| Some(row.get(column))).collect();
            (values[0].clone().flatten().unwrap(), values)
        });
        let expected: BTreeMap<String, Vec<Value>> = rows.collect();
        let wrong = expected
            .keys()
            .chain(self.rows.keys())
            .find(|key| self.rows.get(*key) != expected.get(*key));
        let short = |rows: &BTreeMap<String, Vec<Value>>, key| {
            format!("{:?}", rows.get(key)).chars().take(200).collect::<String>()
        };
        if let Some(key) = wrong {
            panic!("row {key} is {} instead of {}", short(&self.rows, key), short(&expected, key));
        }
    }
}
