//! Flat packets: the fields of a packet as columns of a packet table, from a record and back to a frame.
//!
//! [`Flat::read`] decodes the outermost IP packet of a record. [`Flat::write`] builds a frame that decodes to equal
//! fields, so that packet tables take the path of any capture. Options and extension headers keep their length
//! without their bytes, which the tracker does not read; checksums are left out.

use super::bytes::{Fields, Span};
use super::ip::{self, v4_field, v6_field};
use super::tcp::{self, field as tcp_field};
use super::udp::field as udp_field;
use super::{Addr, Family, FiveTuple, Vlan, ether, ethertype, ipproto, link, ports, transport};
use conntrack_capture::{LinkType, Record, RecordBatch};

/// Fields of a packet. Fields of other protocols are 0 or empty.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flat<'a> {
    /// Addresses, ports and protocol; ICMP has type and code as ports. None without an IP packet or with incomplete
    /// headers.
    pub tuple: Option<FiveTuple>,
    /// Bytes of the IP packet by its length field, header included.
    pub length: u32,
    /// Bytes of the IP header: IPv4 with options, IPv6 with extension headers.
    pub ip_header_length: u32,
    /// Identification of fragments, and of any IPv4 packet.
    pub ip_id: u32,
    /// Bytes of the datagram before this fragment's.
    pub fragment_offset: u16,
    /// True if further fragments follow.
    pub more_fragments: bool,
    /// VLAN tags.
    pub vlan: Vlan,
    /// True for broadcast and multicast, by link layer or address.
    pub to_group: bool,
    /// TCP: the flag byte.
    pub tcp_flags: u8,
    /// TCP: sequence number.
    pub seq: u32,
    /// TCP: acknowledgement number.
    pub ack: u32,
    /// TCP: window as sent, unscaled.
    pub window: u16,
    /// TCP: options as sent, of a multiple of four bytes.
    pub tcp_options: &'a [u8],
    /// UDP: the length in its header; UDP-Lite: the coverage.
    pub udp_length: u16,
    /// ICMP: the two bytes that are the identifier of queries.
    pub icmp_id: u16,
    /// SCTP: the verification tag.
    pub sctp_vtag: u32,
    /// Captured payload: above the header of TCP (options included), UDP, UDP-Lite, ICMP (8 bytes) and SCTP (12
    /// bytes). For other protocols and later fragments, above the IP header.
    pub payload: &'a [u8],
}

/// Error for fields that make no packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Name of the field.
    pub field: &'static str,
    /// Value of the field.
    pub found: u64,
    /// Description of the valid values.
    pub expected: String,
}

impl Refusal {
    fn new(field: &'static str, found: u64, expected: impl Into<String>) -> Self {
        Self { field, found, expected: expected.into() }
    }
}

/// Maximum length of the IP packet of a built frame, in bytes.
const LONGEST: u32 = i32::MAX as u32;
/// Next header of destination options (RFC 8200 section 4.6).
const DESTINATION: u8 = 60;
const FRAGMENT: u8 = 44;
const UNIT: u32 = 8;
/// Maximum size of one extension header, and the maximum number of extension headers beside a fragment header.
const EXTENSION: u32 = 256 * UNIT;
const EXTENSIONS: u32 = 15;
/// Maximum size of TCP options in bytes, RFC 9293 section 3.1.
const MOST_OPTIONS: usize = 40;
const ICMP_HEADER: usize = 8;
const SCTP_HEADER: usize = 12;

/// Header above IP that has fields of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
    Icmp,
    Sctp,
    Other,
}

impl Transport {
    fn of(tuple: &FiveTuple, fragment_offset: u16) -> Self {
        if fragment_offset > 0 || !transport::has_payload(tuple) {
            return Self::Other;
        }
        match tuple.proto {
            ipproto::TCP => Self::Tcp,
            ipproto::UDP | ipproto::UDPLITE => Self::Udp,
            ipproto::SCTP => Self::Sctp,
            _ => Self::Icmp,
        }
    }

