//! Checkpoints on the disk, written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use conntrack_core::checkpoint::Writer;
use conntrack_core::pipeline::Stream;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::errors::system_error;
use crate::table::Run;

/// Writes a checkpoint to a `.part` file, syncs and renames. After a crash the path holds the old or the new checkpoint.
pub fn save(stream: &Stream, run: &Run, path: &Path, config: &str) -> PyResult<()> {
    // A link leads to the file it names, which may be on another disk.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // One name for all: a killed process leaves one file, which the next save replaces.
    name.push(".part");
    let part = path.with_file_name(name);
    let saved = || {
        if fs::metadata(&path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            return Err(io::Error::other("found a device or a pipe, expected a file"));
        }
        // The lock is held until the file has its name.
        let file = turn(&part)?;
        let done = written(stream, run, &file, config).and_then(|()| fs::rename(&part, &path));
        if done.is_err() {
            let _ = fs::remove_file(&part);
        }
        done.and_then(|()| sync(&path))
    };
    saved().map_err(|error| {
        system_error(&error, &path).unwrap_or_else(|| PyOSError::new_err(format!("{}: {error}", path.display())))
    })
}

/// Opens and locks the `.part` file, emptied; waits for other writers, in any process.
fn turn(part: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(part)?;
        file.lock()?;
        // The previous owner of the lock may have renamed the file meanwhile: then it is the checkpoint now.
        if fs::metadata(part).is_ok_and(|named| file.metadata().is_ok_and(|mine| is_same(&named, &mine))) {
            file.set_len(0)?;
            return Ok(file);
        }
    }
}

#[cfg(unix)]
fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Outside Unix an open file cannot be renamed.
#[cfg(not(unix))]
fn is_same(_one: &fs::Metadata, _other: &fs::Metadata) -> bool {
    true
}

fn written(stream: &Stream, run: &Run, file: &File, config: &str) -> io::Result<()> {
    let mut out = Writer::new(BufWriter::new(file))?;
    out.put(&config)?;
    out.put(&run.seed.get())?;
    stream.save(&mut out)?;
    out.finish()?.flush()?;
    file.sync_all()
}

/// Syncs the directory of a file, on Unix.
fn sync(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
