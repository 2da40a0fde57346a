//! Who initiated, told by the whole capture once it is over: for connections whose own packets did not say it.
//!
//! What is learned from connections that closed long ago serves those that came before it was learned. All of it is
//! counted, so that nothing depends on the order in which connections ended.

use ahash::AHashMap as HashMap;

use crate::columns::Row;
use crate::config::ServerPorts;
use crate::connection::Evidence;
use crate::decode::{Addr, Family, Tunnel, Vlan, ipproto};
use crate::direction::{Announcements, Locality, window};

/// What is known beside the connections.
pub struct Known<'a> {
    /// Ports at which servers are likely.
    pub ports: &'a ServerPorts,
    /// What FTP announced.
    pub announced: &'a Announcements,
    /// Local networks and zones.
    pub locality: &'a Locality,
}

/// An end of a connection.
type Endpoint = (u8, Family, Addr, u16);
/// Two addresses in order.
type Pair = (Family, Addr, Addr);
/// What the records of one five-tuple have in common, and its two ends in order.
type FiveTuple = (Endpoint, Endpoint, Vlan, Tunnel);

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
/// From so many on, peers that meet at an endpoint make it a server.
const MANY_PEERS: u32 = 3;
/// From so many connections on, a host that only initiates or only answers is known by it.
const ENOUGH: u32 = 3;

fn endpoint(row: &Row, end: usize) -> Endpoint {
    (row.proto, row.family, row.addr[end], row.port[end])
}

fn pair(row: &Row) -> (Pair, usize) {
    let [orig, resp] = row.addr;
    if orig <= resp { ((row.family, orig, resp), 0) } else { ((row.family, resp, orig), 1) }
}

fn five_tuple(row: &Row) -> FiveTuple {
    let (one, other) = (endpoint(row, 0), endpoint(row, 1));
    (one.min(other), one.max(other), row.vlan, row.tunnel)
}

/// How an endpoint was met.
#[derive(Clone, Copy, Default)]
struct Met {
    /// Connections that it accepted.
    accepted: u32,
    /// It initiated one.
    initiates: bool,
    /// Peers to which it sent data, each in one of 64 places.
    peers: u64,
}

/// What a host did.
#[derive(Clone, Copy, Default)]
struct Host {
    initiated: u32,
    answered: u32,
}

/// Its history has one of these letters.
fn has_any(row: &Row, these: &[u8]) -> bool {
    let (letters, len) = row.history;
    letters.iter().take(usize::from(len)).any(|letter| these.contains(letter))
}

/// The responder took the connection: what refuses it, an RST, is no acceptance.
fn was_accepted(row: &Row) -> bool {
    match row.proto {
        ipproto::TCP => has_any(row, b"hd"),
        _ => row.sent[1].packets > 0,
    }
}

/// What the capture says of the ends, hosts and pairs of the connections in question.
#[derive(Default)]
struct Facts {
    endpoints: HashMap<Endpoint, Met>,
    hosts: HashMap<(Family, Addr), Host>,
    pairs: HashMap<Pair, [u32; 2]>,
}

/// One of 64 places for a peer, the same in every run.
fn place((_, _, addr, port): Endpoint) -> u32 {
    let mixed =
        (addr.0 as u64 ^ (addr.0 >> 64) as u64 ^ u64::from(port).rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 58) as u32
}

/// Its own packets said who initiated.
fn is_known(row: &Row) -> bool {
    row.evidence >= Evidence::Related
}

/// Neither an echo nor an error: somebody wanted a service.
fn is_service(row: &Row) -> bool {
    matches!(row.proto, ipproto::TCP | ipproto::UDP | ipproto::SCTP) && row.evidence > Evidence::Related
}

impl Facts {
    fn of(rows: &[Row]) -> Self {
        let mut facts = Self::default();
        for row in rows.iter().filter(|row| !is_known(row)) {
            for end in 0..2 {
                facts.endpoints.entry(endpoint(row, end)).or_default();
                facts.hosts.entry((row.family, row.addr[end])).or_default();
            }
            facts.pairs.entry(pair(row).0).or_default();
        }
        for row in rows {
            facts.count(row);
        }
        facts
    }

