//! From an accepted socket to the start-up packet: PROXY header, TLS, requests for encryption.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::reception::AddressPlace;
use super::tls::{ALPN, Identity};
use super::{ClientStream, Peer, Socket};
use crate::wire::error::code;
use crate::wire::startup::{self, First, Startup};
use crate::wire::{Malformed, Problem, proxy};

/// When a silent client is asked whether it is there, how often, and after how many it is given up.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EACH: Duration = Duration::from_secs(10);
const KEEPALIVES: u32 = 6;
/// First byte of TLS: a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// What the configuration says of first packets.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) proxy_protocol: bool,
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) tls_required: bool,
}

/// A client that has said what it wants.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) stream: ClientStream,
    pub(super) peer: Peer,
    pub(super) wish: Wish,
    /// Where there is TLS: what a login over it is bound to.
    pub(super) end_point: Option<Arc<[u8]>>,
    /// Where its address is counted.
    pub(super) address: Option<AddressPlace>,
    /// The client's own certificate in DER, which has been checked against the authority.
    pub(super) certificate: Option<Vec<u8>>,
}

#[derive(Debug)]
pub(super) enum Wish {
    Login(Startup),
    Cancel { process: i32, secret: Vec<u8> },
}

/// A client that cannot be let in.
#[derive(Debug)]
pub(super) enum Failed {
    /// It left, or it cannot be talked to.
    Gone(io::Error),
    /// It says something that is no first packet, and is told nothing.
    Stranger(Box<ClientStream>, Malformed),
    /// It is told why.
    Refused(Box<ClientStream>, Problem),
    /// It speaks protocol 2, in which errors look otherwise.
    Old(Box<ClientStream>, Problem),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

/// Reads on until the client says what it wants. `count` has its address counted, or says why there is no place for it.
pub(super) async fn open(
    socket: Socket,
    rules: &Rules,
    count: impl FnOnce(IpAddr) -> Result<AddressPlace, Problem>,
) -> Result<Opened, Failed> {
    let mut place = None;
    let (mut stream, peer) = match socket {
        Socket::Unix(stream) => (ClientStream::Unix(UnixStream::from_std(stream)?), Peer::unix()),
        Socket::Tcp(stream, address) => {
            let mut stream = TcpStream::from_std(stream)?;
            stream.set_nodelay(true)?;
            notice_a_vanished_client(&stream)?;
            let peer = if rules.proxy_protocol {
                proxied(&mut stream, address).await?
            } else {
                Peer::direct(address)
            };
            // Before anything else is read: who may not stay costs nothing more.
            if let Some(address) = peer.address {
                match count(address.ip()) {
                    Ok(counted) => place = Some(counted),
                    Err(problem) => return Err(refused(ClientStream::Tcp(stream), problem)),
                }
            }
            (direct_tls(stream, rules).await?, peer)
        }
    };
    // One request for each kind of encryption, and then the packet itself.
    let encrypted = matches!(stream, ClientStream::Tls(_));
    let (mut ssl, mut gss) = (encrypted, encrypted);
    loop {
        let following = match length(&mut stream).await? {
            Ok(following) => following,
            // As by PostgreSQL: it may be no client of ours, or one that says goodbye before it has said anything.
            Err(malformed) => return Err(Failed::Stranger(Box::new(stream), malformed)),
        };
        let first = match packet(&mut stream, following).await? {
            Ok(first) => first,
            Err(malformed) => {
                let problem = format!("invalid start-up packet: {}", malformed.0);
                return Err(refused(stream, Problem::new(code::PROTOCOL_VIOLATION, problem)));
            }
        };
        match first {
            First::Gss if !gss => {
                gss = true;
                stream.write_all(b"N").await?;
            }
            First::Ssl if !ssl => {
                ssl = true;
                stream = answer_ssl(stream, rules).await?;
            }
            First::Gss | First::Ssl => {
                let problem = "encryption was asked for twice";
                return Err(refused(stream, Problem::new(code::PROTOCOL_VIOLATION, problem)));
            }
            First::Version { major, minor } => return Err(version(stream, major, minor)),
            First::Cancel { process, secret } => {
                let wish = Wish::Cancel { process, secret };
                return Ok(opened(stream, peer, place, wish, rules));
            }
            First::Startup(_) if rules.tls_required && matches!(stream, ClientStream::Tcp(_)) => {
                let problem =
                    Problem::new(code::NOT_AUTHORISED, "connections without TLS are refused")
                        .hint("connect with sslmode=require or stricter");
                return Err(refused(stream, problem));
            }
            First::Startup(startup) => {
                return Ok(opened(stream, peer, place, Wish::Login(startup), rules));
            }
        }
    }
}

fn opened(
    stream: ClientStream,
    peer: Peer,
    address: Option<AddressPlace>,
    wish: Wish,
    rules: &Rules,
) -> Opened {
    let (mut end_point, mut certificate) = (None, None);
    if let ClientStream::Tls(stream) = &stream {
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        certificate = shown.map(|certificate| certificate.to_vec());
        end_point = rules.identity.as_ref().and_then(|identity| identity.end_point.clone());
    }
    Opened { stream, peer, wish, end_point, address, certificate }
}

/// A client that is gone without a word is noticed within minutes.
fn notice_a_vanished_client(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_EACH)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVES)?;
    Ok(())
}

