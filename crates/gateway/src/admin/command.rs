//! What an administrator may say, read from text. Pure.

mod words;

#[cfg(test)]
mod tests;

use words::{Word, Words, statements};

use super::Ending;
use crate::wire::Problem;
use crate::wire::error::code;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// `SHOW …`.
    Show(Show),
    /// `PAUSE [database]`.
    Pause(Option<String>),
    /// `RESUME [database]`: ends what `PAUSE`, `KILL` and `HOLD` began.
    Resume(Option<String>),
    /// `HOLD`.
    Hold,
    /// `SWITCHOVER node [force]`.
    Switchover {
        /// The standby that is to be primary.
        node: String,
        /// Go on where transactions do not end in time: they are cut off.
        force: bool,
    },
    /// `RELOAD`.
    Reload,
    /// `KILL [database]`.
    Kill(Option<String>),
    /// `KILL_CLIENT id`.
    KillClient(u64),
    /// `DISABLE database`.
    Disable(String),
    /// `ENABLE database`.
    Enable(String),
    /// `RECONNECT [database]`.
    Reconnect(Option<String>),
    /// `WAIT_CLOSE [database]`.
    WaitClose(Option<String>),
    /// `SHUTDOWN [WAIT_FOR_SERVERS | WAIT_FOR_CLIENTS]`.
    Shutdown(Ending),
    /// `SUSPEND`: as `PAUSE`, and nobody new is accepted.
    Suspend,
    /// What drivers say of themselves (`SET`, `BEGIN`, `DISCARD ALL` …): answered with this tag, without effect.
    Ignored(&'static str),
}

/// What `SHOW` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    /// The commands.
    Help,
    /// Databases and users, with their connections.
    Pools,
    /// Clients.
    Clients,
    /// Server connections.
    Servers,
    /// Clients and server connections.
    Sockets,
    /// Every pool of every node, with how long things took.
    NodePools,
    /// Sums and averages by database.
    Stats,
    /// Sums by database.
    StatsTotals,
    /// Averages by database.
    StatsAverages,
    /// Sums and averages of everything.
    Totals,
    /// Databases.
    Databases,
    /// Users.
    Users,
    /// How many there are of what.
    Lists,
    /// Settings.
    Config,
    /// Memory.
    Mem,
    /// Sockets to hand over. None: a restart hands over those that are listened on, by another way.
    Fds,
    /// Other gateways, which cancel requests would be passed on to. None.
    Peers,
    /// Connections to those. None.
    PeerPools,
    /// Names that are remembered. None: the system looks them up.
    DnsHosts,
    /// Zones of those. None.
    DnsZones,
    /// The version.
    Version,
    /// Nodes, their roles, and why.
    Topology,
    /// Whether anything is paused or held.
    State,
    /// A parameter of PostgreSQL that drivers ask for.
    Parameter(&'static str, &'static str),
}

/// What can be shown, by name.
const SHOWS: [(&str, Show); 25] = [
    ("help", Show::Help),
    ("pools", Show::Pools),
    ("clients", Show::Clients),
    ("servers", Show::Servers),
    ("sockets", Show::Sockets),
    ("active_sockets", Show::Sockets),
    ("node_pools", Show::NodePools),
    ("stats", Show::Stats),
    ("stats_totals", Show::StatsTotals),
    ("stats_averages", Show::StatsAverages),
    ("totals", Show::Totals),
    ("databases", Show::Databases),
    ("users", Show::Users),
    ("lists", Show::Lists),
    ("config", Show::Config),
    ("mem", Show::Mem),
    ("fds", Show::Fds),
    ("peers", Show::Peers),
    ("peer_pools", Show::PeerPools),
    ("dns_hosts", Show::DnsHosts),
    ("dns_zones", Show::DnsZones),
    ("version", Show::Version),
    ("topology", Show::Topology),
    ("state", Show::State),
    ("server_version", Show::Parameter("server_version", super::SERVER_VERSION)),
];