    fn count(&mut self, row: &Row) {
        let ends = [endpoint(row, 0), endpoint(row, 1)];
        for (own, peer) in [(0, 1), (1, 0)] {
            let is_conversation = row.sent[own].payload_bytes > 0 && row.evidence < Evidence::Scan;
            if let Some(met) = self.endpoints.get_mut(&ends[own]).filter(|_| is_conversation) {
                met.peers |= 1 << place(ends[peer]);
            }
        }
        if !is_service(row) {
            return;
        }
        let answered = was_accepted(row);
        if let Some(met) = self.endpoints.get_mut(&ends[1]).filter(|_| answered) {
            met.accepted += 1;
        }
        if let Some(met) = self.endpoints.get_mut(&ends[0]) {
            met.initiates = true;
        }
        if let Some(host) = self.hosts.get_mut(&(row.family, row.addr[0])) {
            host.initiated += 1;
        }
        if let Some(host) = self.hosts.get_mut(&(row.family, row.addr[1])).filter(|_| answered) {
            host.answered += 1;
        }
        let (pair, orig) = pair(row);
        if let Some(counts) = self.pairs.get_mut(&pair) {
            counts[orig] += 1;
        }
    }

    fn met(&self, row: &Row, end: usize) -> Met {
        self.endpoints.get(&endpoint(row, end)).copied().unwrap_or_default()
    }

    /// The end that accepts connections here.
    fn listener(&self, row: &Row) -> Option<usize> {
        only([0, 1].map(|end| {
            let met = self.met(row, end);
            met.accepted > 0 && !met.initiates
        }))
    }

    /// The end at which many peers meet, and which is not known to initiate: clients use a port for several servers, too.
    fn meeting_place(&self, row: &Row) -> Option<usize> {
        let met = [self.met(row, 0), self.met(row, 1)];
        let peers = met.map(|met| met.peers.count_ones());
        let meets = |end: usize| peers[end] >= MANY_PEERS && peers[1 - end] <= 1 && !met[end].initiates;
        only([meets(0), meets(1)])
    }

    /// The end that initiates, by what the two hosts do elsewhere.
    fn initiator(&self, row: &Row) -> Option<usize> {
        let (pair, first) = pair(row);
        let counts = self.pairs.get(&pair).copied().unwrap_or_default();
        let between = only([counts[first] > 0, counts[1 - first] > 0]);
        between.or_else(|| {
            let hosts = [0, 1].map(|end| self.hosts.get(&(row.family, row.addr[end])).copied().unwrap_or_default());
            let asks = hosts.map(|host| host.initiated >= ENOUGH && host.answered == 0);
            let answers = hosts.map(|host| host.answered >= ENOUGH && host.initiated == 0);
            only([asks[0] || answers[1], asks[1] || answers[0]])
        })
    }
}

/// The one of two ends of which something is true, unless it is true of both.
fn only(ends: [bool; 2]) -> Option<usize> {
    match ends {
        [true, false] => Some(0),
        [false, true] => Some(1),
        _ => None,
    }
}

/// Takes every connection that its own packets left open once more. Their originators may change.
pub fn settle(rows: &mut [Row], known: &Known<'_>) {
    for row in rows.iter_mut() {
        revise(row, known.locality);
    }
    if rows.iter().all(is_known) {
        return;
    }
    let facts = Facts::of(rows);
    for row in rows.iter_mut().filter(|row| !is_known(row) && row.evidence < Evidence::Scan) {
        let (orig, evidence) = judge(row, &facts, known);
        set(row, orig, evidence, evidence.confidence(), known.locality);
    }
    keep_initiators(rows, known.locality);
}

fn set(row: &mut Row, orig: usize, evidence: Evidence, confidence: f32, locality: &Locality) {
    if orig == 1 {
        row.flip(locality);
    }
    row.evidence = evidence;
    row.confidence = confidence;
}

