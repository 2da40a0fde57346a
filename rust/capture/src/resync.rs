//! Evidence for pcap record headers: whether an odd header is one, and where the next one is behind damage.
//!
//! A header is evidence for another where the first one's length leads to the second. At a record's boundary, an odd
//! header needs one such link, and a header with two oddities as many as make up [`WHOLE`] points. Behind damage, chains
//! without oddities go first: in captures of a loopback interface, fields shifted by four bytes chain too, but are odd.

use super::habits::Oddities;
use super::parse::{ABSOLUTE_MAX, Scan, USUAL_MAX};
use super::part;
use super::pcap::{Header, Pcap, is_far};

/// Number of consecutive headers that end a damaged stretch.
const CHAIN: usize = 3;

/// Number of consecutive headers where the first time is far from the last good record's.
const FAR_CHAIN: usize = 5;

/// Earliest time of a distant chain, in seconds (March 1973), because small numbers are frequent in payloads.
const FAR_SECONDS: u32 = 100_000_000;

/// Points of evidence of a header whose time and fraction are not odd; see [`points`].
const WHOLE: u32 = 3;

/// Points of evidence that a chain of odd headers behind damage needs.
const EVIDENCE: u32 = CHAIN as u32 * WHOLE;

/// The same where the first time is far from the last good record's.
const FAR_EVIDENCE: u32 = FAR_CHAIN as u32 * WHOLE - 1;

/// Maximum number of headers of a chain, those of empty records included, which are no evidence.
const LONGEST_CHAIN: usize = 32;

/// Result of a search for a chain of odd headers.
enum OddChain {
    /// None begins.
    Absent,
    /// One begins with a record that ends at this index.
    Present(usize),
    /// The chain leaves the data, and more data may follow.
    NeedMore,
}

/// Evidence of a header with a possible captured length: the time and the fraction add to the length.
fn points(header: Header, odd: Oddities) -> u32 {
    if header.caplen == 0 {
        return 0;
    }
    WHOLE - u32::from(odd.has(Oddities::FAR)) - u32::from(odd.has(Oddities::FRACTION))
}

impl Pcap {
    /// Decide about the unusual header at `pos`; None until the next headers are present. Without the check of the next
    /// header, a captured length with one wrong bit would swallow every record in its reach.
    #[cold]
    pub(super) fn plausible<const BIG: bool>(
        &mut self,
        data: &[u8],
        pos: usize,
        header: Header,
        last: bool,
    ) -> Option<bool> {
        if header.caplen > self.limit {
            return Some(false);
        }
        // A crash leaves zeros in place of data, which would parse as many records of the year 1970.
        if header.is_zero() {
            let next = data.get(pos + self.record_len..).unwrap_or_default();
            if self.last_sec.is_some_and(|sec| sec != 0) || last && next.len() < self.record_len {
                return Some(false);
            }
            if next.len() < self.record_len {
                return None;
            }
            return Some(!self.header_at::<BIG>(next, 0).is_zero());
        }
        let odd = self.oddities(header, self.last_sec);
        if odd.is_empty() {
            return Some(true);
        }
        let confirmed = self.confirmed::<BIG>(data, pos, header, last);
        if confirmed == Some(true) {
            self.habits.note(odd);
        }
        confirmed
    }

    /// True if the headers behind the odd header at `pos` confirm its length; None if they are not present yet.
    fn confirmed<const BIG: bool>(&self, data: &[u8], pos: usize, header: Header, last: bool) -> Option<bool> {
        let fresh = self.habits.fresh(self.oddities(header, self.last_sec)).len();
        let next = pos + self.record_len + header.caplen as usize;
        if data.len().saturating_sub(next) < self.record_len {
            if !last {
                return None;
            }
            // A record of the writer's habits may be cut by the end of the file, unless further records lie within.
            let cut = || fresh == 0 && !matches!(self.scan::<BIG>(data, pos + 1, true), Scan::Resync(_));
            return Some(next <= data.len() || cut());
        }
        let follower = self.header_at::<BIG>(data, next);
        let odd = self.habits.fresh(self.oddities(follower, Some(header.sec))).len();
        if part::begins(&data[next..]) || fresh < 2 && odd < 2 && follower.caplen <= self.limit {
            return Some(true);
        }
        if !self.evident::<BIG>(data, next, header.sec, last)? {
            return Some(false);
        }
        // A chain without oddities that begins within the record refutes the length.
        let mut at = pos + 1;
        while at < next {
            if self.chain::<BIG>(data, at, last)? {
                return Some(false);
            }
            at += 1;
        }
        Some(true)
    }

