//! The snoop format of Solaris (RFC 1761), version 2. All fields are big-endian.
//!
//! A record tells its lengths three times (original, captured, whole record), which makes headers easy to find behind
//! damage.

use super::Record;
use super::damage::DamageKind;
use super::linktype::LinkType;
use super::parse::{Chunk, Scan, Sink, USUAL_MAX, u32_at};
use super::part;

/// Size in bytes of a record header.
const RECORD_LEN: usize = 24;

/// Maximum of pad bytes behind a packet. RFC 1761 pads to four bytes.
const MOST_PADDED: u32 = 64;

/// Number of consecutive headers that end a damaged stretch.
const CHAIN: usize = 3;

/// Number of microseconds in a second.
const SECOND: u32 = 1_000_000;

/// Numbers of data links (RFC 1761, and DLPI's of Solaris) with the link type of their packets.
const LINKS: [(u32, u16); 12] = [
    // IEEE 802.3, token ring, Ethernet, FDDI.
    (0, 1),
    (2, 6),
    (4, 1),
    (8, 10),
    // Frame relay (LAPF, and with many protocols), software loopback.
    (10, 107),
    (11, 107),
    (14, 0),
    // IP over Fibre Channel, over ATM (with SunATM's header), over InfiniBand.
    (16, 122),
    (18, 123),
    (26, 242),
    // Interfaces of IP tunnels: packets without a link header.
    (0x8000_0001, 228),
    (0x8000_0002, 229),
];

/// Parser of a snoop file.
pub(super) struct Snoop {
    linktype: LinkType,
    /// Offset of the first skipped byte, while bytes are skipped.
    damaged: Option<u64>,
}

/// Record header, in host byte order.
#[derive(Clone, Copy)]
struct Header {
    len: u32,
    caplen: u32,
    whole: u32,
    sec: u32,
    micro: u32,
}

impl Header {
    /// Decode at the front of `data`; zeros out of bounds, which callers exclude.
    fn of(data: &[u8]) -> Self {
        let field = |at| u32_at(true, data, at);
        Self { len: field(0), caplen: field(4), whole: field(8), sec: field(16), micro: field(20) }
    }

    fn is_plausible(self) -> bool {
        let padding = self.whole.checked_sub(RECORD_LEN as u32).and_then(|rest| rest.checked_sub(self.caplen));
        self.caplen <= USUAL_MAX
            && self.caplen <= self.len
            && self.micro < SECOND
            && padding.is_some_and(|padding| padding <= MOST_PADDED)
    }
}

impl Snoop {
    /// Parse the file header of [`part::SNOOP_LEN`] bytes. The error has offset, found and expected content.
    pub(super) fn new(head: &[u8]) -> Result<Self, (u64, String, String)> {
        let (version, link) = (u32_at(true, head, 8), u32_at(true, head, 12));
        if version != 2 {
            return Err((8, format!("snoop version {version}"), "version 2; convert: editcap -F pcap IN OUT".into()));
        }
        let found = LINKS.iter().find(|(number, _)| *number == link);
        let Some((_, linktype)) = found else {
            let known: Vec<String> = LINKS.iter().map(|(number, _)| number.to_string()).collect();
            return Err((12, format!("data link {link} of snoop"), format!("one that is read: {}", known.join(", "))));
        };
        Ok(Self { linktype: LinkType(*linktype), damaged: None })
    }

    /// Number of bytes missing behind `rest`, an incomplete record at the end of the file.
    pub(super) fn missing(rest: &[u8]) -> u64 {
        if rest.len() >= part::PEEK && part::begins(rest) {
            return part::header_len(rest).saturating_sub(rest.len()) as u64;
        }
        let body = if rest.len() < RECORD_LEN { 0 } else { u64::from(Header::of(rest).caplen) };
        (RECORD_LEN as u64 + body).saturating_sub(rest.len() as u64)
    }

    /// Parse all complete records of `chunk` and return the number of bytes consumed.
    pub(super) fn parse(&mut self, chunk: Chunk<'_>, sink: &mut Sink<'_>) -> usize {
        let Chunk { data, offset, .. } = chunk;
        let mut pos = 0;
        loop {
            if let Some(from) = self.damaged {
                let (end, found) = match scan(data, pos, chunk.last) {
                    Scan::Resync(at) => (at, true),
                    Scan::NeedMore(_) if chunk.last => (data.len(), false),
                    Scan::NeedMore(at) => return at,
                };
                self.damaged = None;
                let bytes = offset + end as u64 - from;
                sink.damage(from, bytes, DamageKind::RecordHeader, String::new, "");
                pos = end;
                if !found {
                    return pos;
                }
            }
            let rest = &data[pos..];
            if part::begins(rest) {
                sink.part = rest.len() >= part::header_len(rest);
                return pos;
            }
            if rest.len() < RECORD_LEN {
                return pos;
            }
            let header = Header::of(rest);
            if !header.is_plausible() {
                let at = offset + pos as u64;
                if sink.strict {
                    let Header { len, caplen, whole, sec, micro } = header;
                    let found =
                        || format!("original length {len}, captured {caplen}, record {whole}, time {sec} s + {micro}");
                    let expected = "a snoop record header with lengths and a time that can be true";
                    sink.damage(at, 0, DamageKind::RecordHeader, found, expected);
                    return pos;
                }
                self.damaged = Some(at);
                pos += 1;
                continue;
            }
            // The last record of a file may lack its padding.
            let needed = if chunk.last { RECORD_LEN + header.caplen as usize } else { header.whole as usize };
            if rest.len() < needed {
                return pos;
            }
            sink.records.push(Record {
                ts: i64::from(header.sec) * 1_000_000_000 + i64::from(header.micro) * 1000,
                offset: offset + pos as u64,
                start: chunk.origin + (pos + RECORD_LEN) as u32,
                caplen: header.caplen,
                len: header.len,
                file: sink.file,
                linktype: self.linktype,
                abridged: false,
                unsummed: false,
            });
            pos += (header.whole as usize).min(rest.len());
        }
    }
}

