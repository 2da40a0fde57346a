//! SCTP as Linux nf_conntrack sees it: states from chunk types (RFC 9260), as measured on kernel 6.18.

use super::entry::{CtDir, Gateway, State, Track as ProtoTrack};
use crate::config::Timeout;
use crate::decode::{L4, Packet};

use super::Verdict;

/// Chunk types that matter, RFC 9260 section 3.2.
mod chunk {
    pub(super) const INIT: u8 = 1;
    pub(super) const INIT_ACK: u8 = 2;
    pub(super) const HEARTBEAT: u8 = 4;
    pub(super) const HEARTBEAT_ACK: u8 = 5;
    pub(super) const ABORT: u8 = 6;
    pub(super) const SHUTDOWN: u8 = 7;
    pub(super) const SHUTDOWN_ACK: u8 = 8;
    pub(super) const COOKIE_ECHO: u8 = 10;
    pub(super) const COOKIE_ACK: u8 = 11;
    pub(super) const SHUTDOWN_COMPLETE: u8 = 14;
}

/// The verification tag that each direction must carry; 0: not known yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Track {
    vtag: [u32; 2],
}

/// The chunk that decides: the first of those with a meaning, in the order of their types.
fn deciding_chunk(first: u8, chunks: u32) -> u8 {
    const MEANING: u32 = 1 << chunk::INIT
        | 1 << chunk::INIT_ACK
        | 1 << chunk::HEARTBEAT
        | 1 << chunk::HEARTBEAT_ACK
        | 1 << chunk::ABORT
        | 1 << chunk::SHUTDOWN
        | 1 << chunk::SHUTDOWN_ACK
        | 1 << chunk::COOKIE_ECHO
        | 1 << chunk::COOKIE_ACK
        | 1 << chunk::SHUTDOWN_COMPLETE;
    let meaningful = chunks & MEANING;
    if meaningful == 0 { first } else { meaningful.trailing_zeros() as u8 }
}

/// The memory of an entry that this packet opens: INIT or HEARTBEAT.
pub(super) fn open(packet: &Packet) -> Option<Track> {
    let L4::Sctp { chunk: first, chunks, vtag, init_tag } = packet.l4 else { return None };
    match deciding_chunk(first, chunks) {
        chunk::INIT if vtag == 0 => Some(Track { vtag: [0, init_tag] }),
        chunk::HEARTBEAT => Some(Track { vtag: [vtag, 0] }),
        _ => None,
    }
}

/// Judges a packet; see [`super::step`].
pub(super) fn step(entry: &mut Gateway, dir: CtDir, packet: &Packet) -> Verdict {
    let ProtoTrack::Sctp(mut track) = entry.track else { return Verdict::Invalid };
    let L4::Sctp { chunk: first, chunks, vtag, init_tag } = packet.l4 else { return Verdict::Invalid };
    let kind = deciding_chunk(first, chunks);
    let (own, peer) = (dir as usize, dir.flip() as usize);
    let tag_fits = match kind {
        chunk::INIT => vtag == 0,
        chunk::ABORT | chunk::SHUTDOWN_COMPLETE => vtag == track.vtag[own] || vtag == track.vtag[peer],
        chunk::HEARTBEAT | chunk::HEARTBEAT_ACK if track.vtag[own] == 0 => {
            track.vtag[own] = vtag;
            true
        }
        _ => vtag == track.vtag[own],
    };
    if !tag_fits {
        return Verdict::Invalid;
    }
    let old = entry.state;
    let Some(new) = next_state(kind, dir, old) else { return Verdict::Invalid };
    if matches!(kind, chunk::INIT | chunk::INIT_ACK) {
        track.vtag[peer] = init_tag;
    }
    entry.track = ProtoTrack::Sctp(track);
    entry.state = new;
    if old == State::CookieEchoed && new == State::Established {
        entry.assured = true;
    }
    if old == State::Closed && kind == chunk::INIT {
        return Verdict::Accept(None);
    }
    Verdict::Accept(Some(state_timeout(new)))
}

fn next_state(kind: u8, dir: CtDir, old: State) -> Option<State> {
    use State as S;
    let original = dir == CtDir::Original;
    Some(match kind {
        chunk::INIT => match old {
            S::None | S::Closed | S::CookieWait if original => S::Closed,
            S::None | S::HeartbeatSent => S::Closed,
            state => state,
        },
        chunk::INIT_ACK => match old {
            S::Closed if !original => S::CookieWait,
            S::None | S::Closed => return None,
            state => state,
        },
        chunk::ABORT | chunk::SHUTDOWN_COMPLETE if old == S::None => return None,
        chunk::ABORT => S::Closed,
        chunk::SHUTDOWN => match old {
            S::Established if original => S::ShutdownSent,
            S::Established => S::ShutdownRecd,
            S::None | S::Closed => return None,
            state => state,
        },
        chunk::SHUTDOWN_ACK => match old {
            S::ShutdownSent | S::ShutdownRecd | S::ShutdownAckSent => S::ShutdownAckSent,
            S::None | S::Closed => return None,
            state => state,
        },
        chunk::SHUTDOWN_COMPLETE => match old {
            S::ShutdownAckSent => S::Closed,
            state => state,
        },
        chunk::COOKIE_ECHO => match old {
            S::CookieWait if original => S::CookieEchoed,
            S::None | S::Closed => return None,
            state => state,
        },
        chunk::COOKIE_ACK => match old {
            S::CookieEchoed if !original => S::Established,
            S::None | S::Closed => return None,
            state => state,
        },
        chunk::HEARTBEAT => match old {
            S::None => S::HeartbeatSent,
            state => state,
        },
        chunk::HEARTBEAT_ACK => match old {
            S::HeartbeatSent if !original => S::Established,
            S::None => return None,
            state => state,
        },
        // DATA, SACK, ERROR and the rest keep the state, and open nothing.
        _ if old == S::None => return None,
        _ => old,
    })
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
