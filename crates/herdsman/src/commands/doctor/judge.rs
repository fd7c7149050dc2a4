//! What follows from the evidence. Pure: it asks nobody and owns no clock.

mod clock;
mod gateway;
mod hooks;
mod ledger;
mod limits;
mod mesh;
mod reach;
mod replication;
mod rights;
mod slots;
mod stream;

use super::evidence::{Evidence, Seen, Server};
use super::finding::Finding;
use crate::codes::Code;
use crate::config::Config;

/// Draws all conclusions.
pub(super) fn findings(config: &Config, evidence: &Evidence) -> Vec<Finding> {
    let mut found = Vec::new();
    for (node, seen) in &evidence.nodes {
        let Some(info) = config.nodes.get(node) else { continue };
        found.extend(
            match seen {
                Seen::Out(unreached) => reach::unreached(node, info, unreached),
                Seen::In(server) => reach::reached(info, &server.facts),
            }
            .into_iter()
            .map(|finding| finding.on(node)),
        );
    }
    for (node, server) in evidence.servers() {
        let about = [rights::version(&server.facts)]
            .into_iter()
            .chain(unanswered(server))
            .chain(clock::findings(server.clock, !config.mesh.nodes.is_empty()))
            .chain(slots::findings(config, evidence, node, server))
            .chain(limits::of_server(config, node, &server.facts, server.slots.len()));
        found.extend(about.map(|finding| finding.on(node)));
    }
    found.extend(rights::findings(config, evidence));
    found.extend(replication::findings(config, evidence));
    found.extend(limits::open_files(config, evidence.open_files));
    found.extend(limits::waiting(config, evidence.waiting));
    found.extend(stream::findings(&config.stream, evidence));
    found.extend(mesh::findings(config, evidence));
    found.extend(ledger::findings(evidence));
    found.extend(gateway::findings(config, evidence));
    found.extend(hooks::findings(evidence));
    found
}

fn unanswered(server: &Server) -> impl Iterator<Item = Finding> {
    server.unanswered.iter().map(|(subject, problem)| {
        let fix = "see the server's log; what depends on the answer is not told here";
        Finding::warning(Code::Unanswered, subject, problem, fix)
    })
}

/// A number with the word for so many.
fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

#[cfg(test)]
mod tests;
