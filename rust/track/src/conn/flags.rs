//! The flag word of a hot record: booleans and small enumerations.
//!
//! Bits 16 to 31 are those of side A and 32 to 47 those of side B, in equal order. A side known at compile time costs a
//! constant shift. The other bits belong to the connection; the highest sixteen depend on the protocol.

use crate::config::Timeout;
use crate::connection::Evidence;
use crate::flow::Side;
use crate::proto::{CtDir, State, Status, TcpClass};

/// The flag word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u64);

/// A bit field.
#[derive(Clone, Copy)]
pub struct Field {
    at: u32,
    bits: u32,
}

const KIND: Field = Field { at: 0, bits: 3 };
const TIMEOUT: Field = Field { at: 5, bits: 5 };
const STATE: Field = Field { at: 48, bits: 4 };
const LAST_DIR: Field = Field { at: 52, bits: 1 };
const LAST_CLASS: Field = Field { at: 53, bits: 3 };
const RETRANS: Field = Field { at: 56, bits: 8 };
const EVIDENCE: Field = Field { at: 48, bits: 5 };
const SCALE: Field = Field { at: 0, bits: 4 };

/// States by their four-bit number.
pub const STATES: [State; 16] = {
    let mut states = [State::None; 16];
    states[State::SynSent as usize] = State::SynSent;
    states[State::SynRecv as usize] = State::SynRecv;
    states[State::Established as usize] = State::Established;
    states[State::FinWait as usize] = State::FinWait;
    states[State::CloseWait as usize] = State::CloseWait;
    states[State::LastAck as usize] = State::LastAck;
    states[State::TimeWait as usize] = State::TimeWait;
    states[State::Close as usize] = State::Close;
    states[State::SynSent2 as usize] = State::SynSent2;
    states
};
const CLASSES: [TcpClass; 8] = [
    TcpClass::Syn,
    TcpClass::SynAck,
    TcpClass::Fin,
    TcpClass::Ack,
    TcpClass::Rst,
    TcpClass::None,
    TcpClass::None,
    TcpClass::None,
];

impl Flags {
    /// TCP, with every field in use.
    pub const TCP: Self = Self(1);
    /// UDP.
    pub const UDP: Self = Self(2);
    /// ICMP echo, and the protocols that a gateway tracks by the IP header alone.
    pub const STATELESS: Self = Self(3);
    /// Only the deadline is in the record; all else is in the cold part.
    pub const COLD: Self = Self(4);

    /// The gateway's entry saw a reply.
    pub const SEEN_REPLY: u64 = 1 << 3;
    /// The gateway's entry survives early drop.
    pub const ASSURED: u64 = 1 << 4;
    /// Side B sent the first packet, and so opened the gateway's entry.
    pub const OPENER_B: u64 = 1 << 10;
    /// Side B initiated.
    pub const ORIG_B: u64 = 1 << 15;
    /// TCP: an RST answered the SYN, and the gateway's entry is deleted.
    pub const REFUSED: u64 = 1 << 11;
    /// TCP: Zeek reported the end.
    pub const REPORTED: u64 = 1 << 12;
    /// TCP: a close is deferred until data is delivered or acknowledged (Zeek).
    pub const DEFERRED: u64 = 1 << 13;
    /// A packet of the opener had a group address as its destination.
    pub const TO_GROUP: u64 = 1 << 14;

    /// Per side: offers window scaling.
    pub const OFFERS_SCALE: u64 = 1 << 4;
    /// Per side: permits SACK.
    pub const SACK_PERMITTED: u64 = 1 << 5;
    /// Per side: has unacknowledged data.
    pub const UNACKED: u64 = 1 << 6;
    /// Per side: has sent an acknowledgement.
    pub const ACK_SET: u64 = 1 << 7;
    /// Per side: sent the FIN that began the close.
    pub const CLOSE_INIT: u64 = 1 << 8;
    /// Per side: Zeek noted its close.
    pub const CLOSED: u64 = 1 << 9;
    /// Per side: Zeek reported the end of its data.
    pub const ENDED: u64 = 1 << 10;
    /// Per side: sent a FIN.
    pub const FIN: u64 = 1 << 11;
    /// Per side: sent a packet.
    pub const SEEN: u64 = 1 << 12;

    /// Bits of the timeout.
    pub const TIMEOUT_BITS: u64 = 0x1f << TIMEOUT.at;
    /// Bits of state, last direction, last class and repeated acknowledgements.
    pub const STEP_BITS: u64 = 0xffff << STATE.at;
    /// [`STEP_BITS`](Self::STEP_BITS) after a plain acknowledgement of side `S` in ESTABLISHED, without direction and
    /// repetitions.
    pub const ESTABLISHED: u64 = (State::Established as u64) << STATE.at | (TcpClass::Ack as u64) << LAST_CLASS.at;

    #[inline]
    fn get(self, field: Field) -> u64 {
        self.0 >> field.at & ((1 << field.bits) - 1)
    }

    #[inline]
    fn set_field(&mut self, field: Field, value: u64) {
        let mask = ((1 << field.bits) - 1) << field.at;
        self.0 = self.0 & !mask | value << field.at & mask;
    }

    fn scale_of(side: Side) -> Field {
        Field { at: SCALE.at + 16 + 16 * side as u32, ..SCALE }
    }

