//! Interface description blocks: link type, snaplen, and the meaning of timestamps.

use super::super::linktype::LinkType;
use super::super::parse::{u16_at, u32_at};

/// Option codes of the interface description block.
const TSRESOL: u16 = 9;
const TSOFFSET: u16 = 14;

/// Timestamp resolution of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    /// Nanoseconds per tick.
    Times(u64),
    /// Ticks per nanosecond.
    Over(u64),
    /// Ticks per second, as a power of 2.
    Binary(u32),
}

impl Resolution {
    /// Decode the option `if_tsresol`: a power of 10, or of 2 if the upper bit is set.
    fn from_option(value: u8) -> Self {
        let power = u32::from(value & 0x7f);
        if value & 0x80 != 0 {
            Self::Binary(power)
        } else if power <= 9 {
            Self::Times(10_u64.pow(9 - power))
        } else {
            // With ticks below 10^-28 s no 64-bit count reaches a nanosecond.
            10_u64.checked_pow(power - 9).map_or(Self::Times(0), Self::Over)
        }
    }
}

/// Interface of a section.
pub(super) struct Interface {
    pub(super) linktype: LinkType,
    /// Snaplen in bytes; 0: unlimited.
    pub(super) snaplen: u32,
    resolution: Resolution,
    /// Seconds to add to every timestamp.
    offset: i64,
}

/// Maximum distance of a timestamp from the epoch in nanoseconds; the rest of an `i64` holds the longest timeout.
pub(super) const TIME_LIMIT: i64 = 8_000_000_000_000_000_000;

impl Interface {
    /// Decode an interface description block in the byte order of its section.
    pub(super) fn decode(big: bool, block: &[u8]) -> Self {
        let mut interface = Self {
            linktype: LinkType::from_header(u32::from(u16_at(big, block, 8))),
            snaplen: u32_at(big, block, 12),
            resolution: Resolution::Times(1000),
            offset: 0,
        };
        let mut options = &block[16..block.len() - 4];
        while let Some((header, rest)) = options.split_first_chunk::<4>() {
            let (code, len) = (u16_at(big, header, 0), usize::from(u16_at(big, header, 2)));
            let (Some(value), true) = (rest.get(..len), code != 0) else { break };
            match (code, value) {
                (TSRESOL, [resolution, ..]) => interface.resolution = Resolution::from_option(*resolution),
                (TSOFFSET, value) if len == 8 => {
                    let (high, low) = if big { (0, 4) } else { (4, 0) };
                    let (high, low) = (u32_at(big, value, high), u32_at(big, value, low));
                    interface.offset = (u64::from(high) << 32 | u64::from(low)) as i64;
                }
                _ => {}
            }
            options = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        interface
    }

    /// Nanoseconds since the epoch; the nearest valid time as the error.
    pub(super) fn time(&self, ticks: u64) -> Result<i64, i64> {
        let ns = match self.resolution {
            Resolution::Times(ns) => i128::from(ticks) * i128::from(ns),
            Resolution::Over(per) => i128::from(ticks / per),
            Resolution::Binary(power) => ((u128::from(ticks) * 1_000_000_000) >> power) as i128,
        } + i128::from(self.offset) * 1_000_000_000;
        let limit = i128::from(TIME_LIMIT);
        if ns.abs() <= limit { Ok(ns as i64) } else { Err(ns.clamp(-limit, limit) as i64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolutions() {
        let time = |value: Option<u8>, offset: i64, ticks: u64| {
            let resolution = value.map_or(Resolution::Times(1000), Resolution::from_option);
            Interface { linktype: LinkType::ETHERNET, snaplen: 0, resolution, offset }.time(ticks)
        };
        assert_eq!(time(None, 0, 1_500_000), Ok(1_500_000_000));
        assert_eq!(time(Some(0), 0, 3), Ok(3_000_000_000));
        assert_eq!(time(Some(9), 0, 12_345), Ok(12_345));
        assert_eq!(time(Some(12), 0, 12_345), Ok(12));
        assert_eq!(time(Some(127), 0, u64::MAX), Ok(0));
        assert_eq!(time(Some(0x80), 0, 3), Ok(3_000_000_000));
        assert_eq!(time(Some(0x8a), 0, 1536), Ok(1_500_000_000));
        assert_eq!(time(Some(0xff), 0, u64::MAX), Ok(0));
        assert_eq!(time(Some(6), -1, 1_500_000), Ok(500_000_000));
        assert_eq!(time(Some(6), -3, 1_500_000), Ok(-1_500_000_000));
        assert_eq!(time(Some(0), 0, u64::MAX), Err(TIME_LIMIT));
        assert_eq!(time(None, i64::MIN, 0), Err(-TIME_LIMIT));
        assert_eq!(time(None, i64::MAX, u64::MAX), Err(TIME_LIMIT));
    }
}
