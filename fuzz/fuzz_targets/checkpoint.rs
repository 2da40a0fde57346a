//! Checkpoints with damaged contents under a valid checksum: loading terminates, and a loaded tracker keeps tracking.
//!
//! An input is a list of edits to a state saved by this build, so a corpus does not age with the format. The part
//! lengths are recomputed after each edit. An input whose first byte is 0x80 or more is tested as file contents and
//! as a whole file.
#![no_main]

use std::hint::black_box;
use std::io::Cursor;
use std::sync::{Arc, LazyLock};

use conntrack_core::capture::RecordBatch;
use conntrack_core::checkpoint::{Reader, Writer};
use conntrack_core::columns::{COLUMNS, Kind};
use conntrack_core::config::Config;
use conntrack_core::decode::{Addr, Family, FiveTuple, Flat, Vlan, flat};
use conntrack_core::labels::WIDTH;
use conntrack_core::pipeline::Stream;
use conntrack_core::rows::Rows;
use libfuzzer_sys::fuzz_target;
use sha1::{Digest, Sha1};

const HEAD: usize = 12;
const SUM: usize = 20;
/// Bytes of an edit: part, two-byte position in the part, operation, operand.
const EDIT: usize = 5;

static CONFIG: LazyLock<Config> = LazyLock::new(Config::default);
static STATES: LazyLock<Vec<Vec<Vec<u8>>>> = LazyLock::new(|| {
    let batches = [vec![], packets(Family::V4), packets(Family::V6), fragments()];
    batches.into_iter().map(|packets| parts(&saved(&packets))).collect()
});

/// A TCP connection, UDP both ways, a ping and an SCTP packet.
fn packets(family: Family) -> Vec<(i64, Flat<'static>)> {
    let [a, b] = match family {
        Family::V4 => [Addr::v4([10, 0, 0, 1]), Addr::v4([192, 0, 2, 1])],
        Family::V6 => [Addr(0x2001_0db8 << 96 | 1), Addr(0x2001_0db8 << 96 | 2)],
    };
    let header = if family == Family::V4 { 20 } else { 40 };
    let ping = if family == Family::V4 { [(1, 8), (1, 0)] } else { [(58, 128), (58, 129)] };
    let one = |reply: bool, proto, sport, dport, flags| {
        let (src, dst) = if reply { (b, a) } else { (a, b) };
        let (sport, dport) = if reply && proto != ping[0].0 { (dport, sport) } else { (sport, dport) };
        let tuple = Some(FiveTuple { src, dst, sport, dport, proto, family });
        let numbers = Flat { tcp_flags: flags, seq: 1, ack: 1, window: 1000, udp_length: 80, ..Flat::default() };
        Flat { tuple, length: header + 80, ip_header_length: header, icmp_id: 7, ..numbers }
    };
    let mut all = vec![one(false, 6, 40_000, 443, 2), one(true, 6, 40_000, 443, 18), one(false, 6, 40_000, 443, 16)];
    all.extend([one(false, 17, 5_353, 53, 0), one(true, 17, 5_353, 53, 0), one(false, 132, 9, 10, 0)]);
    all.extend(ping.into_iter().zip([false, true]).map(|((proto, kind), reply)| one(reply, proto, kind, 0, 0)));
    (0..).map(|second: i64| second * 1_000_000_000).zip(all).collect()
}

