//! Descriptors read at fixed offsets against the decoder.

use proptest::prelude::*;

use super::*;
use conntrack_decode::testkit::{ETHERNET, ethernet, join, record, tcp, udp, v4, v4_piece, v6};
use conntrack_decode::{Decoder, Options, TunnelMode};

/// An echo message.
fn echo(kind: u8, code: u8, data: &[u8]) -> Vec<u8> {
    join(&[&[kind, code, 0, 0, 1, 2, 0, 9], data])
}

/// The frame in the other direction: addresses swapped.
fn turned(mut frame: Vec<u8>) -> Vec<u8> {
    let (from, len) = if frame[12] == 8 { (26, 4) } else { (22, 16) };
    frame[from..from + 2 * len].rotate_left(len);
    frame
}

/// TCP segments and UDP datagrams.
fn transports() -> Vec<(u8, Vec<u8>)> {
    let timestamps = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let syn_options = [2, 4, 5, 0xb4, 4, 2, 1, 1, 1, 3, 3, 7];
    let mut to_ftp = tcp(24, &[], b"PORT 10,0,0,1,4,1\r\n");
    to_ftp[2..4].copy_from_slice(&21_u16.to_be_bytes());
    let segments = [
        tcp(2, &syn_options, &[]),
        tcp(18, &syn_options, &[]),
        tcp(16, &timestamps, &[7; 90]),
        tcp(24, &[], b"GET / HTTP/1.1\r\n"),
        tcp(16, &[1, 1, 5, 10, 0, 0, 0, 9, 0, 0, 0, 20], &[]),
        tcp(16, &[1, 1, 5, 10, 0, 0, 0, 210, 0, 0, 0, 220], &[1; 3]),
        to_ftp,
    ];
    let datagrams =
        [udp(40_000, 53, &[9; 40]), udp(53, 53, &[]), udp(53, 40_000, &[1, 2, 3, 4, 5, 6, 7]), udp(1, 2, &[0x60; 12])];
    let segments = segments.into_iter().map(|bytes| (ipproto::TCP, bytes));
    segments.chain(datagrams.into_iter().map(|bytes| (ipproto::UDP, bytes))).collect()
}

/// Frames that are read at fixed offsets, if a TCP header would fit into them.
fn ordinary() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for (proto, bytes) in transports() {
        frames.push(ethernet(0x0800, &v4(proto, &bytes)));
        frames.push(ethernet(0x86dd, &v6(proto, &bytes)));
    }
    for (kind, code) in [(8, 0), (0, 0), (8, 3)] {
        frames.push(ethernet(0x0800, &v4(ipproto::ICMP, &echo(kind, code, &[5; 20]))));
    }
    for (kind, code) in [(128, 0), (129, 0), (129, 1)] {
        frames.push(ethernet(0x86dd, &v6(ipproto::ICMPV6, &echo(kind, code, &[5; 20]))));
    }
    frames.push(join(&[&ethernet(0x0800, &v4(6, &tcp(16, &[], &[]))), &[0; 6]]));
    let to_group = |mut frame: Vec<u8>| {
        frame[0] |= 1;
        frame
    };
    frames.push(to_group(ethernet(0x0800, &v4(17, &udp(5_353, 5_353, &[1; 20])))));
    frames.push(to_group(ethernet(0x86dd, &v6(17, &udp(5_353, 5_353, &[1; 20])))));
    // An echo of a host to itself: the ends of its key differ.
    let mut to_itself = ethernet(0x0800, &v4(ipproto::ICMP, &echo(0, 0, &[5; 20])));
    to_itself.copy_within(26..30, 30);
    frames.push(to_itself);
    let others: Vec<_> = frames.iter().cloned().map(turned).collect();
    frames.extend(others);
    frames
}

