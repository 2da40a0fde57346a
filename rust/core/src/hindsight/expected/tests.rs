use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use conntrack_decode::{FiveTuple, L4, Packet};
use conntrack_output::rows::Finished;
use conntrack_track::config::Config;
use conntrack_track::direction::Locality;
use conntrack_track::tracker::Tracker;

const GROUP: [u8; 4] = [255; 4];

fn host(number: u8) -> [u8; 4] {
    [10, 0, 0, number]
}

/// A datagram at a time in seconds.
type Sent = (i64, ([u8; 4], u16), ([u8; 4], u16));

fn rows(packets: &[Sent]) -> Rows {
    let mut tracker = Tracker::new(&Config::default());
    let mut finished = Finished::new(Arc::new(Locality::new(&Config::default())));
    for (seconds, (src, sport), (dst, dport)) in packets {
        let (src, dst) = (Addr::v4(*src), Addr::v4(*dst));
        let tuple = FiveTuple { src, dst, sport: *sport, dport: *dport, proto: ipproto::UDP, family: Family::V4 };
        let packet = Packet {
            tuple,
            l4: L4::Udp,
            packets: 1,
            ip_bytes: 38,
            payload_bytes: 10,
            to_group: dst == Addr::v4(GROUP),
            complete: true,
            ..Packet::default()
        };
        tracker.advance(seconds * SECOND, |gone| finished.insert(gone));
        tracker.record(&[packet], &[], seconds * SECOND, |gone| finished.insert(gone));
    }
    tracker.finish(|gone| finished.insert(gone));
    finished.in_order()
}

/// Originator, evidence, whether the responder sent first, and parent of each row.
type Fact = (Addr, u16, Evidence, bool, Option<u64>);

fn facts(rows: &Rows) -> Vec<Fact> {
    rows.iter().map(|row| (row.addr(0), row.port(0), row.evidence(), row.is_flipped(), row.related_to())).collect()
}

fn settled(packets: &[Sent]) -> Vec<Fact> {
    let mut rows = rows(packets);
    let questions = questions(rows.iter());
    let none = Expectations::default();
    let expected = settle(&mut rows, &none, &questions);
    name_parents(&mut rows, &expected);
    facts(&rows)
}

/// The row after a question from this port to a group at port 30303, at second 0.
fn answer(port: u16, more: &[Sent]) -> Fact {
    let asked = [(0, (host(1), port), (GROUP, 30_303))];
    settled(&[&asked, more].concat())[1]
}

fn related(port: u16) -> Fact {
    (Addr::v4(host(1)), port, Evidence::Related, true, Some(0))
}

#[test]
fn answers_belong_to_the_asker() {
    assert_eq!(answer(43_213, &[(1, (host(2), 30_303), (host(1), 43_213))]), related(43_213));
    assert_eq!(answer(43_213, &[(30, (host(3), 9_999), (host(1), 43_213))]), related(43_213), "from any port");
    assert_eq!(answer(30_303, &[(1, (host(2), 30_303), (host(1), 30_303))]), related(30_303));
    assert_eq!(answer(30_303, &[(1, (host(2), 5_555), (host(1), 30_303))]), related(30_303), "unanswered itself");
}

#[test]
fn what_is_no_answer_stays_with_its_sender() {
    let own = |at: u8, port: u16| (Addr::v4(host(at)), port, Evidence::FirstPacket, false, None);
    let late = answer(43_213, &[(31, (host(2), 30_303), (host(1), 43_213))]);
    assert_eq!(late, own(2, 30_303), "after 30 s");
    assert_eq!(answer(43_213, &[(1, (host(2), 30_303), (host(1), 43_214))]), own(2, 30_303), "to another port");
    let client = [(1, (host(2), 50_000), (host(1), 30_303)), (1, (host(1), 30_303), (host(2), 50_000))];
    assert_eq!(answer(30_303, &client), own(2, 50_000), "a client of an endpoint that announces itself");
    let served = [(1, (host(2), 50_000), (host(1), 27_015)), (1, (host(1), 27_015), (host(2), 50_000))];
    assert_eq!(answer(27_015, &served), own(2, 50_000), "a client of a server that announces itself elsewhere");
    let both = [(1, (host(2), 30_303), (GROUP, 30_303)), (2, (host(2), 30_303), (host(1), 30_303))];
    assert_eq!(
        settled(&[&[(0, (host(1), 30_303), (GROUP, 30_303))], &both[..]].concat())[2],
        own(2, 30_303),
        "both asked"
    );
    let far = [203, 0, 113, 9];
    let found = answer(43_213, &[(1, (far, 30_303), (host(1), 43_213))]);
    assert_eq!(found, (Addr::v4(far), 30_303, Evidence::FirstPacket, false, None), "from beyond any group");
    let before = settled(&[(0, (host(2), 30_303), (host(1), 43_213)), (1, (host(1), 43_213), (GROUP, 30_303))]);
    assert_eq!(before[0], own(2, 30_303), "before the question");
}

