//! Blocks of pcapng from the middle of a file.

use std::ops::Range;

use super::parse::{Scan, u32_at};
use super::part::{SECTION, SECTION_LEN, section_order};
use super::pcapng::{BLOCK_MAX, BLOCK_MIN, ENHANCED_PACKET, INTERFACE, OBSOLETE_PACKET, Pcapng, SIMPLE_PACKET};

impl Pcapng {
    /// A block at an index that is present whole: its type and its end.
    fn present(&self, data: &[u8], at: usize) -> Option<(u32, usize)> {
        let block = data.get(at..).filter(|block| block.len() >= BLOCK_MIN)?;
        let length = self.length(block);
        if !(BLOCK_MIN..=BLOCK_MAX).contains(&length) || block.len() < length {
            return None;
        }
        Some((u32_at(self.big, block, 0), at + self.extent(block, length)?))
    }
}

/// Parser of a section by its header.
fn section(first: &[u8]) -> Option<Pcapng> {
    if first.len() < SECTION_LEN || u32_at(false, first, 0) != SECTION {
        return None;
    }
    section_order(first).map(Pcapng::of_section)
}

/// The section header at the front, and the interfaces before the first packet, with their number. None if a packet does
/// not come within `first`.
pub(super) fn front(first: &[u8]) -> Option<(Vec<u8>, usize)> {
    let parser = section(first)?;
    let (mut header, mut interfaces, mut at) = (Vec::new(), 0, 0);
    loop {
        let (kind, end) = parser.present(first, at)?;
        match kind {
            SECTION if at > 0 => return None,
            SECTION => header.extend_from_slice(&first[at..end]),
            INTERFACE => {
                header.extend_from_slice(&first[at..end]);
                interfaces += 1;
            }
            OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET => return Some((header, interfaces)),
            _ => {}
        }
        at = end;
    }
}

/// Find the first packet block with a time in `data`, behind the first chain of blocks.
pub(super) fn find(first: &[u8], data: &[u8], last: bool) -> Option<Range<usize>> {
    let parser = section(first)?;
    let mut from = 0;
    let mut at = loop {
        let Scan::Resync(at) = parser.scan(data, from, last) else { return None };
        if parser.refutes(data, at, last)? {
            break at;
        }
        from = at + 1;
    };
    loop {
        let (kind, end) = parser.present(data, at)?;
        if matches!(kind, ENHANCED_PACKET | OBSOLETE_PACKET) {
            return Some(at..end);
        }
        at = end;
    }
}
