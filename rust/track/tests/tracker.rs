//! The tracker on packets made by hand: connections opened, closed, timed out and reused, by capture time alone.

use conntrack_base::time::SECOND;
use conntrack_decode::testkit::whole;
use conntrack_decode::{Addr, Family, FiveTuple};
use conntrack_decode::{L4, Packet, Tcp, TunnelMode, Vlan, ipproto, tcpflag};
use conntrack_track::config::Config;
use conntrack_track::connection::{EndReason, Evidence};
use conntrack_track::proto::{CtDir, CtState, State, Status};
use conntrack_track::tracker::{Closed, Label, Tracker};

const SYN: u8 = tcpflag::SYN;
const ACK: u8 = tcpflag::ACK;
const FIN: u8 = tcpflag::FIN;
const RST: u8 = tcpflag::RST;

const CLIENT: (u8, u16) = (1, 40_000);
const SERVER: (u8, u16) = (2, 443);

/// A tracker, its closed connections, and the sequence numbers of the two ends.
struct Run {
    tracker: Tracker,
    closed: Vec<Closed>,
    next: [u32; 2],
}

impl Run {
    fn new(config: &Config) -> Self {
        Self { tracker: Tracker::new(config), closed: Vec::new(), next: [1000, 9000] }
    }

    fn feed(&mut self, packet: &Packet, ts: i64) -> Label {
        let closed = &mut self.closed;
        self.tracker.advance(ts, |gone| closed.push(gone.clone()));
        self.tracker.record(std::slice::from_ref(packet), &[], ts, |gone| closed.push(gone.clone()))
    }