#[test]
fn the_latest_question_is_the_parent() {
    let asked = |at: i64, to: u16| (at, (host(1), 43_213), (GROUP, to));
    let found = settled(&[asked(0, 1), asked(5, 2), asked(40, 1), (41, (host(2), 7), (host(1), 43_213))]);
    assert_eq!(found[3], (Addr::v4(host(1)), 43_213, Evidence::Related, true, Some(2)));
}

fn announced(ts: i64, named: (u8, u16), peer: Option<u8>, initiator: Initiator, parent: [(u8, u16); 2]) -> Expectation {
    Expectation {
        ts: ts * SECOND,
        begins: [(ts - 1) * SECOND, (ts + 300) * SECOND],
        proto: ipproto::UDP,
        family: Family::V4,
        addr: Addr::v4(host(named.0)),
        port: named.1,
        peer: peer.map(|peer| Addr::v4(host(peer))),
        initiator,
        parent: parent.map(|(number, port)| (Addr::v4(host(number)), port)),
        parent_proto: ipproto::UDP,
        tags: (Vlan::default(), Tunnel::default()),
    }
}

#[test]
fn an_announcement_names_parent_and_initiator() {
    let packets = [(0, (host(1), 3_445), (host(2), 69)), (1, (host(2), 50_618), (host(1), 3_445))];
    let mut rows = rows(&packets);
    let mut all = Expectations::default();
    all.insert(announced(0, (1, 3_445), Some(2), Initiator::Named, [(1, 3_445), (2, 69)]));
    let none = Expectations::default();
    let expected = settle(&mut rows, &all, &none);
    name_parents(&mut rows, &expected);
    let found = facts(&rows);
    assert_eq!(found[0], (Addr::v4(host(1)), 3_445, Evidence::FirstPacket, false, None), "not its own parent");
    assert_eq!(found[1], related(3_445));
}

#[test]
fn announcements_that_contradict_each_other_decide_nothing() {
    let packets = [(0, (host(3), 21), (host(1), 5_000)), (1, (host(2), 6_000), (host(1), 7_000))];
    for (initiator, decides) in [(Initiator::Peer, true), (Initiator::Named, false)] {
        let mut rows = rows(&packets);
        let mut all = Expectations::default();
        all.insert(announced(0, (1, 7_000), Some(2), Initiator::Named, [(3, 21), (1, 5_000)]));
        all.insert(announced(1, (2, 6_000), None, initiator, [(3, 21), (1, 5_000)]));
        settle(&mut rows, &all, &Expectations::default());
        assert_eq!(facts(&rows)[1].2 == Evidence::Related, decides);
    }
}

#[test]
fn many_facts_of_one_endpoint_cost_no_more_than_a_few() {
    let mut packets: Vec<Sent> = (0..20_000).map(|port| (0, (host(1), 43_213), (GROUP, 1 + port))).collect();
    packets.extend((0..20_000).map(|port| (1, (host(2), 1 + port), (host(1), 43_213))));
    let found = settled(&packets);
    assert!(found[20_000..].iter().all(|fact| fact.2 == Evidence::Related));
}

proptest! {
    #[test]
    fn facts_of_any_parts_give_the_same_rows(
        packets in prop::collection::vec((0..20_i64, 0..4_u8, 0..3_u16, 0..5_u8, 0..3_u16), 0..60),
        messages in prop::collection::vec((0..99_i64, 0..4_u8, 0..3_u16, 0..4_u8, any::<bool>()), 0..12),
        seed in any::<usize>(),
    ) {
        let mut at = 0;
        let packets: Vec<Sent> = packets.into_iter().map(|(wait, from, sport, to, dport)| {
            at += wait;
            let dst = if to == 4 { GROUP } else { host(to) };
            (at, (host(from), 5_000 + sport), (dst, 5_000 + dport))
        }).collect();
        let messages: Vec<_> = messages.into_iter().map(|(ts, named, port, peer, asks)| {
            let initiator = if asks { Initiator::Named } else { Initiator::Peer };
            announced(ts, (named, 5_000 + port), Some(peer).filter(|_| port > 0), initiator, [(named, 5_000), (peer, 5_001)])
        }).collect();
        let mut whole = Expectations::default();
        for one in &messages {
            whole.insert(*one);
        }
        let mut once = rows(&packets);
        let asked = questions(once.iter());
        settle(&mut once, &whole, &asked);
        for parts in [1, 2, 7, 16] {
            let mut again = rows(&packets);
            let (mut announced, mut asked) = (Expectations::default(), Expectations::bounded(MOST_QUESTIONS));
            for part in (0..parts).map(|part| (part + seed % parts) % parts) {
                let mut some = Expectations::default();
                for one in messages.iter().skip(part).step_by(parts) {
                    some.insert(*one);
                }
                announced.merge(some);
                asked.merge(questions(again.iter().filter(|row| (row.number() as usize) % parts == part)));
            }
            settle(&mut again, &announced, &asked);
            prop_assert_eq!(facts(&once), facts(&again));
        }
    }
}
