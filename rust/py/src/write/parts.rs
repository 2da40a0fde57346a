//! Files of a run without an end, published one after another: what has a final name is complete and is never written again.
//!
//! A file grows under its name and `.part`, created exclusively and locked. Once it is over, its bytes are on the disk before
//! the rename, and the rename before anything else (fsync of the file, then of the directory). Rows that come later for the same
//! partition go to the next number. So a killed process leaves complete files, and `.part` files without a lock; the next run
//! completes those whose format allows it, and keeps the others.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_schema::ArrowError;
use conntrack_core::ipfix;
use conntrack_core::zeek_log::Seed;

use super::format::{Encoder, Format};
use super::partition::By;
use super::place::exclusive;
use super::sink::{Out, buffered};
use crate::table::Table;

/// Maximum of parts that grow at once. The least recently used one is completed for another.
const MOST_GROWING: usize = 32;
/// Rows brought to a part at once; the size of a part is looked at after as many.
const PIECE: usize = 1 << 8;
/// Suffix of a file that is not complete.
const PART: &str = ".part";
/// Suffix of a file that a killed process left and nobody can complete.
const INCOMPLETE: &str = ".incomplete";
/// Maximum of left-over files of one name that are kept.
const MOST_KEPT_ASIDE: u32 = 1000;

/// Names of the files.
pub enum Names {
    /// `FOLDER/part-N.SUFFIX` below a directory.
    Hive(PathBuf, By),
    /// `STEM.N.SUFFIX` for a path `STEM.SUFFIX`.
    Series(PathBuf),
}

impl Names {
    fn key(&self, row: conntrack_core::rows::Row<'_>) -> i64 {
        match self {
            Self::Hive(_, by) => by.key(row),
            Self::Series(_) => 0,
        }
    }

    /// The directory of a partition's files, and what stands before and behind the number in their names.
    fn of(&self, key: i64, format: Format) -> (PathBuf, String, String) {
        match self {
            Self::Hive(root, by) => (root.join(by.folder(key)), "part-".into(), format!(".{}", format.suffix())),
            Self::Series(path) => {
                let text = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
                let suffix = path.extension().map(|suffix| format!(".{}", text(Some(suffix)))).unwrap_or_default();
                (directory(path), format!("{}.", text(path.file_stem())), suffix)
            }
        }
    }

    /// The name of a number; six digits sort as numbers.
    fn numbered(&self, before: &str, number: u64, behind: &str) -> String {
        match self {
            Self::Hive(..) => format!("{before}{number}{behind}"),
            Self::Series(_) => format!("{before}{number:06}{behind}"),
        }
    }
}

/// Sizes at which a part is over.
#[derive(Clone, Copy, Default)]
pub struct Sizes {
    /// Rows.
    pub rows: Option<u64>,
    /// Bytes.
    pub bytes: Option<u64>,
}

/// The files of a run.
pub struct Parts {
    names: Names,
    format: Format,
    sizes: Sizes,
    growing: BTreeMap<i64, Part>,
    /// Complete files that have not their name yet, in order.
    complete: Vec<Named>,
    /// Clock of the last use.
    uses: u64,
}

struct Part {
    encoder: Encoder,
    named: Named,
    written: Arc<AtomicU64>,
    rows: u64,
    used: u64,
    /// Indices of rows of the current table to be written.
    places: Vec<usize>,
}

/// A locked file and its final path.
struct Named {
    file: File,
    target: PathBuf,
}

impl Named {
    fn part(&self) -> PathBuf {
        with_suffix(&self.target, PART)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Gives the file its name, which no other file may have.
    fn publish(&self) -> io::Result<()> {
        rename_new(&self.part(), &self.target)?;
        sync(&directory(&self.target))
    }
}

/// Counter of written bytes.
struct Counted(File, Arc<AtomicU64>);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Part {
    fn write(&mut self, table: &Table, seed: Seed) -> Result<(), ArrowError> {
        let row = |place: &usize| table.rows.get(*place).expect("a place of this table");
        self.encoder.append(self.places.iter().map(row), seed)?;
        self.rows += self.places.len() as u64;
        self.places.clear();
        Ok(())
    }

    /// Test for a part that has its rows or bytes.
    fn is_over(&self, sizes: Sizes) -> bool {
        let bytes = self.written.load(Ordering::Relaxed) + self.encoder.pending();
        sizes.rows.is_some_and(|most| self.rows >= most) || sizes.bytes.is_some_and(|most| bytes >= most)
    }

    /// Rows that may be brought at once.
    fn room(&self, sizes: Sizes) -> u64 {
        let rows = sizes.rows.map_or(u64::MAX, |most| most.saturating_sub(self.rows));
        rows.min(PIECE as u64)
    }
}

impl Parts {
    /// No file yet; a directory is made.
    pub fn new(names: Names, format: Format, sizes: Sizes) -> io::Result<Self> {
        if let Names::Hive(root, _) = &names {
            fs::create_dir_all(root)?;
        }
        Ok(Self { names, format, sizes, growing: BTreeMap::new(), complete: Vec::new(), uses: 0 })
    }

