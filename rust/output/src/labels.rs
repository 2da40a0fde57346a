//! Labels of packets: a row of a NumPy structured array for every captured packet, in capture order.

use crate::rows::Rows;
use conntrack_track::direction::Direction;
use conntrack_track::flow::Side;
use conntrack_track::tracker::Label;

/// Bytes of a row, in native byte order: [`FIELDS`], and padding.
pub const WIDTH: usize = 16;

/// Offsets of the fields in a row.
mod at {
    pub const CONNECTION: usize = 0;
    pub const CTSTATE: usize = 8;
    pub const CTDIR: usize = 9;
    pub const REPLY: usize = 10;
    pub const DIRECTION: usize = 11;
    pub const STATE: usize = 12;
}

/// The fields of a row: name, type as NumPy spells it, offset.
pub const FIELDS: [(&str, &str, usize); 6] = [
    ("connection", "i8", at::CONNECTION),
    ("ctstate", "u1", at::CTSTATE),
    ("ctdir", "u1", at::CTDIR),
    ("reply", "?", at::REPLY),
    ("direction", "u1", at::DIRECTION),
    ("state", "u1", at::STATE),
];

/// A settled label, read from its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledLabel {
    /// Row number of the connection.
    pub connection: Option<usize>,
    /// The number of a [`conntrack_track::proto::CtState`].
    pub ctstate: u8,
    /// True for a packet of the responder.
    pub reply: bool,
    /// The connection's direction.
    pub direction: Direction,
    /// The number of a [`conntrack_track::proto::State`].
    pub state: u8,
}

impl SettledLabel {
    /// Reads a row of [`WIDTH`] bytes.
    pub fn of(row: &[u8; WIDTH]) -> Self {
        let id = row.first_chunk::<8>().map_or(-1, |id| i64::from_ne_bytes(*id));
        Self {
            connection: usize::try_from(id).ok(),
            ctstate: row[at::CTSTATE],
            reply: row[at::REPLY] != 0,
            direction: Direction::numbered(row[at::DIRECTION]),
            state: row[at::STATE],
        }
    }
}

/// Labels in capture order. [`Labels::settle`] fills in the fields that depend on the initiator.
#[derive(Default)]
pub struct Labels {
    bytes: Vec<u8>,
}

impl Labels {
    /// Adds the label of a packet whose connection already has an originator and a direction.
    pub fn push_settled(&mut self, label: &Label, known: Option<(Side, Direction)>) {
        self.push(label);
        if let Some(row) = self.bytes.last_chunk_mut::<WIDTH>() {
            row[at::REPLY] = u8::from(known.is_some_and(|(orig, _)| label.side != orig));
            row[at::DIRECTION] = known.map_or(Direction::None, |(_, direction)| direction) as u8;
        }
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.bytes.len() / WIDTH
    }

    /// True without a label.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The connection of a label; None: not tracked.
    pub fn connection(&self, row: usize) -> Option<u64> {
        let id = self.bytes.get(row * WIDTH + at::CONNECTION..)?.first_chunk().copied()?;
        u64::try_from(i64::from_ne_bytes(id)).ok()
    }

    /// The labels as bytes, all of them settled.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Adds the label of the next packet.
    #[inline]
    pub fn push(&mut self, label: &Label) {
        let connection = label.connection.map_or(-1, |id| id as i64);
        let mut row = [0; WIDTH];
        row[at::CONNECTION..at::CTSTATE].copy_from_slice(&connection.to_ne_bytes());
        row[at::CTSTATE] = label.ctstate as u8;
        row[at::CTDIR] = label.ctdir as u8;
        row[at::REPLY] = label.side as u8;
        row[at::STATE] = label.state as u8;
        self.bytes.extend_from_slice(&row);
    }

    /// Turns sides into `reply` and fills in `direction`, from the finished connections.
    #[must_use]
    pub fn settle(mut self, rows: &Rows) -> Vec<u8> {
        // Two bytes of each row stay in the caches where rows would not.
        let known: Vec<_> = rows.iter().map(|row| (row.orig() as u8, row.direction() as u8)).collect();
        for label in self.bytes.as_chunks_mut::<WIDTH>().0 {
            let id = label.first_chunk::<8>().map_or(-1, |id| i64::from_ne_bytes(*id));
            let known = usize::try_from(id).ok().and_then(|id| known.get(id));
            label[at::REPLY] = u8::from(known.is_some_and(|(orig, _)| label[at::REPLY] != *orig));
            label[at::DIRECTION] = known.map_or(Direction::None as u8, |(_, direction)| *direction);
        }
        self.bytes
    }
}

// A side is one byte of the row until it is settled.
const _: () = assert!(Side::A as u8 == 0 && Side::B as u8 == 1);
