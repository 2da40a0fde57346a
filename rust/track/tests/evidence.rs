//! Evidence of single packets: the rung that each names, and the end.

use conntrack_base::time::SECOND;
use conntrack_decode::{Addr, Family, FiveTuple, L4, Packet, Tcp, ipproto, tcpflag};
use conntrack_track::config::Config;
use conntrack_track::connection::{Connection, Evidence, READ_UDP};
use conntrack_track::tracker::Tracker;

const SYN: u8 = tcpflag::SYN;
const ACK: u8 = tcpflag::ACK;
const FIN: u8 = tcpflag::FIN;
const RST: u8 = tcpflag::RST;

/// Packets between two hosts, of which the first has the smaller address.
struct Pair {
    tracker: Tracker,
    now: i64,
}

impl Pair {
    fn new() -> Self {
        Self { tracker: Tracker::new(&Config::default()), now: 0 }
    }

    fn send(&mut self, tuple: FiveTuple, l4: L4, payload: &[u8]) {
        let bytes = payload.len() as u32;
        let packet = Packet {
            tuple,
            packets: 1,
            ip_bytes: 40 + bytes,
            payload_bytes: bytes,
            segment_bytes: bytes,
            datagram_bytes: 40 + bytes,
            complete: true,
            l4,
            payload: (0, bytes),
            ..Packet::default()
        };
        self.now += SECOND / 1000;
        self.tracker.record(std::slice::from_ref(&packet), payload, self.now, |_| ());
    }

    fn tcp(&mut self, tuple: FiveTuple, flags: u8, seq: u32, payload: &[u8]) {
        let l4 = L4::Tcp(Tcp { flags, seq, ack: 1, window: 64_000, ..Tcp::default() });
        self.send(tuple, l4, payload);
    }

    fn connection(&self) -> Connection {
        self.tracker.snapshot().next().expect("a connection")
    }

    /// The evidence, and the test for the first sender as the originator.
    fn named(&self) -> (Evidence, bool) {
        let connection = self.connection();
        (connection.evidence, connection.orig == connection.first)
    }
}

fn tuple(proto: u8, sport: u16, dport: u16) -> FiveTuple {
    let [src, dst] = [1, 2].map(|host| Addr::v4([10, 0, 0, host]));
    FiveTuple { src, dst, sport, dport, proto, family: Family::V4 }
}

fn back(tuple: FiveTuple) -> FiveTuple {
    let FiveTuple { src, dst, sport, dport, .. } = tuple;
    FiveTuple { src: dst, dst: src, sport: dport, dport: sport, ..tuple }
}

#[test]
fn the_first_segment_names_an_end_by_its_flags() {
    let cases = [
        (SYN, 7, Evidence::Syn, true),
        (SYN | ACK, 7, Evidence::SynAck, false),
        (RST | ACK, 0, Evidence::Refused, false),
        (RST | ACK, 7, Evidence::FirstPacket, true),
        (0, 7, Evidence::Scan, true),
        (FIN, 7, Evidence::Scan, true),
        (FIN | ACK, 7, Evidence::FirstPacket, true),
        (ACK, 7, Evidence::FirstPacket, true),
    ];
    for (flags, seq, evidence, is_sender) in cases {
        let mut pair = Pair::new();
        pair.tcp(tuple(ipproto::TCP, 40_000, 50_000), flags, seq, b"");
        assert_eq!(pair.named(), (evidence, is_sender), "flags {flags:#x}, sequence number {seq}");
    }
}

/// Within a conversation they mean an end or a refused segment.
#[test]
fn later_segments_are_no_scan_and_no_refusal() {
    for (flags, seq) in [(0, 7), (FIN, 7), (RST | ACK, 0)] {
        let mut pair = Pair::new();
        let tuple = tuple(ipproto::TCP, 40_000, 50_000);
        pair.tcp(tuple, ACK, 7, b"");
        pair.tcp(back(tuple), flags, seq, b"");
        assert_eq!(pair.named(), (Evidence::FirstPacket, true), "flags {flags:#x}");
    }
}

#[test]
fn an_icmp_query_names_its_sender_and_a_reply_the_receiver() {
    for (kind, evidence, is_sender) in [(8, Evidence::IcmpRequest, true), (0, Evidence::IcmpReply, false)] {
        let mut pair = Pair::new();
        pair.send(tuple(ipproto::ICMP, 0, 0), L4::Icmp { kind, code: 0, id: 5 }, b"");
        assert_eq!(pair.named(), (evidence, is_sender), "type {kind}");
    }
}

#[test]
fn a_tcp_payload_is_read_at_any_time_and_a_udp_payload_in_the_first_packets() {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n";
    for (proto, before, evidence) in [
        (ipproto::TCP, READ_UDP * 2, Evidence::Payload),
        (ipproto::UDP, READ_UDP - 1, Evidence::Payload),
        (ipproto::UDP, READ_UDP, Evidence::FirstPacket),
    ] {
        let mut pair = Pair::new();
        let tuple = tuple(proto, 40_000, 50_000);
        let l4 = if proto == ipproto::TCP { L4::Tcp(Tcp { flags: ACK, ..Tcp::default() }) } else { L4::Udp };
        for _ in 0..before {
            pair.send(tuple, l4, b"");
        }
        pair.send(tuple, l4, ANSWER);
        assert_eq!(pair.named(), (evidence, evidence != Evidence::Payload), "{proto} after {before} packets");
    }
}
