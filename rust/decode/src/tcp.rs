//! TCP headers and options, RFC 9293.

use super::bytes::{Fields, payload_place};
use super::ip::Ip;
use super::ports::ports;
use super::{L4, Packet, Skip, Tcp};

/// Header, RFC 9293 section 3.1.
pub(super) mod field {
    pub const SEQ: usize = 4;
    pub const ACK: usize = 8;
    pub const DATA_OFFSET: usize = 12;
    pub const FLAGS: usize = 13;
    pub const WINDOW: usize = 14;
    pub const SIZE: usize = 20;
}

/// Option kinds, RFC 9293 section 3.2, RFC 7323, RFC 2018.
mod option {
    pub const END: u8 = 0;
    pub const NOP: u8 = 1;
    pub const WINDOW_SCALE: u8 = 3;
    pub const SACK_PERMITTED: u8 = 4;
    pub const SACK: u8 = 5;
    pub const TIMESTAMPS: u8 = 8;
    /// NOP, NOP, timestamps of ten bytes: the only options of nearly every segment.
    pub const TIMESTAMPS_ONLY: [u8; 4] = [1, 1, 8, 10];
    pub const TIMESTAMPS_ONLY_SIZE: usize = 12;
}

/// Maximum window shift; larger shifts count as the maximum (RFC 7323 section 2.3).
pub const LARGEST_SHIFT: u8 = 14;

#[inline]
pub(super) fn read(ip: &Ip<'_>, packet: &mut Packet) -> Result<(), Skip> {
    use field::{DATA_OFFSET, SIZE};
    let segment = ip.payload;
    ports(segment, &mut packet.tuple)?;
    let wire = segment.wire();
    let Ok(header) = segment.head::<SIZE>() else {
        // Truncated behind the ports: the data offset may be present.
        let size = segment.at::<1>(DATA_OFFSET).map_or(SIZE, |byte| header_size(byte.byte::<0>()).max(SIZE));
        packet.payload_bytes = wire.saturating_sub(size) as u32;
        packet.malformed = wire < SIZE && ip.fragment.is_none();
        return Ok(());
    };
    let size = header_size(header.byte::<DATA_OFFSET>());
    packet.payload_bytes = wire.saturating_sub(size.max(SIZE)) as u32;
    // In a tiny first fragment the options may be in the next fragment.
    packet.malformed = size < SIZE || (size > wire && ip.fragment.is_none());
    packet.cut = !segment.is_complete();
    packet.payload = payload_place(segment, size.max(SIZE));
    let mut tcp = of_header(header);
    tcp.has_options = size > SIZE;
    if tcp.has_options && !packet.malformed {
        parse_options(&mut tcp, segment.bytes(), size);
    }
    packet.l4 = L4::Tcp(tcp);
    Ok(())
}

/// Header fields without options.
#[inline]
pub(super) fn of_header(header: &[u8; field::SIZE]) -> Tcp {
    use field::{ACK, FLAGS, SEQ, WINDOW};
    Tcp {
        seq: header.be32::<SEQ>(),
        ack: header.be32::<ACK>(),
        window: header.be16::<WINDOW>(),
        flags: header.byte::<FLAGS>(),
        ..Tcp::default()
    }
}

/// Parse the captured options of a header of this size, which [`of_header`] has read, at the beginning of a segment.
#[inline]
pub(super) fn parse_options(tcp: &mut Tcp, segment: &[u8], size: usize) {
    tcp.has_options = true;
    if are_timestamps_only(segment, size) {
        tcp.timestamps = true;
        return;
    }
    let options = segment.get(field::SIZE..).unwrap_or_default();
    let options = read_options(options.get(..size - field::SIZE).unwrap_or(options), tcp.ack);
    tcp.wscale = options.wscale;
    tcp.sack_permitted = options.sack_permitted;
    tcp.timestamps = options.timestamps;
    tcp.sack = options.sack;
}

/// True if the options of a header of this size are timestamps and nothing else.
#[inline]
pub(super) fn are_timestamps_only(segment: &[u8], size: usize) -> bool {
    size == field::SIZE + option::TIMESTAMPS_ONLY_SIZE
        && segment
            .first_chunk::<{ field::SIZE + option::TIMESTAMPS_ONLY_SIZE }>()
            .is_some_and(|segment| segment.array::<{ field::SIZE }, 4>() == option::TIMESTAMPS_ONLY)
}

