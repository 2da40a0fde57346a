//! Sources of a capture: a file, standard input or a reader; plain or compressed.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::codec::{Codec, Kind, MAGIC_LEN};

/// Size in bytes of the first read, and of every read of compressed data. A multiple of the page size, so that later
/// reads of plain data begin at aligned file offsets.
const PIECE: usize = 64 << 10;

/// Size in bytes of the first read of one of very many files.
const LEAST_PIECE: usize = 4 << 10;

/// Number of reads of compressed data without output after which the caller regains control.
const MOST_FRUITLESS: u32 = 4;

/// Maximum wait for a pipe before the caller regains control. A signal just before the wait does not end the wait.
#[cfg(unix)]
const POLL_TIMEOUT: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A pipe, socket or device that may stay silent for long: a timed-out read is [`io::ErrorKind::WouldBlock`].
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
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match self.0.read(into) {
            // Another reader took the data first.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::Interrupted.into()),
            read => read,
        }
    }
}

/// A regular file whose descriptor can be given back, and is opened anew by the next read.
struct RegularFile {
    path: PathBuf,
    file: Option<File>,
    /// Offset of the next read.
    at: u64,
    id: FileId,
}

/// Device and inode, which tell a file from another of the same name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Self(metadata.dev(), metadata.ino())
        }
        #[cfg(not(unix))]
        {
            let _ = metadata;
            Self(0, 0)
        }
    }
}

