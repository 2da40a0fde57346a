//! VPC and transit gateway flow logs of AWS, version 2 to the newest, as text.
//!
//! Source: docs.aws.amazon.com, "Flow log records". A record is one direction of one window; a custom format has any
//! fields in any order. `pkt-srcaddr` and `pkt-dstaddr` are the packet's own, where `srcaddr` and `dstaddr` name the
//! interface. `tcp-flags` is an OR over the window: 2 is a SYN, 18 a SYN+ACK; an ACK alone is not recorded.

use super::{LineReader, words};
use crate::fields::{address, number, small, tuple};
use crate::record::{Counts, Flow, Refused, Says};
use crate::sink::Sink;

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;
/// The default format: version 2.
const DEFAULT: [&str; 14] = [
    "version",
    "account-id",
    "interface-id",
    "srcaddr",
    "dstaddr",
    "srcport",
    "dstport",
    "protocol",
    "packets",
    "bytes",
    "start",
    "end",
    "action",
    "log-status",
];
/// The most fields of a format.
const MAX_FIELDS: usize = 256;

/// Places of the fields in a line.
#[derive(Clone, Copy, Default)]
struct Layout {
    count: usize,
    srcaddr: Option<usize>,
    dstaddr: Option<usize>,
    pkt_srcaddr: Option<usize>,
    pkt_dstaddr: Option<usize>,
    srcport: Option<usize>,
    dstport: Option<usize>,
    protocol: Option<usize>,
    packets: Option<usize>,
    bytes: Option<usize>,
    start: Option<usize>,
    end: Option<usize>,
    action: Option<usize>,
    status: Option<usize>,
    flags: Option<usize>,
    direction: Option<usize>,
    interface: Option<usize>,
}

impl Layout {
    /// Places of named fields; otherwise the fields that are missing.
    fn of<'a>(names: impl Iterator<Item = &'a [u8]>) -> Result<Self, String> {
        let mut layout = Self::default();
        for name in names {
            let place = Some(layout.count);
            layout.count += 1;
            match String::from_utf8_lossy(name).replace('_', "-").as_str() {
                "srcaddr" => layout.srcaddr = place,
                "dstaddr" => layout.dstaddr = place,
                "pkt-srcaddr" => layout.pkt_srcaddr = place,
                "pkt-dstaddr" => layout.pkt_dstaddr = place,
                "srcport" => layout.srcport = place,
                "dstport" => layout.dstport = place,
                "protocol" => layout.protocol = place,
                "packets" => layout.packets = place,
                "bytes" => layout.bytes = place,
                "start" => layout.start = place,
                "end" => layout.end = place,
                "action" => layout.action = place,
                "log-status" => layout.status = place,
                "tcp-flags" => layout.flags = place,
                "flow-direction" => layout.direction = place,
                "interface-id" => layout.interface = place,
                "tgw-attachment-id" => layout.interface = layout.interface.or(place),
                _ => {}
            }
        }
        if layout.count > MAX_FIELDS {
            return Err(format!("a format of {} fields, expected at most {MAX_FIELDS}", layout.count));
        }
        let needed = [
            ("srcaddr", layout.srcaddr.or(layout.pkt_srcaddr)),
            ("dstaddr", layout.dstaddr.or(layout.pkt_dstaddr)),
            ("srcport", layout.srcport),
            ("dstport", layout.dstport),
            ("protocol", layout.protocol),
            ("start", layout.start),
            ("end", layout.end),
        ];
        let missing: Vec<&str> =
            needed.into_iter().filter(|(_, place)| place.is_none()).map(|(name, _)| name).collect();
        if missing.is_empty() {
            return Ok(layout);
        }
        let missing = missing.join(", ");
        Err(format!(
            "the format has no {missing}, without which records cannot be paired: add the fields to the flow log's format"
        ))
    }
}

/// The reader.
pub struct Aws {
    layout: Layout,
    /// Words of the line, reused.
    ends: Vec<(u32, u32)>,
}

/// The reader of a log with this first line. `fields`: a custom format. `is_asked`: the caller named the kind.
pub fn reader(line: &[u8], fields: Option<&[String]>, is_asked: bool) -> Result<Aws, String> {
    let layout = match fields {
        Some(fields) => Layout::of(fields.iter().map(String::as_bytes))?,
        None if is_header(line) => Layout::of(words(line))?,
        None => {
            let count = words(line).skip(usize::from(is_stamped(line))).count();
            let status = words(line).last().unwrap_or_default();
            let is_default = count == DEFAULT.len() && (is_asked || matches!(status, b"OK" | b"NODATA" | b"SKIPDATA"));
            if !is_default {
                let remedy = "without a line of field names: give them with fields (--fields)";
                return Err(format!("{count} words, expected the {} of version 2, {remedy}", DEFAULT.len()));
            }
            Layout::of(DEFAULT.iter().map(|name| name.as_bytes()))?
        }
    };
    Ok(Aws { layout, ends: Vec::new() })
}

