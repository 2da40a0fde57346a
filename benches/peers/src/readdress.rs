//! Other addresses for the same packets, so that a repeated capture has new connections.

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86DD;
const VLAN_TAGS: [u16; 2] = [0x8100, 0x88A8];
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Changes unicast addresses of an Ethernet frame, and the checksums that cover them; 0 changes nothing.
///
/// IPv4 addresses change in the second and third byte, IPv6 addresses in the third group. Addresses that an ICMP error
/// quotes change likewise. Inner packets of tunnels stay.
pub fn readdress(frame: &mut [u8], number: u16) {
    let mut at = 12;
    while half(frame, at).is_some_and(|kind| VLAN_TAGS.contains(&kind)) {
        at += 4;
    }
    let kind = half(frame, at);
    let Some(packet) = frame.get_mut(at + 2..) else { return };
    match kind {
        Some(IPV4) => ipv4(packet, number, false),
        Some(IPV6) => ipv6(packet, number),
        _ => {}
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The change of a checksum for a changed word (RFC 1624), where the checksum was captured.
fn adjust(packet: &mut [u8], checksum: usize, (old, new): (u16, u16)) {
    let Some(sum) = half(packet, checksum) else { return };
    let mut total = u32::from(!sum) + u32::from(!old) + u32::from(new);
    while total > 0xFFFF {
        total = (total & 0xFFFF) + (total >> 16);
    }
    packet[checksum..checksum + 2].copy_from_slice(&(!(total as u16)).to_be_bytes());
}

/// Changes a word, and the checksums that cover the word.
fn change(packet: &mut [u8], at: usize, by: u16, checksums: &[usize]) {
    let Some(old) = half(packet, at) else { return };
    let new = old ^ by;
    packet[at..at + 2].copy_from_slice(&new.to_be_bytes());
    for &checksum in checksums {
        adjust(packet, checksum, (old, new));
    }
}

fn ipv4(packet: &mut [u8], number: u16, quoted: bool) {
    let Some(&[first, ..]) = packet.get(..20) else { return };
    let header = usize::from(first & 15) * 4;
    // The offset is the last 13 bits.
    let first_fragment = half(packet, 6).is_some_and(|word| word << 3 == 0);
    let is_message = header >= 20 && first_fragment && !quoted;
    let transport = is_message.then(|| checksum_of(packet, header, packet[9])).flatten();
    let covering: Vec<usize> = [Some(10), transport].into_iter().flatten().collect();
    let [high, low] = number.to_be_bytes();
    for address in [12, 16] {
        if !matches!(packet[address], 0 | 127 | 224..) {
            change(packet, address, u16::from(low), &covering);
            change(packet, address + 2, u16::from(high) << 8, &covering);
        }
    }
    // The quoted header's checksum balances each change, so that the checksum of the message stays right.
    let is_error = is_message && packet[9] == ICMP && matches!(packet.get(header), Some(3 | 4 | 5 | 11 | 12));
    if let Some(quoted) = packet.get_mut(header + 8..).filter(|_| is_error) {
        ipv4(quoted, number, true);
    }
}

fn ipv6(packet: &mut [u8], number: u16) {
    if packet.len() < 40 {
        return;
    }
    let protocol = packet[6];
    let transport = checksum_of(packet, 40, protocol);
    let covering: Vec<usize> = transport.into_iter().collect();
    for address in [8, 24] {
        if packet[address] & 0xE0 == 0x20 {
            change(packet, address + 4, number, &covering);
        }
    }
    if protocol == ICMPV6 && matches!(packet.get(40), Some(1..=4)) {
        for quoted in [48 + 8, 48 + 24] {
            if packet.get(quoted).is_some_and(|first| first & 0xE0 == 0x20) {
                change(packet, quoted + 4, number, &covering);
            }
        }
    }
}

/// Place of the transport's checksum if it covers addresses and is in use.
fn checksum_of(packet: &[u8], header: usize, protocol: u8) -> Option<usize> {
    match protocol {
        TCP => Some(header + 16),
        UDP => Some(header + 6).filter(|&at| half(packet, at) != Some(0)),
        ICMPV6 => Some(header + 2),
        _ => None,
    }
}