impl RegularFile {
    fn reopen(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            let mut file = File::open(&self.path)?;
            if FileId::of(&file.metadata()?) != self.id {
                let reason = "another file has this name since the reading began";
                return Err(io::Error::new(io::ErrorKind::NotFound, reason));
            }
            file.seek(SeekFrom::Start(self.at))?;
            self.file = Some(file);
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Read for RegularFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.reopen()?.read(into)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Reader of the bytes as stored.
enum Raw {
    Regular(RegularFile),
    Other(Box<dyn Read + Send>),
}

/// A capture to read.
pub enum Input {
    /// A file by name, opened when needed. The file may be a pipe whose writer comes later.
    Path(PathBuf),
    /// Standard input.
    Stdin,
    /// A file that is not read.
    Refused {
        /// Name for messages.
        name: PathBuf,
        /// Reason.
        reason: String,
    },
    /// Any reader, with a name for messages.
    Reader {
        /// Name for messages.
        name: PathBuf,
        /// Source of the bytes.
        reader: Box<dyn Read + Send>,
    },
    /// A range of a file; see [`super::split::range`].
    Range {
        /// Name for messages.
        name: PathBuf,
        /// Source of the bytes, the head first.
        reader: Box<dyn Read + Send>,
        /// Offset that the first byte of the head has by the offset of the start.
        base: u64,
        /// Offset of the start; records before are not of the range.
        from: u64,
        /// The range ends before the file.
        ends: bool,
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
            Self::Path(name) | Self::Reader { name, .. } | Self::Refused { name, .. } | Self::Range { name, .. } => {
                name.clone()
            }
            Self::Stdin => PathBuf::from("-"),
        }
    }
}

/// The error of a file that is not read.
pub(super) fn refusal(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Reasons why [`Source::read`] returns no bytes.
#[derive(Debug)]
pub(super) enum ReadError {
    /// A signal arrived; the next call resumes.
    Interrupted,
    /// The input has nothing for now; the next call resumes.
    Silent,
    /// Much input without output (empty members, padding); the next call resumes.
    Idle,
    /// An I/O error of the operating system or of the caller's reader.
    Io(io::Error),
    /// Truncated or corrupt compressed data.
    Compression(String),
}

/// Opened input: a sequence of uncompressed bytes.
pub(super) struct Source {
    reader: Raw,
    /// Size of a regular file in bytes.
    total: Option<u64>,
    /// Bytes read from `reader`.
    done: u64,
    /// Size of the first read in bytes.
    head: usize,
    /// Buffer of raw bytes, pending in `piece[at..filled]`.
    piece: Vec<u8>,
    at: usize,
    filled: usize,
    ended: bool,
    codec: Option<Codec>,
    detected: bool,
    /// Bytes left of a skippable frame in front of the compressed data; None without one.
    skip: Option<u64>,
    /// Error of the decoder, returned after its earlier output.
    failed: Option<String>,
}

impl Source {
    pub(super) fn open(input: Input) -> io::Result<Self> {
        let mut total = None;
        let reader = match input {
            #[cfg(unix)]
            Input::Path(path) if !std::fs::metadata(&path)?.is_file() => Raw::Other(Box::new(PollReader::open(&path)?)),
            Input::Path(path) => {
                let file = File::open(&path)?;
                match file.metadata().ok().filter(Metadata::is_file) {
                    Some(metadata) => {
                        total = Some(metadata.len());
                        Raw::Regular(RegularFile { path, file: Some(file), at: 0, id: FileId::of(&metadata) })
                    }
                    None => Raw::Other(Box::new(file)),
                }
            }
            #[cfg(unix)]
            Input::Stdin => Raw::Other(Box::new(PollReader::stdin()?)),
            #[cfg(not(unix))]
            Input::Stdin => Raw::Other(Box::new(io::stdin())),
            Input::Reader { reader, .. } | Input::Range { reader, .. } => Raw::Other(reader),
            Input::Refused { reason, .. } => return Err(refusal(&reason)),
        };
        Ok(Self::of(reader, total))
    }

    /// Source without bytes.
    pub(super) fn empty() -> Self {
        Self::of(Raw::Other(Box::new(io::empty())), None)
    }

    fn of(reader: Raw, total: Option<u64>) -> Self {
        Self {
            reader,
            total,
            done: 0,
            head: PIECE,
            piece: Vec::new(),
            at: 0,
            filled: 0,
            ended: false,
            codec: None,
            detected: false,
            skip: None,
            failed: None,
        }
    }

    /// Open a regular file that is not compressed, from an offset on.
    pub(super) fn open_at(path: &Path, offset: u64) -> io::Result<Self> {
        let mut source = Self::open(Input::Path(path.to_owned()))?;
        if let Raw::Regular(file) = &mut source.reader {
            file.at = offset;
            if let Some(open) = &mut file.file {
                open.seek(SeekFrom::Start(offset))?;
            }
        }
        source.detected = true;
        Ok(source)
    }

    /// Have the first read not exceed a size, where files are many.
    pub(super) fn limit_head(&mut self, bytes: usize) {
        self.head = (bytes / LEAST_PIECE * LEAST_PIECE).clamp(LEAST_PIECE, PIECE);
    }

    /// Give the descriptor of a regular file back until [`Self::unpark`] or the next read.
    pub(super) fn park(&mut self) {
        if let Raw::Regular(file) = &mut self.reader {
            file.file = None;
        }
    }

    /// Open a regular file again, where the reading stopped.
    pub(super) fn unpark(&mut self) -> io::Result<()> {
        match &mut self.reader {
            Raw::Regular(file) => file.reopen().map(drop),
            Raw::Other(_) => Ok(()),
        }
    }

    /// True for a regular file without a descriptor.
    pub(super) fn is_parked(&self) -> bool {
        matches!(&self.reader, Raw::Regular(file) if file.file.is_none())
    }

    /// Bytes read of the (compressed) input, and its size if the input is a regular file.
    pub(super) fn progress(&self) -> (u64, Option<u64>) {
        (self.done, self.total)
    }

    /// Bytes of the compressed file that no decoder consumed, as far as the file's size is known.
    pub(super) fn unread(&self) -> u64 {
        self.total.map_or(0, |total| total.saturating_sub(self.done) + (self.filled - self.at) as u64)
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
            if !self.piece.is_empty() {
                // Only the head of a plain file is buffered.
                (self.piece, self.at, self.filled) = (Vec::new(), 0, 0);
            }
            return self.read_raw(out);
        }
        let n = buffered.len().min(out.len());
        out[..n].copy_from_slice(&buffered[..n]);
        self.at += n;
        Ok(n)
    }

    fn detect(&mut self) -> Result<(), ReadError> {
        self.piece.resize(self.head, 0);
        let mut kind = loop {
            self.skip_frame()?;
            while self.filled - self.at < MAGIC_LEN && !self.ended {
                self.refill()?;
            }
            let head = &self.piece[self.at..self.filled];
            match Kind::skippable(head) {
                Some(size) => self.skip = Some(size),
                None => break Kind::detect(head),
            }
        };
        if self.skip.is_some() {
            // Nothing else begins with a skippable frame.
            kind = kind.or(Some(Kind::Zstd));
        }
        if let Some(kind) = kind {
            self.codec = Some(Codec::new(kind).map_err(ReadError::Compression)?);
            self.piece.resize(PIECE, 0);
        }
        self.detected = true;
        Ok(())
    }

    /// Pass over the rest of a skippable frame in front of the compressed data.
    fn skip_frame(&mut self) -> Result<(), ReadError> {
        while let Some(left @ 1..) = self.skip {
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.filled - self.at);
            self.at += here;
            self.skip = Some(left - here as u64);
            if here == 0 {
                if self.ended {
                    break;
                }
                self.refill()?;
            }
        }
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
        let read = match &mut self.reader {
            Raw::Regular(file) => file.read(out),
            Raw::Other(reader) => reader.read(out),
        };
        match read {
            Ok(n) => {
                // A reader may claim more bytes than fit: clamp.
                let n = n.min(out.len());
                self.done += n as u64;
                self.ended = n == 0;
                Ok(n)
            }
            // Without a number of the operating system: of a reader that has waited.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && e.raw_os_error().is_none() => Err(ReadError::Silent),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(ReadError::Interrupted),
            Err(e) => Err(ReadError::Io(e)),
        }
    }
}
