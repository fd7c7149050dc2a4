//! A restart under clients: the sockets are another's, as systemd's `.socket` units have it, and outlive each run.

use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::process::Signal;
use tokio_postgres::NoTls;

use crate::cluster::{Cluster, sql_within, until};
use crate::program::{Folder, Running, get};

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