/// Frames that only the decoder reads.
fn unusual() -> Vec<Vec<u8>> {
    let teredo = join(&[&v6(17, &udp(1, 2, &[3; 8]))]);
    let mut to_group = ethernet(0x0800, &v4(6, &tcp(16, &[], &[])));
    to_group[0] |= 1;
    let mut to_itself = ethernet(0x0800, &v4(17, &udp(53, 53, &[])));
    to_itself.copy_within(26..30, 30);
    vec![
        ethernet(0x0800, &v4(17, &udp(40_000, 4_789, &[8; 60]))),
        ethernet(0x86dd, &v6(17, &udp(40_000, 4_789, &[8; 60]))),
        ethernet(0x0800, &v4(17, &udp(3_544, 3_544, &teredo))),
        ethernet(0x8100, &join(&[&[0, 9, 8, 0], &v4(6, &tcp(16, &[], &[1; 8]))])),
        ethernet(0x0800, &v4_piece(7, 0, true, 6, &tcp(16, &[], &[1; 40]))),
        ethernet(0x0800, &v4_piece(7, 1_480, false, 6, &tcp(16, &[], &[1; 40]))),
        ethernet(0x86dd, &v6(0, &join(&[&[6, 0, 1, 4, 0, 0, 0, 0], &tcp(16, &[], &[1; 8])]))),
        ethernet(0x0800, &v4(ipproto::ICMP, &echo(13, 0, &[5; 12]))),
        ethernet(0x0800, &v4(ipproto::ICMP, &echo(3, 1, &v4(17, &udp(1, 2, &[3; 8]))))),
        ethernet(0x86dd, &v6(ipproto::ICMPV6, &echo(135, 0, &[5; 20]))),
        ethernet(0x0800, &v4(ipproto::UDPLITE, &udp(1, 2, &[3; 8]))),
        to_group,
        to_itself,
    ]
}

fn hasher() -> KeyHasher {
    KeyHasher::new(Some([1, 2, 3, 4]))
}

/// The descriptor of the frame alone.
fn at_fixed_offsets(bytes: &[u8]) -> Option<(Descriptor, [u64; 4])> {
    let (mut one, mut wide) = (Descriptor { ts: 7, ..Descriptor::default() }, [0; 4]);
    one.of_frame(bytes, &mut wide, &hasher()).then_some((one, wide))
}

/// The descriptor of the decoder's packet.
fn described(packet: &Packet, bytes: &[u8]) -> Option<(Descriptor, [u64; 4])> {
    let (key, side) = FlowKey::of_tuple(&packet.tuple, packet.flow_id, packet.vlan, packet.tunnel);
    let (mut one, wide) = Descriptor::of_packet(packet, 7, (key.words(), side), bytes)?;
    one.hash = hasher().words(&key.words());
    Some((one, wide))
}

/// Every field, by name.
fn fields((one, wide): &(Descriptor, [u64; 4])) -> String {
    format!("{one:?} {wide:?}")
}

/// Compare both descriptors of a frame with `caplen` captured bytes; nothing to compare where the frame is not ordinary
/// at fixed offsets.
fn compare(frame: &[u8], caplen: usize) -> Result<(), TestCaseError> {
    let bytes = &frame[..caplen.min(frame.len())];
    let record = record(ETHERNET, bytes, frame.len());
    let Some((one, wide)) = at_fixed_offsets(bytes) else { return Ok(()) };
    let arrival = Arrival { descriptor: &one, wide: &wide, frame: bytes, decoded: None };
    for tunnels in [TunnelMode::Inner, TunnelMode::Outer, TunnelMode::Both] {
        let mut packets = Vec::new();
        Decoder::new(Options { tunnels, checksum: false }).decode(&record, bytes, &mut packets).unwrap();
        prop_assert_eq!(packets.len(), 1, "{:?}", one);
        let packet = packets[0];
        prop_assert_eq!(arrival.packet(), packet);
        let Some((other, words)) = described(&packet, bytes) else { panic!("ordinary at fixed offsets: {one:?}") };
        prop_assert!(other.is(kind::DECODED) && other.offset == 0, "{:?}", other);
        let alike = Descriptor { kind: other.kind & !kind::DECODED, offset: one.offset, ..other };
        prop_assert_eq!(fields(&(alike, words)), fields(&(one, wide)));
        let decoded = Arrival { descriptor: &other, wide: &words, frame: bytes, decoded: Some(&packet) };
        prop_assert_eq!(decoded.payload(), arrival.payload());
        prop_assert!(one.is(kind::UDP | kind::ECHO) || decoded.tcp() == arrival.tcp());
        prop_assert_eq!((decoded.key(), decoded.tuple()), (arrival.key(), arrival.tuple()));
        prop_assert!(one.is(kind::UDP | kind::ECHO) || one.ports() == [packet.tuple.sport, packet.tuple.dport]);
    }
    Ok(())
}

