//! Rows as structs.

use herdsman_wal::{ChangeRef, Row, RowError};

/// A struct that a table's row can be read as; `#[derive(FromChange)]` writes the implementation.
///
/// ```
/// use herdsman_stream::FromChange;
///
/// #[derive(FromChange)]
/// #[change(table = "public.users")]
/// struct User {
///     id: i64,
///     #[change(column = "e_mail")]
///     mail: String,
///     /// NULL is told as such.
///     name: Option<String>,
///     /// Large and not touched by most updates, which then do not tell it.
///     #[change(default)]
///     biography: Option<String>,
/// }
///
/// assert_eq!(User::TABLE, Some(("public", "users")));
/// # use herdsman_wal::ChangeRef;
/// fn handle(change: &ChangeRef<'_>) -> Result<(), herdsman_wal::RowError> {
///     if let Some(user) = User::new_of(change).transpose()? {
///         println!("{} is now {}", user.id, user.mail);
///     }
///     Ok(())
/// }
/// ```
///
/// A field's type is anything that implements [`FromField`](herdsman_wal::FromField). Only structs with named fields can
/// be derived:
///
/// ```compile_fail
/// #[derive(herdsman_stream::FromChange)]
/// enum Event { Created }
/// ```
///
/// ```compile_fail
/// #[derive(herdsman_stream::FromChange)]
/// struct Id(i64);
/// ```
pub trait FromChange: Sized {
    /// Schema and name of the table it is about; any table where it does not say.
    const TABLE: Option<(&'static str, &'static str)> = None;

    /// Reads a row.
    ///
    /// # Errors
    /// [`RowError`] says which column stands in the way, and what to do.
    fn from_row(row: &Row<'_>) -> Result<Self, RowError>;

    /// The row as it is now; `None` for a change of another table, and for one that leaves no row.
    ///
    /// # Errors
    /// As for [`FromChange::from_row`].
    fn new_of(change: &ChangeRef<'_>) -> Option<Result<Self, RowError>> {
        change.new_row().filter(is_of::<Self>).map(|row| Self::from_row(&row))
    }

    /// The row as it was; `None` for a change of another table, and for one that does not tell. Unless the table has
    /// `REPLICA IDENTITY FULL`, only the key is told, and reading any other column is an error.
    ///
    /// # Errors
    /// As for [`FromChange::from_row`].
    fn old_of(change: &ChangeRef<'_>) -> Option<Result<Self, RowError>> {
        change.old_row().filter(is_of::<Self>).map(|row| Self::from_row(&row))
    }
}

fn is_of<T: FromChange>(row: &Row<'_>) -> bool {
    let relation = row.relation();
    T::TABLE.is_none_or(|(schema, table)| (schema, table) == (&*relation.schema, &*relation.name))
}

/// What the derived code refers to.
#[doc(hidden)]
pub mod private {
    pub use herdsman_wal::{FromField, Row, RowError};

    /// The column's value, or the default where the row does not tell it.
    pub fn get_or_default<T: FromField + Default>(
        row: &Row<'_>,
        column: &str,
    ) -> Result<T, RowError> {
        match row.get(column) {
            Err(
                RowError::NoColumn { .. } | RowError::OnlyKey { .. } | RowError::Unchanged { .. },
            ) => Ok(T::default()),
            told => told,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use herdsman_wal::decode::{Field, TupleWriter};
    use herdsman_wal::{Column, Relation, ReplicaIdentity, Row, RowError, TypeBook};

    use crate::FromChange;

    #[derive(Debug, PartialEq, FromChange)]
    #[change(table = "public.users")]
    struct User {
        id: i64,
        #[change(column = "e_mail")]
        mail: Option<String>,
        #[change(default)]
        biography: String,
        #[change(default)]
        not_published: Vec<i32>,
    }

    fn read(fields: [Field<'_>; 3]) -> Result<User, RowError> {
        let columns = [("id", 20), ("e_mail", 25), ("biography", 25)];
        let columns = columns.map(|(name, oid)| Column {
            name: name.into(),
            data_type: TypeBook::default().get(oid),
            type_modifier: -1,
            key: name == "id",
            primary: name == "id",
        });
        let relation = Arc::new(Relation {
            oid: 1,
            schema: "public".into(),
            name: "users".into(),
            identity: ReplicaIdentity::Default,
            columns: columns.into(),
        });
        let mut tuple = TupleWriter::default();
        fields.into_iter().for_each(|field| tuple.push(field));
        User::from_row(&Row::new(&relation, tuple.tuple()))
    }

    #[test]
    fn a_row_is_read_column_by_column() {
        let user = read([Field::Text(b"7"), Field::Null, Field::Text(b"long")]).unwrap();
        let biography = "long".to_owned();
        assert_eq!(user, User { id: 7, mail: None, biography, not_published: vec![] });
        assert_eq!(User::TABLE, Some(("public", "users")));
    }

    #[test]
    fn the_default_stands_for_what_is_not_told_and_not_for_null() {
        let told = |biography| read([Field::Text(b"7"), Field::Null, biography]);
        assert_eq!(told(Field::Unchanged).unwrap().biography, "");
        assert!(matches!(told(Field::Null), Err(RowError::Null { .. })));
        let untold = read([Field::Text(b"7"), Field::Unchanged, Field::Null]);
        assert!(matches!(untold, Err(RowError::Unchanged { .. })));
    }
}
