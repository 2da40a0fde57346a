//! Fragments.

use super::super::fragment::{IPFRAG_TIME, MOST_DATAGRAMS, NF_CONNTRACK_FRAG6_TIMEOUT};
use super::super::testkit::*;
use super::super::{Decoder, L4, Packet, Skip, TunnelKind, TunnelMode};

/// Feed one record to a decoder and return its packets.
fn feed(decoder: &mut Decoder, ts: i64, ip: &[u8]) -> Result<Vec<Packet>, Skip> {
    let mut out = Vec::new();
    let mut record = record(RAW, ip, ip.len());
    record.ts = ts;
    decoder.decode(&record, ip, &mut out).map(|()| out)
}

fn feed_all(decoder: &mut Decoder, pieces: &[Vec<u8>]) -> Vec<Packet> {
    pieces.iter().flat_map(|piece| feed(decoder, 0, piece).expect("a fragment")).collect()
}

/// Sums that do not depend on the order: packets, IP bytes, payload bytes.
fn totals(packets: &[Packet]) -> (u32, u32, u32) {
    packets.iter().fold((0, 0, 0), |(n, ip, payload), p| (n + p.packets, ip + p.ip_bytes, payload + p.payload_bytes))
}

/// A UDP datagram of 2,000 bytes, in three fragments.
fn pieces_v4(id: u16, sport: u16) -> Vec<Vec<u8>> {
    let datagram = udp(sport, 53, &[1; 2000]);
    vec![
        v4_piece(id, 0, true, 17, &datagram[..800]),
        v4_piece(id, 800, true, 17, &datagram[800..1600]),
        v4_piece(id, 1600, false, 17, &datagram[1600..]),
    ]
}

fn pieces_v6(id: u32) -> Vec<Vec<u8>> {
    let datagram = udp(9, 53, &[1; 2000]);
    vec![v6_piece(id, 0, true, 17, &datagram[..1200]), v6_piece(id, 1200, false, 17, &datagram[1200..])]
}

#[test]
fn in_order() {
    let packets = feed_all(&mut decoder(TunnelMode::Inner), &pieces_v4(1, 9));
    assert_eq!(packets.len(), 3);
    assert_eq!((packets[0].packets, packets[0].ip_bytes, packets[0].payload_bytes), (1, 820, 792));
    assert_eq!((packets[1].packets, packets[1].ip_bytes, packets[1].payload_bytes), (0, 800, 800));
    assert_eq!(totals(&packets), (1, 2028, 2000));
    assert!(packets.iter().all(|p| p.tuple == packets[0].tuple && p.tuple.sport == 9 && p.fragment && !p.malformed));
    // The last fragment completes the datagram, and carries its verdict.
    assert_eq!(
        packets.iter().map(|p| (p.complete, p.l4)).collect::<Vec<_>>(),
        [(false, L4::Udp), (false, L4::Other), (true, L4::Udp)]
    );
    assert_eq!(packets[2].segment_bytes, 2000);
}

/// The extension headers behind the fragment header are in the first fragment alone.
#[test]
fn extension_headers_of_a_fragmented_datagram() {
    let options = hex("1100 0104 00000000");
    let datagram = join(&[&options, &udp(9, 53, &[0x3c; 56])]);
    let pieces = [v6_piece(3, 0, true, 60, &datagram[..32]), v6_piece(3, 32, false, 60, &datagram[32..])];
    let packets = feed_all(&mut decoder(TunnelMode::Inner), &pieces);
    assert!(packets.iter().all(|p| (p.tuple.proto, p.tuple.sport, p.tuple.dport) == (17, 9, 53)), "{packets:?}");
    assert_eq!(totals(&packets), (1, 40 + 72, 56));
}

