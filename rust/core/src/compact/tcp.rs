//! What TCP keeps in a [`Compact`]: the numbers of both ends, which the gateway and Zeek share.

use crate::connection::{Connection, Evidence};
use crate::flow::Side;
use crate::proto::tcp::Track as TcpTrack;
use crate::proto::{Seen, Track};
use crate::zeek::{End, Facts, RUNS};

use super::extra::{Extra, Sent};
use super::letters::MoreLetters;
use super::{Compact, Flags, halves, word};

/// The facts that are the connection's, and their bits.
fn with_facts(flags: &mut Flags, facts: Facts) {
    flags.set(Flags::PARTIAL, facts.partial);
    flags.set(Flags::ESTABLISHED, facts.established);
    flags.set(Flags::REPORTED, facts.reported);
    flags.set(Flags::DEFERRED, facts.deferred);
}

fn facts(flags: Flags) -> Facts {
    Facts {
        partial: flags.has(Flags::PARTIAL),
        established: flags.has(Flags::ESTABLISHED),
        reported: flags.has(Flags::REPORTED),
        deferred: flags.has(Flags::DEFERRED),
    }
}

impl Extra {
    /// What is to be known of a connection beside its words; None where a number is too large. `letters`: those that its
    /// words have no room for.
    pub(super) fn of(connection: &Connection, letters: MoreLetters) -> Option<Self> {
        let missed = u32::try_from(connection.zeek.missed()).ok()?;
        let mut extra = Self { missed, letters, ..Self::default() };
        let gaps = connection.zeek.letters().gaps();
        for (side, sent) in Side::BOTH.into_iter().zip(&mut extra.sent) {
            let end = connection.zeek.end(side);
            let mut ahead = [(0, 0); RUNS];
            for (place, run) in ahead.iter_mut().zip(end.ahead) {
                *place = (u32::try_from(run.0).ok()?, u32::try_from(run.1).ok()?);
            }
            *sent = Sent {
                delivered: u32::try_from(end.delivered).ok()?,
                ahead,
                gaps: gaps[side as usize],
                payload: u32::try_from(connection.ends[side as usize].payload_bytes).ok()?,
            };
        }
        Some(extra)
    }
}

impl Compact {
    pub(super) fn pack_tcp(&mut self, connection: &Connection) -> Option<()> {
        if connection.evidence != Evidence::Syn || connection.first != connection.orig {
            return None;
        }
        let mut flags = Flags::TCP;
        flags.set_first(connection.first);
        flags.set(Flags::SEEN_REPLY, connection.status.0);
        flags.set(Flags::ASSURED, connection.status.1);
        with_facts(&mut flags, connection.zeek.facts());
        let ends = Side::BOTH.map(|side| connection.zeek.end(side));
        for (side, end) in Side::BOTH.into_iter().zip(&ends) {
            flags.set_end_states(side, end.state, end.before);
            flags.set(Flags::of(side, Flags::FIN), end.fin);
            flags.set(Flags::of(side, Flags::CLOSED), end.closed);
            flags.set(Flags::of(side, Flags::SEEN), end.seen);
            flags.set(Flags::of(side, Flags::ENDED), end.ended);
        }
        self.0[word::SEQ_START] = halves(ends.map(|end| end.start));
        self.0[word::SEQ_LAST] = halves(ends.map(|end| end.last));
        self.0[word::SEQ_ACKED] = halves(ends.map(|end| end.acked));
        match &connection.gateway {
            None => flags.set(Flags::GONE, true),
            Some(entry) => {
                let Track::Tcp(track) = &entry.track else { return None };
                flags.set_state(entry.state);
                flags.set_timeout(entry.timeout);
                self.pack_track(&mut flags, track)?;
            }
        }
        self.set_flags(flags);
        Some(())
    }

