//! Connections that another one made expected: data and media that a message announced, and answers to a question to a
//! group.
//!
//! A question goes to a multicast or broadcast address, and each host answers the asker from its own address: mDNS, SSDP,
//! CoAP, BACnet, NetBIOS, discovery of any vendor. The asker initiated these connections, too. A gateway expects answers as
//! `nf_conntrack_broadcast.c` does, but from any port.
//!
//! Facts have a time and no numbers of rows, and can be merged in any order. So they may come from parts of a capture.
//! `ctstate` and `state` stay those of a gateway without helpers.

use std::net::IpAddr;

use ahash::AHashMap as HashMap;

use conntrack_base::time::SECOND;
use conntrack_decode::{Addr, Family, Tunnel, Vlan, ipproto};
use conntrack_output::rows::{Row, Rows};
use conntrack_track::connection::Evidence;
use conntrack_track::direction::{Direction, Expectation, Expectations, Initiator};

use super::facts::{ENDS, FIRST_EPHEMERAL};

/// The time after the last question in which answers begin, nanoseconds: the longest of Linux's helpers for questions to
/// groups (`nf_conntrack_snmp`; `nf_conntrack_netbios_ns` has 3 s).
const ANSWERS_HOLD: i64 = 30 * SECOND;
/// The most questions in memory.
pub(super) const MOST_QUESTIONS: usize = 1 << 20;
/// Expectations of one endpoint that are compared with a connection, from the latest on.
const MOST_COMPARED: usize = 64;

/// The questions to groups among some rows.
pub(super) fn questions<'a>(rows: impl Iterator<Item = Row<'a>>) -> Expectations {
    Expectations::of(rows.filter(|row| is_question(*row)).map(question).collect(), MOST_QUESTIONS)
}

pub(super) fn is_question(row: Row<'_>) -> bool {
    row.proto() == ipproto::UDP && row.direction() == Direction::Multicast && !row.is_from_group() && !row.is_flipped()
}

pub(super) fn question(row: Row<'_>) -> Expectation {
    Expectation {
        ts: row.start(),
        begins: [row.start(), row.end().saturating_add(ANSWERS_HOLD)],
        proto: ipproto::UDP,
        family: row.family(),
        addr: row.addr(0),
        port: row.port(0),
        peer: None,
        initiator: Initiator::Named,
        parent: ENDS.map(|end| (row.addr(end), row.port(end))),
        parent_proto: ipproto::UDP,
        tags: (row.vlan(), row.tunnel()),
    }
}

/// Decides every expected connection, and returns its place with the fact.
pub(super) fn settle<'a>(
    rows: &mut Rows,
    announced: &'a Expectations,
    questions: &'a Expectations,
) -> Vec<(usize, &'a Expectation)> {
    let (announced, questions) = (Index::of(announced), Index::of(questions));
    if announced.is_empty() && questions.is_empty() {
        return Vec::new();
    }
    let expected: Vec<Expected<'a>> = rows
        .iter()
        .zip(0..)
        // Questions are UDP, and most captures announce nothing.
        .filter(|(row, _)| row.proto() == ipproto::UDP || (row.proto() == ipproto::TCP && !announced.is_empty()))
        .filter_map(|(row, place)| Expected::of(row, place, &announced, &questions))
        .collect();
    for one in &expected {
        let Some(row) = rows.get(one.place) else { continue };
        if row.evidence() < Evidence::Related {
            if one.initiator == 1 {
                rows.flip(one.place);
            }
            rows.revise(one.place, Evidence::Related, Evidence::Related);
        }
    }
    expected.into_iter().map(|one| (one.place, one.by)).collect()
}

/// Names the parents of expected connections, which are among the rows.
pub(super) fn name_parents(rows: &mut Rows, expected: &[(usize, &Expectation)]) {
    let parents = Parents::of(rows, expected.iter().map(|(_, by)| *by));
    for (place, by) in expected {
        if let Some(parent) = parents.find(by).and_then(|place| rows.get(place)).map(Row::number) {
            rows.relate(*place, parent);
        }
    }
}

