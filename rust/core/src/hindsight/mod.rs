//! Initiators from the whole capture, for connections whose own packets do not show one.
//!
//! Evidence of any connection serves earlier and later ones. All evidence is counted, so that results do not depend on the
//! order in which connections ended. Evidence of parts of a capture adds up ([`Facts`]).

mod activity;
mod census;
mod entries;
mod errors;
mod expected;
mod facts;
mod ladder;
mod roles;
mod shared;
mod silence;

use census::{Census, TupleRow, by_role};
use conntrack_decode::ipproto;
use conntrack_output::rows::{Row, Rows};
use conntrack_track::config::{ServerPorts, Timeout, Timeouts};
use conntrack_track::connection::Evidence;
use conntrack_track::direction::Expectation;
pub use entries::{Entry, EntryError, KINDS};
pub use errors::{Id, Ids};
use facts::{ENDS, has_any, refused, was_accepted};
pub use ladder::Hints;
use ladder::Ladder;
pub use shared::Facts;
use shared::Whole;
use silence::Silence;

/// True where the packets of the connection itself show the initiator.
fn is_known(row: Row<'_>) -> bool {
    row.evidence() >= Evidence::Related
}

/// Decides every connection that its own packets left open. Originators may change.
pub fn settle(rows: &mut Rows, hints: &Hints<'_>) {
    let questions = expected::questions(rows.iter());
    let expected = expected::settle(rows, hints.expected, &questions);
    expected::name_parents(rows, &expected);
    judge(rows, hints, None);
}

/// Parts of the configuration that a second pass needs.
pub struct Settings {
    /// Ports at which servers are likely.
    pub ports: ServerPorts,
    /// Timeouts of connections.
    pub timeouts: Timeouts,
    /// VLANs tell connections apart.
    pub tags: bool,
}

/// The same for the rows of some shards: evidence of other connections comes from the facts of all shards, except that of the
/// same two hosts. Returns the places of the rows that remain: a connection of ICMP errors is that of the shard that has the
/// first one.
pub fn look_back(rows: &mut Rows, ids: &mut [Ids], facts: &mut Facts, settings: &Settings) -> Vec<usize> {
    let whole = facts.whole();
    let expected = expected::settle(rows, &whole.announced, &whole.questions);
    let udp_timeout = settings.timeouts.get(Timeout::Udp);
    let hints = Hints { ports: &settings.ports, expected: &whole.announced, files: &whole.begins, udp_timeout };
    judge(rows, &hints, Some(&whole));
    for (place, by) in expected {
        if let Some((parent, (_, related))) = whole.parent(by).zip(ids.get_mut(place)) {
            related.get_or_insert(parent);
        }
    }
    let (remain, parents) = whole.errors(&settings.timeouts).join(rows, ids);
    for (place, parent) in parents {
        if let Some((_, related)) = ids.get_mut(place) {
            related.get_or_insert(parent);
        }
    }
    remain
}

/// The facts of the rows of some shards, all of those shards. `announced`: the connections that their messages announce.
pub fn facts(mut rows: Rows, ids: &[Ids], announced: Vec<Expectation>, settings: &Settings) -> Facts {
    let mut facts = Facts::default();
    facts.note_expectations(&rows, ids, announced);
    facts.note_errors(&rows, ids, settings.tags);
    let may_be_expected: Vec<bool> = rows.iter().map(|row| !is_known(row)).collect();
    (0..rows.len()).for_each(|place| revise(&mut rows, place));
    facts.count(&rows, &may_be_expected, settings.timeouts.get(Timeout::Udp));
    facts
}

fn judge(rows: &mut Rows, hints: &Hints<'_>, outside: Option<&Whole>) {
    let doubtful = rows.iter().zip(0..).filter(|(row, _)| may_be_revised(*row) || !is_known(*row));
    let mut open: Vec<usize> = doubtful.map(|(_, place)| place).collect();
    open.retain(|place| {
        revise(rows, *place);
        rows.get(*place).is_some_and(|row| !is_known(row))
    });
    if open.is_empty() {
        return;
    }
    let (census, cases, records) = Census::of(rows, &open, outside);
    let begins = match outside {
        Some(whole) => activity::begins(whole.active.iter().copied(), hints.files, hints.udp_timeout),
        None => activity::begins(rows.iter().map(|row| (row.start(), row.end())), hints.files, hints.udp_timeout),
    };
    let silence = Silence::of(begins, &records, census.tuples());
    for case in &cases {
        let Some(row) = rows.get(case.place).filter(|row| row.evidence() < Evidence::Scan) else { continue };
        let after_silence = row.proto() == ipproto::UDP && silence.before(row, case) > hints.udp_timeout;
        let (orig, evidence) = Ladder { row, case, census: &census, hints, after_silence }.judge();
        let evidence = refused(row).unwrap_or(evidence);
        set(rows, case.place, orig, evidence, evidence);
    }
    keep_initiators(rows, &records, census.tuples());
}

