//! Facts that the connections of some shards show about those of others; they add up.
//!
//! Facts of parts are sums, sets, and the earliest of bounded sets. So the facts of a capture do not depend on how the capture
//! was divided, or on the order of the parts. What two hosts show about each other is no fact: a shard has all of it.
//!
//! A TCP conversation whose initiator is open counts as a meeting of its ends, unless another connection announced it. The
//! announcement may be in another shard. So meetings are kept until all facts are known.

use std::collections::{BTreeMap, BTreeSet};

use ahash::AHashMap as HashMap;
use serde::{Deserialize, Serialize};

use conntrack_decode::{Addr, Family, Tunnel, Vlan, ipproto};
use conntrack_output::rows::Rows;
use conntrack_track::config::Timeouts;
use conntrack_track::direction::{Expectation, Expectations};

use super::activity::activity;
use super::errors::{self, ErrorRow, Id, Ids, Joined};
use super::expected::{self, Index, MOST_QUESTIONS, Opening, Parents, by_announcement};
use super::facts::{ENDS, is_conversation, was_accepted};
use super::roles::{EndpointRoles, Host, is_service, peer_bit};

/// A host.
pub(super) type HostKey = (Family, Addr);
/// An endpoint: a host, a protocol and a port.
pub(super) type EndpointKey = (Family, Addr, u8, u16);

/// A TCP conversation whose initiator is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Meeting {
    pub(super) start: i64,
    pub(super) family: Family,
    pub(super) ends: [(Addr, u16); 2],
    pub(super) tags: (Vlan, Tunnel),
    /// Ends that take part.
    pub(super) speaks: [bool; 2],
    /// An announcement would explain it.
    pub(super) may_be_expected: bool,
}

impl Opening for Meeting {
    fn family(self) -> Family {
        self.family
    }

    fn proto(self) -> u8 {
        ipproto::TCP
    }

    fn endpoint(self, end: usize) -> (Addr, u16) {
        self.ends[end]
    }

    fn port(self, end: usize) -> u16 {
        self.ends[end].1
    }

    fn start(self) -> i64 {
        self.start
    }

    fn tags(self) -> (Vlan, Tunnel) {
        self.tags
    }
}

/// Expected connections with the identifiers of their parents, the earliest ones where there are more than a bound.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expecting(BTreeMap<Expectation, Option<Id>>);

impl Expecting {
    pub(super) fn insert(&mut self, one: Expectation, parent: Option<Id>, most: usize) {
        let known = self.0.entry(one).or_default();
        // Two parents come from facts of another capture: any choice that does not depend on an order is as good.
        *known = known.iter().copied().chain(parent).min();
        if self.0.len() > most {
            self.0.pop_last();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Expectation, Option<Id>)> {
        self.0.iter().map(|(one, parent)| (one, *parent))
    }

    fn all(&self, most: usize) -> Expectations {
        Expectations::of(self.0.keys().copied().collect(), most)
    }
}

/// Facts of some shards.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub(super) announced: Expecting,
    pub(super) questions: Expecting,
    pub(super) hosts: HashMap<HostKey, Host>,
    pub(super) endpoints: HashMap<EndpointKey, EndpointRoles>,
    pub(super) meetings: BTreeSet<Meeting>,
    pub(super) errors: BTreeSet<ErrorRow>,
    /// The first begin and the last end of activity, by width and number of the bin.
    pub(super) active: BTreeMap<(i64, i64), (i64, i64)>,
    /// Capture times of the first records of files.
    pub(super) begins: BTreeSet<i64>,
}

impl Facts {
    /// Notes that a file begins.
    pub fn begin(&mut self, ts: i64) {
        self.begins.insert(ts);
    }

    /// Notes a connection that a message announced.
    pub(super) fn announce(&mut self, one: Expectation, parent: Option<Id>) {
        self.announced.insert(one, parent, Expectations::MOST);
    }

    /// Notes a question to a group.
    pub(super) fn ask(&mut self, one: Expectation, parent: Option<Id>) {
        self.questions.insert(one, parent, MOST_QUESTIONS);
    }

    /// Notes the expected connections, with their parents among the rows.
    pub(super) fn note_expectations(&mut self, rows: &Rows, ids: &[Ids], announced: Vec<Expectation>) {
        let questions = expected::questions(rows.iter());
        let parents = Parents::of(rows, announced.iter().chain(questions.iter()));
        let parent = |one: &Expectation| parents.find(one).and_then(|place| ids.get(place)).map(|(id, _)| *id);
        for one in announced {
            self.announce(one, parent(&one));
        }
        for one in questions.iter() {
            self.ask(*one, parent(one));
        }
    }

