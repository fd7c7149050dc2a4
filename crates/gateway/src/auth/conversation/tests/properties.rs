//! Logins by the driver's own client, as they are and with bytes changed on the way.

use super::*;

/// One change to a message.
#[derive(Clone, Debug)]
enum Change {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, u8),
    Double(prop::sample::Index),
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        let index = || any::<prop::sample::Index>();
        let byte = prop_oneof![any::<u8>(), prop::sample::select(b",=npryc\0".to_vec())];
        prop_oneof![
            (index(), 1..=255_u8).prop_map(|(at, mask)| Self::Flip(at, mask)),
            index().prop_map(Self::Cut),
            (index(), byte).prop_map(|(at, byte)| Self::Insert(at, byte)),
            index().prop_map(Self::Double),
        ]
    }

    fn apply(&self, message: &mut Vec<u8>) {
        if message.is_empty() {
            return message.push(b',');
        }
        match self {
            Self::Flip(at, mask) => {
                let at = at.index(message.len());
                message[at] ^= mask;
            }
            Self::Cut(at) => message.truncate(at.index(message.len())),
            Self::Insert(at, byte) => {
                message.insert(at.index(message.len() + 1), *byte);
            }
            Self::Double(at) => {
                let tail = message[at.index(message.len())..].to_vec();
                message.extend_from_slice(&tail);
            }
        }
    }
}

/// A login of `password` as a user with the password `known`; `change` is made to the client's message of that number.
fn attempt(known: &str, password: &str, peer: &Peer, change: Option<(usize, &Change)>) -> Step {
    let users = gateway(|config| {
        config.users.insert("app".to_owned(), user(Some(&stored(known, 3)), None));
    });
    let mut login = login(&users, "app", peer.clone());
    let (mechanism, binding) = match &peer.binding {
        Some(hash) => (SCRAM_PLUS, ChannelBinding::tls_server_end_point(hash.clone())),
        None => (SCRAM, ChannelBinding::unsupported()),
    };
    let mut client = ScramSha256::new(password.as_bytes(), binding);
    let mut out = Vec::new();
    login.start(&mut out);
    out.clear();
    let changed = |number, mut message: Vec<u8>| {
        if let Some((which, change)) = change
            && which == number
        {
            change.apply(&mut message);
        }
        message
    };
    let first = changed(0, initial(mechanism, client.message()));
    match login.message(&first, &mut out) {
        Step::More => {}
        over => return over,
    }
    let messages = said(&mut out);
    if client.update(&messages[0].1).is_err() {
        // It is another's challenge, which the client would not answer.
        return Step::Refused(Problem::new(code::SYSTEM, "the client leaves"));
    }
    login.message(&changed(1, client.message().to_vec()), &mut out)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_has_the_password_is_let_in_and_nobody_else(
        known in "[!-~][ -~]{0,30}",
        guess in "[!-~][ -~]{0,30}",
        binding in prop::option::of(prop::collection::vec(any::<u8>(), 32..=64)),
    ) {
        let peer = Peer { binding, ..Peer::default() };
        prop_assert!(matches!(attempt(&known, &known, &peer, None), Step::Accepted));
        let let_in = matches!(attempt(&known, &guess, &peer, None), Step::Accepted);
        prop_assert_eq!(let_in, known == guess);
    }

    #[test]
    fn a_login_that_somebody_changed_on_its_way_is_refused(
        change in Change::any(),
        number in 0..2_usize,
        tls in any::<bool>(),
    ) {
        let peer = if tls { over_tls() } else { remote() };
        let step = attempt("secret", "secret", &peer, Some((number, &change)));
        prop_assert!(matches!(step, Step::Refused(_)), "{:?}", step);
    }

    #[test]
    fn no_bytes_are_a_login(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4)) {
        let users = gateway(|_| {});
        for name in ["stored", "md5", "nobody"] {
            let (mut login, mut out) = (login(&users, name, over_tls()), Vec::new());
            login.start(&mut out);
            for message in &messages {
                prop_assert!(!matches!(login.message(message, &mut out), Step::Accepted));
            }
        }
    }
}
