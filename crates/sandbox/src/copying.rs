//! Making a new cluster out of another one: `initdb`, a copy, a rewind.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    Credentials, SandboxError,
    account::{self, Account},
    server::Server,
    sql,
    template::Template,
    tool,
};

/// Folders whose contents a copy must not take over: they belong to the running server.
const RUNTIME_FOLDERS: [&str; 7] = [
    "pg_replslot",
    "pg_dynshmem",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
];
/// Files, likewise.
const RUNTIME_FILES: [&str; 7] = [
    "postmaster.pid",
    "postmaster.opts",
    "backup_label",
    "backup_label.old",
    "tablespace_map",
    "standby.signal",
    "recovery.signal",
];

/// Creates a new cluster with a system identifier of its own, and returns the password of its superuser: the sandbox's,
/// or, where the cluster is a copy of a template, the template's.
pub(crate) async fn create(
    server: &Server,
    credentials: &Credentials,
    within: Duration,
) -> Result<String, SandboxError> {
    let own = credentials.password("postgres")?;
    let Some(template) = Template::wanted(&server.binaries) else {
        return initdb(server, own, within).await.map(|()| own.to_owned());
    };
    let (data, account) = (server.data(), server.account);
    let (used, to) = (template.clone(), data.clone());
    if let Some(password) = blocking(move || used.copy_to(&to, account)).await? {
        return Ok(password);
    }
    // What is kept outlives this sandbox: its password must not be one of this sandbox's.
    let password = account::random_password()?;
    initdb(server, &password, within).await?;
    let kept = password.clone();
    blocking(move || template.keep(&data, &kept)).await?;
    Ok(password)
}

async fn initdb(server: &Server, password: &str, within: Duration) -> Result<(), SandboxError> {
    let password_file = server.folder.join("initdb.password");
    server.account.write(&password_file, password)?;
    let mut command = tool::command(&server.binaries.initdb, server.surroundings());
    command.arg("-D").arg(server.data()).arg("--pwfile").arg(&password_file).args([
        "--username=postgres",
        "--auth-host=scram-sha-256",
        "--auth-local=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
        "--no-instructions",
    ]);
    let result = tool::run(&server.name, "initdb", command, within).await;
    fs::remove_file(&password_file).map_err(SandboxError::file("remove", &password_file))?;
    result
}

/// Copies the cluster of a running server: with `pg_basebackup` where the package has it, else as it does.
pub(crate) async fn copy(
    source: &Server,
    target: &Server,
    credentials: &Credentials,
    within: Duration,
) -> Result<(), SandboxError> {
    let Some(program) = &target.binaries.pg_basebackup else {
        return copy_by_hand(source, target, credentials, within).await;
    };
    let mut command = tool::command(program, target.surroundings());
    command
        .arg("-D")
        .arg(target.data())
        .args(["-h", "127.0.0.1", "-U", "replicator", "-X", "stream", "-c", "fast"])
        .args(["--no-password", "--no-sync", "--no-manifest", "-p"])
        .arg(source.port.port().to_string())
        .env("PGPASSWORD", credentials.password("replicator")?);
    tool::run(&target.name, "pg_basebackup", command, within).await
}

/// Turns a server that is down into what the source was where their histories parted, and marks what to replay. Fails
/// where the package has no `pg_rewind`.
pub(crate) async fn rewind(
    source: &Server,
    target: &Server,
    credentials: &Credentials,
    within: Duration,
) -> Result<(), SandboxError> {
    let program = target.binaries.pg_rewind.as_ref().ok_or_else(|| {
        SandboxError::not_now(&target.name, "cannot be rewound: the package has no pg_rewind")
    })?;
    // Before version 16 the rewind believes the control file, which names the old timeline until a checkpoint.
    let client = sql::connect(source, "postgres", credentials).await?;
    sql::within(source, "no checkpoint", within, client.batch_execute("CHECKPOINT")).await?;
    let mut command = tool::command(program, target.surroundings());
    command
        .arg(format!("--target-pgdata={}", target.data().display()))
        .arg(format!(
            "--source-server=host=127.0.0.1 port={} user=postgres dbname=postgres",
            source.port.port()
        ))
        .arg(format!("--config-file={}", target.folder.join("server.conf").display()))
        .arg("--no-sync")
        .env("PGPASSWORD", credentials.password("postgres")?);
    tool::run(&target.name, "pg_rewind", command, within).await
}

