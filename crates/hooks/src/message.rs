//! What is told of an event: as JSON, as variables, as a sentence. Pure.

use std::fmt::Write as _;

use herdsman_node::NodeName;
use herdsman_watch::Event;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::herd::Places;

/// An event on its way to one hook.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Message {
    /// The same whenever it comes again, and of no other message.
    pub(crate) id: String,
    /// When it was seen, in RFC 3339.
    at: String,
    #[serde(flatten)]
    event: Event,
}

impl Message {
    pub(crate) fn new(id: String, at: String, event: Event) -> Self {
        Self { id, at, event }
    }

    /// The event as `/v2/events` has it, in one line.
    pub(crate) fn json(&self) -> String {
        // Strings and numbers only: it cannot fail. Should that change, the event is an empty object.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }

    /// Variables for a command: each field of the JSON, and where the node is that it is about.
    pub(crate) fn variables(&self, hook: &str, places: &Places) -> Vec<(String, String)> {
        let mut variables = vec![("HERDSMAN_HOOK".to_owned(), hook.to_owned())];
        for (key, value) in self.fields() {
            let text = match value {
                Value::String(text) => text,
                Value::Array(items) => {
                    let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
                    items.join(",")
                }
                Value::Number(number) => number.to_string(),
                Value::Null | Value::Bool(_) | Value::Object(_) => continue,
            };
            // No variable can hold it, and the command would not start.
            variables.push((format!("HERDSMAN_{}", key.to_uppercase()), text.replace('\0', " ")));
        }
        if let Some(place) = self.node().and_then(|node| places.get(node)) {
            variables.push(("HERDSMAN_HOST".to_owned(), place.host.clone()));
            variables.push(("HERDSMAN_PORT".to_owned(), place.port.to_string()));
        }
        variables
    }

    /// The body that Slack, and whatever has its interface, takes.
    pub(crate) fn slack(&self, title: Option<&str>) -> String {
        let title = title.map(|title| format!("{}: ", escaped(title))).unwrap_or_default();
        let mut body = Map::new();
        body.insert("text".to_owned(), Value::String(title + &self.sentence()));
        Value::Object(body).to_string()
    }

    fn fields(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            // As above.
            Ok(_) | Err(_) => Map::new(),
        }
    }

    fn node(&self) -> Option<&NodeName> {
        match &self.event {
            Event::Primary { node, .. }
            | Event::NodeUp { node, .. }
            | Event::NodeDown { node, .. }
            | Event::Role { node, .. }
            | Event::Readable { node }
            | Event::Unreadable { node, .. }
            | Event::Fenced { node }
            | Event::Unfenced { node }
            | Event::Lag { node, .. }
            | Event::LagOver { node, .. }
            | Event::Conflict { node, .. } => Some(node),
            Event::NoPrimary { .. } | Event::SplitBrain { .. } => None,
        }
    }

    fn sentence(&self) -> String {
        let name = |node: &NodeName| format!("*{}*", escaped(node.as_str()));
        let before = |node: &Option<NodeName>| {
            node.as_ref().map(|node| format!(" (before: {})", name(node))).unwrap_or_default()
        };
        let behind = |source: &Option<NodeName>| {
            source.as_ref().map_or_else(|| "the primary".to_owned(), name)
        };
        match &self.event {
            Event::Primary { node, timeline, previous, reason, .. } => {
                let previous = previous.clone().filter(|previous| previous != node);
                format!(
                    "{} is the primary on timeline {timeline}{}: {}",
                    name(node),
                    before(&previous),
                    escaped(reason)
                )
            }
            Event::NoPrimary { previous, reason, .. } => {
                format!("*nobody* is the primary{}: {}", before(previous), escaped(reason))
            }
            Event::SplitBrain { claimants, reason } => {
                let mut list = String::new();
                for (number, node) in claimants.iter().enumerate() {
                    let separator = if number == 0 { "" } else { ", " };
                    // Writing to a string cannot fail.
                    let _written = write!(list, "{separator}{}", name(node));
                }
                format!("*split brain* of {list}: {}", escaped(reason))
            }
            Event::NodeUp { node, role } => format!("{} answers, as {role}", name(node)),
            Event::NodeDown { node, reason } => {
                format!("{} does not answer: {}", name(node), escaped(reason))
            }
            Event::Role { node, role, previous } => {
                format!("{} is {role} (before: {previous})", name(node))
            }
            Event::Readable { node } => format!("{} may be read", name(node)),
            Event::Unreadable { node, reason } => {
                format!("{} may not be read: {}", name(node), escaped(reason))
            }
            Event::Fenced { node } => format!("{} is fenced", name(node)),
            Event::Unfenced { node } => format!("{} is not fenced any more", name(node)),
            Event::Lag { node, source, bytes, seconds } => {
                let bytes = bytes.map(|bytes| format!("{bytes} bytes"));
                let seconds = seconds.map(|seconds| format!("{seconds:.1} s"));
                let lag: Vec<_> = bytes.into_iter().chain(seconds).collect();
                let lag = if lag.is_empty() { "too far".to_owned() } else { lag.join(" and ") };
                format!("{} is {lag} behind {}", name(node), behind(source))
            }
            Event::LagOver { node, source } => {
                format!("{} is not far behind {} any more", name(node), behind(source))
            }
            Event::Conflict { node, conflicts, .. } => {
                let noun = if *conflicts == 1 { "conflict" } else { "conflicts" };
                format!("{} has recorded {conflicts} {noun}", name(node))
            }
        }
    }
}

