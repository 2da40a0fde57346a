//! The shortcut of TCP handshakes and closes: in-order acknowledgements and FINs of a connection without a cold part,
//! in any state.

use crate::flow::Descriptor;
use crate::flow::descriptor::kind;
use crate::proto::tcp::{choose_timeout, leads_to};
use crate::proto::{CtDir, State, TcpClass};
use conntrack_decode::tcpflag;

use super::flags::STATES;
use super::hot::{LONGEST, Limits, Shared, path};
use super::letters::{self, code};
use super::ordinary::InOrder;
use super::{Flags, HALF, LARGEST_WINDOW, kind_of};

/// Time and counters after a packet.
pub struct Progress {
    at: usize,
    /// Nanoseconds since the first packet.
    pub age: u64,
    packets: u32,
    ip_bytes: u32,
}

impl Progress {
    /// Time and counters after this packet; None where the packet is late, or a counter would overflow.
    #[inline]
    pub fn of(hot: &Shared, one: &Descriptor) -> Option<Self> {
        let (at, age) = (one.side() as usize, (one.ts as u64).wrapping_sub(hot.start.get()));
        let fits = age >= hot.length.get() >> 16 && age < LONGEST;
        let packets = hot.packets[at].get().checked_add(1)?;
        let ip_bytes = hot.ip_bytes[at].get().checked_add(one.ip_bytes.into())?;
        fits.then_some(Self { at, age, packets, ip_bytes })
    }

    /// Write time and counters, the window of the last acknowledgement, and the nanoseconds from the last packet that
    /// Zeek counts.
    #[inline]
    pub fn write(self, hot: &Shared, last_win: u16, quiet: u32) {
        hot.packets[self.at].set(self.packets);
        hot.ip_bytes[self.at].set(self.ip_bytes);
        hot.length.set(self.age << 16 | u64::from(last_win));
        hot.cold.set(quiet);
    }
}

/// State after an acknowledgement and after a FIN, by state, in the original and the reply direction. None where more
/// than the state decides: for the reply to a simultaneous open, and without a state.
const LEADS: [[[Option<State>; STATES.len()]; 2]; 2] = [
    [leads(CtDir::Original, TcpClass::Ack), leads(CtDir::Original, TcpClass::Fin)],
    [leads(CtDir::Reply, TcpClass::Ack), leads(CtDir::Reply, TcpClass::Fin)],
];

