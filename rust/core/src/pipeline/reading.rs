//! The first half of the path: records → packets and their keys, and the account of what could not be read.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use crate::capture::{Captures, Lacks, LinkType, Record, RecordBatch};
use crate::checkpoint::{CheckpointError, Reader, Writer};
use crate::config::Config;
use crate::decode::{Brief, Decoder, Packet, Skip};
use crate::direction::{self, Announcements};
use crate::error::CaptureError;
use crate::quality::Watch;
use crate::stats::Stats;
use crate::tracker::{Found, Keys};

/// What a record holds.
#[derive(Clone, Copy, Debug)]
pub enum Content {
    /// An ordinary packet.
    Ordinary,
    /// So many packets of those that the decoder gave.
    Packets(u32),
    /// Nothing that can be tracked.
    Nothing(Skip),
}

/// What some records hold, in their order.
#[derive(Default)]
pub struct Decoded {
    /// For each record.
    pub contents: Vec<Content>,
    /// The ordinary packets and their keys; elsewhere nothing of use. For each record.
    pub briefs: Vec<(Brief, Found)>,
    /// The packets of the others, one record's after another's.
    pub packets: Vec<Packet>,
}

/// Reads records.
pub struct Reading {
    decoder: Decoder,
    /// Ordinary packets are read in brief.
    in_brief: bool,
    keys: Keys,
    watch: Watch,
    /// What FTP announced.
    announced: Announcements,
    /// The account so far, without what was skipped.
    pub stats: Stats,
    /// Records that gave nothing, by reason: how many, and the first one's file and offset.
    skipped: BTreeMap<&'static str, (u64, u32, u64)>,
    files: Vec<LinkTypes>,
    /// The file of the last ordinary packet: that its link type is known was noted.
    supported: Option<u32>,
}

/// What there is to know once everything was read.
pub struct Read {
    /// The account.
    pub stats: Stats,
    /// What watched over it.
    pub watch: Watch,
    /// Later fragments without their first one.
    pub orphans: u64,
    /// What FTP announced.
    pub announced: Announcements,
}

/// Which link types a file had.
#[derive(Clone, Copy, Default)]
struct LinkTypes {
    supported: bool,
    /// The first record of an unsupported one.
    first: Option<(u16, u64)>,
}

impl Reading {
    /// `keys`: those of the tracker that takes the packets.
    pub fn new(config: &Config, keys: Keys) -> Self {
        Self {
            decoder: Decoder::new(config.decode),
            // Checksums are the decoder's, and what is a connection for Zeek is not in the brief key.
            in_brief: !config.decode.checksum && !config.zeek,
            keys,
            watch: Watch::default(),
            announced: Announcements::default(),
            stats: Stats::default(),
            skipped: BTreeMap::new(),
            files: Vec::new(),
            supported: None,
        }
    }

    /// Reads these records of a batch in place of what was read before.
    pub fn decode(&mut self, records: &[Record], batch: &RecordBatch, into: &mut Decoded) {
        let Decoded { contents, briefs, packets } = into;
        contents.clear();
        packets.clear();
        if briefs.len() < records.len() {
            briefs.resize(records.len(), <(Brief, Found)>::default());
        }
        self.count(records);
        contents.extend(records.iter().zip(briefs.iter_mut()).map(|(record, (brief, found))| {
            let bytes = batch.bytes(record);
            self.watch.time(record.ts);
            if self.in_brief && brief.fill(record, bytes) {
                *found = self.keys.found(brief);
                self.watch.brief(brief, bytes, record.ts);
                if direction::may_announce(brief) {
                    self.announced.note(&brief.packet(), bytes, record.ts);
                }
                if self.supported != Some(record.file) {
                    self.supported = Some(record.file);
                    self.note_link_type(record, false);
                }
                Content::Ordinary
            } else {
                self.decode_any(record, bytes, packets)
            }
        }));
        if batch.lacks != Lacks::default() {
            for packet in packets {
                packet.lack(batch.lacks);
            }
            for (record, (brief, _)) in records.iter().zip(briefs) {
                brief.lack(batch.lacks);
                brief.cut &= !record.abridged;
            }
        }
    }

