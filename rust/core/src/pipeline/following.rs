//! The second half of the path: packets → connections → rows and labels.

use crate::capture::{Record, RecordBatch};
use crate::config::Config;
use crate::decode::Skip;
use crate::labels::Labels;
use crate::proto::CtState;
use crate::rows::Finished;
use crate::tracker::{Label, Tracker};

use super::reading::{Content, Decoded};

/// Records whose packets are looked up together, so that they wait for memory together.
pub const GROUP: usize = 32;

/// Follows the connections of what was read.
pub struct Following {
    /// The connections that live.
    pub tracker: Tracker,
    /// Those that do not.
    pub rows: Finished,
    /// What is said of every record, if that was asked for.
    pub labels: Option<Labels>,
    /// Records that could have begun a connection and found no room: how many, and the first one's file and offset.
    pub refused: Option<(u64, u32, u64)>,
}

impl Following {
    /// Nothing was followed yet.
    pub fn new(config: &Config, want_labels: bool) -> Self {
        Self {
            tracker: Tracker::new(config),
            rows: Finished::new(config),
            labels: want_labels.then(Labels::default),
            refused: None,
        }
    }

    /// Takes the packets of these records of a batch.
    pub fn take(&mut self, records: &[Record], batch: &RecordBatch, decoded: &Decoded) {
        let mut packets = &decoded.packets[..];
        let contents = records.chunks(GROUP).zip(decoded.contents.chunks(GROUP).zip(decoded.briefs.chunks(GROUP)));
        for (records, (contents, briefs)) in contents {
            let ordinary = || contents.iter().zip(briefs).filter(|(content, _)| matches!(content, Content::Ordinary));
            let touched = ordinary().fold(0, |all, (_, (_, found))| all ^ self.tracker.touch_index(found));
            let touched = ordinary().fold(touched, |all, (_, (_, found))| all ^ self.tracker.touch_slot(found));
            std::hint::black_box(touched);
            for (record, (content, (brief, found))) in records.iter().zip(contents.iter().zip(briefs)) {
                let (bytes, ts, rows) = (batch.bytes(record), record.ts, &mut self.rows);
                let refused = self.tracker.refused();
                self.tracker.advance(ts, |closed| rows.put(closed));
                let label = match content {
                    Content::Ordinary => self.tracker.brief(brief, found, bytes, ts, |closed| rows.put(closed)),
                    Content::Packets(count) => {
                        let (own, rest) = packets.split_at((*count as usize).min(packets.len()));
                        packets = rest;
                        self.tracker.record(own, bytes, ts, |closed| rows.put(closed))
                    }
                    Content::Nothing(skip) => Label::outside(word_for(*skip)),
                };
                if self.tracker.refused() > refused {
                    self.refused.get_or_insert((0, record.file, record.offset)).0 += 1;
                }
                if let Some(labels) = &mut self.labels {
                    labels.push(&label);
                }
            }
        }
    }

    /// Ends what is left.
    pub fn finish(&mut self) {
        let rows = &mut self.rows;
        self.tracker.finish(|closed| rows.put(closed));
    }
}

/// What a gateway says of a record that gave no packet.
fn word_for(skip: Skip) -> CtState {
    match skip {
        Skip::NotIp | Skip::LinkType | Skip::Encrypted => CtState::Untracked,
        _ => CtState::Invalid,
    }
}
