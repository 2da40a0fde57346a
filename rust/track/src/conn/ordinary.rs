//! The shortcut of nearly every TCP packet: a plain acknowledgement, with data or without, after all that its sender
//! sent before.

use crate::connection::{Connection, Evidence};
use crate::direction;
use crate::flow::Descriptor;
use crate::flow::descriptor::{Arrival, kind};
use crate::proto::State;
use crate::proto::tcp_window::{MAX_ACK_WINDOW, after};
use crate::zeek::{WITHOUT_ACKS, WITHOUT_FURTHER_ACKS};

use super::hot::{LONGEST, Limits, Shared, path};
use super::letters::code;
use super::{Colds, Flags, HALF, whole};

/// A segment of side `S` whose numbers are in order.
#[derive(Clone, Copy)]
pub struct InOrder<const S: usize> {
    /// The sequence number after the segment.
    pub end: u32,
    /// The acknowledged number; the highest SACK edge where SACK is permitted.
    edge: u32,
}

impl<const S: usize> InOrder<S> {
    /// Check a segment of `len` bytes: in order, with an acknowledgement of known data; see the invariants of
    /// [`super`]. With `OUT`, the segment is invalid for the gateway.
    ///
    /// Fields are read where they are compared: early reads are spilled.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the numbers stay in registers")]
    pub fn of<const OUT: bool>(hot: &Shared, flags: Flags, one: &Descriptor, len: u32) -> Option<Self> {
        let q = 1 - S;
        let (seq, end) = (one.seq, one.seq.wrapping_add(len));
        if seq != hot.next[S].get() || end < seq || (!OUT && !acknowledges::<S>(hot, one.ack)) {
            return None;
        }
        if end.wrapping_sub(hot.first[S].get()) >= HALF && hot.path.get() & path::WRAPPED[S] == 0 {
            return None;
        }
        let edge = if flags.has(Flags::SACK_PERMITTED << (32 - 16 * S)) { one.edge } else { one.ack };
        let fits = if OUT {
            stands_still::<S>(hot, flags, one.ack, edge)
        } else {
            hot.next[q].get().wrapping_sub(edge) <= hot.max_win[S].get().max(MAX_ACK_WINDOW)
                && hot.max_end[S].get().wrapping_sub(seq) < HALF
        };
        fits.then_some(Self { end, edge })
    }

    /// Test for so much unacknowledged data that Zeek stops waiting for acknowledgements.
    #[inline]
    pub fn is_much(self, hot: &Shared) -> bool {
        let waits = u64::from(self.end.wrapping_sub(hot.acked[S].get()));
        // At most the SYN is acknowledged.
        waits >= WITHOUT_ACKS && self.is_too_much(hot, waits)
    }

    #[cold]
    fn is_too_much(self, hot: &Shared, waits: u64) -> bool {
        let first = hot.first[S].get();
        let (acked, sent) = (hot.acked[S].get().wrapping_sub(first), self.end.wrapping_sub(first));
        waits > WITHOUT_FURTHER_ACKS || (acked <= 1 && u64::from(sent) > WITHOUT_ACKS)
    }

    /// Write the numbers after the segment with this scaled window.
    #[inline]
    pub fn write(self, hot: &Shared, ack: u32, window: u32) {
        let q = 1 - S;
        hot.next[S].set(self.end);
        hot.acked[q].set(ack);
        let offered = window.wrapping_add(self.edge.wrapping_sub(ack));
        if offered > hot.max_win[S].get() {
            hot.max_win[S].set(offered);
        }
        if after(self.end, hot.max_end[S].get()) {
            let overshoot = self.end.wrapping_sub(hot.max_end[S].get());
            hot.max_win[q].set(hot.max_win[q].get().wrapping_add(overshoot));
        }
        let allowed = self.edge.wrapping_add(window);
        if after(allowed, hot.max_end[q].get().wrapping_sub(1)) {
            hot.max_end[q].set(allowed);
        }
    }
}

