//! Write-ahead log and checkpoints over a small [`Disk`] trait. The same code runs on real files ([`FileDisk`]) and on the
//! simulator's disk ([`MemoryDisk`]).
//!
//! # The way of a record
//!
//! 1. The node's thread gathers: [`Appender::push`] copies a record into the batch being gathered and gives it its LSN; no
//!    input or output. [`Appender::take`] hands the batch over.
//! 2. The log's thread writes: until [`Batch::is_written`], one [`Wal::write`] (a frame, at most 1 MiB unless one record is
//!    larger) and one [`Wal::sync`], whose result goes back to the node as "durable up to LSN". Then the batch goes back too
//!    ([`Appender::recycle`]), and a little is prepared ahead ([`Wal::prepare_ahead`]). When idle: [`Wal::note_durable`].
//! 3. [`Wal::recover`] reads everything back after a stop.
//!
//! Any error of the log is final ([`StorageError::Failed`] from then on): a failed sync is never retried.
//!
//! # A node's folder
//!
//! `lock` (held with `flock`, holds the pid), `format` (version), `identity`, `log.new` until there is a log and `log.created` since
//! (small files: magic, version, length, checksum, content), `wal-<sequence>.log`, `spare-<number>.log`, `checkpoint-<group>-<id>.snap`; numbers are 16 hex digits.
//!
//! # The log's bytes (little-endian)
//!
//! A segment is a file: a header in the first 512 bytes, then frames, each at a multiple of 512. Files are filled with zeros
//! ahead, so that a sync has no metadata to write, and are recycled under a new sequence and salt: all that an earlier use left
//! has another salt and so no valid checksum.
//!
//! | segment header | bytes | | frame header | bytes | | record header | bytes |
//! |---|---|---|---|---|---|---|---|
//! | magic `KEYPACTL` | 0..8 | | magic `kpF1` | 0..4 | | body bytes u32 | 0..4 |
//! | version u32 | 8..12 | | bytes without padding u32 | 4..8 | | payload bytes u32 | 4..8 |
//! | zero | 12..16 | | count of records u32 | 8..12 | | group u64 | 8..16 |
//! | sequence u64 | 16..24 | | zero | 12..16 | | LSN u64 | 16..24 |
//! | salt u64 | 24..32 | | first LSN u64 | 16..24 | | body checksum u64 | 24..32 |
//! | zero | 32..56 | | durable LSN u64 | 24..32 | | salted checksum of 0..32 | 32..40 |
//! | checksum of 0..56 | 56..64 | | kept from LSN u64 | 32..40 | | body: head, payload | 40.. |
//! | | | | checksum of record headers u64 | 40..48 | | | |
//! | | | | own offset u64 | 48..56 | | | |
//! | | | | salted checksum of 0..56 | 56..64 | | | |
//!
//! Checksums are XXH3, 64 bits; "salted" means seeded with the segment's salt. A body's checksum is that of its head, seeded
//! with that of its payload, so an entry's known checksum is used and not computed again. A frame is valid as a whole or not
//! at all. *Durable LSN* is what was known durable when the frame was written; *kept from* is what the log was last told to keep.
//!
//! # Torn tail or damage
//!
//! Recovery reads frames in order up to the first that is not what should be there; let `e` be the record expected there. If any
//! frame header behind that place tells of a durable LSN at or after `e`, confirmed bytes are gone: [`StorageError::Damaged`],
//! and nothing is changed. Otherwise nothing behind was ever confirmed: a torn tail, cut and erased. Also damage: a bad segment
//! header, a missing segment between others or before records that are to be kept, and a log whose files are all gone.
//!
//! What remains undecidable from the log alone: damage to the last frames that were synced, if no frame header written after
//! that sync is on disk; and the loss of the newest segments' whole files. An idle or closing log writes an empty frame, which
//! narrows the first; recovery writes one too, so it is about what was synced last before a crash. Then the log is cut there,
//! as if the frames had been torn, and the group's other copies must have them. [`WalOptions::durable_at_least`] closes both as
//! far as the caller knows better.
//!
//! # A checkpoint's bytes
//!
//! Header (64 bytes: magic `KEYPACTC`, version u32, meta bytes u32, group u64, id u64, meta checksum u64, zero, checksum of 0..56),
//! meta data, chunks one after the other, table (24 bytes a chunk: offset u64, bytes u32, zero u32, checksum u64),
//! end (64 bytes: magic `KEYPACTE`, table offset u64, chunks u64, table checksum u64, group u64, id u64, meta checksum u64,
//! checksum of 0..56). Its file gets its name only when all of it is durable.

mod batch;
mod checkpoint;
mod checkpoint_layout;
mod disk;
mod error;
mod file_disk;
mod folder;
mod layout;
mod memory_disk;
mod rate;
mod recover;
mod scan;
mod segments;
mod small;
mod wal;

pub use batch::{Appender, Batch};
pub use checkpoint::{CHUNK_BYTES_MAX, CheckpointReader, CheckpointWriter, Checkpoints, META_BYTES_MAX};
pub use disk::{Disk, File};
pub use error::{Damage, StorageError};
pub use file_disk::{FileDisk, RealFile};
pub use folder::{Folder, peek_identity};
pub use layout::{FORMAT_VERSION, RECORD_BYTES_MAX, SECTOR_BYTES, checksum};
pub use memory_disk::{MemoryDisk, MemoryDiskCounts, MemoryFile};
pub use rate::RateLimit;
pub use recover::{Record, Recovered, RecoveryReport};
pub use wal::{Wal, WalOptions};
