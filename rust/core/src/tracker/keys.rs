//! Whose a packet is: its key, and the side that sent it.

use crate::config::Config;
use crate::connection::Connection;
use crate::decode::{Brief, FiveTuple, L4, Packet, Tunnel, TunnelMode, Vlan};
use crate::flow::{FlowKey, Side, Words};
use crate::table::{Lookup, Lookups, Reader};
use crate::zeek;

/// A packet's key, ready to be looked up, and the side that sent it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    pub(super) lookup: Lookup,
    pub(super) side: Side,
}

impl Found {
    /// Its connection as a reader beside the tracker sees it.
    pub fn read(&self, reader: &Reader) -> Option<Connection> {
        reader.lookup(&self.lookup)
    }

    /// The key.
    pub fn key(&self) -> FlowKey {
        self.lookup.key()
    }

    /// The protocol of the key.
    pub fn proto(&self) -> u8 {
        self.lookup.key().proto
    }

    /// Which of so many trackers it belongs to: one for each key, whichever side sent the packet.
    #[inline]
    pub fn shard(&self, shards: usize) -> usize {
        self.lookup.shard(shards)
    }
}

/// Makes keys of packets, for one tracker or several that share them.
#[derive(Clone)]
pub struct Keys {
    pub(super) lookups: Lookups,
    vlan_in_key: bool,
    /// Keys are Zeek's.
    zeek: bool,
}

impl Keys {
    /// Keys for the trackers of this configuration. Their hash has a key of its own: tuples chosen to collide gain nothing.
    pub fn new(config: &Config) -> Self {
        Self {
            lookups: Lookups::new(),
            // A gateway terminates VLANs: what it sees has none.
            vlan_in_key: config.decode.tunnels != TunnelMode::Outer,
            zeek: config.zeek,
        }
    }

    /// The key of an ordinary packet.
    #[inline]
    pub fn found(&self, brief: &Brief) -> Found {
        // Nearly none has a tag: that is compiled for itself.
        let (words, side) = match brief.vlan {
            Vlan { outer: 0, inner: 0 } => Words::of_ports(&brief.tuple, Vlan::default()),
            tagged => Words::of_ports(&brief.tuple, self.vlan(tagged)),
        };
        Found { lookup: self.lookups.lookup(words), side }
    }

    /// The VLAN tags of a packet are in its key, where a compact connection has them.
    #[inline]
    pub(super) fn holds_vlan(&self, brief: &Brief) -> bool {
        brief.vlan == Vlan::default() || self.vlan_in_key
    }

    /// The key of any packet.
    pub fn of(&self, packet: &Packet) -> Found {
        self.of_tuple(&packet.tuple, packet.flow_id, packet.vlan, packet.tunnel)
    }

    /// The key of the packet that an ICMP error quotes, if it goes to whoever sent that.
    pub fn quoted(&self, packet: &Packet) -> Option<Found> {
        let L4::IcmpError { quoted: Some(quoted), quoted_id, .. } = packet.l4 else { return None };
        let is_about = !packet.malformed && !packet.bad_checksum && packet.tuple.dst == quoted.src;
        is_about.then(|| self.of_tuple(&quoted, quoted_id, packet.vlan, packet.tunnel))
    }

    /// The key of a five-tuple with ports, outside of tunnels.
    pub fn of_ports(&self, tuple: &FiveTuple, vlan: Vlan) -> Found {
        self.of_tuple(tuple, 0, vlan, Tunnel::default())
    }

    fn of_tuple(&self, tuple: &FiveTuple, id: u16, vlan: Vlan, tunnel: Tunnel) -> Found {
        let (key, side) =
            if self.zeek { zeek::key(tuple) } else { FlowKey::of_tuple(tuple, id, self.vlan(vlan), tunnel) };
        Found { lookup: self.lookups.lookup(key.words()), side }
    }

    #[inline]
    fn vlan(&self, vlan: Vlan) -> Vlan {
        if self.vlan_in_key { vlan } else { Vlan::default() }
    }
}
