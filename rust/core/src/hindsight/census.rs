//! Counts over all rows, for the endpoints, hosts and pairs of the connections whose initiator is open.
//!
//! In most captures few connections are open, and nearly all others share no host with them. A row without a host of an open
//! connection is skipped.

use std::hash::Hash;

use ahash::AHashMap as HashMap;

use conntrack_decode::{Addr, Family, Tunnel, Vlan};
use conntrack_output::rows::{Row, Rows};
use conntrack_track::flow::Side;

use super::facts::{ENDS, is_conversation, only, was_accepted};
use super::roles::{EndpointRoles, Host, is_service, peer_bit};
use super::shared::Whole;

/// Peers from which an endpoint counts as a server.
const MANY_PEERS: u32 = 3;

/// Interned keys with a value each, so that a key is hashed once.
struct Interner<K, V> {
    numbers: HashMap<K, u32>,
    values: Vec<V>,
}

impl<K, V> Default for Interner<K, V> {
    fn default() -> Self {
        Self { numbers: HashMap::default(), values: Vec::new() }
    }
}

impl<K: Eq + Hash, V: Default> Interner<K, V> {
    /// Interns a key, and returns its number.
    fn number(&mut self, thing: K) -> u32 {
        *self.numbers.entry(thing).or_insert_with(|| {
            self.values.push(V::default());
            self.values.len() as u32 - 1
        })
    }

    fn find(&self, thing: &K) -> Option<u32> {
        self.numbers.get(thing).copied()
    }

    fn of(&self, number: u32) -> &V {
        &self.values[number as usize]
    }

    fn of_mut(&mut self, number: Option<u32>) -> Option<&mut V> {
        self.values.get_mut(number? as usize)
    }
}

/// A connection whose initiator is open, with its interned keys. Arrays are indexed by [`Side`], since roles may change.
pub(super) struct Case {
    pub(super) place: usize,
    pub(super) tuple: u32,
    hosts: [u32; 2],
    endpoints: [u32; 2],
    pair: u32,
}

/// A row of a five-tuple that has an open connection, with endpoints by [`Side`].
pub(super) struct TupleRow {
    pub(super) place: usize,
    pub(super) tuple: u32,
    pub(super) endpoints: [u32; 2],
}

/// Converts between order by [`Side`] and order by role (originator first).
pub(super) fn by_role<T: Copy>(sides: [T; 2], orig: Side) -> [T; 2] {
    ENDS.map(|end| sides[end ^ orig as usize])
}

/// Two numbers in ascending order, and the index of the originator's.
fn in_order([orig, resp]: [u32; 2]) -> ((u32, u32), usize) {
    if orig <= resp { ((orig, resp), 0) } else { ((resp, orig), 1) }
}

/// Counts for the endpoints, hosts, pairs and five-tuples of open connections. An endpoint is a host, a protocol and a port; a
/// five-tuple is two endpoints within one VLAN and tunnel.
#[derive(Default)]
pub(super) struct Census {
    hosts: Interner<(Family, Addr), Host>,
    endpoints: Interner<(u32, u8, u16), EndpointRoles>,
    pairs: Interner<(u32, u32), [u32; 2]>,
    tuples: Interner<((u32, u32), Vlan, Tunnel), ()>,
    /// Hosts and endpoints are counted elsewhere.
    is_part: bool,
}

/// Interned keys of a row, originator first; None: of no open connection.
struct RowKeys {
    hosts: [Option<u32>; 2],
    endpoints: [Option<u32>; 2],
    pair: Option<u32>,
    tuple: Option<u32>,
}

impl Census {
    /// Number of interned five-tuples.
    pub(super) fn tuples(&self) -> usize {
        self.tuples.values.len()
    }

    /// Counts all rows for the open connections at these indices. `outside`: the counts of hosts and endpoints, where the
    /// rows are a part of all.
    pub(super) fn of(rows: &Rows, open: &[usize], outside: Option<&Whole>) -> (Self, Vec<Case>, Vec<TupleRow>) {
        let mut census = Self { is_part: outside.is_some(), ..Self::default() };
        let cases: Vec<Case> =
            open.iter().filter_map(|place| Some(census.add_case(*place, rows.get(*place)?))).collect();
        let mut records = Vec::new();
        let mut asked = cases.iter().peekable();
        for (row, place) in rows.iter().zip(0..) {
            let seen = match asked.next_if(|case| case.place == place) {
                Some(case) => Some(RowKeys::of(case, row.orig())),
                None => census.seen(row),
            };
            let Some(seen) = seen else { continue };
            census.count(row, &seen);
            if let (Some(tuple), [Some(orig), Some(resp)]) = (seen.tuple, seen.endpoints) {
                records.push(TupleRow { place, tuple, endpoints: by_role([orig, resp], row.orig()) });
            }
        }
        if let Some(whole) = outside {
            census.take(whole);
        }
        (census, cases, records)
    }

