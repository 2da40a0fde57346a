//! Sinks: a file or directory that is renamed once complete, or a Python file object.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Sink of a format.
pub type Out = Box<dyn Write + Send>;

/// A file or directory under a temporary name, renamed on completion and removed otherwise.
pub struct PartialFile {
    temporary: PathBuf,
    target: PathBuf,
    is_complete: bool,
}

/// Maximum of concurrent writers of one path in a process.
const PARTS: u32 = 100;

impl PartialFile {
    /// Creates a file or directory next to a path, under an unused name.
    fn create<T>(path: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(T, Self)> {
        let mut tried = 0;
        loop {
            let mut name = path.file_name().map_or_else(OsString::new, ToOwned::to_owned);
            let again = if tried == 0 { String::new() } else { format!("-{tried}") };
            name.push(format!(".{}{again}.part", std::process::id()));
            let temporary = path.with_file_name(name);
            match make(&temporary) {
                Ok(made) => return Ok((made, Self { temporary, target: path.to_owned(), is_complete: false })),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists || tried == PARTS => return Err(error),
                Err(_) => tried += 1,
            }
        }
    }

    /// An empty temporary directory next to a path; an error if the path exists and is not an empty directory.
    pub fn directory(path: &Path) -> io::Result<Self> {
        match fs::read_dir(path).map(|mut entries| entries.next().is_some()) {
            Ok(true) => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self::create(path, |temporary| fs::create_dir(temporary))?.1)
    }

    /// Temporary path until completion.
    pub fn place(&self) -> &Path {
        &self.temporary
    }

    /// Renames the finished file or directory to its target.
    pub fn complete(mut self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.target)?;
        self.is_complete = true;
        Ok(())
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.is_complete {
            // What cannot be removed still has no name that looks complete.
            let _ = if self.temporary.is_dir() {
                fs::remove_dir_all(&self.temporary)
            } else {
                fs::remove_file(&self.temporary)
            };
        }
    }
}

/// Opens a path to write to. Links are followed; a device or a pipe is written to directly, without a rename.
pub fn open(path: &Path) -> io::Result<(File, Option<PartialFile>)> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Ok((File::create(path)?, None));
    }
    let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    let path = match fs::canonicalize(path) {
        Ok(target) if is_link => target,
        // A link to nothing yet: created through the link.
        Err(_) if is_link => return Ok((File::create(path)?, None)),
        _ => path.to_owned(),
    };
    let (file, part) = PartialFile::create(&path, |temporary| File::create_new(temporary))?;
    Ok((file, Some(part)))
}

/// Writes to a temporary file and renames, so that a partial file never has the final name.
pub fn complete<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let (file, part) = open(path)?;
    write(BufWriter::new(file))?;
    Ok(part.map_or(Ok(()), PartialFile::complete)?)
}

/// A Python file object as a sink.
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
        Python::attach(|py| {
            let mut rest = bytes;
            while !rest.is_empty() {
                let file = self.file.bind(py);
                let written = file.call_method1("write", (PyBytes::new(py, rest),)).map_err(io::Error::from)?;
                // Raw files may take less than they are given; buffered ones take all.
                let written = written.extract::<usize>().unwrap_or(rest.len()).min(rest.len());
                rest = &rest[written..];
            }
            Ok(bytes.len())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Python::attach(|py| self.file.bind(py).call_method0("flush").map(drop).map_err(io::Error::from))
    }
}
