//! Builders of test packets, with valid lengths and checksums.

use super::{Addr, Decoder, Family, FiveTuple, L4, Options, Packet, Skip, TunnelMode};
use conntrack_capture::{LinkType, Record};

pub const ETHERNET: u16 = 1;
pub const RAW: u16 = 101;

/// Source address of every IPv4 packet here.
pub const V4_SRC: [u8; 4] = [10, 0, 0, 1];
pub const V4_DST: [u8; 4] = [10, 0, 0, 2];

/// Bytes from hexadecimal digits; blanks are ignored.
pub fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| ((pair[0] << 4) | pair[1]) as u8).collect()
}

pub fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Internet checksum, after the words of RFC 1071.
fn sum16(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| (u32::from(pair[0]) << 8) | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Offset of the Internet checksum in a transport header.
fn checksum_at(proto: u8) -> Option<usize> {
    match proto {
        6 => Some(16),
        17 | 136 => Some(6),
        1 | 58 => Some(2),
        _ => None,
    }
}

fn with_checksum(proto: u8, pseudo: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    if let Some(at) = checksum_at(proto).filter(|at| payload.len() >= at + 2) {
        put(&mut payload, at, 0);
        let sum = if proto == 1 { sum16(&[&payload]) } else { sum16(&[pseudo, &payload]) };
        put(&mut payload, at, sum);
    }
    payload
}

/// An IPv4 fragment; `offset` in bytes. Its transport checksum is left unset.
pub fn v4_piece(id: u16, offset: u16, more: bool, proto: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = hex("4500 0000 0000 0000 4000 0000 0a000001 0a000002");
    put(&mut header, 2, (20 + payload.len()) as u16);
    put(&mut header, 4, id);
    put(&mut header, 6, (offset / 8) | if more { 0x2000 } else { 0 });
    header[9] = proto;
    let sum = sum16(&[&header]);
    put(&mut header, 10, sum);
    join(&[&header, payload])
}

/// A whole IPv4 packet from [`V4_SRC`] to [`V4_DST`].
pub fn v4(proto: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let pseudo = join(&[&V4_SRC, &V4_DST, &[0, proto], &length]);
    v4_piece(7, 0, false, proto, &with_checksum(proto, &pseudo, payload))
}

/// A whole IPv6 packet from 2001:db8::1 to 2001:db8::2; `next` may be an extension header's number.
pub fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = hex("60000000 0000 0040 20010db8000000000000000000000001 20010db8000000000000000000000002");
    put(&mut header, 4, payload.len() as u16);
    header[6] = next;
    let length = (payload.len() as u32).to_be_bytes();
    let pseudo = join(&[&header[8..40], &length, &[0, 0, 0, next]]);
    join(&[&header, &with_checksum(next, &pseudo, payload)])
}

/// An IPv6 fragment.
pub fn v6_piece(id: u32, offset: u16, more: bool, proto: u8, payload: &[u8]) -> Vec<u8> {
    let header = join(&[&[proto, 0], &(offset | u16::from(more)).to_be_bytes(), &id.to_be_bytes()]);
    v6(44, &join(&[&header, payload]))
}

/// A TCP segment from 1000 to 80; `options` in whole words.
pub fn tcp(flags: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
    let mut header = hex("03e8 0050 00000064 000000c8 50 00 0400 0000 0000");
    header[12] = (((20 + options.len()) / 4) << 4) as u8;
    header[13] = flags;
    join(&[&header, options, data])
}

/// A UDP datagram.
pub fn udp(sport: u16, dport: u16, data: &[u8]) -> Vec<u8> {
    let length = (8 + data.len()) as u16;
    join(&[&sport.to_be_bytes(), &dport.to_be_bytes(), &length.to_be_bytes(), &[0, 0], data])
}

/// An Ethernet II frame between two stations.
pub fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    join(&[&hex("020000000002 020000000001"), &kind.to_be_bytes(), payload])
}

/// Inner packet of the test tunnels: TCP 1000 to 80.
pub fn inner_v4() -> Vec<u8> {
    v4(6, &tcp(0x18, &[], b"inner"))
}

/// A record of `len` bytes on the wire; `bytes` may be fewer.
pub fn record(linktype: u16, bytes: &[u8], len: usize) -> Record {
    Record {
        ts: 0,
        offset: 0,
        start: 0,
        caplen: bytes.len() as u32,
        len: len as u32,
        file: 0,
        linktype: LinkType(linktype),
        abridged: false,
        unsummed: false,
    }
}

pub fn decoder(tunnels: TunnelMode) -> Decoder {
    Decoder::new(Options { tunnels, checksum: true })
}

