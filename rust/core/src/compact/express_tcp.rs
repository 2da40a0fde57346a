//! Short cuts for TCP: see [`super::express`].

use crate::config::Rules;
use crate::decode::{Brief, Tcp, tcpflag};
use crate::flow::Side;
use crate::proto::tcp::{choose_timeout, leads_to};
use crate::proto::tcp_window::{MAX_ACK_WINDOW, Offer, after, before};
use crate::proto::{CtDir, CtState, State, TcpClass};
use crate::zeek::{EndState, WITHOUT_ACKS, WITHOUT_FURTHER_ACKS};

use super::express::{Counted, Outcome, comes_nearer};
use super::follow::Segment;
use super::{Compact, Extras, Flags, Letters, code, halves, word};

const SYN_ACK: u8 = tcpflag::SYN | tcpflag::ACK;
const RST_ACK: u8 = tcpflag::RST | tcpflag::ACK;
const FIN_ACK: u8 = tcpflag::FIN | tcpflag::ACK;

/// The largest scale that has room.
const MOST_SCALE: u8 = 15;
/// A window beyond this is not one that TCP can say.
const LARGEST_WINDOW: u32 = 1 << 30;
/// Numbers farther apart than this are told apart by how often they wrapped.
const HALF: u32 = 1 << 31;

/// The flags of a segment that matter.
#[inline]
fn kind_of(flags: u8) -> u8 {
    flags & (tcpflag::SYN | tcpflag::ACK | tcpflag::RST | tcpflag::FIN | tcpflag::URG)
}

impl Flags {
    /// Takes what a SYN of this side offers; None where its scale has no room.
    #[inline]
    fn take_offer(&mut self, side: Side, segment: &Tcp) -> Option<()> {
        let offer = Offer::of(segment).unwrap_or_default();
        let scale = offer.scale.unwrap_or_default();
        self.set(Flags::of(side, Flags::OFFERS_SCALE), offer.scale.is_some());
        self.set(Flags::of(side, Flags::SACK_PERMITTED), offer.sack_permitted);
        self.set_scale(side, scale);
        (scale <= MOST_SCALE).then_some(())
    }
}

impl Compact {
    #[inline]
    pub(super) fn express_tcp(
        &mut self,
        flags: Flags,
        brief: &Brief,
        side: Side,
        ts: i64,
        rules: &Rules,
        extras: &mut Extras,
    ) -> Option<Outcome> {
        if flags.has(Flags::GONE) || brief.to_group {
            return None;
        }
        match kind_of(brief.tcp.flags) {
            tcpflag::ACK | FIN_ACK => self.data(flags, brief, side, ts, rules, extras),
            SYN_ACK if brief.payload_bytes == 0 => self.accepted(flags, brief, side, ts, rules),
            RST_ACK if brief.payload_bytes == 0 => self.refused(flags, brief, side, ts),
            _ => None,
        }
    }

    /// A connection that begins with this SYN, which nothing was seen before; None where it is not an ordinary one.
    #[inline]
    pub(super) fn begin_tcp(id: u64, brief: &Brief, side: Side, ts: i64, rules: &Rules) -> Option<Self> {
        let segment = &brief.tcp;
        let is_plain = kind_of(segment.flags) == tcpflag::SYN && brief.payload_bytes == 0 && !brief.to_group;
        if !is_plain || segment.window == 0 {
            return None;
        }
        let last = segment.seq.checked_add(1)?;
        let window = u32::from(segment.window);
        let mut flags = Flags::TCP;
        flags.set_first(side);
        flags.set_state(State::SynSent);
        flags.set_last(CtDir::Original as u8, TcpClass::Syn);
        flags.set_timeout(choose_timeout((0, false, 0), State::SynSent, TcpClass::Syn, rules));
        flags.take_offer(side, segment)?;
        flags.set_end_states(side, EndState::SynSent, EndState::Inactive);
        flags.set(Flags::of(side, Flags::SEEN), true);
        let mut compact = Self::started(id, brief, side, ts)?;
        compact.set_flags(flags);
        compact.0[word::LETTERS] = Letters::default().with(code::S, side)?.0 << 16;
        compact.set_ends(word::SEQ_START, side, (segment.seq, 0));
        compact.set_ends(word::SEQ_LAST, side, (last, 0));
        compact.set_ends(word::SEQ_ACKED, side, (segment.seq, 0));
        // The other end may send as much as the window says, from number 0 on as long as nothing of it was seen.
        compact.set_ends(word::MAX_END, side, (last, window));
        compact.set_ends(word::MAX_WIN, side, (window, 0));
        Some(compact)
    }

