//! Whether hooks could do what they should, without having them do it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use herdsman_node::Conninfo;
use rustix::fs::{Access, access};
use tokio::time::timeout;

use crate::config::{ExecConfig, HookConfig, PgBouncerConfig};
use crate::haproxy::HaProxy;
use crate::pgbouncer;

/// Something that keeps a hook from doing what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What is in the way.
    pub what: What,
    /// What was seen.
    pub problem: String,
    /// What to do about it.
    pub fix: String,
}

/// What a hook needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A command that can be started.
    Command,
    /// A file that can be replaced.
    File,
    /// A console that answers.
    Console,
}

/// Everything that keeps a hook from doing what it should, as far as it can be seen from here, by this user, and now. Asks
/// PgBouncer's console and HAProxy's socket, each within `limit`, and changes nothing. `None` where there is nothing to look at:
/// receivers of messages are told only when there is something to tell.
pub async fn look(hook: &HookConfig, limit: Duration) -> Option<Vec<Obstacle>> {
    if let Some(exec) = &hook.exec {
        Some(command(exec).into_iter().collect())
    } else if let Some(config) = &hook.pgbouncer {
        let mut found: Vec<_> = file(&config.file).into_iter().collect();
        found.extend(Box::pin(console(config, limit)).await);
        Some(found)
    } else if let Some(config) = &hook.haproxy {
        let haproxy = HaProxy { config: config.clone() };
        let looked = timeout(limit, Box::pin(haproxy.look())).await;
        let looked = looked.unwrap_or_else(|_| {
            let problem = format!("HAProxy at `{}` did not answer within {limit:?}", config.socket);
            Err((problem, "check that it runs, and its `stats socket`".to_owned()))
        });
        let obstacle = |(problem, fix)| Obstacle { what: What::Console, problem, fix };
        Some(looked.err().map(obstacle).into_iter().collect())
    } else {
        hook.hosts.as_ref().map(|config| file(&config.file).into_iter().collect())
    }
}

fn command(exec: &ExecConfig) -> Option<Obstacle> {
    let program = exec.command.first()?;
    let obstacle = |problem: String, fix: &str| {
        Some(Obstacle { what: What::Command, problem, fix: fix.to_owned() })
    };
    if let Some(folder) = exec.directory.as_ref().filter(|folder| !folder.is_dir()) {
        let problem = format!("`{}` is no folder to work in", folder.display());
        return obstacle(problem, "make it, or correct `directory`");
    }
    let candidates = candidates(exec, program);
    if candidates.iter().any(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok()) {
        return None;
    }
    match candidates.iter().find(|path| path.exists()) {
        Some(path) => obstacle(
            format!("`{}` may not be executed", path.display()),
            "make it executable for the user that Herdsman runs as (`chmod +x`), or correct `command`",
        ),
        None if program.contains('/') => {
            obstacle(format!("there is no `{program}`"), "put it there, or correct `command`")
        }
        None => obstacle(
            format!("`{program}` is in no folder of `PATH`"),
            "name it with its path in `command`, or set `PATH` below `env`",
        ),
    }
}

/// Where a program may be, in the order in which it is looked for.
fn candidates(exec: &ExecConfig, program: &str) -> Vec<PathBuf> {
    if program.contains('/') {
        // It is looked for from the folder it works in.
        return vec![exec.directory.as_deref().unwrap_or(Path::new("")).join(program)];
    }
    let given = exec.env.get("PATH").map(|path| OsString::from(path.expose()));
    let path = given.or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).collect()
}

/// A file is replaced by another one of its folder that keeps its owner.
fn file(path: &Path) -> Option<Obstacle> {
    let obstacle = |problem: String, fix: &str| {
        Some(Obstacle { what: What::File, problem, fix: fix.to_owned() })
    };
    // A link goes on pointing to the file.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if let Err(error) = access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        return obstacle(
            format!("the folder `{}` cannot be written to: {error}", folder.display()),
            "let the user that Herdsman runs as write to it (under systemd `ReadWritePaths=`, too)",
        );
    }
    let us = rustix::process::geteuid();
    let owner = fs::metadata(&target).map_or(us.as_raw(), |file| file.uid());
    if owner != us.as_raw() && !us.is_root() {
        return obstacle(
            format!("`{}` belongs to user {owner}, and we are user {us}", target.display()),
            "run Herdsman as its owner or as root: a file that is replaced keeps its owner",
        );
    }
    None
}

async fn console(config: &PgBouncerConfig, limit: Duration) -> Option<Obstacle> {
    let fix =
        "check that PgBouncer runs there, `console`, and that its user is one of `admin_users`";
    let obstacle = |problem| Some(Obstacle { what: What::Console, problem, fix: fix.to_owned() });
    let info: Conninfo = match pgbouncer::conninfo(&config.console) {
        Ok(info) => info,
        Err(error) => return obstacle(error.to_string()),
    };
    pgbouncer::greet(&info, limit).await.err().and_then(obstacle)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn what_a_hook_lacks_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let script = |name: &str, rights| {
            fs::write(path(name), "#!/bin/sh\n").unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(rights)).unwrap();
        };
        script("fine", 0o755);
        script("plain", 0o644);
        let exec = |more: serde_json::Value| serde_json::json!({ "name": "a", "exec": more });
        let socket = path("none.sock");
        for (hook, expected) in [
            (exec(serde_json::json!({ "command": [path("fine")] })), ""),
            (exec(serde_json::json!({ "command": ["./fine"], "directory": path("") })), ""),
            (exec(serde_json::json!({ "command": ["fine"], "env": { "PATH": path("") } })), ""),
            (exec(serde_json::json!({ "command": [path("plain")] })), "may not be executed"),
            (exec(serde_json::json!({ "command": [path("none")] })), "there is no `"),
            (
                exec(serde_json::json!({ "command": ["fine"], "env": { "PATH": "/none" } })),
                "`fine` is in no folder of `PATH`",
            ),
            (
                exec(serde_json::json!({ "command": ["sh"], "directory": path("none") })),
                "is no folder to work in",
            ),
            (
                serde_json::json!({ "name": "a", "hosts": { "file": path("hosts"), "writer": "w" } }),
                "",
            ),
            (
                serde_json::json!({ "name": "a", "hosts": { "file": path("none/hosts"), "writer": "w" } }),
                "cannot be written to",
            ),
            (
                serde_json::json!({ "name": "a", "haproxy": { "socket": socket, "writers": ["w"] } }),
                "failed to ask HAProxy",
            ),
            (
                serde_json::json!({ "name": "a", "pgbouncer": {
                    "file": path("ini"), "databases": { "a": "writer" },
                    "console": { "host": folder.path(), "user": "u" },
                } }),
                "PgBouncer's console",
            ),
        ] {
            let config: HookConfig = serde_json::from_value(hook.clone()).unwrap();
            let found = look(&config, Duration::from_secs(30)).await.unwrap();
            let problems: Vec<_> = found.iter().map(|one| one.problem.as_str()).collect();
            assert_eq!(found.len(), usize::from(!expected.is_empty()), "{hook}: {problems:?}");
            assert!(problems.concat().contains(expected), "{hook}: {problems:?}");
        }
        let slack = serde_json::json!({ "name": "a", "slack": { "url": "http://localhost/x" } });
        let slack: HookConfig = serde_json::from_value(slack).unwrap();
        assert_eq!(look(&slack, Duration::ZERO).await, None);
    }
}
