//! Records of windows and directions, joined to connections.
//!
//! Records of one five-tuple belong together where no more than [`JOIN`] is between them, whichever comes first: the
//! result is the same for any order. What several observers logged is kept apart, since each may have seen all packets:
//! the larger counts stand, never the sum. Memory holds what the connections need, not the records.

use std::collections::BTreeMap;

use ahash::AHashMap as HashMap;

use conntrack_core::decode::{Addr, Family, FiveTuple, ipproto};
use conntrack_core::flow::{Side, icmp};
use conntrack_core::rows::told::side_of;
use conntrack_core::time::SECOND;

use crate::fields::is_icmp;
use crate::record::{Counts, Flow, Refused, Says, tcp};

/// The longest time without a record within a connection, nanoseconds: the longest window of AWS. A reply that comes
/// later is another connection.
pub const JOIN: i64 = 600 * SECOND;
/// The longest idle time of an established TCP connection, nanoseconds: `nf_conntrack_tcp_timeout_established`. A record
/// without SYN flags, in a log that has flags, continues the connection before it.
const TCP_IDLE: i64 = 432_000 * SECOND;

/// The ends of a connection, in the order of [`Side`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Addresses.
    pub addrs: [Addr; 2],
    /// Ports; of ICMP the query's type and code, twice.
    pub ports: [u16; 2],
    /// Protocol.
    pub proto: u8,
    /// Family.
    pub family: Family,
    /// ICMP has a type.
    pub typed: bool,
}

impl Key {
    /// The key of a record, the sender's side, and the ICMP message's role: query (0), answer (1).
    fn of(flow: &Flow) -> (Self, Side, Option<usize>) {
        let FiveTuple { proto, family, .. } = flow.tuple;
        let (mut tuple, mut role) = (flow.tuple, None);
        if is_icmp(proto) {
            (tuple.sport, tuple.dport) = (0, 0);
            if flow.typed {
                let (ask, answers) = icmp::question(proto, flow.tuple.sport as u8, flow.tuple.dport as u8);
                (tuple.sport, tuple.dport) = (ask, ask);
                let asks = icmp::is_request(proto, (ask >> 8) as u8);
                role = asks.then_some(usize::from(answers));
            }
        }
        let side = side_of(&tuple);
        let mut key =
            Self { addrs: [tuple.src, tuple.dst], ports: [tuple.sport, tuple.dport], proto, family, typed: flow.typed };
        if side == Side::B {
            key.addrs.swap(0, 1);
            key.ports.swap(0, 1);
        }
        (key, side, role)
    }
}

/// Bits of the place of a refusal.
pub mod place {
    /// At the receiver.
    pub const RECEIVER: u8 = 1;
    /// At the sender.
    pub const SENDER: u8 = 2;
    /// At the observer.
    pub const OBSERVER: u8 = 4;
}

/// The part of a connection that one observer logged, by side of the sender.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Number of the observer.
    pub observer: u32,
    /// Counts of accepted and of refused packets.
    pub sent: [Counts; 2],
    /// Directions in which packets passed.
    pub passed: [bool; 2],
    /// Bits of [`place`]: where packets of each direction were refused.
    pub refused: [u8; 2],
}

/// Records that belong together.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Time of the first packet of each side; `i64::MAX`: none.
    pub start: [i64; 2],
    /// Time of the last packet of each side; `i64::MIN`: none.
    pub end: [i64; 2],
    /// TCP flags of each side, of all windows together.
    pub flags: [u8; 2],
    /// The log has flags.
    pub has_flags: bool,
    /// Flags are those of all packets together.
    pub blended: bool,
    /// Some record has counts.
    pub counted: bool,
    /// Each side as the source of a record that names the originator.
    pub says: [Says; 2],
    /// Records.
    pub records: u32,
    /// One of so many packets.
    pub sampled: Option<u32>,
    /// The observers.
    pub seen: Seen,
    /// Further observers by number: there may be very many.
    pub more: BTreeMap<u32, Seen>,
}

impl Piece {
    /// Time of the first packet.
    pub fn begin(&self) -> i64 {
        self.start[0].min(self.start[1])
    }

    /// Time of the last packet.
    pub fn last(&self) -> i64 {
        self.end[0].max(self.end[1])
    }

    /// All observations.
    pub fn all(&self) -> impl Iterator<Item = &Seen> {
        std::iter::once(&self.seen).chain(self.more.values())
    }

    /// Counts of each side: the larger of each observer's.
    pub fn counts(&self) -> [Counts; 2] {
        self.all().fold([Counts::default(); 2], |most, seen| [0, 1].map(|side| most[side].most(seen.sent[side])))
    }