fn set(rows: &mut Rows, place: usize, orig: usize, evidence: Evidence, sure: Evidence) {
    if orig == 1 {
        rows.flip(place);
    }
    rows.revise(place, evidence, sure);
}

/// True where [`revise`] may change the evidence.
fn may_be_revised(row: Row<'_>) -> bool {
    matches!(row.evidence(), Evidence::SynAck | Evidence::Scan | Evidence::Refused) || is_from_group(row)
}

/// True where a group address sent the first packet. TCP has no groups (RFC 9293 section 3.9.2.3).
fn is_from_group(row: Row<'_>) -> bool {
    row.is_from_group() && row.proto() != ipproto::TCP
}

/// Corrects the evidence of a first packet by the packets after it.
fn revise(rows: &mut Rows, place: usize) {
    let Some(row) = rows.get(place).filter(|row| may_be_revised(*row)) else { return };
    // Whatever else it may have sent: a group never initiates.
    if is_from_group(row) {
        return set(rows, place, 1, Evidence::Multicast, Evidence::Multicast);
    }
    let evidence = match row.evidence() {
        // Nobody followed, or a reset did: it may be a scan, or answer a forged SYN.
        Evidence::SynAck if !has_any(row, b"ADFadf") => Evidence::Backscatter,
        Evidence::Scan if row.sent(1).packets > 0 && has_any(row, b"ad") => Evidence::FirstPacket,
        // What is refused carries no data.
        Evidence::Refused if ENDS.iter().any(|end| row.sent(*end).payload_bytes > 0) => Evidence::FirstPacket,
        evidence => evidence,
    };
    rows.revise(place, evidence, evidence);
}

/// Evidence of a row for other rows of its five-tuple; None for scans, backscatter and refused SYNs. An answer to the first
/// sender counts for its own row alone.
fn worth(row: Row<'_>) -> Option<Evidence> {
    match row.evidence() {
        Evidence::Scan | Evidence::Backscatter => None,
        Evidence::Syn if !was_accepted(row) => None,
        Evidence::Answered => Some(Evidence::FirstPacket),
        evidence => Some(evidence),
    }
}

/// Evidence of all rows of one five-tuple.
#[derive(Clone, Copy, Default)]
struct TupleEvidence {
    /// Number of rows.
    records: u32,
    /// Worth of the best row; below, its evidence and originator's endpoint.
    worth: Option<Evidence>,
    best: Option<(Evidence, u32)>,
}

