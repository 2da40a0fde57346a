//! One record of a log, in the terms that all kinds share.

use conntrack_core::connection::{EndReason, Evidence};
use conntrack_core::decode::{FiveTuple, Vlan};
use conntrack_core::proto::State;
use conntrack_core::rows::HistoryLetters;
use conntrack_core::rows::told::Nat;
use conntrack_core::zeek::ConnState;

/// TCP flags of a record (RFC 9293 section 3.1).
pub mod tcp {
    /// FIN.
    pub const FIN: u8 = 1;
    /// SYN.
    pub const SYN: u8 = 2;
    /// RST.
    pub const RST: u8 = 4;
    /// ACK.
    pub const ACK: u8 = 16;
}

/// Packets and bytes of one direction. `bytes` are those from the IP header on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Counts {
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { packets: self.packets.saturating_add(other.packets), bytes: self.bytes.saturating_add(other.bytes) }
    }

    /// The larger of each.
    #[must_use]
    pub fn most(self, other: Self) -> Self {
        Self { packets: self.packets.max(other.packets), bytes: self.bytes.max(other.bytes) }
    }
}

/// The word of the log about who initiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Says {
    /// Nothing.
    #[default]
    Nothing,
    /// The source is the originator.
    Source,
    /// The source is the originator, whose opening was recorded.
    Began,
}

/// The end at which a record's packets were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// On arrival, at the receiver.
    Receiver,
    /// On leaving, at the sender.
    Sender,
    /// At the observer, wherever it is.
    Observer,
}

/// A record that speaks of some packets of a connection: a window, a state, one direction.
#[derive(Clone, Debug)]
pub struct Flow {
    /// From sender to receiver; ICMP has its type and code.
    pub tuple: FiveTuple,
    /// False where the log has no type and code of ICMP.
    pub typed: bool,
    /// Time of the first packet, nanoseconds.
    pub start: i64,
    /// Time of the last packet, nanoseconds.
    pub end: i64,
    /// Counts of the sender and of the receiver; None: the record does not speak of that direction.
    pub sent: [Option<Counts>; 2],
    /// False where the record counts nothing.
    pub counted: bool,
    /// TCP flags of both directions; None: not logged.
    pub flags: [Option<u8>; 2],
    /// The flags are an OR of all packets, so that the ACK of a later packet stands beside the SYN.
    pub blended: bool,
    /// The word about who initiated.
    pub says: Says,
    /// The refusal.
    pub refused: Option<Refused>,
    /// Number of the observer: 0: not named.
    pub observer: u32,
    /// One of so many packets is counted; 0: an unknown part.
    pub sampled: Option<u32>,
}

/// A record that speaks of a whole connection, from the originator to the responder.
#[derive(Clone, Debug)]
pub struct Whole {
    /// The five-tuple; ICMP has its types.
    pub tuple: FiveTuple,
    /// Time of the first packet, nanoseconds, or `UNTIMED`.
    pub start: i64,
    /// Time of the last packet, in the same way.
    pub end: i64,
    /// Packets and bytes from the IP header on.
    pub sent: [Option<Counts>; 2],
    /// Bytes above the transport header.
    pub payload: [Option<u64>; 2],
    /// Evidence for the originator.
    pub evidence: Evidence,
    /// The first packet was the responder's; None: not known.
    pub flipped: Option<bool>,
    /// Zeek's history.
    pub history: Option<HistoryLetters>,
    /// Letters that the log's flags imply, for the ladder alone.
    pub letters: HistoryLetters,
    /// Zeek's state.
    pub conn_state: Option<ConnState>,
    /// Conntrack's state.
    pub state: Option<State>,
    /// ASSURED.
    pub assured: Option<bool>,
    /// Both ends sent, as the log says; None: by the counts, if they are known.
    pub replied: Option<bool>,
    /// Reason for the end.
    pub end_reason: Option<EndReason>,
    /// The end (0: originator) that refused.
    pub refused: Option<usize>,
    /// VLAN tags.
    pub vlan: Vlan,
    /// Number of the observer; 0: not named.
    pub observer: u32,
    /// Records of the log.
    pub records: u32,
    /// The translation, by side.
    pub nat: Option<Nat>,
}

impl Whole {
    /// A connection of which nothing but its ends and times is known.
    pub fn new(tuple: FiveTuple, start: i64, end: i64, evidence: Evidence) -> Self {
        Self {
            tuple,
            start,
            end,
            sent: [None; 2],
            payload: [None; 2],
            evidence,
            flipped: None,
            history: None,
            letters: ([0; 31], 0),
            conn_state: None,
            state: None,
            assured: None,
            replied: None,
            end_reason: None,
            refused: None,
            vlan: Vlan::default(),
            observer: 0,
            records: 1,
            nat: None,
        }
    }
}

/// Letters of a history.
pub fn letters(text: &[u8]) -> HistoryLetters {
    let mut letters = [0; 31];
    let len = text.len().min(letters.len());
    letters[..len].copy_from_slice(&text[..len]);
    (letters, len as u8)
}
