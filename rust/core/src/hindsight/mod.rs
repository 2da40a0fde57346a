//! Who initiated, told by the whole capture once it is over: for connections whose own packets did not say it.
//!
//! What is learned from connections that closed long ago serves those that came before it was learned. All of it is
//! counted, so that nothing depends on the order in which connections ended.

mod facts;

use conntrack_decode::ipproto;
use conntrack_output::rows::{Row, Rows};
use conntrack_track::config::ServerPorts;
use conntrack_track::connection::Evidence;
use conntrack_track::direction::{Announcements, Locality, window};

use facts::{ENDS, Facts, Question, Record, has_any, only, turned, was_accepted};

/// What is known beside the connections.
pub struct Known<'a> {
    /// Ports at which servers are likely.
    pub ports: &'a ServerPorts,
    /// What FTP announced.
    pub announced: &'a Announcements,
}

/// Ranges of client ports by their most common uses: Linux 32768-60999, and IANA's dynamic ports, which begin at 49152.
const FIRST_EPHEMERAL: u16 = 32_768;
/// The end of the client ports of Windows before Vista and BSD before 2000, which began at 1024.
const LAST_OLD_EPHEMERAL: u16 = 5_000;
/// Ports that only a privileged server can have (RFC 6335 section 6).
const SYSTEM_PORTS: u16 = 1_024;
/// The port from which an FTP server connects to the client (active mode, RFC 959 section 3.2).
const FTP_DATA: u16 = 20;
/// Ports that clients of NFS and the like reserve (`sunrpc.min_resvport`, `max_resvport`).
const RESERVED_CLIENTS: std::ops::RangeInclusive<u16> = 665..=1_023;
/// Its own packets said who initiated.
fn is_known(row: Row<'_>) -> bool {
    row.evidence() >= Evidence::Related
}

/// Takes every connection that its own packets left open once more. Their originators may change.
pub fn settle(rows: &mut Rows, known: &Known<'_>) {
    let doubtful = rows.iter().zip(0..).filter(|(row, _)| may_be_revised(*row) || !is_known(*row));
    let mut open: Vec<usize> = doubtful.map(|(_, place)| place).collect();
    open.retain(|place| {
        revise(rows, *place);
        rows.get(*place).is_some_and(|row| !is_known(row))
    });
    if open.is_empty() {
        return;
    }
    let (facts, questions, records) = Facts::of(rows, &open);
    for question in &questions {
        let Some(row) = rows.get(question.place).filter(|row| row.evidence() < Evidence::Scan) else { continue };
        let (orig, evidence) = judge(row, question, &facts, known, rows.locality());
        set(rows, question.place, orig, evidence, evidence);
    }
    keep_initiators(rows, &records, facts.tuples());
}

fn set(rows: &mut Rows, place: usize, orig: usize, evidence: Evidence, sure: Evidence) {
    if orig == 1 {
        rows.flip(place);
    }
    rows.revise(place, evidence, sure);
}

/// Whether there is anything to [`revise`].
fn may_be_revised(row: Row<'_>) -> bool {
    matches!(row.evidence(), Evidence::SynAck | Evidence::Scan | Evidence::Refused) || row.is_from_group()
}

