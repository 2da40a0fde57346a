//! Direction relative to the local networks: egress or ingress.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;

use conntrack_decode::ipproto;

use crate::config::{Config, Zone};

use super::ranges::Ranges;

conntrack_base::words! {
    /// The direction of a connection, from its initiator alone.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub enum Direction {
        /// Not a connection.
        #[default]
        None = "none",
        /// A local originator, a responder elsewhere.
        Egress = "egress",
        /// An originator elsewhere, a local responder.
        Ingress = "ingress",
        /// Both local.
        Internal = "internal",
        /// Neither local.
        Transit = "transit",
        /// The responder is a multicast or broadcast address.
        Multicast = "multicast",
    }
}

impl Direction {
    /// The direction between an originator and a responder, given whether each is local. `to_group`: the responder is a
    /// group address.
    #[inline]
    pub fn of(local: [bool; 2], to_group: bool) -> Self {
        match local {
            _ if to_group => Self::Multicast,
            [true, false] => Self::Egress,
            [false, true] => Self::Ingress,
            [true, true] => Self::Internal,
            [false, false] => Self::Transit,
        }
    }

    /// The direction with this number.
    pub fn numbered(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }
}

/// The local networks and zones, compiled for two lookups per connection.
pub struct Locality {
    scopes: Ranges<AddressScope>,
    has_zones: bool,
    local: Vec<IpNet>,
    zones: Vec<Zone>,
}

/// The networks of a configuration, for longest-prefix lookups.
struct Networks {
    local: JointPrefixMap<IpNet, ()>,
    zones: JointPrefixMap<IpNet, u16>,
}

impl Networks {
    fn of(config: &Config) -> Self {
        let local = config.local.iter().map(|net| (net.trunc(), ())).collect();
        let zones = config.zones.iter().zip(0..);
        let zones = zones.flat_map(|(zone, number)| zone.networks.iter().map(move |net| (net.trunc(), number)));
        Self { local, zones: zones.collect() }
    }

    fn scope(&self, addr: IpAddr) -> AddressScope {
        let local = self.local.get_lpm(&host(addr)).map(|(net, ())| net);
        let zone = self.zones.get_lpm(&host(addr));
        let ends = |net: IpNet| addr.is_ipv4() && net.prefix_len() < 31 && net.broadcast() == addr;
        let is_broadcast = [local, zone.map(|(net, _)| net)].into_iter().flatten().any(ends);
        let zone = zone.map(|(_, zone)| *zone);
        AddressScope { is_local: local.is_some(), zone, is_group: is_group(addr) || is_broadcast }
    }

    /// All networks whose borders may separate different scopes.
    fn all(&self) -> impl Iterator<Item = IpNet> {
        let groups = ["224.0.0.0/4", "255.255.255.255/32", "ff00::/8"].into_iter().filter_map(|net| net.parse().ok());
        let configured = self.local.iter().map(|(net, ())| net).chain(self.zones.iter().map(|(net, _)| net));
        configured.chain(groups)
    }
}

/// An address relative to the local networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressScope {
    /// In a local network.
    pub is_local: bool,
    /// The number of the zone with the longest prefix that contains the address.
    pub zone: Option<u16>,
    /// A group address, which never initiates: multicast, or broadcast here or in a configured network.
    pub is_group: bool,
}

/// The prefix of this address alone.
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
    /// Compile the networks of a configuration. Zones are numbered in the configuration's order.
    pub fn new(config: &Config) -> Self {
        let networks = Networks::of(config);
        let scopes = Ranges::of(networks.all(), |addr| networks.scope(addr));
        let (local, zones) = (config.local.clone(), config.zones.clone());
        Self { scopes, has_zones: !zones.is_empty(), local, zones }
    }

    /// The local networks, as configured.
    pub fn local(&self) -> &[IpNet] {
        &self.local
    }

    /// The zones, as configured.
    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// The scope of an address: locality, zone, group.
    #[inline]
    pub fn scope(&self, addr: IpAddr) -> AddressScope {
        self.scopes.find(addr)
    }

    /// The scope of an end of a connection. TCP has no broadcast: an address at the end of a network is then a host's.
    #[inline]
    pub fn scope_of(&self, addr: IpAddr, proto: u8) -> AddressScope {
        let scope = self.scope(addr);
        AddressScope { is_group: scope.is_group && (proto != ipproto::TCP || is_group(addr)), ..scope }
    }

    /// The number of the zone of an address.
    pub fn zone(&self, addr: IpAddr) -> Option<u16> {
        if self.has_zones { self.scope(addr).zone } else { None }
    }
}