    /// True if enough headers from `pos` on chain, odd ones included.
    fn evident<const BIG: bool>(&self, data: &[u8], mut pos: usize, mut near: u32, last: bool) -> Option<bool> {
        let mut found = 0;
        for _ in 0..LONGEST_CHAIN {
            if data.len().saturating_sub(pos) < self.record_len {
                return if last { Some(pos == data.len() || found > 0) } else { None };
            }
            if part::begins(&data[pos..]) {
                return Some(true);
            }
            let header = self.header_at::<BIG>(data, pos);
            if header.is_zero() {
                return Some(found > 0);
            }
            let odd = self.oddities(header, Some(near));
            if header.caplen > USUAL_MAX || odd.has(Oddities::LENGTH) {
                return Some(false);
            }
            found += points(header, odd);
            if found >= WHOLE {
                return Some(true);
            }
            near = header.sec;
            pos += self.record_len + header.caplen as usize;
        }
        Some(false)
    }

    /// The oddities of a header.
    pub(super) fn oddities(&self, header: Header, near: Option<u32>) -> Oddities {
        Oddities::default()
            .with(Oddities::FAR, is_far(header.sec, near))
            .with(Oddities::SNAPLEN, header.caplen > self.snaplen)
            .with(Oddities::ORIGINAL, header.caplen > header.len)
            .with(Oddities::FRACTION, header.frac >= self.second)
            .with(Oddities::LENGTH, header.len > ABSOLUTE_MAX)
    }

    /// Scan from `from` on for the first chain of [`CHAIN`] headers, of fewer up to the end of the file, or of odd
    /// headers with no other chain in the reach of the first. Each index costs at most two chains, so the scan is linear.
    pub(super) fn scan<const BIG: bool>(&self, data: &[u8], from: usize, last: bool) -> Scan {
        let (mut at, mut clear) = (from, from);
        loop {
            if at >= clear {
                match self.chain::<BIG>(data, at, last) {
                    Some(true) => return Scan::Resync(at),
                    Some(false) => clear = at + 1,
                    None => return Scan::NeedMore(at),
                }
            }
            match self.odd_chain::<BIG>(data, at, last) {
                OddChain::Present(end) => {
                    while clear < end {
                        match self.chain::<BIG>(data, clear, last) {
                            Some(true) => break,
                            Some(false) => clear += 1,
                            None => return Scan::NeedMore(at),
                        }
                    }
                    if clear >= end {
                        return Scan::Resync(at);
                    }
                }
                OddChain::Absent => {}
                OddChain::NeedMore => return Scan::NeedMore(at),
            }
            at += 1;
        }
    }

    /// True if a chain of headers begins at `at`; None if the chain leaves the data and more data may follow.
    fn chain<const BIG: bool>(&self, data: &[u8], at: usize, last: bool) -> Option<bool> {
        let mut pos = at;
        let mut near = self.last_sec;
        let mut needed = CHAIN;
        let mut links = 0;
        for _ in 0..LONGEST_CHAIN {
            if links >= needed {
                return Some(true);
            }
            if data.len().saturating_sub(pos) < self.record_len {
                // At the end of the file, two headers and a truncated header suffice, or a header whose record ends
                // exactly there.
                let least = if pos == data.len() { needed - 2 } else { needed - 1 };
                return if last && at < data.len() { Some(links >= least) } else { None };
            }
            if part::begins(&data[pos..]) {
                return Some(true);
            }
            let header = self.header_at::<BIG>(data, pos);
            if pos == at && is_far(header.sec, near) {
                if header.sec < FAR_SECONDS {
                    return Some(false);
                }
                (near, needed) = (None, FAR_CHAIN);
            }
            if !self.strictly_plausible(header, near) {
                return Some(false);
            }
            near = Some(header.sec);
            pos += self.record_len + header.caplen as usize;
            links += usize::from(header.caplen > 0);
        }
        Some(false)
    }

