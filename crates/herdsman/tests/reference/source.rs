//! The types that read the configuration, as their sources have them.

use std::fs;
use std::path::Path;

use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, Fields, GenericArgument, Lit, Meta, PathArguments, Token, Type};

use super::values::{Facts, renamed, text};

/// Crates with sections, or with types that these share.
const CRATES: [&str; 11] = [
    "watch", "api", "config", "node", "route", "gateway", "wal", "stream", "mesh", "ledger",
    "hooks",
];

/// All of them.
pub struct Sources {
    items: Vec<Item>,
}

/// A type.
pub struct Item {
    pub krate: &'static str,
    file: String,
    pub name: String,
    pub docs: String,
    kind: Kind,
}

enum Kind {
    Object(Vec<Field>),
    Words(Words),
    /// One of these keys, with what is below it.
    OneOf(Vec<Field>),
}

/// What a value may be, and what each of these does.
pub struct Words(pub Vec<(String, String)>);

/// A key.
pub struct Field {
    pub name: String,
    pub docs: String,
    pub shape: Shape,
    pub default: Option<String>,
    pub required: bool,
}

/// What a value looks like.
#[derive(Clone, Debug)]
pub enum Shape {
    Text,
    File,
    Time {
        never: bool,
    },
    Number,
    Switch,
    /// Several words, of which `off` is written without quotes.
    WordOrOff(String),
    TextOrList,
    List(Box<Self>),
    Map(Box<Self>),
    Named(String),
}

impl Sources {
    pub fn read(root: &Path) -> Self {
        let mut items = Vec::new();
        for krate in CRATES {
            let mut files = Vec::new();
            walk(&root.join("crates").join(krate).join("src"), &mut files);
            let parsed: Vec<(String, syn::File)> = files
                .into_iter()
                .map(|path| {
                    (path.clone(), syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap())
                })
                .collect();
            let facts_of = |file: &syn::File| {
                let mut facts = Facts::default();
                file.items.iter().for_each(|item| facts.learn(item));
                facts
            };
            let mut of_crate = Facts::default();
            parsed.iter().flat_map(|(_, file)| &file.items).for_each(|item| of_crate.learn(item));
            for (path, file) in &parsed {
                let facts = facts_of(file).within(&of_crate);
                items.extend(
                    file.items.iter().filter_map(|item| item_of(krate, path, item, &facts)),
                );
            }
        }
        Self { items }
    }

    /// A type of a crate.
    pub fn named(&self, krate: &str, name: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.krate == krate && item.name == name)
    }

    /// What a key does. `See X` leads to the same key of another type.
    pub fn docs_of(&self, near: &Item, field: &Field) -> String {
        let elsewhere = || {
            let name = field.docs.strip_prefix("See `")?.strip_suffix("`.")?;
            let mut fields = self.meant(near, name)?.fields().iter();
            let other = fields.find(|known| known.name == field.name)?;
            let text = other.docs.split(" Default").next().unwrap_or(&other.docs);
            Some(format!("{text} Default: as for all pools."))
        };
        elsewhere().unwrap_or_else(|| field.docs.clone())
    }

    /// What a type of this name means where `near` uses it: one of the same file, folder or crate goes before others.
    pub fn meant(&self, near: &Item, name: &str) -> Option<&Item> {
        let folder = |file: &str| file.trim_end_matches(".rs").to_owned();
        let all = || self.items.iter().filter(|item| item.name == name);
        all()
            .find(|item| item.file == near.file)
            .or_else(|| all().find(|item| item.file.starts_with(&folder(&near.file))))
            .or_else(|| all().find(|item| item.krate == near.krate))
            .or_else(|| all().next())
    }
}

impl Item {
    pub fn fields(&self) -> &[Field] {
        match &self.kind {
            Kind::Object(fields) | Kind::OneOf(fields) => fields,
            Kind::Words(_) => &[],
        }
    }

    pub fn words(&self) -> Option<&Words> {
        match &self.kind {
            Kind::Words(words) => Some(words),
            Kind::Object(_) | Kind::OneOf(_) => None,
        }
    }

    /// Whether it is just one of its keys.
    pub fn is_choice(&self) -> bool {
        matches!(self.kind, Kind::OneOf(_))
    }
}

fn walk(folder: &Path, files: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension() == Some("rs".as_ref())
            && path.file_stem() != Some("tests".as_ref())
        {
            files.push(path.display().to_string());
        }
    }
}

