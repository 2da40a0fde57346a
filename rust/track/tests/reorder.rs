//! Handshakes stored out of order: rows and labels are those of the order sent, but for the early segments' own labels.

use conntrack_base::time::SECOND;
use conntrack_decode::testkit::whole;
use conntrack_decode::{Addr, Family, FiveTuple, L4, Packet, Tcp, ipproto, tcpflag};
use conntrack_track::config::Config;
use conntrack_track::connection::Connection;
use conntrack_track::proto::{CtState, State};
use conntrack_track::tracker::{Label, Tracker};
use proptest::collection::vec;
use proptest::prelude::*;

const SYN: u8 = tcpflag::SYN;
const ACK: u8 = tcpflag::ACK;
const FIN: u8 = tcpflag::FIN;
const RST: u8 = tcpflag::RST;

/// The time of a handshake, behind an older connection.
const HANDSHAKE: i64 = 1_700_000_000 * SECOND;
const MILLISECOND: i64 = SECOND / 1_000;
const WINDOW: i64 = 100 * MILLISECOND;
/// Numbers of the SYN and of the SYN+ACK.
const ISN: [u32; 2] = [u32::MAX - 20, 700_000];
/// The most early segments.
const MOST: usize = 4;

/// A packet and its capture time.
#[derive(Clone, Copy, Debug)]
struct Stamped(i64, Packet);

#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    flags: u8,
    seq: u32,
    ack: u32,
    payload: u32,
    window: u16,
    /// Window scale of a SYN, plus one.
    shift: u8,
    sack_permitted: bool,
}

impl Segment {
    fn sent(self, from_client: bool) -> Packet {
        let ends = [(Addr::v4([10, 0, 0, 1]), 40_000), (Addr::v4([10, 0, 0, 2]), 443)];
        let [(src, sport), (dst, dport)] = if from_client { ends } else { [ends[1], ends[0]] };
        let Self { flags, seq, ack, payload, window, shift, sack_permitted } = self;
        let has_options = shift > 0 || sack_permitted;
        let l4 = L4::Tcp(Tcp { flags, seq, ack, window, wscale: shift, sack_permitted, has_options, ..Tcp::default() });
        let tuple = FiveTuple { src, dst, sport, dport, proto: ipproto::TCP, family: Family::V4 };
        whole(tuple, l4, payload)
    }
}

/// The connection of the same five-tuple before.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Older {
    None,
    TimeWait,
    ResetByClient,
    ResetByServer,
    Refused,
    Unanswered,
    Established,
    HalfClosed,
    /// Only the server's data, picked up.
    MidStream,
    /// A SYN+ACK of another handshake.
    Stray,
}

const OLDER: [Older; 10] = [
    Older::None,
    Older::TimeWait,
    Older::ResetByClient,
    Older::ResetByServer,
    Older::Refused,
    Older::Unanswered,
    Older::Established,
    Older::HalfClosed,
    Older::MidStream,
    Older::Stray,
];

impl Older {
    fn packets(self) -> Vec<Stamped> {
        let client = |flags, seq, ack| Segment { flags, seq, ack, window: 64_000, ..Segment::default() }.sent(true);
        let server = |flags, seq, ack| Segment { flags, seq, ack, window: 64_000, ..Segment::default() }.sent(false);
        let opened = [client(SYN, 100, 0), server(SYN | ACK, 500, 101), client(ACK, 101, 501)];
        let data =
            Segment { flags: ACK, seq: 501, ack: 101, payload: 90, window: 64_000, ..Segment::default() }.sent(false);
        let behind = |packets: &[Packet]| [&opened[..], packets].concat();
        let packets = match self {
            Self::None => vec![],
            Self::TimeWait => {
                behind(&[client(FIN | ACK, 101, 501), server(FIN | ACK, 501, 102), client(ACK, 102, 502)])
            }
            Self::ResetByClient => behind(&[client(RST | ACK, 101, 501)]),
            Self::ResetByServer => behind(&[server(RST | ACK, 501, 101)]),
            Self::Refused => vec![client(SYN, 100, 0), server(RST | ACK, 0, 101)],
            Self::Unanswered => vec![client(SYN, 100, 0)],
            Self::Established => behind(&[data, client(ACK, 101, 591), data]),
            Self::HalfClosed => behind(&[server(FIN | ACK, 501, 101), client(ACK, 101, 502)]),
            Self::MidStream => vec![data, data],
            Self::Stray => vec![server(SYN | ACK, 500, 101)],
        };
        (1..)
            .map(|at| HANDSHAKE - 3 * SECOND + at * MILLISECOND)
            .zip(packets)
            .map(|(ts, one)| Stamped(ts, one))
            .collect()
    }

