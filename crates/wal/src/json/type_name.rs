//! Types by the names SQL has for them, as `format_type` tells them.

use crate::json::bytes;
use crate::types::{DataType, TypeKind};

/// Writes the name with its modifier, without quotes around it.
pub(super) fn write(data_type: &DataType, modifier: i32, out: &mut Vec<u8>) {
    if let TypeKind::Array(element) = &data_type.kind {
        write(element, modifier, out);
        return out.extend_from_slice(b"[]");
    }
    if &*data_type.schema != "pg_catalog" {
        return other(data_type, out);
    }
    // Character types count the four bytes of their own length in the modifier.
    let length = u64::try_from(modifier).ok().and_then(|modifier| modifier.checked_sub(4));
    let plain = u64::try_from(modifier).ok();
    let name: &[u8] = match &*data_type.name {
        "bool" => b"boolean",
        "int2" => b"smallint",
        "int4" => b"integer",
        "int8" => b"bigint",
        "float4" => b"real",
        "float8" => b"double precision",
        "varchar" => return with(b"character varying", length, b"", out),
        "bpchar" => return with(b"character", length, b"", out),
        "bit" => return with(b"bit", plain, b"", out),
        "varbit" => return with(b"bit varying", plain, b"", out),
        "time" => return with(b"time", plain, b" without time zone", out),
        "timetz" => return with(b"time", plain, b" with time zone", out),
        "timestamp" => return with(b"timestamp", plain, b" without time zone", out),
        "timestamptz" => return with(b"timestamp", plain, b" with time zone", out),
        "numeric" => return numeric(length, out),
        "char" => b"\\\"char\\\"",
        name => return out.extend_from_slice(name.as_bytes()),
    };
    out.extend_from_slice(name);
}

fn with(name: &[u8], number: Option<u64>, behind: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    if let Some(number) = number {
        out.push(b'(');
        bytes::number(number, out);
        out.push(b')');
    }
    out.extend_from_slice(behind);
}

/// Precision in the upper half, scale as eleven bits with a sign in the lower.
fn numeric(modifier: Option<u64>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"numeric");
    let Some(modifier) = modifier else { return };
    let scale = modifier & 0x7FF;
    out.push(b'(');
    bytes::number(modifier >> 16 & 0xFFFF, out);
    out.push(b',');
    if scale >= 0x400 {
        out.push(b'-');
        bytes::number(0x800 - scale, out);
    } else {
        bytes::number(scale, out);
    }
    out.push(b')');
}

/// A type of the database's own: with its schema unless that is `public`.
fn other(data_type: &DataType, out: &mut Vec<u8>) {
    if !data_type.schema.is_empty() && &*data_type.schema != "public" {
        bytes::escaped(data_type.schema.as_bytes(), out);
        out.push(b'.');
    }
    bytes::escaped(data_type.name.as_bytes(), out);
}