    /// Size of the header in bytes, without options.
    fn size(self) -> usize {
        match self {
            Self::Tcp => tcp_field::SIZE,
            Self::Udp => udp_field::SIZE,
            Self::Icmp => ICMP_HEADER,
            Self::Sctp => SCTP_HEADER,
            Self::Other => 0,
        }
    }
}

impl<'a> Flat<'a> {
    /// Decode the outermost IP packet of a record. The tuple is None without such a packet, and for truncated or
    /// contradictory headers.
    pub fn read(record: &Record, bytes: &'a [u8]) -> Self {
        Self::try_read(record, bytes).unwrap_or_default()
    }

    fn try_read(record: &Record, bytes: &'a [u8]) -> Option<Self> {
        let net = link::open(record.linktype, Span::new(bytes, record.len as usize)).ok()?;
        let ip = ip::read(&net, false).ok()?;
        let fragment_header = if net.family == Family::V6 && ip.fragment.is_some() { UNIT } else { 0 };
        let length = ip.length.checked_add(fragment_header).filter(|length| *length <= LONGEST)?;
        let fragment = ip.fragment;
        let (offset, more) = fragment.map_or((0, false), |fragment| (fragment.offset, fragment.more));
        let mut tuple =
            FiveTuple { src: ip.src, dst: ip.dst, proto: ip.proto, family: ip.family, ..FiveTuple::default() };
        let mut flat = Flat {
            length,
            ip_header_length: length.checked_sub(u32::try_from(ip.payload.wire()).ok()?)?,
            ip_id: fragment.map_or(u32::from(ip.identification), |fragment| fragment.id),
            fragment_offset: u16::try_from(offset).ok()?,
            more_fragments: more,
            vlan: net.vlan,
            to_group: net.to_group || transport::is_group(ip.family, ip.dst),
            ..Flat::default()
        };
        let transport = Transport::of(&tuple, flat.fragment_offset);
        let above = flat.read_transport(transport, &mut tuple, ip.payload)?;
        flat.payload = above.bytes();
        flat.tuple = Some(tuple);
        Some(flat)
    }

    /// Decode the header of a transport and return the payload.
    fn read_transport(&mut self, kind: Transport, tuple: &mut FiveTuple, segment: Span<'a>) -> Option<Span<'a>> {
        let header = segment.bytes().get(..kind.size())?;
        if kind != Transport::Other {
            ports::ports(segment, tuple).ok()?;
        }
        match kind {
            Transport::Tcp => {
                let header: &[u8; tcp_field::SIZE] = header.first_chunk()?;
                let size = tcp::header_size(header.byte::<{ tcp_field::DATA_OFFSET }>());
                let options = size.checked_sub(tcp_field::SIZE)?;
                let tcp = tcp::of_header(header);
                (self.tcp_flags, self.seq, self.ack, self.window) = (tcp.flags, tcp.seq, tcp.ack, tcp.window);
                let rest = segment.skip(tcp_field::SIZE).ok()?;
                if options > rest.wire() {
                    return None;
                }
                self.tcp_options = rest.bytes().get(..options)?;
                return rest.skip(options).ok();
            }
            Transport::Udp => {
                let header: &[u8; udp_field::SIZE] = header.first_chunk()?;
                self.udp_length = header.be16::<{ udp_field::LENGTH }>();
                // In UDP-Lite a zero checksum is malformed, and built frames have a zero checksum.
                let is_lite = tuple.proto == ipproto::UDPLITE;
                if is_lite && header.be16::<{ udp_field::CHECKSUM }>() == 0 {
                    return None;
                }
            }
            Transport::Icmp => {
                let header: &[u8; ICMP_HEADER] = header.first_chunk()?;
                (tuple.sport, tuple.dport) = (u16::from(header.byte::<0>()), u16::from(header.byte::<1>()));
                self.icmp_id = header.be16::<4>();
            }
            Transport::Sctp => self.sctp_vtag = header.first_chunk::<SCTP_HEADER>()?.be32::<4>(),
            Transport::Other => {}
        }
        segment.skip(kind.size()).ok()
    }

    /// Append an Ethernet frame with these fields and the available payload; returns the wire length in bytes.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<u32, Refusal> {
        let Some(tuple) = &self.tuple else {
            // An EtherType for local experiments (IEEE 802.3 clause 9.2.4), never tracked.
            out.extend([0; 12]);
            out.extend([0x88, 0xb5]);
            return Ok(14);
        };
        let kind = Transport::of(tuple, self.fragment_offset);
        let options = if kind == Transport::Tcp { self.tcp_options.len() } else { 0 };
        self.check(tuple, kind, options)?;
        let begin = out.len();
        self.write_link(tuple.family, out);
        let link = out.len() - begin;
        match tuple.family {
            Family::V4 => self.write_v4(tuple, out),
            Family::V6 => self.write_v6(tuple, out),
        }
        self.write_transport(tuple, kind, out);
        // A capture holds no more bytes than the packet has.
        let room = (self.length - self.ip_header_length) as usize - kind.size() - options;
        out.extend_from_slice(self.payload.get(..room).unwrap_or(self.payload));
        Ok(link as u32 + self.length)
    }