/// Test whether an acknowledgement of side `S` leaves the gateway's part unchanged: in SYN_SENT, or with an
/// acknowledgement beyond the peer's frozen `td_end`. Of a peer that was never seen, everything may be acknowledged.
#[inline]
fn stands_still<const S: usize>(hot: &Shared, flags: Flags, ack: u32, edge: u32) -> bool {
    let q = 1 - S;
    let refuses = flags.state() == State::SynSent || after(edge, hot.max_end[q].get());
    if hot.path.get() & path::LONE != 0 {
        let is_seen = flags.has(Flags::SEEN << (16 + 16 * S));
        return refuses
            && is_seen
            && (hot.path.get() & path::ANSWERS != 0 || ack.wrapping_sub(1) == hot.first[q].get());
    }
    refuses && acknowledges::<S>(hot, ack) && hot.next[q].get().wrapping_sub(ack) < HALF
}

/// Test whether an acknowledgement of side `S` is not before the last one, as unsigned numbers and as the kernel
/// compares them.
#[inline]
fn acknowledges<const S: usize>(hot: &Shared, ack: u32) -> bool {
    let acked = hot.acked[1 - S].get();
    ack >= acked && ack.wrapping_sub(acked) < HALF
}

/// Process a plain acknowledgement of side `S` of a connection that is [`path::READY`]; None: out of order, and nothing
/// was changed. With `OUT`, both directions are invalid for the gateway, and its part is frozen. With `READERS`, other
/// threads may read the cold part, which does not change here. Returns the changed bits of the flag word.
#[inline]
pub fn ordinary<'a, const S: usize, const OUT: bool, const READERS: bool>(
    hot: &Shared,
    colds: &mut Colds,
    one: &Descriptor,
    arrival: impl Fn() -> Arrival<'a>,
    limits: &Limits,
) -> Option<u64> {
    if one.payload_bytes > 0 {
        plain::<S, true, OUT, READERS>(hot, colds, one, arrival, limits)
    } else {
        plain::<S, false, OUT, READERS>(hot, colds, one, arrival, limits)
    }
}

/// Process a plain acknowledgement; `DATA`: with data.
#[inline]
fn plain<'a, const S: usize, const DATA: bool, const OUT: bool, const READERS: bool>(
    hot: &Shared,
    colds: &mut Colds,
    one: &Descriptor,
    arrival: impl Fn() -> Arrival<'a>,
    limits: &Limits,
) -> Option<u64> {
    let (bits, flags) = (hot.path.get(), Flags(hot.flags.get()));
    let len = if DATA { u32::from(one.payload_bytes) } else { 0 };
    let segment = InOrder::<S>::of::<OUT>(hot, flags, one, len)?;
    let length = (one.ts as u64).wrapping_sub(hot.start.get());
    // Neither late, nor so late that the connection may be over.
    let on_time = length.wrapping_sub(hot.length.get() >> 16) < limits.least && length < LONGEST;
    // No datagram is empty: the byte counter overflows before the packet counter.
    let ip_bytes = hot.ip_bytes[S].get().checked_add(one.ip_bytes.into())?;
    if !on_time || one.window == 0 {
        return None;
    }
    let (noted, is_cut) = (path::NOTED[S][DATA as usize], DATA && one.is(kind::CUT));
    let is_lone = OUT && bits & path::LONE != 0;
    if DATA && if is_lone { is_cut } else { !is_cut && segment.is_much(hot) } {
        return None;
    }
    if is_cut && bits & path::COLD == 0 {
        return if READERS { None } else { grown::<S, OUT>(hot, colds, one, &arrival(), limits) };
    }
    // A new letter goes to the cold part, if there is one.
    let is_new = bits & noted == 0;
    let is_simple = bits & (path::HOLE[0] | path::HOLE[1] | path::UNSEEN) == 0 && !is_cut;
    let needs_cold = !is_simple || (is_new && bits & path::COLD != 0);
    if needs_cold && !apply_to_cold::<S, READERS>(hot, colds, one, arrival) {
        return None;
    }

    // Writes begin here.
    if is_new {
        note::<S>(hot, noted, DATA);
    }
    hot.packets[S].set(hot.packets[S].get().wrapping_add(1));
    hot.ip_bytes[S].set(ip_bytes);
    if OUT {
        out::<S>(hot, (one, segment), length, flags);
        return Some(0);
    }
    Some(accept::<S, DATA>(hot, (one, segment), length, flags, limits))
}

