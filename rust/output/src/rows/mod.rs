//! Finished connections: kept in little as they come, read as rows.
//!
//! A run may have millions of them. Each is 96 bytes, in segments, so that growing copies nothing; IPv6 addresses and what
//! hardly any connection has are beside them. A [`Row`] reads what it is asked for.

mod letters;
mod packed;
mod segments;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use conntrack_base::checkpoint::{CheckpointError, Reader, Writer};
use conntrack_decode::{Addr, Family, Tunnel, Vlan};
use conntrack_track::config::Config;
use conntrack_track::connection::{EndReason, Endpoint, Evidence};
use conntrack_track::direction::{Direction, Locality};
use conntrack_track::flow::Side;
use conntrack_track::proto::State;
use conntrack_track::tracker::Closed;
use conntrack_track::zeek::ConnState;

pub use letters::HistoryLetters;
pub use packed::Live;
use packed::{Beside, Packed, Rare, flag};
use segments::Segments;

/// Numbers of a heap.
const HEAP: usize = segments::SEGMENT;

/// So few of a heap are sorted faster than put into their places, as where a tracker is drained again and again.
const FEW: usize = 512;

/// Connections that are over, in the order in which they ended. They are in heaps by their numbers, so that each heap can be
/// brought into order within the cache.
pub struct Finished {
    heaps: VecDeque<Vec<Packed>>,
    /// Which of all heaps the first one is.
    first: usize,
    beside: Beside,
    locality: Arc<Locality>,
}

impl Finished {
    /// None yet; seen from these networks.
    pub fn new(locality: Arc<Locality>) -> Self {
        Self { heaps: VecDeque::new(), first: 0, beside: Beside::default(), locality }
    }

    /// None, seen from the same networks.
    #[must_use]
    pub fn none(&self) -> Self {
        Self::new(self.locality.clone())
    }

    /// Adds a closed connection.
    pub fn put(&mut self, closed: &Closed) {
        let packed = Packed::of(closed, &mut self.beside);
        self.keep(packed);
    }

    /// Adds those of another one under these numbers: `own` for their own ones, `named` for those by which they speak of others.
    pub fn add(&mut self, other: Self, own: impl Fn(u64) -> u64, named: impl Fn(u64) -> u64) {
        let moved = self.beside.add(other.beside, named);
        for mut packed in other.heaps.into_iter().flatten() {
            packed.move_to(own(packed.number()), moved);
            self.keep(packed);
        }
    }

    #[inline]
    fn keep(&mut self, packed: Packed) {
        let heap = packed.number() as usize / HEAP;
        if self.heaps.is_empty() {
            self.first = heap;
        }
        while heap < self.first {
            self.heaps.push_front(Vec::new());
            self.first -= 1;
        }
        let heap = heap - self.first;
        if heap >= self.heaps.len() {
            self.heaps.resize_with(heap + 1, Vec::new);
        }
        let heap = &mut self.heaps[heap];
        if heap.is_empty() {
            heap.reserve_exact(HEAP);
        }
        heap.push(packed);
    }

    /// Writes all of them.
    pub fn save(&self, out: &mut Writer<'_, impl Write>) -> io::Result<()> {
        out.put_all(self.beside.addrs.len(), self.beside.addrs.iter())?;
        out.put_all(self.beside.rare.len(), self.beside.rare.iter())?;
        out.put_all(self.heaps.iter().map(Vec::len).sum(), self.heaps.iter().flatten())
    }

    /// Reads what was written. No number is `end` or above.
    pub fn load(&mut self, from: &mut Reader<impl Read>, end: u64) -> Result<(), CheckpointError> {
        from.get_all(|addrs| {
            self.beside.addrs.push(addrs);
            Ok(())
        })?;
        from.get_all(|rare| {
            self.beside.rare.push(rare);
            Ok(())
        })?;
        from.get_all(|packed: Packed| {
            if packed.number() >= end {
                return Err(CheckpointError::damaged("a connection that has not begun is over"));
            }
            self.keep(packed);
            Ok(())
        })
    }

