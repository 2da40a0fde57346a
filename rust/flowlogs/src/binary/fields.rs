//! The fields of a record of NetFlow 9 or IPFIX, and the record as a flow.
//!
//! Source: the IANA registry of IPFIX information elements, which begins with those of NetFlow 9 (RFC 3954).

use std::net::Ipv4Addr;

use conntrack_core::connection::{EndReason, Evidence};
use conntrack_core::decode::{Addr, Family, Vlan, ipproto};
use conntrack_core::flow::icmp;

use crate::fields::{is_icmp, tuple};
use crate::record::{Counts, Flow, Says, Whole, letters, tcp};
use crate::sink::Sink;

/// Nanoseconds of a millisecond.
const MILLISECOND: i64 = 1_000_000;
/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;
/// Seconds from 1900, where NTP's time begins, to 1970.
const NTP_1970: i64 = 2_208_988_800;
/// The enterprise of reverse elements (RFC 5103 section 6.1).
pub const REVERSE: u32 = 29_305;

/// The clock of a message: export time and uptime, milliseconds.
#[derive(Clone, Copy, Default)]
pub struct Uptime {
    /// Export time since 1970.
    pub now: i64,
    /// Uptime of the exporter then.
    pub up: i64,
}

impl Uptime {
    /// A time of the uptime clock, which wraps, in nanoseconds since 1970.
    pub fn at(self, up: u64) -> i64 {
        let ago = (self.up as u32).wrapping_sub(up as u32) as i32;
        (self.now - i64::from(ago)).saturating_mul(MILLISECOND)
    }
}

/// A record under construction.
#[derive(Clone, Default)]
pub struct Record {
    addrs: [Option<(Addr, Family)>; 2],
    ports: [u16; 2],
    proto: u8,
    flags: [Option<u8>; 2],
    packets: [Option<u64>; 2],
    bytes: [Option<u64>; 2],
    payload: [Option<u64>; 2],
    start: Option<i64>,
    end: Option<i64>,
    icmp: [Option<u16>; 2],
    reason: Option<u8>,
    direction: Option<u8>,
    vlan: u16,
    sampling: Option<u32>,
    /// A connection of both directions.
    is_biflow: bool,
}

impl Record {
    /// Takes a field; `enterprise`: 0, or [`REVERSE`].
    pub fn take(&mut self, element: u16, enterprise: u32, bytes: &[u8], clock: Uptime) {
        let end = usize::from(enterprise == REVERSE);
        self.is_biflow |= end == 1;
        if matches!(element, 8 | 12 | 27 | 28) {
            return self.address(element, bytes);
        }
        let Some(value) = unsigned(bytes) else { return };
        let time =
            |milliseconds: u64| i64::try_from(milliseconds).ok().and_then(|value| value.checked_mul(MILLISECOND));
        match element {
            7 => self.ports[0] = value as u16,
            11 => self.ports[1] = value as u16,
            4 => self.proto = value as u8,
            6 => self.flags[end] = Some(value as u8),
            2 | 86 => self.packets[end] = Some(value),
            1 | 85 => self.bytes[end] = Some(value),
            401 | 402 => self.payload[end] = Some(value),
            // Cisco's biflows: the initiator's, the responder's; OUT counts of NetFlow 9.
            298 => self.packets[0] = Some(value),
            231 => self.bytes[0] = Some(value),
            299 | 24 => (self.packets[1], self.is_biflow) = (Some(value), element == 299 || value > 0),
            232 | 23 => (self.bytes[1], self.is_biflow) = (Some(value), element == 232 || value > 0),
            22 => self.start = Some(clock.at(value)),
            21 => self.end = Some(clock.at(value)),
            150 => self.start = time(value.saturating_mul(1_000)),
            151 => self.end = time(value.saturating_mul(1_000)),
            152 => self.start = self.start.or(time(value)),
            153 => self.end = self.end.or(time(value)),
            154 | 156 => self.start = Some(ntp(value)),
            155 | 157 => self.end = Some(ntp(value)),
            32 | 139 => self.icmp[end] = Some(value as u16),
            176 | 178 => self.icmp[end] = Some((value as u16) << 8 | self.icmp[end].unwrap_or(0) & 0xff),
            177 | 179 => self.icmp[end] = Some(self.icmp[end].unwrap_or(0) & 0xff00 | value as u16 & 0xff),
            136 => self.reason = Some(value as u8),
            239 => self.direction = Some(value as u8),
            58 | 243 => self.vlan = value as u16,
            34 | 305 => self.sampling = u32::try_from(value).ok().filter(|interval| *interval > 0),
            _ => {}
        }
    }

