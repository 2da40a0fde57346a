//! A run over the files of a log: bytes to records, records to connections, connections to rows.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use conntrack_core::capture::Input;
use conntrack_core::capture::plain::Plain;
use conntrack_core::config::Config;
use conntrack_core::error::CaptureError;
use conntrack_core::rows::Rows;

use crate::account::Account;
use crate::evidence;
use crate::guess::{self, Format, Options};
use crate::pair::Pairs;
use crate::sink::{Observers, Sink};

/// Bytes of a read.
const PIECE: usize = 1 << 18;
/// Bytes of a log from which its kind is guessed.
pub const HEAD: usize = 1 << 16;
/// The longest line of text in bytes: a longer one is counted and passed over.
const MAX_LINE: usize = 1 << 20;
/// The largest JSON document or message in bytes.
const MAX_DOCUMENT: usize = 1 << 24;
/// The reason why a log cannot be read.
#[derive(Debug)]
pub enum FlowError {
    /// A file that cannot be read.
    File(CaptureError),
    /// A log that cannot be understood.
    Log {
        /// The file.
        path: PathBuf,
        /// Found, expected, and what to do.
        reason: String,
    },
}

impl FlowError {
    /// True for an error of the run, not of a file.
    fn is_final(&self) -> bool {
        match self {
            Self::File(CaptureError::Io { source, .. }) => source.get_ref().is_some(),
            Self::File(error) => matches!(error, CaptureError::Interrupted),
            Self::Log { .. } => false,
        }
    }

    /// The message without the name of the file.
    fn reason(&self) -> String {
        match self {
            Self::File(error) => error.reason(),
            Self::Log { reason, .. } => reason.clone(),
        }
    }
}

impl From<CaptureError> for FlowError {
    fn from(error: CaptureError) -> Self {
        Self::File(error)
    }
}

/// Progress of a run.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Bytes read of all files, as stored.
    pub bytes: u64,
    /// Records so far.
    pub records: u64,
    /// The file has nothing for now.
    pub waits: bool,
}

/// Called between pieces; may stop the run.
pub type Observe<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// Connections, and the account.
pub struct Output {
    /// Rows in the order of their times.
    pub rows: Rows,
    /// True where a row has a translation.
    pub translated: bool,
    /// The account.
    pub account: Account,
}

/// Reads logs from the first file to the last. `observe` is called between pieces and may stop the run, which is then
/// [`CaptureError::Interrupted`].
pub fn read(inputs: Vec<Input>, options: &Options, config: &Config, observe: Observe<'_>) -> Result<Output, FlowError> {
    let mut account = Account::default();
    let mut sink = Sink {
        account: &mut account,
        pairs: Pairs::default(),
        wholes: Vec::new(),
        observers: Observers::default(),
        file: PathBuf::new(),
        place: 0,
        full: None,
    };
    let mut before = 0;
    for input in inputs {
        let name = input.name();
        let mut done = 0;
        let read = Plain::open(input).map_err(FlowError::from).and_then(|mut file| {
            let read = file_to_records(&mut file, options, &mut sink, before, &mut *observe);
            done = file.progress().0;
            read
        });
        before += done;
        match read {
            Err(error) if config.skip_files && !error.is_final() => {
                sink.account.skipped_files.push((name, error.reason()));
            }
            read => read?,
        }
    }
    let Sink { pairs, wholes, observers, .. } = sink;
    let (rows, translated) = evidence::rows(pairs, wholes, &observers, config, &mut account);
    Ok(Output { rows, translated, account })
}

fn file_to_records(
    file: &mut Plain,
    options: &Options,
    sink: &mut Sink<'_>,
    before: u64,
    observe: Observe<'_>,
) -> Result<(), FlowError> {
    file.name().clone_into(&mut sink.file);
    let mut window = Window { file, bytes: Vec::new(), at: 0, ended: false };
    let mut look = |file: &Plain, records: u64, waits: bool| {
        let now = Progress { bytes: before + file.progress().0, records, waits };
        if observe(now).is_break() { Err(FlowError::File(CaptureError::Interrupted)) } else { Ok(()) }
    };
    while window.bytes.len() < HEAD && !window.ended {
        window.more()?;
        look(window.file, sink.account.records, true)?;
    }
    let (kind, mut format) =
        guess::format(&window.bytes, options).map_err(|reason| log_error(window.file.name(), reason))?;
    sink.account.kinds.push((sink.file.clone(), kind.name()));
    sink.place = 0;
    loop {
        let taken = match &mut format {
            Format::Lines(reader) => lines(&window, sink, reader.as_mut()),
            Format::Documents(reader) => crate::json::documents(&window.bytes[window.at..], window.ended, sink, reader),
            Format::Messages(reader) => reader.messages(&window.bytes[window.at..], window.ended, sink),
        };
        window.at += taken;
        sink.account.bytes += taken as u64;
        if let Some(full) = sink.full.take() {
            let reason = format!("{full}: read parts of the log one after another");
            return Err(log_error(window.file.name(), reason));
        }
        look(window.file, sink.account.records, false)?;
        if window.ended {
            break;
        }
        let bound = if matches!(format, Format::Lines(_)) { MAX_LINE } else { MAX_DOCUMENT };
        if window.bytes.len() - window.at > bound {
            too_long(&mut window, sink, bound);
        }
        window.more()?;
    }
    if let Format::Lines(reader) = &mut format {
        reader.end(sink);
    }
    Ok(())
}

fn log_error(path: &Path, reason: String) -> FlowError {
    FlowError::Log { path: path.to_owned(), reason }
}

/// Passes over the begin of a record that is too long to be one.
fn too_long(window: &mut Window<'_>, sink: &mut Sink<'_>, bound: usize) {
    sink.place += 1;
    sink.account.records += 1;
    let head = window.bytes[window.at..].to_vec();
    let reason = if bound == MAX_LINE { "a line of more than 1 MiB" } else { "a document of more than 16 MiB" };
    sink.bad(reason, &head[..head.len().min(200)]);
    window.at = window.bytes.len();
}

/// The bytes of a file that no reader has taken yet, from `at` on.
struct Window<'a> {
    file: &'a mut Plain,
    bytes: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Window<'_> {
    /// Reads a piece behind the pending bytes.
    fn more(&mut self) -> Result<(), FlowError> {
        self.bytes.drain(..self.at);
        self.at = 0;
        let filled = self.bytes.len();
        self.bytes.resize(filled + PIECE, 0);
        let read = self.file.read(&mut self.bytes[filled..]);
        self.bytes.truncate(filled + read.as_ref().ok().copied().flatten().unwrap_or(0));
        self.ended = read? == Some(0);
        Ok(())
    }
}

/// Hands the lines of a window to a reader, and returns the bytes of whole lines.
fn lines(window: &Window<'_>, sink: &mut Sink<'_>, reader: &mut dyn crate::text::LineReader) -> usize {
    let bytes = &window.bytes[window.at..];
    let mut taken = 0;
    let mut one = |line: &[u8]| {
        sink.place += 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.is_empty() {
            sink.account.records += 1;
            reader.line(line, sink);
        }
    };
    for end in memchr::memchr_iter(b'\n', bytes) {
        one(&bytes[taken..end]);
        taken = end + 1;
    }
    if window.ended && taken < bytes.len() {
        one(&bytes[taken..]);
        taken = bytes.len();
    }
    taken
}