    /// The connections in the order of their numbers. Numbers may be left out; where none is, a number is its row's place.
    pub fn in_order(self) -> Rows {
        let mut packed = Segments::default();
        let mut places = vec![0_u16; HEAP];
        for mut heap in self.heaps.into_iter().filter(|heap| !heap.is_empty()) {
            if heap.len() < FEW {
                heap.sort_unstable_by_key(Packed::number);
                for one in &heap {
                    packed.push(*one);
                }
                continue;
            }
            places.fill(0);
            for (packed, place) in heap.iter().zip(1..) {
                places[packed.number() as usize % HEAP] = place;
            }
            for place in &places {
                if let Some(found) = usize::from(*place).checked_sub(1).and_then(|place| heap.get(place)) {
                    packed.push(*found);
                }
            }
            packed.recycle(heap);
        }
        packed.close();
        Rows { packed, beside: self.beside, locality: self.locality }
    }
}

/// Finished connections in the order of their first packets.
pub struct Rows {
    packed: Segments<Packed>,
    beside: Beside,
    locality: Arc<Locality>,
}

impl Rows {
    /// None.
    pub fn empty(config: &Config) -> Self {
        Finished::new(Arc::new(Locality::new(config))).in_order()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.packed.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row at a place.
    #[inline]
    pub fn get(&self, place: usize) -> Option<Row<'_>> {
        Some(Row { packed: self.packed.get(place)?, rows: self })
    }

    /// The rows at these places.
    ///
    /// # Panics
    ///
    /// At a place that there is not.
    pub fn range(&self, places: Range<usize>) -> impl ExactSizeIterator<Item = Row<'_>> + Clone {
        places.map(|place| self.get(place).expect("a place among the rows"))
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> + Clone {
        self.range(0..self.len())
    }

    /// The local networks and zones.
    pub fn locality(&self) -> &Locality {
        &self.locality
    }

    /// Says anew why the originator of a row is one. `sure`: the evidence that the confidence comes from.
    pub fn revise(&mut self, place: usize, evidence: Evidence, sure: Evidence) {
        if let Some(packed) = self.packed.get_mut(place) {
            (packed.evidence, packed.sure) = (evidence, sure);
        }
    }

    /// Exchanges originator and responder of a row, and everything that belongs to them.
    pub fn flip(&mut self, place: usize) {
        let Some(rare) = self.get(place).map(Row::rare) else { return };
        if let Some(packed) = self.packed.get_mut(place) {
            packed.flip(rare, &self.locality, &mut self.beside);
        }
    }
}

/// A finished connection. What belongs to an end is asked for by its number: 0 is the originator, 1 the responder.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    packed: &'a Packed,
    rows: &'a Rows,
}

