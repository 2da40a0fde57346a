//! TCP window tracking: test whether the receiver could have asked for a segment.
//!
//! The four bounds are those of "Real Stateful TCP Packet Filtering in IP Filter" (G. van Rooij), as the Linux kernel
//! applies them. All comparisons are modulo 2^32.

use crate::config::Rules;
use conntrack_decode::{Tcp, tcpflag};

use super::memory::{TcpEnd, TcpTrack as Track};
use super::state::{CtDir, State};

/// The least tolerated distance of an old acknowledgement (the kernel's MAXACKWINCONST).
pub const MAX_ACK_WINDOW: u32 = 66_000;

/// The outcome of the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// In the window.
    Accept,
    /// Old or early, but harmless: passed on without effect.
    Ignore,
    /// Out of the window.
    Invalid,
}

/// `a` lies before `b`.
#[inline]
pub fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// `a` lies after `b`.
#[inline]
pub fn after(a: u32, b: u32) -> bool {
    before(b, a)
}

/// The sequence number after this segment.
pub(super) fn segment_end(segment: &Tcp, payload: u32) -> u32 {
    let syn = u32::from(segment.flags & tcpflag::SYN != 0);
    let fin = u32::from(segment.flags & tcpflag::FIN != 0);
    segment.seq.wrapping_add(payload).wrapping_add(syn).wrapping_add(fin)
}

/// Initialise an end from its first seen segment, or again from a larger SYN.
fn init_sender(sender: &mut TcpEnd, receiver: &mut TcpEnd, segment: &Tcp, end: u32, sack: u32, dir: CtDir) {
    if segment.flags & tcpflag::SYN != 0 {
        sender.end = end;
        sender.max_end = end;
        sender.max_win = (segment.window as u32).max(1);
        sender.take_options(segment);
        if dir == CtDir::Reply && !(sender.offers_scale && receiver.offers_scale) {
            sender.scale = 0;
            receiver.scale = 0;
        }
        return;
    }
    let window = (segment.window as u32) << sender.scale;
    sender.end = end;
    sender.max_win = window.max(1);
    sender.max_end = end.wrapping_add(sender.max_win);
    if receiver.max_win == 0 {
        // Nothing was seen of the other end: the acknowledged number is its last one sent.
        receiver.end = sack;
        receiver.max_end = sack;
    } else if sack == receiver.end.wrapping_add(1) {
        // Probably the answer to a keep-alive.
        receiver.end = receiver.end.wrapping_add(1);
    }
}

/// A segment on arrival.
pub(super) struct Arrival<'a> {
    /// Its direction.
    pub(super) dir: CtDir,
    /// The entry's state before the segment.
    pub(super) state: State,
    /// The TCP header.
    pub(super) segment: &'a Tcp,
    /// Bytes above the TCP header.
    pub(super) payload: u32,
    /// The segment is an ACK and nothing else.
    pub(super) pure_ack: bool,
}

/// Check a segment and, where in the window, note its numbers.
pub(super) fn check(track: &mut Track, arrival: &Arrival<'_>, rules: &Rules) -> Window {
    let (from, to) = (arrival.dir as usize, arrival.dir.flip() as usize);
    // Copied out of the track, so that both can change.
    let (mut sender, mut receiver) = (track.ends[from], track.ends[to]);
    let outcome = judge(&mut sender, &mut receiver, track, arrival);
    let tolerant = sender.liberal || rules.liberal || arrival.segment.unnumbered;
    track.ends[from] = sender;
    track.ends[to] = receiver;
    if tolerant { Window::Accept } else { outcome }
}

fn judge(sender: &mut TcpEnd, receiver: &mut TcpEnd, track: &mut Track, arrival: &Arrival<'_>) -> Window {
    let Arrival { dir, state, segment, payload, pure_ack } = *arrival;
    let syn = segment.flags & tcpflag::SYN != 0;
    let has_ack = segment.flags & tcpflag::ACK != 0;
    let rst = segment.flags & tcpflag::RST != 0;
    let mut seq = segment.seq;
    let mut end = segment_end(segment, payload);
    let mut ack = segment.ack;
    let mut sack = if receiver.sack_permitted { segment.sack.unwrap_or(ack) } else { ack };
    let mut window = segment.window as u32;

    let unseen = sender.max_win == 0;
    let restarts = syn && matches!(state, State::SynSent | State::SynRecv) && after(end, sender.end);
    if unseen || restarts {
        init_sender(sender, receiver, segment, end, sack, dir);
        if syn && !has_ack && (unseen || dir == CtDir::Reply) {
            // A simultaneous open has nothing to acknowledge yet.
            return Window::Accept;
        }
    }
    if !has_ack || (rst && ack == 0) {
        ack = receiver.end;
        sack = ack;
    }
    if rst && seq == 0 && state == State::SynSent {
        seq = sender.end;
        end = seq;
    }

    let ack_window = MAX_ACK_WINDOW.max(sender.max_win);
    let ack_known = before(sack, receiver.end.wrapping_add(1));
    let ack_recent = after(sack, receiver.end.wrapping_sub(ack_window).wrapping_sub(1));
    let end_recent = after(end, sender.end.wrapping_sub(receiver.max_win).wrapping_sub(1));
    if !before(seq, sender.max_end.wrapping_add(1)) {
        let overshoot = end.wrapping_sub(sender.max_end).wrapping_add(1);
        if receiver.max_win > 0 && end_recent && ack_recent && ack_known && overshoot <= receiver.max_win {
            // The receiver may accept the segment after all: its acknowledgement must not look wrong.
            sender.end = end;
            sender.unacked = true;
            return Window::Ignore;
        }
        return Window::Invalid;
    }
    if !ack_known {
        return Window::Invalid;
    }
    if receiver.max_win > 0 && !end_recent {
        return Window::Ignore;
    }
    if !ack_recent {
        return Window::Ignore;
    }

    if !syn {
        window <<= sender.scale;
    }
    sender.max_win = sender.max_win.max(window.wrapping_add(sack.wrapping_sub(ack)));
    if after(end, sender.end) {
        sender.end = end;
        sender.unacked = true;
    }
    if has_ack && (!sender.ack_set || after(ack, sender.max_ack)) {
        sender.max_ack = ack;
        sender.ack_set = true;
    }
    if receiver.max_win != 0 && after(end, sender.max_end) {
        receiver.max_win = receiver.max_win.wrapping_add(end.wrapping_sub(sender.max_end));
    }
    let allowed = sack.wrapping_add(window);
    if after(allowed, receiver.max_end.wrapping_sub(1)) {
        receiver.max_end = if window == 0 { allowed.wrapping_add(1) } else { allowed };
    }
    if ack == receiver.end {
        receiver.unacked = false;
    }
    if pure_ack && segment.unnumbered {
        // The segment may or may not be a repeated one.
        track.last_win = segment.window;
    } else if pure_ack {
        track.note_ack(dir, seq, ack, end, segment.window);
    }
    Window::Accept
}
