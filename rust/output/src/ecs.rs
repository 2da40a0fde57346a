//! Connections as documents of the Elastic Common Schema (ECS 8), one a line.
//!
//! The source is the originator, and bytes are those of IP packets. `network.direction` has the words of ECS for a network
//! perimeter: egress is `outbound`, ingress `inbound`, transit `external`, multicast `unknown`. Names that ECS does not have
//! are below `conntrack_py`: evidence, states, and the direction in the words of the table. A number above 2^53, which
//! readers with 64-bit floats round, is text: Elasticsearch takes it for a `long`.
//!
//! Source: `generated/ecs/ecs_flat.yml` of elastic/ecs for names and types of fields, and for the values of `event.kind`,
//! `event.category`, `event.type` and `network.direction`.

use std::fmt::{self, Write};
use std::net::IpAddr;

use chrono::DateTime;

use crate::columns::{community_id, history_text, protocol_name};
use crate::rows::Row;
use crate::rows::told::lack;
use conntrack_base::time::{SECOND, timed};
use conntrack_decode::{TunnelKind, ipproto};
use conntrack_track::connection::EndReason;
use conntrack_track::direction::Direction;
use conntrack_track::zeek::ConnState;

/// Version of ECS that the documents follow.
pub const VERSION: &str = "8.11.0";
/// The largest number up to which a 64-bit float has every whole one.
const EXACT: u64 = 1 << 53;

/// A JSON string.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_char('"')?;
        for letter in self.0.chars() {
            match letter {
                '"' | '\\' => write!(out, "\\{letter}")?,
                control if control < ' ' => write!(out, "\\u{:04x}", u32::from(control))?,
                other => out.write_char(other)?,
            }
        }
        out.write_char('"')
    }
}

/// A count, as text where a float would round it.
struct Count(u64);

impl fmt::Display for Count {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > EXACT { write!(out, "\"{}\"", self.0) } else { write!(out, "{}", self.0) }
    }
}

/// A time in ISO 8601 with nine digits of a second.
struct Time(i64);

impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = DateTime::from_timestamp(self.0.div_euclid(SECOND), 0).unwrap_or_default();
        write!(out, "\"{}.{:09}Z\"", whole.format("%Y-%m-%dT%H:%M:%S"), self.0.rem_euclid(SECOND))
    }
}

/// The document of a row without a line feed. `zones`: the names of zones by number.
pub fn line(row: Row<'_>, zones: &[String]) -> String {
    let mut line = String::new();
    // Writing to a string cannot fail.
    let _ = document(&mut line, row, zones);
    line
}

fn document(out: &mut String, row: Row<'_>, zones: &[String]) -> fmt::Result {
    let (start, end) = (timed(row.start()), timed(row.end()));
    // ECS requires a time of every document.
    let at = start.or(end).unwrap_or(0);
    write!(out, "{{\"@timestamp\":{},\"ecs\":{{\"version\":\"{VERSION}\"}},", Time(at))?;
    event(out, row, start, end)?;
    for (name, place) in [("source", 0), ("destination", 1)] {
        let (ip, sent) = (row.ip(place), row.sent(place));
        write!(out, ",\"{name}\":{{\"address\":\"{ip}\",\"ip\":\"{ip}\"")?;
        if has_ports(row.proto()) {
            write!(out, ",\"port\":{}", row.port(place))?;
        }
        write!(out, ",\"bytes\":{},\"packets\":{}}}", Count(sent.ip_bytes), Count(sent.packets))?;
    }
    network(out, row)?;
    write!(out, ",\"related\":{{\"ip\":[\"{}\"", row.ip(0))?;
    if row.ip(1) != row.ip(0) {
        write!(out, ",\"{}\"", row.ip(1))?;
    }
    out.write_str("]}")?;
    own(out, row, zones)?;
    out.write_char('}')
}

fn event(out: &mut String, row: Row<'_>, start: Option<i64>, end: Option<i64>) -> fmt::Result {
    let is_over = !matches!(row.end_reason(), EndReason::EndOfCapture | EndReason::Evicted);
    let ended = if is_over { ",\"end\"" } else { "" };
    write!(
        out,
        "\"event\":{{\"kind\":\"event\",\"category\":[\"network\"],\"type\":[\"connection\"{ended}],\
         \"action\":\"network_flow\",\"module\":\"conntrack_py\",\"dataset\":\"conntrack_py.connection\""
    )?;
    if let Some(start) = start {
        write!(out, ",\"start\":{}", Time(start))?;
    }
    if let Some(end) = end {
        write!(out, ",\"end\":{}", Time(end))?;
    }
    if let (Some(start), Some(end)) = (start, end) {
        write!(out, ",\"duration\":{}", Count(end.saturating_sub(start).max(0) as u64))?;
    }
    if !row.lacks(lack::END_REASON) {
        write!(out, ",\"reason\":\"{}\"", row.end_reason().name())?;
    }
    out.write_char('}')
}

