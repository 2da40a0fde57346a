//! Protocols of devices: CoAP, BACnet and DNP3.

use super::message::Message;
use super::message::Speaker::{self, Client, Server};
use super::message::{agreeing, be16};

/// UDP ports of CoAP: its own, and those of 6LoWPAN (RFC 7252 sections 12.6 and 12.8).
fn is_coap(port: u16) -> bool {
    matches!(port, 5_683 | 61_616..=61_631)
}

/// Code of CoAP, RFC 7252 sections 3 and 12.1, on its port: any four bytes may begin like a message.
pub(super) fn coap(message: &Message<'_>) -> Option<Speaker> {
    agreeing(message.ports, is_coap, || coap_code(message.all()?))
}

fn coap_code(bytes: &[u8]) -> Option<Speaker> {
    let (header, rest) = bytes.split_first_chunk::<4>()?;
    let [first, code, ..] = *header;
    let token = usize::from(first & 0x0f);
    let rest = rest.get(token..).filter(|_| token <= 8 && first >> 6 == 1)?;
    let speaker = match (code >> 5, code & 0x1f, first >> 4 & 0x03) {
        // Requests are confirmable or not, responses may ride on an acknowledgement.
        (0, 1..=7, 0 | 1) => Client,
        (2, 1..=5 | 31, 0..=2) | (4, 0..=6 | 8 | 9 | 12 | 13 | 15 | 22 | 29, 0..=2) | (5, 0..=5 | 8, 0..=2) => Server,
        _ => return None,
    };
    has_coap_options(rest).then_some(speaker)
}

/// Walk the options (RFC 7252 section 3.1), all of them registered, up to the end or a marker with a payload.
fn has_coap_options(mut rest: &[u8]) -> bool {
    let mut number = 0;
    loop {
        let Some((first, more)) = rest.split_first() else { return true };
        if *first == 0xff {
            return !more.is_empty();
        }
        let Some((delta, more)) = coap_nibble(first >> 4, more) else { return false };
        let Some((length, more)) = coap_nibble(first & 0x0f, more) else { return false };
        let Some(more) = more.get(length..) else { return false };
        number += delta;
        if !is_coap_option(number, length) {
            return false;
        }
        rest = more;
    }
}

/// A delta or length, with one or two more bytes behind.
fn coap_nibble(nibble: u8, rest: &[u8]) -> Option<(usize, &[u8])> {
    match nibble {
        0..=12 => Some((nibble.into(), rest)),
        13 => Some((13 + usize::from(*rest.first()?), &rest[1..])),
        14 => Some((269 + usize::from(be16(rest, 0)?), &rest[2..])),
        _ => None,
    }
}

/// Options with their lengths: RFC 7252 section 5.10, RFC 7641, RFC 7959, RFC 7967, RFC 8613, RFC 8768, RFC 9175.
fn is_coap_option(number: usize, length: usize) -> bool {
    let most = match number {
        1 | 4 | 292 => 8,
        3 | 8 | 9 | 11 | 15 | 20 | 39 => 255,
        5 => 0,
        6 | 19 | 23 | 27 | 31 => 3,
        7 | 12 | 17 => 2,
        14 | 28 | 60 => 4,
        16 | 258 => 1,
        35 => 1_034,
        252 => 40,
        _ => return false,
    };
    length <= most
}

/// Services of BACnet (ASHRAE 135 clause 21).
mod service {
    /// Confirmed services that the subscribed device sends: changes of values, and events.
    pub const NOTIFICATIONS: [u8; 3] = [1, 2, 31];
    /// The last registered confirmed service.
    pub const LAST: u8 = 34;
    pub const WHO_HAS: u8 = 7;
    pub const WHO_IS: u8 = 8;
}

/// Message of BACnet/IP (ASHRAE 135 annex J) on its ports: a length equal to the datagram's. Announcements and
/// notifications have either sender.
pub(super) fn bacnet(message: &Message<'_>) -> Option<Speaker> {
    let bytes = message.all()?;
    let ([0x81, function, ..], true) = (bytes, message.has_port(|port| matches!(port, 47_808..=47_823))) else {
        return None;
    };
    if usize::from(be16(bytes, 2)?) != bytes.len() {
        return None;
    }
    let npdu = match (function, bytes.len()) {
        // Registration, and reading of tables.
        (0x05, 6) | (0x02 | 0x06, 4) => return Some(Client),
        (0x00, 6) | (0x03 | 0x07, _) => return Some(Server),
        // Forwarded with the address of the sender; unicast and broadcast.
        (0x04, _) => bytes.get(10..)?,
        (0x09..=0x0b, _) => bytes.get(4..)?,
        _ => return None,
    };
    apdu(behind_npdu(npdu)?)
}

