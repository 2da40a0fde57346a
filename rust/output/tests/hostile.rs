//! Forged records of a checkpoint: no operation on them panics.

use std::io::Cursor;
use std::sync::Arc;

use proptest::prelude::*;

use conntrack_base::checkpoint::{Reader, Writer};
use conntrack_base::time::{Clock, SECOND};
use conntrack_decode::testkit::{client_server as tuple, whole as packet};
use conntrack_decode::{Family, FiveTuple, L4, Packet, Tcp, ipproto, tcpflag};
use conntrack_output::rows::{Finished, Row, Rows};
use conntrack_track::config::Config;
use conntrack_track::conn::{Flags, Image, path};
use conntrack_track::connection::Connection;
use conntrack_track::direction::Locality;
use conntrack_track::flow::{FlowKey, Side};
use conntrack_track::tracker::Tracker;
use serde::{Deserialize, Serialize};

const NOW: i64 = 1_700_000_000 * SECOND;
const SYN: u8 = tcpflag::SYN;
const ACK: u8 = tcpflag::ACK;

/// A key, its hot record, and the whole connection of a cold part, if any.
type Saved = (Vec<u64>, Image, Option<Connection>);

/// A slot in a checkpoint.
#[derive(Serialize, Deserialize)]
struct Stored {
    key: Vec<u64>,
    image: Image,
}

/// A tracker that was saved with these records.
fn loaded(narrow: &[Saved], broad: &[Saved]) -> Option<Tracker> {
    let mut out = Writer::new(Vec::new()).unwrap();
    out.put(&(Clock::stopped(NOW), i64::MIN, false)).unwrap();
    out.put(&(1_000_u64, 0_u64, 0_u64)).unwrap();
    out.put(&1_u64).unwrap();
    for slots in [narrow, broad] {
        let stored = slots.iter().map(|(key, image, _)| Stored { key: key.clone(), image: *image });
        out.put_all(slots.len(), stored).unwrap();
        out.put_all(0, std::iter::empty::<u32>()).unwrap();
        let beside = || slots.iter().zip(0_u32..).filter_map(|((.., cold), number)| Some((number, cold.clone()?)));
        out.put_all(beside().count(), beside()).unwrap();
        out.put(&0_u32).unwrap();
        let marks = slots.iter().zip(0_u32..).map(|((_, image, _), slot)| (i64::from(image.armed), vec![slot]));
        out.put_all(slots.len(), marks).unwrap();
    }
    // No connection waits for an answer with other tags.
    out.put(&0_u64).unwrap();
    for _ in [narrow, broad] {
        out.put_all(0, std::iter::empty::<u32>()).unwrap();
    }
    let bytes = out.finish().unwrap();
    let mut tracker = Tracker::new(&Config { hash_key: Some([1, 2, 3, 4]), ..Config::default() });
    tracker.load(&mut Reader::new(Cursor::new(bytes)).unwrap()).ok().map(|()| tracker)
}

#[test]
fn counts_without_room_for_more_are_refused() {
    let refusal = |counts: [u64; 3]| {
        let mut out = Writer::new(Vec::new()).unwrap();
        out.put(&(Clock::stopped(NOW), i64::MIN, false)).unwrap();
        out.put(&counts).unwrap();
        let mut tracker = Tracker::new(&Config::default());
        tracker.load(&mut Reader::new(Cursor::new(out.finish().unwrap())).unwrap()).unwrap_err().to_string()
    };
    for counts in [[u64::MAX, 0, 0], [0, u64::MAX, 0], [0, 0, u64::MAX]] {
        assert!(refusal(counts).contains("a part cannot be read"), "{counts:?}");
    }
    assert!(refusal([1 << 48, 0, 0]).contains("too many connections have begun"));
    assert!(refusal([1 << 47, 0, 0]).contains("a part is not there"), "what follows is read");
}

