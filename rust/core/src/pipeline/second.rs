//! The second pass of a distributed run: rows of some shards, as bytes of a column, to the facts of those shards, and with the
//! facts of all shards to rows with hindsight.
//!
//! The rows of a five-tuple, of two hosts, and the messages of a connection are in one shard. So each call gets all rows of its
//! shards.

use conntrack_base::bytes;
use conntrack_output::rows::{Row, Rows, alone};
use conntrack_track::config::{Config, ServerPorts, Timeout};
use conntrack_track::direction::Expectation;

use super::noted::Noted;
use super::seam::Ids;
use crate::hindsight::{self, Facts, Id};

/// A row and the facts beside it, as bytes.
pub fn row_bytes(row: Row<'_>, noted: &Noted) -> Vec<u8> {
    bytes::put(bytes::put(alone::bytes(row), &noted.announced), &noted.begins)
}

/// All rows of some shards.
pub struct ShardRows {
    rows: alone::Reader,
    ids: Vec<Ids>,
    announced: Vec<Expectation>,
    begins: Vec<i64>,
    ports: ServerPorts,
    udp_timeout: i64,
}

impl ShardRows {
    /// No rows; the configuration of the run that tracked them.
    pub fn new(config: &Config) -> Self {
        Self {
            rows: alone::Reader::new(config),
            ids: Vec::new(),
            announced: Vec::new(),
            begins: Vec::new(),
            ports: config.likely_server_ports.clone().unwrap_or_else(ServerPorts::services),
            udp_timeout: config.rules.timeouts.get(Timeout::Udp),
        }
    }

    /// Adds a row of [`row_bytes`]. An error says what was found.
    pub fn add(&mut self, mut from: &[u8], ids: Ids) -> Result<(), &'static str> {
        self.rows.add(&mut from)?;
        self.announced.extend(bytes::get::<Vec<Expectation>>(&mut from).ok_or("bytes of no announcements")?);
        self.begins.extend(bytes::whole::<Vec<i64>>(from).ok_or("bytes of no begins")?);
        self.ids.push(ids);
        Ok(())
    }

    /// The facts of the rows.
    pub fn facts(self) -> Facts {
        let (rows, places) = self.rows.in_order();
        let ids: Vec<Id> = places.into_iter().map(|place| self.ids[place].0).collect();
        let mut facts = hindsight::facts(rows, &ids, self.announced, self.udp_timeout);
        self.begins.into_iter().for_each(|begin| facts.begin(begin));
        facts
    }

    /// The rows with hindsight by the facts of all shards, and their identifiers.
    pub fn look_back(self, facts: &mut Facts) -> (Rows, Vec<Ids>) {
        let (mut rows, places) = self.rows.in_order();
        let mut ids: Vec<Ids> = places.into_iter().map(|place| self.ids[place]).collect();
        for (place, parent) in hindsight::look_back(&mut rows, facts, &self.ports, self.udp_timeout) {
            if let Some((_, related)) = ids.get_mut(place) {
                related.get_or_insert(parent);
            }
        }
        (rows, ids)
    }
}
