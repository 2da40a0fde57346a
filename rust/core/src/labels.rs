//! One row for every captured packet, in capture order, as NumPy will see it.

use crate::direction::Direction;
use crate::flow::Side;
use crate::rows::Rows;
use crate::tracker::Label;

/// Bytes of a row, native byte order; those of no field are padding.
pub const WIDTH: usize = 16;

/// The fields of a row: name, NumPy's type and offset.
pub const FIELDS: [(&str, &str, usize); 6] = [
    ("connection", "i8", 0),
    ("ctstate", "u1", 8),
    ("ctdir", "u1", 9),
    ("reply", "?", 10),
    ("direction", "u1", 11),
    ("state", "u1", 12),
];

/// A settled label, read from its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// The place of its connection among the rows.
    pub connection: Option<usize>,
    /// The number of a [`crate::proto::CtState`].
    pub ctstate: u8,
    /// The responder sent it.
    pub reply: bool,
    /// The connection's direction.
    pub direction: Direction,
    /// The number of a [`crate::proto::State`].
    pub state: u8,
}

impl Said {
    /// Reads a row of [`WIDTH`] bytes.
    pub fn of(row: &[u8; WIDTH]) -> Self {
        let id = row.first_chunk::<8>().map_or(-1, |id| i64::from_ne_bytes(*id));
        Self {
            connection: usize::try_from(id).ok(),
            ctstate: row[8],
            reply: row[10] != 0,
            direction: Direction::numbered(row[11]),
            state: row[12],
        }
    }
}

/// Labels, growing as packets come. Who initiated is filled in by [`Labels::settle`], once it is known.
#[derive(Default)]
pub struct Labels {
    bytes: Vec<u8>,
}

impl Labels {
    /// Adds the label of a packet of which this much is known already: who initiated, and the direction.
    pub fn push_settled(&mut self, label: &Label, known: Option<(Side, Direction)>) {
        self.push(label);
        if let Some(row) = self.bytes.last_chunk_mut::<WIDTH>() {
            row[10] = u8::from(known.is_some_and(|(orig, _)| label.side != orig));
            row[11] = known.map_or(Direction::None, |(_, direction)| direction) as u8;
        }
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
        row[..8].copy_from_slice(&connection.to_ne_bytes());
        row[8] = label.ctstate as u8;
        row[9] = label.ctdir as u8;
        row[10] = label.side as u8;
        row[12] = label.state as u8;
        self.bytes.extend_from_slice(&row);
    }

    /// Turns sides into `reply` and fills in `direction`, the connections being known.
    #[must_use]
    pub fn settle(mut self, rows: &Rows) -> Vec<u8> {
        // Two bytes of each row stay in the caches where rows would not.
        let known: Vec<_> = rows.iter().map(|row| (row.orig() as u8, row.direction() as u8)).collect();
        for label in self.bytes.chunks_exact_mut(WIDTH) {
            let Some((id, rest)) = label.split_first_chunk_mut::<8>() else { continue };
            let known = usize::try_from(i64::from_ne_bytes(*id)).ok().and_then(|id| known.get(id));
            rest[2] = u8::from(known.is_some_and(|(orig, _)| rest[2] != *orig));
            rest[3] = known.map_or(Direction::None as u8, |(_, direction)| *direction);
        }
        self.bytes
    }
}

// A side is one byte of the row until it is settled.
const _: () = assert!(Side::A as u8 == 0 && Side::B as u8 == 1);
