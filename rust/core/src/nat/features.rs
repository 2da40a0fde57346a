//! Features of connections that a gateway leaves unchanged: a few tokens each.
//!
//! A token is the hash of such values of one packet. Of many tokens those with the smallest hashes stay, so both sides
//! keep the same ones, even when each of them missed packets. A connection takes 128 bytes, however long it is.

use std::hash::{DefaultHasher, Hash, Hasher};

use conntrack_decode::{L4, Packet, ipproto, tcpflag};
use conntrack_output::rows::Rows;
use conntrack_track::direction::Direction;
use conntrack_track::flow::Side;

use super::Proof;

/// Bytes of memory for the features of a connection.
const BYTES: usize = 128;
/// Tokens of a direction.
const SLOTS: usize = 3;
/// Tokens of a direction that say something of contents; the others are of IPv4 identifications or TCP timestamps.
const CONTENTS: usize = 2;
/// Connections in a segment of a sketch.
const SEGMENT: usize = 1 << 12;
/// Bytes of a payload that are compared.
const COMPARED: usize = 256;
/// Nanoseconds in a unit of the time of a token.
pub const UNIT: i64 = 1 << 12;
/// Numbers below are counters that began lately, or constants: they say little.
const LEAST_RANDOM: u32 = 1 << 24;
/// The same of 16-bit numbers.
const LEAST_RANDOM_ID: u16 = 1 << 10;

/// A value that both sides of a gateway see, of the earliest packet with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// Hash of the value and its meaning; 0: none.
    pub hash: u64,
    /// Time since the first packet of the connection, in units of 2^12 ns, at most 4.8 hours.
    at: u32,
    /// Bits that the value itself may be worth: constants have none.
    pub bits: u8,
    /// The meaning.
    pub proof: Proof,
}

/// Features of a connection, by side of the flow key, and after [`Sketch::settle`] by role.
#[derive(Clone, Copy, Debug, Default)]
pub struct Features {
    /// Capture time of the first packet, nanoseconds.
    pub first: i64,
    /// Initial sequence numbers.
    isn: [u32; 2],
    /// Time of each initial sequence number, as in a token.
    isn_at: [u32; 2],
    /// Number of different initial sequence numbers in a row, each change counted; 0: none is known.
    isns: [u8; 2],
    /// Class of the protocol, 0 without any packet.
    pub class: u8,
    tokens: [[Token; SLOTS]; 2],
}

const _: () = assert!(size_of::<Features>() == BYTES);

/// Classes of protocols. NAT64 keeps the class and changes the protocol of ICMP.
pub mod class {
    pub const TCP: u8 = 1;
    pub const UDP: u8 = 2;
    pub const ICMP: u8 = 3;
    pub const SCTP: u8 = 4;
    pub const OTHER: u8 = 5;
    /// One more than the largest.
    pub const COUNT: usize = 6;
}

/// A packet, as the tracker labelled it.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// Capture time, nanoseconds.
    pub ts: i64,
    /// The sender's side.
    pub side: Side,
    /// The packet.
    pub packet: &'a Packet,
    /// The bytes of its record.
    pub frame: &'a [u8],
    /// ICMP: sequence number, and content above the header.
    pub echo: Option<(u16, &'a [u8])>,
}

impl Features {
    /// Initial sequence number of a direction, unless several were seen.
    pub fn isn(&self, end: usize) -> Option<u32> {
        (self.isns[end] == 1).then_some(self.isn[end])
    }

    /// Time of the first packet where it has the originator's initial sequence number: that of a SYN.
    pub fn opened(&self, end: usize) -> Option<i64> {
        (self.isns[end] > 0 && self.isn_at[end] == 0).then_some(self.first)
    }

    /// Initial sequence numbers of both directions, the smaller one first; None where one is unknown or not random.
    pub fn numbers(&self) -> Option<(u8, u32, u32)> {
        let (one, other) = (self.isn(0)?, self.isn(1)?);
        let is_random = random_bits(one) + random_bits(other) == 2 * WORD_BITS;
        is_random.then_some((self.class, one.min(other), one.max(other)))
    }

