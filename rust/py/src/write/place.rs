//! Files beside their name: written under a temporary name, and renamed once complete.
//!
//! A temporary name may stand in a directory that others write to. So it is created exclusively, which no link survives
//! (`O_EXCL`, open(2)), and never emptied. A file that replaces another has the mode and the owner of that one from its first
//! byte on; bits for a group that could not be kept are those of others.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file or directory under a temporary name, renamed on completion and removed otherwise.
pub struct PartialFile {
    temporary: PathBuf,
    target: PathBuf,
    is_complete: bool,
}

/// Maximum of concurrent writers of one path in a process.
const PARTS: u32 = 100;
/// Maximum of links that lead to a file, as in Linux (path_resolution(7)).
const MOST_LINKS: u32 = 40;

impl PartialFile {
    /// Creates a file or directory next to a path, under an unused name.
    fn create<T>(path: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(T, Self)> {
        let (process, mut tried) = (std::process::id(), 0);
        loop {
            let mut name = path.file_name().map_or_else(OsString::new, ToOwned::to_owned);
            let again = if tried == 0 { String::new() } else { format!("-{tried}") };
            name.push(format!(".{process}{again}.part"));
            let temporary = path.with_file_name(name);
            match make(&temporary) {
                Ok(made) => return Ok((made, Self { temporary, target: path.to_owned(), is_complete: false })),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists || tried == PARTS => return Err(error),
                Err(_) => tried += 1,
            }
        }
    }

    /// Creates a file next to a path, with the mode and the owner of the file that it will replace.
    pub fn file(path: &Path) -> io::Result<(File, Self)> {
        let old = fs::symlink_metadata(path).ok().filter(Metadata::is_file);
        let (file, part) = Self::create(path, |temporary| exclusive(temporary, old.is_some()))?;
        if let Some(old) = old {
            resemble(&file, &old)?;
        }
        Ok((file, part))
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

    /// Path of the complete file or directory.
    pub fn target(&self) -> &Path {
        &self.target
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

/// Creates a file that no name has yet; for the owner alone where it is `private`.
pub fn exclusive(path: &Path, private: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = private;
    options.open(path)
}

/// Gives a new file the owner and the mode of another, as far as the system permits.
#[cfg(unix)]
fn resemble(file: &File, old: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let is_owned = own(file, old)?;
    let mode = old.mode() & 0o777;
    let mode = if is_owned { mode } else { mode & 0o707 | (mode & 0o007) << 3 };
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// Gives a new file the owner and the group of another. Returns whether the group is now that one.
#[cfg(unix)]
pub fn own(file: &File, old: &Metadata) -> io::Result<bool> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let new = file.metadata()?;
    if new.gid() != old.gid() && fchown(file, None, Some(old.gid())).is_err() {
        return Ok(false);
    }
    if new.uid() != old.uid() {
        // Only root may give a file away: elsewhere the writer owns it.
        let _ = fchown(file, Some(old.uid()), None);
    }
    Ok(true)
}

#[cfg(not(unix))]
fn resemble(_file: &File, _old: &Metadata) -> io::Result<()> {
    Ok(())
}

/// The path that a chain of links leads to, which need not exist.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) {
            return Ok(path);
        }
        let next = fs::read_link(&path)?;
        path = path.parent().map_or(next.clone(), |parent| parent.join(&next));
    }
    // The error of the system for a loop.
    fs::metadata(&path).map(|_| path)
}

/// Opens a path to write to. Links are followed; a device or a pipe is written to directly, without a rename.
pub fn open(path: &Path) -> io::Result<(File, Option<PartialFile>)> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Ok((File::create(path)?, None));
    }
    let (file, part) = PartialFile::file(&resolved(path)?)?;
    Ok((file, Some(part)))
}

/// Opens a file that exists, to write behind its first bytes, of which there are so many. One process at a time has it.
pub fn grow(path: &Path, at: u64) -> io::Result<File> {
    let file = OpenOptions::new().append(true).open(path)?;
    if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process writes to it"));
    }
    file.set_len(at)?;
    Ok(file)
}

/// Writes to a temporary file and renames, so that a partial file never has the final name.
pub fn complete<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let (file, part) = open(path)?;
    let mut out = BufWriter::new(file);
    let written = write(&mut out).and_then(|()| Ok(out.flush()?));
    // A buffer that could not be written is not written again.
    drop(out.into_parts());
    written?;
    Ok(part.map_or(Ok(()), PartialFile::complete)?)
}
