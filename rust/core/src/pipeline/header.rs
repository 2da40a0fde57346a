//! The bytes that a packet takes from one half of a distributed run to the other.
//!
//! Of an ordinary Ethernet frame only the fields that a tracker reads are sent: a third of its headers. The receiver
//! rebuilds a frame, and the sender compares both, so that nothing depends on knowing all fields here.
//!
//! Layout: a byte of flags; the bytes on the wire; the link type, unless Ethernet; the time of the file's first record, if the
//! file begins here; then the frame, or its fields. Numbers are Postcard's.

use conntrack_base::bytes;
use conntrack_capture::{LinkType, Record};
use conntrack_decode::{Decoder, Packet, ipproto};
use conntrack_track::config::Config;
use conntrack_track::flow::Descriptor;
use conntrack_track::flow::descriptor::Arrival;
use conntrack_track::tracker::Keys;

/// Bits of the first byte.
mod flag {
    /// A payload without evidence was left out.
    pub const ABRIDGED: u8 = 1;
    /// A file begins here.
    pub const BEGINS: u8 = 1 << 1;
    pub const OTHER_LINK: u8 = 1 << 2;
    /// Fields in place of the frame: of IPv4, or of IPv6.
    pub const V4: u8 = 1 << 3;
    pub const V6: u8 = 1 << 4;
    /// Sent to a group address of the link.
    pub const GROUP: u8 = 1 << 5;
    /// UDP, else TCP.
    pub const UDP: u8 = 1 << 6;
    /// TCP whose only option is a timestamp, of no use to a tracker.
    pub const TIMESTAMP: u8 = 1 << 7;
}

const ETHERNET: usize = 14;
/// Two paddings and a timestamp of 10 bytes, as hosts arrange them (RFC 7323, appendix A).
const TIMESTAMP: [u8; 4] = [1, 1, 8, 10];
const TIMESTAMP_BYTES: usize = 12;
const SYN: u8 = 2;
const DO_NOT_FRAGMENT: u8 = 0x40;

/// A record from the other half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes on the wire.
    pub wire: u32,
    /// Link type.
    pub linktype: LinkType,
    /// A payload without evidence was left out.
    pub abridged: bool,
    /// Capture time of the first record of the file that begins here, nanoseconds.
    pub begin: Option<i64>,
}

/// Fields of the layers above Ethernet, by place in the frame: of IP, and where the transport begins.
struct Layout {
    version: u8,
    kept: [std::ops::Range<usize>; 2],
    proto: usize,
    above: usize,
}

const V4: Layout = Layout { version: 0x45, kept: [16..18, 26..34], proto: 23, above: 34 };
const V6: Layout = Layout { version: 0x60, kept: [18..20, 22..54], proto: 20, above: 54 };
/// Kept bytes of a TCP header: ports, numbers, offset, flags, window.
const TCP_KEPT: usize = 16;
const TCP_LEAST: usize = 20;
/// Kept bytes of a UDP header: ports, length.
const UDP_KEPT: usize = 6;
const UDP_BYTES: usize = 8;

/// Writes the bytes of records.
pub struct Sender {
    keys: Keys,
    decoder: Decoder,
    packets: Vec<Packet>,
    /// Frames may be sent as fields.
    by_fields: bool,
}

impl Sender {
    /// A sender for a tracker of this configuration. Checksums are of whole frames.
    pub fn new(config: &Config, keys: Keys) -> Self {
        let by_fields = !config.decode.checksum;
        Self { keys, decoder: Decoder::new(config.decode), packets: Vec::new(), by_fields }
    }

    /// The bytes of a record. `begin`: the time of the first record of the file that begins here.
    pub fn put(&mut self, record: &Record, frame: &[u8], begin: Option<i64>) -> Vec<u8> {
        let is_ethernet = record.linktype == LinkType::ETHERNET;
        let fields = if is_ethernet && self.by_fields { self.fields(record, frame) } else { None };
        let (kind, rest) = fields.as_ref().map_or((0, frame), |(kind, fields)| (*kind, fields.as_slice()));
        let flags =
            [(flag::ABRIDGED, record.abridged), (flag::BEGINS, begin.is_some()), (flag::OTHER_LINK, !is_ethernet)];
        let flags = flags.into_iter().filter(|(_, is_set)| *is_set).fold(kind, |flags, (flag, _)| flags | flag);
        let mut out = Vec::with_capacity(rest.len() + 16);
        out.push(flags);
        out = bytes::put(out, &record.len);
        if !is_ethernet {
            out = bytes::put(out, &record.linktype.0);
        }
        if let Some(begin) = begin {
            out = bytes::put(out, &begin);
        }
        out.extend_from_slice(rest);
        out
    }

