//! The whole run on one thread, with the names that payloads show.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use conntrack_capture::Captures;
use conntrack_capture::error::CaptureError;
use conntrack_decode::FiveTuple;
use conntrack_decode::names;
use conntrack_track::config::Config;
use conntrack_track::flow::descriptor::kind;
use conntrack_track::tracker::{Label, Tracker};

use super::reading::Batch;
use super::{Observe, RunOutput, finish, on_one_thread, with_restarts};

/// Maximum of names kept from DNS, whose answers anybody can forge.
const MOST_RESOLVED: usize = 1 << 20;

/// Tracks captures, with names by row: the name in the payload (SNI, Host, DNS) or else the DNS name of the responder's
/// address.
pub fn named(
    captures: &mut Captures,
    config: &Config,
    observe: Observe<'_>,
) -> Result<(RunOutput, BTreeMap<u64, String>), CaptureError> {
    with_restarts(captures, |captures| named_once(captures, config, &mut *observe))
}

fn named_once(
    captures: &mut Captures,
    config: &Config,
    observe: Observe<'_>,
) -> Result<(RunOutput, BTreeMap<u64, String>), CaptureError> {
    let mut found = Names::default();
    let mut numbers = Vec::new();
    let (reading, output) = on_one_thread(captures, config, observe, |following, batch| {
        numbers.clear();
        let number = |_: &Tracker, label: &Label, _: &Batch<'_>, _: usize| numbers.push(label.connection);
        following.take(batch, &mut { number });
        each_payload(batch, |place, tuple, payload| {
            found.read(numbers.get(place).copied().flatten(), tuple, payload);
        });
    })?;
    let tracked = finish(captures, config, reading, output)?;
    for (row, number) in tracked.rows.iter().zip(0..) {
        if let Some(name) = found.resolved.get(&row.ip(1)) {
            found.asked.entry(number).or_insert_with(|| name.clone());
        }
    }
    Ok((tracked, found.asked))
}

#[derive(Default)]
struct Names {
    /// By connection.
    asked: BTreeMap<u64, String>,
    resolved: HashMap<IpAddr, String>,
}

impl Names {
    fn read(&mut self, connection: Option<u64>, tuple: &FiveTuple, payload: &[u8]) {
        if let Some(number) = connection
            && !self.asked.contains_key(&number)
            && let Some(name) = names::asked(tuple, payload)
        {
            self.asked.insert(number, name);
        }
        if let Some((name, addresses)) = names::resolved(tuple, payload) {
            for address in addresses {
                if self.resolved.len() < MOST_RESOLVED {
                    self.resolved.entry(address).or_insert_with(|| name.clone());
                }
            }
        }
    }
}

/// Visits every payload of a batch: index of the record, five-tuple and bytes.
pub(super) fn each_payload(batch: &Batch<'_>, mut visit: impl FnMut(usize, &FiveTuple, &[u8])) {
    for (place, one) in batch.decoded.descriptors.iter().enumerate().take(batch.records.len()) {
        if one.is(kind::OTHER) {
            for packet in batch.packets(place) {
                visit(place, &packet.tuple, packet.payload_in(batch.frame(place)));
            }
        } else {
            let arrival = batch.arrival(place);
            visit(place, &arrival.tuple(), arrival.payload());
        }
    }
}
