//! The sender of a payload, client or server, by the first bytes of a segment or datagram.
//!
//! Only the beginnings of messages of the commonest protocols are recognised, each with its source. Ambiguous
//! beginnings are checked against their own lengths: encrypted or compressed bytes seldom pass.

use conntrack_decode::ipproto;

/// The sender of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    /// The end that sends requests.
    Client,
    /// The end that sends answers.
    Server,
}

use Speaker::{Client, Server};

/// UDP ports of DNS and its relatives: DNS, NetBIOS names, multicast DNS, LLMNR.
fn is_dns(port: u16) -> bool {
    matches!(port, 53 | 137 | 5353 | 5355)
}

fn is_ntp(port: u16) -> bool {
    port == 123
}

fn is_bootp(port: u16) -> bool {
    port == 67
}

/// SMTP, FTP, POP3, IMAP, and mail submission.
fn is_line(port: u16) -> bool {
    matches!(port, 21 | 25 | 110 | 143 | 587 | 2525)
}

/// Ports at which the TLS client accepts the TCP connection: FTP's active data (RFC 4217 section 7), NETCONF and
/// RESTCONF call home (RFC 8071).
fn is_turned(port: u16) -> bool {
    matches!(port, 20 | 989 | 4334..=4336)
}

/// Services over DTLS; between other ports either end of a call (WebRTC) may begin the handshake.
fn is_dtls(port: u16) -> bool {
    matches!(port, 443 | 853 | 2083 | 3391 | 4433 | 4740 | 5246 | 5349 | 5684 | 6514 | 8443)
}

/// HTTP methods (RFC 9110, RFC 5789, RFC 4918, SSDP).
const METHODS: [&[u8]; 12] = [
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"CONNECT ",
    b"TRACE ",
    b"PATCH ",
    b"PROPFIND ",
    b"REPORT ",
    b"M-SEARCH ",
];
/// The end of request lines, and the beginning of status lines. Without SIP and RTSP, in which both ends send requests.
const VERSIONS: [&[u8]; 2] = [b"HTTP/1.1", b"HTTP/1.0"];
/// Commands of SMTP (RFC 5321), FTP (RFC 959) and POP3 (RFC 1939), whole or up to their argument.
const COMMANDS: [&[u8]; 24] = [
    b"EHLO ",
    b"HELO ",
    b"MAIL FROM:",
    b"RCPT TO:",
    b"DATA\r",
    b"RSET\r",
    b"QUIT\r",
    b"STARTTLS\r",
    b"AUTH ",
    b"USER ",
    b"PASS ",
    b"CAPA\r",
    b"STAT\r",
    b"LIST",
    b"RETR ",
    b"UIDL",
    b"STLS\r",
    b"TYPE ",
    b"PASV\r",
    b"EPSV",
    b"PORT ",
    b"EPRT ",
    b"CWD ",
    b"STOR ",
];
/// Positive and negative answers of POP3, untagged ones of IMAP (RFC 9051).
const ANSWERS: [&[u8]; 4] = [b"+OK", b"-ERR", b"* OK", b"* BYE"];

/// The sender of a payload with this beginning, from the first of these ports to the second; `whole`: the payload was
/// not cut.
pub(super) fn speaker(proto: u8, ports: [u16; 2], payload: &[u8], whole: bool) -> Option<Speaker> {
    match proto {
        ipproto::TCP if ports.iter().any(|port| is_turned(*port)) => None,
        ipproto::TCP => http(payload)
            .or_else(|| tls(payload))
            .or_else(|| ssh(payload))
            .or_else(|| if whole { line(ports, payload) } else { None })
            .or_else(|| agreeing(ports, |port| port == 53, || dns_over_tcp(payload, whole))),
        ipproto::UDP => http(payload)
            .or_else(|| agreeing(ports, is_dns, || dns(payload, whole)))
            .or_else(|| agreeing(ports, is_ntp, || ntp(payload)))
            .or_else(|| agreeing(ports, is_bootp, || bootp(payload)))
            .or_else(|| agreeing(ports, is_dtls, || dtls(payload))),
        _ => None,
    }
}

