//! A shard; and the last stage: the ICMP shard, numbering and labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::pipeline::following::{GROUP, TrackStage, outside};
use crate::pipeline::reading::Batch;
use conntrack_output::labels::Labels;
use conntrack_track::flow::Descriptor;
use conntrack_track::proto::CtState;
use conntrack_track::table::NO_SLOT;
use conntrack_track::tracker::Label;

use super::load::{Load, ShardResults, WorkItem, among};

/// A tracker with its shard number.
pub(super) struct Shard {
    pub(super) number: usize,
    pub(super) following: TrackStage,
    pub(super) want_labels: bool,
}

impl Shard {
    pub(super) fn new(number: usize, following: TrackStage, want_labels: bool) -> Self {
        Self { number, following, want_labels }
    }

    /// Tracks its part of a batch. `about`: the label of the connection that the ICMP error in a record quotes.
    pub(super) fn take(
        &mut self,
        load: &Load,
        results: &mut ShardResults,
        mut about: impl FnMut(u32, &ShardResults) -> Option<Label>,
    ) {
        results.labels.clear();
        results.related.clear();
        results.begun.clear();
        let mut ticks = load.ticks.iter().copied().peekable();
        let mut guesses = [NO_SLOT; GROUP];
        let batch = Batch { records: &load.batch.records, bytes: &load.batch, decoded: &load.decoded };
        for items in load.work[self.number].chunks(GROUP) {
            self.look_ahead(items, load, &mut guesses);
            for (item, guess) in items.iter().zip(guesses) {
                let (WorkItem::Packet(at) | WorkItem::Quoted(at, _)) = *item;
                while let Some((_, due)) = ticks.next_if(|(tick, _)| *tick <= at) {
                    self.following.pass(Some(due));
                }
                self.following.pass(None);
                if let WorkItem::Quoted(_, quoted) = *item {
                    let (quoted, ..) = &load.quoted[quoted as usize];
                    let related = self.following.tracker.about(quoted, batch.records[at as usize].ts);
                    results.related.push(related.map(|label| among(self.number, label)));
                    continue;
                }
                let one = &load.decoded.descriptors[at as usize];
                let guess = self.following.tracker.table().guessed(one, guess);
                let begun = self.following.tracker.begun();
                let related = about(at, results);
                let label = self.following.one(&batch, at as usize, guess, related);
                if self.following.tracker.begun() > begun {
                    results.begun.push(at);
                }
                if self.want_labels {
                    results.labels.push(if label.ctstate == CtState::Related {
                        label
                    } else {
                        among(self.number, label)
                    });
                }
            }
        }
        for (_, due) in ticks {
            self.following.pass(Some(due));
        }
    }

    /// Prefetches the table slots of the packets.
    fn look_ahead(&self, items: &[WorkItem], load: &Load, guesses: &mut [u32; GROUP]) {
        let nothing = Descriptor::default();
        let one = |item: &WorkItem| match *item {
            WorkItem::Packet(at) => &load.decoded.descriptors[at as usize],
            WorkItem::Quoted(..) => &nothing,
        };
        self.following.tracker.table().look_ahead(items.iter().map(one), guesses);
    }
}

/// Global connection numbers, by shard and by number within the shard.
pub(super) struct Numbers {
    of: Vec<Vec<u32>>,
    next: u32,
}

impl Numbers {
    /// The global number of a connection that [`among`] has marked.
    pub(super) fn number(&self, named: u64) -> u64 {
        let (tracker, id) = ((named >> 48) as usize, named & ((1 << 48) - 1));
        u64::from(self.of[tracker][id as usize])
    }

    /// Numbers the connections that began in a batch; `begun`: their records by shard, in order.
    fn begin(&mut self, begun: &[&[u32]]) {
        let mut rest = begun.to_vec();
        loop {
            let first = rest.iter().zip(0..).filter_map(|(records, tracker)| Some((*records.first()?, tracker))).min();
            let Some((_, tracker)) = first else { return };
            let tracker: usize = tracker;
            rest[tracker] = &rest[tracker][1..];
            self.of[tracker].push(self.next);
            self.next += 1;
        }
    }
}

/// Last stage: the ICMP shard, numbering and labels.
pub(super) struct FinalStage {
    pub(super) icmp: Shard,
    pub(super) numbers: Numbers,
    pub(super) labels: Option<Labels>,
    /// Number of the next batch; below, later batches that came early.
    pub(super) next: u64,
    pub(super) early: BTreeMap<u64, Arc<Load>>,
}

impl FinalStage {
    pub(super) fn new(icmp: Shard, want_labels: bool) -> Self {
        let numbers = Numbers { of: vec![Vec::new(); icmp.number + 1], next: 0 };
        Self { icmp, numbers, labels: want_labels.then(Labels::default), next: 0, early: BTreeMap::new() }
    }

    pub(super) fn take(&mut self, load: &Load) {
        let mut results: Vec<_> = load.results.iter().map(|results| results.take().unwrap_or_default()).collect();
        let mut own = results.pop().unwrap_or_default();
        let mut answers: Vec<_> = results.iter().map(|results| results.related.iter()).collect();
        let mut quoted = load.quoted.iter().peekable();
        self.icmp.take(load, &mut own, |at, own| {
            let (_, route, _) = quoted.next_if(|(.., record)| *record == at)?;
            match answers.get_mut(usize::from(*route)) {
                Some(answers) => answers.next().copied().flatten(),
                None => own.related.last().copied().flatten(),
            }
        });
        results.push(own);
        let begun: Vec<_> = results.iter().map(|results| &results.begun[..]).collect();
        self.numbers.begin(&begun);
        if let Some(labels) = &mut self.labels {
            let mut results: Vec<_> = results.iter().map(|results| results.labels.iter()).collect();
            for (route, one) in load.routes.iter().zip(&load.decoded.descriptors) {
                let label = results.get_mut(usize::from(*route)).and_then(Iterator::next);
                let number = |label: &Label| label.connection.map(|named| self.numbers.number(named));
                let label = label.map(|label| Label { connection: number(label), ..*label });
                labels.push(&label.unwrap_or_else(|| outside(one)));
            }
        }
        for (place, results) in load.results.iter().zip(results) {
            place.give_back(results);
        }
    }
}
