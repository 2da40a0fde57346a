//! The checkpoint file: the serialized state of a tracker, from which another process resumes.
//!
//! Layout, little-endian: an eight-byte magic number, a four-byte [`VERSION`], one Zstandard frame (RFC 8878), and the
//! SHA-1 of all preceding bytes. The frame is a sequence of parts: a four-byte length, then that many bytes of
//! Postcard. The checksum is verified before decoding. Each writer defines the contents of its parts; a change there
//! is a new [`VERSION`].

use std::io::{self, Read, Seek, SeekFrom, Write};

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use sha1::{Digest, Sha1};

/// Version of the parts' layout. Other versions are refused, because state is handed over within days, not years.
pub const VERSION: u32 = 4;

const MAGIC: [u8; 8] = *b"ctracker";
const SUM: usize = 20;
const HEAD: usize = MAGIC.len() + 4;
/// Maximum length of a part in bytes: above every real part, and a bound for the allocation that a wrong length asks
/// for.
const LONGEST: u32 = 1 << 30;
const BUFFER: usize = 1 << 16;
/// Number of list elements in a part.
const LIST_CHUNK: usize = 1 << 10;

/// Maximum accepted count: above every capture's, with headroom for further increments.
const MAX_COUNT: u64 = 1 << 62;

/// Deserialize a count, for `#[serde(deserialize_with)]`. Counts above the maximum are an error.
pub fn count<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let found = u64::deserialize(from)?;
    if found > MAX_COUNT { Err(D::Error::custom("a count is too large")) } else { Ok(found) }
}

/// A count in a part of a checkpoint.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Count(#[serde(deserialize_with = "count")] pub u64);

/// Reasons why a checkpoint cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// An I/O error.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file that is no checkpoint.
    #[error("found {found}, expected a checkpoint that Tracker.save has written")]
    Foreign {
        /// Description of the file's first bytes.
        found: String,
    },
    /// A checkpoint of another version.
    #[error(
        "found a checkpoint of version {found}, expected version {VERSION}: go on with the release that wrote it, or begin anew"
    )]
    Version {
        /// Version in the file.
        found: u32,
    },
    /// A truncated or modified checkpoint.
    #[error("the checkpoint is damaged ({what}): go on from an earlier one, or begin anew")]
    Damaged {
        /// Description of the damage.
        what: &'static str,
    },
}

impl CheckpointError {
    /// The error for damage that this text describes.
    pub fn damaged(what: &'static str) -> Self {
        Self::Damaged { what }
    }
}

/// Writer adapter that hashes every byte on the way to the inner writer.
struct HashingWriter<W> {
    out: W,
    sum: Sha1,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Checkpoint writer.
pub struct Writer<'a, W: Write> {
    out: zstd::stream::write::Encoder<'a, HashingWriter<W>>,
    part: Vec<u8>,
}

impl<W: Write> Writer<'_, W> {
    /// Write the header.
    pub fn new(out: W) -> io::Result<Self> {
        let mut out = HashingWriter { out, sum: Sha1::new() };
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        // The fastest level, because the tracker stands still while its state is saved.
        Ok(Self { out: zstd::stream::write::Encoder::new(out, 1)?, part: Vec::new() })
    }

    /// Append a part. A part above the maximum length is an error.
    pub fn put(&mut self, part: &impl Serialize) -> io::Result<()> {
        self.part.clear();
        let bytes = postcard::to_extend(part, std::mem::take(&mut self.part)).map_err(io::Error::other)?;
        let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= LONGEST);
        self.out.write_all(&length.ok_or_else(|| io::Error::other("a part is too long"))?.to_le_bytes())?;
        self.out.write_all(&bytes)?;
        self.part = bytes;
        Ok(())
    }

    /// Append a list of `count` elements, several elements to a part.
    pub fn put_all<T: Serialize>(&mut self, count: usize, all: impl Iterator<Item = T>) -> io::Result<()> {
        self.put(&(count as u64))?;
        let mut part = Vec::with_capacity(count.min(LIST_CHUNK));
        for one in all {
            part.push(one);
            if part.len() == LIST_CHUNK {
                self.put(&part)?;
                part.clear();
            }
        }
        if part.is_empty() { Ok(()) } else { self.put(&part) }
    }

    /// Write the end of the frame and the checksum, and return the inner writer.
    pub fn finish(self) -> io::Result<W> {
        let HashingWriter { mut out, sum } = self.out.finish()?;
        out.write_all(&sum.finalize())?;
        out.flush()?;
        Ok(out)
    }
}

/// Checkpoint reader.
pub struct Reader<R: Read> {
    from: zstd::stream::read::Decoder<'static, io::BufReader<io::Take<R>>>,
    part: Vec<u8>,
}

impl<R: Read + Seek> Reader<R> {
    /// Read the header and verify magic number, version and checksum.
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
    /// Decode the next part.
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

    /// Decode a list of [`Writer::put_all`] and call `each` for every element.
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
    fn a_round_trip_returns_every_part() {
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
        assert!(matches!(reader.get::<u64>(), Err(CheckpointError::Damaged { .. })), "the part has another type");
    }

    #[test]
    fn counts_have_room_for_more() {
        let read = |count: u64| {
            let mut writer = Writer::new(Vec::new()).unwrap();
            writer.put(&count).unwrap();
            open(&writer.finish().unwrap()).unwrap().get::<Count>().map(|count| count.0).ok()
        };
        assert_eq!([MAX_COUNT, MAX_COUNT + 1, u64::MAX].map(read), [Some(MAX_COUNT), None, None]);
    }

    #[test]
    fn damaged_foreign_and_newer_files_are_refused() {
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
