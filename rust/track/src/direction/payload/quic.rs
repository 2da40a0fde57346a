//! Long headers of QUIC.

use super::message::Message;
use super::message::Speaker::{self, Client, Server};
use super::message::be32;

/// Versions 1 (RFC 9000) and 2 (RFC 9369).
const VERSION_1: u32 = 0x0000_0001;
const VERSION_2: u32 = 0x6b33_43cf;

/// The least length of a datagram with an Initial of a client, RFC 9000 section 14.1.
const CLIENT_INITIAL: usize = 1_200;
/// The longest connection ID, and the shortest that a client chooses for the server (RFC 9000 sections 17.2 and 7.2).
const ID_BYTES: usize = 20;
const SHORTEST_CHOSEN: usize = 8;
/// Tag of a Retry, RFC 9001 section 5.8.
const RETRY_TAG: usize = 16;

/// Types of long headers, in the numbers of version 1.
mod kind {
    pub const INITIAL: u8 = 0;
    pub const ZERO_RTT: u8 = 1;
    pub const RETRY: u8 = 3;
}

/// Sender of a long header, RFC 9000 section 17.2. Keys of Initials are not derived: packet numbers stay unknown.
pub(super) fn quic(message: &Message<'_>) -> Option<Speaker> {
    let (first, version) = (*message.bytes.first()?, be32(message.bytes, 1)?);
    let (to, rest) = id(message.bytes.get(5..)?)?;
    let (from, rest) = id(rest)?;
    let kind = match version {
        // Version Negotiation: a list of versions, section 17.2.1; only servers send one.
        0 => {
            let is_list = message.all().is_some() && !rest.is_empty() && rest.len().is_multiple_of(4);
            return (is_list && !rest.chunks(4).any(|version| version == [0; 4])).then_some(Server);
        }
        VERSION_1 => first >> 4 & 3,
        // RFC 9369 section 3.2.
        VERSION_2 => (first >> 4 & 3).wrapping_sub(1) & 3,
        _ => return None,
    };
    match kind {
        // Sections 17.2.5 and 17.2.5.2: a token that is not empty, and a tag.
        kind::RETRY => (message.all().is_some() && rest.len() > RETRY_TAG && !from.is_empty()).then_some(Server),
        // Section 17.2.3: only clients send 0-RTT packets, to a connection ID of their choice or the server's.
        kind::ZERO_RTT => fits(rest, message).then_some(Client),
        kind::INITIAL => {
            let (length, rest) = number(rest)?;
            let token = usize::try_from(length).ok()?;
            if !fits(rest.get(token..)?, message) {
                return None;
            }
            initial(message.length, token > 0, [to.len(), from.len()])
        }
        _ => None,
    }
}

/// Sender of an Initial. A token is the client's (section 17.2.2), a datagram that was not padded the server's
/// (section 14.1). Behind a length that either may send, the end without a connection ID is the client: servers need one
/// to tell clients apart (section 5.1). The client's first destination has at least eight bytes (section 7.2).
fn initial(length: usize, has_token: bool, [to, from]: [usize; 2]) -> Option<Speaker> {
    match (has_token, length < CLIENT_INITIAL) {
        (true, false) => Some(Client),
        (false, true) => Some(Server),
        (false, false) if to >= SHORTEST_CHOSEN && from == 0 => Some(Client),
        (false, false) if to == 0 && from > 0 => Some(Server),
        (true, true) | (false, false) => None,
    }
}

/// Test for a length that ends within the datagram, and for the least packet number and sample (RFC 9001 section
/// 5.4.2: 4 and 16 bytes).
fn fits(rest: &[u8], message: &Message<'_>) -> bool {
    let Some((length, rest)) = number(rest) else { return false };
    let left = (message.length - message.bytes.len()) + rest.len();
    (20..=left as u64).contains(&length)
}

/// A connection ID behind its length.
fn id(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let length = usize::from(*length);
    if length <= ID_BYTES { rest.split_at_checked(length) } else { None }
}

/// A number of variable length, RFC 9000 section 16.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let first = *bytes.first()?;
    let (own, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    let value = own.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    Some((value & ((1 << (8 * own.len() - 2)) - 1), rest))
}
