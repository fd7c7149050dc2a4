use proptest::prelude::*;

use super::*;

fn special(code: u16, rest: &[u8]) -> Vec<u8> {
    let mut body = SPECIAL.to_be_bytes().to_vec();
    body.extend(code.to_be_bytes());
    body.extend(rest);
    body
}

fn startup(minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = vec![0, 3];
    body.extend(minor.to_be_bytes());
    for (name, value) in parameters {
        for text in [name, value] {
            body.extend(text.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    body
}

fn read(minor: u16, parameters: &[(&str, &str)]) -> Startup {
    match first(&startup(minor, parameters)) {
        Ok(First::Startup(startup)) => startup,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_first_packet_is_told_from_the_others() {
    assert_eq!(first(&[4, 210, 22, 47]), Ok(First::Ssl));
    assert_eq!(first(&[4, 210, 22, 48]), Ok(First::Gss));
    let cancel = First::Cancel { process: -7, secret: vec![1, 2, 3, 4] };
    assert_eq!(first(&special(CANCEL, &[255, 255, 255, 249, 1, 2, 3, 4])), Ok(cancel));
    let asked = read(0, &[("user", "ann"), ("database", "app")]);
    assert_eq!(asked.get("user"), Some("ann"));
    assert_eq!(asked.get("database"), Some("app"));
    assert_eq!(asked.get("options"), None);
    assert_eq!(first(&[0, 2, 0, 0, b'x']), Ok(First::Version { major: 2, minor: 0 }));
    assert_eq!(first(&[0, 4, 0, 1]), Ok(First::Version { major: 4, minor: 1 }));
    assert_eq!(first(&special(5677, &[])), Ok(First::Version { major: SPECIAL, minor: 5677 }));
}

#[test]
fn a_start_up_packet_may_ask_for_nothing() {
    assert_eq!(read(2, &[]), Startup { minor: 2, parameters: vec![] });
}

#[test]
fn secrets_of_every_length_the_protocol_allows_are_read() {
    for len in [1, 4, 32, 256] {
        let mut rest = vec![0, 0, 0, 1];
        rest.extend(vec![9; len]);
        assert!(first(&special(CANCEL, &rest)).is_ok(), "{len}");
    }
    for len in [0, 257] {
        let mut rest = vec![0, 0, 0, 1];
        rest.extend(vec![9; len]);
        assert!(first(&special(CANCEL, &rest)).is_err(), "{len}");
    }
}

#[test]
fn what_is_malformed_is_refused() {
    let whole = startup(0, &[("user", "ann")]);
    for end in 0..whole.len() {
        assert!(first(&whole[..end]).is_err(), "the first {end} bytes");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(first(&longer).is_err(), "goes on after its end");
    let mut odd = startup(0, &[]);
    odd.splice(4.., *b"user\0");
    assert!(first(&odd).is_err(), "a name without a value");
    assert!(first(&special(SSL, &[0])).is_err());
    assert!(first(&special(GSS, b"\x16\x03\x01")).is_err());
    assert!(first(&special(CANCEL, &[0, 0, 1])).is_err());
    assert!(first(b"\0\x03\0\0user\0\xff\xfe\0\0").is_err(), "not UTF-8");
}

#[test]
fn only_lengths_that_a_first_packet_can_have_are_read_on() {
    let most = u32::try_from(LONGEST).unwrap();
    assert_eq!(following(8_u32.to_be_bytes()), Ok(4));
    assert_eq!(following(most.to_be_bytes()), Ok(LONGEST - 4));
    for length in [0, 3, 4, 7, most + 1, i32::MAX.unsigned_abs(), 1 << 31, u32::MAX] {
        assert!(following(length.to_be_bytes()).is_err(), "{length}");
    }
    // Other protocols that find the port.
    for bytes in [*b"GET ", *b"SSH-", [0x16, 3, 1, 2], *b"PROX", *b"\r\n\r\n"] {
        assert!(following(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn a_newer_minor_version_is_answered_with_ours() {
    let mut said = Vec::new();
    read(9999, &[("user", "ann")]).negotiate(&mut said);
    assert_eq!(said, [b'v', 0, 0, 0, 12, 0, 3, 0, 2, 0, 0, 0, 0]);
}

#[test]
fn unknown_protocol_options_are_named() {
    let asked = read(0, &[("_pq_.wish", "1"), ("user", "ann"), ("_pq_.x", "")]);
    let mut said = Vec::new();
    asked.negotiate(&mut said);
    assert_eq!(said, *b"v\0\0\0\x1d\0\x03\0\0\0\0\0\x02_pq_.wish\0_pq_.x\0");
}

#[test]
fn a_version_that_is_spoken_needs_no_words() {
    for minor in [0, 1, 2] {
        let mut said = Vec::new();
        read(minor, &[("user", "ann")]).negotiate(&mut said);
        assert!(said.is_empty(), "3.{minor}");
    }
}

proptest! {
    #[test]
    fn what_was_asked_for_is_what_is_read(
        minor in any::<u16>(),
        asked in prop::collection::vec(("[^\0]{1,12}", "[^\0]{0,30}"), 0..12),
    ) {
        let borrowed: Vec<_> = asked.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let read = read(minor, &borrowed);
        prop_assert_eq!(read.minor, minor);
        prop_assert_eq!(read.parameters, asked);
    }

    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(First::Startup(startup)) = first(&body) {
            let size = startup.parameters.iter().map(|(k, v)| k.len() + v.len() + 2).sum::<usize>();
            prop_assert_eq!(size + 5, body.len());
        }
    }

    #[test]
    fn a_changed_packet_is_read_or_refused(
        at in 0_usize..60,
        byte in any::<u8>(),
        cut in 0_usize..60,
    ) {
        let mut body = startup(2, &[("user", "ann"), ("database", "app"), ("_pq_.x", "y")]);
        if let Some(place) = body.get_mut(at) {
            *place = byte;
        }
        body.truncate(body.len() - cut.min(body.len()));
        if let Ok(First::Startup(startup)) = first(&body) {
            let mut said = Vec::new();
            startup.negotiate(&mut said);
            prop_assert!(startup.spoken() <= NEWEST_MINOR);
        }
    }
}
