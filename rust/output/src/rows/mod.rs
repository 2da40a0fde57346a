//! Finished connections: packed as they end, read as rows.
//!
//! A run may have millions of rows. Each takes 96 bytes, in segments, so that growing copies nothing. IPv6 addresses and rare
//! fields are in an overflow store. A [`Row`] is a view that decodes one field at a time.

pub mod alone;
mod beside;
mod hosts;
mod letters;
mod packed;
pub mod portable;
mod renamed;
mod revealed;
mod segments;
mod selection;
pub mod told;

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use conntrack_base::checkpoint::{CheckpointError, Reader, Writer};
use conntrack_decode::{Addr, Family, Tunnel, Vlan};
use conntrack_track::config::Config;
use conntrack_track::connection::{EndReason, Endpoint, Evidence};
use conntrack_track::direction::{Direction, Locality};
use conntrack_track::flow::{Side, Tags};
use conntrack_track::proto::State;
use conntrack_track::tracker::Closed;
use conntrack_track::zeek::ConnState;

use beside::Beside;
pub use hosts::Hosts;
pub use letters::HistoryLetters;
pub use packed::Live;
use packed::{Overflow, Packed, Rare, flag};
pub use renamed::renamed;
pub use revealed::{Ends, View, revealed};
use segments::Segments;
pub use selection::Selection;

/// Connection numbers of a bucket.
const BUCKET: usize = segments::SEGMENT;

/// Rows of a bucket below which a comparison sort beats a counting sort, as in a tracker that is drained often.
const FEW: usize = 512;

/// Finished connections in the order in which they ended, in buckets by number: a bucket is sorted within the cache.
pub struct Finished {
    buckets: BTreeMap<usize, Vec<Packed>>,
    overflow: Overflow,
    locality: Arc<Locality>,
}

impl Finished {
    /// No connections; directions are seen from the local networks of `locality`.
    pub fn new(locality: Arc<Locality>) -> Self {
        Self { buckets: BTreeMap::new(), overflow: Overflow::default(), locality }
    }

    /// No connections, with the local networks of `self`.
    #[must_use]
    pub fn none(&self) -> Self {
        Self::new(self.locality.clone())
    }

    /// Adds a closed connection.
    pub fn insert(&mut self, closed: &Closed) {
        let packed = Packed::of(closed, &mut self.overflow);
        self.keep(packed);
    }

    /// Appends the rows of another store under new numbers: `own` maps their own numbers, `named` those of connections they name.
    pub fn add(&mut self, other: Self, own: impl Fn(u64) -> u64, named: impl Fn(u64) -> u64) {
        let shift = self.overflow.add(other.overflow, named);
        for mut packed in other.buckets.into_values().flatten() {
            packed.move_to(own(packed.number()), shift);
            self.keep(packed);
        }
    }

    #[inline]
    fn keep(&mut self, packed: Packed) {
        let bucket = self.buckets.entry(packed.number() as usize / BUCKET).or_default();
        if bucket.len() == bucket.capacity() {
            // Numbers may be far from each other, each alone in its bucket.
            let len = bucket.len();
            let more = if len < FEW { len } else { (3 * len).min(BUCKET.saturating_sub(len)) };
            bucket.reserve_exact(more.max(1));
        }
        bucket.push(packed);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.buckets.values().map(Vec::len).sum()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Writes all rows to a checkpoint.
    pub fn save(&self, out: &mut Writer<'_, impl Write>) -> io::Result<()> {
        out.put_all(self.overflow.addrs.len(), self.overflow.addrs.iter())?;
        out.put_all(self.overflow.rare.len(), self.overflow.rare.iter())?;
        out.put_all(self.len(), self.buckets.values().flatten())
    }

    /// Reads rows from a checkpoint. A number of `end` or above is an error.
    pub fn load(&mut self, from: &mut Reader<impl Read>, end: u64) -> Result<(), CheckpointError> {
        from.get_all(|addrs| {
            self.overflow.addrs.push(addrs);
            Ok(())
        })?;
        from.get_all(|rare| {
            self.overflow.rare.push(rare);
            Ok(())
        })?;
        let mut numbers = HashSet::new();
        from.get_all(|packed: Packed| {
            if packed.number() >= end {
                return Err(CheckpointError::damaged("a connection that has not begun is over"));
            }
            if !packed.is_sound(&self.overflow) || !numbers.insert(packed.number()) {
                return Err(CheckpointError::damaged("a row contradicts itself, or is there twice"));
            }
            self.keep(packed);
            Ok(())
        })
    }

    /// The connections in the order of their numbers. Without gaps, a number is the index of its row.
    pub fn in_order(self) -> Rows {
        let mut packed = Segments::default();
        let mut places = vec![0_u16; BUCKET];
        for mut bucket in self.buckets.into_values() {
            if bucket.len() < FEW {
                bucket.sort_unstable_by_key(Packed::number);
                for one in &bucket {
                    packed.push(*one);
                }
                continue;
            }
            places.fill(0);
            for (packed, place) in bucket.iter().zip(1..) {
                places[packed.number() as usize % BUCKET] = place;
            }
            for place in &places {
                if let Some(found) = usize::from(*place).checked_sub(1).and_then(|place| bucket.get(place)) {
                    packed.push(*found);
                }
            }
            packed.recycle(bucket);
        }
        packed.close();
        Rows { packed, overflow: self.overflow, locality: self.locality, beside: None }
    }
}

/// Finished connections in the order of their first packets.
pub struct Rows {
    packed: Segments<Packed>,
    overflow: Overflow,
    locality: Arc<Locality>,
    /// Facts beyond those of packets.
    beside: Option<Box<Beside>>,
}

impl Rows {
    /// No rows.
    pub fn empty(config: &Config) -> Self {
        Finished::new(Arc::new(Locality::new(config))).in_order()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.packed.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row at an index.
    #[inline]
    pub fn get(&self, place: usize) -> Option<Row<'_>> {
        Some(Row { packed: self.packed.get(place)?, rows: self })
    }

