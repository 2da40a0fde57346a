//! Fragment tracking: later fragments have no ports and inherit the first fragment's.
//!
//! No datagram is reassembled; only the received byte ranges are recorded. A datagram is remembered from its first
//! received fragment on, for the time of Linux reassembly. A second first fragment replaces an entry, and never
//! extends the entry. Memory is bounded: the oldest datagram is evicted first.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use ahash::AHashMap as HashMap;
use serde::{Deserialize, Serialize};

use super::assembly::Assembly;
use super::ip::Fragment;
use super::transport::has_payload;
use super::{Addr, Family, FiveTuple, L4, Packet, Tunnel, Vlan};
use conntrack_base::checkpoint::{CheckpointError, Count, Reader, Writer};

/// Maximum number of datagrams in memory.
pub(super) const MOST_DATAGRAMS: usize = 65_536;
/// Lifetime of an IPv4 datagram in nanoseconds; Linux: net.ipv4.ipfrag_time.
pub(super) const IPFRAG_TIME: i64 = 30_000_000_000;
/// Lifetime of an IPv6 datagram in nanoseconds; Linux: net.netfilter.nf_conntrack_frag6_timeout.
pub(super) const NF_CONNTRACK_FRAG6_TIMEOUT: i64 = 60_000_000_000;

/// Key of a datagram's fragments (RFC 791 section 3.2, RFC 8200 section 4.5). VLAN and tunnel belong to the key,
/// because addresses are unique only within a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Key {
    src: Addr,
    dst: Addr,
    id: u32,
    vlan: Vlan,
    tunnel: Tunnel,
    /// Protocol; 0 for IPv6, where a later fragment's next header may differ from the first fragment's.
    proto: u8,
    family: Family,
}

impl Key {
    /// Key of a fragment with this identification; only addresses, protocol, VLAN and tunnel of `packet` matter.
    pub fn new(packet: &Packet, id: u32) -> Self {
        let FiveTuple { src, dst, proto, family, .. } = packet.tuple;
        let proto = if family == Family::V4 { proto } else { 0 };
        Self { src, dst, id, vlan: packet.vlan, tunnel: packet.tunnel, proto, family }
    }
}

/// Properties that later fragments inherit from the first.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct FirstFragment {
    tuple: FiveTuple,
    vlan: Vlan,
    tunnel: Tunnel,
    flow_id: u16,
    l4: L4,
    /// Size of the IP header in bytes.
    ip_header: u32,
    /// Size of the transport header in bytes.
    header: u32,
    /// Length field of the UDP header.
    udp_length: Option<u32>,
    /// True if the packet is the inner packet of the datagram, whose length is in its own header.
    is_inner: bool,
    /// Inner packet of the datagram, complete once the datagram is.
    inner: Option<Box<Packet>>,
}

impl FirstFragment {
    fn of(packet: &Packet, length: u32, udp_length: Option<u32>) -> Self {
        let Packet { tuple, vlan, tunnel, flow_id, l4, payload_bytes, ip_bytes, .. } = *packet;
        let (ip_header, header) = (ip_bytes.saturating_sub(length), length.saturating_sub(payload_bytes));
        Self { tuple, vlan, tunnel, flow_id, l4, ip_header, header, udp_length, is_inner: false, inner: None }
    }

    /// Complete the datagram, of `total` payload bytes, with the completing fragment's `packet`. If later fragments
    /// count for the inner packet, `packet` becomes the inner packet; otherwise the inner packet is returned.
    fn complete(&mut self, packet: &mut Packet, total: u32) -> Option<Packet> {
        let inner = self.inner.take();
        if self.is_inner {
            if let Some(inner) = inner {
                *packet = completed(&inner);
            }
            return None;
        }
        packet.complete = true;
        packet.l4 = self.l4;
        packet.segment_bytes = total.saturating_sub(self.header);
        packet.datagram_bytes = self.ip_header.saturating_add(total);
        packet.malformed = self.header > total || self.udp_length.is_some_and(|length| length < 8 || length > total);
        inner.map(|inner| completed(&inner))
    }
}

/// State of a datagram.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Datagram {
    /// Received byte ranges.
    assembly: Assembly,
    /// None before the first fragment.
    first: Option<FirstFragment>,
    /// Payload bytes of later fragments that preceded the first.
    early_bytes: u32,
    /// Number of later fragments that preceded the first.
    early_records: u32,
    /// Capture time in nanoseconds of the fragment that created the entry.
    created: i64,
    /// Sequence number of the entry's creation; tells a recreated entry from an older element of the queue.
    stamp: u64,
}

