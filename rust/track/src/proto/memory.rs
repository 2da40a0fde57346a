//! The memory of an entry between packets, by protocol.

use serde::{Deserialize, Serialize};

use conntrack_decode::{LARGEST_SHIFT, Tcp, tcpflag};

use super::state::CtDir;

/// The class of a segment, first match wins; PSH, ECE and CWR do not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum TcpClass {
    /// SYN.
    Syn = 0,
    /// SYN with ACK.
    SynAck = 1,
    /// FIN.
    Fin = 2,
    /// ACK without SYN, FIN and RST.
    Ack = 3,
    /// RST.
    Rst = 4,
    /// None of SYN, FIN, RST and ACK.
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
    /// Largest window advertised; 0: nothing was seen of this end.
    pub max_win: u32,
    /// Highest acknowledgement sent, once `ack_set`.
    pub max_ack: u32,
    /// Window scale in force.
    pub scale: u8,
    /// The end offered window scaling.
    pub offers_scale: bool,
    /// The end permits SACK.
    pub sack_permitted: bool,
    /// Windows of the end are not enforced (picked up in mid-stream).
    pub liberal: bool,
    /// The end sent data that is not yet acknowledged.
    pub unacked: bool,
    /// `max_ack` is known.
    pub ack_set: bool,
    /// The end sent the FIN that began the close.
    pub close_init: bool,
}

impl TcpEnd {
    /// Apply the options of a SYN, which replace all earlier ones, except that the end is not judged. A SYN without
    /// options changes nothing.
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

    /// Apply the offer of a SYN.
    pub(super) fn accept(&mut self, offer: Offer) {
        self.offers_scale = offer.scale.is_some();
        self.scale = offer.scale.unwrap_or_default();
        self.sack_permitted = offer.sack_permitted;
    }
}

/// The options that a SYN offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The window scale, if offered.
    pub scale: Option<u8>,
    /// SACK is permitted.
    pub sack_permitted: bool,
}

impl Offer {
    /// The offer of a segment with options; None without options.
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
    /// Class of the last segment.
    pub last_class: TcpClass,
    /// Identical acknowledgements in a row.
    pub retrans: u8,
    /// Sequence number of the last acknowledgement, or of a segment let through.
    pub last_seq: u32,
    /// Acknowledgement number of the last acknowledgement.
    pub last_ack: u32,
    /// Sequence number after the last acknowledgement.
    pub last_end: u32,
    /// Window of the last acknowledgement.
    pub last_win: u16,
    /// The offer of the SYN that was ignored in the original direction.
    pub(crate) ignored_syn: Offer,
    pub(crate) challenge_expected: bool,
    pub(crate) simultaneous: bool,
}

impl TcpTrack {
    /// Test for a direction and window scales; for state from outside.
    pub(super) fn is_sound(&self) -> bool {
        let scales = self.ends.map(|end| end.scale);
        let offered = self.ignored_syn.scale.unwrap_or_default();
        self.last_dir <= 1 && scales.into_iter().chain([offered]).all(|scale| scale <= LARGEST_SHIFT)
    }

    /// Count identical segments in a row.
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
    /// The verification tag that each direction must carry; 0: unknown yet.
    pub(super) vtag: [u32; 2],
    /// The direction of a heartbeat with a foreign tag, whose acknowledgement may renew the tags.
    pub(super) foreign_heartbeat: Option<CtDir>,
}