/// Values of the options; see the fields of [`Tcp`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Options {
    pub wscale: u8,
    pub sack_permitted: bool,
    pub timestamps: bool,
    pub sack: Option<u32>,
}

/// Length of the timestamps option, RFC 7323 section 3.2.
const TIMESTAMPS_SIZE: u8 = 10;

/// Size of the header in bytes, options included.
#[inline]
pub(super) fn header_size(data_offset: u8) -> usize {
    usize::from(data_offset >> 4) * 4
}

/// Parse options up to their end, the end of the capture, or the first impossible length.
fn read_options(mut options: &[u8], ack: u32) -> Options {
    let mut found = Options::default();
    while let Some((whole, rest)) = next_option(options) {
        match whole {
            [option::END] => break,
            [option::WINDOW_SCALE, _, shift] => found.wscale = (*shift).min(LARGEST_SHIFT) + 1,
            [option::SACK_PERMITTED, _] => found.sack_permitted = true,
            [option::TIMESTAMPS, TIMESTAMPS_SIZE, ..] => found.timestamps = true,
            [option::SACK, _, blocks @ ..] => found.sack = highest_right_edge(blocks, ack).or(found.sack),
            _ => {}
        }
        options = rest;
    }
    found
}

/// Split off the first option; None at the end or at an impossible length.
fn next_option(options: &[u8]) -> Option<(&[u8], &[u8])> {
    let size = match options {
        [option::END | option::NOP, ..] => 1,
        [_, length, ..] if *length >= 2 => usize::from(*length),
        _ => return None,
    };
    options.split_at_checked(size)
}

/// Highest right edge of the blocks beyond `ack`; distances are modulo 2^32.
fn highest_right_edge(blocks: &[u8], ack: u32) -> Option<u32> {
    const RIGHT_EDGE: usize = 4;
    let (blocks, _) = blocks.as_chunks::<8>();
    let beyond = |edge: u32| edge.wrapping_sub(ack) as i32;
    let edges = blocks.iter().map(Fields::be32::<RIGHT_EDGE>);
    edges.filter(|edge| beyond(*edge) > 0).max_by_key(|edge| beyond(*edge))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syn_options() {
        let tcp = read_options(&[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7], 0);
        assert_eq!((tcp.wscale, tcp.sack_permitted, tcp.timestamps, tcp.sack), (8, true, true, None));
    }

    #[test]
    fn shifts_above_14_are_capped_and_0_is_not_absent() {
        assert_eq!(read_options(&[3, 3, 0, 0], 0).wscale, 1);
        assert_eq!(read_options(&[3, 3, 14, 0], 0).wscale, 15);
        assert_eq!(read_options(&[3, 3, 255, 0], 0).wscale, 15);
    }

    #[test]
    fn sack_takes_the_highest_edge_across_the_wrap() {
        let ack = u32::MAX - 10;
        let mut bytes = vec![1, 1, 5, 18];
        for edge in [0xffff_fffa_u32, 0xffff_fffd, 1, 20] {
            bytes.extend(edge.to_be_bytes());
        }
        assert_eq!(read_options(&bytes, ack).sack, Some(20));
    }

    #[test]
    fn duplicate_sack_below_the_ack_is_none() {
        let mut bytes = vec![1, 1, 5, 10];
        bytes.extend(100_u32.to_be_bytes());
        bytes.extend(200_u32.to_be_bytes());
        assert_eq!(read_options(&bytes, 500).sack, None);
        assert_eq!(read_options(&bytes, 150).sack, Some(200));
    }

    #[test]
    fn timestamps_alone_are_parsed_and_impossible_lengths_end_the_options() {
        let expected = Options { timestamps: true, ..Options::default() };
        assert_eq!(read_options(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2], 0), expected);
        for bytes in [&[3][..], &[3, 0, 7], &[3, 1, 7], &[3, 9, 7], &[5, 4, 0, 0], &[0, 3, 3, 7]] {
            assert_eq!(read_options(bytes, 0), Options::default(), "{bytes:?}");
        }
    }
}
