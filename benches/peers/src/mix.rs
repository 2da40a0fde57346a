//! The packets of many real captures, interleaved in time and repeated with other addresses.
//!
//! Every capture starts at a random time within one loop, so that all of them run side by side. A long capture is
//! compressed in time. Each further loop has the same packets later and between other addresses.

use std::io;
use std::path::Path;

use crate::pcap;
use crate::random::Random;
use crate::readdress::readdress;
use crate::recorded::{Recorded, packets};

const START_MICROS: u64 = 1_700_000_000_000_000;
/// Length of a loop.
const LOOP_MICROS: u64 = 300_000_000;
/// No capture lasts longer within a loop.
const LONGEST_MICROS: u64 = LOOP_MICROS / 2;

/// Names of captures in a list, one a line; lines with `#` and empty lines have none.
pub fn names(list: &str) -> impl Iterator<Item = &str> {
    list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The interleaved captures.
pub struct Mix {
    /// One loop, with times from 0 and in their order.
    packets: Vec<Recorded>,
    next: usize,
    loops: u16,
    /// Bytes of the last packet, with the addresses of its loop.
    bytes: Vec<u8>,
}

impl Mix {
    /// Reads the captures of a list below a folder. Every capture must be there and be Ethernet.
    pub fn read(folder: &Path, list: &str, seed: u64) -> io::Result<Self> {
        let mut captures = Vec::new();
        for name in names(list) {
            let path = folder.join(name);
            let say = |reason: &str| io::Error::other(format!("{}: {reason}", path.display()));
            let capture = std::fs::read(&path).map_err(|error| say(&error.to_string()))?;
            captures
                .push(packets(&capture).map_err(|found| say(&format!("found {found}, expected Ethernet packets")))?);
        }
        Ok(Self::of(captures, seed))
    }

    /// Interleaves captures.
    pub fn of(captures: Vec<Vec<Recorded>>, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut all = Vec::new();
        for capture in captures {
            let first = capture.iter().map(|packet| packet.micros).min().unwrap_or(0);
            let last = capture.iter().map(|packet| packet.micros).max().unwrap_or(0);
            let lasts = (last - first).min(LONGEST_MICROS);
            let scale = if last > first { lasts as f64 / (last - first) as f64 } else { 1.0 };
            let start = random.below(LOOP_MICROS - lasts);
            all.extend(capture.into_iter().map(|packet| Recorded {
                micros: start + ((packet.micros - first) as f64 * scale) as u64,
                // A longer wire length is damage.
                wire: if packet.wire > pcap::LONGEST { packet.bytes.len() as u32 } else { packet.wire },
                bytes: packet.bytes,
            }));
        }
        all.sort_by_key(|packet| packet.micros);
        Self { packets: all, next: 0, loops: 0, bytes: Vec::new() }
    }

    /// Packets of one loop.
    pub fn loop_len(&self) -> usize {
        self.packets.len()
    }

    /// The next packet: microseconds since the epoch, captured bytes, and the length on the wire. None: the captures
    /// have no packets, or addresses are used up.
    pub fn next_packet(&mut self) -> Option<(u64, &[u8], u32)> {
        if self.next == self.packets.len() {
            self.next = 0;
            self.loops = self.loops.checked_add(1)?;
        }
        let packet = self.packets.get(self.next)?;
        self.next += 1;
        self.bytes.clone_from(&packet.bytes);
        readdress(&mut self.bytes, self.loops);
        let at = START_MICROS + u64::from(self.loops) * LOOP_MICROS + packet.micros;
        Some((at, &self.bytes, packet.wire))
    }
}
