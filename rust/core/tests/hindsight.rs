//! Initiators from the whole capture: the rung that the connections of a capture give to one that shows none.

use std::sync::Arc;

use conntrack_core::config::{Config, ServerPorts};
use conntrack_core::connection::Evidence;
use conntrack_core::decode::{Addr, Family, FiveTuple, L4, Packet, Tcp, ipproto, tcpflag};
use conntrack_core::direction::{Expectations, Locality};
use conntrack_core::hindsight::{Hints, settle};
use conntrack_core::rows::Finished;
use conntrack_core::time::SECOND;
use conntrack_core::tracker::Tracker;

const SYN: u8 = tcpflag::SYN;
const ACK: u8 = tcpflag::ACK;
const RST: u8 = tcpflag::RST;

/// The last byte of an address, and a port.
type End = (u8, u16);
/// The first window of a Linux host that connects, and of one that accepts.
const CONNECTS: u16 = 502;
const ACCEPTS: u16 = 510;

fn packet(proto: u8, (src, sport): End, (dst, dport): End, l4: L4, bytes: u32) -> Packet {
    let [src, dst] = [src, dst].map(|host| Addr::v4(if host == 255 { [224, 0, 0, 9] } else { [10, 0, 0, host] }));
    let tuple = FiveTuple { src, dst, sport, dport, proto, family: Family::V4 };
    let ip_bytes = 40 + bytes;
    Packet {
        tuple,
        l4,
        packets: 1,
        ip_bytes,
        payload_bytes: bytes,
        segment_bytes: bytes,
        complete: true,
        ..Packet::default()
    }
}

fn segment(from: End, to: End, flags: u8, bytes: u32) -> Packet {
    packet(ipproto::TCP, from, to, L4::Tcp(Tcp { flags, seq: 1, ack: 1, window: 64_000, ..Tcp::default() }), bytes)
}

/// A segment with timestamps, whose window tells its sender.
fn stamped(from: End, to: End, window: u16) -> Packet {
    let l4 = Tcp { flags: ACK, seq: 1, ack: 1, window, timestamps: true, ..Tcp::default() };
    packet(ipproto::TCP, from, to, L4::Tcp(l4), 1)
}

/// A segment in mid-stream.
fn middle(from: End, to: End) -> Packet {
    segment(from, to, ACK, 1)
}

fn datagram(from: End, to: End) -> Packet {
    packet(ipproto::UDP, from, to, L4::Udp, 10)
}

/// A connection that was accepted, from its SYN on.
fn opened(from: End, to: End) -> Vec<Packet> {
    vec![segment(from, to, SYN, 0), segment(to, from, SYN | ACK, 0), segment(from, to, ACK, 0)]
}

/// The originator and the evidence of every connection of a capture, whose packets have these times in seconds.
fn all_judged(packets: &[(i64, Packet)]) -> Vec<(End, Evidence)> {
    let config = Config::default();
    let (mut tracker, mut closed) = (Tracker::new(&config), Vec::new());
    for (at, packet) in packets {
        tracker.advance(at * SECOND, |gone| closed.push(gone.clone()));
        tracker.record(std::slice::from_ref(packet), &[], at * SECOND, |gone| closed.push(gone.clone()));
    }
    tracker.finish(|gone| closed.push(gone.clone()));
    let mut rows = Finished::new(Arc::new(Locality::new(&config)));
    for gone in &closed {
        rows.insert(gone);
    }
    let mut rows = rows.in_order();
    let (ports, expected) = (ServerPorts::services(), Expectations::default());
    settle(&mut rows, &Hints { ports: &ports, expected: &expected, files: &[], udp_timeout: 30 * SECOND });
    rows.iter().map(|row| ((row.addr(0).0 as u8, row.port(0)), row.evidence())).collect()
}

/// The originator and the evidence of the first connection.
fn judged(packets: &[Packet]) -> (End, Evidence) {
    all_judged(&packets.iter().map(|packet| (0, *packet)).collect::<Vec<_>>())[0]
}

/// Both ends of a connection in mid-stream, either of which may send first.
const ONE: End = (1, 50_000);
const OTHER: End = (2, 50_001);

#[track_caller]
fn assert_rung(packets: &[Packet], orig: End, evidence: Evidence) {
    assert_eq!(judged(packets), (orig, evidence));
}

