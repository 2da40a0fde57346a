//! Entries and events of a gateway: `conntrack -L`, `conntrack -E` and `/proc/net/nf_conntrack`.
//!
//! Source: `conntrack(8)` and `nfct_snprintf` of libnetfilter_conntrack. An entry has both of its tuples, so a translation
//! is where the second is not the first one turned. The kernel saw the first packet: its sender is the originator. Events
//! of one entry are joined by its id, or else by its tuple, up to DESTROY.

use std::net::IpAddr;

use ahash::AHashMap as HashMap;

use conntrack_core::connection::{EndReason, Evidence};
use conntrack_core::decode::{Addr, Family, FiveTuple};
use conntrack_core::flow::Side;
use conntrack_core::proto::State;
use conntrack_core::rows::told::{Nat, NatEvidence, side_of};
use conntrack_core::time::UNTIMED;

use super::{LineReader, words};
use crate::fields::{address, is_icmp, number, seconds, small};
use crate::record::{Counts, Whole};
use crate::sink::Sink;

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// An event, or an entry of a listing.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Event {
    #[default]
    Listed,
    New,
    Update,
    Destroy,
}

/// A tuple of an entry.
#[derive(Clone, Copy, Default)]
struct Tuple {
    src: Option<(Addr, Family)>,
    dst: Option<(Addr, Family)>,
    ports: [u16; 2],
    icmp: Option<[u16; 2]>,
    icmp_id: u16,
    packets: Option<u64>,
    bytes: Option<u64>,
}

impl Tuple {
    fn counts(&self) -> Option<Counts> {
        Some(Counts { packets: self.packets?, bytes: self.bytes? })
    }

    /// Port of an end, or the ICMP identifier.
    fn port(&self, end: usize, proto: u8) -> u16 {
        if is_icmp(proto) { self.icmp_id } else { self.ports[end] }
    }
}

/// A line.
#[derive(Default)]
struct Entry {
    at: Option<i64>,
    event: Event,
    proto: u8,
    state: Option<State>,
    unreplied: bool,
    assured: bool,
    tuples: [Tuple; 2],
    id: Option<u64>,
    zone: u64,
    delta: Option<i64>,
}

/// The key of an entry: its id, or its tuple and zone.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Id(u64, FiveTuple),
    Tuple(FiveTuple, u16, u64),
}

/// The reader.
#[derive(Default)]
pub struct Conntrack {
    known: HashMap<Key, usize>,
    entries: Vec<Whole>,
}

/// Test for a line of any of the forms; otherwise what was expected.
pub fn looks_like(line: &[u8]) -> Result<(), &'static str> {
    parse(line).map(drop)
}

impl LineReader for Conntrack {
    fn line(&mut self, line: &[u8], sink: &mut Sink<'_>) {
        if line.starts_with(b"conntrack v") || line.trim_ascii().is_empty() {
            sink.account.other += 1;
            return;
        }
        match parse(line).and_then(|entry| Ok((whole(&entry)?, entry))) {
            Ok((whole, entry)) => self.take(whole, &entry, sink),
            Err(reason) => sink.bad(reason, line),
        }
    }

    fn end(&mut self, sink: &mut Sink<'_>) {
        for whole in self.entries.drain(..) {
            sink.whole(whole);
        }
        self.known.clear();
    }
}

impl Conntrack {
    fn take(&mut self, whole: Whole, entry: &Entry, sink: &mut Sink<'_>) {
        let key = match entry.id {
            Some(id) => Key::Id(id, whole.tuple),
            None => Key::Tuple(whole.tuple, entry.tuples[0].icmp_id, entry.zone),
        };
        if entry.event == Event::New {
            self.known.remove(&key);
        }
        let place = self.known.get(&key).copied();
        let Some(old) = place.and_then(|place| self.entries.get_mut(place)) else {
            if !sink.has_room(self.entries.len()) {
                return;
            }
            if entry.event != Event::Destroy {
                self.known.insert(key, self.entries.len());
            }
            self.entries.push(whole);
            return;
        };
        join(old, &whole);
        if entry.event == Event::Destroy {
            self.known.remove(&key);
        }
    }
}

/// Adds a later event to an entry.
fn join(old: &mut Whole, new: &Whole) {
    old.records = old.records.saturating_add(1);
    old.end = old.end.max(new.end);
    if new.start != UNTIMED && (old.start == UNTIMED || new.start < old.start) {
        old.start = new.start;
    }
    for end in 0..2 {
        old.sent[end] = new.sent[end].or(old.sent[end]);
    }
    old.assured = Some(old.assured == Some(true) || new.assured == Some(true));
    old.replied = Some(old.replied == Some(true) || new.replied == Some(true));
    old.nat = new.nat.or(old.nat);
    if new.end_reason.is_some() {
        old.end_reason = new.end_reason;
        // The event of the end names no state.
        if let (Some(EndReason::Timeout), Some(state)) = (new.end_reason, old.state) {
            old.end_reason = Some(reason(state));
        }
    }
    old.state = new.state.or(old.state);
}

/// The reason for the end of an entry, by its last state.
fn reason(state: State) -> EndReason {
    match state {
        State::TimeWait | State::LastAck => EndReason::Closed,
        State::Close => EndReason::Reset,
        _ => EndReason::Timeout,
    }
}

