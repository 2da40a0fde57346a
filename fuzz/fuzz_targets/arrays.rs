//! Arbitrary numbers as columns of a packet table: a field is refused, or its packet survives a round trip.
#![no_main]

use std::sync::Arc;

use conntrack_core::config::Config;
use conntrack_core::decode::{Addr, Family, FiveTuple, Flat, Vlan, flat};
use conntrack_core::labels::WIDTH;
use conntrack_core::pipeline::Stream;
use libfuzzer_sys::fuzz_target;

/// Bytes of the numeric fields of a packet.
const NUMBERS: usize = 72;

/// Reader of consecutive numbers.
struct Numbers<'a>(&'a [u8; NUMBERS], usize);

impl Numbers<'_> {
    fn next<const L: usize>(&mut self) -> [u8; L] {
        let found = self.0.get(self.1..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; L]);
        self.1 += L;
        found
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.next())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.next())
    }
}

/// A packet of numeric fields, options and payload; and the rest of the input.
fn packet(data: &[u8]) -> Option<((i64, Flat<'_>), &[u8])> {
    let (numbers, rest) = data.split_first_chunk()?;
    let mut numbers = Numbers(numbers, 0);
    let [kind, options, payload, more, to_group, tcp_flags, proto] = numbers.next();
    let family = if kind & 1 == 0 { Family::V4 } else { Family::V6 };
    let (options, rest) = rest.split_at(usize::from(options).min(rest.len()));
    let (payload, rest) = rest.split_at(usize::from(payload).min(rest.len()));
    let addr = |bytes: [u8; 8]| match family {
        Family::V4 => Addr(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).into()),
        Family::V6 => Addr(u128::from(u64::from_be_bytes(bytes)) << 64 | 1),
    };
    let ts = i64::from_be_bytes(numbers.next());
    let (src, dst) = (addr(numbers.next()), addr(numbers.next()));
    let (sport, dport) = (numbers.u16(), numbers.u16());
    let tuple = FiveTuple { src, dst, sport, dport, proto, family };
    let flat = Flat {
        tuple: (kind & 2 == 0).then_some(tuple),
        length: if kind & 4 == 0 { numbers.u16().into() } else { numbers.u32() },
        ip_header_length: if kind & 8 == 0 { numbers.next::<1>()[0].into() } else { numbers.u32() },
        ip_id: if kind & 16 == 0 { numbers.u16().into() } else { numbers.u32() },
        fragment_offset: if kind & 32 == 0 { 0 } else { numbers.u16() },
        more_fragments: more & 1 == 1,
        vlan: Vlan { outer: numbers.u16() & 0x0fff, inner: numbers.u16() & 0x0fff },
        to_group: to_group & 1 == 1,
        tcp_flags,
        seq: numbers.u32(),
        ack: numbers.u32(),
        window: numbers.u16(),
        tcp_options: options,
        udp_length: numbers.u16(),
        icmp_id: numbers.u16(),
        sctp_vtag: numbers.u32(),
        payload,
    };
    Some(((ts, flat), rest))
}

fuzz_target!(|data: &[u8]| {
    let (mut rest, mut packets) = (data, Vec::new());
    while let Some((packet, tail)) = packet(rest) {
        packets.push(packet);
        rest = tail;
    }
    // Remove refused packets one by one.
    while let Err((place, refusal)) = flat::batch(packets.iter().copied()) {
        assert!(refusal.is_some_and(|refusal| !refusal.expected.is_empty()));
        packets.remove(place);
    }
    let Ok(batch) = flat::batch(packets.iter().copied()) else { return };
    let read: Vec<_> = batch.records.iter().map(|one| (one.ts, Flat::read(one, batch.bytes(one)))).collect();
    let again = flat::batch(read.iter().copied()).expect("what was read can be written");
    let twice: Vec<_> = again.records.iter().map(|one| (one.ts, Flat::read(one, again.bytes(one)))).collect();
    assert_eq!(read, twice);
    for (given, found) in packets.iter().zip(&read).filter(|(_, found)| found.1.tuple.is_some()) {
        assert_eq!(
            given.1.tuple.map(|tuple| (tuple.src, tuple.dst)),
            found.1.tuple.map(|tuple| (tuple.src, tuple.dst))
        );
        assert_eq!(given.1.length, found.1.length);
    }
    drop(read);
    let stream = Stream::new(&Config::default());
    assert_eq!(stream.process(Arc::new(batch)).len(), packets.len() * WIDTH);
    assert!(stream.finish().len() <= packets.len());
});
