//! IPv4 and IPv6 headers.

use std::net::IpAddr;

use super::super::testkit::*;
use super::super::{L4, Skip, TunnelMode, ipproto};

#[test]
fn addresses_ports_and_lengths() {
    let packet = decode_ip(&inner_v4());
    let tuple = packet.tuple;
    assert_eq!(tuple.src.ip(tuple.family), IpAddr::from(V4_SRC));
    assert_eq!(tuple.dst.ip(tuple.family), IpAddr::from(V4_DST));
    assert_eq!((tuple.sport, tuple.dport, tuple.proto), (1000, 80, ipproto::TCP));
    assert_eq!((packet.packets, packet.ip_bytes, packet.payload_bytes), (1, 45, 5));

    let packet = decode_ip(&v6(6, &tcp(2, &[], b"six")));
    assert_eq!(packet.tuple.src.ip(packet.tuple.family).to_string(), "2001:db8::1");
    assert_eq!((packet.ip_bytes, packet.payload_bytes, packet.bad_checksum), (63, 3, false));
}

#[test]
fn options_are_passed_over() {
    let mut ip = v4(17, &udp(5, 6, b"abc"));
    ip[0] = 0x46;
    ip[3] += 4;
    ip.splice(20..20, [1, 1, 1, 0]);
    let packet = decode_ip(&ip);
    assert_eq!((packet.tuple.sport, packet.tuple.dport, packet.ip_bytes, packet.payload_bytes), (5, 6, 35, 3));
    assert!(packet.bad_checksum, "the header changed, its checksum did not");
}

#[test]
fn headers_that_contradict_themselves() {
    let good = v4(17, &udp(5, 6, b"abc"));
    for (at, value) in [(0, 0x65), (0, 0x44), (3, 19)] {
        let mut ip = good.clone();
        ip[at] = value;
        assert_eq!(decode(228, &ip), Err(Skip::BadIpHeader), "{at}");
    }
    let mut ip = v6(17, &udp(5, 6, b"abc"));
    ip[0] = 0x45;
    assert_eq!(decode(229, &ip), Err(Skip::BadIpHeader));
    // An extension header longer than the packet.
    assert_eq!(decode(RAW, &v6(0, &[17, 9, 0, 0, 0, 0, 0, 0])), Err(Skip::BadIpHeader));
    assert_eq!(decode(RAW, &v6(0, &[17, 0, 0])), Err(Skip::BadIpHeader));
}

#[test]
fn segmentation_offload_leaves_the_length_at_0() {
    let mut ip = v4(6, &tcp(0x10, &[], &[7; 1000]));
    ip[2..4].copy_from_slice(&[0, 0]);
    let frame = ethernet(0x0800, &ip);
    let whole = decode(ETHERNET, &frame).unwrap();
    assert_eq!((whole.ip_bytes, whole.payload_bytes), (1040, 1000));
    // The wire length counts, not the captured length.
    let cut = decode_cut(TunnelMode::Inner, ETHERNET, &frame, 60).unwrap()[0];
    assert_eq!((cut.ip_bytes, cut.payload_bytes), (1040, 1000));

    let mut ip = v6(6, &tcp(0x10, &[], &[7; 1000]));
    ip[4..6].copy_from_slice(&[0, 0]);
    assert_eq!(decode_ip(&ip).ip_bytes, 1060);
}

#[test]
fn ipv6_without_a_next_header_is_no_packet() {
    let frame = ethernet(0x86dd, &join(&[&v6(59, &[]), &[0; 6]]));
    assert_eq!(decode(ETHERNET, &frame), Err(Skip::NoNextHeader));
}

#[test]
fn ipv6_jumbograms() {
    let option = join(&[&hex("0600 c204"), &70_028_u32.to_be_bytes()]);
    let mut ip = join(&[&v6(0, &option), &tcp(0x10, &[], &vec![1; 70_000])]);
    ip[4..6].copy_from_slice(&[0, 0]);
    let packet = decode_ip(&ip);
    assert_eq!((packet.ip_bytes, packet.payload_bytes, packet.tuple.dport), (70_068, 70_000, 80));
    // The option counts, not what follows the packet in the frame.
    let padded = decode_ip(&join(&[&ip, &[0; 6]]));
    assert_eq!((padded.ip_bytes, padded.payload_bytes), (70_068, 70_000));
}

