//! Data connections of FTP: PORT and PASV of RFC 959, EPRT and EPSV of RFC 2428, as `nf_conntrack_ftp` reads them.

use std::net::{IpAddr, Ipv4Addr};

use conntrack_base::time::SECOND;
use conntrack_decode::{Packet, ipproto};

use super::fact::{Announcement, Initiator};

/// Port of control connections.
pub(super) const CONTROL: u16 = 21;
/// The lifetime of an expectation, as in `nf_conntrack_ftp`, nanoseconds.
const HOLDS: i64 = 300 * SECOND;

/// Read an announcement of the sender's own address, as `nf_conntrack_ftp` demands without `loose`. The receiver connects.
pub(super) fn read(packet: &Packet, payload: &[u8]) -> Option<Announcement> {
    let (addr, port) = parse(packet, payload)?;
    (addr == packet.tuple.src.ip(packet.tuple.family)).then_some(Announcement {
        proto: ipproto::TCP,
        addr: packet.tuple.src,
        port,
        initiator: Initiator::Peer,
        by_receiver: true,
        holds: HOLDS,
    })
}

fn parse(packet: &Packet, payload: &[u8]) -> Option<(IpAddr, u16)> {
    let line = payload.split(|byte| *byte == b'\r').next()?;
    let text = std::str::from_utf8(line).ok()?;
    let (command, rest) = text.split_at_checked(4)?;
    // The client sends PORT and EPRT, the server the answers.
    let by_server = packet.tuple.sport == CONTROL;
    if by_server != command.starts_with("22") {
        return None;
    }
    match command {
        "PORT" => address_and_port(rest),
        "227 " | "227-" => address_and_port(rest.split_once('(')?.1.split_once(')')?.0),
        "EPRT" => {
            let (_, addr, port) = extended(rest.trim_start())?;
            Some((addr.parse().ok()?, port))
        }
        "229 " | "229-" => {
            let (_, _, port) = extended(rest.split_once('(')?.1.split_once(')')?.0)?;
            Some((packet.tuple.src.ip(packet.tuple.family), port))
        }
        _ => None,
    }
}

/// `h1,h2,h3,h4,p1,p2`.
fn address_and_port(text: &str) -> Option<(IpAddr, u16)> {
    let mut bytes = [0_u8; 6];
    let mut numbers = text.trim().split(',');
    for byte in &mut bytes {
        *byte = numbers.next()?.trim().parse().ok()?;
    }
    let [a, b, c, d, high, low] = bytes;
    numbers.next().is_none().then_some((Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low])))
}

/// `|1|192.0.2.1|5000|` with any delimiter; of EPSV's answer, the first two are empty.
fn extended(text: &str) -> Option<(&str, &str, u16)> {
    let delimiter = text.chars().next()?;
    let mut parts = text.strip_prefix(delimiter)?.split(delimiter);
    Some((parts.next()?, parts.next()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use conntrack_decode::{Addr, FiveTuple};

    #[test]
    fn four_ways_to_say_it() {
        let tuple = FiveTuple { src: Addr::v4([192, 0, 2, 7]), ..FiveTuple::default() };
        let of = |text: &str| {
            let sport = if text.starts_with('2') { CONTROL } else { 40_000 };
            let packet = Packet { tuple: FiveTuple { sport, ..tuple }, ..Packet::default() };
            parse(&packet, text.as_bytes()).map(|(addr, port)| format!("{addr} {port}"))
        };
        assert_eq!(of("PORT 192,0,2,1,19,137\r\n").as_deref(), Some("192.0.2.1 5001"));
        assert_eq!(of("227 Entering Passive Mode (192,0,2,2,19,137).\r\n").as_deref(), Some("192.0.2.2 5001"));
        assert_eq!(of("EPRT |2|2001:db8::1|5001|\r\n").as_deref(), Some("2001:db8::1 5001"));
        assert_eq!(of("229 Entering Extended Passive Mode (|||5001|)\r\n").as_deref(), Some("192.0.2.7 5001"));
        for text in
            ["", "PORT", "PORT 1,2,3", "PORT 1,2,3,4,5,6,7", "PORT 1,2,3,4,5,256", "EPRT", "229 (|||x|)", "227 ("]
        {
            assert_eq!(of(text), None, "{text:?}");
        }
    }
}
