//! The rungs for a connection whose own packets show no originator, from the strongest to the weakest.
//!
//! The connection's own facts come first: groups, silence before the first datagram, ports, windows. Facts of other
//! connections decide only between ends that look alike: a server that answers everybody may still call out, and a call
//! that was open when the capture began must not vanish as ingress. Volume and acknowledgements are no evidence: an agent
//! that uploads is acknowledged by the collector.

use conntrack_decode::ipproto;
use conntrack_output::rows::Row;
use conntrack_track::config::ServerPorts;
use conntrack_track::connection::Evidence;
use conntrack_track::direction::{Direction, Expectations, window};

use super::census::{Case, Census};
use super::facts::{ENDS, FIRST_EPHEMERAL, only};

/// Evidence from outside the connections.
pub struct Hints<'a> {
    /// Ports at which servers are likely.
    pub ports: &'a ServerPorts,
    /// Connections that messages announced.
    pub expected: &'a Expectations,
    /// Capture times of the first records of files, sorted, nanoseconds.
    pub files: &'a [i64],
    /// Silence after which a gateway has forgotten a UDP exchange, nanoseconds.
    pub udp_timeout: i64,
}

/// The end of the client ports of Windows before Vista and BSD before 2000, which began at 1024.
const LAST_OLD_EPHEMERAL: u16 = 5_000;
/// Upper bound of ports that need privileges (RFC 6335 section 6).
const SYSTEM_PORTS: u16 = 1_024;
/// The port from which an FTP server connects to the client (active mode, RFC 959 section 3.2).
const FTP_DATA: u16 = 20;
/// Port of DNS, and of the queries of resolvers before source port randomisation (RFC 5452).
const DNS: u16 = 53;
/// Ports that privileged clients bind: `rresvport` (512-1023) and `sunrpc.min_resvport` (665-1023).
const RESERVED_CLIENTS: std::ops::RangeInclusive<u16> = 512..=1_023;
/// Ports of UDP protocols in which the sender of data initiates and nobody answers: syslog (RFC 5426), SNMP traps
/// (RFC 3417), NetFlow, IPFIX (RFC 7011), sFlow. Agents often send from the same port.
const PUSH: [u16; 6] = [162, 514, 2_055, 4_739, 6_343, 9_995];
/// Ports of UDP protocols whose clients often send from the port of the protocol: DNS between resolvers, NTP, SNMP, IKE, L2TP,
/// RADIUS proxies, IKE behind NAT, SIP.
const BOTH_ENDS: [u16; 11] = [53, 123, 161, 500, 1_701, 1_812, 1_813, 4_500, 5_060, 5_061, 5_246];
/// Ports of UDP protocols whose server never sends first: DNS, DHCP, TFTP, HTTP, Kerberos, NTP, LDAP, QUIC, DNS over DTLS.
const ONLY_ANSWERS: [u16; 9] = [53, 67, 69, 80, 88, 123, 389, 443, 853];

/// The judgement of one connection: facts of the connection, of the capture, and of the configuration.
pub(super) struct Ladder<'a> {
    pub(super) row: Row<'a>,
    pub(super) case: &'a Case,
    pub(super) census: &'a Census,
    pub(super) hints: &'a Hints<'a>,
    /// True where the five-tuple was silent for the UDP timeout before the first packet.
    pub(super) after_silence: bool,
}

