//! Fragments: later ones have no ports, so they are given those of the first.
//!
//! Nothing is put together; what has come is only noted. A datagram is remembered from its first fragment (or from later ones that overtook it) for
//! as long as Linux would try to reassemble it. An entry can be replaced but not added to by a second "first"
//! fragment, and what is remembered is bounded: the oldest datagram goes first.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use ahash::AHashMap as HashMap;
use serde::{Deserialize, Serialize};

use super::assembly::Assembly;
use super::ip::Piece;
use super::transport::has_payload;
use super::{Addr, Family, FiveTuple, L4, Packet, Tunnel, Vlan};
use conntrack_base::checkpoint::{CheckpointError, Count, Reader, Writer};

/// Datagrams remembered at once.
pub(super) const MOST_DATAGRAMS: usize = 65_536;
/// Nanoseconds that an IPv4 datagram is remembered; Linux: net.ipv4.ipfrag_time.
pub(super) const IPFRAG_TIME: i64 = 30_000_000_000;
/// The same for IPv6; Linux: net.netfilter.nf_conntrack_frag6_timeout.
pub(super) const NF_CONNTRACK_FRAG6_TIMEOUT: i64 = 60_000_000_000;

/// What the fragments of a datagram have in common: RFC 791 section 3.2, RFC 8200 section 4.5; and the network that
/// they are in, for addresses mean something only there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Key {
    src: Addr,
    dst: Addr,
    id: u32,
    vlan: Vlan,
    tunnel: Tunnel,
    /// 0 for IPv6, where a later fragment's next header may differ from the first one's.
    proto: u8,
    family: Family,
}

impl Key {
    /// The key of a fragment with this identification; `packet` needs addresses, protocol, VLAN and tunnel only.
    pub fn new(packet: &Packet, id: u32) -> Self {
        let FiveTuple { src, dst, proto, family, .. } = packet.tuple;
        let proto = if family == Family::V4 { proto } else { 0 };
        Self { src, dst, id, vlan: packet.vlan, tunnel: packet.tunnel, proto, family }
    }
}

/// What later fragments take from the first.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct First {
    tuple: FiveTuple,
    vlan: Vlan,
    tunnel: Tunnel,
    flow_id: u16,
    l4: L4,
    /// Bytes of the IP header.
    ip_header: u32,
    /// Bytes of the transport header.
    header: u32,
    /// What the UDP header says is the length.
    udp_length: Option<u32>,
    /// The packet is one that the datagram carries, whose header has already said its whole length.
    carried: bool,
    /// The packet that the datagram carries, which is whole once the datagram is.
    inside: Option<Box<Packet>>,
}

impl First {
    fn of(packet: &Packet, length: u32, udp_length: Option<u32>) -> Self {
        let Packet { tuple, vlan, tunnel, flow_id, l4, payload_bytes, ip_bytes, .. } = *packet;
        let (ip_header, header) = (ip_bytes.saturating_sub(length), length.saturating_sub(payload_bytes));
        Self { tuple, vlan, tunnel, flow_id, l4, ip_header, header, udp_length, carried: false, inside: None }
    }

    /// Makes the packet of the completing fragment speak for its datagram, whose payload is `total` bytes long, or for
    /// the one that the datagram carries. Returns the latter where it is a packet of its own.
    fn complete(&mut self, packet: &mut Packet, total: u32) -> Option<Packet> {
        let inside = self.inside.take();
        if self.carried {
            if let Some(inside) = inside {
                *packet = completed(&inside);
            }
            return None;
        }
        packet.complete = true;
        packet.l4 = self.l4;
        packet.segment_bytes = total.saturating_sub(self.header);
        packet.datagram_bytes = self.ip_header.saturating_add(total);
        packet.malformed = self.header > total || self.udp_length.is_some_and(|length| length < 8 || length > total);
        inside.map(|inside| completed(&inside))
    }
}

/// A datagram.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    /// What has come of it.
    assembly: Assembly,
    /// None while only later fragments have come.
    first: Option<First>,
    /// Payload of later fragments that came before the first.
    early_bytes: u32,
    /// How many they were.
    early_records: u32,
    /// Capture time of the fragment that began the entry.
    begun: i64,
    /// When the entry began, in begun entries: tells a renewed one from what the queue remembers.
    stamp: u64,
}

/// All datagrams with fragments to come.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    entries: HashMap<Key, Entry>,
    /// Every key of `entries` once, oldest first, with the stamp it had when it was put here.
    queue: VecDeque<(Key, u64)>,
    stamps: u64,
    /// Early fragments whose first one came in time are taken off again.
    orphans: u64,
}

impl Fragments {
    /// Later fragments whose first one has not come.
    pub fn orphans(&self) -> u64 {
        self.orphans
    }