#[test]
fn in_every_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let pieces = pieces_v4(1, 9);
        let mut decoder = decoder(TunnelMode::Inner);
        let packets = feed_all(&mut decoder, &order.map(|i| pieces[i].clone()));
        assert_eq!(totals(&packets), (1, 2028, 2000), "{order:?}");
        assert!(packets.iter().all(|p| p.tuple.sport == 9), "{order:?}");
        assert_eq!(decoder.orphans(), 0, "{order:?}");
        let complete: Vec<Packet> = packets.iter().filter(|p| p.complete).copied().collect();
        assert!(
            matches!(complete[..], [Packet { segment_bytes: 2000, l4: L4::Udp, malformed: false, .. }]),
            "{order:?}"
        );
    }
}

#[test]
fn ipv6_in_both_orders() {
    for reversed in [false, true] {
        let mut pieces = pieces_v6(77);
        if reversed {
            pieces.reverse();
        }
        let packets = feed_all(&mut decoder(TunnelMode::Inner), &pieces);
        // The fragment header does not count for the datagram.
        assert_eq!(totals(&packets), (1, 40 + 2008, 2000));
        assert!(packets.iter().all(|p| p.tuple.sport == 9 && p.tuple.proto == 17));
    }
}

#[test]
fn interleaved() {
    let (a, b) = (pieces_v4(1, 100), pieces_v4(2, 200));
    let order = [&b[2], &a[0], &b[0], &a[2], &b[1], &a[1]].map(Clone::clone);
    let packets = feed_all(&mut decoder(TunnelMode::Inner), &order);
    for sport in [100, 200] {
        let own: Vec<Packet> = packets.iter().filter(|p| p.tuple.sport == sport).copied().collect();
        assert_eq!(totals(&own), (1, 2028, 2000), "{sport}");
    }
}

#[test]
fn a_lost_first_fragment_leaves_orphans() {
    let mut decoder = decoder(TunnelMode::Inner);
    assert!(feed_all(&mut decoder, &pieces_v4(1, 9)[1..]).is_empty());
    assert_eq!(decoder.orphans(), 2);
}

#[test]
fn datagrams_are_forgotten_after_their_time() {
    let v4 = |ts| (pieces_v4(1, 9), ts);
    let v6 = |ts| (pieces_v6(1), ts);
    for ((pieces, ts), known) in [
        (v4(IPFRAG_TIME), true),
        (v4(IPFRAG_TIME + 1), false),
        (v6(NF_CONNTRACK_FRAG6_TIMEOUT), true),
        (v6(NF_CONNTRACK_FRAG6_TIMEOUT + 1), false),
    ] {
        let mut decoder = decoder(TunnelMode::Inner);
        feed(&mut decoder, 0, &pieces[0]).unwrap();
        assert_eq!(feed(&mut decoder, ts, &pieces[1]).unwrap().len(), usize::from(known));
        assert_eq!(decoder.orphans(), u64::from(!known));
    }
    // Early fragments too: their bytes do not count for a later datagram.
    let mut decoder = decoder(TunnelMode::Inner);
    let pieces = pieces_v4(1, 9);
    feed(&mut decoder, 0, &pieces[1]).unwrap();
    let first = feed(&mut decoder, IPFRAG_TIME + 1, &pieces[0]).unwrap();
    assert_eq!((totals(&first), decoder.orphans()), ((1, 820, 792), 1));
}

#[test]
fn a_clock_that_goes_back_forgets_nothing() {
    let mut decoder = decoder(TunnelMode::Inner);
    let pieces = pieces_v4(1, 9);
    feed(&mut decoder, i64::MAX, &pieces[0]).unwrap();
    assert_eq!(feed(&mut decoder, i64::MIN, &pieces[1]).unwrap().len(), 1);
}