/// Records as they are after the first packets of connections of every kind.
fn sound(family: Family) -> Vec<Saved> {
    let is_v6 = family == Family::V6;
    let mut tracker = Tracker::new(&Config { hash_key: Some([1, 2, 3, 4]), ..Config::default() });
    let segments = [
        (true, SYN, 100, 0, 0),
        (false, SYN | ACK, 900, 101, 0),
        (true, ACK, 101, 901, 0),
        (true, ACK, 101, 901, 50),
        (false, ACK, 901, 151, 0),
        (false, tcpflag::FIN | ACK, 901, 151, 0),
        (true, tcpflag::FIN | ACK, 151, 902, 0),
        (false, ACK, 902, 152, 0),
    ];
    let mut ids = Vec::new();
    for count in 1..=segments.len() as u16 {
        for (from_client, flags, seq, ack, payload) in segments.iter().take(count.into()).copied() {
            let tcp = Tcp { seq, ack, flags, window: 1_000, ..Tcp::default() };
            ids.push(packet(tuple(family, count, from_client, ipproto::TCP), L4::Tcp(tcp), payload));
        }
    }
    // A refused one, one with a cold part, UDP and echo.
    for (from_client, flags, number) in
        [(true, SYN, 20), (false, tcpflag::RST | ACK, 20), (true, SYN, 21), (true, SYN, 21)]
    {
        let (seq, ack) = if from_client { (100, 0) } else { (0, 101) };
        let tcp = Tcp { seq, ack, flags, window: 1_000, ..Tcp::default() };
        ids.push(packet(tuple(family, number, from_client, ipproto::TCP), L4::Tcp(tcp), 0));
    }
    ids.extend([true, false].map(|from_client| packet(tuple(family, 30, from_client, ipproto::UDP), L4::Udp, 9)));
    let (proto, kind) = if is_v6 { (ipproto::ICMPV6, 128) } else { (ipproto::ICMP, 8) };
    let ends = FiveTuple { sport: kind.into(), dport: 0, ..tuple(family, 0, true, proto) };
    ids.push(Packet { flow_id: 7, ..packet(ends, L4::Icmp { kind, code: 0, id: 7 }, 9) });
    for (one, ts) in ids.iter().zip(NOW..) {
        tracker.record(std::slice::from_ref(one), &[], ts, |_| ());
    }
    saved(&tracker, is_v6)
}

/// The records of a tracker, out of its checkpoint.
fn saved(tracker: &Tracker, is_v6: bool) -> Vec<Saved> {
    let mut out = Writer::new(Vec::new()).unwrap();
    tracker.save(&mut out).unwrap();
    let mut from = Reader::new(Cursor::new(out.finish().unwrap())).unwrap();
    from.get::<(Clock, i64, bool)>().unwrap();
    from.get::<(u64, u64, u64)>().unwrap();
    from.get::<u64>().unwrap();
    let mut widths = [Vec::new(), Vec::new()];
    for width in &mut widths {
        let mut slots: Vec<Stored> = Vec::new();
        from.get_all(|slot| {
            slots.push(slot);
            Ok(())
        })
        .unwrap();
        width.extend(slots.into_iter().map(|slot| (slot.key, slot.image, None)));
        from.get_all(|_: u32| Ok(())).unwrap();
        from.get_all(|(number, cold): (u32, Connection)| {
            width[number as usize].2 = Some(cold);
            Ok(())
        })
        .unwrap();
        from.get::<u32>().unwrap();
        from.get_all(|_: (i64, Vec<u32>)| Ok(())).unwrap();
        width.retain(|(_, image, _): &Saved| image.is_some());
    }
    std::mem::take(&mut widths[usize::from(is_v6)])
}

/// Changes of one field, by its number.
fn flip(image: &mut Image, field: usize, bits: u64) {
    let words = [&mut image.flags, &mut image.start, &mut image.length, &mut image.letters];
    let pairs = [
        &mut image.packets,
        &mut image.ip_bytes,
        &mut image.next,
        &mut image.acked,
        &mut image.max_end,
        &mut image.max_win,
        &mut image.last,
        &mut image.first,
    ];
    let single = [&mut image.armed, &mut image.cold, &mut image.id, &mut image.path];
    if let Some(word) = words.into_iter().nth(field) {
        *word ^= bits;
    } else if let Some(half) = pairs.into_iter().flatten().chain(single).nth(field - 4) {
        *half ^= bits as u32;
    }
}

const FIELDS: usize = 4 + 16 + 4;

