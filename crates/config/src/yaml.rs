//! Reading YAML: one bounded pass per section, so that one mistake does not hide the others.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::{
    DuplicateKeyPolicy, Error, MessageFormatter, NonFiniteFloatPolicy, Options, Spanned,
    UserMessageFormatter,
};

use crate::places::{At, Kind, Place, Places, Tree};
use crate::problem::{Page, Problem, quoted};

/// Deeper nesting than any section needs; what is deeper is a mistake or an attack.
const MAX_DEPTH: usize = 32;

fn options() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        duplicate_keys: DuplicateKeyPolicy::Error,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_aliases: 1_000,
            max_nodes: 100_000,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
    }
}

/// Reads the structure of the file: syntax errors and duplicate keys are found here.
pub(crate) fn tree(text: &str) -> Result<Spanned<Tree>, Error> {
    serde_saphyr::from_str_with_options(text, options())
}

/// Reads one top-level section and skips everything else.
pub(crate) fn section<T: for<'de> Deserialize<'de>>(
    text: &str,
    name: &str,
) -> Result<Option<T>, Error> {
    serde_saphyr::with_deserializer_from_str_with_options(text, options(), |deserializer| {
        Only { name, found: PhantomData }.deserialize(deserializer)
    })
}

/// Says what the reader found wrong, in terms of the file.
pub(crate) fn problem(error: &Error, page: &Page<'_>, places: &Places) -> Problem {
    let Some(location) = error.location() else {
        return page.of_file(told(error));
    };
    let at = At::from(location);
    let Some(place) = places.at(at) else {
        return page.problem(at, told(error));
    };
    let name = place.name();
    let found = || match place.kind {
        Kind::Empty => "is empty".to_owned(),
        Kind::List => "is a list".to_owned(),
        Kind::Map => "is a map".to_owned(),
        Kind::Scalar => page.value_at(place.value).map_or_else(
            || "has a wrong value".to_owned(),
            |value| format!("is {}", quoted(&value)),
        ),
    };
    let message = match innermost(error) {
        Error::Message { msg, .. } => format!("`{name}`: {msg}"),
        Error::InvalidScalar { ty, .. } => {
            format!("`{name}` {}, expected {}", found(), type_name(ty))
        }
        // Where the kind of something is the key above its settings.
        Error::SerdeUnknownVariant { variant, expected, .. }
            if place.path.last().is_some_and(|key| key == variant) =>
        {
            unknown_key(place, variant, expected)
        }
        Error::SerdeUnknownVariant { expected, .. } => {
            format!("`{name}` {}, expected {}", found(), any_of(expected))
        }
        Error::SerdeUnknownField { field, expected, .. } => unknown_key(place, field, expected),
        Error::SerdeMissingField { field, .. } => {
            format!("`{name}` has no `{field}`, expected one")
        }
        Error::Unexpected { expected, .. } => {
            format!("`{name}` {}, expected {}", found(), type_name(expected))
        }
        Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. }
        | Error::NullIntoString { .. } => {
            format!("`{name}` {}, expected a single value", found())
        }
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            format!("`{name}` {}, expected {expected}", found())
        }
        other => format!("`{name}`: {}", told(other)),
    };
    page.problem(if place.kind == Kind::Empty { place.value } else { at }, message)
}

fn unknown_key(place: &Place, key: &str, expected: &[&'static str]) -> String {
    let parent = place.path.split_last().map(|(_, parent)| parent.join(".")).unwrap_or_default();
    format!("unknown key {} in `{parent}`, expected {}", quoted(key), any_of(expected))
}

/// A list of words for the end of a sentence: `a, b or c`.
pub fn any_of<S: AsRef<str>>(words: &[S]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [only] => only.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(AsRef::as_ref).collect();
            format!("{} or {}", first.join(", "), last.as_ref())
        }
    }
}

/// A list of words for the end of a sentence: `a, b and c`.
pub fn and(words: &[String]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => words.concat(),
    }
}

fn innermost(error: &Error) -> &Error {
    match error.without_snippet() {
        Error::AliasError { error, .. } => innermost(error),
        other => other,
    }
}

/// The reader's own words, for errors of syntax.
fn told(error: &Error) -> String {
    match innermost(error) {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key {} is there twice, expected once", quoted(key))
        }
        Error::MultipleDocuments { .. } => {
            "a second YAML document begins here, expected only one".to_owned()
        }
        Error::UnknownAnchor { .. } => {
            "the alias refers to an anchor that is not defined above it, expected one that is"
                .to_owned()
        }
        Error::Budget { .. } => {
            format!(
                "the file is nested or repeated too deeply, expected at most {MAX_DEPTH} levels"
            )
        }
        Error::Unexpected { expected: name, .. } | Error::InvalidScalar { ty: name, .. } => {
            format!("something else stands here, expected {}", type_name(name))
        }
        other => format!("not valid YAML: {}", UserMessageFormatter.format_message(other)),
    }
}

/// What the reader calls a type, in words for people.
fn type_name(name: &str) -> String {
    match name {
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "boolean" => "true or false".to_owned(),
        "mapping start" => "a map of keys and values".to_owned(),
        "sequence start" => "a list".to_owned(),
        "string scalar" => "a single value".to_owned(),
        other => other.to_owned(),
    }
}

/// Takes the value of one key of the top-level map.
struct Only<'a, T> {
    name: &'a str,
    found: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Only<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Only<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of keys and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Option<T>, A::Error> {
        let mut found = None;
        while let Some(key) = access.next_key::<String>()? {
            if key == self.name {
                found = access.next_value::<Option<T>>()?;
            } else {
                access.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}
