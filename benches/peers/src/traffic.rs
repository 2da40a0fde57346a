//! Generated connections with payloads and timing, interleaved in time.

use std::cmp::Reverse;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::frame::{Frame, Headers, Options, Transport, flags};
use crate::random::Random;

/// Time of the first packets, in seconds since the epoch.
const EPOCH: u64 = 1_700_000_000;
/// As many servers are talked to.
const SERVERS: u64 = 20_000;
/// A connection of fewer packets has nothing to wait for.
const FEW: u32 = 4;
/// Connections of more packets are TCP.
const LONGEST_DATAGRAMS: u32 = 64;
const MSS: u64 = 1448;
const OPENING_WINDOW: u16 = 64_240;
/// In units of the window scale.
const WINDOW: u16 = 502;
/// Bytes that begin no protocol that anybody knows.
const FILLER: [u8; MSS as usize] = [0xA5; MSS as usize];
const ECHOED: usize = 56;
const MOST_ANSWERS: u64 = 12;

/// Kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Connections of Zipf's sizes, 2 packets at least; headers, halves of segments, and whole ones.
    Imix,
    /// Connections of two packets.
    Scan,
}

/// Plan of the traffic.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Number of packets, at least two for each connection; a scan has exactly two.
    pub packets: u64,
    /// Number of connections.
    pub connections: u32,
    /// Approximate duration.
    pub seconds: u32,
    /// Equal plans give equal bytes.
    pub seed: u64,
    /// Kind of traffic.
    pub shape: Shape,
}

