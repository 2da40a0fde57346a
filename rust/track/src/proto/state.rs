//! The words of nf_conntrack: `ctstate` and direction of a packet, state of an entry, and the verdict on a packet.

use serde::{Deserialize, Serialize};

use crate::config::Timeout;

/// A packet's `ctstate`, in the words of nf_conntrack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CtState {
    /// It opened an entry, or its entry has seen no reply yet.
    New = 0,
    /// It belongs to an entry that has seen a reply, or is a reply.
    Established = 1,
    /// An ICMP error about an entry.
    Related = 2,
    /// It belongs to no entry and may not open one, or contradicts its entry.
    Invalid = 3,
    /// Not looked at: no IP, or neighbour discovery.
    Untracked = 4,
}

impl CtState {
    /// The names in the order of the numbers.
    pub const NAMES: [&'static str; 5] = ["NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"];
}

/// A packet's direction within its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum CtDir {
    /// Sent by the end whose packet made the entry.
    Original = 0,
    /// Sent by the other end.
    Reply = 1,
    /// No entry.
    None = 2,
}

impl CtDir {
    /// The names in the order of the numbers.
    pub const NAMES: [&'static str; 3] = ["ORIGINAL", "REPLY", "NONE"];

    /// The opposite direction.
    #[must_use]
    pub fn flip(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
            Self::None => Self::None,
        }
    }
}

/// The state of an entry, in the words of nf_conntrack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs, reason = "the words are nf_conntrack's; State::NAMES spells them")]
pub enum State {
    /// No entry.
    #[default]
    None = 0,
    SynSent,
    SynRecv,
    Established,
    FinWait,
    CloseWait,
    LastAck,
    TimeWait,
    Close,
    SynSent2,
    Closed,
    CookieWait,
    CookieEchoed,
    ShutdownSent,
    ShutdownRecd,
    ShutdownAckSent,
    HeartbeatSent,
    /// UDP and others: no reply yet.
    Unreplied,
    /// UDP and others: both ends have sent.
    Replied,
    /// UDP and others: a stream; kept when the table is full.
    Assured,
}

impl State {
    /// The state of a protocol without states of its own.
    #[inline]
    pub fn of_status(seen_reply: bool, assured: bool) -> Self {
        match (assured, seen_reply) {
            (true, _) => Self::Assured,
            (false, true) => Self::Replied,
            (false, false) => Self::Unreplied,
        }
    }

    /// What to report: for protocols without states of their own, what was seen: a reply, and that it is assured.
    #[inline]
    #[must_use]
    pub fn reported(self, (seen_reply, assured): (bool, bool)) -> Self {
        match self {
            Self::None => Self::of_status(seen_reply, assured),
            state => state,
        }
    }

    /// The names in the order of the numbers.
    pub const NAMES: [&'static str; 20] = [
        "NONE",
        "SYN_SENT",
        "SYN_RECV",
        "ESTABLISHED",
        "FIN_WAIT",
        "CLOSE_WAIT",
        "LAST_ACK",
        "TIME_WAIT",
        "CLOSE",
        "SYN_SENT2",
        "CLOSED",
        "COOKIE_WAIT",
        "COOKIE_ECHOED",
        "SHUTDOWN_SENT",
        "SHUTDOWN_RECD",
        "SHUTDOWN_ACK_SENT",
        "HEARTBEAT_SENT",
        "UNREPLIED",
        "REPLIED",
        "ASSURED",
    ];
}

/// What the gateway does with a packet of an existing entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Accepted. The entry is updated; with a timeout, it runs anew.
    Accept(Option<Timeout>),
    /// Accepted with its entry, but neither state nor timeout changes.
    Ignore,
    /// It contradicts the entry, which stays as it was.
    Invalid,
    /// Accepted, and the entry is deleted at once.
    Delete,
    /// The entry is over and this packet opens a new one.
    Reopen,
}