    fn check(&self, tuple: &FiveTuple, kind: Transport, options: usize) -> Result<(), Refusal> {
        if options > MOST_OPTIONS || !options.is_multiple_of(4) {
            return Err(Refusal::new("tcp_options", options as u64, "at most 40 bytes, a multiple of 4"));
        }
        let header = self.ip_header_length;
        let fits = match tuple.family {
            Family::V4 => (20..=60).contains(&header) && header.is_multiple_of(4),
            Family::V6 => {
                let least = v6_field::SIZE as u32 + if self.is_fragment() { UNIT } else { 0 };
                header >= least && header.is_multiple_of(UNIT) && header - least <= EXTENSION * EXTENSIONS
            }
        };
        if !fits {
            let expected = match tuple.family {
                Family::V4 => "20 to 60, a multiple of 4, for IPv4",
                Family::V6 => "40 (48 for fragments) or more, a multiple of 8, for IPv6",
            };
            return Err(Refusal::new("ip_header_length", header.into(), expected));
        }
        let least = header + (kind.size() + options) as u32;
        if !(least..=LONGEST).contains(&self.length) {
            let expected = format!("{least} to {LONGEST}: bytes of the IP packet with its headers");
            return Err(Refusal::new("length", self.length.into(), expected));
        }
        if !self.fragment_offset.is_multiple_of(8) {
            return Err(Refusal::new("fragment_offset", self.fragment_offset.into(), "bytes, a multiple of 8"));
        }
        if tuple.family == Family::V4 && self.ip_id > u32::from(u16::MAX) {
            return Err(Refusal::new("ip_id", self.ip_id.into(), "at most 65535 for IPv4"));
        }
        if kind == Transport::Icmp && tuple.sport.max(tuple.dport) > 255 {
            let (field, found) = if tuple.sport > 255 { ("sport", tuple.sport) } else { ("dport", tuple.dport) };
            return Err(Refusal::new(field, found.into(), "an ICMP type or code, at most 255"));
        }
        Ok(())
    }

    fn is_fragment(&self) -> bool {
        self.fragment_offset > 0 || self.more_fragments
    }

    fn write_link(&self, family: Family, out: &mut Vec<u8>) {
        let mut addresses = [0; 12];
        addresses[0] = if self.to_group { ether::GROUP_BIT } else { 0 };
        out.extend_from_slice(&addresses);
        for tag in [self.vlan.outer, self.vlan.inner] {
            if let Some(vid) = tag.checked_sub(1) {
                out.extend_from_slice(&ethertype::CUSTOMER_VLAN.to_be_bytes());
                out.extend_from_slice(&(vid & 0x0fff).to_be_bytes());
            }
        }
        let kind = if family == Family::V4 { ethertype::IPV4 } else { ethertype::IPV6 };
        out.extend_from_slice(&kind.to_be_bytes());
    }

