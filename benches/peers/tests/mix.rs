//! Real captures are read whole, interleaved without loss, and repeated between other addresses.

mod frames;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use conntrack_bench_peers::mix::{Mix, names};
use conntrack_bench_peers::readdress::readdress;
use conntrack_bench_peers::recorded::{self, Recorded};
use conntrack_bench_peers::{Packets, Plan, Shape, pcap};
use frames::{checks, read};

const LOOP_MICROS: u64 = 300_000_000;

/// Frames of every protocol that the generator of mixed traffic knows.
fn frames() -> Vec<(u64, Vec<u8>)> {
    let plan = Plan { packets: 2_000, connections: 200, seconds: 10, seed: 1, shape: Shape::Imix };
    let mut packets = Packets::new(plan);
    let mut frames = Vec::new();
    while let Some((at, frame)) = packets.next_packet() {
        frames.push((at, frame.to_vec()));
    }
    frames
}

fn recorded(micros: u64, bytes: &[u8]) -> Recorded {
    Recorded { micros, wire: bytes.len() as u32 + 4, bytes: bytes.to_vec() }
}

/// A pcap file with another byte order or unit of time.
fn pcap_of(packets: &[Recorded], big: bool, nanoseconds: bool) -> Vec<u8> {
    let order = |word: u32| if big { word.to_be_bytes() } else { word.to_le_bytes() };
    let magic = if nanoseconds { 0xA1B2_3C4D } else { 0xA1B2_C3D4 };
    let version = if big { 2 << 16 | 4 } else { 2 | 4 << 16 };
    let mut file = [magic, version, 0, 0, 65_535, 1].map(order).concat();
    for packet in packets {
        let fraction = (packet.micros % 1_000_000) as u32 * if nanoseconds { 1_000 } else { 1 };
        let header = [(packet.micros / 1_000_000) as u32, fraction, packet.bytes.len() as u32, packet.wire];
        file.extend(header.map(order).concat());
        file.extend(&packet.bytes);
    }
    file
}

/// A pcapng file with nanoseconds, a name of the interface, and a block that no reader knows.
fn pcapng_of(packets: &[Recorded], big: bool, link_type: u16) -> Vec<u8> {
    let order = |word: u32| if big { word.to_be_bytes() } else { word.to_le_bytes() };
    let half = |half: u16| if big { half.to_be_bytes() } else { half.to_le_bytes() };
    let block = |kind: u32, body: Vec<u8>| {
        let len = 12 + body.len() as u32;
        [&order(kind)[..], &order(len), &body, &order(len)].concat()
    };
    let section = [&order(0x1A2B_3C4D)[..], &half(1), &half(0), &[0xFF; 8]].concat();
    let options = [&half(2)[..], &half(3), b"eth0", &half(9), &half(1), &[9, 0, 0, 0], &[0; 4]].concat();
    let interface = [&half(link_type)[..], &half(0), &order(0), &options].concat();
    let mut file = [block(0x0A0D_0D0A, section), block(1, interface), block(0xBAD, vec![1; 8])].concat();
    for packet in packets {
        let ticks = packet.micros * 1_000;
        let words = [0, (ticks >> 32) as u32, ticks as u32, packet.bytes.len() as u32, packet.wire];
        let padding = vec![0; packet.bytes.len().next_multiple_of(4) - packet.bytes.len()];
        file.extend(block(6, [words.map(order).concat(), packet.bytes.clone(), padding].concat()));
    }
    file
}

#[test]
fn every_format_gives_the_same_packets() {
    let packets: Vec<_> = frames().iter().take(20).map(|(at, frame)| recorded(*at, frame)).collect();
    for big in [false, true] {
        for nanoseconds in [false, true] {
            assert_eq!(recorded::packets(&pcap_of(&packets, big, nanoseconds)).as_ref(), Ok(&packets));
        }
        assert_eq!(recorded::packets(&pcapng_of(&packets, big, 1)).as_ref(), Ok(&packets));
    }
    // Sections of different byte orders in one file.
    let sections = [pcapng_of(&packets, true, 1), pcapng_of(&packets, false, 1), pcapng_of(&packets, true, 1)].concat();
    assert_eq!(recorded::packets(&sections), Ok([packets.clone(), packets.clone(), packets].concat()));
}

#[test]
fn damage_ends_a_capture() {
    let packets: Vec<_> = frames().iter().take(20).map(|(at, frame)| recorded(*at, frame)).collect();
    for file in [pcap_of(&packets, false, false), pcapng_of(&packets, true, 1)] {
        for len in 24..file.len() {
            let found = recorded::packets(&file[..len]).unwrap();
            assert!(found.len() < packets.len() && found[..] == packets[..found.len()]);
        }
    }
}

