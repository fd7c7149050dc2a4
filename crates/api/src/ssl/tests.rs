use super::*;

fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn base64(pem: &str) -> String {
    STANDARD.encode(pem)
}

fn ssl(fields: &[(&str, &str)]) -> Ssl {
    let object: serde_json::Map<_, _> =
        fields.iter().map(|(k, v)| ((*k).to_owned(), serde_json::Value::from(*v))).collect();
    serde_json::from_value(object.into()).unwrap()
}

#[track_caller]
fn refused(fields: &[(&str, &str)], expected: &str) {
    let error = ssl(fields).load().expect_err("was accepted");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn values_are_pem_or_base64_of_it_or_the_path_of_a_file() {
    let (cert, key) = pair();
    let folder = std::env::temp_dir().join(format!("herdsman-ssl-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (cert_file, key_file) = (folder.join("tls.crt"), folder.join("tls.key"));
    std::fs::write(&cert_file, &cert).unwrap();
    std::fs::write(&key_file, &key).unwrap();
    let (cert_file, key_file) = (cert_file.to_str().unwrap(), key_file.to_str().unwrap());
    let wrapped: String =
        base64(&key).chars().enumerate().fold(String::new(), |text, (i, c)| match i % 76 {
            75 => text + &format!("{c}\n"),
            _ => text + &c.to_string(),
        });
    for (cert_value, key_value) in [
        (cert.as_str(), key.as_str()),
        (&base64(&cert), &base64(&key)),
        (cert_file, key_file),
        (&base64(&cert), &wrapped),
        (cert_file, &base64(&key)),
    ] {
        for (cert_field, key_field) in [("cert", "key"), ("b64cert", "b64key")] {
            let loaded = ssl(&[(cert_field, cert_value), (key_field, key_value)]).load();
            assert!(loaded.is_ok(), "{loaded:?}");
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn one_without_the_other_and_both_kinds_are_refused() {
    refused(
        &[],
        "`ssl` names no certificate; give `cert` and `key`, or remove the section for plain HTTP",
    );
    refused(
        &[("cert", "x")],
        "`ssl` has `cert` but not `key`; give both, or neither for plain HTTP",
    );
    refused(
        &[("b64key", "x"), ("b64cert", " ")],
        "`ssl` has `b64key` but not `b64cert`; give both, or neither for plain HTTP",
    );
    refused(
        &[("cert", "x"), ("b64key", "x")],
        "`ssl` has `cert` and `b64key`; use either `cert` and `key` or `b64cert` and `b64key`",
    );
    assert!(ssl(&[("b64cert", ""), ("b64key", "")]).is_empty());
    assert!(!ssl(&[("b64cert", "x")]).is_empty());
}

#[test]
fn what_is_wrong_with_a_value_is_said_by_its_name() {
    let (cert, key) = pair();
    refused(
        &[("cert", "/no/such.crt"), ("key", &key)],
        "failed to read `ssl.cert` from `/no/such.crt`: No such file or directory (os error 2); give base64 of PEM, \
         or the path of a PEM file",
    );
    refused(&[("cert", &key), ("key", &key)], "`ssl.cert` holds no certificate in PEM form");
    refused(
        &[("b64cert", &cert), ("b64key", &cert)],
        "`ssl.b64key` holds no private key in PEM form",
    );
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    refused(
        &[("cert", &cert), ("key", encrypted)],
        "`ssl.key` holds no private key in PEM form; it is encrypted, give it without a passphrase",
    );
    let (_, other) = pair();
    let error = ssl(&[("cert", &cert), ("key", &other)]).load().unwrap_err().to_string();
    assert!(error.ends_with("check that they belong together"), "{error}");
}

#[test]
fn a_key_is_never_printed() {
    let (cert, key) = pair();
    let secret = base64(&key);
    let printed = format!("{:?}", ssl(&[("cert", &cert), ("key", &secret)]));
    assert!(!printed.contains(&secret) && printed.contains("REDACTED"), "{printed}");
    // Without its armour, cut short, or encoded twice it is no PEM and no file either.
    let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    for broken in [body, secret.chars().skip(20).collect(), base64(&secret)] {
        let error = ssl(&[("cert", &cert), ("key", &broken)]).load().unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("not shown") && !shown.contains(&broken), "{shown}");
    }
}

#[test]
fn the_certificate_is_known_without_the_key() {
    let (cert, _) = pair();
    let found = |fields: &[(&str, &str)]| ssl(fields).certificates().map(|found| found.len());
    assert_eq!(found(&[("cert", &cert)]).unwrap(), 1);
    assert_eq!(found(&[("b64cert", &base64(&cert)), ("b64key", "/no/such/key")]).unwrap(), 1);
    // A path of letters only is a path, although it is base64 of something.
    assert!(matches!(found(&[("cert", "/etc/none")]), Err(SslError::File { .. })));
    assert!(matches!(found(&[("key", "x")]), Err(SslError::Empty)));
}

#[test]
fn certificates_of_clients_are_asked_for_with_an_authority_only() {
    let (cert, key) = pair();
    let pair = [("cert", cert.as_str()), ("key", key.as_str())];
    let with = |more: &[(&'static str, &str)]| {
        let fields: Vec<_> = pair.iter().copied().chain(more.iter().copied()).collect();
        ssl(&fields)
    };
    assert_eq!(with(&[]).client_auth(), ClientAuth::Off);
    assert_eq!(with(&[("client_ca", &cert)]).client_auth(), ClientAuth::Optional);
    for auth in ["off", "optional", "required"] {
        let loaded = with(&[("client_ca", &base64(&cert)), ("client_auth", auth)]).load();
        assert!(loaded.is_ok(), "{auth}: {loaded:?}");
    }
    for auth in ["optional", "required"] {
        let error = with(&[("client_auth", auth)]).load().unwrap_err();
        assert!(matches!(error, SslError::NoAuthority), "{error}");
    }
    let error = with(&[("client_ca", &key)]).load().unwrap_err().to_string();
    assert_eq!(error, "`ssl.client_ca` holds no certificate in PEM form");
    let error = with(&[("client_ca", &cert), ("client_crl", &cert)]).load().unwrap_err();
    let expected = "`ssl.client_crl` holds no certificate revocation list in PEM form";
    assert_eq!(error.to_string(), expected);
    let error = with(&[("client_crl", &cert)]).load().unwrap_err();
    assert!(matches!(error, SslError::LoneRevocations), "{error}");
    // It must not end in plain HTTP.
    assert!(!ssl(&[("client_ca", "x")]).is_empty());
    assert!(!ssl(&[("client_auth", "required")]).is_empty());
    refused(
        &[("client_auth", "required")],
        "`ssl` names no certificate; give `cert` and `key`, or remove the section for plain HTTP",
    );
}