fn parse(line: &[u8]) -> Result<Entry, &'static str> {
    let mut entry = Entry::default();
    let mut words = words(line).peekable();
    while let Some(word) = words.next_if(|word| word.starts_with(b"[")) {
        let inner = word.trim_ascii().strip_prefix(b"[").and_then(|word| word.strip_suffix(b"]"));
        match inner {
            Some(b"NEW") => entry.event = Event::New,
            Some(b"UPDATE") => entry.event = Event::Update,
            Some(b"DESTROY") => entry.event = Event::Destroy,
            Some(time) => entry.at = Some(seconds(time).ok_or("conntrack: neither an event nor a time in brackets")?),
            None => return Err("conntrack: brackets that do not close"),
        }
    }
    let mut name = words.next().ok_or("conntrack: an empty line")?;
    if matches!(name, b"ipv4" | b"ipv6") {
        words.next();
        name = words.next().ok_or("conntrack: no protocol")?;
    }
    if name.contains(&b'=') {
        return Err("conntrack: no protocol before the first tuple");
    }
    entry.proto = words.next().and_then(small).ok_or("conntrack: no protocol number after the protocol")?;
    words.next_if(|word| number(word).is_some());
    if let Some(word) = words
        .next_if(|word| word.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_' || byte.is_ascii_digit()))
    {
        let state = std::str::from_utf8(word).ok();
        entry.state = state.and_then(|word| State::ALL.into_iter().find(|state| state.name() == word));
    }
    let (mut place, mut last) = (0, &b""[..]);
    for word in words {
        match word {
            b"[UNREPLIED]" => entry.unreplied = true,
            b"[ASSURED]" => entry.assured = true,
            _ => {
                let mut parts = word.splitn(2, |byte| *byte == b'=');
                let (Some(key), Some(value)) = (parts.next(), parts.next()) else { continue };
                if key == b"src" && entry.tuples[place].src.is_some() {
                    place = 1;
                }
                pair(&mut entry, place, (key, value), last).ok_or("conntrack: a value that is none")?;
                last = key;
            }
        }
    }
    Ok(entry)
}

/// Takes `key=value`; None for a value that is none.
fn pair(entry: &mut Entry, place: usize, (key, value): (&[u8], &[u8]), last: &[u8]) -> Option<()> {
    let tuple = &mut entry.tuples[place];
    match key {
        b"src" => tuple.src = Some(address(value)?),
        b"dst" => tuple.dst = Some(address(value)?),
        b"sport" => tuple.ports[0] = small(value)?,
        b"dport" => tuple.ports[1] = small(value)?,
        b"type" => tuple.icmp = Some([small::<u8>(value)?.into(), 0]),
        b"code" => tuple.icmp.get_or_insert_default()[1] = small::<u8>(value)?.into(),
        b"packets" => tuple.packets = Some(number(value)?),
        b"bytes" => tuple.bytes = Some(number(value)?),
        // An ICMP tuple ends with its identifier.
        b"id" if last == b"code" => tuple.icmp_id = small(value)?,
        b"id" => entry.id = Some(number(value)?),
        b"zone" | b"zone-orig" | b"zone-reply" => entry.zone = number(value)?,
        b"delta-time" => entry.delta = Some(small(value)?),
        _ => {}
    }
    Some(())
}

fn whole(entry: &Entry) -> Result<Whole, &'static str> {
    let [original, reply] = &entry.tuples;
    let (Some(src), Some(dst)) = (original.src, original.dst) else { return Err("conntrack: no src= and dst=") };
    let ports = match original.icmp {
        // As in rows of packets: the type, and the type of the answer or the code.
        Some([kind, code]) => (kind, reply.icmp.map_or(code, |[kind, _]| kind)),
        None => (original.ports[0], original.ports[1]),
    };
    let tuple = crate::fields::tuple(src, dst, ports, entry.proto).ok_or("conntrack: addresses of two families")?;
    let ended = entry.event == Event::Destroy;
    let end = entry.at.unwrap_or(UNTIMED);
    let lasted = entry.delta.and_then(|seconds| seconds.checked_mul(SECOND));
    let start = match (entry.at, lasted) {
        (Some(at), Some(lasted)) => at.saturating_sub(lasted),
        (Some(at), None) if entry.event == Event::New => at,
        _ => UNTIMED,
    };
    let state = entry.state.or_else(|| {
        let alive = !ended && entry.proto != conntrack_core::decode::ipproto::TCP;
        alive.then_some(match (entry.unreplied, entry.assured) {
            (true, _) => State::Unreplied,
            (false, true) => State::Assured,
            (false, false) => State::Replied,
        })
    });
    Ok(Whole {
        sent: [original.counts(), reply.counts()],
        state,
        assured: Some(entry.assured),
        replied: Some(!entry.unreplied),
        flipped: Some(false),
        end_reason: ended.then(|| state.map_or(EndReason::Timeout, reason)),
        nat: translation(entry, &tuple),
        ..Whole::new(tuple, start, end, Evidence::Gateway)
    })
}

/// The translation, where the reply is not the original turned.
fn translation(entry: &Entry, tuple: &FiveTuple) -> Option<Nat> {
    let [original, reply] = &entry.tuples;
    let (src, dst) = (reply.src?, reply.dst?);
    let port = |of: &Tuple, end| of.port(end, entry.proto);
    let same = (Some(src), Some(dst)) == (original.dst, original.src)
        && (port(reply, 0), port(reply, 1)) == (port(original, 1), port(original, 0));
    if same {
        return None;
    }
    let end = |(addr, family): (Addr, Family), port: u16| -> Option<(IpAddr, u16)> { Some((addr.ip(family), port)) };
    let mut ends = [end(dst, port(reply, 1)), end(src, port(reply, 0))];
    if side_of(tuple) == Side::B {
        ends.swap(0, 1);
    }
    Some(Nat { ends, evidence: NatEvidence::Gateway, confidence: 1.0 })
}
