//! The finished connection, and the columns it is reported in: one list, [`COLUMNS`].

use std::net::IpAddr;
use std::sync::LazyLock;

use crate::connection::{Connection, EndReason, Endpoint, Evidence};
use crate::decode::{Addr, Family, Tunnel, TunnelKind, Vlan, ipproto};
use crate::direction::{Direction, Locality, Place};
use crate::flow::{Side, community};
use crate::proto::State;
use crate::tracker::Closed;
use crate::zeek::ConnState;

/// The letters of a history, and how many there are.
pub type Letters = ([u8; 31], u8);

/// A finished connection: a row of the table.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "columns, and what they are made of")]
pub struct Row {
    /// Capture time of the first and the last packet, nanoseconds.
    pub time: (i64, i64),
    /// Originator and responder.
    pub addr: [Addr; 2],
    /// Their ports; for ICMP type and counterpart or code.
    pub port: [u16; 2],
    /// What they sent.
    pub sent: [Endpoint; 2],
    /// Their zones, by number.
    pub zone: [Option<u16>; 2],
    /// Which side of the key the originator is; labels name sides.
    pub orig: Side,
    /// What the addresses are.
    pub family: Family,
    /// IP protocol number.
    pub proto: u8,
    /// Seen from the local networks.
    pub direction: Direction,
    /// Originator and responder are in a local network.
    pub local: [bool; 2],
    /// The gateway's state after the last packet.
    pub state: State,
    /// Zeek's conn_state.
    pub conn_state: ConnState,
    /// What it would be, were the roles the other way round.
    pub conn_state_flipped: ConnState,
    /// Zeek's history.
    pub history: Letters,
    /// Capture time, in nanoseconds, of the last packet that Zeek's `duration` counts.
    pub active_until: i64,
    /// Bytes that were acknowledged and not captured, as Zeek counts them.
    pub missed_bytes: u64,
    /// The gateway's entry survives a full table.
    pub assured: bool,
    /// The gateway's entry saw a reply.
    pub seen_reply: bool,
    /// Why we say who initiated.
    pub evidence: Evidence,
    /// How sure that makes us, from 0 to 1.
    pub confidence: f32,
    /// TCP segments of originator and responder that acknowledge and do nothing else, where the opening was not seen.
    pub pure_acks: [u32; 2],
    /// Their first windows, as [`Connection::first_window`].
    pub first_window: [u16; 2],
    /// The first packet seen was sent by the responder.
    pub flipped: bool,
    /// Its frames were sent to a group address of the link, and nobody answered.
    pub was_broadcast: bool,
    /// It is an ICMP error, which initiates nothing.
    pub is_error: bool,
    /// TCP: one end acknowledges what the other must have sent, and nothing of that was captured.
    pub answers_unseen: bool,
    /// VLAN tags of the first packet.
    pub vlan: Vlan,
    /// Tunnel.
    pub tunnel: Tunnel,
    /// The row of the connection that an ICMP error speaks of.
    pub related_to: Option<u64>,
    /// The row of the connection that carries the tunnel it is in.
    pub carrier: Option<u64>,
    /// Why it ended.
    pub end_reason: EndReason,
    /// The gateway's entry, where one is alive at the end of the capture.
    pub live: Option<Live>,
}

/// What a listing of gateway entries needs beyond the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// Nanoseconds left when the capture ended.
    pub left: i64,
    /// The original direction is the responder's.
    pub swapped: bool,
    /// Datagrams and bytes that the gateway counts, original and reply.
    pub counted: [(u64, u64); 2],
    /// Identifier of an ICMP query, call id of GRE version 1.
    pub id: u16,
    /// Code of an ICMP query.
    pub code: u8,
}

impl Live {
    fn of(connection: &Connection, now: i64) -> Option<Self> {
        let entry = connection.gateway.as_ref()?;
        let key = &connection.key;
        let (id, code) = match key.proto {
            ipproto::ICMP | ipproto::ICMPV6 => (key.port(entry.orig), key.port(entry.orig.other()) as u8),
            ipproto::GRE => (key.port(entry.orig.other()), 0),
            _ => (0, 0),
        };
        let left = entry.deadline.saturating_sub(now);
        (left > 0).then_some(Self { left, swapped: entry.orig != connection.orig, counted: entry.counted, id, code })
    }
}

