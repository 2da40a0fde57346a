//! Checkpoints on the disk, written whole or not at all, for their owner alone: they have the addresses of a network.
//!
//! The temporary name is created exclusively, which no link survives. A killed process leaves one such file, which the next
//! save removes, if it is that: a file of this user with the beginning of a checkpoint. Another file under that name is left
//! alone, and the temporary name has a random part.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use conntrack_core::checkpoint::{MAGIC, Writer};
use conntrack_core::pipeline::Stream;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::errors::system_error;
use crate::table::Run;
use crate::write::place::exclusive;
#[cfg(unix)]
use crate::write::place::own;

/// Maximum of tries for a temporary name of its own.
const MOST_TRIES: u32 = 100;

/// Writes a checkpoint to a `.part` file, syncs and renames. After a crash the path holds the old or the new checkpoint.
pub fn save(stream: &Stream, run: &Run, path: &Path, config: &str, note: &str) -> PyResult<()> {
    // A link leads to the file it names, which may be on another disk.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let saved = || {
        let old = fs::metadata(&path).ok();
        if old.as_ref().is_some_and(|found| !found.is_file() && !found.is_dir()) {
            return Err(io::Error::other("found a device or a pipe, expected a file"));
        }
        // The lock is held until the file has its name.
        let (file, part) = turn(&path)?;
        let done = prepare(&file, old.as_ref()).and_then(|()| written(stream, run, &file, (config, note)));
        let done = done.and_then(|()| fs::rename(&part, &path));
        if done.is_err() {
            let _ = fs::remove_file(&part);
        }
        done.and_then(|()| sync(&path))
    };
    saved().map_err(|error| {
        system_error(&error, &path).unwrap_or_else(|| PyOSError::new_err(format!("{}: {error}", path.display())))
    })
}

/// A path with a suffix after its whole name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Creates and locks the temporary file; waits for other writers, in any process.
fn turn(path: &Path) -> io::Result<(File, PathBuf)> {
    let part = beside(path, ".part");
    // Every turn of the loop follows a change by another writer.
    loop {
        match exclusive(&part, true) {
            Ok(file) => {
                file.lock()?;
                // Another writer may have taken the file for one left behind.
                if is_named(&file, &part) {
                    return Ok((file, part));
                }
            }
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Err(_) => match is_gone(&part) {
                Ok(true) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                _ => return unpredictable(path),
            },
        }
    }
}

/// Creates a temporary file under a name that nobody can have prepared.
fn unpredictable(path: &Path) -> io::Result<(File, PathBuf)> {
    let mut tried = 0;
    loop {
        let part = beside(path, &format!(".{:016x}.part", RandomState::new().build_hasher().finish()));
        match exclusive(&part, true) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tried < MOST_TRIES => tried += 1,
            made => return Ok((made?, part)),
        }
    }
}

/// Waits for the writer of a temporary file to rename it; a killed process, whose lock ends with it, leaves it behind, and it is
/// removed. Returns whether the name is free; false: it is no such file.
fn is_gone(part: &Path) -> io::Result<bool> {
    let found = fs::symlink_metadata(part)?;
    if !found.is_file() || !is_own(&found) {
        return Ok(false);
    }
    let mut file = OpenOptions::new().read(true).open(part)?;
    if !is_same(&found, &file.metadata()?) {
        return Ok(false);
    }
    file.lock()?;
    if !is_named(&file, part) {
        return Ok(true);
    }
    let mut begin = Vec::new();
    Read::by_ref(&mut file).take(MAGIC.len() as u64).read_to_end(&mut begin)?;
    // Shorter: killed before the first bytes were written.
    if !MAGIC.starts_with(&begin) {
        return Ok(false);
    }
    fs::remove_file(part)?;
    Ok(true)
}

/// Test whether the file still has this name.
fn is_named(file: &File, path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|named| file.metadata().is_ok_and(|mine| is_same(&named, &mine)))
}

/// Test for a file of this user under a single name.
#[cfg(unix)]
fn is_own(found: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    found.uid() == rustix::process::geteuid().as_raw() && found.nlink() == 1
}

#[cfg(not(unix))]
fn is_own(_found: &fs::Metadata) -> bool {
    true
}

/// Gives a new file the owner of the one that it replaces, and permissions for its owner alone.
#[cfg(unix)]
fn prepare(file: &File, old: Option<&fs::Metadata>) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(old) = old {
        own(file, old)?;
    }
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn prepare(_file: &File, _old: Option<&fs::Metadata>) -> io::Result<()> {
    Ok(())
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

fn written(stream: &Stream, run: &Run, file: &File, (config, note): (&str, &str)) -> io::Result<()> {
    let mut out = Writer::new(BufWriter::new(file))?;
    out.put(&config)?;
    out.put(&note)?;
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