    /// A payload without a SYN before may name the originator, and is not kept.
    fn keeps_payloads(self) -> bool {
        self == Self::None
    }
}

/// A handshake, the segments that overtake the SYN, and the rest, in the order sent.
#[derive(Clone, Debug)]
struct Plan {
    older: Older,
    syn: Stamped,
    early: Vec<Stamped>,
    rest: Vec<Stamped>,
}

/// A segment of the rest: sender, flags, payload, offset of its number, delay.
type Next = (bool, u8, u32, i32, i64);

fn nexts() -> impl Strategy<Value = Vec<Next>> {
    let flags =
        prop_oneof![12 => Just(ACK), 2 => Just(FIN | ACK), 1 => Just(RST | ACK), 1 => Just(SYN), 1 => Just(SYN | ACK)];
    let payload = prop_oneof![2 => Just(0_u32), 1 => Just(500)];
    let off = prop_oneof![12 => Just(0_i32), 1 => -600..600_i32];
    vec((any::<bool>(), flags, payload, off, 0..SECOND), 0..12)
}

/// The rest of a connection whose ends have sent up to these numbers.
fn rest(mut next: [u32; 2], nexts: Vec<Next>) -> Vec<Stamped> {
    let mut ts = HANDSHAKE + WINDOW;
    let mut all = Vec::new();
    for (from_client, flags, payload, off, wait) in nexts {
        ts += wait;
        // Copies of the handshake, and no other one.
        let from_client = if flags & SYN != 0 { flags == SYN } else { from_client };
        let (own, peer) = (usize::from(!from_client), usize::from(from_client));
        let opens = flags & SYN != 0;
        let payload = if opens { 0 } else { payload };
        let seq = if opens { ISN[own] } else { next[own].wrapping_add_signed(off) };
        let ack = match flags {
            SYN => 0,
            _ if opens => ISN[peer].wrapping_add(1),
            _ => next[peer],
        };
        if !opens && off == 0 {
            next[own] = next[own].wrapping_add(payload + u32::from(flags & FIN != 0));
        }
        let segment = Segment { flags, seq, ack, payload, window: 64_000, ..Segment::default() };
        all.push(Stamped(ts, segment.sent(from_client)));
    }
    all
}

prop_compose! {
    fn plans()(
        older in prop::sample::select(OLDER.to_vec()),
        skew in -WINDOW..=WINDOW,
        apart in vec(0..WINDOW, 0..MOST),
        more in vec(prop_oneof![Just(0_u8), Just(1), Just(2)], MOST),
        data in (prop_oneof![3 => Just(0_u32), 1 => Just(10)], prop_oneof![3 => Just(0_u32), 1 => Just(30)], any::<bool>()),
        offers in (0..15_u8, 0..15_u8, any::<bool>(), any::<bool>()),
        nexts in nexts(),
    ) -> Plan {
        let (syn_data, answer_data, acks_data) = data;
        let answer_data = if older.keeps_payloads() { answer_data } else { 0 };
        let syn = Segment {
            flags: SYN, seq: ISN[0], payload: syn_data, window: 64_240, shift: offers.0, sack_permitted: offers.2, ..Segment::default()
        };
        let ack = ISN[0].wrapping_add(1 + if acks_data { syn_data } else { 0 });
        let answer = Segment {
            flags: SYN | ACK, seq: ISN[1], ack, payload: answer_data, window: 65_160, shift: offers.1, sack_permitted: offers.3,
        };
        let mut sent = ISN[1] + 1 + answer_data;
        let mut early = vec![Stamped(HANDSHAKE + skew, answer.sent(false))];
        let mut ts: Vec<_> = apart.iter().map(|apart| HANDSHAKE + skew + apart).collect();
        ts.sort_unstable();
        for (ts, kind) in ts.into_iter().zip(more) {
            // An acknowledgement after a deleted entry opens a connection of its own.
            let kind = if older == Older::Refused { 0 } else { kind };
            let payload = if kind == 2 && older.keeps_payloads() { 200 } else { 0 };
            let next = Segment { flags: ACK, seq: sent, ack, payload, window: 500, ..Segment::default() };
            early.push(Stamped(ts, if kind == 0 { answer.sent(false) } else { next.sent(false) }));
            sent += if kind == 0 { 0 } else { payload };
        }
        let rest = rest([ISN[0].wrapping_add(1 + syn_data), sent], nexts);
        Plan { older, syn: Stamped(HANDSHAKE, syn.sent(true)), early, rest }
    }
}

