//! Where a capture comes from: a file, standard input or a reader; plain or compressed.

use std::fs::File;
use std::io::{self, Read};
#[cfg(unix)]
use std::path::Path;
use std::path::PathBuf;

use super::codec::{Codec, Kind, MAGIC_LEN};

/// Size of the first read, and of every read of compressed data. A multiple of the page size, so that the reads of
/// plain data that follow begin at aligned offsets of the file.
const PIECE: usize = 64 << 10;

/// Pieces of compressed data that may give nothing before the caller is asked whether to go on.
const MOST_FRUITLESS: u32 = 4;

/// How long a pipe is waited for at most before the caller is asked whether to go on. A signal that arrives just before the
/// waiting begins does not end it.
#[cfg(unix)]
const PATIENCE: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A pipe, socket or device, of which nothing may come for long: reading it is then [`io::ErrorKind::Interrupted`].
#[cfg(unix)]
struct Waiting(File);

#[cfg(unix)]
impl Waiting {
    /// Opens without a wait for who writes to it.
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
impl Read for Waiting {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut awaited = [rustix::event::PollFd::new(&self.0, rustix::event::PollFlags::IN)];
        if rustix::event::poll(&mut awaited, Some(&PATIENCE))? == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match self.0.read(into) {
            // Another reader was faster.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::Interrupted.into()),
            read => read,
        }
    }
}

/// One capture to read.
pub enum Input {
    /// A file by name. It is opened when it is needed, and it may be a pipe, whose writer may come later.
    Path(PathBuf),
    /// Standard input.
    Stdin,
    /// Any reader, with the name to show in messages.
    Reader {
        /// The name to show.
        name: PathBuf,
        /// Where the bytes come from.
        reader: Box<dyn Read + Send>,
    },
}

impl Input {
    /// A file by name, or standard input for `-`.
    pub fn named(name: impl Into<PathBuf>) -> Self {
        let name = name.into();
        if name.as_os_str() == "-" { Self::Stdin } else { Self::Path(name) }
    }

    /// The name to show in messages; `-` for standard input.
    pub fn name(&self) -> PathBuf {
        match self {
            Self::Path(name) | Self::Reader { name, .. } => name.clone(),
            Self::Stdin => PathBuf::from("-"),
        }
    }
}

/// Why [`Source::read`] has no more bytes to give.
#[derive(Debug)]
pub(super) enum ReadError {
    /// A signal arrived; the next call goes on where this one was.
    Interrupted,
    /// Much was read and nothing came of it (empty members, padding); the next call goes on where this one was.
    Idle,
    /// The operating system or the caller's reader failed.
    Io(io::Error),
    /// The compressed data is cut or corrupt.
    Compression(String),
}

/// An opened input: the uncompressed bytes, one after another.
pub(super) struct Source {
    reader: Box<dyn Read + Send>,
    /// Size of a regular file.
    total: Option<u64>,
    /// Bytes read from `reader`.
    done: u64,
    /// Raw bytes that were read and not yet handed on are `piece[at..filled]`.
    piece: Vec<u8>,
    at: usize,
    filled: usize,
    ended: bool,
    codec: Option<Codec>,
    detected: bool,
    /// What stopped the decoder while earlier output was still to be handed on.
    failed: Option<String>,
}

impl Source {
    pub(super) fn open(input: Input) -> io::Result<Self> {
        let mut total = None;
        let reader: Box<dyn Read + Send> = match input {
            #[cfg(unix)]
            Input::Path(path) if !std::fs::metadata(&path)?.is_file() => Box::new(Waiting::open(&path)?),
            Input::Path(path) => {
                let file = File::open(path)?;
                total = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
                Box::new(file)
            }
            #[cfg(unix)]
            Input::Stdin => Box::new(Waiting::stdin()?),
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

    /// Bytes read of the (compressed) input, and its size if it is a regular file.
    pub(super) fn progress(&self) -> (u64, Option<u64>) {
        (self.done, self.total)
    }

    /// Whether it can be closed and opened once more from the start.
    pub(super) fn is_regular(&self) -> bool {
        self.total.is_some()
    }

    /// The compression that was recognised.
    pub(super) fn compression(&self) -> Option<Kind> {
        self.codec.as_ref().map(Codec::kind)
    }

    /// Reads some uncompressed bytes, 0 at the end. It waits for input at most once it has nothing to give.
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

    /// Reads more raw bytes behind those not yet used.
    fn refill(&mut self) -> Result<(), ReadError> {
        if self.at > 0 {
            self.piece.copy_within(self.at..self.filled, 0);
            self.filled -= self.at;
            self.at = 0;
        }
        if self.filled == self.piece.len() {
            // A decoder that takes nothing of a whole piece asks for more than any member can need.
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
                // A reader that claims more than fits is broken; do not believe it.
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
