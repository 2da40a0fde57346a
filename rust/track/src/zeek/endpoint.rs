//! One end of a TCP connection in Zeek's analyzer: its state and its position in the sequence space.
//!
//! Source: Zeek's `TCP_Endpoint` and `TCPSessionAdapter` (`src/analyzer/protocol/tcp`,
//! `src/packet_analysis/protocol/tcp` of Zeek 8). Relative sequence numbers begin with 0 at the SYN, also where none
//! was seen.

use serde::{Deserialize, Serialize};

use super::stream::Stream;

/// A jump that is more likely a broken header than a large connection.
const TOO_LARGE_DELTA: i32 = 1 << 20;

/// The sequence number of a SYN without known numbers: 0 would mean that nothing was acknowledged.
pub const FIRST: u32 = 1;

/// The state of an end in Zeek's steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum State {
    /// Nothing seen.
    #[default]
    Inactive,
    /// A SYN.
    SynSent,
    /// A SYN+ACK by the originator.
    SynAckSent,
    /// Segments without a SYN before them.
    Partial,
    /// The handshake is over.
    Established,
    /// A FIN.
    Closed,
    /// An RST.
    Reset,
}

impl State {
    const ALL: [Self; 7] =
        [Self::Inactive, Self::SynSent, Self::SynAckSent, Self::Partial, Self::Established, Self::Closed, Self::Reset];

    /// The state with this number.
    #[inline]
    pub fn numbered(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }

    /// Test for a state before the end of the handshake.
    pub(super) fn is_handshake(self) -> bool {
        matches!(self, Self::Inactive | Self::SynSent | Self::SynAckSent)
    }

    /// Test for a state without a SYN.
    pub(super) fn is_unopened(self) -> bool {
        matches!(self, Self::Inactive | Self::Partial)
    }
}

/// The position of an end in its sequence numbers.
#[derive(Clone, Copy, Debug)]
pub struct EndPosition {
    /// Sequence number of the end's SYN.
    pub start: u32,
    /// The number after the last one sent.
    pub last: u32,
    /// Highest acknowledged.
    pub acked: u32,
    /// A packet of the end was seen.
    pub seen: bool,
    /// The end sent a FIN.
    pub fin: bool,
    /// The state of the end never changed.
    pub inactive: bool,
}

impl EndPosition {
    /// The sequence number of a segment without numbers that continues the end's data. SYNs, FINs and RSTs may be
    /// repeated; an RST has the number that the peer expects.
    fn continued(&self, flags: Flags, is_first: bool) -> u32 {
        if self.is_untouched() {
            return match flags {
                Flags { syn: true, .. } => FIRST,
                // The answer to a SYN has none, RFC 9293 section 3.5.2.
                Flags { rst: true, .. } if !is_first => 0,
                _ => FIRST + 1,
            };
        }
        let only_syn = self.seen && self.last == self.start.wrapping_add(1);
        match flags {
            Flags { syn: true, .. } if only_syn => self.start,
            Flags { rst: true, .. } if self.acked != self.start => self.acked,
            Flags { fin: true, .. } if self.fin => self.last.wrapping_sub(1),
            _ => self.last,
        }
    }

    /// The acknowledgement of a peer that has seen all data.
    fn continues_at(&self) -> u32 {
        if self.is_untouched() { FIRST + 1 } else { self.last }
    }

    /// Test for an end that neither sent anything nor was acknowledged.
    fn is_untouched(&self) -> bool {
        self.inactive && (self.start, self.last, self.seen) == (0, 0, false)
    }

    /// Sequence and acknowledgement number of a segment of this end with known flags alone, as if all segments had come
    /// once and in order.
    pub fn in_order(&self, peer: &Self, flags: u8) -> (u32, u32) {
        let flags = Flags::of(flags);
        let is_first = !self.seen && !peer.seen;
        (self.continued(flags, is_first), if flags.ack { peer.continues_at() } else { 0 })
    }
}

/// The flags of a segment that matter here.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the flags of a header")]
pub(super) struct Flags {
    pub(super) syn: bool,
    pub(super) ack: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
}

impl Flags {
    /// Neither SYN nor FIN nor RST.
    pub(super) fn is_plain(self) -> bool {
        !(self.syn || self.fin || self.rst)
    }
}

/// One end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    /// Sequence number of the SYN, or of its position if unseen.
    pub(crate) start: u32,
    /// The number after the last one sent.
    pub(crate) last: u32,
    /// Highest acknowledged.
    pub(crate) acked: u32,
    pub(crate) last_wraps: u16,
    pub(crate) acked_wraps: u16,
    /// Relative sequence numbers under which a SYN, a FIN and an RST were last noted in the history.
    pub(crate) marks: [u32; 3],
    /// The number after the FIN.
    pub(crate) fin_end: u64,
    /// The deliverable data of the end.
    pub(crate) stream: Stream,
    pub(crate) state: State,
    /// The previous state.
    pub(crate) before: State,
    /// The end sent a FIN.
    pub(crate) fin: bool,
    /// The close of the end was noted.
    pub(crate) closed: bool,
    /// A packet of the end was seen.
    pub(crate) seen: bool,
}