/// Text in which Slack sees no link, mention or channel.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use herdsman_node::Role;
    use herdsman_watch::Why;

    use super::*;
    use crate::herd::Place;
    use crate::herd::tests::name;

    fn message(event: Event) -> Message {
        Message::new("7-1".to_owned(), "1970-01-01T00:00:00.000Z".to_owned(), event)
    }

    fn primary(previous: &str) -> Event {
        Event::Primary {
            node: name("n2"),
            timeline: 2,
            term: 3,
            previous: Some(name(previous)),
            reason: "it followed".to_owned(),
        }
    }

    #[test]
    fn an_event_is_told_as_json_and_as_variables() {
        let promoted = message(primary("n1"));
        let expected = serde_json::json!({
            "id": "7-1", "at": "1970-01-01T00:00:00.000Z", "event": "primary", "node": "n2",
            "timeline": 2, "term": 3, "previous": "n1", "reason": "it followed",
        });
        assert_eq!(serde_json::from_str::<Value>(&promoted.json()).unwrap(), expected);

        let place = Place { host: "db2".to_owned(), port: 5433, address: None };
        let places = Places::from([(name("n2"), place)]);
        let mut variables = promoted.variables("pager", &places);
        variables.sort();
        let expected = [
            ("HERDSMAN_AT", "1970-01-01T00:00:00.000Z"),
            ("HERDSMAN_EVENT", "primary"),
            ("HERDSMAN_HOOK", "pager"),
            ("HERDSMAN_HOST", "db2"),
            ("HERDSMAN_ID", "7-1"),
            ("HERDSMAN_NODE", "n2"),
            ("HERDSMAN_PORT", "5433"),
            ("HERDSMAN_PREVIOUS", "n1"),
            ("HERDSMAN_REASON", "it followed"),
            ("HERDSMAN_TERM", "3"),
            ("HERDSMAN_TIMELINE", "2"),
        ];
        assert_eq!(variables, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));

        let claimants = vec![name("n1"), name("n2")];
        let split = message(Event::SplitBrain { claimants, reason: "a\0b".to_owned() });
        let variables = split.variables("pager", &places);
        let variable =
            |key: &str| variables.iter().find(|(name, _)| name == key).map(|(_, v)| &**v);
        assert_eq!(variable("HERDSMAN_CLAIMANTS"), Some("n1,n2"));
        assert_eq!(variable("HERDSMAN_REASON"), Some("a b"));
        assert_eq!(variable("HERDSMAN_HOST"), None);
    }

    #[test]
    fn slack_gets_a_sentence_in_which_nothing_is_a_link() {
        let cases = [
            (primary("n1"), "*n2* is the primary on timeline 2 (before: *n1*): it followed"),
            (primary("n2"), "*n2* is the primary on timeline 2: it followed"),
            (
                Event::NoPrimary {
                    previous: Some(name("n1")),
                    why: Why::NoClaimant,
                    reason: "<!channel> & more".to_owned(),
                },
                "*nobody* is the primary (before: *n1*): &lt;!channel&gt; &amp; more",
            ),
            (
                Event::SplitBrain {
                    claimants: vec![name("n1"), name("n2")],
                    reason: "no proof".to_owned(),
                },
                "*split brain* of *n1*, *n2*: no proof",
            ),
            (Event::NodeUp { node: name("n1"), role: Role::Standby }, "*n1* answers, as standby"),
            (
                Event::Lag { node: name("n2"), source: None, bytes: Some(7), seconds: Some(1.26) },
                "*n2* is 7 bytes and 1.3 s behind the primary",
            ),
            (
                Event::LagOver { node: name("n2"), source: Some(name("n1")) },
                "*n2* is not far behind *n1* any more",
            ),
            (
                Event::Conflict { node: name("n1"), conflicts: 2, total: 5 },
                "*n1* has recorded 2 conflicts",
            ),
        ];
        for (event, expected) in cases {
            let body: Value = serde_json::from_str(&message(event).slack(Some("<shop>"))).unwrap();
            assert_eq!(body["text"], format!("&lt;shop&gt;: {expected}"));
        }
    }
}
