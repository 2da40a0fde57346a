//! Blocks of a packet socket's receive ring (TPACKET_V3, `linux/if_packet.h`) to records.
//!
//! A block is read in place: records refer to it, and no packet is copied. The kernel stores a VLAN tag that the card has
//! stripped beside the packet, and the link type of a cooked packet in the address; both are written in front of the
//! packet, over the kernel's own header, which is read by then. The layout is the machine's own byte order.

use super::{LinkType, Record, RecordBatch};

/// Offsets within a block descriptor (`struct tpacket_block_desc`).
mod block {
    /// `num_pkts`.
    pub const PACKETS: usize = 12;
    /// `offset_to_first_pkt`.
    pub const FIRST: usize = 16;
}

/// Offsets within a packet's header (`struct tpacket3_hdr`), and within the address behind it (`struct sockaddr_ll`).
mod packet {
    /// `tp_next_offset`.
    pub const NEXT: usize = 0;
    /// `tp_sec`.
    pub const SECONDS: usize = 4;
    /// `tp_nsec`.
    pub const NANOSECONDS: usize = 8;
    /// `tp_snaplen`.
    pub const CAPTURED: usize = 12;
    /// `tp_len`.
    pub const LENGTH: usize = 16;
    /// `tp_status`.
    pub const STATUS: usize = 20;
    /// `tp_mac`.
    pub const START: usize = 24;
    /// `hv1.tp_vlan_tci`.
    pub const TCI: usize = 32;
    /// `hv1.tp_vlan_tpid`.
    pub const TPID: usize = 36;
    /// `sll_protocol`, in network order.
    pub const PROTOCOL: usize = 50;
    /// `sll_ifindex`.
    pub const INTERFACE: usize = 52;
    /// `sll_hatype`.
    pub const HARDWARE: usize = 56;
    /// `sll_pkttype`.
    pub const KIND: usize = 58;
    /// `sll_halen`.
    pub const ADDRESS_SIZE: usize = 59;
    /// `sll_addr`.
    pub const ADDRESS: usize = 60;
    /// Size of both.
    pub const SIZE: usize = 68;
}

/// `TP_STATUS_CSUMNOTREADY`: the checksums are left to the card.
const UNSUMMED: u32 = 1 << 3;
/// `TP_STATUS_VLAN_VALID` and `TP_STATUS_VLAN_TPID_VALID`.
const TAGGED: u32 = 1 << 4;
const TYPED: u32 = 1 << 6;
/// `PACKET_OUTGOING`, and `ARPHRD_LOOPBACK`: the loopback shows each packet as it leaves and as it comes.
const OUTGOING: u8 = 4;
const LOOPBACK: u16 = 772;
/// `ETH_P_8021Q`.
const VLAN: u16 = 0x8100;
const MACS: usize = 12;
const TAG: usize = 4;
const SLL2: usize = 20;

/// Records of a block, whose bytes become the batch's buffer. `linktype` None: packets are cooked, without their link
/// layer's header, and get that of LINKTYPE_LINUX_SLL2. A block that contradicts itself ends at the contradiction.
pub fn batch(mut data: Vec<u8>, linktype: Option<LinkType>, file: u32) -> RecordBatch {
    let (Some(count), Some(first)) = (word(&data, block::PACKETS), word(&data, block::FIRST)) else {
        return RecordBatch::default();
    };
    let mut records = Vec::with_capacity((count as usize).min(data.len() / packet::SIZE));
    let mut at = first as usize;
    for _ in 0..count {
        let Some(found) = record(&mut data, at, linktype, file) else { break };
        records.extend(found.record);
        if found.next == 0 {
            break;
        }
        at = at.saturating_add(found.next);
    }
    RecordBatch { data, records, ..RecordBatch::default() }
}

/// A packet of a block.
struct Found {
    /// None for the second copy of a packet.
    record: Option<Record>,
    /// Bytes to the next packet.
    next: usize,
}

