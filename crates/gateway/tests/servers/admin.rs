//! The admin database, as people and programs use it.

use std::process::{Output, Stdio};

use herdsman_gateway::Ending;
use herdsman_sandbox::Sandbox;
use tokio::process::{Child, Command};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

use crate::harness::{self, Running, STATS, connect, eventually};

const SHOWS: [&str; 24] = [
    "help",
    "pools",
    "node_pools",
    "clients",
    "servers",
    "sockets",
    "stats",
    "stats_totals",
    "stats_averages",
    "totals",
    "databases",
    "users",
    "lists",
    "config",
    "mem",
    "fds",
    "peers",
    "peer_pools",
    "dns_hosts",
    "dns_zones",
    "version",
    "topology",
    "state",
    "server_version",
];

async fn rows(client: &Client, command: &str) -> Vec<SimpleQueryRow> {
    let messages =
        client.simple_query(command).await.unwrap_or_else(|e| panic!("{command}: {e:?}"));
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

/// The values of one column.
async fn column(client: &Client, command: &str, name: &str) -> Vec<String> {
    let rows = rows(client, command).await;
    rows.iter().map(|row| row.get(name).unwrap_or_default().to_owned()).collect()
}

/// A sum over one column of `SHOW POOLS` for the database that clients use here.
async fn pools(console: &Client, name: &str) -> u64 {
    let rows = rows(console, "SHOW POOLS").await;
    let there = rows.iter().filter(|row| row.get("database") == Some("postgres"));
    there.map(|row| row.get(name).unwrap().parse::<u64>().unwrap()).sum()
}

/// The id of the client of this name.
async fn id_of(console: &Client, application: &str) -> Option<String> {
    let rows = rows(console, "SHOW CLIENTS").await;
    let found = rows.iter().find(|row| row.get("application_name") == Some(application))?;
    found.get("id").map(ToOwned::to_owned)
}

async fn refused(client: &Client, command: &str) -> String {
    let error = client.simple_query(command).await.expect_err(command);
    error.code().unwrap_or_else(|| panic!("{command}: {error:?}")).code().to_owned()
}

async fn value(client: &Client, sql: &str) -> String {
    rows(client, sql).await[0].get(0).unwrap().to_owned()
}

/// A program with libpq, that is to log in to `database` as `user`.
fn program(name: &str, running: &Running, database: &str, user: &str) -> Command {
    let mut command = Command::new(name);
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", running.port().to_string())
        .env("PGDATABASE", database)
        .env("PGUSER", user)
        .env("PGPASSWORD", running.password(user))
        .env("PGSSLMODE", "disable")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn done(child: Child) -> String {
    let Output { status, stdout, stderr } = child.wait_with_output().await.unwrap();
    let text = [stdout, stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(status.success(), "{status}: {text}");
    text
}

async fn psql(running: &Running, command: &str) -> String {
    let mut psql = program("psql", running, "pgbouncer", "admin");
    done(psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-c", command]).spawn().unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_shows_everything() {
    let cluster = Sandbox::builder().standbys(1).start().await.unwrap();
    let running = harness::gateway(&cluster, "databases: { postgres: , '*': }").await;
    let client = running.connect("postgres", "app").await;
    assert_eq!(value(&client, "SELECT 7").await, "7");
    for show in SHOWS {
        let shown = psql(&running, &format!("SHOW {show};")).await;
        assert!(shown.contains("row"), "{show}: {shown}");
        for (user, _) in [harness::ADMIN, STATS] {
            assert!(!shown.contains(running.password(user)), "{show}: {shown}");
        }
        assert!(!shown.contains(running.password("app")), "{show}: {shown}");
    }
    let pools = psql(&running, "show pools").await;
    assert!(pools.contains("cl_active") && pools.contains("postgres"), "{pools}");
    // What psql itself asks, and several commands at once.
    let both = psql(&running, "show version; show lists").await;
    assert!(both.contains("Herdsman") && both.contains("used_clients"), "{both}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_topology_says_who_is_what_and_why() {
    let cluster = Sandbox::builder().standbys(1).start().await.unwrap();
    let running = harness::gateway(&cluster, "").await;
    let console = running.console().await;
    running.until(|topology| topology.readers().count() == 1).await;
    eventually("the standby is readable", async || {
        column(&console, "SHOW TOPOLOGY", "readable").await == ["yes", "yes"]
    })
    .await;
    assert_eq!(column(&console, "SHOW TOPOLOGY", "node").await, ["n1", "n2"]);
    assert_eq!(column(&console, "SHOW TOPOLOGY", "role").await, ["primary", "standby"]);
    assert_ne!(column(&console, "SHOW TOPOLOGY", "why").await[0], "");
    cluster.kill("n1").await.unwrap();
    eventually("the primary is withdrawn", async || {
        let state = rows(&console, "SHOW STATE").await;
        let primary = state.iter().find(|row| row.get("key") == Some("primary")).unwrap();
        primary.get("value") != Some("n1")
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drivers_may_use_prepared_statements_and_transactions() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "").await;
    let client = running.connect("postgres", "app").await;
    assert_eq!(value(&client, "SELECT 7").await, "7");
    let mut console = running.console().await;
    for show in SHOWS {
        let statement = console.prepare(&format!("SHOW {show}")).await.unwrap();
        let rows = console.query(&statement, &[]).await.unwrap();
        assert!(rows.iter().all(|row| row.len() == statement.columns().len()), "{show}");
    }
    let transaction = console.transaction().await.unwrap();
    let pools = transaction.query("SHOW POOLS", &[]).await.unwrap();
    transaction.commit().await.unwrap();
    let pool = pools.iter().find(|row| row.get::<_, &str>("database") == "postgres").unwrap();
    assert_eq!(pool.get::<_, i64>("cl_active"), 1);
    assert_eq!(pool.get::<_, &str>("pool_mode"), "transaction");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_holds_a_running_pgbench_and_resume_lets_it_go_on_without_an_error() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "pool: { size: 3 }").await;
    let mut init = program("pgbench", &running, "postgres", "app");
    done(init.args(["-i", "-I", "dtg", "-q"]).spawn().unwrap()).await;
    let mut bench = program("pgbench", &running, "postgres", "app");
    // A thread for each client: pgbench waits for its own prepared statements without looking after other clients.
    let options = ["-n", "-c", "8", "-j", "8", "-t", "150", "-M", "prepared"];
    let bench = bench.args(options).spawn().unwrap();
    let console = running.console().await;
    eventually("pgbench works", async || pools(&console, "sv_active").await == 3).await;
    console.simple_query("PAUSE postgres").await.unwrap();
    assert_eq!(
        pools(&console, "sv_active").await,
        0,
        "PAUSE comes back when nothing runs any more"
    );
    assert_eq!(pools(&console, "sv_idle").await, 0, "and everything is closed");
    assert_eq!(
        column(&console, "SHOW STATE", "value").await[1],
        "no",
        "only one database is paused"
    );
    let total = || column(&console, "SHOW STATS_TOTALS", "xact_count");
    let before = total().await;
    eventually("everybody waits", async || pools(&console, "cl_waiting").await == 8).await;
    assert_eq!(total().await, before, "no transaction ended while it was paused");

    console.simple_query("RESUME postgres").await.unwrap();
    let told = done(bench).await;
    assert!(told.contains("number of transactions actually processed: 1200/1200"), "{told}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_that_is_cancelled_or_left_alone_is_taken_back() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "").await;
    let busy = running.connect("postgres", "app").await;
    let other = running.connect("postgres", "app").await;
    busy.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let look = running.console().await;
    let paused = async || column(&look, "SHOW STATE", "value").await[1] == "yes";

    for cancel in [true, false] {
        let (console, connection) = tokio_postgres::connect(&running.admin(), NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let token = console.cancel_token();
        let pause = tokio::spawn(async move { console.simple_query("PAUSE").await });
        eventually("it is paused", &paused).await;
        if cancel {
            token.cancel_query(NoTls).await.unwrap();
            let error = pause.await.unwrap().unwrap_err();
            assert_eq!(error.code().unwrap().code(), "57014");
        } else {
            connection.abort();
        }
        eventually("it is no longer paused", async || !paused().await).await;
        assert_eq!(value(&other, "SELECT 1").await, "1");
    }
    busy.batch_execute("COMMIT").await.unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_ended_by_its_id_and_no_other_with_it() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "").await;
    let console = running.console().await;
    let named =
        |name: &str| format!("{} application_name={name}", running.conninfo("postgres", "app"));
    let victim = connect(&named("victim")).await.unwrap();
    let other = connect(&named("other")).await.unwrap();
    victim.batch_execute("BEGIN").await.unwrap();
    let id = id_of(&console, "victim").await.unwrap();
    console.simple_query(&format!("KILL_CLIENT {id}")).await.unwrap();
    eventually("it is gone", async || id_of(&console, "victim").await.is_none()).await;
    assert!(victim.simple_query("SELECT 1").await.is_err());
    assert_eq!(value(&other, "SELECT 1").await, "1");
    assert_eq!(refused(&console, &format!("KILL_CLIENT {id}")).await, "42704");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_only_look_can_change_nothing_and_others_do_not_get_in() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "").await;
    let stats = running.connect("herdsman", STATS.0).await;
    let client = running.connect("postgres", "app").await;
    assert_eq!(value(&client, "SELECT 1").await, "1");
    for show in SHOWS {
        stats.simple_query(&format!("SHOW {show}")).await.unwrap();
    }
    let id = column(&stats, "SHOW CLIENTS", "id").await.join("");
    let commands = [
        "PAUSE",
        "RESUME",
        "HOLD",
        "RELOAD",
        "KILL",
        "KILL postgres",
        "DISABLE postgres",
        "ENABLE postgres",
        "RECONNECT",
        "WAIT_CLOSE",
        "SWITCHOVER n1",
        "SHUTDOWN",
        "SUSPEND",
        "SHOW POOLS; KILL",
    ];
    for command in commands.map(str::to_owned).into_iter().chain([format!("KILL_CLIENT {id}")]) {
        assert_eq!(refused(&stats, &command).await, "42501", "{command}");
    }
    assert_eq!(value(&client, "SELECT 1").await, "1", "nothing has happened");
    let outsider = connect(&running.conninfo("herdsman", "app")).await.err().unwrap();
    assert_eq!(outsider.code().unwrap().code(), "28000");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_command_or_cannot_be_done_here_says_so() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "databases: { postgres: }").await;
    let console = running.console().await;
    let table = [
        ("DROP TABLE users", "42601"),
        ("PAUSE nothing", "3D000"),
        ("KILL herdsman", "0A000"),
        ("DISABLE herdsman", "0A000"),
        ("DISABLE pgbouncer", "0A000"),
        ("PAUSE herdsman", "0A000"),
        ("SHUTDOWN WAIT_FOR_GODOT", "42601"),
        ("SUSPEND app", "42601"),
        ("SWITCHOVER nobody", "55000"),
    ];
    for (command, code) in table {
        assert_eq!(refused(&console, command).await, code, "{command}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_can_be_closed_to_new_clients_and_all_its_clients_sent_away() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running =
        harness::gateway(&cluster, "databases: { postgres: , other: { dbname: postgres } }").await;
    let console = running.console().await;
    let inside = running.connect("postgres", "app").await;
    let bystander = running.connect("other", "app").await;
    assert_eq!(value(&inside, "SELECT 1").await, "1");

    console.simple_query("DISABLE postgres").await.unwrap();
    let late = connect(&running.conninfo("postgres", "app")).await.err().unwrap();
    assert_eq!(late.code().unwrap().code(), "57P03");
    assert_eq!(value(&inside, "SELECT 1").await, "1", "who is inside stays");
    console.simple_query("ENABLE postgres").await.unwrap();
    drop(running.connect("postgres", "app").await);

    console.simple_query("KILL postgres").await.unwrap();
    eventually("its clients are gone", async || inside.simple_query("SELECT 1").await.is_err())
        .await;
    assert_eq!(value(&bystander, "SELECT 1").await, "1", "other databases go on");
    let conninfo = running.conninfo("postgres", "app");
    let late = async move { value(&connect(&conninfo).await.unwrap(), "SELECT 7").await };
    let answer = tokio::spawn(late);
    // Its login may have to ask a server, and then waits already.
    eventually("a new client waits", async || {
        pools(&console, "cl_active").await + pools(&console, "cl_waiting").await == 1
    })
    .await;
    assert!(!answer.is_finished());
    console.simple_query("RESUME postgres").await.unwrap();
    assert_eq!(answer.await.unwrap(), "7");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconnect_replaces_server_connections_and_wait_close_waits_for_the_old_ones() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "databases: { postgres: { target: writer } }").await;
    let console = running.console().await;
    let client = running.connect("postgres", "app").await;
    client.batch_execute("BEGIN").await.unwrap();
    let old = value(&client, "SELECT pg_backend_pid()").await;
    let find = |rows: Vec<SimpleQueryRow>, name: &str, value: &str| {
        rows.into_iter().find(|row| row.get(name) == Some(value)).expect("the row")
    };
    let server = find(rows(&console, "SHOW SERVERS").await, "remote_pid", &old);
    let own = find(rows(&console, "SHOW CLIENTS").await, "database", "postgres");
    assert_eq!((server.get("ptr"), server.get("link")), (own.get("link"), own.get("ptr")));

    console.simple_query("RECONNECT").await.unwrap();
    let server = find(rows(&console, "SHOW SERVERS").await, "remote_pid", &old);
    assert_eq!(server.get("close_needed"), Some("1"));
    let waiting = running.console().await;
    let closed = tokio::spawn(async move { waiting.simple_query("WAIT_CLOSE postgres").await });
    assert_eq!(value(&client, "SELECT pg_backend_pid()").await, old, "a transaction keeps its own");
    assert!(!closed.is_finished());
    client.batch_execute("COMMIT").await.unwrap();
    closed.await.unwrap().unwrap();
    assert_ne!(value(&client, "SELECT pg_backend_pid()").await, old);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_stops_writes_and_not_reads_until_resume() {
    let cluster = Sandbox::builder().standbys(1).start().await.unwrap();
    let running = harness::gateway(&cluster, "").await;
    running.until(|topology| topology.readers().count() == 1).await;
    let console = running.console().await;
    let client = running.connect("postgres", "app").await;
    client.batch_execute("CREATE TABLE held (n int)").await.unwrap();
    let reader = running.connect("postgres", "app").await;

    console.simple_query("HOLD").await.unwrap();
    let write =
        tokio::spawn(
            async move { client.simple_query("INSERT INTO held VALUES (1)").await.map(drop) },
        );
    eventually("the write waits", async || pools(&console, "cl_waiting").await == 1).await;
    assert_eq!(value(&reader, "SELECT 7").await, "7");
    assert!(column(&console, "SHOW STATE", "value").await[3].starts_with("yes"));
    console.simple_query("RESUME").await.unwrap();
    write.await.unwrap().unwrap();
    assert_eq!(column(&console, "SHOW STATE", "value").await[3], "no");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_goes_to_the_program_and_its_outcome_comes_back() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "hold: 1s").await;
    let console = running.console().await;
    let wishes = running.gateway.reload_wishes();
    let program = async {
        let fine = running.reload("hold: 7s").map(drop);
        wishes.next().await.done(fine);
        wishes.next().await.done(Err("line 3: no such key".to_owned()));
    };
    let administrator = async {
        console.simple_query("RELOAD").await.unwrap();
        let problem = console.simple_query("RELOAD").await.unwrap_err();
        problem.as_db_error().unwrap().message().to_owned()
    };
    let (problem, ()) = tokio::join!(administrator, program);
    assert!(problem.ends_with("everything is as it was: line 3: no such key"), "{problem}");
    let config = rows(&console, "SHOW CONFIG").await;
    let hold = config.iter().find(|row| row.get("key") == Some("hold")).unwrap();
    assert_eq!((hold.get("value"), hold.get("default")), (Some("7s"), Some("10s")));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_is_counted_by_pool_and_node() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "databases: { postgres: { target: writer } }").await;
    let client = running.connect("postgres", "app").await;
    for _ in 0..10 {
        assert_eq!(value(&client, "SELECT repeat('x', 1000)").await.len(), 1000);
    }
    let before = running.gateway.statistics();
    let pool = before.pools.iter().find(|pool| pool.database == "postgres").unwrap();
    assert_eq!((pool.user.as_str(), pool.node.as_str()), ("app", "n1"));
    assert_eq!((pool.totals.transactions, pool.totals.queries), (10, 10));
    assert_eq!(pool.transaction.count(), 10);
    assert!(pool.totals.sent >= 10_000 && pool.totals.received >= 300, "{:?}", pool.totals);
    assert_eq!((pool.servers.idle > 0, pool.servers.active), (true, 0));
    assert_eq!(before.clients.idle, 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_prepared_is_counted_for_clients_and_for_servers() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "pool: { size: 1 }").await;
    let console = running.console().await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let client = running.connect("postgres", "app").await;
        let statement = client.prepare("SELECT $1::int4").await.unwrap();
        for number in 0..3_i32 {
            let row = client.query_one(&statement, &[&number]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), number);
        }
        clients.push((client, statement));
    }
    let mut counted = Vec::new();
    for name in ["client_parse_count", "server_parse_count", "bind_count"] {
        counted.push(column(&console, "SHOW STATS_TOTALS", name).await.concat());
    }
    assert_eq!(counted, ["2", "1", "6"], "two clients share one server connection");
    let mut kept = column(&console, "SHOW CLIENTS", "prepared_statements").await;
    kept.sort();
    assert_eq!(kept, ["0", "1", "1"], "the console has none");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_database_is_not_resumed_while_everything_is_paused() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "databases: { postgres: , other: }").await;
    let console = running.console().await;
    let client = running.connect("postgres", "app").await;
    assert_eq!(value(&client, "SELECT 1").await, "1");
    console.simple_query("PAUSE").await.unwrap();
    console.simple_query("RESUME postgres").await.unwrap();
    let answer = tokio::spawn(async move { value(&client, "SELECT 2").await });
    eventually("it waits", async || pools(&console, "cl_waiting").await == 1).await;
    assert_eq!(psql(&running, "RESUME other").await.matches("stays paused").count(), 1);
    console.simple_query("RESUME").await.unwrap();
    assert_eq!(answer.await.unwrap(), "2");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_suspended_who_connects_waits_and_nothing_begins() {
    let cluster = Sandbox::builder().start().await.unwrap();
    let running = harness::gateway(&cluster, "").await;
    let console = running.console().await;
    let client = running.connect("postgres", "app").await;
    client.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let second = running.console().await;
    let suspending = tokio::spawn(async move { second.simple_query("SUSPEND").await.map(drop) });
    let state = async || column(&console, "SHOW STATE", "value").await[..3].join(" ");
    eventually("it is suspended", async || state().await == "no yes yes").await;
    assert!(!suspending.is_finished(), "a transaction is running");
    client.batch_execute("COMMIT").await.unwrap();
    suspending.await.unwrap().unwrap();
    let late = tokio::spawn(connect_string(running.conninfo("postgres", "app")));
    let waiting = tokio::spawn(async move { value(&client, "SELECT 'begun'").await });
    eventually("the client waits", async || pools(&console, "cl_waiting").await == 1).await;
    assert!(!late.is_finished() && !waiting.is_finished());
    console.simple_query("RESUME").await.unwrap();
    assert_eq!(waiting.await.unwrap(), "begun");
    assert_eq!(value(&late.await.unwrap().unwrap(), "SELECT 'here'").await, "here");
    assert_eq!(state().await, "yes no no");
    running.stop().await;
}

async fn connect_string(to: String) -> Result<Client, tokio_postgres::Error> {
    connect(&to).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_ends_at_once_or_waits_for_transactions_or_for_clients() {
    let cluster = Sandbox::builder().start().await.unwrap();
    for (command, expected) in [
        ("SHUTDOWN", Ending::AtOnce),
        ("SHUTDOWN WAIT_FOR_SERVERS", Ending::Transactions),
        ("SHUTDOWN WAIT_FOR_CLIENTS", Ending::Clients),
    ] {
        let running = harness::gateway(&cluster, "").await;
        let console = running.console().await;
        let [idle, busy] =
            [running.connect("postgres", "app").await, running.connect("postgres", "app").await];
        assert_eq!(value(&idle, "SELECT 1").await, "1");
        busy.batch_execute("BEGIN; SELECT 1").await.unwrap();
        let wishes = running.gateway.end_wishes();
        let (asked, wish) =
            tokio::join!(console.simple_query(command), async { wishes.next().await.heard() });
        asked.unwrap();
        assert_eq!(wish, expected);
        let conninfo = running.conninfo("postgres", "app");
        let harness::Running { gateway, watcher, .. } = running;
        let gateway = std::sync::Arc::new(gateway);
        let leaving = std::sync::Arc::clone(&gateway);
        let left = tokio::spawn(async move { leaving.leave(wish).await });
        match expected {
            Ending::AtOnce => {
                left.await.unwrap();
                assert!(busy.batch_execute("COMMIT").await.is_err());
            }
            Ending::Transactions => {
                eventually("who is idle is sent away", async || idle.is_closed()).await;
                busy.batch_execute("SELECT 1; COMMIT").await.unwrap();
                left.await.unwrap();
            }
            Ending::Clients => {
                eventually("nobody new is accepted", async || connect(&conninfo).await.is_err())
                    .await;
                busy.batch_execute("SELECT 1; COMMIT").await.unwrap();
                assert_eq!(value(&idle, "SELECT 1").await, "1");
                drop(busy);
                assert!(!left.is_finished());
                drop(idle);
                left.await.unwrap();
            }
        }
        std::sync::Arc::into_inner(gateway).unwrap().stop().await;
        watcher.stop().await;
    }
}
