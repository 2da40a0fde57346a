//! Short cuts: what a packet does to an ordinary connection, done to its words.
//!
//! Each is the step of [`crate::proto`] and [`crate::zeek`] with everything left out that cannot happen where its conditions
//! hold; where they do not, it changes nothing and gives None, and the packet takes the way that is written for any. That both
//! ways lead to the same connection is a property test (`tests/express.rs`).

use crate::config::{Rules, Timeout};
use crate::connection::{Evidence, READ_UDP, weigh_claims};
use crate::decode::{Brief, ipproto, tcpflag};
use crate::flow::Side;
use crate::proto::{self, CtDir, CtState, State};

use super::{Compact, Extras, Flags, Letters, code, narrow, word};

/// The gateway's word, the direction and the state after a packet; and whether it may expire earlier than before.
pub type Outcome = ((CtState, CtDir, State), bool);

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
        // A packet that was captured late, or whose two ends are one, is not ordinary.
        if ts < self.end() || brief.is_self() {
            return None;
        }
        if flags.is_tcp() {
            self.express_tcp(flags, brief, side, ts, rules, extras)
        } else if flags.is_other() && brief.tuple.proto == ipproto::UDP {
            self.express_udp(flags, brief, side, ts, rules, says)
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
        let says = (brief.payload_bytes > 0 && !brief.to_group).then(says).flatten();
        let mut claims = [0; 2];
        if let Some(orig) = says {
            claims[orig as usize] = 1;
        }
        let (orig, evidence) = match says {
            Some(_) => weigh_claims(claims.map(|claims| claims as u8), side),
            None => (side, Evidence::FirstPacket),
        };
        flags.set_orig(orig);
        flags.set_evidence(evidence);
        let mut compact = Self::default();
        compact.0[word::ID] = u64::from(u32::try_from(id).ok()?);
        compact.0[word::START] = ts as u64;
        compact.0[word::LETTERS] = Letters::default().with(code::D, side)?.0 << 16;
        compact.set_flags(flags);
        let only = |value: u32| if side == Side::A { [value, 0] } else { [0, value] };
        compact.set_pair(word::PACKETS, only(1));
        compact.set_pair(word::IP_BYTES, only(brief.ip_bytes));
        compact.set_pair(word::PAYLOAD, only(brief.payload_bytes));
        compact.set_pair(word::CLAIMS, claims);
        Some(compact)
    }

    /// Counts of both ends with this packet: packets, and bytes from the IP header on.
    #[inline]
    pub(super) fn counted(&self, brief: &Brief, side: Side) -> Option<(u64, u64)> {
        let mut packets = self.pair(word::PACKETS);
        let mut ip_bytes = self.pair(word::IP_BYTES);
        let at = side as usize;
        packets[at] = packets[at].checked_add(1)?;
        ip_bytes[at] = ip_bytes[at].checked_add(brief.ip_bytes)?;
        Some((super::halves(packets), super::halves(ip_bytes)))
    }

    #[inline]
    fn express_udp(
        &mut self,
        mut flags: Flags,
        brief: &Brief,
        side: Side,
        ts: i64,
        rules: &Rules,
        says: impl FnOnce() -> Option<Side>,
    ) -> Option<Outcome> {
        let (packets, ip_bytes) = self.counted(brief, side)?;
        let length = self.length_until(ts)?;
        let letters = Letters(self.0[word::LETTERS] >> 16).with(code::D, side)?;
        let mut payload = self.pair(word::PAYLOAD).map(u64::from);
        payload[side as usize] += u64::from(brief.payload_bytes);
        let payload = narrow(payload)?;

        let dir = if side == flags.gateway_orig() { CtDir::Original } else { CtDir::Reply };
        let before = flags.timeout();
        let (timeout, assured) = proto::udp_step(
            (flags.has(Flags::SEEN_REPLY), flags.has(Flags::ASSURED)),
            dir,
            ts.saturating_sub(self.start()),
            rules,
        );
        let reply = dir == CtDir::Reply;
        let ctstate = if reply || flags.has(Flags::SEEN_REPLY) { CtState::Established } else { CtState::New };
        flags.set_timeout(timeout);
        flags.set(Flags::ASSURED, assured);
        flags.set(Flags::SEEN_REPLY, flags.has(Flags::SEEN_REPLY) || reply);
        flags.set(Flags::TO_GROUP, flags.has(Flags::TO_GROUP) || (brief.to_group && side == flags.first()));

        let sent = (packets >> 32) + (packets & u64::from(u32::MAX));
        let worth_reading = brief.payload_bytes > 0 && sent <= READ_UDP && !brief.to_group;
        if worth_reading
            && flags.other_evidence() <= Evidence::Payload
            && let Some(orig) = says()
        {
            let mut claims = self.pair(word::CLAIMS).map(|claims| claims as u8);
            claims[orig as usize] = claims[orig as usize].saturating_add(1);
            self.set_pair(word::CLAIMS, claims.map(u32::from));
            let (orig, evidence) = weigh_claims(claims, flags.first());
            flags.set_orig(orig);
            flags.set_evidence(evidence);
        }
        self.set_flags(flags);
        self.0[word::PACKETS] = packets;
        self.0[word::IP_BYTES] = ip_bytes;
        self.0[word::PAYLOAD] = payload;
        self.0[word::END] = length << 16;
        self.0[word::LETTERS] = letters.0 << 16;
        self.0[word::ARMED] &= !u64::from(u32::MAX);
        let state = match (assured, flags.has(Flags::SEEN_REPLY)) {
            (true, _) => State::Assured,
            (false, true) => State::Replied,
            (false, false) => State::Unreplied,
        };
        Some(((ctstate, dir, state), comes_nearer(before, timeout, rules)))
    }
}

/// Whether an exchange of timeouts may bring the deadline nearer.
#[inline]
pub(super) fn comes_nearer(before: Timeout, after: Timeout, rules: &Rules) -> bool {
    before != after && rules.timeouts.get(after) < rules.timeouts.get(before)
}

/// The flags of a segment that matter.
#[inline]
pub(super) fn kind_of(flags: u8) -> u8 {
    flags & (tcpflag::SYN | tcpflag::ACK | tcpflag::RST | tcpflag::FIN | tcpflag::URG)
}