    fn of(flow: &Flow, side: Side, role: Option<usize>) -> Self {
        let (own, peer) = (side as usize, side.other() as usize);
        let mut seen = Seen { observer: flow.observer, ..Seen::default() };
        let mut piece = Self {
            start: [i64::MAX; 2],
            end: [i64::MIN; 2],
            flags: [0; 2],
            has_flags: flow.flags.iter().any(Option::is_some),
            blended: flow.blended && role.is_none(),
            counted: flow.counted,
            says: [Says::Nothing; 2],
            records: 1,
            sampled: flow.sampled,
            seen,
            more: BTreeMap::new(),
        };
        for (end, side) in [own, peer].into_iter().enumerate() {
            let Some(counts) = flow.sent[end] else { continue };
            if counts.packets > 0 || end == 0 {
                (piece.start[side], piece.end[side]) = (flow.start, flow.end);
                seen.passed[side] = flow.refused.is_none();
            }
            seen.sent[side] = counts;
            piece.flags[side] = flow.flags[end].unwrap_or(0);
        }
        match role {
            Some(0) => piece.flags[own] = tcp::SYN,
            Some(_) => piece.flags[own] = tcp::SYN | tcp::ACK,
            None => {}
        }
        piece.says[own] = flow.says;
        seen.refused[own] = match flow.refused {
            None => 0,
            Some(Refused::Receiver) => place::RECEIVER,
            Some(Refused::Sender) => place::SENDER,
            Some(Refused::Observer) => place::OBSERVER,
        };
        piece.seen = seen;
        piece
    }

    /// Joins another piece of the connection; in any order the result is the same.
    fn join(&mut self, other: Self) {
        for side in 0..2 {
            self.start[side] = self.start[side].min(other.start[side]);
            self.end[side] = self.end[side].max(other.end[side]);
            self.flags[side] |= other.flags[side];
            self.says[side] = self.says[side].max(other.says[side]);
        }
        self.has_flags |= other.has_flags;
        self.counted |= other.counted;
        self.blended |= other.blended;
        self.records = self.records.saturating_add(other.records);
        self.sampled = self.sampled.max(other.sampled);
        for seen in std::iter::once(other.seen).chain(other.more.into_values()) {
            self.observe(seen);
        }
    }

    fn observe(&mut self, seen: Seen) {
        let one = if self.seen.observer == seen.observer {
            &mut self.seen
        } else {
            self.more.entry(seen.observer).or_insert(Seen { observer: seen.observer, ..Seen::default() })
        };
        for side in 0..2 {
            one.sent[side] = one.sent[side].plus(seen.sent[side]);
            one.passed[side] |= seen.passed[side];
            one.refused[side] |= seen.refused[side];
        }
    }

    /// True where the piece may go on a TCP connection: flags were logged, and no SYN is among them.
    fn goes_on(&self) -> bool {
        self.has_flags && (self.flags[0] | self.flags[1]) & tcp::SYN == 0
    }

    /// True where a FIN or an RST was seen.
    fn is_over(&self) -> bool {
        (self.flags[0] | self.flags[1]) & (tcp::FIN | tcp::RST) != 0
    }
}

/// Pieces of one five-tuple: nearly always one.
enum Pieces {
    One(Piece),
    /// By the begin, each more than [`JOIN`] after the one before.
    Many(BTreeMap<i64, Piece>),
}

/// The table of pieces.
#[derive(Default)]
pub struct Pairs {
    table: HashMap<Key, Pieces>,
    entries: usize,
    /// Addresses that all records of an observer have: its own is among them. The first two are of its first record.
    addrs: HashMap<u32, [Option<(Addr, Family)>; 2]>,
}

impl Pairs {
    /// Pieces, and observations of them.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Adds a record.
    pub fn add(&mut self, flow: &Flow) {
        if flow.observer > 0 {
            self.place_observer(flow);
        }
        let (key, side, role) = Key::of(flow);
        let piece = Piece::of(flow, side, role);
        match self.table.get_mut(&key) {
            None => {
                self.table.insert(key, Pieces::One(piece));
                self.entries += 1;
            }
            Some(Pieces::One(known)) if is_near(known, &piece) => {
                let before = known.more.len();
                known.join(piece);
                self.entries += known.more.len() - before;
            }
            Some(pieces) => self.entries = self.entries.saturating_add_signed(pieces.add(piece)),
        }
    }

    fn place_observer(&mut self, flow: &Flow) {
        let ends = [flow.tuple.src, flow.tuple.dst].map(|addr| Some((addr, flow.tuple.family)));
        let known = self.addrs.entry(flow.observer).or_insert(ends);
        for addr in known {
            if !ends.contains(addr) {
                *addr = None;
            }
        }
    }

    /// The address of an observer, if all its records have one address.
    pub fn observer_addr(&self, observer: u32) -> Option<(Addr, Family)> {
        match self.addrs.get(&observer)? {
            [Some(addr), None] | [None, Some(addr)] => Some(*addr),
            _ => None,
        }
    }

    /// All connections in the order of their times and ends.
    pub fn take(&mut self) -> Vec<(Key, Piece)> {
        let mut all = Vec::with_capacity(self.table.len());
        for (key, pieces) in std::mem::take(&mut self.table) {
            match pieces {
                Pieces::One(piece) => all.push((key, piece)),
                Pieces::Many(pieces) => all.extend(continued(key, pieces).into_iter().map(|piece| (key, piece))),
            }
        }
        all.sort_unstable_by_key(|(key, piece)| (piece.begin(), *key, piece.last()));
        all
    }
}

