//! Tunnels, in the three modes.

use super::super::TunnelKind::{
    self, Ayiya, Erspan, EtherIp, Geneve, Gre, Gtpu, IpIp, L2tp, Lisp, Mpls, SixInFour, Teredo, Vxlan,
};
use super::super::testkit::*;
use super::super::{Decoder, Options, Packet, Tunnel, TunnelMode, Vlan};

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
        ("GRE WCCP", Gre, 0, gre("0000 883e", &ip)),
        ("GRE WCCP 2", Gre, 0, gre("0000 883e 00000001", &ip)),
        ("GRE Aruba A-MSDU", Gre, 0, {
            let macs = "020000000002 020000000001 020000000003";
            gre(&format!("0000 8200 8802 0000 {macs} 0000 8000 020000000002 020000000001 0035 aaaa03 000000 0800"), &ip)
        }),
        ("NVGRE", Gre, 0, gre("2000 6558 00006401", &frame)),
        ("GRE in UDP", Gre, 0, over_udp(4754, "0000 0800", &ip)),
        ("GRE in UDP, key", Gre, 0, over_udp(4754, "2000 6558 00000007", &frame)),
        ("GRE in UDP, DTLS port", Gre, 0, over_udp(4755, "0000 0800", &ip)),
        ("MPLS in UDP", Mpls, 0, over_udp(6635, "000100ff 000201ff", &ip)),
        ("MPLS in IP", Mpls, 0, v4(137, &join(&[&hex("000201ff"), &ip]))),
        ("EtherIP", EtherIp, 0, v4(97, &join(&[&hex("3000"), &frame]))),
        ("Ethernet in IPv6", EtherIp, 0, v6(143, &frame)),
        ("SRv6", IpIp, 0, v6(43, &join(&[&hex("0402 0400 00000000"), &[9; 16], &ip]))),
        ("SRv6 Ethernet", EtherIp, 0, v6(43, &join(&[&hex("8f02 0400 00000000"), &[9; 16], &frame]))),
        ("LISP", Lisp, 0, over_udp(4341, "80000001 00000001", &ip)),
        ("LISP instance", Lisp, 7, over_udp(4341, "c8000001 00000701", &ip)),
        ("LISP IPv6", Lisp, 0, over_udp(4341, "00000000 00000000", &six)),
        ("AYIYA", Ayiya, 0, over_udp(5072, &format!("4052 1129 00000001 {}", "11".repeat(36)), &six)),
        ("AYIYA IPv4, reply", Ayiya, 0, {
            v4(17, &udp(5072, 50_000, &join(&[&hex("2041 0104 00000001"), &[1; 4], &[2; 16], &ip])))
        }),
        ("L2TP", L2tp, 0, over_udp(1701, "0002 0001 0002 ff03 0021", &ip)),
        ("L2TP all fields", L2tp, 0, over_udp(1701, "4b02 0042 0001 0002 0003 0004 0002 0000 21", &ip)),
        ("L2TPv3 in UDP", L2tp, 0, over_udp(1701, "0003 0000 00000007", &frame)),
        ("L2TPv3 in UDP, cookie", L2tp, 0, over_udp(1701, "0003 0000 00000007 0123456789abcdef", &frame)),
        ("L2TPv3", L2tp, 0, v4(115, &join(&[&hex("00000007"), &frame]))),
        ("L2TPv3 cookie and sublayer", L2tp, 0, {
            v4(115, &join(&[&hex("00000007 0123456789abcdef 40000001"), &frame]))
        }),
        ("L2TPv3 PPP", L2tp, 0, v4(115, &join(&[&hex("00000007 01234567 ff03 0021"), &ip]))),
        ("VXLAN reserved bits", Vxlan, 1, over_udp(4789, "087f7f7f 000001ff", &frame)),
        ("VXLAN-GPE on VXLAN's port", Vxlan, 1, over_udp(4789, "0c000001 00000100", &ip)),
        ("VXLAN-GPE replicated", Vxlan, 1, over_udp(4790, "0e000003 00000100", &frame)),
        ("VXLAN-GPE NSH in NSH", Vxlan, 1, {
            over_udp(
                4790,
                "0c000004 00000100 0002 0204 00000100 0006 0203 00000100 00000000000000000000000000000000",
                &frame,
            )
        }),
        ("GENEVE MPLS", Geneve, 7, over_udp(6081, "0000 8847 000007ff 000201ff", &ip)),
        ("GENEVE NSH", Geneve, 7, over_udp(6081, "0000 894f 00000700 0002 0201 00000100", &ip)),
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
        ("GRE in UDP, reserved bits", over_udp(4754, "0008 0800", &ip)),
        ("GRE in UDP, PPTP", over_udp(4754, "2001 880b 0000 0007 ff03 0021", &ip)),
        ("DTLS", over_udp(4755, "16fe fd00 00", &ip)),
        ("LISP encrypted", over_udp(4341, "01000000 00000000", &ip)),
        ("AYIYA heartbeat", over_udp(5072, &format!("4052 1029 00000001 {}", "11".repeat(36)), &ip)),
        ("AYIYA, nothing follows", over_udp(5072, &format!("4052 113b 00000001 {}", "11".repeat(36)), &ip)),
        ("L2TP control", over_udp(1701, "c802 0042 0001 0002 0003 0004", &ip)),
        ("L2TP version 1", over_udp(1701, "0001 0001 0002 ff03 0021", &ip)),
        ("L2TPv3 control", v4(115, &join(&[&hex("00000000"), &ethernet(0x0800, &ip)]))),
        ("L2TPv3, odd cookie", v4(115, &join(&[&hex("00000007 0123"), &ethernet(0x0800, &ip)]))),
        ("EtherIP version 4", v4(97, &join(&[&hex("4000"), &ethernet(0x0800, &ip)]))),
        ("Ethernet in IPv4", v4(143, &ethernet(0x0800, &ip))),
        ("MPLS in UDP, no IP", over_udp(6635, "000201ff 10000000", &[0; 20])),
        ("MikroTik keep-alive", v4(47, &hex("2001 6400 0000 0100"))),
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

