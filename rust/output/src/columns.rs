//! The columns that a finished connection is reported in: one list, [`COLUMNS`].

use std::net::IpAddr;
use std::sync::LazyLock;

use crate::rows::Row;
use conntrack_decode::TunnelKind;
use conntrack_track::connection::{EndReason, Evidence};
use conntrack_track::direction::Direction;
use conntrack_track::flow::community;
use conntrack_track::proto::State;
use conntrack_track::zeek::ConnState;

/// Type of a column, with the function that reads a value from a row.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Nanoseconds since the epoch, UTC.
    Time(fn(Row<'_>) -> i64),
    /// A count or a number of bytes.
    U64(fn(Row<'_>) -> u64),
    /// A port.
    U16(fn(Row<'_>) -> u16),
    /// A fraction from 0 to 1.
    F32(fn(Row<'_>) -> f32),
    /// A Boolean.
    Bool(fn(Row<'_>) -> bool),
    /// A nullable number.
    OptI32(fn(Row<'_>) -> Option<i32>),
    /// A nullable row number.
    OptI64(fn(Row<'_>) -> Option<i64>),
    /// Dictionary-encoded text: the index, and the dictionary (given the names of the zones). `None` is null.
    Word(fn(Row<'_>) -> Option<u16>, fn(&[String]) -> Vec<String>),
    /// An address.
    Addr(fn(Row<'_>) -> IpAddr),
    /// Text.
    Text(fn(Row<'_>) -> String),
}

/// A column of the table.
pub struct Column {
    /// Name of the column.
    pub name: &'static str,
    /// Type and accessor.
    pub kind: Kind,
}

fn words(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Every column, in the order of the table.
#[expect(clippy::redundant_closure_for_method_calls, reason = "a method is of one lifetime, a column of any")]
pub const COLUMNS: &[Column] = &[
    Column { name: "start", kind: Kind::Time(|row| row.start()) },
    Column { name: "end", kind: Kind::Time(|row| row.end()) },
    Column { name: "proto", kind: Kind::Word(|row| Some(row.proto() as u16), |_| PROTOCOLS.clone()) },
    Column { name: "orig_addr", kind: Kind::Addr(|row| row.ip(0)) },
    Column { name: "orig_port", kind: Kind::U16(|row| row.port(0)) },
    Column { name: "resp_addr", kind: Kind::Addr(|row| row.ip(1)) },
    Column { name: "resp_port", kind: Kind::U16(|row| row.port(1)) },
    Column { name: "direction", kind: Kind::Word(|row| Some(row.direction() as u16), |_| words(&Direction::NAMES)) },
    Column { name: "state", kind: Kind::Word(|row| Some(row.state() as u16), |_| words(&State::NAMES)) },
    Column { name: "conn_state", kind: Kind::Word(|row| Some(row.conn_state() as u16), |_| words(&ConnState::NAMES)) },
    Column { name: "history", kind: Kind::Text(history_text) },
    Column { name: "assured", kind: Kind::Bool(|row| row.is_assured()) },
    Column { name: "seen_reply", kind: Kind::Bool(|row| row.has_seen_reply()) },
    Column { name: "evidence", kind: Kind::Word(|row| Some(row.evidence() as u16), |_| words(&Evidence::NAMES)) },
    Column { name: "confidence", kind: Kind::F32(|row| row.confidence()) },
    Column { name: "flipped", kind: Kind::Bool(|row| row.is_flipped()) },
    Column { name: "orig_pkts", kind: Kind::U64(|row| row.sent(0).packets) },
    Column { name: "orig_ip_bytes", kind: Kind::U64(|row| row.sent(0).ip_bytes) },
    Column { name: "orig_bytes", kind: Kind::U64(|row| row.sent(0).payload_bytes) },
    Column { name: "resp_pkts", kind: Kind::U64(|row| row.sent(1).packets) },
    Column { name: "resp_ip_bytes", kind: Kind::U64(|row| row.sent(1).ip_bytes) },
    Column { name: "resp_bytes", kind: Kind::U64(|row| row.sent(1).payload_bytes) },
    Column { name: "orig_zone", kind: Kind::Word(|row| row.zone(0), <[String]>::to_vec) },
    Column { name: "resp_zone", kind: Kind::Word(|row| row.zone(1), <[String]>::to_vec) },
    Column { name: "vlan", kind: Kind::OptI32(|row| vid(row.vlan().outer)) },
    Column { name: "tunnel", kind: Kind::Word(tunnel, |_| words(&TunnelKind::NAMES)) },
    Column { name: "related_to", kind: Kind::OptI64(|row| row.related_to().or(row.carrier()).map(|row| row as i64)) },
    Column { name: "end_reason", kind: Kind::Word(|row| Some(row.end_reason() as u16), |_| words(&EndReason::NAMES)) },
    Column { name: "community_id", kind: Kind::Text(community_id) },
    Column { name: "vlan_reply", kind: Kind::OptI32(vlan_reply) },
];

/// Zeek's history as text.
pub fn history_text(row: Row<'_>) -> String {
    let (letters, len) = row.history();
    letters.iter().take(len as usize).map(|letter| *letter as char).collect()
}

fn vid(tag: u16) -> Option<i32> {
    tag.checked_sub(1).map(i32::from)
}

/// The outer VLAN id of the other direction, where it differs; 0: untagged.
fn vlan_reply(row: Row<'_>) -> Option<i32> {
    let tag = row.reply_tags()?.vlan.outer;
    (tag != row.vlan().outer).then(|| vid(tag).unwrap_or(0))
}

fn tunnel(row: Row<'_>) -> Option<u16> {
    let kind = row.tunnel().kind;
    (kind != TunnelKind::None).then_some(kind as u16)
}

/// Community ID version 1.
pub fn community_id(row: Row<'_>) -> String {
    community::id([row.ip(0), row.ip(1)], [row.port(0), row.port(1)], row.proto())
}

/// Names of the IP protocols by number (IANA's keywords, as conntrack and Zeek write them); unnamed ones as decimal text.
static PROTOCOLS: LazyLock<Vec<String>> = LazyLock::new(|| {
    (0..=255u8).map(|number| protocol_name(number).map_or_else(|| number.to_string(), ToString::to_string)).collect()
});

/// Number of an IP protocol, from its name or from decimal text.
pub fn protocol_number(name: &str) -> Option<u8> {
    PROTOCOLS.iter().position(|known| known == name).and_then(|number| number.try_into().ok())
}

/// Name of an IP protocol; None for protocols without one here.
pub fn protocol_name(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "icmp",
        2 => "igmp",
        4 => "ipip",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        41 => "ipv6",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "icmp6",
        88 => "eigrp",
        89 => "ospf",
        103 => "pim",
        112 => "vrrp",
        132 => "sctp",
        136 => "udplite",
        _ => return None,
    })
}
