//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::ledger::LedgerArgs;
use crate::commands::mesh::MeshArgs;
use crate::commands::sandbox::SandboxArgs;
use crate::commands::stream::StreamArgs;

const ABOUT: &str = "\
Keeps a herd of PostgreSQL servers together: proves who is primary, never guesses, tells over HTTP.";

const AFTER: &str =
    "Every command has examples: try `herdsman run --help`. All pages: `herdsman manual`.";

const TEMPLATE: &str = "\
{about}

{usage-heading} {usage}

Commands:
{subcommands}

Options:
{options}{after-help}";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "herdsman",
    version,
    about = ABOUT,
    after_help = AFTER,
    help_template = TEMPLATE,
    override_usage = "herdsman [OPTIONS] <COMMAND>   or   herdsman [OPTIONS] [FILE]",
    max_term_width = 100,
    disable_version_flag = true,
    disable_help_subcommand = true,
    subcommand_value_name = "COMMAND"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Configuration file, when no command is given.
    #[arg(value_name = "FILE", hide = true)]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) global: Global,

    /// Print the version.
    #[arg(short = 'V', long, short_alias = 'v', action = clap::ArgAction::Version)]
    version: Option<bool>,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Configuration file [default: $HERDSMAN_CONFIG, ./herdsman.yml, …]
    #[arg(short, long, alias = "c", value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,

    /// Log more, whatever `loglevel` says
    #[arg(short, long, alias = "d", global = true)]
    pub(crate) debug: bool,

    /// Shape of the log: text, or one JSON object per line
    #[arg(
        long,
        value_enum,
        default_value = "text",
        value_name = "FORMAT",
        global = true,
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub(crate) log_format: LogFormat,
}

/// Shape of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Watch the nodes; serve API, gateway, stream, mesh and ledger until told to stop
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Say what is wrong with the configuration, or what it means; also: import
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Make a configuration of PgBouncer's or PgCat's
    // Not on the first screen of the help: `check` names it.
    #[command(hide = true, after_help = IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// Say what is wrong with every node and section, and what mends it; also: explain
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Print what a code such as H0101 means, and what to do about it
    // Not on the first screen of the help: who needs it is told of it.
    #[command(hide = true, after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// Show who is primary and why, and how far behind the others are; also, live: top
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Show it live: the herd, what happens to it, gateway, stream and mesh
    // Not on the first screen of the help: `status` names it.
    #[command(hide = true, after_help = TOP_EXAMPLES)]
    Top(TopArgs),
    /// Print the primary's name, for scripts
    #[command(after_help = PRIMARY_EXAMPLES)]
    Primary(PrimaryArgs),
    /// Hand every row change to your code, a command, a webhook or Kafka, in order
    #[command(after_help = STREAM_EXAMPLES)]
    Stream(StreamArgs),
    /// Have several servers take writes and hold the same rows; of several makes: ledger
    #[command(after_help = MESH_EXAMPLES)]
    Mesh(MeshArgs),
    /// Have databases of several makes follow one log, every write in the same order
    // Not on the first screen of the help: `mesh` names it.
    #[command(hide = true, after_help = LEDGER_EXAMPLES)]
    Ledger(LedgerArgs),
    /// Make a standby the primary without an error for any client; also: hold, resume
    #[command(after_help = SWITCHOVER_EXAMPLES)]
    Switchover(SwitchoverArgs),
    /// Have new transactions wait in the gateway, while another tool changes the primary
    // Not on the first screen of the help, which says where they are.
    #[command(hide = true, after_help = HOLD_EXAMPLES)]
    Hold,
    /// End a hold: the transactions that waited go on
    #[command(hide = true, after_help = RESUME_EXAMPLES)]
    Resume,
    /// Start a real cluster on this machine to try things on, and break it on purpose
    #[command(after_help = SANDBOX_EXAMPLES)]
    Sandbox(SandboxArgs),
    /// Print completions for a shell
    // Named by the line of the manual.
    #[command(hide = true, after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Print the manual page, or write all pages; also: completions for a shell
    #[command(after_help = MANUAL_EXAMPLES)]
    Manual(ManualArgs),
}

/// The configuration file as an argument.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConfigFile {
    /// Configuration file; the same as `-c FILE`
    #[arg(value_name = "CONFIG", conflicts_with = "config")]
    pub(crate) file: Option<PathBuf>,
}

/// `herdsman run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Take the listening sockets of the run that is there, and give them to the next one
    #[arg(long, value_name = "SOCKET")]
    pub(crate) take_over: Option<PathBuf>,
}

/// `herdsman check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Also connect to every node once and say what it is
    #[arg(long)]
    pub(crate) connect: bool,
    /// Print the JSON Schema of the configuration, for editors, and check nothing
    #[arg(long, conflicts_with_all = ["connect", "file"])]
    pub(crate) schema: bool,
}

