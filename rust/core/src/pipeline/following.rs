//! The second half of the path: packets → connections → rows and labels.

use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::capture::{Record, RecordBatch};
use crate::checkpoint::{CheckpointError, Reader, Writer};
use crate::decode::{Brief, Packet};
use crate::direction::Locality;
use crate::labels::Labels;
use crate::proto::CtState;
use crate::rows::Finished;
use crate::table::Guess;
use crate::time::Clock;
use crate::tracker::{Closed, Found, Label, Tracker};

use super::alive::Alive;
use super::reading::{Content, Decoded};

/// Records whose packets are looked up together, so that they wait for memory together.
pub const GROUP: usize = 32;

/// Follows the connections of what was read.
pub struct Following {
    /// The connections that live.
    pub tracker: Tracker,
    over: Over,
    /// Where the packets of a group may have their connections.
    guesses: Vec<Guess>,
    /// Records that could have begun a connection and found no room: how many, and the first one's file and offset.
    refused: Option<(u64, u32, u64)>,
}

/// Connections that live no more.
struct Over {
    rows: Finished,
    alive: Alive,
}

impl Over {
    #[inline]
    fn put(&mut self, closed: &Closed) {
        self.rows.put(closed);
        self.alive.note(closed.start(), closed.gone);
    }
}

/// What came of it.
pub struct Followed {
    /// The connections.
    pub rows: Finished,
    /// What is said of every record, if that was asked for.
    pub labels: Option<Labels>,
    /// See [`Following`].
    pub refused: Option<(u64, u32, u64)>,
    /// How many connections have begun, and how many were evicted.
    pub begun: u64,
    pub evicted: u64,
    /// When they lived.
    pub alive: Alive,
}

impl Followed {
    /// Nothing.
    pub fn none(locality: Arc<Locality>) -> Self {
        let (rows, alive) = (Finished::new(locality), Alive::default());
        Self { rows, labels: None, refused: None, begun: 0, evicted: 0, alive }
    }

    /// Adds what came of another part, whose connections get these numbers: `own` for its own numbers, `named` for
    /// those by which it speaks of others.
    pub fn add(&mut self, part: Self, own: impl Fn(u64) -> u64, named: impl Fn(u64) -> u64) {
        self.rows.add(part.rows, own, named);
        self.begun += part.begun;
        self.evicted += part.evicted;
        self.alive.add(part.alive);
    }
}

impl Following {
    /// Nothing was followed yet.
    pub fn new(tracker: Tracker, locality: Arc<Locality>) -> Self {
        let over = Over { rows: Finished::new(locality), alive: Alive::default() };
        Self { tracker, over, guesses: Vec::new(), refused: None }
    }

    /// The connections that are over since this was asked for last; nothing is kept of them.
    pub fn drain(&mut self) -> Finished {
        let none = Over { rows: self.over.rows.none(), alive: Alive::default() };
        std::mem::replace(&mut self.over, none).rows
    }

    /// Writes the connections that live, and those that were not drained.
    pub fn save(&self, out: &mut Writer<'_, impl Write>) -> io::Result<()> {
        self.tracker.save(out)?;
        self.over.rows.save(out)
    }

    /// Reads what was written; nothing was followed yet.
    pub fn load(&mut self, from: &mut Reader<impl Read>) -> Result<(), CheckpointError> {
        self.tracker.load(from)?;
        self.over.rows.load(from, self.tracker.begun())
    }

    /// Takes the packets of these records of a batch. `told` hears the label of every record, its packets where it is not an
    /// ordinary one, and the key where it is.
    pub fn take(
        &mut self,
        records: &[Record],
        batch: &RecordBatch,
        decoded: &Decoded,
        mut told: impl FnMut(&Tracker, &Label, &[Packet], &Found),
    ) {
        let (mut packets, mut guesses) = (&decoded.packets[..], std::mem::take(&mut self.guesses));
        let contents = records.chunks(GROUP).zip(decoded.contents.chunks(GROUP).zip(decoded.briefs.chunks(GROUP)));
        for (records, (contents, briefs)) in contents {
            let ordinary = contents.iter().zip(briefs).filter(|(content, _)| matches!(content, Content::Ordinary));
            self.tracker.touch(ordinary.map(|(_, (_, found))| found), &mut guesses);
            let mut guess = guesses.iter().copied();
            for (record, (content, (brief, found))) in records.iter().zip(contents.iter().zip(briefs)) {
                let (bytes, ts, over) = (batch.bytes(record), record.ts, &mut self.over);
                let refused = self.tracker.refused();
                self.tracker.advance(ts, |closed| over.put(closed));
                let count = if let Content::Packets(count) = content { *count as usize } else { 0 };
                let (own, rest) = packets.split_at(count.min(packets.len()));
                packets = rest;
                let label = match content {
                    Content::Ordinary => self.ordinary(brief, found, guess.next().unwrap_or_default(), bytes, ts),
                    Content::Packets(_) => self.tracker.record(own, bytes, ts, |closed| over.put(closed)),
                    Content::Nothing(_) => outside(*content),
                };
                if self.tracker.refused() > refused {
                    self.refused.get_or_insert((0, record.file, record.offset)).0 += 1;
                }
                told(&self.tracker, &label, own, found);
            }
        }
        self.guesses = guesses;
    }

    /// Takes an ordinary packet.
    #[inline]
    pub fn ordinary(&mut self, brief: &Brief, found: &Found, guess: Guess, bytes: &[u8], ts: i64) -> Label {
        let over = &mut self.over;
        self.tracker.brief(brief, found, guess, bytes, ts, |closed| over.put(closed))
    }

    /// Takes the only packet of a record; see [`Tracker::packet`].
    pub fn packet(&mut self, packet: &Packet, found: &Found, bytes: &[u8], ts: i64, related: Option<Label>) -> Label {
        let over = &mut self.over;
        self.tracker.packet(packet, found, bytes, ts, related, |closed| over.put(closed))
    }

    /// Lets time pass; see [`Tracker::pass`].
    #[inline]
    pub fn pass(&mut self, due: Option<i64>) {
        let over = &mut self.over;
        self.tracker.pass(due, |closed| over.put(closed));
    }

    /// Records that could have begun a connection and found no room: how many, and the first one's file and offset.
    pub fn refused(&self) -> Option<(u64, u32, u64)> {
        self.refused
    }

    /// Ends what is left.
    pub fn finish(&mut self) {
        let over = &mut self.over;
        self.tracker.finish(|closed| over.put(closed));
    }

    /// The same where somebody else has the clock.
    pub fn finish_at(&mut self, clock: Clock) {
        let over = &mut self.over;
        self.tracker.finish_at(clock, |closed| over.put(closed));
    }

    /// What came of it.
    pub fn followed(self) -> Followed {
        Followed {
            rows: self.over.rows,
            labels: None,
            refused: self.refused,
            begun: self.tracker.begun(),
            evicted: self.tracker.evicted(),
            alive: self.over.alive,
        }
    }
}

/// What a gateway says of a record that gave no packet.
pub fn outside(content: Content) -> Label {
    use crate::decode::Skip::{Encrypted, LinkType, NotIp};
    Label::outside(match content {
        Content::Nothing(NotIp | LinkType | Encrypted) | Content::Packets(_) | Content::Ordinary => CtState::Untracked,
        Content::Nothing(_) => CtState::Invalid,
    })
}
