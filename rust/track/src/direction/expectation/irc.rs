//! Direct connections between clients of IRC (DCC), as `nf_conntrack_irc` reads them: a client names its own address and
//! port to the server, and any host may connect.

use std::net::Ipv4Addr;

use conntrack_base::time::SECOND;
use conntrack_decode::{Addr, Family, Packet, ipproto};

use super::fact::{Announcement, Initiator};

/// The port of servers.
pub(super) const SERVER: u16 = 6_667;
/// The lifetime of an expectation, `dcc_timeout` of the helper, nanoseconds.
const HOLDS: i64 = 300 * SECOND;
/// Kinds of connections, `dccprotos` of the helper.
const KINDS: [&str; 5] = ["SEND", "CHAT", "MOVE", "TSEND", "SCHAT"];

/// Read lines with a request in CTCP's quotes: kind, argument, address as a number, and port.
pub(super) fn read(packet: &Packet, payload: &[u8], found: &mut impl FnMut(Announcement)) {
    for line in payload.split(|byte| *byte == b'\n') {
        let Some(addr) = std::str::from_utf8(line).ok().and_then(request) else { continue };
        let (ip, port) = addr;
        if packet.tuple.family == Family::V4 && Addr::v4(ip.octets()) == packet.tuple.src {
            found(Announcement {
                proto: ipproto::TCP,
                addr: packet.tuple.src,
                port,
                initiator: Initiator::Peer,
                by_receiver: false,
                holds: HOLDS,
            });
        }
    }
}

fn request(line: &str) -> Option<(Ipv4Addr, u16)> {
    let (command, quoted) = line.split_once('\u{1}')?;
    let text = quoted.split_once('\u{1}')?.0;
    let is_message = command.starts_with("PRIVMSG ") || (command.starts_with(':') && command.contains(" PRIVMSG "));
    let mut words = text.strip_prefix("DCC ").filter(|_| is_message)?.split(' ');
    words.next().filter(|kind| KINDS.contains(kind))?;
    words.next().filter(|argument| !argument.is_empty())?;
    let addr: u32 = words.next()?.parse().ok()?;
    let port: u16 = words.next()?.parse().ok()?;
    // Port 0 asks the other client to listen.
    (port > 0).then_some((addr.into(), port))
}