impl Plan {
    /// Packets of each connection: Zipf's law by rank, in random order.
    fn sizes(&self) -> Vec<u32> {
        let mut sizes = vec![2u32; self.connections as usize];
        if self.shape == Shape::Scan {
            return sizes;
        }
        let of_rank = |scale: f64, rank: usize| ((scale / (rank + 1) as f64) as u32).max(2);
        let (mut low, mut high) = (0.0, self.packets as f64);
        for _ in 0..64 {
            let scale = f64::midpoint(low, high);
            let total: u64 = (0..sizes.len()).map(|rank| u64::from(of_rank(scale, rank))).sum();
            *(if total > self.packets { &mut high } else { &mut low }) = scale;
        }
        for (rank, size) in sizes.iter_mut().enumerate() {
            *size = of_rank(low, rank);
        }
        // What rounding left goes to the largest.
        let total: u64 = sizes.iter().map(|&size| u64::from(size)).sum();
        let count = sizes.len();
        for place in 0..self.packets.saturating_sub(total) as usize {
            sizes[place % count] += 1;
        }
        let mut random = Random::new(self.seed);
        for place in (1..count).rev() {
            sizes.swap(place, random.below(place as u64 + 1) as usize);
        }
        sizes
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Dns,
    Echo,
}

/// Constants of a connection, drawn anew for each packet, which saves memory.
struct Identity {
    kind: Kind,
    /// Originator and responder.
    ends: [(IpAddr, u16); 2],
    /// Sender of the RST, where the connection ends with one.
    reset: Option<usize>,
    /// For names and numbers of messages.
    mark: u32,
}

impl Identity {
    fn of(plan: &Plan, number: u32, size: u32) -> Self {
        let mut random = Random::of(plan.seed, u64::from(number));
        let scan = plan.shape == Shape::Scan;
        let kind = match random.below(100) {
            share if scan => [Kind::Tcp, Kind::Dns][usize::from(share < 50)],
            _ if size > LONGEST_DATAGRAMS => Kind::Tcp,
            ..5 => Kind::Echo,
            5..35 => Kind::Dns,
            _ => Kind::Tcp,
        };
        let v6 = random.chance(20);
        let local = random.bits();
        let remote = if scan { random.bits() } else { Random::of(!plan.seed, random.below(SERVERS)).bits() };
        let service = match (kind, random.below(10)) {
            (Kind::Tcp, _) if scan => 1 + random.below(65_000) as u16,
            (Kind::Tcp, ..6) => 443,
            (Kind::Tcp, 6..8) => 80,
            (Kind::Tcp, 8) => 22,
            (Kind::Tcp, _) => 8080,
            (Kind::Dns, _) => 53,
            (Kind::Echo, _) => 0,
        };
        let (mut initiator, mut server) = (local_address(v6, local), remote_address(v6, remote));
        if random.chance(20) {
            std::mem::swap(&mut initiator, &mut server);
        }
        Self {
            kind,
            ends: [(initiator, 1024 + random.below(64_000) as u16), (server, service)],
            reset: (random.below(8) == 0).then(|| random.below(2) as usize),
            mark: random.bits() as u32,
        }
    }
}

fn local_address(v6: bool, host: u64) -> IpAddr {
    if v6 {
        return Ipv6Addr::from_bits(0x2001_0DB8_0001 << 80 | u128::from(host)).into();
    }
    Ipv4Addr::from_bits(10 << 24 | (host as u32 & 0x00FF_FFFF)).into()
}

fn remote_address(v6: bool, host: u64) -> IpAddr {
    if v6 {
        return Ipv6Addr::from_bits(0x2600_0140 << 96 | u128::from(host)).into();
    }
    Ipv4Addr::from_bits((20 + (host >> 32) as u32 % 150) << 24 | (host as u32 & 0x00FF_FFFF)).into()
}

/// Mutable state of a connection.
struct Live {
    random: Random,
    size: u32,
    sent: u32,
    /// Source of gaps; drawn once in advance, so that the gaps fill the duration of the connection.
    clock: Random,
    /// Microseconds for a unit of [`gap`].
    pace: f64,
    /// Next sequence numbers of originator and responder.
    numbers: [u32; 2],
    /// Last timestamps of originator and responder.
    stamps: [u32; 2],
}

/// The packets of a plan, in the order of their times.
pub struct Packets {
    plan: Plan,
    live: Vec<Live>,
    /// The time of each connection's next packet, in microseconds from the start.
    due: BinaryHeap<Reverse<(u64, u32)>>,
    frame: Frame,
    payload: Vec<u8>,
}

impl Packets {
    /// Prepares every connection.
    pub fn new(plan: Plan) -> Self {
        let whole = f64::from(plan.seconds) * 1e6;
        let mut due = Vec::with_capacity(plan.connections as usize);
        let mut live = Vec::with_capacity(plan.connections as usize);
        for (number, size) in plan.sizes().into_iter().enumerate() {
            let mut random = Random::of(plan.seed.rotate_left(32), number as u64);
            let start = whole * 0.8 * random.unit();
            let lasts = (whole - start) * (0.2 + 0.8 * random.unit());
            let numbers = [random.bits() as u32, random.bits() as u32];
            let clock = Random::new(random.bits());
            let mut ahead = clock.clone();
            let units: f64 = (1..size).map(|_| gap(&mut ahead, size)).sum();
            let pace = if size < FEW { 1.0 } else { lasts / units };
            due.push(Reverse((start as u64, number as u32)));
            live.push(Live { random, size, sent: 0, clock, pace, numbers, stamps: [0; 2] });
        }
        Self { plan, live, due: due.into(), frame: Frame::default(), payload: Vec::new() }
    }

    /// The next packet: microseconds since the epoch, and the frame.
    pub fn next_packet(&mut self) -> Option<(u64, &[u8])> {
        let mut head = self.due.peek_mut()?;
        let Reverse((at, number)) = *head;
        let one = &mut self.live[number as usize];
        let identity = Identity::of(&self.plan, number, one.size);
        let (sender, transport) = one.say(&identity, self.plan.shape, at, &mut self.payload);
        one.sent += 1;
        if one.sent < one.size {
            *head = Reverse((at + (one.pace * gap(&mut one.clock, one.size)) as u64, number));
        } else {
            PeekMut::pop(head);
        }
        let headers = Headers {
            source: identity.ends[sender],
            destination: identity.ends[1 - sender],
            ident: (at ^ u64::from(identity.mark)) as u16,
            transport,
        };
        Some((EPOCH * 1_000_000 + at, self.frame.build(&headers, &self.payload)))
    }
}

impl Live {
    /// The next message: sender (0: the originator) and transport; `payload` is replaced by its bytes.
    fn say(&mut self, identity: &Identity, shape: Shape, at: u64, payload: &mut Vec<u8>) -> (usize, Transport) {
        payload.clear();
        let turn = (self.sent % 2) as usize;
        let asked = (self.sent / 2) as u16;
        match identity.kind {
            Kind::Dns => {
                let answers = if shape == Shape::Scan { 1 } else { 1 + self.random.below(MOST_ANSWERS) as u8 };
                dns(identity.mark, asked, (turn == 1).then_some(answers), payload);
                (turn, Transport::Udp)
            }
            Kind::Echo => {
                payload.extend_from_slice(&FILLER[..ECHOED]);
                (turn, Transport::Echo { reply: turn == 1, id: (identity.mark as u16, asked) })
            }
            Kind::Tcp => {
                let (sender, flags, bytes) = self.segment(identity, shape);
                payload.extend_from_slice(&FILLER[..bytes as usize]);
                (sender, self.tcp(sender, flags, bytes, at))
            }
        }
    }