/// A later packet of one of the connections.
#[derive(Clone, Debug)]
struct Next {
    which: usize,
    from_a: bool,
    flags: u8,
    /// Away from the numbers of the record.
    seq: i32,
    ack: i32,
    payload: u32,
    window: u16,
    wait: i64,
    odd: u8,
}

fn nexts() -> impl Strategy<Value = Vec<Next>> {
    let flags = prop_oneof![4 => Just(ACK), 1 => Just(SYN), 1 => Just(SYN | ACK), 2 => Just(tcpflag::FIN | ACK), 1 => any::<u8>()];
    let off = || prop_oneof![6 => Just(0_i32), 1 => -2_000..2_000_i32, 1 => any::<i32>()];
    let payload = prop_oneof![2 => Just(0_u32), 2 => 1..1_500_u32, 1 => Just(60_000)];
    let window = prop_oneof![3 => Just(1_000_u16), 1 => any::<u16>()];
    let wait = prop_oneof![6 => 0..SECOND, 1 => -1_000 * SECOND..1_000 * SECOND];
    let next = (0..64_usize, any::<bool>(), flags, (off(), off()), payload, window, wait, 0..12_u8);
    let next = next.prop_map(|(which, from_a, flags, (seq, ack), payload, window, wait, odd)| Next {
        which,
        from_a,
        flags,
        seq,
        ack,
        payload,
        window,
        wait,
        odd,
    });
    prop::collection::vec(next, 0..20)
}

/// A packet of the connection of a record.
fn follow(key: &FlowKey, image: &Image, next: &Next) -> Packet {
    let (side, peer) = if next.from_a { (Side::A, Side::B) } else { (Side::B, Side::A) };
    let (at, q) = (side as usize, peer as usize);
    let mut ends = FiveTuple {
        src: key.addr(side),
        dst: key.addr(peer),
        sport: key.port(side),
        dport: key.port(peer),
        proto: key.proto,
        family: key.family,
    };
    let tcp = Tcp {
        seq: image.next[at].wrapping_add_signed(next.seq),
        ack: image.next[q].wrapping_add_signed(next.ack),
        flags: next.flags,
        window: next.window,
        timestamps: next.odd == 1,
        sack: (next.odd == 2).then_some(image.next[q].wrapping_add(9)),
        wscale: if next.odd == 3 { 8 } else { 0 },
        ..Tcp::default()
    };
    let mut flow_id = 0;
    let l4 = match key.proto {
        ipproto::TCP if next.odd == 4 => L4::Tcp(tcp.without_numbers()),
        ipproto::TCP => L4::Tcp(tcp),
        ipproto::UDP => L4::Udp,
        _ => {
            let kinds = if key.proto == ipproto::ICMP { [8, 0] } else { [128, 129] };
            let kind = kinds[usize::from(key.a_asks != next.from_a)];
            (ends.sport, ends.dport, flow_id) = (kind.into(), 0, if next.from_a { key.a_port } else { key.b_port });
            L4::Icmp { kind, code: 0, id: flow_id }
        }
    };
    Packet { cut: next.odd == 5, to_group: next.odd == 6, flow_id, vlan: key.vlan, ..packet(ends, l4, next.payload) }
}

fn facts(rows: &Rows) -> usize {
    let of = |row: Row<'_>| {
        let end = |at: usize| {
            (row.addr(at), row.ip(at), row.port(at), row.sent(at), row.zone(at), row.is_local(at), row.first_window(at))
        };
        let times = (row.number(), row.start(), row.end(), row.active_until(), row.missed_bytes());
        let what = (
            row.orig(),
            row.direction(),
            row.state(),
            row.conn_state(),
            row.history(),
            row.evidence(),
            row.confidence(),
        );
        let more = (
            row.is_assured(),
            row.has_seen_reply(),
            row.is_flipped(),
            row.was_broadcast(),
            row.is_from_group(),
            row.is_error(),
        );
        format!("{:?} {:?} {times:?} {what:?} {more:?} {:?} {:?}", end(0), end(1), row.end_reason(), row.live()).len()
    };
    rows.iter().map(of).sum()
}

