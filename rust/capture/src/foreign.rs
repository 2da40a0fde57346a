//! Files that are no capture that is read: names of their formats, and commands that make a capture of them.
//!
//! A name needs marks that other files lack. Formats without a magic number (ERF, ETL, PacketLogger) are told by fields of
//! their first records. Sources: the formats' specifications and Wireshark's readers (wiretap).

use std::path::Path;

use super::parse::{u16_at, u32_at};

/// Number of bytes at the head of a file that [`name`] needs.
pub(super) const HEAD: usize = 2048;

/// Mark of a format.
enum Mark {
    /// Given bytes at a given index.
    At(usize, &'static [u8]),
    /// Text that begins so, in any case, behind white space and a byte-order mark.
    Text(&'static str),
    /// Other evidence.
    If(fn(&[u8]) -> bool),
}

use Mark::{At, If, Text};

const EDITCAP: &str = "convert: editcap -F pcap IN OUT";
const NO_PACKETS: &str = "there are no packets in it";

/// Formats: name, mark and remedy, in the order in which marks are tried. IN and OUT stand for names of files.
const FORMATS: &[(&str, Mark, &str)] = &[
    ("zeros, as a full disk or a crash leaves", If(is_zeros), "capture again"),
    ("a Git LFS pointer", Text("version https://git-lfs.github.com/"), "fetch the file: git lfs pull"),
    ("an HTML page", Text("<!doctype html"), "download the file itself, not the page that shows it"),
    ("an HTML page", Text("<html"), "download the file itself, not the page that shows it"),
    ("a zip archive", At(0, b"PK\x03\x04"), "extract: unzip IN"),
    ("a zip archive", At(0, b"PK\x05\x06"), "extract: unzip IN"),
    ("a tar archive", At(257, b"ustar"), "extract: tar -xf IN"),
    ("a 7z archive", At(0, b"7z\xbc\xaf\x27\x1c"), "extract: 7z x IN"),
    ("a rar archive", At(0, b"Rar!\x1a\x07"), "extract: unrar x IN"),
    ("a cabinet (cab)", At(0, b"MSCF"), "extract: cabextract IN"),
    ("data of compress (.Z)", At(0, &[0x1f, 0x9d]), "decompress: gzip -dc IN > OUT"),
    ("lzma data", If(is_lzma), "decompress: xz -dc --format=lzma IN > OUT"),
    ("lzip data", At(0, b"LZIP"), "decompress: lzip -dc IN > OUT"),
    ("lzop data", At(0, b"\x89LZO\0"), "decompress: lzop -dc IN > OUT"),
    ("gzip data", At(0, &[0x1f, 0x8b]), "decompress once: gzip -dc IN > OUT"),
    ("xz data", At(0, b"\xfd7zXZ\0"), "decompress once: xz -dc IN > OUT"),
    ("bzip2 data", At(0, b"BZh"), "decompress once: bzip2 -dc IN > OUT"),
    ("zstd data", At(0, &[0x28, 0xb5, 0x2f, 0xfd]), "decompress once: zstd -dc IN > OUT"),
    ("a Windows event trace (ETL)", If(is_etl), "convert: pktmon etl2pcap IN --out OUT, or etl2pcapng IN OUT"),
    ("a Microsoft Network Monitor 2 capture", At(0, b"GMBU"), EDITCAP),
    ("a Microsoft Network Monitor 1 capture", At(0, b"RTSS"), EDITCAP),
    ("a NetXRay or Windows Sniffer capture", At(0, b"XCP\0"), EDITCAP),
    ("a NetXRay 1.0 capture", At(0, b"VL\0\0"), EDITCAP),
    ("a DOS Sniffer capture", At(0, b"TRSNIFF data    \x1a"), EDITCAP),
    ("a Network Instruments Observer capture", At(0, b"ObserverPktBuffe"), EDITCAP),
    ("a Visual Networks capture", At(0, b"\x05VNF"), EDITCAP),
    ("a Savvius *Peek capture", At(0, b"\x7fver"), EDITCAP),
    ("an AIX iptrace capture", At(0, b"iptrace "), EDITCAP),
    ("an HP-UX nettl capture", At(0, b"TR\0\x64\0"), EDITCAP),
    ("a Tektronix K12 capture", At(0, b"\0\0\x02\0\x12\x05\0\x10"), EDITCAP),
    ("K12 text", Text("+---------+---------------+----------+"), EDITCAP),
    ("a Bluetooth capture (btsnoop)", At(0, b"btsnoop\0"), "there is no IP in it that is read; tshark -r IN shows it"),
    (
        "a Bluetooth capture (Apple PacketLogger)",
        If(is_packetlogger),
        "there is no IP in it that is read; tshark -r IN shows it",
    ),
    ("an Endace ERF capture", If(is_erf), EDITCAP),
    ("an nfdump file of flows", At(0, &[0x0c, 0xa5]), NO_PACKETS),
    ("an ELF program", At(0, b"\x7fELF"), NO_PACKETS),
    ("a PDF document", At(0, b"%PDF-"), NO_PACKETS),
    ("a PNG image", At(0, b"\x89PNG"), NO_PACKETS),
    ("a JPEG image", At(0, &[0xff, 0xd8, 0xff]), NO_PACKETS),
    ("an SQLite database", At(0, b"SQLite format 3\0"), NO_PACKETS),
    ("a Parquet file", At(0, b"PAR1"), NO_PACKETS),
    ("an Arrow file", At(0, b"ARROW1"), NO_PACKETS),
    ("UTF-16 text, as > of PowerShell writes", At(0, &[0xff, 0xfe]), "write the capture with -w FILE"),
    ("bytes that a program took for text", At(0, "\u{fffd}".as_bytes()), "copy the capture again, in binary mode"),
    ("Wireshark's XML (PDML, PSML)", If(is_pdml), "save the capture itself: tshark -w FILE"),
    ("XML", Text("<?xml"), NO_PACKETS),
    ("Wireshark's text", Text("No.     Time"), "save the capture itself: tshark -w FILE"),
    ("a hex dump", If(is_hex_dump), "convert: text2pcap IN OUT"),
    ("tcpdump's text", If(is_tcpdump), "save the packets: tcpdump -w FILE"),
    ("a Zeek log", Text("#separator"), "track the capture that the log is of"),
    ("JSON", If(is_json), "save the capture itself: tshark -w FILE, tcpdump -w FILE"),
    ("a script", At(0, b"#!"), NO_PACKETS),
    ("CSV", If(is_csv), "save the capture itself: tshark -w FILE, tcpdump -w FILE"),
    ("text", If(is_text), "save the capture itself: tshark -w FILE, tcpdump -w FILE"),
];

/// Name and remedy of the format of a file's head, with the file's name in the remedy.
pub(super) fn name(head: &[u8], file: &Path) -> Option<(&'static str, String)> {
    let (name, _, remedy) = FORMATS.iter().find(|(_, mark, _)| match mark {
        At(at, magic) => head.get(*at..).is_some_and(|rest| rest.starts_with(magic)),
        Text(begin) => text(head).get(..begin.len()).is_some_and(|text| text.eq_ignore_ascii_case(begin.as_bytes())),
        If(holds) => holds(head),
    })?;
    Some((name, with_names(remedy, file)))
}

/// A remedy with the names of the files, quoted for a shell. A name that is no text, or no file, stays IN.
fn with_names(remedy: &str, file: &Path) -> String {
    let Some(file) = file.to_str().filter(|file| *file != "-" && !file.starts_with('<')) else { return remedy.into() };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/+=@%:,".contains(c);
    let quoted = |file: String| {
        if file.chars().all(is_plain) { file } else { format!("'{}'", file.replace('\'', r"'\''")) }
    };
    let dash = if file.starts_with('-') { "./" } else { "" };
    let (from, to) = (quoted(format!("{dash}{file}")), quoted(format!("{dash}{file}.pcap")));
    let words = remedy.split(' ').map(|word| match word {
        "IN" => from.clone(),
        "IN," => format!("{from},"),
        "OUT" => to.clone(),
        "OUT," => format!("{to},"),
        word => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The head behind a byte-order mark and white space.
fn text(head: &[u8]) -> &[u8] {
    head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(head).trim_ascii_start()
}

fn first_line(head: &[u8]) -> &[u8] {
    text(head).split(|&byte| byte == b'\n').next().unwrap_or_default()
}

fn is_zeros(head: &[u8]) -> bool {
    head.len() >= 4 && head.iter().all(|&byte| byte == 0)
}

/// The properties of all presets, a dictionary size of whole 64 KiB, and a size that is unknown or below a terabyte.
fn is_lzma(head: &[u8]) -> bool {
    head.starts_with(&[0x5d, 0, 0]) && head.get(5..13).is_some_and(|size| size == [0xff; 8] || size.ends_with(&[0; 3]))
}

/// A buffer's header, and behind it the header of the log's own event (evntrace.h, wmi.h).
fn is_etl(head: &[u8]) -> bool {
    const EVENT: usize = 0x48;
    let size = u32_at(false, head, 0);
    head.len() >= EVENT + 8
        && size != 0
        && size.is_multiple_of(1024)
        && size <= 16 << 20
        && matches!(head[EVENT + 2], 1 | 2)
        && head[EVENT + 3] == 0xc0
        && u16_at(false, head, EVENT + 6) == 0
}

/// Two records: length, seconds, microseconds, type.
fn is_packetlogger(head: &[u8]) -> bool {
    let record = |at: usize| {
        let is_whole = head.len() >= at + 13;
        let (length, micro) = (u32_at(true, head, at), u32_at(true, head, at + 8));
        let kind = head.get(at + 12).copied().unwrap_or(0xee);
        let is_one = is_whole && (9..65_536).contains(&length) && micro < 1_000_000;
        (is_one && matches!(kind, 0..=3 | 8..=13 | 0xf7..=0xff)).then_some(at + 4 + length as usize)
    };
    record(0).and_then(record).is_some()
}

/// Two records: time (a little-endian fraction and seconds), type, flags, lengths of the record and of the packet.
fn is_erf(head: &[u8]) -> bool {
    /// Seconds of a day.
    const DAY: u32 = 86_400;
    let record = |at: usize| {
        let (sec, length) = (u32_at(false, head, at + 4), u16_at(true, head, at + 10));
        let kind = head.get(at + 8).map_or(0, |kind| kind & 0x7f);
        let is_one =
            head.len() >= at + 16 && (1..=48).contains(&kind) && length > 16 && u16_at(true, head, at + 14) > 0;
        is_one.then_some((at + length as usize, sec))
    };
    let pair = record(0).and_then(|(next, first)| record(next).map(|(_, second)| (first, second)));
    pair.is_some_and(|(first, second)| first != 0 && second.wrapping_sub(first) < DAY)
}

fn is_pdml(head: &[u8]) -> bool {
    let head = text(head);
    head.starts_with(b"<") && (contains(head, b"<pdml") || contains(head, b"<psml"))
}

fn contains(head: &[u8], word: &[u8]) -> bool {
    head.windows(word.len()).any(|window| window == word)
}

/// An offset of at least four digits and bytes in hexadecimal.
fn is_hex_dump(head: &[u8]) -> bool {
    let mut words = first_line(head).split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let is_hex = |word: &[u8]| word.iter().all(u8::is_ascii_hexdigit);
    let offset = words.next().map(|word| word.strip_suffix(b":").unwrap_or(word)).unwrap_or_default();
    let bytes: Vec<&[u8]> = words.take(4).collect();
    (4..=8).contains(&offset.len())
        && offset.iter().all(|&byte| byte == b'0')
        && bytes.len() == 4
        && bytes.iter().all(|word| matches!(word.len(), 2 | 4 | 8) && is_hex(word))
}

/// `12:34:56.789012 `, behind a date or not.
fn is_tcpdump(head: &[u8]) -> bool {
    let line = first_line(head);
    let time = |line: &[u8]| {
        line.get(..15).is_some_and(|time| {
            time.iter().enumerate().all(|(at, byte)| match at {
                2 | 5 => *byte == b':',
                8 => *byte == b'.',
                _ => byte.is_ascii_digit(),
            })
        })
    };
    time(line) || line.get(11..).is_some_and(time)
}

fn is_json(head: &[u8]) -> bool {
    is_text(head) && matches!(text(head).first(), Some(b'{' | b'['))
}

fn is_csv(head: &[u8]) -> bool {
    let line = first_line(head);
    is_text(head) && [b',', b';', b'\t'].iter().any(|comma| line.split(|byte| byte == comma).count() > 3)
}

/// UTF-8 without control characters, up to a character that the end of the head cuts.
fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    valid.len() >= 4 && !valid.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{c}'))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    /// A head of each format.
    fn heads() -> Vec<(&'static str, Vec<u8>)> {
        let mut tar = b"a.pcap".to_vec();
        tar.resize(257, 0);
        tar.extend(b"ustar\x0000");
        let mut etl = vec![0; 0x60];
        etl[1] = 0x40;
        etl[0x48..0x50].copy_from_slice(&[2, 0, 2, 0xc0, 0x20, 1, 0, 0]);
        let record = [&[0; 4][..], &T0.to_le_bytes(), &[2, 4, 0, 20, 0, 0, 0, 60], &[9; 4]].concat();
        let logged = [&[0, 0, 0, 12][..], &T0.to_be_bytes(), &[0, 0, 1, 0, 1], &[7; 3]].concat();
        vec![
            ("zeros, as a full disk or a crash leaves", vec![0; 4096]),
            ("a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n".to_vec()),
            ("an HTML page", b"\xef\xbb\xbf\n <!DOCTYPE HTML><html>".to_vec()),
            ("a tar archive", tar),
            ("lzma data", [&[0x5d, 0, 0, 0x80, 0][..], &[0xff; 8], &[0, 1]].concat()),
            ("a Windows event trace (ETL)", etl),
            ("a Bluetooth capture (Apple PacketLogger)", logged.repeat(2)),
            ("an Endace ERF capture", record.repeat(3)),
            ("Wireshark's XML (PDML, PSML)", b"<?xml version=\"1.0\"?>\n<pdml version=\"0\">".to_vec()),
            ("XML", b"<?xml version=\"1.0\"?>\n<a/>".to_vec()),
            ("Wireshark's text", b"No.     Time           Source".to_vec()),
            ("a hex dump", b"0000   00 1b 21 0a 9f 2c 00 1b\n".to_vec()),
            ("a hex dump", b"00000000: d4c3 b2a1 0200 0400 0000\n".to_vec()),
            ("tcpdump's text", b"12:34:56.789012 IP 10.0.0.1.1 > 10.0.0.2.2: UDP".to_vec()),
            ("tcpdump's text", b"2026-01-01 12:34:56.789012 IP 10.0.0.1.1 > 10.0.0.2.2: UDP".to_vec()),
            ("a Zeek log", b"#separator \\x09\n#path\tconn".to_vec()),
            ("JSON", b"[\n  {\n    \"_index\": 1".to_vec()),
            ("CSV", b"time,src,dst,proto\n1,2,3,4\n".to_vec()),
            ("text", "Grüße, no capture\n".into()),
        ]
    }

    #[test]
    fn every_format_is_named() {
        let heads = heads();
        let magics = FORMATS.iter().filter_map(|(name, mark, _)| match mark {
            At(0, magic) => Some((*name, [magic, &[0x80, 0xff][..]].concat())),
            Text(begin) => Some((*name, begin.as_bytes().to_vec())),
            _ => None,
        });
        for (expected, head) in magics.chain(heads.clone()) {
            assert_eq!(name(&head, Path::new("a")).map(|(name, _)| name), Some(expected), "{head:?}");
        }
        for (name, mark, _) in FORMATS {
            assert!(!matches!(mark, If(_)) || heads.iter().any(|(one, _)| one == name), "{name} has no example");
        }
    }

    #[test]
    fn captures_and_noise_have_no_name() {
        let noise = (0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 | 0x80).collect();
        for head in [sample(9), sample_ng(9), noise, vec![0xff; 99], vec![], vec![0], b"abc".to_vec()] {
            assert_eq!(name(&head, Path::new("a")), None);
        }
    }

    #[test]
    fn commands_have_the_names_of_the_files() {
        let remedy = |file: &str| name(b"GMBU and more", Path::new(file)).expect("a format").1;
        assert_eq!(remedy("dir/a.cap"), "convert: editcap -F pcap dir/a.cap dir/a.cap.pcap");
        assert_eq!(remedy("it's $HOME"), r"convert: editcap -F pcap 'it'\''s $HOME' 'it'\''s $HOME.pcap'");
        assert_eq!(remedy("-x"), "convert: editcap -F pcap ./-x ./-x.pcap");
        for file in ["-", "<BytesIO>"] {
            assert_eq!(remedy(file), EDITCAP);
        }
    }

    #[test]
    fn errors_name_the_format() {
        for (expected, bytes) in heads() {
            let all = read_every_way(&bytes);
            assert!(format_error(&all).1.starts_with(expected), "{:?}", all.error);
        }
    }
}
