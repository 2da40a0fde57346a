//! Seen from the local networks: is a connection egress or ingress?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// The local networks and zones, ready to be asked: addresses in ranges, within which everything is the same. A search
/// among a few ranges takes less than a walk through a trie, and is asked twice for every connection.
pub struct Locality {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    has_zones: bool,
}

/// The first address of each range, in order, and what is known of all in it. The first range begins with 0.
struct Ranges<T> {
    starts: Vec<T>,
    places: Vec<Place>,
}

impl<T: Copy + Ord> Ranges<T> {
    /// The ranges that begin at these addresses; neighbours of which the same is known are one.
    fn of(mut starts: Vec<T>, place: impl Fn(T) -> Place) -> Self {
        starts.sort_unstable();
        let mut ranges = Self { starts: Vec::new(), places: Vec::new() };
        for start in starts {
            let place = place(start);
            if ranges.places.last() != Some(&place) {
                ranges.starts.push(start);
                ranges.places.push(place);
            }
        }
        ranges
    }

    #[inline]
    fn find(&self, addr: T) -> Place {
        let range = self.starts.partition_point(|start| *start <= addr);
        self.places.get(range.wrapping_sub(1)).copied().unwrap_or(Place::ELSEWHERE)
    }
}

/// The networks of a configuration, as they are looked up: the longest prefix counts.
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

    fn place(&self, addr: IpAddr) -> Place {
        let local = self.local.get_lpm(&host(addr)).map(|(net, ())| net);
        let zone = self.zones.get_lpm(&host(addr));
        let ends = |net: IpNet| addr.is_ipv4() && net.prefix_len() < 31 && net.broadcast() == addr;
        let is_broadcast = [local, zone.map(|(net, _)| net)].into_iter().flatten().any(ends);
        let zone = zone.map(|(_, zone)| *zone);
        Place { is_local: local.is_some(), zone, is_group: is_group(addr) || is_broadcast }
    }

    /// Addresses at which something may be different from the address before.
    fn steps(&self) -> impl Iterator<Item = IpAddr> {
        let groups = ["224.0.0.0/4", "255.255.255.255/32", "ff00::/8"].into_iter().filter_map(|net| net.parse().ok());
        let configured = self.local.iter().map(|(net, ())| net).chain(self.zones.iter().map(|(net, _)| net));
        configured.chain(groups).flat_map(|net: IpNet| {
            let last = net.broadcast();
            let next = match last {
                IpAddr::V4(last) => u32::from(last).checked_add(1).map(|next| Ipv4Addr::from(next).into()),
                IpAddr::V6(last) => u128::from(last).checked_add(1).map(|next| Ipv6Addr::from(next).into()),
            };
            [Some(net.network()), Some(last), next].into_iter().flatten()
        })
    }
}

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In a local network.
    pub is_local: bool,
    /// The number of the zone with the longest prefix that holds it.
    pub zone: Option<u16>,
    /// An address of many, which never initiates: multicast, or broadcast here or in a configured network.
    pub is_group: bool,
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
        let networks = Networks::of(config);
        let (mut v4, mut v6) = (vec![0], vec![0]);
        for step in networks.steps() {
            match step {
                IpAddr::V4(addr) => v4.push(addr.into()),
                IpAddr::V6(addr) => v6.push(addr.into()),
            }
        }
        Self {
            v4: Ranges::of(v4, |addr| networks.place(Ipv4Addr::from(addr).into())),
            v6: Ranges::of(v6, |addr| networks.place(Ipv6Addr::from(addr).into())),
            has_zones: !config.zones.is_empty(),
        }
    }

    /// Everything that is known of an address, at once.
    #[inline]
    pub fn place(&self, addr: IpAddr) -> Place {
        match addr {
            IpAddr::V4(addr) => self.v4.find(addr.into()),
            IpAddr::V6(addr) => self.v6.find(addr.into()),
        }
    }

    /// The number of the zone of an address.
    pub fn zone(&self, addr: IpAddr) -> Option<u16> {
        if self.has_zones { self.place(addr).zone } else { None }
    }

    /// An address of many, which never initiates: multicast, or broadcast here or in a configured network.
    pub fn is_group(&self, addr: IpAddr) -> bool {
        self.place(addr).is_group
    }
}

impl Place {
    const ELSEWHERE: Self = Self { is_local: false, zone: None, is_group: false };

    /// The direction of a connection between originator and responder; `link_says_group`: its frames were sent to a group
    /// address of the link.
    pub fn direction([orig, resp]: [Self; 2], link_says_group: bool) -> Direction {
        if link_says_group || resp.is_group {
            return Direction::Multicast;
        }
        match (orig.is_local, resp.is_local) {
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
        let places = |src: [u8; 4], dst: [u8; 4]| [src, dst].map(|addr| locality.place(addr.into()));
        let direction = |src, dst| Place::direction(places(src, dst), false);
        assert_eq!(direction([10, 0, 0, 1], [8, 8, 8, 8]), Direction::Egress);
        assert_eq!(direction([8, 8, 8, 8], [10, 0, 0, 1]), Direction::Ingress);
        assert_eq!(direction([10, 0, 0, 1], [100, 64, 0, 1]), Direction::Internal);
        assert_eq!(direction([8, 8, 8, 8], [9, 9, 9, 9]), Direction::Transit);
        assert_eq!(direction([10, 0, 0, 1], [224, 0, 0, 251]), Direction::Multicast);
        assert_eq!(direction([10, 0, 0, 1], [255, 255, 255, 255]), Direction::Multicast);
        assert_eq!(direction([10, 0, 0, 1], [10, 255, 255, 255]), Direction::Multicast);
        assert_eq!(Place::direction(places([10, 0, 0, 1], [10, 0, 0, 127]), true), Direction::Multicast);
    }

    #[test]
    fn the_longest_prefix_names_the_zone() {
        let zone = |name: &str, net: &str| Zone { name: name.into(), networks: vec![net.parse().unwrap()] };
        let zones = vec![zone("all", "10.0.0.0/8"), zone("servers", "10.1.0.0/16")];
        let locality = Locality::new(&Config { zones, ..Config::default() });
        assert_eq!(locality.place([10, 1, 2, 3].into()).zone, Some(1));
        assert_eq!(locality.place([10, 2, 2, 3].into()).zone, Some(0));
        assert_eq!(locality.place([8, 8, 8, 8].into()).zone, None);
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
            for step in networks.steps() {
                let near = [-1, 0, 1].map(|by| match step {
                    IpAddr::V4(addr) => IpAddr::from(Ipv4Addr::from(u32::from(addr).wrapping_add_signed(by))),
                    IpAddr::V6(addr) => Ipv6Addr::from(u128::from(addr).wrapping_add_signed(by.into())).into(),
                });
                for addr in near {
                    assert_eq!(locality.place(addr), networks.place(addr), "{addr}");
                }
            }
        }
    }
}
