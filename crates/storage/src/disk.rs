//! The little that storage needs of a disk: one flat folder of files.
//!
//! [`crate::FileDisk`] is a real folder, [`crate::MemoryDisk`] the simulator's. Everything above this trait is the same code.

use std::io;

/// A folder of files. A clone is another handle to the same folder.
///
/// Names are plain file names without a separator. What is not synced may be lost or torn by a crash: a file's bytes until
/// [`File::sync`], a name's creation, renaming or removal until [`Disk::sync_directory`].
pub trait Disk: Clone + std::fmt::Debug {
    /// An open file. It stays readable after its name was removed.
    type File: File;

    /// Makes a new, empty file. Fails with `AlreadyExists` if the name is taken.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file for reading and writing. Fails with `NotFound`.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// All names, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Renames atomically, replacing `to` if it exists.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes all creations, renamings and removals so far durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// Where a name is, for messages to people.
    fn describe(&self, name: &str) -> String;
}

/// One open file; offsets and lengths are bytes.
pub trait File: std::fmt::Debug {
    /// Reads at `offset`; returns how many bytes, fewer than asked only at the end of the file.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`, growing the file (with zeros between) as needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes all bytes written so far, and the length, durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Length of the file.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reserves room for the first `bytes` of the file, where the file system can; the length may grow. Reserved bytes read as zeros.
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }
}

/// Reads until `into` is full or the file ends; returns how many bytes.
pub(crate) fn read_full(file: &impl File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(offset + filled as u64, &mut into[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    assert!(filled <= into.len(), "a disk returned more than it was asked for");
    Ok(filled)
}
