//! Checkpoints, small files and the rate limit, on a disk in memory: a stop at any step leaves the old or the new.

mod machine;

use bytes::Bytes;
use keypact_protocol::GroupId;
use keypact_storage::{
    CHUNK_BYTES_MAX, Checkpoints, Disk, Folder, META_BYTES_MAX, MemoryDisk, RateLimit, StorageError, Wal,
    WalOptions,
};
use machine::{Random, small_options};

const GROUP: GroupId = GroupId(3);

fn write(
    checkpoints: &mut Checkpoints<MemoryDisk>,
    meta: &[u8],
    chunks: &[&[u8]],
) -> Result<u64, StorageError> {
    let mut writer = checkpoints.begin(GROUP, meta)?;
    chunks.iter().try_for_each(|chunk| writer.chunk(chunk))?;
    checkpoints.finish(writer)
}

/// Meta data and all chunks of the newest one.
fn read(checkpoints: &Checkpoints<MemoryDisk>) -> Result<Option<(Bytes, Vec<Bytes>)>, StorageError> {
    let Some(reader) = checkpoints.newest(GROUP) else { return Ok(None) };
    let chunks: Result<Vec<Bytes>, _> = reader.chunks().collect();
    Ok(Some((reader.meta(), chunks?)))
}

fn files(disk: &MemoryDisk) -> Vec<String> {
    disk.list().expect("a list")
}

#[test]
fn what_is_finished_can_be_read_in_chunks() {
    let mut disk = MemoryDisk::new();
    let mut checkpoints = Checkpoints::open(disk.clone()).expect("an empty folder");
    assert!(checkpoints.newest(GROUP).is_none() && checkpoints.read_meta(GROUP).is_none());
    let big = vec![7; CHUNK_BYTES_MAX];
    let id = write(&mut checkpoints, b"term 4", &[b"one", b"", &big]).expect("a sound disk");
    assert_eq!(files(&disk), [format!("checkpoint-{:016x}-{id:016x}.snap", GROUP.0)]);
    disk.crash(|_| 1);
    let checkpoints = Checkpoints::open(disk.clone()).expect("it is durable");
    assert_eq!(checkpoints.groups().collect::<Vec<_>>(), [GROUP]);
    let reader = checkpoints.newest(GROUP).expect("it is there");
    assert_eq!((reader.id(), reader.group(), reader.chunk_count()), (id, GROUP, 3));
    assert_eq!(reader.len_bytes(), 3 + CHUNK_BYTES_MAX as u64);
    assert_eq!(checkpoints.read_meta(GROUP).expect("it is there"), "term 4");
    assert_eq!(checkpoints.read_chunk(GROUP, id, 0).expect("it is there"), "one");
    assert_eq!(checkpoints.read_chunk(GROUP, id, 1).expect("it is there"), "");
    assert_eq!(checkpoints.read_chunk(GROUP, id, 2).expect("it is there"), big);
    assert!(matches!(checkpoints.read_chunk(GROUP, id, 3), Err(StorageError::BadChunk { .. })));
    assert!(matches!(checkpoints.read_chunk(GROUP, id + 1, 0), Err(StorageError::NoCheckpoint { .. })));
    assert!(matches!(checkpoints.read_chunk(GroupId(9), id, 0), Err(StorageError::NoCheckpoint { .. })));
}

#[test]
fn a_reader_keeps_what_it_reads() {
    let disk = MemoryDisk::new();
    let mut checkpoints = Checkpoints::open(disk.clone()).expect("an empty folder");
    let old = write(&mut checkpoints, b"old", &[b"a", b"b"]).expect("a sound disk");
    let reader = checkpoints.newest(GROUP).expect("it is there");
    let new = write(&mut checkpoints, b"new", &[b"c"]).expect("a sound disk");
    assert!(new > old);
    assert_eq!(files(&disk).len(), 1, "the old one has no name any more");
    assert_eq!(reader.chunk(1).expect("still open"), "b");
    assert_eq!(checkpoints.read_chunk(GROUP, old, 0).expect("somebody holds it"), "a");
    drop(reader);
    assert!(matches!(checkpoints.read_chunk(GROUP, old, 0), Err(StorageError::NoCheckpoint { .. })));
    assert_eq!(checkpoints.read_chunk(GROUP, new, 0).expect("the newest"), "c");
    checkpoints.forget(GROUP).expect("a sound disk");
    assert!(files(&disk).is_empty() && checkpoints.newest(GROUP).is_none());
}

