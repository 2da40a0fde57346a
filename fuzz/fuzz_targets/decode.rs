//! Arbitrary bytes as packets of any link type, decoded in sequence by one decoder, so that fragments have a memory.
#![no_main]

use conntrack_core::capture::{LinkType, Record};
use conntrack_core::decode::{Decoder, Options, SUPPORTED, TunnelMode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [mode, link, rest @ ..] = data else { return };
    let tunnels = [TunnelMode::Inner, TunnelMode::Outer, TunnelMode::Both][*mode as usize % 3];
    let mut decoder = Decoder::new(Options { tunnels, checksum: mode & 0x80 != 0 });
    let linktype = SUPPORTED.get(*link as usize).copied().unwrap_or(LinkType(1));
    let mut packets = Vec::new();
    // The first byte of each packet is its length in steps of 16.
    let mut rest = rest;
    let mut ts = 0;
    while let [steps, tail @ ..] = rest {
        let (bytes, tail) = tail.split_at((*steps as usize * 16).min(tail.len()));
        let len = bytes.len() as u32;
        let record =
            Record { ts, offset: 0, start: 0, caplen: len, len, file: 0, linktype, abridged: false, unsummed: false };
        packets.clear();
        if decoder.decode(&record, bytes, &mut packets).is_ok() {
            assert!(tunnels == TunnelMode::Both || packets.len() <= 1);
        }
        ts += 1_000_000_000;
        rest = tail;
    }
});
