//! TCP as in Linux nf_conntrack.
//!
//! Sources: RFC 9293, RFC 5961 (challenge ACKs), and the behaviour of `nf_conntrack_proto_tcp`, measured cell by cell
//! on kernel 6.18. The transition table below is that measurement.

use crate::config::{Rules, Timeout};
use conntrack_base::time::SECOND;
use conntrack_decode::{Tcp, tcpflag};

use super::entry::{Gateway, Track as ProtoTrack};
use super::memory::{Offer, TcpClass as Class, TcpEnd, TcpTrack as Track};
use super::state::{CtDir, State, Verdict};
use super::tcp_window::{self, Arrival, Window, before, segment_end};

/// A cell of the transition table.
#[derive(Clone, Copy)]
enum To {
    /// The next state.
    State(State),
    /// Accepted, without effect.
    Ignore,
    /// Not allowed.
    Invalid,
}

const SS: To = To::State(State::SynSent);
const SR: To = To::State(State::SynRecv);
const ES: To = To::State(State::Established);
const FW: To = To::State(State::FinWait);
const CW: To = To::State(State::CloseWait);
const LA: To = To::State(State::LastAck);
const TW: To = To::State(State::TimeWait);
const CL: To = To::State(State::Close);
const S2: To = To::State(State::SynSent2);
const IG: To = To::Ignore;
const IV: To = To::Invalid;

/// Rows: [`Class`]. Columns: NONE, SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT, CLOSE,
/// SYN_SENT2.
#[rustfmt::skip]
const TABLE: [[[To; 10]; 6]; 2] = [
    [ // original
        [SS, SS, IG, IG, IG, IG, IG, SS, SS, S2], // SYN
        [IV, IV, SR, IV, IV, IV, IV, IV, IV, SR], // SYN+ACK
        [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV], // FIN
        [ES, IV, ES, ES, CW, CW, TW, TW, CL, IV], // ACK
        [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL], // RST
        [IV, IV, IV, IV, IV, IV, IV, IV, IV, IV], // none
    ],
    [ // reply
        [IV, S2, IV, IV, IV, IV, IV, SS, IV, S2], // SYN
        [IV, SR, IG, IG, IG, IG, IG, IG, IG, SR], // SYN+ACK
        [IV, IV, FW, FW, LA, LA, LA, TW, CL, IV], // FIN
        [IV, IG, SR, ES, CW, CW, TW, TW, CL, IG], // ACK
        [IV, CL, CL, CL, CL, CL, CL, CL, CL, CL], // RST
        [IV, IV, IV, IV, IV, IV, IV, IV, IV, IV], // none
    ],
];

/// The next state for this class of segment, if nothing else decides.
pub const fn leads_to(dir: CtDir, class: Class, state: State) -> Option<State> {
    if dir as usize >= TABLE.len() || state as usize >= TABLE[0][0].len() {
        return None;
    }
    match TABLE[dir as usize][class as usize][state as usize] {
        To::State(new) => Some(new),
        To::Ignore | To::Invalid => None,
    }
}

/// Test for a flag set that a TCP may send: RST, SYN, SYN+ACK, FIN+ACK and ACK; URG with those that can carry data.
fn valid_flags(flags: u8) -> bool {
    const SYN: u8 = tcpflag::SYN;
    const ACK: u8 = tcpflag::ACK;
    const RST: u8 = tcpflag::RST;
    const FIN: u8 = tcpflag::FIN;
    const URG: u8 = tcpflag::URG;
    const SYN_URG: u8 = SYN | URG;
    const SYN_ACK: u8 = SYN | ACK;
    const RST_ACK: u8 = RST | ACK;
    const FIN_ACK: u8 = FIN | ACK;
    const FIN_ACK_URG: u8 = FIN | ACK | URG;
    const ACK_URG: u8 = ACK | URG;
    matches!(
        flags & (SYN | ACK | RST | FIN | URG),
        SYN | SYN_URG | SYN_ACK | RST | RST_ACK | FIN_ACK | FIN_ACK_URG | ACK | ACK_URG
    )
}

/// The memory of an entry that this segment opens: a SYN, or with `loose` an ACK in mid-stream.
pub(super) fn open(segment: &Tcp, payload: u32, rules: &Rules) -> Option<Track> {
    if !valid_flags(segment.flags) {
        return None;
    }
    let mut track = Track { last_class: Class::None, ..Track::default() };
    let end = segment_end(segment, payload);
    let window = (segment.window as u32).max(1);
    match Class::of(segment.flags) {
        Class::Syn => {
            track.ends[0] = TcpEnd { end, max_end: end, max_win: window, ..TcpEnd::default() };
            track.ends[0].take_options(segment);
        }
        Class::Ack if rules.loose => {
            let picked_up = TcpEnd { sack_permitted: true, liberal: true, ..TcpEnd::default() };
            let max_end = end.wrapping_add(window);
            track.ends = [TcpEnd { end, max_end, max_win: window, ..picked_up }, picked_up];
        }
        _ => return None,
    }
    Some(track)
}