fn record(data: &mut [u8], at: usize, linktype: Option<LinkType>, file: u32) -> Option<Found> {
    let header: [u8; packet::SIZE] = data.get(at..)?.first_chunk().copied()?;
    let number = |offset: usize| word(&header, offset).unwrap_or_default();
    let half = |offset: usize| number(offset & !3).to_ne_bytes();
    let short = |offset: usize| u16::from_ne_bytes([half(offset)[offset & 3], half(offset)[(offset & 3) + 1]]);
    let next = number(packet::NEXT) as usize;
    let (kind, hardware) = (header[packet::KIND], short(packet::HARDWARE));
    if kind == OUTGOING && hardware == LOOPBACK {
        return Some(Found { record: None, next });
    }
    let start = at.checked_add(usize::from(short(packet::START)))?;
    let captured = number(packet::CAPTURED) as usize;
    data.get(start..start.checked_add(captured)?)?;
    let status = number(packet::STATUS);
    let tag = (status & TAGGED != 0).then(|| {
        let tpid = if status & TYPED != 0 { short(packet::TPID) } else { VLAN };
        let ([a, b], [c, d]) = (tpid.to_be_bytes(), (number(packet::TCI) as u16).to_be_bytes());
        [a, b, c, d]
    });
    let front = match (linktype, tag) {
        (Some(_), None) => 0,
        (Some(_), Some(tag)) => {
            // Behind the addresses, as it was on the wire.
            let to = start.checked_sub(TAG)?;
            data.get(start..start + MACS).filter(|_| captured >= MACS)?;
            data.copy_within(start..start + MACS, to);
            data[to + MACS..start + MACS].copy_from_slice(&tag);
            TAG
        }
        (None, tag) => {
            let protocol = protocol(&header, &data[start..start + captured]);
            let mut cooked = [0; SLL2 + TAG];
            cooked[..2].copy_from_slice(&protocol);
            cooked[4..8].copy_from_slice(&number(packet::INTERFACE).to_be_bytes());
            cooked[8..10].copy_from_slice(&hardware.to_be_bytes());
            (cooked[10], cooked[11]) = (kind, header[packet::ADDRESS_SIZE]);
            cooked[12..SLL2].copy_from_slice(&header[packet::ADDRESS..]);
            let mut size = SLL2;
            if let Some([a, b, c, d]) = tag {
                (cooked[0], cooked[1]) = (a, b);
                cooked[SLL2..].copy_from_slice(&[c, d, protocol[0], protocol[1]]);
                size += TAG;
            }
            data.get_mut(start.checked_sub(size)?..start)?.copy_from_slice(&cooked[..size]);
            size
        }
    };
    let ts = i64::from(number(packet::SECONDS)) * 1_000_000_000 + i64::from(number(packet::NANOSECONDS));
    let caplen = u32::try_from(captured + front).ok()?;
    let record = Record {
        ts,
        offset: 0,
        start: u32::try_from(start - front).ok()?,
        caplen,
        len: number(packet::LENGTH).saturating_add(front as u32).max(caplen),
        file,
        linktype: linktype.unwrap_or(LinkType::LINUX_SLL2),
        abridged: false,
        unsummed: status & UNSUMMED != 0,
    };
    Some(Found { record: Some(record), next })
}

/// The EtherType of the bytes of a cooked packet. Since Linux 6.10 the address has that of IP also where the bytes begin with
/// what is left of a tag (`vlan_get_protocol_dgram` of `af_packet.c`).
fn protocol(header: &[u8; packet::SIZE], bytes: &[u8]) -> [u8; 2] {
    let told = [header[packet::PROTOCOL], header[packet::PROTOCOL + 1]];
    let version = match told {
        [0x08, 0x00] => 4,
        [0x86, 0xdd] => 6,
        _ => return told,
    };
    match bytes {
        [first, _, a, b, behind, ..] if [*a, *b] == told && first >> 4 != version && behind >> 4 == version => {
            VLAN.to_be_bytes()
        }
        _ => told,
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*data.get(at..)?.first_chunk()?))
}