const fn leads(dir: CtDir, class: TcpClass) -> [Option<State>; STATES.len()] {
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

/// Zeek's view of a side all of whose data came in order. Numbers are relative to the SYN.
#[derive(Clone, Copy)]
struct End {
    fin: bool,
    ended: bool,
    closed: bool,
    last: u32,
    delivered: u32,
    acked: u32,
}

impl End {
    fn of(flags: Flags, at: usize, [first, next, acked]: [u32; 3]) -> Self {
        let has = |fact: u64| flags.has(fact << (16 + 16 * at));
        let (fin, last) = (has(Flags::FIN), next.wrapping_sub(first));
        let (ended, closed) = (has(Flags::ENDED), has(Flags::CLOSED));
        let one = Self { fin, ended, closed, last, delivered: last.saturating_sub(fin.into()).max(1), acked: 0 };
        Self { acked: one.before_fin(acked.wrapping_sub(first)), ..one }
    }

    /// An acknowledgement number, less the FIN where the FIN is acknowledged; at least the first byte.
    fn before_fin(&self, ack: u32) -> u32 {
        ack.min(self.last.wrapping_sub(self.fin.into())).max(1)
    }

    fn is_pending(&self, peer: &Self) -> bool {
        self.last.wrapping_sub(self.delivered) > 1 || peer.acked < peer.delivered
    }
}

/// Zeek's view of both sides: the sender's first.
struct ZeekSides {
    sides: [End; 2],
    deferred: bool,
    reported: bool,
}

impl ZeekSides {
    /// Note the end of a side's data; see `View::report_end`.
    fn report_end(&mut self, at: usize) {
        let [own, peer] = [self.sides[at], self.sides[1 - at]];
        if !own.fin || own.ended || own.is_pending(&peer) {
            return;
        }
        self.sides[at].ended = true;
        if self.deferred {
            self.close(at);
            self.deferred = false;
        }
    }

    /// Close a side; see `View::close`.
    fn close(&mut self, at: usize) {
        let [own, peer] = [self.sides[at], self.sides[1 - at]];
        self.deferred = own.is_pending(&peer);
        if !self.deferred && !own.closed {
            self.sides[at].closed = true;
            self.reported |= peer.closed;
        }
    }

    /// Process a segment of `len` bytes up to `end`, which acknowledges the peer up to `ack`.
    fn take(&mut self, (end, len, ack): (u32, u32, u32), closes: bool) {
        self.sides[0].fin |= closes;
        self.sides[0].last = end;
        let acked = self.sides[1].before_fin(ack);
        if acked > self.sides[1].acked {
            self.sides[1].acked = acked;
            self.report_end(1);
        }
        if len > 0 {
            self.sides[0].delivered = end.wrapping_sub(closes.into());
        }
        self.report_end(0);
        if closes {
            self.close(0);
        }
    }
}

/// Process an acknowledgement or a FIN of side `S`; false: out of order, and nothing was changed.
#[inline(never)]
pub fn closing<const S: usize>(hot: &Shared, one: &Descriptor, limits: &Limits) -> bool {
    let (q, flags) = (1 - S, Flags(hot.flags.get()));
    let (closes, len) = (one.flags & tcpflag::FIN != 0, u32::from(one.payload_bytes));
    let Some(new) = leads_on::<S>(hot, one, flags) else { return false };
    let segment = InOrder::<S>::of::<false>(hot, flags, one, len + u32::from(closes));
    let (Some(segment), Some(progress)) = (segment, Progress::of(hot, one)) else { return false };
    if len > 0 && (one.is(kind::CUT) || segment.is_much(hot)) {
        return false;
    }
    let of = |at: usize| End::of(flags, at, [hot.first[at].get(), hot.next[at].get(), hot.acked[at].get()]);
    let (deferred, reported) = (flags.has(Flags::DEFERRED), flags.has(Flags::REPORTED));
    let mut ends = ZeekSides { sides: [of(S), of(q)], deferred, reported };
    let Some(quiet) = quiet(hot, &ends, &progress) else { return false };

    // Writes begin here.
    let (first, peer_first) = (hot.first[S].get(), hot.first[q].get());
    ends.take((segment.end.wrapping_sub(first), len, one.ack.wrapping_sub(peer_first)), closes);
    let flags = write_flags::<S>(hot, one, (flags, new), &ends, limits, one.ack == hot.next[q].get());
    let word = hot.letters.get();
    let letter = if closes {
        code::FIN
    } else if len > 0 {
        code::DATA
    } else {
        code::ACK
    };
    let last_len = if closes { word as u16 } else { one.payload_bytes };
    hot.letters.set(letters::with(word >> 16, letter, S) << 16 | u64::from(last_len));
    let last_win = if closes { hot.length.get() as u16 } else { one.window };
    progress.write(hot, last_win, quiet);
    if !closes {
        hot.last[0].set(one.seq);
        hot.last[1].set(one.ack);
    }
    segment.write(hot, one.ack, u32::from(one.window) << (flags.0 >> (16 + 16 * S) & 15));
    hot.path.set(hot.path.get() & path::PLACES | path_of(hot, flags));
    true
}

/// The state after the segment, where both sides are open and the state alone decides.
#[inline]
fn leads_on<const S: usize>(hot: &Shared, one: &Descriptor, flags: Flags) -> Option<State> {
    const SIDES: u64 = 1 << 16 | 1 << 32;
    let closes = one.flags & tcpflag::FIN != 0;
    let old = flags.state();
    let is_reply = flags.has(Flags::OPENER_B) == (S == 0);
    let new = LEADS[usize::from(is_reply)][usize::from(closes)][old as usize & 15]?;
    let own_fin = flags.has(Flags::FIN << (16 + 16 * S));
    let is_challenged = old == State::LastAck && flags.last().1 == TcpClass::Syn;
    let is_open = flags.0 & (Flags::SEEN * SIDES) == Flags::SEEN * SIDES && !flags.has(Flags::REFUSED);
    let is_ordinary = matches!(kind_of(one.flags), tcpflag::ACK | FIN_ACK) && one.window > 0 && one.edge == one.ack;
    let repeats_fin = own_fin && (closes || one.payload_bytes > 0);
    let acks_syn = one.ack.wrapping_sub(hot.first[1 - S].get()).wrapping_sub(1) < HALF;
    let takes = is_ordinary && is_open && flags.has(Flags::SEEN_REPLY) && !is_challenged && !repeats_fin && acks_syn;
    let windows = hot.max_win[0].get() != 0 && hot.max_win[1].get() != 0 && hot.max_win[1 - S].get() < LARGEST_WINDOW;
    (takes && windows).then_some(new)
}

const FIN_ACK: u8 = tcpflag::FIN | tcpflag::ACK;

/// Nanoseconds from the last packet that Zeek's `duration` counts to this packet. Packets after both closes do not
/// count.
fn quiet(hot: &Shared, ends: &ZeekSides, progress: &Progress) -> Option<u32> {
    if !ends.sides.iter().all(|end| end.closed) {
        return Some(0);
    }
    let counted = (hot.length.get() >> 16).checked_sub(hot.cold.get().into())?;
    u32::try_from(progress.age.checked_sub(counted)?).ok()
}

/// Write the flag word after a segment.
fn write_flags<const S: usize>(
    hot: &Shared,
    one: &Descriptor,
    (mut flags, new): (Flags, State),
    ends: &ZeekSides,
    limits: &Limits,
    acks_all: bool,
) -> Flags {
    let (old, closes, len) = (flags.state(), one.flags & tcpflag::FIN != 0, one.payload_bytes);
    let (own, peer) = (|fact: u64| fact << (16 + 16 * S), |fact: u64| fact << (32 - 16 * S));
    let dir = flags.has(Flags::OPENER_B) != (S == 1);
    let (last_dir, _, last_retrans) = flags.last();
    let is_same = hot.last[0].get() == one.seq
        && hot.last[1].get() == one.ack
        && last_dir == u8::from(dir)
        && hot.letters.get() as u16 == len
        && hot.length.get() as u16 == one.window;
    let retrans = if closes {
        last_retrans
    } else if is_same {
        last_retrans.wrapping_add(1)
    } else {
        0
    };
    flags.set(Flags::DEFERRED, ends.deferred);
    flags.set(Flags::REPORTED, ends.reported);
    for (end, shift) in ends.sides.iter().zip([16 + 16 * S, 32 - 16 * S]) {
        for (fact, holds) in [(Flags::FIN, end.fin), (Flags::ENDED, end.ended), (Flags::CLOSED, end.closed)] {
            flags.set(fact << shift, holds);
        }
    }
    flags.set(own(Flags::UNACKED), flags.has(own(Flags::UNACKED)) || len > 0 || closes);
    flags.set(peer(Flags::UNACKED), flags.has(peer(Flags::UNACKED)) && !acks_all);
    flags.set(own(Flags::ACK_SET), true);
    flags.set(
        own(Flags::CLOSE_INIT),
        flags.has(own(Flags::CLOSE_INIT)) || (closes && new == State::FinWait && old != new),
    );
    flags.set(Flags::ASSURED, flags.has(Flags::ASSURED) || new == State::Established);
    let unacked = flags.has(own(Flags::UNACKED) | peer(Flags::UNACKED));
    let last_win = if closes { hot.length.get() as u16 } else { one.window };
    let class = if closes { TcpClass::Fin } else { TcpClass::Ack };
    flags.set_timeout(choose_timeout((retrans, unacked, last_win), new, class, &limits.rules));
    flags.set_step(new, (u8::from(dir), class, retrans));
    hot.flags.set(flags.0);
    flags
}

/// Bits of [`path`] for the next packets of a connection without a cold part.
pub fn path_of(hot: &Shared, flags: Flags) -> u32 {
    const OPEN: u64 = (Flags::SEEN | Flags::ACK_SET) * (1 << 16 | 1 << 32);
    const CLOSING: u64 = Flags::FIN * (1 << 16 | 1 << 32);
    let is_open =
        flags.0 & (OPEN | CLOSING) == OPEN && flags.has(Flags::ASSURED) && flags.state() == State::Established;
    let fits = |at: usize| {
        let sent = hot.next[at].get().wrapping_sub(hot.first[at].get());
        sent < HALF && hot.acked[at].get() != hot.first[at].get() && hot.max_win[at].get() < LARGEST_WINDOW
    };
    let mut bits = if is_open && fits(0) && fits(1) { path::READY } else { 0 };
    for (at, noted) in path::NOTED.iter().enumerate() {
        for (bit, letter) in noted.iter().zip([code::ACK, code::DATA]) {
            let letters = hot.letters.get() >> 16;
            bits |= if letters::with(letters, letter, at) == letters { *bit } else { 0 };
        }
    }
    bits
}
