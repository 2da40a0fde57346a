//! Seen from the local networks: is a connection egress or ingress?

use std::net::IpAddr;

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;

use crate::config::Config;

/// The direction of a connection, from its initiator alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// No connection.
    #[default]
    None = 0,
    /// A local originator, a responder elsewhere.
    Egress = 1,
    /// An originator elsewhere, a local responder.
    Ingress = 2,
    /// Both local.
    Internal = 3,
    /// Neither local.
    Transit = 4,
    /// The responder is a multicast or broadcast address.
    Multicast = 5,
}

impl Direction {
    /// The words in the order of the numbers.
    pub const NAMES: [&'static str; 6] = ["none", "egress", "ingress", "internal", "transit", "multicast"];
}

/// The local networks and zones, ready to be asked.
pub struct Locality {
    local: JointPrefixMap<IpNet, ()>,
    zones: JointPrefixMap<IpNet, u16>,
}

/// The prefix that holds nothing but this address.
fn host(addr: IpAddr) -> IpNet {
    IpNet::from(addr)
}

/// A multicast or limited broadcast address.
fn is_group(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_multicast() || addr.is_broadcast(),
        IpAddr::V6(addr) => addr.is_multicast(),
    }
}

impl Locality {
    /// Takes the networks of a configuration. Zones are numbered in its order.
    pub fn new(config: &Config) -> Self {
        let local = config.local.iter().map(|net| (net.trunc(), ())).collect();
        let zones = config.zones.iter().zip(0..);
        let zones = zones.flat_map(|(zone, number)| zone.networks.iter().map(move |net| (net.trunc(), number)));
        Self { local, zones: zones.collect() }
    }

    /// The address is in a local network.
    pub fn is_local(&self, addr: IpAddr) -> bool {
        self.local.get_lpm(&host(addr)).is_some()
    }

    /// The number of the zone with the longest prefix that holds the address.
    pub fn zone(&self, addr: IpAddr) -> Option<u16> {
        self.zones.get_lpm(&host(addr)).map(|(_, zone)| *zone)
    }

    /// The address is the broadcast address of a configured IPv4 network.
    fn is_directed_broadcast(&self, addr: IpAddr) -> bool {
        let nets =
            [self.local.get_lpm(&host(addr)).map(|(net, ())| net), self.zones.get_lpm(&host(addr)).map(|(net, _)| net)];
        nets.into_iter().flatten().any(|net| addr.is_ipv4() && net.prefix_len() < 31 && net.broadcast() == addr)
    }

    /// An address of many, which never initiates: multicast, or broadcast here or in a configured network.
    pub fn is_group(&self, addr: IpAddr) -> bool {
        is_group(addr) || self.is_directed_broadcast(addr)
    }

    /// The direction of a connection between originator and responder; `link_says_group`: its frames were sent to a group
    /// address of the link.
    pub fn direction(&self, [orig, resp]: [IpAddr; 2], link_says_group: bool) -> Direction {
        if link_says_group || self.is_group(resp) {
            return Direction::Multicast;
        }
        match (self.is_local(orig), self.is_local(resp)) {
            (true, false) => Direction::Egress,
            (false, true) => Direction::Ingress,
            (true, true) => Direction::Internal,
            (false, false) => Direction::Transit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Zone;

    #[test]
    fn five_directions() {
        let locality = Locality::new(&Config::default());
        let direction = |src: [u8; 4], dst: [u8; 4]| locality.direction([src.into(), dst.into()], false);
        assert_eq!(direction([10, 0, 0, 1], [8, 8, 8, 8]), Direction::Egress);
        assert_eq!(direction([8, 8, 8, 8], [10, 0, 0, 1]), Direction::Ingress);
        assert_eq!(direction([10, 0, 0, 1], [100, 64, 0, 1]), Direction::Internal);
        assert_eq!(direction([8, 8, 8, 8], [9, 9, 9, 9]), Direction::Transit);
        assert_eq!(direction([10, 0, 0, 1], [224, 0, 0, 251]), Direction::Multicast);
        assert_eq!(direction([10, 0, 0, 1], [255, 255, 255, 255]), Direction::Multicast);
        assert_eq!(direction([10, 0, 0, 1], [10, 255, 255, 255]), Direction::Multicast);
        assert_eq!(locality.direction([[10, 0, 0, 1].into(), [10, 0, 0, 127].into()], true), Direction::Multicast);
    }

    #[test]
    fn the_longest_prefix_names_the_zone() {
        let zone = |name: &str, net: &str| Zone { name: name.into(), networks: vec![net.parse().unwrap()] };
        let zones = vec![zone("all", "10.0.0.0/8"), zone("servers", "10.1.0.0/16")];
        let locality = Locality::new(&Config { zones, ..Config::default() });
        assert_eq!(locality.zone([10, 1, 2, 3].into()), Some(1));
        assert_eq!(locality.zone([10, 2, 2, 3].into()), Some(0));
        assert_eq!(locality.zone([8, 8, 8, 8].into()), None);
    }
}
