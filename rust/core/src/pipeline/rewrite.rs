//! Packets without addresses: headers that are known, under prefix-preserving names, and nothing else.
//!
//! A frame is built anew from the fields of the outermost IP packet ([`Flat`]): no byte of the capture is copied that is not
//! one of these fields. So MAC addresses, payloads, tunnelled packets, packets quoted by ICMP errors, gateways of redirects
//! and neighbours' addresses are not there. Of TCP options the harmless ones stay: MPTCP's have addresses (RFC 8684
//! section 3.4.1).

use conntrack_capture::Record;
use conntrack_decode::flat::Flat;
use conntrack_decode::{Addr, ipproto};
use conntrack_output::anonymise::{Anonymiser, Names};

/// Kinds of TCP options that stay: maximum segment size, window scale, SACK permitted, SACK, timestamps.
const KEPT: [u8; 5] = [2, 3, 4, 5, 8];
const END: u8 = 0;
const NO_OPERATION: u8 = 1;

/// Rewrites packets one after another.
pub struct Rewriter<'a> {
    names: Names<'a>,
    frame: Vec<u8>,
    /// Packets without an IP header that can be rewritten.
    pub dropped: u64,
}

impl<'a> Rewriter<'a> {
    /// No packet yet.
    pub fn new(names: &'a Anonymiser) -> Self {
        Self { names: Names::new(names), frame: Vec::new(), dropped: 0 }
    }

    /// An Ethernet frame and its length on the wire; None for a packet that is dropped.
    pub fn frame(&mut self, record: &Record, bytes: &[u8]) -> Option<(&[u8], u32)> {
        self.frame.clear();
        let flat = Flat::read(record, bytes);
        let options = clean(flat.tcp_options);
        let written = flat.tuple.and_then(|mut tuple| {
            for addr in [&mut tuple.src, &mut tuple.dst] {
                *addr = match self.names.addr(addr.ip(tuple.family)) {
                    std::net::IpAddr::V4(addr) => Addr(u32::from(addr).into()),
                    std::net::IpAddr::V6(addr) => Addr(addr.into()),
                };
            }
            let kind = tuple.sport as u8;
            let is_query = match tuple.proto {
                ipproto::ICMP => matches!(kind, 0 | 8 | 13..=18),
                ipproto::ICMPV6 => matches!(kind, 128 | 129),
                _ => false,
            };
            let kept = flat.tcp_options.len().min(options.len());
            let icmp_id = if is_query { flat.icmp_id } else { 0 };
            let bare = Flat { tuple: Some(tuple), tcp_options: &options[..kept], payload: &[], icmp_id, ..flat };
            bare.write(&mut self.frame).ok()
        });
        if written.is_none() {
            self.dropped += 1;
        }
        Some((&self.frame, written?))
    }
}

/// TCP options of which those that may identify more than a host's clock are replaced by no-operations.
fn clean(options: &[u8]) -> [u8; 40] {
    let mut made = [NO_OPERATION; 40];
    let mut at = 0;
    while let Some(kind) = options.get(at).copied().filter(|kind| *kind != END) {
        if kind == NO_OPERATION {
            at += 1;
            continue;
        }
        let Some(size) = options.get(at + 1).map(|size| usize::from(*size)).filter(|size| *size >= 2) else { break };
        let (Some(from), Some(to)) = (options.get(at..at + size), made.get_mut(at..at + size)) else { break };
        if KEPT.contains(&kind) {
            to.copy_from_slice(from);
        }
        at += size;
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_with_addresses_are_gone() {
        // MSS, an MPTCP ADD_ADDR with an address, window scale.
        let options = [2, 4, 5, 180, 30, 8, 0x30, 1, 192, 0, 2, 1, 3, 3, 7, 0];
        let made = clean(&options);
        assert_eq!(made[..16], [2, 4, 5, 180, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 7, 1]);
        // Cut and contradictory ones.
        for damaged in [&[8][..], &[8, 0], &[8, 10, 1], &[254, 255]] {
            assert_eq!(clean(damaged), [NO_OPERATION; 40]);
        }
    }
}
