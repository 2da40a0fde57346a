//! Traversal of NAT: STUN and TURN.

use super::message::Message;
use super::message::Speaker::{self, Client, Server};
use super::message::{be16, be32};

const HEADER: usize = 20;
const COOKIE: u32 = 0x2112_a442;

/// Methods of RFC 8489 section 18.2, RFC 8656 section 17 and RFC 6062 section 5.
mod method {
    pub const BINDING: u16 = 1;
    pub const SEND: u16 = 6;
    pub const DATA: u16 = 7;
    pub const CONNECTION_ATTEMPT: u16 = 12;
    pub const ALL: [u16; 10] = [BINDING, 3, 4, SEND, DATA, 8, 9, 10, 11, CONNECTION_ATTEMPT];
}

/// Attributes of RFC 8489 section 18.3 and RFC 8445 section 16.1.
mod attribute {
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub const PRIORITY: u16 = 0x0024;
    pub const USE_CANDIDATE: u16 = 0x0025;
    pub const FINGERPRINT: u16 = 0x8028;
    pub const ICE_CONTROLLED: u16 = 0x8029;
    pub const ICE_CONTROLLING: u16 = 0x802a;
}

/// Class of a STUN message, RFC 8489 section 5: two zero bits, the magic cookie, and attributes of four bytes that fill
/// the length. Checks of ICE (RFC 8445 section 7.2.2) are authenticated Binding messages, which both peers send.
pub(super) fn stun(message: &Message<'_>) -> Option<Speaker> {
    let bytes = message.bytes;
    if be32(bytes, 4)? != COOKIE {
        return None;
    }
    let (kind, length) = (be16(bytes, 0)?, usize::from(be16(bytes, 2)?));
    let method = kind & 0x000f | (kind & 0x00e0) >> 1 | (kind & 0x3e00) >> 2;
    if kind & 0xc000 != 0 || !length.is_multiple_of(4) || length + HEADER != message.length {
        return None;
    }
    let is_known = method::ALL.contains(&method) && has_sound_attributes(message.all()?, method);
    match (kind & 0x0110, method) {
        _ if !is_known => None,
        (0x0010, method::SEND) => Some(Client),
        (0x0010, method::DATA | method::CONNECTION_ATTEMPT) => Some(Server),
        (0x0010, _) | (_, method::SEND | method::DATA | method::CONNECTION_ATTEMPT) => None,
        (0x0000, _) => Some(Client),
        _ => Some(Server),
    }
}

/// Walk the attributes to the end; false: they do not fit, a wrong fingerprint (RFC 8489 section 14.7), or a check of
/// ICE.
fn has_sound_attributes(bytes: &[u8], method: u16) -> bool {
    let mut at = HEADER;
    while at < bytes.len() {
        let (Some(kind), Some(length)) = (be16(bytes, at), be16(bytes, at + 2)) else { return false };
        let is_of_ice = match kind {
            attribute::PRIORITY | attribute::USE_CANDIDATE | attribute::ICE_CONTROLLED | attribute::ICE_CONTROLLING => {
                true
            }
            attribute::USERNAME | attribute::MESSAGE_INTEGRITY | attribute::MESSAGE_INTEGRITY_SHA256 => {
                method == method::BINDING
            }
            _ => false,
        };
        if is_of_ice || (kind == attribute::FINGERPRINT && be32(bytes, at + 4) != Some(fingerprint(&bytes[..at]))) {
            return false;
        }
        at += 4 + usize::from(length).next_multiple_of(4);
    }
    at == bytes.len()
}

/// CRC-32 of ITU V.42, with the mask of STUN.
fn fingerprint(bytes: &[u8]) -> u32 {
    const REFLECTED: u32 = 0xedb8_8320;
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 0 { 0 } else { REFLECTED })
    });
    !crc ^ 0x5354_554e
}
