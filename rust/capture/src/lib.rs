//! Bytes → records: captures in, batches of [`Record`]s out.
//!
//! A file's format is detected by magic numbers, never by the name. A file is read once, in pieces, and never held
//! whole.
#![forbid(unsafe_code)]

mod codec;
pub mod damage;
pub mod error;
pub mod faults;
mod foreign;
mod habits;
pub mod linktype;
pub mod merge;
mod order;
mod parse;
mod part;
mod pcap;
mod pcapng;
pub mod plain;
#[cfg(test)]
mod properties;
pub mod reader;
mod resync;
pub mod ring;
mod runs;
mod snoop;
pub mod source;
#[cfg(test)]
mod testing;
mod write;

pub use damage::{Damage, DamageKind, DamageReport};
pub use faults::{Faults, SkippedFile};
pub use linktype::LinkType;
pub use merge::Captures;
pub use reader::CaptureReader;
pub use source::Input;
pub use write::{Crossing, PcapngWriter};

/// A captured packet, whose bytes are `start .. start + caplen` of the batch's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Capture time in nanoseconds since the epoch, UTC.
    pub ts: i64,
    /// Byte offset of the record in the uncompressed file, for damage reports.
    pub offset: u64,
    /// Index of the packet's first byte in [`RecordBatch::data`].
    pub start: u32,
    /// Captured bytes, limited by the snaplen.
    pub caplen: u32,
    /// Bytes on the wire.
    pub len: u32,
    /// Index of the file in the source's list of names.
    pub file: u32,
    /// Link type of the packet's outermost header.
    pub linktype: LinkType,
    /// True if captured bytes without information were dropped behind the packet's present bytes.
    pub abridged: bool,
    /// True if the sender's card computes the checksums, so that the captured ones mean nothing.
    pub unsummed: bool,
}

/// Run of records in capture order, and the buffer of their bytes. Reused from batch to batch.
#[derive(Debug, Default)]
pub struct RecordBatch {
    /// Buffer that `Record::start` indexes. Bytes outside of the records are unspecified.
    pub data: Vec<u8>,
    /// Records, in capture order.
    pub records: Vec<Record>,
    /// Properties that every record of the batch lacks.
    pub lacks: Lacks,
    /// File and offset of the captures that begin within the batch, behind others in the file.
    pub parts: Vec<(u32, u64)>,
}

/// Missing properties of packets that were rebuilt from columns of a table instead of captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
pub struct Lacks {
    /// Payloads are missing: lengths are known, contents are not.
    pub payloads: bool,
    /// Sequence and acknowledgement numbers, windows and TCP options are missing.
    pub numbers: bool,
    /// Checksums are missing.
    pub checksums: bool,
    /// Some captured bytes are missing, as in [`Record::abridged`].
    pub some_bytes: bool,
}

impl RecordBatch {
    /// Batch of frames of one link type, stored back to back in `data`: end offset, capture time in nanoseconds, wire
    /// length in bytes. None for offsets out of order or range, or for data too long for a batch.
    pub fn of_frames(
        data: Vec<u8>,
        linktype: LinkType,
        frames: impl ExactSizeIterator<Item = (u64, i64, u32)>,
    ) -> Option<Self> {
        u32::try_from(data.len()).ok()?;
        let mut records = Vec::with_capacity(frames.len());
        let mut start = 0;
        for (end, ts, len) in frames {
            let end = u32::try_from(end).ok().filter(|end| (start..=data.len() as u32).contains(end))?;
            let caplen = end - start;
            records.push(Record {
                ts,
                offset: start.into(),
                start,
                caplen,
                len: len.max(caplen),
                file: 0,
                linktype,
                abridged: false,
                unsummed: false,
            });
            start = end;
        }
        Some(Self { data, records, ..Self::default() })
    }

    /// Captured bytes of a record of this batch.
    pub fn bytes(&self, record: &Record) -> &[u8] {
        let start = record.start as usize;
        &self.data[start..start + record.caplen as usize]
    }
}
