//! Prefix-preserving names for addresses: Crypto-PAn with AES-128.
//!
//! Two addresses with the first n bits in common have names with the first n bits in common, and no more: each bit is
//! flipped, or not, by a keyed function of the bits before it. So a network stays a network, and one key gives an address
//! one name everywhere.
//!
//! Networks of special use stay recognisable (`SPECIAL_V4`, `SPECIAL_V6`): the bits that lead to one are not flipped. What belongs to no
//! host (multicast, loopback) is as it was; of private networks only the prefix is. The function stays one to one. Price:
//! a public address beside such a network shows the bits that both have in common, at most 15 of IPv4.
//!
//! Source: Xu, Fan, Ammar, Moon, "Prefix-Preserving IP Address Anonymization", ICNP 2002; its reference implementation for
//! the padding. Networks: RFC 6890, RFC 4193, RFC 4291 (solicited-node addresses end with bits of a host's), RFC 3306.

use std::collections::HashMap;
use std::net::IpAddr;

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use ipnet::IpNet;

/// A network as 128 bits from the left, its prefix length, and the flag of networks that stay as they are.
type Special = (u128, u32, bool);

/// Networks of special use in IPv4: prefix, length; true: all of it stays.
const SPECIAL_V4: [([u8; 4], u32, bool); 9] = [
    ([0, 0, 0, 0], 8, true),
    ([10, 0, 0, 0], 8, false),
    ([100, 64, 0, 0], 10, false),
    ([127, 0, 0, 0], 8, true),
    ([169, 254, 0, 0], 16, false),
    ([172, 16, 0, 0], 12, false),
    ([192, 168, 0, 0], 16, false),
    ([224, 0, 0, 0], 4, true),
    ([255, 255, 255, 255], 32, true),
];
/// The same of IPv6.
const SPECIAL_V6: [(u128, u32, bool); 6] = [
    (0, 127, true),
    (0xfc << 120, 7, false),
    (0xfe80 << 112, 64, false),
    (0xff << 120, 8, true),
    (0xff30 << 112, 12, false),
    (0xff02_0000_0000_0000_0000_0001_ff00_0000, 104, false),
];

/// Names for addresses, by a key.
pub struct Anonymiser {
    cipher: Aes128,
    pad: u128,
    special: [Vec<Special>; 2],
}

/// The bits of an address from the left, and their number.
fn bits(addr: IpAddr) -> (u128, u32) {
    match addr {
        IpAddr::V4(addr) => (u128::from(u32::from(addr)) << 96, 32),
        IpAddr::V6(addr) => (u128::from(addr), 128),
    }
}

/// The first bits of a number.
fn first(number: u128, count: u32) -> u128 {
    if count == 0 { 0 } else { number & (u128::MAX << (128 - count)) }
}

impl Anonymiser {
    /// Names by a key: 16 bytes for the cipher, 16 for the padding.
    pub fn new(key: [u8; 32]) -> Self {
        let v4 = SPECIAL_V4.map(|(net, length, stays)| (u128::from(u32::from_be_bytes(net)) << 96, length, stays));
        Self { special: [v4.into(), SPECIAL_V6.into()], ..Self::plain(key) }
    }

    /// Crypto-PAn as published, without networks of special use.
    fn plain(key: [u8; 32]) -> Self {
        let [mut own, mut pad] = [[0_u8; 16]; 2];
        own.copy_from_slice(&key[..16]);
        pad.copy_from_slice(&key[16..]);
        let cipher = Aes128::new(&own.into());
        let mut block = pad.into();
        cipher.encrypt_block(&mut block);
        Self { cipher, pad: u128::from_be_bytes(block.into()), special: [Vec::new(), Vec::new()] }
    }

    /// True for a bit that stays: behind `at` bits that lead to a network of special use, or are in one that stays.
    fn stays(special: &[Special], number: u128, at: u32) -> bool {
        let mut inside = (0, false);
        for (net, length, stays) in special {
            let has = |count: u32| first(number, count) == first(*net, count);
            if at < *length && has(at) {
                return true;
            }
            if at >= *length && has(*length) && *length >= inside.0 {
                inside = (*length, *stays);
            }
        }
        inside.1
    }

    /// The name of an address.
    pub fn addr(&self, addr: IpAddr) -> IpAddr {
        let (number, count) = bits(addr);
        let special = &self.special[usize::from(count == 128)];
        let mut flips = 0;
        for at in (0..count).filter(|at| !Self::stays(special, number, *at)) {
            let block = first(number, at) | self.pad & (u128::MAX >> at);
            let mut block = block.to_be_bytes().into();
            self.cipher.encrypt_block(&mut block);
            let bit = u128::from_be_bytes(block.into()) >> 127;
            flips |= bit << (127 - at);
        }
        match addr {
            IpAddr::V4(_) => IpAddr::V4((((number ^ flips) >> 96) as u32).into()),
            IpAddr::V6(_) => IpAddr::V6((number ^ flips).into()),
        }
    }

