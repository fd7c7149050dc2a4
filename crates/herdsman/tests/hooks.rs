//! Hooks on a real cluster: a real PgBouncer and a real HAProxy send their clients to the promoted node, a file of names has
//! its address, and a command hears of it.

use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::cluster::{Cluster, PATIENCE, open_temp_dir, sql, until};
use crate::program::{Folder, Running, closed_port, get};

/// Who owns nothing: PgBouncer refuses to be root.
pub const NOBODY: u32 = 65534;

/// A daemon that ends with the test, and whatever it started.
pub struct Daemon(Child);

impl Daemon {
    pub fn start(names: [&str; 2], what: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let program = names.into_iter().find(|path| Path::new(path).exists());
        let program =
            program.unwrap_or_else(|| panic!("{what} is not installed; ./test installs it"));
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        prepare(&mut command);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _reaped = self.0.wait();
    }
}

/// A PgBouncer in session mode, whose database `shop` goes nowhere until somebody says where.
struct PgBouncer {
    _daemon: Daemon,
    port: u16,
    ini: String,
}

impl PgBouncer {
    fn start(folder: &Folder, app: &str) -> Self {
        let port = closed_port();
        let users =
            folder.file("users.txt", &format!("\"app\" \"{app}\"\n\"boss\" \"boss-word\"\n"));
        let ini = folder.file(
            "pgbouncer.ini",
            &format!(
                "[databases]\n; by Herdsman\npostgres = host=127.0.0.1 port={} dbname=postgres\n[pgbouncer]\n\
                 listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n\
                 auth_file = {users}\nadmin_users = boss\npool_mode = session\nserver_login_retry = 1\n",
                closed_port()
            ),
        );
        for path in [&users, &ini] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
            if rustix::process::geteuid().is_root() {
                chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let daemon =
            Daemon::start(["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"], "PgBouncer", |command| {
                command.arg(&ini);
                if rustix::process::geteuid().is_root() {
                    command.uid(NOBODY).gid(NOBODY);
                }
            });
        Self { _daemon: daemon, port, ini }
    }
}

/// An HAProxy that sends nobody anywhere until somebody says where.
struct HaProxy {
    daemon: Daemon,
    config: String,
    socket: String,
    /// The port of its second socket, as an HAProxy on another machine has it.
    far: u16,
    write: u16,
}

impl HaProxy {
    fn start(cluster: &Cluster, folder: &Folder) -> Self {
        let (write, read, far) = (closed_port(), closed_port(), closed_port());
        let socket = folder.path().join("haproxy.sock").display().to_string();
        let nodes = cluster.sandbox().node_names();
        let server =
            |node: &String| format!("    server pg-{node} {} disabled\n", cluster.endpoint(node));
        let servers: String = nodes.iter().map(server).collect();
        let text = format!(
            "global\n    stats socket {socket} level admin\n    stats socket 127.0.0.1:{far} level admin\ndefaults\n    mode tcp\n    retries 0\n    \
             timeout client 30s\n    timeout connect 2s\n    timeout server 30s\n\
             listen write\n    bind 127.0.0.1:{write}\n{servers}\nlisten read\n    bind 127.0.0.1:{read}\n{servers}\n"
        );
        let config = folder.file("haproxy.cfg", &text);
        Self { daemon: Self::daemon(&config), config, socket, far, write }
    }

    fn daemon(config: &str) -> Daemon {
        Daemon::start(["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"], "HAProxy", |command| {
            command.args(["-db", "-f", config]);
        })
    }

    /// Ends it, and starts another that knows nothing of what it was told.
    fn restart(self) -> Self {
        drop(self.daemon);
        Self { daemon: Self::daemon(&self.config), ..self }
    }

