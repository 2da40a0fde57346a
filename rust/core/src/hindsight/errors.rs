//! Connections of ICMP errors, which shards tell apart by the pair of addresses that an error quotes. Errors between the same
//! two hosts, of one type and code, are one connection until a timeout passes without one.

use std::collections::BTreeSet;

use ahash::{AHashMap as HashMap, AHashSet as HashSet};
use serde::{Deserialize, Serialize};

use conntrack_decode::{Addr, Family, Tunnel, Vlan};
use conntrack_output::rows::{Row, Rows};
use conntrack_track::config::Timeouts;
use conntrack_track::connection::{EndReason, Endpoint, Evidence};
use conntrack_track::proto::linger;

use super::facts::ENDS;

/// Identifier of a connection, unique over all shards.
pub type Id = [u8; 16];
/// Identifiers of a connection and of the one that the connection is related to.
pub type Ids = (Id, Option<Id>);

/// Common parts of the errors of one connection, sender first: family, protocol, addresses, type and code, tags.
type Key = (Family, u8, [Addr; 2], [u16; 2], Vlan, Tunnel);

/// Errors of one connection and one pair of quoted addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct ErrorRow {
    key: Key,
    start: i64,
    end: i64,
    id: Id,
    /// Packets, IP bytes, and bytes of payload.
    sent: [u64; 3],
    reason: EndReason,
    parent: Option<Id>,
    /// An error quotes a packet of a known connection.
    is_related: bool,
}

impl ErrorRow {
    /// None for a row of other packets. `tags`: VLANs tell connections apart.
    pub(super) fn of(row: Row<'_>, (id, parent): Ids, tags: bool) -> Option<Self> {
        let (addrs, ports) = (ENDS.map(|end| row.addr(end)), ENDS.map(|end| row.port(end)));
        let vlan = if tags { row.vlan() } else { Vlan::default() };
        let key = (row.family(), row.proto(), addrs, ports, vlan, row.tunnel());
        let Endpoint { packets, ip_bytes, payload_bytes } = row.sent(0);
        let (start, end, reason) = (row.start(), row.end(), row.end_reason());
        let sent = [packets, ip_bytes, payload_bytes];
        let is_related = row.evidence() >= Evidence::Related;
        row.is_error().then_some(Self { key, start, end, id, sent, reason, parent, is_related })
    }
}

impl ErrorRow {
    /// Takes a later row of the same connection.
    fn take(&mut self, row: &Self) {
        for (sum, more) in self.sent.iter_mut().zip(row.sent) {
            *sum = sum.saturating_add(more);
        }
        if row.end >= self.end {
            (self.end, self.reason) = (row.end, row.reason);
        }
        self.parent = self.parent.or(row.parent);
        self.is_related |= row.is_related;
    }

    /// Writes the whole connection into the row of its first errors.
    fn write(&self, rows: &mut Rows, place: usize) {
        let [packets, ip_bytes, payload_bytes] = self.sent;
        rows.extend(place, self.end, Endpoint { packets, ip_bytes, payload_bytes }, self.reason);
        if self.is_related && rows.get(place).is_some_and(|row| row.evidence() < Evidence::Related) {
            rows.revise(place, Evidence::Related, Evidence::Related);
        }
    }
}

/// Leaves out rows whose key no other row has.
pub(super) fn retain_common(all: &mut BTreeSet<ErrorRow>) {
    let mut counts: HashMap<Key, u32> = HashMap::default();
    for row in all.iter() {
        *counts.entry(row.key).or_default() += 1;
    }
    all.retain(|row| counts.get(&row.key).is_some_and(|count| *count > 1));
}

/// Connections of errors over all shards.
#[derive(Default)]
pub(super) struct Joined {
    /// Rows that are part of a longer connection: the first one with the whole, the others without.
    whole: HashMap<Id, Option<ErrorRow>>,
    /// Rows beside which another one of the key is related.
    seen: HashSet<Id>,
}

impl Joined {
    pub(super) fn of(all: &BTreeSet<ErrorRow>, timeouts: &Timeouts) -> Self {
        let related: HashSet<Key> = all.iter().filter(|row| row.is_related).map(|row| row.key).collect();
        let seen = all.iter().filter(|row| related.contains(&row.key)).map(|row| row.id).collect();
        let (mut joined, mut latest) = (HashMap::default(), None::<ErrorRow>);
        for row in all {
            let hold = |whole: &ErrorRow| whole.end.saturating_add(timeouts.get(linger(whole.key.1, false)));
            match &mut latest {
                Some(whole) if whole.key == row.key && row.start < hold(whole) => {
                    whole.take(row);
                    joined.insert(row.id, None);
                    joined.insert(whole.id, Some(*whole));
                }
                _ => latest = Some(*row),
            }
        }
        Self { whole: joined, seen }
    }

    /// Joins rows of one connection. Returns the places that remain, and the parents of whole connections by place.
    pub(super) fn join(&self, rows: &mut Rows, ids: &[Ids]) -> (Vec<usize>, Vec<(usize, Id)>) {
        let (mut remain, mut parents) = (Vec::with_capacity(rows.len()), Vec::new());
        for (place, (id, _)) in ids.iter().enumerate() {
            let Some(row) = rows.get(place) else { continue };
            let (is_error, is_related) = (row.is_error(), row.evidence() >= Evidence::Related);
            let whole = self.whole.get(id).filter(|_| is_error);
            if let Some(None) = whole {
                continue;
            }
            if is_error && !is_related && self.seen.contains(id) {
                rows.revise(place, Evidence::SeenBefore, Evidence::Related);
            }
            if let Some(Some(whole)) = whole {
                whole.write(rows, place);
                parents.extend(whole.parent.map(|parent| (place, parent)));
            }
            remain.push(place);
        }
        (remain, parents)
    }
}