/// Every use of records that were loaded.
fn use_them(narrow: &[Saved], broad: &[Saved], nexts: &[Next], reads: bool) {
    let Some(mut tracker) = loaded(narrow, broad) else { return };
    let all: Vec<(FlowKey, Image)> = narrow
        .iter()
        .filter_map(|(key, image, _)| Some((FlowKey::from(<[u64; 2]>::try_from(key.clone()).ok()?), *image)))
        .chain(
            broad
                .iter()
                .filter_map(|(key, image, _)| Some((FlowKey::from(<[u64; 6]>::try_from(key.clone()).ok()?), *image))),
        )
        .collect();
    let reader = reads.then(|| tracker.reader());
    let locality = Arc::new(Locality::new(&Config::default()));
    let mut over = Finished::new(locality);
    let mut now = NOW;
    for next in nexts {
        let Some((key, image)) = all.get(next.which % all.len().max(1)) else { break };
        now = now.saturating_add(next.wait);
        let one = follow(key, image, next);
        tracker.advance(now, |closed| over.insert(closed));
        tracker.record(&[one], &[3; 40], now, |closed| over.insert(closed));
        let found = tracker.keys().of(&one);
        tracker.look(&found);
        tracker.known(&found);
        tracker.about(&found, now);
        if let Some(reader) = &reader {
            reader.lookup(&reader.lookup_of(found.lookup.words));
        }
    }
    assert!(tracker.snapshot().count() <= all.len() + nexts.len());
    if let Some(reader) = &reader {
        assert!(reader.snapshot().count() <= all.len() + nexts.len());
    }
    let mut out = Writer::new(Vec::new()).unwrap();
    tracker.save(&mut out).unwrap();
    tracker.finish(|closed| over.insert(closed));
    facts(&over.in_order());
}

fn changed(family: Family) -> impl Strategy<Value = Vec<Saved>> {
    let change =
        (any::<prop::sample::Index>(), 0..FIELDS, prop_oneof![any::<u64>(), (0..64_u32).prop_map(|bit| 1 << bit)]);
    let keys = prop::collection::vec((any::<prop::sample::Index>(), 0..6_usize, any::<u64>()), 0..2);
    (prop::collection::vec(change, 0..20), keys).prop_map(move |(changes, keys)| {
        let mut all = sound(family);
        for (which, field, bits) in changes {
            let at = which.index(all.len());
            flip(&mut all[at].1, field, bits);
        }
        for (which, word, bits) in keys {
            let at = which.index(all.len());
            let words = all[at].0.len();
            all[at].0[word % words] ^= bits;
        }
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn changed_records_do_not_panic(
        narrow in changed(Family::V4),
        broad in changed(Family::V6),
        nexts in nexts(),
        reads in any::<bool>(),
    ) {
        use_them(&narrow, &broad, &nexts, reads);
    }

    #[test]
    fn random_records_do_not_panic(
        fields in prop::collection::vec(prop::array::uniform24(any::<u64>()), 1..30),
        nexts in nexts(),
        reads in any::<bool>(),
    ) {
        let keys = sound(Family::V4);
        let all: Vec<Saved> = fields.iter().zip(keys.iter().cycle()).map(|(fields, (key, sound, _))| {
            let mut image = Image::default();
            for (field, bits) in fields.iter().enumerate() {
                flip(&mut image, field, *bits);
            }
            // Another kind than the key's, or a cold part that is not there, is refused.
            image.flags = image.flags & !7 | sound.flags().kind().0;
            image.path &= !path::COLD;
            (key.clone(), image, None)
        }).collect();
        use_them(&all, &[], &nexts, reads);
    }
}

#[test]
fn sound_records_are_taken() {
    for (family, at) in [(Family::V4, 0), (Family::V6, 1)] {
        let all = sound(family);
        assert!(all.iter().any(|(_, image, _)| image.is(path::COLD)));
        assert!(all.iter().any(|(_, image, _)| image.flags().kind() == Flags::STATELESS));
        let parts = if at == 0 { (&all[..], &[][..]) } else { (&[][..], &all[..]) };
        assert_eq!(loaded(parts.0, parts.1).map(|tracker| tracker.snapshot().count()), Some(all.len()));
    }
}