    /// The counts with an answer to a lone SYN; None where it is not one.
    #[inline]
    fn answers_syn(&self, flags: Flags, brief: &Brief, side: Side, ts: i64) -> Option<Counted> {
        let opener = side.other();
        let is_lone = flags.state() == State::SynSent
            && flags.last_class() == TcpClass::Syn
            && side != flags.gateway_orig()
            && flags.end_states(opener) == (EndState::SynSent, EndState::Inactive)
            && !flags.has(Flags::of(side, Flags::SEEN))
            && !flags.has(Flags::SEEN_REPLY | Flags::EXTRA | Flags::PARTIAL)
            && flags.end_states(side).0 == EndState::Inactive;
        let [start, last] = [word::SEQ_START, word::SEQ_LAST].map(|at| self.ends(at, opener).0);
        let acks_it = brief.tcp.ack == last && start < last && brief.tcp.sack.is_none();
        if is_lone && acks_it && brief.tcp.ack != 0 { self.counted(brief, side, ts) } else { None }
    }

    /// The SYN+ACK that answers a lone SYN.
    fn accepted(&mut self, mut flags: Flags, brief: &Brief, side: Side, ts: i64, rules: &Rules) -> Option<Outcome> {
        let counted = self.answers_syn(flags, brief, side, ts)?;
        let segment = &brief.tcp;
        let next = segment.seq.checked_add(1)?;
        let window = u32::from(segment.window);
        if window == 0 {
            return None;
        }
        let letters = Letters(self.0[word::LETTERS] >> 16).with(code::H, side)?;
        flags.take_offer(side, segment)?;
        if !Side::BOTH.into_iter().all(|side| flags.has(Flags::of(side, Flags::OFFERS_SCALE))) {
            flags.set_scale(side, 0);
            flags.set_scale(side.other(), 0);
        }
        flags.set(Flags::of(side, Flags::ACK_SET), true);
        flags.set(Flags::of(side, Flags::SEEN), true);
        flags.set(Flags::SEEN_REPLY | Flags::ESTABLISHED, true);
        flags.set_end_states(side, EndState::Established, EndState::Inactive);
        flags.set_end_states(side.other(), EndState::Established, EndState::SynSent);
        flags.set_state(State::SynRecv);
        flags.set_last(CtDir::Reply as u8, TcpClass::SynAck);
        let before = flags.timeout();
        let last_win = self.0[word::END] as u16;
        let timeout = choose_timeout((flags.retrans(), false, last_win), State::SynRecv, TcpClass::SynAck, rules);
        flags.set_timeout(timeout);

        self.set_flags(flags);
        self.count(side, &counted, last_win);
        self.0[word::LETTERS] = letters.0 << 16 | self.0[word::LETTERS] & 0xffff;
        let (_, start) = self.ends(word::SEQ_START, side);
        let (_, last) = self.ends(word::SEQ_LAST, side);
        let (_, max_win) = self.ends(word::MAX_WIN, side);
        self.set_ends(word::SEQ_START, side, (segment.seq, start));
        self.set_ends(word::SEQ_LAST, side, (next, last));
        self.set_ends(word::SEQ_ACKED, side, (segment.seq, segment.ack));
        self.set_ends(word::MAX_END, side, (next, segment.ack.wrapping_add(window)));
        self.set_ends(word::MAX_WIN, side, (window, max_win));
        Some(((CtState::Established, CtDir::Reply, State::SynRecv), comes_nearer(before, timeout, rules)))
    }

