//! The word of a [`Compact`](super::Compact) with everything that is a yes or no, or a word of a short list.

use crate::config::Timeout;
use crate::connection::Evidence;
use crate::flow::Side;
use crate::proto::{CtDir, State, TcpClass};
use crate::zeek::EndState;

use super::turn;

/// The word. Each half ends with what is about a side, side A's in the lower one, so that the word turned by half of it is the
/// same with the sides exchanged; what is below that is about the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub(super) u64);

/// A field of some bits.
#[derive(Clone, Copy)]
struct Field {
    at: u32,
    bits: u32,
}

const KIND: Field = Field { at: 0, bits: 2 };
const TIMEOUT: Field = Field { at: 4, bits: 5 };
const FIRST: Field = Field { at: 9, bits: 1 };
/// The first sender, the originator, and who opened the gateway's entry: of TCP one and the same.
const ORIG: Field = Field { at: 37, bits: 1 };
const GATEWAY_ORIG: Field = Field { at: 38, bits: 1 };
const EVIDENCE: Field = Field { at: 32, bits: 5 };

const STATE: Field = Field { at: 32, bits: 4 };
const LAST_DIR: Field = Field { at: 36, bits: 1 };
const LAST_CLASS: Field = Field { at: 37, bits: 3 };
const RETRANS: Field = Field { at: 40, bits: 2 };

/// Where a side's bits begin, side A's first, and how many there are.
const SIDES: [u32; 2] = [13, 45];
const SIDE: u32 = 19;
const SCALE: Field = Field { at: 0, bits: 4 };
const END_STATE: Field = Field { at: 4, bits: 3 };
const END_BEFORE: Field = Field { at: 7, bits: 3 };

