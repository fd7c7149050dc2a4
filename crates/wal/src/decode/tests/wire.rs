//! Messages as the server writes them, and any number of random ones. Shared with `tests/oracle.rs`.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// A column's value: its kind and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Unchanged,
    Text(Vec<u8>),
    Binary(Vec<u8>),
}

/// What a message says, with all that is on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sample {
    Begin {
        lsn: u64,
        time: i64,
        xid: u32,
    },
    Commit {
        lsn: u64,
        end: u64,
        time: i64,
    },
    Origin {
        lsn: u64,
        name: String,
    },
    Relation {
        oid: u32,
        schema: String,
        name: String,
        identity: u8,
        columns: Vec<Column>,
    },
    Type {
        oid: u32,
        schema: String,
        name: String,
    },
    Insert {
        oid: u32,
        new: Vec<Value>,
    },
    Update {
        oid: u32,
        old: Option<(bool, Vec<Value>)>,
        new: Vec<Value>,
    },
    Delete {
        oid: u32,
        full: bool,
        old: Vec<Value>,
    },
    Truncate {
        oids: Vec<u32>,
        options: u8,
    },
    Logical {
        transactional: bool,
        lsn: u64,
        prefix: String,
        content: Vec<u8>,
    },
    StreamStart {
        xid: u32,
        first: bool,
    },
    StreamCommit {
        xid: u32,
        lsn: u64,
        end: u64,
        time: i64,
    },
    StreamAbort {
        xid: u32,
        subxid: u32,
        place: Option<(u64, i64)>,
    },
    /// `b`, `P`, `p`, `K` or `r`.
    TwoPhase {
        tag: u8,
        first: u64,
        end: u64,
        times: (i64, i64),
        xid: u32,
        gid: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) key: bool,
    pub(crate) name: String,
    pub(crate) oid: u32,
    pub(crate) modifier: i32,
}

impl Sample {
    /// As the server writes it; `within` is the transaction it belongs to in a streamed block.
    pub(crate) fn encode(&self, within: Option<u32>) -> Vec<u8> {
        let mut out = Writer(vec![self.tag()]);
        if let Some(xid) = within {
            out.put(&xid.to_be_bytes());
        }
        match self {
            Self::Begin { lsn, time, xid } => {
                out.put(&lsn.to_be_bytes()).put(&time.to_be_bytes()).put(&xid.to_be_bytes());
            }
            Self::Commit { lsn, end, time } => {
                out.put(&[0]).put(&lsn.to_be_bytes()).put(&end.to_be_bytes());
                out.put(&time.to_be_bytes());
            }
            Self::Origin { lsn, name } => {
                out.put(&lsn.to_be_bytes()).text(name);
            }
            Self::Relation { oid, schema, name, identity, columns } => {
                out.put(&oid.to_be_bytes()).text(schema).text(name).put(&[*identity]);
                out.count(columns.len());
                for column in columns {
                    out.put(&[u8::from(column.key)]).text(&column.name);
                    out.put(&column.oid.to_be_bytes()).put(&column.modifier.to_be_bytes());
                }
            }
            Self::Type { oid, schema, name } => {
                out.put(&oid.to_be_bytes()).text(schema).text(name);
            }
            Self::Insert { oid, new } => {
                out.put(&oid.to_be_bytes()).put(b"N").row(new);
            }
            Self::Update { oid, old, new } => {
                out.put(&oid.to_be_bytes());
                if let Some((full, old)) = old {
                    out.put(if *full { b"O" } else { b"K" }).row(old);
                }
                out.put(b"N").row(new);
            }
            Self::Delete { oid, full, old } => {
                out.put(&oid.to_be_bytes()).put(if *full { b"O" } else { b"K" }).row(old);
            }
            Self::Truncate { oids, options } => {
                out.length(oids.len()).put(&[*options]);
                oids.iter().for_each(|oid| _ = out.put(&oid.to_be_bytes()));
            }
            Self::Logical { transactional, lsn, prefix, content } => {
                out.put(&[u8::from(*transactional)]).put(&lsn.to_be_bytes()).text(prefix);
                out.length(content.len()).put(content);
            }
            Self::StreamStart { xid, first } => {
                out.put(&xid.to_be_bytes()).put(&[u8::from(*first)]);
            }
            Self::StreamCommit { xid, lsn, end, time } => {
                out.put(&xid.to_be_bytes()).put(&[0]).put(&lsn.to_be_bytes());
                out.put(&end.to_be_bytes()).put(&time.to_be_bytes());
            }
            Self::StreamAbort { xid, subxid, place } => {
                out.put(&xid.to_be_bytes()).put(&subxid.to_be_bytes());
                if let Some((lsn, time)) = place {
                    out.put(&lsn.to_be_bytes()).put(&time.to_be_bytes());
                }
            }
            Self::TwoPhase { tag, first, end, times, xid, gid } => {
                if *tag != b'b' {
                    out.put(&[0]);
                }
                out.put(&first.to_be_bytes()).put(&end.to_be_bytes()).put(&times.0.to_be_bytes());
                if *tag == b'r' {
                    out.put(&times.1.to_be_bytes());
                }
                out.put(&xid.to_be_bytes()).text(gid);
            }
        }
        out.0
    }