/// Label of each packet, and the connections with reason and times of their ends.
type Outcome = (Vec<Label>, Vec<(Connection, String)>);

fn play(packets: &[Stamped], reorder_window: i64, shortcuts: bool) -> Outcome {
    let tracker = Tracker::new(&Config { reorder_window, ..Config::default() });
    let mut tracker = if shortcuts { tracker } else { tracker.without_shortcuts() };
    let (mut labels, mut over) = (Vec::new(), Vec::new());
    let mut end = |closed: &conntrack_track::tracker::Closed| {
        let how = format!("{:?} {:?} {:?} {:x}", closed.reason, closed.stopped, closed.gone, closed.places);
        over.push((closed.connection().into_owned(), how));
    };
    for Stamped(ts, packet) in packets {
        labels.push(tracker.record(&[*packet], &[], *ts, &mut end));
    }
    // The clock of the stored order differs: every connection runs to its own timeout.
    tracker.finish_at(conntrack_base::time::Clock::stopped(i64::MAX), &mut end);
    over.sort_by_key(|(connection, _)| connection.id);
    (labels, over)
}

/// The order sent, with no early segment stamped before the SYN; and the stored order.
fn orders(plan: &Plan) -> (Vec<Stamped>, Vec<Stamped>) {
    let Plan { older, syn, early, rest } = plan;
    let older = older.packets();
    let later: Vec<_> = early.iter().map(|Stamped(ts, one)| Stamped(*ts.max(&syn.0), *one)).collect();
    ([&older[..], &[*syn], &later, rest].concat(), [&older[..], early, &[*syn], rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_stored_order_gives_the_row_of_the_true_order(plan in plans()) {
        let (sent, stored) = orders(&plan);
        let (at, number) = (plan.older.packets().len(), plan.early.len());
        for shortcuts in [true, false] {
            let (mut labels, mut rows) = play(&sent, WINDOW, shortcuts);
            let (mut found, mut found_rows) = play(&stored, WINDOW, shortcuts);
            // The early segments keep the labels of the stored order.
            labels.drain(at + 1..=at + number);
            found.drain(at..at + number);
            prop_assert_eq!(&found, &labels);
            let lead = plan.syn.0 - plan.early[0].0;
            let of_syn = found[at].connection;
            for (connection, _) in &mut found_rows {
                let expected = (Some(connection.id) == of_syn).then_some(lead);
                prop_assert_eq!(connection.lead(), expected, "lead of connection {}", connection.id);
                connection.reorder = None;
            }
            // The connection that the handshake began starts at its earlier time.
            for (connection, _) in &mut rows {
                prop_assert!(connection.lead().is_none());
                connection.reorder = None;
                if connection.start == HANDSHAKE {
                    connection.start = connection.start.min(plan.early[0].0);
                }
            }
            prop_assert_eq!(found_rows, rows);
        }
    }

    #[test]
    fn beyond_the_window_the_stored_order_stands(plan in plans(), beyond in 1..SECOND, sign in any::<bool>()) {
        let (_, stored) = orders(&plan);
        let at = plan.older.packets().len() + plan.early.len();
        let first = plan.early[0].0;
        let late = Stamped(if sign { first + WINDOW + beyond } else { first - WINDOW - beyond }, plan.syn.1);
        let stored = [&stored[..at], &[late], &stored[at + 1..]].concat();
        prop_assert_eq!(without_memory(play(&stored, WINDOW, true)), without_memory(play(&stored, 0, true)));
    }

    #[test]
    fn possible_orders_stand(plan in plans()) {
        let (sent, _) = orders(&plan);
        prop_assert_eq!(without_memory(play(&sent, WINDOW, true)), without_memory(play(&sent, 0, true)));
    }
}

/// Without a SYN+ACK that still waits.
fn without_memory((labels, mut rows): Outcome) -> Outcome {
    for (connection, _) in &mut rows {
        assert_eq!(connection.lead(), None);
        connection.reorder = None;
    }
    (labels, rows)
}

fn handshake(stamps: [i64; 2]) -> (Stamped, Stamped) {
    let syn = Segment { flags: SYN, seq: 100, window: 64_000, ..Segment::default() };
    let answer = Segment { flags: SYN | ACK, seq: 500, ack: 101, window: 64_000, ..Segment::default() };
    (Stamped(stamps[0], syn.sent(true)), Stamped(stamps[1], answer.sent(false)))
}

#[test]
fn labels_of_an_early_syn_ack() {
    let (syn, answer) = handshake([5 * MILLISECOND, 0]);
    let ack = Segment { flags: ACK, seq: 101, ack: 501, window: 64_000, ..Segment::default() }.sent(true);
    let (labels, rows) = play(&[answer, syn, Stamped(6 * MILLISECOND, ack)], WINDOW, true);
    let found: Vec<_> = labels.iter().map(|label| (label.connection, label.ctstate, label.state)).collect();
    let expected = [
        (Some(0), CtState::Invalid, State::None),
        (Some(0), CtState::New, State::SynSent),
        (Some(0), CtState::Established, State::Established),
    ];
    assert_eq!(found, expected);
    let [(only, _)] = &rows[..] else { panic!("one connection, not {}", rows.len()) };
    assert_eq!((only.start, only.end, only.flipped()), (0, 6 * MILLISECOND, false));
    assert_eq!(only.lead(), Some(5 * MILLISECOND));
}

#[test]
fn no_more_segments_than_the_bound_are_remembered() {
    let (_, answer) = handshake([0, 0]);
    let ack = Segment { flags: ACK, seq: 501, ack: 101, window: 64_000, ..Segment::default() }.sent(false);
    for (number, remembered) in [(MOST, MOST), (MOST + 1, 0)] {
        let stored = [&[answer][..], &vec![Stamped(0, ack); number - 1]].concat();
        let (_, rows) = play(&stored, WINDOW, true);
        let early = rows[0].0.reorder.as_ref().and_then(|reorder| reorder.early.as_ref());
        assert_eq!(early.map_or(0, |early| early.segments.len()), remembered);
    }
}

#[test]
fn an_answer_of_the_client_in_between_is_no_early_syn_ack() {
    let (syn, answer) = handshake([0, 0]);
    let ack = Segment { flags: ACK, seq: 101, ack: 501, window: 64_000, ..Segment::default() }.sent(true);
    let stored = [answer, Stamped(0, ack), syn];
    assert_eq!(without_memory(play(&stored, WINDOW, true)), without_memory(play(&stored, 0, true)));
}

#[test]
fn a_simultaneous_open() {
    let one = |from_client: bool, flags| {
        let (seq, peer) = if from_client { (100, 501) } else { (500, 101) };
        let ack = if flags & ACK != 0 { peer } else { 0 };
        Stamped(0, Segment { flags, seq, ack, window: 64_000, ..Segment::default() }.sent(from_client))
    };
    let [syn, other_syn] = [true, false].map(|from_client| one(from_client, SYN));
    let [answer, other_answer] = [true, false].map(|from_client| one(from_client, SYN | ACK));
    let sent = [syn, other_syn, answer, other_answer];
    assert_eq!(without_memory(play(&sent, WINDOW, true)), without_memory(play(&sent, 0, true)));
    // The second SYN is late.
    let (labels, rows) = play(&[syn, answer, other_syn, other_answer], WINDOW, true);
    let (expected, true_rows) = play(&sent, WINDOW, true);
    assert_eq!((labels[2], labels[3]), (expected[1], expected[3]));
    assert_eq!(rows[0].0.gateway, true_rows[0].0.gateway);
}
