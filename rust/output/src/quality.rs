//! Quality of a capture: duplicated packets, one-sided connections, clock steps, and the certainty of initiators.

use crate::rows::Row;
use conntrack_base::time::SECOND;
use conntrack_decode::{Family, L4, Packet, Tunnel, Vlan, ipproto};
use conntrack_track::direction::{Certainty, Direction};
use conntrack_track::flow::descriptor::kind;
use conntrack_track::flow::{Descriptor, FlowKey};

/// Binary logarithm of the unit of compared times, in nanoseconds: about a microsecond.
const UNIT: u32 = 10;
/// Maximum delay of a duplicate, 10 ms: a mirror port may send a packet at ingress and at egress.
const COPY_WITHIN: u32 = 10_000_000 >> UNIT;
/// Within 1 ms for packets without an IP identification, which may be retransmissions.
const SAME_SEGMENT_WITHIN: u32 = 1_000_000 >> UNIT;
/// Slots for recent packets: as many as fit the L1 cache.
const PLACES: usize = 1 << 10;
/// First identification that tells packets apart; senders without a counter write 0 or 1.
const FIRST_IDENTIFICATION: u16 = 2;
/// Smallest step back that is a clock step; smaller ones are packets captured late.
const BACKWARD: i64 = SECOND;
/// 1990-01-01: an earlier clock was not set. Only a step from there to a later time counts as a step ahead.
const CLOCKS_ARE_SET: i64 = 631_152_000 * SECOND;

/// Declares the counters once: the fields, and the list of their names and values.
macro_rules! counters {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$doc:meta])* $counter:ident: $kind:ty,)+ }) => {
        $(#[$about])*
        pub struct $name {
            $($(#[$doc])* pub $counter: $kind,)+
        }

        impl $name {
            /// The counters by name.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, i64)> {
                [$((stringify!($counter), self.$counter as i64)),+].into_iter()
            }
        }
    };
}

counters! {
    /// The account of a capture's quality.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Quality {
        /// Connections whose opening was captured. ICMP errors, which initiate nothing, are in none of these three counts.
        observed: u64,
        /// Connections whose initiator is inferred.
        inferred: u64,
        /// Connections whose initiator is not known.
        unknown: u64,
        /// TCP connections that tell whether both ends were captured.
        tcp_connections: u64,
        /// Such TCP connections with packets of one end only, which acknowledges data that was not captured.
        one_sided: u64,
        /// Connections whose tags (VLAN, VXLAN or GENEVE identifier) differ by direction.
        tags_by_direction: u64,
        /// Connections with tags that no packet with other tags may join, because their five-tuple has too many.
        tags_crowded: u64,
        /// Packets compared with earlier ones, so that a duplicate would be found.
        compared: u64,
        /// Compared packets that are duplicates.
        duplicates: u64,
        /// Records that the capture cut within the header of the transport.
        cut_headers: u64,
        /// Later fragments whose first one, and with it the ports, was not captured.
        fragments_without_ports: u64,
        /// TCP handshakes whose SYN+ACK was stored before the SYN that it acknowledges, and that were put right.
        reordered: u64,
        /// Such handshakes whose SYN+ACK came from outside the local networks.
        reordered_outside: u64,
        /// Such handshakes whose SYN+ACK went out of the local networks.
        reordered_inside: u64,
        /// The median of the times by which such SYN+ACKs were stamped before their SYNs, nanoseconds; negative where the times
        /// are right.
        reordered_lead: i64,
        /// Times at which the clock stepped.
        clock_steps: u64,
        /// The largest clock step, nanoseconds; negative for a step back.
        largest_clock_step: i64,
    }
}

/// Counters of quality, fed packet by packet.
pub struct Watch {
    quality: Quality,
    recent: Box<Recent>,
    last: Option<i64>,
}

/// A fingerprint of the last packet in each slot, and its time in units of [`UNIT`].
struct Recent([(u32, u32); PLACES]);

impl Recent {
    /// Compares any packet; None where duplicates cannot be told from retransmissions.
    #[inline(never)]
    fn compare(&mut self, one: &Descriptor, broad: &[u64; 4]) -> Option<bool> {
        let is_v6 = one.is(kind::WIDE) && (one.key[1] >> 48 & 0xff) == Family::V6 as u64;
        let is_v6_data = is_v6 && one.payload_bytes > 0 && !one.is(kind::UDP);
        let within = match one.identification {
            _ if one.is(kind::STATELESS) => return None,
            FIRST_IDENTIFICATION.. => COPY_WITHIN,
            _ if is_v6_data => SAME_SEGMENT_WITHIN,
            _ => return None,
        };
        let mark = if one.is(kind::WIDE) { broad_mark(one, broad) } else { narrow_mark(one) };
        Some(self.is_copy(one, mark, within))
    }

