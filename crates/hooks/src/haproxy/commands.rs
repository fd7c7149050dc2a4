//! What an HAProxy has to be told so that its servers have the states that a verdict gives them. Pure.

use std::fmt;

use herdsman_node::NodeName;

use crate::config::HaProxyConfig;
use crate::herd::{Herd, Part};

/// A server's administrative state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It takes connections.
    Ready,
    /// It takes no new ones.
    Drain,
    /// It takes none at all.
    Maint,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        })
    }
}

/// The commands, in their order: where there is something to be written to, who is left is taken out before who comes
/// is let in; where something is read, the other way round.
pub(crate) fn commands(config: &HaProxyConfig, herd: &Herd) -> Vec<String> {
    let mut commands = Vec::new();
    for backend in &config.writers {
        let mut states = states(config, herd, |_, part| written(herd, part));
        states.sort_by_key(|(_, state)| *state == Wanted::Ready);
        for (server, state) in states {
            commands.push(format!("set server {backend}/{server} state {state}"));
            // Another one is proven: whoever still writes there writes to a server that nobody follows.
            if state == Wanted::Maint && herd.writer().is_some() {
                commands.push(format!("shutdown sessions server {backend}/{server}"));
            }
        }
    }
    let readers = herd.readers();
    for backend in &config.readers {
        let mut states = states(config, herd, |node, part| read(&readers, node, part));
        states.sort_by_key(|(_, state)| *state != Wanted::Ready);
        let set = |(server, state)| format!("set server {backend}/{server} state {state}");
        commands.extend(states.into_iter().map(set));
    }
    commands
}

fn states<'a>(
    config: &'a HaProxyConfig,
    herd: &'a Herd,
    state: impl Fn(&NodeName, Part) -> Wanted,
) -> Vec<(&'a str, Wanted)> {
    let server =
        |node: &'a NodeName| config.servers.get(node).map_or(node.as_str(), String::as_str);
    herd.0.iter().map(|(node, part)| (server(node), state(node, *part))).collect()
}

/// In a backend that is written to.
fn written(herd: &Herd, part: Part) -> Wanted {
    match part {
        Part::Writer => Wanted::Ready,
        Part::Away => Wanted::Maint,
        // Nothing new is written anywhere, and whatever goes on may be right.
        Part::Reader | Part::Resting if herd.writer().is_none() => Wanted::Drain,
        Part::Reader | Part::Resting => Wanted::Maint,
    }
}

/// In a backend that is read.
fn read(readers: &[&NodeName], node: &NodeName, part: Part) -> Wanted {
    match part {
        _ if readers.contains(&node) => Wanted::Ready,
        Part::Away => Wanted::Maint,
        Part::Writer | Part::Reader | Part::Resting => Wanted::Drain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::herd::tests::herd;

    fn check(parts: &[(&str, Part)], writers: &[&str], readers: &[&str]) {
        let config: HaProxyConfig = serde_json::from_value(serde_json::json!({
            "socket": "/run/h.sock", "writers": ["w"], "readers": ["r"], "servers": {"c": "see"},
        }))
        .unwrap();
        let commands = commands(&config, &herd(parts));
        let shown: Vec<_> = commands
            .iter()
            .map(|command| {
                let command = command.replace("set server ", "").replace(" state ", " ");
                command.replace("shutdown sessions server ", "cut ")
            })
            .collect();
        assert_eq!(shown, [writers, readers].concat(), "{parts:?}");
    }

    #[test]
    fn servers_are_in_or_out_as_the_verdict_says() {
        use Part::{Away, Reader, Resting, Writer};
        check(
            &[("a", Writer), ("b", Reader), ("c", Away)],
            &["w/b maint", "cut w/b", "w/see maint", "cut w/see", "w/a ready"],
            &["r/b ready", "r/a drain", "r/see maint"],
        );
        check(
            &[("a", Away), ("b", Writer), ("c", Resting)],
            &["w/a maint", "cut w/a", "w/see maint", "cut w/see", "w/b ready"],
            &["r/b ready", "r/a maint", "r/see drain"],
        );
        // Nobody is proven: nothing new is written, and nothing is cut.
        check(
            &[("a", Resting), ("b", Reader), ("c", Away)],
            &["w/a drain", "w/b drain", "w/see maint"],
            &["r/b ready", "r/a drain", "r/see maint"],
        );
    }
}