#[test]
fn other_link_types_and_formats_are_errors() {
    assert_eq!(recorded::packets(&pcapng_of(&[], false, 113)), Err("link type 113".to_owned()));
    let mut raw = pcap_of(&[], false, false);
    raw[20] = 101;
    assert_eq!(recorded::packets(&raw), Err("link type 101".to_owned()));
    assert_eq!(recorded::packets(&[0x1F, 0x8B, 8, 8]), Err("the magic number 0x08088b1f".to_owned()));
    assert_eq!(recorded::packets(&[]), Err("no header".to_owned()));
}

#[test]
fn other_addresses_leave_frames_valid() {
    let mut keys = HashMap::new();
    for number in [0, 1, 255, 256, 0xABCD] {
        for (at, frame) in frames() {
            let mut changed = frame.clone();
            readdress(&mut changed, number);
            // `read` verifies the checksums.
            let (before, after) = (read(at, &frame), read(at, &changed));
            assert_eq!(before.payload, after.payload);
            assert_eq!(changed == frame, number == 0);
            // Both directions go on to have one key, and no two connections share one.
            let known = keys.entry((number, before.protocol, before.key)).or_insert_with(|| after.key.clone());
            assert_eq!(*known, after.key);
        }
    }
    let distinct: HashSet<_> = keys.iter().map(|((_, protocol, _), key)| (protocol, key)).collect();
    assert_eq!(distinct.len(), keys.len());
}

#[test]
fn tags_fragments_and_groups() {
    let (_, frame) = frames().into_iter().find(|(_, frame)| frame[12] == 8 && frame[23] == 6).unwrap();
    let changed = |frame: &[u8]| {
        let mut changed = frame.to_vec();
        readdress(&mut changed, 0x0102);
        changed
    };
    // A tag moves the packet, and nothing else.
    let tagged = [&frame[..12], &[0x81, 0, 0, 7, 0x88, 0xA8, 0, 8], &frame[12..]].concat();
    let plain = changed(&frame);
    assert_eq!(changed(&tagged)[20..], plain[12..]);
    // Bytes of a later fragment are no checksum of the transport.
    let mut fragment = frame.clone();
    fragment[21] = 185;
    assert_eq!(changed(&fragment)[34..], fragment[34..]);
    assert_ne!(changed(&fragment)[..34], fragment[..34]);
    // Groups, loopback and "this network" stay.
    for first in [0, 127, 224, 255] {
        let mut special = frame.clone();
        (special[26], special[30]) = (first, first);
        assert_eq!(changed(&special), special);
    }
    // Cut packets change as far as captured.
    for len in 0..frame.len() {
        let cut = changed(&frame[..len]);
        assert_eq!(cut.len(), len);
        if len > 34 + 20 {
            assert_eq!(cut, plain[..len]);
        }
    }
}

#[test]
fn quoted_addresses_change_like_those_of_the_packet() {
    let (at, frame) = frames().into_iter().find(|(_, frame)| frame[12] == 8 && frame[23] == 17).unwrap();
    let original = &frame[14..42];
    // "Port unreachable" from the receiver back to the sender.
    let mut error = [&frame[..14], &[0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0], &frame[30..34], &frame[26..30]].concat();
    error.extend([&[3, 3, 0, 0, 0, 0, 0, 0], original].concat());
    for (start, end, checksum) in [(14, 34, 24), (34, 70, 36)] {
        let sum = (0..=u16::MAX).find(|sum| {
            error[checksum..checksum + 2].copy_from_slice(&sum.to_be_bytes());
            checks(&error[start..end], &[])
        });
        assert!(sum.is_some());
    }
    let mut changed = frame.clone();
    readdress(&mut changed, 0x0304);
    readdress(&mut error, 0x0304);
    assert!(read(at, &changed).payload > 0);
    assert!(checks(&error[14..34], &[]) && checks(&error[34..70], &[]) && checks(&error[42..62], &[]));
    assert_eq!(error[54..62], changed[26..34]);
    assert_eq!((&error[26..30], &error[30..34]), (&changed[30..34], &changed[26..30]));
}

