//! Expected connections: those that a message of another connection announces.
//!
//! Linux has a helper for each of these protocols, which makes an expectation of such a message (`nf_conntrack_expect.c`):
//! FTP, TFTP, SIP with its media, DCC of IRC. The ports of the expected connection do not show its initiator. Messages of
//! PPTP, Amanda and H.323 are not read.
//!
//! Expectations are facts with a time. Sets of them can be merged in any order: each keeps its earliest ones.

mod fact;
mod ftp;
mod irc;
mod sip;
mod tftp;

use conntrack_decode::{FiveTuple, Packet, ipproto};

use crate::flow::descriptor::announces;

use fact::Announcement;
pub use fact::{Expectation, Expectations, Initiator};

/// Note the announcements in a packet with these record bytes.
pub fn note(into: &mut Expectations, packet: &Packet, record: &[u8], ts: i64) {
    let tuple = &packet.tuple;
    if !announces(tuple.proto, [tuple.sport, tuple.dport]) || packet.bad_checksum || packet.to_group {
        return;
    }
    let payload = packet.payload_in(record);
    let payload = payload.get(..packet.payload_bytes as usize).unwrap_or(payload);
    read(packet, payload, &mut |one| {
        into.insert(one.expected(packet, ts));
    });
}

/// Read the announcements of a message.
fn read(packet: &Packet, payload: &[u8], found: &mut impl FnMut(Announcement)) {
    let FiveTuple { proto, sport, dport, .. } = packet.tuple;
    let has = |port: u16| sport == port || dport == port;
    match proto {
        ipproto::TCP if has(ftp::CONTROL) => ftp::read(packet, payload).into_iter().for_each(found),
        ipproto::TCP if dport == irc::SERVER => irc::read(packet, payload, found),
        ipproto::UDP if dport == tftp::SERVER => tftp::read(packet, payload).into_iter().for_each(found),
        ipproto::TCP | ipproto::UDP if has(sip::SIGNALLING) && !packet.cut => sip::read(packet, payload, found),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