/// Datagrams with missing fragments.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    entries: HashMap<Key, Datagram>,
    /// Every key of `entries` once, oldest first, with the stamp at the time of the push.
    queue: VecDeque<(Key, u64)>,
    stamps: u64,
    /// Count of early fragments; a first fragment in time subtracts its early fragments.
    orphans: u64,
    /// Count of datagrams forgotten to make room.
    forgotten: u64,
}

impl Fragments {
    /// Number of datagrams forgotten before their time, to make room for others.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Number of later fragments without a first fragment.
    pub fn orphans(&self) -> u64 {
        self.orphans
    }

    /// Insert a first fragment with `length` bytes of IP payload, and add earlier fragments to its packet.
    pub fn insert_first(&mut self, key: Key, packet: &mut Packet, length: u32, udp_length: Option<u32>, ts: i64) {
        self.forget_expired(ts);
        let stamp = self.next_stamp();
        let mut first = FirstFragment::of(packet, length, udp_length);
        let assembly = Assembly::default();
        let mut fresh = Datagram { assembly, first: None, early_bytes: 0, early_records: 0, created: ts, stamp };
        let old = self.entries.remove(&key);
        let known = old.is_some();
        if let Some(old) = old.filter(|old| !is_expired(&key, old, ts)) {
            self.orphans = self.orphans.saturating_sub(old.early_records.into());
            add(packet, old.early_bytes);
            fresh.assembly = old.assembly;
        }
        if let Some(total) = fresh.assembly.add(key.family, 0, length, true) {
            first.complete(packet, total);
        }
        fresh.first = Some(first);
        if known {
            // The key keeps its position in the queue.
            self.entries.insert(key, fresh);
        } else {
            self.insert(key, fresh);
        }
    }

    /// Attribute the later fragments of a datagram to `packet`, the inner packet.
    pub fn assign_later(&mut self, key: &Key, packet: &Packet) {
        if let Some(entry) = self.entries.get_mut(key) {
            let Packet { tuple, vlan, tunnel, flow_id, .. } = *packet;
            if let Some(first) = &mut entry.first {
                *first = FirstFragment { tuple, vlan, tunnel, flow_id, is_inner: true, ..first.clone() };
            }
        }
    }

    /// Store the inner packet of an incomplete datagram until the datagram is complete.
    pub fn hold_inner(&mut self, key: &Key, packet: &Packet) {
        if let Some(first) = self.entries.get_mut(key).and_then(|entry| entry.first.as_mut()) {
            first.inner = Some(Box::new(*packet));
        }
    }

    /// Process a later fragment with `bytes` of payload. With a known first fragment, `packet` inherits its
    /// properties (true); otherwise the bytes are recorded (false). The second value is an inner packet that this
    /// fragment completes.
    pub fn insert_later(
        &mut self,
        key: Key,
        fragment: Fragment,
        bytes: u32,
        packet: &mut Packet,
        ts: i64,
    ) -> (bool, Option<Packet>) {
        self.forget_expired(ts);
        let stamp = self.next_stamp();
        let mut assembly = Assembly::default();
        assembly.add(key.family, fragment.offset, bytes, fragment.more);
        let early = Datagram { assembly, first: None, early_bytes: bytes, early_records: 1, created: ts, stamp };
        match self.entries.get_mut(&key) {
            None => self.insert(key, early),
            Some(entry) if is_expired(&key, entry, ts) => *entry = early,
            Some(Datagram { first: Some(first), assembly, .. }) => {
                packet.tuple = first.tuple;
                packet.vlan = first.vlan;
                packet.tunnel = first.tunnel;
                packet.flow_id = first.flow_id;
                packet.packets = 0;
                packet.ip_bytes = 0;
                if !first.is_inner {
                    add(packet, bytes);
                }
                let whole = assembly.add(key.family, fragment.offset, bytes, fragment.more);
                return (true, whole.and_then(|total| first.complete(packet, total)));
            }
            Some(entry) => {
                entry.assembly.add(key.family, fragment.offset, bytes, fragment.more);
                entry.early_bytes = entry.early_bytes.saturating_add(bytes);
                entry.early_records = entry.early_records.saturating_add(1);
            }
        }
        self.orphans += 1;
        (false, None)
    }

