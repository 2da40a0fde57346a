//! The first half of the path: records → packets and their keys, and statistics of skipped records.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use conntrack_base::checkpoint::{CheckpointError, Reader, Writer};
use conntrack_base::time::{UNTIMED, timed};
use conntrack_capture::error::CaptureError;
use conntrack_capture::{Captures, Lacks, LinkType, Record, RecordBatch};
use conntrack_decode::{Decoder, Packet, Skip, Unread};
use conntrack_output::quality::Watch;
use conntrack_output::stats::{SkippedFile, Stats};
use conntrack_track::config::Config;
use conntrack_track::direction::{self, Expectations};
use conntrack_track::flow::Descriptor;
use conntrack_track::flow::descriptor::{Arrival, announces, kind};
use conntrack_track::tracker::Keys;

use super::order::StepsBack;

/// The bound on fragmented datagrams in memory, as a key of [`Stats::evicted_by`].
const DATAGRAMS: &str = "datagrams";

/// Decoded records, in their order.
#[derive(Default)]
pub struct Decoded {
    /// For each record the descriptor of its ordinary packet; see [`kind`] for the others.
    pub descriptors: Vec<Descriptor>,
    /// The first four words of broad keys, for each record.
    pub broad: Vec<[u64; 4]>,
    /// Packets of the slow path, in the order of records.
    pub packets: Vec<Packet>,
    /// Records that are not ordinary frames.
    others: Vec<u32>,
}

/// Records with their decoded packets.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    /// The records.
    pub records: &'a [Record],
    /// Their bytes.
    pub bytes: &'a RecordBatch,
    /// Packets and keys of the records.
    pub decoded: &'a Decoded,
}

impl<'a> Batch<'a> {
    /// The bytes of a record.
    #[inline]
    pub fn frame(&self, at: usize) -> &'a [u8] {
        self.bytes.bytes(&self.records[at])
    }

    /// An ordinary packet.
    #[inline]
    pub fn arrival(&self, at: usize) -> Arrival<'a> {
        let descriptor = &self.decoded.descriptors[at];
        let decoded = if descriptor.is(kind::DECODED) { self.packets(at).first() } else { None };
        Arrival { descriptor, wide: &self.decoded.broad[at], frame: self.frame(at), decoded }
    }

    /// The packets of a record decoded by the slow path; none of an ordinary frame.
    pub fn packets(&self, at: usize) -> &'a [Packet] {
        let one = &self.decoded.descriptors[at];
        let count = match one.kind {
            kind if kind & kind::OTHER != 0 => one.count as usize,
            kind => usize::from(kind & kind::DECODED != 0),
        };
        self.decoded.packets.get(one.decoded as usize..).and_then(|packets| packets.get(..count)).unwrap_or_default()
    }

    /// Notes the connections that messages in a record announce.
    pub fn note_announcements(&self, at: usize, into: &mut Expectations) {
        let (one, ts) = (&self.decoded.descriptors[at], self.records[at].ts);
        if one.is(kind::OTHER) {
            for packet in self.packets(at) {
                direction::note_announcements(into, packet, self.frame(at), ts);
            }
        } else if one.is(kind::ANNOUNCES) {
            direction::note_announcements(into, &self.arrival(at).packet(), self.frame(at), ts);
        }
    }

    /// The innermost packet of a record; None where it has none.
    pub fn packet(&self, at: usize) -> Option<Packet> {
        if self.decoded.descriptors[at].is(kind::OTHER) {
            return self.packets(at).last().copied();
        }
        Some(self.arrival(at).packet())
    }
}

/// The decoding half of the path.
pub struct DecodeStage {
    decoder: Decoder,
    /// Ordinary frames are read at fixed offsets.
    at_fixed_offsets: bool,
    keys: Keys,
    watch: Watch,
    steps: StepsBack,
    /// Connections that messages announced; None: nobody looks back.
    expected: Option<Expectations>,
    /// Statistics so far, without skipped records.
    pub stats: Stats,
    /// Skipped records by reason: the number, and the file and offset of the first.
    skipped: BTreeMap<&'static str, (u64, u32, u64)>,
    /// Records without IP by protocol; at most as many entries as there are numbers of protocols.
    unread: BTreeMap<Unread, u64>,
    files: Vec<LinkTypes>,
    /// The file of the last ordinary packet, whose link type is already noted.
    supported: Option<u32>,
}

