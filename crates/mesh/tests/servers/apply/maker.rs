//! Groups made by hand, of versions of table `t (id int PRIMARY KEY, v text)`.

use std::sync::Arc;

use herdsman_mesh::group::{End, Group};
use herdsman_mesh::resolve::Version;
use herdsman_mesh::{NodeId, Stamp, names};
use herdsman_node::{Lsn, SystemId, Timeline};
use herdsman_wal::decode::{Field, Old, TupleWriter};
use herdsman_wal::{
    Body, ChangeRef, Column, Relation, ReplicaIdentity, Source, Timestamp, Transaction, TypeBook,
};

const INT4: u32 = 23;
const INT8: u32 = 20;
const INT2: u32 = 21;
const TEXT: u32 = 25;

/// Makes groups; each ends a little further than the one before.
pub(crate) struct Maker {
    rows: Arc<Relation>,
    gone: Arc<Relation>,
    end: u64,
}

/// A version of a key.
pub(crate) type Keyed = (i32, Version<String>);

/// A row (or with `None` a deletion), its stamp, and what its writer had seen.
pub(crate) fn wrote(
    key: i32,
    (micros, node): (i64, i16),
    seen: Option<(i64, i16)>,
    row: Option<&str>,
) -> Keyed {
    let seen = seen.map_or(Stamp::NONE, |(micros, node)| Stamp::new(micros, NodeId(node)));
    let stamp = Stamp::new(micros, NodeId(node));
    (key, Version { stamp, seen, row: row.map(str::to_owned) })
}

fn relation(oid: u32, schema: &str, name: &str, columns: &[(&str, u32, bool)]) -> Arc<Relation> {
    let columns = columns.iter().map(|(name, oid, primary)| Column {
        name: (*name).into(),
        data_type: TypeBook::default().get(*oid),
        type_modifier: -1,
        key: true,
        primary: *primary,
    });
    Arc::new(Relation {
        oid,
        schema: schema.into(),
        name: name.into(),
        identity: ReplicaIdentity::Full,
        columns: columns.collect(),
    })
}

impl Maker {
    /// Behind all that was applied before.
    pub(crate) fn new() -> Self {
        let stamps = [(names::STAMP, INT8, false), (names::NODE, INT2, false)];
        let seen = [(names::SEEN, INT8, false), (names::SEEN_NODE, INT2, false)];
        let row = [[("id", INT4, true), ("v", TEXT, false)], stamps].concat();
        let gone = [&[("id", INT4, true)][..], &stamps, &seen].concat();
        Self {
            rows: relation(1, "public", "t", &row),
            gone: relation(2, names::GONE, "public.t", &gone),
            end: 1 << 40,
        }
    }

    /// A complete group of these.
    pub(crate) fn group(&mut self, source: i16, versions: &[Keyed]) -> Group {
        let mut group = self.part(source, versions);
        self.end += 100;
        let (lsn, commit_lsn) = (Lsn(self.end), Lsn(self.end - 50));
        group.commit(End { lsn, commit_lsn, time: Timestamp(0) });
        group
    }

    /// A group that goes on.
    pub(crate) fn part(&self, source: i16, versions: &[Keyed]) -> Group {
        let mut group = Group::new(NodeId(source));
        for (key, version) in versions {
            self.push(&mut group, *key, version);
        }
        group
    }

    fn push(&self, group: &mut Group, key: i32, version: &Version<String>) {
        let source = Arc::new(Source {
            system_id: SystemId(1),
            timeline: Timeline(1),
            database: "d".into(),
            slot: "s".into(),
        });
        let transaction = Arc::new(Transaction::default());
        let parts = |stamp: Stamp| [stamp.micros.to_string(), stamp.node.to_string()];
        let key = key.to_string();
        let (stamp, seen) = (parts(version.stamp), parts(version.seen));
        let write = |fields: &[&str]| {
            let mut writer = TupleWriter::default();
            fields.iter().for_each(|text| writer.push(Field::Text(text.as_bytes())));
            writer
        };
        let old;
        let new = match &version.row {
            None => write(&[&key, &stamp[0], &stamp[1], &seen[0], &seen[1]]),
            Some(row) => write(&[&key, row, &stamp[0], &stamp[1]]),
        };
        let body = match &version.row {
            None => Body::Insert { table: &self.gone, new: new.tuple() },
            Some(_) if version.seen == Stamp::NONE => {
                Body::Insert { table: &self.rows, new: new.tuple() }
            }
            Some(_) => {
                old = write(&[&key, "before", &seen[0], &seen[1]]);
                let old = Some(Old::Full(old.tuple()));
                Body::Update { table: &self.rows, old, new: new.tuple() }
            }
        };
        let change =
            ChangeRef { source: &source, transaction: &transaction, ordinal: 0, lsn: Lsn(0), body };
        group.push(&change).unwrap();
    }
}
