//! Input of the models: segments, and tables and trackers that process them.

use conntrack_decode::{Addr, Family, FiveTuple, L4, Packet, Tcp, Tunnel, Vlan, ipproto, tcpflag};
use conntrack_track::config::{Bounds, Config};
use conntrack_track::conn::{self, Limits};
use conntrack_track::flow::descriptor::Arrival;
use conntrack_track::flow::{Descriptor, FlowKey, KeyHasher, Side};
use conntrack_track::table::{FlowTable, Lookup, SlotId};
use conntrack_track::tracker::{Keys, Tracker};

/// A segment of a client at this port, or to the client.
pub fn segment(port: u16, from_client: bool, flags: u8) -> Packet {
    let (client, server) = ((Addr::v4([10, 0, 0, 1]), port), (Addr::v4([10, 0, 0, 2]), 80));
    let ((src, sport), (dst, dport)) = if from_client { (client, server) } else { (server, client) };
    let tuple = FiveTuple { src, dst, sport, dport, proto: ipproto::TCP, family: Family::V4 };
    let (seq, ack) = if from_client { (100, 0) } else { (900, 101) };
    let l4 = L4::Tcp(Tcp { seq, ack, flags, window: 1_000, ..Tcp::default() });
    Packet { tuple, l4, packets: 1, ip_bytes: 40, datagram_bytes: 40, complete: true, ..Packet::default() }
}

/// A segment of the client at port 1, or of its server, with these numbers.
pub fn numbered(from_client: bool, flags: u8, (seq, ack): (u32, u32), payload_bytes: u32) -> Packet {
    let l4 = L4::Tcp(Tcp { seq, ack, flags, window: 1_000, ..Tcp::default() });
    let ip_bytes = 40 + payload_bytes;
    let lengths = Packet { ip_bytes, datagram_bytes: ip_bytes, payload_bytes, ..segment(1, from_client, flags) };
    Packet { l4, segment_bytes: payload_bytes, ..lengths }
}

pub fn hasher() -> KeyHasher {
    KeyHasher::new(Some([1, 2, 3, 4]))
}

pub fn table() -> FlowTable {
    FlowTable::new(Limits::new(Config::default().rules), Bounds::default(), hasher())
}

/// The configuration and keys that trackers of a model share, without atomics.
pub fn config() -> (Config, Keys) {
    let config = Config::default();
    let keys = Keys::new(&config);
    (config, keys)
}

pub fn tracker((config, keys): &(Config, Keys)) -> Tracker {
    Tracker::with_keys(config, keys.clone())
}

/// A packet's key with its hash, and the sender's side.
pub fn found(packet: &Packet) -> (Lookup, Side) {
    let (key, side) = FlowKey::of_tuple(&packet.tuple, 0, Vlan::default(), Tunnel::default());
    let words = key.words();
    (Lookup { words, hash: hasher().words(&words) }, side)
}

/// A packet's descriptor for the shortcuts.
pub fn described(packet: &Packet, ts: i64) -> (Descriptor, [u64; 4]) {
    let (lookup, side) = found(packet);
    let (one, wide) = Descriptor::of_packet(packet, ts, (lookup.words, side), &[]).unwrap();
    (Descriptor { hash: lookup.hash, ..one }, wide)
}

/// Begin a connection at this port, whose number and time are the port's.
pub fn begin(table: &mut FlowTable, port: u16) -> (SlotId, Lookup) {
    let syn = segment(port, true, tcpflag::SYN);
    let (descriptor, wide) = described(&syn, port.into());
    let arrival = Arrival { descriptor: &descriptor, wide: &wide, frame: &[], decoded: Some(&syn) };
    let image = conn::begin(&arrival, port.into(), table.limits()).unwrap();
    let lookup = found(&syn).0;
    (table.insert(&lookup, &image).unwrap(), lookup)
}

/// Process the answer in place.
pub fn answer(table: &mut FlowTable, slot: SlotId, port: u16) {
    let reply = segment(port, false, tcpflag::SYN | tcpflag::ACK);
    let (descriptor, wide) = described(&reply, i64::from(port) + 1);
    let arrival = Arrival { descriptor: &descriptor, wide: &wide, frame: &[], decoded: Some(&reply) };
    let taken = table.change::<true, _>(slot, |change| conn::answer(change.hot, &arrival, change.limits));
    assert_eq!(taken, Some(true));
}

/// Count another SYN at this time on the slow path.
pub fn count(table: &mut FlowTable, slot: SlotId, port: u16, ts: i64) {
    let syn = segment(port, true, tcpflag::SYN);
    let number = table.step(slot).unwrap();
    table.cold(number).unwrap().count(&syn, found(&syn).1, ts);
    table.settle(slot, number);
}
