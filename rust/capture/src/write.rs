//! Records → a pcapng file, with nanosecond timestamps and options.
//!
//! Format: <https://ietf-opsawg-wg.github.io/draft-ietf-opsawg-pcap/draft-ietf-opsawg-pcapng.html>. The file has one
//! section, an interface for each link type at its first record, and an enhanced packet block for each record.

use std::io::{self, Write};

use conntrack_base::time::timed;

use super::LinkType;

const SECTION: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
/// Option codes of an enhanced packet block.
const COMMENT: u16 = 1;
const FLAGS: u16 = 2;
/// Option code of an interface's timestamp resolution `if_tsresol`; a value of 9 is nanoseconds.
const TIME_RESOLUTION: u16 = 9;

/// Direction of a packet across the border of the local networks, in the two lowest bits of `epb_flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Crossing {
    /// No crossing, or an unknown direction.
    Unknown = 0,
    /// Inbound packet.
    Inbound = 1,
    /// Outbound packet.
    Outbound = 2,
}

/// Writer of a pcapng file.
pub struct PcapngWriter<W> {
    out: W,
    interfaces: Vec<LinkType>,
    block: Vec<u8>,
}

impl<W: Write> PcapngWriter<W> {
    /// Write the section header.
    pub fn new(out: W) -> io::Result<Self> {
        let mut writer = Self { out, interfaces: Vec::new(), block: Vec::new() };
        writer.block.extend(0x1A2B_3C4D_u32.to_le_bytes());
        writer.block.extend([1, 0, 0, 0]);
        writer.block.extend((-1_i64).to_le_bytes());
        writer.write_block(SECTION)?;
        Ok(writer)
    }

    /// Append a packet: capture time in nanoseconds, wire length in bytes, captured bytes, direction, optional
    /// comment.
    pub fn packet(
        &mut self,
        ts: i64,
        linktype: LinkType,
        len: u32,
        bytes: &[u8],
        crossing: Crossing,
        comment: &str,
    ) -> io::Result<()> {
        let interface = self.interface(linktype)?;
        // The block without a time has no room for a comment.
        let ts = timed(ts).unwrap_or(0);
        let block = &mut self.block;
        block.extend(interface.to_le_bytes());
        block.extend(((ts as u64 >> 32) as u32).to_le_bytes());
        block.extend((ts as u32).to_le_bytes());
        block.extend((bytes.len() as u32).to_le_bytes());
        block.extend(len.to_le_bytes());
        padded(block, bytes);
        if !comment.is_empty() {
            option(block, COMMENT, comment.as_bytes());
        }
        if crossing != Crossing::Unknown {
            option(block, FLAGS, &(crossing as u32).to_le_bytes());
        }
        if !comment.is_empty() || crossing != Crossing::Unknown {
            option(block, 0, &[]);
        }
        self.write_block(ENHANCED_PACKET)
    }

    /// Flush the output and end the file.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn interface(&mut self, linktype: LinkType) -> io::Result<u32> {
        if let Some(known) = self.interfaces.iter().position(|known| *known == linktype) {
            return Ok(known as u32);
        }
        self.block.extend(linktype.0.to_le_bytes());
        self.block.extend([0; 6]);
        option(&mut self.block, TIME_RESOLUTION, &[9]);
        option(&mut self.block, 0, &[]);
        self.write_block(INTERFACE)?;
        self.interfaces.push(linktype);
        Ok(self.interfaces.len() as u32 - 1)
    }

    fn write_block(&mut self, kind: u32) -> io::Result<()> {
        let length = (self.block.len() as u32 + 12).to_le_bytes();
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&length)?;
        self.out.write_all(&self.block)?;
        self.out.write_all(&length)?;
        self.block.clear();
        Ok(())
    }
}

fn padded(block: &mut Vec<u8>, bytes: &[u8]) {
    block.extend(bytes);
    block.resize(block.len().next_multiple_of(4), 0);
}

fn option(block: &mut Vec<u8>, code: u16, value: &[u8]) {
    block.extend(code.to_le_bytes());
    block.extend((value.len() as u16).to_le_bytes());
    padded(block, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CaptureReader, Input, RecordBatch};

    #[test]
    fn a_round_trip_returns_every_packet() {
        let mut file = Vec::new();
        let mut writer = PcapngWriter::new(&mut file).unwrap();
        let packets = [
            (1_700_000_000_123_456_789, LinkType::ETHERNET, 90, &b"ether"[..], Crossing::Outbound, "orig=10.0.0.1"),
            (1_700_000_001_000_000_001, LinkType::RAW, 4, &b"rawip"[..], Crossing::Unknown, ""),
            (5, LinkType::ETHERNET, 0, &b""[..], Crossing::Inbound, "é"),
        ];
        for (ts, linktype, len, bytes, crossing, comment) in packets {
            writer.packet(ts, linktype, len, bytes, crossing, comment).unwrap();
        }
        writer.finish().unwrap();
        let input = Input::Reader { name: "memory".into(), reader: Box::new(io::Cursor::new(file)) };
        let mut reader = CaptureReader::new(input, 0, true).unwrap();
        let (mut batch, mut found) = (RecordBatch::default(), Vec::new());
        while reader.next_batch(&mut batch).unwrap() || !batch.records.is_empty() {
            found.extend(batch.records.iter().map(|record| (record.ts, record.linktype, batch.bytes(record).to_vec())));
            if batch.records.is_empty() {
                break;
            }
        }
        let expected: Vec<_> =
            packets.iter().map(|(ts, linktype, _, bytes, ..)| (*ts, *linktype, bytes.to_vec())).collect();
        assert_eq!(found, expected);
    }
}
