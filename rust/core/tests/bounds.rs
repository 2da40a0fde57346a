//! Bounds of a table on several threads: results of one thread, whether a bound is hit or not.

use std::ops::ControlFlow;
use std::path::PathBuf;

use conntrack_core::capture::{Captures, Input};
use conntrack_core::config::{Bounds, Config};
use conntrack_core::decode::ipproto;
use conntrack_core::pipeline::track;

const PACKETS: u32 = 2_000;

/// A pcap of raw IPv4: a datagram a millisecond, each from a source of its own.
fn flood() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 101] {
        bytes.extend(word.to_le_bytes());
    }
    for number in 0..PACKETS {
        for word in [1_700_000_000 + number / 1_000, number % 1_000 * 1_000, 28, 28] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, ipproto::UDP, 0, 0]);
        bytes.extend((0x0100_0000 + number).to_be_bytes());
        bytes.extend([192, 0, 2, 1]);
        bytes.extend([40_000_u16, 53, 8, 0].map(u16::to_be_bytes).concat());
    }
    bytes
}

/// A file that is removed at the end.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("conntrack-bounds-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Rows, labels and evictions of a run with so many connections at most.
fn run(file: &File, connections: usize, threads: usize) -> (usize, Option<Vec<u8>>, u64) {
    let bounds = Bounds { connections, ..Bounds::default() };
    let config = Config { bounds, threads, ..Config::default() };
    let mut captures = Captures::open(vec![Input::named(file.0.clone())], false).unwrap();
    let mut turns = 0_u32;
    let mut observe = |_| {
        turns += 1;
        assert!(turns < 20_000, "the run has no end");
        ControlFlow::Continue(())
    };
    let tracked = track(&mut captures, &config, true, &mut observe).unwrap();
    (tracked.rows.len(), tracked.labels, tracked.stats.evicted)
}

#[test]
fn threads_change_nothing_with_a_bound() {
    let one = File::new("one", &flood());
    for connections in [100, PACKETS as usize - 1, PACKETS as usize, usize::MAX] {
        let alone = run(&one, connections, 1);
        assert_eq!(alone.2, u64::from(PACKETS).saturating_sub(connections as u64));
        for threads in [2, 5] {
            assert_eq!(run(&one, connections, threads), alone, "{connections} connections");
        }
    }
}

#[test]
fn a_bound_is_hit_in_captures_of_one_file_that_overlap() {
    let two = File::new("two", &[flood(), flood()].concat());
    let alone = run(&two, 100, 1);
    assert!(alone.2 >= u64::from(PACKETS) - 100, "{}", alone.2);
    assert_eq!(run(&two, 100, 2), alone);
}