fn item_of(krate: &'static str, file: &str, item: &syn::Item, facts: &Facts) -> Option<Item> {
    let (name, attributes, kind) = match item {
        syn::Item::Struct(item) if reads(&item.attrs) => {
            let Fields::Named(fields) = &item.fields else { return None };
            let whole = serde_of(&item.attrs, "default").is_some();
            let fields = fields
                .named
                .iter()
                .filter_map(|field| field_of(&item.ident.to_string(), field, whole, facts));
            (&item.ident, &item.attrs, Kind::Object(fields.collect()))
        }
        syn::Item::Enum(item) if reads(&item.attrs) => {
            let renaming = serde_of(&item.attrs, "rename_all").unwrap_or_default();
            let variants = || {
                item.variants
                    .iter()
                    .map(|v| (renamed(&v.ident.to_string(), &renaming), docs(&v.attrs), &v.fields))
            };
            let kind = if item.variants.iter().all(|variant| variant.fields.is_empty()) {
                Kind::Words(Words(variants().map(|(word, docs, _)| (word, docs)).collect()))
            } else {
                let keys = variants().filter_map(|(name, docs, fields)| {
                    let shape = shape_of(&fields.iter().next()?.ty, "", facts);
                    Some(Field { name, docs, shape, default: None, required: false })
                });
                Kind::OneOf(keys.collect())
            };
            (&item.ident, &item.attrs, kind)
        }
        _ => return None,
    };
    Some(Item {
        krate,
        file: file.to_owned(),
        name: name.to_string(),
        docs: docs(attributes),
        kind,
    })
}

fn field_of(of: &str, field: &syn::Field, whole: bool, facts: &Facts) -> Option<Field> {
    if serde_of(&field.attrs, "skip").is_some() {
        return None;
    }
    let own = field.ident.as_ref()?.to_string();
    let name = serde_of(&field.attrs, "rename").unwrap_or_else(|| own.clone());
    let reader = serde_of(&field.attrs, "deserialize_with").unwrap_or_default();
    let shape = shape_of(&field.ty, &reader, facts);
    let given = serde_of(&field.attrs, "default");
    let optional = whole || given.is_some() || text(&field.ty).starts_with("Option");
    let set = facts.defaults.get(&(of.to_owned(), own));
    let default = match (set, given) {
        (Some(set), _) => facts.value(set),
        (None, Some(function)) if !function.is_empty() => facts.value(&function),
        (None, _) if !optional => None,
        (None, _) => match &shape {
            Shape::Switch if !text(&field.ty).starts_with("Option") => Some("false".to_owned()),
            Shape::Named(name) if !text(&field.ty).starts_with("Option") => {
                facts.words.get(name).cloned()
            }
            _ => None,
        },
    };
    // What stands for nothing in the code is a word in the file.
    let default = match shape {
        Shape::Time { never: true }
            if set.is_some_and(|set| set == "Duration :: ZERO" || set == "None") =>
        {
            Some("never".to_owned())
        }
        _ => default,
    };
    Some(Field { name, docs: docs(&field.attrs), shape, default, required: !optional })
}

fn shape_of(of: &Type, reader: &str, facts: &Facts) -> Shape {
    let Type::Path(path) = of else { return Shape::Text };
    let Some(last) = path.path.segments.last() else { return Shape::Text };
    let inner: Vec<&Type> = match &last.arguments {
        PathArguments::AngleBracketed(all) => all
            .args
            .iter()
            .filter_map(|argument| match argument {
                GenericArgument::Type(of) => Some(of),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    match (last.ident.to_string().as_str(), inner.as_slice()) {
        ("Option", [of]) => shape_of(of, reader, facts),
        ("Vec", [_]) if reader.ends_with("one_or_more") => Shape::TextOrList,
        ("Vec" | "BTreeSet", [of]) => Shape::List(Box::new(shape_of(of, "", facts))),
        ("BTreeMap", [_, of]) => Shape::Map(Box::new(shape_of(of, "", facts))),
        ("Duration", _) => Shape::Time { never: facts.may_be_never(reader) },
        ("bool", _) => Shape::Switch,
        ("u16" | "u32" | "u64" | "usize" | "NonZeroUsize" | "Timeline", _) => Shape::Number,
        ("PathBuf", _) => Shape::File,
        (name @ ("WriteGuard" | "ClientAuth"), _) => Shape::WordOrOff(name.to_owned()),
        ("SystemId", _) => Shape::Number,
        (
            "String" | "Secret" | "SecretString" | "NodeName" | "SlotName" | "PublicationName"
            | "Url" | "Target" | "SystemTime",
            _,
        ) => Shape::Text,
        (name, _) => Shape::Named(name.to_owned()),
    }
}

/// Whether the type derives `Deserialize`.
fn reads(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("derive") && text(attribute).contains("Deserialize")
    })
}

/// What serde is told by this name; empty where nothing is said but the name.
pub fn serde_of(attributes: &[Attribute], name: &str) -> Option<String> {
    let of_serde = attributes.iter().filter(|attribute| attribute.path().is_ident("serde"));
    let all = of_serde
        .filter_map(|a| a.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok());
    all.flatten().find(|meta| meta.path().is_ident(name)).map(|meta| match meta {
        Meta::NameValue(pair) => string(&pair.value).unwrap_or_default(),
        _ => String::new(),
    })
}

fn string(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

/// The first paragraph of its documentation, without what only programmers can follow.
fn docs(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => string(&pair.value),
        _ => None,
    });
    let first: Vec<String> =
        lines.map(|line| line.trim().to_owned()).take_while(|line| !line.is_empty()).collect();
    let mut text = first.join(" ");
    while let Some((before, after)) = text.split_once(" See [`") {
        let after = after.split_once("].").map_or("", |(_, after)| after).to_owned();
        text = format!("{before}{after}");
    }
    text.replace("[`", "`").replace("`]", "`")
}
