//! Tunnels, in the three modes.

use super::super::TunnelKind::{self, Erspan, Geneve, Gre, Gtpu, IpIp, SixInFour, Teredo, Vxlan};
use super::super::testkit::*;
use super::super::{Packet, Tunnel, TunnelMode, Vlan};

/// Every supported tunnel, each with TCP 1000 to 80 inside: name, kind, VNI, IP packet.
pub fn tunnels() -> Vec<(&'static str, TunnelKind, u32, Vec<u8>)> {
    let ip = inner_v4();
    let frame = ethernet(0x0800, &ip);
    let six = v6(6, &tcp(0x18, &[], b"inner"));
    let mut teredo_six = six.clone();
    // The address words in another order have an equal checksum.
    teredo_six[8..14].copy_from_slice(&hex("20010000 0db8"));
    let gre = |header: &str, payload: &[u8]| v4(47, &join(&[&hex(header), payload]));
    let over_udp =
        |dport: u16, header: &str, payload: &[u8]| v4(17, &udp(50_000, dport, &join(&[&hex(header), payload])));
    let gtp = |flags: &str, more: &str, payload: &[u8]| {
        let more = hex(more);
        let length = (more.len() + payload.len()) as u16;
        let header = join(&[&hex(flags), &length.to_be_bytes(), &hex("12345678"), &more, payload]);
        v4(17, &udp(2152, 2152, &header))
    };
    vec![
        ("GRE", Gre, 0, gre("0000 0800", &ip)),
        ("GRE checksum, key, sequence", Gre, 0, gre("b000 0800 00000000 00000007 00000001", &ip)),
        ("GRE in IPv6", Gre, 0, v6(47, &join(&[&hex("0000 0800"), &ip]))),
        ("GRE IPv6", Gre, 0, gre("2000 86dd 00000007", &six)),
        ("GRE Ethernet", Gre, 0, gre("0000 6558", &frame)),
        ("GRE MPLS", Gre, 0, gre("0000 8847 000201ff", &ip)),
        ("PPTP", Gre, 0, gre("3081 880b 0000 0007 00000001 00000002 ff03 0021", &ip)),
        ("PPTP compressed", Gre, 0, gre("3001 880b 0000 0007 00000001 21", &ip)),
        (
            "GRE Aruba",
            Gre,
            0,
            gre("0000 8200 8802 0000 020000000002 020000000001 020000000003 0000 0000 aaaa03 000000 0800", &ip),
        ),
        ("ERSPAN I", Erspan, 0, gre("0000 88be", &frame)),
        ("ERSPAN II", Erspan, 0, gre("1000 88be 00000001 1017000100000000", &frame)),
        ("ERSPAN III", Erspan, 0, gre("1000 22eb 00000001 200000010000000000000000", &frame)),
        (
            "ERSPAN III, subheader",
            Erspan,
            0,
            gre("1000 22eb 00000001 200000010000000000000001 0000000000000000", &frame),
        ),
        ("ERSPAN III, bare IP", Erspan, 0, gre("1000 22eb 00000001 200000010000000000000800", &ip)),
        ("4 in 4", IpIp, 0, v4(4, &ip)),
        ("4 in 6", IpIp, 0, v6(4, &ip)),
        ("6 in 6", IpIp, 0, v6(41, &six)),
        ("6in4", SixInFour, 0, v4(41, &six)),
        ("Teredo", Teredo, 0, v4(17, &udp(3544, 50_000, &six))),
        ("Teredo origin", Teredo, 0, over_udp(3544, "0000 1234 0a0b0c0d", &six)),
        ("Teredo both", Teredo, 0, over_udp(3544, "0001 0201 aabb cc 0011223344556677 00 0000 1234 0a0b0c0d", &six)),
        ("Teredo relay", Teredo, 0, v4(17, &udp(32_900, 3797, &teredo_six))),
        ("VXLAN", Vxlan, 0x00ab_cdef, over_udp(4789, "08000000 abcdef00", &frame)),
        ("VXLAN in IPv6", Vxlan, 1, v6(17, &udp(9, 4789, &join(&[&hex("08000000 00000100"), &frame])))),
        ("VXLAN on Linux' port", Vxlan, 1, over_udp(8472, "08000000 00000100", &frame)),
        ("VXLAN group policy", Vxlan, 1, over_udp(4789, "88000123 00000100", &frame)),
        ("VXLAN-GPE IPv4", Vxlan, 1, over_udp(4790, "0c000001 00000100", &ip)),
        ("VXLAN-GPE IPv6", Vxlan, 1, over_udp(4790, "0c000002 00000100", &six)),
        ("VXLAN-GPE Ethernet", Vxlan, 1, over_udp(4790, "0c000003 00000100", &frame)),
        ("VXLAN-GPE NSH", Vxlan, 1, over_udp(4790, "0c000004 00000100 0002 0201 00000100", &ip)),
        ("VXLAN-GPE MPLS", Vxlan, 1, over_udp(4790, "0c000005 00000100 000201ff", &ip)),
        ("VXLAN-GPE without P", Vxlan, 1, over_udp(4790, "08000000 00000100", &frame)),
        ("GENEVE", Geneve, 7, over_udp(6081, "0000 6558 00000700", &frame)),
        ("GENEVE options, IPv4", Geneve, 7, over_udp(6081, "0240 0800 00000700 0102030400000000", &ip)),
        ("GENEVE IPv6", Geneve, 7, over_udp(6081, "0000 86dd 00000700", &six)),
        ("GTP-U", Gtpu, 0, gtp("30ff", "", &ip)),
        ("GTP-U IPv6", Gtpu, 0, gtp("30ff", "", &six)),
        ("GTP-U sequence", Gtpu, 0, gtp("32ff", "0001 00 00", &ip)),
        ("GTP-U extensions", Gtpu, 0, gtp("34ff", "0000 00 85 01 0001 c0 02 000000000000 00", &ip)),
    ]
}

