//! Zeek's choice of the originator: the first sender, unless ports, an answered SYN+ACK, or a DNS or NTP message
//! contradict.
//!
//! Sources: `WantConnection` of Zeek's TCP and UDP analyzers and `IPBasedAnalyzer::NewConn`,
//! `TCP_Endpoint::CheckHistory`, `DNS_Interpreter::ParseMessage`, `ntp-analyzer.pac`.

use crate::config::ServerPorts;
use crate::connection::{Connection, Evidence};
use crate::flow::{Side, icmp};
use crate::zeek::Roles;
use conntrack_decode::{Addr, Family, L4, Packet, ipproto, tcpflag};

/// UDP ports of the protocols whose messages distinguish query and response.
const DNS: [u16; 4] = [53, 137, 5353, 5355];
const NTP: u16 = 123;

/// Choose the originator of a connection that begins with this packet.
pub fn begin_as_zeek(connection: &mut Connection, packet: &Packet, ports: &ServerPorts) {
    let tuple = &packet.tuple;
    let [from_server, to_server] = [tuple.sport, tuple.dport].map(|port| ports.contains(tuple.proto, port));
    let flips = match packet.l4 {
        L4::Tcp(segment) => {
            let syn = segment.flags & tcpflag::SYN != 0;
            let opens = syn && segment.flags & tcpflag::ACK == 0;
            if opens {
                connection.evidence = Evidence::Syn;
            }
            // Between two servers, the lower port answers; but a SYN+ACK may be a scan.
            !opens && from_server && (!to_server || (!syn && tuple.sport < tuple.dport))
        }
        L4::Udp if tuple.proto == ipproto::UDP => from_server && !to_server,
        L4::Icmp { kind, .. } if icmp::is_request(tuple.proto, kind) => {
            connection.evidence = Evidence::IcmpRequest;
            false
        }
        _ => false,
    };
    let to_everybody = tuple.family == Family::V4 && tuple.dst == Addr::v4([255; 4]);
    if flips && !to_everybody {
        flip(connection, Evidence::ServicePort);
    }
    let asked = connection.key.port(connection.orig.other());
    if tuple.proto == ipproto::UDP && DNS.contains(&asked) && ports.contains(ipproto::UDP, asked) {
        connection.zeek.follow_as_dns();
    }
}

/// Pass the packet to Zeek's TCP analyzer, which may flip the connection.
pub fn follow_zeek(connection: &mut Connection, packet: &Packet, side: Side, ts: i64) {
    let before = connection.orig;
    connection.orig = connection.zeek.note(packet, side, before, Roles::Zeek, ts);
    if connection.orig != before {
        connection.evidence = Evidence::SynAck;
    }
}

/// Pass a message to Zeek's DNS and NTP analyzers, which are attached where their port is a likely server's.
pub fn read_as_zeek(connection: &mut Connection, packet: &Packet, bytes: &[u8], side: Side, ports: &ServerPorts) {
    let is_first = connection.ends.iter().map(|end| end.packets).sum::<u64>() == 1;
    if packet.tuple.proto != ipproto::UDP || side != connection.orig || !is_first {
        return;
    }
    let port = connection.key.port(connection.orig.other());
    let resp = connection.key.addr(connection.orig.other()).ip(connection.key.family);
    let answers = match packet.payload_in(bytes) {
        _ if !ports.contains(ipproto::UDP, port) => false,
        // QR, RFC 1035 section 4.1.1; multicast DNS announces unasked.
        [_, _, flags, ..] if DNS.contains(&port) => flags & 0x80 != 0 && !resp.is_multicast(),
        // Mode 4, server: RFC 5905 section 7.3.
        [first, ..] if port == NTP => first & 7 == 4,
        _ => false,
    };
    if answers {
        flip(connection, Evidence::Payload);
    }
}

fn flip(connection: &mut Connection, evidence: Evidence) {
    connection.orig = connection.orig.other();
    connection.evidence = evidence;
    connection.zeek.flip();
}
