//! Connections as IPFIX biflows: messages of a file (RFC 5655) or of a transport (RFC 7011). A record has both directions of a
//! connection (RFC 5103).
//!
//! The source of a record is the originator; `biflowDirection` says whether the initiator is known. Every combination of
//! fields (IPv4 or IPv6, ports, ICMP or neither, a VLAN, a reply) has a template, written before its first record. So no
//! field holds a placeholder. Messages fit the datagrams of an Ethernet, so that a file's messages may be sent unchanged. They
//! depend on the capture alone: the export time is the latest capture time so far.
//!
//! Times are written twice. Every collector reads `flowStartMilliseconds`. `flowStartNanoseconds` is exact, but an NTP
//! timestamp: some collectors take it for nanoseconds since 1970, and its seconds wrap in 2036.

use std::io::{self, Write};
use std::net::IpAddr;

use crate::rows::Row;
use conntrack_base::time::{SECOND, timed};
use conntrack_decode::{Family, ipproto};
use conntrack_track::connection::EndReason;
use conntrack_track::flow::icmp;

/// Maximum octets of a message: an Ethernet MTU less the headers of IPv6 and UDP.
const MESSAGE: usize = 1452;
/// RFC 7011 section 3.1.
const VERSION: u16 = 10;
/// Octets of a message header.
pub const HEADER: usize = 16;
/// RFC 7011 section 3.3.2: the set of templates, and the first template's id.
const TEMPLATES: u16 = 2;
const FIRST_TEMPLATE: u16 = 256;
/// RFC 5103 section 6.1: the enterprise of reverse information elements.
const REVERSE: u32 = 29305;
/// Seconds from 1900, where NTP's time begins, to 1970.
const NTP_1970: i64 = 2_208_988_800;
/// Evidence below this confidence names an end because one must be named: the first sender seen, a probe, its echo.
const SURE: f32 = 0.7;

/// Fields of a record in the place of ports.
#[derive(Clone, Copy, PartialEq)]
enum PortFields {
    Ports,
    /// Presence of an ICMP message of the originator, of the responder.
    Icmp(bool, bool),
    Nothing,
}

/// Optional fields of a record; each combination is a template.
#[derive(Clone, Copy)]
struct Shape {
    family: Family,
    ends: PortFields,
    has_vlan: bool,
    is_answered: bool,
}

/// An information element: number, octets, and the reverse flag (RFC 5103).
type Element = (u16, u16, bool);

impl Shape {
    fn of(row: Row<'_>) -> Self {
        let ends = match row.proto() {
            ipproto::TCP | ipproto::UDP | ipproto::UDPLITE | ipproto::SCTP => PortFields::Ports,
            proto if icmp::is_icmp(proto) => {
                let messages = messages(row);
                PortFields::Icmp(messages[0].is_some(), messages[1].is_some())
            }
            _ => PortFields::Nothing,
        };
        let has_vlan = row.vlan().outer > 0;
        Self { family: row.family(), ends, has_vlan, is_answered: row.sent(1).packets > 0 }
    }

    fn template(self) -> u16 {
        let ends = match self.ends {
            PortFields::Ports => 0,
            PortFields::Icmp(forward, reverse) => 4 + u16::from(forward) + 2 * u16::from(reverse),
            PortFields::Nothing => 1,
        };
        let family = u16::from(self.family == Family::V6);
        FIRST_TEMPLATE + (ends << 3 | family << 2 | u16::from(self.has_vlan) << 1 | u16::from(self.is_answered))
    }

    /// The elements of a record, in the order of `record`.
    fn elements(self) -> Vec<Element> {
        // flowStart and flowEnd in milliseconds and in nanoseconds.
        let mut elements: Vec<Element> = [152, 153, 156, 157].map(|element| (element, 8, false)).into();
        // sourceIPv4Address, destinationIPv4Address; the same of IPv6.
        elements.extend(match self.family {
            Family::V4 => [8, 12].map(|element| (element, 4, false)),
            Family::V6 => [27, 28].map(|element| (element, 16, false)),
        });
        match self.ends {
            // sourceTransportPort, destinationTransportPort.
            PortFields::Ports => elements.extend([7, 11].map(|element| (element, 2, false))),
            // icmpTypeCodeIPv4, icmpTypeCodeIPv6.
            PortFields::Icmp(forward, reverse) => {
                let element = if self.family == Family::V4 { 32 } else { 139 };
                let of_ends = [(forward, false), (reverse, true)];
                elements
                    .extend(of_ends.into_iter().filter(|end| end.0).map(|(_, is_reverse)| (element, 2, is_reverse)));
            }
            PortFields::Nothing => {}
        }
        // protocolIdentifier, flowEndReason, biflowDirection.
        elements.extend([4, 136, 239].map(|element| (element, 1, false)));
        if self.has_vlan {
            // vlanId.
            elements.push((58, 2, false));
        }
        for is_reverse in [false, true].into_iter().take(1 + usize::from(self.is_answered)) {
            // packetDeltaCount, octetDeltaCount, and what is above the transport header: transportOctetDeltaCount.
            elements.extend([2, 1, 401].map(|element| (element, 8, is_reverse)));
        }
        elements
    }
}

