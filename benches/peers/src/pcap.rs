//! Packets as a pcap file, microseconds, Ethernet.

use std::io::{self, Write};

/// Bytes before the first record.
pub const FILE_HEADER: usize = 24;
/// Bytes before the packet of a record.
pub const RECORD_HEADER: usize = 16;
/// Largest captured length that readers accept.
pub const LONGEST: u32 = 262_144;
const MAGIC: u32 = 0xA1B2_C3D4;
const ETHERNET: u32 = 1;

/// Writes the file header.
pub fn write_file_header(out: &mut impl Write, snaplen: u32) -> io::Result<()> {
    let words = [MAGIC, 2 | 4 << 16, 0, 0, snaplen, ETHERNET];
    words.iter().try_for_each(|word| out.write_all(&word.to_le_bytes()))
}

/// Writes a record: a packet that was `frame` on the wire, cut to `snaplen`, at `micros` since the epoch.
pub fn write_record(out: &mut impl Write, micros: u64, frame: &[u8], snaplen: usize) -> io::Result<()> {
    write_captured(out, micros, &frame[..frame.len().min(snaplen)], frame.len() as u32)
}

/// Writes a record with the captured bytes of a packet, which had `wire` bytes on the wire.
pub fn write_captured(out: &mut impl Write, micros: u64, bytes: &[u8], wire: u32) -> io::Result<()> {
    let words = [(micros / 1_000_000) as u32, (micros % 1_000_000) as u32, bytes.len() as u32, wire];
    let mut header = [0; RECORD_HEADER];
    for (place, word) in header.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    out.write_all(&header)?;
    out.write_all(bytes)
}
