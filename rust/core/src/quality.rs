//! What a capture is worth: duplicated packets, one-sided connections, a clock that steps, and how well it is known who
//! initiated.

use crate::decode::{Brief, Family, FiveTuple, L4, Packet, Tcp, ipproto};
use crate::rows::Row;
use crate::time::SECOND;

/// A second copy of a packet comes within this time: a mirror port that sends what comes in and what goes out.
const COPY_WITHIN_MICROS: u32 = 10_000;
/// The same where no identification tells a copy from the same segment sent again.
const SAME_SEGMENT_WITHIN_MICROS: u32 = 1_000;
/// Packets that are remembered, each in its place: as many as the first cache holds beside everything else.
const PLACES: usize = 1 << 10;
/// Identifications from here on tell packets apart; 0 and 1 are what those write who do not count.
const FIRST_IDENTIFICATION: u16 = 2;
/// From so far back on, a time is a step of the clock and not a packet that was captured a little late.
const BACKWARD: i64 = SECOND;
/// 1990-01-01: before it, a clock was not set. A step ahead from there is one; others are files put together.
const CLOCKS_ARE_SET: i64 = 631_152_000 * SECOND;

/// The account of a capture's quality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// Connections by [`crate::direction::Certainty`]: their opening was captured, their initiator is inferred, or is not known. Without
    /// ICMP errors, which initiate nothing.
    pub connections: [u64; 3],
    /// TCP connections that tell whether both ends were captured.
    pub tcp_connections: u64,
    /// Those of them with packets of one end only, which acknowledges what was not captured.
    pub one_sided: u64,
    /// Packets that were compared with those before: a copy of them would be found.
    pub compared: u64,
    /// Those of them that are a second copy.
    pub duplicates: u64,
    /// Records that the capture cut within the header of the transport.
    pub cut_headers: u64,
    /// Later fragments whose first one, and with it the ports, was not captured.
    pub fragments_without_ports: u64,
    /// Times at which the clock stepped.
    pub clock_steps: u64,
    /// The largest of these steps in nanoseconds, negative where it went back.
    pub largest_clock_step: i64,
}

/// Watches packets go by.
pub struct Watch {
    quality: Quality,
    /// A mark of the last packet in each place, and when it came in microseconds.
    recent: Box<[(u32, u32); PLACES]>,
    last: Option<i64>,
}

impl Default for Watch {
    fn default() -> Self {
        Self { quality: Quality::default(), recent: Box::new([(0, 0); PLACES]), last: None }
    }
}

impl Watch {
    /// Notes the time of a record.
    #[inline]
    pub fn time(&mut self, ts: i64) {
        // A clock that is set and goes on, as nearly every one.
        if self.last.is_some_and(|last| last >= CLOCKS_ARE_SET && ts >= last) {
            self.last = Some(ts);
        } else {
            self.any_time(ts);
        }
    }

    #[cold]
    fn any_time(&mut self, ts: i64) {
        let last = self.last.replace(ts).unwrap_or(ts);
        let step = ts.saturating_sub(last);
        if step < -BACKWARD || (last < CLOCKS_ARE_SET && ts >= CLOCKS_ARE_SET) {
            self.quality.clock_steps += 1;
            if step.unsigned_abs() > self.quality.largest_clock_step.unsigned_abs() {
                self.quality.largest_clock_step = step;
            }
        }
    }

    /// Notes the outermost packet of a record, which has these bytes.
    #[inline]
    pub fn packet(&mut self, packet: &Packet, record: &[u8], ts: i64) {
        if packet.l4 == L4::Other && is_cut(packet) {
            self.quality.cut_headers += 1;
        }
        let content = match packet.l4 {
            _ if packet.fragment => return,
            L4::Tcp(segment) => Content::of_tcp(&segment, packet.payload_bytes),
            L4::Udp => Content::of_udp(packet.payload_in(record)),
            _ => return,
        };
        self.compare(&packet.tuple, packet.identification, packet.ip_bytes, content, ts);
    }

    /// The same of an ordinary packet.
    #[inline]
    pub fn brief(&mut self, brief: &Brief, record: &[u8], ts: i64) {
        let content = match brief.tuple.proto {
            ipproto::TCP => Content::of_tcp(&brief.tcp, brief.payload_bytes),
            _ => Content::of_udp(brief.payload_in(record)),
        };
        self.compare(&brief.tuple, brief.identification, brief.ip_bytes, content, ts);
    }

    #[inline]
    fn compare(&mut self, tuple: &FiveTuple, identification: u16, ip_bytes: u32, content: Content, ts: i64) {
        let within = match identification {
            ..FIRST_IDENTIFICATION if content.is_data && tuple.family == Family::V6 => SAME_SEGMENT_WITHIN_MICROS,
            ..FIRST_IDENTIFICATION => return,
            _ => COPY_WITHIN_MICROS,
        };
        let fingerprint = fingerprint(tuple, identification, ip_bytes, content);
        let (mark, now) = ((fingerprint >> 32) as u32, (ts / 1_000) as u32);
        self.quality.compared += 1;
        let place = &mut self.recent[fingerprint as usize % PLACES];
        if place.0 == mark && now.wrapping_sub(place.1) <= within {
            self.quality.duplicates += 1;
        }
        *place = (mark, now);
    }