    fn pack_track(&mut self, flags: &mut Flags, track: &TcpTrack) -> Option<()> {
        let orig = flags.gateway_orig();
        let by_side = Side::BOTH.map(|side| &track.ends[usize::from(side != orig)]);
        for (side, seen) in Side::BOTH.into_iter().zip(by_side) {
            flags.set_scale(side, seen.scale);
            flags.set(Flags::of(side, Flags::OFFERS_SCALE), seen.offers_scale);
            flags.set(Flags::of(side, Flags::SACK_PERMITTED), seen.sack_permitted);
            flags.set(Flags::of(side, Flags::UNACKED), seen.unacked);
            flags.set(Flags::of(side, Flags::ACK_SET), seen.ack_set);
            flags.set(Flags::of(side, Flags::CLOSE_INIT), seen.close_init);
        }
        self.0[word::MAX_END] = halves(by_side.map(|seen| seen.max_end));
        self.0[word::MAX_WIN] = halves(by_side.map(|seen| seen.max_win));
        flags.set_last(track.last_dir, track.last_class);
        flags.set_retrans(track.retrans);
        self.0[word::LAST_ACK] = halves([track.last_seq, track.last_ack]);
        self.0[word::END] |= u64::from(track.last_win);
        let length = track.last_end.wrapping_sub(track.last_seq);
        self.0[word::LETTERS] |= u64::from(u16::try_from(length).ok()?);
        Some(())
    }

    /// What is to be known beside the words where everything came in order, once.
    pub(super) fn in_order(&self) -> Extra {
        let flags = self.flags();
        let [start, last] = [word::SEQ_START, word::SEQ_LAST].map(|at| self.pair(at));
        let sent = Side::BOTH.map(|side| {
            let fin = u32::from(flags.has(Flags::of(side, Flags::FIN)));
            let sent = last[side as usize].wrapping_sub(start[side as usize]);
            // Behind the SYN and before the FIN.
            let delivered = sent.saturating_sub(fin).max(1);
            Sent { delivered, payload: delivered - 1, ..Sent::default() }
        });
        Extra { sent, ..Extra::default() }
    }

    pub(super) fn unpack_tcp(&self, connection: &mut Connection, extra: &Extra) {
        let flags = self.flags();
        let [start, last, acked] = [word::SEQ_START, word::SEQ_LAST, word::SEQ_ACKED].map(|at| self.pair(at));
        for side in Side::BOTH {
            let (state, before) = flags.end_states(side);
            let has = |fact: u64| flags.has(Flags::of(side, fact));
            let at = side as usize;
            let sent = &extra.sent[at];
            connection.zeek.set_end(
                side,
                End {
                    start: start[at],
                    last: last[at],
                    acked: acked[at],
                    delivered: u64::from(sent.delivered),
                    ahead: sent.ahead.map(|run| (u64::from(run.0), u64::from(run.1))),
                    state,
                    before,
                    fin: has(Flags::FIN),
                    closed: has(Flags::CLOSED),
                    seen: has(Flags::SEEN),
                    ended: has(Flags::ENDED),
                },
            );
            connection.ends[at].payload_bytes = u64::from(sent.payload);
        }
        connection.zeek.set_missed(u64::from(extra.missed));
        connection.zeek.set_facts(facts(flags));
        if let Some(entry) = &mut connection.gateway {
            entry.state = flags.state();
            entry.track = Track::Tcp(self.track());
        }
    }

    fn track(&self) -> TcpTrack {
        let flags = self.flags();
        let [last, acked] = [word::SEQ_LAST, word::SEQ_ACKED].map(|at| self.pair(at));
        let [max_end, max_win] = [word::MAX_END, word::MAX_WIN].map(|at| self.pair(at));
        let seen = |side: Side| {
            let has = |fact: u64| flags.has(Flags::of(side, fact));
            let ack_set = has(Flags::ACK_SET);
            let at = side as usize;
            Seen {
                end: last[at],
                max_end: max_end[at],
                max_win: max_win[at],
                max_ack: if ack_set { acked[1 - at] } else { 0 },
                scale: flags.scale(side),
                offers_scale: has(Flags::OFFERS_SCALE),
                sack_permitted: has(Flags::SACK_PERMITTED),
                liberal: false,
                unacked: has(Flags::UNACKED),
                ack_set,
                close_init: has(Flags::CLOSE_INIT),
            }
        };
        let orig = flags.gateway_orig();
        let [last_seq, last_ack] = self.pair(word::LAST_ACK);
        let mut track = TcpTrack::default();
        track.ends = [seen(orig), seen(orig.other())];
        (track.last_dir, track.last_class) = (flags.last_dir(), flags.last_class());
        track.retrans = flags.retrans();
        (track.last_seq, track.last_ack) = (last_seq, last_ack);
        track.last_end = last_seq.wrapping_add(u32::from(self.0[word::LETTERS] as u16));
        track.last_win = self.0[word::END] as u16;
        track
    }
}
