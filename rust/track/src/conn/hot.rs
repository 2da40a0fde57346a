//! The hot record of a connection: two cache lines, the IPv4 key included.

use serde::{Deserialize, Serialize};

use crate::config::{Rules, Timeout};
use crate::direction::Direction;
use crate::flow::descriptor::is_stateless;
use crate::flow::{FlowKey, Side};
use crate::proto::tcp::choose_timeout;
use crate::proto::{State, TcpClass};
use conntrack_base::sync::{Cell32, Cell64};
use conntrack_decode::ipproto;

use super::{Flags, letters};

/// The fields, in words of 64 bits (`W`) and halves of 32 bits (`H`). In a pair, side A's number is first.
///
/// The first line, with the key in front, is read and written for every packet of any protocol; the second line is
/// TCP's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct Hot<W, H> {
    /// See [`Flags`]; 0: the slot is free.
    pub flags: W,
    /// Capture time of the first packet, nanoseconds.
    pub start: W,
    /// Nanoseconds from the first packet to the last in the upper 48 bits, the window of the last acknowledgement
    /// below.
    pub length: W,
    /// Datagrams; with a cold part, those since the last [`sync`](super::sync).
    pub packets: [H; 2],
    /// Bytes from the IP header on; with a cold part, those since the last [`sync`](super::sync).
    pub ip_bytes: [H; 2],
    /// Second of the earliest mark of the wheel, modulo 2^32, at least 1; 0: no mark. Belongs to the owner, also in a
    /// free slot.
    pub armed: H,
    /// With a cold part: the cold part's number. Without: nanoseconds from the last packet that Zeek's `duration`
    /// counts to the last packet.
    pub cold: H,
    /// TCP: the sequence number after the last byte sent (Zeek's `last_seq`, the kernel's `td_end`). UDP: messages that
    /// name the side.
    pub next: [H; 2],
    /// TCP: the highest acknowledged number of the side (Zeek's `ack_seq`; the peer's `td_maxack` in the kernel).
    pub acked: [H; 2],
    /// TCP: the highest number that the peer allows (`td_maxend`). With [`path::OUT`]: the frozen `td_end`.
    pub max_end: [H; 2],
    /// TCP: the largest window of the side (`td_maxwin`).
    pub max_win: [H; 2],
    /// TCP: sequence and acknowledgement number of the last acknowledgement. With [`path::FROZEN`]: the deadline, low
    /// half first.
    pub last: [H; 2],
    /// TCP: the sequence number of the SYN (Zeek's `start_seq`). Others: bytes of payload; with a cold part, those
    /// since the last [`sync`](super::sync).
    pub first: [H; 2],
    /// Without a cold part: the history in the upper 48 bits (`letters`). Below: the data length of the last
    /// acknowledgement.
    pub letters: W,
    /// The connection's number.
    pub id: H,
    /// See [`path`].
    pub path: H,
}

/// A copy of the fields.
pub type Image = Hot<u64, u32>;
/// The fields in the table: written by one owner, read by any thread.
pub type Shared = Hot<Cell64, Cell32>;

/// Bits that select the path of a packet: shortcut or slow path. In a pair of bits, side A's is first.
pub mod path {
    /// Every invariant of [`super::super`] holds: the shortcut may be taken.
    pub const READY: u32 = 1;
    /// A whole connection is in the cold part.
    pub const COLD: u32 = 1 << 1;
    /// The deadline is in `last`, because the last packet and the timeout do not determine the deadline.
    pub const FROZEN: u32 = 1 << 2;
    /// TCP: the gateway's part of the connection is frozen, because packets are invalid, or accepted out of the window.
    pub const OUT: u32 = 1 << 3;
    /// TCP: the numbers of a side do not determine its delivered data: some is missing from the capture.
    pub const HOLE: [u32; 2] = [1 << 4, 1 << 5];
    /// TCP: sent and acknowledged numbers of a side wrapped equally often, at least once.
    pub const WRAPPED: [u32; 2] = [1 << 6, 1 << 7];
    /// The opening was not seen: acknowledgements are counted, first windows and payloads are examined.
    pub const UNSEEN: u32 = 1 << 8;
    /// With [`OUT`]: packets are accepted out of the window, because an end is liberal.
    pub const LAX: u32 = 1 << 13;
    /// With [`OUT`]: nothing was captured of the peer, which acknowledges nothing.
    pub const LONE: u32 = 1 << 14;
    /// With [`LONE`]: the acknowledgements of the unseen peer's data advanced.
    pub const ANSWERS: u32 = 1 << 15;
    /// The letter of a side's acknowledgement, or of its data, is in the history: by side, then by kind.
    pub const NOTED: [[u32; 2]; 2] = [[1 << 9, 1 << 10], [1 << 11, 1 << 12]];
    /// A side is in a local network, side A's bit first.
    pub const LOCAL: [u32; 2] = [1 << 16, 1 << 17];
    /// A side is a group, side A's bit first.
    pub const GROUP: [u32; 2] = [1 << 18, 1 << 19];
    /// Bits that depend on the key alone.
    pub const PLACES: u32 = 0xf << 16;
}

