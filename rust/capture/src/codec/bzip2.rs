//! The bzip2 decoder, which gives the same for any sizes of reads.

use super::kind::Step;

/// Size in bytes of one call's output of bzip2. At most as many bytes of a corrupt block are lost before the corruption.
const BZIP2_OUTPUT: usize = 4096;

/// Size in bytes of one call's input of bzip2. The shortest block has 174 bits: 48 of its number, 32 of its checksum, 1 of
/// randomness, 24 of its origin, 32 of its symbols, 3 + 15 + 1 of two tables' selectors, 2 * 8 of the tables, 2 of data.
const BZIP2_INPUT: usize = 16;

/// bzip2 decoder. A call that finds a block corrupt in the middle of its output reports none of the block's output in that
/// call. So calls begin and end at the same places of each block, whatever the reads are: their output has a size of its
/// own, no input is given while earlier output waits, and too little input for the next block to be complete.
pub(super) struct Bzip2 {
    decoder: bzip2::Decompress,
    /// Output, pending in `out[at..filled]`.
    out: Vec<u8>,
    at: usize,
    filled: usize,
    /// Result of the last call, due behind its output.
    result: Option<Result<bool, String>>,
}

impl Bzip2 {
    pub(super) fn new() -> Self {
        Self { decoder: bzip2::Decompress::new(false), out: vec![0; BZIP2_OUTPUT], at: 0, filled: 0, result: None }
    }

    pub(super) fn run(&mut self, input: &[u8], out: &mut [u8]) -> (Step, Result<bool, String>) {
        let mut done = Step::default();
        while self.at == self.filled && self.result.is_none() {
            let flushes = self.filled == BZIP2_OUTPUT;
            let rest = &input[done.read..];
            let given = if flushes { &[] } else { &rest[..rest.len().min(BZIP2_INPUT)] };
            let (read, written) = (self.decoder.total_in(), self.decoder.total_out());
            let status = self.decoder.decompress(given, &mut self.out);
            (self.at, self.filled) = (0, (self.decoder.total_out() - written) as usize);
            let read = (self.decoder.total_in() - read) as usize;
            done.read += read;
            self.result = match status {
                Ok(bzip2::Status::StreamEnd) => Some(Ok(true)),
                Ok(_) => None,
                Err(e) => Some(Err(e.to_string())),
            };
            if !flushes && read == 0 && self.filled == 0 {
                break;
            }
        }
        done.written = (self.filled - self.at).min(out.len());
        out[..done.written].copy_from_slice(&self.out[self.at..self.at + done.written]);
        self.at += done.written;
        let is_delivered = self.at == self.filled;
        (done, self.result.take_if(|_| is_delivered).unwrap_or(Ok(false)))
    }
}
