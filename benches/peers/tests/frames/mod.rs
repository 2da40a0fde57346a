//! Frames read back, independent of the code that builds them.

// Each test uses a part.
#![allow(dead_code)]

use std::collections::HashMap;

/// Ends in their order, so that both directions have one key.
pub type Key = (Vec<u8>, Vec<u8>);

/// A packet, read back.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: u64,
    pub v6: bool,
    pub protocol: u8,
    pub key: Key,
    pub flags: u8,
    pub numbers: (u32, u32),
    pub payload: usize,
    pub from_first: bool,
    /// Options of TCP.
    pub options: Vec<u8>,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The Internet checksum of data that includes it is zero.
pub fn checks(bytes: &[u8], pseudo: &[u8]) -> bool {
    let padded = |bytes: &[u8]| [bytes, &[0][..bytes.len() % 2]].concat();
    let words = [padded(pseudo), padded(bytes)].concat();
    let sum: u32 = words.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let folded = (sum >> 16) + (sum & 0xFFFF);
    (folded >> 16) + (folded & 0xFFFF) == 0xFFFF
}

pub fn read(at: u64, frame: &[u8]) -> Seen {
    assert!(frame.len() >= 60);
    let v6 = frame[12] == 0x86;
    let ip = &frame[14..];
    let (header, len, protocol, ends) = if v6 {
        (40, 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]])), ip[6], &ip[8..40])
    } else {
        assert!(checks(&ip[..20], &[]));
        (20, usize::from(u16::from_be_bytes([ip[2], ip[3]])), ip[9], &ip[12..20])
    };
    let segment = &ip[header..len];
    let length = (segment.len() as u32).to_be_bytes();
    let pseudo = if protocol == 1 { Vec::new() } else { [ends, &length, &[0, 0, 0, protocol]].concat() };
    assert!(checks(segment, &pseudo));
    let ports: [&[u8]; 2] = match protocol {
        6 | 17 => [&segment[..2], &segment[2..4]],
        _ => [&segment[4..6], &segment[4..6]],
    };
    let half = ends.len() / 2;
    let mut key = ([&ends[..half], ports[0]].concat(), [&ends[half..], ports[1]].concat());
    let from_first = key.0 < key.1;
    if !from_first {
        key = (key.1, key.0);
    }
    let tcp = protocol == 6;
    Seen {
        at,
        v6,
        protocol,
        key,
        flags: if tcp { segment[13] } else { 0 },
        numbers: if tcp { (word(segment, 4), word(segment, 8)) } else { (0, 0) },
        payload: segment.len() - if tcp { usize::from(segment[12] >> 4) * 4 } else { 8 },
        from_first,
        options: if tcp { segment[20..usize::from(segment[12] >> 4) * 4].to_vec() } else { Vec::new() },
    }
}

pub fn connections(seen: &[Seen]) -> HashMap<(u8, &Key), Vec<&Seen>> {
    let mut found = HashMap::<_, Vec<_>>::new();
    for packet in seen {
        found.entry((packet.protocol, &packet.key)).or_default().push(packet);
    }
    found
}
