//! Nanoseconds a packet, stage by stage: each measurement runs one stage more than the one before, over one capture in the page
//! cache. The difference is the cost of a stage.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use conntrack_core::capture::{Captures, Input, RecordBatch};
use conntrack_core::config::Config;
use conntrack_core::pipeline::{Depth, Stream, track, walk};
use criterion::{Criterion, Throughput, criterion_main};

/// TCP connections; below, packets of each, and connections that are interleaved.
const CONNECTIONS: u32 = 20_000;
const EACH: u32 = 10;
const AT_A_TIME: u32 = 1_000;

/// Appends a pcap record: an Ethernet frame with a TCP segment of `payload` bytes.
fn record(
    into: &mut Vec<u8>,
    micros: u64,
    client: u32,
    from_client: bool,
    flags: u8,
    (seq, ack): (u32, u32),
    payload: usize,
) {
    let len = 54 + payload;
    let header = [(micros / 1_000_000) as u32, (micros % 1_000_000) as u32, len as u32, len as u32];
    into.extend(header.map(u32::to_le_bytes).concat());
    let start = into.len();
    into.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0]);
    into.extend(((40 + payload) as u16).to_be_bytes());
    into.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    let ends =
        [([10, 0, (client >> 14) as u8, (client >> 6) as u8], 32_768 + (client & 63) as u16), ([192, 0, 2, 1], 443)];
    let [(src, sport), (dst, dport)] = if from_client { ends } else { [ends[1], ends[0]] };
    into.extend(src.into_iter().chain(dst));
    into.extend([sport, dport].map(u16::to_be_bytes).concat());
    into.extend([seq, ack].map(u32::to_be_bytes).concat());
    into.extend([0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    into.resize(start + len, 0);
}

fn capture() -> Vec<u8> {
    let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0];
    let mut micros = 1_700_000_000_000_000;
    for first in (0..CONNECTIONS).step_by(AT_A_TIME as usize) {
        for packet in 0..EACH {
            for client in first..first + AT_A_TIME {
                micros += 2;
                let sent = packet.saturating_sub(3) * 100;
                let (from_client, flags, numbers, payload) = match packet {
                    0 => (true, 0x02, (1_000, 0), 0),
                    1 => (false, 0x12, (5_000, 1_001), 0),
                    2 => (true, 0x10, (1_001, 5_001), 0),
                    packet if packet == EACH - 2 => (true, 0x11, (1_001, 5_001 + sent), 0),
                    packet if packet == EACH - 1 => (false, 0x11, (5_001 + sent - 200, 1_002), 0),
                    _ => (false, 0x18, (5_001 + sent, 1_001), 100),
                };
                record(&mut bytes, micros, client, from_client, flags, numbers, payload);
            }
        }
    }
    bytes
}

/// Writes the capture to a temporary file, which the page cache holds.
fn written() -> PathBuf {
    let path = std::env::temp_dir().join(format!("conntrack-stages-{}.pcap", std::process::id()));
    let mut file = File::create(&path).expect("a temporary file");
    file.write_all(&capture()).expect("room for it");
    path
}

fn stages(criterion: &mut Criterion) {
    let path = written();
    let open = || Captures::open(vec![Input::named(&path)], false).expect("a capture");
    let mut group = criterion.benchmark_group("stages");
    group.throughput(Throughput::Elements(u64::from(CONNECTIONS * EACH)));
    for (name, depth) in [("read", Depth::Read), ("decode", Depth::Decode), ("look_up", Depth::LookUp)] {
        group.bench_function(name, |bencher| bencher.iter(|| walk(&mut open(), &Config::default(), depth)));
    }
    for (name, labels, threads) in [("track", false, 1), ("track_labels", true, 1), ("track_2_threads", false, 2)] {
        let config = Config { threads, ..Config::default() };
        let run = || {
            track(&mut open(), &config, labels, &mut |_| ControlFlow::Continue(())).map(|tracked| tracked.rows.len())
        };
        group.bench_function(name, |bencher| bencher.iter(|| black_box(run())));
    }
    group.bench_function("stream", |bencher| {
        bencher.iter(|| {
            let (stream, mut captures) = (Stream::new(&Config::default()), open());
            let mut batch = RecordBatch::default();
            while captures.next_batch(&mut batch).expect("a whole capture") {
                black_box(stream.process(Arc::new(std::mem::take(&mut batch))));
            }
            stream.finish().len()
        });
    });
    group.finish();
    // A temporary file that is gone already is gone.
    let _ = std::fs::remove_file(path);
}

#[allow(missing_docs, reason = "the macro makes a function without")]
mod all {
    criterion::criterion_group!(benches, super::stages);
}
criterion_main!(all::benches);
