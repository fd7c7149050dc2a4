//! Messages after the login, of clients and of servers: any bytes are read or refused, and what is read can be written
//! again.
#![no_main]

use herdsman_gateway::wire::backend::{self, Status};
use herdsman_gateway::wire::{self, HEADER, frontend};
use libfuzzer_sys::fuzz_target;

fn walk(tag: u8, body: &[u8]) {
    if let Ok(parse) = frontend::parse(body) {
        let mut again = Vec::new();
        frontend::put_parse(&mut again, parse.name, parse.query, parse.types);
        assert_eq!(again.get(HEADER..), Some(body));
    }
    if let Ok(bind) = frontend::bind(body) {
        assert_eq!(bind.portal.len() + bind.statement.len() + bind.rest.len() + 2, body.len());
    }
    let _ = frontend::named(body);
    let _ = frontend::query(body);
    let _ = frontend::execute(body);
    let _ = backend::parameter(body);
    let _ = Status::read(body);
    let _ = backend::field(body, tag);
}

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok(Some(header)) = wire::header(rest) {
        assert!(header.len >= HEADER);
        let (message, behind) = rest.split_at(header.len.min(rest.len()));
        walk(header.tag, message.get(HEADER..).unwrap_or_default());
        rest = behind;
    }
    walk(0, rest);
});
