//! The whole run on one thread, with the names that payloads show.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::capture::{Captures, Record, RecordBatch};
use crate::config::Config;
use crate::decode::FiveTuple;
use crate::direction::Locality;
use crate::error::CaptureError;
use crate::names;
use crate::tracker::{Keys, Tracker};

use super::following::{Followed, Following};
use super::reading::{Content, Decoded, Reading};
use super::{Observe, Tracked, finish, read_on};

/// Names of addresses that are kept: what DNS says is what a sender wants it to say.
const MOST_RESOLVED: usize = 1 << 20;

/// Tracks captures; and says for each row that has one the name that was asked for or, where none was seen, the name under
/// which DNS gave out the responder's address.
pub fn named(
    captures: &mut Captures,
    config: &Config,
    observe: Observe<'_>,
) -> Result<(Tracked, BTreeMap<u64, String>), CaptureError> {
    let keys = Keys::new(config);
    let mut reading = Reading::new(config, keys.clone());
    let mut following = Following::new(Tracker::with_keys(config, keys), Arc::new(Locality::new(config)));
    let mut found = Names::default();
    let mut numbers = Vec::new();
    read_on(captures, &mut reading, observe, |records, batch, decoded| {
        numbers.clear();
        following.take(records, batch, decoded, |_, label, _, _| numbers.push(label.connection));
        each_payload(records, batch, decoded, |place, tuple, payload| {
            found.read(numbers.get(place).copied().flatten(), tuple, payload);
        });
    })?;
    following.finish();
    let tracked = finish(captures, config, reading, Followed { labels: None, ..following.followed() })?;
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

/// Tells of every payload of some records the record's place, the tuple and the bytes.
fn each_payload(
    records: &[Record],
    batch: &RecordBatch,
    decoded: &Decoded,
    mut told: impl FnMut(usize, &FiveTuple, &[u8]),
) {
    let mut packets = decoded.packets.iter();
    for (place, record) in records.iter().enumerate() {
        let bytes = batch.bytes(record);
        match decoded.contents.get(place) {
            Some(Content::Ordinary) => {
                let (brief, _) = &decoded.briefs[place];
                told(place, &brief.tuple, brief.payload_in(bytes));
            }
            Some(Content::Packets(count)) => {
                for packet in packets.by_ref().take(*count as usize) {
                    told(place, &packet.tuple, packet.payload_in(bytes));
                }
            }
            Some(Content::Nothing(_)) | None => {}
        }
    }
}
