//! The short cuts against the way that is written for any packet: whatever comes, both say the same of every packet, and hold
//! the same connections after it.

use std::sync::Arc;

use conntrack_core::config::Config;
use conntrack_core::connection::Connection;
use conntrack_core::decode::{Addr, Family, FiveTuple, L4, Packet, Tcp, Vlan, ipproto, tcpflag};
use conntrack_core::policy::{Group, Peer, Policy, Rule};
use conntrack_core::time::SECOND;
use conntrack_core::tracker::{Closed, Tracker};
use proptest::prelude::*;

/// What an end does next, mostly what an ordinary end would.
#[derive(Clone, Debug)]
struct Move {
    from_client: bool,
    proto: u8,
    kind: u8,
    /// Added to the sequence number that is next, and to the acknowledgement that is due.
    seq: i32,
    ack: i32,
    payload: u32,
    window: u16,
    options: u8,
    odd: u8,
    wait: i64,
    /// Of TCP only the flags are known.
    unnumbered: bool,
}

fn moves() -> impl Strategy<Value = Move> {
    let mostly = |usual: i32, other: BoxedStrategy<i32>| prop_oneof![12 => Just(usual), 1 => other];
    let off = prop_oneof![-3_000..3_000_i32, any::<i32>()].boxed();
    let kind = prop_oneof![1 => Just(0_u8), 1 => Just(1), 10 => Just(2), 2 => Just(3), 1 => 4..9_u8];
    let payload =
        prop_oneof![4 => Just(0_u32), 4 => Just(100), 2 => Just(1_460), 1 => Just(20_000), 1 => 0..70_000_u32];
    let window = prop_oneof![6 => Just(64_000_u16), 1 => Just(0), 1 => any::<u16>()];
    let wait = prop_oneof![8 => 0..SECOND, 1 => -SECOND..0, 1 => 0..400 * SECOND];
    let odd = prop_oneof![12 => Just(0_u8), 1 => 1..8_u8];
    let proto = prop_oneof![8 => Just(ipproto::TCP), 3 => Just(ipproto::UDP), 1 => Just(ipproto::ICMP)];
    let first = (any::<bool>(), proto, kind, mostly(0, off.clone()), mostly(0, off));
    (first, payload, window, 0..4_u8, odd, wait).prop_map(|(first, payload, window, options, odd, wait)| {
        let (from_client, proto, kind, seq, ack) = first;
        Move { from_client, proto, kind, seq, ack, payload, window, options, odd, wait, unnumbered: false }
    })
}

/// What an ordinary end sends.
fn plain() -> Move {
    Move {
        from_client: true,
        proto: ipproto::TCP,
        kind: 0,
        seq: 0,
        ack: 0,
        payload: 0,
        window: 64_000,
        options: 1,
        odd: 0,
        wait: SECOND / 100,
        unnumbered: false,
    }
}

/// `Move::odd`: the payload was cut; it acknowledges no more than before.
const CUT: u8 = 4;
const HOLDS: u8 = 8;
const CUT_HOLDS: u8 = CUT | HOLDS;

/// Data in order, as where a capture cuts what is longer than a line: what is cut did not come, what is short did.
fn cut_moves() -> impl Strategy<Value = Move> {
    let data =
        prop_oneof![3 => Just((1_460, CUT)), 1 => Just((1_460, CUT_HOLDS)), 2 => Just((20, 0)), 2 => Just((20, HOLDS))];
    let other =
        prop_oneof![4 => Just((0, 0)), 1 => Just((0, HOLDS)), 1 => (1..9_000_u32, prop_oneof![Just(0), Just(CUT)])];
    let what = prop_oneof![5 => data, 1 => other];
    let kind = prop_oneof![40 => Just(2_u8), 1 => Just(3), 1 => Just(5)];
    let ack = prop_oneof![30 => Just(0), 1 => Just(-20), 1 => Just(-1_460), 1 => Just(-1_470), 1 => -3_000..0];
    let cut =
        (any::<bool>(), what, kind, ack, 0..SECOND / 10).prop_map(|(from_client, (payload, odd), kind, ack, wait)| {
            Move { from_client, kind, payload, odd, ack, wait, options: 2, ..plain() }
        });
    prop_oneof![60 => cut, 1 => moves()]
}

/// A handshake and data, which the rest is then done to.
fn opening() -> Vec<Move> {
    let plain = plain();
    let answer = Move { from_client: false, ..plain.clone() };
    vec![
        plain.clone(),
        Move { kind: 1, ..answer.clone() },
        Move { kind: 2, options: 2, ..plain.clone() },
        Move { kind: 2, payload: 300, ..plain },
        Move { kind: 2, payload: 1_000, ..answer },
    ]
}

