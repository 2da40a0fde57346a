//! The same TCP connections with one kind of imperfection, as real networks and captures have.
//!
//! Every connection opens with a handshake and then has its rounds: a question, an answer, and an acknowledgement. All
//! connections take turns, so that two packets in a row seldom belong to one connection. No connection is closed.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use crate::frame::{Frame, Headers, Options, Transport, flags};
use crate::random::Random;

const START_MICROS: u64 = 1_700_000_000_000_000;
const OPENING_STEP_MICROS: u64 = 10;
const STEP_MICROS: u64 = 3;
const SERVER: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::new(203, 0, 113, 34)), 443);
const WINDOW: u16 = 60_000;
const QUESTION: &[u8] = &[b'x'; 100];
const ANSWER: &[u8] = &[b'y'; 200];
/// The round of [`Kind::Retransmission`], [`Kind::Loss`] and [`Kind::Reordering`], counted from 0.
const ONCE: u32 = 3;
/// Per cent of segments or pairs that [`Kind::Loss1`] and [`Kind::Reorder1`] touch.
const SHARE: u64 = 1;
/// One round in so many has a SACK block, and the first such round.
const SACK_ROUNDS: (u32, u32) = (10, 5);
/// Initial sequence numbers of originator and responder.
const FIRST_NUMBERS: (u32, u32) = (1_000, 5_000);
/// Initial sequence numbers of [`Kind::Wrap`]: both ends pass 2^32 after 30 rounds.
const LAST_NUMBERS: (u32, u32) = (u32::MAX - 2_999, u32::MAX - 5_999);

/// A kind of imperfection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No imperfection.
    Clean,
    /// One question in each connection is sent twice.
    Retransmission,
    /// One answer in each connection is missing.
    Loss,
    /// One answer in each connection is captured before its question.
    Reordering,
    /// One segment in a hundred is missing.
    Loss1,
    /// One answer in a hundred is captured before its question.
    Reorder1,
    /// One acknowledgement in ten has a SACK block.
    Sack,
    /// Connections without a handshake.
    MidStream,
    /// Sequence numbers that pass 2^32 in the first rounds.
    Wrap,
    /// Packets cut to 96 bytes.
    Snaplen,
}

impl Kind {
    /// Every kind under its name.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Clean, "clean"),
        (Self::Retransmission, "retransmission"),
        (Self::Loss, "loss"),
        (Self::Reordering, "reordering"),
        (Self::Loss1, "loss1"),
        (Self::Reorder1, "reorder1"),
        (Self::Sack, "sack"),
        (Self::MidStream, "mid-stream"),
        (Self::Wrap, "wrap"),
        (Self::Snaplen, "snaplen"),
    ];

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }

    /// Bytes that a capture keeps of each packet, where the kind cuts them.
    pub fn snaplen(self) -> Option<u32> {
        (self == Self::Snaplen).then_some(96)
    }
}

/// The traffic to make.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Kind of imperfection.
    pub kind: Kind,
    /// Number of connections.
    pub connections: u32,
    /// Rounds of question, answer and acknowledgement in each connection.
    pub rounds: u32,
    /// Equal plans give equal bytes.
    pub seed: u64,
}

/// A segment before its frame is built.
#[derive(Clone, Copy)]
struct Segment {
    from_client: bool,
    numbers: (u32, u32),
    flags: u8,
    payload: &'static [u8],
    options: Options,
}

/// The packets of a plan, in the order of their times.
pub struct Packets {
    plan: Plan,
    random: Random,
    /// Turns taken: a handshake of each connection, then a round of each connection, and so on.
    turns: u64,
    /// Segments of the current turn.
    segments: VecDeque<Segment>,
    micros: u64,
    sent: u64,
    frame: Frame,
}

