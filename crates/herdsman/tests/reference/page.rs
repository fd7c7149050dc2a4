//! The page of all settings.

use std::fmt::Write;

use super::Section;
use super::source::{Field, Item, Shape, Sources};

const HEAD: &str = "\
# All settings

Every key of `herdsman.yml`, as the program itself reads it: this page is made from its source. What the sections are for is
told on the pages of each verb; where the file is looked for, and how a mistake is told, in [Configuration](configuration.md).

Times are written with their unit: `500ms`, `5s`, `2m`, `1h`, `30d`. Editors that know JSON Schema complete and check the file:

```console
$ herdsman check --schema >herdsman.schema.json
```

and, as the file's first line, `# yaml-language-server: $schema=herdsman.schema.json`.

";

pub fn whole(sources: &Sources, sections: &[(&str, Section)]) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("| key | value | |\n|---|---|---|\n");
    for (name, section) in sections {
        match section {
            Section::Other { shown, what, .. } => {
                line(&mut page, &format!("| `{name}` | {shown} | {what} |"));
            }
            Section::Type { .. } => {
                line(&mut page, &format!("| `{name}` | [section](#{name}) | |"));
            }
            Section::List { .. } => {
                line(&mut page, &format!("| `{name}` | [list of sections](#{name}) | |"));
            }
        }
    }
    for (name, section) in sections {
        if let Section::Type { krate, name: of } | Section::List { krate, name: of } = section {
            let item =
                sources.named(krate, of).unwrap_or_else(|| panic!("no type {of} in {krate}"));
            part(&mut page, sources, item, name, 2);
        }
    }
    page
}

/// A table of one type's keys, and those of the types below it.
fn part(page: &mut String, sources: &Sources, item: &Item, path: &str, level: usize) {
    line(page, &format!("\n{} `{path}`\n", "#".repeat(level.min(4))));
    if !item.docs.is_empty() {
        line(page, &format!("{}\n", item.docs));
    }
    if item.is_choice() {
        line(page, "One of these keys:\n");
    }
    if item.fields().is_empty() {
        return;
    }
    line(page, "| key | value | |\n|---|---|---|");
    for field in item.fields() {
        let value = shown(sources, item, &field.shape);
        line(page, &format!("| `{}` | {value} | {} |", field.name, what(sources, item, field)));
    }
    for field in item.fields() {
        if let Some((below, name)) = below(sources, item, &field.shape) {
            let name = name.map_or_else(String::new, |name| format!(".{name}"));
            part(page, sources, below, &format!("{path}.{}{name}", field.name), level + 1);
        }
    }
}

/// The type whose keys are below this one, and what stands for a name between them.
fn below<'s>(
    sources: &'s Sources,
    near: &Item,
    shape: &Shape,
) -> Option<(&'s Item, Option<&'static str>)> {
    match shape {
        Shape::Named(name) => {
            sources.meant(near, name).filter(|item| item.words().is_none()).map(|item| (item, None))
        }
        Shape::Map(of) => below(sources, near, of).map(|(item, _)| (item, Some("NAME"))),
        Shape::List(of) => below(sources, near, of).map(|(item, _)| (item, Some("…"))),
        _ => None,
    }
}

fn shown(sources: &Sources, near: &Item, shape: &Shape) -> String {
    match shape {
        Shape::Text => "text".to_owned(),
        Shape::File => "file".to_owned(),
        Shape::Time { never: false } => "time".to_owned(),
        Shape::Time { never: true } => "time or `never`".to_owned(),
        Shape::Number => "number".to_owned(),
        Shape::Switch => "`true` \\| `false`".to_owned(),
        Shape::TextOrList => "text, or a list of it".to_owned(),
        Shape::List(of) => format!("list of {}", shown(sources, near, of)),
        Shape::Map(of) => format!("name → {}", shown(sources, near, of)),
        Shape::WordOrOff(name) | Shape::Named(name) => match sources.meant(near, name) {
            Some(item) => match item.words() {
                Some(words) => {
                    let words: Vec<String> =
                        words.0.iter().map(|(word, _)| format!("`{word}`")).collect();
                    words.join(" \\| ")
                }
                None => "see below".to_owned(),
            },
            None => panic!("{} uses a type {name} that nothing is known of", near.name),
        },
    }
}

fn what(sources: &Sources, near: &Item, field: &Field) -> String {
    let mut text = sources.docs_of(near, field);
    if let Shape::WordOrOff(name) | Shape::Named(name) = &field.shape
        && let Some(words) = sources.meant(near, name).and_then(Item::words)
    {
        for (word, docs) in &words.0 {
            let docs = docs.trim_end_matches(" Default.");
            let _infallible = write!(text, " `{word}`: {docs}");
        }
    }
    if field.required {
        text.push_str(" Has to be there.");
    } else if let (Some(default), false) = (&field.default, text.to_lowercase().contains("default"))
    {
        let _infallible = write!(text, " Default `{default}`.");
    }
    text.replace('|', "\\|")
}

fn line(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}
