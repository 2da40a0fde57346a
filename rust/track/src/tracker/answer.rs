//! Packets that answer the other direction of a connection, by sequence numbers where there are any (RFC 9293 section
//! 3.4).

use crate::flow::Descriptor;
use crate::flow::descriptor::kind;
use conntrack_decode::{L4, Packet, ipproto, tcpflag};

/// The most bytes between the numbers of the two directions of a stream: several times the receive buffer of 6 MiB
/// (`net.ipv4.tcp_rmem`).
const NEAR: u32 = 1 << 25;

/// The part of a packet that shows which connection the packet answers.
#[derive(Clone, Copy)]
pub(super) enum Sent {
    /// A TCP segment with so many bytes of data.
    Segment { flags: u8, seq: u32, ack: u32, data: u32 },
    /// A packet that shows no more than its direction.
    Unnumbered { flags: u8 },
    /// A packet that joins nothing: a later fragment, or TCP without a header.
    Unreadable,
}

/// The quality of a fit, the best one first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// The packet acknowledges the SYN, or the SYN+ACK acknowledges the packet.
    Exact,
    /// The numbers are near those of the other direction.
    Near,
    /// The packet has the opposite direction.
    Opposite,
}

/// The first segment that a connection of one direction has seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    Syn,
    SynAck,
    Unseen,
}

/// A live connection of one direction.
pub(super) struct Half {
    pub(super) id: u64,
    /// TCP; None: without a readable segment.
    pub(super) stream: Option<HalfStream>,
}

/// The numbers of the direction that was seen.
#[derive(Clone, Copy)]
pub(super) struct HalfStream {
    pub(super) opening: Opening,
    /// The number before the first byte, that of a SYN.
    pub(super) start: u32,
    /// The number after the last byte.
    pub(super) last: u32,
    /// The last acknowledgement, if there was one: the next number of the other direction.
    pub(super) expects: Option<u32>,
}

impl Sent {
    pub(super) fn of_descriptor(one: &Descriptor) -> Self {
        let flags = one.flags;
        if one.is(kind::UDP | kind::STATELESS | kind::UNNUMBERED) {
            return Self::Unnumbered { flags };
        }
        Self::Segment { flags, seq: one.seq, ack: one.ack, data: one.payload_bytes.into() }
    }

    pub(super) fn of(packet: &Packet) -> Self {
        match packet.l4 {
            _ if packet.packets == 0 => Self::Unreadable,
            L4::Tcp(tcp) if tcp.unnumbered => Self::Unnumbered { flags: tcp.flags },
            L4::Tcp(tcp) if !packet.malformed => {
                Self::Segment { flags: tcp.flags, seq: tcp.seq, ack: tcp.ack, data: packet.payload_bytes }
            }
            _ if packet.tuple.proto == ipproto::TCP => Self::Unreadable,
            _ => Self::Unnumbered { flags: 0 },
        }
    }

    /// The fit of a packet of the other direction to a connection of one direction.
    pub(super) fn fits(self, half: &Half) -> Option<Fit> {
        match (self, half.stream) {
            (Self::Segment { flags, seq, ack, data }, Some(stream)) => stream.fits(flags, (seq, ack), data),
            (Self::Unnumbered { flags }, Some(stream)) => stream.may_precede(flags).then_some(Fit::Opposite),
            (Self::Unnumbered { .. }, None) => Some(Fit::Opposite),
            _ => None,
        }
    }
}

impl HalfStream {
    /// Test whether a segment with these flags may follow the opening: a SYN+ACK answers a SYN alone, and a SYN
    /// precedes a SYN+ACK alone.
    fn may_precede(&self, flags: u8) -> bool {
        match flags & (tcpflag::SYN | tcpflag::ACK) {
            tcpflag::SYN => self.opening == Opening::SynAck,
            flags if flags & tcpflag::SYN != 0 => self.opening == Opening::Syn,
            _ => true,
        }
    }

    fn fits(&self, flags: u8, (seq, ack): (u32, u32), data: u32) -> Option<Fit> {
        let has = |flag| flags & flag != 0;
        let near = |number: u32, other: u32| (number.wrapping_sub(other) as i32).unsigned_abs() <= NEAR;
        if !self.may_precede(flags) {
            return None;
        }
        if has(tcpflag::SYN) && !has(tcpflag::ACK) {
            // The SYN+ACK acknowledges the SYN, perhaps with data (RFC 7413).
            let acked = self.expects?.wrapping_sub(seq);
            return (1..=data.saturating_add(1)).contains(&acked).then_some(Fit::Exact);
        }
        let answers_syn = self.opening == Opening::Syn && !self.has_more_than_a_syn();
        if has(tcpflag::ACK) && (answers_syn || has(tcpflag::SYN)) {
            let acked = ack.wrapping_sub(self.start);
            return (1..=self.last.wrapping_sub(self.start)).contains(&acked).then_some(Fit::Exact);
        }
        let continues = self.expects.map(|next| near(seq, next));
        let acknowledges = near(ack, self.last) && (self.opening != Opening::Syn || ack != self.start);
        let fits = match continues {
            Some(continues) => continues && (acknowledges || (has(tcpflag::RST) && !has(tcpflag::ACK))),
            None => self.opening == Opening::Syn && has(tcpflag::ACK) && acknowledges,
        };
        fits.then_some(Fit::Near)
    }

    /// Test for an end that sent more than a SYN, data of the SYN included.
    fn has_more_than_a_syn(&self) -> bool {
        self.expects.is_some()
    }
}
