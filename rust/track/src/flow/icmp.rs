//! ICMP and ICMPv6 types that come in pairs: questions and answers.
//!
//! RFC 792, RFC 950, RFC 1256, RFC 4443, RFC 4620, RFC 4861, RFC 2710; the pairs are those of the Community ID
//! specification, which Zeek reports as ports.

use conntrack_decode::ipproto;

/// Question and answer types of ICMP.
const V4: [(u8, u8); 5] = [(8, 0), (13, 14), (15, 16), (17, 18), (10, 9)];
/// Question and answer types of ICMPv6.
const V6: [(u8, u8); 6] = [(128, 129), (133, 134), (135, 136), (130, 131), (139, 140), (144, 145)];

fn pairs(proto: u8) -> &'static [(u8, u8)] {
    if proto == ipproto::ICMP { &V4 } else { &V6 }
}

/// The question this message belongs to as `type << 8 | code`, and whether the message is the answer to it.
/// One-way messages are their own question.
#[inline]
pub(super) fn question(proto: u8, kind: u8, code: u8) -> (u16, bool) {
    for (ask, answer) in pairs(proto) {
        if kind == *answer {
            return (u16::from_be_bytes([*ask, code]), true);
        }
    }
    (u16::from_be_bytes([kind, code]), false)
}

/// The type of the answer to a question of this type.
pub(super) fn answer_to(proto: u8, kind: u8) -> u8 {
    pairs(proto).iter().find(|(ask, _)| *ask == kind).map_or(kind, |(_, answer)| *answer)
}

/// The port pair to report, the sender of the question being the originator or not.
pub(super) fn ports(proto: u8, question: u16, asker_is_orig: bool) -> (u16, u16) {
    let [kind, code] = question.to_be_bytes();
    match pairs(proto).iter().find(|(ask, _)| *ask == kind) {
        Some((ask, answer)) if asker_is_orig => (*ask as u16, *answer as u16),
        Some((ask, answer)) => (*answer as u16, *ask as u16),
        None if asker_is_orig => (kind as u16, code as u16),
        None => (code as u16, kind as u16),
    }
}

/// Whether two ports, as a row has them, are a question's type and its answer's, in either order.
pub fn is_pair(proto: u8, first: u16, second: u16) -> bool {
    let is = |(ask, answer): &(u8, u8)| [(*ask, *answer), (*answer, *ask)].map(|(a, b)| (a.into(), b.into()));
    pairs(proto).iter().any(|pair| is(pair).contains(&(first, second)))
}

/// A message that asks: its sender initiates. Kernel types that may create an entry, and solicitations.
pub fn is_request(proto: u8, kind: u8) -> bool {
    pairs(proto).iter().any(|(ask, _)| *ask == kind)
}

/// An answer that only ever follows its question (echo, timestamp, information, mask, node information): its
/// receiver initiated. Advertisements also come unasked and are not in it.
pub fn is_reply(proto: u8, kind: u8) -> bool {
    match proto {
        ipproto::ICMP => matches!(kind, 0 | 14 | 16 | 18),
        _ => matches!(kind, 129 | 140),
    }
}

/// Either version of the protocol.
pub fn is_icmp(proto: u8) -> bool {
    matches!(proto, ipproto::ICMP | ipproto::ICMPV6)
}

/// A message without a counterpart. Protocols other than ICMP have none of these.
pub(super) fn is_one_way(proto: u8, kind: u8) -> bool {
    is_icmp(proto) && !pairs(proto).iter().any(|(ask, answer)| kind == *ask || kind == *answer)
}
