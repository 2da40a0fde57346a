//! A connection in Zeek's view: `history`, `conn_state`, sizes by sequence numbers, and boundaries.
//!
//! All data is stored by [`Side`], so that the view can be reported for either originator. The originator is the
//! caller's; with [`Roles::Zeek`], the choice is Zeek's own, which [`View::note`] may revise.
//!
//! Sources: Zeek 8, `src/packet_analysis/protocol/{ip,tcp,udp,icmp}`, `src/analyzer/protocol/tcp`, `src/Conn.cc`.

mod boundary;
mod conn_state;
mod endpoint;
mod history;
mod key;
mod stream;
mod tcp;
mod timers;

use serde::{Deserialize, Serialize};

use crate::flow::Side;
use conntrack_base::checkpoint::count;
use conntrack_decode::{L4, Packet, ipproto};

use history::{Once, Scaled};
use timers::Timers;

pub use conn_state::ConnState;
pub(crate) use endpoint::Endpoint;
pub use endpoint::{EndPosition, FIRST, State as EndState};
pub use history::Letters;
pub use key::{is_extension, is_ip_tunnel, is_truncated, key};
pub(crate) use stream::Stream;
pub use stream::{WITHOUT_ACKS, WITHOUT_FURTHER_ACKS};

/// The authority on the originator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Roles {
    /// The caller; Zeek's flips are not applied.
    Given,
    /// Zeek.
    Zeek,
}

/// Zeek's state of a connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    pub(crate) ends: [Endpoint; 2],
    pub(crate) letters: Letters,
    pub(crate) timers: Timers,
    /// Bytes that were acknowledged and not captured.
    #[serde(deserialize_with = "count")]
    missed: u64,
    /// Picked up in mid-stream.
    pub(crate) partial: bool,
    /// An end repeatedly acknowledged new data of an unseen peer.
    answers_unseen: bool,
}

impl View {
    /// Test for bounded lists; for state from outside.
    pub fn is_sound(&self) -> bool {
        self.letters.is_sound() && self.ends.iter().all(|end| end.stream.is_sound())
    }

    /// Note a whole packet from `side`, with `orig` as the originator so far. Returns the originator after the packet.
    #[inline]
    pub fn note(&mut self, packet: &Packet, side: Side, orig: Side, roles: Roles, ts: i64) -> Side {
        if let L4::Tcp(segment) = packet.l4
            && !packet.malformed
        {
            if packet.bad_checksum {
                self.letters.scaled(Scaled::Checksum, side);
                return orig;
            }
            return self.tcp(&segment, packet, side, orig, roles, ts);
        }
        let is_udp = packet.tuple.proto == ipproto::UDP;
        if packet.bad_checksum {
            if is_udp {
                self.letters.scaled(Scaled::Checksum, side);
            }
            return orig;
        }
        self.timers.active_until = ts;
        if is_udp {
            self.letters.once(Once::Data, None, side);
        }
        orig
    }

    /// Sequence and acknowledgement number of a segment with known flags alone, as if all segments had come once and in
    /// order.
    pub fn in_order(&self, flags: u8, side: Side) -> (u32, u32) {
        let [own, peer] = [side, side.other()].map(|side| self.ends[side as usize].position());
        own.in_order(&peer, flags)
    }

    /// Exchange the roles before or after a packet, with the letter that Zeek writes.
    pub fn flip(&mut self) {
        self.letters.flip();
        self.partial = false;
    }

