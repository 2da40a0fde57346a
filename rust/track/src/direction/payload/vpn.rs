//! Key exchanges of VPNs: WireGuard and IKE.

use super::message::Message;
use super::message::Speaker::{self, Client, Server};
use super::message::be32;

/// Handshake of WireGuard (whitepaper, sections 5.4.2 and 5.4.3): type, three zeros, and the length of the type. The
/// cookie reply (type 3) answers an initiation or a response, and data (type 4) has either sender.
pub(super) fn wireguard(message: &Message<'_>) -> Option<Speaker> {
    match (message.bytes.first_chunk::<4>()?, message.length) {
        ([1, 0, 0, 0], 148) => Some(Client),
        ([2, 0, 0, 0], 92) => Some(Server),
        _ => None,
    }
}

/// Header of IKE on port 500, or behind the non-ESP marker of port 4500 (RFC 3948 section 2.2).
pub(super) fn ike(message: &Message<'_>) -> Option<Speaker> {
    const HEADER: usize = 28;
    let marker = match () {
        () if message.has_port(|port| port == 500) => 0,
        () if message.has_port(|port| port == 4_500) && be32(message.bytes, 0) == Some(0) => 4,
        () => return None,
    };
    let header: &[u8; HEADER] = message.bytes.get(marker..)?.first_chunk()?;
    let [spis @ .., next, version, exchange, flags, _, _, _, _, _, _, _, _] = header;
    let (initiator, responder) = spis.split_at(8);
    let is_zero = |spi: &[u8]| spi.iter().all(|byte| *byte == 0);
    let (number, length) = (be32(header, 20)?, be32(header, 24)? as usize);
    if length + marker != message.length || length == HEADER || is_zero(initiator) {
        return None;
    }
    match version {
        0x20 => ike_v2((*next, *exchange, *flags), number, is_zero(responder)),
        0x10 => {
            // RFC 2408 section 3.1: a security association in main or aggressive mode, whose responder's cookie is
            // unknown; flags of encryption, commit and authentication only, none of them set.
            let is_first = is_zero(responder) && matches!((next, exchange, flags), (1, 2 | 4, 0)) && number == 0;
            is_first.then_some(Client)
        }
        _ => None,
    }
}

/// Exchanges of IKEv2 that begin an association, RFC 7296 sections 1.2, 3.1 and 2.6, RFC 9242. Later exchanges have
/// either sender: whoever renews the keys is the initiator of the next association (section 2.8).
fn ike_v2((next, exchange, flags): (u8, u8, u8), number: u32, unanswered: bool) -> Option<Speaker> {
    const INITIATOR: u8 = 0x08;
    const RESPONSE: u8 = 0x20;
    const VERSION: u8 = 0x10;
    const SA: u8 = 33;
    const SAFE: u8 = 54;
    const ENCRYPTED: u8 = 46;
    const ENCRYPTED_FRAGMENT: u8 = 53;
    let (is_initiator, is_response) = (flags & INITIATOR != 0, flags & RESPONSE != 0);
    if flags & !(INITIATOR | RESPONSE | VERSION) != 0 {
        return None;
    }
    let fits = match exchange {
        // IKE_SA_INIT: number 0, payloads in the clear; a request does not know the responder's SPI.
        34 => number == 0 && (SA..SAFE).contains(&next) && is_initiator != is_response && (is_response || unanswered),
        // IKE_AUTH, and IKE_INTERMEDIATE before: encrypted.
        35 | 43 => {
            number > 0 && matches!(next, ENCRYPTED | ENCRYPTED_FRAGMENT) && !unanswered && is_initiator != is_response
        }
        _ => false,
    };
    fits.then_some(if is_initiator { Client } else { Server })
}
