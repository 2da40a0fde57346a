//! The configuration of a tracker: timeouts under their sysctl names, rules, the local networks.

mod ports;
mod profile;

use serde::{Deserialize, Serialize};

use ipnet::IpNet;

use conntrack_base::time::SECOND;
use conntrack_decode as decode;

pub use ports::ServerPorts;
pub use profile::Profile;

/// A timeout of the gateway, under the name of its sysctl (`net.netfilter.nf_conntrack_…`).
///
/// Sources: `Documentation/networking/nf_conntrack-sysctl.rst` of the Linux kernel; defaults of kernel 6.18.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the sysctls' own; Timeouts::TABLE lists them with their defaults")]
pub enum Timeout {
    TcpSynSent,
    TcpSynRecv,
    TcpEstablished,
    TcpFinWait,
    TcpCloseWait,
    TcpLastAck,
    TcpTimeWait,
    TcpClose,
    TcpMaxRetrans,
    TcpUnacknowledged,
    Udp,
    UdpStream,
    Icmp,
    Icmpv6,
    SctpClosed,
    SctpCookieWait,
    SctpCookieEchoed,
    SctpEstablished,
    SctpShutdownSent,
    SctpShutdownRecd,
    SctpShutdownAckSent,
    SctpHeartbeatSent,
    Gre,
    GreStream,
    Generic,
}

impl Timeout {
    /// The timeout with this number.
    #[inline]
    pub fn numbered(number: u8) -> Self {
        // As many as five bits can number, so that such a number needs no check.
        const ALL: [Timeout; 32] = {
            let mut all = [Timeout::Generic; 32];
            let mut number = 0;
            while number < TIMEOUTS {
                all[number] = Timeouts::TABLE[number].0;
                number += 1;
            }
            all
        };
        ALL.get(usize::from(number)).copied().unwrap_or(Self::Generic)
    }
}

/// The number of timeouts.
const TIMEOUTS: usize = Timeout::Generic as usize + 1;

/// The value of every timeout, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts([i64; TIMEOUTS]);

impl Timeouts {
    /// Every timeout, its sysctl name and the Linux default in seconds.
    pub const TABLE: [(Timeout, &'static str, i64); TIMEOUTS] = [
        (Timeout::TcpSynSent, "nf_conntrack_tcp_timeout_syn_sent", 120),
        (Timeout::TcpSynRecv, "nf_conntrack_tcp_timeout_syn_recv", 60),
        (Timeout::TcpEstablished, "nf_conntrack_tcp_timeout_established", 432_000),
        (Timeout::TcpFinWait, "nf_conntrack_tcp_timeout_fin_wait", 120),
        (Timeout::TcpCloseWait, "nf_conntrack_tcp_timeout_close_wait", 60),
        (Timeout::TcpLastAck, "nf_conntrack_tcp_timeout_last_ack", 30),
        (Timeout::TcpTimeWait, "nf_conntrack_tcp_timeout_time_wait", 120),
        (Timeout::TcpClose, "nf_conntrack_tcp_timeout_close", 10),
        (Timeout::TcpMaxRetrans, "nf_conntrack_tcp_timeout_max_retrans", 300),
        (Timeout::TcpUnacknowledged, "nf_conntrack_tcp_timeout_unacknowledged", 300),
        (Timeout::Udp, "nf_conntrack_udp_timeout", 30),
        (Timeout::UdpStream, "nf_conntrack_udp_timeout_stream", 120),
        (Timeout::Icmp, "nf_conntrack_icmp_timeout", 30),
        (Timeout::Icmpv6, "nf_conntrack_icmpv6_timeout", 30),
        (Timeout::SctpClosed, "nf_conntrack_sctp_timeout_closed", 10),
        (Timeout::SctpCookieWait, "nf_conntrack_sctp_timeout_cookie_wait", 3),
        (Timeout::SctpCookieEchoed, "nf_conntrack_sctp_timeout_cookie_echoed", 3),
        (Timeout::SctpEstablished, "nf_conntrack_sctp_timeout_established", 210),
        (Timeout::SctpShutdownSent, "nf_conntrack_sctp_timeout_shutdown_sent", 3),
        (Timeout::SctpShutdownRecd, "nf_conntrack_sctp_timeout_shutdown_recd", 3),
        (Timeout::SctpShutdownAckSent, "nf_conntrack_sctp_timeout_shutdown_ack_sent", 3),
        (Timeout::SctpHeartbeatSent, "nf_conntrack_sctp_timeout_heartbeat_sent", 30),
        (Timeout::Gre, "nf_conntrack_gre_timeout", 30),
        (Timeout::GreStream, "nf_conntrack_gre_timeout_stream", 180),
        (Timeout::Generic, "nf_conntrack_generic_timeout", 600),
    ];

    /// The value of one timeout in nanoseconds.
    #[inline]
    pub fn get(&self, timeout: Timeout) -> i64 {
        self.0[timeout as usize]
    }

    /// Set the timeout with this sysctl name, in nanoseconds; false where no timeout has that name.
    pub fn set(&mut self, name: &str, nanoseconds: i64) -> bool {
        let found = Self::TABLE.iter().find(|(_, n, _)| *n == name);
        if let Some((timeout, _, _)) = found {
            self.0[*timeout as usize] = nanoseconds;
        }
        found.is_some()
    }

    /// The names and values, in nanoseconds.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, i64)> + '_ {
        Self::TABLE.iter().map(|(timeout, name, _)| (*name, self.get(*timeout)))
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self(Self::TABLE.map(|(_, _, seconds)| seconds * SECOND))
    }
}

