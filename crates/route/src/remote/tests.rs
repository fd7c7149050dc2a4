use std::net::SocketAddr;

use herdsman_api::{ApiConfig, ApiState, Bodies, Groups, Listen, Server, Ssl, TlsIdentity};
use herdsman_node::{NodeName, Role, SystemId, Timeline};
use herdsman_watch::{NodeView, Proof};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A real API over topologies the test makes up.
struct Api {
    address: SocketAddr,
    topology: watch::Sender<Arc<Topology>>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Api {
    async fn start(port: u16, tls: Option<TlsIdentity>, first: Topology) -> Self {
        let (topology, seen) = watch::channel(Arc::new(first));
        let state = ApiState {
            watch: Watch::detached(seen),
            groups: Groups::from([("west".to_owned(), vec![NodeName::new("n1").unwrap()])]),
            config: ApiConfig { bodies: Bodies::V0, ..ApiConfig::default() },
            writes: false,
        };
        let listen = Listen { bind: "127.0.0.1".to_owned(), port };
        let server = Server::bind(listen, tls, state).await.unwrap();
        let address = server.local_addrs()[0];
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.run(shutdown.clone()));
        Self { address, topology, shutdown, task }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn stop(self) -> u16 {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task).await.expect("the API did not stop").unwrap();
        self.address.port()
    }
}

fn primary_is(primary: &str, timeline: u32, version: u64) -> Topology {
    let view = |id: &str| {
        let role = if id == primary { Role::Primary } else { Role::Standby };
        (NodeName::new(id).unwrap(), NodeView { role, readable: true, ..NodeView::default() })
    };
    Topology {
        version,
        term: u64::from(timeline),
        system_id: Some(SystemId(7)),
        verdict: Verdict::Primary {
            node: NodeName::new(primary).unwrap(),
            timeline: Timeline(timeline),
            proof: Proof::Attested,
            reason: "attested".to_owned(),
        },
        nodes: ["n1", "n2"].into_iter().map(view).collect(),
    }
}

/// Follows quickly, so that tests do not wait.
fn following(remote: &Remote) -> (watch::Receiver<Arc<Topology>>, CancellationToken) {
    let stop = CancellationToken::new();
    let watch =
        remote.clone().interval(Duration::from_millis(20)).start(&Handle::current(), stop.clone());
    (watch.subscribe(), stop)
}

async fn until(
    news: &mut watch::Receiver<Arc<Topology>>,
    wanted: impl Fn(&Topology) -> bool,
) -> Arc<Topology> {
    let found = timeout(PATIENCE, news.wait_for(|topology| wanted(topology)))
        .await
        .map(|found| found.unwrap().clone());
    found.unwrap_or_else(|_| panic!("it never came; the last was: {:?}", news.borrow()))
}

fn is_primary(node: &str) -> impl Fn(&Topology) -> bool {
    move |topology| topology.primary().is_some_and(|primary| primary.as_str() == node)
}

fn is_told(word: &str) -> impl Fn(&Topology) -> bool {
    move |topology| topology.primary().is_none() && topology.verdict.reason().contains(word)
}

#[tokio::test]
async fn a_promotion_elsewhere_is_followed() {
    let api = Api::start(0, None, primary_is("n1", 1, 3)).await;
    let (mut news, _stop) = following(&Remote::new([api.url()]).unwrap());
    assert!(news.borrow().verdict.reason().contains("has not answered yet"));
    let first = until(&mut news, is_primary("n1")).await;
    assert_eq!(first.nodes, primary_is("n1", 1, 3).nodes);
    api.topology.send_replace(Arc::new(primary_is("n2", 2, 4)));
    let second = until(&mut news, is_primary("n2")).await;
    assert!((second.term, second.version) > (first.term, first.version));
    api.stop().await;
}

