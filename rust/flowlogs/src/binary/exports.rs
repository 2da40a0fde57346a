//! Messages of exporters, one after another: NetFlow 5 and 9 (RFC 3954), IPFIX (RFC 7011, RFC 5655).
//!
//! A record of NetFlow 9 or IPFIX has the fields of a template that came before it. Records whose template did not come
//! are counted. An exporter is told from others by its engine or its observation domain.

use ahash::AHashMap as HashMap;

use super::fields::{Record, Uptime, unsigned, v4};
use crate::sink::Sink;

/// The most templates in memory: those of all exporters.
const MAX_TEMPLATES: usize = 1 << 16;
/// The most fields of a template.
const MAX_TEMPLATE_FIELDS: usize = 1 << 10;
/// Length of a field whose length is in the record (RFC 7011 section 7).
const VARIABLE: u16 = 0xffff;
/// Octets of headers: NetFlow 5, its record, NetFlow 9, IPFIX.
const V5: usize = 24;
const V5_RECORD: usize = 48;
const V9: usize = 20;
const IPFIX: usize = 16;
/// Records of a full message of NetFlow 5 (Cisco's documents).
const FULL_V5: u16 = 30;

/// A field: element, enterprise, octets.
type Field = (u16, u32, u16);

/// A template: its fields, and whether it describes options of the exporter.
struct Template {
    fields: Vec<Field>,
    is_options: bool,
}

/// The reader.
#[derive(Default)]
pub struct Exports {
    templates: HashMap<(u16, u32, u16), Template>,
    /// Offset of the next message in the file.
    offset: u64,
}

/// A part of a message that its reader needs: version, exporter, clock.
#[derive(Clone, Copy)]
struct Sender {
    version: u16,
    domain: u32,
    clock: Uptime,
    observer: u32,
}

