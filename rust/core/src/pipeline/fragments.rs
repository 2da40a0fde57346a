//! One fate for all fragments of a datagram. A gateway reassembles before it judges (`nf_defrag_ipv4.c`,
//! `nf_conntrack_reasm.c` of Linux): fragments wait, and pass or are dropped with the fragment that completes their datagram.
//! A datagram that is never complete is dropped.

use std::collections::{HashMap, VecDeque};

use conntrack_capture::Record;
use conntrack_decode::fragment::lifetime;
use conntrack_decode::{Addr, Family, FiveTuple, Flat, Vlan};

/// Maximum number of fragments that wait, over all datagrams; beyond, the oldest datagram is dropped.
const MOST_WAITING: usize = 1 << 20;

/// Datagram of a fragment (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct DatagramKey {
    src: Addr,
    dst: Addr,
    family: Family,
    /// 0 for IPv6, where later fragments may name another header.
    proto: u8,
    id: u32,
    vlan: Vlan,
}

impl DatagramKey {
    /// The key of a record whose outermost IP packet is a fragment; None for whole packets.
    pub(super) fn of(record: &Record, bytes: &[u8]) -> Option<Self> {
        let Flat { tuple: Some(tuple), ip_id, fragment_offset, more_fragments, vlan, .. } = Flat::read(record, bytes)
        else {
            return None;
        };
        let FiveTuple { src, dst, family, proto, .. } = tuple;
        let proto = if family == Family::V4 { proto } else { 0 };
        (fragment_offset > 0 || more_fragments).then_some(Self { src, dst, family, proto, id: ip_id, vlan })
    }
}

/// A fragment that waits: the number of its record, and its connection.
pub(super) type Waiting = (u64, Option<u64>);

/// Fragments of a datagram.
struct Datagram {
    begun: i64,
    stamp: u64,
    waiting: Vec<Waiting>,
}

/// Datagrams that are not complete.
#[derive(Default)]
pub(super) struct Fragments {
    datagrams: HashMap<DatagramKey, Datagram>,
    /// Keys in the order of their first fragments.
    order: VecDeque<(DatagramKey, u64)>,
    waiting: usize,
    stamps: u64,
}

impl Fragments {
    /// Adds a fragment; `dropped` is told the fragments of datagrams that are given up.
    pub(super) fn add(&mut self, key: DatagramKey, ts: i64, one: Waiting, mut dropped: impl FnMut(Waiting)) {
        if self.datagrams.get(&key).is_some_and(|old| ts.saturating_sub(old.begun) > lifetime(key.family)) {
            self.take(&key).into_iter().for_each(&mut dropped);
        }
        while self.waiting >= MOST_WAITING
            && let Some((oldest, stamp)) = self.order.pop_front()
        {
            if self.datagrams.get(&oldest).is_some_and(|datagram| datagram.stamp == stamp) {
                self.take(&oldest).into_iter().for_each(&mut dropped);
            }
        }
        self.waiting += 1;
        if let Some(datagram) = self.datagrams.get_mut(&key) {
            datagram.waiting.push(one);
            return;
        }
        self.stamps += 1;
        self.order.push_back((key, self.stamps));
        self.datagrams.insert(key, Datagram { begun: ts, stamp: self.stamps, waiting: vec![one] });
        if self.order.len() > 2 * self.datagrams.len() + 64 {
            let datagrams = &self.datagrams;
            self.order.retain(|(key, stamp)| datagrams.get(key).is_some_and(|datagram| datagram.stamp == *stamp));
        }
    }

    /// Takes the fragments of a datagram that is complete.
    pub(super) fn take(&mut self, key: &DatagramKey) -> Vec<Waiting> {
        let taken = self.datagrams.remove(key).map(|datagram| datagram.waiting).unwrap_or_default();
        self.waiting -= taken.len();
        taken
    }

    /// Takes all that wait at the end.
    pub(super) fn finish(&mut self) -> Vec<Waiting> {
        self.waiting = 0;
        let mut all: Vec<_> = self.datagrams.drain().flat_map(|(_, datagram)| datagram.waiting).collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u32) -> DatagramKey {
        let addr = |last| Addr::v4([10, 0, 0, last]);
        DatagramKey { src: addr(1), dst: addr(2), family: Family::V4, proto: 17, id, vlan: Vlan::default() }
    }

    #[test]
    fn fragments_wait_for_their_datagram_and_no_longer() {
        let (mut fragments, mut dropped) = (Fragments::default(), Vec::new());
        fragments.add(key(1), 0, (0, None), |one| dropped.push(one));
        fragments.add(key(2), 0, (1, Some(7)), |one| dropped.push(one));
        fragments.add(key(1), lifetime(Family::V4), (2, None), |one| dropped.push(one));
        assert!(dropped.is_empty());
        fragments.add(key(2), lifetime(Family::V4) + 1, (3, Some(7)), |one| dropped.push(one));
        assert_eq!(dropped, [(1, Some(7))]);
        assert_eq!(fragments.take(&key(1)), [(0, None), (2, None)]);
        assert!(fragments.take(&key(1)).is_empty());
        assert_eq!(fragments.finish(), [(3, Some(7))]);
        assert_eq!(fragments.waiting, 0);
    }

    #[test]
    fn memory_is_bounded() {
        let (mut fragments, mut dropped) = (Fragments::default(), 0);
        for number in 0..MOST_WAITING as u64 + 1000 {
            fragments.add(key(number as u32 / 2), 0, (number, None), |_| dropped += 1);
            if number % 3 == 0 {
                fragments.take(&key(number as u32 / 2));
            }
        }
        assert!(fragments.waiting <= MOST_WAITING && fragments.order.len() <= 2 * fragments.datagrams.len() + 65);
        let whole = fragments.finish().len();
        assert!(whole <= MOST_WAITING);
    }
}