    /// The states of all servers, as `show stat` has them.
    fn states(&self) -> String {
        let ask = || {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.write_all(b"show stat\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = ask().unwrap_or_default();
        let column = |line: &str, place: usize| line.split(',').nth(place).unwrap_or("").to_owned();
        let servers = answer.lines().filter(|line| line.contains(",pg-"));
        let shown = servers.map(|line| {
            let status = column(line, 17).replace("no check", "in");
            format!("{}/{} {status}", column(line, 0), column(line, 1).replace("pg-", ""))
        });
        shown.collect::<Vec<_>>().join(", ")
    }
}

fn watched(cluster: &Cluster, folder: &Folder, bouncer: &PgBouncer, proxy: &HaProxy) -> Running {
    folder.file("boss", "boss-word\n");
    let text = format!(
        "{hosts}bind: 127.0.0.1
port: 0
watch:
  lag_alarm: {{ bytes: 4194304 }}
{addresses}hooks:
  - name: pooler
    retry: {{ pause: 100ms, longest_pause: 500ms }}
    pgbouncer:
      file: {ini}
      databases: {{ postgres: writer }}
      console: {{ host: 127.0.0.1, port: {bouncer}, user: boss, password_file: {dir}/boss, sslmode: disable }}
      old_connections: kill
  - name: balancer
    retry: {{ pause: 100ms, longest_pause: 500ms }}
    haproxy: {{ socket: {socket}, writers: [write], servers: {{ n1: pg-n1, n2: pg-n2 }}, refresh: 500ms }}
  - name: far-balancer
    retry: {{ pause: 100ms, longest_pause: 500ms }}
    haproxy: {{ socket: '127.0.0.1:{far}', readers: [read], servers: {{ n1: pg-n1, n2: pg-n2 }}, refresh: 500ms }}
  - name: names
    hosts: {{ file: {dir}/names, writer: writer.db, readers: readers.db }}
  - name: pager
    exec: {{ command: [sh, -c, 'echo \"$HERDSMAN_EVENT $HERDSMAN_NODE:$HERDSMAN_PORT$PGPASSWORD\" >>{dir}/told'] }}
  - name: late
    on: [lag, lag_over]
    exec: {{ command: [sh, -c, 'echo \"$HERDSMAN_EVENT $HERDSMAN_NODE\" >>{dir}/late'] }}
",
        hosts = cluster.hosts(str::to_owned),
        addresses = cluster.replication_addresses(str::to_owned),
        ini = bouncer.ini,
        bouncer = bouncer.port,
        socket = proxy.socket,
        far = proxy.far,
        dir = folder.path().display(),
    );
    let path = folder.file("herdsman.yml", &text);
    let mut command = folder.command(&["run", &path]);
    // `sh` is looked for there.
    command.env("PATH", "/usr/bin:/bin");
    // What is secret in our environment is not in that of commands.
    command.env("PGPASSWORD", "boss-word");
    folder.start_command(command)
}

/// A client that holds its connection, in session mode and so its server's, until that is cut.
fn held(port: u16, password: &str) -> JoinHandle<()> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user("app").password(password).dbname("postgres");
    let (ready, is_ready) = std::sync::mpsc::channel();
    let client = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
            let connection = tokio::spawn(connection);
            client.simple_query("SELECT 1").await.unwrap();
            ready.send(()).unwrap();
            let _cut = connection.await;
        });
    });
    is_ready.recv_timeout(PATIENCE).expect("no client gets through");
    client
}

