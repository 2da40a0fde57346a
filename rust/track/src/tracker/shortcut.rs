//! The path of an ordinary packet: in place where a shortcut applies, else the slow path.

use crate::conn::{self, Flags, Image, Shared, path};
use crate::connection::EndReason;
use crate::flow::descriptor::{Arrival, kind};
use crate::flow::{Descriptor, Side};
use crate::proto::{CtDir, CtState};
use crate::table::{Change, Lookup, NO_SLOT, SlotId, is_before_mark};
use crate::zeek;
use conntrack_decode::tcpflag;

use super::answer::Sent;
use super::gateway::INVALID;
use super::input::{Context, Input};
use super::{Closed, Label, Tracker};

/// The flags of which a plain acknowledgement has exactly one.
const KINDS: u8 = tcpflag::SYN | tcpflag::FIN | tcpflag::RST | tcpflag::ACK;

impl Tracker {
    /// The fast path: process a plain acknowledgement or a datagram of a ready connection with a narrow key, in the
    /// guessed slot. None: another packet, and nothing was changed. Without `LABELS`, the label is
    /// unused; with `READERS`, other threads may read the table.
    #[inline]
    pub fn take_ready<'a, const LABELS: bool, const READERS: bool>(
        &mut self,
        one: &Descriptor,
        guess: u32,
        arrival: impl Fn() -> Arrival<'a>,
    ) -> Option<Label> {
        if !self.is_quick(one, kind::WIDE) {
            return None;
        }
        let (is_nearer, label) = self.table.ready::<READERS, _>(&one.key, guess, |change| {
            let is_nearer = quick::<READERS>(change, one, arrival)?;
            Some((is_nearer, if LABELS { label(change.hot, one) } else { Label::outside(CtState::Invalid) }))
        })??;
        if is_nearer {
            self.table.arm(SlotId::V4(guess));
        }
        Some(label)
    }

    /// The fast path of a packet with a wide key, whose first four words are `wide`.
    #[inline]
    pub fn take_ready_wide<'a, const READERS: bool>(
        &mut self,
        one: &Descriptor,
        wide: &[u64; 4],
        guess: u32,
        arrival: impl Fn() -> Arrival<'a>,
    ) -> Option<Label> {
        if !one.is(kind::WIDE) || !self.is_quick(one, 0) {
            return None;
        }
        let (is_nearer, label) = self.table.ready_wide::<READERS, _>(&one.wide(wide), guess, |change| {
            let is_nearer = quick::<READERS>(change, one, arrival)?;
            Some((is_nearer, label(change.hot, one)))
        })??;
        if is_nearer {
            self.table.arm(SlotId::Wide(guess));
        }
        Some(label)
    }

    /// Test for a plain acknowledgement or a datagram, of none of these kinds, and not so late that its connection may
    /// be over.
    #[inline]
    fn is_quick(&self, one: &Descriptor, not: u16) -> bool {
        let is_usual = one.flags & KINDS == tcpflag::ACK || one.is(kind::UDP);
        is_usual && !one.is(not | kind::STATELESS | kind::UNNUMBERED | kind::OTHER) && one.ts >= self.quick_from
    }

    /// Process any ordinary packet, with a guess of its slot.
    pub fn take(&mut self, arrival: &Arrival<'_>, guess: u32, closed: &mut impl FnMut(&Closed)) -> Label {
        if self.table.has_readers() {
            self.arrive::<true>(arrival, guess, closed)
        } else {
            self.arrive::<false>(arrival, guess, closed)
        }
    }

    #[inline(never)]
    pub(super) fn arrive<const READERS: bool>(
        &mut self,
        arrival: &Arrival<'_>,
        guess: u32,
        closed: &mut impl FnMut(&Closed),
    ) -> Label {
        let (one, over_until) = (arrival.descriptor, self.over_until(arrival.descriptor.ts));
        let mut slot = self.table.find_one(one, arrival.wide, guess);
        if slot.is_none() && self.may_join(one.is_tagged()) {
            slot = self.with_tags(&self.keys.found(one, arrival.wide), Sent::of_descriptor(one), one.ts, closed);
        }
        let takes_shortcuts = self.shortcuts && !self.brings_tags(arrival.decoded);
        if let Some(slot) = slot.filter(|_| takes_shortcuts) {
            let taken = self.table.change::<READERS, _>(slot, |change| {
                if change.hot.deadline(change.limits) <= over_until {
                    return None;
                }
                let before = Flags(change.hot.flags.get()).timeout_number();
                let done = in_place::<READERS>(change, arrival);
                let after = Flags(change.hot.flags.get()).timeout_number();
                let is_nearer = change.limits.nanos[after] < change.limits.nanos[before];
                done.then(|| (label(change.hot, one), is_nearer))
            });
            if let Some(Some((label, is_nearer))) = taken {
                if is_nearer {
                    self.table.arm(slot);
                }
                return label;
            }
            // A SYN after a refusal opens another connection, as in `ask_gateway`.
            let was_refused = |hot: &Shared| {
                let is_over = hot.deadline(self.table.limits()) <= over_until;
                Flags(hot.flags.get()).is_refused() && hot.path.get() & path::COLD == 0 && !is_over
            };
            if one.flags & KINDS == tcpflag::SYN
                && self.table.hot(slot).is_some_and(was_refused)
                && let Some((lookup, image)) = self.begins_in_place(arrival)
            {
                self.end(slot, EndReason::Reused, one.ts, closed);
                return self.insert_in_place(&image, &lookup, one.side());
            }
        } else if slot.is_none() && takes_shortcuts {
            if !self.make_room(&self.keys.found(one, arrival.wide).lookup, false, one.ts, closed) {
                return Label::outside(CtState::Invalid);
            }
            if let Some((lookup, image)) = self.begins_in_place(arrival) {
                return self.insert_in_place(&image, &lookup, one.side());
            }
        }
        if let Some(slot) = slot
            && self.may_join(one.is_tagged())
            && self.end_if_over(slot, one.ts, closed)
        {
            return self.arrive::<READERS>(arrival, NO_SLOT, closed);
        }
        let read;
        let packet = if let Some(packet) = arrival.decoded {
            packet
        } else {
            read = arrival.packet();
            &read
        };
        let input = Input { packet, frame: arrival.frame, ts: one.ts, context: Context::default() };
        self.step(input, &self.keys.found(one, arrival.wide), slot, closed)
    }

    /// The record of a new connection, and its key, if a shortcut applies.
    fn begins_in_place(&self, arrival: &Arrival<'_>) -> Option<(Lookup, Image)> {
        let one = arrival.descriptor;
        if self.policy.as_ref().is_some_and(|policy| !policy.passes(&arrival.tuple())) {
            return None;
        }
        let numbered = one.is(kind::UNNUMBERED).then(|| numbers(*one, zeek::FIRST, 0));
        let arrival = Arrival { descriptor: numbered.as_ref().unwrap_or(one), ..*arrival };
        let mut image = conn::begin(&arrival, self.next_id, self.table.limits())?;
        let lookup = self.keys.found(one, arrival.wide).lookup;
        image.path |= self.keys.places(&lookup.key());
        Some((lookup, image))
    }

    fn insert_in_place(&mut self, image: &Image, lookup: &Lookup, side: Side) -> Label {
        if self.table.insert(lookup, image).is_none() {
            return Label::outside(CtState::Invalid);
        }
        self.next_id += 1;
        Label::new(self.next_id - 1, (CtState::New, CtDir::Original, image.state()), side)
    }
}