#[tokio::test]
async fn when_one_herdsman_goes_another_is_asked() {
    let one = Api::start(0, None, primary_is("n1", 1, 30)).await;
    let other = Api::start(0, None, primary_is("n1", 1, 2)).await;
    let (mut news, _stop) = following(&Remote::new([one.url(), other.url()]).unwrap());
    until(&mut news, is_primary("n1")).await;
    one.stop().await;
    other.topology.send_replace(Arc::new(primary_is("n2", 2, 3)));
    until(&mut news, is_primary("n2")).await;
    other.stop().await;
}

#[tokio::test]
async fn a_silent_herdsman_names_nobody_for_long_and_a_new_one_is_believed() {
    let api = Api::start(0, None, primary_is("n1", 1, 30)).await;
    let remote = Remote::new([api.url()]).unwrap().stale_after(Duration::from_millis(300));
    let (mut news, _stop) = following(&remote);
    until(&mut news, is_primary("n1")).await;
    let port = api.stop().await;
    let stale = until(&mut news, is_told("no Herdsman has answered within 300ms")).await;
    assert!(
        stale.verdict.reason().contains("the last news was: primary is n1"),
        "{}",
        stale.verdict
    );
    assert_eq!(stale.nodes.len(), 2);
    // It begins again with small numbers.
    let api = Api::start(port, None, primary_is("n2", 2, 1)).await;
    until(&mut news, is_primary("n2")).await;
    api.stop().await;
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_passed_over() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", mute.local_addr().unwrap());
    let api = Api::start(0, None, primary_is("n1", 1, 1)).await;
    let remote = Remote::new([url.clone(), api.url()]).unwrap().timeout(Duration::from_millis(100));
    let (mut news, _stop) = following(&remote);
    until(&mut news, is_primary("n1")).await;

    let alone = Remote::new([url]).unwrap();
    let alone = alone.timeout(Duration::from_millis(50)).stale_after(Duration::from_millis(300));
    let (mut news, _stop) = following(&alone);
    until(&mut news, is_told("no answer within 50ms")).await;
    api.stop().await;
}

#[tokio::test]
async fn what_is_no_herdsman_is_told() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let other = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _length = stream.read(&mut request).await;
            let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
            let _gone = stream.write_all(answer).await;
        }
    });
    let remote = Remote::new([url]).unwrap().stale_after(Duration::from_millis(200));
    let (mut news, _stop) = following(&remote);
    until(&mut news, is_told("it answered /v2/topology with 404 Not Found")).await;
    other.abort();
}

#[tokio::test]
async fn following_ends_with_its_token() {
    let api = Api::start(0, None, primary_is("n1", 1, 1)).await;
    let (mut news, stop) = following(&Remote::new([api.url()]).unwrap());
    until(&mut news, is_primary("n1")).await;
    stop.cancel();
    let ended = timeout(PATIENCE, async { while news.changed().await.is_ok() {} }).await;
    assert!(ended.is_ok(), "it goes on");
    api.stop().await;
}

#[tokio::test]
async fn only_a_known_certificate_is_believed() {
    let made = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (ours, theirs) = (made("watch.example"), made("watch.example"));
    let ssl: Ssl = serde_json::from_value(
        serde_json::json!({"cert": ours.cert.pem(), "key": ours.signing_key.serialize_pem()}),
    )
    .unwrap();
    let api = Api::start(0, Some(ssl.load().unwrap()), primary_is("n1", 1, 1)).await;
    let url = format!("https://{}", api.address);
    let file = std::env::temp_dir().join(format!("herdsman-remote-{}.pem", std::process::id()));

    std::fs::write(&file, ours.cert.pem()).unwrap();
    let (mut news, _stop) = following(&Remote::with_certificates([&url], &file).unwrap());
    until(&mut news, is_primary("n1")).await;

    std::fs::write(&file, theirs.cert.pem()).unwrap();
    let stranger = Remote::with_certificates([&url], &file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let (mut news, _stop) = following(&stranger.stale_after(Duration::from_millis(300)));
    until(&mut news, is_told("TLS: ")).await;
    api.stop().await;
}
