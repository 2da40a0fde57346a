//! Damage of a capture, counted: a damaged record costs itself, not the rest of the file.

/// Maximum number of damage details; counts stay exact beyond.
pub const DETAILS: usize = 64;

conntrack_base::words! {
    /// Kind of damage.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[non_exhaustive]
    pub enum DamageKind {
        /// A pcap record header with impossible fields; bytes were skipped up to the next plausible chain of records.
        RecordHeader = "bad_record_header",
        /// A pcapng block with impossible or contradictory lengths; bytes were skipped up to the next plausible
        /// block.
        BlockLength = "bad_block_length",
        /// A pcapng section header with an unknown byte-order magic or version; its section was skipped.
        SectionHeader = "bad_section_header",
        /// A pcapng packet of an interface that no block of its section describes; the packet was skipped.
        UnknownInterface = "unknown_interface",
        /// A pcapng interface beyond the 65,536 of its section; the interface is unknown.
        TooManyInterfaces = "too_many_interfaces",
        /// A pcapng packet whose captured length exceeds its block; the packet was skipped.
        CaptureLength = "packet_longer_than_block",
        /// A timestamp outside of the years 1717 to 2223; the record is kept with the nearest valid timestamp.
        Timestamp = "time_out_of_range",
        /// A file that ends inside a record; the records before the end were used.
        TruncatedFile = "truncated_file",
        /// A truncated or corrupt compressed stream; the output before the damage was used.
        Compression = "damaged_compression",
    }
}

/// Details of one damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Index of the file in the source's list of names.
    pub file: u32,
    /// Byte offset of the damage in the uncompressed file.
    pub offset: u64,
    /// Unused bytes of the uncompressed file; for [`DamageKind::TruncatedFile`] the number of missing bytes.
    pub bytes: u64,
    /// Kind of damage.
    pub kind: DamageKind,
}

/// Damage of one or more files: exact counts, and details of the first [`DETAILS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DamageReport {
    counts: [u64; DamageKind::ALL.len()],
    /// Unused bytes of each kind.
    unused: [u64; DamageKind::ALL.len()],
    details: Vec<Damage>,
}

impl DamageReport {
    /// Count of one kind.
    pub fn count(&self, kind: DamageKind) -> u64 {
        self.counts[kind as usize]
    }

    /// Unused bytes of one kind: of the uncompressed file, and for [`DamageKind::Compression`] also the bytes of the
    /// compressed file behind the damage, as far as its size is known.
    pub fn unused(&self, kind: DamageKind) -> u64 {
        self.unused[kind as usize]
    }

    /// Count of every kind, zeros included.
    pub fn counts(&self) -> impl Iterator<Item = (DamageKind, u64)> + '_ {
        DamageKind::ALL.iter().copied().zip(self.counts)
    }

    /// Total count.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Details of the first damages, in order of detection.
    pub fn details(&self) -> &[Damage] {
        &self.details
    }

    /// Add a damage, whose bytes are unused.
    pub(super) fn push(&mut self, damage: Damage) {
        self.add(damage, damage.bytes);
    }

    /// Add bytes to a kind of damage that was counted before.
    pub(super) fn lose(&mut self, kind: DamageKind, bytes: u64) {
        self.unused[kind as usize] += bytes;
    }

    /// Add a damage, with the number of unused bytes.
    pub(super) fn add(&mut self, damage: Damage, unused: u64) {
        self.lose(damage.kind, unused);
        self.counts[damage.kind as usize] += 1;
        if self.details.len() < DETAILS {
            self.details.push(damage);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        for (bytes, more) in self.unused.iter_mut().zip(other.unused) {
            *bytes += more;
        }
        let room = DETAILS - self.details.len();
        self.details.extend(other.details.iter().take(room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_and_details_bounded() {
        let mut report = DamageReport::default();
        for i in 0..1000 {
            report.push(Damage { file: 0, offset: i, bytes: 1, kind: DamageKind::CaptureLength });
        }
        let mut both = report.clone();
        both.merge(&report);
        assert_eq!((both.total(), both.count(DamageKind::CaptureLength)), (2000, 2000));
        assert_eq!((both.count(DamageKind::Timestamp), both.unused(DamageKind::CaptureLength)), (0, 2000));
        assert_eq!((both.details().len(), both.details()[63].offset), (DETAILS, 63));
        assert_eq!(both.counts().map(|(_, n)| n).sum::<u64>(), 2000);
    }

    #[test]
    fn kinds_are_listed_in_order() {
        for (i, kind) in DamageKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, i);
        }
    }
}
