//! The run with the names that payloads show for addresses, collected while tracking.
//!
//! A name belongs to the address that a TLS handshake or an HTTP request with the name was sent to, or that a DNS answer
//! gave for the question. Names are for display. The memory has a bound that no capture moves: so many addresses, and so many
//! names of each, the first ones seen.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use conntrack_capture::Captures;
use conntrack_capture::error::CaptureError;
use conntrack_decode::names::{self, Shown};
use conntrack_decode::{FiveTuple, ipproto};
use conntrack_output::labels::Labels;
use conntrack_output::rows::Rows;
use conntrack_track::config::Config;

use super::following::{NoLabels, TrackOutput};
use super::named::each_payload;
use super::{Observe, RunOutput, finish, on_one_thread, with_restarts};

/// Maximum of addresses with names, those of DNS answers apart from the rest: anybody can forge answers.
const MOST_ADDRESSES: usize = 1 << 16;
/// Maximum of names of an address.
const MOST_NAMES: usize = 4;

/// Names by address, with the protocol that showed them.
pub type HostNames = BTreeMap<IpAddr, Vec<(String, Shown)>>;

/// Tracks captures on one thread, with the names of the responders' addresses.
pub fn with_names(
    captures: &mut Captures,
    config: &Config,
    want_labels: bool,
    observe: Observe<'_>,
) -> Result<(RunOutput, HostNames), CaptureError> {
    with_restarts(captures, |captures| {
        let mut found = Collector::default();
        let mut labels = want_labels.then(Labels::default);
        let (reading, output) = on_one_thread(captures, config, &mut *observe, |following, batch| {
            match &mut labels {
                Some(labels) => following.take(batch, labels),
                None => following.take(batch, &mut NoLabels),
            }
            each_payload(batch, |_, tuple, payload| found.read(tuple, payload));
        })?;
        let tracked = finish(captures, config, reading, TrackOutput { labels, ..output })?;
        let names = found.of_responders(&tracked.rows);
        Ok((tracked, names))
    })
}

#[derive(Default)]
struct Collector {
    /// By TLS and HTTP.
    asked: Names,
    /// By DNS.
    resolved: Names,
}

impl Collector {
    fn read(&mut self, tuple: &FiveTuple, payload: &[u8]) {
        if payload.is_empty() {
            return;
        }
        if tuple.proto == ipproto::TCP {
            if let Some((name, shown)) = names::of_responder(tuple, payload) {
                self.asked.add(tuple.dst.ip(tuple.family), name, shown);
            }
        } else if let Some((name, addresses)) = names::resolved(tuple, payload) {
            for address in addresses {
                self.resolved.add(address, name.clone(), Shown::Dns);
            }
        }
    }

    /// The names of the responders, those that they were asked for first.
    fn of_responders(mut self, rows: &Rows) -> HostNames {
        let responders: HashSet<IpAddr> = rows.iter().map(|row| row.ip(1)).collect();
        let mut all = HostNames::new();
        for address in responders {
            let asked = self.asked.by_address.remove(&address).unwrap_or_default();
            let resolved = self.resolved.by_address.remove(&address).unwrap_or_default();
            if !(asked.is_empty() && resolved.is_empty()) {
                all.insert(address, asked.into_iter().chain(resolved).collect());
            }
        }
        all
    }
}

#[derive(Default)]
struct Names {
    by_address: HashMap<IpAddr, Vec<(String, Shown)>>,
}

impl Names {
    fn add(&mut self, address: IpAddr, name: String, shown: Shown) {
        // Beside an address, a number in the place of a name reads as another address.
        if name.rsplit('.').next().is_none_or(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
            return;
        }
        if self.by_address.len() >= MOST_ADDRESSES && !self.by_address.contains_key(&address) {
            return;
        }
        let names = self.by_address.entry(address).or_default();
        if names.len() < MOST_NAMES && !names.iter().any(|(had, by)| *had == name && *by == shown) {
            names.push((name, shown));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> IpAddr {
        IpAddr::from(u128::try_from(number).unwrap().to_be_bytes())
    }

    #[test]
    fn an_address_has_few_names_and_there_are_few_addresses() {
        let mut names = Names::default();
        for number in 0..10 {
            names.add(address(0), format!("{number}.example"), Shown::Dns);
            names.add(address(0), "0.example".to_owned(), Shown::Dns);
        }
        let had: Vec<_> = names.by_address[&address(0)].iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(had, ["0.example", "1.example", "2.example", "3.example"]);
        for number in 1..=MOST_ADDRESSES {
            names.add(address(number), "a.example".to_owned(), Shown::Dns);
        }
        assert_eq!(names.by_address.len(), MOST_ADDRESSES);
        assert!(!names.by_address.contains_key(&address(MOST_ADDRESSES)));
        names.add(address(1), "b.example".to_owned(), Shown::Sni);
        names.add(address(1), "192.0.2.1".to_owned(), Shown::Http);
        assert_eq!(names.by_address[&address(1)].len(), 2);
    }
}
