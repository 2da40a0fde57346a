//! The second half of the path: packets → connections → rows and labels.

use std::io::{self, Read, Write};
use std::sync::Arc;

use conntrack_base::checkpoint::{CheckpointError, Reader, Writer};
use conntrack_base::time::Clock;
use conntrack_output::labels::Labels;
use conntrack_output::rows::Finished;
use conntrack_track::direction::Locality;
use conntrack_track::flow::Descriptor;
use conntrack_track::flow::descriptor::kind;
use conntrack_track::proto::CtState;
use conntrack_track::table::NO_SLOT;
use conntrack_track::tracker::{Closed, Label, Tracker};

use super::alive::Alive;
use super::reading::Batch;

/// Records whose packets are looked up together, so that they wait for memory together.
pub const GROUP: usize = 128;

/// A receiver of the label of every record.
pub trait OnLabel {
    /// Labels are of use; else nothing is done for them.
    const WANTED: bool;

    /// The record at this place of the batch was taken, whose connection may be in the slot `guess`.
    fn label(&mut self, tracker: &Tracker, label: &Label, batch: &Batch<'_>, at: usize, guess: u32);
}

/// Nobody hears labels.
pub struct NoLabels;

impl OnLabel for NoLabels {
    const WANTED: bool = false;

    #[inline]
    fn label(&mut self, _: &Tracker, _: &Label, _: &Batch<'_>, _: usize, _: u32) {}
}

impl OnLabel for Labels {
    const WANTED: bool = true;

    #[inline]
    fn label(&mut self, _: &Tracker, label: &Label, _: &Batch<'_>, _: usize, _: u32) {
        self.push(label);
    }
}

impl<F: FnMut(&Tracker, &Label, &Batch<'_>, usize)> OnLabel for F {
    const WANTED: bool = true;

    #[inline]
    fn label(&mut self, tracker: &Tracker, label: &Label, batch: &Batch<'_>, at: usize, _: u32) {
        self(tracker, label, batch, at);
    }
}

/// Follows the connections of what was read.
pub struct Following {
    /// The connections that live.
    pub tracker: Tracker,
    over: Over,
    /// Every record lets time pass by itself: how much is alive at a record must not depend on how batches are cut.
    each_ticks: bool,
    /// Where the packets of a group may have their connections.
    guesses: Box<[u32; GROUP]>,
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
        self.alive.note(closed.what.start(), closed.gone);
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
    /// Nothing was followed yet. With `each_ticks`, every record lets time pass by itself: where it matters how many connections
    /// are alive at a record, that must not depend on how batches are cut.
    pub fn new(tracker: Tracker, each_ticks: bool) -> Self {
        let locality = tracker.keys().locality().clone();
        let over = Over { rows: Finished::new(locality), alive: Alive::default() };
        Self { tracker, over, each_ticks, guesses: Box::new([NO_SLOT; GROUP]), refused: None }
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

    /// Takes the packets of a batch of at most [`GROUP`] records.
    pub fn take<L: OnLabel>(&mut self, batch: &Batch<'_>, labels: &mut L) {
        let Some(descriptors) = batch.decoded.descriptors.get(..batch.records.len().min(GROUP)) else { return };
        let is_ahead = self.tracker.table().look_ahead(descriptors.iter(), &mut self.guesses[..]);
        let times = || descriptors.iter().map(|one| one.ts);
        let over = &mut self.over;
        let is_quiet = !self.each_ticks && self.tracker.is_quiet(descriptors.len(), times, |closed| over.put(closed));
        match (is_quiet, self.tracker.table().has_readers()) {
            (true, false) => self.steps::<L, false, false>(batch, is_ahead, labels),
            (true, true) => self.steps::<L, false, true>(batch, is_ahead, labels),
            (false, false) => self.steps::<L, true, false>(batch, is_ahead, labels),
            (false, true) => self.steps::<L, true, true>(batch, is_ahead, labels),
        }
    }

    /// Takes one packet after the other. With `TICKS`, the clock is asked for each. `is_ahead`: slots were guessed.
    #[inline(never)]
    fn steps<L: OnLabel, const TICKS: bool, const READERS: bool>(
        &mut self,
        batch: &Batch<'_>,
        is_ahead: bool,
        labels: &mut L,
    ) {
        let descriptors = batch.decoded.descriptors.get(..batch.records.len()).unwrap_or_default();
        for (at, one) in descriptors.iter().enumerate().take(GROUP) {
            if TICKS {
                let over = &mut self.over;
                self.tracker.advance(one.ts, |closed| over.put(closed));
            }
            let mut guess = self.guesses[at];
            if !is_ahead || guess == NO_SLOT {
                // The connection may have begun within the batch.
                guess = self.tracker.table().guess_one(one);
            }
            let arrival = || batch.arrival(at);
            let taken = if L::WANTED {
                self.tracker.take_ready::<true, READERS>(one, guess, arrival)
            } else {
                self.tracker.take_ready::<false, READERS>(one, guess, arrival)
            };
            let label = taken.unwrap_or_else(|| self.other::<READERS>(batch, at, guess));
            labels.label(&self.tracker, &label, batch, at, guess);
        }
    }

    /// Takes a packet that is not the plain acknowledgement of a connection that is ready.
    #[inline(never)]
    fn other<const READERS: bool>(&mut self, batch: &Batch<'_>, at: usize, guess: u32) -> Label {
        let (one, broad) = (&batch.decoded.descriptors[at], &batch.decoded.broad[at]);
        if let Some(label) = self.tracker.take_ready_wide::<READERS>(one, broad, guess, || batch.arrival(at)) {
            return label;
        }
        let (over, refused) = (&mut self.over, self.tracker.refused());
        let label = if !one.is(kind::OTHER) {
            self.tracker.take(&batch.arrival(at), guess, &mut |closed| over.put(closed))
        } else if one.count > 0 {
            self.tracker.record_at_length(batch.packets(at), batch.frame(at), one.ts, |closed| over.put(closed))
        } else {
            outside(one)
        };
        if self.tracker.refused() > refused {
            let record = &batch.records[at];
            self.refused.get_or_insert((0, record.file, record.offset)).0 += 1;
        }
        label
    }

    /// Takes the only packet of a record of a larger batch, which is looked up in this slot first. `related`: the label of the
    /// connection that it is an error about.
    pub fn one(&mut self, batch: &Batch<'_>, at: usize, guess: u32, related: Option<Label>) -> Label {
        let (one, over) = (&batch.decoded.descriptors[at], &mut self.over);
        if let Some(label) = self.tracker.take_ready::<true, false>(one, guess, || batch.arrival(at)) {
            return label;
        }
        let broad = &batch.decoded.broad[at];
        if let Some(label) = self.tracker.take_ready_wide::<false>(one, broad, guess, || batch.arrival(at)) {
            return label;
        }
        let closed = &mut |closed: &Closed| over.put(closed);
        match batch.packets(at).first() {
            Some(packet) if one.is(kind::OTHER) => {
                self.tracker.packet_at_length(packet, batch.frame(at), one.ts, related, closed)
            }
            _ => self.tracker.take(&batch.arrival(at), guess, closed),
        }
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
pub fn outside(one: &Descriptor) -> Label {
    Label::outside(if one.is(kind::UNTRACKED) { CtState::Untracked } else { CtState::Invalid })
}