    /// Takes the counts of hosts and endpoints from elsewhere.
    fn take(&mut self, whole: &Whole) {
        let mut hosts = vec![(Family::V4, Addr::default()); self.hosts.values.len()];
        for (host, number) in &self.hosts.numbers {
            hosts[*number as usize] = *host;
            self.hosts.values[*number as usize] = whole.host(*host);
        }
        for ((host, proto, port), number) in &self.endpoints.numbers {
            let (family, addr) = hosts[*host as usize];
            self.endpoints.values[*number as usize] = whole.endpoint((family, addr, *proto, *port));
        }
    }

    fn add_case(&mut self, place: usize, row: Row<'_>) -> Case {
        let hosts = ENDS.map(|end| self.hosts.number((row.family(), row.addr(end))));
        let endpoints = ENDS.map(|end| self.endpoints.number((hosts[end], row.proto(), row.port(end))));
        let pair = self.pairs.number(in_order(hosts).0);
        let tuple = self.tuples.number((in_order(endpoints).0, row.vlan(), row.tunnel()));
        let (hosts, endpoints) = (by_role(hosts, row.orig()), by_role(endpoints, row.orig()));
        Case { place, tuple, hosts, endpoints, pair }
    }

    /// Interned keys of a row that is not open; None, the common case, without a known host.
    fn seen(&self, row: Row<'_>) -> Option<RowKeys> {
        let hosts = ENDS.map(|end| self.hosts.find(&(row.family(), row.addr(end))));
        if hosts == [None; 2] {
            return None;
        }
        let endpoint = |end: usize| self.endpoints.find(&(hosts[end]?, row.proto(), row.port(end)));
        let endpoints = ENDS.map(endpoint);
        let both = |[one, other]: [Option<u32>; 2]| Some(in_order([one?, other?]).0);
        let pair = both(hosts).and_then(|pair| self.pairs.find(&pair));
        let tuple = both(endpoints).and_then(|ends| self.tuples.find(&(ends, row.vlan(), row.tunnel())));
        Some(RowKeys { hosts, endpoints, pair, tuple })
    }

    fn count(&mut self, row: Row<'_>, seen: &RowKeys) {
        if !self.is_part {
            self.count_roles(row, seen);
        }
        if !is_service(row) {
            return;
        }
        if let (Some(counts), [Some(orig), Some(resp)]) = (self.pairs.of_mut(seen.pair), seen.hosts) {
            counts[in_order([orig, resp]).1] += 1;
        }
    }

    /// Counts a row for its endpoints and hosts.
    fn count_roles(&mut self, row: Row<'_>, seen: &RowKeys) {
        let (is_service, accepted) = (is_service(row), was_accepted(row));
        for end in ENDS {
            if let Some(met) = self.endpoints.of_mut(seen.endpoints[end]) {
                if is_conversation(row, end) {
                    met.peers |= peer_bit((row.addr(1 - end), row.port(1 - end)));
                }
                if is_service {
                    met.serve(end, accepted);
                }
            }
            if let Some(host) = self.hosts.of_mut(seen.hosts[end]).filter(|_| is_service) {
                host.serve(end, accepted);
            }
        }
    }

    /// Roles of the endpoints of an open connection, originator first.
    fn met(&self, row: Row<'_>, case: &Case) -> [EndpointRoles; 2] {
        by_role(case.endpoints, row.orig()).map(|endpoint| *self.endpoints.of(endpoint))
    }

    /// The end whose endpoint accepts connections and never initiates.
    pub(super) fn listener(&self, row: Row<'_>, case: &Case) -> Option<usize> {
        only(self.met(row, case).map(|met| met.accepted > 0 && !met.initiates))
    }

    /// The end with many peers that never initiates: a client may use one port for several servers, too.
    pub(super) fn meeting_place(&self, row: Row<'_>, case: &Case) -> Option<usize> {
        let met = self.met(row, case);
        let peers = met.map(|met| met.peers.count_ones());
        let meets = |end: usize| peers[end] >= MANY_PEERS && peers[1 - end] <= 1 && !met[end].initiates;
        only([meets(0), meets(1)])
    }

    /// The end that initiates, by the other connections of both hosts. A host that only answers elsewhere may still call out.
    pub(super) fn initiator(&self, row: Row<'_>, case: &Case) -> Option<usize> {
        let hosts = by_role(case.hosts, row.orig());
        if hosts[0] == hosts[1] {
            return None;
        }
        let first = in_order(hosts).1;
        let counts = self.pairs.of(case.pair);
        let between = only([counts[first] > 0, counts[1 - first] > 0]);
        between.or_else(|| only(hosts.map(|host| self.hosts.of(host).only_asks())))
    }
}

impl RowKeys {
    fn of(case: &Case, orig: Side) -> Self {
        Self {
            hosts: by_role(case.hosts, orig).map(Some),
            endpoints: by_role(case.endpoints, orig).map(Some),
            pair: Some(case.pair),
            tuple: Some(case.tuple),
        }
    }
}