    fn address(&mut self, element: u16, bytes: &[u8]) {
        let end = usize::from(matches!(element, 12 | 28));
        if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
            self.addrs[end] = Some((Addr::v4(octets), Family::V4));
        } else if let Ok(octets) = <[u8; 16]>::try_from(bytes)
            && octets != [0; 16]
        {
            self.addrs[end] = Some((Addr::v6(octets), Family::V6));
        }
    }

    /// Fields of a record of NetFlow 5 or of nfdump.
    pub fn of(addrs: [(Addr, Family); 2], ports: [u16; 2], (proto, flags): (u8, u8), times: (i64, i64)) -> Self {
        Self {
            addrs: addrs.map(Some),
            ports,
            proto,
            flags: [Some(flags), None],
            start: Some(times.0),
            end: Some(times.1),
            ..Self::default()
        }
    }

    /// Counts of an end.
    pub fn count(&mut self, end: usize, packets: u64, bytes: u64) {
        (self.packets[end], self.bytes[end]) = (Some(packets), Some(bytes));
    }

    /// Sets the sampling interval; 0: not known.
    pub fn sample(&mut self, one_of: u32) {
        self.sampling = Some(one_of);
    }

    /// Puts the record into the sink; otherwise the reason why it is none.
    pub fn finish(self, observer: u32, sink: &mut Sink<'_>) -> Result<(), &'static str> {
        let (Some(src), Some(dst)) = (self.addrs[0], self.addrs[1]) else { return Err("netflow: no addresses") };
        let (Some(start), Some(end)) = (self.start.or(self.end), self.end.or(self.start)) else {
            return Err("netflow: no time");
        };
        let typed = is_icmp(self.proto);
        let message = typed.then(|| self.icmp[0].filter(|message| *message != 0).unwrap_or(self.ports[1]));
        let ports = match message.map(u16::to_be_bytes) {
            Some([kind, code]) => (kind.into(), code.into()),
            None => (self.ports[0], self.ports[1]),
        };
        let tuple = tuple(src, dst, ports, self.proto).ok_or("netflow: addresses of two families")?;
        let counts = |end: usize| Some(Counts { packets: self.packets[end]?, bytes: self.bytes[end]? });
        let sent = [counts(0), counts(1)];
        // An active timeout cuts a connection into records.
        if self.direction.is_some() && self.reason != Some(2) {
            sink.whole(Whole { observer, ..self.whole(tuple, (start, end), sent) });
            return Ok(());
        }
        sink.flow(&Flow {
            tuple,
            typed,
            start,
            end,
            sent: [Some(sent[0].unwrap_or_default()), sent[1]],
            counted: sent[0].is_some(),
            flags: self.flags.map(|flags| flags.filter(|_| self.proto == ipproto::TCP)),
            blended: true,
            says: match self.direction {
                Some(1) => Says::Source,
                _ if self.is_biflow => Says::Source,
                _ => Says::Nothing,
            },
            refused: None,
            observer,
            sampled: self.sampling.filter(|interval| *interval != 1),
        });
        Ok(())
    }

    fn whole(
        &self,
        mut tuple: conntrack_core::decode::FiveTuple,
        times: (i64, i64),
        sent: [Option<Counts>; 2],
    ) -> Whole {
        let direction = self.direction.unwrap_or(0);
        let asks = is_icmp(tuple.proto) && icmp::is_request(tuple.proto, tuple.sport as u8);
        if asks {
            tuple.dport = icmp::answer_to(tuple.proto, tuple.sport as u8).into();
        }
        let flags = self.flags.map(|flags| flags.unwrap_or(0));
        let opens = tuple.proto == ipproto::TCP && flags[0] & tcp::SYN != 0;
        let evidence = match direction {
            // 1: the source initiated; 2: the destination did; 0 and 3: nobody says.
            1 | 2 if opens => Evidence::Syn,
            1 if asks => Evidence::IcmpRequest,
            1 | 2 => Evidence::Logged,
            _ => Evidence::Unknown,
        };
        // A record without the reverse direction counts no answer.
        let mut sent = [sent[0], sent[1].or(sent[0].map(|_| Counts::default()))];
        let mut payload = [self.payload[0], self.payload[1].or(self.payload[0].map(|_| 0))];
        if direction == 2 {
            tuple = conntrack_core::rows::told::turned(tuple);
            sent.swap(0, 1);
            payload.swap(0, 1);
        }
        let data = payload.map(|bytes| bytes.is_some_and(|bytes| bytes > 0));
        let text: Vec<u8> = [(b'S', opens), (b'D', data[0]), (b'd', data[1])]
            .into_iter()
            .filter(|(_, has)| *has)
            .map(|(letter, _)| letter)
            .collect();
        Whole {
            sent,
            payload,
            letters: letters(&text),
            end_reason: match self.reason {
                Some(1) => Some(EndReason::Timeout),
                Some(3) => Some(EndReason::Closed),
                Some(4) => Some(EndReason::EndOfCapture),
                Some(5) => Some(EndReason::Evicted),
                _ => None,
            },
            vlan: Vlan { outer: if self.vlan > 0 { (self.vlan & 0xfff) + 1 } else { 0 }, inner: 0 },
            ..Whole::new(tuple, times.0, times.1, evidence)
        }
    }
}

/// A number of at most eight octets in network order.
pub fn unsigned(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// An NTP timestamp in nanoseconds since 1970, of the era that begins in 1900 or 2036.
fn ntp(stamp: u64) -> i64 {
    let seconds = (stamp >> 32) as i64 - NTP_1970;
    let seconds = if seconds < 0 { seconds + (1 << 32) } else { seconds };
    seconds.saturating_mul(SECOND).saturating_add((((stamp & 0xffff_ffff) * SECOND as u64) >> 32) as i64)
}

/// An address of IPv4 as a number.
pub fn v4(value: u32) -> (Addr, Family) {
    (Addr::v4(Ipv4Addr::from(value).octets()), Family::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uptime_clock_wraps() {
        let clock = Uptime { now: 1_700_000_000_000, up: 1_000 };
        assert_eq!(clock.at(500), (1_700_000_000_000 - 500) * MILLISECOND);
        assert_eq!(clock.at(u64::from(u32::MAX)), (1_700_000_000_000 - 1_001) * MILLISECOND);
    }

    #[test]
    fn ntp_has_two_eras() {
        assert_eq!(ntp((2_208_988_800_u64 + 10) << 32 | 1 << 31), 10 * SECOND + SECOND / 2);
        assert_eq!(ntp(0), ((1 << 32) - NTP_1970) * SECOND);
    }
}