/// First fragments of datagrams that stay incomplete.
fn fragments() -> Vec<(i64, Flat<'static>)> {
    let piece = |(at, flat): (i64, Flat<'static>)| (at, Flat { more_fragments: true, ip_id: at as u16 as u32, ..flat });
    packets(Family::V4).into_iter().map(piece).collect()
}

fn batch(packets: &[(i64, Flat<'_>)]) -> Arc<RecordBatch> {
    Arc::new(flat::batch(packets.iter().copied()).expect("packets that can be"))
}

fn saved(packets: &[(i64, Flat<'_>)]) -> Vec<u8> {
    let stream = Stream::new(&CONFIG);
    stream.process(batch(packets));
    written(&stream)
}

fn written(stream: &Stream) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).expect("memory");
    stream.save(&mut writer).expect("memory");
    writer.finish().expect("memory")
}

/// Split a file into its parts.
fn parts(file: &[u8]) -> Vec<Vec<u8>> {
    let body = zstd::decode_all(&file[HEAD..file.len() - SUM]).expect("a frame");
    let (mut rest, mut parts) = (&body[..], Vec::new());
    while let Some((length, tail)) = rest.split_first_chunk() {
        let (part, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
        parts.push(part.to_vec());
        rest = tail;
    }
    parts
}

fn edit(parts: &mut Vec<Vec<u8>>, [part, high, low, operation, operand]: [u8; EDIT]) {
    let number = usize::from(part) % parts.len().max(1);
    let Some(part) = parts.get_mut(number) else { return };
    let at = usize::from(u16::from_be_bytes([high, low])) % (part.len() + 1);
    match operation % 8 {
        0 => part.insert(at, operand),
        1 => part.truncate(at),
        2 => parts.swap_remove(number).clear(),
        3 => parts.insert(number, parts[number].clone()),
        // The largest ten-byte number, at a position where a number begins.
        4 => drop(part.splice(at..(at + 1).min(part.len()), [0xff; 9].into_iter().chain([1]))),
        5 if at < part.len() => drop(part.remove(at)),
        6 if at < part.len() => part[at] = part[at].wrapping_add(operand),
        _ if at < part.len() => part[at] = operand,
        _ => part.push(operand),
    }
}

/// A file with these contents and a valid checksum.
fn sealed(body: &[u8]) -> Vec<u8> {
    let empty = Writer::new(Vec::new()).and_then(Writer::finish).expect("memory");
    let mut file = empty[..HEAD].to_vec();
    file.extend(zstd::encode_all(body, 1).expect("memory"));
    let sum = Sha1::digest(&file);
    file.extend(sum);
    file
}

fn resume(file: &[u8]) -> Option<Stream> {
    Stream::resume(&CONFIG, &mut Reader::new(Cursor::new(file)).ok()?).ok()
}

fn go_on(stream: &Stream) {
    let packets = packets(Family::V4);
    assert_eq!(stream.process(batch(&packets)).len(), packets.len() * WIDTH);
    let tuple = packets[0].1.tuple.expect("a packet");
    drop(stream.lookup(&tuple, Vlan::default()));
    read(&stream.snapshot());
    read(&stream.drain());
    drop(written(stream));
    read(&stream.finish());
}

/// Read every column of all rows.
fn read(rows: &Rows) {
    for (row, column) in rows.iter().flat_map(|row| COLUMNS.into_iter().map(move |column| (row, column))) {
        match column.kind {
            Kind::Time(read) => _ = black_box(read(row)),
            Kind::U64(read) => _ = black_box(read(row)),
            Kind::U16(read) => _ = black_box(read(row)),
            Kind::F32(read) => _ = black_box(read(row)),
            Kind::Bool(read) => _ = black_box(read(row)),
            Kind::OptI32(read) => _ = black_box(read(row)),
            Kind::OptI64(read) => _ = black_box(read(row)),
            Kind::Word(read, _) => _ = black_box(read(row)),
            Kind::Addr(read) => _ = black_box(read(row).to_string()),
            Kind::Text(read) => _ = black_box(read(row)),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&state, edits)) = data.split_first() else { return };
    let mut files = vec![];
    if state < 0x80 {
        let mut parts = STATES[usize::from(state) % STATES.len()].clone();
        for one in edits.as_chunks().0.iter().take(64) {
            edit(&mut parts, *one);
        }
        let body: Vec<u8> =
            parts.into_iter().flat_map(|part| [&(part.len() as u32).to_le_bytes()[..], &part].concat()).collect();
        files.push(sealed(&body));
    } else {
        files.extend([sealed(edits), edits.to_vec()]);
    }
    for stream in files.iter().filter_map(|file| resume(file)) {
        go_on(&stream);
    }
});