    /// Notes the connections of ICMP errors. `tags`: VLANs tell connections apart.
    pub(super) fn note_errors(&mut self, rows: &Rows, ids: &[Ids], tags: bool) {
        self.errors.extend(rows.iter().zip(ids).filter_map(|(row, ids)| ErrorRow::of(row, *ids, tags)));
    }

    /// Counts rows whose evidence is revised; the expectations of other shards come later.
    pub(super) fn count(&mut self, rows: &Rows, may_be_expected: &[bool], udp_timeout: i64) {
        for (row, may_be_expected) in rows.iter().zip(may_be_expected) {
            let (is_service, accepted) = (is_service(row), was_accepted(row));
            for end in ENDS.into_iter().filter(|_| is_service) {
                let (addr, port) = row.endpoint(end);
                self.hosts.entry((row.family(), addr)).or_default().serve(end, accepted);
                let endpoint = (row.family(), addr, row.proto(), port);
                self.endpoints.entry(endpoint).or_default().serve(end, accepted);
            }
            let speaks = ENDS.map(|end| row.proto() == ipproto::TCP && is_conversation(row, end));
            if speaks != [false; 2] {
                let (start, family, tags) = (row.start(), row.family(), row.tags());
                let (ends, may_be_expected) = (ENDS.map(|end| row.endpoint(end)), *may_be_expected);
                self.meetings.insert(Meeting { start, family, ends, tags, speaks, may_be_expected });
            }
        }
        for (bin, active) in activity(rows.iter().map(|row| (row.start(), row.end())), udp_timeout) {
            self.activate((udp_timeout, bin), active);
        }
    }

    /// Notes the first begin and the last end of activity in a bin.
    pub(super) fn activate(&mut self, bin: (i64, i64), (start, end): (i64, i64)) {
        let known = self.active.entry(bin).or_insert((start, end));
        *known = (known.0.min(start), known.1.max(end));
    }

    /// Leaves out what decides nothing once all facts are together: endpoints that no connection was accepted by and none met
    /// at, hosts that have no role, meetings that are counted, errors
    /// in one shard. Facts of further shards must not be added after.
    pub fn settle(&mut self) {
        let announced = self.announced.all(Expectations::MOST);
        self.meet(&announced);
        self.meetings.clear();
        errors::retain_common(&mut self.errors);
        self.endpoints.retain(|_, roles| roles.accepted > 0 || roles.peers != 0);
        self.hosts.retain(|_, host| host.only_asks());
    }

    /// Counts the meetings that nothing announced.
    fn meet(&mut self, announced: &Expectations) {
        let index = Index::of(announced);
        for meeting in &self.meetings {
            if meeting.may_be_expected && by_announcement(*meeting, &index).is_some() {
                continue;
            }
            for end in ENDS.into_iter().filter(|end| meeting.speaks[*end]) {
                let (addr, port) = meeting.ends[end];
                let endpoint = (meeting.family, addr, ipproto::TCP, port);
                self.endpoints.entry(endpoint).or_default().peers |= peer_bit(meeting.ends[1 - end]);
            }
        }
    }

    /// The facts by use, all meetings counted.
    pub(super) fn whole(&mut self) -> Whole<'_> {
        let announced = self.announced.all(Expectations::MOST);
        self.meet(&announced);
        let questions = self.questions.all(MOST_QUESTIONS);
        let begins = self.begins.iter().copied().collect();
        let active = self.active.values().copied().collect();
        Whole { announced, questions, begins, active, facts: self }
    }
}

/// All facts of a run, by use.
pub(super) struct Whole<'a> {
    pub(super) announced: Expectations,
    pub(super) questions: Expectations,
    pub(super) begins: Vec<i64>,
    pub(super) active: Vec<(i64, i64)>,
    facts: &'a Facts,
}

impl Whole<'_> {
    pub(super) fn host(&self, key: HostKey) -> Host {
        self.facts.hosts.get(&key).copied().unwrap_or_default()
    }

    pub(super) fn endpoint(&self, key: EndpointKey) -> EndpointRoles {
        self.facts.endpoints.get(&key).copied().unwrap_or_default()
    }

    /// The connections of errors that several shards have.
    pub(super) fn errors(&self, timeouts: &Timeouts) -> Joined {
        Joined::of(&self.facts.errors, timeouts)
    }

    /// The identifier of the connection in which another one was announced, or that asked for it.
    pub(super) fn parent(&self, by: &Expectation) -> Option<Id> {
        self.facts.announced.0.get(by).or_else(|| self.facts.questions.0.get(by)).copied().flatten()
    }
}
