//! Host names in payloads: the name requested by a client, and the names of addresses in DNS answers.
//!
//! Names are for display and influence no decision. Only letters, digits, hyphens, underscores and dots make a host
//! name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::{Packet, PacketFlag, rdata::RData};

use crate::{FiveTuple, ipproto};

const DNS: u16 = 53;
/// Ports of proxies: SOCKS and Squid.
const PROXIES: [u16; 2] = [1080, 3128];
/// Maximum length of a host name in bytes (RFC 1035 section 2.3.4).
const LONGEST: usize = 253;
/// Maximum number of header lines searched for the host.
const HEADERS: usize = 32;

/// Normalized host name: lower case, without a trailing dot.
fn name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let fits = (1..=LONGEST).contains(&text.len()) && text.bytes().all(plain);
    (fits && text.contains('.')).then(|| text.to_ascii_lowercase())
}

/// Name requested by a payload: the server name of a TLS handshake, the host of an HTTP request, the question of a
/// DNS message.
pub fn asked(tuple: &FiveTuple, payload: &[u8]) -> Option<String> {
    match (tuple.proto, payload) {
        (ipproto::TCP, [22, 3, ..]) => server_name(payload),
        (ipproto::TCP, [b'A'..=b'Z', ..]) => host(payload),
        (ipproto::UDP, _) if tuple.dport == DNS => {
            let message = Packet::parse(payload).ok().filter(|message| !message.has_flags(PacketFlag::RESPONSE))?;
            name(&message.questions.first()?.qname.to_string())
        }
        _ => None,
    }
}

/// Protocol that showed a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shown {
    /// The server name of a TLS handshake.
    Sni,
    /// The host of an HTTP request.
    Http,
    /// The question of a DNS answer with the address.
    Dns,
}

impl Shown {
    /// The word of the protocol.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sni => "sni",
            Self::Http => "http",
            Self::Dns => "dns",
        }
    }
}

/// Name of the responder, from a TCP payload sent to it. A request to a proxy names another host: it has the whole address
/// for a target (RFC 9112 section 3.2.2), is a CONNECT, or goes to a port of proxies.
pub fn of_responder(tuple: &FiveTuple, payload: &[u8]) -> Option<(String, Shown)> {
    if PROXIES.contains(&tuple.dport) {
        return None;
    }
    match payload {
        [22, 3, ..] => Some((server_name(payload)?, Shown::Sni)),
        [b'A'..=b'Z', ..] if !is_for_a_proxy(payload) => Some((host(payload)?, Shown::Http)),
        _ => None,
    }
}

fn is_for_a_proxy(request: &[u8]) -> bool {
    let mut words = request.splitn(3, |byte| *byte == b' ');
    let (method, target) = (words.next(), words.next());
    method == Some(b"CONNECT") || target.is_some_and(|target| target.starts_with(b"http://"))
}

/// Question name and addresses of a DNS answer.
pub fn resolved(tuple: &FiveTuple, payload: &[u8]) -> Option<(String, Vec<IpAddr>)> {
    if tuple.proto != ipproto::UDP || tuple.sport != DNS {
        return None;
    }
    let message = Packet::parse(payload).ok().filter(|message| message.has_flags(PacketFlag::RESPONSE))?;
    let addresses = message.answers.iter().filter_map(|answer| match &answer.rdata {
        RData::A(found) => Some(Ipv4Addr::from(found.address).into()),
        RData::AAAA(found) => Some(Ipv6Addr::from(found.address).into()),
        _ => None,
    });
    Some((name(&message.questions.first()?.qname.to_string())?, addresses.collect()))
}

/// Host header (RFC 9110 section 7.2) of a request.
fn host(payload: &[u8]) -> Option<String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    // An incomplete head is parsed as far as present.
    request.parse(payload).ok()?;
    let host = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("host"))?;
    let host = std::str::from_utf8(host.value).ok()?;
    name(host.split_once(':').map_or(host, |(host, _)| host))
}

