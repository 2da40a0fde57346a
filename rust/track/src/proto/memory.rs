//! The memory of an entry between packets, by protocol.

use serde::{Deserialize, Serialize};

use conntrack_decode::{Tcp, tcpflag};

use super::state::CtDir;

/// What a segment is, first match wins; PSH, ECE and CWR do not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum TcpClass {
    /// SYN.
    Syn = 0,
    /// SYN with ACK.
    SynAck = 1,
    /// FIN.
    Fin = 2,
    /// ACK and nothing else of these.
    Ack = 3,
    /// RST.
    Rst = 4,
    /// None of these.
    #[default]
    None = 5,
}

impl TcpClass {
    /// The class of a flag byte.
    #[inline]
    pub fn of(flags: u8) -> Self {
        if flags & tcpflag::RST != 0 {
            Self::Rst
        } else if flags & tcpflag::SYN != 0 {
            if flags & tcpflag::ACK != 0 { Self::SynAck } else { Self::Syn }
        } else if flags & tcpflag::FIN != 0 {
            Self::Fin
        } else if flags & tcpflag::ACK != 0 {
            Self::Ack
        } else {
            Self::None
        }
    }
}

/// One end of a TCP entry: numbers sent, and numbers that the peer allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
pub struct TcpEnd {
    /// Highest sequence number sent, plus one.
    pub end: u32,
    /// Highest sequence number that the peer allowed.
    pub max_end: u32,
    /// Largest window advertised; 0: nothing seen of this end.
    pub max_win: u32,
    /// Highest acknowledgement sent, once `ack_set`.
    pub max_ack: u32,
    /// Window scale in force.
    pub scale: u8,
    /// It offered window scaling.
    pub offers_scale: bool,
    /// It permits SACK.
    pub sack_permitted: bool,
    /// Its windows are not to be held against it (picked up in mid-stream).
    pub liberal: bool,
    /// It sent data that is not yet acknowledged.
    pub unacked: bool,
    /// `max_ack` is known.
    pub ack_set: bool,
    /// It sent the FIN that began the close.
    pub close_init: bool,
}

impl TcpEnd {
    /// Takes the options of a SYN: they speak for everything before them, except that the end is not judged. A SYN
    /// without any says nothing, and what was known stays.
    pub(super) fn take_options(&mut self, segment: &Tcp) {
        let Some(offer) = Offer::of(segment) else { return };
        *self = Self {
            end: self.end,
            max_end: self.max_end,
            max_win: self.max_win,
            max_ack: self.max_ack,
            liberal: self.liberal,
            ..Self::default()
        };
        self.accept(offer);
    }

    /// Takes over what a SYN offered.
    pub(super) fn accept(&mut self, offer: Offer) {
        self.offers_scale = offer.scale.is_some();
        self.scale = offer.scale.unwrap_or_default();
        self.sack_permitted = offer.sack_permitted;
    }
}

/// What the options of a SYN offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The scale of its windows, if it offers to scale them.
    pub scale: Option<u8>,
    /// It permits SACK.
    pub sack_permitted: bool,
}

impl Offer {
    /// The offer of a segment that has options at all.
    #[inline]
    pub fn of(segment: &Tcp) -> Option<Self> {
        let scale = segment.wscale.checked_sub(1);
        segment.has_options.then_some(Self { scale, sack_permitted: segment.sack_permitted })
    }
}

/// The memory of a TCP entry: the segments so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TcpTrack {
    /// The two ends, in the order of [`CtDir`].
    pub ends: [TcpEnd; 2],
    /// Direction of the last segment.
    pub last_dir: u8,
    /// What it was.
    pub last_class: TcpClass,
    /// Identical acknowledgements in a row.
    pub retrans: u8,
    /// Sequence number of the last acknowledgement, or of a segment let through.
    pub last_seq: u32,
    /// What it acknowledged.
    pub last_ack: u32,
    /// The number behind it.
    pub last_end: u32,
    /// Its window.
    pub last_win: u16,
    /// The SYN that was ignored in the original direction: what it offered.
    pub(crate) ignored_syn: Offer,
    pub(crate) challenge_expected: bool,
    pub(crate) simultaneous: bool,
}

impl TcpTrack {
    /// Counts identical segments in a row.
    pub(super) fn note_ack(&mut self, dir: CtDir, seq: u32, ack: u32, end: u32, window: u16) {
        let now = (dir as u8, seq, ack, end, window);
        if (self.last_dir, self.last_seq, self.last_ack, self.last_end, self.last_win) == now {
            // The kernel's counter is a byte, too.
            self.retrans = self.retrans.wrapping_add(1);
        } else {
            (self.last_dir, self.last_seq, self.last_ack, self.last_end, self.last_win) = now;
            self.retrans = 0;
        }
    }
}

/// The memory of an SCTP entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SctpTrack {
    /// The verification tag that each direction must carry; 0: not known yet.
    pub(super) vtag: [u32; 2],
    /// The direction of a heartbeat with a foreign tag, whose acknowledgement may renew the tags.
    pub(super) foreign_heartbeat: Option<CtDir>,
}
