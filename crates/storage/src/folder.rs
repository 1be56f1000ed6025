//! A node's folder: its format version and its identity.

use std::path::Path;

use bytes::Bytes;

use crate::disk::Disk;
use crate::error::StorageError;
use crate::file_disk::FileDisk;
use crate::layout::FORMAT_VERSION;
use crate::recover::MARKER;
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
/// Says that no log was ever made here. A folder of which the log is gone does not have it, so it is not taken for a new one.
const NEW: &str = "log.new";

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
        // First, or a crash in between would leave an identity that may never make its log.
        write_small(&self.disk, NEW, &FORMAT_VERSION.to_le_bytes())?;
        write_small(&self.disk, IDENTITY, identity)?;
        self.identity = Some(Bytes::copy_from_slice(identity));
        Ok(())
    }

    /// Before the log is read: whether it must be there, for [`crate::WalOptions::had_log`]; else none was ever made. While a folder is being
    /// deleted its identity may outlive its log, and a node that begins with an empty one has forgotten its votes.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] if what says so is gone; nothing was changed.
    pub fn expect_log(&self) -> Result<bool, StorageError> {
        if read_small(&self.disk, NEW)?.is_some() {
            return Ok(false);
        }
        if read_small(&self.disk, MARKER)?.is_some() {
            return Ok(true);
        }
        let what = "it is missing, and with it perhaps the whole log: this folder was deleted in part";
        Err(StorageError::damaged(self.disk.describe(MARKER), 0, what))
    }

    /// After the log was read or made, and before anything is said that rests on it. From now on the folder is never without one.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] if identity or log have gone meanwhile.
    pub fn log_was_made(&self) -> Result<(), StorageError> {
        for name in [IDENTITY, MARKER] {
            if read_small(&self.disk, name)?.is_none() {
                let what = "it has just gone: somebody deletes this folder";
                return Err(StorageError::damaged(self.disk.describe(name), 0, what));
            }
        }
        if read_small(&self.disk, NEW)?.is_some() {
            let error = |operation| {
                let name = self.disk.describe(NEW);
                move |e| StorageError::io(operation, name, e)
            };
            self.disk.remove(NEW).map_err(error("remove"))?;
            self.disk.sync_directory().map_err(error("sync the folder of"))?;
        }
        Ok(())
    }

    /// The disk that it is on.
    #[must_use]
    pub fn disk(&self) -> &D {
        &self.disk
    }
}
