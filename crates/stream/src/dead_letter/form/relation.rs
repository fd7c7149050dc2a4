//! A table with its columns and their types.

use std::sync::Arc;

use herdsman_wal::{Column, DataType, Relation, ReplicaIdentity, TypeKind};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub(super) struct RelationForm {
    oid: u32,
    schema: String,
    name: String,
    identity: IdentityForm,
    columns: Vec<ColumnForm>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum IdentityForm {
    Default,
    Nothing,
    Full,
    Index,
}

#[derive(Serialize, Deserialize)]
struct ColumnForm {
    name: String,
    data_type: TypeForm,
    type_modifier: i32,
    key: bool,
    primary: bool,
}

#[derive(Serialize, Deserialize)]
struct TypeForm {
    oid: u32,
    schema: String,
    name: String,
    kind: KindForm,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindForm {
    Base,
    Enum,
    Composite,
    Domain(Box<TypeForm>),
    Array(Box<TypeForm>),
    Range,
    Multirange,
}

impl RelationForm {
    pub(super) fn read(self) -> Arc<Relation> {
        let columns = self.columns.into_iter().map(|column| Column {
            name: column.name.into(),
            data_type: column.data_type.read(),
            type_modifier: column.type_modifier,
            key: column.key,
            primary: column.primary,
        });
        Arc::new(Relation {
            oid: self.oid,
            schema: self.schema.into(),
            name: self.name.into(),
            identity: match self.identity {
                IdentityForm::Default => ReplicaIdentity::Default,
                IdentityForm::Nothing => ReplicaIdentity::Nothing,
                IdentityForm::Full => ReplicaIdentity::Full,
                IdentityForm::Index => ReplicaIdentity::Index,
            },
            columns: columns.collect(),
        })
    }
}

impl TypeForm {
    fn read(self) -> Arc<DataType> {
        Arc::new(DataType {
            oid: self.oid,
            schema: self.schema.into(),
            name: self.name.into(),
            kind: match self.kind {
                KindForm::Base => TypeKind::Base,
                KindForm::Enum => TypeKind::Enum,
                KindForm::Composite => TypeKind::Composite,
                KindForm::Domain(base) => TypeKind::Domain(base.read()),
                KindForm::Array(element) => TypeKind::Array(element.read()),
                KindForm::Range => TypeKind::Range,
                KindForm::Multirange => TypeKind::Multirange,
            },
        })
    }
}

pub(super) fn relation(table: &Relation) -> RelationForm {
    let columns = table.columns.iter().map(|column| ColumnForm {
        name: column.name.to_string(),
        data_type: data_type(&column.data_type),
        type_modifier: column.type_modifier,
        key: column.key,
        primary: column.primary,
    });
    RelationForm {
        oid: table.oid,
        schema: table.schema.to_string(),
        name: table.name.to_string(),
        identity: match table.identity {
            ReplicaIdentity::Default => IdentityForm::Default,
            ReplicaIdentity::Nothing => IdentityForm::Nothing,
            ReplicaIdentity::Full => IdentityForm::Full,
            ReplicaIdentity::Index => IdentityForm::Index,
        },
        columns: columns.collect(),
    }
}

fn data_type(of: &DataType) -> TypeForm {
    let kind = match &of.kind {
        TypeKind::Enum => KindForm::Enum,
        TypeKind::Composite => KindForm::Composite,
        TypeKind::Domain(base) => KindForm::Domain(Box::new(data_type(base))),
        TypeKind::Array(element) => KindForm::Array(Box::new(data_type(element))),
        TypeKind::Range => KindForm::Range,
        TypeKind::Multirange => KindForm::Multirange,
        _ => KindForm::Base,
    };
    TypeForm { oid: of.oid, schema: of.schema.to_string(), name: of.name.to_string(), kind }
}