impl<'a> Row<'a> {
    #[inline]
    fn beside(self) -> Option<&'a Rare> {
        self.packed.rare(&self.rows.beside)
    }

    /// Everything that a row may have beside it, whether it is there or not.
    fn rare(self) -> Rare {
        self.beside().copied().unwrap_or_else(|| Rare {
            sent: [0, 1].map(|end| self.sent(end)),
            history: self.history(),
            active_until: self.active_until(),
            missed_bytes: 0,
            related_to: None,
            carrier: None,
            pure_acks: [0; 2],
            first_window: [0; 2],
            live: self.live(),
        })
    }

    /// Its number in the order of first packets.
    pub fn number(self) -> u64 {
        self.packed.number()
    }

    /// Capture time of the first packet, nanoseconds.
    pub fn start(self) -> i64 {
        self.packed.start
    }

    /// Capture time of the last packet, nanoseconds.
    pub fn end(self) -> i64 {
        self.packed.end
    }

    /// What the addresses are.
    pub fn family(self) -> Family {
        self.packed.family()
    }

    /// IP protocol number.
    pub fn proto(self) -> u8 {
        self.packed.proto
    }

    /// The address of an end.
    #[inline]
    pub fn addr(self, end: usize) -> Addr {
        if !self.packed.has(flag::V6) {
            return Addr(self.packed.addr[end].into());
        }
        self.rows.beside.addrs.get(self.packed.addr[0] as usize).map_or(Addr::default(), |addrs| addrs[end])
    }

    /// The same in the standard library's form.
    #[inline]
    pub fn ip(self, end: usize) -> IpAddr {
        self.addr(end).ip(self.family())
    }

    /// The port of an end; for ICMP type and counterpart or code.
    pub fn port(self, end: usize) -> u16 {
        self.packed.port[end]
    }

    /// What an end sent.
    #[inline]
    pub fn sent(self, end: usize) -> Endpoint {
        self.beside().map_or_else(|| self.packed.sent[end].endpoint(), |rare| rare.sent[end])
    }

    /// The zone of an end, by number.
    pub fn zone(self, end: usize) -> Option<u16> {
        self.rows.locality.zone(self.ip(end))
    }

    /// An end is in a local network.
    pub fn is_local(self, end: usize) -> bool {
        self.rows.locality.scope(self.ip(end)).is_local
    }

    /// Which side of the key the originator is; labels name sides.
    #[inline]
    pub fn orig(self) -> Side {
        if self.packed.has(flag::ORIG_B) { Side::B } else { Side::A }
    }

    /// Seen from the local networks.
    pub fn direction(self) -> Direction {
        self.packed.direction
    }

    /// The gateway's state after the last packet.
    pub fn state(self) -> State {
        self.packed.state
    }

    /// Zeek's `conn_state`.
    pub fn conn_state(self) -> ConnState {
        self.packed.conn_state[0]
    }

    /// Zeek's history.
    pub fn history(self) -> HistoryLetters {
        self.beside().map_or_else(|| letters::collected(letters::unpack(self.packed.history)), |rare| rare.history)
    }

    /// Capture time, in nanoseconds, of the last packet that Zeek's `duration` counts.
    pub fn active_until(self) -> i64 {
        self.beside().map_or_else(|| self.packed.end - i64::from(self.packed.quiet), |rare| rare.active_until)
    }

    /// Bytes that were acknowledged and not captured, as Zeek counts them.
    pub fn missed_bytes(self) -> u64 {
        self.beside().map_or(0, |rare| rare.missed_bytes)
    }

    /// The gateway's entry survives a full table.
    pub fn is_assured(self) -> bool {
        self.packed.has(flag::ASSURED)
    }

    /// The gateway's entry saw a reply.
    pub fn has_seen_reply(self) -> bool {
        self.packed.has(flag::SEEN_REPLY)
    }

    /// Why we say who initiated.
    #[inline]
    pub fn evidence(self) -> Evidence {
        self.packed.evidence
    }

    /// How sure that makes us, from 0 to 1. Another record of the five-tuple makes us no surer than it is itself.
    pub fn confidence(self) -> f32 {
        self.packed.evidence.confidence().min(self.packed.sure.confidence())
    }

    /// TCP segments of an end that acknowledge and do nothing else, where the opening was not seen.
    pub fn pure_acks(self, end: usize) -> u32 {
        self.beside().map_or(0, |rare| rare.pure_acks[end])
    }

    /// The first window of an end, as `Connection::first_window`.
    pub fn first_window(self, end: usize) -> u16 {
        self.beside().map_or(0, |rare| rare.first_window[end])
    }

    /// The first packet seen was sent by the responder.
    pub fn is_flipped(self) -> bool {
        self.packed.has(flag::FLIPPED)
    }

    /// Its frames were sent to a group address of the link, and nobody answered.
    pub fn was_broadcast(self) -> bool {
        self.packed.has(flag::WAS_BROADCAST)
    }

    /// The originator is an address of many, and the responder is not.
    #[inline]
    pub fn is_from_group(self) -> bool {
        self.packed.has(flag::FROM_GROUP)
    }

    /// It is an ICMP error, which initiates nothing.
    pub fn is_error(self) -> bool {
        self.packed.has(flag::IS_ERROR)
    }

    /// TCP: one end acknowledges what the other must have sent, and nothing of that was captured.
    pub fn answers_unseen(self) -> bool {
        self.packed.has(flag::ANSWERS_UNSEEN)
    }

    /// VLAN tags of the first packet.
    pub fn vlan(self) -> Vlan {
        self.packed.vlan
    }

    /// Tunnel.
    pub fn tunnel(self) -> Tunnel {
        self.packed.tunnel()
    }

    /// The row of the connection that an ICMP error speaks of.
    pub fn related_to(self) -> Option<u64> {
        self.beside()?.related_to
    }

    /// The row of the connection that carries the tunnel it is in.
    pub fn carrier(self) -> Option<u64> {
        self.beside()?.carrier
    }

    /// Why it ended.
    pub fn end_reason(self) -> EndReason {
        self.packed.end_reason
    }

    /// The gateway's entry, where one is alive at the end of the capture.
    pub fn live(self) -> Option<Live> {
        if let Some(rare) = self.beside() {
            return rare.live;
        }
        let seconds = i64::from(self.packed.left.checked_sub(1)?);
        Some(Live::of_all(seconds, self.packed.has(flag::SWAPPED), [0, 1].map(|end| self.sent(end))))
    }
}