#[test]
fn a_second_first_fragment_replaces_the_entry() {
    let mut decoder = decoder(TunnelMode::Inner);
    let (a, b) = (pieces_v4(1, 100), pieces_v4(1, 200));
    feed_all(&mut decoder, &[a[0].clone(), a[1].clone(), b[0].clone()]);
    assert_eq!(feed(&mut decoder, 0, &b[1]).unwrap()[0].tuple.sport, 200);
    // Repeated replacement does not grow memory.
    for _ in 0..1000 {
        feed(&mut decoder, 0, &a[0]).unwrap();
    }
    assert_eq!(decoder.remembered(), (1, 1));
}

#[test]
fn a_first_fragment_without_ports_is_not_remembered() {
    let mut decoder = decoder(TunnelMode::Inner);
    assert_eq!(feed(&mut decoder, 0, &v4_piece(1, 0, true, 17, &[0, 1])), Err(Skip::Truncated));
    assert!(feed(&mut decoder, 0, &pieces_v4(1, 9)[1]).unwrap().is_empty());
    assert_eq!(decoder.orphans(), 1);
}

#[test]
fn memory_is_bounded_and_the_oldest_goes_first() {
    let mut decoder = decoder(TunnelMode::Inner);
    let extra = 10;
    for id in 0..(MOST_DATAGRAMS + extra) as u32 {
        feed(&mut decoder, 0, &pieces_v6(id)[0]).unwrap();
    }
    assert_eq!(decoder.remembered(), (MOST_DATAGRAMS, MOST_DATAGRAMS));
    assert!(feed(&mut decoder, 0, &pieces_v6(0)[1]).unwrap().is_empty(), "the oldest is gone");
    assert_eq!(feed(&mut decoder, 0, &pieces_v6(2 * extra as u32)[1]).unwrap().len(), 1, "a younger one is not");
}

#[test]
fn protocols_without_payload_bytes_have_none_in_fragments() {
    let pieces = [v4_piece(1, 0, true, 50, &[7; 80]), v4_piece(1, 80, false, 50, &[7; 40])];
    assert_eq!(totals(&feed_all(&mut decoder(TunnelMode::Inner), &pieces)), (1, 140, 0));
}

#[test]
fn vlans_keep_datagrams_apart() {
    let mut decoder = decoder(TunnelMode::Inner);
    let mut out = Vec::new();
    let pieces = pieces_v4(1, 9);
    for (vid, piece) in [("0001", &pieces[0]), ("0002", &pieces[1])] {
        let frame = ethernet(0x8100, &join(&[&hex(vid), &hex("0800"), piece]));
        decoder.decode(&record(ETHERNET, &frame, frame.len()), &frame, &mut out).unwrap();
    }
    assert_eq!((out.len(), decoder.orphans()), (1, 1));
}

/// A VXLAN datagram in two fragments, with the inner packet's headers in the first.
fn tunnelled() -> [Vec<u8>; 2] {
    let inner = ethernet(0x0800, &v4(6, &tcp(0x10, &[], &[1; 1000])));
    let carrier = udp(50_000, 4789, &join(&[&hex("08000000 00002a00"), &inner]));
    [v4_piece(5, 0, true, 17, &carrier[..800]), v4_piece(5, 800, false, 17, &carrier[800..])]
}

#[test]
fn the_inner_header_speaks_for_all_fragments_of_its_carrier() {
    for reversed in [false, true] {
        let [first, later] = tunnelled();
        let order = if reversed { [later, first] } else { [first, later] };
        let mut decoder = decoder(TunnelMode::Inner);
        let packets = feed_all(&mut decoder, &order);
        assert_eq!(totals(&packets), (1, 1040, 1000));
        assert_eq!(decoder.orphans(), 0);
        for packet in packets {
            assert_eq!((packet.tuple.dport, packet.tunnel.kind, packet.tunnel.vni), (80, TunnelKind::Vxlan, 42));
        }
    }
}