/// Process a packet of a ready connection. Returns whether its deadline may be earlier than the wheel's mark; None: not
/// processed, and nothing was changed.
#[inline]
fn quick<'a, const READERS: bool>(
    change: &mut Change<'_>,
    one: &Descriptor,
    arrival: impl Fn() -> Arrival<'a>,
) -> Option<bool> {
    let Change { hot, colds, limits } = change;
    let changed = match one.kind & (kind::UDP | kind::SIDE_B) {
        0 => conn::ordinary::<0, false, READERS>(hot, colds, one, arrival, limits)?,
        kind::SIDE_B => conn::ordinary::<1, false, READERS>(hot, colds, one, arrival, limits)?,
        _ => conn::exchange(hot, one, limits)?,
    };
    Some(
        changed & Flags::TIMEOUT_BITS != 0 && {
            let timeout = Flags(hot.flags.get()).timeout_number();
            is_before_mark(one.ts.saturating_add(limits.nanos[timeout]), hot.armed.get())
        },
    )
}

/// Process an ordinary packet of a live connection; false: the packet takes the slow path, and nothing was changed.
#[inline]
fn in_place<const READERS: bool>(change: &mut Change<'_>, arrival: &Arrival<'_>) -> bool {
    let (one, hot) = (arrival.descriptor, change.hot);
    let bits = hot.path.get();
    if one.is(kind::UDP | kind::STATELESS) {
        return bits & path::READY != 0 && conn::datagram(hot, one, arrival, change.limits);
    }
    if !one.is(kind::UNNUMBERED) {
        return segment::<READERS>(change, arrival);
    }
    let Some(numbered) = in_order(hot, one) else { return false };
    let done = segment::<READERS>(change, &Arrival { descriptor: &numbered, ..*arrival });
    if done {
        // Acknowledgements without numbers are not compared with each other.
        hot.last[0].set(0);
        hot.last[1].set(0);
        hot.letters.set(hot.letters.get() & !0xffff);
    }
    done
}