    /// The fields of an ordinary frame; None where the tracker would read another packet from them.
    fn fields(&mut self, record: &Record, frame: &[u8]) -> Option<(u8, Vec<u8>)> {
        let (flags, fields, layout) = fields(frame)?;
        let mut again = Vec::with_capacity(frame.len());
        rebuild(flags, &fields, layout, &mut again)?;
        self.same(record, frame, &again).then_some((flags, fields))
    }

    /// True where a tracker reads equal packets from both frames. The identification serves the search for copies alone.
    fn same(&mut self, record: &Record, one: &[u8], other: &[u8]) -> bool {
        match (self.ordinary(one), self.ordinary(other)) {
            (Some(one), Some(other)) => one == other,
            (None, None) => {
                let one = self.decoded(record, one);
                one.is_some() && one == self.decoded(record, other)
            }
            _ => false,
        }
    }

    /// Part of an ordinary frame that a tracker reads, beside the key.
    fn ordinary(&self, frame: &[u8]) -> Option<(Packet, [u64; 2])> {
        let (mut descriptor, mut wide) = (Descriptor::default(), [0; 4]);
        if !descriptor.of_frame(frame, &mut wide, self.keys.hasher()) {
            return None;
        }
        let Descriptor { kind, flags, offset, edge, hash, .. } = descriptor;
        let arrival = Arrival { descriptor: &descriptor, wide: &wide, frame, decoded: None };
        let rest = u64::from(edge) << 32 | u64::from(kind) << 16 | u64::from(flags) << 8 | u64::from(offset);
        Some((Packet { identification: 0, ..arrival.packet() }, [hash.into(), rest]))
    }

    /// The packet of a frame that is too short for the fast path.
    fn decoded(&mut self, record: &Record, frame: &[u8]) -> Option<Packet> {
        self.packets.clear();
        let record = Record { caplen: frame.len() as u32, ..*record };
        self.decoder.decode(&record, frame, &mut self.packets).ok()?;
        let packet = Packet { identification: 0, ..*self.packets.first()? };
        (self.packets.len() == 1 && !packet.fragment).then_some(packet)
    }
}

/// Reads the bytes of a record, and appends its frame. None: they are none.
pub fn get(mut from: &[u8], frames: &mut Vec<u8>) -> Option<Header> {
    let flags: u8 = bytes::get(&mut from)?;
    let wire = bytes::get(&mut from)?;
    let is_other = flags & flag::OTHER_LINK != 0;
    let linktype = if is_other { LinkType(bytes::get(&mut from)?) } else { LinkType::ETHERNET };
    let begin = if flags & flag::BEGINS != 0 { Some(bytes::get(&mut from)?) } else { None };
    match flags & (flag::V4 | flag::V6) {
        0 => frames.extend_from_slice(from),
        flag::V4 => rebuild(flags, from, &V4, frames)?,
        flag::V6 => rebuild(flags, from, &V6, frames)?,
        _ => return None,
    }
    Some(Header { wire, linktype, abridged: flags & flag::ABRIDGED != 0, begin })
}

/// Flags, fields and layout of an Ethernet frame with TCP or UDP, without options of IP.
fn fields(frame: &[u8]) -> Option<(u8, Vec<u8>, &'static Layout)> {
    let layout = match frame.get(12..ETHERNET + 1)? {
        [8, 0, 0x45] => &V4,
        [0x86, 0xdd, 0x60] => &V6,
        _ => return None,
    };
    let length = |place: usize| Some(usize::from(u16::from_be_bytes([*frame.get(place)?, *frame.get(place + 1)?])));
    let (kind, ends) =
        if layout.version == V4.version { (flag::V4, length(16)?) } else { (flag::V6, 40 + length(18)?) };
    // Fragments are the decoder's.
    if kind == flag::V4 && frame.get(20..22)? != [frame[20] & DO_NOT_FRAGMENT, 0] {
        return None;
    }
    // Bytes behind the IP packet are padding.
    let frame = frame.get(..ETHERNET + ends).unwrap_or(frame);
    let mut flags = kind;
    flags |= if frame[0] & 1 != 0 { flag::GROUP } else { 0 };
    let mut out = Vec::with_capacity(frame.len());
    for kept in layout.kept.clone() {
        out.extend_from_slice(frame.get(kept)?);
    }
    let (kept, least) = match *frame.get(layout.proto)? {
        ipproto::TCP => (TCP_KEPT, TCP_LEAST),
        ipproto::UDP => (UDP_KEPT, UDP_BYTES),
        _ => return None,
    };
    flags |= if kept == UDP_KEPT { flag::UDP } else { 0 };
    let above = frame.get(layout.above..layout.above + least)?;
    out.extend_from_slice(&above[..kept]);
    let mut rest = frame.get(layout.above + least..)?;
    let has_timestamp = kept == TCP_KEPT && above[12] >> 4 == 8 && above[13] & SYN == 0;
    if has_timestamp && rest.starts_with(&TIMESTAMP) && rest.len() >= TIMESTAMP_BYTES {
        flags |= flag::TIMESTAMP;
        rest = &rest[TIMESTAMP_BYTES..];
    }
    out.extend_from_slice(rest);
    Some((flags, out, layout))
}

