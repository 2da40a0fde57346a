//! What Zeek makes of a segment where more than the sequence numbers tells what came of the data: some of it is missing from
//! the capture, or an end closes. See [`crate::zeek`] for the steps.

use crate::decode::Tcp;
use crate::flow::Side;
use crate::zeek::{EndState, is_noted};

use super::extra::{Extra, Sent};
use super::flags::OfSide;
use super::letters::{Letters, Long};
use super::{Compact, Extras, Flags, code, word};

/// A segment behind everything that its sender sent before, of a connection without wraps.
pub(super) struct Segment<'a> {
    pub(super) side: Side,
    pub(super) tcp: &'a Tcp,
    /// Behind it.
    pub(super) next: u32,
    pub(super) payload: u32,
    /// The capture cut its payload, which counts as not captured.
    pub(super) is_lost: bool,
    /// It has a FIN.
    pub(super) closes: bool,
    /// The code of its letter.
    pub(super) letter: u64,
}

/// An end: its facts, and what came of its data. Numbers are relative to its SYN.
struct End<'a> {
    facts: &'a mut OfSide,
    sent: &'a mut Sent,
    /// Behind the last number sent.
    last: u32,
    /// Everything before this was acknowledged.
    acked: u32,
}

/// The two ends, and what is known of the connection's close.
struct Ends<'a> {
    own: End<'a>,
    peer: End<'a>,
    flags: &'a mut Flags,
}

impl Compact {
    /// Takes a segment of an open end from an open end. Returns the letters and the extra line after it; with None, what was
    /// changed is of no use.
    pub(super) fn follow(
        &self,
        one: &Segment<'_>,
        extras: &Extras,
        flags: &mut Flags,
        ours: &mut OfSide,
        theirs: &mut OfSide,
    ) -> Option<(Letters, Extra)> {
        // Of one that was picked up in mid-stream the first byte may never have been there.
        if flags.has(Flags::PARTIAL) {
            return None;
        }
        let mut extra = match self.extra() {
            Some(number) => extras.get(number)?,
            None => self.in_order(),
        };
        let (start, peer_start) = self.ends(word::SEQ_START, one.side);
        let (acked, peer_acked) = self.ends(word::SEQ_ACKED, one.side);
        let (last, peer_last) = self.ends(word::SEQ_LAST, one.side);
        let acked = (acked.checked_sub(start)?, peer_acked.checked_sub(peer_start)?);
        let mut letters = Long(Letters(self.0[word::LETTERS] >> 16), extra.letters);
        let Extra { sent: [a, b], missed, .. } = &mut extra;
        let (own_sent, peer_sent) = if one.side == Side::A { (a, b) } else { (b, a) };
        let mut own = End::new(ours, own_sent, last - start, acked.0)?;
        let mut peer = End::new(theirs, peer_sent, peer_last - peer_start, acked.1)?;

        letters.once(one.letter, one.side)?;
        if one.closes {
            own.facts.set(Flags::FIN, true);
            own.facts.set_states(EndState::Closed, EndState::Established);
        }
        own.last = one.next - start;
        own.sent.payload = own.sent.payload.checked_add(one.payload)?;
        let went_on = peer.acknowledged(one.tcp.ack - peer_start, |length, count| {
            *missed = missed.checked_add(length)?;
            if is_noted(count) { letters.again(code::G, one.side.other()) } else { Some(()) }
        })?;
        let mut ends = Ends { own, peer, flags };
        if went_on {
            ends.turned(Ends::report_end);
        }
        if one.payload > 0 && !one.is_lost {
            ends.own.sent.data(one.tcp.seq - start, one.tcp.seq - start + one.payload)?;
        }
        ends.report_end();
        if one.closes {
            ends.close();
        }
        extra.letters = letters.1;
        Some((letters.0, extra))
    }
}

impl<'a> End<'a> {
    /// None where more was delivered than sent, as after an acknowledgement of what was not captured.
    fn new(facts: &'a mut OfSide, sent: &'a mut Sent, last: u32, acked: u32) -> Option<Self> {
        (sent.delivered <= last).then(|| Self { acked: before_fin(*facts, last, acked), facts, sent, last })
    }

    /// Its data was acknowledged up to `ack`: each hole below is handed to `gap` with its length and how many there were.
    /// Whether that is more than before.
    fn acknowledged(&mut self, ack: u32, mut gap: impl FnMut(u32, u32) -> Option<()>) -> Option<bool> {
        let ack = before_fin(*self.facts, self.last, ack);
        if ack <= self.acked {
            return Some(false);
        }
        for length in self.sent.acknowledged(ack).into_iter().filter(|length| *length > 0) {
            self.sent.gaps = self.sent.gaps.checked_add(1)?;
            gap(length, self.sent.gaps)?;
        }
        self.acked = ack;
        Some(true)
    }

    fn holds_any(&self) -> bool {
        self.acked < self.sent.delivered || self.sent.has_ahead()
    }

    fn is_pending(&self, peer: &Self) -> bool {
        self.last - self.sent.delivered > 1 || peer.holds_any()
    }
}

/// An acknowledgement, if it reaches the FIN without it; nothing is before the first byte.
fn before_fin(facts: OfSide, last: u32, ack: u32) -> u32 {
    ack.min(last - u32::from(facts.has(Flags::FIN))).max(1)
}

impl Ends<'_> {
    /// With the ends exchanged.
    fn turned(&mut self, step: impl FnOnce(&mut Self)) {
        std::mem::swap(&mut self.own, &mut self.peer);
        step(self);
        std::mem::swap(&mut self.own, &mut self.peer);
    }

    /// Takes note of the end of our data.
    fn report_end(&mut self) {
        let facts = &self.own.facts;
        if !facts.has(Flags::FIN) || facts.has(Flags::ENDED) || self.own.is_pending(&self.peer) {
            return;
        }
        self.own.facts.set(Flags::ENDED, true);
        if self.flags.has(Flags::DEFERRED) {
            self.close();
            self.flags.set(Flags::DEFERRED, false);
        }
    }

    /// We close, or have closed and our data is delivered now.
    fn close(&mut self) {
        let waits = self.own.is_pending(&self.peer);
        self.flags.set(Flags::DEFERRED, waits);
        if waits || self.own.facts.has(Flags::CLOSED) {
            return;
        }
        self.own.facts.set(Flags::CLOSED, true);
        if self.peer.facts.has(Flags::CLOSED) {
            self.flags.set(Flags::REPORTED, true);
        }
    }
}
