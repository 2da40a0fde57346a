//! A checkpoint: the state of a tracker in a file, which another process goes on from.
//!
//! Eight bytes that say what it is and the version, four bytes each; then, as one Zstandard frame, parts: a length of four bytes and
//! so many bytes of Postcard; at the end the SHA-1 of everything before. Numbers are little-endian. Nothing is believed before the
//! sum was right. What a part holds is the business of whoever puts it in; a change there is a new [`VERSION`].

use std::io::{self, Read, Seek, SeekFrom, Write};

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use sha1::{Digest, Sha1};

/// What the parts of this build look like. Others are refused: state is handed on for days, not for years.
pub const VERSION: u32 = 3;

const MAGIC: [u8; 8] = *b"ctracker";
const SUM: usize = 20;
const HEAD: usize = MAGIC.len() + 4;
/// More than any part has; less than what a wrong length could ask for.
const LONGEST: u32 = 1 << 30;
const BUFFER: usize = 1 << 16;
/// How much of a list is in a part.
const TOGETHER: usize = 1 << 10;

/// The largest count that is accepted: more than any capture has, and room to go on counting.
const MOST: u64 = 1 << 62;

/// Deserialize a count, for `#[serde(deserialize_with)]`. A count without room for more is an error.
pub fn count<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let found = u64::deserialize(from)?;
    if found > MOST { Err(D::Error::custom("a count is too large")) } else { Ok(found) }
}

/// A count in a part of a checkpoint.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Count(#[serde(deserialize_with = "count")] pub u64);

/// Why there is nothing to go on from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("found {found}, expected a checkpoint that Tracker.save has written")]
    Foreign {
        /// How it begins.
        found: String,
    },
    /// It is of another build.
    #[error(
        "found a checkpoint of version {found}, expected version {VERSION}: go on with the release that wrote it, or begin anew"
    )]
    Version {
        /// Its version.
        found: u32,
    },
    /// It is cut or was changed.
    #[error("the checkpoint is damaged ({what}): go on from an earlier one, or begin anew")]
    Damaged {
        /// What is wrong with it.
        what: &'static str,
    },
}

impl CheckpointError {
    /// It is cut or was changed.
    pub fn damaged(what: &'static str) -> Self {
        Self::Damaged { what }
    }
}

/// Hands on what it is given, and sums it up.
struct Summed<W> {
    out: W,
    sum: Sha1,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes a checkpoint.
pub struct Writer<'a, W: Write> {
    out: zstd::stream::write::Encoder<'a, Summed<W>>,
    part: Vec<u8>,
}

impl<W: Write> Writer<'_, W> {
    /// Begins one.
    pub fn new(out: W) -> io::Result<Self> {
        let mut out = Summed { out, sum: Sha1::new() };
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        // The fastest level: who saves makes others wait.
        Ok(Self { out: zstd::stream::write::Encoder::new(out, 1)?, part: Vec::new() })
    }

    /// Adds a part.
    pub fn put(&mut self, part: &impl Serialize) -> io::Result<()> {
        self.part.clear();
        let bytes = postcard::to_extend(part, std::mem::take(&mut self.part)).map_err(io::Error::other)?;
        let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= LONGEST);
        self.out.write_all(&length.ok_or_else(|| io::Error::other("a part is too long"))?.to_le_bytes())?;
        self.out.write_all(&bytes)?;
        self.part = bytes;
        Ok(())
    }

    /// Adds a list of so many, a few in a part.
    pub fn put_all<T: Serialize>(&mut self, count: usize, all: impl Iterator<Item = T>) -> io::Result<()> {
        self.put(&(count as u64))?;
        let mut part = Vec::with_capacity(count.min(TOGETHER));
        for one in all {
            part.push(one);
            if part.len() == TOGETHER {
                self.put(&part)?;
                part.clear();
            }
        }
        if part.is_empty() { Ok(()) } else { self.put(&part) }
    }

    /// Ends it, and returns what it was written to.
    pub fn finish(self) -> io::Result<W> {
        let Summed { mut out, sum } = self.out.finish()?;
        out.write_all(&sum.finalize())?;
        out.flush()?;
        Ok(out)
    }
}

/// Reads a checkpoint.
pub struct Reader<R: Read> {
    from: zstd::stream::read::Decoder<'static, io::BufReader<io::Take<R>>>,
    part: Vec<u8>,
}

