//! What the numbers of types mean.

use std::collections::HashMap;
use std::sync::Arc;

use postgres_types::Type;

/// A type as far as a reader of its text form needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataType {
    /// Its number in `pg_type`.
    pub oid: u32,
    /// Its schema; `pg_catalog` for what is built in.
    pub schema: Box<str>,
    /// Its name as `pg_type` has it, such as `int8` or `_text`; the number's digits where it is not known.
    pub name: Box<str>,
    /// What it is made of.
    pub kind: TypeKind,
}

/// What a type is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TypeKind {
    /// A type of its own, or one that nothing more is known of.
    Base,
    /// One of a list of words.
    Enum,
    /// A row.
    Composite,
    /// Another type with conditions.
    Domain(Arc<DataType>),
    /// A list of another type.
    Array(Arc<DataType>),
    /// A range of another type.
    Range,
    /// Several ranges.
    Multirange,
}

impl DataType {
    /// The type that decides how values look: that of a domain is what the domain is made of.
    #[must_use]
    pub fn underlying(&self) -> &DataType {
        match &self.kind {
            TypeKind::Domain(base) => base.underlying(),
            _ => self,
        }
    }
}

/// The types seen so far in one stream: built-in ones, and those that type messages or the catalogue told.
#[derive(Clone, Debug, Default)]
pub struct TypeBook {
    known: HashMap<u32, Arc<DataType>>,
}

impl TypeBook {
    /// The type of this number, as well as it is known.
    #[must_use]
    pub fn get(&self, oid: u32) -> Arc<DataType> {
        if let Some(known) = self.known.get(&oid) {
            return Arc::clone(known);
        }
        Arc::new(built_in(oid).unwrap_or_else(|| DataType {
            oid,
            schema: "".into(),
            name: oid.to_string().into(),
            kind: TypeKind::Base,
        }))
    }

    /// Whether more than the number is known of it.
    #[must_use]
    pub fn knows(&self, oid: u32) -> bool {
        self.known.contains_key(&oid) || Type::from_oid(oid).is_some()
    }

    /// Learns a type. What the catalogue told is not forgotten for a mere name.
    pub fn learn(&mut self, data_type: DataType) {
        let known = self.known.get(&data_type.oid);
        if known.is_some_and(|k| k.kind != TypeKind::Base && data_type.kind == TypeKind::Base) {
            return;
        }
        self.known.insert(data_type.oid, Arc::new(data_type));
    }
}

fn built_in(oid: u32) -> Option<DataType> {
    let found = Type::from_oid(oid)?;
    let kind = match found.kind() {
        postgres_types::Kind::Array(element) => TypeKind::Array(Arc::new(built_in(element.oid())?)),
        postgres_types::Kind::Range(_) => TypeKind::Range,
        postgres_types::Kind::Multirange(_) => TypeKind::Multirange,
        _ => TypeKind::Base,
    };
    Some(DataType { oid, schema: "pg_catalog".into(), name: found.name().into(), kind })
}
