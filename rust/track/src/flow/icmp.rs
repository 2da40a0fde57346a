//! ICMP and ICMPv6 types in pairs: query and reply.
//!
//! Sources: RFC 792, RFC 950, RFC 1256, RFC 4443, RFC 4620, RFC 4861, RFC 2710. The pairs are those of the Community ID
//! specification, which Zeek reports as ports.

use conntrack_decode::ipproto;

/// Query and reply types of ICMP.
const V4: [(u8, u8); 5] = [(8, 0), (13, 14), (15, 16), (17, 18), (10, 9)];
/// Query and reply types of ICMPv6.
const V6: [(u8, u8); 6] = [(128, 129), (133, 134), (135, 136), (130, 131), (139, 140), (144, 145)];

fn pairs(proto: u8) -> &'static [(u8, u8)] {
    if proto == ipproto::ICMP { &V4 } else { &V6 }
}

/// The query of this message as `type << 8 | code`, and whether the message is the reply. One-way messages are their
/// own query.
#[inline]
pub fn question(proto: u8, kind: u8, code: u8) -> (u16, bool) {
    for (ask, answer) in pairs(proto) {
        if kind == *answer {
            return (u16::from_be_bytes([*ask, code]), true);
        }
    }
    (u16::from_be_bytes([kind, code]), false)
}

/// The type of the reply to a query of this type.
pub fn answer_to(proto: u8, kind: u8) -> u8 {
    pairs(proto).iter().find(|(ask, _)| *ask == kind).map_or(kind, |(_, answer)| *answer)
}

/// The port pair to report; `asker_is_orig`: the sender of the query is the originator.
pub(super) fn ports(proto: u8, question: u16, asker_is_orig: bool) -> (u16, u16) {
    let [kind, code] = question.to_be_bytes();
    match pairs(proto).iter().find(|(ask, _)| *ask == kind) {
        Some((ask, answer)) if asker_is_orig => (*ask as u16, *answer as u16),
        Some((ask, answer)) => (*answer as u16, *ask as u16),
        None if asker_is_orig => (kind as u16, code as u16),
        None => (code as u16, kind as u16),
    }
}

/// Test whether two ports of a row are a query's type and its reply's, in either order.
pub fn is_pair(proto: u8, first: u16, second: u16) -> bool {
    let is = |(ask, answer): &(u8, u8)| [(*ask, *answer), (*answer, *ask)].map(|(a, b)| (a.into(), b.into()));
    pairs(proto).iter().any(|pair| is(pair).contains(&(first, second)))
}

/// Test for a query, whose sender initiates: types that may create an entry in the kernel, and solicitations.
pub fn is_request(proto: u8, kind: u8) -> bool {
    pairs(proto).iter().any(|(ask, _)| *ask == kind)
}

/// Test for a reply that only ever follows its query (echo, timestamp, information, mask, node information): its
/// receiver initiated. Advertisements are excluded, because routers and neighbours also send them unasked.
pub fn is_reply(proto: u8, kind: u8) -> bool {
    match proto {
        ipproto::ICMP => matches!(kind, 0 | 14 | 16 | 18),
        _ => matches!(kind, 129 | 140),
    }
}

/// Test for ICMP or ICMPv6.
pub fn is_icmp(proto: u8) -> bool {
    matches!(proto, ipproto::ICMP | ipproto::ICMPV6)
}

/// Test for a message without a counterpart; always false for protocols other than ICMP.
pub(super) fn is_one_way(proto: u8, kind: u8) -> bool {
    is_icmp(proto) && !pairs(proto).iter().any(|(ask, answer)| kind == *ask || kind == *answer)
}
