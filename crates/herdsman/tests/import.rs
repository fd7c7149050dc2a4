//! `herdsman import`, beside the PgBouncer whose file it reads.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;

use crate::cluster::{Cluster, open_temp_dir, sql, until};
use crate::hooks::{Daemon, NOBODY};
use crate::program::{Folder, closed_port};

/// What both are asked, and answer alike.
const QUESTIONS: [(&str, &str); 3] = [
    ("app", "SELECT current_user, current_database()"),
    ("app", "BEGIN; SELECT 6 * 7; COMMIT"),
    ("plain", "SELECT current_user"),
];

#[test]
fn an_imported_configuration_serves_what_pgbouncer_served() {
    let cluster = Cluster::start(0);
    let folder = Folder::within(&open_temp_dir());
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let password = |user: &str| cluster.sandbox().credentials().password(user).unwrap().to_owned();
    let (app, plain) = (password("app"), password("plain"));
    let port = closed_port();
    let server = cluster.sandbox().server_port("n1").unwrap();
    let users = folder.file(
        "users.txt",
        &format!("\"app\" \"{app}\"\n\"plain\" \"{plain}\"\n\"boss\" \"boss-word\"\n"),
    );
    let more = folder
        .file("more.ini", "[pgbouncer]\nauth_type = scram-sha-256\npool_mode = transaction\n");
    let ini = folder.file(
        "pgbouncer.ini",
        &format!(
            "%include {more}\n[databases]\npostgres = host=127.0.0.1 port={server} dbname=postgres pool_size=3\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_file = {users}\n\
             admin_users = boss\nserver_round_robin = 1\n[users]\nplain = pool_mode=session\n"
        ),
    );
    let root = rustix::process::geteuid().is_root();
    for file in [&users, &more, &ini].into_iter().filter(|_| root) {
        chown(file, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let theirs =
        Daemon::start(["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"], "PgBouncer", |command| {
            command.arg(&ini);
            if root {
                command.uid(NOBODY).gid(NOBODY);
            }
        });
    let ask = |user: &str, question: &str| {
        let password = if user == "app" { &app } else { &plain };
        sql(port, user, password, question).unwrap_or_else(|error| error)
    };
    until("PgBouncer serves", || ask("app", "SELECT 1"), |told| told == "1");
    let answers = QUESTIONS.map(|(user, question)| ask(user, question));
    assert_eq!(answers, ["app|postgres", "42", "plain"]);
    drop(theirs);

    let secret = folder.file("watcher.txt", &password("herdsman"));
    let yaml = folder.path().join("herdsman.yml").display().to_string();
    let imported =
        folder.herdsman(&["import", &ini, "-o", &yaml, "--watch-password-file", &secret]);
    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    assert!(
        imported.stdout.is_empty() && imported.stderr.contains("1 node; 1 setting has no equal"),
        "{}",
        imported.stderr
    );
    assert_eq!(fs::metadata(&yaml).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(folder.herdsman(&["check", &yaml]).code, Some(0));
    // The API's port is none of PgBouncer's.
    let text = fs::read_to_string(&yaml).unwrap();
    assert!(text.contains("`server_round_robin`: "), "{text}");
    let yaml = folder.file("herdsman.yml", &format!("bind: 127.0.0.1\nport: 0\n{text}"));
    let ours = folder.start(&["run", &yaml]);
    until("the gateway serves", || ask("app", "SELECT 1"), |told| told == "1");
    assert_eq!(QUESTIONS.map(|(user, question)| ask(user, question)), answers, "{}", ours.stderr());
    assert!(sql(port, "app", "wrong", "SELECT 1").is_err());
}

#[test]
fn what_is_imported_shows_no_password_and_replaces_no_file() {
    let folder = Folder::new();
    let users = folder.file("users.txt", "\"app\" \"s3cret-of-app\"\n");
    let ini = folder.file(
        "p.ini",
        &format!(
            "[databases]\na = host=10.0.0.1 user=owner password=s3cret-of-owner\n[pgbouncer]\nauth_file = {users}\n\
             auth_type = scram-sha-256\n"
        ),
    );
    let shown = folder.herdsman(&["import", &ini]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(
        !shown.stdout.contains("s3cret") && !shown.stderr.contains("s3cret"),
        "{}",
        shown.stdout
    );
    assert!(
        shown.stdout.contains("server_password_env: OWNER_SERVER_PASSWORD"),
        "{}",
        shown.stdout
    );
    assert!(shown.stderr.contains("set OWNER_SERVER_PASSWORD"), "{}", shown.stderr);

    let into = folder.file("there.yml", "precious");
    let refused = folder.herdsman(&["import", &ini, "-o", &into]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("is there already"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&into).unwrap(), "precious");
    let forced = folder.herdsman(&["import", &ini, "-o", &into, "--force"]);
    assert_eq!(forced.code, Some(0), "{}", forced.stderr);
    assert!(fs::read_to_string(&into).unwrap().contains("s3cret-of-owner"));
    assert!(
        forced.stderr.contains("holds passwords") && !forced.stderr.contains("s3cret"),
        "{}",
        forced.stderr
    );
}

#[test]
fn what_is_imported_from_pgcat_is_good() {
    let folder = Folder::new();
    let toml = folder.file(
        "pgcat.toml",
        "[general]\nhost = '127.0.0.1'\nport = 6432\nadmin_username = 'boss'\nadmin_password = 'x'\n[pools.shop]\n\
         pool_mode = 'transaction'\n[pools.shop.users.0]\nusername = 'app'\npassword = 'y'\npool_size = 9\n\
         [pools.shop.shards.0]\nservers = [['10.0.0.1', 5432, 'primary'], ['10.0.0.2', 5432, 'replica']]\ndatabase = 'shop'\n",
    );
    let yaml = folder.path().join("herdsman.yml").display().to_string();
    let imported = folder.herdsman(&["import", &toml, "-o", &yaml]);
    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    let checked = folder.herdsman(&["check", &yaml]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert!(checked.stdout.contains("users: app, boss (admin)"), "{}", checked.stdout);
}

#[test]
fn what_cannot_be_imported_ends_with_78_and_writes_nothing() {
    let folder = Folder::new();
    let yaml = folder.path().join("herdsman.yml");
    let into = yaml.display().to_string();
    let broken = folder.file("p.ini", "[databases]\na = secret\n");
    for (file, expected) in [
        ("gone.ini", "failed to read gone.ini: No such file"),
        (broken.as_str(), "p.ini:2: `a` is not `a = key=value key=value …`"),
    ] {
        let ended = folder.herdsman(&["import", file, "-o", &into]);
        assert_eq!(ended.code, Some(78), "{}", ended.stderr);
        assert!(
            ended.stderr.contains(expected) && !ended.stderr.contains("secret"),
            "{}",
            ended.stderr
        );
        assert!(!yaml.exists());
    }
}
