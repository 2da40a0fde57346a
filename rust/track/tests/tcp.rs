//! TCP's state machine, segment by segment, against the rules of nf_conntrack that need an unusual sequence: numbers
//! near the wrap, reuse of a closed connection, a segment let through and the answer to that segment.

use conntrack_base::time::SECOND;
use conntrack_decode::{L4, Packet, Tcp, ipproto, tcpflag};
use conntrack_track::config::{Config, Rules, Timeout};
use conntrack_track::flow::Side;
use conntrack_track::proto::tcp::choose_timeout;
use conntrack_track::proto::{CtDir, Gateway, State, TcpClass, Verdict, open, step};

const SYN: u8 = tcpflag::SYN;
const ACK: u8 = tcpflag::ACK;
const RST: u8 = tcpflag::RST;
const FIN_ACK: u8 = tcpflag::FIN | ACK;
const SYN_ACK: u8 = SYN | ACK;
const RST_ACK: u8 = RST | ACK;

/// Initial sequence numbers of the originator and the responder.
const ORIGINATOR: u32 = 1_000;
const RESPONDER: u32 = 9_000_000;

/// An entry and its verdicts.
struct Entry {
    gateway: Gateway,
    rules: Rules,
}

impl Entry {
    /// The entry of a SYN from the originator.
    fn opened(seq: u32) -> Self {
        let rules = Config::default().rules;
        let packet = segment(SYN, seq, 0);
        let mut entry = Self { gateway: open(&packet, Side::A, 0, &rules).expect("a SYN opens"), rules };
        assert_eq!(entry.original(SYN, seq, 0), Verdict::Accept(Some(Timeout::TcpSynSent)));
        entry
    }

    /// An established entry; both ends sent nothing but the handshake.
    fn established(originator: u32, responder: u32) -> Self {
        let mut entry = Self::opened(originator);
        let (next, answer) = (originator.wrapping_add(1), responder.wrapping_add(1));
        assert!(matches!(entry.reply(SYN_ACK, responder, next), Verdict::Accept(_)));
        assert_eq!(entry.gateway.state, State::SynRecv);
        assert!(matches!(entry.original(ACK, next, answer), Verdict::Accept(_)));
        assert_eq!((entry.gateway.state, entry.gateway.assured), (State::Established, true));
        entry
    }

    fn original(&mut self, flags: u8, seq: u32, ack: u32) -> Verdict {
        step(&mut self.gateway, CtDir::Original, &segment(flags, seq, ack), 0, &self.rules)
    }

    fn reply(&mut self, flags: u8, seq: u32, ack: u32) -> Verdict {
        let verdict = step(&mut self.gateway, CtDir::Reply, &segment(flags, seq, ack), 0, &self.rules);
        self.gateway.seen_reply |= matches!(verdict, Verdict::Accept(_));
        verdict
    }
}

fn segment(flags: u8, seq: u32, ack: u32) -> Packet {
    let l4 = L4::Tcp(Tcp { flags, seq, ack, window: 64_000, ..Tcp::default() });
    let mut packet = Packet { l4, packets: 1, complete: true, ..Packet::default() };
    packet.tuple.proto = ipproto::TCP;
    packet
}

#[test]
fn a_handshake_at_any_sequence_numbers() {
    let numbers = [0, 1, (1 << 31) - 1, 1 << 31, u32::MAX - 1, u32::MAX];
    for originator in numbers {
        for responder in numbers {
            Entry::established(originator, responder);
        }
    }
}

#[test]
fn a_repeated_syn_does_not_renew_the_timeout() {
    let mut entry = Entry::opened(ORIGINATOR);
    assert_eq!(entry.original(SYN, ORIGINATOR, 0), Verdict::Accept(None));
}

#[test]
fn a_syn_after_an_abort_by_the_same_end_opens_a_new_connection() {
    let mut entry = Entry::established(ORIGINATOR, RESPONDER);
    entry.original(RST, ORIGINATOR + 1, 0);
    assert_eq!(entry.gateway.state, State::Close);
    assert_eq!(entry.original(SYN, 500_000, 0), Verdict::Reopen);
}

