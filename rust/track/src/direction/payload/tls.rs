//! Handshakes in the clear: TLS, DTLS and SSH.

use super::message::Message;
use super::message::Speaker::{self, Client, Server};

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
pub(super) fn tls(payload: &[u8]) -> Option<Speaker> {
    let [22, 3, 0..=4, high, low, kind, length @ ..] = payload.first_chunk::<9>()? else { return None };
    let record = u32::from(u16::from_be_bytes([*high, *low]));
    let [a, b, c] = length;
    let message = u32::from_be_bytes([0, *a, *b, *c]);
    if message + 4 <= record && record <= 1 << 14 { handshake(*kind) } else { None }
}

/// DTLS record with a handshake message, RFC 6347 sections 4.1 and 4.2.2: epoch 0, a record within the datagram, and a
/// fragment within its message and the record.
pub(super) fn dtls(message: &Message<'_>) -> Option<Speaker> {
    const RECORD: usize = 13;
    const HANDSHAKE: usize = 12;
    let (header, body) = message.bytes.split_first_chunk::<RECORD>()?;
    let ([22, 0xfe, 0xfd | 0xff, 0, 0, _, _, _, _, _, _, high, low], Some(body)) =
        (header, body.first_chunk::<HANDSHAKE>())
    else {
        return None;
    };
    let record = usize::from(u16::from_be_bytes([*high, *low]));
    let number = |at: usize| body[at..at + 3].iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
    let (length, begin, part) = (number(1), number(6), number(9));
    let fits = RECORD + record <= message.length && part + HANDSHAKE <= record && begin + part <= length;
    if fits { handshake(body[0]) } else { None }
}

/// Key exchange messages of SSH, RFC 4253 section 8, RFC 4419 section 3 and RFC 5656 section 4, in the clear. Ciphers
/// with a clear length have random bytes after the length. So the inner lengths must fit, and the packet must end with
/// the segment or fill the segment.
pub(super) fn ssh(payload: &[u8]) -> Option<Speaker> {
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
