use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use proptest::prelude::*;

use super::*;

fn build(text: &str, env: &[(&str, &str)]) -> Result<Hosts, ConninfoError> {
    let env: BTreeMap<_, _> = env.iter().copied().collect();
    Hosts::build(parse::pairs(text)?, &|name| env.get(name).map(|&value| value.to_owned()))
}

#[track_caller]
fn check(text: &str, env: &[(&str, &str)], expected: &[&str]) {
    let hosts = build(text, env).unwrap();
    assert_eq!(shown(&hosts), expected, "{text}");
}

/// Each host as `name:port`, followed by `=address` where one is given.
fn shown(hosts: &Hosts) -> Vec<String> {
    let address = |info: &Conninfo| info.hostaddr.map(|ip| format!("={ip}")).unwrap_or_default();
    hosts.nodes.iter().map(|info| format!("{}{}", info.endpoint(), address(info))).collect()
}

#[test]
fn hosts_and_ports_pair_up_as_libpq_pairs_them() {
    check("", &[], &["localhost:5432"]);
    check("host=a", &[], &["a:5432"]);
    check("host=a,b,c port=5432,,5433", &[], &["a:5432", "b:5432", "c:5433"]);
    check("host=a,b port=7", &[], &["a:7", "b:7"]);
    check("host=a,b port=','", &[], &["a:5432", "b:5432"]);
    check("host=a,b port='7, 8'", &[], &["a:7", "b:8"]);
    check("host=a, port=1,2", &[], &["a:1", "localhost:2"]);
    check("host=/run/pg,::1", &[], &["/run/pg:5432", "[::1]:5432"]);
    check("postgres://", &[], &["localhost:5432"]);
    check("postgres://h1:1,h2,[::1]:3/db", &[], &["h1:1", "h2:5432", "[::1]:3"]);
    check("postgresql://u:p@%2Frun%2Fpg,h2:7/db", &[], &["/run/pg:5432", "h2:7"]);
    check("postgres://a,b/db?port=9", &[], &["a:9", "b:9"]);
    check("postgres:///db?host=a,b&port=1,2", &[], &["a:1", "b:2"]);
    check("postgres://:1,:2", &[], &["localhost:1", "localhost:2"]);
}

#[test]
fn addresses_pair_up_with_hosts_or_stand_for_them() {
    let both = "host=a,b hostaddr=10.0.0.1,::2 port=7";
    check(both, &[], &["a:7=10.0.0.1", "b:7=::2"]);
    check("host=a,b hostaddr=10.0.0.1,", &[], &["a:5432=10.0.0.1", "b:5432"]);
    check("hostaddr=10.0.0.1,::2 port=1,2", &[], &["10.0.0.1:1=10.0.0.1", "[::2]:2=::2"]);
}

#[test]
fn the_environment_completes_lists_and_words() {
    check("", &[("PGHOST", "a,b"), ("PGPORT", "1,2")], &["a:1", "b:2"]);
    check("host=a,b", &[("PGHOST", "c"), ("PGPORT", "7")], &["a:7", "b:7"]);
    // A list of ports without a port is a list: the variable is not asked.
    check("postgres://a,b", &[("PGPORT", "7")], &["a:5432", "b:5432"]);
    check("host=a,b port=1,", &[("PGPORT", "7")], &["a:1", "b:5432"]);
    check("host=a,", &[("PGHOST", "c")], &["a:5432", "localhost:5432"]);
    check("host=a", &[("PGHOSTADDR", "10.0.0.1")], &["a:5432=10.0.0.1"]);

    let words = [("PGTARGETSESSIONATTRS", "standby"), ("PGLOADBALANCEHOSTS", "random")];
    let hosts = build("host=a", &words).unwrap();
    assert_eq!(
        (hosts.target, hosts.balance),
        (TargetSessionAttrs::Standby, LoadBalanceHosts::Random)
    );
    let hosts =
        build("host=a target_session_attrs=primary load_balance_hosts=disable", &words).unwrap();
    assert_eq!(
        (hosts.target, hosts.balance),
        (TargetSessionAttrs::Primary, LoadBalanceHosts::Disable)
    );
    let hosts = build("host=a", &[]).unwrap();
    assert_eq!((hosts.target, hosts.balance), (TargetSessionAttrs::Any, LoadBalanceHosts::Disable));
}

