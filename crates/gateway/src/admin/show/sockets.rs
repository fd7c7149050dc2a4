//! `SHOW CLIENTS`, `SHOW SERVERS`, `SHOW SOCKETS`.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::{header, time};
use crate::admin::reply::{Cell, Column, Row, Table};
use crate::admin::view::{ClientView, ServerView, View};
use crate::client::State;

pub(super) const SOCKETS: &[Column] = header![
    t "type", t "user", t "database", t "replication", t "state", t "addr", i "port", t "local_addr", i "local_port",
    t "connect_time", t "request_time", i "wait", i "wait_us", i "close_needed", t "ptr", t "link", i "remote_pid", t "tls",
    t "application_name", i "prepared_statements", i "id"
];

pub(super) fn clients(view: View) -> Table {
    let now = (view.now, SystemTime::now());
    Table::new(SOCKETS, view.clients.into_iter().map(move |client| client_row(&client, now)))
}

pub(super) fn servers(view: View) -> Table {
    Table::new(SOCKETS, view.servers.into_iter().map(|server| server_row(&server)))
}

/// `now`: the coarse clock, and the time of day.
fn client_row(ClientView(card): &ClientView, now: (u64, SystemTime)) -> Row {
    let (state, since) = card.state();
    let lasts = Duration::from_millis(now.0.saturating_sub(since));
    let waits = if state == State::Waiting { lasts } else { Duration::ZERO };
    let state = match state {
        State::Login => "login",
        State::Idle => "idle",
        State::Waiting => "waiting",
        State::Active | State::InTransaction => "active",
    };
    let application = card.application.lock().map(|name| Cell::from(&*name));
    let (seconds, micros) = seconds_and_micros(waits);
    vec![
        "C".into(),
        (&card.pools.user).into(),
        (&card.pools.database).into(),
        "none".into(),
        state.into(),
        card.peer.map_or("unix".into(), |peer| peer.ip().to_string().into()),
        card.peer.map_or(Cell::Int(0), |peer| peer.port().into()),
        Cell::Null,
        Cell::Null,
        time(card.since),
        time(now.1.checked_sub(lasts).map_or(card.since, |at| at.max(card.since))),
        seconds,
        micros,
        Cell::Int(0),
        client_name(card.id).into(),
        card.cancel.server().map_or("".into(), |server| server_name(server).into()),
        Cell::Int(0),
        if card.tls { "TLS".into() } else { "".into() },
        application.unwrap_or(Cell::Null),
        card.prepared.load(Ordering::Relaxed).into(),
        card.id.into(),
    ]
}

fn server_row(server: &ServerView) -> Row {
    vec![
        "S".into(),
        (&server.user).into(),
        (&server.database).into(),
        "none".into(),
        server.state.into(),
        (&server.address).into(),
        server.port.into(),
        Cell::Null,
        Cell::Null,
        server.since.map(time).into(),
        Cell::Null,
        Cell::Int(0),
        Cell::Int(0),
        server.close_needed.into(),
        server_name(server.id).into(),
        server.client.map_or("".into(), |client| client_name(client).into()),
        server.process.map_or(Cell::Int(0), |process| Cell::Int(process.into())),
        Cell::Null,
        (&server.node).into(),
        Cell::Int(0),
        server.id.into(),
    ]
}

/// What stands in `ptr` and `link`: PgBouncer has addresses there, and only says that they are equal for what belongs
/// together.
fn client_name(id: u64) -> String {
    format!("c{id}")
}

fn server_name(id: u64) -> String {
    format!("s{id}")
}

/// A wait as PgBouncer shows it: whole seconds, and the microseconds beyond.
pub(super) fn seconds_and_micros(wait: Duration) -> (Cell, Cell) {
    (wait.as_secs().into(), u64::from(wait.subsec_micros()).into())
}