    /// The account, with what the connections and the decoder say.
    pub fn finish<'a>(mut self, rows: impl Iterator<Item = Row<'a>>, fragments_without_ports: u64) -> Quality {
        self.quality.fragments_without_ports = fragments_without_ports;
        for row in rows.filter(|row| !row.is_error()) {
            self.quality.connections[row.evidence().certainty() as usize] += 1;
            if row.proto() == ipproto::TCP {
                let both = [0, 1].iter().all(|end| row.sent(*end).packets > 0);
                let one = !both && row.answers_unseen();
                self.quality.tcp_connections += u64::from(both || one);
                self.quality.one_sided += u64::from(one);
            }
        }
        self.quality
    }
}

/// The protocol has a header to read, and it was not there.
fn is_cut(packet: &Packet) -> bool {
    let has_header = matches!(packet.tuple.proto, ipproto::TCP | ipproto::SCTP | ipproto::ICMP | ipproto::ICMPV6);
    has_header && !packet.fragment && !packet.malformed
}

/// What tells a packet from the next one of its connection.
#[derive(Clone, Copy)]
struct Content {
    words: (u32, u32),
    flags: u8,
    is_data: bool,
}

impl Content {
    #[inline]
    fn of_tcp(segment: &Tcp, payload_bytes: u32) -> Self {
        Self { words: (segment.seq, segment.ack), flags: segment.flags, is_data: payload_bytes > 0 }
    }

    /// Datagrams of one length may differ in what they carry.
    #[inline]
    fn of_udp(payload: &[u8]) -> Self {
        let begins = payload.first_chunk::<8>().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        Self { words: ((begins >> 32) as u32, begins as u32), flags: 0, is_data: false }
    }
}

/// What two copies of a packet have in common; their TTL may differ, if a router is between them. A packet that may be the
/// same as another one has none: a fragment, what has no ports, what has no identification; of IPv6, which never has one,
/// only TCP data is told apart.
#[inline]
fn fingerprint(tuple: &FiveTuple, identification: u16, ip_bytes: u32, content: Content) -> u64 {
    let fold = |addr: u128| (addr ^ (addr >> 64)) as u64;
    let ports = u64::from(tuple.sport) << 16 | u64::from(tuple.dport);
    let lengths = u64::from(identification) << 48 | u64::from(ip_bytes) << 16;
    let (high, low) = content.words;
    let mut hash = fold(tuple.src.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^= fold(tuple.dst.0).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    hash ^= (u64::from(high) << 32 | u64::from(low)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^= (lengths ^ ports << 8 ^ u64::from(content.flags) ^ u64::from(tuple.proto) << 40)
        .wrapping_mul(0xa076_1d64_78bd_642f);
    // The low bits choose the place.
    hash ^ hash >> 29
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(seq: u32, identification: u16) -> Packet {
        let tuple = FiveTuple { proto: 6, sport: 1, dport: 2, ..FiveTuple::default() };
        let l4 = L4::Tcp(Tcp { seq, flags: 16, ..Tcp::default() });
        Packet { tuple, l4, identification, packets: 1, ip_bytes: 140, payload_bytes: 100, ..Packet::default() }
    }

    fn duplicates(packets: &[(i64, Packet)]) -> u64 {
        let mut watch = Watch::default();
        for (millis, packet) in packets {
            watch.packet(packet, &[], millis * SECOND / 1_000);
        }
        watch.finish(std::iter::empty(), 0).duplicates
    }

    #[test]
    fn a_copy_comes_soon_and_is_the_same() {
        assert_eq!(duplicates(&[(1_000, segment(1, 7)), (1_001, segment(1, 7))]), 1);
        assert_eq!(duplicates(&[(1_000, segment(1, 7)), (1_001, segment(1, 8))]), 0, "sent again");
        assert_eq!(duplicates(&[(1_000, segment(1, 7)), (1_200, segment(1, 7))]), 0, "much later");
        assert_eq!(duplicates(&[(1_000, segment(1, 0)), (1_000, segment(1, 0))]), 0, "perhaps meant so");
        let v6 = |seq| Packet { tuple: FiveTuple { family: Family::V6, ..segment(seq, 0).tuple }, ..segment(seq, 0) };
        assert_eq!(duplicates(&[(1_000, v6(1)), (1_000, v6(1)), (1_000, v6(2))]), 1);
        assert_eq!(duplicates(&[(1_000, v6(1)), (1_005, v6(1))]), 0, "sent again");
        let udp = Packet { l4: L4::Udp, tuple: FiveTuple { proto: 17, ..FiveTuple::default() }, ..segment(1, 0) };
        assert_eq!(duplicates(&[(1_000, udp), (1_000, udp)]), 0, "perhaps meant so");
    }

    #[test]
    fn steps_of_the_clock() {
        let of = |seconds: &[i64]| {
            let mut watch = Watch::default();
            for second in seconds {
                watch.time(second * SECOND);
            }
            let quality = watch.finish(std::iter::empty(), 0);
            (quality.clock_steps, quality.largest_clock_step / SECOND)
        };
        let now = 1_767_225_600;
        assert_eq!(of(&[now, now + 1, now, now + 86_400 * 3_650]), (0, 0), "a little late; two files put together");
        assert_eq!(of(&[now, now - 60, now - 59, now - 70]), (2, -60));
        assert_eq!(of(&[7, now]), (1, now - 7));
    }
}
