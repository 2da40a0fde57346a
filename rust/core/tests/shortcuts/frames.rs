//! Packets as Ethernet frames: read at fixed offsets for the fast path, or decoded for the slow path.

use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::Arc;

use conntrack_core::capture::{Captures, Input, Lacks, LinkType, Record, RecordBatch};
use conntrack_core::config::{Bounds, Config, ServerPorts, Timeout};
use conntrack_core::decode::{Decoder, Family, FiveTuple, L4, Packet, Tcp, ipproto};
use conntrack_core::direction::{Expectations, Locality, note_announcements};
use conntrack_core::hindsight::{self, Hints};
use conntrack_core::labels::{Labels, WIDTH};
use conntrack_core::pipeline::{self, Stream};
use conntrack_core::proto::CtState;
use conntrack_core::rows::{Finished, Rows};
use conntrack_core::time::SECOND;
use conntrack_core::tracker::{Label, Tracker};
use proptest::prelude::*;

use super::ends::{READABLE, Sent};
use super::facts;
use super::play::{self, Plan};

/// A frame as far as captured, its length on the wire, and its time.
struct Frame {
    bytes: Vec<u8>,
    len: usize,
    ts: i64,
}

/// Captured bytes of a cut payload.
const KEPT: usize = 12;

/// The frame of a packet; None without a possible frame, or where checksums matter.
fn frame(one: &Sent) -> Option<Frame> {
    let packet = &one.packet;
    if !packet.complete || packet.bad_checksum || packet.malformed {
        return None;
    }
    let above = match packet.l4 {
        L4::Tcp(tcp) if !tcp.unnumbered => segment(&packet.tuple, &tcp),
        L4::Udp => {
            let length = 8 + packet.payload_bytes.min(MOST) as u16;
            [packet.tuple.sport, packet.tuple.dport, length, 0].map(u16::to_be_bytes).concat()
        }
        L4::Icmp { kind, code, id } => [&[kind, code, 0, 0][..], &id.to_be_bytes(), &[0, 1]].concat(),
        L4::IcmpError { kind, code, quoted: Some(quoted), .. } => {
            let ports = [quoted.sport, quoted.dport, 8, 0].map(u16::to_be_bytes).concat();
            [&[kind, code, 0, 0, 0, 0, 0, 0][..], &network(&quoted, 8), &ports].concat()
        }
        _ => return None,
    };
    let mut payload = one.bytes.to_vec();
    payload.resize((packet.payload_bytes.min(MOST) as usize).max(READABLE), 0);
    payload.truncate(packet.payload_bytes.min(MOST) as usize);
    let head = [link(packet), network(&packet.tuple, above.len() + payload.len()), above].concat();
    let len = head.len() + payload.len();
    let kept = if packet.cut { payload.len().min(KEPT) } else { payload.len() };
    let bytes = [&head[..], &payload[..kept]].concat();
    Some(Frame { bytes, len, ts: one.ts })
}

/// The longest payload of a frame here.
const MOST: u32 = 60_000;

