//! Management of networks: SNMP, RADIUS, TFTP, NTP and DHCP.

use super::message::Message;
use super::message::Speaker::{self, Client, Server};
use super::message::{be16, be32};

/// Tags of BER (X.690) in SNMP.
mod tag {
    pub const INTEGER: u8 = 0x02;
    pub const OCTETS: u8 = 0x04;
    pub const SEQUENCE: u8 = 0x30;
}

/// Message of SNMP, whose lengths fill the datagram: versions 1 and 2c (RFC 1157 section 4, RFC 1901 section 3), and
/// version 3 (RFC 3412 section 6).
pub(super) fn snmp(message: &Message<'_>) -> Option<Speaker> {
    let body = only(message.all()?, tag::SEQUENCE)?;
    let (version, rest) = element(body, tag::INTEGER)?;
    match version {
        [0 | 1] => pdu(element(rest, tag::OCTETS)?.1, version[0]),
        [3] => {
            let (header, rest) = element(rest, tag::SEQUENCE)?;
            let (_, rest) = element(rest, tag::OCTETS)?;
            let (id, header) = element(header, tag::INTEGER)?;
            let (size, header) = element(header, tag::INTEGER)?;
            let (flags, header) = element(header, tag::OCTETS)?;
            let model = only(header, tag::INTEGER)?;
            let ([flags @ 0..=7], 1..=4, 1..=4, 1..=4) = (flags, id.len(), size.len(), model.len()) else {
                return None;
            };
            // An encrypted message says by the reportable flag that its sender expects an answer.
            if flags & 2 != 0 {
                only(rest, tag::OCTETS)?;
                return (flags & 4 != 0).then_some(Client);
            }
            let (_, scoped) = element(only(rest, tag::SEQUENCE)?, tag::OCTETS)?;
            pdu(element(scoped, tag::OCTETS)?.1, 3)
        }
        _ => None,
    }
}

/// Sender of a PDU (RFC 3416 section 3, RFC 1157 section 4.1). Traps and informs are their sender's own; a response
/// answers a request or an inform.
fn pdu(bytes: &[u8], version: u8) -> Option<Speaker> {
    let (kind, body, rest) = any_element(bytes)?;
    if !rest.is_empty() {
        return None;
    }
    match (kind, version) {
        // A trap of version 1: enterprise, address, two numbers, time and variables.
        (0xa4, 0) => element(body, 0x06).map(|_| Client),
        (0xa4, _) | (0xa5..=0xa8, 0) => None,
        (0xa0..=0xa8, _) => {
            let (_, rest) = element(body, tag::INTEGER)?;
            let (_, rest) = element(rest, tag::INTEGER)?;
            let (_, rest) = element(rest, tag::INTEGER)?;
            only(rest, tag::SEQUENCE)?;
            Some(if matches!(kind, 0xa2 | 0xa8) { Server } else { Client })
        }
        _ => None,
    }
}

/// An element of BER with a definite length: tag, content, and the bytes behind.
fn any_element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match head[1] {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(be16(rest, 0)?), &rest[2..]),
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((head[0], content, rest))
}

/// The content of an element with this tag, and the bytes behind.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    any_element(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// The content of the only element, with this tag.
fn only(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    element(bytes, tag).filter(|(_, rest)| rest.is_empty()).map(|(content, _)| content)
}

/// Code of RADIUS, RFC 2865 section 3, RFC 2866 section 3, RFC 5176 section 2.3 and RFC 5997: a length equal to the
/// datagram's, and attributes that fill the length. Without attributes, a port of the protocol is the only proof.
pub(super) fn radius(message: &Message<'_>) -> Option<Speaker> {
    const HEADER: usize = 20;
    let bytes = message.all()?;
    if usize::from(be16(bytes, 2)?) != bytes.len() {
        return None;
    }
    let mut attributes = bytes.get(HEADER..)?;
    let is_known = !attributes.is_empty() || message.has_port(|port| matches!(port, 1645 | 1646 | 1812 | 1813 | 3799));
    while !attributes.is_empty() {
        let length = usize::from(*attributes.get(1)?);
        attributes = attributes.get(length..).filter(|_| length > 2)?;
    }
    match bytes[0] {
        _ if !is_known => None,
        // Access, accounting and status requests; disconnect and change of authorization.
        1 | 4 | 12 | 40 | 43 => Some(Client),
        2 | 3 | 5 | 11 | 41 | 42 | 44 | 45 => Some(Server),
        _ => None,
    }
}

/// Read or write request, RFC 1350 section 5; the data come from another port of the server.
pub(super) fn tftp(message: &Message<'_>) -> Option<Speaker> {
    is_tftp_request(message.all()?).then_some(Client)
}

/// Test for an opcode, a name and a mode, and for pairs of options behind (RFC 2347 section 2).
pub(in crate::direction) fn is_tftp_request(bytes: &[u8]) -> bool {
    let ([0, 1 | 2, rest @ ..], Some(0)) = (bytes, bytes.last()) else { return false };
    let mut words = rest[..rest.len() - 1].split(|byte| *byte == 0);
    let is_named = words.next().is_some_and(|name| !name.is_empty() && name.iter().all(|byte| *byte >= b' '));
    let is_mode = words.next().is_some_and(|mode| {
        [b"octet".as_slice(), b"netascii", b"mail"].iter().any(|known| mode.eq_ignore_ascii_case(known))
    });
    is_named && is_mode && words.clone().count().is_multiple_of(2) && words.all(<[u8]>::is_ascii)
}

/// Version and mode of NTP, RFC 5905 section 7.3: a known stratum, a poll exponent up to MAXPOLL, a precision below a
/// second (or the 32 of clients that tell nothing), and words.
pub(super) fn ntp(message: &Message<'_>) -> Option<Speaker> {
    const HEADER: usize = 48;
    let [first, 0..=16, 0..=17, 0 | 32 | 0xe0..=0xff, ..] = *message.bytes else { return None };
    if message.length < HEADER || !message.length.is_multiple_of(4) {
        return None;
    }
    match (first >> 3 & 7, first & 7) {
        (1..=4, 3) => Some(Client),
        (1..=4, 4) => Some(Server),
        _ => None,
    }
}

/// Operation of BOOTP and DHCP, RFC 2131 section 2: the fixed fields, and flags without a reserved bit.
pub(super) fn bootp(message: &Message<'_>) -> Option<Speaker> {
    const FIXED: usize = 236;
    let [operation @ 1..=2, 1..=32, 0..=16, ..] = *message.bytes else { return None };
    if message.length < FIXED || be32(message.bytes, 8)? & 0x7fff != 0 {
        return None;
    }
    Some(if operation == 1 { Client } else { Server })
}