/// Parameters of PostgreSQL that drivers ask for when they log in or check that a connection lives.
const PARAMETERS: [(&str, &str); 8] = [
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("timezone", "GMT"),
    ("standard_conforming_strings", "on"),
    ("transaction_read_only", "off"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
    ("search_path", ""),
];

/// Everything that can be said, for `SHOW HELP` and for whoever says something else.
pub(super) const HELP: [&str; 19] = [
    "SHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|SOCKETS|USERS|LISTS|MEM|STATE|VERSION",
    "SHOW TOPOLOGY|NODE_POOLS",
    "SHOW FDS|PEERS|PEER_POOLS|DNS_HOSTS|DNS_ZONES (empty)",
    "SHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS",
    "RELOAD",
    "PAUSE [database]",
    "RESUME [database]",
    "HOLD",
    "SWITCHOVER node [FORCE]",
    "DISABLE database",
    "ENABLE database",
    "RECONNECT [database]",
    "KILL [database]",
    "KILL_CLIENT id",
    "WAIT_CLOSE [database]",
    "SUSPEND",
    "SHUTDOWN [WAIT_FOR_SERVERS | WAIT_FOR_CLIENTS]",
    "SET key = value (ignored)",
    "BEGIN|COMMIT|ROLLBACK (ignored)",
];

/// Reads a text that may hold several commands. None at all is fine.
///
/// # Errors
/// `42601` for the first that cannot be read. Nothing of the text is to be carried out then.
pub(super) fn parse(text: &str) -> Result<Vec<Command>, Problem> {
    let read = |words: Result<Vec<Word>, Problem>| one(&mut Words::new(words?));
    statements(text).map(read).collect()
}

fn one(words: &mut Words) -> Result<Command, Problem> {
    let verb = words.keyword().unwrap_or_default();
    let command = match verb.as_str() {
        "show" => Command::Show(show(words)?),
        "pause" => Command::Pause(words.name()),
        "resume" => Command::Resume(words.name()),
        "hold" => Command::Hold,
        "switchover" => {
            let node = needed(words, "SWITCHOVER node [FORCE]")?;
            Command::Switchover { node, force: words.skip("force") }
        }
        "reload" => Command::Reload,
        "kill" => Command::Kill(words.name()),
        "kill_client" => Command::KillClient(id(words)?),
        "disable" => Command::Disable(needed(words, "DISABLE database")?),
        "enable" => Command::Enable(needed(words, "ENABLE database")?),
        "reconnect" => Command::Reconnect(words.name()),
        "wait_close" => Command::WaitClose(words.name()),
        "shutdown" => Command::Shutdown(if words.skip("wait_for_servers") {
            Ending::Transactions
        } else if words.skip("wait_for_clients") {
            Ending::Clients
        } else {
            Ending::AtOnce
        }),
        "suspend" => Command::Suspend,
        "set" => return Ok(Command::Ignored("SET")),
        "reset" => return Ok(Command::Ignored("RESET")),
        "discard" => return Ok(Command::Ignored("DISCARD ALL")),
        "deallocate" => return Ok(Command::Ignored("DEALLOCATE")),
        "begin" | "start" => return Ok(Command::Ignored("BEGIN")),
        "commit" | "end" => return Ok(Command::Ignored("COMMIT")),
        "rollback" | "abort" => return Ok(Command::Ignored("ROLLBACK")),
        _ => return Err(unknown(&words.all())),
    };
    match words.rest() {
        None => Ok(command),
        Some(rest) => {
            Err(problem(format!("`{}` does not belong to {}", short(&rest), verb.to_uppercase())))
        }
    }
}

fn show(words: &mut Words) -> Result<Show, Problem> {
    let Some(what) = words.keyword() else { return Ok(Show::Help) };
    if let Some((_, show)) = SHOWS.iter().find(|(name, _)| *name == what) {
        return Ok(*show);
    }
    if let Some((name, value)) = PARAMETERS.iter().find(|(name, _)| *name == what) {
        return Ok(Show::Parameter(name, value));
    }
    // `SHOW TRANSACTION ISOLATION LEVEL` and its underscored form.
    if what == "transaction_isolation"
        || (what == "transaction" && words.skip("isolation") && words.skip("level"))
    {
        return Ok(Show::Parameter("transaction_isolation", "read committed"));
    }
    Err(unknown(&words.all()))
}

fn needed(words: &mut Words, usage: &'static str) -> Result<String, Problem> {
    words.name().ok_or_else(|| problem(format!("a name is missing; expected {usage}")))
}

fn id(words: &mut Words) -> Result<u64, Problem> {
    let word = needed(words, "KILL_CLIENT id")?;
    let wrong =
        || problem(format!("`{}` is no client's id; see `id` in SHOW CLIENTS", short(&word)));
    word.parse().map_err(|_no_number| wrong())
}

fn unknown(text: &str) -> Problem {
    problem(format!("unknown command `{}`", short(text)))
}

fn problem(message: String) -> Problem {
    let hint = format!("the admin database takes these commands:\n\t{}", HELP.join("\n\t"));
    Problem::new(code::SYNTAX, message).hint(hint)
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}