/// An expected connection: its row, the end that initiates, and the fact.
struct Expected<'a> {
    place: usize,
    initiator: usize,
    by: &'a Expectation,
}

impl<'a> Expected<'a> {
    /// None also where the connection's own packets name the other end.
    fn of(row: Row<'_>, place: usize, announced: &Index<'a>, questions: &Index<'a>) -> Option<Self> {
        let (initiator, by) = by_announcement(row, announced).or_else(|| by_question(row, questions))?;
        let agrees = row.evidence() < Evidence::Related || initiator == 0;
        agrees.then_some(Self { place, initiator, by })
    }
}

/// The tuple, begin and tags of a connection.
pub(super) trait Opening: Copy {
    fn family(self) -> Family;
    fn proto(self) -> u8;
    fn endpoint(self, end: usize) -> (Addr, u16);
    fn port(self, end: usize) -> u16;
    fn start(self) -> i64;
    fn tags(self) -> (Vlan, Tunnel);
}

impl Opening for Row<'_> {
    fn family(self) -> Family {
        Row::family(self)
    }

    fn proto(self) -> u8 {
        Row::proto(self)
    }

    fn endpoint(self, end: usize) -> (Addr, u16) {
        (self.addr(end), Row::port(self, end))
    }

    #[inline]
    fn port(self, end: usize) -> u16 {
        Row::port(self, end)
    }

    fn start(self) -> i64 {
        Row::start(self)
    }

    fn tags(self) -> (Vlan, Tunnel) {
        (self.vlan(), self.tunnel())
    }
}

/// The initiator of a connection that was announced, if all announcements name one.
pub(super) fn by_announcement<'a>(row: impl Opening, announced: &Index<'a>) -> Option<(usize, &'a Expectation)> {
    let found = ENDS.map(|end| {
        let by = announced.find(row, end)?;
        Some((if by.initiator == Initiator::Named { end } else { 1 - end }, by))
    });
    match found {
        [Some(one), Some(other)] => (one.0 == other.0).then_some(if one.1.ts >= other.1.ts { one } else { other }),
        [one, other] => one.or(other),
    }
}

/// The initiator of a connection that answers a question to a group: the receiver of the first packet, who asked.
fn by_question<'a>(row: Row<'_>, questions: &Index<'a>) -> Option<(usize, &'a Expectation)> {
    if row.proto() != ipproto::UDP || row.direction() == Direction::Multicast || row.is_from_group() {
        return None;
    }
    let answerer = usize::from(row.is_flipped());
    let asker = 1 - answerer;
    let by = questions.find(row, asker)?;
    let answers = row.evidence() >= Evidence::Related || may_answer(row, [asker, answerer], by, questions);
    answers.then_some((asker, by))
}

/// Test whether a first packet that does not tell by itself may answer a question.
fn may_answer(row: Row<'_>, [asker, answerer]: [usize; 2], by: &Expectation, questions: &Index<'_>) -> bool {
    let asked = by.parent[1].1;
    // An endpoint that only announces itself sends from the port that it serves, which no system takes for a client: who
    // comes from a port of its own to that one, and is answered, is a client.
    let may_serve = by.port == asked || by.port < FIRST_EPHEMERAL;
    let may_be_client = may_serve && row.port(answerer) != asked && row.sent(asker).packets > 0;
    let is_near = is_private(row.ip(answerer)) || !is_private(row.ip(asker));
    let asked_too = questions.find(row, answerer).is_some();
    is_near && !may_be_client && !asked_too
}

/// Test for an address of a private network or link. From elsewhere no answer to such an address comes: groups of a link
/// or site do not reach that far.
fn is_private(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_private() || addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unique_local() || addr.is_unicast_link_local(),
    }
}

