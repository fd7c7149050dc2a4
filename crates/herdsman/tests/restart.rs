//! A restart under clients: the sockets are another's, as systemd's `.socket` units have it, and outlive each run; or one run
//! hands them to the next.

use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::process::Signal;
use tokio_postgres::NoTls;

use crate::cluster::{Cluster, sql_within, until};
use crate::program::{Folder, Running, closed_port, get};

/// Generous: a machine may be busy with other tests.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(120);

/// Starts the program with these sockets, as a service manager does.
fn start(folder: &Folder, file: &str, sockets: &[&TcpListener]) -> Running {
    let passed: Vec<_> =
        (3..).zip(sockets).map(|(to, socket)| format!("{to}<&{}", socket.as_raw_fd())).collect();
    let program = env!("CARGO_BIN_EXE_herdsman");
    // The number of the process is known to itself only.
    let script = format!(
        "exec {}; export LISTEN_PID=$$ LISTEN_FDS={}; exec '{program}' run '{file}'",
        passed.join(" "),
        sockets.len()
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir(folder.path()).env_clear().env("HOME", folder.path());
    folder.start_command(command)
}

fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Above all numbers that it is to get.
    let listener = TcpListener::from(rustix::io::fcntl_dupfd_cloexec(&listener, 100).unwrap());
    // It is to be there still in what is started.
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
    listener
}

#[test]
fn a_restart_refuses_nobody_and_lets_running_transactions_end() {
    let cluster = Cluster::start(0);
    let folder = Folder::new();
    let (gateway, api) = (listen(), listen());
    let (port, api_port) = (gateway.local_addr().unwrap().port(), api.local_addr().unwrap().port());
    let password = cluster.sandbox().credentials().password("app").unwrap().to_owned();
    let file = folder.file(
        "h.yml",
        &format!(
            "{}bind: 127.0.0.1\nport: {api_port}\nwatch:\n{}gateway:\n  listen: 127.0.0.1:{port}\n  hold: 60s\n  drain_timeout: 2m\n  users:\n    \
             app: {{ password: {password:?} }}\n",
            cluster.hosts(ToOwned::to_owned),
            cluster.replication_addresses(ToOwned::to_owned)
        ),
    );
    let mut first = start(&folder, &file, &[&gateway, &api]);
    first.wait_for("listening on a socket of the service manager");
    let ask = |question: &str| sql_within(LIMIT, port, "app", &password, question);
    until(
        "a write goes through",
        || {
            ask("CREATE TABLE IF NOT EXISTS t (n int)")
                .map_or_else(|error| error, |_| "yes".to_owned())
        },
        |told| told == "yes",
    );

    // Clients that connect all the time, each for one insert.
    let over = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU32::new(0));
    let (stop, count, word) = (Arc::clone(&over), Arc::clone(&done), password.clone());
    let clients = std::thread::spawn(move || {
        let mut errors = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            match sql_within(LIMIT, port, "app", &word, "INSERT INTO t VALUES (1)") {
                Ok(_) => drop(count.fetch_add(1, Ordering::Relaxed)),
                Err(error) => errors.push(error),
            }
        }
        errors
    });
    // And one in a transaction.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (client, connection) = runtime
        .block_on(tokio_postgres::connect(
            &format!("host=127.0.0.1 port={port} user=app password={password} dbname=postgres"),
            NoTls,
        ))
        .unwrap();
    runtime.spawn(connection);
    runtime.block_on(client.batch_execute("BEGIN; INSERT INTO t VALUES (2)")).unwrap();

    first.signal(Signal::TERM);
    first.wait_for("clients may finish their transactions");
    // While the first one drains, the second one serves.
    let mut second = start(&folder, &file, &[&gateway, &api]);
    let before = done.load(Ordering::Relaxed);
    until("the second one serves", || done.load(Ordering::Relaxed), |now| *now > before + 3);
    runtime.block_on(client.batch_execute("INSERT INTO t VALUES (2); COMMIT")).unwrap();
    assert_eq!(first.code(), Some(0), "{}", first.stderr());

    // And one after the other, as `systemctl restart` has it.
    second.signal(Signal::TERM);
    assert_eq!(second.code(), Some(0), "{}", second.stderr());
    let third = start(&folder, &file, &[&gateway, &api]);
    let before = done.load(Ordering::Relaxed);
    until("the third one serves", || done.load(Ordering::Relaxed), |now| *now > before + 3);
    assert!(get(&third.url(), "/v2/topology").contains("200"), "{}", third.stderr());
    over.store(true, Ordering::Relaxed);
    let errors = clients.join().unwrap();
    // Who is logged in and idle is sent away, which can be this client once at each of the two ends. Nobody is refused.
    assert!(errors.len() <= 2, "{errors:?}");
    assert!(
        errors.iter().all(|error| !error.contains("Refused") && error != "no answer"),
        "{errors:?}"
    );
    let rows =
        ask("SELECT count(*) FILTER (WHERE n = 1) >= 0, count(*) FILTER (WHERE n = 2) FROM t")
            .unwrap();
    assert_eq!(rows, "t|2");
}