/// Judge a segment; see [`super::step`].
pub(super) fn step(entry: &mut Gateway, dir: CtDir, segment: &Tcp, payload: u32, ts: i64, rules: &Rules) -> Verdict {
    let ProtoTrack::Tcp(mut track) = entry.track else { return Verdict::Invalid };
    let verdict = judge(entry, &mut track, dir, segment, payload, ts, rules);
    entry.track = ProtoTrack::Tcp(track);
    verdict
}

fn judge(
    entry: &mut Gateway,
    track: &mut Track,
    dir: CtDir,
    segment: &Tcp,
    payload: u32,
    ts: i64,
    rules: &Rules,
) -> Verdict {
    if !valid_flags(segment.flags) {
        return Verdict::Invalid;
    }
    let class = Class::of(segment.flags);
    let mut old = entry.state;
    let here = dir as u8;
    let mut check_window = true;
    let mut new = match TABLE[dir as usize][class as usize][old as usize] {
        To::Invalid => return Verdict::Invalid,
        To::Ignore => match ignore(track, old, dir, class, segment, payload) {
            Some(resynced) => {
                old = State::SynSent;
                resynced
            }
            None => return Verdict::Ignore,
        },
        To::State(new) => new,
    };
    match new {
        State::SynSent if matches!(old, State::TimeWait | State::Close) => {
            let closed = track.ends.iter().any(|end| end.close_init);
            if closed || (track.last_dir == here && track.last_class == Class::Rst) {
                return Verdict::Reopen;
            }
            ignore(track, old, dir, class, segment, payload);
            return Verdict::Ignore;
        }
        State::TimeWait
            if old == State::LastAck
                && class == Class::Ack
                && track.last_dir != here
                && track.last_class == Class::Syn
                && track.challenge_expected =>
        {
            // A challenge ACK (RFC 5961) for the SYN let through before does not acknowledge the FIN.
            track.challenge_expected = false;
            return Verdict::Ignore;
        }
        State::SynSent2 => track.simultaneous = true,
        State::SynRecv if dir == CtDir::Reply && class == Class::Ack && track.simultaneous => {
            new = State::Established;
        }
        State::Close if class == Class::Rst => {
            let Some(reset) = reset(entry, track, dir, segment, rules) else { return Verdict::Invalid };
            check_window = !reset.exempt;
            if reset.challenge {
                new = old;
            }
        }
        _ => {}
    }
    if check_window {
        // By the entry's own state, also where this segment re-synchronises it.
        let arrival = Arrival { dir, state: entry.state, segment, payload, pure_ack: class == Class::Ack };
        match tcp_window::check(track, &arrival, rules) {
            Window::Accept => {}
            Window::Ignore => return Verdict::Ignore,
            Window::Invalid => {
                shorten_after_invalid(entry, track, here, class, ts, rules);
                return Verdict::Invalid;
            }
        }
    }
    track.last_class = class;
    track.last_dir = here;
    entry.state = new;
    if old != new && new == State::FinWait {
        track.ends[dir as usize].close_init = true;
    }
    let unacked = track.ends.iter().any(|end| end.unacked);
    let timeout = choose_timeout((track.retrans, unacked, track.last_win), new, class, rules);
    if !entry.seen_reply {
        if class == Class::Rst {
            return Verdict::Delete;
        }
        if old == State::SynSent && class == Class::Syn {
            // A repeated SYN does not renew: a port reused by others could keep the entry for ever.
            return Verdict::Accept(None);
        }
        if new == State::Established && rules.timeouts.get(timeout) > rules.timeouts.get(Timeout::TcpUnacknowledged) {
            return Verdict::Accept(Some(Timeout::TcpUnacknowledged));
        }
    } else if !entry.assured && matches!(old, State::SynRecv | State::Established) && new == State::Established {
        entry.assured = true;
    }
    Verdict::Accept(Some(timeout))
}

/// Let a segment through that may mean that the entry is out of sync, and remember the segment. Returns the next state
/// for a SYN+ACK that acknowledges a SYN ignored before.
fn ignore(track: &mut Track, state: State, dir: CtDir, class: Class, segment: &Tcp, payload: u32) -> Option<State> {
    let here = dir as u8;
    if class == Class::SynAck
        && track.last_class == Class::Syn
        && track.last_dir != here
        && segment.ack == track.last_end
    {
        let peer = &mut track.ends[track.last_dir as usize & 1];
        *peer = TcpEnd {
            end: track.last_end,
            max_end: track.last_end,
            max_win: (track.last_win as u32).max(1),
            max_ack: peer.max_ack,
            ..TcpEnd::default()
        };
        peer.accept(track.ignored_syn);
        track.challenge_expected = false;
        let restarted = &mut track.ends[dir as usize];
        *restarted = TcpEnd { liberal: restarted.liberal, ..TcpEnd::default() };
        return Some(State::SynRecv);
    }
    track.last_class = class;
    track.last_dir = here;
    track.last_seq = segment.seq;
    track.last_end = segment_end(segment, payload);
    track.last_win = segment.window;
    if class == Class::Syn && dir == CtDir::Original {
        track.ignored_syn = Offer::of(segment).unwrap_or_default();
        track.simultaneous = false;
        track.challenge_expected = state == State::LastAck;
    }
    if state == State::SynSent && class == Class::Ack && dir == CtDir::Reply {
        track.last_ack = segment.ack;
    }
    None
}

