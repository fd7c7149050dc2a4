//! A configuration made of Kluster's environment variables: one PostgreSQL node, and Kafka.

use std::path::Path;

use serde_json::json;

use crate::exit::{Exit, Failed};

/// Where it is said to come from, in place of a file.
const PLACE: &str = "environment";
/// What names a configuration file, which would say something else.
const FILES: [&str; 2] = herdsman_config::VARIABLES;

/// What Kluster's adapters are started with.
#[derive(Debug, PartialEq, Eq)]
struct Variables {
    brokers: Vec<String>,
    all: String,
    one: String,
    response: String,
    database: String,
}

impl Variables {
    /// # Errors
    /// What is missing, or set twice.
    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        if let Some(name) = FILES.into_iter().find(|name| set(name).is_some()) {
            return Err(format!(
                "`--from-env` takes everything from the environment, and ${name} names a configuration file: unset one of the two"
            ));
        }
        let needed = |name: &str, what: &str| {
            set(name).ok_or_else(|| format!("${name} is not set, expected {what}"))
        };
        let brokers =
            needed("KAFKA_BOOTSTRAP_SERVERS", "brokers as host:port, with commas between")?;
        let database = needed(
            "DATABASE_ADDRESS",
            "a PostgreSQL database as postgres://user:password@host/name",
        )?;
        let all = match (set("KAFKA_ALL_TOPIC"), set("KAFKA_MUTATION_TOPIC")) {
            (Some(all), Some(mutation)) if all != mutation => {
                return Err(
                    "$KAFKA_ALL_TOPIC and $KAFKA_MUTATION_TOPIC are two names for the topic of the log, expected one of them"
                        .to_owned(),
                );
            }
            (all, mutation) => all.or(mutation).unwrap_or_else(|| "ALL".to_owned()),
        };
        Ok(Self {
            brokers: brokers.split(',').map(|it| it.trim().to_owned()).collect(),
            all,
            one: set("KAFKA_ONE_TOPIC").unwrap_or_else(|| "ONE".to_owned()),
            response: set("KAFKA_RESPONSE_TOPIC").unwrap_or_else(|| "RESPONSE".to_owned()),
            database,
        })
    }

    /// The configuration, in JSON, which is YAML.
    fn text(&self, folder: &Path) -> String {
        let node = node(&self.database);
        let socket = folder.join(format!("herdsman-{node}.socket"));
        let requests = json!({"one": self.one, "response": self.response});
        let kafka = json!({"brokers": self.brokers, "topic": self.all, "replication": 1, "requests": requests});
        let nodes = json!({node.clone(): {"postgres": {"host": node.clone()}}});
        let ledger = json!({"socket": socket, "log": {"kafka": kafka}, "nodes": nodes});
        json!({"hosts": {node: self.database}, "ledger": ledger}).to_string()
    }
}

/// The configuration's text and where it is from.
///
/// # Errors
/// What is missing, or said twice.
pub(super) fn configuration() -> Result<(&'static Path, String), Failed> {
    let variables = Variables::read(|name| std::env::var(name).ok())
        .map_err(|problem| Exit::Config.with(problem))?;
    let folder = ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"]
        .iter()
        .find_map(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
        .unwrap_or_default();
    Ok((Path::new(PLACE), variables.text(Path::new(&folder))))
}

/// What answers call the node: the server's name, and its port where one is given.
fn node(address: &str) -> String {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let rest = rest.split(['/', '?']).next().unwrap_or_default();
    let server = rest.rsplit_once('@').map_or(rest, |(_, server)| server);
    let fits = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
    let name: String = server.chars().map(fits).take(60).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "node".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Variables, String> {
        let all: BTreeMap<_, _> = pairs.iter().copied().collect();
        Variables::read(|name| all.get(name).map(|value| (*value).to_owned()))
    }

    const BOTH: [(&str, &str); 2] = [
        ("KAFKA_BOOTSTRAP_SERVERS", "k1:9092, k2:9092"),
        ("DATABASE_ADDRESS", "postgres://app:hunter2@db1:5433/shop?sslmode=disable"),
    ];

    #[test]
    fn klusters_variables_make_one_node_and_three_topics() {
        let variables = read(&BOTH).unwrap();
        assert_eq!(variables.brokers, ["k1:9092", "k2:9092"]);
        let topics = (variables.all.as_str(), variables.one.as_str(), variables.response.as_str());
        assert_eq!(topics, ("ALL", "ONE", "RESPONSE"));
        let text = variables.text(Path::new("/run"));
        let file = crate::config::Config::from_text(Path::new(PLACE), &text).unwrap();
        assert_eq!(file.ledger.nodes.keys().collect::<Vec<_>>(), ["db1-5433"]);
        assert!(file.ledger.requests().unwrap().is_some());

        let mutation = [&BOTH[..], &[("KAFKA_MUTATION_TOPIC", "kluster-mutation-test")]].concat();
        assert_eq!(read(&mutation).unwrap().all, "kluster-mutation-test");
    }

    #[test]
    fn what_is_missing_or_said_twice_is_refused_without_a_secret() {
        let with = |more: &[(&'static str, &'static str)]| [&BOTH[..], more].concat();
        let cases = [
            (Vec::new(), "KAFKA_BOOTSTRAP_SERVERS is not set"),
            (BOTH[..1].to_vec(), "DATABASE_ADDRESS is not set"),
            (
                with(&[("KAFKA_ALL_TOPIC", "a"), ("KAFKA_MUTATION_TOPIC", "b")]),
                "two names for the topic",
            ),
            (with(&[("HERDSMAN_CONFIG", "h.yml")]), "HERDSMAN_CONFIG names a configuration file"),
        ];
        for (pairs, expected) in cases {
            let told = read(&pairs).unwrap_err();
            assert!(told.contains(expected) && !told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn a_node_is_called_as_its_server() {
        for (address, expected) in [
            ("postgres://u:p@h/d", "h"),
            ("postgres://u:p%40@h:1/d?x=y", "h-1"),
            ("postgres:///d?host=/run", "node"),
            ("postgres://[::1]:5/d", "1--5"),
        ] {
            assert_eq!(node(address), expected, "{address}");
        }
    }
}
