//! Sources of a capture: a file, standard input or a reader; plain or compressed.

use std::fs::File;
use std::io::{self, Read};
#[cfg(unix)]
use std::path::Path;
use std::path::PathBuf;

use super::codec::{Codec, Kind, MAGIC_LEN};

/// Size in bytes of the first read, and of every read of compressed data. A multiple of the page size, so that later
/// reads of plain data begin at aligned file offsets.
const PIECE: usize = 64 << 10;

/// Number of reads of compressed data without output after which the caller regains control.
const MOST_FRUITLESS: u32 = 4;

/// Maximum wait for a pipe before the caller regains control. A signal just before the wait does not end the wait.
#[cfg(unix)]
const POLL_TIMEOUT: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A pipe, socket or device that may stay silent for long: a timed-out read is [`io::ErrorKind::Interrupted`].
#[cfg(unix)]
struct PollReader(File);

#[cfg(unix)]
impl PollReader {
    /// Open without waiting for a writer.
    fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        Ok(Self(File::options().read(true).custom_flags(flags).open(path)?))
    }

    /// Standard input, unbuffered.
    fn stdin() -> io::Result<Self> {
        Ok(Self(File::from(std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned()?)))
    }
}

#[cfg(unix)]
impl Read for PollReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut awaited = [rustix::event::PollFd::new(&self.0, rustix::event::PollFlags::IN)];
        if rustix::event::poll(&mut awaited, Some(&POLL_TIMEOUT))? == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match self.0.read(into) {
            // Another reader took the data first.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::Interrupted.into()),
            read => read,
        }
    }
}

/// A capture to read.
pub enum Input {
    /// A file by name, opened when needed. The file may be a pipe whose writer comes later.
    Path(PathBuf),
    /// Standard input.
    Stdin,
    /// Any reader, with a name for messages.
    Reader {
        /// Name for messages.
        name: PathBuf,
        /// Source of the bytes.
        reader: Box<dyn Read + Send>,
    },
}

impl Input {
    /// A file by name, or standard input for `-`.
    pub fn named(name: impl Into<PathBuf>) -> Self {
        let name = name.into();
        if name.as_os_str() == "-" { Self::Stdin } else { Self::Path(name) }
    }

    /// Name for messages; `-` for standard input.
    pub fn name(&self) -> PathBuf {
        match self {
            Self::Path(name) | Self::Reader { name, .. } => name.clone(),
            Self::Stdin => PathBuf::from("-"),
        }
    }
}

/// Reasons why [`Source::read`] returns no bytes.
#[derive(Debug)]
pub(super) enum ReadError {
    /// A signal arrived; the next call resumes.
    Interrupted,
    /// Much input without output (empty members, padding); the next call resumes.
    Idle,
    /// An I/O error of the operating system or of the caller's reader.
    Io(io::Error),
    /// Truncated or corrupt compressed data.
    Compression(String),
}

/// Opened input: a sequence of uncompressed bytes.
pub(super) struct Source {
    reader: Box<dyn Read + Send>,
    /// Size of a regular file in bytes.
    total: Option<u64>,
    /// Bytes read from `reader`.
    done: u64,
    /// Buffer of raw bytes, pending in `piece[at..filled]`.
    piece: Vec<u8>,
    at: usize,
    filled: usize,
    ended: bool,
    codec: Option<Codec>,
    detected: bool,
    /// Error of the decoder, returned after its earlier output.
    failed: Option<String>,
}

impl Source {
    pub(super) fn open(input: Input) -> io::Result<Self> {
        let mut total = None;
        let reader: Box<dyn Read + Send> = match input {
            #[cfg(unix)]
            Input::Path(path) if !std::fs::metadata(&path)?.is_file() => Box::new(PollReader::open(&path)?),
            Input::Path(path) => {
                let file = File::open(path)?;
                total = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
                Box::new(file)
            }
            #[cfg(unix)]
            Input::Stdin => Box::new(PollReader::stdin()?),
            #[cfg(not(unix))]
            Input::Stdin => Box::new(io::stdin()),
            Input::Reader { reader, .. } => reader,
        };
        Ok(Self {
            reader,
            total,
            done: 0,
            piece: Vec::new(),
            at: 0,
            filled: 0,
            ended: false,
            codec: None,
            detected: false,
            failed: None,
        })
    }