/// Records of several rings in the order of their times, those up to `until`, and the rest. Batches of one ring (`file`) are
/// given in their order, which is kept where a clock steps back. None: too much data for a batch.
pub fn merged(batches: &[&RecordBatch], until: i64) -> Option<(RecordBatch, RecordBatch)> {
    let mut latest: Vec<i64> = Vec::new();
    let mut order = Vec::with_capacity(batches.iter().map(|batch| batch.records.len()).sum());
    for batch in batches {
        for record in &batch.records {
            let file = record.file as usize;
            if latest.len() <= file {
                latest.resize(file + 1, i64::MIN);
            }
            latest[file] = latest[file].max(record.ts);
            order.push((latest[file], *batch, record));
        }
    }
    order.sort_by_key(|(key, ..)| *key);
    let due = order.partition_point(|(key, ..)| *key <= until);
    let (now, later) = order.split_at(due);
    Some((copied(now)?, copied(later)?))
}

fn copied(order: &[(i64, &RecordBatch, &Record)]) -> Option<RecordBatch> {
    let mut batch = RecordBatch::default();
    for (_, from, record) in order {
        let start = u32::try_from(batch.data.len()).ok()?;
        batch.data.extend_from_slice(from.bytes(record));
        batch.records.push(Record { start, ..**record });
    }
    u32::try_from(batch.data.len()).ok()?;
    Some(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETHERNET: Option<LinkType> = Some(LinkType::ETHERNET);
    const FRAME: &[u8] = b"ddddddssssss\x08\x00payload";

    /// Time, status, TCI, hardware type, kind, and bytes of a packet.
    type Sent<'a> = (u32, u32, u16, u16, u8, &'a [u8]);

    /// A block as the kernel lays it out.
    fn block(packets: &[Sent<'_>]) -> Vec<u8> {
        let mut data = vec![0; 48];
        data[block::PACKETS..][..4].copy_from_slice(&(packets.len() as u32).to_ne_bytes());
        data[block::FIRST..][..4].copy_from_slice(&48_u32.to_ne_bytes());
        for (place, (seconds, status, tci, hardware, kind, bytes)) in packets.iter().enumerate() {
            let size = (96 + bytes.len()).next_multiple_of(16);
            let mut one = vec![0; size];
            let next = if place + 1 == packets.len() { 0 } else { size as u32 };
            let words = [
                (packet::NEXT, next),
                (packet::SECONDS, *seconds),
                (packet::NANOSECONDS, 7),
                (packet::CAPTURED, bytes.len() as u32),
                (packet::LENGTH, bytes.len() as u32 + 100),
                (packet::STATUS, *status),
                (packet::TCI, u32::from(*tci)),
                (packet::INTERFACE, 3),
            ];
            for (at, word) in words {
                one[at..][..4].copy_from_slice(&word.to_ne_bytes());
            }
            one[packet::START..][..2].copy_from_slice(&96_u16.to_ne_bytes());
            one[packet::TPID..][..2].copy_from_slice(&0x88a8_u16.to_ne_bytes());
            one[packet::PROTOCOL..][..2].copy_from_slice(&[8, 0]);
            one[packet::HARDWARE..][..2].copy_from_slice(&hardware.to_ne_bytes());
            (one[packet::KIND], one[packet::ADDRESS_SIZE]) = (*kind, 6);
            one[packet::ADDRESS..packet::SIZE].copy_from_slice(b"ssssss\0\0");
            one[96..][..bytes.len()].copy_from_slice(bytes);
            data.extend(one);
        }
        data
    }

    #[test]
    fn packets_with_times_and_lengths() {
        let data = block(&[(5, 1, 0, 1, 0, FRAME), (6, 1 | UNSUMMED, 0, 1, 4, &FRAME[..14])]);
        let batch = batch(data, ETHERNET, 2);
        let [one, two] = &batch.records[..] else { panic!("{batch:?}") };
        assert_eq!((one.ts, one.caplen, one.len, one.file, one.unsummed), (5_000_000_007, 21, 121, 2, false));
        assert_eq!((batch.bytes(one), batch.bytes(two)), (FRAME, &FRAME[..14]));
        assert_eq!((two.ts, two.unsummed, two.linktype), (6_000_000_007, true, LinkType::ETHERNET));
    }

    #[test]
    fn a_stripped_tag_is_put_back() {
        for (status, tpid) in [(TAGGED, [0x81, 0]), (TAGGED | TYPED, [0x88, 0xa8])] {
            let batch = batch(block(&[(5, status, 0x2005, 1, 0, FRAME)]), ETHERNET, 0);
            let [one] = &batch.records[..] else { panic!("{batch:?}") };
            let expected = [&FRAME[..12], &tpid, &[0x20, 5], &FRAME[12..]].concat();
            assert_eq!((batch.bytes(one), one.len), (&expected[..], 125));
        }
        let short = batch(block(&[(5, TAGGED, 5, 1, 0, &FRAME[..11])]), ETHERNET, 0);
        assert_eq!(short.records, [], "no frame has a tag within its addresses");
    }

    #[test]
    fn cooked_packets_have_a_header() {
        let batch = batch(block(&[(5, 0, 0, 0xfffe, 0, b"ip"), (5, TAGGED, 7, 1, 4, b"ip")]), None, 0);
        let [one, two] = &batch.records[..] else { panic!("{batch:?}") };
        assert_eq!(batch.bytes(one), b"\x08\x00\0\0\0\0\0\x03\xff\xfe\0\x06ssssss\0\0ip");
        assert_eq!(batch.bytes(two), b"\x81\x00\0\0\0\0\0\x03\0\x01\x04\x06ssssss\0\0\0\x07\x08\x00ip");
        assert_eq!((one.linktype, one.len, two.len), (LinkType::LINUX_SLL2, 122, 126));
    }

    #[test]
    fn cooked_packets_that_begin_with_a_tag() {
        let batch = batch(block(&[(5, TAGGED, 9, 1, 0, b"\0\x05\x08\x00\x45ip")]), None, 0);
        let bytes = batch.bytes(&batch.records[0]);
        assert_eq!((&bytes[..2], &bytes[20..]), (&b"\x81\x00"[..], &b"\0\x09\x81\x00\0\x05\x08\x00\x45ip"[..]));
    }

    #[test]
    fn the_loopback_shows_a_packet_once() {
        let packets = [(5, 0, 0, 772, 4, FRAME), (6, 0, 0, 772, 0, FRAME), (7, 0, 0, 1, 4, FRAME)];
        let times: Vec<_> = batch(block(&packets), ETHERNET, 0).records.iter().map(|one| one.ts).collect();
        assert_eq!(times, [6_000_000_007, 7_000_000_007]);
    }

    #[test]
    fn a_block_that_contradicts_itself() {
        let good = block(&[(5, 0, 0, 1, 0, FRAME), (6, TAGGED, 1, 1, 0, FRAME)]);
        for at in 0..good.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                for linktype in [ETHERNET, None] {
                    let mut bad = good.clone();
                    bad[at] = byte;
                    let batch = batch(bad, linktype, 0);
                    assert!(batch.records.iter().all(|one| batch.bytes(one).len() == one.caplen as usize));
                    assert!(batch.records.len() <= 2);
                }
            }
            let is_cut = at < good.len() - 16;
            assert!(batch(good[..at].to_vec(), ETHERNET, 0).records.len() <= if is_cut { 1 } else { 2 });
        }
    }

    #[test]
    fn rings_are_merged_by_time() {
        let one = batch(block(&[(1, 0, 0, 1, 0, b"a"), (5, 0, 0, 1, 0, b"d")]), ETHERNET, 0);
        let two = batch(block(&[(2, 0, 0, 1, 0, b"b"), (9, 0, 0, 1, 0, b"e")]), ETHERNET, 1);
        let back = batch(block(&[(3, 0, 0, 1, 0, b"D")]), ETHERNET, 0);
        let (now, later) = merged(&[&one, &two, &back], 5_000_000_007).unwrap();
        let bytes = |batch: &RecordBatch| batch.records.iter().map(|one| batch.bytes(one)[0]).collect::<Vec<_>>();
        assert_eq!((bytes(&now), bytes(&later)), (b"abdD".to_vec(), b"e".to_vec()));
    }
}
