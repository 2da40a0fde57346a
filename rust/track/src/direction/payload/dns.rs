//! DNS and its relatives.

use super::message::Speaker::{self, Client, Server};

/// Sizes in DNS messages, RFC 1035 section 4: the header, a question and a record with the shortest name.
const DNS_HEADER: usize = 12;
const DNS_QUESTION: usize = 5;
const DNS_RECORD: usize = 11;

/// A message after its length over TCP, RFC 1035 section 4.2.2; the message may continue in the next segment.
pub(super) fn dns_over_tcp(payload: &[u8], whole: bool) -> Option<Speaker> {
    let (length, message) = payload.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length >= message.len().max(DNS_HEADER) { dns(message, whole && length == message.len()) } else { None }
}

/// DNS header, RFC 1035 section 4.1.1: a query has no answers and no response code. A question must follow: random
/// bytes have no name there.
pub(super) fn dns(message: &[u8], whole: bool) -> Option<Speaker> {
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