#[test]
fn what_is_not_a_list_is_the_same_for_every_host() {
    let hosts =
        build("postgres://u:p%2Cw@a,b/d?sslmode=disable&application_name=x,y", &[]).unwrap();
    for info in &hosts.nodes {
        assert_eq!((info.user.as_str(), info.dbname.as_str()), ("u", "d"));
        assert_eq!((info.password_text(), info.application_name.as_str()), (Some("p,w"), "x,y"));
        assert_eq!(info.sslmode, super::super::SslMode::Disable);
        assert!(info.ignored.is_empty());
    }
}

#[test]
fn counts_and_words_that_do_not_fit_are_refused_with_what_is_allowed() {
    for (text, expected) in [
        (
            "host=a,b port=1,2,3",
            "connection parameter `port`: lists 3 ports for 2 hosts; expected one for all, or one for each, which may be empty",
        ),
        (
            "port=1,2",
            "connection parameter `port`: lists 2 ports for 1 host; expected one for all, or one for each, which may be empty",
        ),
        (
            "host=a,b hostaddr=10.0.0.1",
            "connection parameter `hostaddr`: lists 1 address for 2 hosts; expected one for each host, which may be empty",
        ),
        (
            "host=a,b port=1,x",
            "connection parameter `port`: `x` is not a port; expected 1 to 65535",
        ),
        ("host=a,b port=0", "connection parameter `port`: `0` is not a port; expected 1 to 65535"),
        ("hostaddr=10.0.0.1,b", "connection parameter `hostaddr`: `b` is not an IP address"),
        (
            "target_session_attrs=writable",
            "connection parameter `target_session_attrs`: `writable` is not one of its values; expected any, read-write, read-only, primary, standby or prefer-standby",
        ),
        (
            "load_balance_hosts=on",
            "connection parameter `load_balance_hosts`: `on` is not one of its values; expected disable or random",
        ),
    ] {
        assert_eq!(build(text, &[]).unwrap_err().to_string(), expected);
    }
}

#[test]
fn one_conninfo_still_refuses_several_hosts() {
    for text in ["host=a,b", "postgres://a,b/d", "postgres://a:1,b:2/d", "postgres://:1,:2/d"] {
        let error = text.parse::<Conninfo>().unwrap_err().to_string();
        assert!(error.contains("names several hosts"), "{text}: {error}");
    }
}

#[test]
fn a_badly_escaped_password_is_not_shown_by_the_error_it_causes() {
    for text in [
        "postgres://u:secret/x@h,i/db",
        "postgres://u:secret@x@[::1/db",
        "postgres://u:p@h,i/?target_session_attrs=secret",
        "postgres://u:p@h,i:secret/db",
        "host=a,b port=secret,1",
        "password=top secret host=a,b",
        "host=a,b load_balance_hosts=secret",
    ] {
        let error = text.parse::<Hosts>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
    let hosts: Hosts = "postgres://u:secret@h,i/db".parse().unwrap();
    assert!(!format!("{hosts:?}").contains("secret"), "{hosts:?}");
}

#[test]
fn the_password_file_is_looked_up_for_each_host() {
    let path = std::env::temp_dir().join(format!("herdsman-hosts-pgpass-{}", std::process::id()));
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| {
            file.write_all(b"a:1:d:u:one\n10.0.0.2:2:d:u:two\nlocalhost:3:d:u:three\n")
        })
        .unwrap();
    let text = format!(
        "host=a,,/run,b hostaddr=,10.0.0.2,, port=1,2,3,4 user=u dbname=d passfile={}",
        path.display()
    );
    let hosts = build(&text, &[]);
    std::fs::remove_file(&path).unwrap();
    let passwords: Vec<_> =
        hosts.unwrap().nodes.iter().map(|info| info.password_text().map(str::to_owned)).collect();
    let expected = [Some("one"), Some("two"), Some("three"), None];
    assert_eq!(passwords, expected.map(|password| password.map(str::to_owned)));
}