/// What a first packet said, in the light of those that followed it.
fn revise(row: &mut Row, locality: &Locality) {
    row.evidence = match row.evidence {
        // Nobody followed, or a reset did: it may be a scan, or answer a forged SYN.
        Evidence::SynAck if !has_any(row, b"ADFadf") => Evidence::Backscatter,
        Evidence::Scan if row.sent[1].packets > 0 && has_any(row, b"ad") => Evidence::FirstPacket,
        // What is refused carries no data.
        Evidence::Refused if row.sent.iter().any(|sent| sent.payload_bytes > 0) => Evidence::FirstPacket,
        evidence => evidence,
    };
    row.confidence = row.evidence.confidence();
    // Whatever else it may have sent: a group never initiates.
    if locality.is_group(row.ip(0)) && !locality.is_group(row.ip(1)) {
        set(row, 1, Evidence::Multicast, Evidence::Multicast.confidence(), locality);
    }
}

/// The end that initiated, and why.
fn judge(row: &Row, facts: &Facts, known: &Known<'_>) -> (usize, Evidence) {
    let ends = [0, 1];
    let is_announced = |end| known.announced.hold(row.ip(end), row.port[end], row.ip(1 - end), row.time.0);
    if row.proto == ipproto::TCP
        && let Some(end) = only(ends.map(is_announced))
    {
        return (1 - end, Evidence::Related);
    }
    if row.was_broadcast {
        return (0, Evidence::Multicast);
    }
    if let Some(group) = only(ends.map(|end| known.locality.is_group(row.ip(end)))) {
        return (1 - group, Evidence::Multicast);
    }
    // Both ends of an exchange whose first packet is there may be servers: who spoke first, did.
    let answered = row.sent.iter().all(|sent| sent.packets > 0);
    if row.proto == ipproto::UDP && answered && row.port[0] == row.port[1] {
        return (0, Evidence::Answered);
    }
    if let Some(listener) = facts.listener(row) {
        return (1 - listener, Evidence::Listener);
    }
    if let Some(active) = only(row.port.map(|port| port == FTP_DATA)).filter(|_| row.proto == ipproto::TCP) {
        return (active, Evidence::ServicePort);
    }
    let serves = ends.map(|end| known.ports.contains(row.proto, row.port[end]));
    let system = ends.map(|end| serves[end] && row.port[end] < SYSTEM_PORTS);
    // Two services: a system port is one by right, but clients of NFS and their like have one, too.
    let may_be_client = row.port.iter().any(|port| RESERVED_CLIENTS.contains(port));
    if let Some(server) = only(serves).or(only(system).filter(|_| !may_be_client)) {
        return (1 - server, Evidence::ServicePort);
    }
    if row.proto == ipproto::TCP {
        return judge_tcp(row, facts);
    }
    (0, if answered { Evidence::Answered } else { Evidence::FirstPacket })
}

fn judge_tcp(row: &Row, facts: &Facts) -> (usize, Evidence) {
    if let Some(server) = facts.meeting_place(row) {
        return (1 - server, Evidence::ManyPeers);
    }
    if let Some(orig) = facts.initiator(row) {
        return (orig, Evidence::Role);
    }
    if let Some(orig) = by_window(row) {
        return (orig, Evidence::Window);
    }
    let [one, other] = row.pure_acks;
    if one != other {
        return (usize::from(one < other), Evidence::Acknowledgements);
    }
    let [one, other] = row.port.map(client_range);
    if one == other { (0, Evidence::Unknown) } else { (usize::from(one < other), Evidence::EphemeralPort) }
}