/// The low-level backup of the server's manual: start, copy, stop, then the segments written meanwhile.
async fn copy_by_hand(
    source: &Server,
    target: &Server,
    credentials: &Credentials,
    within: Duration,
) -> Result<(), SandboxError> {
    // The backup ends with this session, however we leave.
    let client = sql::connect(source, "postgres", credentials).await?;
    let label = format!("sandbox {}", target.name);
    let start = async { client.execute("SELECT pg_backup_start($1, true)", &[&label]).await };
    sql::within(source, "the backup cannot start", within, start).await?;
    let (from, to, account) = (source.data(), target.data(), target.account);
    blocking(move || copy_cluster(&from, &to, account)).await?;
    let stop = client.query_one("SELECT labelfile FROM pg_backup_stop(false)", &[]);
    let label: String = sql::within(source, "the backup cannot stop", within, stop).await?.get(0);
    target.account.write(&target.data().join("backup_label"), &label)?;
    let (from, to) = (source.data().join("pg_wal"), target.data().join("pg_wal"));
    blocking(move || copy_files(&from, &to, account)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SandboxError> + Send + 'static,
) -> Result<T, SandboxError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| SandboxError::system("copy the cluster")(io::Error::other(error)))?
}

/// Everything but segments, runtime state, and, until last, the control file: it says up to where the copy must be
/// replayed.
fn copy_cluster(from: &Path, to: &Path, account: Account) -> Result<(), SandboxError> {
    account.create_dir(to)?;
    copy_tree(from, to, account, &mut |relative| {
        let name = relative.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let parent = relative.parent().and_then(Path::to_str).unwrap_or_default();
        let runtime = parent.is_empty() && RUNTIME_FILES.contains(&name);
        let contents_of_runtime =
            RUNTIME_FOLDERS.contains(&parent) || parent == "pg_wal" && !is_wal_folder(name);
        !(runtime
            || contents_of_runtime
            || name.starts_with("pgsql_tmp")
            || name == "pg_control"
            || name == "pg_internal.init")
    })?;
    copy_file(&from.join("global/pg_control"), &to.join("global/pg_control"), account)
}

/// `pg_wal` keeps folders of its own, which must be there and may be empty.
fn is_wal_folder(name: &str) -> bool {
    matches!(name, "archive_status" | "summaries")
}

/// Every file and folder that is wanted.
pub(crate) fn copy_tree(
    root: &Path,
    to: &Path,
    account: Account,
    wanted: &mut dyn FnMut(&Path) -> bool,
) -> Result<(), SandboxError> {
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let from = root.join(&folder);
        for entry in fs::read_dir(&from).map_err(SandboxError::file("read", &from))? {
            let entry = entry.map_err(SandboxError::file("read", &from))?;
            let relative = folder.join(entry.file_name());
            if !wanted(&relative) {
                continue;
            }
            let kind = entry.file_type().map_err(SandboxError::file("read", entry.path()))?;
            if !kind.is_dir() {
                copy_file(&entry.path(), &to.join(&relative), account)?;
                continue;
            }
            account.create_dir(&to.join(&relative))?;
            if !is_wal_folder(&entry.file_name().to_string_lossy()) {
                folders.push(relative);
            }
        }
    }
    Ok(())
}

/// The files of one folder, without what is below it.
fn copy_files(from: &Path, to: &Path, account: Account) -> Result<(), SandboxError> {
    for entry in fs::read_dir(from).map_err(SandboxError::file("read", from))? {
        let entry = entry.map_err(SandboxError::file("read", from))?;
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            copy_file(&entry.path(), &to.join(entry.file_name()), account)?;
        }
    }
    Ok(())
}

/// The server goes on working while it is copied: a file that is gone by now is not needed.
fn copy_file(from: &Path, to: &Path, account: Account) -> Result<(), SandboxError> {
    match fs::copy(from, to) {
        Ok(_) => {
            account::set_mode(to, 0o600)?;
            account.give(to)
        }
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && to.parent().is_some_and(Path::is_dir) =>
        {
            Ok(())
        }
        Err(error) => Err(SandboxError::file("copy", from)(error)),
    }
}