/// The direction of a connection with this originator, by these bits of [`path`].
#[inline]
pub fn direction(bits: u32, orig: Side, was_broadcast: bool) -> Direction {
    let ends = [orig as usize, orig.other() as usize];
    let local = ends.map(|at| bits & path::LOCAL[at] != 0);
    Direction::of(local, was_broadcast || bits & path::GROUP[ends[1]] != 0)
}

/// The limit of a connection's length in the record: three days, in nanoseconds.
pub const LONGEST: u64 = 1 << 48;
/// The latest start in a record: differences of times wrap, and a packet from the beginning of time would seem later.
pub const LATEST: i64 = i64::MAX - LONGEST as i64;

impl Shared {
    /// A copy for the owner.
    #[inline]
    pub fn image(&self) -> Image {
        self.copy(Cell64::get, Cell32::get)
    }

    /// A copy for any other thread; consistent only if the version of the slot did not change.
    pub fn read(&self) -> Image {
        self.copy(Cell64::read, Cell32::read)
    }

    #[inline]
    fn copy(&self, word: impl Fn(&Cell64) -> u64, half: impl Fn(&Cell32) -> u32) -> Image {
        let pair = |[a, b]: &[Cell32; 2]| {
            let b = half(b);
            [half(a), b]
        };
        // `store` writes this field last: a reader who sees its value sees all before, so that a model has few orders.
        Image {
            path: half(&self.path),
            id: half(&self.id),
            letters: word(&self.letters),
            first: pair(&self.first),
            last: pair(&self.last),
            max_win: pair(&self.max_win),
            max_end: pair(&self.max_end),
            acked: pair(&self.acked),
            next: pair(&self.next),
            cold: half(&self.cold),
            armed: half(&self.armed),
            ip_bytes: pair(&self.ip_bytes),
            packets: pair(&self.packets),
            length: word(&self.length),
            start: word(&self.start),
            flags: word(&self.flags),
        }
    }

    /// Write all fields but the wheel's mark.
    #[inline]
    pub fn store(&self, image: &Image) {
        let set = |cells: &[Cell32; 2], [a, b]: [u32; 2]| {
            cells[0].set(a);
            cells[1].set(b);
        };
        self.flags.set(image.flags);
        self.start.set(image.start);
        self.length.set(image.length);
        set(&self.packets, image.packets);
        set(&self.ip_bytes, image.ip_bytes);
        self.cold.set(image.cold);
        set(&self.next, image.next);
        set(&self.acked, image.acked);
        set(&self.max_end, image.max_end);
        set(&self.max_win, image.max_win);
        set(&self.last, image.last);
        set(&self.first, image.first);
        self.letters.set(image.letters);
        self.id.set(image.id);
        self.path.set(image.path);
    }

    /// Note a letter of a side in the history, once.
    #[inline(never)]
    pub fn note(&self, letter: u64, side: usize) {
        let word = self.letters.get();
        self.letters.set(letters::with(word >> 16, letter, side) << 16 | word & 0xffff);
    }

    /// Capture time at which the connection expires.
    #[inline]
    pub fn deadline(&self, limits: &Limits) -> i64 {
        if self.path.get() & path::FROZEN != 0 {
            return frozen([self.last[0].get(), self.last[1].get()]);
        }
        let end = (self.start.get() as i64).saturating_add((self.length.get() >> 16) as i64);
        end.saturating_add(limits.nanos[Flags(self.flags.get()).timeout_number()])
    }
}

