//! Short cuts for TCP: see [`super::express`].

use crate::config::Rules;
use crate::decode::{Brief, Tcp, tcpflag};
use crate::flow::Side;
use crate::proto::tcp::{choose_timeout, leads_to};
use crate::proto::tcp_window::Offer;
use crate::proto::{CtDir, CtState, State, TcpClass};
use crate::zeek::{EndState, FIRST, Place};

use super::express::{Counted, Outcome, comes_nearer};
use super::flags::STATES;
use super::follow::Segment;
use super::numbers::Numbers;
use super::{Compact, Extra, Extras, Flags, Letters, code, halves, word};

const SYN_ACK: u8 = tcpflag::SYN | tcpflag::ACK;
const RST_ACK: u8 = tcpflag::RST | tcpflag::ACK;
const FIN_ACK: u8 = tcpflag::FIN | tcpflag::ACK;

/// The largest scale that has room.
const MOST_SCALE: u8 = 15;
/// Where an acknowledgement and a FIN lead from each state, in the original direction and in the other; None where more
/// than the state decides: for the reply to a simultaneous open, and where no state was there.
const DATA_LEADS: [[[Option<State>; STATES.len()]; 2]; 2] = [
    [leads_from_each(CtDir::Original, TcpClass::Ack), leads_from_each(CtDir::Original, TcpClass::Fin)],
    [leads_from_each(CtDir::Reply, TcpClass::Ack), leads_from_each(CtDir::Reply, TcpClass::Fin)],
];

