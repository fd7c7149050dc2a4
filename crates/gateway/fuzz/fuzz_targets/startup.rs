//! The first bytes of a connection: a PROXY header, a first packet. Any bytes are read or refused.
#![no_main]

use herdsman_gateway::wire::proxy;
use herdsman_gateway::wire::startup::{self, First};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((fixed, rest)) = data.split_first_chunk::<{ proxy::FIXED }>()
        && let Ok(prefix) = proxy::prefix(fixed)
    {
        assert!(prefix.following <= proxy::LONGEST);
        let _ = prefix.source(rest);
    }
    if let Some((length, _)) = data.split_first_chunk()
        && let Ok(following) = startup::following(*length)
    {
        assert!((4..startup::LONGEST).contains(&following));
    }
    match startup::first(data) {
        Ok(First::Startup(startup)) => {
            let texts = startup.parameters.iter().map(|(name, value)| name.len() + value.len() + 2);
            assert_eq!(texts.sum::<usize>() + 5, data.len());
            for (name, _) in &startup.parameters {
                assert!(!name.is_empty() && startup.get(name).is_some());
            }
            let mut said = Vec::new();
            startup.negotiate(&mut said);
            assert!(startup.spoken() <= startup::NEWEST_MINOR);
        }
        Ok(First::Cancel { secret, .. }) => assert_eq!(secret.len() + 8, data.len()),
        Ok(First::Ssl | First::Gss) => assert_eq!(data.len(), 4),
        Ok(First::Version { .. }) | Err(_) => {}
    }
});
