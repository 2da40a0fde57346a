//! Short cuts: what a packet does to an ordinary connection, done to its words.
//!
//! Each is the step of [`crate::proto`] and [`crate::zeek`] with everything left out that cannot happen where its conditions
//! hold; where they do not, it changes nothing and gives None, and the packet takes the way that is written for any. That both
//! ways lead to the same connection is a property test (`tests/express.rs`).

use crate::config::{Rules, Timeout};
use crate::connection::{Evidence, READ_UDP, take_claim};
use crate::decode::{Brief, ipproto};
use crate::flow::Side;
use crate::proto::{self, CtDir, CtState, State};

use super::{Compact, Extras, Flags, LONGEST, Letters, code, narrow, turn, word};

/// The gateway's word, the direction and the state after a packet; and whether it may expire earlier than before.
pub type Outcome = ((CtState, CtDir, State), bool);

/// The words of the counts with one more packet, and nanoseconds from the first packet to it.
pub(super) struct Counted {
    packets: u64,
    ip_bytes: u64,
    pub(super) length: u64,
}

impl Compact {
    /// Takes an ordinary packet from `side`, if a short cut is there for it. `says`: whom its payload names as the originator;
    /// `extras`: the extra lines of the table.
    #[inline]
    pub fn express(
        &mut self,
        brief: &Brief,
        side: Side,
        ts: i64,
        rules: &Rules,
        extras: &mut Extras,
        says: impl FnOnce() -> Option<Side>,
    ) -> Option<Outcome> {
        let flags = self.flags();
        // Before the first packet it wraps, and is longer than any.
        let length = ts.wrapping_sub(self.start()) as u64;
        // A packet that was captured late, or too late, or whose two ends are one, is not ordinary.
        if length < self.length() || length >= LONGEST || brief.is_self() {
            return None;
        }
        if flags.is_tcp() {
            self.express_tcp(flags, brief, side, length, rules, extras)
        } else if flags.is_other() && brief.tuple.proto == ipproto::UDP {
            self.express_udp(flags, brief, side, length, rules, says)
        } else {
            None
        }
    }

    /// A connection that begins with this ordinary packet, if there is a short cut for it; with the gateway's word.
    #[inline]
    pub fn begin(
        id: u64,
        brief: &Brief,
        side: Side,
        ts: i64,
        rules: &Rules,
        says: impl FnOnce() -> Option<Side>,
    ) -> Option<(Self, (CtState, CtDir, State))> {
        if brief.tuple.proto == ipproto::TCP {
            let compact = Self::begin_tcp(id, brief, side, ts, rules)?;
            Some((compact, (CtState::New, CtDir::Original, State::SynSent)))
        } else {
            let compact = Self::begin_udp(id, brief, side, ts, says)?;
            Some((compact, (CtState::New, CtDir::Original, State::Unreplied)))
        }
    }

    fn begin_udp(id: u64, brief: &Brief, side: Side, ts: i64, says: impl FnOnce() -> Option<Side>) -> Option<Self> {
        let mut flags = Flags::OTHER;
        flags.set_gateway_orig(side);
        flags.set_timeout(Timeout::Udp);
        flags.set_first(side);
        flags.set(Flags::TO_GROUP, brief.to_group);
        let mut claims = [0; 2];
        let says = (brief.payload_bytes > 0 && !brief.to_group).then(says).flatten();
        let (orig, evidence) = says.map_or((side, Evidence::FirstPacket), |orig| take_claim(&mut claims, orig, side));
        flags.set_orig(orig);
        flags.set_evidence(evidence);
        let mut compact = Self::started(id, brief, side, ts)?;
        compact.0[word::LETTERS] = Letters::default().with(code::D, side)?.0 << 16;
        compact.set_flags(flags);
        compact.set_ends(word::PAYLOAD, side, (brief.payload_bytes, 0));
        compact.set_pair(word::CLAIMS, claims.map(u32::from));
        Some(compact)
    }