fn both(ip: &[u8]) -> Vec<Packet> {
    decode_as(TunnelMode::Both, RAW, ip).expect("packets")
}

#[test]
fn every_tunnel_in_every_mode() {
    for (name, kind, vni, ip) in tunnels() {
        let inner = decode_ip(&ip);
        assert_eq!(inner.tunnel, Tunnel { kind, vni }, "{name}");
        assert_eq!((inner.tuple.sport, inner.tuple.dport, inner.payload_bytes), (1000, 80, 5), "{name}");
        assert!(!inner.bad_checksum && !inner.malformed, "{name}");
        let outer = decode_as(TunnelMode::Outer, RAW, &ip).unwrap();
        assert_eq!((outer.len(), outer[0].tunnel.kind), (1, TunnelKind::None), "{name}");
        assert_eq!(outer[0].ip_bytes as usize, ip.len(), "{name}");
        assert_eq!(both(&ip), [outer[0], inner], "{name}");
    }
}

#[test]
fn what_carries_no_ip_stays_the_carrier() {
    let arp = ethernet(0x0806, &[0; 28]);
    let ip = inner_v4();
    let over_udp =
        |dport: u16, header: &str, payload: &[u8]| v4(17, &udp(50_000, dport, &join(&[&hex(header), payload])));
    let cases = [
        ("ARP in VXLAN", over_udp(4789, "08000000 00000100", &arp)),
        ("VXLAN without I", over_udp(4789, "00000000 00000100", &ethernet(0x0800, &ip))),
        ("VXLAN reserved", over_udp(4789, "08000000 00000101", &ethernet(0x0800, &ip))),
        ("VXLAN-GPE OAM", over_udp(4790, "0d000001 00000100", &ip)),
        ("GENEVE version 1", over_udp(6081, "4000 0800 00000700", &ip)),
        ("GENEVE control", over_udp(6081, "0080 0800 00000700", &ip)),
        ("GTP echo", over_udp(2152, "3201 0004 00000000 0001 0000", &[])),
        ("GTP version 2", over_udp(2152, "50ff 002d 00000000", &ip)),
        ("GTP extension of no length", over_udp(2152, "34ff 0034 00000000 00000085 00000000", &ip)),
        ("Teredo on any port, no Teredo address", v4(17, &udp(32_900, 3797, &v6(6, &tcp(0x18, &[], b"inner"))))),
        ("Teredo garbage", over_udp(3544, "1234", b"not a packet")),
        ("GRE source route", v4(47, &join(&[&hex("4000 0800 00000000"), &ip]))),
        ("GRE keep-alive", v4(47, &hex("0000 0000"))),
        ("ERSPAN version", v4(47, &join(&[&hex("1000 88be 00000001 3017000100000000"), &ip]))),
        ("IP in IP, no IP", v4(4, &[0xff; 40])),
        ("IP in IP, cut", v4(4, &ip[..22])),
    ];
    for (name, ip) in cases {
        let packet = decode_ip(&ip);
        assert_eq!((packet.tunnel.kind, packet.packets), (TunnelKind::None, 1), "{name}");
        assert_eq!(both(&ip), [packet], "{name}");
    }
}

