//! Zeek's view of a connection: `history` letters and `conn_state`.
//!
//! Source: Zeek's conn.log documentation. Letters: s SYN, h SYN+ACK, a pure ACK, d payload, f FIN, r RST, i FIN+RST,
//! q SYN with FIN or RST, c bad checksum, ^ first packet sent by the responder; upper case is the originator's.

use crate::decode::{L4, Packet, tcpflag};

use super::key::Side;

/// How many letters are kept; a connection with more keeps its first ones.
const LETTERS: usize = 22;

/// What one end has done, in the steps that Zeek's TCP analyzer tells apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    Inactive,
    SynSent,
    SynAckSent,
    Partial,
    Established,
    Closed,
    Reset,
}

/// The letters and what `conn_state` is judged from.
#[derive(Clone, Copy, Debug, Default)]
pub struct History {
    /// Letters in order of appearance; upper case: sent by side A, whoever turns out to be the originator.
    letters: [u8; LETTERS],
    len: u8,
    ends: [End; 2],
    /// Sequence number under which s, h, f and r were last noted, by side.
    marked: [[Option<u32>; 4]; 2],
}

impl History {
    /// Notes a packet from `side`.
    pub fn note(&mut self, packet: &Packet, side: Side) {
        if packet.bad_checksum {
            self.once(b'c', side);
            return;
        }
        if let L4::Tcp(segment) = packet.l4 {
            self.note_tcp(segment.flags, segment.seq, packet.payload_bytes > 0, side);
        } else if packet.payload_bytes > 0 && matches!(packet.l4, L4::Udp) {
            self.once(b'd', side);
        }
    }

    fn note_tcp(&mut self, flags: u8, seq: u32, data: bool, side: Side) {
        let syn = flags & tcpflag::SYN != 0;
        let ack = flags & tcpflag::ACK != 0;
        let fin = flags & tcpflag::FIN != 0;
        let rst = flags & tcpflag::RST != 0;
        if syn && (fin || rst) {
            self.once(b'q', side);
        } else if fin && rst {
            self.once(b'i', side);
        } else if syn {
            self.mark(usize::from(ack), if ack { b'h' } else { b's' }, seq, side);
        }
        if data {
            self.once(b'd', side);
        } else if ack && !syn && !fin && !rst {
            self.once(b'a', side);
        }
        if fin && !rst && !syn {
            self.mark(2, b'f', seq, side);
        }
        if rst && !fin && !syn {
            self.mark(3, b'r', seq, side);
        }
        self.advance(flags, side);
    }

    fn advance(&mut self, flags: u8, side: Side) {
        let syn = flags & tcpflag::SYN != 0;
        let ack = flags & tcpflag::ACK != 0;
        let (own, peer) = (side as usize, side.other() as usize);
        let before = self.ends[own];
        self.ends[own] = match before {
            _ if flags & tcpflag::RST != 0 => End::Reset,
            End::Reset => End::Reset,
            _ if flags & tcpflag::FIN != 0 => End::Closed,
            End::Closed => End::Closed,
            End::Inactive if syn && ack && self.ends[peer] == End::SynSent => {
                self.ends[peer] = End::Established;
                End::Established
            }
            End::Inactive if syn && ack => End::SynAckSent,
            End::Inactive if syn => End::SynSent,
            End::Inactive => {
                if self.ends[peer] == End::SynAckSent {
                    self.ends[peer] = End::Established;
                    End::Established
                } else {
                    End::Partial
                }
            }
            End::SynSent if ack && self.ends[peer] != End::Inactive => End::Established,
            state => state,
        };
    }

    /// Notes a letter the first time this end does it.
    fn once(&mut self, letter: u8, side: Side) {
        let letter = cased(letter, side);
        if !self.letters().contains(&letter) {
            self.push(letter);
        }
    }

    /// Notes a letter again only under another sequence number.
    fn mark(&mut self, kind: usize, letter: u8, seq: u32, side: Side) {
        if self.marked[side as usize][kind].replace(seq) != Some(seq) {
            self.push(cased(letter, side));
        }
    }

    fn push(&mut self, letter: u8) {
        if let Some(place) = self.letters.get_mut(self.len as usize) {
            *place = letter;
            self.len += 1;
        }
    }

    fn letters(&self) -> &[u8] {
        &self.letters[..self.len as usize]
    }

    /// The history as Zeek writes it, for this originator.
    pub fn text(&self, orig: Side, flipped: bool) -> String {
        let swap = |letter: &u8| {
            if orig == Side::A { *letter } else { letter ^ 0x20 }
        };
        let caret = flipped.then_some('^');
        caret.into_iter().chain(self.letters().iter().map(|letter| swap(letter) as char)).collect()
    }

