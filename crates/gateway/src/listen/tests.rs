//! Whole logins, over real sockets. The console is what is logged in to, where no server is needed.

mod fuzz;
mod limits;
mod refusals;
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;

use herdsman_watch::{Topology, Watch};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::*;
use crate::config::GatewayConfig;
use crate::gateway::Setup;
use crate::pool::ServerIdentity;
use crate::wire::backend;

/// A gateway without nodes. `root` may use the console with the password `secret`.
pub(crate) fn shared(with: Value) -> Arc<Shared> {
    let mut config = json!({
        "users": { "root": { "password": "secret" }, "ann": { "password": "apple" } },
        "admins": ["root"],
    });
    let Value::Object(mut with) = with else { panic!("{with}") };
    config.as_object_mut().unwrap().append(&mut with);
    let config: GatewayConfig = serde_json::from_value(config).unwrap();
    let (_, topology) = tokio::sync::watch::channel(Arc::new(Topology::default()));
    let watch = Watch::detached(topology);
    let (nodes, groups) = (BTreeMap::new(), BTreeMap::new());
    Arc::new(Shared::new(Setup { config, nodes, groups, watch }).unwrap())
}

/// Somebody at the unix socket.
pub(crate) fn at_unix(shared: &Arc<Shared>) -> Guest<UnixStream> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(tokio::spawn(serve(Socket::Unix(ours.into_std().unwrap()), Arc::clone(shared), 0)));
    Guest(theirs)
}

/// Somebody who comes over TCP, from this machine.
pub(crate) async fn at_tcp(shared: &Arc<Shared>) -> Guest<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (ours, peer) = listener.accept().await.unwrap();
    drop(tokio::spawn(serve(Socket::Tcp(ours.into_std().unwrap(), peer), Arc::clone(shared), 0)));
    Guest(theirs)
}

/// A client, byte by byte.
pub(crate) struct Guest<S>(pub(super) S);

impl<S: AsyncRead + AsyncWrite + Unpin> Guest<S> {
    pub(super) async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.flush().await.unwrap();
    }

    pub(super) async fn byte(&mut self) -> u8 {
        self.0.read_u8().await.unwrap()
    }

    /// The next message: its tag and its body.
    pub(super) async fn hear(&mut self) -> (u8, Vec<u8>) {
        let tag = self.byte().await;
        let len = usize::try_from(self.0.read_i32().await.unwrap()).unwrap();
        let mut body = vec![0; len - 4];
        self.0.read_exact(&mut body).await.unwrap();
        (tag, body)
    }

    /// The next message, which has to be a fatal error: its SQLSTATE and its words.
    pub(super) async fn refused(&mut self) -> (String, String) {
        let (tag, body) = self.hear().await;
        assert_eq!(char::from(tag), 'E', "{}", String::from_utf8_lossy(&body));
        let field =
            |letter| String::from_utf8(backend::field(&body, letter).unwrap().to_vec()).unwrap();
        assert_eq!(field(b'S'), "FATAL");
        (field(b'C'), field(b'M'))
    }

    /// Whether there is nothing more, for ever.
    pub(super) async fn sent_away(&mut self) -> bool {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).await.is_ok() && rest.is_empty()
    }

    /// Proves a password by SCRAM, up to where the login goes on or fails.
    pub(super) async fn scram(&mut self, password: &str, binding: Option<Vec<u8>>) {
        let (tag, body) = self.hear().await;
        let plus = binding.is_some();
        assert_eq!((tag, body.first_chunk()), (b'R', Some(&10_i32.to_be_bytes())));
        let offered = body.windows(19).any(|window| window == b"SCRAM-SHA-256-PLUS\0");
        assert_eq!(offered, plus);
        let binding =
            binding.map_or_else(ChannelBinding::unsupported, ChannelBinding::tls_server_end_point);
        let mut scram = ScramSha256::new(password.as_bytes(), binding);
        let mut first =
            if plus { b"SCRAM-SHA-256-PLUS\0".to_vec() } else { b"SCRAM-SHA-256\0".to_vec() };
        first.extend(i32::try_from(scram.message().len()).unwrap().to_be_bytes());
        first.extend(scram.message());
        self.say(&step(&first)).await;
        let (_, body) = self.hear().await;
        assert_eq!(body.first_chunk(), Some(&11_i32.to_be_bytes()));
        scram.update(&body[4..]).unwrap();
        let last = step(scram.message());
        self.say(&last).await;
    }

    /// Everything from `AuthenticationOk` to "ready": parameters by name, and the key.
    pub(super) async fn welcomed(&mut self) -> (BTreeMap<String, String>, i32, Vec<u8>) {
        let (mut parameters, mut key) = (BTreeMap::new(), None);
        loop {
            match self.hear().await {
                (b'R', kind) => assert!(matches!(kind[..], [0, 0, 0, 0 | 12, ..]), "{kind:?}"),
                (b'S', body) => {
                    let (name, value) = backend::parameter(&body).unwrap();
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    parameters.insert(text(name), text(value));
                }
                (b'K', body) => {
                    let (process, secret) = body.split_first_chunk().unwrap();
                    key = Some((i32::from_be_bytes(*process), secret.to_vec()));
                }
                (b'Z', status) => {
                    assert_eq!(status, b"I");
                    let (process, secret) = key.unwrap();
                    return (parameters, process, secret);
                }
                (tag, body) => {
                    panic!("{} {}", char::from(tag), String::from_utf8_lossy(&body))
                }
            }
        }
    }
}

pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
pub(crate) const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// A first packet: its length and `body`.
pub(crate) fn packet(body: &[u8]) -> Vec<u8> {
    let mut packet = u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

pub(crate) fn startup(minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = vec![0, 3];
    body.extend(minor.to_be_bytes());
    for text in parameters.iter().flat_map(|(name, value)| [name, value]) {
        body.extend(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    packet(&body)
}

pub(crate) fn to_console(user: &str) -> Vec<u8> {
    startup(0, &[("user", user), ("database", "herdsman")])
}

pub(crate) fn cancel(process: i32, secret: &[u8]) -> Vec<u8> {
    packet(&[&[4, 210, 22, 46][..], &process.to_be_bytes(), secret].concat())
}

/// A step of a login.
pub(crate) fn step(body: &[u8]) -> Vec<u8> {
    [b"p", &packet(body)[..]].concat()
}

#[tokio::test]
async fn a_password_is_proven_and_the_client_is_told_all_it_has_to_know() {
    let shared = shared(json!({}));
    let mut guest = at_unix(&shared);
    guest.say(&to_console("root")).await;
    guest.scram("secret", None).await;
    let (parameters, process, secret) = guest.welcomed().await;
    assert!(process > 0);
    assert_eq!(secret.len(), 4);
    assert_eq!(parameters["client_encoding"], "UTF8");
    assert!(parameters["server_version"].starts_with(|c: char| c.is_ascii_digit()));
}

#[tokio::test]
async fn an_md5_login_is_proven_too() {
    let shared = shared(json!({ "auth": "md5" }));
    let mut guest = at_tcp(&shared).await;
    guest.say(&to_console("root")).await;
    let (_, body) = guest.hear().await;
    let (kind, salt) = body.split_first_chunk::<4>().unwrap();
    assert_eq!(i32::from_be_bytes(*kind), 5);
    let salt = salt.try_into().unwrap();
    let hash = postgres_protocol::authentication::md5_hash(b"root", b"secret", salt);
    guest.say(&step(&[hash.as_bytes(), b"\0"].concat())).await;
    guest.welcomed().await;
}

#[tokio::test]
async fn a_newer_client_gets_our_version_and_a_longer_key() {
    let shared = shared(json!({ "trust_loopback": true }));
    let mut guest = at_unix(&shared);
    let asked = [("user", "root"), ("database", "herdsman"), ("_pq_.wish", "1")];
    guest.say(&startup(9999, &asked)).await;
    let (tag, body) = guest.hear().await;
    assert_eq!((tag, &body[..]), (b'v', &b"\0\x03\0\x02\0\0\0\x01_pq_.wish\0"[..]));
    let (_, _, secret) = guest.welcomed().await;
    assert_eq!(secret.len(), 32);
}

#[tokio::test]
async fn a_client_that_asks_for_encryption_where_there_is_none_goes_on_without() {
    let shared = shared(json!({ "trust_loopback": true }));
    let mut unix = at_unix(&shared);
    let mut tcp = at_tcp(&shared).await;
    for request in [GSS_REQUEST, SSL_REQUEST] {
        unix.say(&request).await;
        assert_eq!(unix.byte().await, b'N');
        tcp.say(&request).await;
        assert_eq!(tcp.byte().await, b'N');
    }
    unix.say(&to_console("root")).await;
    unix.welcomed().await;
    tcp.say(&to_console("root")).await;
    tcp.welcomed().await;
}

#[tokio::test]
async fn clients_are_on_the_list_while_they_are_here() {
    let shared = shared(json!({ "trust_loopback": true }));
    let mut guest = at_unix(&shared);
    guest.say(&to_console("root")).await;
    let (_, process, secret) = guest.welcomed().await;
    let card = shared.reception.cancels.find(process, &secret);
    if let Some(card) = card {
        assert_eq!((card.peer, card.tls), (None, false));
    }
    drop(guest);
    while shared.clients.count() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(shared.reception.cancels.find(process, &secret).is_none());
}

#[tokio::test]
async fn a_cancel_request_reaches_the_server_that_works_for_its_client() {
    let shared = shared(json!({}));
    let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = node.local_addr().unwrap().port();
    let conninfo = format!("host=127.0.0.1 port={port} user=x sslmode=disable").parse().unwrap();
    let server = Arc::new(ServerIdentity::new(1, 0, Some((4711, -9)), Arc::new(conninfo)));
    let (card, key) = working_client(&shared, &server);

    let mut wrong = key.secret.clone();
    wrong[0] ^= 1;
    for (process, secret) in
        [(key.process, &wrong[..]), (key.process, &key.secret[..3]), (key.process ^ 1, &key.secret)]
    {
        let mut guest = at_unix(&shared);
        guest.say(&cancel(process, secret)).await;
        assert!(guest.sent_away().await);
        assert!(!server.is_being_cancelled());
    }

    let mut guest = at_unix(&shared);
    guest.say(&cancel(key.process, &key.secret)).await;
    let (mut heard, _) = node.accept().await.unwrap();
    let mut packet = [0; 16];
    heard.read_exact(&mut packet).await.unwrap();
    assert_eq!(packet[..], cancel(4711, &(-9_i32).to_be_bytes())[..]);
    // Until the server has dealt with it, nobody else gets the connection, even when the client is done with it.
    card.cancel.set(None);
    assert!(server.is_being_cancelled());
    drop(heard);
    assert!(guest.sent_away().await);
    assert!(!server.is_being_cancelled());
}

#[tokio::test]
async fn a_cancel_request_that_may_still_arrive_keeps_the_connection_from_others() {
    let shared = shared(json!({}));
    // Nobody listens there.
    let conninfo = "host=127.0.0.1 port=1 user=x sslmode=disable".parse().unwrap();
    let server = Arc::new(ServerIdentity::new(1, 0, Some((1, 2)), Arc::new(conninfo)));
    let (card, _key) = working_client(&shared, &server);
    assert!(!card.cancel.cancel(std::time::Duration::from_secs(5)).await);
    assert!(server.is_being_cancelled());
}

#[tokio::test]
async fn a_client_that_no_server_works_for_has_nothing_to_cancel() {
    let shared = shared(json!({}));
    let conninfo = "host=127.0.0.1 port=1 user=x sslmode=disable".parse().unwrap();
    let server = Arc::new(ServerIdentity::new(1, 0, Some((1, 2)), Arc::new(conninfo)));
    let (card, key) = working_client(&shared, &server);
    card.cancel.set(None);
    let mut guest = at_unix(&shared);
    guest.say(&cancel(key.process, &key.secret)).await;
    assert!(guest.sent_away().await);
    assert!(!server.is_being_cancelled());
}

/// A client that has logged in with protocol 3.2, and that `server` works for.
fn working_client(
    shared: &Arc<Shared>,
    server: &Arc<ServerIdentity>,
) -> (Arc<Card>, crate::cancel::CancelKey) {
    let rules = shared.rules("app", "ann", crate::auth::ServerLogin::default()).unwrap();
    let pools = shared.pools.get_or_create("app", "ann", rules).unwrap();
    let slot = crate::cancel::CancelSlot::default();
    let card = Arc::new(Card::new(shared.clients.next_id(), pools, None, false, "", slot));
    let key = shared.reception.cancels.register(&card, 2).unwrap();
    card.cancel.set(Some(Arc::clone(server)));
    (card, key)
}