/// An endpoint of a protocol.
type Endpoint = (Family, u8, Addr, u16);

/// Expectations by named endpoint, in the order of their times.
pub(super) struct Index<'a> {
    all: HashMap<Endpoint, Vec<&'a Expectation>>,
    /// A bit for each port of a named endpoint: most connections have none of them, and are not looked up.
    ports: Vec<u64>,
}

impl<'a> Index<'a> {
    pub(super) fn of(facts: &'a Expectations) -> Self {
        let mut index = Self { all: HashMap::default(), ports: vec![0; 1 << 10] };
        for one in facts.iter() {
            index.all.entry((one.family, one.proto, one.addr, one.port)).or_default().push(one);
            index.ports[usize::from(one.port >> 6)] |= 1 << (one.port & 63);
        }
        index
    }

    fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn has_port(&self, port: u16) -> bool {
        self.ports[usize::from(port >> 6)] >> (port & 63) & 1 != 0
    }

    /// The latest expectation of this end of a connection at the connection's begin, of equal tags if there is one.
    fn find(&self, row: impl Opening, end: usize) -> Option<&'a Expectation> {
        if !self.has_port(row.port(end)) {
            return None;
        }
        let (own, peer) = (row.endpoint(end), row.endpoint(1 - end));
        let all = self.all.get(&(row.family(), row.proto(), own.0, own.1))?;
        let begun = all.partition_point(|one| one.begins[0] <= row.start());
        let mut fitting = all[..begun].iter().copied().rev().take(MOST_COMPARED).filter(|one| {
            let is_own = one.parent_proto == row.proto() && one.parent.contains(&peer);
            row.start() <= one.begins[1] && one.peer.is_none_or(|addr| addr == peer.0) && !is_own
        });
        let latest = fitting.next()?;
        let has_equal_tags = |one: &&'a Expectation| one.tags == row.tags();
        if has_equal_tags(&latest) { Some(latest) } else { fitting.find(has_equal_tags).or(Some(latest)) }
    }
}

/// Protocol, family and both endpoints, in ascending order.
type Pair = (u8, Family, [(Addr, u16); 2]);

fn pair(proto: u8, family: Family, mut ends: [(Addr, u16); 2]) -> Pair {
    ends.sort_unstable();
    (proto, family, ends)
}

/// Begin, tags, number and place of a row.
type Begun = (i64, (Vlan, Tunnel), u64, usize);

/// Rows of the connections that messages belong to.
pub(super) struct Parents(HashMap<Pair, Vec<Begun>>);

impl Parents {
    pub(super) fn of<'a>(rows: &Rows, expected: impl Iterator<Item = &'a Expectation>) -> Self {
        let mut found: HashMap<Pair, Vec<_>> = expected.map(|one| (pair_of(one), Vec::new())).collect();
        for (row, place) in rows.iter().zip(0..).take(if found.is_empty() { 0 } else { rows.len() }) {
            let ends = ENDS.map(|end| row.endpoint(end));
            if let Some(those) = found.get_mut(&pair(row.proto(), row.family(), ends)) {
                those.push((row.start(), row.tags(), row.number(), place));
            }
        }
        found.values_mut().for_each(|those| those.sort_unstable());
        Self(found)
    }

    /// The place of the row that was alive at the message: the last one begun, of equal tags if there is one.
    pub(super) fn find(&self, by: &Expectation) -> Option<usize> {
        let all = self.0.get(&pair_of(by))?;
        let begun = &all[..all.partition_point(|(start, ..)| *start <= by.ts)];
        let mut latest = begun.iter().rev().take(MOST_COMPARED);
        let equal = latest.clone().find(|(_, tags, ..)| *tags == by.tags);
        equal.or_else(|| latest.next()).map(|(.., place)| *place)
    }
}

fn pair_of(by: &Expectation) -> Pair {
    pair(by.parent_proto, by.family, by.parent)
}

#[cfg(test)]
mod tests;