/// The sender of a message, if its direction agrees with the port of its protocol. A single bit of another protocol on
/// that port must not flip the connection.
#[inline]
fn agreeing(
    [from, to]: [u16; 2],
    is_served: impl Fn(u16) -> bool,
    read: impl FnOnce() -> Option<Speaker>,
) -> Option<Speaker> {
    let [from_server, to_server] = [from, to].map(is_served);
    if !from_server && !to_server {
        return None;
    }
    read().filter(|speaker| if *speaker == Client { to_server } else { from_server })
}

fn begins_with_any(payload: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|word| payload.starts_with(word))
}

/// A request or status line, RFC 9112 sections 3 and 4.
fn http(payload: &[u8]) -> Option<Speaker> {
    match payload {
        [b'H', _, _, _, _, _, _, _, b' ', b'1'..=b'5', b'0'..=b'9', b'0'..=b'9', ..] => {
            begins_with_any(payload, &VERSIONS).then_some(Server)
        }
        [b'A'..=b'Z', ..] => is_request_line(payload).then_some(Client),
        _ => None,
    }
}

/// Method, target and version; the target of a long line may continue in the next segment.
fn is_request_line(payload: &[u8]) -> bool {
    let Some(method) = METHODS.iter().find(|method| payload.starts_with(method)) else { return false };
    let rest = &payload[method.len()..];
    let target = rest.iter().position(|byte| !byte.is_ascii_graphic());
    let Some(length) = target else { return !rest.is_empty() };
    let version = rest.get(length + 1..).unwrap_or_default();
    let is_version = VERSIONS.iter().any(|one| {
        let given = version.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        // A cut version continues in the next segment, or was not captured.
        given == *one || (given.len() == version.len() && one.starts_with(given))
    });
    length > 0 && rest[length] == b' ' && is_version
}

/// Handshake messages that only one end sends, RFC 8446 section 4 and RFC 5246 section 7.4. Certificates are sent by
/// both.
fn handshake(kind: u8) -> Option<Speaker> {
    match kind {
        // client_hello, client_key_exchange.
        1 | 16 => Some(Client),
        // server_hello, hello_verify_request, new_session_ticket, server_key_exchange, certificate_request, hello_done.
        2..=4 | 12..=14 => Some(Server),
        _ => None,
    }
}

/// TLS record, RFC 8446 section 5.1. An encrypted handshake has random bytes where the message's length would be.
fn tls(payload: &[u8]) -> Option<Speaker> {
    let [22, 3, 0..=4, high, low, kind, length @ ..] = payload.first_chunk::<9>()? else { return None };
    let record = u32::from(u16::from_be_bytes([*high, *low]));
    let [a, b, c] = length;
    let message = u32::from_be_bytes([0, *a, *b, *c]);
    if message + 4 <= record && record <= 1 << 14 { handshake(*kind) } else { None }
}

/// DTLS record, RFC 6347 section 4.1; the handshake message begins after 13 bytes.
fn dtls(payload: &[u8]) -> Option<Speaker> {
    match payload {
        [22, 0xfe, 0xfd | 0xff, 0, 0, _, _, _, _, _, _, _, _, kind, ..] => handshake(*kind),
        _ => None,
    }
}

