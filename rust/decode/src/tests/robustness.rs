//! Properties of arbitrary bytes: no panic, one packet or a reason, and truncation changes no field that was
//! captured.

use proptest::prelude::*;

use super::super::testkit::*;
use super::super::{Packet, SUPPORTED, Skip, TunnelMode};
use super::tunnels::tunnels;

const MODES: [TunnelMode; 3] = [TunnelMode::Inner, TunnelMode::Outer, TunnelMode::Both];

/// Every kind of packet of the test builders: name, link type, bytes.
fn samples() -> Vec<(String, u16, Vec<u8>)> {
    let mut samples = Vec::new();
    for (name, linktype, prefix) in links() {
        samples.push((name.into(), linktype, join(&[&prefix, &inner_v4()])));
    }
    for (name, .., ip) in tunnels() {
        samples.push((name.into(), RAW, ip));
    }
    for little_endian in [true, false] {
        samples.push(("NFLOG".into(), 239, nflog(2, little_endian, &inner_v4())));
    }
    let quote = join(&[&hex("0303 0000 0000 0000"), &inner_v4()]);
    let others = [
        v4(6, &tcp(2, &hex("020405b4 0402 080a 00000000 00000000 01 030307"), b"")),
        v4(6, &tcp(0x10, &hex("0101 050a 00000001 00000002"), b"data")),
        v4(1, &quote),
        v4(1, &hex("0800 0000 1234 0001 6162")),
        v4(132, &hex("0b58 0b59 deadbeef 00000000 0100 0014 cafebabe 00010000 000a 000a 00000001")),
        v4(136, &udp(1, 2, b"lite")),
        v6(0, &join(&[&hex("3c00 0104 00000000 1100 0104 00000000"), &udp(5, 6, b"x")])),
        v6(58, &join(&[&hex("0104 0000 0000 0000"), &v6(17, &udp(1, 2, b""))])),
        v6_piece(7, 0, true, 17, &udp(1, 2, b"first")),
        v4_piece(7, 0, true, 17, &udp(1, 2, b"first")),
    ];
    for (i, ip) in others.into_iter().enumerate() {
        samples.push((format!("other {i}"), RAW, ip));
    }
    samples
}

/// Check the invariants of every result.
fn check(mode: TunnelMode, result: &Result<Vec<Packet>, Skip>) {
    let Ok(packets) = result else { return };
    // Early fragments have no packet; nothing has more than the deepest level allows.
    let most = if mode == TunnelMode::Both { 8 } else { 1 };
    assert!(packets.len() <= most);
    for packet in packets {
        assert!(packet.packets <= 1);
        assert!(packet.payload_bytes <= packet.ip_bytes);
    }
}

#[test]
fn every_prefix_of_every_sample() {
    for (name, linktype, bytes) in samples() {
        let whole = decode_as(TunnelMode::Both, linktype, &bytes).unwrap_or_else(|s| panic!("{name}: {s:?}"));
        for caplen in 0..bytes.len() {
            for mode in MODES {
                let result = decode_cut(mode, linktype, &bytes, caplen);
                check(mode, &result);
                match result {
                    Err(skip) => assert_eq!(skip, Skip::Truncated, "{name}: {caplen}"),
                    // One of the packets of the whole record, with equal ports and lengths.
                    Ok(packets) => {
                        for packet in packets {
                            let same =
                                |p: &&Packet| (p.tuple, p.tunnel, p.vlan) == (packet.tuple, packet.tunnel, packet.vlan);
                            let origin = whole.iter().find(same).unwrap_or_else(|| panic!("{name}: {caplen}"));
                            assert_eq!(packet.ip_bytes, origin.ip_bytes, "{name}: {caplen}");
                            assert!(!packet.bad_checksum || origin.bad_checksum, "{name}: {caplen}");
                            assert!(!packet.malformed, "{name}: {caplen}");
                        }
                    }
                }
            }
        }
    }
}

/// The samples, built once.
fn sample() -> impl Strategy<Value = (String, u16, Vec<u8>)> {
    proptest::sample::select(samples())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), more in 0_usize..2000) {
        for linktype in SUPPORTED {
            for mode in MODES {
                let mut out = Vec::new();
                let result = decoder(mode).decode(&record(linktype.0, &bytes, bytes.len() + more), &bytes, &mut out);
                prop_assert!(result.is_ok() || out.is_empty());
                check(mode, &result.map(|()| out));
            }
        }
    }

    #[test]
    fn damaged_packets(
        (_, linktype, mut bytes) in sample(),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<proptest::sample::Index>(),
    ) {
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        for mode in MODES {
            check(mode, &decode_as(mode, linktype, &bytes));
            check(mode, &decode_cut(mode, linktype, &bytes, cut.index(bytes.len())));
        }
    }

    /// Apart from fragments, a used decoder equals a fresh decoder.
    #[test]
    fn records_do_not_disturb_each_other(records in proptest::collection::vec((sample(), any::<u8>()), 1..20)) {
        let mut used = decoder(TunnelMode::Inner);
        for ((_, linktype, mut bytes), value) in records {
            let last = bytes.len() - 1;
            bytes[last] = value;
            let mut out = Vec::new();
            let result = used.decode(&record(linktype, &bytes, bytes.len()), &bytes, &mut out).map(|()| out);
            prop_assert_eq!(result, decode_as(TunnelMode::Inner, linktype, &bytes));
        }
    }

    /// The sum over the fragments equals the datagram, for any split and order.
    #[test]
    fn fragments_add_up(
        data in 0_usize..3000,
        unit in 1_usize..60,
        shuffle in any::<proptest::sample::Index>(),
        six in any::<bool>(),
    ) {
        let datagram = udp(9, 53, &vec![0; data]);
        let size = unit * 8;
        let mut pieces: Vec<Vec<u8>> = datagram
            .chunks(size)
            .enumerate()
            .map(|(i, chunk)| {
                let (offset, more) = ((i * size) as u16, (i + 1) * size < datagram.len());
                if six { v6_piece(1, offset, more, 17, chunk) } else { v4_piece(1, offset, more, 17, chunk) }
            })
            .collect();
        let count = pieces.len();
        pieces.rotate_left(shuffle.index(count));
        let mut decoder = decoder(TunnelMode::Inner);
        let mut out = Vec::new();
        for piece in &pieces {
            decoder.decode(&record(RAW, piece, piece.len()), piece, &mut out).unwrap();
        }
        let sum = |of: fn(&Packet) -> u32| out.iter().map(of).sum::<u32>() as usize;
        prop_assert_eq!(sum(|p| p.packets), 1);
        prop_assert_eq!(sum(|p| p.payload_bytes), data);
        // A datagram in one fragment keeps the fragment header of an atomic fragment.
        let header = if six { 40 + if count == 1 { 8 } else { 0 } } else { 20 };
        prop_assert_eq!(sum(|p| p.ip_bytes), header + datagram.len());
        prop_assert_eq!(decoder.orphans(), 0);
    }
}
