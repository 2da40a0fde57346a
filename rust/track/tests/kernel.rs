//! Labels against Linux nf_conntrack, packet by packet. `../shared/corpus/scenarios` and `../shared/corpus/kernel` hold
//! the running kernel's `ctstate` of every packet of a capture, as its oracle recorded.
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a test says what it compared, or why it did not")]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use conntrack_base::time::SECOND;
use conntrack_capture::{CaptureReader, RecordBatch};
use conntrack_decode::{Decoder, TunnelMode};
use conntrack_track::config::Config;
use conntrack_track::proto::{CtDir, CtState, Gateway, State};
use conntrack_track::tracker::{Label, Tracker};
use serde_json::Value;

/// The label of a packet, and the entry of its connection afterwards.
struct Judgement {
    label: Label,
    entry: Option<Gateway>,
    ts: i64,
}

fn words(path: &Path) -> Vec<Judgement> {
    let mut config = Config::default();
    config.decode.tunnels = TunnelMode::Outer;
    let mut reader = CaptureReader::open(path, 0, false).unwrap();
    let mut decoder = Decoder::new(config.decode);
    let mut tracker = Tracker::new(&config);
    let (mut batch, mut packets, mut words) = (RecordBatch::default(), Vec::new(), Vec::new());
    while reader.next_batch(&mut batch).unwrap() {
        for record in &batch.records {
            packets.clear();
            tracker.advance(record.ts, |_| ());
            let label = match decoder.decode(record, batch.bytes(record), &mut packets) {
                Ok(()) => tracker.record(&packets, &[], record.ts, |_| ()),
                Err(_) => Label::outside(CtState::Invalid),
            };
            let live = tracker.snapshot().find(|connection| Some(connection.id) == label.connection);
            words.push(Judgement { label, entry: live.and_then(|connection| connection.gateway), ts: record.ts });
        }
    }
    words
}

/// The difference of a line of the oracle from the tracker's word; None: equal, or without an answer.
fn difference(
    line: &Value,
    word: &Judgement,
    flows: &mut HashMap<u64, u64>,
    slipped: &mut HashSet<u64>,
) -> Option<String> {
    let ctstate = line.get("ct_state")?.as_str()?;
    // Where the oracle's own sleep overtook the capture, the kernel measured another time, and remembers.
    if line.get("stream_clock_slip").is_some() {
        slipped.insert(line["flow"].as_u64()?);
    }
    if line["flow"].as_u64().is_some_and(|flow| slipped.contains(&flow)) {
        return None;
    }
    let label = &word.label;
    let ours = CtState::NAMES[label.ctstate as usize].to_lowercase();
    if ours != ctstate {
        return Some(format!("ctstate {ours}, kernel {ctstate}"));
    }
    let dir = line["ct_dir"].as_str().unwrap_or("none");
    let our_dir = CtDir::NAMES[label.ctdir as usize].to_lowercase();
    if our_dir != dir {
        return Some(format!("direction {our_dir}, kernel {dir}"));
    }
    if matches!(label.ctstate, CtState::Invalid | CtState::Untracked) {
        return None;
    }
    if let (Some(flow), Some(ours)) = (line["flow"].as_u64(), label.connection)
        && *flows.entry(flow).or_insert(ours) != ours
    {
        return Some(format!("connection {ours} for the kernel's flow {flow}"));
    }
    if line.get("deleted").is_some() {
        return (label.state != State::None).then(|| format!("state {:?}, the kernel deleted it", label.state));
    }
    let state = line["tcp_state"].as_str().or(line["sctp_state"].as_str());
    let our_state = State::NAMES[label.state as usize];
    if let Some(state) = state.filter(|state| *state != our_state) {
        return Some(format!("state {our_state}, kernel {state}"));
    }
    let status = |bit: &str| line["status"].as_array().is_some_and(|bits| bits.iter().any(|found| found == bit));
    let entry = word.entry.as_ref()?;
    if (entry.seen_reply, entry.assured) != (status("SEEN_REPLY"), status("ASSURED")) {
        return Some(format!("seen_reply {}, assured {}; kernel {}", entry.seen_reply, entry.assured, line["status"]));
    }
    let counted = entry.counted.map(|(datagrams, bytes)| [datagrams, bytes]).concat();
    if let Some(counters) = line.get("counters").filter(|counters| **counters != Value::from(counted.clone())) {
        return Some(format!("counted {counted:?}, kernel {counters}"));
    }
    let timeout = line["timeout"].as_i64()?;
    let left = entry.deadline - word.ts;
    // Seconds are rounded down, and a tick or two may have passed before the entry was read.
    let off = timeout * SECOND - left;
    (off.abs() > SECOND).then(|| format!("{} s left, kernel {timeout}", left as f64 / 1e9))
}

/// Compare every capture of a folder with its answers; panics with the first differences.
fn compare(answers: &Path, captures: &Path, capture_of: impl Fn(&str) -> String) {
    let mut files: Vec<PathBuf> = fs::read_dir(answers).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|suffix| suffix == "jsonl"));
    files.sort();
    let (mut compared, mut different) = (0, Vec::new());
    for file in &files {
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        let words = words(&captures.join(capture_of(&stem)));
        let (mut flows, mut slipped) = (HashMap::new(), HashSet::new());
        for line in fs::read_to_string(file).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let index = line["i"].as_u64().unwrap() as usize;
            compared += usize::from(line.get("ct_state").is_some());
            if let Some(what) = difference(&line, &words[index], &mut flows, &mut slipped) {
                different.push(format!("{stem} packet {index}: {what} ({})", line["reason"]));
            }
        }
    }
    let shown = different[..different.len().min(60)].join("\n");
    println!("{} captures, {compared} packets, {} different", files.len(), different.len());
    assert!(compared > 500, "{compared} packets compared");
    assert!(different.is_empty(), "{} of {compared}:\n{shown}", different.len());
}

/// The corpus next to the project; None, with a reason, where absent.
fn corpus() -> Option<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    if corpus.exists() {
        return Some(corpus);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "the corpus is not at ../shared/corpus");
    eprintln!("skipped: the corpus is not at ../shared/corpus");
    None
}

#[test]
fn scenarios() {
    let Some(corpus) = corpus() else { return };
    let folder = corpus.join("scenarios");
    compare(&folder, &folder, |stem| format!("{stem}.pcap"));
}

#[test]
fn real_captures() {
    let Some(corpus) = corpus() else { return };
    compare(&corpus.join("kernel"), &corpus.join("pcaps"), str::to_owned);
}

/// Random packets with answers of the running kernel: `make kernel-test` makes and names their folder.
#[test]
fn random_packets() {
    let Some(folder) = std::env::var_os("CONNTRACK_KERNEL_ANSWERS").map(PathBuf::from) else {
        eprintln!("skipped: CONNTRACK_KERNEL_ANSWERS names no answers; make kernel-test asks the kernel for some");
        return;
    };
    compare(&folder, &folder, |stem| format!("{stem}.pcap"));
}