/// A fragment that does not complete the carrier, whose own headers are those of the carrier.
#[test]
fn a_middle_fragment_of_a_carrier_has_the_keys_of_the_inner_packet() {
    let echo = v4(1, &join(&[&hex("0800 0000 0102 0001"), &[1; 1000]]));
    let inner = ethernet(0x8100, &join(&[&hex("0007 0800"), &echo]));
    let carrier = udp(50_000, 4789, &join(&[&hex("08000000 00002a00"), &inner]));
    let pieces = [v4_piece(5, 0, true, 17, &carrier[..400]), v4_piece(5, 400, true, 17, &carrier[400..800])];
    let packets = feed_all(&mut decoder(TunnelMode::Inner), &pieces);
    let keys = |packet: &Packet| (packet.tuple, packet.vlan, packet.tunnel, packet.flow_id);
    assert_eq!(keys(&packets[1]), keys(&packets[0]));
    assert_eq!((packets[0].tuple.proto, packets[0].flow_id, packets[0].tunnel.vni), (1, 0x0102, 42));
}

#[test]
fn a_udp_length_beyond_the_whole_datagram_is_malformed() {
    for (length, malformed) in [(7, true), (8, false), (2007, false), (2008, false), (2009, true)] {
        let mut datagram = udp(9, 53, &[1; 2000]);
        datagram[4..6].copy_from_slice(&u16::to_be_bytes(length));
        let pieces = [v4_piece(1, 0, true, 17, &datagram[..800]), v4_piece(1, 800, false, 17, &datagram[800..])];
        let packets = feed_all(&mut decoder(TunnelMode::Inner), &pieces);
        assert_eq!((packets[1].complete, packets[1].malformed), (true, malformed), "{length}");
    }
}

#[test]
fn outer_and_both_give_later_fragments_to_the_carrier() {
    let carrier_bytes = 20 + 8 + 8 + 14 + 1040;
    let packets = feed_all(&mut decoder(TunnelMode::Outer), &tunnelled());
    assert_eq!(totals(&packets), (1, carrier_bytes, carrier_bytes - 28));
    let packets = feed_all(&mut decoder(TunnelMode::Both), &tunnelled());
    // The inner packet is complete, and judged, with the fragment that completes its carrier.
    let seen = packets.iter().map(|p| (p.tuple.dport, p.packets, p.complete));
    assert_eq!(seen.collect::<Vec<_>>(), [(4789, 1, false), (80, 1, false), (4789, 0, true), (80, 0, true)]);
    assert_eq!((packets[3].segment_bytes, packets[3].datagram_bytes), (1000, 1040));
    assert_eq!(totals(&[packets[0], packets[2]]), (1, carrier_bytes, carrier_bytes - 28));
    assert_eq!(totals(&packets[1..2]), (1, 1040, 1000));
}

#[test]
fn fragments_inside_a_tunnel() {
    let carry = |piece: &Vec<u8>| v4(47, &join(&[&hex("0000 0800"), piece]));
    let pieces = pieces_v4(1, 9);
    let mut decoder = decoder(TunnelMode::Inner);
    let packets = feed_all(&mut decoder, &[carry(&pieces[2]), carry(&pieces[0]), carry(&pieces[1])]);
    assert_eq!(totals(&packets), (1, 2028, 2000));
    assert!(packets.iter().all(|p| p.tunnel.kind == TunnelKind::Gre && p.tuple.sport == 9));
    // An equal datagram outside of the tunnel is a different datagram.
    assert!(feed(&mut decoder, 0, &pieces[1]).unwrap().is_empty());
}

#[test]
fn an_early_fragment_inside_a_fragmented_carrier_leaves_nothing_behind() {
    let carrier = join(&[&hex("0000 0800"), &pieces_v4(1, 9)[1]]);
    let outer = [v4_piece(5, 0, true, 47, &carrier[..400]), v4_piece(5, 400, false, 47, &carrier[400..])];
    let mut decoder = decoder(TunnelMode::Inner);
    assert!(feed_all(&mut decoder, &outer).is_empty());
    assert_eq!(decoder.orphans(), 2);
}