/// Appends a frame with these fields.
fn rebuild(flags: u8, mut from: &[u8], layout: &Layout, frames: &mut Vec<u8>) -> Option<()> {
    let begin = frames.len();
    let (kept, least) = if flags & flag::UDP != 0 { (UDP_KEPT, UDP_BYTES) } else { (TCP_KEPT, TCP_LEAST) };
    frames.resize(begin + layout.above + least, 0);
    let frame = &mut frames[begin..];
    frame[..6].fill(if flags & flag::GROUP != 0 { 0xff } else { 0 });
    frame[12..14].copy_from_slice(if flags & flag::V4 != 0 { &[8, 0] } else { &[0x86, 0xdd] });
    frame[ETHERNET] = layout.version;
    frame[layout.proto] = if flags & flag::UDP != 0 { ipproto::UDP } else { ipproto::TCP };
    for place in layout.kept.clone().into_iter().chain([layout.above..layout.above + kept]) {
        let (field, rest) = from.split_at_checked(place.len())?;
        frame[place].copy_from_slice(field);
        from = rest;
    }
    if flags & flag::TIMESTAMP != 0 {
        frames.extend_from_slice(&TIMESTAMP);
        frames.resize(frames.len() + TIMESTAMP_BYTES - TIMESTAMP.len(), 0);
    }
    frames.extend_from_slice(from);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sender() -> Sender {
        let config = Config::default();
        Sender::new(&config, Keys::new(&config))
    }

    fn record(len: usize) -> Record {
        let (len, linktype) = (len as u32, LinkType::ETHERNET);
        let (ts, offset, start, file, abridged, unsummed) = (0, 0, 0, 0, false, false);
        Record { ts, offset, start, caplen: len, len, file, linktype, abridged, unsummed }
    }

    fn segment(options: &[u8], flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![0x33; ETHERNET + 40];
        frame[..6].fill(2);
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        frame[20..22].fill(0);
        frame[23] = ipproto::TCP;
        frame[26] = 10;
        frame[30] = 192;
        frame[46] = ((20 + options.len()) as u8 / 4) << 4;
        frame[47] = flags;
        frame.extend_from_slice(options);
        frame.resize(frame.len() + payload, b'x');
        let length = (frame.len() - ETHERNET) as u16;
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        frame
    }

    #[test]
    fn a_segment_takes_half_of_its_headers() {
        let mut sender = sender();
        let timestamp = [&TIMESTAMP[..], &[7; 8]].concat();
        let padded = [segment(&[], 0x10, 0), vec![0; 6]].concat();
        for (frame, size) in [
            (segment(&[], 0x10, 0), 28),
            (padded, 28),
            (segment(&timestamp, 0x10, 3), 31),
            (segment(&timestamp, SYN, 0), 40),
        ] {
            let sent = sender.put(&record(frame.len()), &frame, Some(-1));
            assert_eq!(sent.len() - 1, size, "a begin takes a byte here");
            let mut again = Vec::new();
            let header = get(&sent, &mut again).unwrap();
            assert_eq!((header.wire as usize, header.begin), (frame.len(), Some(-1)));
            assert!(sender.same(&record(frame.len()), &frame, &again));
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_is_the_frame_or_equal_to_a_tracker(
            changes in prop::collection::vec((0..80_usize, any::<u8>()), 0..4),
            options in prop::sample::select(vec![vec![], vec![1; 4], [&TIMESTAMP[..], &[7; 8]].concat()]),
            flags in any::<u8>(), payload in 0..20_usize, cut in 0..90_usize,
        ) {
            let mut sender = sender();
            let mut frame = segment(&options, flags, payload);
            for (place, byte) in changes {
                if let Some(place) = frame.get_mut(place) {
                    *place = byte;
                }
            }
            frame.truncate(cut.max(1));
            let sent = sender.put(&record(frame.len()), &frame, None);
            let mut again = Vec::new();
            prop_assert!(get(&sent, &mut again).is_some());
            prop_assert!(again == frame || sender.same(&record(frame.len()), &frame, &again));
        }

        #[test]
        fn bytes_from_anywhere_are_a_record_or_none(sent in prop::collection::vec(any::<u8>(), 0..90)) {
            let mut frames = Vec::new();
            if get(&sent, &mut frames).is_some() {
                prop_assert!(frames.len() <= sent.len() + 80);
            }
        }
    }
}