    fn write_v4(&self, tuple: &FiveTuple, out: &mut Vec<u8>) {
        use v4_field::{DST, FLAGS_OFFSET, ID, MORE_FRAGMENTS, PROTOCOL, SIZE, SRC, TOTAL_LENGTH};
        let mut header = [0; 60];
        header[0] = 0x40 | (self.ip_header_length / 4) as u8;
        // An oversized length stays zero, as with segmentation offload.
        write_field(&mut header, TOTAL_LENGTH, u16::try_from(self.length).unwrap_or(0).to_be_bytes());
        write_field(&mut header, ID, (self.ip_id as u16).to_be_bytes());
        let more = if self.more_fragments { MORE_FRAGMENTS } else { 0 };
        write_field(&mut header, FLAGS_OFFSET, ((self.fragment_offset / 8) | more).to_be_bytes());
        header[PROTOCOL] = tuple.proto;
        write_field(&mut header, SRC, (tuple.src.0 as u32).to_be_bytes());
        write_field(&mut header, DST, (tuple.dst.0 as u32).to_be_bytes());
        // Options: all of them "end of options".
        out.extend_from_slice(header.get(..self.ip_header_length as usize).unwrap_or(&header[..SIZE]));
    }

    fn write_v6(&self, tuple: &FiveTuple, out: &mut Vec<u8>) {
        use v6_field::{DST, NEXT_HEADER, PAYLOAD_LENGTH, SIZE, SRC, VERSION};
        let mut extensions = self.ip_header_length - SIZE as u32 - if self.is_fragment() { UNIT } else { 0 };
        let behind = if self.is_fragment() { FRAGMENT } else { tuple.proto };
        let mut header = [0; SIZE];
        header[VERSION] = 0x60;
        let length = u16::try_from(self.length - SIZE as u32).unwrap_or(0);
        write_field(&mut header, PAYLOAD_LENGTH, length.to_be_bytes());
        header[NEXT_HEADER] = if extensions > 0 { DESTINATION } else { behind };
        write_field(&mut header, SRC, tuple.src.0.to_be_bytes());
        write_field(&mut header, DST, tuple.dst.0.to_be_bytes());
        out.extend_from_slice(&header);
        while extensions > 0 {
            let size = extensions.min(EXTENSION);
            extensions -= size;
            out.extend([if extensions > 0 { DESTINATION } else { behind }, (size / UNIT - 1) as u8]);
            out.resize(out.len() + size as usize - 2, 0);
        }
        if self.is_fragment() {
            let offset = (self.fragment_offset | u16::from(self.more_fragments)).to_be_bytes();
            out.extend([tuple.proto, 0, offset[0], offset[1]]);
            out.extend_from_slice(&self.ip_id.to_be_bytes());
        }
    }

