//! What is known of the herd, as it was told. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use herdsman_node::NodeName;
use herdsman_watch::Topology;
use serde_json::Value;

use super::samples::{Sample, Samples};
use crate::client::follow::Sent;
use crate::show::clean;

/// Bars of a node's lag.
pub(super) const BARS: usize = 16;
/// Events kept: as many as Herdsman itself keeps.
const EVENTS: usize = 1000;

/// Something that was told.
#[derive(Debug)]
pub(super) enum News {
    /// The herd, as it is.
    Topology(Box<Topology>),
    /// Nobody answers, and why.
    Away(String),
    /// What is counted.
    Samples(Samples),
    /// What has happened.
    Event(Sent),
}

/// Everything there is to show. Cloned to hold the picture.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    pub(super) topology: Option<Topology>,
    /// Since when nobody answers (since we began), and why.
    pub(super) away: Option<(Duration, String)>,
    /// Seconds of lag at each look, the newest last; nothing where it was not known.
    lag: BTreeMap<NodeName, VecDeque<Option<f64>>>,
    /// What has happened, the newest first.
    pub(super) events: VecDeque<Happened>,
    /// The last two scrapes and when they were made (since we began), the newer one first.
    scrapes: [Option<(Duration, Samples)>; 2],
}

/// An event as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Happened {
    /// Hours, minutes and seconds, UTC.
    pub(super) at: String,
    pub(super) event: String,
    pub(super) node: String,
    pub(super) text: String,
}

impl Data {
    /// Takes in what was told so long after we began.
    pub(super) fn take(&mut self, news: News, now: Duration) {
        match news {
            News::Topology(topology) => {
                self.away = None;
                self.remember_lag(&topology);
                self.topology = Some(*topology);
            }
            News::Away(why) => {
                let since = self.away.as_ref().map_or(now, |(since, _)| *since);
                self.away = Some((since, clean(&why)));
            }
            News::Samples(samples) => {
                let [newer, older] = &mut self.scrapes;
                *older = newer.replace((now, samples));
            }
            News::Event(sent) => {
                if let Some(happened) = happened(&sent) {
                    self.events.push_front(happened);
                    self.events.truncate(EVENTS);
                }
            }
        }
    }

    fn remember_lag(&mut self, topology: &Topology) {
        self.lag.retain(|name, _| topology.nodes.contains_key(name));
        for (name, view) in &topology.nodes {
            let bars = self.lag.entry(name.clone()).or_default();
            bars.push_back(view.lag.map(|lag| lag.seconds));
            if bars.len() > BARS {
                bars.pop_front();
            }
        }
    }

    /// How late a node was of late, a bar for each look: ▁ at once, █ a minute or more, · not known.
    pub(super) fn bars(&self, node: &NodeName) -> String {
        self.lag.get(node).into_iter().flatten().map(|lag| bar(*lag)).collect()
    }

    /// The newest numbers.
    pub(super) fn samples(&self) -> Option<&Samples> {
        self.scrapes[0].as_ref().map(|(_, samples)| samples)
    }

    /// By how much a counter grew in a second, between the last two looks.
    pub(super) fn rate(&self, name: &str, of: &Sample, labels: &[&str]) -> Option<f64> {
        let [Some((now, newer)), Some((before, older))] = &self.scrapes else { return None };
        let seconds = now.checked_sub(*before)?.as_secs_f64();
        let grown = newer.alike(name, of, labels)? - older.alike(name, of, labels)?;
        // One that went back was begun anew.
        (seconds > 0.0 && grown >= 0.0).then(|| grown / seconds)
    }
}

fn bar(lag: Option<f64>) -> char {
    const BOUNDS: [(f64, char); 7] =
        [(0.1, '▁'), (0.5, '▂'), (1.0, '▃'), (5.0, '▄'), (15.0, '▅'), (30.0, '▆'), (60.0, '▇')];
    let Some(lag) = lag else { return '·' };
    BOUNDS.iter().find(|(bound, _)| lag < *bound).map_or('█', |(_, bar)| *bar)
}

