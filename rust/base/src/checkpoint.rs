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
pub const VERSION: u32 = 6;

/// First bytes of every checkpoint.
pub const MAGIC: [u8; 8] = *b"ctracker";
const SUM: usize = 20;
const HEAD: usize = MAGIC.len() + 4;
/// Maximum length of a part in bytes: above every real part, and a bound for the allocation that a wrong length asks
/// for.
const LONGEST: u32 = 1 << 23;
/// Maximum bytes of parts for a byte of the file, beyond [`FREE_BYTES`]: a small file cannot ask for much memory. A
/// writer pads a file that compressed better.
const DENSEST: u64 = 64;
const FREE_BYTES: u64 = 1 << 20;
/// Maximum window of the frame, as a power of two; those of level 1 have 2^19 bytes.
const WINDOW_LOG: u32 = 23;
/// Magic number of a skippable frame (RFC 8878 section 3.1.2), whose length follows.
const SKIPPABLE: u32 = 0x184D_2A50;
const BUFFER: usize = 1 << 16;
/// Number of list elements in a part.
const LIST_CHUNK: usize = 1 << 10;

/// Maximum accepted count: above every capture's, with headroom for further increments.
pub const MAX_COUNT: u64 = 1 << 62;

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
    written: u64,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.written += written as u64;
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
    /// Bytes of all parts.
    bytes: u64,
}

impl<W: Write> Writer<'_, W> {
    /// Write the header.
    pub fn new(out: W) -> io::Result<Self> {
        let mut out = HashingWriter { out, sum: Sha1::new(), written: 0 };
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        // The fastest level, because the tracker stands still while its state is saved.
        Ok(Self { out: zstd::stream::write::Encoder::new(out, 1)?, part: Vec::new(), bytes: 0 })
    }

    /// Append a part. A part above the maximum length is an error.
    pub fn put(&mut self, part: &impl Serialize) -> io::Result<()> {
        self.part.clear();
        let bytes = postcard::to_extend(part, std::mem::take(&mut self.part)).map_err(io::Error::other)?;
        let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= LONGEST);
        self.out.write_all(&length.ok_or_else(|| io::Error::other("a part is too long"))?.to_le_bytes())?;
        self.out.write_all(&bytes)?;
        self.bytes += 4 + bytes.len() as u64;
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
        let bytes = self.bytes;
        let mut out = self.out.finish()?;
        let least = bytes.saturating_sub(FREE_BYTES).div_ceil(DENSEST);
        let missing = least.saturating_sub(out.written - HEAD as u64);
        if missing > 0 {
            let length = u32::try_from(missing).map_err(|_| io::Error::other("a checkpoint is too large"))?;
            out.write_all(&SKIPPABLE.to_le_bytes())?;
            out.write_all(&length.to_le_bytes())?;
            io::copy(&mut io::repeat(0).take(missing), &mut out)?;
        }
        let HashingWriter { mut out, sum, .. } = out;
        out.write_all(&sum.finalize())?;
        out.flush()?;
        Ok(out)
    }
}

/// Checkpoint reader.
pub struct Reader<R: Read> {
    from: zstd::stream::read::Decoder<'static, io::BufReader<io::Take<R>>>,
    part: Vec<u8>,
    /// Bytes of parts that may still follow.
    left: u64,
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
        let mut from = zstd::stream::read::Decoder::new(from.take(body))?.single_frame();
        from.window_log_max(WINDOW_LOG)?;
        Ok(Self { from, part: Vec::new(), left: body.saturating_mul(DENSEST).saturating_add(FREE_BYTES) })
    }
}

impl<R: Read> Reader<R> {
    /// Decode the next part.
    pub fn get<T: DeserializeOwned>(&mut self) -> Result<T, CheckpointError> {
        self.read()?;
        match postcard::take_from_bytes(&self.part) {
            Ok((part, [])) => Ok(part),
            _ => Err(CheckpointError::damaged("a part cannot be read")),
        }
    }

