//! Results of MariaDB's prepared statements, in text.

use sqlx::{
    Column as _, Row as _, TypeInfo as _,
    mysql::{MySqlColumn, MySqlRow},
};

use crate::node::dialect::Failure;

pub(super) fn names(columns: &[MySqlColumn]) -> Vec<String> {
    columns.iter().map(|it| it.name().to_owned()).collect()
}

/// In PostgreSQL's words.
pub(super) fn types(columns: &[MySqlColumn]) -> Vec<String> {
    let of = |column: &MySqlColumn| {
        let text = is_text(column);
        match column.type_info().name() {
            // Ours have a binary collation, and are called as bytes are.
            "VARBINARY" if text => "varchar",
            "BINARY" if text => "character",
            name if text && name.ends_with("BLOB") => "text",
            "BOOLEAN" => "boolean",
            "TINYINT" | "SMALLINT" | "TINYINT UNSIGNED" => "smallint",
            "INT" | "MEDIUMINT" | "SMALLINT UNSIGNED" | "MEDIUMINT UNSIGNED" => "integer",
            "BIGINT" | "INT UNSIGNED" => "bigint",
            "DECIMAL" | "BIGINT UNSIGNED" => "numeric",
            "FLOAT" => "real",
            "DOUBLE" => "double precision",
            "DATE" => "date",
            "DATETIME" | "TIMESTAMP" => "timestamptz",
            "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" => "text",
            "VARCHAR" => "varchar",
            "CHAR" => "character",
            "UUID" => "uuid",
            "NULL" => "unknown",
            _ if is_bytes(column) => "bytea",
            name => return name.to_lowercase(),
        }
        .to_owned()
    };
    columns.iter().map(of).collect()
}

fn is_bytes(column: &MySqlColumn) -> bool {
    let info = column.type_info();
    let name = info.name();
    !is_text(column) && (name.ends_with("BLOB") || name.ends_with("BINARY"))
}

/// Whether the server says that it has a character set.
fn is_text(column: &MySqlColumn) -> bool {
    <str as sqlx::Type<sqlx::MySql>>::compatible(column.type_info())
}

/// Whatever the types are, in text.
pub(super) fn row(row: &MySqlRow) -> Result<Vec<Option<String>>, Failure> {
    cells(row, false)
}

/// The same, of a client's statement, which may have more types: bytes are in hexadecimal digits then.
pub(super) fn cells(row: &MySqlRow, client: bool) -> Result<Vec<Option<String>>, Failure> {
    let cell = |i: usize| -> Result<Option<String>, sqlx::Error> {
        let column = row.columns().get(i);
        let bytes = column.is_some_and(|column| client && is_bytes(column));
        Ok(match column.map(|column| column.type_info().name()) {
            Some(_) if bytes => {
                let bytes = row.try_get_unchecked::<Option<Vec<u8>>, _>(i)?;
                bytes.map(|bytes| crate::identity::hex_of(&bytes))
            }
            Some("DATE" | "DATETIME" | "TIMESTAMP") if client => {
                row.try_get_unchecked::<Option<Vec<u8>>, _>(i)?.map(|bytes| moment(&bytes))
            }
            Some("DOUBLE") => row.try_get::<Option<f64>, _>(i)?.map(|it| it.to_string()),
            Some("FLOAT") => row.try_get::<Option<f32>, _>(i)?.map(|it| it.to_string()),
            Some("BIGINT" | "INT" | "SMALLINT" | "TINYINT" | "MEDIUMINT") => {
                row.try_get::<Option<i64>, _>(i)?.map(|it| it.to_string())
            }
            Some("BOOLEAN") => {
                row.try_get::<Option<bool>, _>(i)?.map(|it| u8::from(it).to_string())
            }
            Some(unsigned) if unsigned.ends_with("UNSIGNED") => {
                row.try_get::<Option<u64>, _>(i)?.map(|it| it.to_string())
            }
            _ => row.try_get_unchecked::<Option<String>, _>(i)?,
        })
    };
    let cells: Result<_, sqlx::Error> = (0..row.len()).map(cell).collect();
    cells.map_err(|error| {
        Failure::refused("0A000", format!("a result that cannot be read: {error}"))
    })
}

/// A date or a moment in the protocol's binary form: its length, and as many of the parts as are not zero.
fn moment(bytes: &[u8]) -> String {
    let at = |i: usize| bytes.get(i).copied().unwrap_or_default();
    let year = u16::from_le_bytes([at(1), at(2)]);
    let day = format!("{year:04}-{:02}-{:02}", at(3), at(4));
    match bytes.first() {
        None | Some(..7) => day,
        Some(length) => {
            let time = format!("{day} {:02}:{:02}:{:02}", at(5), at(6), at(7));
            let micros = u32::from_le_bytes([at(8), at(9), at(10), at(11)]);
            if *length >= 11 { format!("{time}.{micros:06}") } else { time }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_moments_are_read_from_their_binary_form() {
        let cases: [(&[u8], &str); 4] = [
            (&[4, 0xea, 0x07, 2, 3], "2026-02-03"),
            (&[7, 0xea, 0x07, 2, 3, 4, 5, 6], "2026-02-03 04:05:06"),
            (&[11, 0xea, 0x07, 2, 3, 4, 5, 6, 7, 0, 0, 0], "2026-02-03 04:05:06.000007"),
            (&[0], "0000-00-00"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(moment(bytes), expected, "{bytes:?}");
        }
    }
}