    /// Zeek's conn_state for TCP.
    pub fn tcp_state(&self, orig: Side) -> ConnState {
        let o = self.ends[orig as usize];
        let r = self.ends[orig.other() as usize];
        match (o, r) {
            (End::SynSent | End::SynAckSent, End::Reset) => ConnState::Rej,
            (End::Inactive, End::Reset) => ConnState::Rstrh,
            (_, End::Reset) => ConnState::Rstr,
            (End::Reset, End::Inactive) if self.syn_then_reset(orig) => ConnState::Rstos0,
            (End::Reset, End::Inactive) => ConnState::Oth,
            (End::Reset, _) => ConnState::Rsto,
            (End::Closed, End::Closed) => ConnState::Sf,
            (End::Closed, End::Inactive) => ConnState::Sh,
            (End::Closed, _) => ConnState::S2,
            (End::Inactive, End::Closed) => ConnState::Shr,
            (_, End::Closed) => ConnState::S3,
            (End::SynSent, End::Inactive) => ConnState::S0,
            (End::Established, End::Established) => ConnState::S1,
            _ => ConnState::Oth,
        }
    }

    /// Zeek's `^?S[^HAFGIQ]*R`.
    fn syn_then_reset(&self, orig: Side) -> bool {
        let text = self.text(orig, false);
        let Some(rest) = text.strip_prefix('S') else { return false };
        rest.find('R').is_some_and(|end| !rest[..end].contains(['H', 'A', 'F', 'G', 'I', 'Q']))
    }
}

fn cased(letter: u8, side: Side) -> u8 {
    if side == Side::A { letter.to_ascii_uppercase() } else { letter }
}

/// Zeek's conn_state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the words are Zeek's; ConnState::NAMES spells them")]
pub enum ConnState {
    S0,
    S1,
    Sf,
    Rej,
    S2,
    S3,
    Rsto,
    Rstr,
    Rstos0,
    Rstrh,
    Sh,
    Shr,
    Oth,
}

impl ConnState {
    /// The words in the order of the numbers.
    pub const NAMES: [&'static str; 13] =
        ["S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH"];

    /// For UDP: who has sent.
    pub fn of_activity(orig: bool, resp: bool) -> Self {
        match (orig, resp) {
            (true, true) => Self::Sf,
            (true, false) => Self::S0,
            (false, true) => Self::Shr,
            (false, false) => Self::Oth,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Tcp;

    fn run(packets: &[(Side, u8, u32, u32)]) -> History {
        let mut history = History::default();
        for (side, flags, seq, payload_bytes) in packets {
            let l4 = L4::Tcp(Tcp { flags: *flags, seq: *seq, ..Tcp::default() });
            history.note(&Packet { l4, payload_bytes: *payload_bytes, ..Packet::default() }, *side);
        }
        history
    }

    #[test]
    fn a_whole_connection() {
        let history = run(&[
            (Side::B, 2, 1, 0),
            (Side::A, 18, 1, 0),
            (Side::B, 16, 2, 0),
            (Side::B, 24, 2, 9),
            (Side::A, 16, 2, 0),
            (Side::A, 24, 2, 99),
            (Side::B, 17, 11, 0),
            (Side::A, 17, 101, 0),
        ]);
        assert_eq!(history.text(Side::B, false), "ShADadFf");
        assert_eq!(history.tcp_state(Side::B), ConnState::Sf);
        assert_eq!(history.text(Side::A, true), "^sHadADfF");
    }

    #[test]
    fn attempts() {
        let syn = (Side::A, 2, 1, 0);
        assert_eq!(run(&[syn]).tcp_state(Side::A), ConnState::S0);
        let refused = run(&[syn, (Side::B, 20, 0, 0)]);
        assert_eq!(refused.tcp_state(Side::A), ConnState::Rej);
        assert_eq!(refused.text(Side::A, false), "Sr");
        assert_eq!(run(&[syn, (Side::A, 4, 2, 0)]).tcp_state(Side::A), ConnState::Rstos0);
        assert_eq!(run(&[syn, (Side::B, 18, 7, 0)]).tcp_state(Side::A), ConnState::S1);
        assert_eq!(run(&[(Side::B, 18, 7, 0), (Side::B, 20, 8, 0)]).tcp_state(Side::A), ConnState::Rstrh);
    }

    #[test]
    fn letters_are_bounded() {
        let packets: Vec<_> = (0..100).map(|seq| (Side::A, 2, seq, 0)).collect();
        assert_eq!(run(&packets).text(Side::A, false).len(), LETTERS);
    }
}