    /// The words of a connection of which this is the first packet, without those that its protocol gives.
    #[inline]
    pub(super) fn started(id: u64, brief: &Brief, side: Side, ts: i64) -> Option<Self> {
        let mut compact = Self::default();
        compact.0[word::ID] = u64::from(u32::try_from(id).ok()?);
        compact.0[word::START] = ts as u64;
        compact.set_ends(word::PACKETS, side, (1, 0));
        compact.set_ends(word::IP_BYTES, side, (brief.ip_bytes, 0));
        Some(compact)
    }

    /// What the counts are with this packet, `length` after the first one; None where one is too large for its half.
    #[inline]
    pub(super) fn counted(&self, brief: &Brief, side: Side, length: u64) -> Option<Counted> {
        const ONE: u64 = 1 << 32;
        // The sender's half is the upper one, and what is too large for it for the word, too.
        let turn = turn(side);
        let packets = self.0[word::PACKETS].rotate_left(turn).checked_add(ONE)?;
        let ip_bytes = self.0[word::IP_BYTES].rotate_left(turn).checked_add(u64::from(brief.ip_bytes) << 32)?;
        Some(Counted { packets: packets.rotate_left(turn), ip_bytes: ip_bytes.rotate_left(turn), length })
    }

    /// Counts a packet, which Zeek counts too.
    #[inline]
    pub(super) fn count(&mut self, counted: &Counted, last_win: u16) {
        self.0[word::PACKETS] = counted.packets;
        self.0[word::IP_BYTES] = counted.ip_bytes;
        self.0[word::END] = counted.length << 16 | u64::from(last_win);
        self.0[word::ARMED] &= !u64::from(u32::MAX);
    }

    #[inline]
    fn express_udp(
        &mut self,
        mut flags: Flags,
        brief: &Brief,
        side: Side,
        length: u64,
        rules: &Rules,
        says: impl FnOnce() -> Option<Side>,
    ) -> Option<Outcome> {
        let counted = self.counted(brief, side, length)?;
        let letters = Letters(self.0[word::LETTERS] >> 16).with(code::D, side)?;
        let mut payload = self.pair(word::PAYLOAD).map(u64::from);
        payload[side as usize] += u64::from(brief.payload_bytes);
        let payload = narrow(payload)?;

        let dir = flags.dir(side);
        let before = flags.timeout();
        let (timeout, assured) =
            proto::udp_step((flags.has(Flags::SEEN_REPLY), flags.has(Flags::ASSURED)), dir, length as i64, rules);
        let reply = dir == CtDir::Reply;
        let ctstate = if reply || flags.has(Flags::SEEN_REPLY) { CtState::Established } else { CtState::New };
        flags.set_timeout(timeout);
        flags.set(Flags::ASSURED, assured);
        flags.set(Flags::SEEN_REPLY, flags.has(Flags::SEEN_REPLY) || reply);
        flags.set(Flags::TO_GROUP, flags.has(Flags::TO_GROUP) || (brief.to_group && side == flags.first()));

        let sent = (counted.packets >> 32) + (counted.packets & u64::from(u32::MAX));
        let worth_reading = brief.payload_bytes > 0 && sent <= READ_UDP && !brief.to_group;
        if worth_reading
            && flags.other_evidence() <= Evidence::Payload
            && let Some(orig) = says()
        {
            let mut claims = self.pair(word::CLAIMS).map(|claims| claims as u8);
            let (orig, evidence) = take_claim(&mut claims, orig, flags.first());
            self.set_pair(word::CLAIMS, claims.map(u32::from));
            flags.set_orig(orig);
            flags.set_evidence(evidence);
        }
        self.set_flags(flags);
        self.count(&counted, 0);
        self.0[word::PAYLOAD] = payload;
        self.0[word::LETTERS] = letters.0 << 16;
        let state = State::of_status(flags.has(Flags::SEEN_REPLY), assured);
        Some(((ctstate, dir, state), comes_nearer(before, timeout, rules)))
    }
}

/// Whether an exchange of timeouts may bring the deadline nearer.
#[inline]
pub(super) fn comes_nearer(before: Timeout, after: Timeout, rules: &Rules) -> bool {
    before != after && rules.timeouts.get(after) < rules.timeouts.get(before)
}
