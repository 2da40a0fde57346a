//! The vocabulary of nf_conntrack: `ctstate` and direction of a packet, state of an entry, and the verdict on a packet.

use serde::{Deserialize, Serialize};

use crate::config::Timeout;

conntrack_base::words! {
    /// A packet's `ctstate`, in nf_conntrack's terms.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum CtState {
        /// The packet opened an entry, or its entry has seen no reply yet.
        New = "NEW",
        /// The packet is a reply, or its entry has seen a reply.
        Established = "ESTABLISHED",
        /// An ICMP error about an entry.
        Related = "RELATED",
        /// The packet has no entry and may not open one, or contradicts its entry.
        Invalid = "INVALID",
        /// Not tracked: no IP, or neighbour discovery.
        Untracked = "UNTRACKED",
    }
}

conntrack_base::words! {
    /// A packet's direction within its entry.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub enum CtDir {
        /// Sent by the end whose packet made the entry.
        Original = "ORIGINAL",
        /// Sent by the other end.
        Reply = "REPLY",
        /// No entry.
        None = "NONE",
    }
}

impl CtDir {
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

conntrack_base::words! {
    /// The state of an entry, in nf_conntrack's terms.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    #[allow(missing_docs, reason = "the words are nf_conntrack's; State::NAMES spells them")]
    pub enum State {
        /// No entry.
        #[default]
        None = "NONE",
        SynSent = "SYN_SENT",
        SynRecv = "SYN_RECV",
        Established = "ESTABLISHED",
        FinWait = "FIN_WAIT",
        CloseWait = "CLOSE_WAIT",
        LastAck = "LAST_ACK",
        TimeWait = "TIME_WAIT",
        Close = "CLOSE",
        SynSent2 = "SYN_SENT2",
        Closed = "CLOSED",
        CookieWait = "COOKIE_WAIT",
        CookieEchoed = "COOKIE_ECHOED",
        ShutdownSent = "SHUTDOWN_SENT",
        ShutdownRecd = "SHUTDOWN_RECD",
        ShutdownAckSent = "SHUTDOWN_ACK_SENT",
        HeartbeatSent = "HEARTBEAT_SENT",
        /// UDP and others: no reply yet.
        Unreplied = "UNREPLIED",
        /// UDP and others: both ends have sent.
        Replied = "REPLIED",
        /// UDP and others: a stream, which survives early drop.
        Assured = "ASSURED",
    }
}

impl State {
    /// Test for a state of TCP's entries.
    pub fn is_tcp(self) -> bool {
        matches!(
            self,
            Self::None
                | Self::SynSent
                | Self::SynRecv
                | Self::Established
                | Self::FinWait
                | Self::CloseWait
                | Self::LastAck
                | Self::TimeWait
                | Self::Close
                | Self::SynSent2
        )
    }

    /// Test for a state of SCTP's entries.
    pub fn is_sctp(self) -> bool {
        let others = [Self::Unreplied, Self::Replied, Self::Assured];
        matches!(self, Self::None | Self::Established) || !(self.is_tcp() || others.contains(&self))
    }

    /// The state of a stateless protocol's entry.
    #[inline]
    pub fn of_status(seen_reply: bool, assured: bool) -> Self {
        match (assured, seen_reply) {
            (true, _) => Self::Assured,
            (false, true) => Self::Replied,
            (false, false) => Self::Unreplied,
        }
    }

    /// The state to report; for stateless protocols, derived from seen reply and assured.
    #[inline]
    #[must_use]
    pub fn reported(self, Status { seen_reply, assured }: Status) -> Self {
        match self {
            Self::None => Self::of_status(seen_reply, assured),
            state => state,
        }
    }
}

/// The status bits of an entry, as in the kernel's `enum ip_conntrack_status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// A reply was accepted (`IPS_SEEN_REPLY`).
    pub seen_reply: bool,
    /// The entry survives early drop (`IPS_ASSURED`).
    pub assured: bool,
}

/// The gateway's verdict on a packet of an existing entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Accepted. The entry is updated; a timeout starts anew.
    Accept(Option<Timeout>),
    /// Accepted with its entry; neither state nor timeout changes.
    Ignore,
    /// Contradicts the entry, which stays unchanged.
    Invalid,
    /// Accepted, and the entry is deleted at once.
    Delete,
    /// The entry is over and this packet opens a new one.
    Reopen,
}