impl Ladder<'_> {
    /// The index of the originator, with the evidence.
    pub(super) fn judge(&self) -> (usize, Evidence) {
        if self.row.proto() == ipproto::TCP { self.judge_segments() } else { self.judge_datagrams() }
    }

    fn judge_segments(&self) -> (usize, Evidence) {
        let named = |evidence: Evidence| move |orig: usize| (orig, evidence);
        let many_peers = || self.census.meeting_place(self.row, self.case).map(other);
        self.by_ports()
            .or_else(|| self.connected().map(named(Evidence::Window)))
            .or_else(|| many_peers().map(named(Evidence::ManyPeers)))
            .or_else(|| self.census.initiator(self.row, self.case).map(named(Evidence::Role)))
            .unwrap_or((0, Evidence::Unknown))
    }

    fn judge_datagrams(&self) -> (usize, Evidence) {
        let row = self.row;
        // An answer of DNS that a switch floods, or that was made with a broadcast address, is still an answer.
        if row.direction() == Direction::Multicast && !(row.was_broadcast() && self.only_answers()) {
            return (0, Evidence::Multicast);
        }
        let answered = ENDS.iter().all(|end| row.sent(*end).packets > 0);
        let is_udp = row.proto() == ipproto::UDP;
        if is_udp && !answered && PUSH.contains(&row.port(0)) {
            return (0, Evidence::Push);
        }
        // Ports that are no evidence by themselves still make the better guess.
        let first = match self.leans() {
            Some(1) => (1, Evidence::FirstPacket),
            _ if answered && row.is_unordered() => (0, Evidence::Unknown),
            _ => (0, if answered { Evidence::Answered } else { Evidence::FirstPacket }),
        };
        // Equal ports distinguish nobody, and both ends may have accepted others.
        let found = if is_udp && row.port(0) == row.port(1) { None } else { self.by_ports() };
        // What agrees with the order of packets is surer than silence.
        let disagrees = found.is_none_or(|(orig, _)| orig != 0);
        let is_client_port = client_range(row.port(1)) == EPHEMERAL;
        if self.after_silence && !row.is_logged() && disagrees && !(is_udp && is_client_port && self.only_answers()) {
            return (0, Evidence::AfterSilence);
        }
        found.unwrap_or(first)
    }

    /// The end that asks a listener, a listed port, or from a client's port.
    fn by_ports(&self) -> Option<(usize, Evidence)> {
        let listener = self.census.listener(self.row, self.case).map(|listener| (other(listener), Evidence::Listener));
        listener
            .or_else(|| self.asks_service().map(|orig| (orig, Evidence::ServicePort)))
            .or_else(|| self.has_client_port().map(|orig| (orig, Evidence::EphemeralPort)))
    }

    /// The end that the ports favour, however weakly: the peer of the only listed port, or the higher range.
    fn leans(&self) -> Option<usize> {
        let ports = ENDS.map(|end| self.row.port(end));
        let [one, two] = ports.map(client_range);
        let listed = only(ports.map(|port| self.hints.ports.contains(self.row.proto(), port))).map(other);
        listed.or((one != two).then_some(usize::from(one < two)))
    }

    /// Test whether the first sender has the port of a server that never sends first, and the receiver has not.
    fn only_answers(&self) -> bool {
        ONLY_ANSWERS.contains(&self.row.port(0)) && !ONLY_ANSWERS.contains(&self.row.port(1))
    }

    /// The end whose peer has a listed port. A listed port that clients bind, too, decides only against a client's port.
    fn asks_service(&self) -> Option<usize> {
        let ports = ENDS.map(|end| self.row.port(end));
        let is_tcp = self.row.proto() == ipproto::TCP;
        if let Some(active) = only(ports.map(|port| port == FTP_DATA)).filter(|_| is_tcp) {
            return Some(active);
        }
        let serves = ports.map(|port| self.hints.ports.contains(self.row.proto(), port));
        // A datagram to a listed port asks for the service. From there it may come from a client, too.
        let may_ask = |end: usize| is_tcp || self.row.is_unordered() || end == usize::from(self.row.is_flipped());
        let is_also_client = |end: usize| may_ask(end) && is_also_client(self.row.proto(), ports[end]);
        let is_certain = |end: usize| !is_also_client(end) || client_range(ports[other(end)]) == EPHEMERAL;
        match serves {
            [true, true] => {
                // Two services: a system port is one by right.
                let system = ports.map(|port| port < SYSTEM_PORTS);
                only(system).filter(|end| !is_also_client(*end)).map(other)
            }
            _ => only(serves).filter(|end| is_certain(*end)).map(other),
        }
    }

    /// The end with a port from a range for clients, where the other's is from a lower one.
    fn has_client_port(&self) -> Option<usize> {
        let ports = ENDS.map(|end| self.row.port(end));
        let [one, two] = ports.map(client_range);
        let client = usize::from(one < two);
        let (high, low) = (one.max(two), one.min(two));
        let is_reserved = is_also_client(self.row.proto(), ports[other(client)]);
        // Over UDP, servers answer from new ports, too (TFTP, RFC 1350 section 4): an old client's port tells nothing there.
        let is_old_client = low == OLD_EPHEMERAL && self.row.proto() != ipproto::TCP;
        let decides = match high {
            EPHEMERAL => low != EPHEMERAL && !is_old_client,
            OLD_EPHEMERAL => low != OLD_EPHEMERAL && !is_reserved,
            _ => false,
        };
        decides.then_some(client)
    }

    /// The end that connected, by the first windows of both. Loopback has no frames of 1500 bytes.
    fn connected(&self) -> Option<usize> {
        if ENDS.iter().any(|end| self.row.ip(*end).is_loopback()) {
            return None;
        }
        let connected = ENDS.map(|end| window::connected(self.row.family(), self.row.first_window(end)));
        match connected {
            [Some(true), Some(false) | None] | [None, Some(false)] => Some(0),
            [Some(false) | None, Some(true)] | [Some(false), None] => Some(1),
            _ => None,
        }
    }
}

fn other(end: usize) -> usize {
    1 - end
}

/// Test for a port that servers listen on and clients bind, too: the ports of privileged clients, and listed ports in the
/// range of client ports. Over UDP, both ends of many protocols send from the port of the protocol.
fn is_also_client(proto: u8, port: u16) -> bool {
    let may_ask = if proto == ipproto::TCP { port == DNS } else { BOTH_ENDS.contains(&port) || PUSH.contains(&port) };
    may_ask || RESERVED_CLIENTS.contains(&port) || port >= FIRST_EPHEMERAL
}

/// Ranks of [`client_range`].
const EPHEMERAL: u8 = 3;
const OLD_EPHEMERAL: u8 = 2;

/// Rank of a port as a client's, from system ports (0, RFC 6335 section 6) to the ephemeral ports of Linux and IANA (3).
/// Client ports of older Windows and BSD rank 2.
fn client_range(port: u16) -> u8 {
    match port {
        ..SYSTEM_PORTS => 0,
        SYSTEM_PORTS..=LAST_OLD_EPHEMERAL => OLD_EPHEMERAL,
        FIRST_EPHEMERAL.. => EPHEMERAL,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_client_ports() {
        assert_eq!([1_000, 1_637, 21_477, 40_000].map(client_range), [0, 2, 1, 3]);
        let tcp = |port| is_also_client(ipproto::TCP, port);
        assert!([53, 514, 1_000, 44_818].into_iter().all(tcp) && ![20, 443, 2_049].into_iter().any(tcp));
        assert!([53, 514, 51_820].into_iter().all(|port| is_also_client(ipproto::UDP, port)));
        assert!(![67, 443, 1_194].into_iter().any(|port| is_also_client(ipproto::UDP, port)));
    }
}
