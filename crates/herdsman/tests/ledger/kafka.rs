//! Clients that have nothing but Kafka, in other languages, and a program that is started as Kluster's adapters were.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use herdsman_sandbox::{Kafka, Sandbox};
use rustix::process::Signal;
use tokio::runtime::Builder;

use crate::cluster::{Turn, versions};
use crate::program::{Folder, ended};

#[test]
fn klusters_variables_and_a_client_in_python_or_go_are_enough() {
    let _turn = Turn::take();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (postgres, kafka) = runtime.block_on(async {
        let postgres = Box::pin(Sandbox::builder().pg_version(versions()[0]).start());
        tokio::join!(postgres, Box::pin(Kafka::builder().start()))
    });
    let (postgres, kafka) = (postgres.unwrap(), kafka.unwrap());
    let port = postgres.server_port("n1").unwrap();
    let password = postgres.credentials().password("postgres").unwrap();
    let folder = Folder::new();
    let variables = [
        ("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap()),
        ("KAFKA_MUTATION_TOPIC", "kluster-mutation-test".to_owned()),
        ("KAFKA_RESPONSE_TOPIC", "kluster-mutation-response".to_owned()),
        (
            "DATABASE_ADDRESS",
            format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres?sslmode=disable"),
        ),
    ];
    let mut command = folder.command(&["ledger", "run", "--from-env"]);
    command.envs(variables.clone());
    let mut running = folder.start_command(command);
    running.wait_for("requests are answered");

    let python = fetched("python/bin/python").unwrap();
    let example = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/ledger-kafka");
    let client = |mut command: Command| {
        command.env_clear().envs(variables[..3].iter().cloned());
        command.env("KAFKA_ALL_TOPIC", "kluster-mutation-test");
        let ended = ended(&mut command);
        assert_eq!(ended.code, Some(0), "{ended:?}\n{}", running.stderr());
        ended.stdout
    };
    let mut in_python = Command::new(python);
    in_python.arg("-B").arg(example.join("client.py"));
    let expected = "['bigint', 'varchar', 'numeric']\n[1, 'Ada', '10.50']\n[2, 'Grace', '20.00']\nrefused: SQLSTATE 23505\n";
    assert_eq!(client(in_python), expected);
    match fetched("go-kafka/client") {
        Some(program) => {
            let expected = "[{id bigint} {name varchar} {balance numeric}]\n1 Ada 10.50\n2 Grace 20.00\nrefused: true 23505\n";
            assert_eq!(client(Command::new(program)), expected);
        }
        None => {
            // Go could not fetch it.
            let why = fetched("go-kafka/left-out").unwrap();
            let why = std::fs::read_to_string(why).unwrap();
            writeln!(std::io::stderr(), "franz-go is left out: {why}").unwrap();
        }
    }
    assert!(!running.stderr().contains(password), "a password is in the log");
    running.signal(Signal::TERM);
    assert_eq!(running.code(), Some(0), "{}", running.stderr());

    let mut ambiguous = folder.command(&["ledger", "run", "--from-env"]);
    ambiguous.envs(variables).env("HERDSMAN_CONFIG", "h.yml");
    let told = ended(&mut ambiguous);
    assert_eq!(told.code, Some(78), "{told:?}");
    assert!(told.stderr.contains("HERDSMAN_CONFIG names a configuration file"), "{told:?}");
    let _guard = runtime.enter();
    drop((postgres, kafka));
}

/// What `scripts/fetch-drivers` has fetched; `None` where it left something out.
fn fetched(what: &str) -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = set("HERDSMAN_DRIVERS_HOME").unwrap_or_else(|| {
        if rustix::process::geteuid().is_root() {
            return PathBuf::from("/var/cache/herdsman/drivers");
        }
        let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
        cache.expect("HOME is set").join("herdsman/drivers")
    });
    let (path, left_out) = (home.join(what), home.join(what).with_file_name("left-out"));
    assert!(
        path.exists() || left_out.exists(),
        "{} is missing; run scripts/fetch-drivers",
        path.display()
    );
    path.exists().then_some(path)
}