/// Key exchange messages of SSH, RFC 4253 section 8, RFC 4419 section 3 and RFC 5656 section 4, in the clear. Ciphers
/// with a clear length have random bytes after the length. So the inner lengths must fit, and the packet must end with
/// the segment or fill the segment.
fn ssh(payload: &[u8]) -> Option<Speaker> {
    const LONGEST: usize = 35_000;
    /// Less than two blocks of a cipher that is not in use yet.
    const MOST_PADDING: usize = 16;
    let (length, rest) = payload.split_first_chunk::<4>()?;
    let ([padding, kind], rest) = rest.split_first_chunk::<2>()?;
    let (field, _) = rest.split_first_chunk::<4>()?;
    let [length, field] = [length, field].map(|bytes| u32::from_be_bytes(*bytes) as usize);
    let padding = usize::from(*padding);
    // The length counts the padding's length, the kind, the message and the padding; without a cipher, whole blocks of 8.
    if !(12..=LONGEST).contains(&length) || !(length + 4).is_multiple_of(8) || !(4..MOST_PADDING).contains(&padding) {
        return None;
    }
    let body = length.checked_sub(padding + 2)?;
    // The first field is a number or a string, but for KEX_DH_GEX_REQUEST: three numbers of bits.
    let fits =
        if *kind == 34 { body == 12 } else { body.checked_sub(4).is_some_and(|rest| field <= rest && field >= 16) };
    match kind {
        _ if !fits => None,
        // KEXDH_INIT, KEX_DH_GEX_INIT: exactly that field; KEX_DH_GEX_REQUEST.
        30 | 32 if field + 4 == body => Some(Client),
        34 => Some(Client),
        // KEXDH_REPLY, KEX_DH_GEX_GROUP, KEX_DH_GEX_REPLY.
        31 | 33 => Some(Server),
        _ => None,
    }
}

/// Whole lines of the text protocols of mail and files. Any text may begin with a number: away from these protocols'
/// ports, every line must be a line of a reply.
fn line(ports: [u16; 2], payload: &[u8]) -> Option<Speaker> {
    if !payload.ends_with(b"\r\n") {
        return None;
    }
    let at_home = ports.iter().any(|port| is_line(*port));
    let sender = match payload {
        // The length and the priority of a syslog message, RFC 6587 section 3.4.1.
        [_, _, _, b' ', b'<', ..] => None,
        // A reply code, RFC 5321 section 4.2: from 2 to 5, 0 to 5, any.
        [b'1'..=b'5', b'0'..=b'5', b'0'..=b'9', b' ' | b'-', ..] => (at_home || is_reply(payload)).then_some(Server),
        _ if begins_with_any(payload, &ANSWERS) => Some(Server),
        _ if begins_with_any(payload, &COMMANDS) => Some(Client),
        _ => None,
    };
    if at_home { agreeing(ports, is_line, || sender) } else { sender }
}

/// A whole reply, RFC 5321 section 4.2.1: lines with one code, a hyphen after the code in all but the last, and words.
fn is_reply(payload: &[u8]) -> bool {
    let (Some(code), Some(text)) = (payload.get(..3), payload.strip_suffix(b"\r\n")) else { return false };
    let mut lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).rev();
    let is_of = |line: &[u8], mark: u8| {
        line.strip_prefix(code)
            .is_some_and(|rest| rest.first() == Some(&mark) && rest.get(1).is_none_or(|first| !first.is_ascii_digit()))
    };
    code[0] != b'1' && lines.next().is_some_and(|last| is_of(last, b' ')) && lines.all(|line| is_of(line, b'-'))
}

/// Sizes in DNS messages, RFC 1035 section 4: the header, a question and a record with the shortest name.
const DNS_HEADER: usize = 12;
const DNS_QUESTION: usize = 5;
const DNS_RECORD: usize = 11;

/// A message after its length over TCP, RFC 1035 section 4.2.2; the message may continue in the next segment.
fn dns_over_tcp(payload: &[u8], whole: bool) -> Option<Speaker> {
    let (length, message) = payload.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length >= message.len().max(DNS_HEADER) { dns(message, whole && length == message.len()) } else { None }
}