    /// The RST that refuses a lone SYN: the entry is gone.
    fn refused(&mut self, flags: Flags, brief: &Brief, side: Side, ts: i64) -> Option<Outcome> {
        let counted = self.answers_syn(flags, brief, side, ts)?;
        let letters = Letters(self.0[word::LETTERS] >> 16).with(code::R, side)?;
        // Of the gateway's word nothing is left but that there was an answer.
        let opener = side.other();
        let mut gone = Flags::TCP;
        gone.set_first(flags.first());
        gone.set(Flags::GONE | Flags::SEEN_REPLY, true);
        gone.set(Flags::PARTIAL | Flags::ESTABLISHED | Flags::REPORTED, true);
        gone.set_end_states(opener, EndState::SynSent, EndState::Inactive);
        gone.set(Flags::of(opener, Flags::SEEN), true);
        gone.set_end_states(side, EndState::Reset, EndState::Inactive);
        gone.set(Flags::of(side, Flags::SEEN | Flags::CLOSED | Flags::ENDED), true);

        self.set_flags(gone);
        self.count(side, &counted, 0);
        self.0[word::LETTERS] = letters.0 << 16;
        let before = brief.tcp.seq.wrapping_sub(1);
        for (at, number) in [(word::SEQ_START, before), (word::SEQ_LAST, brief.tcp.seq), (word::SEQ_ACKED, before)] {
            let (_, theirs) = self.ends(at, side);
            self.set_ends(at, side, (number, theirs));
        }
        for at in [word::MAX_END, word::MAX_WIN, word::LAST_ACK] {
            self.0[at] = 0;
        }
        Some(((CtState::Established, CtDir::Reply, State::None), true))
    }