/// Results of decoding a whole run.
pub struct DecodeOutput {
    /// Statistics.
    pub stats: Stats,
    /// Counters of quality.
    pub watch: Watch,
    /// Later fragments without their first one.
    pub orphans: u64,
    /// Connections that messages announced.
    pub expected: Expectations,
    /// Capture times of the first records of files, sorted.
    pub begins: Vec<i64>,
}

/// Link types of a file, and the time of its first record.
#[derive(Clone, Copy, Default)]
struct LinkTypes {
    begin: Option<i64>,
    supported: bool,
    /// Unsupported link type, and the offset of its first record.
    first: Option<(u16, u64)>,
}

impl DecodeStage {
    /// `keys`: those of the tracker that takes the packets.
    pub fn new(config: &Config, keys: Keys) -> Self {
        Self {
            decoder: Decoder::new(config.decode),
            // Checksums are the decoder's, and a descriptor's key is not Zeek's.
            at_fixed_offsets: !config.decode.checksum && !config.zeek,
            keys,
            watch: Watch::default(),
            steps: StepsBack::new(config),
            expected: Some(Expectations::default()),
            stats: Stats::default(),
            skipped: BTreeMap::new(),
            unread: BTreeMap::new(),
            files: Vec::new(),
            supported: None,
        }
    }

    /// The stage of a run that never looks back over the whole capture: announcements are not kept.
    pub fn without_hindsight(self) -> Self {
        Self { expected: None, ..self }
    }

    /// Decodes some records of a batch, and replaces the contents of `into`.
    pub fn decode(&mut self, records: &[Record], batch: &RecordBatch, into: &mut Decoded) {
        into.packets.clear();
        into.others.clear();
        if into.descriptors.len() < records.len() {
            into.descriptors.resize(records.len(), Descriptor::default());
            into.broad.resize(records.len(), [0; 4]);
        }
        self.count(records, batch);
        let mut has_announcement = self.decode_frames(records, batch, into);
        for at in 0..into.others.len() {
            let at = into.others[at] as usize;
            self.decode_any(&records[at], batch, (&mut into.descriptors[at], &mut into.broad[at]), &mut into.packets);
        }
        has_announcement |=
            into.packets.iter().any(|packet| announces(packet.tuple.proto, [packet.tuple.sport, packet.tuple.dport]));
        let batch = Batch { records, bytes: batch, decoded: into };
        self.mark_copies(&batch);
        if has_announcement && self.expected.is_some() {
            self.note_announcements(&batch);
        }
    }

    /// Reads ordinary frames at fixed offsets, and lists the others. Returns whether one may announce a connection.
    #[inline(never)]
    fn decode_frames(&mut self, records: &[Record], batch: &RecordBatch, into: &mut Decoded) -> bool {
        let Decoded { descriptors, broad, others, .. } = into;
        let (hasher, mut kinds) = (self.keys.hasher().clone(), 0);
        let (lacks, at_fixed_offsets) = (batch.lacks != Lacks::default(), self.at_fixed_offsets);
        for (at, ((record, one), broad)) in records.iter().zip(descriptors).zip(broad).enumerate() {
            one.ts = record.ts;
            let is_ethernet = record.linktype == LinkType::ETHERNET && at_fixed_offsets;
            if !is_ethernet || !one.of_frame(batch.bytes(record), broad, &hasher) {
                one.kind = kind::OTHER;
                others.push(at as u32);
                continue;
            }
            kinds |= one.kind;
            if lacks {
                lack(one, record, batch.lacks);
            }
            if self.supported != Some(record.file) {
                self.supported = Some(record.file);
                self.note_link_type(record, false);
            }
        }
        kinds & kind::ANNOUNCES != 0
    }

    /// Compares the outermost packet of each record with those before, in their order.
    #[inline(never)]
    fn mark_copies(&mut self, batch: &Batch<'_>) {
        let count = batch.records.len();
        let (Some(descriptors), Some(broad)) =
            (batch.decoded.descriptors.get(..count), batch.decoded.broad.get(..count))
        else {
            return;
        };
        self.watch.compare(descriptors, broad, |at| {
            Watch::comparable(batch.packets(at).first()?, batch.frame(at), descriptors.get(at)?.ts)
        });
    }

