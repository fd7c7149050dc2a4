//! What a snapshot says of a table is what the stream says of it.

use std::collections::BTreeMap;

use herdsman_node::{Lsn, Tls};
use herdsman_sandbox::on_each_version;
use herdsman_wal::snapshot::{SnapshotEvent, SnapshotProgress, SnapshotTable};
use herdsman_wal::{Catalogue, Event, Kind, Relation, StreamOptions};

use super::{exported, next, of, start};
use crate::common::{LIMIT, STOP, conninfo, sandbox, sql, stream};

const TABLES: &str = "
    CREATE TYPE mood AS ENUM ('good', 'bad');
    CREATE DOMAIN short AS varchar(5);
    CREATE TABLE plain (gone int, id int, v numeric(10, 2), m mood, s short, l mood[], PRIMARY KEY (id, s));
    ALTER TABLE plain DROP gone;
    CREATE TABLE whole (id int PRIMARY KEY, v text);
    ALTER TABLE whole REPLICA IDENTITY FULL;
    CREATE TABLE indexed (id int PRIMARY KEY, code text NOT NULL, v text);
    CREATE UNIQUE INDEX by_code ON indexed (code) INCLUDE (v);
    ALTER TABLE indexed REPLICA IDENTITY USING INDEX by_code;
    CREATE TABLE keyless (v text);
    CREATE TABLE calculated (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED, v text);
    CREATE TABLE parted (id int, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
    CREATE TABLE parted_low (v text, id int NOT NULL);
    ALTER TABLE parted ATTACH PARTITION parted_low FOR VALUES FROM (0) TO (100);
    CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (100) TO (200);
    CREATE SCHEMA \"Odd \"\"One\"; CREATE TABLE \"Odd \"\"One\".\"Ta.ble\" (\"I d\" int PRIMARY KEY, v text)";

const ROWS: &str = "
    INSERT INTO plain (id, v, m, s, l) VALUES (1, 1.5, 'good', 'a', '{bad}');
    INSERT INTO whole VALUES (1, 'a');
    INSERT INTO indexed VALUES (1, 'a', 'b');
    INSERT INTO keyless VALUES ('a');
    INSERT INTO calculated VALUES (1, DEFAULT, 'a');
    INSERT INTO parted VALUES (1, 'low'), (100, 'high');
    INSERT INTO \"Odd \"\"One\".\"Ta.ble\" VALUES (1, 'a'), (2, 'filtered'), (7, 'also')";

type Seen = BTreeMap<String, (Relation, Vec<String>)>;

fn note(seen: &mut Seen, relation: &Relation, row: herdsman_wal::Row<'_>) {
    let row: Vec<_> = row.iter().map(|(_, field)| field.text().unwrap_or("NULL")).collect();
    let entry = seen.entry(relation.to_string()).or_insert_with(|| (relation.clone(), Vec::new()));
    entry.1.push(row.join("|"));
    entry.1.sort();
}

on_each_version! {
    async fn a_table_looks_the_same_in_a_snapshot_and_in_the_stream(version: u32) {
        for via_root in [false, true] {
            let sandbox = sandbox(version).await;
            sql(&sandbox, TABLES).await;
            let generated = if version >= 18 { ", publish_generated_columns = stored" } else { "" };
            sql(&sandbox, &format!("CREATE PUBLICATION p FOR TABLE plain, whole, indexed, keyless, calculated, parted, \
                \"Odd \"\"One\".\"Ta.ble\" (\"I d\") WHERE (\"I d\" % 2 = 1) WITH (publish_via_partition_root = {via_root}{generated})")).await;
            let plain = |name: &str| SnapshotTable::new("public", name);
            let mut tables: Vec<_> = ["plain", "whole", "indexed", "keyless"].map(plain).into();
            tables.push(SnapshotTable { generated: version >= 18, ..plain("calculated") });
            tables.push(SnapshotTable { via_root, ..plain("parted") });
            tables.push(SnapshotTable {
                columns: Some(vec!["I d".to_owned()]),
                condition: Some("\"I d\" % 2 = 1".to_owned()),
                ..SnapshotTable::new("Odd \"One", "Ta.ble")
            });

            // The same rows, once in the stream of the first slot, and once in the snapshot of a later one.
            crate::common::make_slot(&sandbox).await;
            sql(&sandbox, ROWS).await;
            sql(&sandbox, STOP).await;
            let info = conninfo(&sandbox);
            let catalogue = Catalogue::new(info.clone(), Tls::new(&info).unwrap(), LIMIT);
            let mut stream = stream(&sandbox, Lsn(0), StreamOptions::default()).await.with_catalogue(catalogue);
            let mut streamed = Seen::new();
            loop {
                match tokio::time::timeout(LIMIT, stream.next()).await.unwrap().unwrap() {
                    Event::Change(change) if change.kind() == Kind::Message => break,
                    Event::Change(change) => if let (Some(table), Some(row)) = (change.table(), change.new_row()) {
                        note(&mut streamed, table, row);
                    },
                    _ => {}
                }
            }
            stream.close().await;
            sql(&sandbox, "SELECT pg_drop_replication_slot('s') FROM pg_replication_slots WHERE NOT active").await;
            let (_replication, exported) = exported(&sandbox).await;
            let mut copying = start(&sandbox, &of(tables), &exported, SnapshotProgress::default()).await.unwrap();
            let mut copied = Seen::new();
            while let Some(event) = next(&mut copying).await.unwrap() {
                if let SnapshotEvent::Rows(rows) = event {
                    rows.iter().for_each(|change| note(&mut copied, rows.table(), change.new_row().unwrap()));
                }
            }
            assert_eq!(copied, streamed);
            assert_eq!(copied.len(), if via_root { 7 } else { 8 });
        }
    }
}