#[test]
fn one_that_was_overtaken_is_dropped() {
    let disk = MemoryDisk::new();
    let mut checkpoints = Checkpoints::open(disk.clone()).expect("an empty folder");
    let slow = checkpoints.begin(GROUP, b"slow").expect("a sound disk");
    let fast = write(&mut checkpoints, b"fast", &[]).expect("a sound disk");
    assert_eq!(checkpoints.finish(slow).expect("a sound disk"), fast);
    assert_eq!(checkpoints.read_meta(GROUP).expect("it is there"), "fast");
    assert_eq!(files(&disk).len(), 1);
    drop(checkpoints.begin(GROUP, b"given up").expect("a sound disk"));
    assert_eq!(files(&disk).len(), 1);
}

#[test]
fn limits_and_order_are_kept() {
    let mut checkpoints = Checkpoints::open(MemoryDisk::new()).expect("an empty folder");
    let meta = vec![0; META_BYTES_MAX + 1];
    assert!(matches!(checkpoints.begin(GROUP, &meta), Err(StorageError::BadChunk { .. })));
    let mut writer = checkpoints.begin_incoming(GROUP, b"").expect("a sound disk");
    assert!(matches!(writer.chunk(&vec![0; CHUNK_BYTES_MAX + 1]), Err(StorageError::BadChunk { .. })));
    assert!(matches!(writer.chunk_at(1, b"x"), Err(StorageError::BadChunk { .. })));
    writer.chunk_at(0, b"x").expect("the next one");
    assert!(matches!(writer.chunk_at(0, b"x"), Err(StorageError::BadChunk { .. })));
    writer.chunk_at(1, b"y").expect("the next one");
    checkpoints.finish(writer).expect("a sound disk");
    assert_eq!(read(&checkpoints).expect("sound").expect("there").1, ["x", "y"]);
}

#[test]
fn a_stop_at_any_step_leaves_the_old_or_the_new() {
    let mut seen = [0; 3];
    for steps in 0.. {
        let mut finished = false;
        for seed in 0..40 {
            let mut random = Random(seed);
            let mut disk = MemoryDisk::new();
            let mut checkpoints = Checkpoints::open(disk.clone()).expect("an empty folder");
            write(&mut checkpoints, b"old", &[b"1", &[1; 900]]).expect("a sound disk");
            disk.stop_after(steps);
            finished = write(&mut checkpoints, b"new", &[b"2", &[2; 900]]).is_ok();
            drop(checkpoints);
            if seed % 4 == 0 {
                disk.kill()
            } else {
                disk.crash(|n| random.below(n))
            }
            for _ in 0..random.below(3) {
                disk.stop_after(random.below(4));
                drop(Checkpoints::open(disk.clone()));
                disk.crash(|n| random.below(n));
            }
            let checkpoints = Checkpoints::open(disk.clone()).expect("never damaged by a stop");
            let (meta, chunks) = read(&checkpoints).expect("sound").expect("one of them");
            match &meta[..] {
                b"old" => assert_eq!(chunks, [&b"1"[..], &[1; 900]]),
                b"new" => assert_eq!(chunks, [&b"2"[..], &[2; 900]]),
                other => panic!("{other:?}"),
            }
            assert!(!finished || meta == "new", "a finished one is lost after {steps} steps");
            seen[if finished { 2 } else { usize::from(meta == "new") }] += 1;
            assert_eq!(files(&disk).len(), 1, "leftovers are removed");
        }
        if finished {
            break;
        }
    }
    assert!(seen.iter().all(|n| *n > 10), "{seen:?}");
}

