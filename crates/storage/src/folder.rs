//! A node's folder: its format version and its identity.

use std::path::Path;

use bytes::Bytes;

use crate::disk::Disk;
use crate::error::StorageError;
use crate::file_disk::FileDisk;
use crate::layout::FORMAT_VERSION;
use crate::small::{SMALL_BYTES_MAX, read_small, write_small};

/// Who the node in this folder is, while it may be running there: an identity is written once. `None` if there is no folder, or none was written.
///
/// # Errors
/// [`StorageError`] if it can't be read, or is not what was written.
pub fn peek_identity(folder: &Path) -> Result<Option<Bytes>, StorageError> {
    if !folder.is_dir() {
        return Ok(None);
    }
    read_small(&FileDisk::look(folder)?, IDENTITY)
}

const FORMAT: &str = "format";
const IDENTITY: &str = "identity";

/// A node's folder, of a format that this program reads. The lock is [`crate::FileDisk::open`]'s.
#[derive(Clone, Debug)]
pub struct Folder<D: Disk> {
    disk: D,
    identity: Option<Bytes>,
}

impl<D: Disk> Folder<D> {
    /// Opens the folder; an empty one gets the current format version.
    ///
    /// # Errors
    /// [`StorageError::Version`] if another version wrote it, [`StorageError::Damaged`] if a file is not what was written, or
    /// if there are files of a node but no format.
    pub fn open(disk: D) -> Result<Self, StorageError> {
        let format = read_small(&disk, FORMAT)?;
        let file = disk.describe(FORMAT);
        match format {
            Some(bytes) => match <[u8; 4]>::try_from(&bytes[..]).map(u32::from_le_bytes) {
                Ok(FORMAT_VERSION) => {}
                Ok(found) => return Err(StorageError::Version { file, found, supported: FORMAT_VERSION }),
                Err(_) => return Err(StorageError::damaged(file, 0, "it does not hold a version")),
            },
            None => {
                let names = disk.list().map_err(|e| StorageError::io("list", disk.describe(""), e))?;
                let ours =
                    |n: &String| n == IDENTITY || n.starts_with("wal-") || n.starts_with("checkpoint-");
                if names.iter().any(ours) {
                    return Err(StorageError::damaged(
                        file,
                        0,
                        "the file is missing, but a node's other files are here",
                    ));
                }
                write_small(&disk, FORMAT, &FORMAT_VERSION.to_le_bytes())?;
            }
        }
        let identity = read_small(&disk, IDENTITY)?;
        Ok(Self { disk, identity })
    }

    /// Who this node is, as [`Folder::write_identity`] was told; `None` if it never was.
    #[must_use]
    pub fn identity(&self) -> Option<Bytes> {
        self.identity.clone()
    }

    /// Writes, once for all time, who this node is: as a whole or not at all, durable when this returns.
    ///
    /// # Errors
    /// [`StorageError::IdentityExists`] if that was done before.
    ///
    /// # Panics
    /// If `identity` is longer than 1 MiB.
    pub fn write_identity(&mut self, identity: &[u8]) -> Result<(), StorageError> {
        assert!(identity.len() <= SMALL_BYTES_MAX, "an identity of {} bytes", identity.len());
        if self.identity.is_some() {
            return Err(StorageError::IdentityExists { file: self.disk.describe(IDENTITY) });
        }
        write_small(&self.disk, IDENTITY, identity)?;
        self.identity = Some(Bytes::copy_from_slice(identity));
        Ok(())
    }

    /// The disk that it is on.
    #[must_use]
    pub fn disk(&self) -> &D {
        &self.disk
    }
}