/// Scan for the next file header, or for as many record headers as make a [`CHAIN`]; fewer up to the end of the file.
fn scan(data: &[u8], from: usize, last: bool) -> Scan {
    for at in from..data.len() {
        match chain(data, at, last) {
            Some(true) => return Scan::Resync(at),
            Some(false) => {}
            None => return Scan::NeedMore(at),
        }
    }
    Scan::NeedMore(data.len())
}

/// True if headers chain from `at` on; None if the chain leaves the data and more data may follow.
fn chain(data: &[u8], at: usize, last: bool) -> Option<bool> {
    let mut pos = at;
    for link in 0..CHAIN {
        let rest = data.get(pos..).unwrap_or_default();
        if part::begins(rest) {
            return Some(true);
        }
        if rest.len() < RECORD_LEN {
            return if last { Some(link > 0 && pos == data.len()) } else { None };
        }
        let header = Header::of(rest);
        // Zeros chain with nothing.
        if !header.is_plausible() || header.caplen == 0 {
            return Some(false);
        }
        pos += header.whole as usize;
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn snoop(n: u32) -> Vec<u8> {
        let mut bytes = snoop_file(4);
        for i in 0..n {
            snoop_packet(&mut bytes, T0 + i, i * 1000, 1500, &payload(i));
        }
        bytes
    }

    #[test]
    fn records_with_padding() {
        let all = read_every_way(&snoop(50));
        assert_eq!((all.records.len(), all.damage.total()), (50, 0));
        for (record, i) in all.records.iter().zip(0..) {
            let ts = i64::from(T0 + i) * 1_000_000_000 + i64::from(i) * 1_000_000;
            assert_eq!((record.ts, record.len, record.linktype), (ts, 1500, LinkType::ETHERNET));
            assert_eq!(record.bytes, payload(i));
        }
        assert_eq!(all.records[0].offset, 16);
    }

    #[test]
    fn data_links() {
        for (link, linktype) in LINKS {
            let mut bytes = snoop_file(link);
            snoop_packet(&mut bytes, T0, 0, 3, b"abc");
            assert_eq!(read_every_way(&bytes).records[0].linktype, LinkType(linktype));
        }
        let all = read_every_way(&snoop_file(7));
        assert_eq!(format_error(&all).0, 12);
        assert_eq!(format_error(&all).1, "data link 7 of snoop");
        let mut other = snoop(1);
        other[11] = 4;
        assert_eq!(format_error(&read_every_way(&other)).1, "snoop version 4");
        assert_eq!(format_error(&read_every_way(&snoop(1)[..15])).1, "the end of the file after 15 bytes");
    }

    #[test]
    fn behind_and_before_other_captures() {
        for other in [sample(3), sample_ng(3), snoop(3)] {
            for bytes in [[&snoop(2)[..], &other].concat(), [&other[..], &snoop(2)].concat()] {
                let all = read_every_way(&bytes);
                assert_eq!((all.records.len(), all.damage.total()), (5, 0));
                assert!(read_strict(&bytes).error.is_none());
            }
        }
    }

    #[test]
    fn an_unknown_data_link_behind_others_costs_no_packet() {
        for first in [sample(3), sample_ng(3), snoop(3)] {
            let all = read_every_way(&[&first, &snoop_file(7)[..], &snoop(2)].concat());
            let (offset, found, _) = format_error(&all);
            assert_eq!((all.records.len(), offset, found), (3, first.len() as u64 + 12, "data link 7 of snoop"));
        }
    }

    #[test]
    fn a_cut_file() {
        let (whole, all) = (snoop(3), read(&snoop(3)));
        for cut in 16..whole.len() {
            let got = read_every_way(&whole[..cut]);
            let ends = |r: &Got| r.offset as usize + RECORD_LEN + r.bytes.len() <= cut;
            assert_eq!(got.records.len(), all.records.iter().filter(|r| ends(r)).count(), "{cut}");
            assert!(got.damage.total() <= 1);
        }
    }

    #[test]
    fn damage_costs_what_it_covers() {
        let whole = snoop(20);
        for (from, bytes) in [(100, vec![0xff; 30]), (16, vec![0; 24]), (500, vec![0; 4])] {
            let mut damaged = whole.clone();
            damaged[from..from + bytes.len()].copy_from_slice(&bytes);
            let all = read_every_way(&damaged);
            assert!(all.records.len() >= 17, "{from}: {}", all.records.len());
        }
        let mut hole = whole.clone();
        hole.drain(300..311);
        let all = read_every_way(&hole);
        assert!((18..20).contains(&all.records.len()), "{}", all.records.len());
        assert_eq!(all.damage.total(), 1);
        assert!(read_strict(&hole).error.is_some());
        assert_eq!(read_every_way(&[snoop_file(4), vec![0xff; 5000]].concat()).damage.details()[0].bytes, 5000);
    }
}