#[test]
fn loops_repeat_every_packet_between_other_addresses() {
    let frames = frames();
    // A short capture, and one of 2,000 s that is compressed.
    let short: Vec<_> = frames.iter().map(|(at, frame)| recorded(*at, frame)).collect();
    let long: Vec<_> = (0..100).map(|number| recorded(number * 20_000_000, &frames[number as usize].1)).collect();
    let mut mix = Mix::of(vec![short, Vec::new(), long], 1);
    let len = frames.len() + 100;
    assert_eq!(mix.loop_len(), len);
    let mut loops = Vec::new();
    for number in 0..3u64 {
        let mut packets = Vec::new();
        for _ in 0..len {
            let (at, bytes, wire) = mix.next_packet().unwrap();
            assert_eq!(wire as usize, bytes.len() + 4);
            let mut original = bytes.to_vec();
            readdress(&mut original, number as u16);
            packets.push((at - number * LOOP_MICROS, original));
        }
        assert!(packets.is_sorted_by_key(|packet| packet.0));
        assert!(packets[len - 1].0 - packets[0].0 < LOOP_MICROS);
        loops.push(packets);
    }
    // The change of addresses is undone by the same change.
    assert_eq!((&loops[0], &loops[0]), (&loops[1], &loops[2]));
    let mut sources: Vec<_> = frames.iter().chain(&frames[..100]).map(|(_, frame)| frame.clone()).collect();
    let mut found: Vec<_> = loops.swap_remove(0).into_iter().map(|(_, frame)| frame).collect();
    sources.sort();
    found.sort();
    assert!(sources == found);
}

#[test]
fn a_mix_of_nothing_is_empty() {
    assert!(Mix::of(vec![Vec::new()], 1).next_packet().is_none());
}

/// A folder for the files of one test.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs the program on a list with these names, whose captures are below `folder`.
fn make_mix(scratch: &Path, folder: &Path, names: &[&str], ci: bool) -> (PathBuf, Output) {
    let (list, out) = (scratch.join("list.txt"), scratch.join("out.pcap"));
    std::fs::write(&list, format!("# names\n\n{}\n", names.join("\n"))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_make-trace"));
    command.arg(&out).args(["--shape", "mix", "--packets", "30", "--list"]).arg(&list).arg("--folder").arg(folder);
    if ci {
        command.env("CI", "true");
    } else {
        command.env_remove("CI");
    }
    (out, command.output().unwrap())
}

#[test]
fn a_missing_folder_is_skipped_with_a_reason_or_fails_ci() {
    let scratch = scratch("missing_folder");
    let (out, done) = make_mix(&scratch, &scratch.join("nowhere"), &["a.pcap"], false);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success() && said.starts_with("skipped ") && said.contains("nowhere"), "{said}");
    assert!(!out.exists());
    let (out, done) = make_mix(&scratch, &scratch.join("nowhere"), &["a.pcap"], true);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success() && said.contains("a.pcap"), "{said}");
    assert!(!out.exists());
}

#[test]
fn captures_of_the_list_are_mixed_until_there_are_enough_packets() {
    let folder = scratch("mixed");
    let packets: Vec<_> = frames().iter().take(20).map(|(at, frame)| recorded(*at, frame)).collect();
    std::fs::write(folder.join("a.pcap"), pcap_of(&packets[..10], false, false)).unwrap();
    std::fs::write(folder.join("b.pcapng"), pcapng_of(&packets[10..], true, 1)).unwrap();
    std::fs::write(folder.join("c.pcapng"), pcapng_of(&packets[10..], true, 113)).unwrap();
    let (out, done) = make_mix(&folder, &folder, &["a.pcap", "b.pcapng"], false);
    assert!(done.status.success());
    let made = recorded::packets(&std::fs::read(&out).unwrap()).unwrap();
    assert_eq!(made.len(), 30);
    assert!(made[..20].iter().all(|packet| packets.iter().any(|one| one.bytes == packet.bytes)));
    for (name, reason) in [("c.pcapng", "link type 113"), ("d.pcap", "d.pcap")] {
        let (_, done) = make_mix(&folder, &folder, &["a.pcap", name], false);
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success() && said.contains(name) && said.contains(reason), "{said}");
    }
}

#[test]
fn the_list_of_the_project_names_each_capture_once() {
    let list = include_str!("../../mix.txt");
    let all: Vec<_> = names(list).collect();
    assert!(all.iter().all(|name| name.starts_with("corpus/pcaps/") || name.starts_with("more/pcaps/")));
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    assert!(all.len() > 400);
}

#[test]
fn kinds_are_written_by_name_and_cut() {
    let out = scratch("kinds").join("out.pcap");
    for (kind, kept) in [("clean", 254), ("snaplen", 96)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_make-trace"));
        let options = ["--shape", kind, "--connections", "10", "--rounds", "5"];
        assert!(command.arg(&out).args(options).status().unwrap().success());
        let file = std::fs::read(&out).unwrap();
        let packets = recorded::packets(&file).unwrap();
        assert_eq!(packets.len(), 10 * (3 + 3 * 5));
        assert_eq!(packets.iter().map(|packet| packet.bytes.len()).max(), Some(kept));
        assert_eq!(packets.iter().map(|packet| packet.wire).max(), Some(254));
        assert!(file.len() > pcap::FILE_HEADER);
    }
}