    /// Notes a packet by its fingerprint. Returns true if an equal one was noted within `within` units.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "once per packet")]
    fn is_copy(&mut self, one: &Descriptor, mark: u64, within: u32) -> bool {
        let place = &mut self.0[mark as usize % PLACES];
        let (mark, now) = ((mark >> 32) as u32, (one.ts >> UNIT) as u32);
        let (before, then) = std::mem::replace(place, (mark, now));
        before == mark && now.wrapping_sub(then) <= within
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self { quality: Quality::default(), recent: Box::new(Recent([(0, 0); PLACES])), last: None }
    }
}

impl Watch {
    /// Notes the time of a record.
    #[inline]
    pub fn time(&mut self, ts: i64) {
        self.times(ts, ts, true, || std::iter::once(ts));
    }

    /// Notes the times of some records, from the first to the last; `are_sorted`: the times never go back.
    #[inline]
    pub fn times<I: Iterator<Item = i64>>(&mut self, first: i64, last: i64, are_sorted: bool, all: impl Fn() -> I) {
        // A clock that is set and goes on, as nearly every one.
        if are_sorted && self.last.is_some_and(|before| before >= CLOCKS_ARE_SET && first >= before) {
            self.last = Some(last);
        } else {
            all().for_each(|ts| self.any_time(ts));
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

    /// Notes the outermost packet of a record, which the decoder read.
    #[inline]
    pub fn packet(&mut self, packet: &Packet) {
        if packet.l4 == L4::Other && is_cut(packet) {
            self.quality.cut_headers += 1;
        }
    }

    /// Compares packets, in their order, with those before. `broad`: the first four words of broad keys; `outermost`: the
    /// outermost packet of a record that is not ordinary, by its place.
    #[inline]
    pub fn compare(
        &mut self,
        descriptors: &[Descriptor],
        broad: &[[u64; 4]],
        outermost: impl Fn(usize) -> Option<(Descriptor, [u64; 4])>,
    ) {
        let recent = &mut *self.recent;
        let (mut compared, mut duplicates) = (0, 0);
        for (at, (one, broad)) in descriptors.iter().zip(broad).enumerate() {
            let is_usual = !one.is(kind::OTHER | kind::STATELESS | kind::WIDE);
            let is_copy = if is_usual && one.identification >= FIRST_IDENTIFICATION {
                Some(recent.is_copy(one, narrow_mark(one), COPY_WITHIN))
            } else if !one.is(kind::OTHER) {
                recent.compare(one, broad)
            } else {
                outermost(at).and_then(|(one, broad)| recent.compare(&one, &broad))
            };
            compared += u64::from(is_copy.is_some());
            duplicates += u64::from(is_copy == Some(true));
        }
        self.quality.compared += compared;
        self.quality.duplicates += duplicates;
    }

    /// Descriptor of a packet of the slow path for [`Self::compare`]; None where duplicates cannot be told.
    pub fn comparable(packet: &Packet, frame: &[u8], ts: i64) -> Option<(Descriptor, [u64; 4])> {
        let is_told = !packet.fragment && matches!(packet.l4, L4::Tcp(_) | L4::Udp);
        let (key, side) = FlowKey::of_tuple(&packet.tuple, 0, Vlan::default(), Tunnel::default());
        is_told.then(|| Descriptor::of_any(packet, ts, (key.words(), side), frame))?
    }

    /// The final counters, with those of the connections and the decoder.
    pub fn finish<'a>(mut self, rows: impl Iterator<Item = Row<'a>>, fragments_without_ports: u64) -> Quality {
        self.quality.fragments_without_ports = fragments_without_ports;
        let mut leads = Vec::new();
        for row in rows.filter(|row| !row.is_error()) {
            let connections = match row.evidence().certainty() {
                Certainty::Observed => &mut self.quality.observed,
                Certainty::Inferred => &mut self.quality.inferred,
                Certainty::Unknown => &mut self.quality.unknown,
            };
            *connections += 1;
            if let Some(lead) = row.lead() {
                leads.push(lead);
                self.quality.reordered_outside += u64::from(row.direction() == Direction::Egress);
                self.quality.reordered_inside += u64::from(row.direction() == Direction::Ingress);
            }
            self.quality.tags_by_direction += u64::from(row.has_other_tags());
            if row.proto() == ipproto::TCP {
                let both = [0, 1].iter().all(|end| row.sent(*end).packets > 0);
                let one = !both && row.answers_unseen();
                self.quality.tcp_connections += u64::from(both || one);
                self.quality.one_sided += u64::from(one);
            }
        }
        self.quality.reordered = leads.len() as u64;
        self.quality.reordered_lead = median(&mut leads).unwrap_or_default();
        self.quality
    }
}

/// The median, the lower of two middle values.
fn median(values: &mut [i64]) -> Option<i64> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable(middle).1)
}

