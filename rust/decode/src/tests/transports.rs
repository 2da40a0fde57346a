//! TCP, UDP, UDP-Lite, ICMP, SCTP, GRE: header fields, lengths, contradictions, checksums.

use super::super::testkit::*;
use super::super::{Family, L4, Packet, Skip, Tcp, TunnelMode, ipproto};

fn outer(ip: &[u8]) -> Packet {
    decode_as(TunnelMode::Outer, RAW, ip).expect("a packet")[0]
}

#[test]
fn tcp_header() {
    let L4::Tcp(facts) = decode_ip(&v4(6, &tcp(0x12, &[3, 3, 7, 0], b""))).l4 else { panic!("no TCP") };
    assert_eq!(
        facts,
        Tcp { seq: 100, ack: 200, window: 1024, flags: 0x12, has_options: true, wscale: 8, ..Tcp::default() }
    );
}

#[test]
fn tcp_contradictions() {
    for (data_offset, malformed) in [(0x40, true), (0x50, false), (0x60, false), (0x70, true)] {
        let mut segment = tcp(0x10, &[], b"data");
        segment[12] = data_offset;
        let packet = outer(&v4(6, &segment));
        assert_eq!((packet.malformed, packet.tuple.dport), (malformed, 80), "{data_offset:x}");
        assert!(matches!(packet.l4, L4::Tcp(_)));
    }
    // The IP header leaves no room for the TCP header.
    let packet = outer(&v4(6, &tcp(0x10, &[], b"")[..12]));
    assert!(packet.malformed && packet.l4 == L4::Other && packet.tuple.sport == 1000 && packet.payload_bytes == 0);
}

#[test]
fn a_tcp_header_cut_behind_the_ports() {
    let ip = v4(6, &tcp(0x10, &[1; 12], b"data"));
    for caplen in 24..40 {
        let packet = decode_cut(TunnelMode::Inner, RAW, &ip, caplen).unwrap()[0];
        assert_eq!((packet.l4, packet.tuple.dport, packet.malformed), (L4::Other, 80, false));
        // Without the data offset, a header without options is assumed.
        assert_eq!(packet.payload_bytes, if caplen > 32 { 4 } else { 16 });
    }
    assert_eq!(decode_cut(TunnelMode::Inner, RAW, &ip, 23), Err(Skip::Truncated));
    // Options as far as they were captured.
    let ip = v4(6, &tcp(2, &[4, 2, 3, 3, 7, 1, 1, 1], b""));
    let L4::Tcp(facts) = decode_cut(TunnelMode::Inner, RAW, &ip, 43).unwrap()[0].l4 else { panic!("no TCP") };
    assert_eq!((facts.sack_permitted, facts.wscale), (true, 0));
}

#[test]
fn udp_lengths() {
    let room = 11;
    for (length, malformed, payload) in
        [(8, false, 0), (room, false, 3), (7, true, 3), (0, true, 3), (room + 1, true, 3)]
    {
        let mut datagram = udp(1, 2, b"abc");
        datagram[5] = length;
        let packet = outer(&v4(17, &datagram));
        assert_eq!((packet.malformed, packet.payload_bytes), (malformed, payload), "{length}");
        assert_eq!((packet.l4, packet.tuple.dport), (L4::Udp, 2));
    }
    assert!(outer(&v4(17, &udp(1, 2, b"")[..6])).malformed);
    assert_eq!(decode(RAW, &v4(17, &[0, 1, 0])), Err(Skip::Truncated));
}

#[test]
fn udp_lite_coverage() {
    for (coverage, malformed) in [(0, false), (8, false), (11, false), (7, true), (12, true)] {
        let mut datagram = udp(1, 2, b"abc");
        datagram[5] = coverage;
        let packet = outer(&v4(136, &datagram));
        assert_eq!((packet.malformed, packet.payload_bytes, packet.l4), (malformed, 3, L4::Udp), "{coverage}");
    }
    let mut without_checksum = v4(136, &udp(1, 2, b"abc"));
    without_checksum[26..28].fill(0);
    assert!(outer(&without_checksum).malformed);
}

