//! A change as JSON that gives back the very same change: everything of it, types and wire values included.

mod relation;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use herdsman_node::{Lsn, SystemId, Timeline};
use herdsman_wal::decode::{Field, Old, Tuple, TupleWriter};
use herdsman_wal::{Body, Change, ChangeRef, Source, Timestamp, Transaction};
use serde::{Deserialize, Serialize};

use self::relation::{RelationForm, relation};

#[derive(Serialize, Deserialize)]
pub(super) struct ChangeForm {
    source: SourceForm,
    transaction: TransactionForm,
    ordinal: u64,
    lsn: String,
    body: BodyForm,
}

#[derive(Serialize, Deserialize)]
struct SourceForm {
    system_id: SystemId,
    timeline: Timeline,
    database: String,
    slot: String,
}

#[derive(Serialize, Deserialize)]
struct TransactionForm {
    xid: u32,
    begin_lsn: String,
    commit_lsn: String,
    /// Microseconds since 1970.
    commit_time: i64,
    origin: Option<String>,
    gid: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum BodyForm {
    Insert {
        table: RelationForm,
        new: Vec<FieldForm>,
    },
    Read {
        table: RelationForm,
        new: Vec<FieldForm>,
    },
    Update {
        table: RelationForm,
        old: Option<OldForm>,
        new: Vec<FieldForm>,
    },
    Delete {
        table: RelationForm,
        old: OldForm,
    },
    Truncate {
        tables: Vec<RelationForm>,
        cascade: bool,
        restart_identity: bool,
    },
    Schema {
        table: RelationForm,
        previous: RelationForm,
    },
    Message {
        prefix: String,
        content: FieldForm,
    },
    /// A kind that this version cannot write.
    Unknown,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OldForm {
    Key(Vec<FieldForm>),
    Full(Vec<FieldForm>),
}

/// NULL is null, and a text is a text; all else says what it is.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum FieldForm {
    Null(()),
    Text(String),
    Other(OtherForm),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OtherForm {
    /// Always true. (A bare word could not be told from a text.)
    Unchanged(bool),
    /// Text that is not UTF-8, in base64.
    TextBytes(String),
    /// PostgreSQL's binary form, in base64.
    Binary(String),
}

impl From<&Change> for ChangeForm {
    fn from(change: &Change) -> Self {
        let (source, transaction) = (&change.source, &change.transaction);
        Self {
            source: SourceForm {
                system_id: source.system_id,
                timeline: source.timeline,
                database: source.database.to_string(),
                slot: source.slot.to_string(),
            },
            transaction: TransactionForm {
                xid: transaction.xid,
                begin_lsn: transaction.begin_lsn.to_string(),
                commit_lsn: transaction.commit_lsn.to_string(),
                commit_time: transaction.commit_time.unix_micros(),
                origin: transaction.origin.as_deref().map(str::to_owned),
                gid: transaction.gid.as_deref().map(str::to_owned),
            },
            ordinal: change.ordinal,
            lsn: change.lsn.to_string(),
            body: BodyForm::from(change.view().body),
        }
    }
}

impl ChangeForm {
    /// The change again.
    pub(super) fn read(self) -> Result<Change, String> {
        let (from, of) = (self.source, self.transaction);
        let source = Arc::new(Source {
            system_id: from.system_id,
            timeline: from.timeline,
            database: from.database.into(),
            slot: from.slot.into(),
        });
        let transaction = Arc::new(Transaction {
            xid: of.xid,
            begin_lsn: lsn(&of.begin_lsn)?,
            commit_lsn: lsn(&of.commit_lsn)?,
            commit_time: Timestamp::from_unix_micros(of.commit_time),
            origin: of.origin.map(Into::into),
            gid: of.gid.map(Into::into),
        });
        let (ordinal, at) = (self.ordinal, lsn(&self.lsn)?);
        let change = |body: Body<'_>| {
            let (source, transaction) = (&source, &transaction);
            Change::from(ChangeRef { source, transaction, ordinal, lsn: at, body })
        };
        self.body.read(change)
    }
}

impl From<Body<'_>> for BodyForm {
    fn from(body: Body<'_>) -> Self {
        match body {
            Body::Insert { table, new } => Self::Insert { table: relation(table), new: row(new) },
            Body::Read { table, new } => Self::Read { table: relation(table), new: row(new) },
            Body::Update { table, old, new } => {
                let old = old.map(old_form);
                Self::Update { table: relation(table), old, new: row(new) }
            }
            Body::Delete { table, old } => {
                Self::Delete { table: relation(table), old: old_form(old) }
            }
            Body::Truncate { tables, cascade, restart_identity } => {
                let tables = tables.iter().map(|table| relation(table)).collect();
                Self::Truncate { tables, cascade, restart_identity }
            }
            Body::Schema { table, previous } => {
                Self::Schema { table: relation(table), previous: relation(previous) }
            }
            Body::Message { prefix, content } => Self::Message {
                prefix: prefix.to_owned(),
                content: FieldForm::from(Field::Text(content)),
            },
            _ => Self::Unknown,
        }
    }
}