/// As many as four bits can number.
pub(super) const STATES: [State; 16] = [
    State::None,
    State::SynSent,
    State::SynRecv,
    State::Established,
    State::FinWait,
    State::CloseWait,
    State::LastAck,
    State::TimeWait,
    State::Close,
    State::SynSent2,
    State::None,
    State::None,
    State::None,
    State::None,
    State::None,
    State::None,
];
/// As many as three bits can number.
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
    /// TCP.
    pub(super) const TCP: Self = Self(1);
    /// Without states of its own.
    pub(super) const OTHER: Self = Self(2);
    /// Kept elsewhere.
    pub(super) const BESIDE: Self = Self(3);

    /// The gateway's entry saw a reply.
    pub const SEEN_REPLY: u64 = 1 << 2;
    /// It survives a full table.
    pub const ASSURED: u64 = 1 << 3;
    /// It was deleted, and nothing came since (TCP).
    pub const GONE: u64 = 1 << 10;
    /// Zeek: picked up in mid-stream (TCP).
    pub const PARTIAL: u64 = 1 << 11;
    /// Zeek: the handshake is over (TCP).
    pub const ESTABLISHED: u64 = 1 << 12;
    /// Zeek: its end was reported (TCP).
    pub const REPORTED: u64 = 1 << 43;
    /// Zeek: a close waits (TCP).
    pub const DEFERRED: u64 = 1 << 44;
    /// It has an extra line (TCP).
    pub const EXTRA: u64 = 1 << 42;
    /// A packet of the first sender went to a group (others).
    pub const TO_GROUP: u64 = 1 << 42;

    /// Facts about a side, to be asked with [`Self::of`]: it offers scaling.
    pub const OFFERS_SCALE: u64 = 1 << 10;
    /// It permits SACK.
    pub const SACK_PERMITTED: u64 = 1 << 11;
    /// Its data is not acknowledged.
    pub const UNACKED: u64 = 1 << 12;
    /// It has acknowledged.
    pub const ACK_SET: u64 = 1 << 13;
    /// Its FIN began the close.
    pub const CLOSE_INIT: u64 = 1 << 14;
    /// Zeek took note of its close.
    pub const CLOSED: u64 = 1 << 15;
    /// The end of its data was reported.
    pub const ENDED: u64 = 1 << 16;
    /// It sent a FIN.
    pub const FIN: u64 = 1 << 17;
    /// A packet of it was seen.
    pub const SEEN: u64 = 1 << 18;

    #[inline]
    fn get(self, field: Field) -> u64 {
        self.0 >> field.at & ((1 << field.bits) - 1)
    }

    #[inline]
    fn put(&mut self, field: Field, value: u64) {
        let mask = ((1 << field.bits) - 1) << field.at;
        self.0 = self.0 & !mask | value << field.at & mask;
    }

    fn side_field(side: Side, field: Field) -> Field {
        Field { at: field.at + SIDES[side as usize], ..field }
    }

    /// Whether a fact about the connection holds.
    #[inline]
    pub fn has(self, fact: u64) -> bool {
        self.0 & fact != 0
    }

    #[inline]
    pub(super) fn set(&mut self, fact: u64, holds: bool) {
        self.0 = self.0 & !fact | if holds { fact } else { 0 };
    }

    /// A fact about a side.
    #[inline]
    pub fn of(side: Side, fact: u64) -> u64 {
        fact << SIDES[side as usize]
    }

    #[inline]
    pub(super) fn is_tcp(self) -> bool {
        self.get(KIND) == Self::TCP.0
    }

    #[inline]
    pub(super) fn is_other(self) -> bool {
        self.get(KIND) == Self::OTHER.0
    }

    #[inline]
    pub(super) fn is_beside(self) -> bool {
        self.get(KIND) == Self::BESIDE.0
    }

    #[inline]
    pub(super) fn has_extra(self) -> bool {
        self.is_tcp() && self.has(Self::EXTRA)
    }

    /// Both ends exchange data on an established TCP connection: nobody has closed, and an answer was seen.
    #[inline]
    pub(super) fn is_exchange(self) -> bool {
        const NOW: u64 = 0x7 << END_STATE.at;
        const OPEN: u64 = Flags::SEEN | (EndState::Established as u64) << END_STATE.at;
        const BOTH: u64 = 1 << SIDES[0] | 1 << SIDES[1];
        const ALL: u64 = 0x3 << KIND.at
            | 0xf << STATE.at
            | Flags::GONE
            | Flags::SEEN_REPLY
            | ((NOW | Flags::SEEN | Flags::FIN) * BOTH);
        const AS_IT_IS: u64 =
            Flags::TCP.0 | (State::Established as u64) << STATE.at | Flags::SEEN_REPLY | (OPEN * BOTH);
        self.0 & ALL == AS_IT_IS
    }

    /// Which timeout runs.
    #[inline]
    pub(super) fn timeout(self) -> Timeout {
        Timeout::numbered(self.get(TIMEOUT) as u8)
    }

    #[inline]
    pub(super) fn set_timeout(&mut self, timeout: Timeout) {
        self.put(TIMEOUT, timeout as u64);
    }

    #[inline]
    pub(super) fn first(self) -> Side {
        side(self.get(FIRST))
    }

    pub(super) fn set_first(&mut self, side: Side) {
        self.put(FIRST, side as u64);
    }

    /// Who initiated.
    #[inline]
    pub fn orig(self) -> Side {
        side(self.get(if self.is_tcp() { FIRST } else { ORIG }))
    }

    pub(super) fn set_orig(&mut self, side: Side) {
        self.put(ORIG, side as u64);
    }

    /// Who opened the gateway's entry.
    #[inline]
    pub fn gateway_orig(self) -> Side {
        side(self.get(if self.is_tcp() { FIRST } else { GATEWAY_ORIG }))
    }

    /// The direction of a packet from this side, within the gateway's entry.
    #[inline]
    pub(super) fn dir(self, side: Side) -> CtDir {
        if side == self.gateway_orig() { CtDir::Original } else { CtDir::Reply }
    }

    pub(super) fn set_gateway_orig(&mut self, side: Side) {
        self.put(GATEWAY_ORIG, side as u64);
    }

    pub(super) fn other_evidence(self) -> Evidence {
        Evidence::numbered(self.get(EVIDENCE) as u8)
    }

    pub(super) fn set_evidence(&mut self, evidence: Evidence) {
        self.put(EVIDENCE, evidence as u64);
    }

    /// The gateway's state (TCP).
    #[inline]
    pub(super) fn state(self) -> State {
        STATES.get(self.state_number()).copied().unwrap_or_default()
    }

    /// The number of the gateway's state in its list of sixteen (TCP).
    #[inline]
    pub(super) fn state_number(self) -> usize {
        self.get(STATE) as usize
    }

    #[inline]
    pub(super) fn set_state(&mut self, state: State) {
        self.put(STATE, state as u64);
    }

    #[inline]
    pub(super) fn last_dir(self) -> u8 {
        self.get(LAST_DIR) as u8
    }

    #[inline]
    pub(super) fn last_class(self) -> TcpClass {
        CLASSES.get(self.get(LAST_CLASS) as usize).copied().unwrap_or_default()
    }

    #[inline]
    pub(super) fn set_last(&mut self, dir: u8, class: TcpClass) {
        self.put(LAST_DIR, u64::from(dir));
        self.put(LAST_CLASS, class as u64);
    }

    #[inline]
    pub(super) fn retrans(self) -> u8 {
        self.get(RETRANS) as u8
    }

    #[inline]
    pub(super) fn set_retrans(&mut self, retrans: u8) {
        self.put(RETRANS, u64::from(retrans));
    }

    /// Sets at once what a segment leaves behind: see [`Self::set_state`], [`Self::set_last`], [`Self::set_retrans`].
    #[inline]
    pub(super) fn set_step(&mut self, state: State, dir: u8, class: TcpClass, retrans: u8) {
        const ALL: u64 = 0x3ff << STATE.at;
        let step = (state as u64) << STATE.at
            | u64::from(dir) << LAST_DIR.at
            | (class as u64) << LAST_CLASS.at
            | u64::from(retrans) << RETRANS.at;
        self.0 = self.0 & !ALL | step;
    }

    #[inline]
    pub(super) fn scale(self, side: Side) -> u8 {
        self.get(Self::side_field(side, SCALE)) as u8
    }

    #[inline]
    pub(super) fn set_scale(&mut self, side: Side, scale: u8) {
        self.put(Self::side_field(side, SCALE), u64::from(scale));
    }

    /// Zeek's state of a side, and the one before.
    #[inline]
    pub(super) fn end_states(self, side: Side) -> (EndState, EndState) {
        let of = |field| EndState::numbered(self.get(Self::side_field(side, field)) as u8);
        (of(END_STATE), of(END_BEFORE))
    }

    #[inline]
    pub(super) fn set_end_states(&mut self, side: Side, state: EndState, before: EndState) {
        self.put(Self::side_field(side, END_STATE), state as u64);
        self.put(Self::side_field(side, END_BEFORE), before as u64);
    }
}