#[test]
fn any_flipped_or_missing_byte_is_reported() {
    let mut disk = MemoryDisk::new();
    let mut checkpoints = Checkpoints::open(disk.clone()).expect("an empty folder");
    write(&mut checkpoints, b"meta data", &[b"first", &[5; 700], b""]).expect("a sound disk");
    disk.kill();
    let name = files(&disk)[0].clone();
    let content = disk.content(&name).expect("it is there");
    let outcome = |disk: &MemoryDisk| Checkpoints::open(disk.clone()).and_then(|c| read(&c));
    let sound = outcome(&disk).expect("sound");
    for offset in 0..content.len() {
        let mut flipped = disk.fork();
        assert!(flipped.rot(&name, offset as u64, 0x20));
        match outcome(&flipped) {
            Err(StorageError::Damaged(damage)) => {
                assert!(damage.file == name && damage.offset <= offset as u64, "{damage}");
            }
            other => panic!("flipping {offset}: {other:?}"),
        }
        let mut short = disk.fork();
        short.set_content(&name, &content[..offset]);
        assert!(outcome(&short).is_err_and(|e| e.is_damage()), "cut at {offset}");
    }
    let mut renamed = disk.fork();
    renamed.set_content(&format!("checkpoint-{:016x}-{:016x}.snap", 4, 1), &content);
    assert!(outcome(&renamed).is_err_and(|e| e.is_damage()), "another group's");
    disk.kill();
    assert_eq!(outcome(&disk).expect("sound"), sound);
}

#[test]
fn a_failed_sync_leaves_the_old_one() {
    let mut disk = MemoryDisk::new();
    let mut checkpoints = Checkpoints::open(disk.clone()).expect("an empty folder");
    write(&mut checkpoints, b"old", &[b"1"]).expect("a sound disk");
    let mut writer = checkpoints.begin(GROUP, b"new").expect("a sound disk");
    disk.fail_writes(1);
    assert!(matches!(writer.chunk(b"2"), Err(StorageError::Io { .. })));
    assert!(matches!(writer.chunk(b"2"), Err(StorageError::Failed)));
    assert!(matches!(checkpoints.finish(writer), Err(StorageError::Failed)));
    disk.fail_syncs(1);
    assert!(matches!(write(&mut checkpoints, b"new", &[b"2"]), Err(StorageError::Io { .. })));
    disk.limit(Some(400));
    let full = write(&mut checkpoints, b"new", &[&[2; 900]]);
    assert!(matches!(full, Err(StorageError::NoSpace { .. })), "{full:?}");
    assert_eq!(checkpoints.read_meta(GROUP).expect("it is there"), "old");
    assert_eq!(files(&disk).len(), 1);
}

#[test]
fn an_identity_is_written_once_and_survives() {
    for steps in 0..40 {
        for seed in 0..10 {
            let mut random = Random(seed);
            let mut disk = MemoryDisk::new();
            disk.stop_after(steps);
            let told =
                Folder::open(disk.clone()).and_then(|mut folder| folder.write_identity(b"node 1")).is_ok();
            disk.crash(|n| random.below(n));
            let mut folder = Folder::open(disk.clone()).expect("never damaged by a stop");
            match folder.identity() {
                Some(identity) => assert_eq!(identity, "node 1"),
                None => assert!(!told, "a confirmed identity is lost"),
            }
            if told {
                let again = folder.write_identity(b"node 2");
                assert!(matches!(again, Err(StorageError::IdentityExists { .. })), "{again:?}");
            }
        }
    }
}

/// A node's start, as far as its log; returns whether it was made.
fn begin(disk: &MemoryDisk) -> Result<bool, StorageError> {
    let folder = Folder::open(disk.clone())?;
    assert!(folder.identity().is_some(), "nobody starts without");
    let had_log = folder.expect_log()?;
    let recovered = Wal::recover(disk.clone(), WalOptions { had_log, ..small_options() }, |_| {})?;
    folder.log_was_made()?;
    Ok(recovered.report.created)
}