/// The bytes behind the network header (clause 6.2); None for a message of routers.
fn behind_npdu(npdu: &[u8]) -> Option<&[u8]> {
    let ([1, control], mut rest) = npdu.split_first_chunk::<2>()? else { return None };
    if control & 0xd0 != 0 {
        return None;
    }
    let is_routed = control & 0x20 != 0;
    for _ in [0x20, 0x08].iter().filter(|bit| control & **bit != 0) {
        let length = usize::from(*rest.get(2)?);
        rest = rest.get(3 + length..)?;
    }
    // The hop count.
    if is_routed { rest.get(1..) } else { Some(rest) }
}

/// Sender of an application message (clause 20.1).
fn apdu(apdu: &[u8]) -> Option<Speaker> {
    let first = *apdu.first()?;
    let by_server = if first & 0x01 == 0 { Client } else { Server };
    let service_at =
        |at: usize| apdu.get(at).filter(|one| **one <= service::LAST && !service::NOTIFICATIONS.contains(one));
    match (first >> 4, first & 0x0f) {
        // Requests and complex answers in one piece, then in segments.
        (0, 0 | 2) => service_at(3).map(|_| Client),
        (0, 8 | 10 | 12 | 14) => service_at(5).map(|_| Client),
        (3, 0) => service_at(2).map(|_| Server),
        (3, 8 | 12) => service_at(4).map(|_| Server),
        (1, 0) => matches!(apdu.get(1)?, &service::WHO_IS | &service::WHO_HAS).then_some(Client),
        (2, 0) if apdu.len() == 3 => service_at(2).map(|_| Server),
        (5, 0) => service_at(2).map(|_| Server),
        (6, 0) if apdu.len() == 3 => Some(Server),
        // Acknowledged segments and aborts say which end sends.
        (4, 0..=3) if apdu.len() == 4 => Some(by_server),
        (7, 0 | 1) if apdu.len() == 3 => Some(by_server),
        _ => None,
    }
}

/// The port of DNP3 (IEEE 1815 clause 13.2).
pub(super) fn is_dnp3(port: u16) -> bool {
    port == 20_000
}

/// Link header of DNP3 (IEEE 1815 clause 9.2): start, length, and a right checksum. The direction bit is the master's; of
/// an outstation, answers count, and unsolicited responses do not.
pub(super) fn dnp3(message: &Message<'_>, is_datagram: bool) -> Option<Speaker> {
    const MASTER: u8 = 0x80;
    const PRIMARY: u8 = 0x40;
    const RESPONSE: u8 = 0x81;
    let header: &[u8; 10] = message.bytes.first_chunk()?;
    let [0x05, 0x64, 5..=255, control, _, _, _, _, low, high] = *header else { return None };
    if crc(&header[..8]) != u16::from_le_bytes([low, high]) || !has_right_blocks(message, header[2], is_datagram) {
        return None;
    }
    match control & (MASTER | PRIMARY) {
        0 => Some(Server),
        // Transport header, application control, function.
        PRIMARY => (message.bytes.get(12) == Some(&RESPONSE)).then_some(Server),
        _ => Some(Client),
    }
}

/// Test the blocks behind a link header of DNP3 with this length: 16 bytes and a checksum each, as far as captured. Another
/// frame, or nothing, follows.
fn has_right_blocks(message: &Message<'_>, length: u8, is_datagram: bool) -> bool {
    let mut rest = message.bytes.get(10..).unwrap_or_default();
    let mut user = usize::from(length).saturating_sub(5);
    while user > 0 {
        let block = user.min(16);
        let Some((data, checksum)) = rest.get(..block + 2).map(|bytes| bytes.split_at(block)) else {
            // Cut by the capture, or continued in the next segment.
            return !message.whole || !is_datagram;
        };
        if crc(data).to_le_bytes() != *checksum {
            return false;
        }
        (rest, user) = (&rest[block + 2..], user - block);
    }
    rest.is_empty() || rest.starts_with(&[0x05, 0x64])
}

/// CRC-16 of DNP3.
pub(super) fn crc(bytes: &[u8]) -> u16 {
    const REFLECTED: u16 = 0xa6bc;
    !bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 0 { 0 } else { REFLECTED })
    })
}