/// What a connection string is written from.
#[derive(Clone, Debug)]
struct Written {
    hosts: Vec<(String, Option<u16>)>,
    user: String,
    password: String,
    target: TargetSessionAttrs,
    balance: LoadBalanceHosts,
}

impl Written {
    fn keywords(&self) -> String {
        let quote = |text: &str| format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"));
        let hosts: Vec<_> = self.hosts.iter().map(|(host, _)| host.as_str()).collect();
        let ports: Vec<_> = self.hosts.iter().map(|(_, port)| Self::port(*port)).collect();
        format!(
            "host={} port={} user={} password={} dbname={} target_session_attrs={} load_balance_hosts={}",
            quote(&hosts.join(",")),
            quote(&ports.join(",")),
            quote(&self.user),
            quote(&self.password),
            quote(&self.user),
            self.target,
            self.balance
        )
    }

    fn uri(&self) -> String {
        let host = |(host, port): &(String, Option<u16>)| {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            if host.contains(':') {
                format!("[{host}]{port}")
            } else {
                format!("{}{port}", encode(host))
            }
        };
        let hosts: Vec<_> = self.hosts.iter().map(host).collect();
        format!(
            "postgresql://{}:{}@{}/{}?target_session_attrs={}&load_balance_hosts={}",
            encode(&self.user),
            encode(&self.password),
            hosts.join(","),
            encode(&self.user),
            self.target,
            self.balance
        )
    }

    fn port(port: Option<u16>) -> String {
        port.map(|port| port.to_string()).unwrap_or_default()
    }
}

fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn written() -> impl Strategy<Value = Written> {
    let host = prop_oneof!["[a-z][a-z0-9.-]{0,8}", "/[a-z/]{1,8}", Just("fe80::1".to_owned())];
    let port = prop::option::of(1_u16..);
    (
        prop::collection::vec((host, port), 1..5),
        "\\PC{1,12}",
        "\\PC{1,12}",
        prop::sample::select(TargetSessionAttrs::ALL.to_vec()),
        prop::sample::select(LoadBalanceHosts::ALL.to_vec()),
    )
        .prop_map(|(hosts, user, password, target, balance)| Written {
            hosts,
            user,
            password,
            target,
            balance,
        })
}

proptest! {
    #[test]
    fn what_is_written_in_either_form_is_read_back(written in written()) {
        for text in [written.keywords(), written.uri()] {
            let hosts = build(&text, &[]).unwrap();
            let found: Vec<_> = hosts.nodes.iter().map(|n| (n.host.clone(), n.port)).collect();
            let expected: Vec<_> =
                written.hosts.iter().map(|(host, port)| (host.clone(), port.unwrap_or(5432))).collect();
            prop_assert_eq!(found, expected, "{}", &text);
            for node in &hosts.nodes {
                prop_assert_eq!(&node.user, &written.user);
                prop_assert_eq!(&node.dbname, &written.user);
                prop_assert_eq!(node.password_text(), Some(written.password.as_str()));
            }
            prop_assert_eq!((hosts.target, hosts.balance), (written.target, written.balance));
        }
    }

    #[test]
    fn any_text_is_read_or_refused_but_never_panics(text in ".{0,80}") {
        let _read_or_refused = text.parse::<Hosts>();
        let _read_or_refused = format!("postgres://{text}").parse::<Hosts>();
    }
}