/// Write Zeek's view where the gateway's part is frozen.
#[inline]
fn out<const S: usize>(hot: &Shared, (one, segment): (&Descriptor, InOrder<S>), length: u64, flags: Flags) {
    let (q, bits) = (1 - S, hot.path.get());
    hot.length.set(length << 16 | hot.length.get() & 0xffff);
    hot.next[S].set(segment.end);
    if bits & path::LONE != 0 {
        // Zeek begins the peer anew with each acknowledgement.
        let start = one.ack.wrapping_sub(1);
        hot.next[q].set(start);
        hot.first[q].set(start);
        hot.acked[q].set(start);
    } else {
        hot.acked[q].set(one.ack);
    }
    if bits & path::LAX != 0 {
        let dir = u64::from(flags.has(Flags::OPENER_B) != (S == 1));
        hot.flags.set(flags.with_last_dir(dir).0);
    }
}

/// Write the gateway's part after an accepted segment. Returns the changed bits of the flag word.
#[inline]
fn accept<const S: usize, const DATA: bool>(
    hot: &Shared,
    (one, segment): (&Descriptor, InOrder<S>),
    length: u64,
    flags: Flags,
    limits: &Limits,
) -> u64 {
    let own_dir = u64::from(flags.has(Flags::OPENER_B) != (S == 1));
    // In-order data is never a repetition of the last segment.
    let is_last = !DATA && hot.last[0].get() == one.seq && hot.last[1].get() == one.ack;
    let retrans = if is_last { repeated(hot, flags, own_dir, one) } else { 0 };
    hot.length.set(length << 16 | u64::from(one.window));
    let (own, peer) = (Flags::UNACKED << (16 + 16 * S), Flags::UNACKED << (32 - 16 * S));
    let mut word = flags.0 & !(Flags::STEP_BITS | Flags::TIMEOUT_BITS);
    word |= if DATA { own } else { 0 };
    word &= !(if one.ack == hot.next[1 - S].get() { peer } else { 0 });
    let often = usize::from(retrans >= u64::from(limits.rules.max_retrans));
    let timeout = limits.established[often * 2 + usize::from(word & (own | peer) != 0)];
    word |= Flags::ESTABLISHED | Flags::last_bits(own_dir, retrans) | timeout;
    hot.flags.set(word);
    hot.letters.set(hot.letters.get() & !0xffff | u64::from(one.payload_bytes));
    hot.last[0].set(one.seq);
    hot.last[1].set(one.ack);
    let scale = (word >> (16 + 16 * S)) as u32 & 15;
    segment.write(hot, one.ack, u32::from(one.window) << scale);
    word ^ flags.0
}

/// Note the first acknowledgement without data, or the first data, of side `S`; in the record, if there is no cold
/// part.
#[inline(never)]
fn note<const S: usize>(hot: &Shared, noted: u32, is_data: bool) {
    if hot.path.get() & path::COLD == 0 {
        hot.note(if is_data { code::DATA } else { code::ACK }, S);
    }
    hot.path.set(hot.path.get() | noted);
}

/// The number of repetitions of the last acknowledgement; a byte, as in the kernel.
#[cold]
fn repeated(hot: &Shared, flags: Flags, own_dir: u64, one: &Descriptor) -> u64 {
    let (dir, _, retrans) = flags.last();
    let is_same = hot.letters.get() as u16 == one.payload_bytes
        && u64::from(dir) == own_dir
        && hot.length.get() as u16 == one.window;
    if is_same { u64::from(retrans.wrapping_add(1)) } else { 0 }
}

/// Apply a segment of side `S` to the cold part; false: the segment takes the slow path, and nothing was changed.
#[inline(never)]
fn apply_to_cold<'a, const S: usize, const READERS: bool>(
    hot: &Shared,
    colds: &mut Colds,
    one: &Descriptor,
    arrival: impl Fn() -> Arrival<'a>,
) -> bool {
    let (bits, len, number) = (hot.path.get(), one.payload_bytes, hot.cold.get());
    let is_new = bits & path::NOTED[S][usize::from(len > 0)] == 0;
    // Cut data behind a hole changes nothing.
    let own_data = len > 0 && one.is(kind::CUT) != (bits & path::HOLE[S] != 0);
    let peers_data = bits & path::HOLE[1 - S] != 0 && one.ack != hot.acked[1 - S].get();
    if READERS && (own_data || peers_data || is_new) {
        return false;
    }
    if bits & path::UNSEEN != 0 {
        let Some(connection) = colds.get_mut(number) else { return false };
        let first_window = one.is(kind::TIMESTAMPS) && connection.first_window[S] == 0;
        let reads = len > 0 && connection.evidence <= Evidence::Payload;
        if first_window || (reads && direction::payload_originator(&arrival()).is_some()) {
            return false;
        }
    }
    if own_data || peers_data || is_new {
        colds.change(number, |connection| {
            if is_new {
                connection.zeek.note_plain(len > 0, one.side());
            }
            if own_data {
                missing_own::<S>(hot, connection, one);
            }
            if peers_data {
                missing_peers::<S>(hot, connection, one);
            }
        });
    }
    true
}