    /// Sender, flags and bytes of payload of the next segment.
    fn segment(&mut self, identity: &Identity, shape: Shape) -> (usize, u8, u32) {
        use flags::{ACK, FIN, PSH, RST, SYN};
        let left = self.size - 1 - self.sent;
        let answered = if shape == Shape::Scan { self.random.chance(25) } else { self.size > 3 };
        let closes = self.size > 6 && identity.reset.is_none();
        match (self.sent, left, identity.reset) {
            (0, ..) => (0, SYN, 0),
            (1, ..) if answered => (1, SYN | ACK, 0),
            (1, ..) => (1, RST | ACK, 0),
            // It tries again.
            (2, ..) if !answered => (0, SYN, 0),
            (2, ..) => (0, ACK, 0),
            (_, 0, Some(sender)) => (sender, RST | ACK, 0),
            (_, 2, _) if closes => (0, FIN | ACK, 0),
            (_, 1, _) if closes => (1, FIN | ACK, 0),
            (_, 0, _) if closes => (0, ACK, 0),
            _ => {
                let bytes = match self.random.below(12) {
                    ..7 => self.random.below(30) as u32,
                    7..11 => 536,
                    _ => MSS as u32,
                };
                (usize::from(self.random.chance(60)), if bytes > 0 { PSH | ACK } else { ACK }, bytes)
            }
        }
    }

    fn tcp(&mut self, sender: usize, flags: u8, bytes: u32, at: u64) -> Transport {
        let opens = flags & flags::SYN != 0;
        let acknowledged = if flags & flags::ACK == 0 { 0 } else { self.numbers[1 - sender] };
        let numbers = (self.numbers[sender], acknowledged);
        let takes = bytes + u32::from(flags & (flags::SYN | flags::FIN) != 0);
        self.numbers[sender] = self.numbers[sender].wrapping_add(takes);
        self.stamps[sender] = (at / 1000) as u32;
        let window = if opens { OPENING_WINDOW } else { WINDOW };
        let stamps = Options::Stamps(self.stamps[sender], self.stamps[1 - sender]);
        Transport::Tcp { numbers, flags, window, options: if opens { Options::Scale } else { stamps } }
    }
}

/// Gap between two packets: microseconds for a connection of few packets; else in units of its pace, half of them in bursts.
fn gap(clock: &mut Random, size: u32) -> f64 {
    if size < FEW {
        return 1_000.0 + 100_000.0 * clock.unit() * clock.unit();
    }
    if clock.chance(50) { 0.001 } else { clock.wait() }
}

/// A DNS query for the address of a name, or the response with `answers` answers.
fn dns(mark: u32, asked: u16, answers: Option<u8>, payload: &mut Vec<u8>) {
    payload.extend_from_slice(&(mark as u16).wrapping_add(asked).to_be_bytes());
    payload.extend_from_slice(if answers.is_some() { &[0x81, 0x80] } else { &[1, 0] });
    payload.extend_from_slice(&[0, 1, 0, answers.unwrap_or(0), 0, 0, 0, 0, 12]);
    payload.extend((0..12).map(|place| b'a' + (mark.rotate_left(place * 5) % 26) as u8));
    payload.extend_from_slice(&[0, 0, 1, 0, 1]);
    for answer in 0..answers.unwrap_or(0) {
        payload.extend_from_slice(&[0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, answer]);
    }
}