/// Decode one whole record with a fresh decoder.
pub fn decode_as(tunnels: TunnelMode, linktype: u16, bytes: &[u8]) -> Result<Vec<Packet>, Skip> {
    decode_cut(tunnels, linktype, bytes, bytes.len())
}

/// Decode a record truncated to `caplen` bytes with a fresh decoder.
pub fn decode_cut(tunnels: TunnelMode, linktype: u16, bytes: &[u8], caplen: usize) -> Result<Vec<Packet>, Skip> {
    let mut out = Vec::new();
    let cut = &bytes[..caplen];
    decoder(tunnels).decode(&record(linktype, cut, bytes.len()), cut, &mut out).map(|()| out)
}

/// Decode the only packet of a record, inside of tunnels.
pub fn decode(linktype: u16, bytes: &[u8]) -> Result<Packet, Skip> {
    decode_as(TunnelMode::Inner, linktype, bytes).map(|packets| {
        assert_eq!(packets.len(), 1, "{packets:?}");
        packets[0]
    })
}

/// Decode the only packet of an IP packet.
pub fn decode_ip(bytes: &[u8]) -> Packet {
    decode(RAW, bytes).expect("a packet")
}

/// Link layers that only prepend bytes to an IPv4 header: name, link type, prepended bytes.
pub fn links() -> Vec<(&'static str, u16, Vec<u8>)> {
    const MACS: &str = "020000000002 020000000001";
    const SNAP: &str = "aaaa03 000000 0800";
    const WLAN: &str = "020000000002 020000000001 020000000003 0000";
    let ethernet = |rest: &str| hex(&format!("{MACS} {rest}"));
    let wlan = |control: &str, rest: &str| hex(&format!("{control} 0000 {WLAN} {rest} {SNAP}"));
    let before_wlan = |header: &str| hex(&format!("{header} 0802 0000 {WLAN} {SNAP}"));
    vec![
        ("Ethernet II", 1, ethernet("0800")),
        ("802.3 SNAP", 1, ethernet("0050 aaaa03 000000 0800")),
        ("802.3 bridge tunnel", 1, ethernet("0050 aaaa03 0000f8 0800")),
        ("802.3 LLC IP", 1, ethernet("0050 060603")),
        ("802.1Q", 1, ethernet("8100 2005 0800")),
        ("QinQ", 1, ethernet("88a8 0064 8100 00c8 0800")),
        ("old service tags", 1, ethernet("9100 0001 9200 0002 8100 0003 0800")),
        ("802.1Q LLC", 1, ethernet("8100 0005 0050 aaaa03 000000 0800")),
        ("802.1ah", 1, ethernet("88a8 0001 88e7 00012345 020000000004 020000000003 8100 0007 0800")),
        ("VN-Tag", 1, ethernet("8926 00000001 0800")),
        ("VN-Tag in a VLAN", 1, ethernet("8100 0005 8926 00000001 8100 0006 0800")),
        ("FabricPath", 1, ethernet("8903 0020 020000000004 020000000003 0800")),
        ("FabricPath, tags", 1, ethernet("8100 0005 8903 0020 020000000004 020000000003 8100 0006 0800")),
        ("TRILL", 1, ethernet("22f3 0003 0001 0002 020000000004 020000000003 8100 0006 0800")),
        ("TRILL, options", 1, ethernet("22f3 0083 0001 0002 0000000000000000 020000000004 020000000003 0800")),
        ("HSR", 1, ethernet("892f 0060 0001 0800")),
        ("HSR in a VLAN", 1, ethernet("8100 0005 892f 1060 0001 8100 0006 0800")),
        ("802.1CB", 1, ethernet("f1c1 0000 0001 0800")),
        ("802.1BR", 1, ethernet("893f 0000 0001 0000 0800")),
        ("MACsec", 1, ethernet("88e5 00 00 00000001 0800")),
        ("MACsec, channel", 1, ethernet("88e5 20 00 00000001 0200000000010001 8100 0006 0800")),
        ("Realtek, 4 bytes", 1, ethernet("8899 a001 0800")),
        ("Realtek, 8 bytes", 1, ethernet("8899 0400 0000 0001 0800")),
        ("Marvell", 1, ethernet("dada 0000 c0010000 0800")),
        ("Arista, 64 bits", 1, ethernet("d28b 0001 0110 0000000100000002 0800")),
        ("Arista, 48 bits", 1, ethernet("d28b 0001 0020 000100000002 0800")),
        ("802.3 bridged", 1, ethernet("0050 aaaa03 0080c2 0007 0000 020000000004 020000000003 0800")),
        ("802.3 NLPID", 1, ethernet("0050 fefe03 cc")),
        ("NSH in NSH", 1, ethernet("894f 0002 0204 00000100 0002 0201 00000100")),
        ("Cisco MetaData", 1, ethernet("8909 0101 0001 0064 0800")),
        ("MPLS", 1, ethernet("8847 000100ff 000201ff")),
        ("MPLS upstream", 1, ethernet("8848 000201ff")),
        ("pseudowire", 1, ethernet("8847 000201ff 020000000004 020000000003 0800")),
        ("pseudowire, control word", 1, ethernet("8847 000201ff 00000001 020000000004 020000000003 0800")),
        ("pseudowire, odd MAC", 1, ethernet("8847 000201ff a20000000004 020000000003 8100 0001 0800")),
        ("NSH", 1, ethernet("894f 0006 0101 00000100 00000000000000000000000000000000")),
        ("NSH, bridged", 1, ethernet("894f 0002 0203 00000100 020000000004 020000000003 0800")),
        ("PPPoE", 1, ethernet("8864 1100 0001 0050 0021")),
        ("PPPoE compressed", 1, ethernet("8864 1100 0001 0050 21")),
        ("PPP", 9, hex("0021")),
        ("PPP HDLC framing", 9, hex("ff03 0021")),
        ("PPP compressed", 9, hex("21")),
        ("PPP, Cisco HDLC", 9, hex("0f00 0800")),
        ("PPP_HDLC", 50, hex("ff03 0021")),
        ("PPP_HDLC, Cisco", 50, hex("0f00 0800")),
        ("PPP_ETHER", 51, hex("1100 0001 0050 0021")),
        ("PPP_PPPD", 166, hex("00 03 0021")),
        ("PPP_PPPD, whole framing", 166, hex("01 ff03 0021")),
        ("PPP_WITH_DIR", 204, hex("00 ff03 0021")),
        ("C_HDLC", 104, hex("8f00 0800")),
        ("C_HDLC_WITH_DIR", 205, hex("01 0f00 0800")),
        ("frame relay", 107, hex("1841 03 cc")),
        ("frame relay SNAP", 107, hex("1841 03 00 80 000000 0800")),
        ("frame relay Cisco", 107, hex("1841 0800")),
        ("frame relay with direction", 206, hex("00 1841 0800")),
        ("MPLS", 219, hex("000201ff")),
        ("SLL", 113, hex("0000 0001 0006 0200000000010000 0800")),
        ("SLL VLAN", 113, hex("0000 0001 0006 0200000000010000 8100 0064 0800")),
        ("SLL LLC", 113, hex(&format!("0000 0001 0006 0200000000010000 0004 {SNAP}"))),
        ("SLL radiotap", 113, before_wlan("0000 0323 0006 0200000000010000 0019 0000 0800 00000000")),
        ("SLL2", 276, hex("0800 0000 00000002 0001 00 06 0200000000010000")),
        ("RAW", 101, vec![]),
        ("PPI raw IP", 192, hex("0000 0800 0c000000")),
        ("IPV4", 228, vec![]),
        ("NULL little-endian", 0, hex("02000000")),
        ("NULL big-endian", 0, hex("00000002")),
        ("NULL, EtherType", 0, hex("00000800")),
        ("NULL, EtherType, little-endian", 0, hex("00080000")),
        ("LOOP", 108, hex("00000002")),
        ("ENC", 109, hex("02000000 00001234 00000000")),
        ("PFLOG", 117, [hex("3d02"), vec![0; 62]].concat()),
        ("802.11 from DS", 105, wlan("0802", "")),
        ("802.11 to DS", 105, wlan("0801", "")),
        ("802.11 WDS", 105, wlan("0803", "020000000004")),
        ("802.11 QoS", 105, wlan("8802", "0000")),
        ("802.11 QoS, HT control", 105, wlan("8882", "0000 00000000")),
        ("802.11 WDS QoS", 105, wlan("8803", "020000000004 0000")),
        ("802.11 A-MSDU", 105, wlan("8802", "8000 020000000002 020000000001 0050")),
        ("radiotap", 127, before_wlan("0000 0800 00000000")),
        ("radiotap fields", 127, before_wlan("0000 1900 03000080 00000000 00000000 0000000000000000 10")),
        ("radiotap padded", 127, {
            let qos = format!("8802 0000 {WLAN} 0000 0000 {SNAP}");
            hex(&format!("0000 1100 03000000 0000000000000000 20 {qos}"))
        }),
        ("Prism", 119, [hex("44000000 90000000"), vec![0; 136], wlan("0802", "")].concat()),
        ("Prism big-endian", 119, [hex("00000041 00000090"), vec![0; 136], wlan("0802", "")].concat()),
        ("Prism, AVS header", 119, [hex("80211001 00000040"), vec![0; 56], wlan("0802", "")].concat()),
        ("AVS", 163, [hex("80211002 00000040"), vec![0; 56], wlan("0802", "")].concat()),
        ("PPI 802.11", 192, before_wlan("0000 0c00 69000000 00000000")),
        ("PPI Ethernet", 192, hex(&format!("0000 0800 01000000 {MACS} 0800"))),
        ("PKTAP", 258, hex(&format!("14000000 01000000 01000000 0000000000000000 {MACS} 0800"))),
        ("FDDI", 10, hex(&format!("50 {MACS} {SNAP}"))),
        ("token ring", 6, hex(&format!("1040 {MACS} {SNAP}"))),
        ("token ring, source route", 6, hex(&format!("1040 020000000002 820000000001 0630 0011 0020 {SNAP}"))),
        ("SLIP", 8, [hex("0040"), vec![0; 14]].concat()),
        ("SLL 802.11", 113, hex(&format!("0000 0321 0006 0200000000010000 0004 0802 0000 {WLAN} {SNAP}"))),
        ("SLL Ethernet", 113, hex(&format!("0000 0001 0006 0200000000010000 0003 {MACS} 0800"))),
        ("SLL PPP", 113, hex("0000 0200 0000 0000000000000000 0007 ff03 0021")),
    ]
    .into_iter()
    .chain(rare_links())
    .collect()
}

