//! SCTP as in Linux nf_conntrack.
//!
//! Sources: RFC 9260 (verification tags: section 8.5), and the behaviour of `nf_conntrack_proto_sctp` of kernel 6.18.

use crate::config::Timeout;
use conntrack_decode::{L4, Packet, Sctp, sctp_chunk as chunk};

use super::entry::{Gateway, Track as ProtoTrack};
use super::memory::SctpTrack as Track;
use super::state::{CtDir, State, Verdict};

const NO: State = State::None;
const CL: State = State::Closed;
const CW: State = State::CookieWait;
const CE: State = State::CookieEchoed;
const ES: State = State::Established;
const SS: State = State::ShutdownSent;
const SR: State = State::ShutdownRecd;
const SA: State = State::ShutdownAckSent;
const HS: State = State::HeartbeatSent;

/// Rows: chunk types in the order of [`row`]. Columns: NONE, CLOSED, COOKIE_WAIT, COOKIE_ECHOED, ESTABLISHED,
/// SHUTDOWN_SENT, SHUTDOWN_RECD, SHUTDOWN_ACK_SENT, HEARTBEAT_SENT. A cell of NONE is not allowed.
#[rustfmt::skip]
const TABLE: [[[State; 9]; 11]; 2] = [
    [ // original
        [CL, CL, CW, CE, ES, CL, CL, SA, CW], // INIT
        [CL, CL, CW, CE, ES, SS, SR, SA, CL], // INIT ACK
        [CL, CL, CL, CL, CL, CL, CL, CL, CL], // ABORT
        [CL, CL, CW, CE, SS, SS, SR, SA, CL], // SHUTDOWN
        [SA, CL, CW, CE, ES, SA, SA, SA, SA], // SHUTDOWN ACK
        [CL, CL, CW, CE, ES, SS, SR, SA, CL], // ERROR
        [CL, CL, CE, CE, ES, SS, SR, SA, CL], // COOKIE ECHO
        [CL, CL, CW, CE, ES, SS, SR, SA, CL], // COOKIE ACK
        [CL, CL, CW, CE, ES, SS, SR, CL, CL], // SHUTDOWN COMPLETE
        [HS, CL, CW, CE, ES, SS, SR, SA, HS], // HEARTBEAT
        [CL, CL, CW, CE, ES, SS, SR, SA, HS], // HEARTBEAT ACK
    ],
    [ // reply
        [NO, CL, CW, CE, ES, SS, SR, SA, NO], // INIT
        [NO, CW, CW, CE, ES, SS, SR, SA, NO], // INIT ACK
        [NO, CL, CL, CL, CL, CL, CL, CL, NO], // ABORT
        [NO, CL, CW, CE, SR, SS, SR, SA, NO], // SHUTDOWN
        [NO, CL, CW, CE, ES, SA, SA, SA, NO], // SHUTDOWN ACK
        [NO, CL, CW, CL, ES, SS, SR, SA, NO], // ERROR
        [NO, CL, CW, CE, ES, SS, SR, SA, NO], // COOKIE ECHO
        [NO, CL, CW, ES, ES, SS, SR, SA, NO], // COOKIE ACK
        [NO, CL, CW, CE, ES, SS, SR, CL, NO], // SHUTDOWN COMPLETE
        [NO, CL, CW, CE, ES, SS, SR, SA, HS], // HEARTBEAT
        [NO, CL, CW, CE, ES, SS, SR, SA, ES], // HEARTBEAT ACK
    ],
];

fn row(kind: u8) -> Option<usize> {
    Some(match kind {
        chunk::INIT => 0,
        chunk::INIT_ACK => 1,
        chunk::ABORT => 2,
        chunk::SHUTDOWN => 3,
        chunk::SHUTDOWN_ACK => 4,
        chunk::ERROR => 5,
        chunk::COOKIE_ECHO => 6,
        chunk::COOKIE_ACK => 7,
        chunk::SHUTDOWN_COMPLETE => 8,
        chunk::HEARTBEAT => 9,
        chunk::HEARTBEAT_ACK => 10,
        _ => return None,
    })
}

fn column(state: State) -> usize {
    match state {
        State::Closed => 1,
        State::CookieWait => 2,
        State::CookieEchoed => 3,
        State::Established => 4,
        State::ShutdownSent => 5,
        State::ShutdownRecd => 6,
        State::ShutdownAckSent => 7,
        State::HeartbeatSent => 8,
        _ => 0,
    }
}

fn chunks(packet: &Packet) -> Option<Sctp> {
    match packet.l4 {
        L4::Sctp(sctp) if sctp.well_formed => Some(sctp),
        _ => None,
    }
}

