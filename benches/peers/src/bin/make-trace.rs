//! Writes a capture: `make-trace FILE [--packets N] [--connections N] [--snaplen N] [--seconds N] [--seed N] [--shape imix|scan]`.

use std::error::Error;
use std::fs::{File, rename};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use conntrack_bench_peers::{Packets, Plan, Shape, pcap};

const WHOLE: u32 = 65_535;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("no file is given")?);
    let mut plan = Plan { packets: 1_000_000, connections: 50_000, seconds: 60, seed: 1, shape: Shape::Imix };
    let mut snaplen = WHOLE;
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} has no value"))?;
        match name.as_str() {
            "--packets" => plan.packets = value.parse()?,
            "--connections" => plan.connections = value.parse()?,
            "--seconds" => plan.seconds = value.parse()?,
            "--seed" => plan.seed = value.parse()?,
            "--snaplen" => snaplen = value.parse()?,
            "--shape" if value == "imix" => plan.shape = Shape::Imix,
            "--shape" if value == "scan" => plan.shape = Shape::Scan,
            _ => return Err(format!("{name} {value} is no option").into()),
        }
    }
    // A file that was not finished is not found again as one that was.
    let unfinished = path.with_extension("unfinished");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&unfinished)?);
    pcap::write_file_header(&mut out, snaplen)?;
    let mut packets = Packets::new(plan);
    while let Some((micros, frame)) = packets.next_packet() {
        pcap::write_record(&mut out, micros, frame, snaplen as usize)?;
    }
    out.flush()?;
    rename(unfinished, path)?;
    Ok(())
}