    fn count(&mut self, records: &[Record], batch: &RecordBatch) {
        let stats = &mut self.stats;
        stats.packets += records.len() as u64;
        let Some(&Record { ts: first, file, .. }) = records.first() else { return };
        let (mut bytes, mut snapped, mut last, mut goes_back, mut files) = (0, 0, first, false, 0);
        for record in records {
            bytes += u64::from(record.len);
            snapped += u64::from(record.caplen < record.len);
            goes_back |= record.ts < last;
            files |= record.file ^ file;
            last = record.ts;
        }
        let times = || records.iter().map(|record| record.ts);
        // Packets without a time come before all others, or step back.
        if first == UNTIMED || (goes_back && times().any(|ts| ts == UNTIMED)) {
            times().filter(|ts| *ts != UNTIMED).for_each(|ts| self.watch.time(ts));
        } else {
            self.watch.times(first, last, !goes_back, times);
        }
        self.steps.note(records, batch, !goes_back);
        let latest = if goes_back { times().max() } else { Some(last) };
        let earliest = if goes_back { times().filter_map(timed).min() } else { times().find_map(timed) };
        stats.bytes += bytes;
        stats.snapped += snapped;
        stats.first = stats.first.into_iter().chain(earliest).min();
        stats.last = stats.last.max(latest.and_then(timed));
        if files != 0 || self.files.get(file as usize).is_none_or(|file| file.begin.is_none()) {
            self.note_begins(records);
        }
    }

    /// Decodes a record by the slow path.
    #[inline(never)]
    fn decode_any(
        &mut self,
        record: &Record,
        batch: &RecordBatch,
        (one, broad): (&mut Descriptor, &mut [u64; 4]),
        packets: &mut Vec<Packet>,
    ) {
        let (before, frame) = (packets.len(), batch.bytes(record));
        let subframes = self.decoder.subframes();
        let decoded = if record.unsummed {
            self.decoder.decode_unsummed(record, frame, packets)
        } else {
            self.decoder.decode(record, frame, packets)
        };
        let subframes = self.decoder.subframes() - subframes;
        if subframes > 0 {
            self.skipped.entry(Skip::Subframe.name()).or_insert((0, record.file, record.offset)).0 += subframes;
        }
        if let Some(packet) = packets.get(before) {
            self.watch.packet(packet);
        }
        self.note_link_type(record, matches!(decoded, Err(Skip::LinkType)));
        (one.decoded, one.count) = (before as u32, 0);
        if let Err(skip) = decoded {
            packets.truncate(before);
            self.skipped.entry(skip.name()).or_insert((0, record.file, record.offset)).0 += 1;
            if skip == Skip::NotIp {
                *self.unread.entry(Unread::of(record.linktype, frame)).or_insert(0) += 1;
            }
            let is_untracked = matches!(skip, Skip::NotIp | Skip::LinkType | Skip::Encrypted);
            one.kind |= if is_untracked { kind::UNTRACKED } else { 0 };
            return;
        }
        one.count = (packets.len() - before) as u32;
        for packet in &mut packets[before..] {
            packet.lack(batch.lacks);
        }
        if let [packet] = &packets[before..]
            && let Some((descriptor, words)) = self.keys.describe(packet, record.ts, frame)
        {
            (*one, *broad) = (Descriptor { decoded: before as u32, ..descriptor }, words);
        } else if packets.len() == before {
            one.kind |= kind::UNTRACKED | kind::EARLY;
        }
    }

    /// Notes connections that messages in these records announce.
    #[inline(never)]
    fn note_announcements(&mut self, batch: &Batch<'_>) {
        let Some(expected) = &mut self.expected else { return };
        for at in 0..batch.records.len() {
            batch.note_announcements(at, expected);
        }
    }

    /// Notes the times of first records. Decoded in stored order, or not, they are the same.
    #[inline(never)]
    fn note_begins(&mut self, records: &[Record]) {
        for record in records {
            let file = self.file(record.file);
            file.begin = file.begin.or(timed(record.ts));
        }
    }

    fn file(&mut self, index: u32) -> &mut LinkTypes {
        let index = index as usize;
        if index >= self.files.len() {
            self.files.resize(index + 1, LinkTypes::default());
        }
        &mut self.files[index]
    }

    /// Notes the link type of a record. A file of unsupported link types alone is an error, never an empty result.
    fn note_link_type(&mut self, record: &Record, unsupported: bool) {
        let file = self.file(record.file);
        file.supported |= !unsupported;
        if unsupported {
            file.first.get_or_insert((record.linktype.0, record.offset));
        }
    }

    /// Writes the decoder state that later records may need; statistics are left out.
    pub fn save(&self, out: &mut Writer<'_, impl Write>) -> io::Result<()> {
        self.decoder.save(out)
    }

