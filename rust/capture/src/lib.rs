//! Bytes → records: captures in, batches of [`Record`]s out.
//!
//! A file is recognised by its magic numbers, never by its name; it is read once, in pieces, and never held whole.
#![forbid(unsafe_code)]

mod codec;
pub mod damage;
pub mod error;
pub mod linktype;
pub mod merge;
mod parse;
mod pcap;
mod pcapng;
#[cfg(test)]
mod properties;
pub mod reader;
pub mod source;
#[cfg(test)]
mod testing;
mod write;

pub use damage::{Damage, DamageKind, DamageReport};
pub use linktype::LinkType;
pub use merge::Captures;
pub use reader::CaptureReader;
pub use source::Input;
pub use write::{Crossing, PcapngWriter};

/// One captured packet; its bytes are `start .. start + caplen` of its batch's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Capture time in nanoseconds since the epoch, UTC.
    pub ts: i64,
    /// Offset of the record in its (uncompressed) file, for reports of damage.
    pub offset: u64,
    /// Where the packet's bytes begin in [`RecordBatch::data`].
    pub start: u32,
    /// Bytes captured (may be cut by snaplen).
    pub caplen: u32,
    /// Bytes on the wire.
    pub len: u32,
    /// Index of the file in the source's order of names.
    pub file: u32,
    /// What the first byte of the packet is.
    pub linktype: LinkType,
    /// Bytes that say nothing were left out behind those that are here, and had been captured.
    pub abridged: bool,
}

/// A run of records in capture order, and the bytes they point into. Reused from batch to batch.
#[derive(Debug, Default)]
pub struct RecordBatch {
    /// The buffer that `Record::start` indexes. Bytes outside the records are unspecified.
    pub data: Vec<u8>,
    /// The records, in capture order.
    pub records: Vec<Record>,
    /// What none of them has.
    pub lacks: Lacks,
}

/// What the packets of a source do not have, where they were not captured but made of a table's columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
pub struct Lacks {
    /// Payloads: those that the lengths speak of were there, and nobody knows what they were.
    pub payloads: bool,
    /// Sequence and acknowledgement numbers, windows and options of TCP.
    pub numbers: bool,
    /// Checksums.
    pub checksums: bool,
    /// What [`Record::abridged`] says.
    pub some_bytes: bool,
}

impl RecordBatch {
    /// Frames of one link type, which lie one behind another in `data`: the end of each, its capture time, and its length on
    /// the wire. None where an end is before the one before it or behind the data, or the data is too long for a batch.
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
            });
            start = end;
        }
        Some(Self { data, records, ..Self::default() })
    }

    /// The captured bytes of one of this batch's records.
    pub fn bytes(&self, record: &Record) -> &[u8] {
        let start = record.start as usize;
        &self.data[start..start + record.caplen as usize]
    }
}
