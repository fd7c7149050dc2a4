use super::*;
use crate::{CertificateConfig, TokenConfig};

const MESH: &str = "s3cret-token";

fn config() -> ApiConfig {
    let token = |name: &str, scope, token: &str| TokenConfig {
        name: name.to_owned(),
        scope,
        token: Some(token.to_owned().into()),
        token_file: None,
        token_env: None,
        token_command: None,
    };
    let certificate = |name: &str, scope| CertificateConfig { name: name.to_owned(), scope };
    ApiConfig {
        tokens: vec![
            token("grafana", Scope::Read, "reading-1"),
            token("deploy", Scope::Operate, "operating-1"),
        ],
        certificates: vec![
            certificate("dash.example", Scope::Read),
            certificate("ops", Scope::Operate),
        ],
        ..ApiConfig::default()
    }
}

fn headers(values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(AUTHORIZATION, value.parse().unwrap());
    }
    headers
}

#[test]
fn only_a_whole_token_opens() {
    let empty = ApiConfig::default();
    let operates = |values: &[&str]| {
        Guest::of(&headers(values), None, &empty, Some(MESH)).require(Scope::Operate).is_ok()
    };
    assert!(operates(&["Bearer s3cret-token"]));
    assert!(operates(&["bearer s3cret-token"]));
    for wrong in
        ["Bearer s3cret-toke", "Bearer s3cret-token2", "Basic s3cret-token", "Bearer ", "B", ""]
    {
        assert!(!operates(&[wrong]), "{wrong}");
    }
    assert!(!operates(&[]));
    assert!(!operates(&["Bearer s3cret-token", "Bearer x"]));
}

#[test]
fn what_is_shown_gives_its_scope_and_no_more() {
    let config = config();
    let (none, read, operate) = (None, Some(Scope::Read), Some(Scope::Operate));
    for (token, names, scope, shown) in [
        ("", &[][..], none, ""),
        ("Bearer wrong-one", &[], none, ""),
        ("Bearer reading-1", &[], read, "token grafana"),
        ("Bearer operating-1", &[], operate, "token deploy"),
        ("Bearer s3cret-token", &[], operate, "token mesh.control"),
        ("", &["somebody"], none, ""),
        ("", &["x", "dash.example"], read, "certificate dash.example"),
        ("", &["dash.example", "ops"], operate, "certificate ops"),
        // The better of both counts, and a wrong token takes nothing away.
        ("Bearer reading-1", &["ops"], operate, "certificate ops"),
        ("Bearer operating-1", &["ops"], operate, "token deploy"),
        ("Bearer wrong-one", &["ops"], operate, "certificate ops"),
    ] {
        let names = Names(names.iter().map(|name| (*name).to_owned()).collect());
        let guest = Guest::of(&headers(&[token]), Some(&names), &config, Some(MESH));
        let found = guest.caller.as_ref();
        assert_eq!(found.map(|caller| caller.scope), scope, "{token} {names:?}");
        assert_eq!(found.map(ToString::to_string).unwrap_or_default(), shown);
        for takes in [Scope::Read, Scope::Operate] {
            assert_eq!(guest.require(takes).is_ok(), scope >= Some(takes), "{token} {names:?}");
        }
    }
}

#[test]
fn a_refusal_says_which_scope_is_taken_and_never_a_token() {
    let with = |config: &ApiConfig, token: &str, takes| {
        let denied = Guest::of(&headers(&[token]), None, config, None).require(takes).unwrap_err();
        (denied.status().as_u16(), denied.code(), denied.message(), denied.challenge())
    };
    let (status, code, message, challenge) = with(&config(), "Bearer hunter-22", Scope::Operate);
    assert_eq!((status, code, challenge), (401, "unauthorized", Some("Bearer scope=\"operate\"")));
    assert!(message.contains("`operate`") && !message.contains("hunter"), "{message}");
    let (status, code, message, challenge) = with(&config(), "Bearer reading-1", Scope::Operate);
    assert_eq!((status, code), (403, "scope_too_narrow"));
    assert!(challenge.unwrap().contains("insufficient_scope"));
    assert!(message.contains("`operate`") && message.contains("token grafana"), "{message}");
    assert!(!message.contains("reading-1"), "{message}");
    let (status, code, message, challenge) = with(&ApiConfig::default(), "", Scope::Read);
    assert_eq!((status, code, challenge), (403, "no_token_configured", None));
    assert!(message.contains("api.tokens"), "{message}");
    // Nobody operates where only readers are named.
    let readers = ApiConfig { tokens: config().tokens[..1].to_vec(), ..ApiConfig::default() };
    assert_eq!(with(&readers, "Bearer reading-1", Scope::Operate).1, "no_token_configured");
    assert_eq!(with(&readers, "", Scope::Read).1, "unauthorized");
}