impl Packets {
    /// Prepares the first turn.
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            random: Random::new(plan.seed),
            turns: 0,
            segments: VecDeque::new(),
            micros: START_MICROS,
            sent: 0,
            frame: Frame::default(),
        }
    }

    /// The next packet: microseconds since the epoch, and the frame.
    pub fn next_packet(&mut self) -> Option<(u64, &[u8])> {
        let connections = u64::from(self.plan.connections);
        while self.segments.is_empty() {
            if self.turns == connections * (1 + u64::from(self.plan.rounds)) {
                return None;
            }
            match (self.turns / connections) as u32 {
                0 => self.open(),
                round => self.talk(round - 1),
            }
            self.turns += 1;
        }
        let connection = ((self.turns - 1) % connections) as u32;
        let opening = self.turns <= connections;
        let segment = self.segments.pop_front()?;
        let at = self.micros;
        self.micros += if opening { OPENING_STEP_MICROS } else { STEP_MICROS };
        self.sent += 1;
        let mut ends = [client(connection), SERVER];
        if !segment.from_client {
            ends.swap(0, 1);
        }
        let headers = Headers {
            source: ends[0],
            destination: ends[1],
            ident: self.sent as u16,
            transport: Transport::Tcp {
                numbers: segment.numbers,
                flags: segment.flags,
                window: WINDOW,
                options: segment.options,
            },
        };
        Some((at, self.frame.build(&headers, segment.payload)))
    }

    /// Initial sequence numbers of originator and responder.
    fn first_numbers(&self) -> (u32, u32) {
        if self.plan.kind == Kind::Wrap { LAST_NUMBERS } else { FIRST_NUMBERS }
    }

    fn open(&mut self) {
        use flags::{ACK, SYN};
        if self.plan.kind == Kind::MidStream {
            return;
        }
        let (ours, theirs) = self.first_numbers();
        let (next, answered) = (ours.wrapping_add(1), theirs.wrapping_add(1));
        let segment =
            |from_client, flags, numbers, options| Segment { from_client, numbers, flags, payload: &[], options };
        self.segments.extend([
            segment(true, SYN, (ours, 0), Options::SackPermitted),
            segment(false, SYN | ACK, (theirs, next), Options::SackPermitted),
            segment(true, ACK, (next, answered), Options::None),
        ]);
    }

    fn talk(&mut self, round: u32) {
        use flags::{ACK, PSH};
        let kind = self.plan.kind;
        let (ours, theirs) = self.first_numbers();
        let [ours, asked] = [0, 1].map(|more| ours.wrapping_add(1 + (round + more) * QUESTION.len() as u32));
        let [theirs, answered] = [0, 1].map(|more| theirs.wrapping_add(1 + (round + more) * ANSWER.len() as u32));
        let sack = kind == Kind::Sack && round % SACK_ROUNDS.0 == SACK_ROUNDS.1;
        let block = Options::Sack(answered.wrapping_add(10), answered.wrapping_add(20));
        let segment = |from_client, flags, numbers, payload| Segment {
            from_client,
            numbers,
            flags,
            payload,
            options: Options::None,
        };
        let question = segment(true, PSH | ACK, (ours, theirs), QUESTION);
        let answer = segment(false, PSH | ACK, (theirs, asked), ANSWER);
        let acknowledgement = segment(true, ACK, (asked, answered), &[]);
        let options = if sack { block } else { Options::None };
        let mut segments = vec![question, answer, Segment { options, ..acknowledgement }];
        match kind {
            Kind::Retransmission if round == ONCE => segments.insert(1, question),
            Kind::Loss if round == ONCE => drop(segments.remove(1)),
            Kind::Reordering if round == ONCE => segments.swap(0, 1),
            Kind::Reorder1 if self.random.chance(SHARE) => segments.swap(0, 1),
            Kind::Loss1 => segments.retain(|_| !self.random.chance(SHARE)),
            _ => {}
        }
        self.segments.extend(segments);
    }
}

/// Address and port of the client of a connection.
fn client(connection: u32) -> (IpAddr, u16) {
    (Ipv4Addr::from_bits(10 << 24 | (connection & 0x00FF_FFFF)).into(), 1024 + (connection % 60_000) as u16)
}