/// The same for headers of capturing devices and switches, and for rarer networks.
fn rare_links() -> Vec<(&'static str, u16, Vec<u8>)> {
    const MACS: &str = "020000000002 020000000001";
    const SNAP: &str = "aaaa03 000000 0800";
    let around = |before: &str, after: &str| hex(&format!("{before} {MACS} {after}"));
    let erf = |kind: &str, more: &str| hex(&format!("0000000000000000 {kind} 04 0050 0000 0040 {more}"));
    let juniper = |flags: &str, rest: &str| hex(&format!("4d4743 {flags} {rest}"));
    vec![
        ("DSA_TAG_BRCM", 281, around("", "00000001 0800")),
        ("DSA_TAG_BRCM, VLAN", 281, around("", "00000001 8100 0005 0800")),
        ("DSA_TAG_BRCM_PREPEND", 282, around("00000001", "0800")),
        ("DSA_TAG_DSA", 284, around("", "c0080000 0800")),
        ("DSA_TAG_DSA, VLAN", 284, around("", "e008 0005 0800")),
        ("DSA_TAG_EDSA", 285, around("", "dada 0000 c0080000 0800")),
        ("DSA_TAG_EDSA, VLAN", 285, around("", "dada 0000 e008 0005 0800")),
        ("ERF Ethernet", 197, erf("02", &format!("0000 {MACS} 0800"))),
        ("ERF Ethernet, extensions", 197, erf("8b", &format!("8300000000000000 0400000000000000 0000 {MACS} 0800"))),
        ("ERF serial", 197, erf("01", "ff03 0021")),
        ("ERF serial, Cisco", 197, erf("0a", "0f00 0800")),
        ("ERF channel", 197, erf("05", "00000001 ff03 0021")),
        ("ERF AAL5", 197, erf("04", &format!("00000000 {SNAP}"))),
        ("ERF IPv4", 197, erf("16", "")),
        ("NETANALYZER", 240, around("00000000", "0800")),
        ("NETANALYZER_TRANSPARENT", 241, around("00000000 55555555555555d5", "0800")),
        ("ETHERNET_MPACKET", 274, around("55555555555555d5", "0800")),
        ("IPOIB", 242, [vec![0; 40], hex("0800 0000")].concat()),
        ("IPOIB without routing", 242, hex("0800 0000")),
        ("IPNET", 226, [hex("01 02"), vec![0; 22]].concat()),
        ("ARCNET_BSD", 7, hex("01 02 d4 00 0001")),
        ("ARCNET_BSD, first fragment", 7, hex("01 02 d4 01 0001")),
        ("ARCNET_BSD, exception", 7, hex("01 02 d4 ff ffff d4 00 0001")),
        ("ARCNET_BSD, RFC 1051", 7, hex("01 02 f0")),
        ("ARCNET_LINUX", 129, hex("01 02 0000 d4 00 0001")),
        ("ARCNET_LINUX, RFC 1051", 129, hex("01 02 0000 f0")),
        ("MFR", 182, hex("c0 01 1841 03 cc")),
        ("MFR, first fragment", 182, hex("80 01 1841 03 cc")),
        ("IP_OVER_FC", 122, hex(&format!("0000020000000002 0000020000000001 {SNAP}"))),
        ("APPLE_IP_OVER_IEEE1394", 138, hex("0000020000000002 0000020000000001 0800")),
        ("SYMANTEC_FIREWALL", 99, [vec![0; 6], hex("0800"), vec![0; 36]].concat()),
        ("ATM_RFC1483", 100, hex(SNAP)),
        ("ATM_RFC1483, one protocol", 100, vec![]),
        ("ATM_RFC1483, bridged", 100, around("aaaa03 0080c2 0007 0000", "0800")),
        ("ATM_RFC1483, NLPID", 100, hex("fefe03 cc")),
        ("ATM_RFC1483, PPP", 100, hex("0021")),
        ("ATM_CLIP", 106, hex(SNAP)),
        ("LANE8023", 110, around("0001", "0800")),
        ("SUNATM", 123, hex(&format!("82 01 0064 {SNAP}"))),
        ("SUNATM, LAN emulation", 123, around("01 01 0064 0001", "0800")),
        ("JUNIPER_ETHER", 178, juniper("01", &format!("{MACS} 0800"))),
        ("JUNIPER_ETHER, extensions", 178, juniper("81", &format!("0006 010400000001 {MACS} 8100 0005 0800"))),
        ("JUNIPER_ETHER, no link layer", 178, juniper("03", "02000000")),
        ("JUNIPER_PPPOE", 167, juniper("00", &format!("{MACS} 8864 1100 0001 0050 0021"))),
        ("JUNIPER_PPPOE_ATM", 168, juniper("00", "8864 1100 0001 0050 0021")),
        ("JUNIPER_PPP", 179, juniper("00", "ff03 0021")),
        ("JUNIPER_FRELAY", 180, juniper("00", "1841 03 cc")),
        ("JUNIPER_CHDLC", 181, juniper("00", "0f00 0800")),
        ("JUNIPER_MLPPP", 130, juniper("00", "4700000000000000")),
        ("JUNIPER_MLPPP, link services", 130, juniper("00", "54000000 ff03 0021")),
        ("JUNIPER_MLPPP, multilink", 130, juniper("00", "8001 0021")),
        ("JUNIPER_MLFR", 131, juniper("00", "4000000000000000")),
        ("JUNIPER_MFR", 134, juniper("00", "54000000 03 cc")),
        ("JUNIPER_GGSN", 133, juniper("00", "02000000")),
        ("JUNIPER_ATM1", 137, juniper("00", &format!("04000000 {SNAP}"))),
        ("JUNIPER_ATM2", 135, juniper("00", &format!("0400000000000000 {SNAP}"))),
    ]
}

