//! Link layers.

use super::super::testkit::*;
use super::super::{SUPPORTED, Skip, TunnelMode, Vlan, supports};
use conntrack_capture::LinkType;

/// VID + 1, as in [`Vlan`].
fn tags(outer: u16, inner: u16) -> Vlan {
    Vlan { outer: outer + 1, inner: if inner == 0 { 0 } else { inner + 1 } }
}

#[test]
fn every_link_layer_leads_to_the_same_packet() {
    let ip = inner_v4();
    let plain = decode_ip(&ip);
    for (name, linktype, prefix) in links() {
        // A trailer, such as Ethernet padding or a frame check sequence, does not count.
        let frame = join(&[&prefix, &ip, &[0xee; 9]]);
        let packet = decode(linktype, &frame).unwrap_or_else(|skip| panic!("{name}: {skip:?}"));
        assert_eq!(packet.tuple, plain.tuple, "{name}");
        assert_eq!((packet.ip_bytes, packet.payload_bytes), (45, 5), "{name}");
        assert_eq!(packet.l4, plain.l4, "{name}");
        assert!(!packet.to_group && !packet.bad_checksum && !packet.malformed && !packet.fragment, "{name}");
    }
}

#[test]
fn exactly_the_supported_link_types_are_decoded() {
    for number in 0..=u16::MAX {
        let refused = decode(number, &[0; 64]) == Err(Skip::LinkType);
        // PPI names an inner link type, here 0.
        assert_eq!(supports(LinkType(number)), !refused, "{number}");
    }
    let mut built: Vec<u16> = links().iter().map(|(_, linktype, _)| *linktype).chain([229, 239]).collect();
    built.sort_unstable();
    built.dedup();
    assert_eq!(built, SUPPORTED.iter().map(|linktype| linktype.0).collect::<Vec<_>>(), "each has a test");
}

#[test]
fn the_first_two_vlan_tags_are_kept() {
    let ip = inner_v4();
    let expected = [
        ("802.1Q", tags(5, 0)),
        ("QinQ", tags(100, 200)),
        ("old service tags", tags(1, 2)),
        ("802.1Q LLC", tags(5, 0)),
        ("802.1ah", tags(1, 7)),
        ("VN-Tag in a VLAN", tags(5, 6)),
        ("FabricPath, tags", tags(5, 6)),
        ("DSA_TAG_BRCM, VLAN", tags(5, 0)),
        ("DSA_TAG_DSA, VLAN", tags(5, 0)),
        ("DSA_TAG_EDSA, VLAN", tags(5, 0)),
        ("TRILL", tags(6, 0)),
        ("HSR in a VLAN", tags(5, 6)),
        ("MACsec, channel", tags(6, 0)),
        ("SLL VLAN", tags(100, 0)),
        ("Ethernet II", Vlan::default()),
    ];
    for (name, vlan) in expected {
        let (_, linktype, prefix) = links().into_iter().find(|link| link.0 == name).unwrap();
        assert_eq!(decode(linktype, &join(&[&prefix, &ip])).unwrap().vlan, vlan, "{name}");
    }
}

#[test]
fn vid_0_is_a_priority_and_no_vlan() {
    let frame = ethernet(0x8100, &join(&[&hex("e000 0800"), &inner_v4()]));
    assert_eq!(decode(ETHERNET, &frame).unwrap().vlan, Vlan::default());
}

#[test]
fn ipv6_over_each_way_to_name_it() {
    let ip = v6(17, &udp(1, 2, b"x"));
    let prefixes = [
        (ETHERNET, hex("020000000002 020000000001 86dd")),
        (229, vec![]),
        (RAW, vec![]),
        (9, hex("57")),
        (107, hex("1841 03 8e")),
        (113, hex("0000 0001 0006 0200000000010000 86dd")),
        (0, hex("18000000")),
        (0, hex("0000001c")),
        (0, hex("1e000000")),
        (0, hex("0a000000")),
    ];
    for (linktype, prefix) in prefixes {
        let packet = decode(linktype, &join(&[&prefix, &ip])).unwrap_or_else(|s| panic!("{linktype}: {s:?}"));
        assert_eq!((packet.tuple, packet.ip_bytes), (decode_ip(&ip).tuple, 49), "{linktype}");
    }
}