#[test]
fn ethernet_of_mikrotik_in_gre() {
    // A gateway's helper of GRE version 1 refuses other protocols than PPP.
    let ip = v4(47, &join(&[&hex("2001 6400 003b 0100"), &ethernet(0x0800, &inner_v4())]));
    let [outer, inner] = both(&ip)[..] else { panic!("two packets") };
    assert!(outer.malformed && !inner.malformed);
    assert_eq!((inner.tunnel.kind, inner.tuple), (Gre, decode_ip(&inner_v4()).tuple));
}

#[test]
fn gtpu_on_another_port_of_both_ends() {
    let ip = inner_v4();
    let datagram = |sport: u16, dport: u16, length: u16, payload: &[u8]| {
        decode_ip(&v4(17, &udp(sport, dport, &join(&[&hex("30ff"), &length.to_be_bytes(), &hex("12345678"), payload]))))
    };
    let length = ip.len() as u16;
    assert_eq!(datagram(3386, 3386, length, &ip).tunnel.kind, Gtpu);
    // Other ends, another length, and bytes behind the packet.
    assert_eq!(datagram(3386, 3387, length, &ip).tunnel.kind, TunnelKind::None);
    assert_eq!(datagram(3386, 3386, length + 1, &ip).tunnel.kind, TunnelKind::None);
    assert_eq!(datagram(3386, 3386, length + 1, &join(&[&ip, &[0]])).tunnel.kind, TunnelKind::None);
}

#[test]
fn a_carrier_with_a_wrong_checksum_is_not_opened() {
    for (name, kind, _, ip) in tunnels() {
        for checksum in [false, true] {
            let mut decoder = Decoder::new(Options { tunnels: TunnelMode::Inner, checksum });
            let mut broken = ip.clone();
            // The checksum of UDP, or that of an IPv4 header.
            match (ip[0] >> 4, ip[9], ip[6]) {
                (4, 17, _) => broken[26..28].copy_from_slice(&[0xba, 0xd0]),
                (4, ..) => broken[10..12].copy_from_slice(&[0xba, 0xd0]),
                (_, _, 17) => broken[46..48].copy_from_slice(&[0xba, 0xd0]),
                _ => continue,
            }
            let mut packets = Vec::new();
            decoder.decode(&record(101, &broken, broken.len()), &broken, &mut packets).unwrap();
            let expected = if checksum { TunnelKind::None } else { kind };
            assert_eq!((packets[0].tunnel.kind, packets[0].bad_checksum), (expected, checksum), "{name}");
        }
    }
}

#[test]
fn tunnels_over_ipv6_may_go_without_a_checksum() {
    let frame = ethernet(0x0800, &inner_v4());
    for (dport, inside) in [(4789, 1), (4790, 1), (53, 0)] {
        let mut ip = v6(17, &udp(9, dport, &join(&[&hex("08000000 00000100"), &frame])));
        ip[46..48].copy_from_slice(&[0, 0]);
        let mut packets = Vec::new();
        let mut decoder = Decoder::new(Options { tunnels: TunnelMode::Inner, checksum: true });
        decoder.decode(&record(101, &ip, ip.len()), &ip, &mut packets).unwrap();
        assert_eq!((packets[0].tunnel.vni, packets[0].bad_checksum), (inside, inside == 0), "{dport}");
    }
}

