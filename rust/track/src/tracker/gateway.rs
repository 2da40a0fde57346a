//! The gateway's judgement of a connection's packet.

use crate::config::Rules;
use crate::connection::Connection;
use crate::flow::Side;
use crate::policy::Policy;
use crate::proto::{self, CtDir, CtState, State, Verdict};
use conntrack_base::time::SECOND;
use conntrack_decode::Packet;

/// The outcome of a step for a packet: `ctstate`, direction and the state after the packet.
pub(super) type Outcome = (CtState, CtDir, State);

pub(super) const INVALID: Outcome = (CtState::Invalid, CtDir::None, State::None);
/// The outcome of a packet that would have opened an entry, and may not by the gateway's policy: without a direction
/// within an entry.
pub(super) const REFUSED: Outcome = (CtState::New, CtDir::None, State::None);

/// The gateway's answer to a packet.
pub(super) enum Answer {
    /// The outcome, and the packet's side from the gateway's perspective.
    Outcome(Side, Outcome),
    /// The old entry is deleted, and this packet opens another.
    OpensAnew,
}

/// The most by which a packet may precede its connection's last packet and still count as captured late, nanoseconds.
const LATE: i64 = 60 * SECOND;

pub(super) fn ask_gateway(
    connection: &mut Connection,
    packet: &Packet,
    side: Side,
    ts: i64,
    (rules, policy): (&Rules, Option<&Policy>),
) -> Answer {
    // A fragment waits for the rest of its datagram.
    if !packet.complete || proto::untracked(packet) {
        return Answer::Outcome(side, (CtState::Untracked, CtDir::None, State::None));
    }
    let opened = connection.gateway.is_none();
    if opened {
        match proto::open(packet, side, ts, rules) {
            None => return Answer::Outcome(side, INVALID),
            Some(_) if connection.closed => return Answer::OpensAnew,
            entry => connection.gateway = entry,
        }
    }
    let Some(entry) = &mut connection.gateway else { return Answer::Outcome(side, INVALID) };
    // Both directions look alike; the kernel then finds the reply.
    let side = if !opened && connection.key.is_self() { entry.orig.other() } else { side };
    // A packet captured a little late does not shorten the deadline; a clock that was set back does.
    let late = connection.end.saturating_sub(ts);
    let ts = if (0..LATE).contains(&late) { connection.end } else { ts };
    let dir = entry.dir(side);
    let reply = dir == CtDir::Reply;
    let ctstate = if reply || entry.seen_reply { CtState::Established } else { CtState::New };
    let verdict = proto::step(entry, dir, packet, ts, rules);
    // A dropped packet's entry is never confirmed: the next packet finds nothing.
    if opened && verdict != Verdict::Invalid && policy.is_some_and(|policy| !policy.passes(&packet.tuple)) {
        connection.gateway = None;
        return Answer::Outcome(side, REFUSED);
    }
    let accepted = match verdict {
        Verdict::Reopen => return Answer::OpensAnew,
        Verdict::Invalid if opened => {
            connection.gateway = None;
            return Answer::Outcome(side, INVALID);
        }
        Verdict::Invalid => false,
        Verdict::Ignore | Verdict::Delete => true,
        Verdict::Accept(timeout) => {
            if let Some(timeout) = timeout {
                let (datagrams, bytes) = &mut entry.counted[usize::from(reply)];
                *datagrams += 1;
                *bytes += u64::from(packet.datagram_bytes);
                entry.timeout = timeout;
                entry.deadline = ts.saturating_add(rules.timeouts.get(timeout));
            }
            true
        }
    };
    entry.seen_reply |= reply && accepted;
    connection.status = entry.status();
    connection.closed = verdict == Verdict::Delete;
    if connection.closed {
        connection.gateway = None;
    }
    if verdict == Verdict::Invalid {
        return Answer::Outcome(side, INVALID);
    }
    connection.note_end(packet);
    Answer::Outcome(side, (ctstate, dir, connection.state()))
}

/// Ask the gateway, whose entries begin and end within the connection.
pub(super) fn ask_gateway_within(
    connection: &mut Connection,
    packet: &Packet,
    side: Side,
    ts: i64,
    rules: &Rules,
) -> (Side, Outcome) {
    if connection.gateway.as_ref().is_some_and(|entry| entry.deadline <= ts) {
        connection.gateway = None;
    }
    for _ in 0..2 {
        match ask_gateway(connection, packet, side, ts, (rules, None)) {
            Answer::Outcome(side, outcome) => return (side, outcome),
            Answer::OpensAnew => {
                connection.gateway = None;
                connection.closed = false;
            }
        }
    }
    (side, INVALID)
}
