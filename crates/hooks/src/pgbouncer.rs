//! A PgBouncer whose databases go to the right servers.
//!
//! Its file is rewritten in one step where an address changes, then it is told RELOAD over its console, and for each
//! database that moved RECONNECT, or KILL and RESUME. Without a proven primary, databases of the writer stay where they are.

mod console;
mod ini;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use herdsman_config::Secret;
use herdsman_node::{Conninfo, ConninfoError};

use self::ini::Address;
use crate::config::{DatabaseTarget, PgBouncerConfig};
use crate::file::{self, New};
use crate::herd::{Herd, Place, Places};

pub(crate) use console::greet;

/// The hook.
#[derive(Debug)]
pub(crate) struct PgBouncer {
    config: PgBouncerConfig,
    console: Conninfo,
    places: Places,
    timeout: Duration,
    /// Databases whose new address is in the file, and PgBouncer may not know it.
    owed: BTreeSet<String>,
    /// Whether it was told RELOAD since we began: what wrote the file may have ended before it could.
    told: bool,
}

/// How the console is reached.
pub(crate) fn conninfo(console: &BTreeMap<String, Secret>) -> Result<Conninfo, ConninfoError> {
    let given = console.iter().map(|(key, value)| (key.as_str(), value.expose()));
    let mut pairs = BTreeMap::from([
        ("port", "6432"),
        ("dbname", "pgbouncer"),
        ("application_name", "herdsman"),
    ]);
    pairs.extend(given);
    Conninfo::from_pairs(pairs)
}

/// Whether a file has lines for these databases.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn looked_at(path: &Path, databases: &[&str]) -> Result<(), String> {
    let text = file::read(path)?.ok_or_else(|| missing(path))?;
    let address = Address { host: "host".to_owned(), port: 1 };
    let wanted = databases.iter().map(|name| ((*name).to_owned(), address.clone()));
    ini::rewrite(&text, &wanted.collect())
        .map(|_| ())
        .map_err(|problem| format!("`{}`: {problem}", path.display()))
}

impl PgBouncer {
    pub(crate) fn new(
        config: PgBouncerConfig,
        places: Places,
        timeout: Duration,
    ) -> Result<Self, ConninfoError> {
        let console = conninfo(&config.console)?;
        Ok(Self { config, console, places, timeout, owed: BTreeSet::new(), told: false })
    }

    /// Makes it so.
    pub(crate) async fn keep(&mut self, herd: &Herd) -> Result<String, String> {
        let moved = self.write(herd)?;
        self.owed.extend(moved);
        if self.owed.is_empty() && self.told {
            return Ok("nothing changes".to_owned());
        }
        let owed = self.owed.iter().map(String::as_str);
        let old = self.config.old_connections;
        Box::pin(console::reload(&self.console, self.timeout, owed, old)).await?;
        self.told = true;
        let moved = std::mem::take(&mut self.owed);
        if moved.is_empty() {
            return Ok("RELOAD, nothing has moved".to_owned());
        }
        let moved: Vec<_> = moved.into_iter().collect();
        Ok(format!("RELOAD, moved {}", moved.join(", ")))
    }

    /// Writes the file, where it changes. Says which databases moved.
    fn write(&self, herd: &Herd) -> Result<Vec<String>, String> {
        let path = &self.config.file;
        let source = self.config.template.as_ref().unwrap_or(path);
        let text = file::read(source)?.ok_or_else(|| missing(source))?;
        let current = if source == path { Some(text.clone()) } else { file::read(path)? };
        let databases = || self.config.databases.keys().map(String::as_str);
        let before = current.as_deref().map(|text| ini::addresses(text, databases()));
        let mut wanted = before.clone().unwrap_or_default();
        wanted.extend(addresses(&self.config.databases, herd, &self.places));
        let next = ini::rewrite(&text, &wanted)
            .map_err(|problem| format!("`{}`: {problem}", source.display()))?;
        // A template's own addresses are nobody's word.
        let unknown = current.is_none() && databases().any(|name| !wanted.contains_key(name));
        if current.as_ref() == Some(&next) || unknown {
            return Ok(Vec::new());
        }
        file::replace(path, &next, New::Like(source))?;
        let before = before.unwrap_or_default();
        let moved = wanted.into_iter().filter(|(name, address)| before.get(name) != Some(address));
        Ok(moved.map(|(name, _)| name).collect())
    }
}