/// The memory of an entry that this packet opens. DATA and the like open nothing, nor do chunks that only end or
/// answer.
pub(super) fn open(packet: &Packet) -> Option<Track> {
    let sctp = chunks(packet)?;
    let mut track = Track::default();
    if sctp.has_others {
        return None;
    }
    for (kind, _) in sctp.chunks() {
        match kind {
            chunk::ABORT | chunk::SHUTDOWN_COMPLETE | chunk::COOKIE_ACK => return None,
            chunk::INIT if sctp.vtag != 0 => return None,
            chunk::INIT => track.vtag[1] = sctp.init_tag?,
            chunk::HEARTBEAT => track.vtag[0] = sctp.vtag,
            _ => track.vtag[1] = sctp.vtag,
        }
    }
    Some(track)
}

/// Judge a packet, chunk by chunk; see [`super::step`]. The effects of chunks before an invalid one stay.
pub(super) fn step(entry: &mut Gateway, dir: CtDir, packet: &Packet) -> Verdict {
    let ProtoTrack::Sctp(mut track) = entry.track else { return Verdict::Invalid };
    let Some(sctp) = chunks(packet) else { return Verdict::Invalid };
    let verdict = judge(entry, &mut track, dir, &sctp);
    entry.track = ProtoTrack::Sctp(track);
    verdict
}

fn judge(entry: &mut Gateway, track: &mut Track, dir: CtDir, sctp: &Sctp) -> Verdict {
    let (own, peer) = (dir as usize, dir.flip() as usize);
    let tag_has_own_rule = sctp.chunks().any(|(kind, _)| {
        matches!(
            kind,
            chunk::INIT
                | chunk::SHUTDOWN_COMPLETE
                | chunk::COOKIE_ECHO
                | chunk::ABORT
                | chunk::SHUTDOWN_ACK
                | chunk::HEARTBEAT
                | chunk::HEARTBEAT_ACK
        )
    });
    if !tag_has_own_rule && sctp.vtag != track.vtag[own] {
        return Verdict::Invalid;
    }
    let mut renews = true;
    for (kind, reflected) in sctp.chunks() {
        let fits = match kind {
            chunk::INIT => sctp.vtag == 0,
            // Section 8.5.1: with the T bit the sender had no tag of its own and reflected the peer's.
            chunk::ABORT | chunk::SHUTDOWN_COMPLETE => sctp.vtag == track.vtag[if reflected { peer } else { own }],
            chunk::COOKIE_ECHO => sctp.vtag == track.vtag[own],
            chunk::HEARTBEAT if track.vtag[own] != 0 && sctp.vtag != track.vtag[own] => {
                // Perhaps the other path of a multi-homed peer: the acknowledgement decides.
                if sctp.has_data || !renews {
                    return Verdict::Invalid;
                }
                track.foreign_heartbeat = Some(dir);
                renews = false;
                continue;
            }
            chunk::HEARTBEAT_ACK if track.vtag[own] != 0 && sctp.vtag != track.vtag[own] => {
                let expected = track.foreign_heartbeat.is_some_and(|asked| asked != dir);
                if sctp.has_data || !renews || !expected {
                    return Verdict::Invalid;
                }
                track.foreign_heartbeat = None;
                track.vtag[own] = sctp.vtag;
                track.vtag[peer] = 0;
                true
            }
            chunk::HEARTBEAT | chunk::HEARTBEAT_ACK => {
                if track.vtag[own] == 0 {
                    track.vtag[own] = sctp.vtag;
                } else {
                    track.foreign_heartbeat = None;
                }
                true
            }
            _ => true,
        };
        let Some(row) = row(kind).filter(|_| fits) else { return Verdict::Invalid };
        let old = entry.state;
        let new = TABLE[dir as usize][row][column(old)];
        if new == State::None {
            return Verdict::Invalid;
        }
        if matches!(kind, chunk::INIT | chunk::INIT_ACK) {
            let Some(tag) = sctp.init_tag else { return Verdict::Invalid };
            track.vtag[peer] = tag;
            // A repeated INIT does not renew: a port used again by others could keep the entry for ever.
            renews &= !(old == State::Closed && new == State::Closed);
        }
        entry.state = new;
        entry.assured |= old != new && new == State::Established;
    }
    Verdict::Accept(renews.then(|| state_timeout(entry.state)))
}

fn state_timeout(state: State) -> Timeout {
    match state {
        State::CookieWait => Timeout::SctpCookieWait,
        State::CookieEchoed => Timeout::SctpCookieEchoed,
        State::Established => Timeout::SctpEstablished,
        State::ShutdownSent => Timeout::SctpShutdownSent,
        State::ShutdownRecd => Timeout::SctpShutdownRecd,
        State::ShutdownAckSent => Timeout::SctpShutdownAckSent,
        State::HeartbeatSent => Timeout::SctpHeartbeatSent,
        _ => Timeout::SctpClosed,
    }
}
