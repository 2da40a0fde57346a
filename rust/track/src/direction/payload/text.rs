//! Protocols of lines: HTTP, mail and FTP.

use super::message::Speaker::{self, Client, Server};
use super::message::agreeing;

/// SMTP, FTP, POP3, IMAP, and mail submission.
fn is_line(port: u16) -> bool {
    matches!(port, 21 | 25 | 110 | 143 | 587 | 2525)
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

pub(super) fn begins_with_any(payload: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|word| payload.starts_with(word))
}

/// A request or status line, RFC 9112 sections 3 and 4.
pub(super) fn http(payload: &[u8]) -> Option<Speaker> {
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

/// Whole lines of the text protocols of mail and files. Any text may begin with a number: away from these protocols'
/// ports, every line must be a line of a reply.
pub(super) fn line(ports: [u16; 2], payload: &[u8]) -> Option<Speaker> {
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