    /// Reads the decoder state, before the first record.
    pub fn load(&mut self, from: &mut Reader<impl io::Read>) -> Result<(), CheckpointError> {
        self.decoder.load(from)
    }

    /// Statistics so far.
    pub fn account(&self, captures: &Captures) -> Result<Stats, CaptureError> {
        let mut stats = self.stats.clone();
        stats.skipped_files = skipped_files(captures);
        for (file, number) in self.files.iter().zip(0..) {
            match file.check(name(captures, number)) {
                Err(error) if captures.faults().skip => {
                    stats.skipped_files.push(skipped_file(&error, error.offset(), 0));
                }
                checked => checked?,
            }
        }
        for (&reason, &(count, file, offset)) in &self.skipped {
            stats.skip(reason, count, name(captures, file), offset);
        }
        stats.not_ip = named(&self.unread);
        let orphans = self.decoder.orphans();
        if orphans > 0 {
            stats.skip(Skip::FragmentWithoutFirst.name(), orphans, Path::new(""), 0);
        }
        for (&file, &step) in &self.steps.largest {
            stats.unsorted.insert(name(captures, file).to_owned(), step);
        }
        let forgotten = self.decoder.forgotten();
        if forgotten > 0 {
            stats.evicted_by.insert(DATAGRAMS, forgotten);
        }
        count_damage(&mut stats, captures);
        Ok(stats)
    }

    /// The results, after the last record.
    pub fn finish(self, captures: &Captures) -> Result<DecodeOutput, CaptureError> {
        let (stats, orphans) = (self.account(captures)?, self.decoder.orphans());
        let mut begins: Vec<i64> = self.files.iter().filter_map(|file| file.begin).collect();
        begins.sort_unstable();
        Ok(DecodeOutput { stats, watch: self.watch, orphans, expected: self.expected.unwrap_or_default(), begins })
    }
}

/// Records by name of their protocol: the most frequent ones, and all others together.
fn named(unread: &BTreeMap<Unread, u64>) -> BTreeMap<String, u64> {
    /// Maximum number of protocols with a name.
    const MOST_NAMED: usize = 16;
    let mut names = BTreeMap::<String, u64>::new();
    for (protocol, count) in unread {
        *names.entry(protocol.name()).or_default() += count;
    }
    let mut ranked: Vec<_> = names.into_iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let others: u64 = ranked.iter().skip(MOST_NAMED).map(|(_, count)| count).sum();
    ranked.truncate(MOST_NAMED);
    if others > 0 {
        ranked.push(("other".to_owned(), others));
    }
    ranked.into_iter().collect()
}

/// Clears the fields that the source of an ordinary frame lacks.
fn lack(one: &mut Descriptor, record: &Record, lacks: Lacks) {
    if lacks.payloads || record.abridged {
        one.kind &= !kind::CUT;
    }
    if lacks.numbers && !one.is(kind::UDP | kind::STATELESS) {
        one.kind = one.kind & !kind::TIMESTAMPS | kind::UNNUMBERED;
        (one.seq, one.ack, one.edge, one.window) = (0, 0, 0, 0);
    }
}

/// Adds the damage of the files read so far.
pub fn count_damage(stats: &mut Stats, captures: &Captures) {
    let damage = captures.damage();
    for (kind, count) in damage.counts().filter(|(_, count)| *count > 0) {
        let first = damage.details().iter().find(|damage| damage.kind == kind);
        let (file, offset) = first.map_or((0, 0), |damage| (damage.file, damage.offset));
        stats.skip(kind.name(), count, name(captures, file), offset);
        stats.skipped_bytes.insert(kind.name(), damage.unused(kind));
    }
    (stats.file_bytes, stats.parts) = captures.size_and_parts();
    (stats.merged_parts, stats.early_parts) = captures.merged_and_early_parts();
}

/// Files passed over so far.
pub fn skipped_files(captures: &Captures) -> Vec<SkippedFile> {
    captures.skipped().map(|one| skipped_file(one.error, one.offset, one.records)).collect()
}

fn skipped_file(error: &CaptureError, offset: Option<u64>, packets: u64) -> SkippedFile {
    SkippedFile { file: error.path().unwrap_or(Path::new("")).into(), reason: error.reason(), offset, packets }
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
                supported: conntrack_decode::SUPPORTED
                    .iter()
                    .map(|linktype| linktype.name())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
            _ => Ok(()),
        }
    }
}
