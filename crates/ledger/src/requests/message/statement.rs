//! A statement of a request: its text, or an object with its text and values.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Number, Value as Json};

use crate::{Value, identity::unhex, node::Sql};

/// From here on, a number with a point may not be the one that was written: 2^53.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

/// A text and the values of its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::requests) struct Statement {
    text: String,
    values: Vec<Value>,
}

impl Statement {
    pub(in crate::requests) fn new(text: String, params: Option<Params>) -> Self {
        Self { text, values: params.map(|it| it.0).unwrap_or_default() }
    }

    pub(in crate::requests) fn sql(&self) -> Sql<'_> {
        Sql { text: &self.text, values: &self.values }
    }
}

/// The values of a statement, as JSON has them.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<Json>")]
pub(in crate::requests) struct Params(Vec<Value>);

impl TryFrom<Vec<Json>> for Params {
    type Error = String;

    fn try_from(all: Vec<Json>) -> Result<Self, String> {
        let value = |(at, it)| value(it).map_err(|why| format!("params[{at}]: {why}"));
        all.into_iter().enumerate().map(value).collect::<Result<_, _>>().map(Self)
    }
}

fn value(json: Json) -> Result<Value, String> {
    let expected = || {
        "expected null, a boolean, a number, a text, or bytes as {\"bytea\": \"00ff\"}".to_owned()
    };
    match json {
        Json::Null => Ok(Value::Null),
        Json::Bool(value) => Ok(Value::Bool(value)),
        Json::Number(number) => self::number(&number),
        Json::String(text) => Value::text(text).map_err(|unfit| unfit.to_string()),
        Json::Object(all) => {
            let digits = all.get("bytea").and_then(Json::as_str).filter(|_| all.len() == 1);
            digits.and_then(unhex).map(Value::Bytes).ok_or_else(expected)
        }
        Json::Array(_) => Err(expected()),
    }
}

fn number(number: &Number) -> Result<Value, String> {
    if let Some(whole) = number.as_i64() {
        return Ok(Value::Int(whole));
    }
    match number.as_f64().filter(|it| it.abs() < EXACT_BELOW) {
        Some(float) => Value::float(float).map_err(|unfit| unfit.to_string()),
        None => Err(format!("{number} is beyond what a number holds exactly; write it as a text")),
    }
}

impl<'de> Deserialize<'de> for Statement {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Form)
    }
}

/// Either form; by hand, so that what is wrong within an object is told as such.
struct Form;

impl<'de> Visitor<'de> for Form {
    type Value = Statement;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a statement: a text, or an object with `sql` and `params`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Statement, E> {
        Ok(Statement::new(text.to_owned(), None))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Statement, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            sql: String,
            params: Option<Params>,
        }
        let Whole { sql, params } = Whole::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Statement::new(sql, params))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Statement, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_statement_is_a_text_or_has_values_of_jsons_types() {
        let plain = read(r#""SELECT 1""#).unwrap();
        assert_eq!(plain.sql(), Sql::from("SELECT 1"));
        let all = r#"{"sql": "A", "params": [null, true, -7, 9223372036854775807, 12.5, -0.0, "O'Hara", {"bytea": "00Ff"}]}"#;
        let expected = [
            Value::Null,
            Value::Bool(true),
            Value::Int(-7),
            Value::Int(i64::MAX),
            Value::float(12.5).unwrap(),
            Value::float(0.0).unwrap(),
            Value::Text("O'Hara".to_owned()),
            Value::Bytes(vec![0, 255]),
        ];
        assert_eq!(read(all).unwrap().sql(), Sql { text: "A", values: &expected });
        for none in
            [r#"{"sql": "A"}"#, r#"{"sql": "A", "params": null}"#, r#"{"sql": "A", "params": []}"#]
        {
            assert_eq!(read(none).unwrap().sql(), Sql::from("A"), "{none}");
        }
    }

    #[test]
    fn what_is_no_value_is_told_with_its_place() {
        for (json, expected) in [
            ("7", "a statement: a text, or an object"),
            (r#"{"params": []}"#, "missing field `sql`"),
            (r#"{"sql": "A", "values": []}"#, "unknown field `values`"),
            (r#"{"sql": "A", "params": {}}"#, "expected a sequence"),
            (r#"{"sql": "A", "params": [1, []]}"#, "params[1]: expected null"),
            (r#"{"sql": "A", "params": [{"bytea": "0"}]}"#, "params[0]: expected null"),
            (r#"{"sql": "A", "params": [{"bytea": "00", "x": 1}]}"#, "params[0]: expected null"),
            (r#"{"sql": "A", "params": ["a\u0000"]}"#, "NUL"),
            (r#"{"sql": "A", "params": [9223372036854775808]}"#, "write it as a text"),
            (r#"{"sql": "A", "params": [12345678901234567890.5]}"#, "write it as a text"),
        ] {
            let told = read(json).unwrap_err();
            assert!(told.contains(expected), "{json}: {told}");
        }
    }
}
