//! The text of a file of addresses and names. Pure.

use std::net::IpAddr;

use crate::config::HostsConfig;

/// What our files begin with: one that does not is somebody else's.
pub(super) const HEAD: &str = "# Written by Herdsman: what is changed here is lost.";

/// The file, with these addresses. Without one for the writer it keeps what `before` said of it.
pub(super) fn render(
    config: &HostsConfig,
    writer: Option<IpAddr>,
    readers: &[IpAddr],
    before: Option<&str>,
) -> String {
    let mut text = format!("{HEAD}\n");
    if let Some(name) = &config.writer {
        let kept = match writer {
            Some(address) => vec![address],
            None => before.map(|before| addresses(before, name)).unwrap_or_default(),
        };
        push(&mut text, &kept, name);
    }
    if let Some(name) = &config.readers {
        push(&mut text, readers, name);
    }
    text
}

fn push(text: &mut String, addresses: &[IpAddr], name: &str) {
    for address in addresses {
        text.push_str(&format!("{address} {name}\n"));
    }
}

/// The addresses of a name in such a file.
fn addresses(text: &str, name: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word == name).then_some(address)
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_addresses_of_the_verdict_and_the_writer_keeps_its_own_without_one() {
        let config = |writer: Option<&str>, readers: Option<&str>| {
            let json = serde_json::json!({ "file": "f", "writer": writer, "readers": readers });
            serde_json::from_value::<HostsConfig>(json).unwrap()
        };
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let both = config(Some("rw"), Some("ro"));
        let readers = [address("10.0.0.2"), address("::3")];
        let first = render(&both, Some(address("10.0.0.1")), &readers, None);
        assert_eq!(first, format!("{HEAD}\n10.0.0.1 rw\n10.0.0.2 ro\n::3 ro\n"));
        for (writer, readers, before, expected) in [
            (None, vec![], Some(first.as_str()), "10.0.0.1 rw\n"),
            (None, vec![address("::3")], Some(first.as_str()), "10.0.0.1 rw\n::3 ro\n"),
            (Some(address("::3")), vec![], Some(first.as_str()), "::3 rw\n"),
            (None, vec![], None, ""),
        ] {
            let text = render(&both, writer, &readers, before);
            assert_eq!(text, format!("{HEAD}\n{expected}"));
        }
        let only = render(&config(None, Some("ro")), Some(address("::1")), &readers, Some(&first));
        assert_eq!(only, format!("{HEAD}\n10.0.0.2 ro\n::3 ro\n"));
    }
}