#[test]
fn nflog_in_either_byte_order() {
    for little_endian in [true, false] {
        let packet = decode(239, &nflog(2, little_endian, &inner_v4())).unwrap();
        assert_eq!(packet.tuple, decode_ip(&inner_v4()).tuple);
        let v6 = v6(17, &udp(1, 2, b""));
        assert_eq!(decode(239, &nflog(10, little_endian, &v6)).unwrap().tuple, decode_ip(&v6).tuple);
        // Bridges log with their own address family.
        assert_eq!(decode(239, &nflog(7, little_endian, &v6)).unwrap().tuple, decode_ip(&v6).tuple);
    }
}

#[test]
fn group_addresses_of_the_link_layer() {
    let ip = inner_v4();
    let frames = [
        (ETHERNET, "ffffffffffff 020000000001 0800"),
        (ETHERNET, "01005e000001 020000000001 8100 0001 0800"),
        // The customer's frame counts, not the backbone's.
        (ETHERNET, "020000000001 020000000002 88e7 00012345 ffffffffffff 020000000003 0800"),
        (113, "0001 0001 0006 0200000000010000 0800"),
        (113, "0002 0001 0006 0200000000010000 0800"),
        (276, "0800 0000 00000002 0001 02 06 0200000000010000"),
        // To the distribution system: the destination is the third address.
        (105, "0801 0000 020000000002 020000000001 ffffffffffff 0000 aaaa03 000000 0800"),
        (105, "0802 0000 ffffffffffff 020000000001 020000000003 0000 aaaa03 000000 0800"),
    ];
    for (linktype, prefix) in frames {
        assert!(decode(linktype, &join(&[&hex(prefix), &ip])).unwrap().to_group, "{prefix}");
    }
}

#[test]
fn frames_without_ip() {
    let frames = [
        ("ARP", ETHERNET, "020000000002 020000000001 0806 0001 0800"),
        ("spanning tree", ETHERNET, "0180c2000000 020000000001 0026 424203 0000"),
        ("CDP", ETHERNET, "01000ccccccc 020000000001 0050 aaaa03 00000c 2000"),
        ("PPPoE discovery code", ETHERNET, "020000000002 020000000001 8864 1109 0001 0004 0021"),
        ("PPP LCP", 9, "c021 0101"),
        ("802.11 beacon", 105, "8000 0000"),
        ("802.11 null", 105, "4801 0000"),
        ("802.11 later fragment", 105, "0802 0000 020000000002 020000000001 020000000003 0100"),
        ("netlink", 113, "0004 0338 0000 0000000000000000 0800"),
        ("AppleTalk in NULL", 0, "10000000"),
        ("compressed SLIP", 8, "0080 0000000000000000000000000000"),
        ("raw garbage", RAW, "00"),
    ];
    for (name, linktype, frame) in frames {
        assert_eq!(decode(linktype, &join(&[&hex(frame), &[0; 40]])), Err(Skip::NotIp), "{name}");
    }
}

#[test]
fn encrypted_frames_say_so() {
    let frame = hex("0842 0000 020000000002 020000000001 020000000003 0000 0011223344556677");
    assert_eq!(decode(105, &frame), Err(Skip::Encrypted));
}

#[test]
fn endless_tags_end() {
    let frame = ethernet(0x8100, &hex("0001 8100").repeat(40));
    assert_eq!(decode(ETHERNET, &frame), Err(Skip::TooDeep));
    let labels = ethernet(0x8847, &[0; 400]);
    assert_eq!(decode(ETHERNET, &labels), Err(Skip::TooDeep));
    // PPI in PPI.
    assert_eq!(decode(192, &hex("0000 0800 c0000000 0000 0800 01000000")), Err(Skip::LinkType));
}

#[test]
fn macsec_with_encryption_is_not_opened() {
    let frame = |control: u8| ethernet(0x88e5, &join(&[&[control], &hex("00 00000001 0800"), &inner_v4()]));
    assert!(decode(ETHERNET, &frame(0)).is_ok());
    // Encrypted and changed, and changed by a cipher that only authenticates.
    for control in [0x0c, 0x08, 0x04] {
        assert_eq!(decode(ETHERNET, &frame(control)), Err(Skip::Encrypted), "{control:#x}");
    }
}

