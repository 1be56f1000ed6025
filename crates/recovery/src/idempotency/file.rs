//! A store in one file.
//!
//! Frames follow each other: length (4 bytes), CRC-32C of the rest (4), how many bytes of the file were synced when it was written (8),
//! record. Numbers are little-endian. Recovery takes frames until one is not whole. What follows is a torn tail, and is cut off; unless a
//! later frame says that the file was synced beyond the bad one. Then it is damage, and the store refuses to open.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::record::Record;
use super::store::Store;

const HEAD_BYTES: usize = 16;
/// No record is longer; a length beyond it is damage.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// What can go wrong with a file.
#[derive(Debug)]
pub enum FileError {
    /// The operating system says no. What was being written may be there or not.
    Io(io::Error),
    /// Bytes that had been synced have changed. Nothing was changed by opening it.
    Damaged {
        /// Where the first bad frame begins.
        at: u64,
    },
    /// A record is too long to be written. Nothing was written.
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
            FileError::TooLong => f.write_str("a record is longer than 64 MiB; nothing was written"),
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
    let mut at = 0;
    while let Some((record, _, len)) = frame(&bytes[at..]) {
        records.push(record);
        at += len;
    }
    let synced_later = (at + 1..bytes.len())
        .filter_map(|later| frame(&bytes[later..]))
        .any(|(_, synced, _)| synced > at as u64);
    if synced_later { Err(FileError::Damaged { at: at as u64 }) } else { Ok((records, at)) }
}

/// The frame at the beginning of `bytes`: its record, how far the file was synced before it, its length.
fn frame(bytes: &[u8]) -> Option<(Record, u64, usize)> {
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
    Some((Record::decode(record).ok()?, u64::from_le_bytes(*synced), HEAD_BYTES + len))
}

fn push_frame(record: &Record, synced: u64, out: &mut Vec<u8>) -> Result<(), FileError> {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&synced.to_le_bytes());
    record.encode(out);
    let len = out.len() - start - HEAD_BYTES;
    if len > RECORD_BYTES_MAX {
        out.truncate(start);
        return Err(FileError::TooLong);
    }
    let crc = crc32c(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

impl Store for FileStore {
    type Error = FileError;

    fn append(&mut self, record: &Record) -> Result<u64, FileError> {
        push_frame(record, self.synced, &mut self.gathered)?;
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
        let mut bytes = vec![];
        for record in records {
            push_frame(&record, 0, &mut bytes)?;
        }
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
        Ok(())
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
