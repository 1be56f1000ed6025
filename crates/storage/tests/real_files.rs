//! The same log and checkpoints on real files.

mod machine;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use keypact_protocol::{GroupId, Lsn};
use keypact_storage::{
    Checkpoints, Disk, FileDisk, Folder, Record, Recovered, StorageError, Wal, WalOptions,
};
use machine::{Random, small_options};

/// A folder that is removed in the end.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("keypact-storage-{}-{number}", std::process::id()));
        assert!(!path.exists(), "{} is in the way", path.display());
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(folder: &Path, options: WalOptions) -> (Recovered<FileDisk>, Vec<Record>) {
    let mut records = Vec::new();
    let disk = FileDisk::open(folder).expect("the folder");
    let recovered = Wal::recover(disk, options, |record| records.push(record)).expect("a sound log");
    (recovered, records)
}

#[test]
fn a_log_lives_through_many_restarts() {
    let folder = Temporary::new();
    let mut random = Random(1);
    let mut expected: Vec<(Lsn, Vec<u8>)> = Vec::new();
    let mut kept = Lsn(1);
    for _ in 0..20 {
        let (mut recovered, records) = open(&folder.0, small_options());
        let found: Vec<_> = records.iter().map(|r| (r.lsn, r.body.to_vec())).collect();
        assert!(found.first().is_none_or(|(first, _)| *first <= kept));
        assert!(expected.ends_with(&found) && found.len() as u64 + kept.0 > recovered.report.last.0);
        for _ in 0..15 {
            let body =
                vec![random.next().to_le_bytes()[0]; usize::try_from(random.below(1500)).expect("small")];
            let lsn = recovered.appender.push(GroupId(1), &[&body]);
            expected.push((lsn, body));
            let mut batch = recovered.appender.take();
            recovered.wal.write(&mut batch).expect("a sound disk");
            assert_eq!(recovered.wal.sync().expect("a sound disk"), lsn);
            recovered.appender.recycle(batch);
            recovered.wal.prepare_ahead(2000).expect("a sound disk");
        }
        kept = Lsn(recovered.report.last.0 + 1);
        recovered.wal.drop_before(kept);
        recovered.wal.note_durable().expect("a sound disk");
    }
    let (recovered, records) = open(&folder.0, small_options());
    assert_eq!(recovered.report.last, Lsn(300));
    assert_eq!(records.last().map(|r| r.body.to_vec()), expected.last().map(|(_, body)| body.clone()));
    assert!(recovered.wal.segment_count() < 12, "old segments are gone");
}

#[test]
fn the_first_segment_is_filled_before_anything_is_served() {
    let folder = Temporary::new();
    let options = WalOptions { segment_bytes: 1 << 20, ..WalOptions::default() };
    let (mut recovered, _) = open(&folder.0, options);
    let first = folder.0.join("wal-0000000000000001.log");
    assert_eq!(std::fs::metadata(&first).expect("it is there").len(), 1 << 20);
    while !recovered.wal.prepare_ahead(64 << 10).expect("a sound disk") {}
    let second = folder.0.join("wal-0000000000000002.log");
    assert_eq!(std::fs::metadata(second).expect("it is there").len(), 1 << 20);
}

#[test]
fn two_processes_can_not_share_a_folder() {
    let folder = Temporary::new();
    let held = FileDisk::open(&folder.0).expect("the folder");
    let error = FileDisk::open(&folder.0).map(|_| ()).expect_err("it is locked");
    assert!(matches!(error, StorageError::Locked { pid: Some(pid), .. } if pid == std::process::id()));
    let message = error.to_string();
    assert!(
        message.contains(&format!("another process (pid {}) uses the folder", std::process::id())),
        "{message}"
    );
    let clone = held.clone();
    drop(held);
    assert!(FileDisk::open(&folder.0).is_err(), "a handle still lives");
    drop(clone);
    FileDisk::open(&folder.0).expect("free again");
}

#[test]
fn damage_names_file_place_and_what_to_do() {
    let folder = Temporary::new();
    let (mut recovered, _) = open(&folder.0, small_options());
    for _ in 0..3 {
        recovered.appender.push(GroupId(1), &[&[3; 600]]);
        let mut batch = recovered.appender.take();
        recovered.wal.write(&mut batch).expect("a sound disk");
        recovered.wal.sync().expect("a sound disk");
    }
    drop(recovered);
    let path = folder.0.join("wal-0000000000000001.log");
    let mut bytes = std::fs::read(&path).expect("it is there");
    bytes[800] ^= 1;
    std::fs::write(&path, &bytes).expect("a sound disk");
    let disk = FileDisk::open(&folder.0).expect("the folder");
    let error = Wal::recover(disk, small_options(), |_| ()).map(|_| ()).expect_err("it is damaged");
    let message = error.to_string();
    for part in [path.to_str().expect("text"), "at byte 512", "l1 to l2", "join again"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

#[test]
fn checkpoints_and_identity_on_real_files() {
    let folder = Temporary::new();
    let disk = FileDisk::open(folder.0.join("a").join("b")).expect("folders are made");
    Folder::open(disk.clone()).expect("an empty folder").write_identity(b"node 7").expect("a sound disk");
    let mut checkpoints = Checkpoints::open(disk.clone()).expect("no checkpoints");
    for round in 0..3_u8 {
        let held = checkpoints.newest(GroupId(1));
        let mut writer = checkpoints.begin(GroupId(1), &[round]).expect("a sound disk");
        writer.chunk(&[round; 1000]).expect("a sound disk");
        checkpoints.finish(writer).expect("a sound disk");
        if let Some(held) = held {
            assert_eq!(held.chunk(0).expect("still open"), [round - 1; 1000][..]);
        }
    }
    std::fs::write(folder.0.join("a/b/checkpoint-1.tmp"), b"left over").expect("a sound disk");
    drop(checkpoints);
    let checkpoints = Checkpoints::open(disk.clone()).expect("sound");
    assert_eq!(checkpoints.read_meta(GroupId(1)).expect("it is there"), [2][..]);
    assert_eq!(disk.list().expect("a list").iter().filter(|n| n.starts_with("checkpoint-")).count(), 1);
    assert_eq!(Folder::open(disk).expect("sound").identity().expect("written"), "node 7");
}
