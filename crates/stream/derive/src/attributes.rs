//! What stands in `#[change(…)]`.

use syn::meta::ParseNestedMeta;
use syn::{Attribute, Error, LitStr, Result};

/// What is said of the struct.
#[derive(Default)]
pub(crate) struct OfStruct {
    schema: Option<LitStr>,
    table: Option<LitStr>,
}

/// What is said of one field.
#[derive(Default)]
pub(crate) struct OfField {
    /// The column's name.
    pub(crate) column: Option<LitStr>,
    /// Whether it may be missing.
    pub(crate) default: bool,
}

impl OfStruct {
    pub(crate) fn read(attributes: &[Attribute]) -> Result<Self> {
        let mut of = Self::default();
        each(attributes, |meta| {
            if meta.path.is_ident("table") {
                once(&mut of.table, meta)
            } else if meta.path.is_ident("schema") {
                once(&mut of.schema, meta)
            } else {
                Err(meta.error("expected `table = \"schema.table\"` or `schema = \"…\"`"))
            }
        })?;
        Ok(of)
    }

    /// Schema and table.
    pub(crate) fn table(&self) -> Result<Option<(String, String)>> {
        match (&self.schema, &self.table) {
            (None, None) => Ok(None),
            (Some(schema), None) => {
                Err(Error::new_spanned(schema, "`schema` also needs `table = \"…\"`"))
            }
            (Some(schema), Some(table)) => Ok(Some((schema.value(), table.value()))),
            (None, Some(table)) => {
                let name = table.value();
                let (schema, relation) = name.split_once('.').unwrap_or(("", &name));
                if schema.is_empty() || relation.is_empty() || relation.contains('.') {
                    let problem = "expected `schema.table`, as in \"public.users\"; where a name \
                                   holds a dot, give `schema` and `table` apart";
                    return Err(Error::new_spanned(table, problem));
                }
                Ok(Some((schema.to_owned(), relation.to_owned())))
            }
        }
    }
}

impl OfField {
    pub(crate) fn read(attributes: &[Attribute]) -> Result<Self> {
        let mut of = Self::default();
        each(attributes, |meta| {
            if meta.path.is_ident("column") {
                once(&mut of.column, meta)
            } else if meta.path.is_ident("default") {
                of.default = true;
                Ok(())
            } else {
                Err(meta.error("expected `column = \"…\"` or `default`"))
            }
        })?;
        Ok(of)
    }
}

fn each(
    attributes: &[Attribute],
    mut read: impl FnMut(&ParseNestedMeta<'_>) -> Result<()>,
) -> Result<()> {
    let ours = attributes.iter().filter(|attribute| attribute.path().is_ident("change"));
    ours.into_iter().try_for_each(|attribute| attribute.parse_nested_meta(|meta| read(&meta)))
}

fn once(place: &mut Option<LitStr>, meta: &ParseNestedMeta<'_>) -> Result<()> {
    let value: LitStr = meta.value()?.parse()?;
    if value.value().is_empty() {
        return Err(Error::new_spanned(value, "a name cannot be empty"));
    }
    if place.replace(value).is_some() {
        return Err(meta.error("said twice"));
    }
    Ok(())
}