/// pgbench under way; with `connects`, each transaction over a connection of its own.
fn pgbench(
    port: u16,
    password: &str,
    script: &str,
    connects: bool,
    seconds: u32,
) -> std::process::Child {
    let mut command = Command::new("pgbench");
    command.args(["-n", "-f", script, "-c", "4", "-T", &seconds.to_string(), "-h", "127.0.0.1"]);
    command.args(["-p", &port.to_string(), "-U", "app", "--max-tries", "1"]);
    if connects {
        command.arg("-C");
    }
    command.arg("postgres").env("PGPASSWORD", password).env("PGCONNECT_TIMEOUT", "60");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ends_without_an_error(pgbench: std::process::Child) {
    let output = pgbench.wait_with_output().unwrap();
    let [said, errors] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("number of failed transactions: 0 "), "{said}\n{errors}");
    assert!(!errors.contains("error"), "{errors}");
}

#[test]
fn a_run_that_is_taken_over_drops_no_client() {
    let cluster = Cluster::start(0);
    let folder = Folder::new();
    let (port, api_port) = (closed_port(), closed_port());
    let password = cluster.sandbox().credentials().password("app").unwrap().to_owned();
    let file = folder.file(
        "h.yml",
        &format!(
            "{}bind: 127.0.0.1\nport: {api_port}\nwatch:\n{}gateway:\n  listen: 127.0.0.1:{port}\n  \
             unix_socket_dir: {}\n  hold: 60s\n  users:\n    app: {{ password: {password:?} }}\n",
            cluster.hosts(ToOwned::to_owned),
            cluster.replication_addresses(ToOwned::to_owned),
            folder.path().display()
        ),
    );
    let start = || folder.start(&["run", "--take-over", "line", &file]);
    let mut first = start();
    let ask = |question: &str| sql_within(LIMIT, port, "app", &password, question);
    until(
        "a write goes through",
        || {
            ask("CREATE TABLE IF NOT EXISTS t (n int)")
                .map_or_else(|error| error, |_| "yes".to_owned())
        },
        |told| told == "yes",
    );
    // Those who stay, and those who come and go; and one that is idle.
    let script = folder.file(
        "script.sql",
        "BEGIN;\nINSERT INTO t VALUES (1);\nSELECT count(*) FROM t WHERE n = 0;\nCOMMIT;\n",
    );
    let stays = pgbench(port, &password, &script, false, 20);
    let comes = pgbench(port, &password, &script, true, 20);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let connect = || {
        let to = format!(
            "host={} port={port} user=app password={password} dbname=postgres",
            folder.path().display()
        );
        let (client, connection) = runtime.block_on(tokio_postgres::connect(&to, NoTls)).unwrap();
        runtime.spawn(connection);
        client
    };
    let idle = connect();
    runtime.block_on(idle.batch_execute("BEGIN; SELECT 1")).unwrap();

    // And one that wants to end what it does when others have the address.
    let sleeper = connect();
    let token = sleeper.cancel_token();
    let waits = runtime
        .spawn(async move { sleeper.batch_execute("/* sleeper */ SELECT pg_sleep(3600)").await });

    let mut second = start();
    assert!(
        second.stderr().contains("listening on a socket of the run before"),
        "{}",
        second.stderr()
    );
    first.wait_for("the next run serves");
    // Whoever comes now is the second one's, over TCP, over the unix socket, and at the API.
    assert!(ask("SELECT 1").is_ok());
    let late = connect();
    runtime.block_on(late.batch_execute("SELECT 1")).unwrap();
    assert!(get(&second.url(), "/v2/topology").contains("200"), "{}", second.stderr());
    // One that cannot begin changes nothing.
    let broken = folder.file("broken.yml", "hosts: {a: {host: a}}\nbind: 192.0.2.1\nport: 1\n");
    let ended = folder.herdsman(&["run", "--take-over", "line", &broken]);
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
    let mut third = start();
    second.wait_for("the next run serves");
    assert!(ask("SELECT 1").is_ok());
    // Its request comes to the third one, which asks the second one, which asks the first one.
    let sleeps =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '/* sleeper%' AND state = 'active'";
    assert_eq!(ask(sleeps).unwrap(), "1");
    runtime.block_on(token.cancel_query(NoTls)).unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, waits).await });
    let error = ended.unwrap().unwrap().unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57014", "{error}");

    ends_without_an_error(stays);
    ends_without_an_error(comes);
    // The first one is there for as long as its last client.
    runtime.block_on(idle.batch_execute("SELECT 1; COMMIT")).unwrap();
    drop(idle);
    assert_eq!(first.code(), Some(0), "{}", first.stderr());
    // The second one's is still here; a signal has it end as ever.
    second.signal(Signal::TERM);
    assert_eq!(second.code(), Some(0), "{}", second.stderr());
    until("it is told", || late.is_closed(), |closed| *closed);
    assert!(ask("SELECT 1").is_ok());
    third.signal(Signal::TERM);
    assert_eq!(third.code(), Some(0), "{}", third.stderr());
    assert!(!folder.path().join(format!(".s.PGSQL.{port}")).exists());
}

#[test]
fn a_socket_that_nothing_listens_on_is_named() {
    let folder = Folder::new();
    let (api, other) = (listen(), listen());
    let port = api.local_addr().unwrap().port();
    let file = folder
        .file("h.yml", &format!("hosts: {{a: {{host: a}}}}\nbind: 127.0.0.1\nport: {port}\n"));
    let running = start(&folder, &file, &[&other, &api]);
    let left = other.local_addr().unwrap();
    assert!(
        running.stderr().contains("passes on a socket that nothing listens on"),
        "{}",
        running.stderr()
    );
    assert!(running.stderr().contains(&left.to_string()), "{}", running.stderr());
}