#[test]
fn a_promotion_reaches_pgbouncer_haproxy_a_file_of_names_and_a_command() {
    let cluster = Cluster::start(1);
    let folder = Folder::within(&open_temp_dir());
    let sandbox = cluster.sandbox();
    let password = sandbox.credentials().password("app").unwrap();
    let bouncer = PgBouncer::start(&folder, password);
    let mut proxy = HaProxy::start(&cluster, &folder);
    let running = watched(&cluster, &folder, &bouncer, &proxy);
    let node = |port: &str| {
        let is_it = |node: &String| sandbox.server_port(node).unwrap().to_string() == port;
        sandbox.node_names().into_iter().find(is_it).unwrap_or_else(|| format!("port {port}"))
    };
    let who = |port: u16| match sql(port, "app", password, "SELECT current_setting('port')") {
        Ok(port) => node(&port),
        Err(why) => why,
    };
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();

    until("PgBouncer sends its clients to the primary", || who(bouncer.port), |seen| seen == "n1");
    until("so does HAProxy", || who(proxy.write), |seen| seen == "n1");
    let healthy = "write/n1 in, write/n2 MAINT, read/n1 DRAIN, read/n2 in";
    until(
        "HAProxy's servers are in and out by their parts",
        || proxy.states(),
        |seen| seen == healthy,
    );
    let names = || read("names");
    until("names have addresses", names, |seen| {
        seen.ends_with("\n127.0.0.1 writer.db\n127.0.0.1 readers.db\n")
    });
    // On a machine that is too slow, it may have been missed since.
    let is_news = read("told").starts_with("primary");
    assert!(!is_news, "that there is a primary at the start is no news");

    let seen = folder.herdsman(&["doctor", "--json"]).stdout;
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    for hook in ["pooler", "balancer", "far-balancer", "names"] {
        let mut findings = seen["findings"].as_array().unwrap().iter();
        let about = findings.find(|finding| finding["subject"] == format!("hook {hook}"));
        assert_eq!(about.unwrap()["severity"], "ok", "{seen:#}");
    }

    // A standby that falls behind is told of, and read all the same.
    cluster.sql("n2", "select pg_wal_replay_pause()");
    let much = "select count(pg_logical_emit_message(false, 'x', repeat('x', 65536))) from generate_series(1, 80)";
    cluster.sql("n1", much);
    until("its lag is told", || read("late"), |seen| seen == "lag n2\n");
    assert_eq!(proxy.states(), healthy);
    cluster.sql("n2", "select pg_wal_replay_resume()");
    until("its end, too", || read("late"), |seen| seen == "lag n2\nlag_over n2\n");

    // Nobody is the primary: nothing new is written, and nobody is sent elsewhere.
    let before = read("pgbouncer.ini");
    let held = held(bouncer.port, password);
    cluster.freeze("n1");
    let nobody = "write/n1 MAINT, write/n2 DRAIN, read/n1 MAINT, read/n2 in";
    until("no server is written to", || proxy.states(), |seen| seen == nobody);
    until("the command is told", || read("told"), |seen| seen.ends_with("no_primary :\n"));
    assert_eq!(read("pgbouncer.ini"), before, "without a proven primary the file stays as it is");
    assert!(names().contains("\n127.0.0.1 writer.db\n"), "and so does the writer's name");

    cluster.promote("n2");
    until("PgBouncer's clients reach the promoted one", || who(bouncer.port), |seen| seen == "n2");
    until("who waits for the old one is cut", || held.is_finished(), |seen| *seen);
    until("so do HAProxy's", || who(proxy.write), |seen| seen == "n2");
    let promoted = "write/n1 MAINT, write/n2 in, read/n1 MAINT, read/n2 in";
    until("where no standby is, the writer is read", || proxy.states(), |seen| seen == promoted);
    let port = cluster.endpoint("n2").rsplit_once(':').unwrap().1.to_owned();
    let told = format!("no_primary :\nprimary n2:{port}\n");
    until("the command is told of it", || read("told"), |seen| seen.ends_with(&told));
    let ini = Path::new(&bouncer.ini);
    let rights = std::fs::metadata(ini).unwrap().permissions().mode() & 0o777;
    assert_eq!(rights, 0o600, "the file keeps its rights, and with them its secrets");

    proxy = proxy.restart();
    until(
        "an HAProxy that was restarted is told again",
        || proxy.states(),
        |seen| seen == promoted,
    );
    cluster.thaw("n1");

    let runs = || {
        let count = read("told").lines().count();
        format!("herdsman_hook_runs_total{{hook=\"pager\",outcome=\"succeeded\"}} {count}\n")
    };
    let overview = get(&running.url(), "/v2/overview");
    let (_, body) = overview.split_once("\r\n\r\n").unwrap();
    let overview: serde_json::Value = serde_json::from_str(body).unwrap();
    let shown: Vec<_> =
        overview["hooks"].as_array().unwrap().iter().map(|hook| &hook["name"]).collect();
    assert_eq!(shown, ["pooler", "balancer", "far-balancer", "names", "pager", "late"]);
    assert!(!overview["hooks"].to_string().contains("told"), "last words are not for everybody");
    let metrics = || get(&running.url(), "/metrics");
    let metrics = until("every message is counted", metrics, |text| text.contains(&runs()));
    assert!(metrics.contains("herdsman_hook_failing{hook=\"names\"} 0"), "{metrics}");
    let shown = get(&running.url(), "/v2/hooks");
    assert!(shown.contains("\"pooler\"") && shown.contains("\"haproxy\""), "{shown}");
    let log = running.stderr();
    assert!(log.contains("RELOAD, moved postgres"), "{log}");
    for text in [metrics, shown, log] {
        assert!(!text.contains("boss-word"), "a password is shown: {text}");
    }
}
