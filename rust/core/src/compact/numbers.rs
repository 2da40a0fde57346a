//! The sequence numbers and windows of both ends of a TCP connection, as a segment that is in order meets and leaves them.

use crate::decode::Tcp;
use crate::flow::Side;
use crate::proto::tcp_window::{MAX_ACK_WINDOW, after, before};
use crate::zeek::{WITHOUT_ACKS, WITHOUT_FURTHER_ACKS};

use super::{Compact, word};

/// A window beyond this is not one that TCP can say.
const LARGEST_WINDOW: u32 = 1 << 30;
/// Numbers farther apart than this are told apart by how often they wrapped.
const HALF: u32 = 1 << 31;

/// Of each, the sender's first.
pub(super) struct Numbers {
    start: (u32, u32),
    last: (u32, u32),
    acked: (u32, u32),
    max_end: (u32, u32),
    max_win: (u32, u32),
}

#[expect(
    clippy::inline_always,
    reason = "they stay in registers, and the side's half is known, where nothing is called"
)]
impl Numbers {
    #[inline(always)]
    pub(super) fn of(compact: &Compact, side: Side) -> Self {
        Self {
            start: compact.ends(word::SEQ_START, side),
            last: compact.ends(word::SEQ_LAST, side),
            acked: compact.ends(word::SEQ_ACKED, side),
            max_end: compact.ends(word::MAX_END, side),
            max_win: compact.ends(word::MAX_WIN, side),
        }
    }

    /// The number behind a segment that takes so many, if it is in order, without wraps, acknowledges what is there, and is
    /// in the window.
    #[inline(always)]
    pub(super) fn behind(&self, segment: &Tcp, length: u32) -> Option<u32> {
        let (seq, ack) = (segment.seq, segment.ack);
        let (start, peer_start) = self.start;
        let (last, peer_last) = self.last;
        let (acked, peer_acked) = self.acked;
        let (max_win, peer_max_win) = self.max_win;
        let next = seq.checked_add(length)?;
        let is_in_order = seq == last
            && start < last
            && next - start < HALF
            && ack >= peer_acked
            && ack > peer_start
            && ack <= peer_last
            && peer_last - peer_start < HALF
            && start <= acked
            && acked <= last;
        let in_window = is_in_order
            && max_win != 0
            && peer_max_win != 0
            && peer_max_win < LARGEST_WINDOW
            && peer_last - ack <= MAX_ACK_WINDOW.max(max_win)
            && before(seq, self.max_end.0.wrapping_add(1));
        in_window.then_some(next)
    }

    /// Whether so much is not acknowledged, up to `next`, that Zeek gives up waiting for it.
    #[inline]
    pub(super) fn is_much(&self, next: u32) -> bool {
        let (start, acked) = (self.start.0, self.acked.0);
        let waits = u64::from(next - acked);
        waits > WITHOUT_FURTHER_ACKS || (acked - start <= 1 && u64::from(next - start) > WITHOUT_ACKS)
    }

    /// Whether everything that the other end sent is acknowledged by this.
    #[inline]
    pub(super) fn is_all(&self, ack: u32) -> bool {
        ack == self.last.1
    }

    /// What they are behind a segment which ends before `next` and offers this window, scaled.
    #[inline(always)]
    pub(super) fn write_behind(self, compact: &mut Compact, side: Side, (next, ack, window): (u32, u32, u32)) {
        let (max_end, mut peer_max_end) = self.max_end;
        let (max_win, mut peer_max_win) = self.max_win;
        if after(next, max_end) {
            peer_max_win = peer_max_win.wrapping_add(next.wrapping_sub(max_end));
        }
        let allowed = ack.wrapping_add(window);
        if after(allowed, peer_max_end.wrapping_sub(1)) {
            peer_max_end = allowed;
        }
        compact.set_ends(word::SEQ_LAST, side, (next, self.last.1));
        compact.set_ends(word::SEQ_ACKED, side, (self.acked.0, ack));
        compact.set_ends(word::MAX_END, side, (max_end, peer_max_end));
        compact.set_ends(word::MAX_WIN, side, (max_win.max(window), peer_max_win));
    }
}