impl Exports {
    /// Takes whole messages, and returns their octets.
    pub fn messages(&mut self, bytes: &[u8], ended: bool, sink: &mut Sink<'_>) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let rest = &bytes[taken..];
            sink.place = self.offset;
            let version = rest.get(..2).and_then(unsigned).unwrap_or(0);
            let used = match version {
                5 => Self::version_5(rest, sink),
                9 => self.version_9(rest, ended, sink),
                10 => self.ipfix(rest, sink),
                _ if rest.len() < 2 && !ended => None,
                _ => Some(resynchronise(rest, sink)),
            };
            let Some(used) = used else {
                if ended {
                    sink.account.records += 1;
                    sink.bad("netflow: the file ends within a message", b"");
                    return bytes.len();
                }
                break;
            };
            taken += used;
            self.offset += used as u64;
        }
        taken
    }

    fn version_5(bytes: &[u8], sink: &mut Sink<'_>) -> Option<usize> {
        let header = bytes.get(..V5)?;
        let part = |at: usize, len: usize| unsigned(&header[at..at + len]).unwrap_or(0);
        let count = part(2, 2) as u16;
        if count == 0 || count > FULL_V5 {
            return Some(resynchronise(bytes, sink));
        }
        let records = bytes.get(V5..V5 + usize::from(count) * V5_RECORD)?;
        let now = part(8, 4) as i64 * 1_000 + part(12, 4) as i64 / 1_000_000;
        let clock = Uptime { now, up: part(4, 4) as i64 };
        let observer = named(sink, "engine", part(20, 2));
        let sampling = part(22, 2) as u32 & 0x3fff;
        for record in records.chunks_exact(V5_RECORD) {
            let part = |at: usize, len: usize| unsigned(&record[at..at + len]).unwrap_or(0);
            let addrs = [v4(part(0, 4) as u32), v4(part(4, 4) as u32)];
            let times = (clock.at(part(24, 4)), clock.at(part(28, 4)));
            let mut one = Record::of(addrs, [part(32, 2) as u16, part(34, 2) as u16], (record[38], record[37]), times);
            one.count(0, part(16, 4), part(20, 4));
            if sampling > 0 {
                one.sample(sampling);
            }
            sink.account.records += 1;
            if let Err(reason) = one.finish(observer, sink) {
                sink.bad(reason, b"");
            }
        }
        Some(V5 + records.len())
    }

    fn version_9(&mut self, bytes: &[u8], ended: bool, sink: &mut Sink<'_>) -> Option<usize> {
        let header = bytes.get(..V9)?;
        let part = |at: usize| unsigned(&header[at..at + 4]).unwrap_or(0);
        let clock = Uptime { now: part(8) as i64 * 1_000, up: part(4) as i64 };
        let domain = part(16) as u32;
        // A message has no length: it ends where no set begins.
        let mut ends = V9;
        loop {
            match bytes.get(ends..ends + 4) {
                Some(set) if is_set_of_9(set) => ends += usize::from(u16::from_be_bytes([set[2], set[3]])),
                Some(_) => break,
                None if ended && ends <= bytes.len() => break,
                None => return None,
            }
        }
        let sets = bytes.get(V9..ends)?;
        let observer = named(sink, "domain", domain.into());
        self.sets(sets, Sender { version: 9, domain, clock, observer }, sink);
        Some(ends)
    }

    fn ipfix(&mut self, bytes: &[u8], sink: &mut Sink<'_>) -> Option<usize> {
        let header = bytes.get(..IPFIX)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if length < IPFIX {
            return Some(resynchronise(bytes, sink));
        }
        let message = bytes.get(..length)?;
        let now = unsigned(&header[4..8]).unwrap_or(0) as i64 * 1_000;
        let domain = unsigned(&header[12..16]).unwrap_or(0) as u32;
        let observer = named(sink, "domain", domain.into());
        self.sets(&message[IPFIX..], Sender { version: 10, domain, clock: Uptime { now, up: 0 }, observer }, sink);
        Some(length)
    }

    fn sets(&mut self, mut bytes: &[u8], sender: Sender, sink: &mut Sink<'_>) {
        while let [id_high, id_low, high, low, ..] = *bytes {
            let (id, length) = (u16::from_be_bytes([id_high, id_low]), usize::from(u16::from_be_bytes([high, low])));
            let Some(set) = bytes.get(4..length) else {
                sink.account.records += 1;
                return sink.bad("netflow: a set that is longer than its message", b"");
            };
            match (sender.version, id) {
                (9, 0) | (10, 2) => self.templates(set, sender, false, sink),
                (9, 1) | (10, 3) => self.templates(set, sender, true, sink),
                (_, 256..) => self.data(set, id, sender, sink),
                _ => sink.account.other += 1,
            }
            bytes = &bytes[length..];
        }
    }

    fn templates(&mut self, mut set: &[u8], sender: Sender, is_options: bool, sink: &mut Sink<'_>) {
        let head = if is_options { 6 } else { 4 };
        while set.len() >= head {
            let part = |at: usize| u16::from_be_bytes([set[at], set[at + 1]]);
            let id = part(0);
            // NetFlow 9 counts octets of scopes and options, IPFIX fields.
            let count = match (is_options, sender.version) {
                (true, 9) => usize::from(part(2)) / 4 + usize::from(part(4)) / 4,
                _ => usize::from(part(2)),
            };
            if id < 256 {
                return;
            }
            set = &set[if is_options && count == 0 { 4 } else { head }..];
            let mut fields = Vec::new();
            for _ in 0..count {
                let [high, low, length_high, length_low, ref rest @ ..] = *set else { break };
                let element = u16::from_be_bytes([high, low]);
                set = rest;
                let mut enterprise = 0;
                if sender.version == 10 && element & 0x8000 != 0 {
                    let Some(number) = set.get(..4).and_then(unsigned) else { break };
                    enterprise = number as u32;
                    set = &set[4..];
                }
                fields.push((element & 0x7fff, enterprise, u16::from_be_bytes([length_high, length_low])));
            }
            let key = (sender.version, sender.domain, id);
            let fits = fields.len() == count && count <= MAX_TEMPLATE_FIELDS;
            if !fits || (self.templates.len() >= MAX_TEMPLATES && !self.templates.contains_key(&key)) {
                sink.account.records += 1;
                return sink.bad("netflow: a template that is cut off, too large, or one too many", b"");
            }
            if count == 0 {
                // RFC 7011 section 8.1: withdrawn.
                self.templates.remove(&key);
            } else {
                self.templates.insert(key, Template { fields, is_options });
            }
        }
    }

    fn data(&self, mut set: &[u8], id: u16, sender: Sender, sink: &mut Sink<'_>) {
        let Some(template) = self.templates.get(&(sender.version, sender.domain, id)) else {
            sink.account.records += 1;
            return sink.bad("netflow: records before their template", b"");
        };
        let least: usize =
            template.fields.iter().map(|field| if field.2 == VARIABLE { 1 } else { field.2.into() }).sum();
        if least == 0 {
            sink.account.records += 1;
            return sink.bad("netflow: a template of fields without octets", b"");
        }
        while set.len() >= least {
            let mut record = Record::default();
            for (element, enterprise, length) in &template.fields {
                let Some((value, rest)) = field(set, *length) else { return };
                if *enterprise == 0 || *enterprise == super::fields::REVERSE {
                    record.take(*element, *enterprise, value, sender.clock);
                }
                set = rest;
            }
            if template.is_options {
                sink.account.other += 1;
                continue;
            }
            sink.account.records += 1;
            if let Err(reason) = record.finish(sender.observer, sink) {
                sink.bad(reason, b"");
            }
        }
    }
}

/// A field's value, and what follows.
fn field(bytes: &[u8], length: u16) -> Option<(&[u8], &[u8])> {
    if length != VARIABLE {
        return bytes.split_at_checked(length.into());
    }
    match bytes {
        [255, high, low, rest @ ..] => rest.split_at_checked(u16::from_be_bytes([*high, *low]).into()),
        [length, rest @ ..] => rest.split_at_checked((*length).into()),
        [] => None,
    }
}

/// Test for the header of a set of NetFlow 9: templates, options or data, of a length.
fn is_set_of_9(header: &[u8]) -> bool {
    let [id, length] = [0, 2].map(|at| u16::from_be_bytes([header[at], header[at + 1]]));
    matches!(id, 0 | 1 | 256..) && length >= 4
}

/// The number of an observer of this name; 0 is the only one of its file, as a rule, and has none.
fn named(sink: &mut Sink<'_>, what: &str, number: u64) -> u32 {
    if number == 0 { 0 } else { sink.observer(format!("{what} {number}").as_bytes()) }
}

/// Octets up to the next that may begin a message.
fn resynchronise(bytes: &[u8], sink: &mut Sink<'_>) -> usize {
    sink.account.records += 1;
    sink.bad("netflow: octets that begin no message", b"");
    let begins = |two: &[u8]| matches!(two, [0, 5 | 9 | 10]);
    bytes[1..].windows(2).position(begins).map_or(bytes.len(), |at| at + 1)
}