/// Type and code of the ICMP message of each end. Paired types have the code 0; others belong to their sender.
fn messages(row: Row<'_>) -> [Option<u16>; 2] {
    let [first, second] = [row.port(0), row.port(1)];
    if icmp::is_pair(row.proto(), first, second) {
        return [Some(first << 8), Some(second << 8)];
    }
    if row.sent(0).packets == 0 && row.sent(1).packets > 0 {
        return [None, Some(second << 8 | first & 0xff)];
    }
    [Some(first << 8 | second & 0xff), None]
}

/// Writes messages, one after another.
pub struct Messages {
    /// The open message, from its header on.
    message: Vec<u8>,
    /// Offset of the open set in the message, and the id of its template.
    set: Option<(usize, u16)>,
    /// Records in the messages before the open one, and in the open one.
    sequence: u32,
    records: u32,
    /// Templates written so far, a bit each.
    defined: u64,
    /// Latest capture time so far, nanoseconds.
    latest: i64,
}

impl Default for Messages {
    fn default() -> Self {
        let message = vec![0; HEADER];
        Self { message, set: None, sequence: 0, records: 0, defined: 0, latest: 0 }
    }
}

impl Messages {
    /// Adds a connection, and writes the open message first if the record does not fit.
    pub fn append(&mut self, row: Row<'_>, out: &mut impl Write) -> io::Result<()> {
        let shape = Shape::of(row);
        let template = shape.template();
        let bit = 1 << (template - FIRST_TEMPLATE);
        let elements = shape.elements();
        let octets: usize = elements.iter().map(|element| usize::from(element.1)).sum();
        let is_new = self.defined & bit == 0;
        // A set has a header of four octets, and so has a template; an element has four, and four more if it is reverse.
        let definition = elements.iter().map(|element| if element.2 { 8 } else { 4 }).sum::<usize>() + 8;
        let needed = octets + 4 + if is_new { definition } else { 0 };
        if self.message.len() + needed > MESSAGE {
            self.write(out)?;
        }
        if is_new {
            self.define(template, &elements);
            self.defined |= bit;
        }
        self.begin_set(template);
        record(row, shape, &mut self.message);
        self.records += 1;
        self.latest = self.latest.max(row.end());
        Ok(())
    }

    /// Writes the open message, if any record is in it.
    pub fn finish(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.records > 0 { self.write(out) } else { Ok(()) }
    }

    fn define(&mut self, template: u16, elements: &[Element]) {
        self.begin_set(TEMPLATES);
        self.message.extend(template.to_be_bytes());
        self.message.extend((elements.len() as u16).to_be_bytes());
        for (element, octets, is_reverse) in elements {
            let enterprise = if *is_reverse { 0x8000 } else { 0 };
            self.message.extend((element | enterprise).to_be_bytes());
            self.message.extend(octets.to_be_bytes());
            if *is_reverse {
                self.message.extend(REVERSE.to_be_bytes());
            }
        }
    }

    fn begin_set(&mut self, id: u16) {
        if self.set.is_none_or(|(_, open)| open != id) {
            self.end_set();
            self.set = Some((self.message.len(), id));
            self.message.extend(id.to_be_bytes());
            self.message.extend([0; 2]);
        }
    }

    fn end_set(&mut self) {
        if let Some((start, _)) = self.set.take() {
            let octets = (self.message.len() - start) as u16;
            self.message[start + 2..start + 4].copy_from_slice(&octets.to_be_bytes());
        }
    }

