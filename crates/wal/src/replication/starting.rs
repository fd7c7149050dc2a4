//! How a stream is asked for in words. Pure.

use std::collections::HashMap;
use std::time::Duration;

use crate::stream::Start;
use crate::{PublicationName, quote_identifier};

/// `START_REPLICATION …` with what this server's version understands.
pub(super) fn command(start: &Start, version: u32) -> String {
    let options = &start.options;
    let protocol = match version {
        160_000.. => 4,
        150_000.. => 3,
        140_000.. => 2,
        _ => 1,
    };
    let names: Vec<_> = start
        .publications
        .iter()
        .map(|name: &PublicationName| quote_identifier(name.as_str()))
        .collect();
    let mut pairs =
        vec![("proto_version", protocol.to_string()), ("publication_names", names.join(","))];
    let mut on = |wanted: bool, since: u32, name| {
        if wanted && version >= since {
            pairs.push((name, "on".to_owned()));
        }
    };
    on(options.streaming, 140_000, "streaming");
    on(options.messages, 140_000, "messages");
    on(options.binary, 140_000, "binary");
    on(options.two_phase, 150_000, "two_phase");
    if options.local_only && version >= 160_000 {
        pairs.push(("origin", "none".to_owned()));
    }
    let pairs: Vec<_> = pairs
        .iter()
        // Replication commands know no other way to quote: a backslash is only itself.
        .map(|(name, value)| format!("{name} '{}'", value.replace('\'', "''")))
        .collect();
    let slot = quote_identifier(start.slot.as_str());
    format!("START_REPLICATION SLOT {slot} LOGICAL {} ({})", start.from, pairs.join(", "))
}

/// How often the server hears from us though nothing moves: well within the time it waits for that.
pub(super) fn status_interval(wal_sender_timeout: Option<&str>) -> Duration {
    const LONGEST: Duration = Duration::from_secs(10);
    let units = HashMap::from([
        ("ms", 1),
        ("s", 1000),
        ("min", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ]);
    let parsed = wal_sender_timeout.and_then(|text| {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits)?;
        Some(number.parse::<u64>().ok()? * units.get(unit)?)
    });
    match parsed {
        // Zero: it waits for ever.
        None | Some(0) => LONGEST,
        Some(millis) => Duration::from_millis(millis / 3).clamp(Duration::from_millis(50), LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use herdsman_node::Lsn;

    use super::*;
    use crate::SlotName;
    use crate::stream::StreamOptions;

    #[test]
    fn the_start_command_quotes_every_name_and_asks_only_for_what_the_version_has() {
        let start = Start {
            slot: SlotName::new("s").unwrap(),
            publications: ["Mixed\"Case", "it's", "a,b\\c"]
                .map(|name| PublicationName::new(name).unwrap())
                .to_vec(),
            from: Lsn(0x1_0000_0002),
            options: StreamOptions { local_only: true, ..StreamOptions::default() },
        };
        assert_eq!(
            command(&start, 150_018),
            "START_REPLICATION SLOT \"s\" LOGICAL 1/2 (proto_version '3', publication_names \
             '\"Mixed\"\"Case\",\"it''s\",\"a,b\\c\"', streaming 'on', messages 'on')"
        );
        assert!(command(&start, 160_000).contains("proto_version '4'"));
        assert!(command(&start, 180_000).ends_with("origin 'none')"));
    }

    #[test]
    fn the_server_hears_from_us_well_within_its_timeout() {
        let interval = |text| status_interval(Some(text));
        assert_eq!(interval("1min"), Duration::from_secs(10));
        assert_eq!(interval("3s"), Duration::from_secs(1));
        assert_eq!(interval("0"), Duration::from_secs(10));
        assert_eq!(interval("60ms"), Duration::from_millis(50));
        assert_eq!(status_interval(None), Duration::from_secs(10));
    }
}