#[test]
fn nothing_names_an_end_of_a_segment_between_ports_of_one_range() {
    assert_rung(&[middle(ONE, OTHER)], ONE, Evidence::Unknown);
    assert_rung(&[middle(OTHER, ONE)], OTHER, Evidence::Unknown);
}

#[test]
fn ports_of_clients_and_services() {
    for client in [1_024, 4_999, 32_768, 49_152] {
        assert_rung(&[middle((2, 21_477), (1, client))], (1, client), Evidence::EphemeralPort);
    }
    assert_rung(&[middle((2, 32_767), (1, 1_024))], (1, 1_024), Evidence::EphemeralPort);
    // Privileged clients bind ports below 1024, too.
    assert_rung(&[middle((2, 1_023), (1, 32_767))], (2, 1_023), Evidence::Unknown);
    assert_rung(&[middle((2, 1_023), (1, 32_768))], (1, 32_768), Evidence::EphemeralPort);
    assert_rung(&[middle((2, 53), (1, 8_080))], (2, 53), Evidence::Unknown);
    assert_rung(&[middle((2, 443), (1, 1_024))], (1, 1_024), Evidence::ServicePort);
    // Of two services the system port is one by right, but for ports that clients of NFS reserve.
    assert_rung(&[middle((2, 443), (1, 8_080))], (1, 8_080), Evidence::ServicePort);
    // The server of active FTP connects.
    assert_rung(&[middle((1, 40_000), (2, 20))], (2, 20), Evidence::ServicePort);
}

#[test]
fn windows_are_evidence_and_acknowledgements_are_none() {
    assert_rung(&[stamped(OTHER, ONE, ACCEPTS), stamped(ONE, OTHER, CONNECTS)], ONE, Evidence::Window);
    assert_rung(&[stamped(OTHER, ONE, ACCEPTS)], ONE, Evidence::Window);
    assert_rung(&[stamped(OTHER, ONE, CONNECTS)], OTHER, Evidence::Window);
    assert_rung(&[stamped(OTHER, ONE, CONNECTS), stamped(ONE, OTHER, CONNECTS)], OTHER, Evidence::Unknown);
    assert_rung(&[middle(OTHER, ONE), segment(ONE, OTHER, ACK, 0)], OTHER, Evidence::Unknown);
    assert_rung(&[middle(ONE, OTHER), segment(ONE, OTHER, ACK, 0)], ONE, Evidence::Unknown);
}

#[test]
fn a_listener_accepts_and_never_initiates() {
    let found = |others: &[Vec<Packet>]| judged(&[vec![middle(OTHER, ONE)], others.concat()].concat());
    assert_eq!(found(&[opened((3, 7_000), OTHER)]), (ONE, Evidence::Listener));
    // The end that also initiates from that port is no listener; a refused SYN shows none.
    assert_ne!(found(&[opened((3, 7_000), OTHER), opened(OTHER, (4, 7_001))]).1, Evidence::Listener);
    let refused = vec![segment((3, 7_000), OTHER, SYN, 0), segment(OTHER, (3, 7_000), RST | ACK, 0)];
    assert_ne!(found(&[refused]).1, Evidence::Listener);
}

#[test]
fn three_peers_make_a_meeting_place() {
    let meet = |peers: &[End]| judged(&peers.iter().map(|peer| middle(OTHER, *peer)).collect::<Vec<_>>());
    assert_eq!(meet(&[ONE, (3, 50_002)]).1, Evidence::Unknown);
    assert_eq!(meet(&[ONE, (3, 50_002), (4, 50_003)]), (ONE, Evidence::ManyPeers));
}

#[test]
fn roles_of_the_hosts_elsewhere() {
    let found = |others: &[Vec<Packet>]| judged(&[vec![middle(OTHER, ONE)], others.concat()].concat());
    assert_eq!(found(&[opened((1, 41_000), (2, 443))]), (ONE, Evidence::Role), "between the two, one is enough");
    let asks = [1, 2, 3].map(|port| opened((1, port + 41_000), (9, 443)));
    assert_eq!(found(&asks[..2]).1, Evidence::Unknown);
    assert_eq!(found(&asks), (ONE, Evidence::Role));
    let answers = [1, 2, 3].map(|port| opened((9, port + 41_000), (2, 443)));
    assert_eq!(found(&answers[..2]).1, Evidence::Unknown);
    assert_eq!(found(&answers).1, Evidence::Unknown, "a server may call out");
    let both = [asks.concat(), opened((8, 43_000), (1, 22))];
    assert_eq!(found(&both).1, Evidence::Unknown, "a host that does both");
}

