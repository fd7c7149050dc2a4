//! JSON in one way of writing it, which survives a stay in PostgreSQL's `jsonb`.

use serde_json::{Map, Number, Value};

use super::Unfit;

/// 2^64, below which whole numbers are written without an exponent: they are read back as whole numbers.
const WHOLE_BELOW: f64 = 18_446_744_073_709_551_616.0;

pub(super) fn canonical(text: &str) -> Result<String, Unfit> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| Unfit::new(format!("not JSON: {error}")))?;
    let mut out = String::new();
    write(&value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut String) -> Result<(), Unfit> {
    match value {
        Value::Null | Value::Bool(_) => out.push_str(&value.to_string()),
        Value::Number(number) => out.push_str(&whole(number)),
        Value::String(text) => string(text, out)?,
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out)?;
            }
            out.push(']');
        }
        Value::Object(members) => object(members, out)?,
    }
    Ok(())
}

/// In the order of the names' bytes.
fn object(members: &Map<String, Value>, out: &mut String) -> Result<(), Unfit> {
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| name.as_bytes());
    out.push('{');
    for (i, (name, value)) in sorted.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        string(name, out)?;
        out.push(':');
        write(value, out)?;
    }
    out.push('}');
    Ok(())
}

fn string(text: &str, out: &mut String) -> Result<(), Unfit> {
    if text.contains('\0') {
        return Err(Unfit::new("JSON with a NUL character is not what every engine can hold"));
    }
    out.push_str(&Value::from(text).to_string());
    Ok(())
}

/// `1.0`, `1e0` and `1` are one number, and `jsonb` writes an exponent out.
fn whole(number: &Number) -> String {
    if number.is_i64() || number.is_u64() {
        return number.to_string();
    }
    match number.as_f64() {
        Some(0.0) => "0".to_owned(),
        Some(float) if float.fract() == 0.0 && float.abs() < WHOLE_BELOW => format!("{float:.0}"),
        _ => number.to_string(),
    }
}