#[test]
fn ipv6_extension_headers() {
    let segment = udp(5, 6, b"abc");
    let chains = [
        ("hop by hop", 0, hex("1100 0104 00000000")),
        ("destination", 60, hex("1101 0104 00000000 0104 00000000 0000")),
        ("authentication", 51, hex("1104 0000 00000001 00000001 000000000000000000000000")),
        ("two", 0, hex("3c00 0104 00000000 1100 0104 00000000")),
        ("atomic fragment", 44, hex("1100 0000 00000009")),
    ];
    for (name, next, chain) in chains {
        let packet = decode_ip(&v6(next, &join(&[&chain, &segment])));
        assert_eq!((packet.tuple.proto, packet.tuple.sport, packet.tuple.dport), (17, 5, 6), "{name}");
        assert_eq!(packet.ip_bytes as usize, 40 + chain.len() + segment.len(), "{name}");
        assert_eq!((packet.payload_bytes, packet.fragment, packet.malformed), (3, false, false), "{name}");
    }
}

#[test]
fn as_many_extension_headers_as_a_packet_has_room_for() {
    let segment = udp(5, 6, b"abc");
    let chain = |count: usize| join(&[&hex("3c00 0104 00000000").repeat(count), &hex("1100 0104 00000000"), &segment]);
    for count in [16, 100, 8000] {
        let packet = decode_ip(&v6(60, &chain(count)));
        assert_eq!((packet.tuple.proto, packet.tuple.dport, packet.payload_bytes), (17, 6, 3), "{count}");
    }
    // A jumbogram has room for more.
    let mut endless = v6(0, &join(&[&hex("3c00 c204"), &70_000_u32.to_be_bytes(), &chain(8700)]));
    endless[4..6].copy_from_slice(&[0, 0]);
    assert_eq!(decode(RAW, &endless), Err(Skip::TooDeep));
}

#[test]
fn a_routing_header_hides_the_address_in_the_checksum() {
    let route = hex("1102 0001 00000000 20010db8000000000000000000000009");
    let packet = decode_ip(&v6(43, &join(&[&route, &udp(5, 6, b"abc")])));
    assert_eq!((packet.tuple.dport, packet.bad_checksum), (6, false));
}

#[test]
fn other_protocols_have_addresses_only() {
    for proto in [2, 50, 51, 89, 103] {
        let packet = decode_ip(&v4(proto, &[0xff; 30]));
        assert_eq!((packet.tuple.sport, packet.tuple.dport, packet.tuple.proto), (0, 0, proto));
        assert_eq!((packet.ip_bytes, packet.payload_bytes, packet.l4), (50, 0, L4::Other));
    }
    // Each ICMP belongs to one IP version.
    assert_eq!(decode_ip(&v6(1, &[8; 8])).l4, L4::Other);
    assert_eq!(decode_ip(&v4(58, &[8; 8])).l4, L4::Other);
}

#[test]
fn group_addresses() {
    for (dst, group) in
        [([224, 0, 0, 251], true), ([239, 255, 255, 250], true), ([255; 4], true), ([10, 0, 0, 255], false)]
    {
        let mut ip = v4(17, &udp(5, 6, b""));
        ip[16..20].copy_from_slice(&dst);
        assert_eq!(decode_ip(&ip).to_group, group, "{dst:?}");
    }
    let mut ip = v6(17, &udp(5, 6, b""));
    ip[24] = 0xff;
    assert!(decode_ip(&ip).to_group);
}

#[test]
fn padding_behind_an_empty_ipv6_packet_is_no_payload() {
    for (behind, counted) in [(0, 40), (6, 40), (19, 40), (20, 60), (3000, 3040)] {
        let mut frame = v6(99, &vec![0; behind]);
        frame[4..6].copy_from_slice(&[0, 0]);
        assert_eq!(decode(1, &ethernet(0x86dd, &frame)).unwrap().ip_bytes, counted, "{behind}");
    }
}