#[test]
fn udp_by_its_answer_and_its_ports() {
    assert_rung(&[datagram(OTHER, ONE)], OTHER, Evidence::FirstPacket);
    assert_rung(&[datagram(OTHER, ONE), datagram(ONE, OTHER)], OTHER, Evidence::Answered);
    // Equal ports: both may be servers, and the first sender initiated.
    let (one, other) = ((1, 123), (2, 123));
    assert_rung(&[datagram(other, one), datagram(one, other)], other, Evidence::Answered);
    assert_rung(&[datagram((255, 9_000), (1, 9_001))], (1, 9_001), Evidence::Multicast);
}

#[test]
fn silence_names_the_first_sender() {
    let others = |until: i64| (0..=until / 10).map(|at| (at * 10, datagram((8, 40_000), (9, 53))));
    let first = |gap: i64, one: End, other: End| {
        let asked = [(gap, datagram(one, other)), (gap + 1, datagram(other, one))];
        all_judged(&others(gap).chain(asked).collect::<Vec<_>>()).into_iter().find(|(end, _)| end.0 != 8)
    };
    assert_eq!(first(31, OTHER, ONE), Some((OTHER, Evidence::AfterSilence)));
    assert_eq!(first(30, OTHER, ONE), Some((OTHER, Evidence::Answered)));
    assert_eq!(first(31, (2, 51_820), (1, 60_000)), Some(((2, 51_820), Evidence::AfterSilence)));
    assert_eq!(
        first(31, (2, 443), (1, 60_000)),
        Some(((1, 60_000), Evidence::ServicePort)),
        "a server of QUIC only answers"
    );
}

#[test]
fn push_names_the_sender_of_data_that_nobody_answers() {
    assert_rung(&[datagram((2, 514), (1, 31_234))], (2, 514), Evidence::Push);
    assert_rung(&[datagram((2, 31_234), (1, 514))], (2, 31_234), Evidence::ServicePort);
    assert_eq!(judged(&[datagram((2, 514), (1, 40_000)), datagram((1, 40_000), (2, 514))]).1, Evidence::ServicePort);
}

#[test]
fn a_reset_is_no_answer() {
    let (client, server) = ((1, 40_000), (2, 443));
    let reset = segment(server, client, RST, 0);
    assert_rung(&[segment(client, server, ACK, 0), reset], client, Evidence::Scan);
    assert_rung(&[middle(client, server), reset], client, Evidence::Unknown);
    assert_rung(&[middle(client, server), middle(server, client), reset], client, Evidence::ServicePort);
}

#[test]
fn a_syn_ack_alone_answers_a_forged_syn() {
    let answer = segment(OTHER, ONE, SYN | ACK, 0);
    assert_rung(&[answer], ONE, Evidence::Backscatter);
    assert_rung(&[answer, segment(ONE, OTHER, RST, 0)], ONE, Evidence::Backscatter);
    assert_rung(&[answer, segment(ONE, OTHER, ACK, 0)], ONE, Evidence::SynAck);
}

#[test]
fn a_scan_or_a_refusal_that_was_followed_by_data_is_none() {
    assert_eq!(judged(&[segment(ONE, OTHER, 0, 0)]).1, Evidence::Scan);
    assert_ne!(judged(&[segment(ONE, OTHER, 0, 0), middle(OTHER, ONE)]).1, Evidence::Scan);
}

/// A timeout cuts a connection in two: the better evidence holds for both, whichever comes first.
#[test]
fn rows_of_one_five_tuple_have_one_initiator() {
    let asked = [(0, datagram(ONE, OTHER)), (1, datagram(OTHER, ONE))];
    let later = |seconds: i64| [(seconds, datagram(OTHER, ONE)), (seconds + 1, datagram(ONE, OTHER))];
    let found = all_judged(&[asked, later(1000)].concat());
    assert_eq!(found, [(ONE, Evidence::Answered), (ONE, Evidence::SeenBefore)]);
    let syn = opened(ONE, OTHER).into_iter().map(|packet| (1_000_000, packet));
    let found = all_judged(&std::iter::once((0, middle(OTHER, ONE))).chain(syn).collect::<Vec<_>>());
    assert_eq!(found.iter().map(|(orig, _)| *orig).collect::<Vec<_>>(), [ONE, ONE]);
    // A row alone keeps its own.
    assert_eq!(all_judged(&later(0)), [(OTHER, Evidence::Answered)]);
}