    /// Writes the rows of a table to their files, in their order. Files that are over are complete and unnamed.
    pub fn append(&mut self, table: &Table, seed: Seed) -> Result<(), ArrowError> {
        for (place, row) in table.rows.iter().enumerate() {
            let key = self.names.key(row);
            self.uses += 1;
            if !self.growing.contains_key(&key) {
                self.make_room(table, seed)?;
                let part = self.begin(key, table)?;
                self.growing.insert(key, part);
            }
            let Some(part) = self.growing.get_mut(&key) else { continue };
            part.places.push(place);
            part.used = self.uses;
            if part.places.len() as u64 >= part.room(self.sizes) {
                part.write(table, seed)?;
                if self.sizes.bytes.is_some() && flushes(self.format) {
                    part.encoder.flush()?;
                }
                if part.is_over(self.sizes) {
                    self.end(key)?;
                }
            }
        }
        let mut over = Vec::new();
        for (key, part) in &mut self.growing {
            part.write(table, seed)?;
            if flushes(self.format) {
                part.encoder.flush()?;
            }
            if part.is_over(self.sizes) {
                over.push(*key);
            }
        }
        over.into_iter().try_for_each(|key| self.end(key))
    }

    fn make_room(&mut self, table: &Table, seed: Seed) -> Result<(), ArrowError> {
        while self.growing.len() >= MOST_GROWING {
            let Some(key) = self.growing.iter().min_by_key(|(_, part)| part.used).map(|(key, _)| *key) else { break };
            if let Some(part) = self.growing.get_mut(&key) {
                part.write(table, seed)?;
            }
            self.end(key)?;
        }
        Ok(())
    }

    fn begin(&self, key: i64, table: &Table) -> Result<Part, ArrowError> {
        let (folder, before, behind) = self.names.of(key, self.format);
        if !folder.is_dir() {
            fs::create_dir_all(&folder)?;
            sync(&directory(&folder))?;
        }
        let mut number = next_number(&folder, &before, &behind)?;
        let (file, target) = loop {
            let target = folder.join(self.names.numbered(&before, number, &behind));
            match exclusive(&with_suffix(&target, PART), false) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                made => break (made?, target),
            }
        };
        file.lock()?;
        let written = Arc::new(AtomicU64::new(0));
        let out: Out = buffered(Counted(file.try_clone()?, written.clone()));
        let columns = match &self.names {
            Names::Hive(_, by) => by.columns(&table.columns),
            Names::Series(_) => table.columns.clone(),
        };
        let encoder = Encoder::new(self.format, out, columns, &table.zones)?;
        Ok(Part { encoder, named: Named { file, target }, written, rows: 0, used: 0, places: Vec::new() })
    }

    fn end(&mut self, key: i64) -> Result<(), ArrowError> {
        let Some(part) = self.growing.remove(&key) else { return Ok(()) };
        part.encoder.finish()?;
        part.named.file.sync_all()?;
        self.complete.push(part.named);
        Ok(())
    }

    /// Completes all files but that of `kept`.
    pub fn end_all(&mut self, kept: Option<i64>) -> Result<(), ArrowError> {
        let over: Vec<i64> = self.growing.keys().copied().filter(|key| Some(*key) != kept).collect();
        over.into_iter().try_for_each(|key| self.end(key))
    }

    /// Number of complete files without their name.
    pub fn waiting(&self) -> usize {
        self.complete.len()
    }

    /// Gives the complete files their names.
    pub fn publish(&mut self) -> Result<Vec<PathBuf>, ArrowError> {
        let mut names = Vec::new();
        while !self.complete.is_empty() {
            self.complete[0].publish()?;
            names.push(self.complete.remove(0).target);
        }
        Ok(names)
    }

    /// Final paths and lengths of the files that have no name yet, with all rows so far on the disk. A format of blocks completes
    /// its files for that.
    pub fn marks(&mut self) -> Result<Vec<(PathBuf, u64)>, ArrowError> {
        if !self.format.is_lines() {
            self.end_all(None)?;
        }
        for part in self.growing.values_mut() {
            part.encoder.flush()?;
            part.named.file.sync_data()?;
        }
        let every = self.complete.iter().chain(self.growing.values().map(|part| &part.named));
        every.map(|named| Ok((named.target.clone(), named.length()?))).collect()
    }

    /// Completes or keeps what a killed run has left. With the `marks` of a state, from which all that came after is read again,
    /// files end at their marks, and files without one are removed. Returns each file with what became of it.
    pub fn recover(&self, marks: Option<&[(PathBuf, u64)]>) -> io::Result<Vec<(PathBuf, &'static str)>> {
        let mut found = Vec::new();
        for (folder, before, behind) in self.folders()? {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries {
                let name = entry?.file_name();
                let Some(target) = name.to_str().and_then(|name| name.strip_suffix(PART)) else { continue };
                if number(target, &before, &behind).is_none() {
                    continue;
                }
                let Some(named) = left_over(folder.join(target))? else { continue };
                let done = match marks {
                    Some(marks) => self.roll_back(&named, marks)?,
                    None => self.complete_or_keep(&named)?,
                };
                found.push((named.target, done));
            }
        }
        found.sort();
        Ok(found)
    }

