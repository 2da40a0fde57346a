//! Packets of a capture on disk: pcap and pcapng, Ethernet only.
//!
//! Independent of the library that benchmarks measure. Damage ends a capture: the packets before the damage count.

use crate::pcap;

const PCAPNG: u32 = 0x0A0D_0D0A;
const PCAPNG_ORDER: u32 = 0x1A2B_3C4D;
const INTERFACE: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// Option of an interface: ticks of its clock in a second.
const RESOLUTION: u16 = 9;
const ETHERNET: u16 = 1;
const MICROS: u128 = 1_000_000;

/// A packet as a capture has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Microseconds since the epoch.
    pub micros: u64,
    /// Length on the wire.
    pub wire: u32,
    /// Captured bytes, from the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// The packets of a capture, in the order of the file. The error names the content found in place of Ethernet packets.
pub fn packets(capture: &[u8]) -> Result<Vec<Recorded>, String> {
    let Some(magic) = (Fields { bytes: capture, big: false }).word(0) else { return Err("no header".to_owned()) };
    match magic {
        0xA1B2_C3D4 => classic(Fields { bytes: capture, big: false }, 1),
        0xA1B2_3C4D => classic(Fields { bytes: capture, big: false }, 1_000),
        0xD4C3_B2A1 => classic(Fields { bytes: capture, big: true }, 1),
        0x4D3C_B2A1 => classic(Fields { bytes: capture, big: true }, 1_000),
        PCAPNG => pcapng(capture),
        other => Err(format!("the magic number {other:#010x}")),
    }
}

/// Numbers in the byte order of a file.
#[derive(Clone, Copy)]
struct Fields<'a> {
    bytes: &'a [u8],
    big: bool,
}

impl<'a> Fields<'a> {
    fn word(self, at: usize) -> Option<u32> {
        let bytes: [u8; 4] = self.slice(at, 4)?.try_into().ok()?;
        Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn half(self, at: usize) -> Option<u16> {
        let bytes: [u8; 2] = self.slice(at, 2)?.try_into().ok()?;
        Some(if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn slice(self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.bytes.get(at..at.checked_add(len)?)
    }
}

fn classic(file: Fields, fractions_per_micro: u32) -> Result<Vec<Recorded>, String> {
    let link_type = file.word(20).ok_or("no header")?;
    only_ethernet(link_type as u16)?;
    let record = |at: usize| {
        let (seconds, fraction, kept) = (file.word(at)?, file.word(at + 4)?, file.word(at + 8)?);
        let bytes = file.slice(at + 16, kept as usize).filter(|_| kept <= pcap::LONGEST)?;
        let micros = u64::from(seconds) * MICROS as u64 + u64::from(fraction / fractions_per_micro);
        Some(Recorded { micros, wire: file.word(at + 12)?, bytes: bytes.to_vec() })
    };
    let (mut at, mut found) = (24, Vec::new());
    while let Some(packet) = record(at) {
        at += 16 + packet.bytes.len();
        found.push(packet);
    }
    Ok(found)
}

/// Ticks in a second of each interface of a section.
type Clocks = Vec<u128>;

fn pcapng(capture: &[u8]) -> Result<Vec<Recorded>, String> {
    let (mut at, mut found, mut clocks) = (0, Vec::new(), Clocks::new());
    let mut file = Fields { bytes: capture, big: false };
    while let Some(kind) = file.word(at) {
        if kind == PCAPNG {
            // Each section has a byte order of its own; the type reads the same in both.
            file.big ^= file.word(at + 8) != Some(PCAPNG_ORDER);
            clocks.clear();
        }
        let Some(len) = file.word(at + 4).map(|len| len as usize).filter(|len| *len >= 12) else { break };
        let Some(bytes) = file.slice(at, len) else { break };
        let block = Fields { bytes, big: file.big };
        match kind {
            INTERFACE => {
                only_ethernet(block.half(8).unwrap_or_default())?;
                clocks.push(resolution(block));
            }
            ENHANCED_PACKET => found.extend(enhanced_packet(block, &clocks)),
            SIMPLE_PACKET => {
                let wire = block.word(8).unwrap_or_default();
                let micros = found.last().map_or(0, |before: &Recorded| before.micros);
                let kept = block.slice(12, (wire as usize).min(len.saturating_sub(16))).unwrap_or_default();
                found.push(Recorded { micros, wire, bytes: kept.to_vec() });
            }
            _ => {}
        }
        at += len;
    }
    Ok(found)
}

fn enhanced_packet(block: Fields, clocks: &[u128]) -> Option<Recorded> {
    let clock = clocks.get(block.word(8)? as usize)?;
    let ticks = u128::from(block.word(12)?) << 32 | u128::from(block.word(16)?);
    let bytes = block.slice(28, block.word(20)? as usize)?;
    Some(Recorded { micros: (ticks * MICROS / clock) as u64, wire: block.word(24)?, bytes: bytes.to_vec() })
}

/// Ticks in a second of an interface.
fn resolution(interface: Fields) -> u128 {
    let mut at = 16;
    while let (Some(code), Some(len)) = (interface.half(at), interface.half(at + 2)) {
        if code == 0 {
            break;
        }
        if let (RESOLUTION, Some([exponent])) = (code, interface.slice(at + 4, 1)) {
            let power = u32::from(exponent & 0x7F);
            return if exponent & 0x80 == 0 { 10u128.pow(power.min(18)) } else { 1 << power.min(62) };
        }
        at += 4 + usize::from(len).next_multiple_of(4);
    }
    MICROS
}

fn only_ethernet(link_type: u16) -> Result<(), String> {
    if link_type == ETHERNET { Ok(()) } else { Err(format!("link type {link_type}")) }
}