    /// The name of a network: that of all addresses in it, and of no other.
    pub fn network(&self, net: IpNet) -> IpNet {
        IpNet::new(self.addr(net.trunc().addr()), net.prefix_len()).unwrap_or(net).trunc()
    }
}

/// Names that were asked for before.
pub struct Names<'a> {
    by: &'a Anonymiser,
    known: HashMap<IpAddr, IpAddr>,
}

impl<'a> Names<'a> {
    /// None yet.
    pub fn new(by: &'a Anonymiser) -> Self {
        Self { by, known: HashMap::new() }
    }

    /// The name of an address.
    pub fn addr(&mut self, addr: IpAddr) -> IpAddr {
        *self.known.entry(addr).or_insert_with(|| self.by.addr(addr))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The key of the sample that comes with the reference implementation.
    const KEY: [u8; 32] = [
        21, 34, 23, 141, 51, 164, 207, 128, 19, 10, 91, 22, 73, 144, 125, 16, 216, 152, 143, 131, 121, 121, 101, 39,
        98, 87, 76, 45, 42, 132, 34, 2,
    ];

    #[test]
    fn the_sample_of_the_reference() {
        let names = Anonymiser::plain(KEY);
        for (addr, name) in [
            ("128.11.68.132", "135.242.180.132"),
            ("129.118.74.4", "134.136.186.123"),
            ("130.132.252.244", "133.68.164.234"),
            ("141.223.7.43", "141.167.8.160"),
            ("141.233.145.108", "141.129.237.235"),
            ("152.163.225.39", "151.140.114.167"),
            ("156.29.3.236", "147.225.12.42"),
            ("165.247.96.84", "162.9.99.234"),
            ("166.107.77.190", "160.132.178.185"),
            ("192.102.249.13", "252.138.62.131"),
            ("::1", "78ff:f001:9fc0:20df:8380:b1f1:704:ed"),
            ("::2", "78ff:f001:9fc0:20df:8380:b1f1:704:ef"),
            ("2001:db8::1", "4401:2bc:603f:d91d:27f:ff8e:e6f1:dc1e"),
        ] {
            assert_eq!(names.addr(addr.parse().unwrap()).to_string(), name, "{addr}");
        }
    }

    #[test]
    fn special_networks_stay_recognisable() {
        let names = Anonymiser::new(KEY);
        let same = ["224.0.0.251", "239.1.2.3", "255.255.255.255", "127.0.0.1", "0.0.0.0", "::", "::1", "ff02::fb"];
        for addr in same {
            assert_eq!(names.addr(addr.parse().unwrap()).to_string(), addr);
        }
        for net in [
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "169.254.0.0/16",
            "fc00::/7",
            "fe80::/64",
        ] {
            let net: IpNet = net.parse().unwrap();
            let hosts: Vec<IpAddr> = net.hosts().skip(4711).take(50).collect();
            assert_eq!(names.network(net), net);
            assert!(hosts.iter().all(|addr| net.contains(&names.addr(*addr))));
            assert!(hosts.iter().filter(|addr| names.addr(**addr) != **addr).count() > 25);
        }
        // A solicited-node address shows nothing of its host.
        let solicited: IpAddr = "ff02::1:ff12:3456".parse().unwrap();
        assert!(names.addr(solicited).to_string().starts_with("ff02::1:ff"));
        assert_ne!(names.addr(solicited), solicited);
    }

    fn common(a: IpAddr, b: IpAddr) -> u32 {
        let ((a, count), (b, _)) = (bits(a), bits(b));
        (a ^ b).leading_zeros().min(count)
    }

    proptest! {
        #[test]
        fn prefixes_are_preserved(key: [u8; 32], a: u32, b: u32, shared in 0..=32_u32, wide in (any::<u128>(), any::<u128>())) {
            let names = Anonymiser::new(key);
            let mask = u32::MAX.checked_shl(32 - shared).unwrap_or(0);
            let mut pairs = vec![(IpAddr::V4(a.into()), IpAddr::V4((a & mask | b & !mask).into()))];
            pairs.push((IpAddr::V6(wide.0.into()), IpAddr::V6((wide.0 ^ wide.1 >> shared).into())));
            for (a, b) in pairs {
                prop_assert_eq!(common(a, b), common(names.addr(a), names.addr(b)));
            }
        }
    }
}