impl AddressScope {
    /// The direction of a connection between originator and responder; `link_says_group`: its frames were sent to a
    /// group address of the link.
    pub fn direction([orig, resp]: [Self; 2], link_says_group: bool) -> Direction {
        Direction::of([orig.is_local, resp.is_local], link_says_group || resp.is_group)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::direction::ranges::borders;

    #[test]
    fn five_directions() {
        let locality = Locality::new(&Config::default());
        let scopes = |src: [u8; 4], dst: [u8; 4]| [src, dst].map(|addr| locality.scope(addr.into()));
        let direction = |src, dst| AddressScope::direction(scopes(src, dst), false);
        assert_eq!(direction([10, 0, 0, 1], [8, 8, 8, 8]), Direction::Egress);
        assert_eq!(direction([8, 8, 8, 8], [10, 0, 0, 1]), Direction::Ingress);
        assert_eq!(direction([10, 0, 0, 1], [100, 64, 0, 1]), Direction::Internal);
        assert_eq!(direction([8, 8, 8, 8], [9, 9, 9, 9]), Direction::Transit);
        assert_eq!(direction([10, 0, 0, 1], [224, 0, 0, 251]), Direction::Multicast);
        assert_eq!(direction([10, 0, 0, 1], [255, 255, 255, 255]), Direction::Multicast);
        assert_eq!(direction([10, 0, 0, 1], [10, 255, 255, 255]), Direction::Multicast);
        assert_eq!(AddressScope::direction(scopes([10, 0, 0, 1], [10, 0, 0, 127]), true), Direction::Multicast);
    }

    #[test]
    fn tcp_has_no_broadcast() {
        let locality = Locality::new(&Config::default());
        let groups = |addr: [u8; 4]| [6, 17].map(|proto| locality.scope_of(addr.into(), proto).is_group);
        assert_eq!(groups([10, 255, 255, 255]), [false, true]);
        assert_eq!(groups([224, 0, 0, 251]), [true, true]);
        assert_eq!(groups([10, 0, 0, 1]), [false, false]);
    }

    #[test]
    fn the_longest_prefix_names_the_zone() {
        let zone = |name: &str, net: &str| Zone { name: name.into(), networks: vec![net.parse().unwrap()] };
        let zones = vec![zone("all", "10.0.0.0/8"), zone("servers", "10.1.0.0/16")];
        let locality = Locality::new(&Config { zones, ..Config::default() });
        assert_eq!(locality.scope([10, 1, 2, 3].into()).zone, Some(1));
        assert_eq!(locality.scope([10, 2, 2, 3].into()).zone, Some(0));
        assert_eq!(locality.scope([8, 8, 8, 8].into()).zone, None);
    }
    #[test]
    fn ranges_say_what_the_networks_say() {
        let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
        let zone = |name: &str, networks| Zone { name: name.into(), networks };
        let zones = vec![
            zone("nested", nets(&["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "0.0.0.0/0"])),
            zone("again", nets(&["10.1.2.0/31", "10.1.0.0/24", "255.255.255.0/24", "ff02::/16", "::/0"])),
            zone("hosts", nets(&["10.1.2.255/32", "2001:db8::1/128", "224.0.0.251/32", "10.255.255.254/31"])),
        ];
        for zones in [zones, Vec::new()] {
            let config = Config { zones, ..Config::default() };
            let locality = Locality::new(&config);
            let networks = Networks::of(&config);
            for step in networks.all().flat_map(borders) {
                let near = [-1, 0, 1].map(|by| match step {
                    IpAddr::V4(addr) => IpAddr::from(Ipv4Addr::from(u32::from(addr).wrapping_add_signed(by))),
                    IpAddr::V6(addr) => Ipv6Addr::from(u128::from(addr).wrapping_add_signed(by.into())).into(),
                });
                for addr in near {
                    assert_eq!(locality.scope(addr), networks.scope(addr), "{addr}");
                }
            }
        }
    }
}