/// The end that connected, by the first windows of both.
fn by_window(row: &Row) -> Option<usize> {
    let connected = row.first_window.map(|window| window::connected(row.family, window));
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
fn worth(row: &Row) -> Option<Evidence> {
    match row.evidence {
        Evidence::Scan | Evidence::Backscatter => None,
        Evidence::Syn if !was_accepted(row) => None,
        Evidence::Answered => Some(Evidence::FirstPacket),
        evidence => Some(evidence),
    }
}

/// What the records of one five-tuple say together.
struct Together {
    /// How many there are.
    records: u32,
    worth: Option<Evidence>,
    confidence: f32,
    orig: Option<Endpoint>,
}

/// The records of one five-tuple (cut by a timeout, a file, a restart) have one initiator: that of the best evidence, and
/// of the earliest among equals.
fn keep_initiators(rows: &mut [Row], locality: &Locality) {
    // Only those with several records, of which one is not known, are looked at.
    let mut all: HashMap<FiveTuple, Together> = HashMap::new();
    for row in rows.iter().filter(|row| !is_known(row)) {
        all.entry(five_tuple(row)).or_insert(Together { records: 0, worth: None, confidence: 0.0, orig: None });
    }
    for row in rows.iter() {
        if let Some(together) = all.get_mut(&five_tuple(row)) {
            together.records += 1;
            if worth(row) > together.worth {
                let (worth, confidence, orig) = (worth(row), row.confidence, Some(endpoint(row, 0)));
                *together = Together { worth, confidence, orig, ..*together };
            }
        }
    }
    for row in rows.iter_mut().filter(|row| !is_known(row) && worth(row).is_some()) {
        let Some(together) = all.get(&five_tuple(row)).filter(|together| together.records > 1) else { continue };
        let Some(orig) = together.orig else { continue };
        let stays = orig == endpoint(row, 0);
        if !stays || together.worth > worth(row) {
            let confidence = together.confidence.min(Evidence::SeenBefore.confidence());
            set(row, usize::from(!stays), Evidence::SeenBefore, confidence, locality);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;
    use crate::connection::Endpoint as Sent;
    use crate::decode::{FiveTuple, L4, Packet, Tcp};
    use crate::time::SECOND;
    use crate::tracker::Tracker;

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

    fn rows(packets: &[Packet], locality: &Locality) -> Vec<Row> {
        let mut tracker = Tracker::new(&Config::default());
        let mut closed = Vec::new();
        for (packet, number) in packets.iter().zip(0..) {
            // Far enough apart that some of them time out.
            let ts = number * 9 * SECOND;
            tracker.advance(ts, |gone| closed.push(gone.clone()));
            tracker.record(std::slice::from_ref(packet), &[], ts, |gone| closed.push(gone.clone()));
        }
        tracker.finish(|gone| closed.push(gone.clone()));
        closed.sort_by_key(|gone| gone.connection.id);
        closed.iter().map(|gone| Row::new(gone, locality)).collect()
    }

    /// What each end sent, whoever initiated.
    fn sums(row: &Row) -> Vec<(Endpoint, Sent)> {
        let mut ends = vec![(endpoint(row, 0), row.sent[0]), (endpoint(row, 1), row.sent[1])];
        ends.sort_by_key(|(endpoint, _)| *endpoint);
        ends
    }

    proptest! {
        #[test]
        fn a_flip_moves_nothing_from_one_end_to_the_other(packets in packets()) {
            let locality = Locality::new(&Config::default());
            let before = rows(&packets, &locality);
            let mut after = before.clone();
            let known =
                Known { ports: &ServerPorts::services(), announced: &Announcements::default(), locality: &locality };
            settle(&mut after, &known);
            for (before, after) in before.iter().zip(&after) {
                prop_assert_eq!(sums(before), sums(after));
                prop_assert_eq!(before.flipped ^ after.flipped, before.orig != after.orig);
                let mut back = *after;
                back.flip(&locality);
                prop_assert_eq!(sums(&back), sums(after));
                back.flip(&locality);
                prop_assert_eq!(
                    (back.history, back.conn_state, back.direction, back.pure_acks, back.first_window, back.local),
                    (after.history, after.conn_state, after.direction, after.pure_acks, after.first_window, after.local)
                );
                prop_assert_eq!(after.history.0[0] == b'^', after.flipped && after.history.1 > 0);
            }
        }

        #[test]
        fn the_order_in_which_connections_are_told_does_not_matter(packets in packets(), seed in any::<u64>()) {
            let locality = Locality::new(&Config::default());
            let known =
                Known { ports: &ServerPorts::services(), announced: &Announcements::default(), locality: &locality };
            let mut straight = rows(&packets, &locality);
            // Records of one five-tuple stay in order; all else is turned.
            let mut turned = straight.clone();
            turned.sort_by_key(|row| {
                let (one, other, ..) = five_tuple(row);
                (u64::from(one.3) << 16 | u64::from(other.3)).wrapping_mul(seed | 1)
            });
            settle(&mut straight, &known);
            settle(&mut turned, &known);
            turned.sort_by_key(|row| (row.time, row.addr, row.port));
            straight.sort_by_key(|row| (row.time, row.addr, row.port));
            for (one, other) in straight.iter().zip(&turned) {
                prop_assert_eq!((one.evidence, one.orig), (other.evidence, other.orig));
            }
        }
    }
}