/// Test for a line of field names, which every file in a bucket begins with.
fn is_header(line: &[u8]) -> bool {
    let names: [&[u8]; 8] = [
        b"srcaddr",
        b"dstaddr",
        b"pkt-srcaddr",
        b"pkt-dstaddr",
        b"interface-id",
        b"account-id",
        b"pkt_srcaddr",
        b"interface_id",
    ];
    words(line).any(|word| names.contains(&word))
}

/// Test for a time in front of the record, as exports of CloudWatch Logs have it.
fn is_stamped(line: &[u8]) -> bool {
    words(line).next().is_some_and(|word| crate::fields::moment(word).is_some())
}

impl LineReader for Aws {
    fn line(&mut self, line: &[u8], sink: &mut Sink<'_>) {
        let mut words = std::mem::take(&mut self.ends);
        words.clear();
        let mut from = 0;
        for end in memchr::memchr2_iter(b' ', b'\t', line).chain(std::iter::once(line.len())) {
            if end > from {
                words.push((from as u32, end as u32));
            }
            from = end + 1;
        }
        let stamped = usize::from(words.len() == self.layout.count + 1 && is_stamped(line));
        let word =
            |at: usize| words.get(at + stamped).map_or(&b""[..], |(from, to)| &line[*from as usize..*to as usize]);
        if words.len() != self.layout.count + stamped {
            if is_header(line) {
                sink.account.other += 1;
            } else {
                sink.bad("aws: another number of fields than the format has", line);
            }
        } else if is_header(line) {
            sink.account.other += 1;
        } else {
            match self.layout.status.map_or(&b"OK"[..], word) {
                b"NODATA" => sink.account.no_data += 1,
                b"SKIPDATA" => sink.miss(line),
                _ => match self.layout.flow(word, sink) {
                    Ok(flow) => sink.flow(&flow),
                    Err(reason) => sink.bad(reason, line),
                },
            }
        }
        self.ends = words;
    }
}

impl Layout {
    fn flow<'a>(&self, word: impl Fn(usize) -> &'a [u8], sink: &mut Sink<'_>) -> Result<Flow, &'static str> {
        let field = |place: Option<usize>| place.map(&word).filter(|word| *word != b"-");
        // The packet's own addresses, unless the record has none.
        let addr = |own: Option<usize>, other: Option<usize>| field(own).or_else(|| field(other)).and_then(address);
        let src = addr(self.pkt_srcaddr, self.srcaddr).ok_or("aws: no source address")?;
        let dst = addr(self.pkt_dstaddr, self.dstaddr).ok_or("aws: no destination address")?;
        let proto: u8 = field(self.protocol).and_then(small).ok_or("aws: no protocol number")?;
        let port = |place: Option<usize>| match field(place) {
            Some(text) => small::<u16>(text).ok_or("aws: a port that is none"),
            None if matches!(proto, 6 | 17 | 132) => Err("aws: no port"),
            None => Ok(0),
        };
        let ports = (port(self.srcport)?, port(self.dstport)?);
        let time = |place: Option<usize>| {
            let seconds = field(place).and_then(number).filter(|seconds| *seconds < 1 << 33);
            seconds.map(|seconds| seconds as i64 * SECOND).ok_or("aws: a time that is no second since 1970")
        };
        let (start, end) = (time(self.start)?, time(self.end)?);
        if end - start > 86_400 * SECOND {
            return Err("aws: a window of more than a day");
        }
        let count = |place: Option<usize>| match field(place) {
            Some(text) => number(text).map(Some).ok_or("aws: a count that is none"),
            None => Ok(None),
        };
        let (packets, bytes) = (count(self.packets)?, count(self.bytes)?);
        let flags = match field(self.flags) {
            Some(text) if proto == 6 => Some(number(text).ok_or("aws: TCP flags that are none")? as u8),
            _ => None,
        };
        let refused = (field(self.action) == Some(b"REJECT")).then(|| match field(self.direction) {
            Some(b"ingress") => Refused::Receiver,
            Some(b"egress") => Refused::Sender,
            _ => Refused::Observer,
        });
        let tuple = tuple(src, dst, ports, proto).ok_or("aws: addresses of two families")?;
        Ok(Flow {
            typed: false,
            tuple,
            start,
            end,
            sent: [Some(Counts { packets: packets.unwrap_or(0), bytes: bytes.unwrap_or(0) }), None],
            counted: packets.is_some() && bytes.is_some(),
            flags: [flags, None],
            blended: false,
            says: Says::Nothing,
            refused,
            observer: field(self.interface).map_or(0, |name| sink.observer(name)),
            sampled: None,
        })
    }
}
