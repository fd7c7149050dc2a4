//! The implementation that is written for a struct.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt as _;
use syn::{Data, DeriveInput, Error, Field, Fields, Result};

use crate::attributes::{OfField, OfStruct};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let table = match OfStruct::read(&input.attrs)?.table()? {
        Some((schema, table)) => quote!(::core::option::Option::Some((#schema, #table))),
        None => quote!(::core::option::Option::None),
    };
    let fields = named_fields(input)?.iter().map(field).collect::<Result<Vec<_>>>()?;
    let name = &input.ident;
    let (generics, types, conditions) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #generics ::herdsman_stream::FromChange for #name #types #conditions {
            const TABLE: ::core::option::Option<(&'static str, &'static str)> = #table;

            fn from_row(
                row: &::herdsman_stream::__private::Row<'_>,
            ) -> ::core::result::Result<Self, ::herdsman_stream::__private::RowError> {
                ::core::result::Result::Ok(Self { #(#fields),* })
            }
        }
    })
}

fn named_fields(input: &DeriveInput) -> Result<&Fields> {
    const EXPECTED: &str =
        "`FromChange` needs a struct with named fields, one for each column to read";
    match &input.data {
        Data::Struct(data) if matches!(data.fields, Fields::Named(_)) => Ok(&data.fields),
        Data::Struct(_) => {
            let problem = format!("{EXPECTED}; this one's fields have no names");
            Err(Error::new_spanned(&input.ident, problem))
        }
        Data::Enum(_) => {
            Err(Error::new_spanned(&input.ident, format!("{EXPECTED}; this is an enum")))
        }
        Data::Union(_) => {
            Err(Error::new_spanned(&input.ident, format!("{EXPECTED}; this is a union")))
        }
    }
}

fn field(field: &Field) -> Result<TokenStream> {
    let of = OfField::read(&field.attrs)?;
    let Some(name) = &field.ident else {
        return Err(Error::new_spanned(field, "a field without a name"));
    };
    let column = of.column.map_or_else(|| name.unraw().to_string(), |column| column.value());
    let read = if of.default {
        quote!(::herdsman_stream::__private::get_or_default(row, #column)?)
    } else {
        quote!(row.get(#column)?)
    };
    Ok(quote!(#name: #read))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(code: &str) -> Result<String> {
        expand(&syn::parse_str(code).unwrap()).map(|tokens| tokens.to_string())
    }

    fn refusal(code: &str) -> String {
        expanded(code).unwrap_err().to_string()
    }

    #[test]
    fn fields_are_read_from_the_columns_they_name() {
        let code = r#"#[change(table = "shop.Order Items")] struct Item<T> {
            #[change(column = "Id")] id: i64, r#type: T, #[change(default)] note: String }"#;
        let written = expanded(code).unwrap();
        for part in [
            r#"Some (("shop" , "Order Items"))"#,
            r#"id : row . get ("Id") ?"#,
            r#"r#type : row . get ("type") ?"#,
            r#"get_or_default (row , "note") ?"#,
            "impl < T > :: herdsman_stream :: FromChange for Item < T >",
        ] {
            assert!(written.contains(part), "no `{part}` in {written}");
        }
        let dotted = r#"#[change(schema = "a.b", table = "c.d")] struct S { id: i64 }"#;
        assert!(expanded(dotted).unwrap().contains(r#"Some (("a.b" , "c.d"))"#));
        assert!(expanded("struct S { id: i64 }").unwrap().contains("Option :: None"));
    }

    #[test]
    fn what_cannot_be_read_from_a_row_says_what_can() {
        assert!(
            refusal("enum E { A }").contains("named fields")
                && refusal("enum E { A }").contains("enum")
        );
        assert!(refusal("struct S(i64);").contains("no names"));
        assert!(refusal("struct S;").contains("no names"));
        assert!(refusal("union U { a: i64 }").contains("union"));
        for table in ["users", "a.b.c", ".users", "public."] {
            let code = format!("#[change(table = {table:?})] struct S {{ id: i64 }}");
            assert!(refusal(&code).contains("`schema.table`"), "{table}");
        }
        assert!(refusal(r#"#[change(schema = "s")] struct S { id: i64 }"#).contains("`table"));
        assert!(
            refusal(r#"#[change(tabel = "a.b")] struct S { id: i64 }"#).contains("expected `table")
        );
        assert!(
            refusal(r#"struct S { #[change(name = "b")] id: i64 }"#).contains("expected `column")
        );
        assert!(refusal(r#"struct S { #[change(column = "")] id: i64 }"#).contains("empty"));
        let twice = r#"struct S { #[change(column = "a", column = "b")] id: i64 }"#;
        assert_eq!(refusal(twice), "said twice");
    }
}
