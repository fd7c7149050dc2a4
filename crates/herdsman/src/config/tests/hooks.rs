use std::time::Duration;

use super::*;

#[track_caller]
fn hook(text: &str, expected: &str) {
    below(&format!("hooks:\n  - {text}\n"), expected);
}

#[test]
fn hooks_are_read_with_their_defaults_and_their_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("secret"), "s3cret-one\n").unwrap();
    std::fs::write(path("ini"), "[databases]\nshop = host=x\n").unwrap();
    let text = format!(
        "{HOSTS}hooks:
  - {{name: a, exec: {{command: ['true']}}}}
  - {{name: b, on: [node_down], webhook: {{url: 'http://x/', secret_file: {secret}, token: s3cret-two}}}}
  - {{name: c, pgbouncer: {{file: {ini}, databases: {{shop: writer}}, console: {{host: x, password_file: {secret}}}}}}}
",
        secret = path("secret"),
        ini = path("ini"),
    );
    let hooks = parse(&text).unwrap_or_else(|problems| panic!("{}", list(&problems))).hooks.0;
    assert_eq!((hooks[0].timeout, hooks[0].queue), (Duration::from_secs(10), 100));
    assert_eq!(hooks[0].events().len(), 3);
    let webhook = hooks[1].webhook.as_ref().unwrap();
    assert_eq!(webhook.secret.as_ref().unwrap().expose(), "s3cret-one");
    let console = &hooks[2].pgbouncer.as_ref().unwrap().console;
    assert_eq!(console["password"].expose(), "s3cret-one");
    assert!(!format!("{hooks:?}").contains("s3cret"));
}

#[test]
fn hooks_that_cannot_work_are_refused_where_they_are_wrong() {
    below("hooks: {a: b}\n", "4:8: `hooks` is a map, expected a list");
    hook(
        "{name: a}",
        "5:5: `hooks.1`: it does nothing, expected exec, webhook, slack, pgbouncer, haproxy or hosts",
    );
    hook("{exec: {command: [x]}}", "5:5: `hooks.1`: it has no `name`, expected one");
    hook(
        "{name: a b, exec: {command: [x]}}",
        "5:12: `hooks.1.name`: `a b` names no hook, expected 1 to 40 letters, digits, `-` and `_`",
    );
    hook(
        "{name: a, exec: {command: [x]}}\n  - {name: a, exec: {command: [x]}}",
        "6:12: `hooks.2.name`: a hook above has this name, expected another one",
    );
    hook(
        "{name: a, exec: {command: [x]}, slack: {url: 'http://s3cret/'}}",
        "5:37: `hooks.1.slack`: a hook does one thing; make this one of its own",
    );
    hook(
        "{name: a, exec: {command: []}}",
        "5:31: `hooks.1.exec.command`: it is empty, expected a program and its arguments",
    );
    hook(
        "{name: a, on: [promoted], exec: {command: [x]}}",
        "5:20: `hooks.1.on.1` is `promoted`, expected primary, no_primary, split_brain, node_up, node_down, role, readable, unreadable, fenced, unfenced, lag, lag_over or conflict",
    );
    hook(
        "{name: a, on: [primary], hosts: {file: x, writer: y}}",
        "5:19: `hooks.1.on`: this hook follows every verdict, expected `on` for exec, webhook and slack only",
    );
    hook(
        "{name: a, timeout: 5, exec: {command: [x]}}",
        "5:24: `hooks.1.timeout`: `5` is not a duration; write it like 500ms, 5s or 2m",
    );
    hook(
        "{name: a, retry: {pause: 1m}, exec: {command: [x]}}",
        "5:30: `hooks.1.retry.pause`: it is longer than `longest_pause`, expected at most that",
    );
    hook(
        "{name: a, webhook: {url: 'ftp://s3cret/'}}",
        "5:15: `hooks.1.webhook`: failed to set up webhook: `url` is none, expected http://HOST/PATH or https://HOST/PATH; correct its settings",
    );
    hook(
        "{name: a, slack: {title: x}}",
        "5:15: `hooks.1.slack`: it has no `url`, expected one of `url`, `url_env`, `url_file` and `url_command`",
    );
    hook(
        "{name: a, slack: {url_env: HERDSMAN_NO_SUCH}}",
        "5:32: `hooks.1.slack.url_env`: the variable `HERDSMAN_NO_SUCH` is not set, or is not UTF-8",
    );
    hook(
        "{name: a, haproxy: {socket: x, writers: [w]}}",
        "5:33: `hooks.1.haproxy.socket`: this is no socket, expected a path that begins with `/`, or host:port",
    );
    hook(
        "{name: a, haproxy: {socket: /x, writers: ['w;x']}}",
        "5:46: `hooks.1.haproxy.writers`: `w;x` names no backend of HAProxy",
    );
    hook(
        "{name: a, haproxy: {socket: /x, writers: [w], servers: {c: x}}}",
        "5:61: `hooks.1.haproxy.servers.c` names `c`, expected a node of `hosts`: `a` or `b`",
    );
    hook(
        "{name: a, hosts: {file: /no/such/file, writer: x}}",
        "5:29: `hooks.1.hosts.file`: `/no/such` is not a directory, expected a file in one that exists",
    );
    hook(
        "{name: a, pgbouncer: {file: /no/such, databases: {x: writer}, console: {port: x}}}",
        "5:33: `hooks.1.pgbouncer.file`: there is no file `/no/such`; correct the path, or write it",
    );
    hook(
        "{name: a, pgbouncer: {file: x, databases: {x: primary}, console: {}}}",
        "5:51: `hooks.1.pgbouncer.databases.x` is `primary`, expected writer or reader",
    );
}