/// An NFLOG record, which has the length of its payload, unlike other link layers.
pub fn nflog(family: u8, little_endian: bool, ip: &[u8]) -> Vec<u8> {
    let number = |n: usize| if little_endian { (n as u16).to_le_bytes() } else { (n as u16).to_be_bytes() };
    join(&[
        &[family, 0, 0, 42],
        &number(8),
        &number(1),
        &hex("0800 0300"),
        &number(5),
        &number(10),
        &hex("00 000000"),
        &number(4 + ip.len()),
        &number(9),
        ip,
    ])
}

/// The tuple of a packet between client 1, with this port, and server 2, port 80; of IPv4, 10.0.0.0/24.
pub fn client_server(family: Family, number: u16, from_client: bool, proto: u8) -> FiveTuple {
    let addr = |last: u8| match family {
        Family::V4 => Addr::v4([10, 0, 0, last]),
        Family::V6 => Addr::v6([last; 16]),
    };
    let (client, server) = ((addr(1), number), (addr(2), 80));
    let ((src, sport), (dst, dport)) = if from_client { (client, server) } else { (server, client) };
    FiveTuple { src, dst, sport, dport, proto, family }
}

/// A whole packet, 40 bytes longer than its payload.
pub fn whole(tuple: FiveTuple, l4: L4, payload_bytes: u32) -> Packet {
    let ip_bytes = 40 + payload_bytes;
    Packet {
        tuple,
        l4,
        packets: 1,
        ip_bytes,
        payload_bytes,
        complete: true,
        segment_bytes: payload_bytes,
        datagram_bytes: ip_bytes,
        ..Packet::default()
    }
}