    /// Every token of a direction, with its time; initial sequence numbers first.
    pub fn tokens(&self, end: usize) -> impl Iterator<Item = (Token, i64)> + '_ {
        let isn = self.isn(end).map(|isn| {
            let hash = hash(Proof::Isn, self.class, &isn);
            Token { hash, at: self.isn_at[end], bits: random_bits(isn), proof: Proof::Isn }
        });
        let own = self.tokens[end].iter().copied().filter(|token| token.hash != 0);
        isn.into_iter().chain(own).map(|token| (token, self.first.saturating_add(i64::from(token.at) * UNIT)))
    }

    /// Adds a packet.
    pub fn take(&mut self, seen: &Seen<'_>) {
        if self.class == 0 {
            (self.first, self.class) = (seen.ts, class_of(seen.packet));
        }
        let (end, packet) = (seen.side as usize, seen.packet);
        let at = u32::try_from((seen.ts.saturating_sub(self.first)).max(0) / UNIT).unwrap_or(u32::MAX);
        match (&packet.l4, seen.echo) {
            (L4::Tcp(tcp), _) if !tcp.unnumbered => self.take_tcp(seen, at),
            (L4::Sctp(sctp), _) if sctp.vtag != 0 => self.note_isn(end, sctp.vtag, at),
            (L4::Udp, _) => self.take_udp(seen, at),
            (L4::Icmp { kind, .. }, Some((seq, content))) => {
                let is_reply = matches!(kind, 0 | 129);
                let said = hash(Proof::IcmpSeq, self.class, &(is_reply, seq, content));
                self.add(end, Token { hash: said, at, bits: looks_random(content), proof: Proof::IcmpSeq });
                self.note_id(seen, said, at);
            }
            (L4::Icmp { .. } | L4::IcmpError { .. }, _) => {}
            _ => self.note_id(seen, u64::from(packet.ip_bytes), at),
        }
    }

    fn take_tcp(&mut self, seen: &Seen<'_>, at: u32) {
        let L4::Tcp(tcp) = seen.packet.l4 else { return };
        let (end, has_ack) = (seen.side as usize, tcp.flags & tcpflag::ACK != 0);
        if tcp.flags & tcpflag::SYN != 0 {
            self.note_isn(end, tcp.seq, at);
            if has_ack {
                self.note_isn(1 - end, tcp.ack.wrapping_sub(1), at);
            }
            return;
        }
        let ack = if has_ack { tcp.ack } else { 0 };
        let kept = tcp.flags & (tcpflag::FIN | tcpflag::RST | tcpflag::ACK);
        let said = hash(Proof::Seq, self.class, &(tcp.seq, ack, kept, seen.packet.payload_bytes));
        let bits = random_bits(tcp.seq) + if has_ack { random_bits(ack) } else { 0 };
        self.add(end, Token { hash: said, at, bits, proof: Proof::Seq });
        if let Some((value, echo)) = timestamps(seen) {
            let said = hash(Proof::Tsval, self.class, &(value, echo));
            self.add(end, Token { hash: said, at, bits: TSVAL_BITS, proof: Proof::Tsval });
        }
    }

    fn take_udp(&mut self, seen: &Seen<'_>, at: u32) {
        let (end, packet) = (seen.side as usize, seen.packet);
        let payload = seen.packet.payload_in(seen.frame);
        let shown = &payload[..payload.len().min(COMPARED).min(packet.payload_bytes as usize)];
        let whole = hash(Proof::Payload, self.class, &(packet.payload_bytes, shown));
        let dns = (shown.len() == packet.payload_bytes as usize || payload.len() >= COMPARED).then(|| dns(shown));
        if let Some((id, question)) = dns.flatten() {
            let said = hash(Proof::Dns, self.class, &(id, question));
            let bits = if id >= LEAST_RANDOM_ID { DNS_BITS } else { FEW_BITS };
            self.add(end, Token { hash: said, at, bits, proof: Proof::Dns });
        } else if !shown.is_empty() {
            self.add(end, Token { hash: whole, at, bits: looks_random(shown), proof: Proof::Payload });
        }
        self.note_id(seen, whole, at);
    }

    /// Notes the IPv4 identification of a packet with this content.
    fn note_id(&mut self, seen: &Seen<'_>, content: u64, at: u32) {
        let id = seen.packet.identification;
        if id != 0 && !seen.packet.fragment {
            let bits = if id >= LEAST_RANDOM_ID { ID_BITS } else { FEW_BITS };
            let said = hash(Proof::IpId, self.class, &(id, content));
            self.add(seen.side as usize, Token { hash: said, at, bits, proof: Proof::IpId });
        }
    }

    fn note_isn(&mut self, end: usize, isn: u32, at: u32) {
        match self.isns[end] {
            0 => (self.isn[end], self.isn_at[end], self.isns[end]) = (isn, at, 1),
            _ if self.isn[end] == isn => {}
            more => self.isns[end] = more.saturating_add(1),
        }
    }

    /// Keeps a token if its hash is among the smallest.
    fn add(&mut self, end: usize, new: Token) {
        let slots = &mut self.tokens[end];
        if slots.iter().any(|token| token.hash == new.hash) {
            return;
        }
        let mut all: [Token; SLOTS + 1] = [slots[0], slots[1], slots[2], new];
        let is_content = |token: &Token| !matches!(token.proof, Proof::IpId | Proof::Tsval);
        // Contents first, no token last, and the smallest hash of each.
        all.sort_unstable_by_key(|token| (token.hash == 0, !is_content(token), token.hash));
        let contents = all.iter().filter(|token| token.hash != 0 && is_content(token)).count();
        if contents > CONTENTS {
            all[CONTENTS..].rotate_left(1);
        }
        slots.copy_from_slice(&all[..SLOTS]);
    }

    fn swap(&mut self) {
        self.isn.swap(0, 1);
        self.isn_at.swap(0, 1);
        self.isns.swap(0, 1);
        self.tokens.swap(0, 1);
    }
}