impl Row {
    /// The row of a closed connection.
    pub fn new(closed: &Closed, locality: &Locality) -> Self {
        let connection = &*closed.connection;
        let key = &connection.key;
        let sides = [connection.orig, connection.orig.other()];
        let (orig_port, resp_port) = key.ports(connection.orig);
        let places = sides.map(|side| locality.place(key.addr(side).ip(key.family)));
        let mut history = ([0; 31], 0);
        let letters = connection.zeek.history(connection.orig, connection.flipped(), connection.roles);
        for (place, letter) in history.0.iter_mut().zip(letters) {
            *place = letter;
            history.1 += 1;
        }
        Self {
            time: (connection.start, connection.end),
            addr: sides.map(|side| key.addr(side)),
            port: [orig_port, resp_port],
            sent: sides.map(|side| connection.sent(side)),
            zone: places.map(|place| place.zone),
            orig: connection.orig,
            family: key.family,
            proto: key.proto,
            local: places.map(|place| place.is_local),
            active_until: connection.zeek.active_until(),
            missed_bytes: connection.zeek.missed(),
            direction: Place::direction(places, connection.was_broadcast()),
            state: connection.state(),
            conn_state: connection.conn_state(connection.orig),
            conn_state_flipped: connection.conn_state(connection.orig.other()),
            history,
            assured: connection.status.1,
            seen_reply: connection.status.0,
            evidence: connection.evidence,
            confidence: connection.evidence.confidence(),
            pure_acks: sides.map(|side| connection.pure_acks[side as usize]),
            first_window: sides.map(|side| connection.first_window[side as usize]),
            flipped: connection.flipped(),
            was_broadcast: connection.was_broadcast(),
            is_error: connection.is_error,
            answers_unseen: connection.zeek.answers_unseen(),
            vlan: connection.vlan,
            tunnel: connection.tunnel,
            related_to: connection.related_to,
            carrier: connection.carrier,
            end_reason: closed.reason,
            live: closed.stopped.and_then(|now| Live::of(connection, now)),
        }
    }

    /// The address of the originator (0) or the responder (1).
    pub fn ip(&self, end: usize) -> IpAddr {
        self.addr[end].ip(self.family)
    }

    /// Exchanges originator and responder, and everything that belongs to them.
    pub fn flip(&mut self, locality: &Locality) {
        self.addr.swap(0, 1);
        self.port.swap(0, 1);
        self.sent.swap(0, 1);
        self.zone.swap(0, 1);
        self.local.swap(0, 1);
        self.pure_acks.swap(0, 1);
        self.first_window.swap(0, 1);
        self.orig = self.orig.other();
        self.flipped = !self.flipped;
        std::mem::swap(&mut self.conn_state, &mut self.conn_state_flipped);
        self.history = flip_letters(self.history, self.flipped);
        if let Some(live) = &mut self.live {
            live.swapped = !live.swapped;
        }
        let places = [self.ip(0), self.ip(1)].map(|addr| locality.place(addr));
        self.direction = Place::direction(places, self.was_broadcast);
    }
}

/// A history told with the roles exchanged: the case of each letter, and whether it begins with the mark of a connection
/// that was turned round.
fn flip_letters((letters, len): Letters, flipped: bool) -> Letters {
    let letters = letters.iter().take(usize::from(len)).skip_while(|letter| **letter == b'^');
    let letters = letters.map(|letter| letter ^ (u8::from(letter.is_ascii_alphabetic()) << 5));
    let mut turned = ([0; 31], 0);
    for (place, letter) in turned.0.iter_mut().zip(flipped.then_some(b'^').into_iter().chain(letters)) {
        *place = letter;
        turned.1 += 1;
    }
    turned
}

/// How a column is read from a row, and what it holds.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Nanoseconds since the epoch, UTC.
    Time(fn(&Row) -> i64),
    /// A count or a number of bytes.
    U64(fn(&Row) -> u64),
    /// A port.
    U16(fn(&Row) -> u16),
    /// A share.
    F32(fn(&Row) -> f32),
    /// A yes or no.
    Bool(fn(&Row) -> bool),
    /// A number that may be missing.
    OptI32(fn(&Row) -> Option<i32>),
    /// A row that may be missing.
    OptI64(fn(&Row) -> Option<i64>),
    /// One word of a short list; `None` is missing.
    Word(fn(&Row) -> Option<u16>, fn(&[String]) -> Vec<String>),
    /// An address.
    Addr(fn(&Row) -> IpAddr),
    /// Text of its own.
    Text(fn(&Row) -> String),
}

