//! Where everything stands in the file: each key and value with its path, line and column, whatever it means.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

/// A spot in the file: line and column, both counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The line.
    pub line: u64,
    /// The character within it.
    pub column: u64,
}

/// What kind of thing stands somewhere, as YAML sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing after the colon, or `~`.
    Empty,
    /// One value.
    Scalar,
    /// A list.
    List,
    /// A map.
    Map,
}

/// One key with its value, or one item of a list.
#[derive(Debug)]
pub(crate) struct Place {
    /// Keys (and item numbers) from the top of the file down to here.
    pub(crate) path: Vec<String>,
    pub(crate) kind: Kind,
    /// Where the key is; for items of a list, where the item is.
    pub(crate) key: At,
    /// Where the value begins; the key where there is none.
    pub(crate) value: At,
    /// Where the reader says the value is: behind the colon where there is none.
    read_at: At,
    /// Last line of the value, where it is a scalar.
    pub(crate) last_line: u64,
}

/// Every place in the file, top to bottom.
#[derive(Debug, Default)]
pub(crate) struct Places(Vec<Place>);

/// The file without its meaning: what the YAML reader can say before any type is known.
pub(crate) enum Tree {
    Empty,
    Scalar,
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl Places {
    /// Lists the places of `tree`, which was read from `text`.
    pub(crate) fn new(tree: &Tree, text: &str) -> Self {
        let mut places = Self::default();
        places.collect(tree, &mut Vec::new(), text);
        places
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.0.iter()
    }

    /// The place with this path.
    pub(crate) fn find(&self, path: &[&str]) -> Option<&Place> {
        self.0.iter().find(|place| place.path == path)
    }

    /// The places directly below this path.
    pub(crate) fn below(&self, path: &[&str]) -> impl Iterator<Item = &Place> {
        self.0.iter().filter(move |place| {
            place.path.len() == path.len() + 1 && place.path.iter().zip(path).all(|(a, b)| a == b)
        })
    }

    /// The place whose key or value begins at this spot; the deepest one where several do.
    pub(crate) fn at(&self, at: At) -> Option<&Place> {
        self.0.iter().rev().find(|place| place.read_at == at || place.key == at)
    }

    fn collect(&mut self, tree: &Tree, path: &mut Vec<String>, text: &str) {
        match tree {
            Tree::Empty | Tree::Scalar => {}
            Tree::List(items) => {
                for (number, item) in items.iter().enumerate() {
                    path.push((number + 1).to_string());
                    self.add(item.defined.into(), item, path, text);
                    path.pop();
                }
            }
            Tree::Map(entries) => {
                for (key, value) in entries {
                    path.push(key.value.clone());
                    self.add(key.defined.into(), value, path, text);
                    path.pop();
                }
            }
        }
    }

    fn add(&mut self, key: At, value: &Spanned<Tree>, path: &mut Vec<String>, text: &str) {
        let kind = match value.value {
            Tree::Empty => Kind::Empty,
            Tree::Scalar => Kind::Scalar,
            Tree::List(_) => Kind::List,
            Tree::Map(_) => Kind::Map,
        };
        let begin = At::from(value.defined);
        let lines = match kind {
            Kind::Scalar => lines_in(text, value.defined),
            Kind::Empty | Kind::List | Kind::Map => 0,
        };
        self.0.push(Place {
            path: path.clone(),
            kind,
            key,
            value: if kind == Kind::Empty { key } else { begin },
            read_at: begin,
            last_line: begin.line + lines,
        });
        self.collect(&value.value, path, text);
    }
}

/// How many line ends a scalar runs over.
fn lines_in(text: &str, location: Location) -> u64 {
    let skip = usize::try_from(location.span().offset()).unwrap_or(usize::MAX);
    let take = usize::try_from(location.span().len()).unwrap_or(usize::MAX);
    text.chars().skip(skip).take(take).filter(|&c| c == '\n').map(|_| 1).sum()
}

impl Place {
    /// Where to point for a problem with the value: the key of a map, whose value begins with another key.
    pub(crate) fn spot(&self) -> At {
        if self.kind == Kind::Map { self.key } else { self.value }
    }

    /// The path the way messages name it: `hosts.a.port`.
    pub(crate) fn name(&self) -> String {
        self.path.join(".")
    }
}

impl From<Location> for At {
    fn from(location: Location) -> Self {
        Self { line: location.line().max(1), column: location.column().max(1) }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Empty)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Empty)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Map(entries))
    }
}
