//! A running server over topologies the test makes up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use herdsman_api::{ApiConfig, ApiState, Bodies, Groups, Handle, Listen, Server, TlsIdentity};
use herdsman_node::{NodeName, Role, Timeline};
use herdsman_watch::{NodeView, Proof, Topology, Verdict, Watch};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
    pub(crate) topology: watch::Sender<Arc<Topology>>,
}

pub(crate) fn config() -> ApiConfig {
    ApiConfig { bodies: Bodies::V0, ..ApiConfig::default() }
}

pub(crate) async fn start(config: ApiConfig, tls: Option<TlsIdentity>) -> Running {
    let (topology, seen) = watch::channel(Arc::new(primary_is("host1")));
    let listen = Listen { bind: "127.0.0.1".to_owned(), port: 0 };
    let server = Server::bind(listen, tls, state(seen, config)).await.unwrap();
    let address = server.local_addrs()[0];
    let handle = server.handle();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(server.run(shutdown.clone()));
    Running { address, handle, shutdown, task, topology }
}

pub(crate) fn state(topology: watch::Receiver<Arc<Topology>>, config: ApiConfig) -> ApiState {
    ApiState { watch: Watch::detached(topology), groups: Groups::new(), config, writes: false }
}

pub(crate) fn primary_is(primary: &str) -> Topology {
    let view = |id: &str| {
        let role = if id == primary { Role::Primary } else { Role::Standby };
        (NodeName::new(id).unwrap(), NodeView { role, readable: true, ..NodeView::default() })
    };
    Topology {
        verdict: Verdict::Primary {
            node: NodeName::new(primary).unwrap(),
            timeline: Timeline(1),
            proof: Proof::Attested,
            reason: "attested".to_owned(),
        },
        nodes: ["host1", "host2"].into_iter().map(view).collect(),
        ..Topology::default()
    }
}

impl Running {
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(10), self.task).await;
        ended.expect("the server did not stop").unwrap();
    }
}