#[test]
fn icmp_queries_and_others() {
    let packet = decode_ip(&v4(1, &hex("0800 0000 1234 0001 6162")));
    assert_eq!(packet.l4, L4::Icmp { kind: 8, code: 0, id: 0x1234 });
    assert_eq!((packet.tuple.sport, packet.tuple.dport, packet.payload_bytes), (8, 0, 2));
    let packet = decode_ip(&v4(1, &hex("0901 0000 1234 0001")));
    assert_eq!(packet.l4, L4::Icmp { kind: 9, code: 1, id: 0 });
    let packet = decode_ip(&v6(58, &hex("8000 0000 1234 0001 6162")));
    assert_eq!(packet.l4, L4::Icmp { kind: 128, code: 0, id: 0x1234 });
    let packet = decode_ip(&v6(58, &join(&[&hex("8903 0000 0000 0000"), &[0; 32]])));
    assert_eq!(packet.l4, L4::Icmp { kind: 137, code: 3, id: 0 });
    let short = outer(&v4(1, &hex("0800 0000")));
    assert!(short.malformed && short.l4 == L4::Other && short.tuple.sport == 8);
    assert_eq!(decode(RAW, &v4(1, &[8])), Err(Skip::Truncated));
}

/// ICMP error about `quoted`, with the type of IPv4 or IPv6.
fn error_about(family: Family, quoted: &[u8]) -> L4 {
    match family {
        Family::V4 => decode_ip(&v4(1, &join(&[&hex("0303 0000 0000 0000"), quoted]))).l4,
        Family::V6 => decode_ip(&v6(58, &join(&[&hex("0104 0000 0000 0000"), quoted]))).l4,
    }
}

#[test]
fn icmp_errors_quote() {
    let original = v4(17, &udp(5000, 53, &[0; 100]));
    let expected = decode_ip(&original).tuple;
    for cut in [original.len(), 28, 24] {
        let L4::IcmpError { kind: 3, code: 3, quoted, quoted_id: 0 } = error_about(Family::V4, &original[..cut]) else {
            panic!("no error");
        };
        assert_eq!(quoted, Some(expected), "{cut}");
    }
    let echo = v4(1, &hex("0800 0000 1234 0001"));
    let L4::IcmpError { quoted: Some(tuple), quoted_id: 0x1234, .. } = error_about(Family::V4, &echo) else {
        panic!("no echo");
    };
    assert_eq!((tuple.sport, tuple.dport, tuple.proto), (8, 0, ipproto::ICMP));

    let original = v6(60, &join(&[&hex("0600 0104 00000000"), &tcp(2, &[], b"")]));
    let L4::IcmpError { quoted, .. } = error_about(Family::V6, &original[..60]) else { panic!("no error") };
    assert_eq!(quoted, Some(decode_ip(&original).tuple));
}

#[test]
fn icmp_quotes_that_cannot_be_read() {
    let whole = v4(17, &udp(5000, 53, b""));
    let later = v4_piece(1, 80, true, 17, &[0; 40]);
    let wrong = v6(17, &udp(5000, 53, b""));
    let v6_later = v6_piece(1, 80, true, 17, &[0; 40]);
    let cases = [
        (Family::V4, &whole[..23]),
        (Family::V4, &[]),
        (Family::V4, &later),
        (Family::V4, &wrong),
        (Family::V6, &whole),
        (Family::V6, &v6_later),
    ];
    for (family, quote) in cases {
        assert!(matches!(error_about(family, quote), L4::IcmpError { quoted: None, quoted_id: 0, .. }), "{quote:?}");
    }
}

/// An SCTP packet of these chunks with a valid CRC32c; the CRC table itself is tested against the check value.
fn sctp(chunks: &[u8]) -> Vec<u8> {
    let header = hex("0b58 0b59 deadbeef 00000000");
    let crc = super::super::checksum::crc32c(&[&header, chunks]);
    join(&[&header[..8], &crc.to_le_bytes(), chunks])
}