#[inline]
fn segment<const READERS: bool>(change: &mut Change<'_>, arrival: &Arrival<'_>) -> bool {
    let (one, bits) = (arrival.descriptor, change.hot.path.get());
    let is_plain = one.flags & KINDS == tcpflag::ACK;
    if is_plain && bits & path::READY != 0 {
        let Change { hot, colds, limits } = change;
        let arrival = || *arrival;
        return match (one.side(), bits & path::OUT != 0) {
            (Side::A, false) => conn::ordinary::<0, false, READERS>(hot, colds, one, arrival, limits),
            (Side::B, false) => conn::ordinary::<1, false, READERS>(hot, colds, one, arrival, limits),
            (Side::A, true) => conn::ordinary::<0, true, READERS>(hot, colds, one, arrival, limits),
            (Side::B, true) => conn::ordinary::<1, true, READERS>(hot, colds, one, arrival, limits),
        }
        .is_some();
    }
    if bits & path::COLD != 0 {
        return false;
    }
    match one.flags & KINDS {
        tcpflag::ACK | FIN_ACK if one.side() == Side::A => conn::closing::<0>(change.hot, one, change.limits),
        tcpflag::ACK | FIN_ACK => conn::closing::<1>(change.hot, one, change.limits),
        _ => conn::answer(change.hot, arrival, change.limits),
    }
}

const FIN_ACK: u8 = tcpflag::FIN | tcpflag::ACK;

/// The label of the last processed packet.
#[inline]
fn label(hot: &Shared, one: &Descriptor) -> Label {
    let (flags, side) = (Flags(hot.flags.get()), one.side());
    let outcome = if hot.path.get() & (path::OUT | path::LAX) == path::OUT {
        INVALID
    } else {
        let dir = flags.dir(side);
        let is_reply = dir == CtDir::Reply || flags.has(Flags::SEEN_REPLY);
        (if is_reply { CtState::Established } else { CtState::New }, dir, flags.reported_state())
    };
    Label::new(hot.id.get().into(), outcome, side)
}

/// A segment with known flags alone, given these numbers and the largest window.
fn numbers(one: Descriptor, seq: u32, ack: u32) -> Descriptor {
    Descriptor { seq, ack, edge: ack, window: u16::MAX, ..one }
}

/// The segment as if in order; None where acknowledgements with numbers came before.
fn in_order(hot: &Shared, one: &Descriptor) -> Option<Descriptor> {
    let flags = Flags(hot.flags.get());
    let compared =
        hot.last[0].get() | hot.last[1].get() | u32::from(hot.letters.get() as u16) | u32::from(flags.last().2);
    if flags.kind() != Flags::TCP || compared != 0 || hot.path.get() & path::OUT != 0 {
        return None;
    }
    let (own, peer) = (one.side() as usize, one.side().other() as usize);
    let ack = if one.flags & tcpflag::ACK != 0 { hot.next[peer].get() } else { 0 };
    let is_seen = hot.path.get() & path::COLD != 0 || flags.side_has(one.side(), Flags::SEEN);
    match one.flags & (tcpflag::SYN | tcpflag::RST) {
        0 if is_seen => Some(numbers(*one, hot.next[own].get(), ack)),
        tcpflag::SYN if !is_seen => Some(numbers(*one, zeek::FIRST, ack)),
        tcpflag::RST if !is_seen => Some(numbers(*one, 0, ack)),
        _ => None,
    }
}
