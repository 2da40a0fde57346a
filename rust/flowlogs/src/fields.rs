//! Numbers, addresses and times of text, read without a copy.

use std::net::{IpAddr, Ipv6Addr};

use conntrack_core::decode::{Addr, Family, FiveTuple};
use conntrack_core::rows::told::addr_of;

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// A decimal number; None for anything else, and for what has no room.
pub fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { sum.checked_mul(10)?.checked_add(digit.into()) }
    })
}

/// A number that fits a smaller type.
pub fn small<T: TryFrom<u64>>(text: &[u8]) -> Option<T> {
    number(text)?.try_into().ok()
}

/// An address of either family.
pub fn address(text: &[u8]) -> Option<(Addr, Family)> {
    if let Some(addr) = ipv4(text) {
        return Some((Addr(addr.into()), Family::V4));
    }
    let text = std::str::from_utf8(text).ok()?;
    // A zone names an interface of the host that logged.
    let text = text.split('%').next()?;
    let addr: Ipv6Addr = text.parse().ok()?;
    Some(addr.to_ipv4_mapped().map_or_else(|| addr_of(IpAddr::V6(addr)), |addr| addr_of(IpAddr::V4(addr))))
}

fn ipv4(text: &[u8]) -> Option<u32> {
    let (mut addr, mut part, mut digits, mut dots) = (0_u32, 0_u32, 0, 0);
    for byte in text {
        match byte {
            b'0'..=b'9' if digits < 3 => (part, digits) = (part * 10 + u32::from(byte - b'0'), digits + 1),
            b'.' if digits > 0 && dots < 3 && part < 256 => {
                (addr, part, digits, dots) = (addr << 8 | part, 0, 0, dots + 1);
            }
            _ => return None,
        }
    }
    (dots == 3 && digits > 0 && part < 256).then_some(addr << 8 | part)
}

/// A tuple of two addresses of one family.
pub fn tuple(src: (Addr, Family), dst: (Addr, Family), ports: (u16, u16), proto: u8) -> Option<FiveTuple> {
    (src.1 == dst.1).then_some(FiveTuple {
        src: src.0,
        dst: dst.0,
        sport: ports.0,
        dport: ports.1,
        proto,
        family: src.1,
    })
}

/// Seconds since 1970 with a fraction, as nanoseconds.
pub fn seconds(text: &[u8]) -> Option<i64> {
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole = i64::try_from(number(parts.next()?)?).ok()?.checked_mul(SECOND)?;
    let fraction = parts.next().map_or(Some(0), |digits| {
        let digits = &digits[..digits.len().min(9)];
        let value = i64::try_from(number(digits)?).ok()?;
        Some(value * 10_i64.pow(9 - digits.len() as u32))
    })?;
    whole.checked_add(fraction)
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970, by the number of digits, as nanoseconds.
pub fn by_digits(value: u64) -> Option<i64> {
    let value = i64::try_from(value).ok()?;
    match value {
        ..100_000_000_000 => value.checked_mul(SECOND),
        100_000_000_000..100_000_000_000_000 => value.checked_mul(1_000_000),
        100_000_000_000_000..100_000_000_000_000_000 => value.checked_mul(1_000),
        _ => Some(value),
    }
}

/// A time of RFC 3339 (`2025-01-31T12:00:00.5Z`, `+0100` and `+01:00`), as nanoseconds since 1970.
pub fn moment(text: &[u8]) -> Option<i64> {
    let part = |at: std::ops::Range<usize>| number(text.get(at)?).and_then(|value| i64::try_from(value).ok());
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    let (hour, minute, second) = (part(11..13)?, part(14..16)?, part(17..19)?);
    let is_date = (1970..=2261).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 || !matches!(text.get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanoseconds = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let kept = digits.min(9);
        nanoseconds = i64::try_from(number(&fraction[..kept])?).ok()? * 10_i64.pow(9 - kept as u32);
        rest = &fraction[digits..];
    }
    let east = match rest {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), zone @ ..] => {
            let digits: Vec<u8> = zone.iter().copied().filter(|byte| *byte != b':').collect();
            let (hours, minutes) = (i64::try_from(number(digits.get(..2)?)?).ok()?, number(digits.get(2..4)?)?);
            let east = hours * 3_600 + i64::try_from(minutes).ok()? * 60;
            if *sign == b'-' { -east } else { east }
        }
        _ => return None,
    };
    // Days by the civil calendar: the year begins in March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    (days * 86_400 + hour * 3_600 + minute * 60 + second - east).checked_mul(SECOND)?.checked_add(nanoseconds)
}

/// The number of a protocol, from its name in any case or from a number.
pub fn protocol(text: &[u8]) -> Option<u8> {
    if let Some(number) = small(text) {
        return Some(number);
    }
    let name = std::str::from_utf8(text).ok()?.to_ascii_lowercase();
    match name.as_str() {
        "icmpv6" | "ipv6-icmp" => Some(58),
        name => conntrack_core::columns::protocol_number(name),
    }
}

/// True for the ICMP of either family.
pub fn is_icmp(proto: u8) -> bool {
    conntrack_core::flow::icmp::is_icmp(proto)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_and_bounded() {
        assert_eq!([&b"0"[..], b"18446744073709551615"].map(number), [Some(0), Some(u64::MAX)]);
        assert!([&b""[..], b"-", b"1a", b"18446744073709551616", b"+1"].into_iter().all(|text| number(text).is_none()));
    }

    #[test]
    fn addresses() {
        assert_eq!(address(b"10.0.0.1"), Some((Addr(0x0a00_0001), Family::V4)));
        assert_eq!(address(b"::ffff:10.0.0.1"), Some((Addr(0x0a00_0001), Family::V4)));
        assert_eq!(address(b"fe80::1%eth0").unwrap().1, Family::V6);
        assert!(
            [&b"10.0.0"[..], b"10.0.0.256", b"10.0.0.1.2", b"-", b"1000.1.1.1"]
                .iter()
                .all(|text| address(text).is_none())
        );
    }

    #[test]
    fn times_of_all_forms_agree() {
        let at = 1_738_324_800_500_000_000;
        let texts: [&[u8]; 4] = [
            b"2025-01-31T12:00:00.5Z",
            b"2025-01-31T13:00:00.500000+0100",
            b"2025-01-31T12:00:00.5",
            b"2025-01-31T06:30:00.5-05:30",
        ];
        assert!(texts.into_iter().all(|text| moment(text) == Some(at)));
        assert_eq!(seconds(b"1738324800.5"), Some(at));
        assert_eq!(
            [1_738_324_800, 1_738_324_800_000, 1_738_324_800_000_000].map(by_digits),
            [Some(at - SECOND / 2); 3]
        );
        assert_eq!(moment(b"2024-02-29T00:00:00Z"), Some(1_709_164_800 * SECOND));
        assert!(
            [&b"2025-13-31T12:00:00Z"[..], b"2025-01-31", b"", b"2025-01-31T12:00:00+1"]
                .iter()
                .all(|text| moment(text).is_none())
        );
    }
}