#[test]
fn sctp_chunks() {
    let init = hex("0100 0014 cafebabe 00010000 000a 000a 00000001");
    let packet = outer(&v4(132, &sctp(&init)));
    let L4::Sctp(facts) = packet.l4 else { panic!("no SCTP") };
    assert_eq!((facts.vtag, facts.init_tag, facts.well_formed), (0xdead_beef, Some(0xcafe_babe), true));
    assert!(facts.chunks().eq([(1, false)]) && !facts.has_others);
    assert_eq!((packet.tuple.sport, packet.tuple.dport, packet.payload_bytes), (2904, 2905, 20));
    assert!(!packet.malformed && !packet.bad_checksum);

    let facts = |chunks: &[u8]| match outer(&v4(132, &sctp(chunks))).l4 {
        L4::Sctp(facts) => facts,
        other => panic!("{other:?}"),
    };
    // COOKIE ECHO with a padded length, an unknown type, DATA, and ABORT with its T bit.
    let several = facts(&hex("0a00 0005 55 000000 c800 0004 0003 0004 0601 0004"));
    assert!(several.chunks().eq([(10, false), (6, true)]));
    assert!(several.well_formed && several.has_data && several.has_others && several.init_tag.is_none());

    assert!(!facts(&hex("0000 0000")).well_formed, "no length");
    assert!(!facts(&join(&[&init, &hex("0003 0004")])).well_formed, "INIT is alone");
    assert!(!facts(&hex("0003 0004 0b00 0004")).well_formed, "COOKIE ACK is first");
    assert!(facts(&[4, 0, 0, 4].repeat(40)).chunks().count() == 12, "as many as there is room for");
    let empty = outer(&v4(132, &sctp(&[])));
    assert!(empty.malformed && empty.l4 == L4::Other && empty.tuple.dport == 2905);
}

#[test]
fn gre_as_a_protocol() {
    let plain = outer(&v4(47, &join(&[&hex("0000 0800"), &inner_v4()])));
    assert_eq!(plain.l4, L4::Gre { version: 0, key: 0 });
    assert_eq!((plain.tuple.sport, plain.tuple.dport, plain.payload_bytes), (0, 0, 0));
    let keyed = outer(&v4(47, &hex("b000 0800 00000000 00010002 00000003")));
    assert_eq!(keyed.l4, L4::Gre { version: 0, key: 2 });
    let pptp = outer(&v4(47, &hex("2001 880b 0004 abcd")));
    assert_eq!(pptp.l4, L4::Gre { version: 1, key: 0xabcd });
    // As in Linux: a packet too short for a header is a flow, and version 1 without PPP is not.
    let short = outer(&v4(47, &[0, 0]));
    assert_eq!((short.l4, short.malformed), (L4::Other, false));
    assert!(outer(&v4(47, &hex("3001 0800 0004 abcd 00000001"))).malformed);
}

#[test]
fn checksums() {
    let packets = [
        v4(6, &tcp(0x10, &[], b"odd")),
        v4(17, &udp(1, 2, b"abc")),
        v4(136, &udp(1, 2, b"abc")),
        v4(1, &hex("0800 0000 1234 0001 61")),
        v4(132, &sctp(&hex("0003 0004"))),
        v6(6, &tcp(0x10, &[], b"odd")),
        v6(17, &udp(1, 2, b"abc")),
        v6(58, &hex("8000 0000 1234 0001 61")),
    ];
    for ip in packets {
        assert!(!outer(&ip).bad_checksum, "{ip:?}");
        let mut damaged = ip.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(outer(&damaged).bad_checksum, "{ip:?}");
        let cut = decode_cut(TunnelMode::Outer, RAW, &damaged, damaged.len() - 1).unwrap()[0];
        assert!(!cut.bad_checksum, "not all was captured: {ip:?}");
        let mut out = Vec::new();
        let record = record(RAW, &damaged, damaged.len());
        super::super::Decoder::new(super::super::Options::default()).decode(&record, &damaged, &mut out).unwrap();
        assert!(!out[0].bad_checksum, "nobody asked");
    }
    let mut ip = v4(50, &[0; 8]);
    ip[8] ^= 1;
    assert!(outer(&ip).bad_checksum, "the IPv4 header's own");
}

#[test]
fn udp_without_checksum() {
    for (mut ip, bad) in [(v4(17, &udp(1, 2, b"abc")), false), (v6(17, &udp(1, 2, b"abc")), true)] {
        let at = ip.len() - 5;
        ip[at..at + 2].copy_from_slice(&[0, 0]);
        assert_eq!(outer(&ip).bad_checksum, bad);
    }
}