    /// The letters for this originator; `flipped`: the responder sent the first packet.
    pub fn history(&self, orig: Side, flipped: bool, roles: Roles) -> impl Iterator<Item = u8> + '_ {
        // Zeek's own flips are among the letters.
        let caret = (flipped && roles == Roles::Given).then_some(b'^');
        caret.into_iter().chain(self.letters.written(orig))
    }

    /// The `conn_state` for this originator.
    pub fn conn_state(&self, proto: u8, orig: Side, sent: [bool; 2]) -> ConnState {
        let resp = orig.other();
        match proto {
            ipproto::TCP => {
                let [o, r] = [orig, resp].map(|side| self.ends[side as usize].state);
                let no_data = || self.tcp_size(orig) == 0 && self.tcp_size(resp) == 0;
                ConnState::of_tcp(o, r, no_data, self.letters.written(orig))
            }
            ipproto::UDP | ipproto::UDPLITE => ConnState::of_activity(sent[orig as usize], sent[resp as usize]),
            _ => ConnState::Oth,
        }
    }

    /// Bytes of data that a side sent over TCP, by sequence numbers.
    pub fn tcp_size(&self, side: Side) -> u64 {
        self.ends[side as usize].size(self.ends[side.other() as usize].state)
    }

    /// Test for the number of the side's last SYN, or SYN+ACK.
    pub fn has_syn(&self, side: Side, seq: u32) -> bool {
        let end = &self.ends[side as usize];
        self.letters.has_syn(side) && end.marks[Once::Syn as usize] == end.relative_seq(seq).0 as u32
    }

    /// TCP: test for an end that acknowledges data of an unseen peer.
    pub fn answers_unseen(&self) -> bool {
        self.answers_unseen
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.ends.iter().map(|end| end.stream.heap_bytes()).sum::<usize>()
    }

    /// Bytes that were acknowledged and not captured (`missed_bytes`).
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Capture time of the last packet that counts for `duration`: packets after both closes do not count.
    pub fn active_until(&self) -> i64 {
        self.timers.active_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conntrack_base::time::SECOND;
    use conntrack_decode::{Tcp, tcpflag};

    const S: u8 = tcpflag::SYN;
    const A: u8 = tcpflag::ACK;
    const F: u8 = tcpflag::FIN;
    const R: u8 = tcpflag::RST;

    /// Packets as (side, flags, seq, ack, payload), a tenth of a second apart; the first sender is the originator.
    fn run(packets: &[(Side, u8, u32, u32, u32)], roles: Roles) -> (String, ConnState, View) {
        let mut view = View::default();
        let mut orig = packets[0].0;
        for ((side, flags, seq, ack, payload_bytes), tenth) in packets.iter().zip(0..) {
            let l4 = L4::Tcp(Tcp { flags: *flags, seq: *seq, ack: *ack, window: 1000, ..Tcp::default() });
            let mut packet = Packet { l4, payload_bytes: *payload_bytes, ..Packet::default() };
            packet.tuple.proto = ipproto::TCP;
            packet.segment_bytes = *payload_bytes;
            orig = view.note(&packet, *side, orig, roles, tenth * SECOND / 10);
        }
        let flipped = orig != packets[0].0;
        let text = view.history(orig, flipped, roles).map(char::from).collect();
        (text, view.conn_state(ipproto::TCP, orig, [true; 2]), view)
    }

    const A_: Side = Side::A;
    const B_: Side = Side::B;

    #[test]
    fn a_whole_connection() {
        let packets = [
            (B_, S, 1, 0, 0),
            (A_, S | A, 100, 2, 0),
            (B_, A, 2, 101, 0),
            (B_, A, 2, 101, 9),
            (A_, A, 101, 11, 0),
            (A_, A, 101, 11, 99),
            (B_, A | F, 11, 200, 0),
            (A_, A | F, 200, 12, 0),
            (B_, A, 12, 201, 0),
        ];
        let (text, state, view) = run(&packets, Roles::Given);
        assert_eq!((text.as_str(), state), ("ShADadFf", ConnState::Sf));
        assert_eq!((view.tcp_size(B_), view.tcp_size(A_)), (9, 99));
        assert_eq!(view.active_until(), 7 * SECOND / 10, "the last acknowledgement follows both closes");
    }

    #[test]
    fn attempts() {
        let of = |packets: &[(Side, u8, u32, u32, u32)]| {
            let (text, state, _) = run(packets, Roles::Given);
            (text, state)
        };
        let syn = (A_, S, 1, 0, 0);
        assert_eq!(of(&[syn]), ("S".into(), ConnState::S0));
        assert_eq!(of(&[syn, syn, (A_, S, 7, 0, 0)]), ("S".into(), ConnState::S0));
        assert_eq!(of(&[syn, (B_, R | A, 0, 2, 0)]), ("Sr".into(), ConnState::Rej));
        assert_eq!(of(&[syn, (A_, R, 2, 0, 0)]), ("SR".into(), ConnState::Rstos0));
        assert_eq!(of(&[syn, (B_, S | A, 7, 2, 0)]), ("Sh".into(), ConnState::S1));
        assert_eq!(of(&[(A_, F, 7, 2, 0)]), ("F".into(), ConnState::Sh));
    }

    #[test]
    fn a_syn_ack_that_is_answered_turns_the_roles() {
        let packets = [(A_, S | A, 100, 2, 0), (B_, A, 2, 101, 0), (B_, A, 2, 101, 5), (A_, A, 101, 7, 5)];
        assert_eq!(run(&packets, Roles::Zeek).0, "^hADad".replace("ad", "d"));
        // Nothing but a reset: a stealth scan.
        assert_eq!(run(&[(A_, S | A, 100, 2, 0), (B_, R, 2, 0, 0)], Roles::Zeek).0, "Hr");
    }

    #[test]
    fn gaps_retransmissions_and_zero_windows() {
        let packets = [
            (A_, S, 1, 0, 0),
            (B_, S | A, 100, 2, 0),
            (A_, A, 2, 101, 0),
            (A_, A, 2, 101, 10),
            (A_, A, 2, 101, 10),
            (B_, A, 101, 52, 0),
            (A_, A, 52, 101, 10),
        ];
        let (text, _, view) = run(&packets, Roles::Given);
        assert_eq!(text, "ShADTaG");
        assert_eq!(view.missed(), 40);
    }
}