const fn leads_from_each(dir: CtDir, class: TcpClass) -> [Option<State>; STATES.len()] {
    let mut leads = [None; STATES.len()];
    let mut number = 0;
    while number < STATES.len() {
        let depends = match STATES[number] {
            State::None => true,
            State::SynRecv => matches!(dir, CtDir::Reply),
            _ => false,
        };
        if !depends {
            leads[number] = leads_to(dir, class, STATES[number]);
        }
        number += 1;
    }
    leads
}

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
        length: u64,
        rules: &Rules,
        extras: &mut Extras,
    ) -> Option<Outcome> {
        if flags.has(Flags::GONE) || brief.to_group {
            return None;
        }
        if brief.tcp.unnumbered {
            return self.unnumbered(flags, brief, side, length, rules, extras);
        }
        self.numbered(flags, brief, side, length, rules, extras)
    }

    /// A segment of which only the flags are known: as if it had come in order.
    #[inline(never)]
    fn unnumbered(
        &mut self,
        flags: Flags,
        brief: &Brief,
        side: Side,
        length: u64,
        rules: &Rules,
        extras: &mut Extras,
    ) -> Option<Outcome> {
        // Acknowledgements without numbers are not compared, and leave alone what those with numbers are compared with.
        let compared = (self.0[word::LAST_ACK], self.0[word::LETTERS] & 0xffff, flags.retrans());
        if compared != (0, 0, 0) {
            return None;
        }
        let [own, peer] = [side, side.other()].map(|side| self.place(flags, side));
        let segment = Tcp { unnumbered: false, ..brief.tcp.numbered(own.in_order(&peer, brief.tcp.flags)) };
        let outcome = self.numbered(flags, &Brief { tcp: segment, ..*brief }, side, length, rules, extras)?;
        self.0[word::LAST_ACK] = 0;
        self.0[word::LETTERS] &= !0xffff;
        Some(outcome)
    }

    fn place(&self, flags: Flags, side: Side) -> Place {
        let [start, last, acked] = [word::SEQ_START, word::SEQ_LAST, word::SEQ_ACKED].map(|at| self.ends(at, side).0);
        let [seen, fin] = [Flags::SEEN, Flags::FIN].map(|fact| flags.has(Flags::of(side, fact)));
        Place { start, last, acked, seen, fin, inactive: flags.end_states(side).0 == EndState::Inactive }
    }

    #[inline]
    fn numbered(
        &mut self,
        flags: Flags,
        brief: &Brief,
        side: Side,
        length: u64,
        rules: &Rules,
        extras: &mut Extras,
    ) -> Option<Outcome> {
        match kind_of(brief.tcp.flags) {
            tcpflag::ACK if flags.is_exchange() => match side {
                Side::A => self.established::<0>(flags, brief, length, rules, extras),
                Side::B => self.established::<1>(flags, brief, length, rules, extras),
            },
            tcpflag::ACK | FIN_ACK => match side {
                Side::A => self.data::<0>(flags, brief, length, rules, extras),
                Side::B => self.data::<1>(flags, brief, length, rules, extras),
            },
            SYN_ACK if brief.payload_bytes == 0 => self.accepted(flags, brief, side, length, rules),
            RST_ACK if brief.payload_bytes == 0 => self.refused(flags, brief, side, length),
            _ => None,
        }
    }

    /// A connection that begins with this SYN, which nothing was seen before; None where it is not an ordinary one.
    #[inline]
    pub(super) fn begin_tcp(id: u64, brief: &Brief, side: Side, ts: i64, rules: &Rules) -> Option<Self> {
        let segment = &if brief.tcp.unnumbered { brief.tcp.numbered((FIRST, 0)) } else { brief.tcp };
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
    fn answers_syn(&self, flags: Flags, brief: &Brief, side: Side, length: u64) -> Option<Counted> {
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
        if is_lone && acks_it && brief.tcp.ack != 0 { self.counted(brief, side, length) } else { None }
    }

    /// The SYN+ACK that answers a lone SYN.
    fn accepted(&mut self, mut flags: Flags, brief: &Brief, side: Side, length: u64, rules: &Rules) -> Option<Outcome> {
        let counted = self.answers_syn(flags, brief, side, length)?;
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
        self.count(&counted, last_win);
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
    fn refused(&mut self, flags: Flags, brief: &Brief, side: Side, length: u64) -> Option<Outcome> {
        let counted = self.answers_syn(flags, brief, side, length)?;
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
        self.count(&counted, 0);
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

    /// An acknowledgement, with data or without, on a connection on which nothing but data is exchanged: see [`Self::data`], of
    /// which this is what is left there. A function for each side knows where its halves are.
    #[inline]
    fn established<const SIDE: usize>(
        &mut self,
        mut flags: Flags,
        brief: &Brief,
        length: u64,
        rules: &Rules,
        extras: &mut Extras,
    ) -> Option<Outcome> {
        let side = Side::BOTH[SIDE];
        let (own, other) = (Flags::of(side, Flags::UNACKED), Flags::of(side.other(), Flags::UNACKED));
        let segment = &brief.tcp;
        let data = u16::try_from(brief.payload_bytes).ok()?;
        let numbers = Numbers::of(self, side);
        let next = numbers.behind(segment, u32::from(data))?;
        let letter = if data > 0 { code::D } else { code::A };
        let is_permitted = flags.has(Flags::of(side.other(), Flags::SACK_PERMITTED));
        let is_lost = data > 0 && brief.cut;
        let is_much = data > 0 && !is_lost && numbers.is_much(next);
        if segment.window == 0 || (segment.sack.is_some() && is_permitted) || is_much {
            return None;
        }
        let counted = self.counted(brief, side, length)?;
        let dir = if side == flags.first() { CtDir::Original } else { CtDir::Reply };
        let retrans = self.repeated(flags, dir, segment, data)?;
        let letters = if is_lost || flags.has(Flags::EXTRA) {
            let one = Segment { side, tcp: segment, next, payload: u32::from(data), is_lost, closes: false, letter };
            let letters = self.established_with_gaps(flags, &one, extras)?;
            flags.set(Flags::EXTRA, true);
            letters
        } else {
            Letters(self.0[word::LETTERS] >> 16).with(letter, side)?
        };

        flags.0 |= if data > 0 { own } else { 0 };
        flags.0 &= !(if numbers.is_all(segment.ack) { other } else { 0 });
        flags.0 |= Flags::of(side, Flags::ACK_SET) | Flags::ASSURED;
        let acks = (retrans, flags.has(own | other), segment.window);
        let timeout = choose_timeout(acks, State::Established, TcpClass::Ack, rules);
        let before = flags.timeout();
        flags.set_timeout(timeout);
        flags.set_step(State::Established, dir as u8, TcpClass::Ack, retrans);
        self.set_flags(flags);
        self.count(&counted, segment.window);
        self.0[word::LETTERS] = letters.0 << 16 | u64::from(data);
        self.0[word::LAST_ACK] = halves([segment.seq, segment.ack]);
        let window = u32::from(segment.window) << flags.scale(side);
        numbers.write_behind(self, side, (next, segment.ack, window));
        Some(((CtState::Established, dir, State::Established), comes_nearer(before, timeout, rules)))
    }

    /// The letters after a segment of [`Self::established`] where data is missing from the capture; its extra line is written.
    #[inline(never)]
    fn established_with_gaps(&mut self, mut flags: Flags, one: &Segment<'_>, extras: &mut Extras) -> Option<Letters> {
        let (mut ours, mut theirs) = flags.sides(one.side);
        let (letters, extra) = self.follow(one, extras, &mut flags, &mut ours, &mut theirs)?;
        self.write_extra(&extra, extras)?;
        Some(letters)
    }

    fn write_extra(&mut self, extra: &Extra, extras: &mut Extras) -> Option<()> {
        let number = self.extra().or_else(|| extras.take())?;
        extras.set(number, extra);
        self.set_extra(number);
        Some(())
    }

    /// How many times in a row an acknowledgement came, once this one has; None where that is more than two bits can say.
    #[inline]
    fn repeated(&self, flags: Flags, dir: CtDir, segment: &Tcp, data: u16) -> Option<u8> {
        if self.0[word::LAST_ACK] != halves([segment.seq, segment.ack]) {
            return Some(0);
        }
        self.repeated_numbers(flags, dir, segment, data)
    }

    /// The same where the numbers are those of the last one.
    #[cold]
    fn repeated_numbers(&self, flags: Flags, dir: CtDir, segment: &Tcp, data: u16) -> Option<u8> {
        let same = flags.last_dir() == dir as u8
            && self.0[word::LETTERS] as u16 == data
            && self.0[word::END] as u16 == segment.window;
        match flags.retrans() {
            _ if !same => Some(0),
            3 => None,
            retrans => Some(retrans + 1),
        }
    }

    /// An acknowledgement, with data or without, or a FIN, of an end that has opened, behind everything that
    /// it sent before.
    fn data<const SIDE: usize>(
        &mut self,
        mut flags: Flags,
        brief: &Brief,
        length: u64,
        rules: &Rules,
        extras: &mut Extras,
    ) -> Option<Outcome> {
        let side = Side::BOTH[SIDE];
        let segment = &brief.tcp;
        let data = u16::try_from(brief.payload_bytes).ok()?;
        let closes = segment.flags & tcpflag::FIN != 0;
        let class = if closes { TcpClass::Fin } else { TcpClass::Ack };
        let (mut ours, mut theirs) = flags.sides(side);
        let both_closed = ours.has(Flags::CLOSED) && theirs.has(Flags::CLOSED);
        let dir = if side == flags.first() { CtDir::Original } else { CtDir::Reply };
        let old = flags.state_number();
        let new = DATA_LEADS[usize::from(dir == CtDir::Reply)][usize::from(closes)][old]?;
        let is_challenged = old == State::LastAck as usize && flags.last_class() == TcpClass::Syn;
        if is_challenged
            || !flags.has(Flags::SEEN_REPLY)
            || !ours.has(Flags::SEEN)
            || !ours.is_open()
            || !theirs.is_open()
            || (ours.has(Flags::FIN) && (closes || data > 0))
            || (segment.sack.is_some() && theirs.has(Flags::SACK_PERMITTED))
            || segment.window == 0
        {
            return None;
        }

        let numbers = Numbers::of(self, side);
        let next = numbers.behind(segment, u32::from(data) + u32::from(closes))?;
        let is_lost = data > 0 && brief.cut;
        if data > 0 && !is_lost && numbers.is_much(next) {
            return None;
        }
        let counted = self.counted(brief, side, length)?;
        let letter = match (closes, data > 0) {
            (true, _) => code::F,
            (false, true) => code::D,
            (false, false) => code::A,
        };
        // Where everything came and nobody closes, what Zeek knows of the data follows from the numbers.
        let follows = !closes && !is_lost && !flags.has(Flags::EXTRA) && ours.is_settled() && theirs.is_settled();
        let (letters, extra) = if follows {
            (Letters(self.0[word::LETTERS] >> 16).with(letter, side)?, None)
        } else {
            let one = Segment { side, tcp: segment, next, payload: u32::from(data), is_lost, closes, letter };
            let (letters, extra) = self.follow(&one, extras, &mut flags, &mut ours, &mut theirs)?;
            (letters, Some(extra))
        };
        let (mut retrans, mut last_win, mut last_length) =
            (flags.retrans(), self.0[word::END] as u16, self.0[word::LETTERS] as u16);
        if !closes {
            retrans = self.repeated(flags, dir, segment, data)?;
            (last_win, last_length) = (segment.window, data);
        }
        // What comes after both closes does not count for `duration`.
        let quiet = if both_closed { self.quiet_until(length)? } else { 0 };

        if let Some(extra) = extra
            && (is_lost || flags.has(Flags::EXTRA))
        {
            self.write_extra(&extra, extras)?;
            flags.set(Flags::EXTRA, true);
        }

        ours.raise(Flags::UNACKED, data > 0 || closes);
        ours.raise(Flags::ACK_SET, true);
        theirs.lower(Flags::UNACKED, numbers.is_all(segment.ack));
        ours.raise(Flags::CLOSE_INIT, closes && new == State::FinWait && old != new as usize);
        let unacked = ours.has(Flags::UNACKED) || theirs.has(Flags::UNACKED);
        let timeout = choose_timeout((retrans, unacked, last_win), new, class, rules);
        let before = flags.timeout();
        flags.set_timeout(timeout);
        // From SYN_RECV or from itself.
        if new == State::Established {
            flags.set(Flags::ASSURED, true);
        }
        flags.set_step(new, dir as u8, class, retrans);
        flags.set_sides(side, ours, theirs);

        self.set_flags(flags);
        self.count(&counted, last_win);
        self.0[word::ARMED] |= u64::from(quiet);
        self.0[word::LETTERS] = letters.0 << 16 | u64::from(last_length);
        if !closes {
            self.0[word::LAST_ACK] = halves([segment.seq, segment.ack]);
        }
        let window = u32::from(segment.window) << ours.scale();
        numbers.write_behind(self, side, (next, segment.ack, window));
        Some(((CtState::Established, dir, new), comes_nearer(before, timeout, rules)))
    }

    /// How long what Zeek counts lies behind the end, if that is this many nanoseconds after the start. None where a clock
    /// that was set back put it elsewhere.
    fn quiet_until(&self, length: u64) -> Option<u32> {
        let before = (self.0[word::END] >> 16).checked_sub(u64::from(self.0[word::ARMED] as u32))?;
        u32::try_from(length.checked_sub(before)?).ok()
    }
}