impl<R: Read + Seek> Reader<R> {
    /// Opens one whose sum is right.
    pub fn new(mut from: R) -> Result<Self, CheckpointError> {
        let end = from.seek(SeekFrom::End(0))?;
        from.rewind()?;
        let mut head = Vec::new();
        from.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
        if !head.starts_with(&MAGIC) {
            let found = head.iter().take(MAGIC.len()).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
            let found = if head.is_empty() { "an empty file".to_owned() } else { format!("the bytes {found}") };
            return Err(CheckpointError::Foreign { found });
        }
        let body = end.checked_sub((HEAD + SUM) as u64).ok_or(CheckpointError::damaged("it is cut"))?;
        let version = head.get(MAGIC.len()..).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        match version {
            Some(VERSION) => {}
            Some(found) => return Err(CheckpointError::Version { found }),
            None => return Err(CheckpointError::damaged("it is cut")),
        }
        let mut sum = Sha1::new();
        sum.update(&head);
        let mut rest = from.by_ref().take(body);
        let mut buffer = vec![0; BUFFER];
        loop {
            match rest.read(&mut buffer)? {
                0 => break,
                read => sum.update(&buffer[..read]),
            }
        }
        let mut written = [0; SUM];
        from.read_exact(&mut written).map_err(|_| CheckpointError::damaged("it is cut"))?;
        if sum.finalize()[..] != written {
            return Err(CheckpointError::damaged("its sum is wrong"));
        }
        from.seek(SeekFrom::Start(HEAD as u64))?;
        Ok(Self { from: zstd::stream::read::Decoder::new(from.take(body))?.single_frame(), part: Vec::new() })
    }
}

impl<R: Read> Reader<R> {
    /// The next part.
    pub fn get<T: DeserializeOwned>(&mut self) -> Result<T, CheckpointError> {
        let wrong = |_| CheckpointError::damaged("a part is not there");
        let mut length = [0; 4];
        self.from.read_exact(&mut length).map_err(wrong)?;
        let length = u32::from_le_bytes(length);
        if length > LONGEST {
            return Err(CheckpointError::damaged("a part is too long"));
        }
        self.part.clear();
        self.from.by_ref().take(length.into()).read_to_end(&mut self.part).map_err(wrong)?;
        if self.part.len() != length as usize {
            return Err(CheckpointError::damaged("a part is cut"));
        }
        match postcard::take_from_bytes(&self.part) {
            Ok((part, [])) => Ok(part),
            _ => Err(CheckpointError::damaged("a part cannot be read")),
        }
    }

    /// What [`Writer::put_all`] has put, one after the other.
    pub fn get_all<T: DeserializeOwned>(
        &mut self,
        mut each: impl FnMut(T) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let mut left: u64 = self.get()?;
        while left > 0 {
            let part: Vec<T> = self.get()?;
            left = left
                .checked_sub(part.len() as u64)
                .filter(|_| !part.is_empty())
                .ok_or(CheckpointError::damaged("a list has another length"))?;
            part.into_iter().try_for_each(&mut each)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn written() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.put(&(7_u64, "text")).unwrap();
        writer.put_all(3_000, (0..3_000).map(|number: u64| [number; 3])).unwrap();
        writer.finish().unwrap()
    }

    fn open(bytes: &[u8]) -> Result<Reader<Cursor<&[u8]>>, CheckpointError> {
        Reader::new(Cursor::new(bytes))
    }

    #[test]
    fn what_was_put_is_got() {
        let bytes = written();
        let mut reader = open(&bytes).unwrap();
        assert_eq!(reader.get::<(u64, String)>().unwrap(), (7, "text".to_owned()));
        let mut all = Vec::new();
        reader
            .get_all(|one: [u64; 3]| {
                all.push(one[2]);
                Ok(())
            })
            .unwrap();
        assert_eq!(all, (0..3_000).collect::<Vec<_>>());
        assert!(matches!(reader.get::<u8>(), Err(CheckpointError::Damaged { .. })));
        let mut reader = open(&bytes).unwrap();
        assert!(matches!(reader.get::<u64>(), Err(CheckpointError::Damaged { .. })), "something else was put there");
    }

    #[test]
    fn counts_have_room_for_more() {
        let read = |count: u64| {
            let mut writer = Writer::new(Vec::new()).unwrap();
            writer.put(&count).unwrap();
            open(&writer.finish().unwrap()).unwrap().get::<Count>().map(|count| count.0).ok()
        };
        assert_eq!([MOST, MOST + 1, u64::MAX].map(read), [Some(MOST), None, None]);
    }

    #[test]
    fn what_is_damaged_foreign_or_newer_is_refused() {
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.put(&(7_u64, "text")).unwrap();
        let bytes = writer.finish().unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let refused = open(&changed).err().expect("it was changed");
                match at {
                    0..8 => assert!(matches!(refused, CheckpointError::Foreign { .. })),
                    8..12 => assert!(matches!(refused, CheckpointError::Version { .. })),
                    _ => assert!(matches!(refused, CheckpointError::Damaged { .. })),
                }
            }
            let cut = open(&bytes[..at]).err().expect("it is cut");
            assert!(matches!(cut, CheckpointError::Foreign { .. } | CheckpointError::Damaged { .. }), "{at}: {cut}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert!(matches!(open(&longer), Err(CheckpointError::Damaged { .. })));
        assert_eq!(
            open(b"").err().map(|error| error.to_string()).unwrap_or_default(),
            "found an empty file, expected a checkpoint that Tracker.save has written"
        );
    }
}
