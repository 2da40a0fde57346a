//! Writes a capture: `make-trace FILE [--shape SHAPE] [--OPTION VALUE]...`.
//!
//! Shapes: `imix` and `scan`; a kind of imperfection such as `clean` or `loss`; `mix`, which interleaves real captures.

use std::error::Error;
use std::fs::{File, rename};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use conntrack_bench_peers::imperfect::{self, Kind};
use conntrack_bench_peers::mix::Mix;
use conntrack_bench_peers::{Packets, Plan, Shape, pcap};

const WHOLE: u32 = 65_535;

/// Traffic to write.
#[derive(Clone, Copy)]
enum Traffic {
    Made(Shape),
    Imperfect(Kind),
    Mix,
}

impl Traffic {
    fn named(name: &str) -> Option<Self> {
        match name {
            "imix" => Some(Self::Made(Shape::Imix)),
            "scan" => Some(Self::Made(Shape::Scan)),
            "mix" => Some(Self::Mix),
            _ => Kind::named(name).map(Self::Imperfect),
        }
    }
}

/// Options of the command line.
struct Options {
    traffic: Traffic,
    packets: u64,
    connections: Option<u32>,
    rounds: u32,
    seconds: u32,
    seed: u64,
    snaplen: u32,
    /// File with the names of the captures to mix.
    list: PathBuf,
    /// Folder that the names start from.
    folder: PathBuf,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            traffic: Traffic::Made(Shape::Imix),
            packets: 1_000_000,
            connections: None,
            rounds: 320,
            seconds: 60,
            seed: 1,
            snaplen: WHOLE,
            list: "benches/mix.txt".into(),
            folder: "../shared".into(),
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} has no value"))?;
            match name.as_str() {
                "--packets" => options.packets = value.parse()?,
                "--connections" => options.connections = Some(value.parse()?),
                "--rounds" => options.rounds = value.parse()?,
                "--seconds" => options.seconds = value.parse()?,
                "--seed" => options.seed = value.parse()?,
                "--snaplen" => options.snaplen = value.parse()?,
                "--list" => options.list = value.into(),
                "--folder" => options.folder = value.into(),
                "--shape" => {
                    options.traffic = Traffic::named(&value).ok_or_else(|| format!("no shape is named {value}"))?;
                }
                _ => return Err(format!("{name} {value} is no option").into()),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("make-trace: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let path = PathBuf::from(arguments.next().ok_or("no file is given")?);
    let options = Options::read(arguments)?;
    // Where nothing may be skipped, the missing captures are an error below.
    let may_skip = std::env::var_os("CI").is_none_or(|ci| ci != "true");
    if matches!(options.traffic, Traffic::Mix) && may_skip && !options.folder.is_dir() {
        eprintln!("skipped {}: the real captures are not there: {}", path.display(), options.folder.display());
        return Ok(());
    }
    write(&path, &options)
}

fn write(path: &Path, options: &Options) -> Result<(), Box<dyn Error>> {
    // A file that was not finished is not found again as one that was.
    let unfinished = path.with_extension("unfinished");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&unfinished)?);
    match options.traffic {
        Traffic::Made(shape) => made(&mut out, options, shape)?,
        Traffic::Imperfect(kind) => imperfect(&mut out, options, kind)?,
        Traffic::Mix => mix(&mut out, options)?,
    }
    out.flush()?;
    rename(unfinished, path)?;
    Ok(())
}

fn made(out: &mut impl Write, options: &Options, shape: Shape) -> Result<(), Box<dyn Error>> {
    let &Options { packets, seconds, seed, snaplen, .. } = options;
    let connections = options.connections.unwrap_or(50_000);
    pcap::write_file_header(out, snaplen)?;
    let mut packets = Packets::new(Plan { packets, connections, seconds, seed, shape });
    while let Some((micros, frame)) = packets.next_packet() {
        pcap::write_record(out, micros, frame, snaplen as usize)?;
    }
    Ok(())
}

fn imperfect(out: &mut impl Write, options: &Options, kind: Kind) -> Result<(), Box<dyn Error>> {
    let &Options { rounds, seed, .. } = options;
    let connections = options.connections.unwrap_or(1_000);
    let snaplen = kind.snaplen().unwrap_or(options.snaplen);
    pcap::write_file_header(out, snaplen)?;
    let mut packets = imperfect::Packets::new(imperfect::Plan { kind, connections, rounds, seed });
    while let Some((micros, frame)) = packets.next_packet() {
        pcap::write_record(out, micros, frame, snaplen as usize)?;
    }
    Ok(())
}

fn mix(out: &mut impl Write, options: &Options) -> Result<(), Box<dyn Error>> {
    let list =
        std::fs::read_to_string(&options.list).map_err(|error| format!("{}: {error}", options.list.display()))?;
    let mut mix = Mix::read(&options.folder, &list, options.seed)?;
    pcap::write_file_header(out, pcap::LONGEST)?;
    for _ in 0..options.packets {
        let Some((micros, bytes, wire)) = mix.next_packet() else { break };
        pcap::write_captured(out, micros, bytes, wire)?;
    }
    Ok(())
}