    /// The rows at these indices.
    ///
    /// # Panics
    ///
    /// If an index is not below [`Self::len`].
    pub fn range(&self, places: Range<usize>) -> impl ExactSizeIterator<Item = Row<'_>> + Clone {
        places.map(|place| self.get(place).expect("a place among the rows"))
    }

    /// All rows.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> + Clone {
        self.range(0..self.len())
    }

    /// The local networks and zones.
    pub fn locality(&self) -> &Locality {
        &self.locality
    }

    /// Replaces the evidence of a row. `sure`: the evidence that gives the confidence.
    pub fn revise(&mut self, place: usize, evidence: Evidence, sure: Evidence) {
        if let Some(packed) = self.packed.get_mut(place) {
            (packed.evidence, packed.sure) = (evidence, sure);
        }
    }

    /// Names the row of the connection that made a row expected, unless the row has a parent.
    pub fn relate(&mut self, place: usize, parent: u64) {
        let Some(row) = self.get(place).filter(|row| row.related_to().is_none()) else { return };
        let rare = Rare { related_to: Some(parent), ..row.rare() };
        if let Some(packed) = self.packed.get_mut(place) {
            packed.put_rare(rare, &mut self.overflow);
        }
    }

    /// Exchanges originator and responder of a row, and all fields of either.
    pub fn flip(&mut self, place: usize) {
        let Some(rare) = self.get(place).map(Row::rare) else { return };
        if let Some(packed) = self.packed.get_mut(place) {
            packed.flip(rare, &self.locality, &mut self.overflow);
        }
    }
}

/// A view of a finished connection. Fields of an end are indexed: 0 is the originator, 1 the responder.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    packed: &'a Packed,
    rows: &'a Rows,
}