    /// An acknowledgement, with data or without, or a FIN, of an end that has opened, behind everything that
    /// it sent before.
    #[inline]
    fn data(
        &mut self,
        mut flags: Flags,
        brief: &Brief,
        side: Side,
        ts: i64,
        rules: &Rules,
        extras: &mut Extras,
    ) -> Option<Outcome> {
        let segment = &brief.tcp;
        let (seq, ack, payload) = (segment.seq, segment.ack, brief.payload_bytes);
        let closes = segment.flags & tcpflag::FIN != 0;
        let class = if closes { TcpClass::Fin } else { TcpClass::Ack };
        let (mut ours, mut theirs) = (flags.side(side), flags.side(side.other()));
        let dir = flags.dir(side);
        let old = flags.state();
        let new = leads_to(dir, class, old)?;
        // The reply to a simultaneous open, and the challenge after a SYN, are judged by more than the state.
        let depends = (old == State::SynRecv && dir == CtDir::Reply)
            || old == State::None
            || (old == State::LastAck && flags.last_class() == TcpClass::Syn);
        if depends
            || !flags.has(Flags::SEEN_REPLY)
            || !ours.has(Flags::SEEN)
            || !ours.is_open()
            || !theirs.is_open()
            || (ours.has(Flags::FIN) && (closes || payload > 0))
            || (segment.sack.is_some() && theirs.has(Flags::SACK_PERMITTED))
            || segment.window == 0
        {
            return None;
        }

        let (start, peer_start) = self.ends(word::SEQ_START, side);
        let (last, peer_last) = self.ends(word::SEQ_LAST, side);
        let (acked, peer_acked) = self.ends(word::SEQ_ACKED, side);
        let (max_end, mut peer_max_end) = self.ends(word::MAX_END, side);
        let (mut max_win, mut peer_max_win) = self.ends(word::MAX_WIN, side);
        // In order, without wraps, acknowledging what is there.
        let next = seq.checked_add(payload)?.checked_add(u32::from(closes))?;
        let is_in_order = seq == last
            && start < last
            && next - start < HALF
            && ack >= peer_acked.max(1)
            && ack > peer_start
            && ack <= peer_last
            && peer_last - peer_start < HALF
            && (start..=last).contains(&acked);
        let in_window = is_in_order
            && max_win != 0
            && peer_max_win != 0
            && peer_max_win < LARGEST_WINDOW
            && peer_last - ack <= MAX_ACK_WINDOW.max(max_win)
            && before(seq, max_end.wrapping_add(1));
        if !in_window {
            return None;
        }
        // Beyond either, Zeek gives up waiting for acknowledgements.
        let is_much = (acked - start <= 1 && u64::from(next - start) > WITHOUT_ACKS)
            || u64::from(next - acked) > WITHOUT_FURTHER_ACKS;
        let is_lost = payload > 0 && brief.cut;
        if payload > 0 && !is_lost && is_much {
            return None;
        }
        let counted = self.counted(brief, side, ts)?;
        let letter = match (closes, payload > 0) {
            (true, _) => code::F,
            (false, true) => code::D,
            (false, false) => code::A,
        };
        // Where everything came and nobody closes, what Zeek knows of the data follows from the numbers.
        let follows = !closes && !is_lost && !flags.has(Flags::EXTRA) && ours.is_settled() && theirs.is_settled();
        let (letters, extra) = if follows {
            (Letters(self.0[word::LETTERS] >> 16).with(letter, side)?, None)
        } else {
            let one = Segment { side, seq, ack, next, payload, is_lost, closes, letter };
            let (letters, extra) = self.follow(&one, extras, &mut flags, &mut ours, &mut theirs)?;
            (letters, Some(extra))
        };
        // Identical acknowledgements in a row.
        let (last_length, last_win) = (self.0[word::LETTERS] as u16, self.0[word::END] as u16);
        let data = u16::try_from(payload).ok()?;
        let acknowledged = halves([seq, ack]);
        let same = flags.last_dir() == dir as u8
            && self.0[word::LAST_ACK] == acknowledged
            && (last_length, last_win) == (data, segment.window);
        // The repeated counter has two bits here.
        if same && flags.retrans() == 3 && !closes {
            return None;
        }
        // What comes after both closes does not count for `duration`.
        let was = self.flags();
        let both_closed = Side::BOTH.into_iter().all(|side| was.has(Flags::of(side, Flags::CLOSED)));
        let quiet = if both_closed { self.quiet_until(counted.length)? } else { 0 };

        if let Some(extra) = extra
            && (is_lost || flags.has(Flags::EXTRA))
        {
            let number = self.extra().or_else(|| extras.take())?;
            extras.set(number, &extra);
            self.set_extra(number);
            flags.set(Flags::EXTRA, true);
        }

        let window = u32::from(segment.window) << flags.scale(side);
        max_win = max_win.max(window);
        if after(next, max_end) {
            peer_max_win = peer_max_win.wrapping_add(next.wrapping_sub(max_end));
        }
        let allowed = ack.wrapping_add(window);
        if after(allowed, peer_max_end.wrapping_sub(1)) {
            peer_max_end = allowed;
        }
        ours.set(Flags::UNACKED, ours.has(Flags::UNACKED) || next != seq);
        ours.set(Flags::ACK_SET, true);
        theirs.set(Flags::UNACKED, theirs.has(Flags::UNACKED) && ack != peer_last);
        if closes {
            ours.set(Flags::CLOSE_INIT, ours.has(Flags::CLOSE_INIT) || (new == State::FinWait && old != new));
        }
        let (mut retrans, mut window_said, mut length_said) = (flags.retrans(), last_win, last_length);
        if !closes {
            retrans = if same { retrans + 1 } else { 0 };
            (window_said, length_said) = (segment.window, data);
            flags.set_retrans(retrans);
            self.0[word::LAST_ACK] = acknowledged;
        }
        flags.set_last(dir as u8, class);
        flags.set_state(new);
        let unacked = ours.has(Flags::UNACKED) || theirs.has(Flags::UNACKED);
        let timeout = choose_timeout((retrans, unacked, window_said), new, class, rules);
        let before = flags.timeout();
        flags.set_timeout(timeout);
        if matches!(old, State::SynRecv | State::Established) && new == State::Established {
            flags.set(Flags::ASSURED, true);
        }
        flags.set_sides(side, ours, theirs);

        self.set_flags(flags);
        self.count(side, &counted, window_said);
        self.0[word::ARMED] |= u64::from(quiet);
        self.0[word::LETTERS] = letters.0 << 16 | u64::from(length_said);
        self.set_ends(word::SEQ_LAST, side, (next, peer_last));
        self.set_ends(word::SEQ_ACKED, side, (acked, ack));
        self.set_ends(word::MAX_END, side, (max_end, peer_max_end));
        self.set_ends(word::MAX_WIN, side, (max_win, peer_max_win));
        Some(((CtState::Established, dir, new), comes_nearer(before, timeout, rules)))
    }

    /// How long what Zeek counts lies behind the end, if that is this many nanoseconds after the start.
    fn quiet_until(&self, length: u64) -> Option<u32> {
        let before = (self.0[word::END] >> 16) - u64::from(self.0[word::ARMED] as u32);
        u32::try_from(length - before).ok()
    }
}
