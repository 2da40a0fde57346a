//! Captures of a few connections whose values collide often, and what of them is paired.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::ops::ControlFlow;

use conntrack_capture::{Captures, Input};
use conntrack_track::config::Config;
use proptest::prelude::*;

use crate::nat::{Clock, Correlated, Proof, Side, Sketch, correlate};
use crate::pipeline::{RunOutput, sketched};

use super::naive;

/// A datagram or segment: microseconds, host and server, identification, what it says, and whether it is a reply.
type Sent = (i64, u8, u8, u16, Vec<u8>, bool);

const SECOND: i64 = 1_000_000_000;

/// A capture of raw IPv4. `outside`: the sources are one gateway, with a port for each host.
fn capture(packets: &[Sent], outside: bool) -> Vec<u8> {
    let mut sorted: Vec<&Sent> = packets.iter().collect();
    sorted.sort_by_key(|sent| sent.0);
    let mut file = [0xa1b2_3c4d_u32, 4 << 16 | 2, 0, 0, 65_535, 101].map(u32::to_le_bytes).concat();
    for (ts, host, server, id, said, reply) in sorted {
        let (own, port) =
            if outside { ([198, 51, 100, 1], 20_000 + u16::from(*host)) } else { ([10, 0, 0, *host], 5_000) };
        let (there, service) = ([203, 0, 113, *server], 7_000);
        let ((src, sport), (dst, dport)) =
            if *reply { ((there, service), (own, port)) } else { ((own, port), (there, service)) };
        let udp = [[sport, dport, 8 + said.len() as u16, 0].map(u16::to_be_bytes).concat(), said.clone()].concat();
        let head = [0x4500, 20 + udp.len() as u16, *id, 0x4000, 0x4011, 0].map(u16::to_be_bytes).concat();
        let packet = [&head[..], &src, &dst, &udp].concat();
        let words = [(ts / SECOND) as u32, (ts % SECOND) as u32, packet.len() as u32, packet.len() as u32];
        file.extend(words.map(u32::to_le_bytes).concat());
        file.extend(packet);
    }
    file
}

fn track(file: Vec<u8>) -> (RunOutput, Sketch) {
    let input = Input::Reader { name: "packets".into(), reader: Box::new(Cursor::new(file)) };
    let mut captures = Captures::open(vec![input], false).unwrap();
    sketched(&mut captures, &Config::default(), &mut |_| ControlFlow::Continue(())).unwrap()
}

fn pair(inside: &[Sent], outside: &[Sent], clock: Option<Clock>) -> Correlated {
    let (ours, theirs) = (track(capture(inside, false)), track(capture(outside, true)));
    correlate(Side { rows: &ours.0.rows, sketch: &ours.1 }, Side { rows: &theirs.0.rows, sketch: &theirs.1 }, clock)
}

fn sent() -> impl Strategy<Value = Sent> {
    let said = prop_oneof![
        Just(b"ping".to_vec()),
        Just(vec![0x91, 0xa2, 0xb3, 0xc4, 0xd5, 0xe6, 0xf7, 0x88, 0x99, 0xaa, 0xbb, 0xcc]),
        prop::collection::vec(any::<u8>(), 4..20),
    ];
    let id = prop_oneof![Just(0_u16), 2_000_u16..2_003, any::<u16>()];
    (0..200_i64, 1_u8..12, 1_u8..3, id, said, any::<bool>())
        .prop_map(|(at, host, server, id, said, reply)| (at * 20_000_000 + SECOND, host, server, id, said, reply))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn pairs_are_those_of_the_rules(
        packets in prop::collection::vec(sent(), 1..60),
        lost in prop::collection::vec(any::<(bool, bool)>(), 60),
    ) {
        let kept = |side: fn(&(bool, bool)) -> bool| -> Vec<Sent> {
            packets.iter().zip(&lost).filter(|(_, lost)| !side(lost) || packets.len() % 3 == 0).map(|one| one.0.clone()).collect()
        };
        let (inside, outside) = (kept(|lost| lost.0), kept(|lost| lost.1));
        let (ours, theirs) = (track(capture(&inside, false)), track(capture(&outside, true)));
        let sides = [(&ours.0.rows, &ours.1), (&theirs.0.rows, &theirs.1)].map(|(rows, sketch)| Side { rows, sketch });
        let clock = Clock::given(0, 30_000_000);
        let found = correlate(sides[0], sides[1], Some(clock.clone()));
        prop_assert_eq!(naive::across(&found), naive::pairs(sides[0], sides[1], &clock, &BTreeSet::new()));
    }

    #[test]
    fn other_captures_have_no_pair(one in prop::collection::vec(sent(), 0..60), other in prop::collection::vec(sent(), 0..60)) {
        // What both say by chance says nothing.
        let said: BTreeSet<&Vec<u8>> = one.iter().map(|sent| &sent.4).collect();
        let other: Vec<Sent> = other.into_iter().filter(|sent| sent.4.len() < 12 || !said.contains(&sent.4)).collect();
        prop_assert!(naive::across(&pair(&one, &other, None)).is_empty());
    }
}

/// Random bytes, the same for the same seed.
fn noise(seed: u64) -> Vec<u8> {
    (0..24_u64).map(|at| (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(at as u32 * 7) as u8).collect()
}

fn distinct(hosts: u8) -> Vec<Sent> {
    (1..=hosts).map(|host| (SECOND * i64::from(host), host, 1, 0, noise(host.into()), false)).collect()
}

#[test]
fn datagrams_are_paired_by_what_they_say_whatever_the_clocks() {
    for shift in [0, SECOND / 2, 3_600 * SECOND] {
        let inside = distinct(20);
        let outside: Vec<Sent> =
            inside.iter().map(|sent| (sent.0 + shift, sent.1, 1, 0, sent.4.clone(), false)).collect();
        let found = pair(&inside, &outside, None);
        assert_eq!(naive::across(&found), (0..20).map(|row| (row, row)).collect());
        assert!(found.pairs.iter().all(|pair| pair.proof == Proof::Payload && !pair.crossed));
        let clock = found.clock.unwrap();
        assert_eq!((clock.offset(), clock.samples), (shift, 20));
    }
}

#[test]
fn equal_texts_are_a_tie_and_never_a_pair() {
    let mut inside = distinct(20);
    inside.extend((30..40).map(|host| (SECOND * i64::from(host), host, 1, 0, b"ping".to_vec(), false)));
    let found = pair(&inside, &inside, None);
    assert_eq!(found.pairs.len(), 20);
    assert_eq!(found.account.ambiguous, [10, 10]);
}

#[test]
fn identifications_tell_equal_texts_apart() {
    let mut inside = distinct(20);
    inside.extend((30..40).map(|host| (SECOND * 25, host, 1, 5_000 + u16::from(host), b"ping".to_vec(), false)));
    let found = pair(&inside, &inside, None);
    assert_eq!(found.pairs.len(), 30);
    assert_eq!(found.pairs.iter().filter(|pair| pair.proof == Proof::IpId).count(), 10);
}