/// Extension server_name (RFC 6066 section 3) of a ClientHello (RFC 8446 section 4.1.2) at the beginning of a
/// segment.
fn server_name(payload: &[u8]) -> Option<String> {
    let mut rest = payload.get(5..)?;
    let [1, _, _, _] = take::<4>(&mut rest)? else { return None };
    // Version and random.
    skip(&mut rest, 2 + 32)?;
    let session = take::<1>(&mut rest)?;
    skip(&mut rest, session[0].into())?;
    let suites = take::<2>(&mut rest)?;
    skip(&mut rest, u16::from_be_bytes(suites).into())?;
    let compressions = take::<1>(&mut rest)?;
    skip(&mut rest, compressions[0].into())?;
    take::<2>(&mut rest)?;
    loop {
        let [k0, k1, l0, l1] = take::<4>(&mut rest)?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if [k0, k1] != [0, 0] {
            skip(&mut rest, length)?;
            continue;
        }
        let [_, _, kind, n0, n1] = take::<5>(&mut rest)?;
        let text = rest.get(..usize::from(u16::from_be_bytes([n0, n1])))?;
        return if kind == 0 { name(std::str::from_utf8(text).ok()?) } else { None };
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (found, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*found)
}

fn skip(rest: &mut &[u8], length: usize) -> Option<()> {
    *rest = rest.get(length..)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tuple(proto: u8, sport: u16, dport: u16) -> FiveTuple {
        FiveTuple { sport, dport, proto, ..FiveTuple::default() }
    }

    #[test]
    fn a_request_to_a_proxy_names_another_host() {
        let to = |port, payload: &[u8]| of_responder(&tuple(ipproto::TCP, 50_000, port), payload);
        let request = b"GET /a HTTP/1.1\r\nHost: www.example.com\r\n\r\n";
        assert_eq!(to(8080, request), Some(("www.example.com".to_owned(), Shown::Http)));
        assert_eq!(to(3128, request), None);
        assert_eq!(to(8080, b"GET http://www.example.com/a HTTP/1.1\r\nHost: www.example.com\r\n\r\n"), None);
        assert_eq!(to(8080, b"CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com\r\n\r\n"), None);
        assert_eq!(to(8443, &hello(b"www.example.com")), Some(("www.example.com".to_owned(), Shown::Sni)));
    }

    /// A ClientHello with a session, two cipher suites, another extension, and this name.
    fn hello(name: &[u8]) -> Vec<u8> {
        let mut list = vec![0];
        list.extend((name.len() as u16).to_be_bytes());
        list.extend(name);
        let mut extensions = vec![0, 23, 0, 0, 0, 0];
        extensions.extend((list.len() as u16 + 2).to_be_bytes());
        extensions.extend((list.len() as u16).to_be_bytes());
        extensions.extend(list);
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([4, 1, 2, 3, 4, 0, 4, 19, 1, 19, 2, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut message = vec![1, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        let mut record = vec![22, 3, 1];
        record.extend((message.len() as u16).to_be_bytes());
        record.extend(message);
        record
    }

    #[test]
    fn the_server_name_of_a_handshake() {
        let tls = tuple(ipproto::TCP, 50000, 443);
        assert_eq!(asked(&tls, &hello(b"Mirror.Example.")).as_deref(), Some("mirror.example"));
        assert_eq!(asked(&tls, &hello(b"a\x1b[31m.example")), None);
        assert_eq!(asked(&tls, &hello(b"localhost")), None);
    }

    #[test]
    fn the_host_of_a_request() {
        let http = tuple(ipproto::TCP, 50000, 80);
        let request = b"GET /x HTTP/1.1\r\nAccept: */*\r\nhost: deb.example:80\r\nA: b\r\n";
        assert_eq!(asked(&http, request).as_deref(), Some("deb.example"));
        assert_eq!(asked(&http, b"GET /x HTTP/1.1\r\nAccept: */*\r\n\r\n"), None);
    }

    #[test]
    fn questions_and_answers_of_dns() {
        let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x05video\x07example\0\0\x01\0\x01";
        assert_eq!(asked(&tuple(ipproto::UDP, 50000, 53), question).as_deref(), Some("video.example"));
        let mut answer = question.to_vec();
        (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
        answer.extend(b"\xc0\x0c\0\x01\0\x01\0\0\x01\x2c\0\x04\xcb\0\x71\x50");
        assert_eq!(
            resolved(&tuple(ipproto::UDP, 53, 50000), &answer),
            Some(("video.example".into(), vec![IpAddr::from([203, 0, 113, 80])]))
        );
        assert_eq!(asked(&tuple(ipproto::UDP, 50000, 53), &answer), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, cut in 0..200usize, at in 0..200usize, byte: u8) {
            let mut damaged = hello(b"mirror.example");
            let index = at % damaged.len();
            damaged[index] = byte;
            damaged.truncate(cut);
            for (proto, sport, dport) in [(ipproto::TCP, 1, 443), (ipproto::UDP, 1, 53), (ipproto::UDP, 53, 1)] {
                for payload in [&bytes, &damaged] {
                    let found = asked(&tuple(proto, sport, dport), payload);
                    prop_assert!(found.is_none_or(|name| name.is_ascii() && name.len() <= LONGEST));
                    let _ = resolved(&tuple(proto, sport, dport), payload);
                }
            }
        }
    }
}
