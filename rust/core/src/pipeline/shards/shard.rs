//! One of many trackers; and the last one, which has ICMP, and gives numbers and labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::labels::Labels;
use crate::pipeline::following::{Following, GROUP, outside};
use crate::proto::CtState;
use crate::table::Guess;
use crate::tracker::Label;

use super::load::{Item, Load, Said, among};

/// A tracker, and which one it is.
pub(super) struct Shard {
    pub(super) number: usize,
    pub(super) following: Following,
    pub(super) want_labels: bool,
}

impl Shard {
    pub(super) fn new(number: usize, following: Following, want_labels: bool) -> Self {
        Self { number, following, want_labels }
    }

    /// Takes its part of a batch. `about`: what was said, here or elsewhere, of the quotation in this record.
    pub(super) fn take(&mut self, load: &Load, said: &mut Said, mut about: impl FnMut(u32, &Said) -> Option<Label>) {
        said.labels.clear();
        said.related.clear();
        said.begun.clear();
        let mut ticks = load.ticks.iter().copied().peekable();
        let mut guesses = Vec::with_capacity(GROUP);
        for items in load.work[self.number].chunks(GROUP) {
            self.touch(items, load, &mut guesses);
            for (item, guess) in items.iter().zip(&guesses) {
                let (Item::Ordinary(at) | Item::Packet(at, _) | Item::Quoted(at, _)) = *item;
                let record = &load.batch.records[at as usize];
                let (bytes, ts) = (load.batch.bytes(record), record.ts);
                let (brief, found) = &load.decoded.briefs[at as usize];
                while let Some((_, due)) = ticks.next_if(|(tick, _)| *tick <= at) {
                    self.following.pass(Some(due));
                }
                self.following.pass(None);
                let begun = self.following.tracker.begun();
                let label = match *item {
                    Item::Ordinary(_) => self.following.ordinary(brief, found, *guess, bytes, ts),
                    Item::Packet(_, packet) => {
                        let packet = &load.decoded.packets[packet as usize];
                        self.following.packet(packet, found, bytes, ts, about(at, said))
                    }
                    Item::Quoted(_, quoted) => {
                        let (quoted, ..) = &load.quoted[quoted as usize];
                        let related = self.following.tracker.about(quoted, ts);
                        said.related.push(related.map(|label| among(self.number, label)));
                        continue;
                    }
                };
                if self.following.tracker.begun() > begun {
                    said.begun.push(at);
                }
                if self.want_labels {
                    said.labels.push(if label.ctstate == CtState::Related { label } else { among(self.number, label) });
                }
            }
        }
        for (_, due) in ticks {
            self.following.pass(Some(due));
        }
    }

    fn touch(&self, items: &[Item], load: &Load, guesses: &mut Vec<Guess>) {
        let found = items.iter().map(|item| match *item {
            Item::Ordinary(at) | Item::Packet(at, _) => &load.decoded.briefs[at as usize].1,
            Item::Quoted(_, quoted) => &load.quoted[quoted as usize].0,
        });
        self.following.tracker.touch(found, guesses);
    }
}

/// The numbers of connections: of each tracker's, in its own order.
pub(super) struct Numbers {
    of: Vec<Vec<u32>>,
    next: u32,
}

impl Numbers {
    /// The number of a connection that is named as [`among`] does.
    pub(super) fn number(&self, named: u64) -> u64 {
        let (tracker, id) = ((named >> 48) as usize, named & ((1 << 48) - 1));
        u64::from(self.of[tracker][id as usize])
    }

    /// Numbers what has begun in a batch: for each tracker the records, in order.
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

/// The last of all steps: the tracker of ICMP, numbers and labels.
pub(super) struct Last {
    pub(super) icmp: Shard,
    pub(super) numbers: Numbers,
    pub(super) labels: Option<Labels>,
    /// The number of the batch that is next, and those that came before their turn.
    pub(super) next: u64,
    pub(super) early: BTreeMap<u64, Arc<Load>>,
}

impl Last {
    pub(super) fn new(icmp: Shard, want_labels: bool) -> Self {
        let numbers = Numbers { of: vec![Vec::new(); icmp.number + 1], next: 0 };
        Self { icmp, numbers, labels: want_labels.then(Labels::default), next: 0, early: BTreeMap::new() }
    }

    pub(super) fn take(&mut self, load: &Load) {
        let mut said: Vec<_> = load.said.iter().map(|said| said.take().unwrap_or_default()).collect();
        let mut own = said.pop().unwrap_or_default();
        let mut answers: Vec<_> = said.iter().map(|said| said.related.iter()).collect();
        let mut quoted = load.quoted.iter().peekable();
        self.icmp.take(load, &mut own, |at, own| {
            let (_, route, _) = quoted.next_if(|(.., record)| *record == at)?;
            match answers.get_mut(usize::from(*route)) {
                Some(answers) => answers.next().copied().flatten(),
                None => own.related.last().copied().flatten(),
            }
        });
        said.push(own);
        let begun: Vec<_> = said.iter().map(|said| &said.begun[..]).collect();
        self.numbers.begin(&begun);
        if let Some(labels) = &mut self.labels {
            let mut said: Vec<_> = said.iter().map(|said| said.labels.iter()).collect();
            for (route, content) in load.routes.iter().zip(&load.decoded.contents) {
                let label = said.get_mut(usize::from(*route)).and_then(Iterator::next);
                let number = |label: &Label| label.connection.map(|named| self.numbers.number(named));
                let label = label.map(|label| Label { connection: number(label), ..*label });
                labels.push(&label.unwrap_or_else(|| outside(*content)));
            }
        }
        for (place, said) in load.said.iter().zip(said) {
            place.give_back(said);
        }
    }
}
