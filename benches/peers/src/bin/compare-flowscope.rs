//! Nanoseconds for a tracked packet, beside the crate flowscope: `compare-flowscope ROUNDS FLOWS...` prints a table.
//!
//! Both read one capture of TCP segments from memory. Every flow is opened by a handshake. Then the flows are interleaved, so
//! that no two packets in a row are of one flow. `benches/README.md` describes the differences.

use std::error::Error;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use conntrack_bench_peers::frame::{Frame, Headers, Options, Transport, flags};
use conntrack_bench_peers::pcap;
use conntrack_core::capture::{Captures, Input};
use conntrack_core::config::Config;
use conntrack_core::pipeline;
use flowscope::extract::FiveTuple;
use flowscope::{FlowTracker, FlowTrackerConfig, PacketView, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// Segments of each flow's handshake, and the fewest that follow it.
const HANDSHAKE: usize = 3;
const FEWEST_AFTER: usize = 2;
/// Minimum of segments after the handshakes, for the resolution of the clock.
const FEWEST: usize = 4_000_000;
/// Captured bytes: Ethernet, IPv4, TCP with timestamps, and a payload that is classified.
const PAYLOAD: usize = 8;
const KEPT: usize = 14 + 20 + 32 + PAYLOAD;
const RECORD: usize = pcap::RECORD_HEADER + KEPT;
/// Time of the capture passes at this rate.
const PER_SECOND: usize = 1_000_000;
/// Bytes that a flow and its record take in the more wasteful of the two, rounded up generously.
const PER_FLOW: usize = 800;

/// CPU nanoseconds of a run.
#[derive(Clone, Copy)]
struct Took {
    /// All of it.
    whole: f64,
    /// From the last handshake to the last packet.
    open: f64,
    /// Number of flows in the result.
    flows: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let [rounds, flows @ ..] = numbers.as_slice() else { return Err("how many rounds?".into()) };
    println!(
        "| flows | packets | open flows, ns a packet: conntrack-core | flowscope | times | \
         whole run: conntrack-core | flowscope | times |\n|---|---|---|---|---|---|---|---|"
    );
    for &flows in flows {
        let packets = flows * HANDSHAKE + FEWEST.max(flows * FEWEST_AFTER);
        let needed = packets * RECORD + flows * PER_FLOW;
        if let Some(free) = free_memory().filter(|&free| free < needed) {
            println!(
                "| {flows} | skipped: needs {} MiB of memory, {} are free | | | | | | |",
                needed >> 20,
                free >> 20
            );
            continue;
        }
        let capture = Arc::new(make(flows, packets)?);
        let mut runs = Vec::new();
        for _ in 0..*rounds {
            runs.push([ours(&capture, flows)?, theirs(&capture, flows)]);
        }
        if let Some(wrong) = runs.iter().flatten().find(|took| took.flows != flows) {
            return Err(format!("{} flows came out of {flows}", wrong.flows).into());
        }
        let row =
            [cells(&runs, |took| took.open, packets - flows * HANDSHAKE), cells(&runs, |took| took.whole, packets)];
        println!("| {flows} | {packets} | {} |", row.join(" | "));
    }
    Ok(())
}

/// Both medians for a packet, and the median of the runs' own ratios.
fn cells(runs: &[[Took; 2]], of: impl Fn(&Took) -> f64, packets: usize) -> String {
    let median = |value: &dyn Fn(&[Took; 2]) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let [ours, theirs] = [0, 1].map(|who| median(&|run| of(&run[who])) / packets as f64);
    format!("{ours:.0} | {theirs:.0} | {:.2}", median(&|run| of(&run[1]) / of(&run[0])))
}

/// A capture in memory: handshakes of all flows, then segments of 8 bytes in turn, requests and replies.
fn make(flows: usize, packets: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(pcap::FILE_HEADER + packets * RECORD);
    pcap::write_file_header(&mut out, KEPT as u32)?;
    let mut frame = Frame::default();
    for number in 0..packets {
        let opening = number < flows * HANDSHAKE;
        let (turn, flow) =
            if opening { (number % HANDSHAKE, number / HANDSHAKE) } else { (number / flows, number % flows) };
        let at = 1_700_000_000_000_000 + (number * 1_000_000 / PER_SECOND) as u64;
        pcap::write_record(&mut out, at, segment(&mut frame, flow, turn), KEPT)?;
    }
    Ok(out)
}

/// The segment of a turn: SYN, SYN+ACK, ACK, and then requests (odd) and replies (even).
fn segment(frame: &mut Frame, flow: usize, turn: usize) -> &[u8] {
    let reply = turn == 1 || (turn > 2 && turn.is_multiple_of(2));
    let sent = turn.saturating_sub(HANDSHAKE);
    let [requested, replied] = [sent.div_ceil(2), sent / 2].map(|times| (times * PAYLOAD) as u32);
    let [first, second] = [requested + u32::from(turn > 0), replied + u32::from(turn > 1)];
    let numbers = match turn {
        0 => (0, 0),
        _ if reply => (second, first),
        _ => (first, second),
    };
    let flags = match turn {
        0 => flags::SYN,
        1 => flags::SYN | flags::ACK,
        2 => flags::ACK,
        _ => flags::PSH | flags::ACK,
    };
    let client = Ipv4Addr::from_bits(10 << 24 | (flow / 50_000) as u32).into();
    let server = Ipv4Addr::from_bits(93 << 24 | (flow % 1_000) as u32).into();
    let mut ends = [(client, 1024 + (flow % 50_000) as u16), (server, 443)];
    if reply {
        ends.swap(0, 1);
    }
    let options = if flags & flags::SYN == 0 { Options::Stamps(turn as u32, 0) } else { Options::Scale };
    let transport = Transport::Tcp { numbers, flags, window: 64_000, options };
    let payload = if turn < HANDSHAKE { &[][..] } else { &[0xA5; PAYLOAD][..] };
    frame.build(&Headers { source: ends[0], destination: ends[1], ident: turn as u16, transport }, payload)
}

/// conntrack-core as the extension runs it: capture format, decoder, tracker, and a row for every connection.
fn ours(capture: &Arc<Vec<u8>>, flows: usize) -> Result<Took, Box<dyn Error>> {
    let reader = Box::new(Memory { bytes: Arc::clone(capture), at: 0 });
    let handshakes = (flows * HANDSHAKE) as u64;
    let start = cpu_nanos();
    let (mut opened, mut ended) = (None, 0.0);
    let mut captures = Captures::open(vec![Input::Reader { name: PathBuf::from("memory"), reader }], false)?;
    let tracked = pipeline::track(&mut captures, &Config::default(), false, &mut |progress| {
        ended = cpu_nanos();
        if progress.packets >= handshakes {
            opened.get_or_insert((progress.packets, ended));
        }
        ControlFlow::Continue(())
    })?;
    let whole = cpu_nanos() - start;
    let (packets, at) = opened.ok_or("the handshakes were not read")?;
    // Batches do not end with the handshakes: what came with the last of them is counted by its share.
    let after = (tracked.stats.packets - handshakes) as f64;
    let open = (ended - at) * after / (tracked.stats.packets - packets) as f64;
    Ok(Took { whole, open, flows: tracked.rows.len() })
}

/// flowscope as in its own benchmark: a tracker with five-tuples, one call a packet, events dropped. All settings are
/// defaults but the room for flows. The capture's format is walked with no check.
fn theirs(capture: &[u8], flows: usize) -> Took {
    let handshakes = flows * HANDSHAKE;
    let start = cpu_nanos();
    let mut opened = start;
    let mut room = FlowTrackerConfig::default();
    room.max_flows = flows;
    let mut tracker = FlowTracker::<FiveTuple>::with_config(FiveTuple::bidirectional(), room);
    let mut rest = &capture[pcap::FILE_HEADER..];
    let mut packets = 0;
    while let Some((header, behind)) = rest.split_first_chunk::<{ pcap::RECORD_HEADER }>() {
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (frame, behind) = behind.split_at(word(8) as usize);
        drop(tracker.track(PacketView::new(frame, Timestamp::new(word(0), word(4) * 1_000))));
        packets += 1;
        if packets == handshakes {
            opened = cpu_nanos();
        }
        rest = behind;
    }
    let ended = cpu_nanos();
    // Every flow's counters are read where they are; its events of the end would need as much memory again.
    let counted: u64 =
        tracker.iter_active().map(|flow| flow.stats.packets_initiator + flow.stats.packets_responder).sum();
    assert_eq!(counted, packets as u64, "every packet is counted");
    let flows = tracker.flow_count();
    drop(tracker);
    Took { whole: cpu_nanos() - start, open: ended - opened, flows }
}

/// Bytes in memory as a file.
struct Memory {
    bytes: Arc<Vec<u8>>,
    at: usize,
}

impl Read for Memory {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = (&self.bytes[self.at..]).read(into)?;
        self.at += count;
        Ok(count)
    }
}

/// CPU time of this process, all threads.
fn cpu_nanos() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Bytes of memory that are free, where the system says so.
fn free_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()? << 10)
}
