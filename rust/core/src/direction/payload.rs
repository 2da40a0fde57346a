//! Who speaks, by the first bytes of a segment or datagram: the one who asks, or the one who answers.
//!
//! Only what is written at the beginning of messages of the commonest protocols, each with its source. What could also be
//! the middle of something else is held against its own lengths, so that encrypted or compressed bytes seldom pass.

use crate::decode::ipproto;

/// Who sends such bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    /// The end that asks.
    Client,
    /// The end that answers.
    Server,
}

use Speaker::{Client, Server};

/// UDP ports of DNS and its relatives: DNS, NetBIOS names, multicast DNS, LLMNR.
const DNS_PORTS: [u16; 4] = [53, 137, 5353, 5355];
const NTP_PORT: u16 = 123;
const BOOTP_PORTS: [u16; 2] = [67, 68];

/// HTTP methods (RFC 9110, RFC 5789, RFC 4918), and those of SIP (RFC 3261) and RTSP (RFC 7826).
const REQUESTS: [&[u8]; 17] = [
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
    b"INVITE sip:",
    b"REGISTER sip:",
    b"BYE sip:",
    b"DESCRIBE ",
    b"SETUP ",
    b"M-SEARCH ",
];
/// Status lines of the same.
const RESPONSES: [&[u8]; 3] = [b"HTTP/1.", b"SIP/2.0 ", b"RTSP/1.0 "];
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

/// Who sends a payload that begins like this, between these ports; `whole`: nothing of it was cut.
pub(super) fn speaker(proto: u8, ports: [u16; 2], payload: &[u8], whole: bool) -> Option<Speaker> {
    let has = |port: u16| ports.contains(&port);
    match proto {
        ipproto::TCP => http(payload)
            .or_else(|| tls(payload))
            .or_else(|| ssh(payload))
            .or_else(|| if whole { line(payload) } else { None })
            .or_else(|| if has(53) { dns(payload.get(2..)?) } else { None }),
        ipproto::UDP if DNS_PORTS.into_iter().any(has) => dns(payload),
        ipproto::UDP if has(NTP_PORT) => ntp(payload),
        ipproto::UDP if BOOTP_PORTS.into_iter().any(has) => bootp(payload),
        ipproto::UDP => http(payload).or_else(|| dtls(payload)),
        _ => None,
    }
}

fn begins_with_any(payload: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|word| payload.starts_with(word))
}

fn http(payload: &[u8]) -> Option<Speaker> {
    match payload.first()? {
        b'A'..=b'Z' if begins_with_any(payload, &RESPONSES) => Some(Server),
        b'A'..=b'Z' if begins_with_any(payload, &REQUESTS) => Some(Client),
        _ => None,
    }
}

/// Handshake messages that only one end sends, RFC 8446 section 4 and RFC 5246 section 7.4. Certificates are sent by both.
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

/// DTLS record, RFC 6347 section 4.1; the handshake message begins behind 13 bytes.
fn dtls(payload: &[u8]) -> Option<Speaker> {
    match payload {
        [22, 0xfe, 0xfd | 0xff, 0, 0, _, _, _, _, _, _, _, _, kind, ..] => handshake(*kind),
        _ => None,
    }
}

/// Key exchange messages of SSH, RFC 4253 section 8 and RFC 4419 section 3, in the clear.
fn ssh(payload: &[u8]) -> Option<Speaker> {
    const LONGEST: u32 = 35_000;
    let [a, b, c, d, padding, kind] = *payload.first_chunk::<6>()?;
    let length = u32::from_be_bytes([a, b, c, d]);
    if !(12..=LONGEST).contains(&length) || padding < 4 || u32::from(padding) >= length - 1 {
        return None;
    }
    match kind {
        // KEXDH_INIT, KEX_DH_GEX_INIT, KEX_DH_GEX_REQUEST.
        30 | 32 | 34 => Some(Client),
        // KEXDH_REPLY, KEX_DH_GEX_GROUP, KEX_DH_GEX_REPLY.
        31 | 33 => Some(Server),
        _ => None,
    }
}

/// Whole lines of the text protocols of mail and files.
fn line(payload: &[u8]) -> Option<Speaker> {
    if !payload.ends_with(b"\r\n") {
        return None;
    }
    match payload {
        // A reply code, RFC 5321 section 4.2: from 2 to 5, 0 to 5, any.
        [b'1'..=b'5', b'0'..=b'5', b'0'..=b'9', b' ' | b'-', ..] => Some(Server),
        _ if begins_with_any(payload, &ANSWERS) => Some(Server),
        _ if begins_with_any(payload, &COMMANDS) => Some(Client),
        _ => None,
    }
}

/// DNS header, RFC 1035 section 4.1.1: a query has no answers and no response code.
fn dns(payload: &[u8]) -> Option<Speaker> {
    let [_, _, flags, codes, _, questions, answers @ ..] = payload.first_chunk::<12>()?;
    let is_response = flags & 0x80 != 0;
    let is_query = *questions >= 1 && answers[..2] == [0, 0] && codes.trailing_zeros() >= 4;
    match is_response {
        true => Some(Server),
        false if is_query => Some(Client),
        false => None,
    }
}

/// Mode of NTP, RFC 5905 section 7.3.
fn ntp(payload: &[u8]) -> Option<Speaker> {
    match payload.first()? & 7 {
        3 => Some(Client),
        4 => Some(Server),
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

    fn udp(port: u16, payload: &[u8]) -> Option<Speaker> {
        speaker(ipproto::UDP, [40_000, port], payload, true)
    }

    #[test]
    fn requests_and_answers() {
        assert_eq!(tcp(b"GET / HTTP/1.1\r\n"), Some(Client));
        assert_eq!(tcp(b"HTTP/1.1 200 OK\r\n"), Some(Server));
        assert_eq!(tcp(b"220 mail.example ESMTP\r\n"), Some(Server));
        assert_eq!(tcp(b"EHLO there\r\n"), Some(Client));
        assert_eq!(tcp(b"+OK\r\n"), Some(Server));
        assert_eq!(tcp(b"250 of them, and a line that goes on"), None);
        assert_eq!(speaker(ipproto::TCP, [1, 2], b"220 x\r\n", false), None);
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
        let hello = [22, 254, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 90, 1, 0, 0];
        assert_eq!(udp(4433, &hello), Some(Client));
    }

    #[test]
    fn messages_with_a_bit_for_it() {
        let query = [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let answer = [1, 2, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        assert_eq!((udp(53, &query), udp(53, &answer)), (Some(Client), Some(Server)));
        assert_eq!(udp(9999, &query), None, "only where DNS is spoken");
        assert_eq!(
            (udp(123, &[0x23; 48]), udp(123, &[0x24; 48]), udp(123, &[0x21; 48])),
            (Some(Client), Some(Server), None)
        );
        assert_eq!((udp(67, &[1, 1, 6, 0]), udp(68, &[2, 1, 6, 0])), (Some(Client), Some(Server)));
    }
}
