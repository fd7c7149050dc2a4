//! `herdsman import`: a configuration of another pooler as one of ours.

mod draft;
mod ini;
mod pgbouncer;
mod pgcat;
mod span;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use herdsman_gateway::GatewayConfig;

use self::draft::{Draft, Entry, Secrets};
use crate::cli::{ImportArgs, Pooler};
use crate::config::{Config, Depth};
use crate::exit::{Exit, Failed};
use crate::output;

/// More than any configuration has.
const LARGEST: u64 = 16 * 1024 * 1024;

/// What of the machine a translation asks about.
trait Files {
    /// A path as it means the same from everywhere.
    fn absolute(&self, path: &str) -> String;
    /// Whether there is such a folder.
    fn is_folder(&self, path: &str) -> bool;
    /// Whether it can be read, and if not, why.
    fn readable(&self, path: &str) -> Result<(), String>;
    /// The users of a `userlist.txt`.
    fn users(&self, path: &str) -> Result<Vec<String>, String>;
}

/// Whom the watcher logs in as.
struct Watcher {
    user: String,
    /// File with the password.
    password: Option<String>,
}

/// The machine itself.
struct Disk;

/// Reads, translates, writes, and says what a person should know of it.
pub(crate) fn run(args: &ImportArgs) -> Result<Exit, Failed> {
    let name = args.file.display().to_string();
    let text = read(&args.file).map_err(|problem| Exit::Config.with(problem))?;
    let secrets = if args.output.is_some() { Secrets::Written } else { Secrets::Named };
    let mut draft = Draft::new(secrets);
    let watcher = Watcher {
        user: args.watch_user.clone(),
        password: args
            .watch_password_file
            .as_ref()
            .map(|path| Disk.absolute(&path.display().to_string())),
    };
    let translated = match args.from.unwrap_or_else(|| Pooler::of(&args.file)) {
        Pooler::Pgbouncer => ini::read(&name, &text, &mut |path| read(Path::new(path)))
            .and_then(|settings| pgbouncer::translate(settings, &Disk, &watcher, &mut draft)),
        Pooler::Pgcat => pgcat::translate(&name, &text, &Disk, &watcher, &mut draft),
    };
    translated.map_err(|problems| Exit::Config.with(problems.join("\n")))?;
    let yaml = draft.yaml(&name);
    if let Some(path) = &args.output {
        write(path, &yaml, args.force).map_err(|problem| Exit::Failure.with(problem))?;
    } else {
        output::write(&yaml);
    }
    for line in summary(&draft, &name, args) {
        output::note(&line);
    }
    let Some(path) = &args.output else { return Ok(Exit::Success) };
    match Config::load(Some(path), Depth::Full) {
        Ok(_) => {
            output::hint(&format!("next: `herdsman check --connect {}`", path.display()));
            Ok(Exit::Success)
        }
        Err(problem) => Err(Exit::Failure
            .with(format!("{} is written, and is not good yet:\n{problem}", path.display()))),
    }
}

fn summary(draft: &Draft, name: &str, args: &ImportArgs) -> Vec<String> {
    let mut lines = vec![format!(
        "{name}: {} {}; {} {} no equal",
        draft.nodes.len(),
        if draft.nodes.len() == 1 { "node" } else { "nodes" },
        draft.left.len(),
        if draft.left.len() == 1 { "setting has" } else { "settings have" },
    )];
    lines.push(format!(
        "note: the watcher logs in as `{}`, which needs pg_monitor{}",
        args.watch_user,
        if args.watch_password_file.is_some() {
            ""
        } else {
            "; its password is looked for in ~/.pgpass"
        },
    ));
    lines.extend(draft.warnings.iter().map(|warning| format!("warning: {warning}")));
    if draft.passwords > 0
        && let Some(path) = &args.output
    {
        lines.push(format!(
            "warning: {} holds passwords that {name} has in clear; only its owner may read it; better: password_file, \
             password_env",
            path.display()
        ));
    }
    if !draft.variables.is_empty() {
        lines.push(format!(
            "warning: passwords are not shown: set {} to them first, or import with `-o FILE`",
            draft.variables.join(", ")
        ));
    }
    lines
}

/// A file's text. Says nothing of what is in it.
fn read(path: &Path) -> Result<String, String> {
    let failed = |problem: String| format!("failed to read {}: {problem}", path.display());
    let size = fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > LARGEST {
        return Err(failed(format!("it has {size} bytes, and at most {LARGEST} are read")));
    }
    let bytes = fs::read(path).map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8 text".to_owned()))
}

/// Puts the file into place whole, for its owner alone; one that is there stays unless `force`.
fn write(path: &Path, text: &str, force: bool) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("failed to write {}: {error}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    // Such a file belongs to its owner alone from its first byte on.
    let mut file =
        tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    let placed = if force { file.persist(path) } else { file.persist_noclobber(path) };
    placed.map(drop).map_err(|error| match error.error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            format!("{} is there already; name another file, or say --force", path.display())
        }
        _ => failed(error.error),
    })
}

/// A node of `hosts`.
fn node(name: &str, host: &str, port: u16, watcher: &Watcher, tls: &[(String, String)]) -> Entry {
    let mut entries = vec![Entry::text("host", host)];
    if port != 5432 {
        entries.push(Entry::new("port", port.to_string()));
    }
    entries.push(Entry::text("user", &watcher.user));
    entries.extend(watcher.password.as_ref().map(|file| Entry::text("password_file", file)));
    entries.push(Entry::text("dbname", "postgres"));
    entries.extend(tls.iter().map(|(key, value)| Entry::text(key, value)));
    Entry::map(name, entries)
}

impl Files for Disk {
    fn absolute(&self, path: &str) -> String {
        std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path)).display().to_string()
    }

    fn is_folder(&self, path: &str) -> bool {
        Path::new(path).is_dir()
    }

    fn readable(&self, path: &str) -> Result<(), String> {
        let opened = fs::File::open(path);
        opened.map(drop).map_err(|error| format!("failed to read {path}: {error}"))
    }

    fn users(&self, path: &str) -> Result<Vec<String>, String> {
        GatewayConfig::users_of_file(Path::new(path))
    }
}

impl Pooler {
    /// By the name of a file.
    fn of(file: &Path) -> Self {
        if file.extension().is_some_and(|end| end == "toml") {
            Self::Pgcat
        } else {
            Self::Pgbouncer
        }
    }
}