    /// Read the bytes of the next part.
    fn read(&mut self) -> Result<(), CheckpointError> {
        let wrong = |_| CheckpointError::damaged("a part is not there");
        let mut length = [0; 4];
        self.from.read_exact(&mut length).map_err(wrong)?;
        let length = u32::from_le_bytes(length);
        if length > LONGEST {
            return Err(CheckpointError::damaged("a part is too long"));
        }
        self.left = (self.left.checked_sub(4 + u64::from(length)))
            .ok_or(CheckpointError::damaged("its parts are too long for its size"))?;
        self.part.clear();
        self.from.by_ref().take(length.into()).read_to_end(&mut self.part).map_err(wrong)?;
        if self.part.len() != length as usize {
            return Err(CheckpointError::damaged("a part is cut"));
        }
        Ok(())
    }

    /// Check that no part follows.
    pub fn end(&mut self) -> Result<(), CheckpointError> {
        match self.from.read(&mut [0]) {
            Ok(0) => Ok(()),
            _ => Err(CheckpointError::damaged("a part has no meaning")),
        }
    }

    /// Decode a list of [`Writer::put_all`] and call `each` for every element.
    pub fn get_all<T: DeserializeOwned>(
        &mut self,
        mut each: impl FnMut(T) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let mut left: u64 = self.get()?;
        let wrong = |_| CheckpointError::damaged("a part cannot be read");
        while left > 0 {
            self.read()?;
            // Elements one by one: a count asks for no memory.
            let (count, mut rest) = postcard::take_from_bytes::<u64>(&self.part).map_err(wrong)?;
            if count != left.min(LIST_CHUNK as u64) {
                return Err(CheckpointError::damaged("a list has another length"));
            }
            for _ in 0..count {
                let (one, behind) = postcard::take_from_bytes(rest).map_err(wrong)?;
                rest = behind;
                each(one)?;
            }
            if !rest.is_empty() {
                return Err(CheckpointError::damaged("a part cannot be read"));
            }
            left -= count;
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
    fn a_part_that_compresses_well_is_written_and_read() {
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.put_all(1 << 20, std::iter::repeat_n([0_u64; 32], 1 << 20)).unwrap();
        let bytes = writer.finish().unwrap();
        assert!((500_000..560_000).contains(&bytes.len()), "{}", bytes.len());
        let (mut reader, mut count) = (open(&bytes).unwrap(), 0);
        reader
            .get_all(|_: [u64; 32]| {
                count += 1;
                Ok(())
            })
            .unwrap();
        reader.end().unwrap();
        assert_eq!(count, 1 << 20);
    }

    #[test]
    fn a_small_file_holds_no_large_parts() {
        let mut out = MAGIC.to_vec();
        out.extend(VERSION.to_le_bytes());
        let part = [1_000_000_u32.to_le_bytes().to_vec(), vec![0; 1_000_000]].concat();
        out.extend(zstd::encode_all(&part.repeat(9)[..], 1).unwrap());
        let sum = Sha1::digest(&out);
        out.extend(sum);
        let mut reader = open(&out).unwrap();
        let read = std::iter::from_fn(|| Some(reader.get::<()>().unwrap_err().to_string()));
        let refused: Vec<_> = read.take(2).map(|text| text.contains("too long for its size")).collect();
        assert_eq!(refused, [false, true]);
    }

    #[test]
    fn a_list_has_as_many_elements_as_it_says() {
        for (count, part) in [(3_u64, vec![1_u8, 2]), (2, vec![1, 2, 3]), (1 << 46, vec![1; 1024]), (u64::MAX, vec![])]
        {
            let mut writer = Writer::new(Vec::new()).unwrap();
            writer.put(&count).unwrap();
            writer.put(&part).unwrap();
            let bytes = writer.finish().unwrap();
            let refused = open(&bytes).unwrap().get_all(|_: u8| Ok(()));
            assert!(matches!(refused, Err(CheckpointError::Damaged { .. })), "{count}");
        }
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