/// The effect of an RST.
struct Reset {
    /// The state stays, in expectation of a challenge ACK (RFC 5961): the sequence number is not exact.
    challenge: bool,
    /// The window is not checked.
    exempt: bool,
}

/// Judge an RST by its sequence number; None: below the peer's highest acknowledgement.
fn reset(entry: &Gateway, track: &Track, dir: CtDir, segment: &Tcp, rules: &Rules) -> Option<Reset> {
    if matches!(entry.state, State::FinWait | State::LastAck | State::TimeWait | State::Close | State::CloseWait) {
        // The ports may be in use again already, and the known sequence numbers old.
        return Some(Reset { challenge: false, exempt: true });
    }
    let established = entry.state == State::Established && entry.assured;
    let peer = &track.ends[dir.flip() as usize];
    let mut challenge = false;
    if peer.ack_set && track.last_class != Class::Syn {
        if segment.seq == 0 && !established {
            return Some(Reset { challenge: false, exempt: false });
        }
        if before(segment.seq, peer.max_ack) && !rules.ignore_invalid_rst {
            return None;
        }
        let continues = track.last_class == Class::Ack && track.last_dir == dir as u8 && segment.seq == track.last_end;
        if !established || segment.seq == peer.max_ack || continues {
            return Some(Reset { challenge: false, exempt: false });
        }
        challenge = true;
    }
    // The RST answers a SYN of the other end, or an ACK of either, that was let through.
    let answers_syn = entry.seen_reply && track.last_class == Class::Syn && track.last_dir != dir as u8;
    let answers_ignored = answers_syn || (!entry.assured && track.last_class == Class::Ack);
    let answers_challenge = entry.state == State::SynSent
        && track.last_class == Class::Ack
        && track.last_dir == CtDir::Reply as u8
        && segment.seq == track.last_ack;
    let exempt = (answers_ignored && segment.ack == track.last_end) || answers_challenge;
    Some(Reset { challenge, exempt })
}

/// The shortest remaining time that is shortened, nanoseconds.
const SHORTEN_FROM: i64 = 120 * SECOND;

/// Shorten the timeout after out-of-window FINs or RSTs from both ends: the connection lives on elsewhere, if at all.
fn shorten_after_invalid(entry: &mut Gateway, track: &mut Track, here: u8, class: Class, ts: i64, rules: &Rules) {
    if !entry.assured || !matches!(class, Class::Rst | Class::Fin) {
        return;
    }
    if track.last_dir != here && matches!(track.last_class, Class::Rst | Class::Fin) {
        let limit = ts + rules.timeouts.get(Timeout::TcpUnacknowledged);
        if entry.deadline - ts >= SHORTEN_FROM && entry.deadline > limit {
            entry.deadline = limit;
            entry.timeout = Timeout::TcpUnacknowledged;
        }
    } else {
        track.last_class = class;
        track.last_dir = here;
    }
}

/// The timeout after a segment. `acks`: identical acknowledgements in a row, whether an end has unacknowledged data,
/// and the last window.
#[inline]
pub fn choose_timeout(acks: (u8, bool, u16), state: State, class: Class, rules: &Rules) -> Timeout {
    let (retrans, unacked, last_win) = acks;
    let own = state_timeout(state);
    let caps = |cap: Timeout| rules.timeouts.get(own) > rules.timeouts.get(cap);
    if retrans >= rules.max_retrans && caps(Timeout::TcpMaxRetrans) {
        Timeout::TcpMaxRetrans
    } else if class == Class::Rst {
        Timeout::TcpClose
    } else if unacked && caps(Timeout::TcpUnacknowledged) {
        Timeout::TcpUnacknowledged
    } else if last_win == 0 && caps(Timeout::TcpMaxRetrans) {
        Timeout::TcpMaxRetrans
    } else {
        own
    }
}

fn state_timeout(state: State) -> Timeout {
    match state {
        State::SynRecv => Timeout::TcpSynRecv,
        State::Established => Timeout::TcpEstablished,
        State::FinWait => Timeout::TcpFinWait,
        State::CloseWait => Timeout::TcpCloseWait,
        State::LastAck => Timeout::TcpLastAck,
        State::TimeWait => Timeout::TcpTimeWait,
        State::Close => Timeout::TcpClose,
        // SYN_SENT, and SYN_SENT2, which has no sysctl of its own.
        _ => Timeout::TcpSynSent,
    }
}
