//! HAProxy's agent check: one line in, one line out, about one node.
//!
//! HAProxy sends what `agent-send` says: the node's name, and `write` or `read` for what the backend is used for (`read` if it
//! does not say). The answer sets the server's state and weight.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use herdsman_node::Role;
use herdsman_watch::{NodeView, Topology};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::ApiState;
use crate::server::{ACCEPT_PAUSE, is_of_one_client};
use crate::tally::Tally;

/// How long somebody may take to say what is wanted.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest line: a node's name and a word.
const LONGEST: u64 = 512;
/// Balancers ask one thing at a time; many of them may.
const MOST: usize = 256;

/// Answers until told to stop.
pub(crate) async fn serve(
    listeners: Vec<TcpListener>,
    state: watch::Receiver<Arc<ApiState>>,
    tally: Tally,
    stop: CancellationToken,
) {
    let mut asking = JoinSet::new();
    while !listeners.is_empty() {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_ended) = asking.join_next() => {}
            accepted = accept(&listeners), if asking.len() < MOST => match accepted {
                Ok((stream, peer)) => {
                    asking.spawn(answer(stream, peer, Arc::clone(&state.borrow()), tally.clone()));
                }
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "failed to accept an agent check");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    asking.shutdown().await;
}

async fn accept(listeners: &[TcpListener]) -> std::io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        let mut ready = listeners.iter().map(|listener| listener.poll_accept(cx));
        ready.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

/// No answer is no error to HAProxy: it leaves the server as it is.
async fn answer(stream: TcpStream, peer: SocketAddr, state: Arc<ApiState>, tally: Tally) {
    let asked = timeout(PATIENCE, async {
        let (reading, mut writing) = stream.into_split();
        let mut reading = reading.take(LONGEST);
        let mut line = Vec::new();
        while !line.contains(&b'\n') && reading.read_buf(&mut line).await? > 0 {}
        let line = String::from_utf8_lossy(&line);
        let answer = line.lines().next().and_then(|line| verdict(line, &state.watch.topology()));
        match answer {
            Some(answer) => {
                writing.write_all(answer.as_bytes()).await?;
                tally.agent_answered();
            }
            None => tracing::debug!(%peer, "an agent check names no node we know; set agent-send"),
        }
        writing.shutdown().await
    });
    match asked.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "an agent check failed"),
        Err(_) => tracing::debug!(%peer, "an agent check took too long"),
    }
}

/// The line for a question; none where it names no node. What a word once changed only another one changes back, so every
/// answer says all three: administrative state, operational state, weight.
fn verdict(line: &str, topology: &Topology) -> Option<String> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let (name, node) = topology.nodes.get_key_value(name)?;
    let writes = match words.next() {
        None | Some("read") => false,
        Some("write") => true,
        Some(_) => return None,
    };
    Some(match (writes, topology.is_writer(name)) {
        (_, true) => "ready up 100%\n".to_owned(),
        (true, false) => format!("down #{}\n", comment("not the primary")),
        (false, false) if node.readable => format!("ready up {}%\n", weight(node, topology)),
        (false, false) if node.answers() && node.role == Role::Standby => {
            format!("drain up #{}\n", comment(&node.reasons.join("; ")))
        }
        (false, false) => format!("down #{}\n", comment(&node.trouble())),
    })
}

/// Of 100: what is left by lag – all up to a second behind, half at two, a tenth at ten – and by how long it takes to answer:
/// all up to [`QUICK`] or twice as long as the quickest reader, half at twice that. At least one.
fn weight(node: &NodeView, topology: &Topology) -> u32 {
    let behind = node.lag.map_or(0.0, |lag| lag.seconds).max(1.0);
    let quickest = topology
        .readers()
        .filter_map(|name| topology.nodes.get(name)?.latency_seconds)
        .fold(f64::INFINITY, f64::min);
    // Where none is known there is nothing to compare with.
    let fair = (quickest * 2.0).max(QUICK);
    let slower = node.latency_seconds.map_or(1.0, |own| own / fair).max(1.0);
    (1..=100).rev().find(|weight| f64::from(*weight) * behind * slower <= 100.0).unwrap_or(1)
}

/// Who answers within so many seconds is quick, whoever is quicker: below, a look at the clock tells about this machine and
/// not about the server.
const QUICK: f64 = 0.025;