    /// Bytes read of the (compressed) input, and its size if the input is a regular file.
    pub(super) fn progress(&self) -> (u64, Option<u64>) {
        (self.done, self.total)
    }

    /// True if the input can be closed and reopened from the start.
    pub(super) fn is_regular(&self) -> bool {
        self.total.is_some()
    }

    /// Detected compression.
    pub(super) fn compression(&self) -> Option<Kind> {
        self.codec.as_ref().map(Codec::kind)
    }

    /// Read uncompressed bytes; 0 at the end. A call waits for input only if no output is pending.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, ReadError> {
        if !self.detected {
            self.detect()?;
        }
        if self.codec.is_some() {
            return self.decode(out);
        }
        let buffered = &self.piece[self.at..self.filled];
        if buffered.is_empty() {
            return self.read_raw(out);
        }
        let n = buffered.len().min(out.len());
        out[..n].copy_from_slice(&buffered[..n]);
        self.at += n;
        Ok(n)
    }

    fn detect(&mut self) -> Result<(), ReadError> {
        self.piece.resize(PIECE, 0);
        while self.filled < MAGIC_LEN && !self.ended {
            self.refill()?;
        }
        if let Some(kind) = Kind::detect(&self.piece[..self.filled]) {
            self.codec = Some(Codec::new(kind).map_err(ReadError::Compression)?);
        }
        self.detected = true;
        Ok(())
    }

    fn decode(&mut self, out: &mut [u8]) -> Result<usize, ReadError> {
        if let Some(cause) = self.failed.take() {
            return Err(ReadError::Compression(cause));
        }
        let (mut n, mut fruitless) = (0, 0);
        while n < out.len() {
            let Some(codec) = &mut self.codec else { break };
            let (step, result) = codec.step(&self.piece[self.at..self.filled], &mut out[n..]);
            self.at += step.read;
            n += step.written;
            if let Err(cause) = result {
                if n == 0 {
                    return Err(ReadError::Compression(cause));
                }
                self.failed = Some(cause);
                break;
            }
            if step.read > 0 || step.written > 0 {
                continue;
            }
            if n > 0 {
                break;
            }
            if self.ended {
                let cause = "the compressed data ends too early".to_owned();
                return if codec.may_end() { Ok(0) } else { Err(ReadError::Compression(cause)) };
            }
            if fruitless == MOST_FRUITLESS {
                return Err(ReadError::Idle);
            }
            fruitless += 1;
            self.refill()?;
        }
        Ok(n)
    }

    /// Read more raw bytes behind the pending bytes.
    fn refill(&mut self) -> Result<(), ReadError> {
        if self.at > 0 {
            self.piece.copy_within(self.at..self.filled, 0);
            self.filled -= self.at;
            self.at = 0;
        }
        if self.filled == self.piece.len() {
            // A decoder that consumes nothing of a full buffer asks for more than any member needs.
            return Err(ReadError::Compression("no progress".to_owned()));
        }
        let mut piece = std::mem::take(&mut self.piece);
        let read = self.read_raw(&mut piece[self.filled..]);
        self.piece = piece;
        self.filled += read?;
        Ok(())
    }

    fn read_raw(&mut self, out: &mut [u8]) -> Result<usize, ReadError> {
        if self.ended {
            return Ok(0);
        }
        match self.reader.read(out) {
            Ok(n) => {
                // A reader may claim more bytes than fit: clamp.
                let n = n.min(out.len());
                self.done += n as u64;
                self.ended = n == 0;
                Ok(n)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(ReadError::Interrupted),
            Err(e) => Err(ReadError::Io(e)),
        }
    }
}