impl BodyForm {
    fn read(self, change: impl Fn(Body<'_>) -> Change) -> Result<Change, String> {
        Ok(match self {
            Self::Insert { table, new } => {
                let (table, new) = (table.read(), tuple(&new)?);
                change(Body::Insert { table: &table, new: new.tuple() })
            }
            Self::Read { table, new } => {
                let (table, new) = (table.read(), tuple(&new)?);
                change(Body::Read { table: &table, new: new.tuple() })
            }
            Self::Update { table, old, new } => {
                let (table, new) = (table.read(), tuple(&new)?);
                let before = old.as_ref().map(|old| tuple(old.fields())).transpose()?;
                let old = old.as_ref().zip(before.as_ref()).map(|(form, row)| form.of(row));
                change(Body::Update { table: &table, old, new: new.tuple() })
            }
            Self::Delete { table, old } => {
                let (table, before) = (table.read(), tuple(old.fields())?);
                change(Body::Delete { table: &table, old: old.of(&before) })
            }
            Self::Truncate { tables, cascade, restart_identity } => {
                let tables: Vec<_> = tables.into_iter().map(RelationForm::read).collect();
                change(Body::Truncate { tables: &tables, cascade, restart_identity })
            }
            Self::Schema { table, previous } => {
                let (table, previous) = (table.read(), previous.read());
                change(Body::Schema { table: &table, previous: &previous })
            }
            Self::Message { prefix, content } => {
                let content = content.bytes()?.unwrap_or_default();
                change(Body::Message { prefix: &prefix, content: &content })
            }
            Self::Unknown => return Err("it is of a kind that is not known".to_owned()),
        })
    }
}

impl OldForm {
    fn fields(&self) -> &[FieldForm] {
        match self {
            Self::Key(fields) | Self::Full(fields) => fields,
        }
    }

    fn of<'a>(&self, row: &'a TupleWriter) -> Old<'a> {
        match self {
            Self::Key(_) => Old::Key(row.tuple()),
            Self::Full(_) => Old::Full(row.tuple()),
        }
    }
}

impl From<Field<'_>> for FieldForm {
    fn from(field: Field<'_>) -> Self {
        match field {
            Field::Null => Self::Null(()),
            Field::Unchanged => Self::Other(OtherForm::Unchanged(true)),
            Field::Binary(bytes) => Self::Other(OtherForm::Binary(STANDARD.encode(bytes))),
            Field::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Self::Text(text.to_owned()),
                Err(_) => Self::Other(OtherForm::TextBytes(STANDARD.encode(bytes))),
            },
        }
    }
}

impl FieldForm {
    /// The value's bytes, where it has any.
    fn bytes(&self) -> Result<Option<Vec<u8>>, String> {
        Ok(match self {
            Self::Null(()) | Self::Other(OtherForm::Unchanged(_)) => None,
            Self::Text(text) => Some(text.clone().into_bytes()),
            Self::Other(OtherForm::TextBytes(text) | OtherForm::Binary(text)) => {
                Some(STANDARD.decode(text).map_err(|_| "a value is not base64".to_owned())?)
            }
        })
    }
}

fn old_form(old: Old<'_>) -> OldForm {
    match old {
        Old::Key(tuple) => OldForm::Key(row(tuple)),
        Old::Full(tuple) => OldForm::Full(row(tuple)),
    }
}

fn row(tuple: Tuple<'_>) -> Vec<FieldForm> {
    tuple.iter().map(FieldForm::from).collect()
}

fn tuple(fields: &[FieldForm]) -> Result<TupleWriter, String> {
    let mut writer = TupleWriter::default();
    for field in fields {
        let bytes = field.bytes()?;
        writer.push(match (field, &bytes) {
            (FieldForm::Other(OtherForm::Unchanged(_)), _) => Field::Unchanged,
            (FieldForm::Other(OtherForm::Binary(_)), Some(bytes)) => Field::Binary(bytes),
            (_, Some(bytes)) => Field::Text(bytes),
            (_, None) => Field::Null,
        });
    }
    Ok(writer)
}

fn lsn(text: &str) -> Result<Lsn, String> {
    text.parse().map_err(|error: herdsman_node::ParseLsnError| error.to_string())
}