/// Guards against a node that forgets its votes: a first start goes on wherever it was stopped, and is never repeated.
#[test]
fn a_folder_gets_its_log_once() {
    let mut stopped = 0;
    for steps in 0..80 {
        for seed in 0..10 {
            let mut random = Random(seed);
            let mut disk = MemoryDisk::new();
            disk.stop_after(steps);
            let told =
                Folder::open(disk.clone()).and_then(|mut folder| folder.write_identity(b"node 1")).is_ok();
            let begun = told && begin(&disk).is_ok();
            stopped += u64::from(told && !begun);
            disk.crash(|n| random.below(n));
            if Folder::open(disk.clone()).expect("a stop damages nothing").identity().is_none() {
                assert!(!told, "a confirmed identity is lost");
                continue;
            }
            let made_again = begin(&disk).expect("a stop damages nothing");
            assert!(!(begun && made_again), "steps {steps}, seed {seed}");
            assert!(!begin(&disk).expect("it has its log"), "steps {steps}, seed {seed}");
        }
    }
    assert!(stopped > 50, "few starts were stopped: {stopped}");
}

/// Whatever of a folder is deleted while its identity is left: no other log takes the place of the one that is gone.
#[test]
fn a_folder_that_is_deleted_in_part_gets_no_new_log() {
    let mut disk = MemoryDisk::new();
    Folder::open(disk.clone()).expect("an empty folder").write_identity(b"node 1").expect("sound");
    assert!(begin(&disk).expect("a sound disk"));
    disk.kill();
    let names: Vec<String> = disk.list().expect("sound").into_iter().filter(|n| n != "identity").collect();
    assert!(names.len() >= 3 && !names.contains(&String::from("log.new")), "{names:?}");
    let mut refused = 0;
    for subset in 1..1_u32 << names.len() {
        let mut left = disk.fork();
        left.kill();
        for (_, name) in names.iter().enumerate().filter(|(at, _)| subset >> at & 1 == 1) {
            left.remove(name).expect("it is there");
        }
        match begin(&left) {
            Ok(made) => assert!(!made, "{subset:b} of {names:?}"),
            Err(error) => {
                assert!(error.is_damage(), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "without its log it must be refused");
    // The last of the log goes after it was looked for.
    let options = WalOptions { had_log: true, ..small_options() };
    let error = Wal::recover(MemoryDisk::new(), options, |_| {}).map(|_| ()).expect_err("no log");
    assert!(error.is_damage(), "{error}");
}

#[test]
fn a_damaged_or_foreign_folder_is_refused() {
    let mut disk = MemoryDisk::new();
    Folder::open(disk.clone()).expect("an empty folder").write_identity(b"node 1").expect("a sound disk");
    disk.kill();
    for name in ["format", "identity"] {
        for offset in 0..disk.content(name).expect("it is there").len() as u64 {
            let mut rotten = disk.fork();
            assert!(rotten.rot(name, offset, 1));
            assert!(Folder::open(rotten).is_err_and(|e| e.is_damage()), "{name} {offset}");
        }
    }
    let missing = disk.fork();
    missing.remove("format").expect("it is there");
    assert!(Folder::open(missing).is_err_and(|e| e.is_damage()));
}

#[test]
fn a_rate_is_kept_over_any_time() {
    let mut limit = RateLimit::new(1_000_000, 100_000);
    assert_eq!(limit.permit(0, 50_000), 0);
    assert_eq!(limit.permit(0, 50_000), 0);
    assert_eq!(limit.permit(0, 50_000), 0, "the burst is used up now");
    assert_eq!(limit.permit(0, 50_000), 50_000_000);
    let (mut now, mut bytes) = (0, 0);
    let mut limit = RateLimit::new(10_000_000, 1 << 18);
    let mut random = Random(1);
    while now < 10_000_000_000 {
        let piece = random.below(1 << 18);
        now += limit.permit(now, piece) + random.below(1000);
        bytes += piece;
        assert!(u128::from(bytes) <= u128::from(now) / 100 + 2 * (1 << 18), "{bytes} in {now} ns");
    }
    assert!(bytes > 99_000_000, "and it is used: {bytes}");
    assert_eq!(RateLimit::new(1, 0).permit(5, u64::MAX), 0);
}