#[test]
fn tags_of_other_protocols_are_no_ip() {
    let others = [
        (0x8899, "0100 0800"),
        (0x8899, "2300 0800"),
        (0xd28b, "0002 0110 0000000100000002 0800"),
        (0xd28b, "0001 0030 0000000100000002 0800"),
        (0x894f, "0002 0206 00000100"),
    ];
    for (kind, header) in others {
        let frame = ethernet(kind, &join(&[&hex(header), &inner_v4()]));
        assert_eq!(decode(ETHERNET, &frame), Err(Skip::NotIp), "{kind:#x} {header}");
    }
}

#[test]
fn a_prp_trailer_counts_nowhere() {
    // Sequence number, LAN and size, suffix (IEC 62439-3 section 4.2.7); without and with padding before.
    for padding in [0, 6] {
        let frame = ethernet(0x0800, &join(&[&inner_v4(), &vec![0; padding], &hex("0001 a033 88fb")]));
        assert_eq!(decode(ETHERNET, &frame).unwrap(), decode(ETHERNET, &ethernet(0x0800, &inner_v4())).unwrap());
    }
}

#[test]
fn rare_link_layers_without_ip() {
    let ip = inner_v4();
    let erf = |kind: &str| format!("0000000000000000 {kind} 04 0050 0000 0040");
    let cases = [
        ("ARCNET, later fragment", 7, "01 02 d4 02 0001".to_owned()),
        ("MFR, later fragment", 182, "40 01 1841 03 cc".to_owned()),
        ("MFR, control", 182, "e0 00 1841 03 cc".to_owned()),
        ("LAN emulation, control", 110, "ff00 020000000002 020000000001 0800".to_owned()),
        ("SUNATM, signalling", 123, "06 01 0005 aaaa03 000000 0800".to_owned()),
        ("ERF, InfiniBand", 197, erf("15")),
        ("Juniper without its magic", 178, "4d4744 00 020000000002 020000000001 0800".to_owned()),
        ("SLL CAN", 113, "0000 0118 0000 0000000000000000 000c".to_owned()),
    ];
    for (name, linktype, header) in cases {
        assert_eq!(decode(linktype, &join(&[&hex(&header), &ip])), Err(Skip::NotIp), "{name}");
    }
    let endless = join(&[&hex(&erf("82")), &hex("8000000000000000").repeat(20)]);
    assert_eq!(decode(197, &endless), Err(Skip::TooDeep));
}

#[test]
fn of_an_aggregate_the_first_subframe_with_ip_counts() {
    // Subframe headers are aligned to four bytes (IEEE 802.11-2020 section 9.3.2.2.2).
    let subframe = |kind: u16, payload: &[u8]| {
        let llc = join(&[&hex("aaaa03 000000"), &kind.to_be_bytes(), payload]);
        let mut subframe = join(&[&hex("020000000002 020000000001"), &(llc.len() as u16).to_be_bytes(), &llc]);
        subframe.resize(subframe.len().next_multiple_of(4), 0);
        subframe
    };
    let wlan = |subframes: &[&[u8]]| {
        let header = hex("8802 0000 020000000002 020000000001 020000000003 0000 8000");
        join(&[&header, &join(subframes)])
    };
    let (arp, one, other) =
        (subframe(0x0806, &[0; 28]), subframe(0x0800, &inner_v4()), subframe(0x0800, &v4(17, &udp(5, 6, b"other"))));
    for (frame, dport, passed_over) in [
        (wlan(&[&one]), 80, 0),
        (wlan(&[&one, &other]), 80, 1),
        (wlan(&[&other, &one, &arp]), 6, 2),
        (wlan(&[&arp, &other]), 6, 1),
        (wlan(&[&one, &[0; 20]]), 80, 0),
    ] {
        for over_gre in [false, true] {
            let mut decoder = decoder(TunnelMode::Inner);
            let (linktype, frame) =
                if over_gre { (228, v4(47, &join(&[&hex("0000 8200"), &frame]))) } else { (105, frame.clone()) };
            let mut packets = Vec::new();
            assert_eq!(decoder.decode(&record(linktype, &frame, frame.len()), &frame, &mut packets), Ok(()));
            assert_eq!(packets.len(), 1);
            assert_eq!((packets[0].tuple.dport, decoder.subframes()), (dport, passed_over));
        }
    }
    assert_eq!(decode(105, &wlan(&[&arp])), Err(Skip::NotIp));
    assert_eq!(decode(105, &wlan(&[])), Err(Skip::NotIp));
}
