//! The processing of a TCP segment in Zeek's steps.
//!
//! Source: `TCPSessionAdapter::Process` and its callees.

use crate::flow::Side;
use conntrack_decode::{Packet, Tcp, tcpflag};

use super::endpoint::{Flags, State};
use super::history::{Once, Scaled};
use super::{Roles, View};

impl Flags {
    pub(super) fn of(flags: u8) -> Self {
        let has = |flag: u8| flags & flag != 0;
        Self { syn: has(tcpflag::SYN), ack: has(tcpflag::ACK), fin: has(tcpflag::FIN), rst: has(tcpflag::RST) }
    }
}

impl View {
    pub(super) fn tcp(
        &mut self,
        segment: &Tcp,
        packet: &Packet,
        side: Side,
        mut orig: Side,
        roles: Roles,
        ts: i64,
    ) -> Side {
        let (own, peer) = (side as usize, side.other() as usize);
        let flags = Flags::of(segment.flags);
        let payload = packet.segment_bytes;
        // Zeek's own role lags behind a flip by this packet.
        let is_orig = side == orig;
        self.note_partial(side, is_orig, flags);

        let sent = if flags.rst { 0 } else { payload };
        let length = sent + u32::from(flags.syn) + u32::from(flags.fin);
        let next = segment.seq.wrapping_add(length);
        self.ends[own].begin(flags, segment.seq, next);
        let (relative, underflow) = self.ends[own].relative_seq(segment.seq);

        if roles == Roles::Zeek && flags.is_plain() && self.answers_syn_ack(flags, payload, orig) {
            let responder = orig;
            self.flip();
            self.letters.begin_with_flipped_syn_ack(responder);
            orig = orig.other();
            self.ends[orig as usize].seen = true;
        }
        self.note_letters(flags, relative, payload, side);
        let receives = self.ends[peer].state != State::Closed && self.ends[own].state != State::Reset;
        if segment.window == 0 && !flags.rst && receives {
            self.letters.scaled(Scaled::ZeroWindow, side);
        }
        if !self.both_closed() {
            self.timers.active_until = ts;
        }
        if flags.fin {
            self.ends[own].finish(relative.wrapping_add(u64::from(length)));
        }
        let acked = flags.ack.then(|| self.take_ack(segment.ack, side, flags.rst));
        if self.ends[own].advance(next, flags, payload) {
            self.letters.scaled(Scaled::Retransmission, side);
        }
        let (closes, reversed) = self.step(payload, side, is_orig, flags, roles, ts);
        if reversed {
            orig = orig.other();
        }
        if let Some(acked) = acked {
            self.deliver_acknowledged(acked, side.other(), ts);
        }
        self.ends[own].seen = true;
        if payload > 0 && !flags.rst && !underflow && !packet.cut {
            self.deliver(relative.wrapping_add(u64::from(flags.syn)), payload, side);
        }
        self.report_end(side, ts);
        if closes {
            self.close(side, ts);
        }
        orig
    }

    /// Note the letter of a plain acknowledgement, with data or without.
    pub(crate) fn note_plain(&mut self, has_data: bool, side: Side) {
        self.letters.once(if has_data { Once::Data } else { Once::Ack }, None, side);
    }

    fn note_partial(&mut self, side: Side, is_orig: bool, flags: Flags) {
        if self.ends[side as usize].seen {
            return;
        }
        if is_orig {
            self.partial = !flags.syn || flags.ack;
        } else if !self.partial {
            self.partial = !flags.syn;
        }
    }

    /// Test for a SYN+ACK with this acknowledgement or data as its answer: not a scan.
    fn answers_syn_ack(&self, flags: Flags, payload: u32, orig: Side) -> bool {
        (payload > 0 || flags.ack) && self.letters.is_lone_syn_ack(orig)
    }

    fn note_letters(&mut self, flags: Flags, relative: u64, payload: u32, side: Side) {
        // The flag among the three, and the sequence number that distinguishes repetitions.
        let (what, letter, mark) = match flags {
            Flags { fin: true, rst: true, .. } => {
                self.letters.once(Once::FinRst, None, side);
                return;
            }
            Flags { syn: true, fin, rst, .. } if fin || rst => {
                self.letters.once(Once::Several, None, side);
                return;
            }
            Flags { syn: true, ack, .. } => (Once::Syn, if ack { b'H' } else { b'S' }, relative),
            Flags { fin: true, .. } => (Once::Fin, b'F', relative.wrapping_add(u64::from(payload))),
            Flags { rst: true, .. } => (Once::Rst, b'R', relative),
            Flags { ack, .. } if payload > 0 || ack => {
                self.note_plain(payload > 0, side);
                return;
            }
            _ => return,
        };
        let seen = self.letters.once(what, Some(letter), side);
        let last = &mut self.ends[side as usize].marks[what as usize];
        // The low half distinguishes them as well.
        if std::mem::replace(last, mark as u32) != mark as u32 && seen {
            self.letters.again(letter, side);
        }
    }

    fn both_closed(&self) -> bool {
        self.ends.iter().all(|end| end.closed)
    }

