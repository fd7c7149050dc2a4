//! Tables in canonical bytes.

use super::{Column, OnDelete, Reference, Table, TableChange};
use crate::{
    codec::{Malformed, Reader, Writer},
    value::Kind,
};

impl Kind {
    fn encode(self, to: &mut Writer) {
        let limited = |to: &mut Writer, tag: u8, max: Option<u32>| {
            to.byte(tag);
            to.number(max.map_or(0, |max| u64::from(max).saturating_add(1)));
        };
        match self {
            Self::Bool => to.byte(0),
            Self::Int32 => to.byte(1),
            Self::Int64 => to.byte(2),
            Self::Decimal { precision, scale } => to.raw(&[3, precision, scale]),
            Self::Float => to.byte(4),
            Self::Text { max } => limited(to, 5, max),
            Self::Bytes { max } => limited(to, 6, max),
            Self::Date => to.byte(7),
            Self::Timestamp => to.byte(8),
            Self::Uuid => to.byte(9),
            Self::Json => to.byte(10),
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let limit = |from: &mut Reader<'_>| {
            let number = from.number()?.checked_sub(1);
            number.map(u32::try_from).transpose().map_err(|_| Malformed("a length is too large"))
        };
        Ok(match from.byte()? {
            0 => Self::Bool,
            1 => Self::Int32,
            2 => Self::Int64,
            3 => Self::Decimal { precision: from.byte()?, scale: from.byte()? },
            4 => Self::Float,
            5 => Self::Text { max: limit(from)? },
            6 => Self::Bytes { max: limit(from)? },
            7 => Self::Date,
            8 => Self::Timestamp,
            9 => Self::Uuid,
            10 => Self::Json,
            _ => return Err(Malformed("a column is of no known kind")),
        })
    }
}

impl Column {
    fn encode(&self, to: &mut Writer) {
        to.bytes(self.name.as_bytes());
        self.kind.encode(to);
        to.byte(u8::from(self.nullable));
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            name: from.text()?.to_owned(),
            kind: Kind::decode(from)?,
            nullable: from.flag()?,
        })
    }
}

impl Table {
    /// All but its references, which the first format does not have.
    pub(crate) fn encode(&self, to: &mut Writer) {
        to.bytes(self.name.as_bytes());
        to.length(self.columns.len());
        for column in &self.columns {
            column.encode(to);
        }
        encode_key(&self.key, to);
        to.length(self.uniques.len());
        for unique in &self.uniques {
            encode_key(unique, to);
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            name: from.text()?.to_owned(),
            columns: from.many(Column::decode)?,
            key: from.many(decode_place)?,
            uniques: from.many(|from| from.many(decode_place))?,
            references: Vec::new(),
        })
    }

    /// With its references.
    pub(crate) fn encode_whole(&self, to: &mut Writer) {
        self.encode(to);
        to.length(self.references.len());
        for reference in &self.references {
            reference.encode(to);
        }
    }

    pub(crate) fn decode_whole(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let table = Self::decode(from)?;
        Ok(Self { references: from.many(Reference::decode)?, ..table })
    }

    /// For a node's own notes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        if self.references.is_empty() {
            self.encode(&mut writer);
        } else {
            self.encode_whole(&mut writer);
        }
        writer.0
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let table = Self::decode(&mut reader)?;
        if reader.end().is_ok() {
            return Ok(table);
        }
        let references = reader.many(Reference::decode)?;
        reader.end().map(|()| Self { references, ..table })
    }
}

impl Reference {
    fn encode(&self, to: &mut Writer) {
        encode_key(&self.columns, to);
        to.bytes(self.parent.as_bytes());
        to.length(self.key.len());
        self.key.iter().for_each(|name| to.bytes(name.as_bytes()));
        to.byte(match self.on_delete {
            OnDelete::Refuse => 0,
            OnDelete::Cascade => 1,
            OnDelete::SetNull => 2,
        });
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            columns: from.many(decode_place)?,
            parent: from.text()?.to_owned(),
            key: from.many(|from| from.text().map(str::to_owned))?,
            on_delete: match from.byte()? {
                0 => OnDelete::Refuse,
                1 => OnDelete::Cascade,
                2 => OnDelete::SetNull,
                _ => return Err(Malformed("a foreign key does nothing that is known")),
            },
        })
    }
}

impl TableChange {
    pub(crate) fn encode(&self, to: &mut Writer) {
        match self {
            Self::Create(table) if !table.references.is_empty() => {
                to.byte(3);
                table.encode_whole(to);
            }
            Self::Create(table) => {
                to.byte(0);
                table.encode(to);
            }
            Self::AddColumn { table, column } => {
                to.byte(1);
                to.bytes(table.as_bytes());
                column.encode(to);
            }
            Self::Drop { table } => {
                to.byte(2);
                to.bytes(table.as_bytes());
            }
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.byte()? {
            0 => Self::Create(Table::decode(from)?),
            1 => Self::AddColumn { table: from.text()?.to_owned(), column: Column::decode(from)? },
            2 => Self::Drop { table: from.text()?.to_owned() },
            3 => Self::Create(Table::decode_whole(from)?),
            _ => return Err(Malformed("a table changes in no known way")),
        })
    }
}

fn encode_key(key: &[usize], to: &mut Writer) {
    to.length(key.len());
    for at in key {
        to.length(*at);
    }
}

fn decode_place(from: &mut Reader<'_>) -> Result<usize, Malformed> {
    usize::try_from(from.number()?).map_err(|_| Malformed("a place is too large"))
}