const S: u8 = tcpflag::SYN;
const A: u8 = tcpflag::ACK;
const F: u8 = tcpflag::FIN;
const R: u8 = tcpflag::RST;
const FLAGS: [u8; 9] = [S, S | A, A, F | A, R, R | A, 0, F, tcpflag::URG | A];

/// The two ends of a connection, and where they are in their numbers.
struct Ends {
    next: [u32; 2],
    acked: [u32; 2],
    family: Family,
    vlan: u16,
}

impl Ends {
    fn packet(&mut self, one: &Move) -> Packet {
        let (own, peer) = if one.from_client { (0, 1) } else { (1, 0) };
        let flags = FLAGS[usize::from(one.kind)];
        let payload = if flags & (S | R) != 0 && one.odd != 1 { 0 } else { one.payload };
        let seq = self.next[own].wrapping_add_signed(one.seq);
        let due = if one.odd & HOLDS == 0 { self.next[peer] } else { self.acked[own] };
        let ack = if flags & A != 0 { due.wrapping_add_signed(one.ack) } else { 0 };
        self.acked[own] = ack;
        let l4 = match one.proto {
            ipproto::TCP if one.unnumbered => L4::Tcp(Tcp { flags, ..Tcp::default() }.without_numbers()),
            ipproto::TCP => L4::Tcp(Tcp {
                seq,
                ack,
                window: one.window,
                flags,
                has_options: one.options > 0,
                wscale: if flags & S != 0 { one.options * 3 } else { 0 },
                sack_permitted: one.options == 3,
                timestamps: one.options == 2,
                sack: (one.odd == 2).then_some(ack.wrapping_add(500)),
                unnumbered: false,
            }),
            ipproto::UDP => L4::Udp,
            _ => L4::Icmp { kind: if one.from_client { 8 } else { 0 }, code: 0, id: 7 },
        };
        if one.proto == ipproto::TCP && one.seq == 0 {
            self.next[own] = seq.wrapping_add(payload + u32::from(flags & (S | F) != 0));
        }
        let addr = |last: u8| match self.family {
            Family::V4 => Addr::v4([10, 0, 0, last]),
            Family::V6 => Addr::v6([last; 16]),
        };
        let ((src, sport), (dst, dport)) =
            if one.from_client { ((1, 40_000), (2, 53)) } else { ((2, 53), (1, 40_000)) };
        let tuple = FiveTuple { src: addr(src), dst: addr(dst), sport, dport, proto: one.proto, family: self.family };
        let tuple = match l4 {
            L4::Icmp { kind, .. } => FiveTuple { sport: u16::from(kind), dport: 0, ..tuple },
            _ => tuple,
        };
        Packet {
            tuple,
            vlan: Vlan { outer: self.vlan, inner: 0 },
            flow_id: if one.proto == ipproto::ICMP { 7 } else { 0 },
            packets: 1,
            ip_bytes: 40 + payload,
            payload_bytes: payload,
            segment_bytes: payload,
            datagram_bytes: 40 + payload,
            complete: one.odd != 3,
            cut: one.odd & !HOLDS == CUT,
            to_group: one.odd == 5,
            bad_checksum: one.odd == 6,
            malformed: one.odd == 7,
            // A DNS question or answer, as far as the length reaches.
            payload: (0, payload.min(40)),
            l4,
            ..Packet::default()
        }
    }
}

