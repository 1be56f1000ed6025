//! What can go wrong, in words for whoever runs the node.

use core::fmt;
use std::io;

use keypact_protocol::{GroupId, Lsn};

/// What writing to disk, or opening a folder, can fail with. Unless said otherwise, nothing is known about what reached the disk.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// An operation failed. The writer that returned it is dead from then on.
    #[error(
        "cannot {operation} {file}: {source}; this node stops writing, and what was not confirmed may be lost: check the disk, then restart"
    )]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// No space is left. The writer that returned it is dead from then on.
    #[error(
        "no space left to {operation} {file}: this node stops writing: free space on that disk, then restart"
    )]
    NoSpace {
        /// What was tried.
        operation: &'static str,
        /// The file.
        file: String,
    },
    /// An earlier write or sync failed; this one was not tried. A failed sync is never retried, because the
    /// operating system may have dropped the pages that it could not write.
    #[error("an earlier write to this disk failed, so nothing more is written: restart the node")]
    Failed,
    /// Bytes on disk are not what was written. Nothing was changed.
    #[error("{0}")]
    Damaged(Box<Damage>),
    /// The folder or file was written by another version. Nothing was changed.
    #[error(
        "{file} has format version {found}, this program reads version {supported}: run the version that wrote it"
    )]
    Version {
        /// The file.
        file: String,
        /// The version found.
        found: u32,
        /// The version this program can read.
        supported: u32,
    },
    /// Another process has the folder. Nothing was changed.
    #[error("another process{} uses the folder {folder}: stop it first, or use another folder", Pid(*.pid))]
    Locked {
        /// The folder.
        folder: String,
        /// Who has it, if it could be read.
        pid: Option<u32>,
    },
    /// The folder already has an identity; it is written only once. Nothing was changed.
    #[error("{file} exists already: a folder's identity is written once and never changed")]
    IdentityExists {
        /// The file.
        file: String,
    },
    /// The checkpoint that was asked for is not there (any more). Nothing was changed.
    #[error("group {group} has no checkpoint {id} (any more): ask for the newest one")]
    NoCheckpoint {
        /// Whose.
        group: GroupId,
        /// Which; 0 if any would have done.
        id: u64,
    },
    /// A checkpoint has no such chunk, or a chunk or meta data is larger than allowed. Nothing was changed.
    #[error("checkpoint of group {group}: {what}")]
    BadChunk {
        /// Whose.
        group: GroupId,
        /// What is wrong with the request.
        what: String,
    },
}

impl StorageError {
    pub(crate) fn io(operation: &'static str, file: impl Into<String>, source: io::Error) -> Self {
        let file = file.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { operation, file },
            _ => Self::Io { operation, file, source },
        }
    }

    pub(crate) fn damaged(file: impl Into<String>, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged(Box::new(Damage { file: file.into(), offset, lost: None, what: what.into() }))
    }

    /// Whether this is [`StorageError::Damaged`].
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_))
    }
}

/// Where bytes on disk are not what was written, and what that costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file, as a person would name it.
    pub file: String,
    /// Where in the file, bytes from its start.
    pub offset: u64,
    /// First and last record of the log that are known to have been durable and can't be read, if known.
    pub lost: Option<(Lsn, Lsn)>,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at byte {}: {}", self.file, self.offset, self.what)?;
        if let Some((first, last)) = self.lost {
            write!(f, "; records {first} to {last} were confirmed and can't be read")?;
        }
        write!(
            f,
            "; nothing was changed, and this node does not start on it: keep a copy of the folder, check the disk, then let this node join again with an empty folder: an older copy has forgotten what was confirmed"
        )
    }
}

struct Pid(Option<u32>);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, " (pid {pid})"),
            None => Ok(()),
        }
    }
}
