//! One connection through the proxy.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::Instant,
};

use super::{Fault, Order, connect};

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;
/// Chunks on the way in one direction: 1 MiB, so a delayed direction still carries 1 MiB per delay.
const CHUNKS_UNDERWAY: usize = 64;
/// Bytes kept of a client that came while the proxy stalls: more than any greeting.
const MAX_PENDING: usize = 64 * 1024;

/// Why a connection ends.
enum End {
    /// Both directions are through, or one failed in an orderly way.
    Closed,
    /// The peer reset it, or the fault demands it.
    Reset,
}

#[derive(Clone, Copy)]
enum Direction {
    ToServer,
    ToClient,
}

/// Carries one client's connection until either side ends it or a fault does.
pub(super) async fn carry(
    mut client: TcpStream,
    upstream: SocketAddr,
    orders: watch::Receiver<Order>,
) {
    if client.set_nodelay(true).is_err() {
        return;
    }
    let start = *orders.borrow();
    let mut pending = Vec::new();
    let ended = tokio::select! {
        biased;
        end = ended_by_fault(orders.clone(), start) => Some(end),
        held = hold(&mut client, &mut pending, orders.clone()) => (!held).then_some(End::Closed),
    };
    if let Some(end) = ended {
        finish(end, &mut client, None).await;
        return;
    }
    let Ok(mut server) = connect(upstream).await else {
        // What a client without a proxy would get as "connection refused".
        reset(&client);
        return;
    };
    let end = {
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = server.split();
        let there = pump(client_reads, server_writes, orders.clone(), Direction::ToServer, pending);
        let back =
            pump(server_reads, client_writes, orders.clone(), Direction::ToClient, Vec::new());
        tokio::select! {
            biased;
            end = ended_by_fault(orders, start) => end,
            result = both(there, back) => match result {
                Ok(()) => End::Closed,
                Err(_) => End::Reset,
            },
        }
    };
    finish(end, &mut client, Some(&mut server)).await;
}

/// Makes the close of this socket an RST.
pub(super) fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a connection could not be marked for reset");
    }
}

async fn finish(end: End, client: &mut TcpStream, server: Option<&mut TcpStream>) {
    match end {
        End::Reset => {
            reset(client);
            if let Some(server) = server {
                reset(server);
            }
        }
        End::Closed => {
            // Failure means the peer is gone already, which is what is wanted.
            drop(client.shutdown().await);
            if let Some(server) = server {
                drop(server.shutdown().await);
            }
        }
    }
}

async fn ended_by_fault(mut orders: watch::Receiver<Order>, start: Order) -> End {
    let seen = orders
        .wait_for(|order| order.cuts != start.cuts || order.resets != start.resets)
        .await
        .map(|order| *order);
    match seen {
        Ok(order) if order.resets != start.resets => End::Reset,
        // Also when the proxy is gone.
        _ => End::Closed,
    }
}

/// While the proxy stalls, keeps what a new client sends, without connecting to the server: a blackholed server would
/// not have seen the client either. Returns whether the client is still there.
async fn hold(
    client: &mut TcpStream,
    pending: &mut Vec<u8>,
    mut orders: watch::Receiver<Order>,
) -> bool {
    loop {
        if orders.borrow_and_update().fault != Fault::Stall {
            return true;
        }
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { return false },
            read = client.read_buf(pending), if pending.len() < MAX_PENDING => if !matches!(read, Ok(1..)) { return false },
        }
    }
}

/// Both directions run until both are through; the first failure ends both.
async fn both<A, B>(there: A, back: B) -> io::Result<()>
where
    A: Future<Output = io::Result<()>>,
    B: Future<Output = io::Result<()>>,
{
    tokio::try_join!(there, back).map(|_| ())
}

/// Carries one direction. Reading and writing are apart so that a delay costs latency, not throughput.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut orders: watch::Receiver<Order>,
    direction: Direction,
    pending: Vec<u8>,
) -> io::Result<()> {
    let (underway, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_UNDERWAY);
    let mut read_orders = orders.clone();
    let reading = async move {
        if !pending.is_empty() {
            drop(underway.send((Instant::now(), pending)).await);
        }
        loop {
            open(&mut read_orders, direction).await?;
            // Room first: a direction nobody empties must not be read into memory.
            let Ok(room) = underway.reserve().await else { return Ok(()) };
            let mut chunk = Vec::with_capacity(CHUNK);
            if from.read_buf(&mut chunk).await? == 0 {
                return Ok::<(), io::Error>(());
            }
            let delay = match read_orders.borrow().fault {
                Fault::Delay(delay) => delay,
                _ => Duration::ZERO,
            };
            room.send((Instant::now() + delay, chunk));
        }
    };
    let writing = async move {
        while let Some((due, chunk)) = arriving.recv().await {
            tokio::time::sleep_until(due).await;
            // A stall that began meanwhile holds what is underway, too.
            open(&mut orders, direction).await?;
            to.write_all(&chunk).await?;
        }
        open(&mut orders, direction).await?;
        to.shutdown().await
    };
    tokio::try_join!(reading, writing).map(|_| ())
}

/// Waits until the direction lets bytes through.
async fn open(orders: &mut watch::Receiver<Order>, direction: Direction) -> io::Result<()> {
    let passes = |order: &Order| {
        !matches!(
            (order.fault, direction),
            (Fault::Stall, _) | (Fault::StallToClient, Direction::ToClient)
        )
    };
    match orders.wait_for(passes).await {
        Ok(_) => Ok(()),
        Err(_) => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}
