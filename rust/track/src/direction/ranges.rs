//! Address ranges of equal value: a search among a few ranges is faster than a walk through a trie.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A value for every address.
pub struct Ranges<P> {
    v4: Family<u32, P>,
    v6: Family<u128, P>,
}

/// The first address of each range, sorted, with the value of the range. The first range begins with 0.
struct Family<T, P> {
    starts: Vec<T>,
    values: Vec<P>,
}

impl<T: Copy + Ord, P: Copy + PartialEq> Family<T, P> {
    /// The ranges that begin at these addresses; neighbours of equal value are merged.
    fn of(mut starts: Vec<T>, mut value: impl FnMut(T) -> P) -> Self {
        starts.sort_unstable();
        starts.dedup();
        let mut ranges = Self { starts: Vec::new(), values: Vec::new() };
        for start in starts {
            let value = value(start);
            if ranges.values.last() != Some(&value) {
                ranges.starts.push(start);
                ranges.values.push(value);
            }
        }
        ranges
    }

    #[inline]
    fn find(&self, addr: T) -> P {
        let range = self.starts.partition_point(|start| *start <= addr);
        self.values[range - 1]
    }
}

impl<P: Copy + PartialEq> Ranges<P> {
    /// The values of `value` for every address, which may differ only at the borders of these networks.
    pub fn of(networks: impl Iterator<Item = IpNet>, mut value: impl FnMut(IpAddr) -> P) -> Self {
        let (mut v4, mut v6) = (vec![0], vec![0]);
        for border in networks.flat_map(borders) {
            match border {
                IpAddr::V4(addr) => v4.push(addr.into()),
                IpAddr::V6(addr) => v6.push(addr.into()),
            }
        }
        Self {
            v4: Family::of(v4, |addr| value(Ipv4Addr::from(addr).into())),
            v6: Family::of(v6, |addr| value(Ipv6Addr::from(addr).into())),
        }
    }

    /// The value of an address.
    #[inline]
    pub fn find(&self, addr: IpAddr) -> P {
        match addr {
            IpAddr::V4(addr) => self.v4.find(addr.into()),
            IpAddr::V6(addr) => self.v6.find(addr.into()),
        }
    }
}

/// Addresses whose value may differ from the address before: the first of a network, the last (perhaps a broadcast
/// address), and the next one.
pub fn borders(net: IpNet) -> impl Iterator<Item = IpAddr> {
    let last = net.broadcast();
    let next = match last {
        IpAddr::V4(last) => u32::from(last).checked_add(1).map(|next| Ipv4Addr::from(next).into()),
        IpAddr::V6(last) => u128::from(last).checked_add(1).map(|next| Ipv6Addr::from(next).into()),
    };
    [Some(net.network()), Some(last), next].into_iter().flatten()
}
