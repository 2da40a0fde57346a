//! The key of a packet, the sender's side, and the scopes of both ends.

use std::sync::Arc;

use crate::config::{Config, VlanMode};
use crate::conn::path;
use crate::direction::Locality;
use crate::flow::hash::shard_of;
use crate::flow::{Descriptor, FlowKey, KeyHasher, Side};
use crate::table::Lookup;
use crate::zeek;
use conntrack_decode::{FiveTuple, L4, Packet, Tunnel, TunnelMode, Vlan};

/// A packet's key with its hash, and the sender's side.
#[derive(Clone, Copy, Debug, Default)]
pub struct PacketLookup {
    /// The key.
    pub lookup: Lookup,
    /// The sender.
    pub side: Side,
}

/// The key maker of packets, for one tracker or several with common keys.
#[derive(Clone)]
pub struct Keys {
    hasher: KeyHasher,
    locality: Arc<Locality>,
    /// Tags are part of the key.
    tags_in_key: bool,
    /// Use Zeek's keys.
    zeek: bool,
}

impl Keys {
    /// Keys for the trackers of this configuration. The hash is keyed: an attacker gains nothing by tuples chosen to
    /// collide.
    pub fn new(config: &Config) -> Self {
        Self {
            hasher: KeyHasher::new(config.hash_key),
            locality: Arc::new(Locality::new(config)),
            // A gateway terminates VLANs, and sees no tags.
            tags_in_key: config.decode.tunnels != TunnelMode::Outer && config.vlan != VlanMode::Ignore,
            zeek: config.zeek,
        }
    }

    /// True where VLANs tell connections apart.
    pub fn are_tags_in_key(&self) -> bool {
        self.tags_in_key
    }

    /// The hasher of keys.
    pub fn hasher(&self) -> &KeyHasher {
        &self.hasher
    }

    /// The local networks and zones.
    pub fn locality(&self) -> &Arc<Locality> {
        &self.locality
    }

    /// The scopes of a key's ends, as bits of [`path`].
    pub fn places(&self, key: &FlowKey) -> u32 {
        let mut bits = 0;
        for side in Side::BOTH {
            let scope = self.locality.scope_of(key.addr(side).ip(key.family), key.proto);
            bits |= if scope.is_local { path::LOCAL[side as usize] } else { 0 };
            bits |= if scope.is_group { path::GROUP[side as usize] } else { 0 };
        }
        bits
    }

    /// The key of a packet with a descriptor.
    #[inline]
    pub fn found(&self, one: &Descriptor, wide: &[u64; 4]) -> PacketLookup {
        PacketLookup { lookup: Lookup { words: one.words(wide), hash: one.hash }, side: one.side() }
    }

    /// The descriptor of a decoded packet, with the first four words of a wide key; None where the packet is not
    /// ordinary.
    pub fn describe(&self, packet: &Packet, ts: i64, frame: &[u8]) -> Option<(Descriptor, [u64; 4])> {
        if self.zeek || !Descriptor::may_be_of(packet) {
            return None;
        }
        let PacketLookup { lookup, side } = self.of(packet);
        let (mut one, wide) = Descriptor::of_any(packet, ts, (lookup.words, side), frame)?;
        one.hash = lookup.hash;
        Some((one, wide))
    }

    /// The key of any packet.
    pub fn of(&self, packet: &Packet) -> PacketLookup {
        self.of_tuple(&packet.tuple, packet.flow_id, packet.vlan, packet.tunnel)
    }

    /// The key of the packet that an ICMP error quotes, if the error's destination is that packet's sender.
    pub fn quoted(&self, packet: &Packet) -> Option<PacketLookup> {
        let L4::IcmpError { quoted: Some(quoted), quoted_id, .. } = packet.l4 else { return None };
        let is_about = !packet.malformed && !packet.bad_checksum && packet.tuple.dst == quoted.src;
        is_about.then(|| self.of_tuple(&quoted, quoted_id, packet.vlan, packet.tunnel))
    }

    /// The key of a five-tuple with ports, outside of tunnels.
    pub fn of_ports(&self, tuple: &FiveTuple, vlan: Vlan) -> PacketLookup {
        self.of_tuple(tuple, 0, vlan, Tunnel::default())
    }

    fn of_tuple(&self, tuple: &FiveTuple, id: u16, vlan: Vlan, tunnel: Tunnel) -> PacketLookup {
        let (key, side) = match (self.zeek, self.tags_in_key) {
            (true, _) => zeek::key(tuple),
            (false, true) => FlowKey::of_tuple(tuple, id, vlan, tunnel),
            (false, false) => FlowKey::of_tuple(tuple, id, Vlan::default(), Tunnel { vni: 0, ..tunnel }),
        };
        PacketLookup { lookup: self.of_key(&key), side }
    }

    /// A key with its hash.
    pub(super) fn of_key(&self, key: &FlowKey) -> Lookup {
        let words = key.words();
        Lookup { words, hash: self.hasher.words(&words) }
    }

    /// Test for keys that contain the tags.
    pub(super) fn contain_tags(&self) -> bool {
        self.tags_in_key
    }

    /// The shard of an ordinary packet, of so many; see [`Self::shard`].
    #[inline]
    pub fn shard_of(&self, one: &Descriptor, wide: &[u64; 4], shards: usize) -> usize {
        if one.is_tagged() { self.shard(&self.found(one, wide).lookup, shards) } else { shard_of(one.hash, shards) }
    }

    /// The shard of a key, of so many. Tags are left out: they may differ between the directions of a connection.
    pub fn shard(&self, lookup: &Lookup, shards: usize) -> usize {
        let words = &lookup.words;
        let hash = if words.is_tagged() { self.hasher.words(&words.without_tags()) } else { lookup.hash };
        shard_of(hash, shards)
    }
}