/// What a first packet said, in the light of those that followed it.
fn revise(rows: &mut Rows, place: usize) {
    let Some(row) = rows.get(place).filter(|row| may_be_revised(*row)) else { return };
    // Whatever else it may have sent: a group never initiates.
    if row.is_from_group() {
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

/// The end that initiated, and why.
fn judge(
    row: Row<'_>,
    question: &Question,
    facts: &Facts,
    known: &Known<'_>,
    locality: &Locality,
) -> (usize, Evidence) {
    let is_announced = |end| known.announced.hold(row.ip(end), row.port(end), row.ip(1 - end), row.start());
    if row.proto() == ipproto::TCP
        && let Some(end) = only(ENDS.map(is_announced))
    {
        return (1 - end, Evidence::Related);
    }
    if row.was_broadcast() {
        return (0, Evidence::Multicast);
    }
    if let Some(group) = only(ENDS.map(|end| locality.is_group(row.ip(end)))) {
        return (1 - group, Evidence::Multicast);
    }
    // Both ends of an exchange whose first packet is there may be servers: who spoke first, did.
    let answered = ENDS.iter().all(|end| row.sent(*end).packets > 0);
    let ports = ENDS.map(|end| row.port(end));
    if row.proto() == ipproto::UDP && answered && ports[0] == ports[1] {
        return (0, Evidence::Answered);
    }
    if let Some(listener) = facts.listener(row, question) {
        return (1 - listener, Evidence::Listener);
    }
    if let Some(active) = only(ports.map(|port| port == FTP_DATA)).filter(|_| row.proto() == ipproto::TCP) {
        return (active, Evidence::ServicePort);
    }
    let serves = ports.map(|port| known.ports.contains(row.proto(), port));
    let system = ENDS.map(|end| serves[end] && ports[end] < SYSTEM_PORTS);
    // Two services: a system port is one by right, but clients of NFS and their like have one, too.
    let may_be_client = ports.iter().any(|port| RESERVED_CLIENTS.contains(port));
    if let Some(server) = only(serves).or(only(system).filter(|_| !may_be_client)) {
        return (1 - server, Evidence::ServicePort);
    }
    if row.proto() == ipproto::TCP {
        return judge_tcp(row, question, facts);
    }
    (0, if answered { Evidence::Answered } else { Evidence::FirstPacket })
}

fn judge_tcp(row: Row<'_>, question: &Question, facts: &Facts) -> (usize, Evidence) {
    if let Some(server) = facts.meeting_place(row, question) {
        return (1 - server, Evidence::ManyPeers);
    }
    if let Some(orig) = facts.initiator(row, question) {
        return (orig, Evidence::Role);
    }
    if let Some(orig) = by_window(row) {
        return (orig, Evidence::Window);
    }
    let [one, other] = ENDS.map(|end| row.pure_acks(end));
    if one != other {
        return (usize::from(one < other), Evidence::Acknowledgements);
    }
    let [one, other] = ENDS.map(|end| client_range(row.port(end)));
    if one == other { (0, Evidence::Unknown) } else { (usize::from(one < other), Evidence::EphemeralPort) }
}

/// The end that connected, by the first windows of both.
fn by_window(row: Row<'_>) -> Option<usize> {
    let connected = ENDS.map(|end| window::connected(row.family(), row.first_window(end)));
    match connected {
        [Some(true), Some(false) | None] | [None, Some(false)] => Some(0),
        [Some(false) | None, Some(true)] | [Some(false), None] => Some(1),
        _ => None,
    }
}

/// How much a port looks like a client's, from a system port (RFC 6335 section 6) upwards: those of Linux and IANA's
/// dynamic ones last, before them those that older Windows and BSD took.
fn client_range(port: u16) -> u8 {
    match port {
        ..SYSTEM_PORTS => 0,
        SYSTEM_PORTS..=LAST_OLD_EPHEMERAL => 2,
        FIRST_EPHEMERAL.. => 3,
        _ => 1,
    }
}

/// What a record of a five-tuple is worth to the others; None: nothing, for nobody was in earnest, or nobody took it. Whether
/// its first sender was answered does not matter to those before it.
fn worth(row: Row<'_>) -> Option<Evidence> {
    match row.evidence() {
        Evidence::Scan | Evidence::Backscatter => None,
        Evidence::Syn if !was_accepted(row) => None,
        Evidence::Answered => Some(Evidence::FirstPacket),
        evidence => Some(evidence),
    }
}

/// What the records of one five-tuple say together.
#[derive(Clone, Copy, Default)]
struct Together {
    /// How many there are.
    records: u32,
    /// The best one's worth, evidence and originator's endpoint.
    worth: Option<Evidence>,
    best: Option<(Evidence, u32)>,
}

/// The records of one five-tuple (cut by a timeout, a file, a restart) have one initiator: that of the best evidence, and
/// of the earliest among equals.
fn keep_initiators(rows: &mut Rows, records: &[Record], tuples: usize) {
    let mut all = vec![Together::default(); tuples];
    for record in records {
        let Some(row) = rows.get(record.place) else { continue };
        let together = &mut all[record.tuple as usize];
        together.records += 1;
        if worth(row) > together.worth {
            together.worth = worth(row);
            together.best = Some((row.evidence(), turned(record.endpoints, row.orig())[0]));
        }
    }
    for record in records {
        let Some(row) = rows.get(record.place).filter(|row| !is_known(*row) && worth(*row).is_some()) else { continue };
        let together = all[record.tuple as usize];
        let Some((sure, orig)) = together.best.filter(|_| together.records > 1) else { continue };
        let stays = orig == turned(record.endpoints, row.orig())[0];
        if !stays || together.worth > worth(row) {
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
    use conntrack_track::config::Config;
    use conntrack_track::connection::Endpoint as Sent;
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

    /// What becomes of these packets, in the order of their numbers or of what `by` says.
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
            rows.put(gone);
        }
        rows.in_order()
    }

    fn settled(mut rows: Rows) -> Rows {
        settle(&mut rows, &Known { ports: &ServerPorts::services(), announced: &Announcements::default() });
        rows
    }

    /// What each end sent, whoever initiated.
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
                    let ends = ENDS.map(|end| (row.pure_acks(end), row.first_window(end), row.is_local(end)));
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