/// The rules of a gateway, apart from its timeouts; each is a sysctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `nf_conntrack_tcp_loose`: pick up TCP connections whose start was not seen.
    pub loose: bool,
    /// `nf_conntrack_tcp_be_liberal`: only out-of-window RSTs are invalid.
    pub liberal: bool,
    /// `nf_conntrack_tcp_ignore_invalid_rst`: accept RSTs below the highest acknowledgement.
    pub ignore_invalid_rst: bool,
    /// `nf_conntrack_tcp_max_retrans`: identical segments in a row before the timeout is capped.
    pub max_retrans: u8,
    /// The condition under which an answered UDP exchange becomes a stream.
    pub udp_stream: UdpStream,
    /// The timeouts.
    pub timeouts: Timeouts,
}

/// The condition under which an answered UDP exchange becomes a stream, with a timeout of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UdpStream {
    /// The first packet after the first reply, more than two seconds after the opening packet (Linux).
    #[default]
    TwoSeconds,
    /// A packet after the first reply.
    Replied,
    /// A request after the first reply: "more than one request-response transaction" (EC2).
    SecondRequest,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            loose: true,
            liberal: false,
            ignore_invalid_rst: false,
            max_retrans: 3,
            udp_stream: UdpStream::default(),
            timeouts: Timeouts::default(),
        }
    }
}

/// A named set of networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The name, as reported in `orig_zone` and `resp_zone`.
    pub name: String,
    /// The networks of the zone; the longest prefix of all zones wins.
    pub networks: Vec<IpNet>,
}

conntrack_base::words! {
    /// The part of tags (VLAN ids, and the network identifiers of VXLAN and GENEVE) in the identity of a connection.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum VlanMode {
        /// Tags are part of the key; the halves of a connection whose tags differ by direction are joined.
        #[default]
        Key = "key",
        /// Tags are part of the key, and nothing is joined.
        Strict = "strict",
        /// Tags tell no connections apart.
        Ignore = "ignore",
    }
}

/// The configuration of a tracker.
#[derive(Clone, Debug)]
pub struct Config {
    /// The local networks: the perspective of egress and ingress.
    pub local: Vec<IpNet>,
    /// Named networks.
    pub zones: Vec<Zone>,
    /// The gateway's rules.
    pub rules: Rules,
    /// Options of the decoder: tunnels and checksums.
    pub decode: decode::Options,
    /// Ports of likely servers; None: the built-in list of services.
    pub likely_server_ports: Option<ServerPorts>,
    /// Zeek's boundaries of connections and Zeek's choice of the originator.
    pub zeek: bool,
    /// The most time between a SYN+ACK and a SYN stored after it that it acknowledges, nanoseconds; 0: the stored order
    /// stands. Zeek's boundaries follow the stored order.
    pub reorder_window: i64,
    /// The part of tags in the identity of a connection.
    pub vlan: VlanMode,
    /// Report damage as an error instead of a count.
    pub strict: bool,
    /// Go on with the next file where one cannot be read.
    pub skip_files: bool,
    /// Bounds of the flow table.
    pub bounds: Bounds,
    /// The most threads for tracking.
    pub threads: usize,
    /// The key of the five-tuple hash; None: fresh random numbers. A fixed key makes runs comparable instruction by
    /// instruction, and lets an attacker choose five-tuples that collide.
    pub hash_key: Option<[u64; 4]>,
}

/// Bounds of the live connections. In a full table, a new connection replaces one that is not assured (early drop);
/// where there is none, the new one is not tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most live connections (`nf_conntrack_max`).
    pub connections: usize,
    /// The most bytes of memory for live connections.
    pub bytes: usize,
}

impl Default for Bounds {
    /// No bounds but the machine's.
    fn default() -> Self {
        Self { connections: usize::MAX, bytes: usize::MAX }
    }
}

impl Config {
    /// The default of `local`: RFC 1918, RFC 6598, RFC 4193, link-local and loopback.
    pub const LOCAL: [&'static str; 9] = [
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "fc00::/7",
        "fe80::/10",
        "::1/128",
    ];
}

impl Default for Config {
    fn default() -> Self {
        Self {
            local: Self::LOCAL.iter().filter_map(|net| net.parse().ok()).collect(),
            zones: Vec::new(),
            rules: Rules::default(),
            decode: decode::Options::default(),
            likely_server_ports: None,
            zeek: false,
            reorder_window: SECOND / 10,
            vlan: VlanMode::default(),
            strict: false,
            skip_files: false,
            bounds: Bounds::default(),
            threads: 1,
            hash_key: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (index, (timeout, _, _)) in Timeouts::TABLE.iter().enumerate() {
            assert_eq!(*timeout as usize, index);
        }
        assert_eq!(Timeouts::default().get(Timeout::TcpEstablished), 432_000 * SECOND);
    }

    #[test]
    fn timeouts_are_set_by_sysctl_name() {
        let mut timeouts = Timeouts::default();
        assert!(timeouts.set("nf_conntrack_udp_timeout", SECOND));
        assert_eq!(timeouts.get(Timeout::Udp), SECOND);
        assert!(!timeouts.set("udp_timeout", SECOND));
    }

    #[test]
    fn the_default_local_networks_parse() {
        assert_eq!(Config::default().local.len(), Config::LOCAL.len());
    }
}
