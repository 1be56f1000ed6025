//! A store in one file.
//!
//! Frames follow each other: length (4 bytes), CRC-32C of the rest (4), how many bytes of the file are known to be synced to whoever reads
//! the frame (8), record. Numbers are little-endian. A frame that was appended knows what was synced before its batch. A file that was put
//! in another's place was synced as a whole before it got its name: each of its frames knows its whole length, and the first one is a seal
//! without a record, so that no frame is the only one that knows, and a file cut off in its first record says so.
//!
//! Recovery takes frames until one is not whole. What follows is a torn tail, and is cut off; unless a frame, before or after, knows that the
//! file was synced beyond the bad one. Then it is damage, and the store refuses to open.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::record::Record;
use super::store::Store;

const HEAD_BYTES: usize = 16;
/// No record is longer, the state of a compaction included; a length beyond it is damage. 64 MiB.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// What can go wrong with a file.
#[derive(Debug)]
pub enum FileError {
    /// The operating system says no. What was being written may be there or not.
    Io(io::Error),
    /// Bytes that had been synced have changed, or are gone. Nothing was changed by opening it.
    Damaged {
        /// Where the first bad frame begins.
        at: u64,
    },
    /// A record is longer than [`RECORD_BYTES_MAX`]. Nothing has changed; the store may be used further.
    TooLong,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Io(error) => write!(f, "idempotency store: {error}"),
            FileError::Damaged { at } => {
                write!(
                    f,
                    "idempotency store is damaged at byte {at}, in what had been synced; nothing was changed"
                )
            }
            FileError::TooLong => f.write_str("a record is longer than 64 MiB; nothing has changed"),
        }
    }
}

impl core::error::Error for FileError {}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> FileError {
        FileError::Io(error)
    }
}

/// Records in a file. [`Store::append`] gathers in memory; [`Store::sync`] writes and syncs what has gathered, at once.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    file: File,
    /// Encoded and not yet written.
    gathered: Vec<u8>,
    /// Bytes of the file; all are synced.
    synced: u64,
    position: u64,
}

impl FileStore {
    /// Opens or creates it, and returns what it holds, in order. A torn tail is cut off.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn open(path: impl AsRef<Path>) -> Result<(FileStore, Vec<Record>), FileError> {
        let path = path.as_ref().to_path_buf();
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (records, whole) = scan(&bytes)?;
        assert!(whole <= bytes.len(), "what is whole is in the file");
        if whole < bytes.len() {
            file.set_len(whole as u64)?;
        }
        file.sync_all()?;
        sync_folder(&path)?;
        file.seek(SeekFrom::Start(whole as u64))?;
        let store = FileStore { path, file, gathered: Vec::new(), synced: whole as u64, position: 0 };
        Ok((store, records))
    }
}

/// The records of all whole frames, and their bytes.
fn scan(bytes: &[u8]) -> Result<(Vec<Record>, usize), FileError> {
    let mut records = Vec::new();
    let (mut at, mut synced) = (0, 0);
    while let Some(frame) = Frame::read(&bytes[at..]) {
        records.extend(frame.record);
        synced = synced.max(frame.synced);
        at += frame.len;
    }
    let later = (at + 1..bytes.len()).filter_map(|later| Frame::read(&bytes[later..]));
    let synced = later.fold(synced, |synced, frame| synced.max(frame.synced));
    if synced > at as u64 { Err(FileError::Damaged { at: at as u64 }) } else { Ok((records, at)) }
}

/// One frame as it is read.
struct Frame {
    /// `None`: a seal.
    record: Option<Record>,
    /// So many bytes of the file were synced.
    synced: u64,
    /// Its own bytes.
    len: usize,
}

impl Frame {
    /// The frame at the beginning of `bytes`, if one is there and whole.
    fn read(bytes: &[u8]) -> Option<Frame> {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let len = u32::from_le_bytes(*len) as usize;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        if len > RECORD_BYTES_MAX {
            return None;
        }
        let body = rest.get(..8 + len)?;
        if crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (synced, record) = body.split_first_chunk::<8>()?;
        let record = if record.is_empty() { None } else { Some(Record::decode(record).ok()?) };
        Some(Frame { record, synced: u64::from_le_bytes(*synced), len: HEAD_BYTES + len })
    }
}

/// Appends a frame that knows of nothing synced, and has no checksum yet: see [`finish_frame`]. `None` is a seal.
fn push_frame(record: Option<&Record>, out: &mut Vec<u8>) -> Result<(), FileError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    if let Some(record) = record {
        record.encode(out);
    }
    let len = out.len() - start - HEAD_BYTES;
    if len > RECORD_BYTES_MAX {
        out.truncate(start);
        return Err(FileError::TooLong);
    }
    assert!(record.is_some() == (len > 0), "only a seal is empty");
    out[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(())
}

/// Completes a whole frame: what is synced, and the checksum.
fn finish_frame(frame: &mut [u8], synced: u64) {
    assert!(frame.len() >= HEAD_BYTES, "a frame has a head");
    frame[8..HEAD_BYTES].copy_from_slice(&synced.to_le_bytes());
    let crc = crc32c(&frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// The bytes of a whole file that is synced before anyone reads it.
fn sealed(records: &mut dyn Iterator<Item = Record>) -> Result<Vec<u8>, FileError> {
    let mut bytes = vec![];
    let mut starts = vec![0];
    push_frame(None, &mut bytes)?;
    for record in records {
        starts.push(bytes.len());
        push_frame(Some(&record), &mut bytes)?;
    }
    assert!(starts.len() > 1, "a log begins with what it is compacted to");
    let synced = bytes.len() as u64;
    let mut end = bytes.len();
    for start in starts.into_iter().rev() {
        finish_frame(&mut bytes[start..end], synced);
        end = start;
    }
    assert!(end == 0, "all frames know the file's length");
    Ok(bytes)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

impl Store for FileStore {
    type Error = FileError;

    fn append(&mut self, record: &Record) -> Result<u64, FileError> {
        let start = self.gathered.len();
        push_frame(Some(record), &mut self.gathered)?;
        finish_frame(&mut self.gathered[start..], self.synced);
        assert!(self.gathered.len() - start >= HEAD_BYTES, "a frame has a head");
        self.position += 1;
        Ok(self.position)
    }

    fn sync(&mut self) -> Result<u64, FileError> {
        if !self.gathered.is_empty() {
            self.file.write_all(&self.gathered)?;
            self.file.sync_data()?;
            self.synced += self.gathered.len() as u64;
            self.gathered.clear();
        }
        Ok(self.position)
    }

    fn replace(&mut self, records: &mut dyn Iterator<Item = Record>) -> Result<(), FileError> {
        let bytes = sealed(records)?;
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        sync_folder(&self.path)?;
        self.file = file;
        self.synced = bytes.len() as u64;
        self.gathered.clear();
        assert!(self.synced >= HEAD_BYTES as u64, "a compacted file has its seal");
        Ok(())
    }

    fn is_intact(error: &FileError) -> bool {
        match error {
            FileError::TooLong => true,
            FileError::Io(_) | FileError::Damaged { .. } => false,
        }
    }

    fn bytes(&self) -> u64 {
        self.synced + self.gathered.len() as u64
    }
}

/// CRC-32C (Castagnoli), a table of 256.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| CRC[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut crc = at as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