    fn write_transport(&self, tuple: &FiveTuple, kind: Transport, out: &mut Vec<u8>) {
        let mut header = [0; tcp_field::SIZE];
        if kind == Transport::Icmp {
            (header[0], header[1]) = (tuple.sport as u8, tuple.dport as u8);
            write_field(&mut header, 4, self.icmp_id.to_be_bytes());
        } else {
            write_field(&mut header, 0, tuple.sport.to_be_bytes());
            write_field(&mut header, 2, tuple.dport.to_be_bytes());
        }
        match kind {
            Transport::Tcp => {
                use tcp_field::{ACK, DATA_OFFSET, FLAGS, SEQ, WINDOW};
                write_field(&mut header, SEQ, self.seq.to_be_bytes());
                write_field(&mut header, ACK, self.ack.to_be_bytes());
                header[DATA_OFFSET] = (((tcp_field::SIZE + self.tcp_options.len()) / 4) << 4) as u8;
                header[FLAGS] = self.tcp_flags;
                write_field(&mut header, WINDOW, self.window.to_be_bytes());
            }
            Transport::Udp => {
                write_field(&mut header, udp_field::LENGTH, self.udp_length.to_be_bytes());
                // A nonzero checksum, as UDP-Lite requires.
                write_field(&mut header, udp_field::CHECKSUM, [0xff; 2]);
            }
            Transport::Sctp => write_field(&mut header, 4, self.sctp_vtag.to_be_bytes()),
            Transport::Icmp | Transport::Other => {}
        }
        out.extend_from_slice(&header[..kind.size()]);
        if kind == Transport::Tcp {
            out.extend_from_slice(self.tcp_options);
        }
    }
}

/// Write a field within the header; a field out of bounds is left out.
fn write_field<const L: usize>(header: &mut [u8], at: usize, bytes: [u8; L]) {
    if let Some(field) = header.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *field = bytes;
    }
}

/// Build a batch of packets with capture times in nanoseconds. The error is the packet's index and the refusal; the
/// refusal is None beyond the size of a batch, 4 GiB.
pub fn batch<'a>(
    packets: impl ExactSizeIterator<Item = (i64, Flat<'a>)>,
) -> Result<RecordBatch, (usize, Option<Refusal>)> {
    const TYPICAL: usize = 14 + 20 + 20;
    let mut data = Vec::with_capacity(packets.len() * TYPICAL);
    let mut records = Vec::with_capacity(packets.len());
    for (index, (ts, flat)) in packets.enumerate() {
        let start = data.len();
        let len = flat.write(&mut data).map_err(|refusal| (index, Some(refusal)))?;
        let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(data.len())) else { return Err((index, None)) };
        let linktype = LinkType::ETHERNET;
        records.push(Record {
            ts,
            offset: start.into(),
            start,
            caplen: end - start,
            len,
            file: 0,
            linktype,
            abridged: false,
            unsummed: false,
        });
    }
    Ok(RecordBatch { data, records, ..RecordBatch::default() })
}

/// Convert to sixteen bytes in network order, with IPv4 mapped into IPv6 (RFC 4291 section 2.5.5.2).
pub fn mapped(addr: Addr, family: Family) -> [u8; 16] {
    let prefix = if family == Family::V4 { MAPPED } else { 0 };
    (addr.0 | prefix).to_be_bytes()
}

/// Extract an IPv4 address that is mapped into IPv6.
pub fn unmapped(bytes: [u8; 16]) -> Option<Addr> {
    let number = u128::from_be_bytes(bytes);
    (number >> 32 == MAPPED >> 32).then_some(Addr(number & 0xffff_ffff))
}