/// What HAProxy shows beside the state: one short line.
fn comment(text: &str) -> String {
    const LONGEST: usize = 80;
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(LONGEST).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use herdsman_node::{NodeName, Timeline};
    use herdsman_watch::{Lag, Moment, Proof, Verdict};

    use super::*;

    fn herd() -> Topology {
        let name = |text: &str| NodeName::new(text).unwrap();
        let node = |role, readable, seconds: f64| NodeView {
            role,
            readable,
            lag: Some(Lag { bytes: 0, seconds }),
            evidence_at: Some(Moment::default()),
            ..NodeView::default()
        };
        let late = NodeView {
            reasons: vec!["12 MB behind,\n10 allowed".to_owned()],
            ..node(Role::Standby, false, 30.0)
        };
        let dead = NodeView { error: Some("connection refused".to_owned()), ..NodeView::default() };
        Topology {
            verdict: Verdict::Primary {
                node: name("n1"),
                timeline: Timeline(1),
                proof: Proof::Attested,
                reason: "attested".to_owned(),
            },
            nodes: [
                (name("n1"), node(Role::Primary, true, 0.0)),
                (name("n2"), node(Role::Standby, true, 0.5)),
                (name("n3"), node(Role::Standby, true, 4.0)),
                (name("n4"), late),
                (name("n5"), dead),
            ]
            .into(),
            ..Topology::default()
        }
    }

    #[test]
    fn each_node_gets_its_state_and_weight_for_reads_and_for_writes() {
        let herd = herd();
        for (line, expected) in [
            ("n1", Some("ready up 100%\n")),
            ("n1 write", Some("ready up 100%\n")),
            ("n2 read", Some("ready up 100%\n")),
            ("n2 write", Some("down #not the primary\n")),
            ("n3", Some("ready up 25%\n")),
            ("n4 read", Some("drain up #12 MB behind, 10 allowed\n")),
            ("n5 read", Some("down #connection refused\n")),
            ("n6 read", None),
            ("n2 both", None),
            ("", None),
        ] {
            assert_eq!(verdict(line, &herd).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn while_two_claim_the_role_nobody_is_written_to_and_standbys_are_read() {
        let mut herd = herd();
        herd.verdict = Verdict::SplitBrain { claimants: Vec::new(), reason: String::new() };
        assert_eq!(verdict("n1 write", &herd).as_deref(), Some("down #not the primary\n"));
        assert_eq!(verdict("n2 read", &herd).as_deref(), Some("ready up 100%\n"));
    }

    #[test]
    fn whoever_is_far_behind_keeps_the_least_weight() {
        let node =
            |seconds| NodeView { lag: Some(Lag { bytes: 0, seconds }), ..NodeView::default() };
        for (seconds, expected) in [(0.0, 100), (1.0, 100), (2.0, 50), (10.0, 10), (1e9, 1)] {
            assert_eq!(weight(&node(seconds), &Topology::default()), expected, "{seconds}");
        }
        let unknown = NodeView::default();
        assert_eq!(weight(&unknown, &Topology::default()), 100, "not known to be behind");
    }

    #[test]
    fn whoever_takes_much_longer_to_answer_than_the_quickest_reader_weighs_less() {
        let answers = |two: f64, three: f64| {
            let mut herd = herd();
            for (name, latency, seconds) in [("n2", two, 0.5), ("n3", three, 2.0)] {
                let node = herd.nodes.get_mut(&NodeName::new(name).unwrap()).unwrap();
                node.latency_seconds = Some(latency);
                node.lag = Some(Lag { bytes: 0, seconds });
            }
            ["n2", "n3"].map(|line| verdict(line, &herd).unwrap())
        };
        let told = |two: u32, three: u32| [two, three].map(|it| format!("ready up {it}%\n"));
        // The second one is two seconds behind: half, whatever it takes to answer.
        assert_eq!(answers(0.001, 0.001), told(100, 50));
        assert_eq!(answers(0.001, 0.025), told(100, 50), "as quick as can be told");
        assert_eq!(answers(0.001, 0.1), told(100, 12));
        assert_eq!(answers(0.2, 0.1), told(100, 50), "twice the quickest");
        assert_eq!(answers(0.4, 0.1), told(50, 50), "four times the quickest");
        assert_eq!(answers(60.0, 0.001), told(1, 50));
        assert_eq!(answers(3.0, 3.0), told(100, 50), "all are slow: none is slower");
    }
}