/// `a - b`, modulo 2^32.
fn delta(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

fn full(seq: u32, wraps: u16) -> u64 {
    u64::from(wraps) << 32 | u64::from(seq)
}

impl Endpoint {
    /// Enter a state; true if that ends the handshake on this side.
    pub(super) fn enter(&mut self, state: State) -> bool {
        if state == self.state {
            return false;
        }
        self.before = self.state;
        self.state = state;
        !state.is_handshake() && self.before.is_handshake()
    }

    /// Sequence number of the end's SYN.
    pub(super) fn start(&self) -> u32 {
        self.start
    }

    fn set_position(&mut self, start: u32, last: u32) {
        self.start = start;
        self.acked = start;
        self.last = last;
    }

    /// Set the first sequence number of an end, or that of a later SYN.
    pub(super) fn begin(&mut self, flags: Flags, seq: u32, next: u32) {
        let takes_syn = match self.state {
            State::Inactive => {
                if !flags.syn {
                    self.set_position(seq.wrapping_sub(1), seq);
                }
                true
            }
            State::SynSent | State::SynAckSent => seq != self.start,
            State::Established | State::Partial => true,
            // The RST may have been forged; the SYN is the better evidence.
            State::Reset => self.before == State::Inactive,
            State::Closed => false,
        };
        if flags.syn && takes_syn {
            self.set_position(seq, next);
        }
    }

    /// Initialise an unseen end from its peer's acknowledgement.
    pub(super) fn begin_from_ack(&mut self, ack: u32) {
        self.set_position(ack.wrapping_sub(1), ack.wrapping_sub(1));
    }

    fn relative(&self, seq: u32, last: u32, mut wraps: u16) -> (u64, bool) {
        let forward = delta(seq, last);
        if forward < 0 && wraps > 0 && seq > last {
            wraps -= 1;
        } else if forward > 0 && seq < last {
            wraps = wraps.saturating_add(1);
        }
        if wraps == 0 {
            let from_start = delta(seq, self.start);
            return (i64::from(from_start) as u64, from_start < 0);
        }
        (full(seq, wraps).wrapping_sub(u64::from(self.start)), false)
    }

    /// The relative number of a segment from this end, and whether that lies before its start.
    pub(crate) fn relative_seq(&self, seq: u32) -> (u64, bool) {
        self.relative(seq, self.last, self.last_wraps)
    }

    /// The relative number of an acknowledgement to this end, and whether that lies before its start.
    pub(crate) fn relative_ack(&self, ack: u32) -> (u64, bool) {
        self.relative(ack, self.acked, self.acked_wraps)
    }

    /// The relative number after the last one sent.
    pub(crate) fn sent_so_far(&self) -> u64 {
        full(self.last, self.last_wraps).wrapping_sub(u64::from(self.start))
    }

    /// Note an acknowledgement of the end's data.
    pub(super) fn acknowledge(&mut self, ack: u32) {
        let forward = delta(ack, self.acked);
        if forward > 0 && !(ack == 0 && forward > TOO_LARGE_DELTA) {
            self.acked_wraps = self.acked_wraps.saturating_add(u16::from(ack < self.acked));
            self.acked = ack;
        }
    }

    /// Note data sent up to `next`; true if all was sent before.
    pub(super) fn advance(&mut self, next: u32, flags: Flags, payload: u32) -> bool {
        let forward = delta(next, self.last);
        if (flags.syn || flags.rst) && !(-TOO_LARGE_DELTA..=TOO_LARGE_DELTA).contains(&forward) {
            return false;
        }
        // Of a connection beyond 2 GB only SYN and FIN may have been captured.
        let only_syn = flags.fin && self.last == self.start.wrapping_add(1);
        if only_syn || (forward > 0 && self.state != State::Reset) {
            self.last_wraps = self.last_wraps.saturating_add(u16::from(next < self.last));
            self.last = next;
            return false;
        }
        self.state != State::Reset && payload > 0
    }

    /// The current position of the end.
    pub(super) fn position(&self) -> EndPosition {
        let Self { start, last, acked, seen, fin, .. } = *self;
        EndPosition { start, last, acked, seen, fin, inactive: self.state == State::Inactive }
    }

    /// Note a FIN that ends here.
    pub(super) fn finish(&mut self, end: u64) {
        self.fin = true;
        self.fin_end = end;
    }

    /// The relative number of an acknowledgement, less the FIN where the FIN is acknowledged.
    pub(super) fn before_fin(&self, ack: u64) -> u64 {
        if self.fin && ack >= self.fin_end { self.fin_end.wrapping_sub(1) } else { ack }
    }

    /// Relative number up to which data was acknowledged.
    pub(crate) fn acked_so_far(&self) -> u64 {
        full(self.acked, self.acked_wraps).wrapping_sub(u64::from(self.start))
    }

    /// Test for undelivered data, by the sequence numbers, or for runs behind a hole.
    pub(crate) fn has_hole(&self) -> bool {
        self.stream.delivered != self.sent_so_far().max(1) || self.stream.length > 0
    }

    /// Test for an end without acknowledged data.
    pub(super) fn nothing_acked(&self) -> bool {
        self.acked_so_far() <= 1
    }

    /// Bytes of data sent, by sequence numbers.
    pub(super) fn size(&self, peer: State) -> u64 {
        let half_open = self.before == State::SynSent && self.state == State::Reset && peer == State::Inactive;
        if half_open && !self.nothing_acked() {
            return 0;
        }
        let highest = full(self.last, self.last_wraps).max(full(self.acked, self.acked_wraps));
        let size = highest.wrapping_sub(u64::from(self.start)).saturating_sub(1);
        size.saturating_sub(u64::from(self.fin))
    }

    /// Test for undelivered data of this end, or unacknowledged data of its peer.
    pub(super) fn is_pending(&self, peer: &Self) -> bool {
        if self.stream.gave_up() {
            return false;
        }
        let delivered = u64::from(self.start).saturating_add(self.stream.delivered());
        let last = full(self.last, self.last_wraps);
        if last < delivered {
            return false;
        }
        last - delivered > 1 || (self.state != State::Reset && peer.stream.holds_any())
    }
}