    fn folders(&self) -> io::Result<Vec<(PathBuf, String, String)>> {
        let Names::Hive(root, by) = &self.names else { return Ok(vec![self.names.of(0, self.format)]) };
        let mut folders = Vec::new();
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && by.is_folder(&entry.file_name().to_string_lossy()) {
                folders.push((entry.path(), "part-".to_owned(), format!(".{}", self.format.suffix())));
            }
        }
        Ok(folders)
    }

    fn roll_back(&self, named: &Named, marks: &[(PathBuf, u64)]) -> io::Result<&'static str> {
        match marks.iter().find(|(path, _)| *path == named.target) {
            Some((_, length)) if named.length()? >= *length => {
                named.file.set_len(*length)?;
                named.file.sync_all()?;
                named.publish()?;
                Ok("completed, as the state has it")
            }
            Some(_) => self.complete_or_keep(named),
            None => {
                fs::remove_file(named.part())?;
                Ok("removed: its rows are made again from the state")
            }
        }
    }

    fn complete_or_keep(&self, named: &Named) -> io::Result<&'static str> {
        let (whole, is_empty) = match self.format {
            Format::Ipfix => whole_messages(&named.file)?,
            format if format.is_lines() => whole_lines(&named.file, u64::from(format == Format::Csv))?,
            _ => (0, named.length()? == 0),
        };
        if whole > 0 && !is_empty {
            named.file.set_len(whole)?;
            named.file.sync_all()?;
            named.publish()?;
            return Ok("completed: all whole rows are in it");
        }
        if is_empty {
            fs::remove_file(named.part())?;
            return Ok("removed: it had no whole row");
        }
        for number in 0..MOST_KEPT_ASIDE {
            let again = if number == 0 { String::new() } else { format!("-{number}") };
            match rename_new(&named.part(), &with_suffix(&named.target, &format!("{again}{INCOMPLETE}"))) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                done => return done.map(|()| "kept with the suffix .incomplete: its end is missing"),
            }
        }
        Ok("kept as it is: its end is missing")
    }
}

/// Test for a format whose rows are in the file after a flush.
fn flushes(format: Format) -> bool {
    format.is_lines() || format == Format::Ipfix
}

/// The `.part` of a path, locked; None: a process writes to it, or it is no file.
fn left_over(target: PathBuf) -> io::Result<Option<Named>> {
    let part = with_suffix(&target, PART);
    if !fs::symlink_metadata(&part).is_ok_and(|found| found.is_file()) {
        return Ok(None);
    }
    let file = OpenOptions::new().read(true).write(true).open(part)?;
    Ok(file.try_lock().is_ok().then_some(Named { file, target }))
}

/// Bytes of the whole lines of a file, and whether there are none behind the first `head` lines.
fn whole_lines(mut file: &File, head: u64) -> io::Result<(u64, bool)> {
    let (mut piece, mut at, mut whole, mut lines) = (vec![0; 1 << 16], 0, 0, 0);
    file.seek(SeekFrom::Start(0))?;
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((whole, lines <= head));
        }
        for (place, _) in piece[..read].iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            lines += 1;
            whole = at + place as u64 + 1;
        }
        at += read as u64;
    }
}

/// Bytes of the whole messages of an IPFIX file, and whether there are none.
fn whole_messages(mut file: &File) -> io::Result<(u64, bool)> {
    let (mut whole, length, mut head) = (0, file.metadata()?.len(), [0; ipfix::HEADER]);
    while whole + ipfix::HEADER as u64 <= length {
        file.seek(SeekFrom::Start(whole))?;
        file.read_exact(&mut head)?;
        let size = u64::from(u16::from_be_bytes([head[2], head[3]]));
        if head[..2] != [0, 10] || size < ipfix::HEADER as u64 || whole + size > length {
            break;
        }
        whole += size;
    }
    Ok((whole, whole == 0))
}

/// The number after the highest of a directory, complete or not.
fn next_number(folder: &Path, before: &str, behind: &str) -> io::Result<u64> {
    let mut next = 0;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let name = name.strip_suffix(PART).or_else(|| name.strip_suffix(INCOMPLETE)).unwrap_or(name);
        next = next.max(number(name, before, behind).map_or(0, |number| number.saturating_add(1)));
    }
    Ok(next)
}

/// The number of a name.
fn number(name: &str, before: &str, behind: &str) -> Option<u64> {
    let digits = name.strip_prefix(before)?.strip_suffix(behind)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The directory that a path is in.
fn directory(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// Renames to a name that no file has.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // A file system that cannot do that (NFS).
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
            done => return Ok(done?),
        }
    }
    if fs::symlink_metadata(to).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

/// Syncs a directory, on Unix.
fn sync(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
