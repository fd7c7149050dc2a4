//! Spans out of what a collector is sent: of protobuf, only what they are made of.

use std::collections::BTreeMap;

/// What is said of something, each value as text.
pub(super) type Attributes = BTreeMap<String, String>;

/// A span of a service.
#[derive(Clone, Debug)]
pub(super) struct Span {
    /// The attributes of the program that it is of.
    pub(super) resource: Attributes,
    pub(super) id: Vec<u8>,
    pub(super) parent: Vec<u8>,
    pub(super) name: String,
    pub(super) attributes: Attributes,
}

/// A field's value: a number, or bytes.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, with their numbers.
fn fields(mut rest: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest);
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut rest)),
            1 => Value::Bytes(take(&mut rest, 8)),
            2 => {
                let length = varint(&mut rest);
                Value::Bytes(take(&mut rest, usize::try_from(length).unwrap()))
            }
            5 => Value::Bytes(take(&mut rest, 4)),
            other => panic!("{other} is no kind of a field"),
        };
        found.push((tag >> 3, value));
    }
    found
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, after) = rest.split_at(length);
    *rest = after;
    taken
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

/// The messages in a field.
fn messages(message: &[u8], field: u64) -> Vec<&[u8]> {
    let wanted = |(number, value)| match value {
        Value::Bytes(bytes) if number == field => Some(bytes),
        _ => None,
    };
    fields(message).into_iter().filter_map(wanted).collect()
}

fn text(message: &[u8], field: u64) -> String {
    let found = messages(message, field).into_iter().next().unwrap_or_default();
    String::from_utf8(found.to_vec()).unwrap()
}

fn attributes(message: &[u8], field: u64) -> Attributes {
    let pair = |pair: &[u8]| {
        let value = messages(pair, 2).into_iter().next().unwrap_or_default();
        let shown = fields(value).into_iter().next().map(|(_, value)| match value {
            Value::Number(number) => number.to_string(),
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        });
        (text(pair, 1), shown.unwrap_or_default())
    };
    messages(message, field).into_iter().map(pair).collect()
}

/// The spans of one request (`ExportTraceServiceRequest`).
pub(super) fn of_request(request: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_program in messages(request, 1) {
        let resource = messages(of_program, 1).into_iter().next().unwrap_or_default();
        let resource = attributes(resource, 1);
        for of_scope in messages(of_program, 2) {
            spans.extend(messages(of_scope, 2).into_iter().map(|span| Span {
                resource: resource.clone(),
                id: messages(span, 2).concat(),
                parent: messages(span, 4).concat(),
                name: text(span, 5),
                attributes: attributes(span, 9),
            }));
        }
    }
    spans
}