/// An event in words; none for what is no object.
fn happened(sent: &Sent) -> Option<Happened> {
    let told: Value = serde_json::from_str(&sent.data).ok()?;
    let text = |key: &str| match &told[key] {
        Value::Null => String::new(),
        Value::String(text) => clean(text),
        Value::Array(all) => {
            all.iter().filter_map(Value::as_str).map(clean).collect::<Vec<_>>().join(", ")
        }
        other => clean(&other.to_string()),
    };
    if sent.event.as_deref().is_some_and(|event| event != "message") {
        let text = "some events were missed".to_owned();
        return Some(Happened {
            at: String::new(),
            event: "gap".to_owned(),
            node: String::new(),
            text,
        });
    }
    let event = text("event").replace('_', " ");
    let node = if event == "split brain" { text("claimants") } else { text("node") };
    let mut words = match event.as_str() {
        "lag" | "lag over" => lag(&told, &text("source")),
        "conflict" => {
            format!("{} new, {} since it began", text("conflicts"), text("total"))
        }
        _ => text("reason"),
    };
    if words.is_empty() {
        words = text("role");
    }
    let previous = text("previous");
    if !previous.is_empty() {
        words = format!("was {previous}; {words}");
    }
    // Hours, minutes and seconds of an RFC 3339 moment.
    let at = text("at").get(11..19).unwrap_or_default().to_owned();
    Some(Happened { at, event, node, text: words.trim_end_matches("; ").to_owned() })
}

/// How far behind whom.
fn lag(told: &Value, source: &str) -> String {
    let bytes = told["bytes"].as_u64().map(|bytes| format!("{bytes} bytes, "));
    let seconds = told["seconds"].as_f64().map(|seconds| format!("{seconds:.1} s "));
    let behind = if source.is_empty() { "the primary" } else { source };
    format!("{}{}behind {behind}", bytes.unwrap_or_default(), seconds.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(event: Option<&str>, data: &str) -> Sent {
        Sent { id: None, event: event.map(str::to_owned), data: data.to_owned() }
    }

    #[test]
    fn events_are_told_in_words() {
        let data = r#"{"id":"a-1","at":"2026-11-21T22:31:28.123Z","event":"primary","node":"n2","previous":"n1","reason":"seen\u001b"}"#;
        let told = happened(&sent(None, data)).unwrap();
        assert_eq!((told.at.as_str(), told.event.as_str()), ("22:31:28", "primary"));
        assert_eq!((told.node.as_str(), told.text.as_str()), ("n2", "was n1; seen "));
        let split = r#"{"at":"","event":"split_brain","claimants":["a","b"],"reason":"x"}"#;
        let told = happened(&sent(None, split)).unwrap();
        assert_eq!((told.event.as_str(), told.node.as_str()), ("split brain", "a, b"));
        for (data, expected) in [
            (
                r#"{"event":"lag","node":"b","source":null,"bytes":70,"seconds":1.26}"#,
                "70 bytes, 1.3 s behind the primary",
            ),
            (r#"{"event":"lag_over","node":"b","source":"a"}"#, "behind a"),
            (
                r#"{"event":"conflict","node":"b","conflicts":2,"total":7}"#,
                "2 new, 7 since it began",
            ),
        ] {
            assert_eq!(happened(&sent(None, data)).unwrap().text, expected);
        }
        assert_eq!(happened(&sent(Some("gap"), "{}")).unwrap().text, "some events were missed");
        assert_eq!(happened(&sent(None, "nonsense")), None);
    }

    #[test]
    fn a_rate_needs_two_looks_and_a_counter_that_grew() {
        let mut data = Data::default();
        let scrape =
            |value: u32| News::Samples(Samples::read(&format!("c_total{{n=\"1\"}} {value}\n")));
        let rate = |data: &Data| {
            let of = data.samples().unwrap().all("c_total")[0].clone();
            data.rate("c_total", &of, &["n"])
        };
        data.take(scrape(10), Duration::from_secs(1));
        assert_eq!(rate(&data), None);
        data.take(scrape(30), Duration::from_secs(3));
        assert_eq!(rate(&data), Some(10.0));
        data.take(scrape(5), Duration::from_secs(4));
        assert_eq!(rate(&data), None, "begun anew");
    }

    #[test]
    fn bars_grow_with_the_lag_and_old_ones_go() {
        let seen: String =
            [None, Some(0.0), Some(0.2), Some(4.0), Some(600.0)].map(bar).iter().collect();
        assert_eq!(seen, "·▁▂▄█");
        let node = NodeName::new("n1").unwrap();
        let mut data = Data::default();
        for _ in 0..BARS + 5 {
            let nodes = [(node.clone(), herdsman_watch::NodeView::default())].into();
            let topology = Topology { nodes, ..Topology::default() };
            data.take(News::Topology(Box::new(topology)), Duration::ZERO);
        }
        assert_eq!(data.bars(&node), "·".repeat(BARS));
    }

    #[test]
    fn who_is_away_is_away_since_the_first_failure() {
        let mut data = Data::default();
        for second in [1, 2, 3] {
            data.take(News::Away("refused".to_owned()), Duration::from_secs(second));
        }
        assert_eq!(data.away, Some((Duration::from_secs(1), "refused".to_owned())));
        data.take(News::Topology(Box::default()), Duration::from_secs(4));
        assert_eq!(data.away, None);
    }
}
