//! Rows with other addresses: prefix-preserving names, and the local networks and zones under their names.

use std::sync::Arc;

use conntrack_decode::Addr;
use conntrack_track::config::{Config, Zone};
use conntrack_track::direction::Locality;

use super::packed::Overflow;
use super::segments::Segments;
use super::told::facts_of;
use super::{Row, Rows};
use crate::anonymise::{Anonymiser, Names};

/// The rows in their order. Their directions are those of the real addresses.
pub fn renamed<'a>(rows: impl Iterator<Item = Row<'a>> + Clone, locality: &Locality, by: &Anonymiser) -> Rows {
    let mut names = Names::new(by);
    let (mut overflow, mut packed) = (Overflow::default(), Segments::default());
    let mut beside = facts_of(rows.clone());
    for (addr, _) in beside.iter_mut().flat_map(|beside| &mut beside.nats).flat_map(|nat| nat.ends.iter_mut().flatten())
    {
        *addr = names.addr(*addr);
    }
    for row in rows {
        let addrs = [0, 1].map(|end| match names.addr(row.ip(end)) {
            std::net::IpAddr::V4(addr) => Addr(u32::from(addr).into()),
            std::net::IpAddr::V6(addr) => Addr(addr.into()),
        });
        packed.push(row.packed.copied(&row.rows.overflow, &mut overflow).renamed(addrs, &mut overflow));
    }
    packed.close();
    let networks = |nets: &[ipnet::IpNet]| nets.iter().map(|net| by.network(*net)).collect();
    let zones =
        locality.zones().iter().map(|zone| Zone { name: zone.name.clone(), networks: networks(&zone.networks) });
    let config = Config { local: networks(locality.local()), zones: zones.collect(), ..Config::default() };
    Rows { packed, overflow, locality: Arc::new(Locality::new(&config)), beside }
}
