//! Arrays in text form: `{1,NULL,"a,b"}`, one dimension at a time.

use std::borrow::Cow;

use crate::types::TypeKind;
use crate::{Column, FromField};

/// The lower bounds of an array that does not begin at 1 (`[0:1]={…}`) are not told.
impl<T: FromField> FromField for Vec<T> {
    const NAME: &'static str = "Vec";
    const LIST: bool = true;

    fn from_text(text: &str, column: &Column) -> Result<Self, String> {
        let element = element_of(column)?;
        // A box is written with commas in it.
        let delimiter = if &*element.data_type.name == "box" { b';' } else { b',' };
        let read = |item| match item {
            Item::Null => T::from_null()
                .ok_or_else(|| "an element is NULL; read it as Vec<Option<…>>".to_owned()),
            Item::Nested(text) if T::LIST => T::from_text(text, column),
            Item::Nested(_) => Err("it has more dimensions; read it as Vec<Vec<…>>".to_owned()),
            Item::Plain(_) if T::LIST => {
                Err("it has fewer dimensions; read it as Vec<…>".to_owned())
            }
            Item::Plain(text) => T::from_text(&text, &element)
                .map_err(|problem| format!("an element cannot be read as {}: {problem}", T::NAME)),
        };
        Items::new(text, delimiter)?.map(|item| read(item?)).collect()
    }
}

/// The column as if it held one element.
fn element_of(column: &Column) -> Result<Column, String> {
    let found = column.data_type.underlying();
    let data_type = match &found.kind {
        TypeKind::Array(element) => element.clone(),
        // What is not built in and not in the catalogue may still be an array: the text decides.
        TypeKind::Base if &*found.schema != "pg_catalog" => column.data_type.clone(),
        _ => return Err("only arrays can".to_owned()),
    };
    Ok(Column { data_type, ..column.clone() })
}

enum Item<'a> {
    Null,
    Plain(Cow<'a, str>),
    Nested(&'a str),
}

/// Walks the elements of the outermost dimension.
struct Items<'a> {
    /// What is left, without the closing brace.
    rest: &'a str,
    delimiter: u8,
    more: bool,
}

fn broken() -> String {
    "it is not an array in PostgreSQL's text form".to_owned()
}

impl<'a> Items<'a> {
    fn new(text: &'a str, delimiter: u8) -> Result<Self, String> {
        let body = match text.strip_prefix('[') {
            Some(bounds) => bounds.split_once("]=").map_or("", |(_, body)| body),
            None => text,
        };
        let inner = body.strip_prefix('{').and_then(|body| body.strip_suffix('}'));
        let rest = inner.ok_or_else(broken)?;
        Ok(Self { rest, delimiter, more: !rest.is_empty() })
    }

    fn read(&mut self) -> Result<Item<'a>, String> {
        let length = element_length(self.rest.as_bytes(), self.delimiter).ok_or_else(broken)?;
        let (element, rest) = self.rest.split_at_checked(length).ok_or_else(broken)?;
        self.more = !rest.is_empty();
        self.rest = rest.get(usize::from(self.more)..).unwrap_or_default();
        match element.as_bytes() {
            [] => Err(broken()),
            [b'{', ..] => Ok(Item::Nested(element)),
            [b'"', ..] => {
                let quoted = element.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
                quoted.map(|quoted| Item::Plain(unescaped(quoted))).ok_or_else(broken)
            }
            _ if element.eq_ignore_ascii_case("null") => Ok(Item::Null),
            _ => Ok(Item::Plain(unescaped(element))),
        }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        self.more.then(|| {
            let item = self.read();
            self.more &= item.is_ok();
            item
        })
    }
}

/// Bytes up to the next delimiter that is neither quoted, escaped nor within braces.
fn element_length(text: &[u8], delimiter: u8) -> Option<usize> {
    let (mut quoted, mut escaped, mut depth) = (false, false, 0_usize);
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' => depth += 1,
            b'}' => depth = depth.checked_sub(1)?,
            _ if byte == delimiter && depth == 0 => return Some(at),
            _ => {}
        }
    }
    (!quoted && !escaped && depth == 0).then_some(text.len())
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        plain.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    Cow::Owned(plain)
}