    /// The relative number up to which the peer's data is acknowledged.
    fn take_ack(&mut self, ack: u32, side: Side, rst: bool) -> u64 {
        let was_seen = self.ends[side as usize].seen;
        let peer = &mut self.ends[side.other() as usize];
        if peer.state == State::Inactive {
            // The first acknowledgement may be an old one; another one, or the first after a SYN, is an answer.
            self.answers_unseen |= !rst && was_seen && peer.start() != ack.wrapping_sub(1);
            peer.begin_from_ack(ack);
            return 1;
        }
        let (relative, underflow) = peer.relative_ack(ack);
        if underflow {
            return 0;
        }
        // Acknowledgement numbers of RSTs are unreliable.
        if !rst {
            peer.acknowledge(ack);
        }
        relative
    }

    fn enter(&mut self, side: Side, state: State) {
        let peer_in_handshake = self.ends[side.other() as usize].state.is_handshake();
        if self.ends[side as usize].enter(state) && peer_in_handshake {
            self.timers.established = true;
        }
    }

    /// The state machine. Returns whether this side closes, and whether the roles were reversed.
    fn step(&mut self, payload: u32, side: Side, is_orig: bool, flags: Flags, roles: Roles, ts: i64) -> (bool, bool) {
        let peer = self.ends[side.other() as usize].state;
        let mut closes = flags.fin || flags.rst;
        let mut reversed = false;
        match self.ends[side as usize].state {
            State::Inactive => reversed = self.first_segment(payload, side, is_orig, flags, roles, ts),
            State::SynSent | State::SynAckSent => {
                if flags.fin {
                    self.enter(side, State::Closed);
                }
                if flags.rst {
                    self.enter(side, State::Reset);
                    self.timers.reported = true;
                }
            }
            State::Established | State::Partial => {
                let own = &self.ends[side as usize];
                if flags.syn && !flags.ack && own.state == State::Partial && peer == State::Inactive {
                    self.enter(side, State::SynSent);
                }
                if flags.fin && !flags.rst {
                    self.enter(side, State::Closed);
                    // A FIN followed by an RST, now answered by a FIN: a normal end.
                    let other = &self.ends[side.other() as usize];
                    if other.state == State::Reset && other.before == State::Closed {
                        self.enter(side.other(), State::Closed);
                    }
                }
                if flags.rst {
                    self.enter(side, State::Reset);
                    let other = &self.ends[side.other() as usize];
                    self.timers.reported |= other.state != State::Reset || other.before != State::Established;
                }
            }
            State::Closed => {
                closes = flags.rst && peer != State::Closed && !self.ends[side as usize].closed;
                if flags.rst && peer != State::Closed {
                    self.enter(side, State::Reset);
                }
            }
            State::Reset => closes = false,
        }
        (closes, reversed)
    }

    /// Process the first segment of a side.
    fn first_segment(&mut self, payload: u32, side: Side, is_orig: bool, flags: Flags, roles: Roles, ts: i64) -> bool {
        let other = side.other();
        let mut reversed = false;
        if flags.syn && is_orig {
            let peer = self.ends[other as usize].state;
            let state = match flags.ack {
                true => State::SynAckSent,
                // The SYN+ACK was captured first.
                false if peer == State::Established && roles == Roles::Given => State::Established,
                false => State::SynSent,
            };
            self.enter(side, state);
            self.timers.attempt(ts);
        } else if flags.syn {
            let peer = self.ends[other as usize].state;
            if !flags.ack && peer == State::SynAckSent && roles == Roles::Zeek {
                // SYN and SYN+ACK were captured in the wrong order.
                self.flip();
                self.ends[side as usize].seen = true;
                reversed = true;
                self.enter(other, State::Established);
            } else if peer == State::SynSent {
                self.enter(other, State::Established);
            }
            self.enter(side, State::Established);
        }
        if flags.fin {
            self.enter(side, State::Closed);
        }
        if flags.rst {
            self.enter(side, State::Reset);
        }
        if self.ends[side as usize].state == State::Inactive {
            let peer = self.ends[other as usize].state;
            let acks_the_syn_early = !is_orig && payload == 0 && peer == State::SynSent;
            if flags.ack && peer == State::Established {
                // Only the SYN was missed.
                self.enter(side, State::Established);
                self.partial = false;
            } else if !acks_the_syn_early {
                self.enter(side, State::Partial);
            }
        }
        reversed
    }

    /// Note an acknowledgement of an end's data.
    #[inline]
    pub(crate) fn deliver_acknowledged(&mut self, acked: u64, side: Side, ts: i64) {
        let is_clean = |end: &super::Endpoint| {
            let closed = end.state == State::Closed && end.before == State::Established;
            end.state == State::Established || closed
        };
        let partial = self.partial;
        let end = &mut self.ends[side as usize];
        let Some(gaps) = end.stream.acknowledged(end.before_fin(acked), partial) else { return };
        // Elsewhere, holes come from packets before the capture, or from unreliable numbers.
        if gaps.count > 0 && self.ends.iter().all(is_clean) {
            for _ in 0..gaps.count {
                self.letters.scaled(Scaled::Gap, side);
            }
            self.missed = self.missed.saturating_add(gaps.bytes);
        }
        self.report_end(side, ts);
    }

    /// Process data of an end.
    #[inline]
    pub(crate) fn deliver(&mut self, start: u64, length: u32, side: Side) {
        let unacked = self.ends[side as usize].nothing_acked();
        let size = if unacked { self.tcp_size(side) } else { 0 };
        let end = &mut self.ends[side as usize];
        let (first, behind) = (start.max(end.acked_so_far()), start.saturating_add(u64::from(length)));
        end.stream.data(first, behind, unacked, size);
    }
}