#[test]
fn ordinary_frames_are_read() {
    for frame in ordinary() {
        let is_long = frame.len() >= if frame[12] == 8 { 54 } else { 74 };
        assert!(at_fixed_offsets(&frame).is_some() || !is_long, "{frame:02x?}");
        compare(&frame, frame.len()).unwrap();
    }
}

#[test]
fn unusual_frames_are_left_to_the_decoder() {
    for frame in unusual() {
        assert!(at_fixed_offsets(&frame).is_none(), "{frame:02x?}");
    }
}

#[test]
fn every_cut_is_read_alike() {
    for frame in ordinary() {
        for caplen in 0..=frame.len() {
            compare(&frame, caplen).unwrap();
        }
    }
}

#[test]
fn what_is_not_ordinary_has_no_descriptor() {
    let packet = |frame: &[u8]| {
        let mut packets = Vec::new();
        let options = Options { tunnels: TunnelMode::Outer, checksum: false };
        Decoder::new(options).decode(&record(ETHERNET, frame, frame.len()), frame, &mut packets).unwrap();
        packets[0]
    };
    let frame = &ordinary()[0];
    let plain = packet(frame);
    assert!(described(&plain, frame).is_some());
    let others = [
        Packet { complete: false, ..plain },
        Packet { fragment: true, ..plain },
        Packet { packets: 0, ..plain },
        Packet { malformed: true, ..plain },
        Packet { bad_checksum: true, ..plain },
        Packet { bad_header: true, ..plain },
        Packet { to_group: true, ..plain },
        Packet { ip_bytes: 1 << 16, ..plain },
        Packet { payload_bytes: 1 << 16, ..plain },
        Packet { l4: L4::Other, ..plain },
        Packet { tuple: FiveTuple { dst: plain.tuple.src, dport: plain.tuple.sport, ..plain.tuple }, ..plain },
        Packet { tuple: FiveTuple { proto: ipproto::UDPLITE, ..plain.tuple }, l4: L4::Udp, ..plain },
    ];
    for other in others {
        assert!(described(&other, frame).is_none(), "{other:?}");
    }
    // A tag or a tunnel does not make a packet unusual; both are in the key.
    let tagged = Packet { vlan: Vlan { outer: 10, inner: 0 }, ..plain };
    assert_ne!(described(&tagged, frame).unwrap().0.key, described(&plain, frame).unwrap().0.key);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn descriptors_are_what_the_decoder_says(
        which in any::<prop::sample::Index>(),
        is_usual in prop::bool::weighted(0.8),
        changes in prop::collection::vec((0..80_usize, any::<u8>()), 0..4),
        caplen in prop_oneof![3 => Just(usize::MAX), 1 => 0..200_usize],
    ) {
        let frames = if is_usual { ordinary() } else { unusual() };
        let mut frame = which.get(&frames).clone();
        for (at, byte) in changes {
            let len = frame.len();
            frame[at % len] = byte;
        }
        compare(&frame, caplen)?;
    }
}
