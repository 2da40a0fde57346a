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
use conntrack_track::tracker::{Closed, Evictions, Label, Tracker};

use super::alive::Alive;
use super::early_reports::EarlyReports;
use super::reading::Batch;

/// Records whose packets are looked up together, so that they wait for memory together.
pub const GROUP: usize = 128;

/// A sink for the label of every record.
pub trait OnLabel {
    /// False: labels are not computed.
    const WANTED: bool;

    /// True: connections may be reported at their close, for which labels are wanted.
    const REPORTS: bool = false;

    /// Called after record `at` of the batch, whose connection may be in the slot `guess`.
    fn label(&mut self, tracker: &Tracker, label: &Label, batch: &Batch<'_>, at: usize, guess: u32);
}

/// A sink that wants no labels.
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

/// Tracks decoded batches, and collects closed connections.
pub struct TrackStage {
    /// Live connections.
    pub tracker: Tracker,
    over: ClosedRows,
    /// Advance the clock at every record, so that live connections do not depend on batch size.
    each_ticks: bool,
    /// Predicted table slots of the records of a group.
    guesses: Box<[u32; GROUP]>,
    /// Records refused by a full table: the number, and the file and offset of the first.
    refused: Option<(u64, u32, u64)>,
}

/// Closed connections.
struct ClosedRows {
    rows: Finished,
    alive: Alive,
    /// Connections reported at their close, whose entries live on.
    early: Option<EarlyReports>,
}

impl ClosedRows {
    #[inline]
    fn insert(&mut self, closed: &Closed) {
        self.alive.note(closed.what.start(), closed.gone);
        if let Some(early) = &mut self.early
            && early.take(closed.what.id())
        {
            return;
        }
        self.rows.insert(closed);
    }
}

/// Results of tracking.
pub struct TrackOutput {
    /// Finished connections.
    pub rows: Finished,
    /// Labels of all records, if wanted.
    pub labels: Option<Labels>,
    /// Records refused by a full table: the number, and the file and offset of the first.
    pub refused: Option<(u64, u32, u64)>,
    /// Connections begun, and connections evicted.
    pub begun: u64,
    pub evicted: Evictions,
    /// Connections with tags that no packet with other tags may join.
    pub crowded: u64,
    /// Live connections over time.
    pub alive: Alive,
}

impl TrackOutput {
    /// No results yet.
    pub fn none(locality: Arc<Locality>) -> Self {
        let (rows, alive) = (Finished::new(locality), Alive::default());
        Self { rows, labels: None, refused: None, begun: 0, evicted: Evictions::default(), crowded: 0, alive }
    }

    /// Adds the results of another part under new numbers: `own` maps its own numbers, `named` those of connections it
    /// names.
    pub fn add(&mut self, part: Self, own: impl Fn(u64) -> u64, named: impl Fn(u64) -> u64) {
        self.rows.add(part.rows, own, named);
        self.begun += part.begun;
        self.evicted.add(part.evicted);
        self.crowded += part.crowded;
        self.alive.add(part.alive);
    }
}

impl TrackStage {
    /// Tracking from an empty table. With `each_ticks`, the clock advances at every record, as a bounded table needs:
    /// evictions then do not depend on batch size.
    pub fn new(tracker: Tracker, each_ticks: bool) -> Self {
        let locality = tracker.keys().locality().clone();
        let over = ClosedRows { rows: Finished::new(locality), alive: Alive::default(), early: None };
        Self { tracker, over, each_ticks, guesses: Box::new([NO_SLOT; GROUP]), refused: None }
    }

    /// Takes the connections closed since the last call.
    pub fn drain(&mut self) -> Finished {
        self.over.alive = Alive::default();
        let none = self.over.rows.none();
        std::mem::replace(&mut self.over.rows, none)
    }

    /// Report connections at their close from now on, or once their entries are gone. Closed ones in the table are
    /// reported at once; none is reported twice.
    pub fn report_closes(&mut self, at_close: bool) {
        let early = self.over.early.get_or_insert_default();
        if early.set(at_close) {
            early.report_all(&self.tracker, &mut self.over.rows);
        }
    }

    /// Test for reports at the close.
    pub fn reports_closes(&self) -> bool {
        self.over.early.as_ref().is_some_and(EarlyReports::are_wanted)
    }

    /// Packets of connections that were reported before their entries were gone.
    pub fn after_close(&self) -> u64 {
        self.over.early.as_ref().map_or(0, EarlyReports::after_close)
    }

    /// Advance the clock without a packet, and end every connection that is over by then.
    pub fn advance_to(&mut self, ts: i64) {
        let over = &mut self.over;
        self.tracker.advance_to(ts, |closed| over.insert(closed));
    }

    /// Writes live connections, and closed ones that were not drained, to a checkpoint.
    pub fn save(&self, out: &mut Writer<'_, impl Write>) -> io::Result<()> {
        self.tracker.save(out)?;
        self.over.rows.save(out)?;
        EarlyReports::save(self.over.early.as_ref(), out)
    }

    /// Number of connections that ended and were not drained.
    pub fn ended(&self) -> usize {
        self.over.rows.len()
    }

    /// Reads a checkpoint into an empty table.
    pub fn load(&mut self, from: &mut Reader<impl Read>) -> Result<(), CheckpointError> {
        self.tracker.load(from)?;
        self.over.rows.load(from, self.tracker.begun())?;
        self.over.early = EarlyReports::load(from, &self.tracker)?;
        Ok(())
    }

