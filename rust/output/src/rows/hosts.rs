//! Numbers in place of addresses: analyses count by them.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Row;

/// The hosts of some rows.
pub struct Hosts {
    /// Numbers of the originators and of the responders, row by row.
    pub ends: [Vec<i64>; 2],
    /// The address of each number: originators in the order of their first rows, then hosts that are responders alone.
    pub addresses: Vec<IpAddr>,
}

impl Hosts {
    /// Numbers for the addresses of rows.
    pub fn of<'a>(rows: &(impl Iterator<Item = Row<'a>> + Clone)) -> Self {
        let mut known: HashMap<IpAddr, i64> = HashMap::new();
        let mut addresses = Vec::new();
        let ends = [0, 1].map(|end| {
            let number = |row: Row<'_>| {
                let addr = row.ip(end);
                *known.entry(addr).or_insert_with(|| {
                    addresses.push(addr);
                    addresses.len() as i64 - 1
                })
            };
            rows.clone().map(number).collect()
        });
        Self { ends, addresses }
    }
}