const MAPPED: u128 = 0xffff_0000_0000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decoder, L4, Options, Packet};

    fn flat(family: Family, proto: u8) -> Flat<'static> {
        let (src, dst) = match family {
            Family::V4 => (Addr::v4([10, 0, 0, 1]), Addr::v4([10, 0, 0, 2])),
            Family::V6 => (Addr(0x2001_0db8 << 96 | 1), Addr(0x2001_0db8 << 96 | 2)),
        };
        let header = if family == Family::V4 { 20 } else { 40 };
        let tuple = Some(FiveTuple { src, dst, sport: 3, dport: 4, proto, family });
        Flat { tuple, length: header + 100, ip_header_length: header, ..Flat::default() }
    }

    fn made(flat: &Flat<'_>) -> RecordBatch {
        batch([(7, *flat)].into_iter()).unwrap()
    }

    fn again(batch: &RecordBatch) -> Flat<'_> {
        Flat::read(&batch.records[0], batch.bytes(&batch.records[0]))
    }

    fn decoded(batch: &RecordBatch) -> Packet {
        let mut packets = Vec::new();
        let record = &batch.records[0];
        Decoder::new(Options::default()).decode(record, batch.bytes(record), &mut packets).unwrap();
        packets[0]
    }

    #[test]
    fn a_round_trip_keeps_the_fields() {
        let vlan = Vlan { outer: 8, inner: 4096 };
        let kinds = [
            Flat {
                tcp_flags: 0x18,
                seq: 5,
                ack: 6,
                window: 7,
                tcp_options: &[1, 3, 3, 9],
                vlan,
                ..flat(Family::V4, 6)
            },
            Flat { udp_length: 90, payload: b"what was captured", to_group: true, ..flat(Family::V4, 17) },
            Flat { icmp_id: 77, ip_id: 9, ..flat(Family::V4, 1) },
            Flat { sctp_vtag: 0xffff_0001, payload: &[0; 88], ..flat(Family::V4, 132) },
            Flat { icmp_id: 78, ..flat(Family::V6, 58) },
            Flat { ip_header_length: 60, udp_length: 80, length: 140, ..flat(Family::V4, 17) },
            Flat { ip_header_length: 40 + 2056, length: 3000, tcp_flags: 2, ..flat(Family::V6, 6) },
            Flat { ip_header_length: 48, more_fragments: true, ip_id: 1 << 20, udp_length: 9, ..flat(Family::V6, 17) },
            Flat { length: 70_000, tcp_flags: 16, ..flat(Family::V4, 6) },
        ];
        for kind in kinds {
            let batch = made(&kind);
            assert_eq!(again(&batch), kind);
            let packet = decoded(&batch);
            assert!(!packet.malformed);
            assert_eq!(Some(packet.tuple), kind.tuple);
            assert_eq!((packet.vlan, packet.to_group), (kind.vlan, kind.to_group));
        }
        let nobody = made(&Flat::default());
        assert_eq!(again(&nobody), Flat::default());
    }

    #[test]
    fn later_fragments_have_no_ports() {
        let tuple = flat(Family::V4, 17).tuple.map(|tuple| FiveTuple { sport: 0, dport: 0, ..tuple });
        let later = Flat { tuple, fragment_offset: 800, ip_id: 3, payload: b"rest", ..flat(Family::V4, 17) };
        assert_eq!(again(&made(&later)), later);
    }

    #[test]
    fn no_more_bytes_are_captured_than_the_packet_has() {
        let short = Flat { length: 31, udp_length: 11, payload: b"longer than three", ..flat(Family::V4, 17) };
        assert_eq!(again(&made(&short)).payload, b"lon");
        let packet = decoded(&made(&Flat { length: 40, tcp_flags: 2, ..flat(Family::V4, 6) }));
        assert!(matches!(packet.l4, L4::Tcp(segment) if segment.flags == 2) && !packet.cut);
    }

    #[test]
    fn refusals_name_the_field() {
        let refused = |flat: Flat<'_>| flat.write(&mut Vec::new()).unwrap_err().field;
        let tcp = flat(Family::V4, 6);
        assert_eq!(refused(Flat { length: 39, ..tcp }), "length");
        assert_eq!(refused(Flat { length: u32::MAX, ..tcp }), "length");
        assert_eq!(refused(Flat { tcp_options: &[0; 3], ..tcp }), "tcp_options");
        assert_eq!(refused(Flat { ip_header_length: 64, ..tcp }), "ip_header_length");
        assert_eq!(refused(Flat { ip_header_length: 42, ..flat(Family::V6, 6) }), "ip_header_length");
        assert_eq!(refused(Flat { ip_header_length: !7, ..flat(Family::V6, 6) }), "ip_header_length");
        assert_eq!(refused(Flat { ip_id: 65_536, ..tcp }), "ip_id");
        assert_eq!(refused(Flat { fragment_offset: 9, ..tcp }), "fragment_offset");
    }
}