/// The RST of the other end may be the answer to an earlier connection: the SYN is let through first.
#[test]
fn a_syn_after_an_abort_by_the_other_end_is_let_through() {
    let mut entry = Entry::established(ORIGINATOR, RESPONDER);
    entry.reply(RST, RESPONDER + 1, 0);
    assert_eq!(entry.gateway.state, State::Close);
    assert_eq!(entry.original(SYN, 500_000, 0), Verdict::Ignore);
    assert_eq!(entry.gateway.state, State::Close);
}

#[test]
fn only_the_acknowledgement_of_a_syn_let_through_restarts_the_entry() {
    let mut entry = Entry::established(ORIGINATOR, RESPONDER);
    assert_eq!(entry.original(SYN, 500_000, 0), Verdict::Ignore);
    let mut other = Entry { gateway: entry.gateway, rules: Config::default().rules };
    assert_eq!(other.reply(SYN_ACK, 70_000, 600_001), Verdict::Ignore);
    assert_eq!(other.gateway.state, State::Established);
    assert!(matches!(entry.reply(SYN_ACK, 70_000, 500_001), Verdict::Accept(_)));
    assert_eq!(entry.gateway.state, State::SynRecv);
}

#[test]
fn an_rst_that_answers_a_syn_let_through_closes_at_any_sequence_number() {
    let mut entry = Entry::established(ORIGINATOR, RESPONDER);
    assert_eq!(entry.original(SYN, 500_000, 0), Verdict::Ignore);
    let mut other = Entry { gateway: entry.gateway, rules: Config::default().rules };
    assert_eq!(other.reply(RST_ACK, 0, 500_002), Verdict::Invalid);
    assert!(matches!(entry.reply(RST_ACK, 0, 500_001), Verdict::Accept(_)));
    assert_eq!(entry.gateway.state, State::Close);
}

/// An acknowledgement of the last segment does not excuse a sequence number out of the window.
#[test]
fn an_rst_beyond_the_window_is_invalid_in_an_established_connection() {
    let mut entry = Entry::established(ORIGINATOR, RESPONDER);
    assert_eq!(entry.reply(RST_ACK, RESPONDER + 1_000_000, ORIGINATOR + 1), Verdict::Invalid);
    assert_eq!(entry.gateway.state, State::Established);
}

/// Such a connection lives on elsewhere, if at all.
#[test]
fn fins_out_of_the_window_from_both_ends_shorten_the_timeout() {
    const DAYS: i64 = 5 * 24 * 3600 * SECOND;
    let mut entry = Entry::established(ORIGINATOR, RESPONDER);
    (entry.gateway.timeout, entry.gateway.deadline) = (Timeout::TcpEstablished, DAYS);
    for _ in 0..2 {
        assert_eq!(entry.original(FIN_ACK, ORIGINATOR + 1_000_000, RESPONDER + 1), Verdict::Invalid);
        assert_eq!(entry.gateway.deadline, DAYS, "one end alone shortens nothing");
    }
    assert_eq!(entry.reply(FIN_ACK, RESPONDER + 1_000_000, ORIGINATOR + 1), Verdict::Invalid);
    assert_eq!((entry.gateway.timeout, entry.gateway.deadline), (Timeout::TcpUnacknowledged, 300 * SECOND));
}

#[test]
fn the_timeout_of_an_established_connection_by_its_last_segments() {
    let rules = Config::default().rules;
    let after = |acks, class| choose_timeout(acks, State::Established, class, &rules);
    assert_eq!(after((0, false, 64), TcpClass::Ack), Timeout::TcpEstablished);
    assert_eq!(after((0, false, 0), TcpClass::Ack), Timeout::TcpMaxRetrans, "a closed window");
    assert_eq!(after((0, true, 0), TcpClass::Ack), Timeout::TcpUnacknowledged);
    assert_eq!(after((3, true, 64), TcpClass::Ack), Timeout::TcpMaxRetrans, "the same acknowledgement again and again");
    assert_eq!(after((0, true, 0), TcpClass::Rst), Timeout::TcpClose);
}
