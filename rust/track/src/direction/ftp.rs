//! Announcements of FTP data connections: PORT and PASV of RFC 959, EPRT and EPSV of RFC 2428.
//!
//! The kernel's helper (`nf_conntrack_ftp`) calls such a connection related. Its ports do not show its initiator.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use conntrack_base::time::SECOND;
use conntrack_decode::{FiveTuple, Packet, ipproto};

/// Port of FTP's control connections.
const CONTROL: u16 = 21;

/// The lifetime of an announcement, as in nf_conntrack_ftp, and the most by which the data connection may precede its
/// announcement, nanoseconds.
const HOLDS: i64 = 300 * SECOND;
const LATE: i64 = SECOND;
/// The most stored announcements: a bound on memory far beyond ordinary use.
const MOST: usize = 1 << 16;

/// The destination of a data connection (address and port), and the host that will connect.
type DataChannel = (IpAddr, u16, IpAddr);

/// Announcements, with the capture time of the first and the last.
#[derive(Debug, Default)]
pub struct Announcements(HashMap<DataChannel, (i64, i64)>);

/// Test for the ports of an FTP control connection.
#[inline]
pub fn is_control(tuple: &FiveTuple) -> bool {
    tuple.proto == ipproto::TCP && (tuple.sport == CONTROL || tuple.dport == CONTROL)
}

impl Announcements {
    /// Note the announcement in a packet with these record bytes, if the packet is such a control message.
    #[inline]
    pub fn note(&mut self, packet: &Packet, record: &[u8], ts: i64) {
        if let Some(place) = announced(packet, record)
            && (self.0.len() < MOST || self.0.contains_key(&place))
        {
            self.0.entry(place).or_insert((ts, ts)).1 = ts;
        }
    }

    /// Test whether a connection to this address and port by this host, begun at `start`, was announced at about that
    /// time.
    pub fn hold(&self, addr: IpAddr, port: u16, by: IpAddr, start: i64) -> bool {
        self.0
            .get(&(addr, port, by))
            .is_some_and(|(first, last)| (first.saturating_sub(LATE)..=last.saturating_add(HOLDS)).contains(&start))
    }
}

#[inline]
fn announced(packet: &Packet, record: &[u8]) -> Option<DataChannel> {
    if !is_control(&packet.tuple) || packet.bad_checksum {
        return None;
    }
    let [src, dst] = [packet.tuple.src, packet.tuple.dst].map(|addr| addr.ip(packet.tuple.family));
    let (addr, port) = parse(packet, packet.payload_in(record))?;
    // An end announces only its own address, as nf_conntrack_ftp demands without `loose`.
    (addr == src).then_some((addr, port, dst))
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
    use conntrack_decode::Addr;

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