    /// A segment from the client or the server, with sequence numbers that fit.
    fn tcp(&mut self, from_client: bool, flags: u8, payload: u32, ts: i64) -> Label {
        let (own, peer) = if from_client { (0, 1) } else { (1, 0) };
        let ack = if flags & ACK != 0 { self.next[peer] } else { 0 };
        let l4 = Tcp { seq: self.next[own], ack, window: 64_000, flags, ..Tcp::default() };
        self.next[own] += payload + u32::from(flags & (SYN | FIN) != 0);
        let (src, dst) = if from_client { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
        self.feed(&packet(src, dst, ipproto::TCP, L4::Tcp(l4), payload), ts)
    }

    fn udp(&mut self, from_client: bool, ts: i64) -> Label {
        let (src, dst) = if from_client { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
        self.feed(&packet(src, dst, ipproto::UDP, L4::Udp, 10), ts)
    }

    fn handshake(&mut self, ts: i64) {
        self.tcp(true, SYN, 0, ts);
        self.tcp(false, SYN | ACK, 0, ts + 1);
        self.tcp(true, ACK, 0, ts + 2);
    }

    /// All tracked connections, in the order of first packets.
    fn finish(mut self) -> Vec<Closed> {
        let closed = &mut self.closed;
        self.tracker.finish(|gone| closed.push(gone.clone()));
        self.closed.sort_by_key(|closed| closed.connection().id);
        self.closed
    }
}

fn packet(src: (u8, u16), dst: (u8, u16), proto: u8, l4: L4, payload: u32) -> Packet {
    let tuple = FiveTuple {
        src: Addr::v4([10, 0, 0, src.0]),
        dst: Addr::v4([10, 0, 0, dst.0]),
        sport: src.1,
        dport: dst.1,
        proto,
        family: Family::V4,
    };
    whole(tuple, l4, payload)
}

fn icmp(src: u8, dst: u8, kind: u8, id: u16) -> Packet {
    let l4 = L4::Icmp { kind, code: 0, id };
    Packet { flow_id: id, ..packet((src, kind as u16), (dst, 0), ipproto::ICMP, l4, 8) }
}

#[test]
fn a_whole_connection() {
    let mut run = Run::new(&Config::default());
    run.handshake(0);
    let request = run.tcp(true, ACK, 100, 3);
    assert_eq!((request.ctstate, request.ctdir), (CtState::Established, CtDir::Original));
    let answer = run.tcp(false, ACK, 100_000, 4);
    assert_eq!((answer.ctstate, answer.ctdir, answer.state), (CtState::Established, CtDir::Reply, State::Established));
    run.tcp(true, ACK, 0, 5);
    run.tcp(false, FIN | ACK, 0, 6);
    run.tcp(true, FIN | ACK, 0, 7);
    run.tcp(false, ACK, 0, 8);
    let closed = run.finish();
    let [only] = &closed[..] else { panic!("one connection, not {}", closed.len()) };
    assert_eq!(only.reason, EndReason::Closed);
    assert_eq!(only.connection().state(), State::TimeWait);
    assert_eq!(only.connection().status, Status { seen_reply: true, assured: true });
    assert_eq!((only.connection().start, only.connection().end), (0, 8));
    let orig = only.connection().orig;
    assert_eq!(only.connection().key.ports(orig), (40_000, 443));
    assert_eq!(only.connection().ends[orig as usize].payload_bytes, 100);
    assert_eq!(only.connection().ends[orig.other() as usize].payload_bytes, 100_000);
}

#[test]
fn a_syn_ack_names_its_receiver() {
    let mut run = Run::new(&Config::default());
    let label = run.tcp(false, SYN | ACK, 0, 0);
    assert_eq!((label.ctstate, label.ctdir), (CtState::Invalid, CtDir::None));
    run.tcp(true, ACK, 10, 1);
    let closed = run.finish();
    let connection = &closed[0].connection();
    assert_eq!(closed.len(), 1);
    assert_eq!(connection.evidence, Evidence::SynAck);
    assert!(connection.flipped());
    assert_eq!(connection.key.ports(connection.orig), (40_000, 443));
    assert_eq!(connection.ends[connection.orig as usize].payload_bytes, 10);
}

#[test]
fn a_syn_after_a_syn_ack_confirms_it() {
    let mut run = Run::new(&Config::default());
    run.tcp(false, SYN | ACK, 0, 0);
    run.tcp(true, SYN, 0, 1);
    let closed = run.finish();
    assert_eq!((closed.len(), closed[0].connection().evidence), (1, Evidence::Syn));
}

#[test]
fn a_refused_attempt_and_the_next() {
    let mut run = Run::new(&Config::default());
    run.tcp(true, SYN, 0, 0);
    let refusal = run.tcp(false, RST | ACK, 0, 1);
    assert_eq!((refusal.ctdir, refusal.state), (CtDir::Reply, State::None));
    run.tcp(true, SYN, 0, 2);
    let closed = run.finish();
    assert_eq!(closed.len(), 2);
    assert_eq!((closed[0].reason, closed[1].reason), (EndReason::Reset, EndReason::EndOfCapture));
}

#[test]
fn an_echo_of_a_refused_attempt_is_no_new_connection() {
    let mut run = Run::new(&Config::default());
    run.tcp(true, SYN, 0, 0);
    run.tcp(false, RST | ACK, 0, 1);
    run.tcp(false, RST | ACK, 0, 2);
    assert_eq!(run.finish().len(), 1);
}

#[test]
fn time_wait_is_reopened() {
    let mut run = Run::new(&Config::default());
    run.handshake(0);
    run.tcp(true, FIN | ACK, 0, 3);
    run.tcp(false, FIN | ACK, 0, 4);
    run.tcp(true, ACK, 0, 5);
    let again = run.tcp(true, SYN, 0, SECOND);
    assert_eq!((again.connection, again.ctstate, again.state), (Some(1), CtState::New, State::SynSent));
    let closed = run.finish();
    assert_eq!((closed.len(), closed[0].reason), (2, EndReason::Closed));
}

#[test]
fn a_timeout_splits_at_its_very_moment() {
    for (gap, expected) in [(30 * SECOND - 1, 1), (30 * SECOND, 2)] {
        let mut run = Run::new(&Config::default());
        run.udp(true, 0);
        run.udp(true, gap);
        let closed = run.finish();
        assert_eq!(closed.len(), expected);
        if expected == 2 {
            assert_eq!((closed[0].reason, closed[1].connection().start), (EndReason::Timeout, gap));
        }
    }
}

#[test]
fn a_udp_stream_is_assured_after_two_seconds() {
    let mut run = Run::new(&Config::default());
    run.udp(true, 0);
    assert_eq!(run.udp(false, SECOND).state, State::Replied);
    assert_eq!(run.udp(true, 2 * SECOND).state, State::Replied);
    assert_eq!(run.udp(true, 2 * SECOND + 1).state, State::Assured);
    assert_eq!(run.udp(true, 100 * SECOND).connection, Some(0));
}

#[test]
fn idle_connections_leave_memory() {
    let mut run = Run::new(&Config::default());
    run.udp(true, 0);
    for second in 60..200 {
        run.feed(&packet((7, 7), (8, 8), ipproto::UDP, L4::Udp, 1), second * SECOND);
    }
    assert_eq!(run.tracker.snapshot().count(), 1);
    assert_eq!(run.closed.len(), 1);
    assert_eq!(run.tracker.peak(), 2);
}

#[test]
fn ping_both_ways() {
    let mut run = Run::new(&Config::default());
    run.feed(&icmp(1, 2, 8, 77), 0);
    let reply = run.feed(&icmp(2, 1, 0, 77), 1);
    assert_eq!((reply.connection, reply.ctstate, reply.ctdir), (Some(0), CtState::Established, CtDir::Reply));
    let other = run.feed(&icmp(2, 1, 8, 77), 2);
    assert_eq!((other.connection, other.ctdir), (Some(1), CtDir::Original));
    let stray = run.feed(&icmp(3, 4, 0, 77), 3);
    assert_eq!(stray.ctstate, CtState::Invalid);
    let closed = run.finish();
    assert_eq!(closed[2].connection().evidence, Evidence::IcmpReply);
    assert_eq!(closed[2].connection().key.ports(closed[2].connection().orig), (8, 0));
}

#[test]
fn an_icmp_error_is_related_to_what_it_quotes() {
    let mut run = Run::new(&Config::default());
    run.udp(true, 0);
    let quoted = packet(CLIENT, SERVER, ipproto::UDP, L4::Udp, 10).tuple;
    let l4 = L4::IcmpError { kind: 3, code: 3, quoted: Some(quoted), quoted_id: 0 };
    let error = packet((9, 3), (1, 3), ipproto::ICMP, l4, 36);
    let label = run.feed(&error, 1);
    assert_eq!((label.connection, label.ctstate, label.ctdir), (Some(0), CtState::Related, CtDir::Reply));
    // The error travels in the direction of the responder's packets, from any sender.
    let nearer = packet((0, 3), (1, 3), ipproto::ICMP, l4, 36);
    assert_eq!(run.feed(&nearer, 1).side, label.side);
    let elsewhere = packet((9, 3), (5, 3), ipproto::ICMP, l4, 36);
    assert_eq!(run.feed(&elsewhere, 2).ctstate, CtState::Invalid);
    let closed = run.finish();
    assert_eq!(closed[0].connection().ends.map(|end| end.packets).iter().sum::<u64>(), 1);
    assert_ne!(label.side, closed[0].connection().orig);
    assert_eq!(closed[1].connection().related_to, Some(0));
    assert_eq!(closed[2].connection().related_to, Some(0));
    assert_eq!(closed[3].connection().related_to, None);
}

#[test]
fn later_fragments_add_bytes_and_the_last_one_is_judged() {
    let mut run = Run::new(&Config::default());
    let first = run.feed(&Packet { fragment: true, complete: false, ..icmp(1, 2, 8, 5) }, 0);
    assert_eq!((first.connection, first.ctstate, first.state), (Some(0), CtState::Untracked, State::None));
    let later = Packet { packets: 0, fragment: true, ip_bytes: 1000, ..icmp(1, 2, 8, 5) };
    let whole = run.feed(&later, 1);
    assert_eq!((whole.connection, whole.ctstate, whole.state), (Some(0), CtState::New, State::Unreplied));
    let orphan = Packet { tuple: icmp(3, 4, 8, 5).tuple, complete: false, ..later };
    assert_eq!(run.feed(&orphan, 2), Label::outside(CtState::Invalid));
    let closed = run.finish();
    let sent = closed[0].connection().ends[closed[0].connection().orig as usize];
    assert_eq!((closed.len(), sent.packets, sent.ip_bytes), (1, 1, 1048));
}

#[test]
fn vlans_are_apart_but_not_for_a_gateway() {
    for (mode, expected) in [(TunnelMode::Inner, 2), (TunnelMode::Outer, 1)] {
        let mut config = Config::default();
        config.decode.tunnels = mode;
        let mut run = Run::new(&config);
        run.udp(true, 0);
        let tagged = Packet { vlan: Vlan { outer: 11, inner: 0 }, ..packet(CLIENT, SERVER, ipproto::UDP, L4::Udp, 1) };
        run.feed(&tagged, 1);
        assert_eq!(run.finish().len(), expected);
    }
}

#[test]
fn the_same_tuple_both_ways_answers_itself() {
    let mut run = Run::new(&Config::default());
    let own = packet((1, 53), (1, 53), ipproto::UDP, L4::Udp, 1);
    assert_eq!(run.feed(&own, 0).ctdir, CtDir::Original);
    assert_eq!(run.feed(&own, 1).ctdir, CtDir::Reply);
}

#[test]
fn tunnels_point_to_their_carrier() {
    let mut tracker = Tracker::new(&Config::default());
    let stack =
        [packet((1, 50_000), (2, 4789), ipproto::UDP, L4::Udp, 100), packet((3, 1), (4, 2), ipproto::UDP, L4::Udp, 10)];
    let mut closed = Vec::new();
    let label = tracker.record(&stack, &[], 0, |_| ());
    assert_eq!(label.connection, Some(1));
    tracker.finish(|gone| closed.push(gone.clone()));
    closed.sort_by_key(|closed| closed.connection().id);
    assert_eq!(closed[1].connection().carrier, Some(0));
}

#[test]
fn a_packet_captured_late_takes_no_time_away() {
    let mut run = Run::new(&Config::default());
    for second in [0, 29, 1, 40] {
        run.udp(true, second * SECOND);
    }
    assert_eq!(run.finish().len(), 1);
}

#[test]
fn a_wrong_last_time_ends_nothing() {
    let mut run = Run::new(&Config::default());
    run.udp(true, 0);
    run.udp(false, SECOND);
    run.feed(&packet((7, 7), (8, 8), ipproto::UDP, L4::Udp, 1), 1_000_000 * SECOND);
    assert_eq!(run.finish()[0].reason, EndReason::EndOfCapture);
}

#[test]
fn a_close_is_swept_soon_after_its_own_timeout() {
    let mut run = Run::new(&Config::default());
    run.handshake(0);
    run.tcp(true, RST | ACK, 0, SECOND);
    for second in 2..40 {
        run.feed(&packet((7, 7), (8, 8), ipproto::UDP, L4::Udp, 1), second * SECOND);
    }
    assert_eq!(run.closed.len(), 1, "5 days of ESTABLISHED became 10 seconds of CLOSE");
}

#[test]
fn a_cluster_that_answers_is_no_multicast() {
    for (answered, broadcast) in [(false, true), (true, false)] {
        let mut run = Run::new(&Config::default());
        run.feed(&Packet { to_group: true, ..packet(CLIENT, SERVER, ipproto::UDP, L4::Udp, 1) }, 0);
        if answered {
            run.udp(false, 1);
        }
        assert_eq!(run.finish()[0].connection().was_broadcast(), broadcast);
    }
}