    /// Drop the first fragment of a datagram, so that later fragments are orphans.
    pub fn forget_first(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.first = None;
        }
    }

    /// Save all datagrams, in eviction order.
    pub fn save(&self, out: &mut Writer<'_, impl Write>) -> io::Result<()> {
        out.put(&(self.stamps, self.orphans))?;
        let known = self.queue.iter().map(|(key, stamp)| (key, stamp, self.entries.get(key)));
        out.put_all(self.queue.len(), known)
    }

    /// Load the result of [`Self::save`].
    pub fn load(from: &mut Reader<impl Read>) -> Result<Self, CheckpointError> {
        let mut fragments = Self::default();
        // Counts of the account, here and in the datagrams, begin anew.
        (Count(fragments.stamps), Count(_)) = from.get()?;
        from.get_all(|(key, stamp, entry): (Key, u64, Option<Datagram>)| {
            let Some(mut entry) = entry.filter(|entry| stamp <= entry.stamp && entry.stamp <= fragments.stamps) else {
                return Err(CheckpointError::damaged("a datagram is not there"));
            };
            if !entry.assembly.is_sound() {
                return Err(CheckpointError::damaged("the pieces of a datagram contradict each other"));
            }
            entry.early_records = 0;
            fragments.queue.push_back((key, stamp));
            if fragments.entries.insert(key, entry).is_some() || fragments.queue.len() > MOST_DATAGRAMS {
                return Err(CheckpointError::damaged("a datagram is there twice, or too many are"));
            }
            Ok(())
        })?;
        Ok(fragments)
    }

    #[cfg(test)]
    pub fn remembered(&self) -> (usize, usize) {
        (self.entries.len(), self.queue.len())
    }

    fn next_stamp(&mut self) -> u64 {
        self.stamps += 1;
        self.stamps
    }

    fn insert(&mut self, key: Key, entry: Datagram) {
        while self.entries.len() >= MOST_DATAGRAMS {
            self.forget_oldest_if(|_, _| true);
            self.forgotten += u64::from(self.entries.len() < MOST_DATAGRAMS);
        }
        self.queue.push_back((key, entry.stamp));
        self.entries.insert(key, entry);
    }

    fn forget_expired(&mut self, ts: i64) {
        while self.forget_oldest_if(|key, entry| is_expired(key, entry, ts)) {}
    }

    /// Pop the front of the queue if `test` is true, or move the front to the back if its entry was recreated. False
    /// if the front stays. Each entry moves at most once per creation.
    fn forget_oldest_if(&mut self, test: impl FnOnce(&Key, &Datagram) -> bool) -> bool {
        let Some(&(key, stamp)) = self.queue.front() else { return false };
        match self.entries.get(&key) {
            Some(entry) if entry.stamp != stamp => {
                let stamp = entry.stamp;
                self.queue.pop_front();
                self.queue.push_back((key, stamp));
            }
            Some(entry) if !test(&key, entry) => return false,
            _ => {
                self.queue.pop_front();
                self.entries.remove(&key);
            }
        }
        true
    }
}

/// The completed form of an inner packet, whose bytes were counted with the carrier's first fragment.
fn completed(inner: &Packet) -> Packet {
    Packet { packets: 0, ip_bytes: 0, payload_bytes: 0, complete: true, cut: false, payload: (0, 0), ..*inner }
}

/// Add the payload of a later fragment to a packet.
fn add(packet: &mut Packet, bytes: u32) {
    packet.ip_bytes = packet.ip_bytes.saturating_add(bytes);
    if has_payload(&packet.tuple) {
        packet.payload_bytes = packet.payload_bytes.saturating_add(bytes);
    }
}

/// Time in nanoseconds that fragments wait for the rest of their datagram.
pub fn lifetime(family: Family) -> i64 {
    match family {
        Family::V4 => IPFRAG_TIME,
        Family::V6 => NF_CONNTRACK_FRAG6_TIMEOUT,
    }
}

/// True past the lifetime in capture time; a clock that steps back expires nothing.
fn is_expired(key: &Key, entry: &Datagram, ts: i64) -> bool {
    ts.saturating_sub(entry.created) > lifetime(key.family)
}
