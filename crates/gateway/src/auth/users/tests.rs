use std::io::Write as _;

use herdsman_node::raw::{Credential, ScramKeys};

use super::*;

const STORED: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn config(file: &tempfile::NamedTempFile) -> GatewayConfig {
    GatewayConfig { auth_file: Some(file.path().to_owned()), ..GatewayConfig::default() }
}

fn users(config: &GatewayConfig) -> Result<Users, UsersError> {
    Users::new(config, Box::new(Vec::new))
}

fn password(user: &User) -> Option<String> {
    user.password().map(|text| secrecy::ExposeSecret::expose_secret(&text).to_owned())
}

#[tokio::test]
async fn the_configuration_comes_before_the_file() {
    let file = file("\"a\" \"file a\"\n\"b\" \"file b\"\n\"c\" \"file c\"\n\"empty\" \"\"\n");
    let mut config = config(&file);
    let own = UserConfig { password: Some("own".to_owned().into()), ..UserConfig::default() };
    config.users.insert("a".to_owned(), own);
    // It says something of the user and nothing of its password.
    let md5 = UserConfig { auth: Some(AuthMethod::Md5), ..UserConfig::default() };
    config.users.insert("b".to_owned(), md5);
    let users = users(&config).unwrap();
    let mut found = Vec::new();
    for name in ["a", "b", "c", "empty"] {
        let user = users.find(name).await.unwrap().unwrap();
        found.push((password(&user), user.method, user.origin));
    }
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        found,
        [
            (text("own"), AuthMethod::Scram, Origin::Config),
            (text("file b"), AuthMethod::Md5, Origin::Config),
            (text("file c"), AuthMethod::Scram, Origin::File),
            (None, AuthMethod::Scram, Origin::File),
        ]
    );
    assert!(users.find("d").await.unwrap().is_none());
}

#[test]
fn a_broken_file_is_named_with_its_line_and_without_its_secrets() {
    let cut = STORED.get(..STORED.len() - 4).unwrap();
    for (text, expected) in [
        ("\n\"a\" secret\n", "line 2: a name or password does not begin with a quote"),
        ("\"a\" \"secret\"\n\"a\" \"secret\"\n", "line 2: `a` stands in line 1 already"),
        (&format!("\"a\" \"{cut}\"\n"), "line 1: a SCRAM-SHA-256 verifier is malformed or cut off"),
    ] {
        let file = file(text);
        let error = users(&config(&file)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("secret") && !error.contains("W22Za"), "{error}");
    }
    let missing = GatewayConfig { auth_file: Some("/no/such".into()), ..GatewayConfig::default() };
    let error = users(&missing).unwrap_err().to_string();
    assert!(error.starts_with("failed to read `auth_file` /no/such: "), "{error}");
}

#[test]
fn a_reload_keeps_what_was_learnt_of_a_password_that_stayed() {
    let file = file(&format!("\"a\" \"{STORED}\"\n\"b\" \"{STORED}\"\n"));
    let users = users(&config(&file)).unwrap();
    for name in ["a", "b"] {
        users.listed(name).unwrap().learn(&ScramKeys { client: [1; 32], server: [2; 32] });
    }
    let other = STORED.replace("4096", "4097");
    std::fs::write(file.path(), format!("\"a\" \"{STORED}\"\n\"b\" \"{other}\"\n")).unwrap();
    users.reload(&config(&file)).unwrap();
    let credential = |name| users.listed(name).unwrap().server_login().credential;
    assert!(matches!(credential("a"), Credential::Scram(_)));
    assert!(matches!(credential("b"), Credential::None));
}

#[test]
fn a_reload_does_not_change_the_salt_of_a_name() {
    let file = file("\"a\" \"secret\"\n");
    let users = users(&config(&file)).unwrap();
    let salt = || {
        let user = users.listed("a")?;
        user.verifier.as_ref()?.scram().map(|scram| scram.salt.clone())
    };
    let before = salt();
    users.reload(&config(&file)).unwrap();
    assert!(before.is_some());
    assert_eq!(salt(), before);
}

#[test]
fn a_reload_of_a_broken_file_changes_nothing() {
    let file = file("\"a\" \"one\"\n");
    let users = users(&config(&file)).unwrap();
    std::fs::write(file.path(), "\"a\" \"two\"\n\"b\" two\n").unwrap();
    users.reload(&config(&file)).unwrap_err();
    assert_eq!(password(&users.listed("a").unwrap()).as_deref(), Some("one"));
}

#[tokio::test]
async fn anybody_is_somebody_only_where_nobody_is_known_and_no_password_is_asked_for() {
    let file = file("");
    let with =
        |auth, trust_loopback| GatewayConfig { auth, trust_loopback, ..GatewayConfig::default() };
    for open in [
        with(AuthMethod::Scram, true),
        with(AuthMethod::Cert, false),
        with(AuthMethod::Trust, false),
    ] {
        let anybody = users(&open).unwrap().find("x").await.unwrap().unwrap();
        assert_eq!(anybody.origin, Origin::Nowhere);
        // What `hosts` has for the watcher is not for it.
        assert!(matches!(anybody.server_login().credential, Credential::Password(_)));
        assert!(users(&open).unwrap().listed("x").is_none());
    }
    let listed = Some(file.path().to_owned());
    for closed in [
        GatewayConfig { auth_file: listed, ..with(AuthMethod::Scram, true) },
        with(AuthMethod::Scram, false),
        with(AuthMethod::Md5, false),
    ] {
        assert!(users(&closed).unwrap().find("x").await.unwrap().is_none());
    }
}

#[test]
fn printing_a_user_shows_no_secret() {
    let file = file("\"a\" \"secret\"\n");
    let users = users(&config(&file)).unwrap();
    let text = format!(
        "{users:?} {:?} {:?}",
        users.listed("a"),
        users.listed("a").unwrap().server_login()
    );
    assert!(!text.contains("secret"), "{text}");
}
