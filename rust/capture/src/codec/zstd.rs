//! The Zstandard decoder (RFC 8878), a block at a time.

use zstd::stream::raw::Operation;

use super::kind::Step;

/// Size in bytes of the header of a Zstandard block (RFC 8878, 3.1.1.2).
const ZSTD_BLOCK_HEADER: usize = 3;

/// Reason why a zstd frame with a larger window than the library's limit is refused.
pub(in super::super) const ZSTD_WINDOW: &str =
    "a zstd window over 128 MiB, the limit here; decompress the file first (zstd -d --long=31)";

/// Zstandard decoder. A call that ends in an error reports no output of that call. So each call gets at most the one
/// requested block, and no input while earlier output waits: an error never comes with output.
pub(super) struct Zstd {
    decoder: zstd::stream::raw::Decoder<'static>,
    /// Number of input bytes that the decoder requested: a block, and the header of the next block.
    wanted: usize,
    /// True if the last call filled its output, so that more output may wait.
    flushing: bool,
}

impl Zstd {
    pub(super) fn new() -> Result<Self, String> {
        let decoder = zstd::stream::raw::Decoder::new().map_err(|e| e.to_string())?;
        Ok(Self { decoder, wanted: 1, flushing: false })
    }

    pub(super) fn run(&mut self, input: &[u8], out: &mut [u8]) -> (Step, Result<bool, String>) {
        loop {
            let alone =
                if self.wanted > ZSTD_BLOCK_HEADER { self.wanted - ZSTD_BLOCK_HEADER } else { self.wanted.max(1) };
            let given = if self.flushing { 0 } else { alone.min(input.len()) };
            let flushed = std::mem::take(&mut self.flushing);
            let status = match self.decoder.run_on_buffers(&input[..given], out) {
                Ok(status) => status,
                Err(e) if e.to_string().contains("too much memory") => {
                    return (Step::default(), Err(ZSTD_WINDOW.to_owned()));
                }
                Err(e) => return (Step::default(), Err(e.to_string())),
            };
            let done = Step { read: status.bytes_read, written: status.bytes_written };
            self.wanted = status.remaining;
            self.flushing = done.written == out.len();
            if done == Step::default() && flushed {
                continue;
            }
            // No input requested: the end of a frame.
            return (done, Ok(done != Step::default() && status.remaining == 0));
        }
    }
}
