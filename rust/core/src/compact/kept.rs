//! A connection that is over, as it was kept: what a row says of it is read from its words, without making a
//! [`Connection`] of them.

use crate::connection::{Connection, EndReason, Evidence};
use crate::decode::ipproto;
use crate::flow::{FlowKey, Side};
use crate::proto::State;
use crate::zeek::{ConnState, EndState};

use super::letters::{Letters, MoreLetters};
use super::{Compact, Extra, Flags, word};

/// Its key, its words, and what was beside them.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The key.
    pub key: FlowKey,
    /// Capture time at which it expires.
    pub deadline: i64,
    compact: Compact,
    extra: Option<Extra>,
}

impl Kept {
    /// The connection of these words; `extra`: its extra line, if it has one.
    #[inline]
    pub fn new(key: FlowKey, compact: Compact, extra: Option<Extra>, deadline: i64) -> Self {
        Self { key, deadline, compact, extra }
    }

    /// The whole connection.
    pub fn connection(&self) -> Connection {
        self.compact.unpack(self.key, self.extra.as_ref(), self.deadline)
    }

    /// Its words.
    #[inline]
    pub fn words(&self) -> &Compact {
        &self.compact
    }

    /// Whether what is below is all that a row says of it.
    #[inline]
    pub fn is_plain(&self) -> bool {
        let flags = self.compact.flags();
        if !flags.is_tcp() {
            return self.key.proto == ipproto::UDP;
        }
        // After two RSTs more than the states counts for the summary.
        let both_reset = Side::BOTH.into_iter().all(|side| flags.end_states(side).0 == EndState::Reset);
        !both_reset && self.extra.is_none_or(|extra| extra.missed == 0 && extra.letters == MoreLetters::default())
    }

    /// The gateway's entry is gone.
    #[inline]
    pub fn is_gone(&self) -> bool {
        let flags = self.compact.flags();
        flags.is_tcp() && flags.has(Flags::GONE)
    }

    /// Who opened the gateway's entry.
    #[inline]
    pub fn gateway_orig(&self) -> Side {
        self.compact.flags().gateway_orig()
    }

    /// See [`Connection::state`].
    #[inline]
    pub fn state(&self) -> State {
        let flags = self.compact.flags();
        let state = if flags.is_tcp() { flags.state() } else { State::None };
        if self.is_gone() { State::None } else { state.reported(self.status()) }
    }

    /// See [`Connection::end_reason`].
    #[inline]
    pub fn end_reason(&self, cause: EndReason) -> EndReason {
        EndReason::of(self.state(), self.is_gone(), None, cause)
    }

    /// See [`Connection::status`].
    #[inline]
    pub fn status(&self) -> (bool, bool) {
        let flags = self.compact.flags();
        (flags.has(Flags::SEEN_REPLY), flags.has(Flags::ASSURED))
    }

    /// See [`Connection::orig`].
    #[inline]
    pub fn orig(&self) -> Side {
        self.compact.flags().orig()
    }

    /// See [`Connection::flipped`].
    #[inline]
    pub fn flipped(&self) -> bool {
        self.compact.flags().first() != self.orig()
    }

    /// See [`Connection::evidence`].
    #[inline]
    pub fn evidence(&self) -> Evidence {
        self.compact.flags().evidence()
    }

    /// See [`Connection::was_broadcast`].
    #[inline]
    pub fn was_broadcast(&self) -> bool {
        let flags = self.compact.flags();
        let (_, answered) = self.compact.ends(word::PACKETS, flags.first());
        !flags.is_tcp() && flags.has(Flags::TO_GROUP) && answered == 0 && !self.flipped()
    }

    /// What each [`Side`] has sent: datagrams, their bytes, and bytes of payload.
    #[inline]
    pub fn sent(&self) -> [(u32, u32, u32); 2] {
        let [packets, bytes] = [word::PACKETS, word::IP_BYTES].map(|at| self.compact.pair(at));
        let payload = match &self.extra {
            Some(extra) => extra.sent.map(|sent| sent.payload),
            None if self.compact.flags().is_tcp() => self.compact.in_order().sent.map(|sent| sent.payload),
            None => self.compact.pair(word::PAYLOAD),
        };
        [0, 1].map(|side| (packets[side], bytes[side], payload[side]))
    }

    /// Nanoseconds from the last packet that counts for Zeek's `duration` to the last one.
    #[inline]
    pub fn quiet(&self) -> u32 {
        self.compact.0[word::ARMED] as u32
    }

    /// See [`Connection::conn_state`].
    #[inline]
    pub fn conn_state(&self, orig: Side) -> ConnState {
        let flags = self.compact.flags();
        if flags.is_tcp() {
            let [own, other] = [orig, orig.other()].map(|side| flags.end_states(side).0);
            ConnState::of_tcp(own, other, || false, self.letters(orig))
        } else {
            let (own, other) = self.compact.ends(word::PACKETS, orig);
            ConnState::of_activity(own > 0, other > 0)
        }
    }

    /// The letters for this originator, without those that an extra line has.
    #[inline]
    pub fn letters(&self, orig: Side) -> impl Iterator<Item = u8> + use<> {
        Letters(self.compact.0[word::LETTERS] >> 16).written(orig)
    }
}