fn is_near(one: &Piece, other: &Piece) -> bool {
    one.begin() <= other.last().saturating_add(JOIN) && other.begin() <= one.last().saturating_add(JOIN)
}

impl Pieces {
    /// Adds a piece and joins all that it comes near to; returns the change of the number of entries.
    fn add(&mut self, mut piece: Piece) -> isize {
        if let Self::One(known) = self {
            let (at, known) = (known.begin(), known.clone());
            *self = Self::Many(BTreeMap::from([(at, known)]));
        }
        let Self::Many(pieces) = self else { return 0 };
        let before: usize = 0;
        let mut gone = before;
        while let Some(at) = nearest(pieces, &piece) {
            let Some(near) = pieces.remove(&at) else { break };
            gone += 1 + near.more.len();
            piece.join(near);
        }
        let added = 1 + piece.more.len();
        pieces.insert(piece.begin(), piece);
        added as isize - gone as isize
    }
}

/// The begin of a piece that is near to another one.
fn nearest(pieces: &BTreeMap<i64, Piece>, to: &Piece) -> Option<i64> {
    let (at, last) = pieces.range(..=to.last().saturating_add(JOIN)).next_back()?;
    is_near(last, to).then_some(*at)
}

/// The pieces of a five-tuple, those of TCP joined that a long silence parted.
fn continued(key: Key, pieces: BTreeMap<i64, Piece>) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces.into_values() {
        match joined.last_mut() {
            Some(last)
                if key.proto == ipproto::TCP
                    && piece.goes_on()
                    && !last.is_over()
                    && piece.begin().saturating_sub(last.last()) <= TCP_IDLE =>
            {
                last.join(piece);
            }
            _ => joined.push(piece),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flow(at: i64, forward: bool, flags: u8, observer: u32) -> Flow {
        let (src, dst) = (Addr(0x0a00_0001), Addr(0x0a00_0002));
        let tuple = FiveTuple { src, dst, sport: 40_000, dport: 443, proto: 6, family: Family::V4 };
        let tuple = if forward { tuple } else { conntrack_core::rows::told::turned(tuple) };
        Flow {
            tuple,
            typed: false,
            start: at * SECOND,
            end: (at + 10) * SECOND,
            sent: [Some(Counts { packets: 2, bytes: 100 }), None],
            counted: true,
            flags: [Some(flags), None],
            blended: false,
            says: Says::Nothing,
            refused: None,
            observer,
            sampled: None,
        }
    }

    fn paired(flows: &[Flow]) -> Vec<(Key, Piece)> {
        let mut pairs = Pairs::default();
        for flow in flows {
            pairs.add(flow);
        }
        let pieces = pairs.take();
        let entries: usize = pieces.iter().map(|(_, piece)| 1 + piece.more.len()).sum();
        assert!(entries <= pairs.entries());
        pieces
    }

    #[test]
    fn two_observers_do_not_double_the_counts() {
        let one = paired(&[flow(0, true, 2, 1), flow(0, false, 18, 1), flow(60, true, 0, 1)]);
        let two = [
            flow(0, true, 2, 1),
            flow(0, false, 18, 1),
            flow(60, true, 0, 1),
            flow(0, true, 2, 2),
            flow(60, true, 0, 2),
        ];
        let two = paired(&two);
        assert_eq!((one.len(), two.len()), (1, 1));
        assert_eq!(one[0].1.counts(), two[0].1.counts());
        assert_eq!(one[0].1.counts()[0], Counts { packets: 4, bytes: 200 });
    }

    #[test]
    fn a_reply_of_minutes_later_is_paired_and_one_of_an_hour_later_is_not() {
        assert_eq!(paired(&[flow(0, true, 2, 1), flow(500, false, 18, 1)]).len(), 1);
        assert_eq!(paired(&[flow(0, true, 2, 1), flow(3_600, true, 2, 1)]).len(), 2);
        // Without a SYN the connection goes on.
        assert_eq!(paired(&[flow(0, true, 2, 1), flow(3_600, true, 0, 1)]).len(), 1);
    }

    proptest! {
        #[test]
        fn the_order_of_records_does_not_matter(
            records in prop::collection::vec((0..5_000_i64, any::<bool>(), prop::sample::select(vec![0_u8, 1, 2, 18]), 0..3_u32), 1..30),
            seed in any::<u64>(),
        ) {
            let flows: Vec<Flow> = records.into_iter().map(|(at, forward, flags, observer)| flow(at, forward, flags, observer)).collect();
            let mut turned: Vec<(u64, Flow)> = flows.iter().cloned().enumerate()
                .map(|(at, flow)| ((at as u64 + 1).wrapping_mul(seed | 1), flow)).collect();
            turned.sort_by_key(|(order, _)| *order);
            let turned: Vec<Flow> = turned.into_iter().map(|(_, flow)| flow).collect();
            let facts = |pieces: Vec<(Key, Piece)>| pieces.into_iter()
                .map(|(key, piece)| (key, piece.start, piece.end, piece.flags, piece.records, format!("{:?}", piece.counts())))
                .collect::<Vec<_>>();
            prop_assert_eq!(facts(paired(&flows)), facts(paired(&turned)));
        }
    }
}