fn network(out: &mut String, row: Row<'_>) -> fmt::Result {
    let kind = if matches!(row.ip(0), IpAddr::V4(_)) { "ipv4" } else { "ipv6" };
    let direction = match row.direction() {
        Direction::Egress => "outbound",
        Direction::Ingress => "inbound",
        Direction::Internal => "internal",
        Direction::Transit => "external",
        _ => "unknown",
    };
    let sum = |of: fn(Row<'_>, usize) -> u64| Count(of(row, 0).saturating_add(of(row, 1)));
    write!(
        out,
        ",\"network\":{{\"type\":\"{kind}\",\"iana_number\":\"{}\",\"direction\":\"{direction}\",\
         \"community_id\":\"{}\",\"bytes\":{},\"packets\":{}",
        row.proto(),
        community_id(row),
        sum(|row, end| row.sent(end).ip_bytes),
        sum(|row, end| row.sent(end).packets),
    )?;
    match row.proto() {
        ipproto::ICMPV6 => out.write_str(",\"transport\":\"ipv6-icmp\"")?,
        proto => {
            if let Some(name) = protocol_name(proto) {
                write!(out, ",\"transport\":\"{name}\"")?;
            }
        }
    }
    if let Some(vlan) = row.vlan().outer.checked_sub(1) {
        write!(out, ",\"vlan\":{{\"id\":\"{vlan}\"}}")?;
    }
    out.write_char('}')
}

/// Facts without a name in ECS.
fn own(out: &mut String, row: Row<'_>, zones: &[String]) -> fmt::Result {
    write!(out, ",\"conntrack_py\":{{\"direction\":\"{}\"", row.direction().name())?;
    let texts = [
        ("state", lack::STATE, row.state().name()),
        ("conn_state", lack::CONN_STATE, ConnState::NAMES[row.conn_state() as usize]),
        ("history", lack::HISTORY, &*history_text(row)),
    ];
    for (name, _, text) in texts.into_iter().filter(|(_, what, _)| !row.lacks(*what)) {
        write!(out, ",\"{name}\":\"{text}\"")?;
    }
    let flags = [("assured", lack::ASSURED, row.is_assured()), ("seen_reply", lack::SEEN_REPLY, row.has_seen_reply())];
    for (name, _, flag) in flags.into_iter().filter(|(_, what, _)| !row.lacks(*what)) {
        write!(out, ",\"{name}\":{flag}")?;
    }
    write!(out, ",\"evidence\":\"{}\",\"confidence\":{}", row.evidence().name(), row.confidence())?;
    if !row.lacks(lack::FLIPPED) {
        write!(out, ",\"flipped\":{}", row.is_flipped())?;
    }
    for (name, end) in [("orig_bytes", 0), ("resp_bytes", 1)] {
        if !row.end_lacks(lack::PAYLOAD, end) {
            write!(out, ",\"{name}\":{}", Count(row.sent(end).payload_bytes))?;
        }
    }
    if conntrack_track::flow::icmp::is_icmp(row.proto()) {
        write!(out, ",\"icmp\":[{},{}]", row.port(0), row.port(1))?;
    }
    for (name, end) in [("orig_zone", 0), ("resp_zone", 1)] {
        if let Some(zone) = row.zone(end).and_then(|zone| zones.get(usize::from(zone))) {
            write!(out, ",\"{name}\":{}", Text(zone))?;
        }
    }
    if row.tunnel().kind != TunnelKind::None {
        write!(out, ",\"tunnel\":\"{}\"", row.tunnel().kind.name())?;
    }
    if let Some(parent) = row.related_to().or(row.carrier()) {
        write!(out, ",\"related_to\":{parent}")?;
    }
    out.write_char('}')
}

/// True for protocols whose ports are ports.
fn has_ports(proto: u8) -> bool {
    matches!(proto, ipproto::TCP | ipproto::UDP | ipproto::UDPLITE | ipproto::SCTP | 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_numbers_are_json() {
        assert_eq!(Text("a\"b\\c\u{1}é").to_string(), "\"a\\\"b\\\\c\\u0001é\"");
        assert_eq!(
            [EXACT, EXACT + 1].map(|count| Count(count).to_string()),
            ["9007199254740992", "\"9007199254740993\""]
        );
        assert_eq!(Time(-1).to_string(), "\"1969-12-31T23:59:59.999999999Z\"");
    }
}