    /// Tracks a batch of at most [`GROUP`] records.
    pub fn take<L: OnLabel>(&mut self, batch: &Batch<'_>, labels: &mut L) {
        let Some(descriptors) = batch.decoded.descriptors.get(..batch.records.len().min(GROUP)) else { return };
        self.tracker.table().look_ahead(descriptors.iter(), &mut self.guesses[..]);
        let times = || descriptors.iter().map(|one| one.ts);
        let over = &mut self.over;
        let is_quiet =
            !self.each_ticks && self.tracker.is_quiet(descriptors.len(), times, |closed| over.insert(closed));
        match (is_quiet, self.tracker.table().has_readers()) {
            (true, false) => self.steps::<L, false, false>(batch, labels),
            (true, true) => self.steps::<L, false, true>(batch, labels),
            (false, false) => self.steps::<L, true, false>(batch, labels),
            (false, true) => self.steps::<L, true, true>(batch, labels),
        }
    }

    /// Tracks record by record. `TICKS`: advance the clock at each.
    #[inline(never)]
    fn steps<L: OnLabel, const TICKS: bool, const READERS: bool>(&mut self, batch: &Batch<'_>, labels: &mut L) {
        let descriptors = batch.decoded.descriptors.get(..batch.records.len()).unwrap_or_default();
        for (at, one) in descriptors.iter().enumerate().take(GROUP) {
            if TICKS {
                let over = &mut self.over;
                self.tracker.advance(one.ts, |closed| over.insert(closed));
            }
            let guess = self.tracker.table().guessed(one, self.guesses[at]);
            let arrival = || batch.arrival(at);
            let taken = if L::WANTED {
                self.tracker.take_ready::<true, READERS>(one, guess, arrival)
            } else {
                self.tracker.take_ready::<false, READERS>(one, guess, arrival)
            };
            let label = taken.unwrap_or_else(|| self.other::<READERS>(batch, at, guess));
            labels.label(&self.tracker, &label, batch, at, guess);
            if L::REPORTS
                && let Some(early) = &mut self.over.early
            {
                early.note(&self.tracker, &label, (batch, at, guess), &mut self.over.rows);
            }
        }
    }

    /// Tracks a packet that the fast path refused.
    #[inline(never)]
    fn other<const READERS: bool>(&mut self, batch: &Batch<'_>, at: usize, guess: u32) -> Label {
        let (one, broad) = (&batch.decoded.descriptors[at], &batch.decoded.broad[at]);
        if let Some(label) = self.tracker.take_ready_wide::<READERS>(one, broad, guess, || batch.arrival(at)) {
            return label;
        }
        let (over, refused) = (&mut self.over, self.tracker.refused());
        let label = if !one.is(kind::OTHER) {
            self.tracker.take(&batch.arrival(at), guess, &mut |closed| over.insert(closed))
        } else if one.count > 0 {
            self.tracker.record_at_length(batch.packets(at), batch.frame(at), one.ts, |closed| over.insert(closed))
        } else {
            outside(one)
        };
        if self.tracker.refused() > refused {
            let record = &batch.records[at];
            self.refused.get_or_insert((0, record.file, record.offset)).0 += 1;
        }
        label
    }

    /// Tracks the only packet of a record of a larger batch, with `guess` as the first slot to look up. `related`: the label of
    /// the connection that an ICMP error quotes.
    pub fn one(&mut self, batch: &Batch<'_>, at: usize, guess: u32, related: Option<Label>) -> Label {
        let (one, over) = (&batch.decoded.descriptors[at], &mut self.over);
        if let Some(label) = self.tracker.take_ready::<true, false>(one, guess, || batch.arrival(at)) {
            return label;
        }
        let broad = &batch.decoded.broad[at];
        if let Some(label) = self.tracker.take_ready_wide::<false>(one, broad, guess, || batch.arrival(at)) {
            return label;
        }
        let closed = &mut |closed: &Closed| over.insert(closed);
        match batch.packets(at).first() {
            Some(packet) if one.is(kind::OTHER) => {
                self.tracker.packet_at_length(packet, batch.frame(at), one.ts, related, closed)
            }
            _ => self.tracker.take(&batch.arrival(at), guess, closed),
        }
    }

    /// Advances the clock; see [`Tracker::pass`].
    #[inline]
    pub fn pass(&mut self, due: Option<i64>) {
        let over = &mut self.over;
        self.tracker.pass(due, |closed| over.insert(closed));
    }

    /// Records refused by a full table: the number, and the file and offset of the first.
    pub fn refused(&self) -> Option<(u64, u32, u64)> {
        self.refused
    }

    /// Closes the live connections at the end of the capture.
    pub fn finish(&mut self) {
        let over = &mut self.over;
        self.tracker.finish(|closed| over.insert(closed));
    }

    /// Closes the live connections at the time of an external clock.
    pub fn finish_at(&mut self, clock: Clock) {
        let over = &mut self.over;
        self.tracker.finish_at(clock, |closed| over.insert(closed));
    }

    /// The results.
    pub fn output(self) -> TrackOutput {
        TrackOutput {
            rows: self.over.rows,
            labels: None,
            refused: self.refused,
            begun: self.tracker.begun(),
            evicted: self.tracker.evicted(),
            crowded: self.tracker.crowded(),
            alive: self.over.alive,
        }
    }
}

/// Label of a record without a tracked packet: ctstate UNTRACKED or INVALID.
pub fn outside(one: &Descriptor) -> Label {
    Label::outside(if one.is(kind::UNTRACKED) { CtState::Untracked } else { CtState::Invalid })
}