    /// Look for a chain of headers that begins at `at`, odd ones included.
    fn odd_chain<const BIG: bool>(&self, data: &[u8], at: usize, last: bool) -> OddChain {
        let (mut pos, mut near, mut found, mut first) = (at, self.last_sec, 0, None);
        let mut needed = EVIDENCE;
        for _ in 0..LONGEST_CHAIN {
            if data.len().saturating_sub(pos) < self.record_len {
                let least = if pos == data.len() { needed - 2 * WHOLE } else { needed - WHOLE };
                return match first {
                    _ if !last => OddChain::NeedMore,
                    Some(end) if found >= least => OddChain::Present(end),
                    _ => OddChain::Absent,
                };
            }
            if let Some(end) = first
                && part::begins(&data[pos..])
            {
                return OddChain::Present(end);
            }
            let header = self.header_at::<BIG>(data, pos);
            let odd = self.oddities(header, near);
            let early = odd.has(Oddities::FAR) && header.sec < FAR_SECONDS;
            let empty = header.len.max(header.caplen) == 0;
            if header.caplen > USUAL_MAX || odd.has(Oddities::LENGTH) || early || empty {
                return OddChain::Absent;
            }
            if first.is_none() && odd.has(Oddities::FAR) {
                needed = FAR_EVIDENCE;
            }
            found += points(header, odd);
            near = Some(header.sec);
            pos += self.record_len + header.caplen as usize;
            let end = *first.get_or_insert(pos);
            if found >= needed {
                return OddChain::Present(end);
            }
        }
        OddChain::Absent
    }

    /// Check a header of a chain, without tolerance but for the writer's own oddities, so that payload is not mistaken
    /// for a header.
    #[inline]
    fn strictly_plausible(&self, header: Header, near: Option<u32>) -> bool {
        if header.len.max(header.caplen) == 0 || header.caplen > USUAL_MAX || is_far(header.sec, near) {
            return false;
        }
        let odd = self.habits.unseen(self.oddities(header, near));
        // A short snaplen alone was never a reason against a chain.
        odd.is_empty() || odd == Oddities::SNAPLEN
    }
}

#[cfg(test)]
mod tests {
    use super::super::DamageKind;
    use super::super::testing::*;
    use super::*;

    /// Frames of a loopback interface, which begin with zeros.
    fn loopback(n: u32, unit: u32) -> Vec<u8> {
        let mut file = PcapFile::new(if unit == 1 { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }, false);
        for i in 0..n {
            let frame = [&[0; 12][..], &[8, 0], &payload(i)].concat();
            file.packet(T0 + i, (i * 7_654_321 % 1_000_000_000).max(200_000_000) / unit, &frame);
        }
        file.bytes
    }

    /// The time, the captured and the original length shifted by four bytes are a chain with one oddity each.
    #[test]
    fn shifted_headers_are_no_records() {
        for unit in [1, 1000] {
            let good = loopback(60, unit);
            let all = read(&good);
            let cut = all.records[20].offset as usize;
            for shift in [4, 8] {
                let lost = [&good[..cut], &good[cut + shift..]].concat();
                let got = read_every_way(&lost);
                assert_eq!((got.records.len(), got.damage.count(DamageKind::RecordHeader)), (59, 1), "{unit} {shift}");
                let inserted = [&good[..cut], &[0x81; 8][..shift], &good[cut..]].concat();
                let got = read_every_way(&inserted);
                assert_eq!((got.records.len(), got.damage.total()), (60, 1), "{unit} {shift}");
            }
            // A destroyed captured length beside an intact original one.
            let mut wrong = good.clone();
            wrong[cut + 8..cut + 12].fill(0xff);
            let got = read_every_way(&wrong);
            assert_eq!((got.records.len(), got.damage.total()), (59, 1), "{unit}");
        }
    }

    #[test]
    fn zeros_are_no_packets() {
        for zeros in [16, 17, 32, 4096, 300_000] {
            let mut file = PcapFile::plain();
            file.bytes.resize(24 + zeros, 0);
            let all = read_every_way(&file.bytes);
            assert_eq!((all.records.len(), all.damage.unused(DamageKind::RecordHeader)), (0, zeros as u64));
        }
        let mut early = PcapFile::plain();
        early.packet(0, 5, b"first").bytes.resize(24 + 21 + 4096, 0);
        early.packet(0, 6, b"second").packet(0, 7, b"third").packet(0, 7, b"fourth");
        let all = read_every_way(&early.bytes);
        assert_eq!((all.records.len(), all.damage.unused(DamageKind::RecordHeader)), (4, 4096));
    }

    #[test]
    fn a_chain_of_empty_records_is_no_evidence() {
        let mut file = PcapFile::plain();
        file.packet(T0, 0, b"good").raw(9, 1_500_000, 4, 2, b"bad!");
        for _ in 0..2 * LONGEST_CHAIN {
            file.raw(9, 1_500_000, 0, 0, b"");
        }
        let all = read_every_way(&file.bytes);
        assert_eq!((all.records.len(), all.damage.total()), (1, 1), "{:?} {:?}", all.records, all.damage);
    }
}
