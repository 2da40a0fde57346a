//! The short reader against the decoder.

use proptest::prelude::*;

use crate::decode::testkit::{ETHERNET, ethernet, join, record, tcp, udp, v4, v4_piece, v6};
use crate::decode::{Brief, Decoder, Options, TunnelMode};

/// Frames, most of them ordinary.
fn frames() -> Vec<Vec<u8>> {
    let timestamps = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let syn_options = [2, 4, 5, 0xb4, 4, 2, 1, 1, 1, 3, 3, 7];
    let segments = [
        tcp(2, &syn_options, &[]),
        tcp(18, &syn_options, &[]),
        tcp(16, &timestamps, &[7; 90]),
        tcp(24, &[], b"GET / HTTP/1.1\r\n"),
        tcp(16, &[1, 1, 5, 10, 0, 0, 0, 9, 0, 0, 0, 20], &[]),
    ];
    let datagrams = [udp(40_000, 53, &[9; 40]), udp(53, 53, &[]), udp(40_000, 4_789, &[8; 60])];
    let mut frames = Vec::new();
    for (proto, bytes) in segments.iter().map(|bytes| (6, bytes)).chain(datagrams.iter().map(|bytes| (17, bytes))) {
        frames.push(ethernet(0x0800, &v4(proto, bytes)));
        frames.push(ethernet(0x86dd, &v6(proto, bytes)));
    }
    let padded = join(&[&ethernet(0x0800, &v4(6, &tcp(16, &[], &[]))), &[0; 6]]);
    let vlan = ethernet(0x8100, &join(&[&[0, 9, 8, 0], &v4(6, &tcp(16, &[], &[1; 8]))]));
    frames.extend([padded, vlan, ethernet(0x0800, &v4_piece(7, 0, true, 6, &tcp(16, &[], &[1; 40])))]);
    frames
}

/// What both say of a frame of which `caplen` bytes were captured: nothing where the short reader gives up.
fn compare(frame: &[u8], caplen: usize) -> Result<(), TestCaseError> {
    let bytes = &frame[..caplen.min(frame.len())];
    let record = record(ETHERNET, bytes, frame.len());
    let Some(brief) = Brief::read(&record, bytes) else { return Ok(()) };
    for tunnels in [TunnelMode::Inner, TunnelMode::Outer, TunnelMode::Both] {
        let mut packets = Vec::new();
        Decoder::new(Options { tunnels, checksum: false }).decode(&record, bytes, &mut packets).unwrap();
        prop_assert_eq!(packets.len(), 1, "{:?}", brief);
        prop_assert_eq!(Brief::of(&packets[0]), Some(brief));
        prop_assert_eq!(brief.packet(), packets[0]);
    }
    Ok(())
}

#[test]
fn ordinary_packets_are_read() {
    let read = |frame: &Vec<u8>| Brief::read(&record(ETHERNET, frame, frame.len()), frame).is_some();
    let frames = frames();
    // Not the two that may carry a VXLAN, nor the VLAN, nor the fragment.
    assert_eq!(frames.iter().filter(|frame| read(frame)).count(), frames.len() - 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn brief_is_what_the_decoder_says(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((0..80_usize, any::<u8>()), 0..4),
        caplen in prop_oneof![3 => Just(usize::MAX), 1 => 0..200_usize],
    ) {
        let frames = frames();
        let mut frame = which.get(&frames).clone();
        for (at, byte) in changes {
            let len = frame.len();
            frame[at % len] = byte;
        }
        compare(&frame, caplen)?;
    }
}