/// Reads the header that a proxy puts first.
async fn proxied(stream: &mut TcpStream, address: SocketAddr) -> Result<Peer, Failed> {
    // Nothing is said to whoever comes without one: it is no proxy, and perhaps no client of PostgreSQL either.
    let broken = |malformed: Malformed| {
        tracing::warn!(peer = %address, "refused a connection: {malformed}");
        Failed::Gone(io::Error::new(io::ErrorKind::InvalidData, malformed))
    };
    let mut fixed = [0; proxy::FIXED];
    stream.read_exact(&mut fixed).await?;
    let prefix = proxy::prefix(&fixed).map_err(broken)?;
    let mut rest = vec![0; prefix.following];
    stream.read_exact(&mut rest).await?;
    Ok(match prefix.source(&rest).map_err(broken)? {
        proxy::Source::Client(client) => Peer::proxied(client, address),
        proxy::Source::Unknown => Peer::unknown(address),
        proxy::Source::Proxy => Peer::direct(address),
    })
}

/// Shakes hands with a client that begins with TLS.
async fn direct_tls(stream: TcpStream, rules: &Rules) -> Result<ClientStream, Failed> {
    let Some(identity) = &rules.identity else { return Ok(ClientStream::Tcp(stream)) };
    let mut first = [0; 1];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    if first != [TLS_HANDSHAKE] {
        return Ok(ClientStream::Tcp(stream));
    }
    let stream = Box::new(Box::pin(identity.acceptor.accept(stream)).await?);
    // Without it, what is inside might be meant for a server of another protocol.
    if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        let problem = Problem::new(
            code::PROTOCOL_VIOLATION,
            "TLS from the first byte needs the protocol to be named",
        )
        .hint("offer `postgresql` by ALPN, or use sslnegotiation=postgres");
        return Err(refused(ClientStream::Tls(stream), problem));
    }
    Ok(ClientStream::Tls(stream))
}

/// Answers a request for TLS, and shakes hands.
async fn answer_ssl(stream: ClientStream, rules: &Rules) -> Result<ClientStream, Failed> {
    let (mut tcp, identity) = match (stream, &rules.identity) {
        (ClientStream::Tcp(tcp), Some(identity)) => (tcp, identity),
        (mut other, _) => {
            other.write_all(b"N").await?;
            return Ok(other);
        }
    };
    // What is there already was sent before anybody could have encrypted it, perhaps by somebody on the way.
    let mut ahead = [0; 1];
    if let Some(Ok(1..)) = tcp.peek(&mut ahead).now_or_never() {
        let problem =
            Problem::new(code::PROTOCOL_VIOLATION, "something was sent ahead of the TLS handshake");
        return Err(refused(ClientStream::Tcp(tcp), problem));
    }
    tcp.write_all(b"S").await?;
    let stream = Box::pin(identity.acceptor.accept(tcp)).await?;
    Ok(ClientStream::Tls(Box::new(stream)))
}

/// Reads how much follows of a first packet.
async fn length(stream: &mut ClientStream) -> io::Result<Result<usize, Malformed>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    Ok(startup::following(length))
}

/// Reads what follows, to its last byte and no further.
async fn packet(
    stream: &mut ClientStream,
    following: usize,
) -> io::Result<Result<First, Malformed>> {
    let mut body = vec![0; following];
    stream.read_exact(&mut body).await?;
    Ok(startup::first(&body))
}

fn refused(stream: ClientStream, problem: Problem) -> Failed {
    Failed::Refused(Box::new(stream), problem)
}

fn version(stream: ClientStream, major: u16, minor: u16) -> Failed {
    let newest = startup::NEWEST_MINOR;
    let problem = Problem::new(
        code::NOT_SUPPORTED,
        format!("unsupported frontend protocol {major}.{minor}: 3.0 to 3.{newest} are spoken here"),
    );
    if major < 3 { Failed::Old(Box::new(stream), problem) } else { refused(stream, problem) }
}