/// DNS header, RFC 1035 section 4.1.1: a query has no answers and no response code. A question must follow: random
/// bytes have no name there.
fn dns(message: &[u8], whole: bool) -> Option<Speaker> {
    let (header, body) = message.split_first_chunk::<DNS_HEADER>()?;
    let [_, _, flags, codes, ..] = *header;
    let count = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
    let [questions, answers, authorities, additional] = [4, 6, 8, 10].map(count);
    let records = answers + authorities + additional;
    if questions > 1 || (whole && questions * DNS_QUESTION + records * DNS_RECORD > body.len()) {
        return None;
    }
    let is_named = if questions + records == 0 { body.is_empty() } else { begins_with_name(body) };
    let is_query = questions == 1 && answers == 0 && codes.trailing_zeros() >= 4;
    match flags & 0x80 != 0 {
        _ if !is_named => None,
        true => Some(Server),
        false if is_query => Some(Client),
        false => None,
    }
}

/// Test for a name, its type, and a class in use: IN, CH, HS, NONE or ANY, the top bit aside (RFC 6762 section 5.4).
/// Cut parts pass.
fn begins_with_name(mut body: &[u8]) -> bool {
    while let Some((length, rest)) = body.split_first() {
        match usize::from(*length) {
            0 => return rest.get(2..4).is_none_or(|class| matches!(class, [0 | 0x80, 1 | 3 | 4 | 254 | 255])),
            label @ 1..=63 => body = rest.get(label..).unwrap_or_default(),
            _ => return false,
        }
    }
    true
}

/// Version and mode of NTP, RFC 5905 section 7.3; the header has 48 bytes.
fn ntp(payload: &[u8]) -> Option<Speaker> {
    const HEADER: usize = 48;
    let first = *payload.first().filter(|_| payload.len() >= HEADER)?;
    match (first >> 3 & 7, first & 7) {
        (1..=4, 3) => Some(Client),
        (1..=4, 4) => Some(Server),
        _ => None,
    }
}