/// A column of the table.
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// How it is read.
    pub kind: Kind,
}

fn words(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Every column, in the order of the table. The second argument of a word list are the names of the zones.
pub const COLUMNS: [Column; 29] = [
    Column { name: "start", kind: Kind::Time(|row| row.time.0) },
    Column { name: "end", kind: Kind::Time(|row| row.time.1) },
    Column { name: "proto", kind: Kind::Word(|row| Some(row.proto as u16), |_| PROTOCOLS.clone()) },
    Column { name: "orig_addr", kind: Kind::Addr(|row| row.ip(0)) },
    Column { name: "orig_port", kind: Kind::U16(|row| row.port[0]) },
    Column { name: "resp_addr", kind: Kind::Addr(|row| row.ip(1)) },
    Column { name: "resp_port", kind: Kind::U16(|row| row.port[1]) },
    Column { name: "direction", kind: Kind::Word(|row| Some(row.direction as u16), |_| words(&Direction::NAMES)) },
    Column { name: "state", kind: Kind::Word(|row| Some(row.state as u16), |_| words(&State::NAMES)) },
    Column { name: "conn_state", kind: Kind::Word(|row| Some(row.conn_state as u16), |_| words(&ConnState::NAMES)) },
    Column { name: "history", kind: Kind::Text(history_text) },
    Column { name: "assured", kind: Kind::Bool(|row| row.assured) },
    Column { name: "seen_reply", kind: Kind::Bool(|row| row.seen_reply) },
    Column { name: "evidence", kind: Kind::Word(|row| Some(row.evidence as u16), |_| words(&Evidence::NAMES)) },
    Column { name: "confidence", kind: Kind::F32(|row| row.confidence) },
    Column { name: "flipped", kind: Kind::Bool(|row| row.flipped) },
    Column { name: "orig_pkts", kind: Kind::U64(|row| row.sent[0].packets) },
    Column { name: "orig_ip_bytes", kind: Kind::U64(|row| row.sent[0].ip_bytes) },
    Column { name: "orig_bytes", kind: Kind::U64(|row| row.sent[0].payload_bytes) },
    Column { name: "resp_pkts", kind: Kind::U64(|row| row.sent[1].packets) },
    Column { name: "resp_ip_bytes", kind: Kind::U64(|row| row.sent[1].ip_bytes) },
    Column { name: "resp_bytes", kind: Kind::U64(|row| row.sent[1].payload_bytes) },
    Column { name: "orig_zone", kind: Kind::Word(|row| row.zone[0], <[String]>::to_vec) },
    Column { name: "resp_zone", kind: Kind::Word(|row| row.zone[1], <[String]>::to_vec) },
    Column { name: "vlan", kind: Kind::OptI32(|row| vid(row.vlan.outer)) },
    Column {
        name: "tunnel",
        kind: Kind::Word(tunnel, |_| TunnelKind::ALL.iter().map(|kind| kind.name().to_owned()).collect()),
    },
    Column { name: "related_to", kind: Kind::OptI64(|row| row.related_to.or(row.carrier).map(|row| row as i64)) },
    Column { name: "end_reason", kind: Kind::Word(|row| Some(row.end_reason as u16), |_| words(&EndReason::NAMES)) },
    Column { name: "community_id", kind: Kind::Text(community_id) },
];

/// Zeek's history as text.
pub fn history_text(row: &Row) -> String {
    let (letters, len) = row.history;
    letters.iter().take(len as usize).map(|letter| *letter as char).collect()
}

fn vid(tag: u16) -> Option<i32> {
    tag.checked_sub(1).map(i32::from)
}

fn tunnel(row: &Row) -> Option<u16> {
    (row.tunnel.kind != TunnelKind::None).then_some(row.tunnel.kind as u16)
}

/// Community ID version 1.
pub fn community_id(row: &Row) -> String {
    community::id([row.ip(0), row.ip(1)], row.port, row.proto)
}

/// Names of the IP protocols by number (IANA's keywords, as conntrack and Zeek write them), the number where it has none here.
static PROTOCOLS: LazyLock<Vec<String>> = LazyLock::new(|| {
    (0..=255u8).map(|number| protocol_name(number).map_or_else(|| number.to_string(), ToString::to_string)).collect()
});

/// The name of an IP protocol.
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