/// True for a protocol with a known header that the capture cut.
fn is_cut(packet: &Packet) -> bool {
    let has_header = matches!(packet.tuple.proto, ipproto::TCP | ipproto::SCTP | ipproto::ICMP | ipproto::ICMPV6);
    has_header && !packet.fragment && !packet.malformed
}

/// Fingerprint of a packet, equal for its duplicates: TTL and VLAN tags are left out, which a router between them changes.
/// Fragments and packets without ports or identification have no fingerprint. IPv6 has no identification: only TCP data is
/// compared.
///
/// The fields are folded into one product, so that the low bits, which choose the slot, depend on all of them. The product
/// has no secret key: the counters are equal in every run.
#[inline]
fn mark(one: &Descriptor, [first, second]: [u64; 2]) -> u64 {
    let numbers = u64::from(one.seq) | u64::from(one.ack) << 32;
    let lengths = u64::from(one.payload_bytes)
        | u64::from(one.ip_bytes) << 16
        | u64::from(one.window) << 32
        | u64::from(one.identification) << 48;
    // Spread, since any bits beside the lengths would be those of other fields.
    let kinds = (u64::from(one.kind & kind::SIDE_B) | u64::from(one.flags) << 16).wrapping_mul(KEYS[0] | 1);
    fold(first ^ numbers ^ KEYS[0], second ^ lengths.rotate_left(24) ^ kinds ^ KEYS[1])
}

#[inline]
fn narrow_mark(one: &Descriptor) -> u64 {
    const PORTS: u64 = 0xffff_ffff_0000_000f;
    mark(one, [one.key[0], one.key[1] & PORTS])
}

fn broad_mark(one: &Descriptor, broad: &[u64; 4]) -> u64 {
    const PORTS: u64 = 0xffff_ffff_0000_0000;
    const KIND: u64 = 0xffff_0000_0000_0000;
    let addresses = fold(broad[0] ^ KEYS[0], broad[1] ^ KEYS[1]) ^ fold(broad[2] ^ KEYS[2], broad[3] ^ KEYS[3]);
    mark(one, [one.key[0] & PORTS ^ addresses, one.key[1] & KIND])
}

