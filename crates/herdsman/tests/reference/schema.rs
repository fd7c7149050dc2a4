//! The JSON Schema of the configuration, for editors.

use serde_json::{Map, Value, json};

use super::Section;
use super::source::{Field, Item, Shape, Sources};

pub fn whole(sources: &Sources, sections: &[(&str, Section)]) -> Value {
    let properties: Map<String, Value> = sections
        .iter()
        .map(|(name, section)| {
            let of = |krate: &str, name: &str| {
                let item = sources
                    .named(krate, name)
                    .unwrap_or_else(|| panic!("no type {name} in {krate}"));
                object(sources, item, &item.docs)
            };
            let schema = match section {
                // A section without anything below it is as one that is not there.
                Section::Type { krate, name } => or_nothing(of(krate, name)),
                Section::List { krate, name } => {
                    json!({ "type": ["array", "null"], "items": of(krate, name) })
                }
                Section::Other { what, schema, .. } => described(schema.clone(), what),
            };
            ((*name).to_owned(), schema)
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of Herdsman",
        "type": "object",
        // A ledger may be of files alone.
        "if": { "not": { "required": ["ledger"] } },
        "then": { "required": ["hosts"] },
        "additionalProperties": false,
        "properties": properties,
    })
}

fn object(sources: &Sources, item: &Item, docs: &str) -> Value {
    let fields = item.fields();
    let properties: Map<String, Value> =
        fields.iter().map(|field| (field.name.clone(), of_field(sources, item, field))).collect();
    let mut schema =
        json!({ "type": "object", "additionalProperties": false, "properties": properties });
    let required: Vec<&str> =
        fields.iter().filter(|f| f.required).map(|f| f.name.as_str()).collect();
    if item.is_choice() {
        schema["minProperties"] = json!(1);
        schema["maxProperties"] = json!(1);
    } else if !required.is_empty() {
        schema["required"] = json!(required);
    }
    described(schema, docs)
}

fn of_field(sources: &Sources, near: &Item, field: &Field) -> Value {
    let mut schema =
        described(of_shape(sources, near, &field.shape), &sources.docs_of(near, field));
    if let Some(default) = &field.default {
        schema["default"] = match field.shape {
            Shape::Number => default.parse::<u64>().map_or(json!(default), |number| json!(number)),
            Shape::Switch => json!(default == "true"),
            Shape::List(_) => {
                json!(default.trim_matches(['[', ']']).split(", ").collect::<Vec<_>>())
            }
            _ => json!(default),
        };
    }
    schema
}

fn of_shape(sources: &Sources, near: &Item, shape: &Shape) -> Value {
    match shape {
        Shape::Text => json!({ "type": ["string", "number", "null"] }),
        Shape::File => json!({ "type": ["string", "null"] }),
        Shape::Time { never: false } => json!({ "type": "string", "pattern": "^[0-9]" }),
        Shape::Time { never: true } => json!({ "type": "string", "pattern": "^([0-9]|never$)" }),
        Shape::Number => json!({ "type": ["integer", "null"], "minimum": 0 }),
        Shape::Switch => json!({ "type": "boolean" }),
        Shape::TextOrList => json!({ "type": ["string", "array"], "items": { "type": "string" } }),
        Shape::List(of) => json!({ "type": "array", "items": of_shape(sources, near, of) }),
        Shape::Map(of) => {
            json!({ "type": ["object", "null"], "additionalProperties": of_shape(sources, near, of) })
        }
        Shape::WordOrOff(name) => {
            let mut all = vec![json!(false)];
            all.extend(words(sources, near, name));
            json!({ "enum": all })
        }
        Shape::Named(name) => match sources.meant(near, name) {
            Some(item) if item.words().is_some() => json!({ "enum": words(sources, near, name) }),
            Some(item) if item.is_choice() => object(sources, item, &item.docs),
            Some(item) => or_nothing(object(sources, item, &item.docs)),
            None => panic!("{} uses a type {name} that nothing is known of", near.name),
        },
    }
}

fn words(sources: &Sources, near: &Item, name: &str) -> Vec<Value> {
    let words = sources.meant(near, name).and_then(Item::words);
    words.into_iter().flat_map(|words| &words.0).map(|(word, _)| json!(word)).collect()
}

fn described(mut schema: Value, docs: &str) -> Value {
    schema["description"] = json!(docs);
    schema
}

fn or_nothing(mut schema: Value) -> Value {
    schema["type"] = json!(["object", "null"]);
    schema
}

/// Where a value does not fit, as far as our schemas go: types, words, and keys that are not known.
pub fn misfits(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    if let Some(choices) = schema["anyOf"].as_array() {
        let fits = choices.iter().any(|choice| misfits(choice, value, path).is_empty());
        return if fits { Vec::new() } else { vec![path.to_owned()] };
    }
    if let Some(words) = schema["enum"].as_array() {
        return if words.contains(value) { Vec::new() } else { vec![path.to_owned()] };
    }
    let is_a = |name: &Value| match name.as_str().unwrap_or_default() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        _ => value.is_null(),
    };
    let known = match &schema["type"] {
        Value::Array(all) => all.iter().any(is_a),
        one => is_a(one),
    };
    if !known {
        return vec![path.to_owned()];
    }
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(entries) => entries
            .iter()
            .flat_map(|(key, value)| {
                match (&schema["properties"][key], &schema["additionalProperties"]) {
                    (Value::Null, Value::Bool(false)) => vec![below(key)],
                    (Value::Null, others) => misfits(others, value, &below(key)),
                    (known, _) => misfits(known, value, &below(key)),
                }
            })
            .collect(),
        Value::Array(all) => {
            all.iter().flat_map(|one| misfits(&schema["items"], one, path)).collect()
        }
        _ => Vec::new(),
    }
}
