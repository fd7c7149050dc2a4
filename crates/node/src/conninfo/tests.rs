use super::*;

fn build(pairs: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Conninfo, ConninfoError> {
    let pairs = pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    let env: BTreeMap<String, String> =
        env.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    Conninfo::build(pairs, &|name| env.get(name).cloned())
}

#[test]
fn parameters_win_over_the_environment_and_that_over_defaults() {
    let info =
        build(&[("host", "a")], &[("PGHOST", "b"), ("PGPORT", "6000"), ("USER", "me")]).unwrap();
    assert_eq!(
        (info.host.as_str(), info.port, info.user.as_str(), info.dbname.as_str()),
        ("a", 6000, "me", "me")
    );
    let info = build(&[], &[]).unwrap();
    assert_eq!((info.endpoint().as_str(), info.sslmode), ("localhost:5432", SslMode::Prefer));
}

#[test]
fn wrong_values_name_the_key_and_what_is_allowed() {
    for (key, value, expected) in [
        ("port", "0", "connection parameter `port`: `0` is not a port; expected 1 to 65535"),
        ("port", "x", "connection parameter `port`: `x` is not a port; expected 1 to 65535"),
        ("hostaddr", "db", "connection parameter `hostaddr`: `db` is not an IP address"),
        (
            "connect_timeout",
            "1s",
            "connection parameter `connect_timeout`: `1s` is not a number of seconds",
        ),
        (
            "host",
            "a,b",
            "connection parameter `host`: names several hosts; list each as a node of its own",
        ),
        (
            "we ird",
            "x",
            "connection parameter `we ird`: is neither a libpq parameter nor the name of a server setting",
        ),
    ] {
        assert_eq!(build(&[(key, value)], &[]).unwrap_err().to_string(), expected);
    }
    assert!(
        build(&[("sslmode", "bogus")], &[])
            .unwrap_err()
            .to_string()
            .contains("`bogus` is not a mode")
    );
}

#[test]
fn a_badly_escaped_password_is_not_shown_by_the_error_it_causes() {
    for text in [
        "postgres://u:secret/x@h/db",
        "password=top secret host=a",
        "postgres://u:p@h/?sslmode=secret",
    ] {
        let error = text.parse::<Conninfo>().unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn unknown_keys_become_server_settings_and_pool_keys_are_noted() {
    let info = build(&[("pool_max_conns", "4"), ("search_path", "a b"), ("keepalives", "1")], &[])
        .unwrap();
    assert_eq!(info.options, "-c search_path=a\\ b");
    assert_eq!(info.ignored, ["keepalives", "pool_max_conns"]);
}

#[test]
fn a_password_with_blanks_quotes_and_backslashes_arrives_whole() {
    let info: Conninfo = r"host=a password='p\'a ss\\' user=u".parse().unwrap();
    assert_eq!(info.password_text(), Some(r"p'a ss\"));
    let info: Conninfo = "postgres://u:p%40%2Fss@a/db".parse().unwrap();
    assert_eq!(info.password_text(), Some("p@/ss"));
}
