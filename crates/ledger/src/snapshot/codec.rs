//! Parts in bytes.

use std::collections::BTreeMap;

use super::Part;
use crate::{
    ChainHash, LogId, Offset, RequestId,
    codec::{Malformed, Reader, Writer},
    entry::{Attempt, Genesis},
    replica::{Durable, Settled},
    table::{Catalogue, Table},
    value::encode::{decode_row, encode_row},
};

pub(super) fn encode(part: &Part) -> Vec<u8> {
    let mut to = Writer::default();
    match part {
        Part::Begin(durable) => {
            to.byte(1);
            encode_durable(durable, &mut to);
        }
        Part::Rows { table, rows } => {
            to.byte(2);
            to.bytes(table.as_bytes());
            to.length(rows.len());
            rows.iter().for_each(|row| encode_row(row, &mut to));
        }
        Part::End => to.byte(3),
    }
    to.0
}

pub(super) fn decode(bytes: &[u8], format: u8) -> Result<Part, Malformed> {
    let mut from = Reader::new(bytes);
    let part = match from.byte()? {
        1 => Part::Begin(Box::new(decode_durable(&mut from, format)?)),
        2 => Part::Rows { table: from.text()?.to_owned(), rows: from.many(decode_row)? },
        3 => Part::End,
        _ => return Err(Malformed("a part is of no known kind")),
    };
    from.end().map(|()| part)
}

fn encode_durable(durable: &Durable, to: &mut Writer) {
    to.raw(&durable.genesis.log.0);
    to.number(durable.genesis.window);
    to.number(durable.genesis.keys);
    to.number(durable.applied.0);
    to.raw(&durable.hash.0);
    to.length(durable.catalogue.0.len());
    durable.catalogue.0.values().for_each(|table| table.encode_whole(to));
    to.length(durable.settled.len());
    for note in &durable.settled {
        to.number(note.at.0);
        to.raw(&note.hash.0);
        to.byte(u8::from(note.attempt.is_some()));
        if let Some(attempt) = note.attempt {
            to.raw(&attempt.request.0);
            to.number(u64::from(attempt.number));
        }
        to.bytes(note.outcome.to_string().as_bytes());
    }
}

fn decode_durable(from: &mut Reader<'_>, format: u8) -> Result<Durable, Malformed> {
    let log = LogId(from.array()?);
    let genesis = Genesis { log, window: from.number()?, keys: from.number()? };
    let (applied, hash) = (Offset(from.number()?), ChainHash(from.array()?));
    let tables = from.many(if format == 1 { Table::decode } else { Table::decode_whole })?;
    let tables = tables.into_iter().map(|table| (table.name.clone(), table));
    let catalogue = Catalogue(tables.collect::<BTreeMap<_, _>>());
    let settled = from.many(|from| {
        let (at, hash) = (Offset(from.number()?), ChainHash(from.array()?));
        let attempt = from.flag()?.then(|| -> Result<Attempt, Malformed> {
            let request = RequestId(from.array()?);
            let number = u32::try_from(from.number()?);
            Ok(Attempt { request, number: number.map_err(|_| Malformed("a number is too large"))? })
        });
        let attempt = attempt.transpose()?;
        let outcome = from.text()?.parse().map_err(|_| Malformed("an outcome is none"))?;
        Ok(Settled { at, hash, attempt, outcome })
    })?;
    Ok(Durable { genesis, applied, hash, catalogue, settled, fenced: None })
}