    fn count(&mut self, records: &[Record]) {
        let stats = &mut self.stats;
        stats.packets += records.len() as u64;
        for record in records {
            stats.bytes += u64::from(record.len);
            stats.snapped += u64::from(record.caplen < record.len);
        }
        stats.first = stats.first.or(records.first().map(|record| record.ts));
        stats.last = stats.last.max(records.iter().map(|record| record.ts).max());
    }

    #[inline(never)]
    fn decode_any(&mut self, record: &Record, bytes: &[u8], packets: &mut Vec<Packet>) -> Content {
        let before = packets.len();
        let decoded = self.decoder.decode(record, bytes, packets);
        if let Some(packet) = packets.get(before) {
            self.watch.packet(packet, bytes, record.ts);
        }
        self.note_link_type(record, matches!(decoded, Err(Skip::LinkType)));
        match decoded {
            Ok(()) => {
                for packet in &packets[before..] {
                    self.announced.note(packet, bytes, record.ts);
                }
                Content::Packets((packets.len() - before) as u32)
            }
            Err(skip) => {
                packets.truncate(before);
                self.skipped.entry(skip.name()).or_insert((0, record.file, record.offset)).0 += 1;
                Content::Nothing(skip)
            }
        }
    }

    /// An unknown link type is an error that names it, never an empty result; beside a known one it is counted.
    fn note_link_type(&mut self, record: &Record, unsupported: bool) {
        let index = record.file as usize;
        if index >= self.files.len() {
            self.files.resize(index + 1, LinkTypes::default());
        }
        let file = &mut self.files[index];
        file.supported |= !unsupported;
        if unsupported {
            file.first.get_or_insert((record.linktype.0, record.offset));
        }
    }

    /// Writes what later records may need of earlier ones; the account is not theirs.
    pub fn save(&self, out: &mut Writer<'_, impl Write>) -> io::Result<()> {
        self.decoder.save(out)
    }

    /// Reads what was written; nothing was read yet.
    pub fn load(&mut self, from: &mut Reader<impl io::Read>) -> Result<(), CheckpointError> {
        self.decoder.load(from)
    }

    /// The account of everything that was read so far.
    pub fn account(&self, captures: &Captures) -> Result<Stats, CaptureError> {
        for (file, number) in self.files.iter().zip(0..) {
            file.check(name(captures, number))?;
        }
        let mut stats = self.stats.clone();
        for (&reason, &(count, file, offset)) in &self.skipped {
            stats.skip(reason, count, name(captures, file), offset);
        }
        let orphans = self.decoder.orphans();
        if orphans > 0 {
            stats.skip(Skip::FragmentWithoutFirst.name(), orphans, Path::new(""), 0);
        }
        count_damage(&mut stats, captures);
        Ok(stats)
    }

    /// What there is to know once everything was read.
    pub fn finish(self, captures: &Captures) -> Result<Read, CaptureError> {
        let (stats, orphans) = (self.account(captures)?, self.decoder.orphans());
        Ok(Read { stats, watch: self.watch, orphans, announced: self.announced })
    }
}

/// Adds what is wrong with the files of captures, as far as they were read.
pub fn count_damage(stats: &mut Stats, captures: &Captures) {
    let damage = captures.damage();
    for (kind, count) in damage.counts().filter(|(_, count)| *count > 0) {
        let first = damage.details().iter().find(|damage| damage.kind == kind);
        let (file, offset) = first.map_or((0, 0), |damage| (damage.file, damage.offset));
        stats.skip(kind.reason(), count, name(captures, file), offset);
    }
}

/// The name of a file, as the caller gave it.
pub fn name(captures: &Captures, file: u32) -> &Path {
    captures.name(file).unwrap_or(Path::new(""))
}

impl LinkTypes {
    fn check(&self, name: &Path) -> Result<(), CaptureError> {
        match self.first {
            Some((linktype, offset)) if !self.supported => Err(CaptureError::LinkType {
                path: name.into(),
                offset,
                linktype,
                name: LinkType(linktype).name(),
                supported: crate::decode::SUPPORTED
                    .iter()
                    .map(|linktype| linktype.name())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
            _ => Ok(()),
        }
    }
}