    /// Test whether any of these bits is set.
    #[inline]
    pub fn has(self, bits: u64) -> bool {
        self.0 & bits != 0
    }

    /// Set or clear these bits.
    #[inline]
    pub fn set(&mut self, bits: u64, holds: bool) {
        self.0 = self.0 & !bits | if holds { bits } else { 0 };
    }

    /// A per-side bit.
    #[inline]
    pub fn of(side: Side, fact: u64) -> u64 {
        fact << (16 + 16 * side as u32)
    }

    /// Test a per-side bit.
    #[inline]
    pub fn side_has(self, side: Side, fact: u64) -> bool {
        self.has(Self::of(side, fact))
    }

    /// A word with this protocol, all other fields 0.
    #[inline]
    #[must_use]
    pub fn kind(self) -> Self {
        Self(self.get(KIND))
    }

    /// The running timeout.
    #[inline]
    pub fn timeout(self) -> Timeout {
        Timeout::numbered(self.get(TIMEOUT) as u8)
    }

    /// The number of the running timeout, below 32.
    #[inline]
    pub fn timeout_number(self) -> usize {
        self.get(TIMEOUT) as usize
    }

    /// Set the running timeout.
    #[inline]
    pub fn set_timeout(&mut self, timeout: Timeout) {
        self.set_field(TIMEOUT, timeout as u64);
    }

    /// The bits of a timeout.
    pub fn timeout_bits(timeout: Timeout) -> u64 {
        (timeout as u64) << TIMEOUT.at
    }

    /// The sender of the first packet.
    #[inline]
    pub fn opener(self) -> Side {
        if self.has(Self::OPENER_B) { Side::B } else { Side::A }
    }

    /// The originator.
    #[inline]
    pub fn orig(self) -> Side {
        if self.has(Self::ORIG_B) { Side::B } else { Side::A }
    }

    /// Set opener and originator.
    #[inline]
    pub fn set_roles(&mut self, opener: Side, orig: Side) {
        self.set(Self::OPENER_B, opener == Side::B);
        self.set(Self::ORIG_B, orig == Side::B);
    }

    /// The direction, within the gateway's entry, of a packet from this side.
    #[inline]
    pub fn dir(self, side: Side) -> CtDir {
        if side == self.opener() { CtDir::Original } else { CtDir::Reply }
    }

    /// TCP: the gateway's state.
    #[inline]
    pub fn state(self) -> State {
        STATES[self.get(STATE) as usize & 15]
    }

    /// TCP: an RST answered the SYN.
    #[inline]
    pub fn is_refused(self) -> bool {
        self.kind() == Self::TCP && self.has(Self::REFUSED)
    }

    /// The state to report for the gateway's entry.
    #[inline]
    pub fn reported_state(self) -> State {
        match self.kind() {
            Self::TCP if self.has(Self::REFUSED) => State::None,
            Self::TCP => self.state(),
            _ => State::None.reported(self.status()),
        }
    }

    /// The status of the gateway's entry.
    #[inline]
    pub fn status(self) -> Status {
        Status { seen_reply: self.has(Self::SEEN_REPLY), assured: self.has(Self::ASSURED) }
    }

    /// TCP: direction, class and number of repetitions of the last segment.
    #[inline]
    pub fn last(self) -> (u8, TcpClass, u8) {
        let class = CLASSES[self.get(LAST_CLASS) as usize & 7];
        (self.get(LAST_DIR) as u8, class, self.get(RETRANS) as u8)
    }

    /// TCP: set the state, and direction, class and number of repetitions of the last segment.
    #[inline]
    pub fn set_step(&mut self, state: State, (dir, class, retrans): (u8, TcpClass, u8)) {
        let step = (state as u64) << STATE.at
            | u64::from(dir) << LAST_DIR.at
            | (class as u64) << LAST_CLASS.at
            | u64::from(retrans) << RETRANS.at;
        self.0 = self.0 & !Self::STEP_BITS | step;
    }

    /// TCP: the word with another direction of the last segment.
    #[inline]
    #[must_use]
    pub fn with_last_dir(mut self, dir: u64) -> Self {
        self.set_field(LAST_DIR, dir);
        self
    }

    /// The bits of direction and number of repetitions of the last segment.
    #[inline]
    pub fn last_bits(dir: u64, retrans: u64) -> u64 {
        dir << LAST_DIR.at | retrans << RETRANS.at
    }

    /// The evidence for the originator: TCP without a cold part begins with a SYN.
    #[inline]
    pub fn evidence(self) -> Evidence {
        match self.kind() {
            Self::TCP => Evidence::Syn,
            _ => Evidence::numbered(self.get(EVIDENCE) as u8),
        }
    }

    /// All but TCP: set the evidence for the originator.
    #[inline]
    pub fn set_evidence(&mut self, evidence: Evidence) {
        self.set_field(EVIDENCE, evidence as u64);
    }

    /// TCP: the window scale of a side.
    #[inline]
    pub fn scale(self, side: Side) -> u8 {
        self.get(Self::scale_of(side)) as u8
    }

    /// TCP: set the window scale of a side, at most 14.
    #[inline]
    pub fn set_scale(&mut self, side: Side, scale: u8) {
        self.set_field(Self::scale_of(side), u64::from(scale));
    }
}
