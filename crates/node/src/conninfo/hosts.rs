//! Connection strings that name several hosts, with libpq's rules.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{Conninfo, ConninfoError, Lookup, parse, wrong};

/// A connection string with one host or several: `host=a,b,c port=5432,,5433`, `postgres://u@h1:5432,h2,[::1]:5433/db`.
///
/// As in libpq one port applies to all hosts, an empty one is 5432, and otherwise there are as many as hosts; the same
/// holds for `hostaddr`, and the password file is looked up for each host. Everything else is the same for all.
///
/// ```
/// use herdsman_node::{Hosts, TargetSessionAttrs};
/// let hosts: Hosts = "postgres://app@db1,db2:5433/shop?target_session_attrs=read-write".parse().unwrap();
/// let endpoints: Vec<_> = hosts.nodes.iter().map(|node| node.endpoint()).collect();
/// assert_eq!(endpoints, ["db1:5432", "db2:5433"]);
/// assert_eq!(hosts.target, TargetSessionAttrs::ReadWrite);
/// ```
#[derive(Clone, Debug)]
pub struct Hosts {
    /// One for each host, in the order given; at least one.
    pub nodes: Vec<Conninfo>,
    /// Which of them will do.
    pub target: TargetSessionAttrs,
    /// In which order they are tried.
    pub balance: LoadBalanceHosts,
}

/// libpq's `target_session_attrs`: which server will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TargetSessionAttrs {
    /// Any that can be connected to.
    #[default]
    Any,
    /// One that accepts writes by default: no standby, and `default_transaction_read_only` off.
    ReadWrite,
    /// One that does not.
    ReadOnly,
    /// One that is not a standby.
    Primary,
    /// A standby.
    Standby,
    /// A standby, or any where there is none.
    PreferStandby,
}

/// libpq's `load_balance_hosts`: in which order hosts are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LoadBalanceHosts {
    /// As they are listed.
    #[default]
    Disable,
    /// In random order.
    Random,
}

/// The parameters that are lists, with their variables: read here, so that no single host takes them for its own.
const LISTS: [(&str, &str); 3] =
    [("host", "PGHOST"), ("hostaddr", "PGHOSTADDR"), ("port", "PGPORT")];

impl Hosts {
    /// Builds from libpq keyword pairs, completed from the environment as [`Conninfo::from_pairs`] does it.
    ///
    /// # Errors
    /// [`ConninfoError`] names the first parameter that is wrong and what it may be.
    pub fn from_pairs<K: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConninfoError> {
        let pairs = pairs.into_iter().map(|(k, v)| (k.as_ref().to_owned(), v.as_ref().to_owned()));
        Self::build(pairs.collect(), &|name| std::env::var(name).ok())
    }

    fn build(mut pairs: BTreeMap<String, String>, env: Lookup<'_>) -> Result<Self, ConninfoError> {
        let mut take = |key: &str, variable: &str| {
            let given = pairs.remove(key).filter(|value| !value.is_empty());
            given.or_else(|| env(variable).filter(|value| !value.is_empty()))
        };
        let [hosts, addresses, ports] = LISTS.map(|(key, variable)| List::new(take(key, variable)));
        let target = take("target_session_attrs", "PGTARGETSESSIONATTRS");
        let balance = take("load_balance_hosts", "PGLOADBALANCEHOSTS");

        let count = hosts.0.len().max(addresses.0.len()).max(1);
        if !hosts.0.is_empty() && !addresses.0.is_empty() && hosts.0.len() != addresses.0.len() {
            let problem = format!(
                "lists {} for {}; expected one for each host, which may be empty",
                amount(addresses.0.len(), "address", "es"),
                amount(hosts.0.len(), "host", "s"),
            );
            return Err(wrong("hostaddr", &problem));
        }
        if ports.0.len() > 1 && ports.0.len() != count {
            let problem = format!(
                "lists {} for {}; expected one for all, or one for each, which may be empty",
                amount(ports.0.len(), "port", "s"),
                amount(count, "host", "s"),
            );
            return Err(wrong("port", &problem));
        }
        let alone = |name: &str| {
            let is_list = LISTS.iter().any(|(_, variable)| *variable == name);
            (!is_list).then(|| env(name)).flatten()
        };
        let node = |number: usize| {
            let mut pairs = pairs.clone();
            let address = addresses.at(number);
            // Without a name, the address is what the password file and errors know the host by.
            let host = hosts.at(number).or(address);
            let port = ports.at(if ports.0.len() == 1 { 0 } else { number }).map(str::trim);
            for (key, value) in [("host", host), ("hostaddr", address), ("port", port)] {
                pairs.extend(value.map(|value| (key.to_owned(), value.to_owned())));
            }
            Conninfo::build(pairs, &alone)
        };
        Ok(Self {
            nodes: (0..count).map(node).collect::<Result<_, _>>()?,
            target: target.map_or(Ok(TargetSessionAttrs::default()), |word| word.parse())?,
            balance: balance.map_or(Ok(LoadBalanceHosts::default()), |word| word.parse())?,
        })
    }
}

impl TargetSessionAttrs {
    const ALL: [Self; 6] = [
        Self::Any,
        Self::ReadWrite,
        Self::ReadOnly,
        Self::Primary,
        Self::Standby,
        Self::PreferStandby,
    ];

    /// libpq's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        }
    }
}

impl LoadBalanceHosts {
    const ALL: [Self; 2] = [Self::Disable, Self::Random];

    /// libpq's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Random => "random",
        }
    }
}

impl FromStr for Hosts {
    type Err = ConninfoError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // In a string, a piece of a badly escaped password can end up as any other value: none is shown.
        Self::from_pairs(parse::pairs(text)?).map_err(ConninfoError::without_value)
    }
}

impl FromStr for TargetSessionAttrs {
    type Err = ConninfoError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|known| known.as_str() == word);
        let allowed = "any, read-write, read-only, primary, standby or prefer-standby";
        found.ok_or_else(|| not_allowed("target_session_attrs", word, allowed))
    }
}

impl FromStr for LoadBalanceHosts {
    type Err = ConninfoError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|known| known.as_str() == word);
        found.ok_or_else(|| not_allowed("load_balance_hosts", word, "disable or random"))
    }
}

impl fmt::Display for TargetSessionAttrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for LoadBalanceHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The items of a comma-separated value; none at all where there is no value.
struct List(Vec<String>);

impl List {
    fn new(value: Option<String>) -> Self {
        Self(value.map(|value| value.split(',').map(str::to_owned).collect()).unwrap_or_default())
    }

    fn at(&self, number: usize) -> Option<&str> {
        self.0.get(number).map(String::as_str).filter(|item| !item.is_empty())
    }
}

fn not_allowed(key: &str, word: &str, allowed: &str) -> ConninfoError {
    wrong(key, &format!("`{word}` is not one of its values; expected {allowed}"))
}

fn amount(count: usize, noun: &str, plural: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { plural })
}

#[cfg(test)]
mod tests;
