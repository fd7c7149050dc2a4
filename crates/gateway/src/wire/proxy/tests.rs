use proptest::prelude::*;

use super::*;

fn header(kind: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([kind, family]);
    bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    bytes.extend(rest);
    bytes
}

fn read(bytes: &[u8]) -> Result<Source, Malformed> {
    let (first, rest) = bytes.split_first_chunk::<FIXED>().unwrap();
    let prefix = prefix(first)?;
    prefix.source(rest.get(..prefix.following).unwrap_or(rest))
}

#[test]
fn a_proxied_client_is_known_by_its_own_address() {
    let four = [10, 1, 2, 3, 10, 9, 9, 9, 0x30, 0x39, 0x15, 0x38];
    assert_eq!(
        read(&header(0x21, 0x11, &four)),
        Ok(Source::Client("10.1.2.3:12345".parse().unwrap()))
    );
    let mut six = [0_u8; 36];
    six[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
    six[32..34].copy_from_slice(&40_000_u16.to_be_bytes());
    assert_eq!(
        read(&header(0x21, 0x21, &six)),
        Ok(Source::Client("[2001:db8::7]:40000".parse().unwrap()))
    );
}

#[test]
fn an_ipv4_client_of_an_ipv6_proxy_is_an_ipv4_client() {
    let mut six = [0_u8; 36];
    six[..16].copy_from_slice(&"::ffff:127.0.0.1".parse::<Ipv6Addr>().unwrap().octets());
    let Ok(Source::Client(client)) = read(&header(0x21, 0x21, &six)) else { panic!("no client") };
    assert!(client.ip().is_loopback());
    assert!(client.is_ipv4());
}

#[test]
fn what_a_proxy_adds_behind_the_addresses_is_passed_over() {
    let mut rest = vec![10, 1, 2, 3, 10, 9, 9, 9, 0, 1, 0, 2];
    rest.extend([0x20; 500]);
    assert_eq!(read(&header(0x21, 0x11, &rest)), Ok(Source::Client("10.1.2.3:1".parse().unwrap())));
}

#[test]
fn a_proxy_that_looks_after_itself_is_nobody_s_client() {
    assert_eq!(read(&header(0x20, 0x00, &[])), Ok(Source::Proxy));
    assert_eq!(read(&header(0x20, 0x11, &[127, 0, 0, 1])), Ok(Source::Proxy));
}

#[test]
fn a_client_without_an_address_is_unknown() {
    assert_eq!(read(&header(0x21, 0x00, &[])), Ok(Source::Unknown));
    assert_eq!(read(&header(0x21, 0x31, &[0; 216])), Ok(Source::Unknown));
    assert_eq!(read(&header(0x21, 0x12, &[0; 12])), Ok(Source::Unknown));
}

#[test]
fn what_is_no_header_is_refused() {
    let good = header(0x21, 0x11, &[0; 12]);
    for at in 0..13 {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        assert!(read(&bytes).is_err(), "byte {at}");
    }
    for kind in [0x00, 0x11, 0x22, 0x2f, 0x31] {
        assert!(read(&header(kind, 0x11, &[0; 12])).is_err(), "{kind:#x}");
    }
    assert!(read(&header(0x21, 0x11, &[0; 11])).is_err());
    assert!(read(&header(0x21, 0x21, &[0; 35])).is_err());
    assert!(read(&header(0x21, 0x11, &[0; LONGEST + 1])).is_err());
    assert!(read(&header(0x21, 0x11, &[0; LONGEST])).is_ok());
    // Version 1, and a client that comes without a proxy.
    assert!(read(b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n").is_err());
    assert!(read(&[0, 0, 0, 8, 4, 210, 22, 47, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        first in prop::array::uniform16(any::<u8>()),
        rest in prop::collection::vec(any::<u8>(), 0..80),
        signed in any::<bool>(),
        command in 0x1e_u8..0x23,
    ) {
        let mut first = first;
        if signed {
            first[..12].copy_from_slice(&SIGNATURE);
            first[12] = command;
        }
        if let Ok(prefix) = prefix(&first) {
            prop_assert!(prefix.following <= LONGEST);
            let _either = prefix.source(&rest);
        }
    }
}