    fn write(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.end_set();
        // Whole seconds, as late as the last packet.
        let exported = self.latest.div_euclid(SECOND) + i64::from(self.latest.rem_euclid(SECOND) > 0);
        let exported = exported.clamp(0, u32::MAX.into()) as u32;
        let mut header = Vec::with_capacity(HEADER);
        header.extend(VERSION.to_be_bytes());
        header.extend((self.message.len() as u16).to_be_bytes());
        header.extend(exported.to_be_bytes());
        header.extend(self.sequence.to_be_bytes());
        // No observation domain: it is the file's whole.
        header.extend(0_u32.to_be_bytes());
        self.message[..HEADER].copy_from_slice(&header);
        out.write_all(&self.message)?;
        self.message.truncate(HEADER);
        self.sequence = self.sequence.wrapping_add(self.records);
        self.records = 0;
        Ok(())
    }
}

/// The values of a record.
fn record(row: Row<'_>, shape: Shape, out: &mut Vec<u8>) {
    let times = [row.start(), row.end()];
    for time in times {
        // There are none before 1970.
        out.extend((time.max(0) / 1_000_000).to_be_bytes());
    }
    for time in times {
        out.extend(ntp(time).to_be_bytes());
    }
    for end in 0..2 {
        match row.ip(end) {
            IpAddr::V4(addr) => out.extend(addr.octets()),
            IpAddr::V6(addr) => out.extend(addr.octets()),
        }
    }
    match shape.ends {
        PortFields::Ports => out.extend([row.port(0), row.port(1)].into_iter().flat_map(u16::to_be_bytes)),
        PortFields::Icmp(..) => out.extend(messages(row).into_iter().flatten().flat_map(u16::to_be_bytes)),
        PortFields::Nothing => {}
    }
    out.extend([row.proto(), end_reason(row.end_reason()), u8::from(row.confidence() >= SURE)]);
    if shape.has_vlan {
        // Tags hold the VID and one.
        out.extend((row.vlan().outer - 1).to_be_bytes());
    }
    for end in 0..=usize::from(shape.is_answered) {
        let sent = row.sent(end);
        for count in [sent.packets, sent.ip_bytes, sent.payload_bytes] {
            out.extend(count.to_be_bytes());
        }
    }
}

/// The IANA registry of `flowEndReason`: 1 idle, 3 its end was seen, 4 the observer stopped, 5 no room.
fn end_reason(reason: EndReason) -> u8 {
    match reason {
        EndReason::Timeout => 1,
        EndReason::Closed | EndReason::Reset | EndReason::Reused => 3,
        EndReason::EndOfCapture => 4,
        EndReason::Evicted => 5,
    }
}

/// Nanoseconds since 1970 as an NTP timestamp (RFC 7011 section 6.1.10), rounded so that the nanosecond survives decoding.
/// The era is lost: seconds wrap in 2036.
fn ntp(time: i64) -> u64 {
    // RFC 5905, section 6: 0 is an unknown time.
    let Some(time) = timed(time) else { return 0 };
    let seconds = (time.div_euclid(SECOND) + NTP_1970) as u32;
    let fraction = ((time.rem_euclid(SECOND) as u64) << 32).div_ceil(SECOND as u64);
    u64::from(seconds) << 32 | fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_survive_the_fraction() {
        for nanoseconds in [0, 1, 2, 499_999_999, 500_000_000, 999_999_998, 999_999_999] {
            let stamp = ntp(1_767_225_600 * SECOND + nanoseconds);
            assert_eq!(stamp >> 32, 1_767_225_600 + 2_208_988_800);
            assert_eq!(((stamp & 0xffff_ffff) * 1_000_000_000) >> 32, nanoseconds as u64);
        }
        assert_eq!(ntp(-1) >> 32, 2_208_988_799);
    }

    #[test]
    fn templates_have_numbers_of_their_own() {
        let mut seen = std::collections::HashSet::new();
        let icmp =
            [(true, true), (true, false), (false, true)].map(|(forward, reverse)| PortFields::Icmp(forward, reverse));
        for ends in [PortFields::Ports, PortFields::Nothing].into_iter().chain(icmp) {
            for bits in 0..8_u8 {
                let family = if bits & 4 > 0 { Family::V6 } else { Family::V4 };
                let shape = Shape { family, ends, has_vlan: bits & 2 > 0, is_answered: bits & 1 > 0 };
                assert!(seen.insert(shape.template()));
                assert!(shape.template() < FIRST_TEMPLATE + 64, "a bit each");
                let definition: usize = shape.elements().iter().map(|element| if element.2 { 8 } else { 4 }).sum();
                let octets: usize = shape.elements().iter().map(|element| usize::from(element.1)).sum();
                assert!(HEADER + 8 + definition + 4 + octets <= MESSAGE);
            }
        }
    }
}
