//! The distribution's HAProxy, configured as for Patroni but for the ports, sends sessions where Herdsman says.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use herdsman_sandbox::Sandbox;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::cluster::{Cluster, sql, until};
use crate::program::{Folder, Running, closed_port};

/// Where it came from.
const PROGRAMS: [&str; 2] = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"];

struct Proxy {
    child: Child,
    write: u16,
    read: u16,
    /// Reads as well, but balanced by the agent's weights.
    weighed: u16,
    stats: u16,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its worker is a child of its own.
        let _gone = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _reaped = self.child.wait();
    }
}

impl Proxy {
    /// What Patroni's documentation has people write, on other ports.
    fn start(cluster: &Cluster, folder: &Folder, checks: &[u16], agent: u16) -> Self {
        let [write, read, weighed, stats] = [(); 4].map(|()| closed_port());
        let servers = |check: &dyn Fn(&str, u16) -> String| -> String {
            let nodes = cluster.sandbox().node_names();
            let lines = nodes.iter().zip(checks).map(|(node, port)| {
                format!("    server {node} {} {}\n", cluster.endpoint(node), check(node, *port))
            });
            lines.collect()
        };
        let checked = servers(&|_, port| format!("check port {port}"));
        let asked = servers(&|node, _| {
            format!(
                "weight 100 agent-check agent-port {agent} agent-addr 127.0.0.1 agent-inter 100ms agent-send \"{node} read\\n\""
            )
        });
        let text = format!(
            "global
    maxconn 100
defaults
    mode tcp
    retries 2
    timeout client 30s
    timeout connect 2s
    timeout server 30s
    timeout check 2s
listen stats
    mode http
    bind 127.0.0.1:{stats}
    stats enable
    stats uri /
listen primary
    bind 127.0.0.1:{write}
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 100ms fall 2 rise 1 on-marked-down shutdown-sessions
{checked}
listen standbys
    bind 127.0.0.1:{read}
    balance roundrobin
    option httpchk OPTIONS /replica?lag=16MB
    http-check expect status 200
    default-server inter 100ms fall 2 rise 1 on-marked-down shutdown-sessions
{checked}
listen weighed
    bind 127.0.0.1:{weighed}
    balance roundrobin
{asked}"
        );
        let path = folder.file("haproxy.cfg", &text);
        let program = PROGRAMS.into_iter().find(|path| Path::new(path).exists());
        let program = program.expect("haproxy is not installed; ./test installs it");
        let mut command = Command::new(program);
        command.args(["-db", "-f", &path]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Self { child: command.spawn().unwrap(), write, read, weighed, stats }
    }

    /// What one column of its statistics says of a server.
    fn stat(&self, backend: &str, server: &str, column: &str) -> String {
        let url = format!("http://127.0.0.1:{}", self.stats);
        let page = std::panic::catch_unwind(|| crate::program::get(&url, "/;csv"));
        let page = page.unwrap_or_default();
        let mut lines = page.lines().skip_while(|line| !line.starts_with("# pxname"));
        let Some(head) = lines.next() else { return "no statistics".to_owned() };
        let place = head.trim_start_matches("# ").split(',').position(|name| name == column);
        let wanted = format!("{backend},{server},");
        let line = lines.find(|line| line.starts_with(&wanted)).unwrap_or_default();
        line.split(',').nth(place.unwrap()).unwrap_or("no such server").to_owned()
    }
}

fn watched(cluster: &Cluster, folder: &Folder) -> (Running, Vec<u16>, u16) {
    let nodes = cluster.sandbox().node_names();
    let ports: Vec<u16> = nodes.iter().map(|_| closed_port()).collect();
    let agent = closed_port();
    let node_ports: Vec<_> =
        nodes.iter().zip(&ports).map(|(node, port)| format!("{node}: {port}")).collect();
    let text = format!(
        "{}bind: 127.0.0.1\nport: 0\napi: {{ node_ports: {{ {} }}, agent_port: {agent} }}\nwatch:\n{}",
        cluster.hosts(str::to_owned),
        node_ports.join(", "),
        cluster.replication_addresses(str::to_owned),
    );
    let path = folder.file("herdsman.yml", &text);
    (folder.start(&["run", &path]), ports, agent)
}

/// Which node answers behind a port, and whether it is a standby; or why nobody does.
fn who(cluster: &Cluster, port: u16) -> String {
    let sandbox: &Sandbox = cluster.sandbox();
    let password = sandbox.credentials().password("app").unwrap();
    let question = "SELECT current_setting('port') || ' ' || pg_is_in_recovery()";
    match sql(port, "app", password, question) {
        Ok(answer) => {
            let (found, standby) = answer.split_once(' ').unwrap();
            let is_it = |node: &String| sandbox.server_port(node).unwrap().to_string() == found;
            let node = sandbox.node_names().into_iter().find(is_it).unwrap();
            format!("{node} {}", if standby == "true" { "standby" } else { "primary" })
        }
        Err(why) => why,
    }
}

#[test]
fn haproxy_routes_by_health_checks_and_agent_through_kill_freeze_and_promotion() {
    let cluster = Cluster::start(2);
    let folder = Folder::new();
    let (running, checks, agent) = watched(&cluster, &folder);
    let proxy = Proxy::start(&cluster, &folder, &checks, agent);
    let writer = || who(&cluster, proxy.write);
    let reader = || who(&cluster, proxy.read);
    let weighed = || who(&cluster, proxy.weighed);

    until("the primary is found", writer, |seen| seen == "n1 primary");
    for standby in ["n2 standby", "n3 standby"] {
        until("each standby is read", reader, |seen| seen == standby);
        until("each standby is read, as the agent says", weighed, |seen| seen == standby);
    }
    for _ in 0..20 {
        assert!(reader().ends_with(" standby"), "only standbys are read");
    }

    // The further behind, the less it is asked.
    let weight = || proxy.stat("weighed", "n2", "weight");
    until("who is not behind has all its weight", weight, |seen| seen == "100");
    cluster.sql("n2", "SELECT pg_wal_replay_pause()");
    cluster.sql("n1", "CREATE TABLE late ()");
    let less = |seen: &String| (1..50).contains(&seen.parse::<u32>().unwrap_or(0));
    until("who is behind weighs less", weight, less);
    cluster.sql("n2", "SELECT pg_wal_replay_resume()");
    until("who has caught up weighs as before", weight, |seen| seen == "100");

    // A killed standby is left out; it comes back by itself.
    cluster.kill("n3");
    let status = |backend: &'static str, node: &'static str| {
        let proxy = &proxy;
        move || proxy.stat(backend, node, "status")
    };
    until("a killed standby is down", status("standbys", "n3"), |seen| seen.starts_with("DOWN"));
    until("so says the agent", status("weighed", "n3"), |seen| seen.starts_with("DOWN"));
    for _ in 0..10 {
        assert_eq!(reader(), "n2 standby");
    }
    cluster.start_node("n3");
    until("it is back", reader, |seen| seen == "n3 standby");

    // A frozen primary takes connections and answers nothing: nobody is written to until another one is proven.
    cluster.freeze("n1");
    until("nobody is the primary", status("primary", "n1"), |seen| seen.starts_with("DOWN"));
    assert!(reader().ends_with(" standby"), "standbys go on being read");
    cluster.promote("n2");
    until("the promoted one is written to", writer, |seen| seen == "n2 primary");
    cluster.thaw("n1");
    for _ in 0..20 {
        assert_eq!(writer(), "n2 primary", "an old primary that wakes up gets nothing");
    }
    until("nor is it read", status("standbys", "n1"), |seen| seen.starts_with("DOWN"));
    drop(proxy);
    drop(running);
}
