//! A client's side of SCRAM, and the verifiers that files and servers have. Any bytes are read or refused; nobody gets in
//! without the password.
#![no_main]

use herdsman_gateway::wire;
use libfuzzer_sys::fuzz_target;

#[path = "../../src/auth"]
mod auth {
    #[allow(dead_code, reason = "a part is enough")]
    mod scram;
    #[allow(dead_code, reason = "a part is enough")]
    mod verifier;

    use secrecy::SecretString;

    const STORED: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    pub fn login(first: &[u8], last: &[u8], plus: bool, bound: bool) {
        let Some(verifier) = verifier::Scram::read(STORED) else { panic!("a good verifier") };
        let binding = bound.then(|| vec![7; 32]);
        let mut exchange = scram::Exchange::new(verifier, binding, "nonce".to_owned());
        if exchange.begin(plus, first).is_ok() {
            assert!(!matches!(exchange.finish(last), Ok(scram::Outcome::Proven(..))));
        }
    }

    pub fn read(text: &str) {
        let _ = verifier::Verifier::read(&SecretString::from(text));
    }
}

fuzz_target!(|data: (&[u8], &[u8], bool, bool)| {
    let (first, last, plus, bound) = data;
    auth::login(first, last, plus, bound);
    auth::read(&String::from_utf8_lossy(first));
});
