//! Media that a dialog of SIP announces, as `nf_conntrack_sip` reads them with `sip_direct_media=1`: the description in an
//! INVITE (RFC 3261 section 13, RFC 4566) or in an answer to an INVITE names where its sender takes media. Media belong to
//! the sender of the INVITE, whichever end names them.

use std::net::IpAddr;

use conntrack_base::time::SECOND;
use conntrack_decode::{Addr, Family, Packet, ipproto};

use super::fact::{Announcement, Initiator};

/// The port of signalling.
pub(super) const SIGNALLING: u16 = 5_060;
/// The lifetime of an expectation of media, as in `nf_conntrack_sip`, nanoseconds.
const HOLDS: i64 = 180 * SECOND;
/// The most media of a description that are read.
const MOST_MEDIA: usize = 8;
/// The least port of media, as in `process_sdp`.
const FIRST_PORT: u16 = 1_024;
/// Media with a port, `sdp_media_types` of the helper.
const MEDIA: [&str; 3] = ["audio", "video", "image"];

/// Read the description of a whole message. Media come from the address of the signalling alone.
pub(super) fn read(packet: &Packet, payload: &[u8], found: &mut impl FnMut(Announcement)) {
    if !payload.starts_with(b"INVITE ") && !payload.starts_with(b"SIP/2.0 ") {
        return;
    }
    let Some((initiator, body)) =
        std::str::from_utf8(payload).ok().and_then(|text| described(text, packet.tuple.proto))
    else {
        return;
    };
    let own = packet.tuple.src;
    for (addr, port) in media(body).into_iter().flatten() {
        if addr_of(addr, packet.tuple.family) == Some(own) {
            let holds = HOLDS;
            found(Announcement { proto: ipproto::UDP, addr: own, port, initiator, by_receiver: true, holds });
        }
    }
}

fn addr_of(addr: IpAddr, family: Family) -> Option<Addr> {
    match (addr, family) {
        (IpAddr::V4(addr), Family::V4) => Some(Addr::v4(addr.octets())),
        (IpAddr::V6(addr), Family::V6) => Some(Addr::v6(addr.octets())),
        _ => None,
    }
}

/// The description of a message, and the end that sent the INVITE: the sender of a request, the receiver of an answer.
fn described(text: &str, proto: u8) -> Option<(Initiator, &str)> {
    let (head, body) = text.split_once("\r\n\r\n").filter(|(_, body)| !body.is_empty())?;
    let (start, headers) = head.split_once("\r\n")?;
    let field = |long: &str, short: &str| {
        headers.split("\r\n").filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
            let name = name.trim_end();
            let is_it = name.eq_ignore_ascii_case(long) || (!short.is_empty() && name.eq_ignore_ascii_case(short));
            is_it.then_some(value.trim())
        })
    };
    let is_description = field("Content-Type", "c").is_some_and(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim_end().eq_ignore_ascii_case("application/sdp"))
    });
    let is_whole = match field("Content-Length", "l") {
        Some(length) => length.parse() == Ok(body.len()),
        // RFC 3261 section 18.3: only over UDP the datagram ends the message.
        None => proto == ipproto::UDP,
    };
    let mut sequence = field("CSeq", "")?.split_ascii_whitespace();
    let is_invite = sequence.next()?.parse::<u32>().is_ok() && sequence.next() == Some("INVITE");
    if !is_description || !is_whole || !is_invite {
        return None;
    }
    if let Some(status) = start.strip_prefix("SIP/2.0 ") {
        let code = status.split(' ').next()?.parse::<u16>().ok()?;
        return (100..300).contains(&code).then_some((Initiator::Peer, body));
    }
    let target = start.strip_prefix("INVITE ")?.strip_suffix(" SIP/2.0")?;
    (!target.is_empty() && !target.contains(' ')).then_some((Initiator::Named, body))
}

/// Endpoints of media and of their control (RFC 3605, or else the next port); None for a description with a wrong line.
fn media(body: &str) -> Option<Vec<(IpAddr, u16)>> {
    let (mut session, mut found) = (None, Vec::new());
    let mut lines = body.lines().peekable();
    if lines.peek() != Some(&"v=0") {
        return None;
    }
    let mut sections = 0;
    while let Some(line) = lines.next() {
        if let Some(connection) = line.strip_prefix("c=") {
            session = Some(address(connection)?);
        }
        let Some(medium) = line.strip_prefix("m=") else { continue };
        let (mut addr, mut control) = (session, None);
        while let Some(line) = lines.next_if(|line| !line.starts_with("m=")) {
            if let Some(connection) = line.strip_prefix("c=") {
                addr = Some(address(connection)?);
            } else if let Some(port) = line.strip_prefix("a=rtcp:") {
                control = Some(port.split(' ').next()?.parse().ok()?);
            }
        }
        let mut words = medium.split(' ');
        let kind = words.next()?;
        let port: u16 = words.next()?.split('/').next()?.parse().ok()?;
        sections += 1;
        if sections > MOST_MEDIA {
            break;
        }
        // Port 0 declines the medium.
        if port == 0 || !MEDIA.contains(&kind) {
            continue;
        }
        if port < FIRST_PORT {
            return None;
        }
        let addr = addr?;
        found.push((addr, port));
        if kind != "image" {
            found.push((addr, control.unwrap_or(port.checked_add(1)?)));
        }
    }
    Some(found)
}

/// `IN IP4 192.0.2.1`, without a group's scope behind.
fn address(connection: &str) -> Option<IpAddr> {
    let mut words = connection.split(' ');
    let (net, family, addr) = (words.next()?, words.next()?, words.next()?);
    let addr: IpAddr = addr.parse().ok()?;
    (net == "IN" && words.next().is_none() && family == if addr.is_ipv4() { "IP4" } else { "IP6" }).then_some(addr)
}