/// The facts about a side, apart from the rest of the word.
#[derive(Clone, Copy)]
pub(super) struct OfSide(u64);

const SIDE_BITS: u64 = (1 << SIDE) - 1;
const BOTH_SIDES: u64 = SIDE_BITS << SIDES[0] | SIDE_BITS << SIDES[1];

impl OfSide {
    /// Both states.
    const STATES: u64 = 0x3f << END_STATE.at;

    const fn states(state: EndState, before: EndState) -> u64 {
        (state as u64) << END_STATE.at | (before as u64) << END_BEFORE.at
    }

    #[inline]
    pub(super) fn has(self, fact: u64) -> bool {
        self.0 & fact != 0
    }

    #[inline]
    pub(super) fn set(&mut self, fact: u64, holds: bool) {
        self.0 = self.0 & !fact | if holds { fact } else { 0 };
    }

    /// From now on it holds, if this is so.
    #[inline]
    pub(super) fn raise(&mut self, fact: u64, is_so: bool) {
        self.0 |= if is_so { fact } else { 0 };
    }

    /// It holds no longer, if this is so.
    #[inline]
    pub(super) fn lower(&mut self, fact: u64, is_so: bool) {
        self.0 &= !(if is_so { fact } else { 0 });
    }

    #[inline]
    pub(super) fn set_states(&mut self, state: EndState, before: EndState) {
        self.0 = self.0 & !Self::STATES | Self::states(state, before);
    }

    /// Its handshake is over, and it has not closed, or has after the handshake.
    #[inline]
    pub(super) fn is_open(self) -> bool {
        const NOW: u64 = 0x7 << END_STATE.at;
        const CLOSED: u64 = Flags::FIN | OfSide::states(EndState::Closed, EndState::Established);
        self.0 & (NOW | Flags::FIN) == (EndState::Established as u64) << END_STATE.at
            || self.0 & (Self::STATES | Flags::FIN) == CLOSED
    }

    /// It has not closed, or all of its data came and that was reported.
    #[inline]
    pub(super) fn is_settled(self) -> bool {
        self.0 & (Flags::FIN | Flags::ENDED) != Flags::FIN
    }

    #[inline]
    pub(super) fn scale(self) -> u8 {
        (self.0 & ((1 << SCALE.bits) - 1)) as u8
    }
}

impl Flags {
    /// The facts about this side, and about the other.
    #[inline]
    pub(super) fn sides(self, side: Side) -> (OfSide, OfSide) {
        let turned = self.0.rotate_left(turn(side));
        (OfSide(turned >> SIDES[0] & SIDE_BITS), OfSide(turned >> SIDES[1]))
    }

    #[inline]
    pub(super) fn set_sides(&mut self, side: Side, ours: OfSide, theirs: OfSide) {
        let turned = ours.0 << SIDES[0] | theirs.0 << SIDES[1];
        self.0 = self.0 & !BOTH_SIDES | turned.rotate_left(turn(side));
    }
}

#[inline]
fn side(bit: u64) -> Side {
    if bit == 0 { Side::A } else { Side::B }
}