#[inline]
fn frozen([low, high]: [u32; 2]) -> i64 {
    (u64::from(high) << 32 | u64::from(low)) as i64
}

impl Image {
    /// Set a deadline that does not follow from the last packet.
    pub fn freeze(&mut self, deadline: i64) {
        self.path |= path::FROZEN;
        self.last = [deadline as u32, (deadline as u64 >> 32) as u32];
    }

    /// Capture time at which the connection expires.
    #[inline]
    pub fn deadline(&self, limits: &Limits) -> i64 {
        if self.path & path::FROZEN != 0 {
            return frozen(self.last);
        }
        self.end().saturating_add(limits.nanos[Flags(self.flags).timeout_number()])
    }

    /// Capture time of the last packet.
    #[inline]
    pub fn end(&self) -> i64 {
        (self.start as i64).saturating_add((self.length >> 16) as i64)
    }

    /// The flag word.
    #[inline]
    pub fn flags(&self) -> Flags {
        Flags(self.flags)
    }

    /// Test whether the slot is in use.
    #[inline]
    pub fn is_some(&self) -> bool {
        self.flags != 0
    }

    /// The state to report for the gateway's entry.
    #[inline]
    pub fn state(&self) -> State {
        self.flags().reported_state()
    }

    /// Test whether an RST answered the SYN.
    #[inline]
    pub fn is_refused(&self) -> bool {
        self.flags().is_refused()
    }

    /// Test whether the gateway's entry survives early drop.
    pub fn is_assured(&self) -> bool {
        self.flags().has(Flags::ASSURED) && !self.is_refused()
    }

    /// The record as restored from a checkpoint: numbers that contradict each other, or the key, free the slot.
    #[must_use]
    pub fn checked(self, key: FlowKey) -> Self {
        let flags = self.flags();
        let kinds = match key.proto {
            _ if self.is(path::COLD) || !self.is_some() => return self,
            ipproto::TCP => Flags::TCP,
            ipproto::UDP => Flags::UDP,
            proto if is_stateless(proto) => Flags::STATELESS,
            _ => return Self::default(),
        };
        let in_order = |at: usize| {
            let [sent, acked] = [self.next[at], self.acked[at]].map(|number| number.wrapping_sub(self.first[at]));
            let fin = u32::from(flags.has(Flags::FIN << (16 + 16 * at)));
            sent < 1 << 31 && acked <= sent && sent >= fin
        };
        let has_state = flags.has(Flags::REFUSED) || flags.state() != State::None;
        let is_sound = flags.kind() == kinds && (kinds != Flags::TCP || (has_state && in_order(0) && in_order(1)));
        let path = self.path & !path::FROZEN & !path::OUT;
        if is_sound { Self { path, ..self } } else { Self::default() }
    }

    /// Test whether any of these bits of [`path`] is set.
    #[inline]
    pub fn is(&self, bits: u32) -> bool {
        self.path & bits != 0
    }
}

/// Precomputed limits of the rules, for the shortcuts.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The rules.
    pub rules: Rules,
    /// Every timeout in nanoseconds, by number.
    pub nanos: [i64; 32],
    /// Bits of the timeout after an acknowledgement in ESTABLISHED: retransmitted too often times two, plus
    /// unacknowledged data.
    pub established: [u64; 4],
    /// The shortest of those four, nanoseconds.
    pub least: u64,
}

impl Limits {
    /// Limits of these rules.
    pub fn new(rules: Rules) -> Self {
        let nanos: [i64; 32] = std::array::from_fn(|number| rules.timeouts.get(Timeout::numbered(number as u8)));
        let chosen = [(0, false), (0, true), (rules.max_retrans, false), (rules.max_retrans, true)]
            .map(|(retrans, unacked)| choose_timeout((retrans, unacked, 1), State::Established, TcpClass::Ack, &rules));
        let least = chosen.iter().map(|timeout| rules.timeouts.get(*timeout)).min().unwrap_or_default();
        Self {
            nanos,
            established: chosen.map(Flags::timeout_bits),
            least: u64::try_from(least).unwrap_or_default(),
            rules,
        }
    }
}