/// Process the first data that the capture cut, for which a record gets a cold part.
#[cold]
#[inline(never)]
fn grown<const S: usize, const OUT: bool>(
    hot: &Shared,
    colds: &mut Colds,
    one: &Descriptor,
    arrival: &Arrival<'_>,
    limits: &Limits,
) -> Option<u64> {
    grow(hot, colds, arrival, limits)?;
    plain::<S, true, OUT, false>(hot, colds, one, || *arrival, limits)
}

/// Give a record a cold part; None where the cold part is not ready, and nothing was changed.
fn grow(hot: &Shared, colds: &mut Colds, arrival: &Arrival<'_>, limits: &Limits) -> Option<()> {
    let mut image = hot.image();
    let places = image.path & path::PLACES;
    let connection = whole::expand(&image, arrival.key(), image.deadline(limits));
    whole::record(&connection, limits, &mut image);
    if !image.is(path::READY) {
        return None;
    }
    image.cold = colds.insert(connection)?;
    image.path |= places;
    colds.account(image.cold);
    hot.store(&image);
    Some(())
}

/// Apply data of side `S` to Zeek's stream: cut after captured data, or behind a hole.
#[inline(always)]
#[expect(clippy::inline_always, reason = "once per packet of captures that cut packets")]
fn missing_own<const S: usize>(hot: &Shared, connection: &mut Connection, one: &Descriptor) {
    let (end, sent) = (&mut connection.zeek.ends[S], &mut connection.ends[S]);
    let before = end.last;
    (end.last, end.acked) = (one.seq, hot.acked[S].get());
    let relative = end.sent_so_far();
    if one.is(kind::CUT) {
        (end.stream.delivered, end.stream.trimmed) = (relative.max(1), end.acked_so_far().max(1));
        hot.path.set(hot.path.get() | path::HOLE[S]);
    } else {
        end.last = one.seq.wrapping_add(one.payload_bytes.into());
    }
    sent.payload_bytes += u64::from(end.last.wrapping_sub(before));
    if !one.is(kind::CUT) {
        connection.zeek.deliver(relative, one.payload_bytes.into(), one.side());
        let end = &connection.zeek.ends[S];
        mark::<S>(hot, end.stream.gave_up(), end.has_hole());
    }
}

/// Apply an acknowledgement of side `S` to the peer's stream in Zeek's view, behind a hole.
#[inline]
fn missing_peers<const S: usize>(hot: &Shared, connection: &mut Connection, one: &Descriptor) {
    let (q, peer) = (1 - S, one.side().other());
    let (end, sent) = (&mut connection.zeek.ends[q], &mut connection.ends[q]);
    let sent_up_to = hot.next[q].get();
    sent.payload_bytes += u64::from(sent_up_to.wrapping_sub(end.last));
    (end.last, end.acked) = (sent_up_to, one.ack);
    let acked = end.acked_so_far();
    connection.zeek.deliver_acknowledged(acked, peer, one.ts);
    let end = &connection.zeek.ends[q];
    let (gave_up, has_hole) = (end.stream.gave_up(), end.has_hole());
    if S == 0 { mark::<1>(hot, gave_up, has_hole) } else { mark::<0>(hot, gave_up, has_hole) }
}

/// Note a hole in the stream of side `S`; a stream that was given up takes the slow path.
fn mark<const S: usize>(hot: &Shared, gave_up: bool, has_hole: bool) {
    let bits = hot.path.get() & !(path::HOLE[S] | if gave_up { path::READY } else { 0 });
    hot.path.set(bits | if has_hole { path::HOLE[S] } else { 0 });
}