/// A message that says who asks.
fn message(from_client: bool) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[..12].copy_from_slice(&[0, 9, if from_client { 1 } else { 0x81 }, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    bytes[12..17].copy_from_slice(b"\x03www\0");
    bytes
}

fn live(tracker: &Tracker) -> Vec<Connection> {
    let mut live: Vec<_> = tracker.snapshot().collect();
    live.sort_by_key(|connection| connection.id);
    live
}

fn over(closed: &Closed) -> (Connection, String) {
    (closed.connection().into_owned(), format!("{:?} {:?}", closed.reason, closed.stopped))
}

/// A policy that lets only the client initiate, or nobody; none at all.
fn policy(number: u8) -> Option<Arc<Policy>> {
    let client = Rule { peers: vec![Peer::Any], services: vec![(53, 53)], ..Rule::default() };
    let rules = match number {
        0 => return None,
        1 => [
            vec![Rule { proto: Some(ipproto::TCP), ..client.clone() }, Rule { proto: Some(ipproto::UDP), ..client }],
            vec![],
        ],
        _ => [vec![], vec![]],
    };
    let members = ["10.0.0.2/32", "202:202:202:202:202:202:202:202/128"].map(|net| net.parse().expect("a network"));
    Some(Arc::new(Policy::new(&[Group { members: members.into(), rules, open: [false; 2] }])))
}

fn agree(moves: &[Move], family: Family, start: [u32; 2], (vlan, allowed): (u16, u8)) -> Result<(), TestCaseError> {
    let config = Config::default();
    let (mut quick, mut plain) = (Tracker::new(&config), Tracker::new(&config).without_express());
    if let Some(policy) = policy(allowed) {
        (quick, plain) = (quick.behind(policy.clone()), plain.behind(policy));
    }
    let mut ends = Ends { next: start, acked: [0; 2], family, vlan };
    let mut ts = 1_700_000_000 * SECOND;
    let (mut by_quick, mut by_plain) = (Vec::new(), Vec::new());
    for one in moves {
        ts += one.wait;
        let packet = std::slice::from_ref(&ends.packet(one)).to_vec();
        let bytes = message(one.from_client);
        quick.advance(ts, |gone| by_quick.push(over(gone)));
        plain.advance(ts, |gone| by_plain.push(over(gone)));
        let quickly = quick.record(&packet, &bytes, ts, |gone| by_quick.push(over(gone)));
        let plainly = plain.record(&packet, &bytes, ts, |gone| by_plain.push(over(gone)));
        prop_assert_eq!(quickly, plainly, "{:?}", packet[0]);
        prop_assert_eq!(live(&quick), live(&plain), "{:?}", packet[0]);
    }
    quick.finish(|gone| by_quick.push(over(gone)));
    plain.finish(|gone| by_plain.push(over(gone)));
    let by_id = |(connection, _): &(Connection, String)| connection.id;
    by_quick.sort_by_key(by_id);
    by_plain.sort_by_key(by_id);
    prop_assert_eq!(by_quick, by_plain);
    Ok(())
}

/// Numbers near the wrap and elsewhere.
fn starts() -> impl Strategy<Value = u32> {
    prop_oneof![4 => Just(1_000_u32), 1 => Just(u32::MAX - 1_500), 1 => Just(u32::MAX), 1 => any::<u32>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn short_cuts_lead_to_the_same(
        moves in prop::collection::vec(moves(), 1..40),
        begins in any::<bool>(),
        broad in prop::bool::weighted(0.2),
        start in (starts(), starts()),
        vlan in prop_oneof![3 => Just(0_u16), 1 => 2..4_097_u16],
        allowed in prop_oneof![3 => Just(0_u8), 1 => Just(1), 1 => Just(2)],
    ) {
        let mut all = if begins { opening() } else { Vec::new() };
        all.extend(moves);
        let family = if broad { Family::V6 } else { Family::V4 };
        agree(&all, family, [start.0, start.1], (vlan, allowed))?;
    }

    #[test]
    fn short_cuts_lead_to_the_same_without_numbers(
        moves in prop::collection::vec((moves(), prop::bool::weighted(0.95)), 1..60),
        begins in any::<bool>(),
        numbered in prop::bool::weighted(0.1),
        broad in prop::bool::weighted(0.1),
    ) {
        let opening = opening().into_iter().map(|one| (one, !numbered)).filter(|_| begins);
        let all = opening.chain(moves).map(|(one, unnumbered)| Move { unnumbered, ..one });
        let family = if broad { Family::V6 } else { Family::V4 };
        agree(&all.collect::<Vec<_>>(), family, [1_000; 2], (0, 0))?;
    }

    #[test]
    fn short_cuts_lead_to_the_same_where_data_is_missing(
        moves in prop::collection::vec(cut_moves(), 1..100),
        broad in prop::bool::weighted(0.1),
        start in (starts(), starts()),
    ) {
        let mut all = opening();
        all.extend(moves);
        let family = if broad { Family::V6 } else { Family::V4 };
        agree(&all, family, [start.0, start.1], (0, 0))?;
    }
}

#[test]
fn a_clock_that_was_set_back_before_the_start() {
    let at = |from_client, kind, window, wait| Move { from_client, kind, window, wait, options: 0, ..plain() };
    let mut moves = opening();
    moves.extend([
        at(true, 3, 64_000, 0),
        at(false, 3, 64_000, -40_000_001),
        at(false, 2, 64_000, 0),
        at(false, 2, 1, 40_000_001),
    ]);
    agree(&moves, Family::V4, [1_000; 2], (0, 0)).expect("both ways agree");
}