#[test]
fn a_packet_inside_udp_must_fit() {
    for (header, dport) in [("08000000 00000100", 4789), ("30ff 002d 00000000", 2152)] {
        let payload = if dport == 4789 { ethernet(0x0800, &inner_v4()) } else { inner_v4() };
        let mut payload = join(&[&hex(header), &payload]);
        payload.truncate(payload.len() - 1);
        let packet = decode_ip(&v4(17, &udp(50_000, dport, &payload)));
        assert_eq!((packet.tunnel.kind, packet.tuple.dport), (TunnelKind::None, dport));
    }
}

#[test]
fn source_ports_open_no_vxlan() {
    let payload = join(&[&hex("08000000 00000100"), &ethernet(0x0800, &inner_v4())]);
    assert_eq!(decode_ip(&v4(17, &udp(4789, 50_000, &payload))).tunnel.kind, TunnelKind::None);
}

#[test]
fn a_malformed_carrier_is_not_opened() {
    let mut ip = v4(17, &udp(2152, 2152, &join(&[&hex("30ff 002d 00000000"), &inner_v4()])));
    ip[25] += 1;
    let packet = decode_ip(&ip);
    assert!(packet.malformed && packet.tunnel.kind == TunnelKind::None);
}

#[test]
fn vlan_and_group_are_the_inner_networks_own() {
    let inner = ethernet(0x8100, &join(&[&hex("0007 0800"), &inner_v4()]));
    let carrier = v4(17, &udp(50_000, 4789, &join(&[&hex("08000000 00000100"), &inner])));
    let frame = join(&[&hex("01005e000001 020000000001 8100 0064 0800"), &carrier]);
    let packets = decode_as(TunnelMode::Both, ETHERNET, &frame).unwrap();
    assert_eq!(packets[0].vlan, Vlan { outer: 101, inner: 0 });
    assert_eq!(packets[1].vlan, Vlan { outer: 8, inner: 0 });
    assert!(packets[0].to_group && !packets[1].to_group);
}

#[test]
fn tunnels_in_tunnels_end_at_the_deepest_level() {
    let mut ip = inner_v4();
    let mut levels = 1;
    for expected in [2, 3, 4, 5, 6, 7, 8, 8, 8] {
        ip = v4(4, &ip);
        levels += 1;
        assert_eq!(both(&ip).len(), expected, "{levels} levels");
        assert_eq!(decode_ip(&ip).ip_bytes as usize, 45 + (levels - expected) * 20);
    }
}

#[test]
fn the_tunnel_is_the_one_next_to_the_packet() {
    let gre = v4(47, &join(&[&hex("0000 0800"), &inner_v4()]));
    let packet = decode_ip(&v4(17, &udp(2152, 2152, &join(&[&hex("30ff 0045 00000000"), &gre]))));
    assert_eq!(packet.tunnel.kind, TunnelKind::Gre);
}
