//! Ports of likely servers: the last resort in the choice of the originator.

use conntrack_decode::ipproto;

/// Protocols with ports, and their suffix in the notation of a port.
const PROTOCOLS: [(u8, &str); 3] = [(ipproto::TCP, "tcp"), (ipproto::UDP, "udp"), (ipproto::SCTP, "sctp")];

/// Server ports by protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerPorts {
    /// Sorted.
    ports: Vec<(u8, u16)>,
}

/// Services over TCP: IANA's service names in use, and common ports without a registered name.
#[rustfmt::skip]
const TCP: [u16; 205] = [
    7, 9, 11, 13, 17, 19, 21, 22, 23, 25, 37, 43, 49, 53, 70, 79, 80, 81, 88, 102, 104, 106, 109, 110, 111, 113, 119,
    135, 139, 143, 161, 177, 179, 194, 199, 209, 220, 264, 311, 318, 389, 407, 427, 443, 444, 445, 464, 465, 497, 502,
    512, 513, 514, 515, 524, 540, 543, 544, 548, 554, 563, 587, 593, 601, 631, 636, 639, 646, 666, 674, 691, 749, 800,
    808, 843, 853, 860, 873, 888, 902, 903, 981, 989, 990, 992, 993, 994, 995, 1080, 1099, 1194, 1214, 1352, 1433,
    1434, 1494, 1514, 1521, 1720, 1723, 1812, 1813, 1863, 1883, 1935, 2000, 2049, 2082, 2083, 2086, 2087, 2095, 2096,
    2181, 2222, 2375, 2376, 2379, 2380, 2404, 2483, 2484, 2598, 2601, 2628, 2775, 2809, 2888, 3000, 3100, 3128, 3260,
    3268, 3269, 3299, 3306, 3389, 3478, 3632, 3690, 3724, 3868, 4000, 4222, 4317, 4318, 4369, 4444, 4505, 4506, 4840,
    4843, 4899, 5000, 5001, 5038, 5044, 5060, 5061, 5143, 5222, 5223, 5269, 5280, 5349, 5357, 5432, 5433, 5555, 5601,
    5666, 5671, 5672, 5900, 5901, 5902, 5938, 5984, 5985, 5986, 6000, 6001, 6379, 6443, 6514, 6633, 6653, 6660, 6665,
    6666, 6667, 6668, 6669, 6697, 7000, 7001, 7199, 7474, 7687, 8000, 8008, 8080, 8081, 8086, 8088,
];
/// Services over TCP above port 8088.
#[rustfmt::skip]
const HIGH_TCP: [u16; 47] = [
    8089, 8090, 8118, 8123, 8140, 8181, 8200, 8291, 8300, 8333, 8443, 8500, 8530, 8531, 8834, 8880, 8883, 8888, 9000,
    9001, 9042, 9050, 9090, 9092, 9094, 9100, 9160, 9200, 9300, 9418, 9443, 9997, 9999, 10000, 10050, 10051, 10250,
    11211, 20000, 24224, 26257, 26379, 27017, 27018, 44818, 50070, 61616,
];
/// Services over UDP.
#[rustfmt::skip]
const UDP: [u16; 72] = [
    7, 9, 13, 17, 19, 37, 49, 53, 67, 69, 80, 88, 111, 123, 135, 137, 138, 161, 162, 177, 264, 319, 320, 389, 427,
    443, 464, 500, 502, 514, 520, 521, 546, 547, 554, 623, 631, 646, 853, 1194, 1434, 1645, 1646, 1701, 1812, 1813,
    1900, 2049, 2055, 2123, 2152, 3074, 3478, 3544, 3702, 4500, 4739, 4789, 5004, 5060, 5061, 5246, 5247, 5349, 5351,
    5353, 5355, 6081, 6343, 9995, 47808, 51820,
];
/// Services over SCTP: signalling.
#[rustfmt::skip]
const SCTP: [u16; 9] = [
    2904, 2905, 2944, 3868, 5060, 5061, 14001, 36412, 38412,
];

/// `likely_server_ports` of Zeek 8 with all its default scripts: the additions of `base/protocols/*/main.zeek` and
/// `base/packet-protocols/*`. QUIC is left out there on purpose.
#[rustfmt::skip]
const ZEEK_TCP: [u16; 48] = [
    21, 22, 25, 53, 79, 80, 81, 88, 110, 135, 139, 143, 389, 443, 445, 502, 563, 585, 587, 614, 631, 636, 989, 990,
    992, 993, 995, 1080, 1434, 1883, 2811, 3128, 3268, 3306, 3389, 5222, 5223, 5269, 5432, 6379, 6666, 6667, 6668,
    6669, 8000, 8080, 8888, 20000,
];
#[rustfmt::skip]
const ZEEK_UDP: [u16; 25] = [
    53, 67, 69, 88, 123, 137, 161, 162, 389, 443, 514, 1812, 2123, 2152, 3268, 3389, 3544, 4754, 4789, 5060,
    5072, 5353, 5355, 6081, 20000,
];

impl ServerPorts {
    fn of(lists: &[(u8, &[u16])]) -> Self {
        lists.iter().flat_map(|(proto, ports)| ports.iter().map(|port| (*proto, *port))).collect()
    }

    /// The built-in list of services.
    pub fn services() -> Self {
        Self::of(&[(ipproto::TCP, &TCP), (ipproto::TCP, &HIGH_TCP), (ipproto::UDP, &UDP), (ipproto::SCTP, &SCTP)])
    }

    /// Zeek's list, with all its default scripts.
    pub fn zeek() -> Self {
        Self::of(&[(ipproto::TCP, &ZEEK_TCP), (ipproto::UDP, &ZEEK_UDP)])
    }

    /// Parse a port such as `80/tcp`; None where the text has another form.
    pub fn parse(text: &str) -> Option<(u8, u16)> {
        let (port, word) = text.split_once('/')?;
        let (proto, _) = PROTOCOLS.iter().find(|(_, name)| *name == word)?;
        let is_number = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
        is_number.then(|| port.parse().ok()).flatten().map(|port| (*proto, port))
    }

    /// Test whether the port is a likely server's.
    #[inline]
    pub fn contains(&self, proto: u8, port: u16) -> bool {
        self.ports.binary_search(&(proto, port)).is_ok()
    }
}

impl FromIterator<(u8, u16)> for ServerPorts {
    fn from_iter<T: IntoIterator<Item = (u8, u16)>>(ports: T) -> Self {
        let mut ports: Vec<_> = ports.into_iter().collect();
        ports.sort_unstable();
        ports.dedup();
        Self { ports }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_with_their_protocol() {
        assert_eq!(ServerPorts::parse("80/tcp"), Some((6, 80)));
        assert_eq!(ServerPorts::parse("65535/sctp"), Some((132, 65_535)));
        for text in ["", "80", "80/", "/tcp", "80/TCP", "+80/tcp", "65536/tcp", "-1/udp", "80/tcp/udp", "80 /tcp"] {
            assert_eq!(ServerPorts::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn services_are_not_ephemeral() {
        let services = ServerPorts::services();
        assert!(services.contains(6, 443) && services.contains(17, 53) && !services.contains(132, 80));
        let high = services.ports.iter().filter(|(_, port)| *port > 49_151).count();
        assert!(high <= 3, "{high} services in the dynamic range");
        assert!(ServerPorts::zeek().contains(6, 80) && !ServerPorts::zeek().contains(6, 9_999));
        assert!(!ServerPorts::default().contains(6, 80));
    }
}
