//! Decompressors as push-based state machines, fed with slices.
//!
//! No decompressor reads: the single `read()` stays in the source. So an interrupting signal finds every state
//! machine consistent, and decoded output is delivered before a wait for more input.

mod bzip2;
mod kind;
mod lz4;
mod zstd;

use liblzma::stream as xz;

use self::bzip2::Bzip2;
use self::kind::Step;
pub(super) use self::kind::{Kind, MAGIC_LEN};
use self::lz4::Lz4;
pub(super) use self::zstd::ZSTD_WINDOW;
use self::zstd::Zstd;

/// Memory limit of an xz decoder in bytes. No xz preset needs more than 65 MiB, so a header that asks for gigabytes
/// is refused.
const XZ_MEMORY: u64 = 256 << 20;

/// Decoder of concatenated members of one format. As in the command-line tools, zero padding between or after members
/// is ignored.
pub(super) struct Codec {
    kind: Kind,
    machine: Machine,
    /// True between two members, where the file may end.
    between: bool,
}

enum Machine {
    Gzip(flate2::Decompress),
    Zstd(Box<Zstd>),
    Lz4(Box<Lz4>),
    Xz(xz::Stream),
    Bzip2(Box<Bzip2>),
}

impl Codec {
    pub(super) fn new(kind: Kind) -> Result<Self, String> {
        Ok(Self { kind, machine: Machine::new(kind)?, between: false })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// True if the input may end here.
    pub(super) fn may_end(&self) -> bool {
        self.between || matches!(&self.machine, Machine::Lz4(lz4) if lz4.may_end())
    }

    /// Decode a part of `input` into `out`. A step that consumes and writes nothing needs more input. Output before
    /// an error is valid, so the output before an error does not depend on the slicing of the input.
    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> (Step, Result<(), String>) {
        let mut padding = 0;
        if self.between {
            padding = input.iter().take_while(|&&b| b == 0).count();
            match input.get(padding) {
                Some(&byte) if self.kind.begins_with(byte) => match self.machine.restart(self.kind) {
                    Ok(()) => self.between = false,
                    Err(e) => return (Step { read: padding, written: 0 }, Err(e)),
                },
                Some(byte) => {
                    let e = format!("byte {byte:02x} after the end of the compressed data");
                    return (Step { read: padding, written: 0 }, Err(e));
                }
                None => return (Step { read: padding, written: 0 }, Ok(())),
            }
        }
        let (mut step, ended) = self.machine.run(&input[padding..], out);
        step.read += padding;
        (step, ended.map(|ended| self.between = ended))
    }
}

impl Machine {
    fn new(kind: Kind) -> Result<Self, String> {
        Ok(match kind {
            Kind::Gzip => Self::Gzip(flate2::Decompress::new_gzip(15)),
            Kind::Zstd => Self::Zstd(Box::new(Zstd::new()?)),
            Kind::Lz4 => Self::Lz4(Box::default()),
            Kind::Xz => Self::Xz(xz::Stream::new_stream_decoder(XZ_MEMORY, 0).map_err(|e| e.to_string())?),
            Kind::Bzip2 => Self::Bzip2(Box::new(Bzip2::new())),
        })
    }

    /// Reset for the next member.
    fn restart(&mut self, kind: Kind) -> Result<(), String> {
        // A zstd context continues across frames and is kept: parallel compressors write many frames.
        if kind != Kind::Zstd {
            *self = Self::new(kind)?;
        }
        Ok(())
    }

    /// Run one step within a member; returns true at the member's end.
    fn run(&mut self, input: &[u8], out: &mut [u8]) -> (Step, Result<bool, String>) {
        match self {
            Self::Gzip(gzip) => {
                let (read, written) = (gzip.total_in(), gzip.total_out());
                let status = gzip.decompress(input, out, flate2::FlushDecompress::None);
                let ended = status.map(|s| s == flate2::Status::StreamEnd).map_err(|e| e.to_string());
                (step(gzip.total_in() - read, gzip.total_out() - written), ended)
            }
            Self::Zstd(zstd) => zstd.run(input, out),
            Self::Lz4(lz4) => lz4.run(input, out),
            Self::Xz(stream) => {
                let (read, written) = (stream.total_in(), stream.total_out());
                let status = stream.process(input, out, xz::Action::Run);
                let ended = status.map(|s| s == xz::Status::StreamEnd).map_err(|e| e.to_string());
                (step(stream.total_in() - read, stream.total_out() - written), ended)
            }
            Self::Bzip2(bzip2) => bzip2.run(input, out),
        }
    }
}

fn step(read: u64, written: u64) -> Step {
    Step { read: read as usize, written: written as usize }
}

#[cfg(test)]
mod tests;