/// Operation of BOOTP and DHCP, RFC 2131 section 2.
fn bootp(payload: &[u8]) -> Option<Speaker> {
    match payload {
        [1, 1..=32, 0..=16, ..] => Some(Client),
        [2, 1..=32, 0..=16, ..] => Some(Server),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(payload: &[u8]) -> Option<Speaker> {
        speaker(ipproto::TCP, [40_000, 50_000], payload, true)
    }

    /// From or to a mail server.
    fn mail(ports: [u16; 2], payload: &[u8]) -> Option<Speaker> {
        speaker(ipproto::TCP, ports, payload, true)
    }

    fn udp(port: u16, payload: &[u8]) -> Option<Speaker> {
        speaker(ipproto::UDP, [40_000, port], payload, true)
    }

    fn from(port: u16, payload: &[u8]) -> Option<Speaker> {
        speaker(ipproto::UDP, [port, 40_000], payload, true)
    }

    #[test]
    fn requests_and_answers() {
        assert_eq!(tcp(b"GET / HTTP/1.1\r\n"), Some(Client));
        assert_eq!(tcp(b"GET /a-long-target-that-goes-on"), Some(Client));
        assert_eq!(tcp(b"GET / HTTP/1."), Some(Client));
        assert_eq!(tcp(b"GET /old HTTP/1.1 200 in a log\r\n"), None);
        assert_eq!(tcp(b"GET rich soon\r\n"), None);
        assert_eq!(tcp(b"OPTIONS sip:100@10.0.0.5 SIP/2.0\r\n"), None, "both ends of a call ask");
        assert_eq!(mail([25, 1], b"154 <14>1 2026-01-01T00:00:00Z host\r\n"), None, "syslog");
        assert_eq!(tcp(b"HTTP/1.1 200 OK\r\n"), Some(Server));
        assert_eq!(mail([25, 40_000], b"220 mail.example ESMTP\r\n"), Some(Server));
        assert_eq!(mail([40_000, 25], b"EHLO there\r\n"), Some(Client));
        assert_eq!(mail([40_000, 25], b"250 units shipped.\r\n"), None, "in a message");
        assert_eq!(mail([110, 40_000], b"+OK\r\n"), Some(Server));
        assert_eq!(mail([25, 40_000], b"250 of them, and a line that goes on"), None);
        assert_eq!(tcp(b"220-mail.example\r\n220 ready\r\n"), Some(Server), "on any port");
        assert_eq!(tcp(b"101 076401251 of a bank's file\r\n"), None);
        assert_eq!(tcp(b"250 units shipped.\r\n.\r\n"), None);
        assert_eq!(tcp(b"205 20 17\r\n"), None, "what a sensor measured");
        assert_eq!(speaker(ipproto::TCP, [25, 2], b"220 x\r\n", false), None);
        assert_eq!(tcp(b""), None);
    }

    #[test]
    fn handshakes() {
        assert_eq!(tcp(&[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]), Some(Client));
        assert_eq!(tcp(&[22, 3, 3, 0, 74, 2, 0, 0, 70, 3, 3]), Some(Server));
        assert_eq!(tcp(&[22, 3, 3, 0, 64, 12, 69, 61, 191, 175, 13]), None, "encrypted");
        assert_eq!(tcp(&[23, 3, 3, 0, 64, 1, 0, 0, 1, 1, 1]), None, "application data");
        assert_eq!(tcp(&[0, 0, 0, 44, 6, 30, 0, 0, 0, 32]), Some(Client));
        assert_eq!(tcp(&[0, 0, 1, 4, 6, 31, 0, 0, 0, 32]), Some(Server));
        assert_eq!(tcp(&[0, 0, 0, 44, 6, 30, 9, 200, 7, 32]), None, "encrypted behind its length");
        let hello = [22, 254, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 90, 1, 0, 0];
        assert_eq!(udp(4433, &hello), Some(Client));
    }

    /// The TLS client of FTP's active data and of call home accepts the TCP connection: a hello names neither end.
    #[test]
    fn handshakes_that_run_against_the_connection() {
        let hello = [22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3];
        for port in [20, 989, 4334, 4336] {
            for ports in [[port, 40_000], [40_000, port]] {
                assert_eq!(speaker(ipproto::TCP, ports, &hello, true), None, "{port}");
            }
        }
        assert_eq!(speaker(ipproto::TCP, [4337, 40_000], &hello, true), Some(Client));
    }

    /// A question has at least five bytes, and a record eleven.
    #[test]
    fn a_dns_message_has_room_for_what_its_header_counts() {
        let header = [1, 2, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        let body = [0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 0];
        let message = |length: usize| [&header[..], &body[..length]].concat();
        assert_eq!(from(53, &message(5 + 11)), Some(Server));
        assert_eq!(from(53, &message(5 + 11 - 1)), None);
        assert_eq!(speaker(ipproto::UDP, [53, 40_000], &message(5), false), Some(Server), "cut by the capture");
    }

    #[test]
    fn messages_with_a_bit_for_it() {
        let query = [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
        let answer = [1, 2, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
        assert_eq!((udp(53, &query), from(53, &answer)), (Some(Client), Some(Server)));
        assert_eq!((from(53, &query), udp(53, &answer)), (None, None), "against the port");
        assert_eq!(udp(9999, &query), None, "only where DNS is spoken");
        assert_eq!(from(53, &[0x38; 40]), None, "random bytes");
        let refused = [1, 2, 0x81, 0x85, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(from(53, &refused), Some(Server));
        assert_eq!(
            (udp(123, &[0x23; 48]), from(123, &[0x24; 48]), udp(123, &[0x21; 48]), udp(123, &[0x24; 48])),
            (Some(Client), Some(Server), None, None)
        );
        assert_eq!((udp(67, &[1, 1, 6, 0]), from(67, &[2, 1, 6, 0])), (Some(Client), Some(Server)));
    }
}