/// Bits of timestamps: few, because many systems have one clock for all connections.
const TSVAL_BITS: u8 = 16;
/// Bits of a random number.
const WORD_BITS: u8 = 32;
/// Bits of identifiers, and of those that look like counters.
const DNS_BITS: u8 = 16;
const ID_BITS: u8 = 16;
const FEW_BITS: u8 = 4;

fn class_of(packet: &Packet) -> u8 {
    match packet.tuple.proto {
        ipproto::TCP => class::TCP,
        ipproto::UDP => class::UDP,
        ipproto::ICMP | ipproto::ICMPV6 => class::ICMP,
        ipproto::SCTP => class::SCTP,
        _ => class::OTHER,
    }
}

/// Hash of a value with its meaning, the same in every run; never 0.
fn hash(proof: Proof, class: u8, value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (proof, class).hash(&mut hasher);
    value.hash(&mut hasher);
    hasher.finish().max(1)
}

/// Bits of a 32-bit number that may be random: those of small and of round ones are few.
fn random_bits(number: u32) -> u8 {
    let bytes = number.to_be_bytes();
    let is_plain = number < LEAST_RANDOM || number.is_multiple_of(1_000) || bytes.iter().all(|byte| *byte == bytes[0]);
    if is_plain { FEW_BITS } else { WORD_BITS }
}

/// Bits of a content by the number of distinct bytes that no text has. Texts have none, and random bytes many.
fn looks_random(content: &[u8]) -> u8 {
    let mut seen = 0_u128;
    for byte in content.iter().take(64).filter(|byte| **byte >= 0x80) {
        seen |= 1 << (byte - 0x80);
    }
    (2 * seen.count_ones()).min(32) as u8
}

/// Value and echo of the timestamps in front of the payload, the only options of most segments.
fn timestamps(seen: &Seen<'_>) -> Option<(u32, u32)> {
    let end = seen.packet.payload.0 as usize;
    let options: &[u8; 12] = seen.frame.get(end.checked_sub(12)?..end)?.try_into().ok()?;
    let (kinds, numbers) = options.split_first_chunk::<4>()?;
    let [value, echo] = *numbers.as_chunks::<4>().0 else { return None };
    if *kinds != [1, 1, 8, 10] {
        return None;
    }
    let (value, echo) = (u32::from_be_bytes(value), u32::from_be_bytes(echo));
    (value >= LEAST_RANDOM && echo >= LEAST_RANDOM).then_some((value, echo))
}

/// Id and question of a DNS message with one question (RFC 1035 section 4.1), on any port.
fn dns(payload: &[u8]) -> Option<(u16, &[u8])> {
    let header: &[u8; 12] = payload.first_chunk()?;
    let [id, id_low, flags, _, 0, 1, ..] = *header else { return None };
    // Opcode 0, and no more records than a message has room for.
    let counts = header[6..].as_chunks::<2>().0.iter().map(|count| usize::from(u16::from_be_bytes(*count)));
    if flags & 0x78 != 0 || counts.sum::<usize>() * 11 > payload.len() {
        return None;
    }
    let mut at = 12;
    loop {
        match usize::from(*payload.get(at)?) {
            0 => break,
            label @ 1..=63 => at += 1 + label,
            _ => return None,
        }
    }
    let class = payload.get(at + 3..at + 5)?;
    (class == [0, 1]).then(|| payload.get(12..at + 5).map(|question| (u16::from_be_bytes([id, id_low]), question)))?
}

/// Features by number of connection.
#[derive(Default)]
pub struct Sketch {
    segments: Vec<Box<[Features]>>,
}

impl Sketch {
    /// Adds a packet of a connection.
    pub fn take(&mut self, connection: u64, seen: &Seen<'_>) {
        let Ok(connection) = usize::try_from(connection) else { return };
        while self.segments.len() <= connection / SEGMENT {
            self.segments.push(vec![Features::default(); SEGMENT].into());
        }
        self.segments[connection / SEGMENT][connection % SEGMENT].take(seen);
    }

    /// The features of a connection.
    pub fn get(&self, connection: usize) -> Option<&Features> {
        self.segments.get(connection / SEGMENT).map(|segment| &segment[connection % SEGMENT])
    }

    /// Number of places for connections.
    pub fn len(&self) -> usize {
        self.segments.len() * SEGMENT
    }

    /// True without features.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Turns sides into roles, and forgets what no gateway translates: multicast, and ICMP errors.
    pub fn settle(&mut self, rows: &Rows) {
        for (row, at) in rows.iter().zip(0..) {
            let Some(features) = self.segments.get_mut(at / SEGMENT).map(|segment| &mut segment[at % SEGMENT]) else {
                return;
            };
            if row.orig() == Side::B {
                features.swap();
            }
            if row.direction() == Direction::Multicast || row.is_error() {
                *features = Features::default();
            }
        }
    }
}