/// Where databases have to go; those that stay where they are, are left out.
fn addresses(
    databases: &BTreeMap<String, DatabaseTarget>,
    herd: &Herd,
    places: &Places,
) -> BTreeMap<String, Address> {
    let at = |place: &Place| Address { host: place.host.clone(), port: place.port };
    let writer = herd.writer().and_then(|node| places.get(node)).map(at);
    let readers: Vec<_> = herd.readers().into_iter().filter_map(|node| places.get(node)).collect();
    let reader = readers.first().map(|first| {
        // A list of hosts has one port. A folder of a unix socket cannot be in one.
        let together = readers.iter().all(|p| p.port == first.port && !p.host.starts_with('/'));
        let hosts: Vec<_> = readers.iter().map(|place| place.host.as_str()).collect();
        if together { Address { host: hosts.join(","), port: first.port } } else { at(first) }
    });
    let address = |target: DatabaseTarget| match target {
        DatabaseTarget::Writer => writer.clone(),
        DatabaseTarget::Reader => reader.clone(),
    };
    databases.iter().filter_map(|(name, target)| Some((name.clone(), address(*target)?))).collect()
}

fn missing(path: &Path) -> String {
    format!("there is no file `{}`; correct the path, or write it", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::herd::Part;
    use crate::herd::tests::{herd, name};

    fn places(ports: [u16; 3]) -> Places {
        let place = |node: &str, port| {
            (name(node), Place { host: format!("{node}.db"), port, address: None })
        };
        ["a", "b", "c"].into_iter().zip(ports).map(|(node, port)| place(node, port)).collect()
    }

    #[test]
    fn databases_go_where_the_verdict_says_and_stay_where_it_says_nothing() {
        let databases = BTreeMap::from([
            ("ro".to_owned(), DatabaseTarget::Reader),
            ("rw".to_owned(), DatabaseTarget::Writer),
        ]);
        let (same, other) = (places([1, 1, 1]), places([1, 2, 3]));
        let all = [("a", Part::Writer), ("b", Part::Reader), ("c", Part::Reader)];
        let one = [("a", Part::Writer), ("b", Part::Resting), ("c", Part::Away)];
        let nobody = [("a", Part::Resting), ("b", Part::Reader), ("c", Part::Away)];
        let none = [("a", Part::Resting), ("b", Part::Resting), ("c", Part::Away)];
        for (parts, places, rw, ro) in [
            (all, &same, Some("a.db:1"), Some("b.db,c.db:1")),
            (all, &other, Some("a.db:1"), Some("b.db:2")),
            (one, &same, Some("a.db:1"), Some("a.db:1")),
            (nobody, &same, None, Some("b.db:1")),
            (none, &same, None, None),
        ] {
            let found = addresses(&databases, &herd(&parts), places);
            let shown = |database: &str| {
                found.get(database).map(|address| format!("{}:{}", address.host, address.port))
            };
            assert_eq!((shown("rw").as_deref(), shown("ro").as_deref()), (rw, ro), "{parts:?}");
        }
    }

    #[test]
    fn a_template_is_filled_in_and_what_is_not_known_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("template"), "[databases]\nro = pool_size=1\nrw = host=x port=9\n")
            .unwrap();
        let config: PgBouncerConfig = serde_json::from_value(serde_json::json!({
            "file": path("file"), "template": path("template"),
            "databases": { "ro": "reader", "rw": "writer" }, "console": { "host": "localhost" },
        }))
        .unwrap();
        let hook = PgBouncer::new(config, places([1, 2, 3]), Duration::from_secs(1)).unwrap();
        let text = || std::fs::read_to_string(path("file")).unwrap();
        let nobody = herd(&[("a", Part::Resting), ("b", Part::Reader), ("c", Part::Away)]);
        assert!(hook.write(&nobody).unwrap().is_empty());
        assert!(!path("file").exists(), "what the template says is no proof");
        let healthy = herd(&[("a", Part::Writer), ("b", Part::Reader), ("c", Part::Away)]);
        assert_eq!(hook.write(&healthy).unwrap(), ["ro", "rw"]);
        let expected = "[databases]\nro = host=b.db port=2 pool_size=1\nrw = host=a.db port=1\n";
        assert_eq!(text(), expected);
        assert!(hook.write(&healthy).unwrap().is_empty());
        let lost = herd(&[("a", Part::Away), ("b", Part::Resting), ("c", Part::Away)]);
        assert!(hook.write(&lost).unwrap().is_empty());
        assert_eq!(text(), expected);
        let promoted = herd(&[("a", Part::Away), ("b", Part::Writer), ("c", Part::Away)]);
        assert_eq!(hook.write(&promoted).unwrap(), ["rw"]);
        assert!(text().contains("rw = host=b.db port=2"));
    }

    #[test]
    fn the_console_is_found_by_its_defaults() {
        let info =
            conninfo(&BTreeMap::from([("user".to_owned(), "boss".to_owned().into())])).unwrap();
        assert_eq!(
            (info.port, info.dbname.as_str(), info.user.as_str()),
            (6432, "pgbouncer", "boss")
        );
    }
}
