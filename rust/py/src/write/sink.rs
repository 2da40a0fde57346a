//! Python file objects as sinks that take every byte.
//!
//! A raw file may take part of the bytes, and says None where it would block (Python's `io.RawIOBase.write`). A buffered file
//! over a descriptor that would block raises `BlockingIOError`, which has the number of bytes taken. All bytes arrive, after
//! waits for the descriptor, or the error is an `OSError` with number and name.

use std::io::{self, BufWriter, Write};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// Sink of a format.
pub type Out = Box<dyn Write + Send>;

/// A sink that writes nothing more after an error: buffers in front of it, dropped later, would repeat bytes, or wait again.
pub struct UntilError<W> {
    out: W,
    has_failed: bool,
}

impl<W: Write> UntilError<W> {
    /// Takes a sink without an error so far.
    pub fn new(out: W) -> Self {
        Self { out, has_failed: false }
    }

    fn tried<T>(&mut self, work: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        if self.has_failed {
            return Err(io::Error::other("an error came before"));
        }
        self.has_failed = true;
        let done = work(&mut self.out)?;
        self.has_failed = false;
        Ok(done)
    }
}

impl<W: Write> Write for UntilError<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tried(|out| {
            loop {
                match out.write(bytes) {
                    Err(error) if error.raw_os_error().is_some() && error.kind() == io::ErrorKind::Interrupted => {}
                    written => return written,
                }
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tried(Write::flush)
    }
}

/// A buffered sink.
pub fn buffered(out: impl Write + Send + 'static) -> Out {
    Box::new(BufWriter::new(UntilError::new(out)))
}

/// Bytes of a write to a file of lines that others read meanwhile: the page of a file is written at once, whatever happens.
const PAGE: usize = 4096;

/// A sink that takes whole lines, and hands on whole lines, a page at once as far as lines are shorter.
pub struct Lines<W>(pub W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let some = &bytes[..bytes.len().min(PAGE)];
        let end = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n').map(|last| last + 1);
        let first = || bytes.iter().position(|byte| *byte == b'\n').map(|last| last + 1);
        let whole = end(some).or_else(first).unwrap_or(bytes.len());
        self.0.write_all(&bytes[..whole])?;
        Ok(whole)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Maximum of fruitless writes, one behind the other, to a descriptor that is said to be ready.
const MOST_FRUITLESS: u32 = 200;
/// Pause after a fruitless write.
const PAUSE: Duration = Duration::from_millis(5);

/// A binary Python file object as a sink.
pub struct PyWrite {
    file: Py<PyAny>,
}

impl PyWrite {
    /// Takes a binary file object.
    pub fn new(file: Py<PyAny>) -> Self {
        Self { file }
    }
}

impl Write for PyWrite {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Python::attach(|py| write_all(self.file.bind(py), bytes).map_err(io::Error::from))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Python::attach(|py| flush(self.file.bind(py)).map_err(io::Error::from))
    }
}

/// Writes all bytes to a binary file object.
pub fn write_all(file: &Bound<'_, PyAny>, bytes: &[u8]) -> PyResult<()> {
    let (py, mut rest, mut fruitless) = (file.py(), bytes, 0);
    while !rest.is_empty() {
        let taken = match file.call_method1("write", (PyBytes::new(py, rest),)) {
            Ok(answer) => taken(file, &answer, rest.len())?,
            Err(error) => taken_until_blocked(file, error, rest.len())?,
        };
        match taken {
            Some(taken) => rest = &rest[taken..],
            None => wait(file)?,
        }
        fruitless = if taken.is_some_and(|taken| taken > 0) { 0 } else { fruitless + 1 };
        rest_a_while(file, fruitless)?;
    }
    Ok(())
}

/// Flushes a file object.
pub fn flush(file: &Bound<'_, PyAny>) -> PyResult<()> {
    let mut fruitless = 0;
    loop {
        match file.call_method0("flush") {
            Ok(_) => return Ok(()),
            Err(error) => taken_until_blocked(file, error, 0)?.map_or_else(|| wait(file), |_| Ok(()))?,
        }
        fruitless += 1;
        rest_a_while(file, fruitless)?;
    }
}

/// Bytes that a write has taken; None: it would block.
fn taken(file: &Bound<'_, PyAny>, answer: &Bound<'_, PyAny>, most: usize) -> PyResult<Option<usize>> {
    if answer.is_none() {
        // A raw file would block; an object without a count takes all it is given.
        return Ok(if is_raw(file)? { None } else { Some(most) });
    }
    match answer.extract::<usize>() {
        Ok(0) => Err(refusal::<PyOSError>(file, "EIO", "a write took 0 bytes")),
        Ok(taken) if taken <= most => Ok(Some(taken)),
        Ok(taken) => Err(refusal::<PyOSError>(file, "EIO", &format!("a write took {taken} of {most} bytes"))),
        // Wrappers of files return what they like.
        Err(_) if answer.extract::<i64>().is_err() => Ok(Some(most)),
        Err(_) => Err(refusal::<PyOSError>(file, "EIO", "a write took a negative number of bytes")),
    }
}

/// Test for a file whose `write` returns None where it would block: raw by its class, or over a descriptor that does not block.
fn is_raw(file: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = file.py();
    if file.is_instance(&py.import("io")?.getattr("RawIOBase")?)? {
        return Ok(true);
    }
    let Some(descriptor) = descriptor(file) else { return Ok(false) };
    let blocking = py.import("os")?.call_method1("get_blocking", (descriptor,));
    Ok(blocking.and_then(|blocking| blocking.extract::<bool>()).is_ok_and(|blocking| !blocking))
}

/// Bytes that a buffered file has taken before it would have blocked; 0 as None. Other errors are raised, with the name.
fn taken_until_blocked(file: &Bound<'_, PyAny>, error: PyErr, most: usize) -> PyResult<Option<usize>> {
    let (py, value) = (file.py(), error.value(file.py()));
    if error.is_instance_of::<PyInterruptedError>(py) {
        return Ok(Some(0));
    }
    if error.is_instance_of::<PyBlockingIOError>(py) {
        let taken = value.getattr("characters_written").and_then(|taken| taken.extract::<usize>()).unwrap_or(0);
        return Ok(Some(taken.min(most)).filter(|taken| *taken > 0));
    }
    if error.is_instance_of::<PyOSError>(py)
        && value.getattr("filename").is_ok_and(|name| name.is_none())
        && value.getattr("errno").is_ok_and(|code| !code.is_none())
    {
        // An exception without room for a name stays as it is.
        let _ = value.setattr("filename", name(file));
    }
    Err(error)
}

/// Waits until the descriptor takes bytes; signals are handled meanwhile.
fn wait(file: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = file.py();
    let Some(descriptor) = descriptor(file) else {
        return Err(refusal::<PyBlockingIOError>(file, "EAGAIN", "the write would block, and there is no descriptor"));
    };
    let select = py.import("select")?;
    let Ok(poll) = select.getattr("poll") else {
        let none: [i32; 0] = [];
        return select.call_method1("select", (none, [descriptor], none)).map(drop);
    };
    let poll = poll.call0()?;
    poll.call_method1("register", (descriptor, select.getattr("POLLOUT")?))?;
    poll.call_method0("poll").map(drop)
}

/// Pauses after a fruitless write; too many are an error.
fn rest_a_while(file: &Bound<'_, PyAny>, fruitless: u32) -> PyResult<()> {
    match fruitless {
        // The first is what a wait follows; a pipe may then have room for less than the write.
        0 | 1 => Ok(()),
        MOST_FRUITLESS => Err(refusal::<PyBlockingIOError>(file, "EAGAIN", "the write would block for ever")),
        _ => {
            file.py().detach(|| thread::sleep(PAUSE));
            file.py().check_signals()
        }
    }
}

fn descriptor(file: &Bound<'_, PyAny>) -> Option<i32> {
    file.call_method0("fileno").and_then(|number| number.extract()).ok()
}

/// An `OSError` of a number that the system gives, by name.
fn refusal<T: pyo3::PyTypeInfo>(file: &Bound<'_, PyAny>, code: &str, words: &str) -> PyErr {
    let number = file.py().import("errno").and_then(|errno| errno.getattr(code)?.extract::<i32>());
    match number {
        Ok(number) => PyErr::new::<T, _>((number, words.to_owned(), name(file))),
        Err(error) => error,
    }
}

/// The name of a file object for messages.
fn name(file: &Bound<'_, PyAny>) -> String {
    match file.getattr("name") {
        Ok(name) if name.is_instance_of::<PyString>() => name.to_string(),
        Ok(name) if name.extract::<i32>().is_ok() => format!("<descriptor {name}>"),
        _ => "<file object>".to_owned(),
    }
}