#[test]
fn a_hundred_tunnels_in_each_other_end_at_the_deepest_level() {
    let over = |dport: u16, header: &str, ip: &[u8]| v4(17, &udp(dport, dport, &join(&[&hex(header), ip])));
    let gtpu = |ip: &[u8]| over(2152, &format!("30ff {:04x} 00000000", ip.len()), ip);
    let wrap = |kind: TunnelKind, ip: &[u8]| match kind {
        Gre => v4(47, &join(&[&hex("0000 0800"), ip])),
        Erspan => v4(47, &join(&[&hex("0000 88be"), &ethernet(0x0800, ip)])),
        IpIp => v6(4, ip),
        Vxlan => over(4789, "08000000 00000100", &ethernet(0x0800, ip)),
        Geneve => over(6081, "0000 0800 00000100", ip),
        Gtpu => gtpu(ip),
        Mpls => over(6635, "000201ff", ip),
        L2tp => over(1701, "0002 0001 0002 ff03 0021", ip),
        Lisp => over(4341, "80000001 00000001", ip),
        EtherIp => v4(97, &join(&[&hex("3000"), &ethernet(0x0800, ip)])),
        _ => v4(4, ip),
    };
    let kinds = [Gre, Erspan, Vxlan, Geneve, Gtpu, Mpls, L2tp, Lisp, EtherIp, TunnelKind::None];
    for outer in kinds {
        for inner in kinds {
            let mut ip = inner_v4();
            for level in 0..100 {
                ip = wrap(if level % 2 == 0 { inner } else { outer }, &ip);
            }
            assert_eq!(both(&ip).len(), 8, "{outer:?} {inner:?}");
            for mode in [TunnelMode::Inner, TunnelMode::Outer] {
                assert_eq!(decode_as(mode, RAW, &ip).unwrap().len(), 1);
            }
        }
    }
}

/// Numbers of a fixed sequence (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Bytes of a payload of 8 to 1287 bytes.
    fn payload(&mut self) -> Vec<u8> {
        (0..=self.next() % 160).flat_map(|_| self.next().to_be_bytes()).collect()
    }
}

/// Payloads per port in [`other_protocols_open_no_tunnel`].
const PAYLOADS: usize = 3_000;

#[test]
fn other_protocols_open_no_tunnel() {
    // Starts of RTP, QUIC, DNS, NTP, STUN, WireGuard, and of a GTP-U header with any length.
    let starts =
        ["", "8060", "80e0", "c0 00000001 08", "40", "1234 0100 0001", "23", "0001 0000 2112a442", "04000000", "30ff"];
    let mut numbers = Numbers(7);
    let tunnels = [1701, 2152, 3544, 4341, 4754, 4755, 4789, 4790, 5072, 6081, 6635, 8472];
    for port in [53, 123, 443, 3478, 5004, 5060, 27_015, 40_000, 51_820].into_iter().chain(tunnels) {
        let mut opened = 0;
        for number in 0..PAYLOADS {
            let mut payload = numbers.payload();
            let start = hex(starts[number % starts.len()]);
            payload.splice(..start.len().min(payload.len()), start);
            // The same port at both ends, as with GTP-U, and an answer to a client that has a tunnel's port.
            let sport = if number % 2 == 0 { port } else { 443 };
            // A fragment within a tunnel may give no packet.
            let packets = decode_as(TunnelMode::Inner, RAW, &v4(17, &udp(sport, port, &payload))).unwrap();
            opened += usize::from(packets.iter().all(|packet| packet.tunnel.kind != TunnelKind::None));
        }
        assert_eq!(opened, 0, "port {port}");
    }
}

#[test]
fn a_tunnel_with_little_of_a_header_is_filled_by_its_packet() {
    let (ip, six) = (inner_v4(), v6(6, &tcp(0x18, &[], b"inner")));
    for (port, header) in [(4341, "80000001 00000001"), (6635, "000201ff"), (3544, "")] {
        for (inner, checked) in [(&ip, true), (&six, false)] {
            if port == 3544 && checked {
                continue;
            }
            let kind = |payload: &[u8]| {
                decode_ip(&v4(17, &udp(50_000, port, &join(&[&hex(header), payload])))).tunnel.kind != TunnelKind::None
            };
            let mut wrong = inner.clone();
            wrong[if checked { 10 } else { 7 }] ^= 0x55;
            assert_eq!((kind(inner), kind(&wrong)), (true, true), "{port}");
            // With bytes behind the packet, the checksum of an IPv4 header decides.
            assert_eq!((kind(&join(&[inner, &[0; 9]])), kind(&join(&[&wrong, &[0; 9]]))), (checked, false), "{port}");
        }
    }
}
