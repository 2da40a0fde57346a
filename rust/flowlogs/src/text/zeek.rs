//! `conn.log` of Zeek, tab-separated; the meaning of a connection's fields also serves JSON.
//!
//! Source: Zeek's `base/protocols/conn/main.zeek`. The originator is Zeek's own. A history with the originator's SYN is as
//! good as the SYN; else Zeek took the first sender, or exchanged the ends by a list of ports.

use conntrack_core::connection::{EndReason, Evidence};
use conntrack_core::decode::{Vlan, ipproto};
use conntrack_core::flow::icmp;
use conntrack_core::zeek::ConnState;

use super::LineReader;
use crate::fields::{address, number, protocol, seconds, small, tuple};
use crate::record::{Counts, Whole, letters};
use crate::sink::Sink;

/// The longest history that a row holds, in letters.
const MAX_HISTORY: usize = 31;

/// The fields of a connection as text; empty: unset.
#[derive(Clone, Copy, Default)]
pub struct Fields<'a> {
    /// Addresses of originator and responder.
    pub addrs: [&'a [u8]; 2],
    /// Ports.
    pub ports: [&'a [u8]; 2],
    /// Name of the transport.
    pub proto: &'a [u8],
    /// Number of the protocol.
    pub ip_proto: &'a [u8],
    /// Payload bytes.
    pub bytes: [&'a [u8]; 2],
    /// Packets.
    pub packets: [&'a [u8]; 2],
    /// Bytes from the IP header on.
    pub ip_bytes: [&'a [u8]; 2],
    /// `conn_state`.
    pub conn_state: &'a [u8],
    /// `history`.
    pub history: &'a [u8],
    /// VLAN ids, outer and inner.
    pub vlans: [&'a [u8]; 2],
}

/// A connection of its fields; otherwise the reason why it is none.
pub fn connection(fields: &Fields<'_>, start: i64, lasted: i64) -> Result<Whole, &'static str> {
    let [src, dst] = fields.addrs.map(address);
    let (src, dst) = (src.ok_or("zeek: no originator's address")?, dst.ok_or("zeek: no responder's address")?);
    let proto = small(fields.ip_proto).or_else(|| protocol(fields.proto)).ok_or("zeek: a protocol without a number")?;
    let is_v6 = src.1 == conntrack_core::decode::Family::V6;
    let proto = if proto == ipproto::ICMP && is_v6 { ipproto::ICMPV6 } else { proto };
    let [sport, dport] = fields.ports.map(|port| if port.is_empty() { Some(0) } else { small(port) });
    let ports = (sport.ok_or("zeek: a port that is none")?, dport.ok_or("zeek: a port that is none")?);
    let tuple = tuple(src, dst, ports, proto).ok_or("zeek: addresses of two families")?;
    let end = start.checked_add(lasted).ok_or("zeek: a duration without end")?;
    let has = |letter: u8| fields.history.contains(&letter);
    let evidence = match proto {
        ipproto::TCP if has(b'S') => Evidence::Syn,
        ipproto::TCP if has(b'h') => Evidence::SynAck,
        ipproto::ICMP | ipproto::ICMPV6 if icmp::is_request(proto, ports.0 as u8) => Evidence::IcmpRequest,
        _ => Evidence::Logged,
    };
    let counts =
        |end: usize| Some(Counts { packets: number(fields.packets[end])?, bytes: number(fields.ip_bytes[end])? });
    let state = std::str::from_utf8(fields.conn_state).ok().and_then(ConnState::named);
    let is_known = !fields.history.is_empty() && fields.history.len() <= MAX_HISTORY;
    Ok(Whole {
        sent: [counts(0), counts(1)],
        payload: fields.bytes.map(number),
        flipped: is_known.then(|| fields.history[0] == b'^'),
        history: is_known.then(|| letters(fields.history)),
        letters: letters(fields.history),
        conn_state: state,
        end_reason: state.and_then(reason),
        refused: (state == Some(ConnState::Rej)).then_some(1),
        vlan: Vlan {
            outer: small::<u16>(fields.vlans[0]).map_or(0, |vid| (vid & 0xfff) + 1),
            inner: small::<u16>(fields.vlans[1]).map_or(0, |vid| (vid & 0xfff) + 1),
        },
        ..Whole::new(tuple, start, end, evidence)
    })
}

fn reason(state: ConnState) -> Option<EndReason> {
    match state {
        ConnState::Sf => Some(EndReason::Closed),
        ConnState::Rej | ConnState::Rsto | ConnState::Rstr | ConnState::Rstos0 | ConnState::Rstrh => {
            Some(EndReason::Reset)
        }
        _ => None,
    }
}

/// Columns by the order of [`NAMES`]; None: the log lacks it.
type Columns = [Option<usize>; NAMES.len()];

/// Names of the columns that are read.
const NAMES: [&str; 19] = [
    "ts",
    "duration",
    "id.orig_h",
    "id.resp_h",
    "id.orig_p",
    "id.resp_p",
    "proto",
    "ip_proto",
    "orig_bytes",
    "resp_bytes",
    "orig_pkts",
    "resp_pkts",
    "orig_ip_bytes",
    "resp_ip_bytes",
    "conn_state",
    "history",
    "vlan",
    "inner_vlan",
    "uid",
];

/// The reader.
pub struct Zeek {
    separator: u8,
    unset: Vec<u8>,
    columns: Columns,
}

impl Default for Zeek {
    fn default() -> Self {
        Self { separator: b'\t', unset: b"-".to_vec(), columns: [None; NAMES.len()] }
    }
}

/// Test for the head of a connection log; otherwise what was found.
pub fn looks_like(head: &[u8]) -> Result<(), &'static str> {
    let mut lines = head.split(|byte| *byte == b'\n').take_while(|line| line.starts_with(b"#"));
    let fields = lines.find(|line| line.starts_with(b"#fields"));
    let fields = fields.ok_or("a head without #fields")?;
    let has = |name: &[u8]| memchr::memmem::find(fields, name).is_some();
    if has(b"id.orig_h") && has(b"proto") {
        Ok(())
    } else {
        Err("#fields without id.orig_h and proto: another log of Zeek")
    }
}

impl LineReader for Zeek {
    fn line(&mut self, line: &[u8], sink: &mut Sink<'_>) {
        if let Some(head) = line.strip_prefix(b"#") {
            sink.account.other += 1;
            return self.head(head);
        }
        let cells: Vec<&[u8]> = line.split(|byte| *byte == self.separator).collect();
        match self.whole(&cells) {
            Ok(whole) => sink.whole(whole),
            Err(reason) => sink.bad(reason, line),
        }
    }
}

impl Zeek {
    fn head(&mut self, head: &[u8]) {
        if let Some(text) = head.strip_prefix(b"separator ") {
            let hex = text.strip_prefix(b"\\x").and_then(|hex| std::str::from_utf8(hex).ok());
            let byte = hex.and_then(|hex| u8::from_str_radix(hex.trim(), 16).ok());
            self.separator = byte.or(text.first().copied()).unwrap_or(b'\t');
        }
        let separator = self.separator;
        let mut words = head.split(|byte| *byte == separator);
        match words.next() {
            Some(b"unset_field") => self.unset = words.next().unwrap_or(b"-").to_vec(),
            Some(b"fields") => {
                let names: Vec<&[u8]> = words.collect();
                self.columns = NAMES.map(|name| names.iter().position(|known| *known == name.as_bytes()));
            }
            _ => {}
        }
    }

    fn whole(&self, cells: &[&[u8]]) -> Result<Whole, &'static str> {
        if self.columns[0].is_none() {
            return Err("zeek: a record before #fields");
        }
        let cell = |column: usize| {
            let text = self.columns[column].and_then(|place| cells.get(place)).copied().unwrap_or_default();
            if text == self.unset || text == b"(empty)" { &b""[..] } else { text }
        };
        let start = seconds(cell(0)).or_else(|| crate::fields::moment(cell(0))).ok_or("zeek: no time")?;
        let lasted = if cell(1).is_empty() { 0 } else { seconds(cell(1)).ok_or("zeek: a duration that is none")? };
        let fields = Fields {
            addrs: [cell(2), cell(3)],
            ports: [cell(4), cell(5)],
            proto: cell(6),
            ip_proto: cell(7),
            bytes: [cell(8), cell(9)],
            packets: [cell(10), cell(11)],
            ip_bytes: [cell(12), cell(13)],
            conn_state: cell(14),
            history: cell(15),
            vlans: [cell(16), cell(17)],
        };
        connection(&fields, start, lasted)
    }
}