    /// Remembers a first fragment, whose IP payload has `length` bytes, and adds to its packet what came before it.
    pub fn first(&mut self, key: Key, packet: &mut Packet, length: u32, udp_length: Option<u32>, ts: i64) {
        self.forget_expired(ts);
        let stamp = self.next_stamp();
        let mut first = First::of(packet, length, udp_length);
        let assembly = Assembly::default();
        let mut fresh = Entry { assembly, first: None, early_bytes: 0, early_records: 0, begun: ts, stamp };
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
            // Its place in the queue stands.
            self.entries.insert(key, fresh);
        } else {
            self.insert(key, fresh);
        }
    }

    /// Makes the later fragments of a datagram belong to `packet`, which it carries.
    pub fn carry(&mut self, key: &Key, packet: &Packet) {
        if let Some(entry) = self.entries.get_mut(key) {
            let Packet { tuple, vlan, tunnel, flow_id, .. } = *packet;
            if let Some(first) = &mut entry.first {
                *first = First { tuple, vlan, tunnel, flow_id, carried: true, ..first.clone() };
            }
        }
    }

    /// Keeps the packet that an incomplete datagram carries until the datagram is whole.
    pub fn hold(&mut self, key: &Key, packet: &Packet) {
        if let Some(first) = self.entries.get_mut(key).and_then(|entry| entry.first.as_mut()) {
            first.inside = Some(Box::new(*packet));
        }
    }

    /// A later fragment with `bytes` of payload: fills in `packet` where the first one is known (true), else keeps
    /// the bytes for it (false). With it, a packet that was inside a datagram that this fragment makes whole.
    pub fn later(
        &mut self,
        key: Key,
        piece: Piece,
        bytes: u32,
        packet: &mut Packet,
        ts: i64,
    ) -> (bool, Option<Packet>) {
        self.forget_expired(ts);
        let stamp = self.next_stamp();
        let mut assembly = Assembly::default();
        assembly.add(key.family, piece.offset, bytes, piece.more);
        let early = Entry { assembly, first: None, early_bytes: bytes, early_records: 1, begun: ts, stamp };
        match self.entries.get_mut(&key) {
            None => self.insert(key, early),
            Some(entry) if is_expired(&key, entry, ts) => *entry = early,
            Some(Entry { first: Some(first), assembly, .. }) => {
                packet.tuple = first.tuple;
                packet.vlan = first.vlan;
                packet.tunnel = first.tunnel;
                packet.flow_id = first.flow_id;
                packet.packets = 0;
                packet.ip_bytes = 0;
                if !first.carried {
                    add(packet, bytes);
                }
                let whole = assembly.add(key.family, piece.offset, bytes, piece.more);
                return (true, whole.and_then(|total| first.complete(packet, total)));
            }
            Some(entry) => {
                entry.assembly.add(key.family, piece.offset, bytes, piece.more);
                entry.early_bytes = entry.early_bytes.saturating_add(bytes);
                entry.early_records = entry.early_records.saturating_add(1);
            }
        }
        self.orphans += 1;
        (false, None)
    }

    /// Forgets a datagram, so that its later fragments are orphans.
    pub fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.first = None;
        }
    }

    /// Writes all datagrams, in the order in which they will be forgotten.
    pub fn save(&self, out: &mut Writer<'_, impl Write>) -> io::Result<()> {
        out.put(&(self.stamps, self.orphans))?;
        let known = self.queue.iter().map(|(key, stamp)| (key, stamp, self.entries.get(key)));
        out.put_all(self.queue.len(), known)
    }

    /// Reads what was written.
    pub fn load(from: &mut Reader<impl Read>) -> Result<Self, CheckpointError> {
        let mut fragments = Self::default();
        (Count(fragments.stamps), Count(fragments.orphans)) = from.get()?;
        from.get_all(|(key, stamp, entry): (Key, u64, Option<Entry>)| {
            fragments.queue.push_back((key, stamp));
            fragments.entries.extend(entry.map(|entry| (key, entry)));
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

    fn insert(&mut self, key: Key, entry: Entry) {
        while self.entries.len() >= MOST_DATAGRAMS {
            self.forget_oldest_if(|_, _| true);
        }
        self.queue.push_back((key, entry.stamp));
        self.entries.insert(key, entry);
    }

    fn forget_expired(&mut self, ts: i64) {
        while self.forget_oldest_if(|key, entry| is_expired(key, entry, ts)) {}
    }

    /// Takes the front of the queue out if `test` says so; moves it to the back if its entry has begun anew since.
    /// False where it stays. Each entry is moved once per beginning at most.
    fn forget_oldest_if(&mut self, test: impl FnOnce(&Key, &Entry) -> bool) -> bool {
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

/// A packet that was counted with the first fragment of its carrier, whole now.
fn completed(inside: &Packet) -> Packet {
    Packet { packets: 0, ip_bytes: 0, payload_bytes: 0, complete: true, cut: false, payload: (0, 0), ..*inside }
}

/// Adds the payload of a later fragment to a packet.
fn add(packet: &mut Packet, bytes: u32) {
    packet.ip_bytes = packet.ip_bytes.saturating_add(bytes);
    if has_payload(&packet.tuple) {
        packet.payload_bytes = packet.payload_bytes.saturating_add(bytes);
    }
}

/// By capture time; a clock that went back expires nothing.
fn is_expired(key: &Key, entry: &Entry, ts: i64) -> bool {
    let timeout = match key.family {
        Family::V4 => IPFRAG_TIME,
        Family::V6 => NF_CONNTRACK_FRAG6_TIMEOUT,
    };
    ts.saturating_sub(entry.begun) > timeout
}
