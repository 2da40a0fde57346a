//! The columns that a finished connection is reported in: one list, [`COLUMNS`].

use std::net::IpAddr;
use std::sync::LazyLock;

use crate::rows::Row;
use crate::rows::told::{NatEvidence, lack};
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
    /// Test for a row of a log that does not know the value; None for columns of tracked connections.
    pub lacks: Option<fn(Row<'_>) -> bool>,
}

impl Column {
    /// True for a value that the row's source does not know.
    #[inline]
    pub fn is_unknown(&self, row: Row<'_>) -> bool {
        self.lacks.is_some_and(|lacks| lacks(row))
    }
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, lacks: None }
}

fn words(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Every column, in the order of the table.
#[expect(clippy::redundant_closure_for_method_calls, reason = "a method is of one lifetime, a column of any")]
pub const COLUMNS: &[Column] = &[
    column("start", Kind::Time(|row| row.start())),
    column("end", Kind::Time(|row| row.end())),
    column("proto", Kind::Word(|row| Some(row.proto() as u16), |_| PROTOCOLS.clone())),
    column("orig_addr", Kind::Addr(|row| row.ip(0))),
    column("orig_port", Kind::U16(|row| row.port(0))),
    column("resp_addr", Kind::Addr(|row| row.ip(1))),
    column("resp_port", Kind::U16(|row| row.port(1))),
    column("direction", Kind::Word(|row| Some(row.direction() as u16), |_| words(&Direction::NAMES))),
    column("state", Kind::Word(|row| Some(row.state() as u16), |_| words(&State::NAMES))),
    column("conn_state", Kind::Word(|row| Some(row.conn_state() as u16), |_| words(&ConnState::NAMES))),
    column("history", Kind::Text(history_text)),
    column("assured", Kind::Bool(|row| row.is_assured())),
    column("seen_reply", Kind::Bool(|row| row.has_seen_reply())),
    column("evidence", Kind::Word(|row| Some(row.evidence() as u16), |_| words(&Evidence::NAMES))),
    column("confidence", Kind::F32(|row| row.confidence())),
    column("flipped", Kind::Bool(|row| row.is_flipped())),
    column("orig_pkts", Kind::U64(|row| row.sent(0).packets)),
    column("orig_ip_bytes", Kind::U64(|row| row.sent(0).ip_bytes)),
    column("orig_bytes", Kind::U64(|row| row.sent(0).payload_bytes)),
    column("resp_pkts", Kind::U64(|row| row.sent(1).packets)),
    column("resp_ip_bytes", Kind::U64(|row| row.sent(1).ip_bytes)),
    column("resp_bytes", Kind::U64(|row| row.sent(1).payload_bytes)),
    column("orig_zone", Kind::Word(|row| row.zone(0), <[String]>::to_vec)),
    column("resp_zone", Kind::Word(|row| row.zone(1), <[String]>::to_vec)),
    column("vlan", Kind::OptI32(|row| vid(row.vlan().outer))),
    column("tunnel", Kind::Word(tunnel, |_| words(&TunnelKind::NAMES))),
    column("related_to", Kind::OptI64(|row| row.related_to().or(row.carrier()).map(|row| row as i64))),
    column("end_reason", Kind::Word(|row| Some(row.end_reason() as u16), |_| words(&EndReason::NAMES))),
    column("community_id", Kind::Text(community_id)),
    column("vlan_reply", Kind::OptI32(vlan_reply)),
];

/// Number of columns that only rows of logs and translated rows have.
const MORE: usize = 10;

/// Every column of any table: those of [`COLUMNS`], four of logs, six of translations.
pub static ALL: LazyLock<Vec<Column>> = LazyLock::new(|| {
    let tracked =
        COLUMNS.iter().map(|column| Column { name: column.name, kind: column.kind, lacks: lacks(column.name) });
    tracked.chain(more()).collect()
});

/// Number of [`ALL`] columns.
pub const ALL_COUNT: usize = COLUMNS.len() + MORE;

/// The columns of a table of a log; `translated`: with those of translations.
pub fn of_log(translated: bool) -> Vec<&'static Column> {
    let hidden = if translated { 0 } else { 6 };
    ALL.iter().take(ALL_COUNT - hidden).collect()
}

/// The columns of a table of translated connections that were tracked.
pub fn of_translated() -> Vec<&'static Column> {
    COLUMNS.iter().chain(ALL.iter().skip(ALL_COUNT - 6)).collect()
}

fn more() -> [Column; MORE] {
    let some = |name, kind, lacks: fn(Row<'_>) -> bool| Column { name, kind, lacks: Some(lacks) };
    [
        some("refused", Kind::Word(|row| row.refused().map(|end| end as u16), |_| words(&["orig", "resp"])), |_| false),
        some("observed_at", Kind::Text(|row| row.observed_at().unwrap_or_default().to_owned()), |row| {
            row.observed_at().is_none()
        }),
        some("records", Kind::U64(|row| row.facts().map_or(0, |facts| facts.records.into())), |row| {
            row.facts().is_none_or(|facts| facts.records == 0)
        }),
        some("sampled", Kind::OptI64(|row| row.facts().and_then(|facts| facts.sampled).map(i64::from)), |_| false),
        some("nat_orig_addr", Kind::Text(|row| nat_addr_text(row, 0)), |row| row.nat_end(0).is_none()),
        some("nat_orig_port", Kind::OptI32(|row| row.nat_end(0).map(|(_, port)| port.into())), |_| false),
        some("nat_resp_addr", Kind::Text(|row| nat_addr_text(row, 1)), |row| row.nat_end(1).is_none()),
        some("nat_resp_port", Kind::OptI32(|row| row.nat_end(1).map(|(_, port)| port.into())), |_| false),
        some(
            "nat_evidence",
            Kind::Word(|row| row.nat().map(|nat| nat.evidence as u16), |_| words(&NatEvidence::NAMES)),
            |_| false,
        ),
        some("nat_confidence", Kind::F32(|row| row.nat().map_or(0.0, |nat| nat.confidence)), |row| row.nat().is_none()),
    ]
}

fn nat_addr_text(row: Row<'_>, end: usize) -> String {
    row.nat_end(end).map_or_else(String::new, |(addr, _)| addr.to_string())
}

/// The test for values of a column that a log may lack.
fn lacks(name: &str) -> Option<fn(Row<'_>) -> bool> {
    Some(match name {
        "state" => |row| row.lacks(lack::STATE),
        "conn_state" => |row| row.lacks(lack::CONN_STATE),
        "history" => |row| row.lacks(lack::HISTORY),
        "assured" => |row| row.lacks(lack::ASSURED),
        "seen_reply" => |row| row.lacks(lack::SEEN_REPLY),
        "flipped" => |row| row.lacks(lack::FLIPPED),
        "end_reason" => |row| row.lacks(lack::END_REASON),
        "orig_port" | "resp_port" | "community_id" => |row| row.lacks(lack::PORTS),
        "orig_pkts" => |row| row.end_lacks(lack::PACKETS, 0),
        "resp_pkts" => |row| row.end_lacks(lack::PACKETS, 1),
        "orig_ip_bytes" => |row| row.end_lacks(lack::IP_BYTES, 0),
        "resp_ip_bytes" => |row| row.end_lacks(lack::IP_BYTES, 1),
        "orig_bytes" => |row| row.end_lacks(lack::PAYLOAD, 0),
        "resp_bytes" => |row| row.end_lacks(lack::PAYLOAD, 1),
        _ => return None,
    })
}

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
