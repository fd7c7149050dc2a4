//! `#[derive(FromChange)]`: the row of a change as a struct. Use it through `herdsman_stream`, which says what it does.

mod attributes;
mod expand;

use proc_macro::TokenStream;

/// Implements `herdsman_stream::FromChange` for a struct with named fields.
///
/// - `#[change(table = "public.users")]` on the struct: the table, as `schema.table`, in the letters the catalogue has.
///   Where a name holds a dot itself, `schema = "…"` and `table = "…"` say them apart.
/// - `#[change(column = "name")]` on a field: the column, where it is not called as the field.
/// - `#[change(default)]` on a field: `Default::default()` where the row does not tell the column: it is not published,
///   or was large, not touched and therefore not sent. NULL is told: read it as an `Option`.
#[proc_macro_derive(FromChange, attributes(change))]
pub fn from_change(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    expand::expand(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}
