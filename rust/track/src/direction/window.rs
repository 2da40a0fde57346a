//! The first window of a TCP connection: Linux advertises another one on accept than on connect.
//!
//! `tcp_select_initial_window` (net/ipv4/tcp_output.c) rounds the receive window down to whole segments. A connecting
//! end does not yet know about timestamps and takes the full segment size. An accepting end knows, and subtracts the
//! twelve bytes of the option (`tcp_openreq_init_rwin`). Later segments carry the window in units of the scale, rounded
//! up. So 502 and 510 (a scale of 7) are the two ends of one connection between today's hosts. 229 and 227 are those of
//! hosts before 2019. The window grows with received data: only the first window of an end counts.

use std::sync::LazyLock;

use conntrack_decode::Family;

/// Bytes of the timestamps option and its padding in every segment.
const TIMESTAMPS: u32 = 12;
/// Segment sizes in frames of 1500 bytes.
const SEGMENT_V4: u32 = 1_460;
const SEGMENT_V6: u32 = 1_440;
/// The largest window of a SYN, which is not scaled.
const LARGEST: u32 = 65_535;
/// Segments in the first window by kernel generation, the oldest first, and the scales that follow from its memory
/// limits. Since 4.20: as many as fit into [`LARGEST`]. Larger scales make windows that other systems send by chance.
const GENERATIONS: [(Option<u32>, std::ops::RangeInclusive<u8>); 4] =
    [(Some(4), 5..=7), (Some(10), 5..=7), (Some(20), 7..=7), (None, 7..=8)];

/// First windows of connecting ends only, and of accepting ends only.
struct Windows {
    connects: Vec<u16>,
    accepts: Vec<u16>,
}

impl Windows {
    fn of(segment: u32) -> Self {
        let (connects, accepts) = (firsts(segment), firsts(segment - TIMESTAMPS));
        let only = |these: &[u16], others: &[u16]| these.iter().copied().filter(|one| !others.contains(one)).collect();
        Self { connects: only(&connects, &accepts), accepts: only(&accepts, &connects) }
    }
}

/// First windows, as sent, of an end with this segment size.
fn firsts(segment: u32) -> Vec<u16> {
    let window = |segments: Option<u32>| segments.unwrap_or(LARGEST / segment) * segment;
    let scaled = GENERATIONS.into_iter().flat_map(|(segments, scales)| scales.map(move |scale| (segments, scale)));
    scaled.map(|(segments, scale)| window(segments).div_ceil(1 << scale) as u16).collect()
}

static WINDOWS: LazyLock<[Windows; 2]> = LazyLock::new(|| [Windows::of(SEGMENT_V4), Windows::of(SEGMENT_V6)]);

/// Test whether the end with this first window connected (true) or accepted (false); None: ambiguous.
pub fn connected(family: Family, first_window: u16) -> Option<bool> {
    let [v4, v6] = &*WINDOWS;
    let windows = if family == Family::V6 { v6 } else { v4 };
    let connects = windows.connects.contains(&first_window);
    (connects || windows.accepts.contains(&first_window)).then_some(connects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_each_generation() {
        for (connects, accepts) in [(183, 181), (229, 227), (502, 510)] {
            assert_eq!(connected(Family::V4, connects), Some(true), "{connects}");
            assert_eq!(connected(Family::V4, accepts), Some(false), "{accepts}");
        }
        assert_eq!(connected(Family::V6, 225), Some(true));
        assert_eq!(connected(Family::V6, 507), Some(true));
        assert_eq!(connected(Family::V6, 503), Some(false));
    }

    #[test]
    fn what_both_ends_may_have_says_nothing() {
        // Four segments at a scale of 7.
        assert_eq!(connected(Family::V4, 46), None);
        for window in [0, 1_024, 65_535] {
            assert_eq!(connected(Family::V4, window), None);
        }
    }
}