    pub(crate) fn tag(&self) -> u8 {
        match self {
            Self::Begin { .. } => b'B',
            Self::Commit { .. } => b'C',
            Self::Origin { .. } => b'O',
            Self::Relation { .. } => b'R',
            Self::Type { .. } => b'Y',
            Self::Insert { .. } => b'I',
            Self::Update { .. } => b'U',
            Self::Delete { .. } => b'D',
            Self::Truncate { .. } => b'T',
            Self::Logical { .. } => b'M',
            Self::StreamStart { .. } => b'S',
            Self::StreamCommit { .. } => b'c',
            Self::StreamAbort { .. } => b'A',
            Self::TwoPhase { tag, .. } => *tag,
        }
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.put(text.as_bytes()).put(&[0])
    }

    fn count(&mut self, count: usize) -> &mut Self {
        self.put(&u16::try_from(count).unwrap().to_be_bytes())
    }

    fn length(&mut self, length: usize) -> &mut Self {
        self.put(&i32::try_from(length).unwrap().to_be_bytes())
    }

    fn row(&mut self, row: &[Value]) {
        self.count(row.len());
        for value in row {
            match value {
                Value::Null => self.put(b"n"),
                Value::Unchanged => self.put(b"u"),
                Value::Text(text) => self.put(b"t").length(text.len()).put(text),
                Value::Binary(bytes) => self.put(b"b").length(bytes.len()).put(bytes),
            };
        }
    }
}

/// A name as a catalogue may have it, never empty.
fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_ é\"🐑]{1,12}"
}

fn row() -> impl Strategy<Value = Vec<Value>> {
    let value = prop_oneof![
        Just(Value::Null),
        Just(Value::Unchanged),
        vec(any::<u8>(), 0..20).prop_map(Value::Text),
        vec(any::<u8>(), 0..20).prop_map(Value::Binary),
    ];
    vec(value, 0..6)
}

fn column() -> impl Strategy<Value = Column> {
    (any::<bool>(), name(), any::<u32>(), any::<i32>())
        .prop_map(|(key, name, oid, modifier)| Column { key, name, oid, modifier })
}

fn in_a_block() -> impl Strategy<Value = Sample> {
    let oid = any::<u32>;
    prop_oneof![
        (oid(), name(), name(), prop::sample::select(b"dnfi".to_vec()), vec(column(), 0..5))
            .prop_map(|(oid, schema, name, identity, columns)| Sample::Relation {
                oid,
                schema,
                name,
                identity,
                columns
            }),
        (oid(), name(), name()).prop_map(|(oid, schema, name)| Sample::Type { oid, schema, name }),
        (oid(), row()).prop_map(|(oid, new)| Sample::Insert { oid, new }),
        (oid(), option::of((any::<bool>(), row())), row())
            .prop_map(|(oid, old, new)| Sample::Update { oid, old, new }),
        (oid(), any::<bool>(), row()).prop_map(|(oid, full, old)| Sample::Delete {
            oid,
            full,
            old
        }),
        (vec(oid(), 0..4), 0..4_u8).prop_map(|(oids, options)| Sample::Truncate { oids, options }),
        (any::<bool>(), any::<u64>(), name(), vec(any::<u8>(), 0..20)).prop_map(
            |(transactional, lsn, prefix, content)| Sample::Logical {
                transactional,
                lsn,
                prefix,
                content
            }
        ),
    ]
}

fn outside() -> impl Strategy<Value = Sample> {
    let place = any::<(u64, u64, i64)>;
    prop_oneof![
        any::<(u64, i64, u32)>().prop_map(|(lsn, time, xid)| Sample::Begin { lsn, time, xid }),
        place().prop_map(|(lsn, end, time)| Sample::Commit { lsn, end, time }),
        (any::<u64>(), name()).prop_map(|(lsn, name)| Sample::Origin { lsn, name }),
        any::<(u32, bool)>().prop_map(|(xid, first)| Sample::StreamStart { xid, first }),
        (any::<u32>(), place()).prop_map(|(xid, (lsn, end, time))| Sample::StreamCommit {
            xid,
            lsn,
            end,
            time
        }),
        (any::<(u32, u32)>(), option::of(any::<(u64, i64)>()))
            .prop_map(|((xid, subxid), place)| Sample::StreamAbort { xid, subxid, place }),
        (prop::sample::select(b"bPpKr".to_vec()), place(), any::<(i64, u32)>(), name()).prop_map(
            |(tag, (first, end, time), (second, xid), gid)| Sample::TwoPhase {
                tag,
                first,
                end,
                times: (time, second),
                xid,
                gid
            }
        ),
    ]
}

/// Any message, beside the transaction it belongs to where it stands within a streamed block.
pub(crate) fn message() -> impl Strategy<Value = (Option<u32>, Sample)> {
    prop_oneof![
        (option::of(any::<u32>()), in_a_block()),
        outside().prop_map(|sample| (None, sample)),
    ]
}
