//! Whoever comes: what it wants, and whether it gets it.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::Socket;
use super::enter::{Arrival, Guest};
use super::first::{self, Failed, Opened, Wish};
use super::prove::{Talk, close};
use crate::auth;
use crate::cancel::cancel_client;
use crate::config::GatewayConfig;
use crate::shared::Shared;
use crate::wire::Problem;
use crate::wire::error::code;

/// Sees to whoever is at the other end of a socket until it has logged in. `None`: it has not, and has been told why, or it
/// wanted something else, which is done.
pub(super) async fn admit(socket: Socket, shared: &Arc<Shared>, worker: usize) -> Option<Guest> {
    let config = shared.config.load_full();
    let Some(place) = shared.reception.socket(config.max_clients) else {
        tracing::warn!("closed a new connection unread: too many are open");
        return None;
    };
    let deadline = Instant::now() + config.login_timeout;
    let opened = open(socket, shared, &config, deadline).await?;
    let Opened { stream, peer, wish, end_point, address, certificate } = opened;
    match wish {
        Wish::Cancel { process, secret } => {
            cancel_client(shared, process, &secret).await;
            // Only now: who has asked takes the closing for the answer.
            drop(stream);
            None
        }
        Wish::Login(startup) => {
            let binding = end_point.map(|hash| hash.to_vec());
            let facts = auth::Peer { local: peer.local, binding, certificate };
            let arrival =
                Arrival { shared, config: &config, peer, facts, deadline, worker, place, address };
            arrival.enter(Talk::new(stream), &startup).await
        }
    }
}

/// Reads until the client has said what it wants.
async fn open(
    socket: Socket,
    shared: &Shared,
    config: &GatewayConfig,
    deadline: Instant,
) -> Option<Opened> {
    let rules = first::Rules {
        proxy_protocol: config.proxy_protocol,
        identity: shared.reception.identity(),
        tls_required: config.tls.as_ref().is_some_and(|tls| tls.required),
    };
    let most = config.max_address_clients;
    let count = |address| {
        shared.reception.address(address, most).ok_or_else(|| {
            let detail = format!("`gateway.max_address_clients` is {most}, and so many are here.");
            Problem::new(code::TOO_MANY, "too many clients of this address").detail(detail)
        })
    };
    match timeout_at(deadline, first::open(socket, &rules, count)).await {
        Ok(Ok(opened)) => Some(opened),
        Ok(Err(Failed::Gone(error))) => {
            tracing::debug!(%error, "a connection ended before it said what it wants");
            None
        }
        Ok(Err(Failed::Stranger(stream, malformed))) => {
            tracing::debug!(%malformed, "closed a connection that does not speak PostgreSQL's protocol");
            close(*stream, &[]).await;
            None
        }
        Ok(Err(Failed::Refused(stream, problem))) => {
            tracing::debug!(problem = %problem.message, "refused a connection");
            Talk::new(*stream).farewell(&problem).await;
            None
        }
        Ok(Err(Failed::Old(stream, problem))) => {
            // Errors of protocol 2 are a letter and a line.
            let last = [b"EFATAL:  ", problem.message.as_bytes(), b"\n\0"].concat();
            close(*stream, &last).await;
            None
        }
        Err(_) => {
            tracing::debug!("a connection did not say in time what it wants");
            None
        }
    }
}