/// `herdsman import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Their configuration, such as /etc/pgbouncer/pgbouncer.ini
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Write it into this file, for you alone to read, with passwords [default: standard output, without]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace that file if it is there
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
    /// Whose configuration it is [default: PgCat's, if its name ends in .toml, else PgBouncer's]
    #[arg(long, value_enum, value_name = "POOLER", hide_possible_values = true)]
    pub(crate) from: Option<Pooler>,
    /// Whom the watcher logs in as on the servers
    #[arg(long, value_name = "ROLE", default_value = "herdsman")]
    pub(crate) watch_user: String,
    /// File with its password [default: ~/.pgpass]
    #[arg(long, value_name = "FILE")]
    pub(crate) watch_password_file: Option<PathBuf>,
}

/// Whose configuration can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pooler {
    Pgbouncer,
    Pgcat,
}

/// `herdsman doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Show also what is as it should be
    #[arg(long)]
    pub(crate) all: bool,
    /// Print everything as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `herdsman explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The code, such as H0101; without it all of them are listed
    #[arg(value_name = "CODE")]
    pub(crate) code: Option<String>,
}

/// Whom to ask.
#[derive(Clone, Debug, Args)]
pub(crate) struct AskArgs {
    /// Address of the running Herdsman [default: from the configuration]
    #[arg(long, value_name = "URL", conflicts_with = "direct")]
    pub(crate) url: Option<String>,
    /// Certificates to trust for https [default: the one in the configuration]
    #[arg(long, value_name = "FILE", conflicts_with = "direct")]
    pub(crate) cacert: Option<PathBuf>,
    /// Certificate to show for https [default: `api.client` of the configuration]
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with = "direct")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "cert", conflicts_with = "direct")]
    pub(crate) key: Option<PathBuf>,
    /// Do not ask a running Herdsman: look at the nodes from here, once
    #[arg(long)]
    pub(crate) direct: bool,
}

/// `herdsman status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// Print the topology as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Show it again every so many seconds (without a number: each) until Ctrl-C
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "1",
        value_parser = seconds
    )]
    pub(crate) watch: Option<Duration>,
}

/// `herdsman top`.
#[derive(Clone, Debug, Args)]
pub(crate) struct TopArgs {
    /// Address of the running Herdsman [default: from the configuration]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Certificates to trust for https [default: the one in the configuration]
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// Certificate to show for https [default: `api.client` of the configuration]
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Seconds between two looks; events come as they happen
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) interval: Duration,
}

/// `herdsman primary`.
#[derive(Debug, Args)]
pub(crate) struct PrimaryArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// Only if it is in this group
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Print HOST:PORT from the configuration instead of the name
    #[arg(long)]
    pub(crate) host: bool,
}

/// `herdsman switchover`.
#[derive(Debug, Args)]
pub(crate) struct SwitchoverArgs {
    /// The standby that is to be primary
    #[arg(value_name = "NODE")]
    pub(crate) node: String,
    /// Cut off transactions that do not end within `gateway.switchover.drain`
    #[arg(long)]
    pub(crate) force: bool,
    /// How long to wait for the end of it
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time)]
    pub(crate) timeout: Duration,
}

/// `herdsman completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// `herdsman manual`.
#[derive(Debug, Args)]
pub(crate) struct ManualArgs {
    /// Write the pages of all commands into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

const RUN_EXAMPLES: &str = "\
Examples:
  herdsman run                                 with the first configuration found
  herdsman run /etc/herdsman/herdsman.yml
  herdsman -c pgroute66.yml -d                 pgroute66's own command line
  herdsman run --log-format json
  herdsman run --take-over /run/herdsman/run.sock   the same again restarts it; no client is dropped

Signals: TERM and INT finish the requests under way and end with 0; a second one ends at once.
HUP reads the configuration and the certificate again and opens the log file again; a broken
configuration is reported in the log and the old one stays in force. USR1 has new transactions of the
gateway wait, USR2 lets them go on. `herdsman FILE` is the same.";

const SWITCHOVER_EXAMPLES: &str = "\
Examples:
  herdsman switchover pg2
  herdsman switchover pg2 --force              end transactions that take longer than the drain
  herdsman hold && patronictl switchover && herdsman resume

Asks the running gateway as the first of `gateway.admins`: it has new transactions wait, lets those
that run end, waits until the standby has replayed everything, demotes the old primary and promotes
the new one by the commands of `gateway.switchover`, and lets the waiting ones go on there.

Exit codes: 0 the node is primary, 1 it is not and standard error says why, 2 there is no such node,
69 the gateway cannot be asked, 78 the configuration is wrong or has no gateway.";

const HOLD_EXAMPLES: &str = "\
Examples:
  herdsman hold
  herdsman hold && patronictl switchover; herdsman resume

Transactions that run may end; new ones that write wait, for `gateway.hold` at most. Reads go on.

Exit codes: 0 held, 69 the gateway cannot be asked, 78 the configuration is wrong or has no gateway.";

const RESUME_EXAMPLES: &str = "\
Examples:
  herdsman resume

Exit codes: 0 resumed, 69 the gateway cannot be asked, 78 the configuration is wrong or has no
gateway.";

/// Time between two looks of what goes on looking.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("`{text}` is not a number of seconds from 0.1 to 3600"))
}

pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a duration; write it like 500ms, 5s or 2m");
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let (number, unit) = units
        .iter()
        .find_map(|(name, millis)| {
            let number = text.strip_suffix(name)?.parse::<u64>().ok()?;
            Some((number, *millis))
        })
        .ok_or_else(bad)?;
    number.checked_mul(unit).map(Duration::from_millis).ok_or_else(bad)
}

const CHECK_EXAMPLES: &str = "\
Examples:
  herdsman check
  herdsman check new.yml && mv new.yml /etc/herdsman/herdsman.yml
  herdsman check --connect                     can every node be reached, and is the role enough?
  herdsman check --schema >herdsman.schema.json     what editors need to complete and check the file

Exit codes: 0 good, 1 a node could not be reached (--connect), 78 the configuration is wrong.";

const IMPORT_EXAMPLES: &str = "\
Examples:
  herdsman import /etc/pgbouncer/pgbouncer.ini -o herdsman.yml && herdsman check --connect herdsman.yml
  herdsman import pgcat.toml -o herdsman.yml
  herdsman import pgbouncer.ini | less         a look, with variables instead of passwords

Comments in the file say what means something else here, and what has no equal. POOLER is pgbouncer or
pgcat. Nothing is connected to.

Exit codes: 0 written, 1 not written, or not good yet as standard error says, 78 FILE cannot be read
or says what cannot be imported.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  herdsman doctor
  herdsman doctor --all                        with what is as it should be
  herdsman doctor --json | jq -r '.findings[] | select(.severity == \"error\") | .fix'

Changes nothing. Each finding has a code: `herdsman explain H0101` prints its page.

Exit codes: 0 nothing to do, 1 an error was found, 3 a warning and no error, 78 the configuration is
wrong.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  herdsman explain H0101
  herdsman explain                             all codes

Exit codes: 0 printed, 2 there is no such code.";

const STATUS_EXAMPLES: &str = "\
Examples:
  herdsman status
  herdsman status --watch
  herdsman status --watch 5 >> herd.log        a line whenever something changes
  herdsman status --json | jq -r .verdict.state
  herdsman status --url https://db-watch:8443 --cacert ca.pem
  herdsman status --direct                     without a running Herdsman

Exit codes: 0 shown, 69 Herdsman cannot be asked, 78 the configuration is wrong.";

const TOP_EXAMPLES: &str = "\
Examples:
  herdsman top
  herdsman top --url https://db-watch:8443 --cacert ca.pem
  ssh -t db-watch herdsman top
  NO_COLOR=1 herdsman top --interval 5

Keys: 1 to 5, Tab and arrows choose a page and a line, p holds the picture, ? tells more, q ends.
Asks a running Herdsman, waits for one that is away, and needs a terminal: without one, take
`herdsman status --watch`.

Exit codes: 0 ended by q, Ctrl-C or TERM, 2 there is no terminal, 78 the configuration is wrong.";

const PRIMARY_EXAMPLES: &str = "\
Examples:
  herdsman primary
  herdsman primary --group berlin
  psql \"host=$(herdsman primary --host | cut -d: -f1) dbname=app\"
  herdsman primary >/dev/null; case $? in 4) echo none;; 9) echo 'split brain';; esac

Exit codes: 0 the name is on standard output; otherwise nothing is, and standard error says why:
4 no primary (the API's 404), 9 split brain (the API's 409), 69 Herdsman cannot be asked,
78 the configuration is wrong.";

const STREAM_EXAMPLES: &str = "\
Examples:
  herdsman stream init                         a configuration and a program to begin with
  herdsman stream diagnose                     what is missing on the server?
  herdsman stream run";

const MESH_EXAMPLES: &str = "\
Examples:
  herdsman mesh up --plan                      what would be changed?
  herdsman mesh up && herdsman run
  herdsman mesh status --watch";

const LEDGER_EXAMPLES: &str = "\
Examples:
  herdsman ledger run &
  herdsman ledger sql \"CREATE TABLE account (id bigint PRIMARY KEY, balance bigint)\"
  herdsman ledger status && herdsman ledger verify";

const SANDBOX_EXAMPLES: &str = "\
Examples:
  herdsman sandbox up
  herdsman sandbox kill n1 && herdsman sandbox promote n2
  herdsman sandbox destroy";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  herdsman completions bash > /etc/bash_completion.d/herdsman
  herdsman completions zsh > \"${fpath[1]}/_herdsman\"
  herdsman completions fish > ~/.config/fish/completions/herdsman.fish";

const MANUAL_EXAMPLES: &str = "\
Examples:
  herdsman manual | man -l -
  herdsman manual --dir /usr/local/share/man/man1";
