//! What constants, functions and `Default` in the sources say of values.

use std::collections::BTreeMap;

use quote::ToTokens;
use syn::{Expr, Type};

use super::source::serde_of;

/// What is known of a file, or of all files of a crate, beside its types.
#[derive(Clone, Default)]
pub struct Facts {
    /// Constants and functions without parameters, as text.
    pub values: BTreeMap<String, String>,
    /// Functions that read a value, as text.
    readers: BTreeMap<String, String>,
    /// What `Default` sets, by type and field.
    pub defaults: BTreeMap<(String, String), String>,
    /// The words that are the default, by type.
    pub words: BTreeMap<String, String>,
}

impl Facts {
    /// These, and those of the crate where these say nothing. A constant of another file is another one.
    pub fn within(&self, of_crate: &Self) -> Self {
        let mut all = self.clone();
        let more = |own: &mut BTreeMap<String, String>, others: &BTreeMap<String, String>| {
            for (name, text) in others {
                own.entry(name.clone()).or_insert_with(|| text.clone());
            }
        };
        more(&mut all.readers, &of_crate.readers);
        more(&mut all.words, &of_crate.words);
        all
    }

    pub fn learn(&mut self, item: &syn::Item) {
        match item {
            syn::Item::Const(item) => {
                self.values.insert(item.ident.to_string(), text(&item.expr));
            }
            syn::Item::Fn(item) if item.sig.inputs.is_empty() => {
                let body = text(&item.block);
                let body = body.trim_start_matches('{').trim_end_matches('}').trim().to_owned();
                self.values.insert(item.sig.ident.to_string(), body);
            }
            syn::Item::Fn(item) => {
                self.readers.insert(item.sig.ident.to_string(), text(&item.block));
            }
            syn::Item::Impl(item) => self.learn_default(item),
            syn::Item::Enum(item) => {
                let default = |variant: &&syn::Variant| {
                    variant.attrs.iter().any(|a| a.path().is_ident("default"))
                };
                if let Some(variant) = item.variants.iter().find(default) {
                    let renaming = serde_of(&item.attrs, "rename_all").unwrap_or_default();
                    self.words.insert(
                        item.ident.to_string(),
                        renamed(&variant.ident.to_string(), &renaming),
                    );
                }
            }
            _ => {}
        }
    }

    fn learn_default(&mut self, item: &syn::ItemImpl) {
        let is_default = item.trait_.as_ref().is_some_and(|(_, path, _)| path.is_ident("Default"));
        let (true, Type::Path(of)) = (is_default, &*item.self_ty) else { return };
        let Some(name) = of.path.get_ident() else { return };
        let functions = item.items.iter().filter_map(|item| match item {
            syn::ImplItem::Fn(function) => function.block.stmts.last(),
            _ => None,
        });
        for statement in functions {
            let syn::Stmt::Expr(Expr::Struct(set), None) = statement else { continue };
            for field in &set.fields {
                if let syn::Member::Named(member) = &field.member {
                    self.defaults.insert((name.to_string(), member.to_string()), text(&field.expr));
                }
            }
        }
    }

    /// What an expression comes to, as the file spells it.
    pub fn value(&self, expression: &str) -> Option<String> {
        let e = expression.trim();
        let within = |begin: &str| {
            e.strip_prefix(begin)
                .and_then(|rest| rest.trim_start().strip_prefix('('))
                .and_then(|rest| rest.strip_suffix(')'))
        };
        if let Some(inner) = within("Some") {
            return self.value(inner);
        }
        for (begin, unit) in [("Duration :: from_secs", "s"), ("Duration :: from_millis", "ms")] {
            if let Some(number) = within(begin).and_then(|inner| self.number(inner)) {
                return Some(time(number, unit));
            }
        }
        if e == "Duration :: ZERO" {
            return Some("0s".to_owned());
        }
        if let Some(inner) = within("PathBuf :: from").or_else(|| e.strip_suffix(". to_owned ()")) {
            return self.value(inner);
        }
        if let Some(list) = e.strip_prefix("vec ! [").and_then(|rest| rest.strip_suffix(']')) {
            let parts: Option<Vec<String>> =
                list.split(" , ").map(|part| self.value(part)).collect();
            return Some(format!("[{}]", parts?.join(", ")));
        }
        if let Some(string) = e.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            return (!string.is_empty() && !string.contains('\\')).then(|| string.to_owned());
        }
        if ["true", "false"].contains(&e) {
            return Some(e.to_owned());
        }
        if let Some(number) = self.number(e) {
            return Some(number.to_string());
        }
        if let Some(of) = e.strip_suffix(":: default ()") {
            return self.words.get(of.trim()).cloned();
        }
        match e.split_once(" :: ") {
            Some((of, word))
                if of.chars().next()?.is_uppercase() && word.chars().all(char::is_alphanumeric) =>
            {
                Some(renamed(word, "snake_case"))
            }
            Some(_) => None,
            None => self.value(self.values.get(e.trim_end_matches("()").trim())?),
        }
    }

    fn number(&self, expression: &str) -> Option<u64> {
        let e = expression.trim();
        if let Some((left, right)) = e.split_once(" << ") {
            return Some(self.number(left)? << self.number(right)?);
        }
        if let Some((left, right)) = e.rsplit_once(" * ") {
            return Some(self.number(left)? * self.number(right)?);
        }
        e.replace('_', "").parse().ok().or_else(|| self.number(self.values.get(e)?))
    }

    pub fn may_be_never(&self, reader: &str) -> bool {
        let name = reader.rsplit("::").next().unwrap_or(reader);
        name.contains("never") || self.readers.get(name).is_some_and(|body| body.contains("never"))
    }
}

/// A time with the largest unit that is whole.
fn time(number: u64, unit: &str) -> String {
    match (number, unit) {
        (n, "s") if n > 0 && n % 86400 == 0 => format!("{}d", n / 86400),
        (n, "s") if n > 0 && n % 3600 == 0 => format!("{}h", n / 3600),
        (n, "s") if n > 60 && n % 60 == 0 => format!("{}m", n / 60),
        (n, "ms") if n > 0 && n % 1000 == 0 => format!("{}s", n / 1000),
        _ => format!("{number}{unit}"),
    }
}

/// As the source has it, with blanks between all words.
pub fn text(of: &impl ToTokens) -> String {
    of.to_token_stream().to_string()
}

/// A variant as the file spells it.
pub fn renamed(name: &str, how: &str) -> String {
    let separator = match how {
        "kebab-case" => "-",
        "lowercase" => "",
        _ => "_",
    };
    let mut word = String::new();
    for (at, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && at > 0 {
            word.push_str(separator);
        }
        word.extend(letter.to_lowercase());
    }
    word
}
