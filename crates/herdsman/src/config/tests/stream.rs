//! The `stream:` section: what is read, and what is refused in which words.

use secrecy::ExposeSecret;

use super::{HOSTS, below, list, parse};
use crate::config::Config;

#[track_caller]
fn good(text: &str) -> Config {
    parse(&format!("{HOSTS}{text}")).unwrap_or_else(|problems| panic!("{}", list(&problems)))
}

#[test]
fn a_file_without_the_section_has_its_defaults_and_no_sinks() {
    let config = good("");
    assert_eq!(config.stream.slot.as_str(), "herdsman");
    assert_eq!(config.stream.tables, ["public.*"]);
    assert!(config.stream.sinks.is_empty() && config.stream.create);
    assert_eq!(good("stream:\n").stream.slot, config.stream.slot);
}

#[test]
fn the_stream_logs_in_as_it_says_and_the_watcher_as_before() {
    let config = good(
        "stream:\n  login: {user: cdc, dbname: shop, password: c2VjcmV0, password_encoding: base64}\n",
    );
    let nodes = config.stream.nodes(&config.nodes);
    for (name, info) in &nodes {
        assert_eq!((info.user.as_str(), info.dbname.as_str()), ("cdc", "shop"));
        assert_eq!(info.password.as_ref().unwrap().expose_secret(), "secret");
        assert_ne!(config.nodes[name].user, "cdc");
    }
    assert_eq!(nodes.len(), 2);
}

#[test]
fn names_and_patterns_are_checked_where_they_stand() {
    below(
        "stream: {node: c}\n",
        "4:16: `stream.node` names `c`, expected a node of `hosts`: `a` or `b`",
    );
    below(
        "stream: {slot: My-Slot}\n",
        "4:16: `stream.slot`: `My-Slot` is no name for a replication slot: expected lower-case letters, digits and underscores only",
    );
    below(
        "stream: {tables: [public.a, orders]}\n",
        "4:29: `stream.tables`: `orders` is no pattern for tables; expected schema.table, such as public.orders or public.*",
    );
    below(
        "stream: {tables: []}\n",
        "4:18: `stream.tables` is empty, expected at least one pattern such as public.*",
    );
    below(
        "stream: {exclude: [x]}\n",
        "4:20: `stream.exclude`: `x` is no pattern for tables; expected schema.table, such as public.orders or public.*",
    );
}

#[test]
fn transforms_that_contradict_themselves_are_refused() {
    let transform = |text: &str, expected: &str| {
        below(&format!("stream:\n  transform:\n    public.*: {{{text}}}\n"), expected);
    };
    transform(
        "columns: [a], drop: [a]",
        "6:37: `stream.transform.public.*.drop.1` lists `a`, which `columns` lists as well, expected one of the two",
    );
    transform(
        "drop: [a], mask: {a: hash}",
        "6:37: `stream.transform.public.*.mask.a` is left out of the rows, expected a column that is delivered",
    );
    transform(
        "mask: {a: md5}",
        "6:26: `stream.transform.public.*.mask.a` is `md5`, expected null, stars or hash",
    );
    transform(
        "rename: {a: c, b: c}",
        "6:34: `stream.transform.public.*.rename.b` is `c`, as another column is called, expected a name of its own",
    );
    transform(
        "table: shop.all",
        "6:23: `stream.transform.public.*.table` gives one name to every table of a pattern, expected it below one table's name",
    );
    transform(
        "where: ''",
        "6:23: `stream.transform.public.*.where` is empty, expected an SQL condition such as amount > 0",
    );
    below(
        "stream: {transform: {users: {drop: [a]}}}\n",
        "4:22: `stream.transform.users` is no pattern for tables, expected schema.table, such as public.orders or public.*",
    );
}

#[test]
fn bounds_that_do_not_go_together_are_refused() {
    below(
        "stream: {batch: {changes: 0}}\n",
        "4:27: `stream.batch.changes` is `0`, expected 1 or more",
    );
    below(
        "stream: {batch: {bytes: 100, queue_bytes: 50}}\n",
        "4:43: `stream.batch.queue_bytes` is `50`, expected at least `stream.batch.bytes`, which is 100",
    );
    below(
        "stream: {retry: {pause: 2s, longest_pause: 1s}}\n",
        "4:25: `stream.retry.pause` is 2s, expected at most `stream.retry.longest_pause`, which is 1s",
    );
    below(
        "stream: {lag_guard: {action: drop-slot}}\n",
        "4:30: `stream.lag_guard.action` takes action, expected `limit_bytes` beside it, to say when",
    );
    below(
        "stream: {lag_guard: {limit_bytes: 5}}\n",
        "4:35: `stream.lag_guard.limit_bytes` is `5`, expected at least `stream.lag_guard.warn_bytes`, which is 1073741824",
    );
    below(
        "stream: {heartbeat: 10ms}\n",
        "4:21: `stream.heartbeat`: `10ms` is out of range; allowed is 1s to 1h, or never",
    );
}

#[test]
fn sinks_are_named_plainly_and_of_a_known_kind() {
    let config =
        good("stream:\n  sinks:\n    lines: {stdout: {}}\n    copy: {file: {path: /tmp/x}}\n");
    assert_eq!(config.stream.sinks.len(), 2);
    below(
        "stream: {sinks: {'a b': {stdout: {}}}}\n",
        "4:18: `stream.sinks` names a sink `a b`, expected 1 to 40 letters, digits, `-` and `_`",
    );
    below(
        "stream: {sinks: {a: {stdot: {}}}}\n",
        "4:22: unknown key `stdot` in `stream.sinks.a`, expected stdout, file, exec, webhook, kafka, postgres or sse",
    );
}

#[test]
fn a_login_without_its_password_is_refused_without_showing_anything() {
    below(
        "stream: {login: {user: u, password: s3cret, password_env: X}}\n",
        "4:59: `stream.login.password_env`: the password is given twice, expected either `password` or `password_env`",
    );
    below(
        "stream: {login: {user: u, password: [s3cret]}}\n",
        "4:37: `stream.login.password` is a list, expected a single value",
    );
}

#[test]
fn a_secret_of_the_stream_is_noted_in_a_file_that_everybody_reads() {
    let notes = |text: &str| {
        let text = format!("{HOSTS}{text}");
        let parsed = Config::parse(std::path::Path::new("h.yml"), &text, super::Depth::Full, true);
        parsed.unwrap_or_else(|problems| panic!("{}", list(&problems))).notes.len()
    };
    assert_eq!(notes("stream: {login: {user: u, password: x}}\n"), 1);
    assert_eq!(notes("stream: {login: {user: u, password_env: HOME}}\n"), 0);
    let hook = |secret: &str| {
        format!("stream: {{sinks: {{h: {{webhook: {{url: 'http://h/', {secret}}}}}}}}}\n")
    };
    assert_eq!(notes(&hook("secret: x")), 1);
    assert_eq!(notes(&hook("secret_env: HOME")), 0);
    let copy = |url: &str| format!("stream: {{sinks: {{c: {{postgres: {{url: '{url}'}}}}}}}}\n");
    assert_eq!(notes(&copy("postgres://u:pass@h/d")), 1);
    assert_eq!(notes(&copy("postgres://u@h:5432/d")), 0);
}