/// Odd numbers without pattern: digits of the fractional part of pi.
const KEYS: [u64; 4] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345, 0xa409_3822_299f_31d1, 0x082e_fa98_ec4e_6c89];

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use conntrack_decode::{FiveTuple, Tcp};

    fn segment(seq: u32, identification: u16) -> Packet {
        let tuple = FiveTuple { proto: 6, sport: 1, dport: 2, ..FiveTuple::default() };
        let l4 = L4::Tcp(Tcp { seq, flags: 16, ..Tcp::default() });
        Packet { tuple, l4, identification, packets: 1, ip_bytes: 140, payload_bytes: 100, ..Packet::default() }
    }

    fn duplicates(packets: &[(i64, Packet)]) -> u64 {
        let mut watch = Watch::default();
        for (millis, packet) in packets {
            let other = Descriptor { kind: kind::OTHER, ..Descriptor::default() };
            watch.compare(&[other], &[[0; 4]], |_| Watch::comparable(packet, &[], millis * SECOND / 1_000));
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

    /// Packets of many flows, which take turns, each with an identification of its own; some of them twice, a little apart.
    fn mirrored(flows: u64, packets: usize, seed: u64) -> Vec<Descriptor> {
        let mut chance = seed;
        let mut random = |below: u64| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (chance >> 33) % below
        };
        let mut sent = vec![0_u32; flows as usize];
        let mut trace: Vec<(usize, Descriptor)> = Vec::new();
        for at in 0..packets {
            let flow = random(flows);
            let count = &mut sent[flow as usize];
            *count += 1;
            let one = Descriptor {
                key: [0x0a00_0001_c000_0201 + (flow << 32), (40_000 + flow) << 48 | 443 << 32],
                seq: *count * 1_460,
                ack: 1_000,
                ip_bytes: 1_500,
                payload_bytes: 1_460,
                flags: 16,
                identification: (flow * 1_000) as u16 + *count as u16,
                ..Descriptor::default()
            };
            trace.push((at, one));
            if random(2) == 0 {
                trace.push((at + 1 + random(100) as usize, one));
            }
        }
        trace.sort_by_key(|(at, _)| *at);
        let times =
            trace.into_iter().zip(0..).map(|((_, one), place)| Descriptor { ts: SECOND + place * 5_000, ..one });
        times.collect()
    }

    /// Copies that an exact search finds among as many packets as are remembered.
    fn exact(trace: &[Descriptor]) -> u64 {
        let facts =
            |one: &Descriptor| (one.key, one.kind, one.seq, one.ack, one.identification, one.ip_bytes, one.flags);
        let is_copy = |(at, one): (usize, &Descriptor)| {
            let before = &trace[at.saturating_sub(PLACES)..at];
            let last = before.iter().rev().find(|other| facts(other) == facts(one));
            last.is_some_and(|other| (one.ts >> UNIT) - (other.ts >> UNIT) <= i64::from(COPY_WITHIN))
        };
        trace.iter().enumerate().filter(|one| is_copy(*one)).count() as u64
    }

    #[test]
    fn nearly_all_copies_are_found_and_no_others() {
        for (flows, seed) in [(1, 1), (10, 2), (1_000, 3)] {
            let trace = mirrored(flows, 20_000, seed);
            let mut watch = Watch::default();
            for one in &trace {
                watch.compare(std::slice::from_ref(one), &[[0; 4]], |_| None);
            }
            let (found, all) = (watch.quality.duplicates, exact(&trace));
            assert!(all > 9_000 && found <= all, "{found} of {all}");
            assert!(found * 10 >= all * 9, "{found} of {all} over {flows} flows");
        }
    }

    #[test]
    fn a_header_that_the_capture_cut_is_that_of_a_whole_datagram() {
        for proto in [ipproto::TCP, ipproto::SCTP, ipproto::ICMP, ipproto::ICMPV6, ipproto::UDP, ipproto::GRE] {
            let is_known = !matches!(proto, ipproto::UDP | ipproto::GRE);
            for (fragment, malformed) in [(false, false), (true, false), (false, true), (true, true)] {
                let packet = Packet {
                    tuple: FiveTuple { proto, ..FiveTuple::default() },
                    fragment,
                    malformed,
                    ..Packet::default()
                };
                assert_eq!(is_cut(&packet), is_known && !fragment && !malformed, "{proto} {fragment} {malformed}");
            }
        }
    }

    /// A packet of a flow with this number.
    type Numbered = fn(u32, Descriptor) -> Descriptor;

    #[test]
    fn marks_of_a_flow_have_different_places() {
        const FLOWS: u64 = 32;
        let places = |of: &dyn Fn(u32) -> Descriptor| {
            let places: std::collections::HashSet<_> =
                (0..PLACES as u32).map(|number| narrow_mark(&of(number)) as usize % PLACES).collect();
            places.len()
        };
        let kinds: [(&str, Numbered); 5] = [
            ("sequence numbers", |number, one| Descriptor { seq: number * 1_460, ..one }),
            ("acknowledgement numbers", |number, one| Descriptor { ack: number * 2_920, ..one }),
            ("identifications", |number, one| Descriptor { identification: number as u16 + 2, ..one }),
            ("swapped identifications", |number, one| Descriptor {
                identification: (number as u16).swap_bytes(),
                ..one
            }),
            ("lengths", |number, one| Descriptor { ip_bytes: number as u16, ..one }),
        ];
        for (what, of) in kinds {
            let flow = |number: u64| {
                let one = Descriptor {
                    key: [0x0a00_0001_c000_0201 + (number << 32), (40_000 + number) << 48 | 443 << 32],
                    identification: 7,
                    ..Descriptor::default()
                };
                places(&|number| of(number, one))
            };
            let all: Vec<_> = (0..FLOWS).map(flow).collect();
            // Random places would be 63 % of them.
            let (least, sum) = (all.iter().min().unwrap(), all.iter().sum::<usize>());
            assert!(*least > PLACES / 8 && sum > FLOWS as usize * PLACES / 2, "{what}: {all:?} of {PLACES}");
        }
    }
}
