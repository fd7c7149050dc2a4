//! What the watcher said, when, and whether it ever contradicted itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use herdsman_watch::{Topology, Verdict, Watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A verdict from when it was first heard until the next one.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) at: Instant,
    pub(super) version: u64,
    pub(super) term: u64,
    /// Whom it names.
    pub(super) primary: Option<String>,
    /// The verdict in words.
    pub(super) words: String,
}

/// Listens until dropped.
pub(super) struct Verdicts {
    log: Arc<Mutex<Log>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    heard: Vec<Heard>,
    last: (u64, u64),
    /// Who was the primary of each term, on which timeline.
    terms: BTreeMap<u64, (String, u32)>,
    contradictions: Vec<String>,
}

impl Verdicts {
    pub(super) fn start(watch: &Watch) -> Self {
        let log = Arc::new(Mutex::new(Log::default()));
        let (writing, mut changes) = (Arc::clone(&log), watch.subscribe());
        let task = tokio::spawn(async move {
            loop {
                let topology = Arc::clone(&changes.borrow_and_update());
                writing.lock().unwrap().hear(Instant::now(), &topology);
                if changes.changed().await.is_err() {
                    return;
                }
            }
        });
        Self { log, task }
    }

    /// Everything heard since then, and the verdict in force then.
    pub(super) fn since(&self, since: Instant) -> Vec<Heard> {
        let log = self.log.lock().unwrap();
        let first = log.heard.partition_point(|heard| heard.at <= since).saturating_sub(1);
        log.heard.iter().skip(first).cloned().collect()
    }

    /// Takes in the term a client was told together with a node.
    pub(super) fn hear_client(&self, term: u64, node: &str) {
        let mut log = self.log.lock().unwrap();
        if let Some((primary, _)) = log.terms.get(&term).filter(|(primary, _)| primary != node) {
            let contradiction =
                format!("in term {term} a client was sent to {node}, and {primary} is its primary");
            log.contradictions.push(contradiction);
        }
    }

    /// Contradictions found since the last time this was asked.
    pub(super) fn take_contradictions(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap().contradictions)
    }
}

impl Drop for Verdicts {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Log {
    fn hear(&mut self, at: Instant, topology: &Topology) {
        let (version, term) = (topology.version, topology.term);
        let (last_version, last_term) = self.last;
        if version <= last_version {
            self.contradictions.push(format!("version {version} came after {last_version}"));
        }
        if term < last_term {
            self.contradictions.push(format!("term {term} came after {last_term}"));
        }
        self.last = (version, term);
        if let Verdict::Primary { node, timeline, .. } = &topology.verdict {
            let named = (node.as_str().to_owned(), timeline.0);
            let first = self.terms.entry(term).or_insert_with(|| named.clone());
            if *first != named {
                self.contradictions
                    .push(format!("term {term} has two primaries: {first:?} and {named:?}"));
            }
        }
        let primary = topology.primary().map(|node| node.as_str().to_owned());
        let words = topology.verdict.to_string();
        if self
            .heard
            .last()
            .is_none_or(|last| last.primary != primary || last.term != term || last.words != words)
        {
            self.heard.push(Heard { at, version, term, primary, words });
        }
    }
}

#[test]
fn a_term_with_two_primaries_and_versions_that_shrink_are_noticed() {
    let named = |version, term, node: &str| Topology {
        version,
        term,
        verdict: Verdict::Primary {
            node: node.parse().unwrap(),
            timeline: herdsman_node::Timeline(1),
            proof: herdsman_watch::Proof::Attested,
            reason: String::new(),
        },
        ..Topology::default()
    };
    let mut log = Log::default();
    log.hear(Instant::now(), &named(1, 1, "n1"));
    log.hear(Instant::now(), &named(2, 2, "n2"));
    assert!(log.contradictions.is_empty());
    log.hear(Instant::now(), &named(3, 2, "n1"));
    log.hear(Instant::now(), &named(3, 1, "n1"));
    assert_eq!(log.contradictions.len(), 3, "{:?}", log.contradictions);
}
