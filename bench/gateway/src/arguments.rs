//! What the bench is told, and the programs it finds.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::error::BenchError;
use crate::peers::{self, Peer, existing};
use crate::proxy::Kind;

/// Measures what the gateway costs, beside PgBouncer and others, on a server of its own.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    /// How often everything is repeated, in turn [default: 5; 2 with --quick].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: Option<u32>,
    /// Seconds of each load that count, after one that does not [default: 5; 2 with --quick].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub(crate) seconds: Option<u64>,
    /// Less of everything.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only this part [default: load and memory].
    #[arg(long, value_enum)]
    pub(crate) part: Option<Part>,
    /// Only workloads with this in their name.
    #[arg(long, value_name = "PART")]
    pub(crate) only: Vec<String>,
    /// Numbers of clients.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 32, 1000])]
    pub(crate) clients: Vec<usize>,
    /// Clients that are logged in and say nothing, for the part memory.
    #[arg(long, default_value_t = 1000, value_parser = parse_idle)]
    pub(crate) idle: usize,
    /// Clients come with TLS; the server has none from a proxy.
    #[arg(long)]
    pub(crate) tls: bool,
    /// Size of pgbench's tables: times 100,000 rows.
    #[arg(long, default_value_t = 10)]
    pub(crate) scale: u32,
    /// The program `herdsman` [default: the one beside this program].
    #[arg(long, value_name = "PATH", env = "HERDSMAN_BENCH_PROGRAM")]
    herdsman: Option<PathBuf>,
    /// The program `pgbouncer` [default: the one that is installed].
    #[arg(long, value_name = "PATH")]
    pgbouncer: Option<PathBuf>,
    /// The program `pgcat`, to be measured too.
    #[arg(long, value_name = "PATH")]
    pgcat: Option<PathBuf>,
    /// The program `pgdog`, to be measured too.
    #[arg(long, value_name = "PATH")]
    pgdog: Option<PathBuf>,
    /// The program `odyssey`, to be measured too.
    #[arg(long, value_name = "PATH")]
    odyssey: Option<PathBuf>,
    /// The program `pg_doorman`, to be measured too.
    #[arg(long, value_name = "PATH")]
    pg_doorman: Option<PathBuf>,
    /// PgBouncer takes our place too: what the bench itself makes different.
    #[arg(long)]
    pub(crate) against_itself: bool,
    /// Major version of the server.
    #[arg(long, default_value_t = 15)]
    pub(crate) pg_version: u32,
    /// Be the floor: pass on what comes to the first port to the second.
    #[arg(long, num_args = 2, value_names = ["PORT", "TO"], hide = true)]
    pub(crate) pass_on: Option<Vec<u16>>,
    /// Print one JSON document instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// pgbench with each protocol, results of 1,000 rows, connections, TPC-B, batches, 1 GiB each way.
    Load,
    /// What idle clients take.
    Memory,
    /// System calls of the same loads, with strace, which must be installed.
    Calls,
}

/// There are not more ports on one address, and not more places in the proxies' configurations.
fn parse_idle(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(clients @ 1..=15_000) => Ok(clients),
        _ => Err("takes a number from 1 to 15000".to_owned()),
    }
}

impl Arguments {
    fn path(&self, peer: Peer) -> Option<&PathBuf> {
        match peer {
            Peer::PgCat => self.pgcat.as_ref(),
            Peer::PgDog => self.pgdog.as_ref(),
            Peer::Odyssey => self.odyssey.as_ref(),
            Peer::PgDoorman => self.pg_doorman.as_ref(),
        }
    }

    /// The others, PgBouncer first, each with its version.
    pub(crate) async fn others(&self) -> Result<Vec<(Kind, String)>, BenchError> {
        let program = self.pgbouncer()?;
        let version = peers::version("pgbouncer", &program).await?;
        let prepared = peers::has_prepared_statements(&version);
        let mut others = vec![(Kind::PgBouncer { program, session: false, prepared }, version)];
        for peer in Peer::ALL {
            if let Some(path) = self.path(peer) {
                let advice = "give the path of a program that was built elsewhere";
                let program = existing(peer.name(), path.clone(), advice)?;
                let version = peers::version(peer.name(), &program).await?;
                others.push((Kind::Peer { peer, program }, version));
            }
        }
        Ok(others)
    }

    pub(crate) fn ours(&self) -> Result<PathBuf, BenchError> {
        let path = match &self.herdsman {
            Some(path) => path.clone(),
            None => std::env::current_exe()
                .map_err(BenchError::system("find this program"))?
                .with_file_name("herdsman"),
        };
        let advice =
            "build it with `cargo build --release -p herdsman-cli`, or name it with --herdsman";
        existing("herdsman", path, advice)
    }

    fn pgbouncer(&self) -> Result<PathBuf, BenchError> {
        let advice = "install it (Debian: apt-get install pgbouncer), or name it with --pgbouncer";
        if let Some(path) = &self.pgbouncer {
            return existing("pgbouncer", path.clone(), advice);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        let found = folders.map(|folder| folder.join("pgbouncer")).find(|path| path.is_file());
        existing("pgbouncer", found.unwrap_or_else(|| PathBuf::from("pgbouncer")), advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_idle_clients_is_one_that_has_ports() {
        assert_eq!(parse_idle("10000"), Ok(10_000));
        for wrong in ["0", "15001", "-1", "many"] {
            assert!(parse_idle(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_path_without_a_program_names_the_contestant() {
        let arguments = |pgcat: &str| {
            ["bench", "--pgbouncer", "/bin/echo", "--pgcat", pgcat].map(str::to_owned)
        };
        let others =
            async |pgcat: &str| Arguments::try_parse_from(arguments(pgcat)).unwrap().others().await;
        let error = others("/nowhere/pgcat").await.unwrap_err().to_string();
        assert!(error.starts_with("pgcat cannot be measured: `/nowhere/pgcat`"), "{error}");
        let error = others("/bin/false").await.unwrap_err().to_string();
        assert!(error.starts_with("pgcat (/bin/false) ended"), "{error}");
        let found = others("/bin/echo").await.unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