/// Gives all rows of one five-tuple one initiator: that of the best evidence, of the earliest row among equals. A timeout, a
/// file or a restart may have cut the connection.
fn keep_initiators(rows: &mut Rows, records: &[TupleRow], tuples: usize) {
    let mut all = vec![TupleEvidence::default(); tuples];
    for record in records {
        let Some(row) = rows.get(record.place) else { continue };
        let tuple = &mut all[record.tuple as usize];
        tuple.records += 1;
        if worth(row) > tuple.worth {
            tuple.worth = worth(row);
            tuple.best = Some((row.evidence(), by_role(record.endpoints, row.orig())[0]));
        }
    }
    for record in records {
        let Some(row) = rows.get(record.place).filter(|row| !is_known(*row) && worth(*row).is_some()) else { continue };
        let tuple = all[record.tuple as usize];
        let Some((sure, orig)) = tuple.best.filter(|_| tuple.records > 1) else { continue };
        let stays = orig == by_role(record.endpoints, row.orig())[0];
        if !stays || tuple.worth > worth(row) {
            set(rows, record.place, usize::from(!stays), Evidence::SeenBefore, sure);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use conntrack_base::time::SECOND;
    use conntrack_decode::{Addr, Family, FiveTuple, L4, Packet, Tcp};
    use conntrack_output::rows::Finished;
    use conntrack_track::config::{Config, ServerPorts};
    use conntrack_track::connection::Endpoint as Sent;
    use conntrack_track::direction::{Expectations, Locality};
    use conntrack_track::table::FinalConnection;
    use conntrack_track::tracker::{Closed, Tracker};

    /// Packets of few hosts and ports, so that they meet again in every role.
    fn packets() -> impl Strategy<Value = Vec<Packet>> {
        let ports = prop::sample::select(vec![80_u16, 5_000, 5_001, 40_000, 50_000]);
        let packet = (0..4_u8, 0..4_u8, ports.clone(), ports, any::<bool>(), any::<u8>(), 0..3_u32, 0..200_u32);
        let packet = packet.prop_map(|(src, dst, sport, dport, is_tcp, flags, seq, payload_bytes)| {
            let tuple = FiveTuple {
                src: Addr::v4([10, 0, 0, src]),
                dst: Addr::v4([192, 0, 2, dst]),
                sport,
                dport,
                proto: if is_tcp { ipproto::TCP } else { ipproto::UDP },
                family: Family::V4,
            };
            let tuple = if flags & 1 == 0 { tuple } else { swapped(tuple) };
            let l4 = if is_tcp { L4::Tcp(Tcp { seq, flags, ..Tcp::default() }) } else { L4::Udp };
            let ip_bytes = 40 + payload_bytes;
            Packet { tuple, l4, packets: 1, ip_bytes, payload_bytes, complete: true, ..Packet::default() }
        });
        prop::collection::vec(packet, 0..60)
    }

    fn swapped(tuple: FiveTuple) -> FiveTuple {
        let FiveTuple { src, dst, sport, dport, .. } = tuple;
        FiveTuple { src: dst, dst: src, sport: dport, dport: sport, ..tuple }
    }

    /// Rows of these packets, closed in the order of their numbers or of `by`.
    fn rows<K: Ord>(packets: &[Packet], by: impl Fn(&Closed) -> K) -> Rows {
        let mut tracker = Tracker::new(&Config::default());
        let mut closed = Vec::new();
        for (packet, number) in packets.iter().zip(0..) {
            // Far enough apart that some of them time out.
            let ts = number * 9 * SECOND;
            tracker.advance(ts, |gone| closed.push(gone.clone()));
            tracker.record(std::slice::from_ref(packet), &[], ts, |gone| closed.push(gone.clone()));
        }
        tracker.finish(|gone| closed.push(gone.clone()));
        closed.sort_by_key(|gone| gone.connection().id);
        closed.sort_by_key(by);
        let mut rows = Finished::new(std::sync::Arc::new(Locality::new(&Config::default())));
        for (gone, number) in closed.iter_mut().zip(0..) {
            let mut connection = gone.connection().into_owned();
            connection.id = number;
            gone.what = FinalConnection::Whole(Box::new(connection));
            rows.insert(gone);
        }
        rows.in_order()
    }

    fn settled(mut rows: Rows) -> Rows {
        let (ports, expected) = (ServerPorts::services(), Expectations::default());
        settle(&mut rows, &Hints { ports: &ports, expected: &expected, files: &[], udp_timeout: 30 * SECOND });
        rows
    }

    /// Counters of each endpoint, independent of roles.
    fn sums(row: Row<'_>) -> Vec<((Addr, u16), Sent)> {
        let mut ends = Vec::from(ENDS.map(|end| ((row.addr(end), row.port(end)), row.sent(end))));
        ends.sort_by_key(|(endpoint, _)| *endpoint);
        ends
    }

    proptest! {
        #[test]
        fn a_flip_moves_nothing_from_one_end_to_the_other(packets in packets()) {
            let before = rows(&packets, |_| ());
            let mut after = settled(rows(&packets, |_| ()));
            for place in 0..before.len() {
                let facts = |row: Row<'_>| {
                    let ends = ENDS.map(|end| (row.first_window(end), row.is_local(end)));
                    (row.history(), row.conn_state(), row.direction(), ends, row.live())
                };
                let was = before.get(place).unwrap();
                let row = after.get(place).unwrap();
                prop_assert_eq!(sums(was), sums(row));
                prop_assert_eq!(was.is_flipped() ^ row.is_flipped(), was.orig() != row.orig());
                let (letters, len) = row.history();
                prop_assert_eq!(letters[0] == b'^', row.is_flipped() && len > 0);
                let (sent, known) = (sums(row), facts(row));
                after.flip(place);
                prop_assert_eq!(&sums(after.get(place).unwrap()), &sent);
                after.flip(place);
                prop_assert_eq!(facts(after.get(place).unwrap()), known);
            }
        }

        #[test]
        fn the_order_in_which_connections_are_told_does_not_matter(packets in packets(), seed in any::<u64>()) {
            // Records of one five-tuple stay in order; all else is turned.
            let turned = |gone: &Closed| {
                let key = &gone.connection().key;
                (u64::from(key.a_port) << 16 | u64::from(key.b_port)).wrapping_mul(seed | 1)
            };
            let ends = [settled(rows(&packets, |_| ())), settled(rows(&packets, turned))].map(|rows| {
                let facts = rows.iter().map(|row| (row.start(), sums(row)[0].0, sums(row)[1].0, row.orig() as u8, row.evidence()));
                let mut facts: Vec<_> = facts.collect();
                facts.sort();
                facts
            });
            prop_assert_eq!(&ends[0], &ends[1]);
        }
    }
}
