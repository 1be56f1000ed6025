//! Small files that are there as a whole or not at all.
//!
//! Layout: magic `KEYPACTS`, version u32, length u32, XXH3 of the bytes before and of the content u64, content.

use bytes::Bytes;

use crate::disk::{Disk, File, read_full};
use crate::error::StorageError;
use crate::layout::{FORMAT_VERSION, checksum, put_u32, put_u64, u32_at, u64_at};

const MAGIC: [u8; 8] = *b"KEYPACTS";
const HEADER_BYTES: usize = 24;
/// Largest content of a small file, bytes.
pub(crate) const SMALL_BYTES_MAX: usize = 1 << 20;

fn file_checksum(header: &[u8], content: &[u8]) -> u64 {
    checksum(&header[..16]) ^ checksum(content).rotate_left(1)
}

/// Writes under a temporary name, syncs, renames, syncs the folder.
pub(crate) fn write_small<D: Disk>(disk: &D, name: &str, content: &[u8]) -> Result<(), StorageError> {
    assert!(content.len() <= SMALL_BYTES_MAX, "a small file of {} bytes", content.len());
    let temporary = format!("{name}.tmp");
    let described = disk.describe(name);
    let error = |operation| {
        let described = described.clone();
        move |e| StorageError::io(operation, described, e)
    };
    if disk.list().map_err(error("list the folder of"))?.contains(&temporary) {
        disk.remove(&temporary).map_err(error("remove a leftover of"))?;
    }
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    put_u32(&mut bytes, 8, FORMAT_VERSION);
    put_u32(&mut bytes, 12, u32::try_from(content.len()).expect("at most 1 MiB"));
    let sum = file_checksum(&bytes, content);
    put_u64(&mut bytes, 16, sum);
    bytes.extend_from_slice(content);
    let file = disk.create(&temporary).map_err(error("create"))?;
    file.write_at(0, &bytes).map_err(error("write to"))?;
    file.sync().map_err(error("sync"))?;
    disk.rename(&temporary, name).map_err(error("rename"))?;
    disk.sync_directory().map_err(error("sync the folder of"))
}

/// The content, `None` if there is no such file.
pub(crate) fn read_small<D: Disk>(disk: &D, name: &str) -> Result<Option<Bytes>, StorageError> {
    let described = disk.describe(name);
    let error = |operation| {
        let described = described.clone();
        move |e| StorageError::io(operation, described, e)
    };
    if !disk.list().map_err(error("list the folder of"))?.iter().any(|n| n == name) {
        return Ok(None);
    }
    let file = disk.open(name).map_err(error("open"))?;
    let len = file.len().map_err(error("read the length of"))?;
    let damaged = |what: &str| Err(StorageError::damaged(described.clone(), 0, what));
    let Some(len) =
        usize::try_from(len).ok().filter(|n| (HEADER_BYTES..=HEADER_BYTES + SMALL_BYTES_MAX).contains(n))
    else {
        return damaged("its length is not what was written");
    };
    let mut bytes = vec![0; len];
    let read = read_full(&file, 0, &mut bytes).map_err(error("read"))?;
    if read != len || bytes[..8] != MAGIC || u32_at(&bytes, 12) as usize != len - HEADER_BYTES {
        return damaged("its header is not what was written");
    }
    if u64_at(&bytes, 16) != file_checksum(&bytes[..16], &bytes[HEADER_BYTES..]) {
        return damaged("its content is not what was written");
    }
    match u32_at(&bytes, 8) {
        FORMAT_VERSION => Ok(Some(Bytes::from(bytes).slice(HEADER_BYTES..))),
        found => Err(StorageError::Version { file: described, found, supported: FORMAT_VERSION }),
    }
}