/// An Ethernet header, perhaps with a tag.
fn link(packet: &Packet) -> Vec<u8> {
    let mut bytes = vec![2 | u8::from(packet.to_group), 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    if packet.vlan.outer > 0 {
        bytes.extend([[0x81, 0x00], (packet.vlan.outer - 1).to_be_bytes()].concat());
    }
    bytes.extend(if packet.tuple.family == Family::V6 { [0x86, 0xdd] } else { [0x08, 0x00] });
    bytes
}

/// An IP header for `above` bytes of payload.
fn network(tuple: &FiveTuple, above: usize) -> Vec<u8> {
    match tuple.family {
        Family::V4 => {
            let mut bytes = vec![0x45, 0];
            bytes.extend(((20 + above) as u16).to_be_bytes());
            bytes.extend([0, 7, 0x40, 0, 64, tuple.proto, 0, 0]);
            bytes.extend([tuple.src, tuple.dst].map(|addr| (addr.0 as u32).to_be_bytes()).concat());
            bytes
        }
        Family::V6 => {
            let mut bytes = vec![0x60, 0, 0, 0];
            bytes.extend((above as u16).to_be_bytes());
            bytes.extend([tuple.proto, 64]);
            bytes.extend([tuple.src, tuple.dst].map(|addr| addr.0.to_be_bytes()).concat());
            bytes
        }
    }
}

/// A TCP header with options.
fn segment(tuple: &FiveTuple, tcp: &Tcp) -> Vec<u8> {
    let mut options = Vec::new();
    if tcp.wscale > 0 {
        options.extend([3, 3, tcp.wscale - 1]);
    }
    if tcp.sack_permitted {
        options.extend([4, 2]);
    }
    if let Some(edge) = tcp.sack {
        options.extend([5, 10]);
        options.extend([edge.wrapping_sub(1), edge].map(u32::to_be_bytes).concat());
    }
    if tcp.timestamps && options.is_empty() {
        options.extend([1, 1]);
    }
    if tcp.timestamps {
        options.extend([8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    }
    options.resize(options.len().next_multiple_of(4), 0);
    let mut bytes = [tuple.sport, tuple.dport].map(u16::to_be_bytes).concat();
    bytes.extend([tcp.seq, tcp.ack].map(u32::to_be_bytes).concat());
    bytes.extend([((20 + options.len()) as u8) << 2, tcp.flags]);
    bytes.extend(tcp.window.to_be_bytes());
    bytes.extend([0, 0, 0, 0]);
    bytes.extend(options);
    bytes
}

fn record(frame: &Frame, start: usize) -> Record {
    Record {
        ts: frame.ts,
        offset: 0,
        start: start as u32,
        caplen: frame.bytes.len() as u32,
        len: frame.len as u32,
        file: 0,
        linktype: LinkType::ETHERNET,
        abridged: false,
        unsummed: false,
    }
}

/// Results of the slow path for packets without some fields: labels with provisional originators, unsettled labels, rows, and
/// announced connections.
fn slowly(config: &Config, frames: &[Frame], lacks: Lacks) -> (Vec<u8>, Labels, Rows, Expectations) {
    let mut tracker = Tracker::new(config).without_shortcuts();
    let mut decoder = Decoder::new(config.decode);
    let mut over = Finished::new(Arc::new(Locality::new(config)));
    let (mut known, mut labels, mut packets) = (Labels::default(), Labels::default(), Vec::new());
    let mut expected = Expectations::default();
    for frame in frames {
        packets.clear();
        tracker.advance(frame.ts, |closed| over.insert(closed));
        decoder.decode(&record(frame, 0), &frame.bytes, &mut packets).expect("a packet");
        for packet in &mut packets {
            packet.lack(lacks);
        }
        for packet in &packets {
            note_announcements(&mut expected, packet, &frame.bytes, frame.ts);
        }
        let label = tracker.record(&packets, &frame.bytes, frame.ts, |closed| over.insert(closed));
        known.push_settled(&label, who(&tracker, &label, packets.last(), frame.ts));
        labels.push(&label);
    }
    tracker.finish(|closed| over.insert(closed));
    (known.into_bytes(), labels, over.in_order(), expected)
}

type Who = Option<(conntrack_core::flow::Side, conntrack_core::direction::Direction)>;

/// Provisional originator and direction.
fn who(tracker: &Tracker, label: &Label, packet: Option<&Packet>, ts: i64) -> Who {
    let (packet, _) = (packet?, label.connection?);
    let keys = tracker.keys();
    if label.ctstate == CtState::Related {
        return tracker.known_quoted(&keys.quoted(packet)?, ts);
    }
    tracker.known(&keys.of(packet))
}

/// Results of a stream fed with batches of these lengths in turn; `reads`: with a concurrent reader.
fn streamed(config: &Config, frames: &[Frame], cuts: &[usize], (reads, lacks): (bool, Lacks)) -> (Vec<u8>, Rows) {
    let stream = Stream::new(config);
    if reads {
        assert!(stream.snapshot().is_empty());
    }
    let (mut labels, mut rest) = (Vec::new(), frames);
    for cut in cuts.iter().cycle() {
        let (these, others) = rest.split_at((*cut).min(rest.len()));
        let mut batch = RecordBatch { lacks, ..RecordBatch::default() };
        for frame in these {
            batch.records.push(record(frame, batch.data.len()));
            batch.data.extend(&frame.bytes);
        }
        labels.extend(stream.process(Arc::new(batch)));
        rest = others;
        if rest.is_empty() {
            break;
        }
    }
    (labels, stream.finish())
}

/// A pcap file with nanoseconds.
fn pcap(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 1].map(u32::to_le_bytes).concat();
    for frame in frames {
        let (seconds, nanos) = ((frame.ts / SECOND) as u32, (frame.ts % SECOND) as u32);
        bytes.extend([seconds, nanos, frame.bytes.len() as u32, frame.len as u32].map(u32::to_le_bytes).concat());
        bytes.extend(&frame.bytes);
    }
    bytes
}

/// Results of a whole run on `threads` threads.
fn tracked(config: &Config, frames: &[Frame], threads: usize) -> (Vec<u8>, Rows) {
    let input = Input::Reader { name: "frames".into(), reader: Box::new(Cursor::new(pcap(frames))) };
    let mut captures = Captures::open(vec![input], false).expect("a capture");
    let config = Config { threads, ..config.clone() };
    let tracked = pipeline::track(&mut captures, &config, true, &mut |_| ControlFlow::Continue(())).expect("rows");
    (tracked.labels.expect("labels"), tracked.rows)
}

/// The first label that differs from the slow path's, and the frame.
fn first(labels: &[u8], slow: &[u8], frames: &[Frame]) -> Option<String> {
    let pairs = labels.chunks(WIDTH).zip(slow.chunks(WIDTH)).zip(frames);
    let (number, ((quick, slow), frame)) = pairs.enumerate().find(|(_, ((quick, slow), _))| quick != slow)?;
    Some(format!(
        "frame {number} at {}: {quick:?} | slow: {slow:?} {:02x?}",
        frame.ts,
        &frame.bytes[..frame.bytes.len().min(80)]
    ))
}

/// Compares results with those of the slow path.
fn compare(
    how: &str,
    frames: &[Frame],
    (labels, rows): (Vec<u8>, Rows),
    (slow, before): (&[u8], &Vec<String>),
) -> Result<(), TestCaseError> {
    let differing = first(&labels, slow, frames);
    prop_assert!(differing.is_none(), "{}: {:?}", how, differing);
    let rows = facts::of_rows(&rows);
    prop_assert!(rows == *before, "{}: {}", how, facts::differences(&rows, before));
    Ok(())
}

/// Plays the frames of a plan every way.
pub fn agree(plan: &Plan, cuts: &[usize]) -> Result<(), TestCaseError> {
    let config = play::config(plan.config);
    let frames: Vec<_> = plan.captured().iter().flatten().filter_map(frame).collect();
    let numbers = Lacks { payloads: true, numbers: true, ..Lacks::default() };
    for lacks in [numbers, Lacks { payloads: true, ..Lacks::default() }] {
        let (known, _, rows, _) = slowly(&config, &frames, lacks);
        let streamed = streamed(&config, &frames, cuts, (false, lacks));
        compare(&format!("{lacks:?}"), &frames, streamed, (&known, &facts::of_rows(&rows)))?;
    }
    let (known, labels, mut rows, expected) = slowly(&config, &frames, Lacks::default());
    let before = facts::of_rows(&rows);
    for (how, reads) in [("a stream", false), ("a stream beside a reader", true)] {
        compare(how, &frames, streamed(&config, &frames, cuts, (reads, Lacks::default())), (&known, &before))?;
    }
    if config.bounds != Bounds::default() {
        return Ok(());
    }
    let ports = ServerPorts::services();
    // A run knows when its file began: behind a clock that stepped back, that ends a pause.
    let files: Vec<i64> = frames.first().map(|frame| frame.ts).into_iter().collect();
    let udp_timeout = config.rules.timeouts.get(Timeout::Udp);
    hindsight::settle(&mut rows, &Hints { ports: &ports, expected: &expected, files: &files, udp_timeout });
    let (labels, after) = (labels.settle(&rows), facts::of_rows(&rows));
    for (how, threads) in [("a run", 1), ("a run of two threads", 2)] {
        compare(how, &frames, tracked(&config, &frames, threads), (&labels, &after))?;
    }
    Ok(())
}

#[test]
fn frames_are_what_their_packets_say() {
    let plan = Plan::of(super::moves::opening(super::moves::Move {
        shift: 8,
        sack_permitted: true,
        timestamps: true,
        ..super::moves::PLAIN
    }));
    for one in plan.captured().iter().flatten() {
        let frame = frame(one).unwrap();
        let mut packets = Vec::new();
        Decoder::new(Config::default().decode).decode(&record(&frame, 0), &frame.bytes, &mut packets).unwrap();
        let [packet] = packets[..] else { panic!("one packet") };
        assert_eq!(
            (packet.tuple, packet.l4, packet.payload_bytes),
            (one.packet.tuple, one.packet.l4, one.packet.payload_bytes)
        );
        assert_eq!(packet.tuple.proto, ipproto::TCP);
    }
}
