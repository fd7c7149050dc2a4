use super::*;
use crate::commands::doctor::finding::Severity;
use crate::commands::doctor::judge::tests::{config, facts, name, says};

#[track_caller]
fn pools_on(node: &str, sections: &str, expected: (u64, u64)) {
    let config = config(sections);
    let Pools { count, connections } = pools(&config.gateway, &config.groups, &name(node));
    assert_eq!((count, connections), expected, "{sections}");
}

#[test]
fn pools_are_counted_for_each_database_user_and_node() {
    pools_on("n1", "", (0, 0));
    pools_on("n1", "gateway: {trust_loopback: true}\n", (1, 20));
    let users = "users: {a: {password: x}, b: {password: x, pool: {size: 3}}}";
    pools_on("n1", &format!("gateway: {{pool: {{size: 7}}, {users}}}\n"), (2, 10));
    let databases = "databases: {d: {pool: {size: 2}}, e: {target: n2}}";
    let both = format!("gateway: {{{users}, {databases}}}\n");
    pools_on("n1", &both, (2, 5));
    pools_on("n2", &both, (4, 28));
    let group =
        format!("groups: {{g: [n2]}}\ngateway: {{{users}, databases: {{d: {{group: g}}}}}}\n");
    pools_on("n1", &group, (0, 0));
    pools_on("n2", &group, (2, 23));
}

#[test]
fn pools_that_do_not_fit_are_told_with_two_ways_out() {
    let check = |connections: u64, facts: &ServerFacts, severity, words: &[&str]| {
        let found = [super::connections(Pools { count: 4, connections }, facts)];
        says(&found, "connections", severity, Code::Connections, words);
    };
    check(92, &facts(), Severity::Ok, &["7 of 100 in use"]);
    let words = [
        "may take 93 ",
        "leaves 97 ",
        "`ALTER SYSTEM SET max_connections = 110`",
        "`gateway.pool.size` to 23",
    ];
    check(93, &facts(), Severity::Warning, &words);
    let busy = ServerFacts { connections: 91, ..facts() };
    check(10, &busy, Severity::Warning, &["91 of 100 in use"]);
    let tiny = ServerFacts { max_connections: 5, ..facts() };
    check(80, &tiny, Severity::Warning, &["`gateway.pool.size` to 1"]);
}

#[test]
fn what_is_used_up_is_told_with_the_value_that_is_enough() {
    let config = config("");
    let check = |facts: &ServerFacts, slots, subject, severity, code, words: &[&str]| {
        let found = of_server(&config, &name("n1"), facts, slots);
        says(&found, subject, severity, code, words);
    };
    let (ok, warning) = (Severity::Ok, Severity::Warning);
    check(&facts(), 9, "slots", ok, Code::Slots, &["9 of 10"]);
    let set = "`ALTER SYSTEM SET max_replication_slots = 15`";
    check(&facts(), 10, "slots", warning, Code::Slots, &[set]);
    let busy = ServerFacts { senders: 10, ..facts() };
    let set = "`ALTER SYSTEM SET max_wal_senders = 15`";
    check(&busy, 0, "senders", warning, Code::Senders, &[set]);
    let busy = ServerFacts { subscriptions: 4, ..facts() };
    check(&busy, 0, "workers", ok, Code::Workers, &[]);
    let busy = ServerFacts { subscriptions: 5, ..facts() };
    let set = "`ALTER SYSTEM SET max_logical_replication_workers = 6`";
    check(&busy, 0, "workers", warning, Code::Workers, &[set]);
}

#[test]
fn clients_need_files() {
    let check = |clients, limit, severity, words: &[&str]| {
        let found: Vec<_> = files(clients, 100, limit).into_iter().collect();
        says(&found, "open files", severity, Code::OpenFiles, words);
    };
    check(10_000, None, Severity::Ok, &[]);
    check(924, Some(1024), Severity::Ok, &["1024 are needed"]);
    let words = ["ulimit -n 1025", "LimitNOFILE=1025", "`gateway.max_clients` to 924"];
    check(925, Some(1024), Severity::Warning, &words);
    assert_eq!(open_files(&config(""), Some(3)), None);
}

#[test]
fn clients_that_wait_are_told_of_where_the_kernel_has_room_for_fewer() {
    let told = |sections: &str, limit| super::waiting(&config(sections), limit);
    assert_eq!(told("", Some(1)), None, "nobody comes");
    let gateway = "gateway: {max_clients: 3000, trust_loopback: true}\n";
    assert_eq!(told(gateway, None), None, "not known");
    let subject = "waiting clients";
    for (limit, severity, words) in [
        (4096, Severity::Ok, "4096 may wait"),
        (3000, Severity::Ok, "3000 are to be expected"),
        (128, Severity::Warning, "`sysctl -w net.core.somaxconn=3000`"),
    ] {
        let found: Vec<_> = told(gateway, Some(limit)).into_iter().collect();
        says(&found, subject, severity, Code::WaitingClients, &[words]);
    }
}