impl<'a> Row<'a> {
    #[inline]
    fn overflow(self) -> Option<&'a Rare> {
        self.packed.rare(&self.rows.overflow)
    }

    /// All rare fields of a row, with defaults where the overflow store has none.
    fn rare(self) -> Rare {
        self.overflow().copied().unwrap_or_else(|| Rare {
            sent: [0, 1].map(|end| self.sent(end)),
            history: self.history(),
            active_until: self.active_until(),
            missed_bytes: 0,
            related_to: None,
            carrier: None,
            first_window: [0; 2],
            lead: None,
            reply_tags: None,
            live: self.live(),
        })
    }

    /// Number of the connection in the order of first packets.
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

    /// Address family.
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
        self.rows.overflow.addrs.get(self.packed.addr[0] as usize).map_or(Addr::default(), |addrs| addrs[end])
    }

    /// The address of an end as an [`IpAddr`].
    #[inline]
    pub fn ip(self, end: usize) -> IpAddr {
        self.addr(end).ip(self.family())
    }

    /// The port of an end; for ICMP the type, and the type of the reply or the code.
    pub fn port(self, end: usize) -> u16 {
        self.packed.port[end]
    }

    /// Packets and bytes that an end sent.
    #[inline]
    pub fn sent(self, end: usize) -> Endpoint {
        self.overflow().map_or_else(|| self.packed.sent[end].endpoint(), |rare| rare.sent[end])
    }

    /// Zone number of an end.
    pub fn zone(self, end: usize) -> Option<u16> {
        self.rows.locality.zone(self.ip(end))
    }

    /// True where the address of an end is in a local network.
    pub fn is_local(self, end: usize) -> bool {
        self.rows.locality.scope(self.ip(end)).is_local
    }

    /// The originator's side of the flow key; labels refer to sides.
    #[inline]
    pub fn orig(self) -> Side {
        if self.packed.has(flag::ORIG_B) { Side::B } else { Side::A }
    }

    /// Direction as seen from the local networks.
    pub fn direction(self) -> Direction {
        self.packed.direction
    }

    /// Conntrack state after the last packet.
    pub fn state(self) -> State {
        self.packed.state
    }

    /// Zeek's `conn_state`.
    pub fn conn_state(self) -> ConnState {
        self.packed.conn_state[0]
    }

    /// Zeek's history.
    pub fn history(self) -> HistoryLetters {
        self.overflow().map_or_else(|| letters::collected(letters::unpack(self.packed.history)), |rare| rare.history)
    }

    /// Capture time of the last packet that Zeek's `duration` counts, nanoseconds.
    pub fn active_until(self) -> i64 {
        self.overflow().map_or_else(|| self.packed.end - i64::from(self.packed.quiet), |rare| rare.active_until)
    }

    /// Acknowledged bytes that were not captured, as Zeek counts them.
    pub fn missed_bytes(self) -> u64 {
        self.overflow().map_or(0, |rare| rare.missed_bytes)
    }

    /// Nanoseconds from the SYN+ACK to the SYN that was stored after it and put right, negative where the SYN was stamped
    /// earlier; None: the handshake was stored in order.
    pub fn lead(self) -> Option<i64> {
        self.overflow().and_then(|rare| rare.lead)
    }

    /// Conntrack status ASSURED: the entry survives a full table.
    pub fn is_assured(self) -> bool {
        self.packed.has(flag::ASSURED)
    }

    /// Conntrack status SEEN_REPLY.
    pub fn has_seen_reply(self) -> bool {
        self.packed.has(flag::SEEN_REPLY)
    }

    /// Evidence for the originator.
    #[inline]
    pub fn evidence(self) -> Evidence {
        self.packed.evidence
    }

    /// Evidence that gives the confidence: that of another record of the five-tuple, or the row's own.
    pub fn sure(self) -> Evidence {
        self.packed.sure
    }

    /// Confidence in the originator, from 0 to 1. Evidence from another record of the five-tuple counts no more than that record's.
    pub fn confidence(self) -> f32 {
        if let Some(confidence) = self.facts().and_then(|facts| facts.confidence) {
            return confidence;
        }
        self.packed.evidence.confidence().min(self.packed.sure.confidence())
    }

    /// The first window of an end, as `Connection::first_window`.
    pub fn first_window(self, end: usize) -> u16 {
        self.overflow().map_or(0, |rare| rare.first_window[end])
    }

    /// True where the responder sent the first captured packet.
    pub fn is_flipped(self) -> bool {
        self.packed.has(flag::FLIPPED)
    }

    /// True for frames sent to a group address of the link that nobody answered.
    pub fn was_broadcast(self) -> bool {
        self.packed.has(flag::WAS_BROADCAST)
    }

    /// True where the originator is a multicast or broadcast address, and the responder is not.
    #[inline]
    pub fn is_from_group(self) -> bool {
        self.packed.has(flag::FROM_GROUP)
    }

    /// True for an ICMP error, which initiates nothing.
    pub fn is_error(self) -> bool {
        self.packed.has(flag::IS_ERROR)
    }

    /// TCP: true where one end acknowledges data of the other, of which no packet was captured.
    pub fn answers_unseen(self) -> bool {
        self.packed.has(flag::ANSWERS_UNSEEN)
    }

    /// VLAN tags of the first packet.
    pub fn vlan(self) -> Vlan {
        self.packed.vlan
    }

    /// True where the tags differ by direction.
    #[inline]
    pub fn has_other_tags(self) -> bool {
        self.packed.has(flag::OTHER_TAGS)
    }

    /// Tags of the first packet of the other direction, where they differ from those of the first packet.
    pub fn reply_tags(self) -> Option<Tags> {
        self.overflow()?.reply_tags
    }

    /// Innermost tunnel around the connection.
    pub fn tunnel(self) -> Tunnel {
        self.packed.tunnel()
    }

    /// Row number of the connection that an ICMP error quotes, or that made this one expected.
    pub fn related_to(self) -> Option<u64> {
        self.overflow()?.related_to
    }

    /// Row number of the connection that carries the tunnel.
    pub fn carrier(self) -> Option<u64> {
        self.overflow()?.carrier
    }

    /// Reason for the end of the connection.
    pub fn end_reason(self) -> EndReason {
        self.packed.end_reason
    }

    /// The conntrack entry, if alive at the end of the capture.
    pub fn live(self) -> Option<Live> {
        if let Some(rare) = self.overflow() {
            return rare.live;
        }
        let seconds = i64::from(self.packed.left.checked_sub(1)?);
        Some(Live::of_all(seconds, self.packed.has(flag::SWAPPED), [0, 1].map(|end| self.sent(end))))
    }
}
