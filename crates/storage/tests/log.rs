//! The log against a model, on a disk in memory: every way in which the last batch can be torn, and random lives.

mod machine;

use keypact_protocol::{GroupId, Lsn};
use keypact_storage::{Disk, MemoryDisk, StorageError, Wal, WalOptions};
use machine::{Machine, Random, random_lives, recover, rot_is_noticed, small_options};

/// Three batches, each committed; the last has a record that spans sectors.
fn three_batches() -> Machine {
    let mut machine = Machine::new(small_options());
    let mut random = Random(1);
    for sizes in [&[10, 200][..], &[0, 1, 600][..], &[5, 700, 3][..]] {
        for bytes in sizes {
            machine.append_random(&mut random, *bytes);
        }
        machine.commit().expect("a sound disk");
    }
    machine
}

fn recovered_last(disk: &MemoryDisk, machine: &Machine) -> Result<Lsn, StorageError> {
    let (recovered, records) = recover(disk, machine.options)?;
    for (index, record) in records.iter().enumerate() {
        let (group, body) = &machine.appended[&(index as u64 + 1)];
        assert_eq!((record.lsn.0, record.group, &record.body[..]), (index as u64 + 1, *group, &body[..]));
    }
    assert_eq!(records.len() as u64, recovered.report.last.0);
    Ok(recovered.report.last)
}

const FIRST: &str = "wal-0000000000000001.log";

#[test]
fn what_is_committed_comes_back() {
    let mut machine = Machine::new(small_options());
    let mut random = Random(2);
    for _ in 0..40 {
        for _ in 0..random.below(6) {
            let bytes = random.below(300);
            machine.append_random(&mut random, bytes);
        }
        machine.commit().expect("a sound disk");
    }
    assert!(machine.wal().segment_count() > 3, "the test is to span segments");
    assert_eq!(machine.durable, Lsn(machine.appender.next_lsn().0 - 1));
    machine.disk.kill();
    machine.restart().expect("a sound log");
    machine.disk.kill();
    machine.restart().expect("a sound log, again");
}

#[test]
fn a_large_record_gets_a_segment_that_grows() {
    let mut machine = Machine::new(small_options());
    let mut random = Random(3);
    for bytes in [100, 50_000, 100, 9_000, 4_000, 1] {
        machine.append_random(&mut random, bytes);
    }
    machine.commit().expect("a sound disk");
    machine.crash(&mut random);
    machine.restart().expect("a sound log");
    assert_eq!(machine.durable, Lsn(6));
}

#[test]
fn a_batch_over_the_limit_is_several_frames() {
    let mut machine = Machine::new(small_options());
    for _ in 0..8 {
        machine.append(1, &[9; 400]);
    }
    let mut batch = machine.appender.take();
    let mut frames = 0;
    while !batch.is_written() {
        machine.wal().write(&mut batch).expect("a sound disk");
        let durable = machine.wal().sync().expect("a sound disk");
        assert_eq!(durable, machine.wal().written());
        frames += 1;
    }
    assert_eq!(frames, 4, "two records of 440 bytes fit a frame of 1,024");
    assert_eq!(batch.last_lsn(), Some(Lsn(8)));
}

#[test]
fn any_flipped_byte_is_damage_or_changes_nothing_or_is_a_torn_end() {
    let mut machine = three_batches();
    let (name, provable) = machine.wal().provable_end();
    assert_eq!(name, FIRST);
    let bytes = machine.disk.content(FIRST).expect("the segment");
    let (mut damaged, mut unchanged, mut cut) = (0, 0, 0);
    for offset in 0..bytes.len() as u64 {
        let mut disk = machine.disk.fork();
        disk.kill();
        assert!(disk.rot(FIRST, offset, 1 << (offset % 8)));
        match recovered_last(&disk, &machine) {
            Ok(Lsn(8)) => unchanged += 1,
            Ok(Lsn(5)) => {
                assert!(offset >= provable, "a confirmed frame at {offset} was cut silently");
                cut += 1;
            }
            Ok(last) => panic!("flipping {offset} leaves records up to {last}"),
            Err(StorageError::Damaged(damage)) => {
                assert_eq!(damage.file, FIRST);
                assert!(damage.offset <= offset, "{damage}");
                assert!(offset < provable, "nothing can tell that {offset} was durable");
                damaged += 1;
            }
            Err(other) => panic!("flipping {offset}: {other}"),
        }
    }
    assert!(damaged > 500 && unchanged > 1000 && cut > 700, "{damaged} {unchanged} {cut}");
}

#[test]
fn an_idle_log_makes_damage_of_its_last_frame_known() {
    let mut machine = three_batches();
    assert!(machine.wal().note_durable().expect("a sound disk"));
    assert!(!machine.wal().note_durable().expect("a sound disk"), "once is enough");
    machine.sync().expect("a sound disk");
    let (_, provable) = machine.wal().provable_end();
    for offset in (512..provable).step_by(7) {
        let mut disk = machine.disk.fork();
        disk.kill();
        assert!(disk.rot(FIRST, offset, 0x10));
        match recovered_last(&disk, &machine) {
            Ok(last) => assert_eq!(last, Lsn(8), "flipping {offset}"),
            Err(error) => assert!(error.is_damage(), "{error}"),
        }
    }
}

#[test]
fn a_log_cut_at_any_byte_is_a_prefix() {
    let machine = three_batches();
    let bytes = machine.disk.content(FIRST).expect("the segment");
    for end in 512..bytes.len() {
        for zeroed in [false, true] {
            let mut disk = machine.disk.fork();
            disk.kill();
            let mut cut = bytes[..end].to_vec();
            cut.resize(if zeroed { bytes.len() } else { end }, 0);
            disk.set_content(FIRST, &cut);
            let last = recovered_last(&disk, &machine).expect("a prefix is never damage");
            assert!([Lsn(0), Lsn(2), Lsn(5), Lsn(8)].contains(&last), "{last} at {end}");
            disk.kill();
            assert_eq!(recovered_last(&disk, &machine).expect("still a prefix"), last);
        }
    }
}

/// Writes two frames after a committed one without a sync, loses each subset of their sectors, recovers, appends others of
/// the same sizes, and recovers again: nothing stale ever follows something new.
#[test]
fn every_subset_of_unsynced_sectors() {
    let mut base = Machine::new(small_options());
    base.append(1, &[1; 100]);
    base.commit().expect("a sound disk");
    // So that recovery has nothing to add, and what is appended next lies where the lost frames were.
    assert!(base.wal().note_durable().expect("a sound disk"));
    base.sync().expect("a sound disk");
    for body in [[2; 900], [3; 900]] {
        base.append(2, &body);
        base.write().expect("a sound disk");
    }
    let mut outcomes = std::collections::BTreeMap::new();
    for mask in 0..1_u64 << 4 {
        for second in 0..1_u64 << 3 {
            let mut disk = base.disk.fork();
            let mut asked = 0;
            disk.crash(|n| choose(n, mask, &mut asked));
            let (recovered, records) = recover(&disk, base.options).expect("nothing confirmed is lost");
            let expected = match mask {
                0b1111 => 3,
                m if m & 0b11 == 0b11 => 2,
                _ => 1,
            };
            assert_eq!(records.len(), expected, "mask {mask:b}");
            *outcomes.entry(expected).or_insert(0) += 1;
            let (mut wal, mut appender) = (recovered.wal, recovered.appender);
            for _ in 0..2 {
                appender.push(GroupId(3), &[&[4; 900]]);
                let mut batch = appender.take();
                wal.write(&mut batch).expect("a sound disk");
            }
            let mut asked = 0;
            disk.crash(|n| choose(n, second, &mut asked));
            let (_, again) = recover(&disk, base.options).expect("nothing confirmed is lost");
            assert_eq!(again[..expected], records[..], "mask {mask:b} {second:b}");
            assert!(again[expected..].iter().all(|r| r.group == GroupId(3)), "mask {mask:b} {second:b}");
        }
    }
    assert_eq!(outcomes.len(), 3);
}

/// Keeps the n-th unsynced sector if bit n of the mask is set.
fn choose(n: u64, mask: u64, asked: &mut u32) -> u64 {
    if n == 4 {
        return 2;
    }
    *asked += 1;
    (mask >> (*asked - 1)) & 1
}

/// A frame's header that reaches the disk without its records must not take up the records that an older frame, which was cut,
/// left in the same place: those have the same numbers and the same salt.
#[test]
fn a_new_header_never_takes_stale_records() {
    // Frame header, record header and 408 bytes are a sector, so the second record lies in a sector of its own.
    let [old, new] = [[2, 3], [4, 5]].map(|bodies: [u8; 2]| {
        let mut machine = Machine::new(small_options());
        for byte in bodies {
            machine.append(1, &[byte; 408]);
        }
        machine.write().expect("a sound disk");
        (machine.disk.content(FIRST).expect("the segment"), machine)
    });
    let (mut bytes, mut machine) = new;
    machine.disk.kill();
    machine.disk.set_content(FIRST, &bytes);
    assert_eq!(recovered_last(&machine.disk.fork(), &machine).expect("sound"), Lsn(2));
    bytes[1024..1536].copy_from_slice(&old.0[1024..1536]);
    machine.disk.set_content(FIRST, &bytes);
    assert_eq!(recovered_last(&machine.disk, &machine).expect("a torn tail"), Lsn(0));
}

#[test]
fn after_recovery_all_of_it_is_known_to_have_been_durable() {
    let mut machine = three_batches();
    machine.crash(&mut Random(1));
    machine.restart().expect("a sound log");
    let (_, provable) = machine.wal().provable_end();
    let mut damaged = 0;
    for offset in 512..provable {
        let mut disk = machine.disk.fork();
        disk.kill();
        assert!(disk.rot(FIRST, offset, 2));
        match recovered_last(&disk, &machine) {
            Ok(last) => assert_eq!(last, Lsn(8), "flipping {offset}"),
            Err(error) => {
                assert!(error.is_damage(), "{error}");
                damaged += 1;
            }
        }
    }
    assert!(damaged > 1500, "the last batch is covered too: {damaged}");
}

/// The second segment's first frame is torn, the one behind it is not, and a third segment is ready: all of it is cut, and a
/// stop at any step of that leaves a log that can be read.
#[test]
fn a_torn_beginning_of_a_segment_is_cut_in_order() {
    let mut base = Machine::new(small_options());
    for _ in 0..3 {
        base.append(1, &[1; 800]);
        base.commit().expect("a sound disk");
    }
    for body in [[2; 800], [3; 800]] {
        base.append(1, &body);
        base.write().expect("a sound disk");
    }
    assert_eq!(base.wal().segment_count(), 2);
    while !base.wal().prepare_ahead(4096).expect("a sound disk") {}
    let mut asked = 0;
    base.disk.crash(|n| choose(n, 0b1110, &mut asked));
    for steps in 0..12 {
        for seed in 0..32 {
            let mut random = Random(seed);
            let mut disk = base.disk.fork();
            disk.stop_after(steps);
            drop(recover(&disk, base.options));
            disk.crash(|n| random.below(n));
            let (recovered, records) = recover(&disk, base.options).expect("nothing confirmed is lost");
            assert_eq!((records.len(), recovered.report.last), (3, Lsn(3)), "{steps} steps, seed {seed}");
        }
    }
}

#[test]
fn a_missing_file_is_damage() {
    let mut machine = Machine::new(small_options());
    for _ in 0..20 {
        machine.append(1, &[5; 700]);
        machine.commit().expect("a sound disk");
    }
    let names: Vec<String> =
        machine.disk.list().expect("a list").into_iter().filter(|n| n.starts_with("wal-")).collect();
    assert!(names.len() > 4);
    for missing in &names[..names.len() - 1] {
        let mut disk = machine.disk.fork();
        disk.kill();
        disk.remove(missing).expect("it is there");
        let error = recover(&disk, machine.options).map(|_| ()).expect_err("a file is missing");
        assert!(error.is_damage() && error.to_string().contains("missing"), "{missing}: {error}");
    }
    let mut disk = machine.disk.fork();
    disk.kill();
    names.iter().for_each(|name| disk.remove(name).expect("it is there"));
    assert!(recover(&disk, machine.options).map(|_| ()).expect_err("all are missing").is_damage());
    let mut disk = machine.disk.fork();
    disk.kill();
    disk.rename(&names[0], &names[1]).expect("it is there");
    disk.set_content(&names[0], &machine.disk.content(&names[1]).expect("it is there"));
    assert!(recover(&disk, machine.options).map(|_| ()).expect_err("two are swapped").is_damage());
}

#[test]
fn damage_in_any_segment_is_reported() {
    let mut machine = Machine::new(small_options());
    let mut random = Random(4);
    for _ in 0..12 {
        machine.append_random(&mut random, 700);
        machine.commit().expect("a sound disk");
    }
    let (last_name, provable) = machine.wal().provable_end();
    let mut reported = 0;
    for name in machine.disk.list().expect("a list").iter().filter(|n| n.starts_with("wal-")) {
        let bytes = machine.disk.content(name).expect("it is there");
        let end = match name.cmp(&last_name) {
            std::cmp::Ordering::Less => bytes.len() as u64,
            std::cmp::Ordering::Equal => provable,
            std::cmp::Ordering::Greater => 0,
        };
        for offset in (0..end).step_by(5) {
            let mut disk = machine.disk.fork();
            disk.kill();
            assert!(disk.rot(name, offset, 0x80));
            match recovered_last(&disk, &machine) {
                Ok(last) => assert_eq!(last, Lsn(12), "{name} {offset}"),
                Err(error) => {
                    assert!(error.is_damage(), "{error}");
                    assert_eq!(disk.counts().writes, machine.disk.counts().writes, "nothing is changed");
                    reported += 1;
                }
            }
        }
    }
    assert!(reported > 1000, "{reported}");
}

#[test]
fn another_version_is_refused() {
    let machine = three_batches();
    let mut bytes = machine.disk.content(FIRST).expect("the segment");
    bytes[8] = 9;
    let sum = keypact_storage::checksum(&bytes[..56]);
    bytes[56..64].copy_from_slice(&sum.to_le_bytes());
    let mut disk = machine.disk.fork();
    disk.kill();
    disk.set_content(FIRST, &bytes);
    let error = recover(&disk, machine.options).map(|_| ()).expect_err("another version");
    assert!(matches!(error, StorageError::Version { found: 9, supported: 1, .. }), "{error}");
}

#[test]
fn what_the_caller_knows_durable_must_be_there() {
    let machine = three_batches();
    for (known, fine) in [(8, true), (9, false)] {
        let mut disk = machine.disk.fork();
        disk.kill();
        let options = WalOptions { durable_at_least: Lsn(known), ..machine.options };
        assert_eq!(recover(&disk, options).is_ok(), fine, "{known}");
    }
    let options = WalOptions { durable_at_least: Lsn(1), ..machine.options };
    assert!(recover(&MemoryDisk::new(), options).map(|_| ()).expect_err("no log at all").is_damage());
}

#[test]
fn an_error_is_final_and_a_sync_is_never_retried() {
    let mut machine = three_batches();
    machine.append(1, b"lost");
    machine.write().expect("a sound disk");
    machine.disk.fail_syncs(1);
    assert!(matches!(machine.sync(), Err(StorageError::Io { operation: "sync", .. })));
    let syncs = machine.disk.counts().syncs;
    assert!(matches!(machine.sync(), Err(StorageError::Failed)));
    machine.append(1, b"more");
    assert!(matches!(machine.write(), Err(StorageError::Failed)));
    assert!(matches!(machine.wal().note_durable(), Err(StorageError::Failed)));
    assert!(matches!(machine.wal().prepare_ahead(100), Err(StorageError::Failed)));
    assert_eq!(machine.disk.counts().syncs, syncs, "nothing was tried");
}

/// After a failed sync the system shows bytes that the disk does not have, and a later sync does not write them.
#[test]
fn what_recovery_reports_is_really_on_disk() {
    for seed in 0..50 {
        let mut machine = three_batches();
        machine.append(1, &[6; 900]);
        machine.write().expect("a sound disk");
        machine.disk.fail_syncs(1);
        assert!(machine.sync().is_err());
        machine.wal = None;
        machine.disk.kill();
        machine.restart().expect("the bytes can be read");
        assert_eq!(machine.durable, Lsn(9));
        machine.crash(&mut Random(seed));
        machine.restart().expect("and are on disk");
        assert_eq!(machine.durable, Lsn(9));
    }
}

#[test]
fn a_full_disk_stops_the_log_and_loses_nothing_confirmed() {
    let mut machine = Machine::new(small_options());
    machine.disk.limit(Some(10_000));
    let mut random = Random(5);
    let error = loop {
        machine.append_random(&mut random, 600);
        if let Err(error) = machine.commit() {
            break error;
        }
    };
    assert!(matches!(error, StorageError::NoSpace { .. }), "{error}");
    assert!(machine.durable > Lsn(5));
    machine.crash(&mut random);
    machine.disk.limit(None);
    machine.restart().expect("what was confirmed is there");
}

#[test]
fn dropped_segments_are_recycled_and_never_come_back() {
    let mut machine = Machine::new(small_options());
    let mut random = Random(6);
    let mut most = 0;
    for round in 0..300 {
        let bytes = random.below(900);
        let lsn = machine.append_random(&mut random, bytes);
        machine.commit().expect("a sound disk");
        machine.drop_before(Lsn(lsn.0.saturating_sub(4)));
        while !machine.wal().prepare_ahead(1 << 20).expect("a sound disk") {}
        most = most.max(machine.disk.list().expect("a list").len());
        if round % 3 == 0 {
            machine.crash(&mut random);
            machine.restart().unwrap_or_else(|e| panic!("round {round}: {e}"));
        }
    }
    assert!(most <= 6, "{most} files");
    machine.wal.take().expect("it runs").close().expect("a sound disk");
    machine.disk.kill();
    machine.restart().expect("a sound log");
}

/// A write that lands in the wrong place destroys what was there, but what is read is right, or refused.
#[test]
fn a_misdirected_write_is_never_read_as_data() {
    let (mut refused, mut cut) = (0, 0);
    for target in (0..4096).step_by(64) {
        let mut machine = three_batches();
        machine.disk.misdirect_next_write(target);
        machine.append(1, &[7; 300]);
        machine.commit().expect("the disk says so");
        machine.append(1, &[8; 10]);
        machine.commit().expect("a sound disk");
        machine.disk.kill();
        match recovered_last(&machine.disk.clone(), &machine) {
            Err(error) => {
                assert!(error.is_damage(), "{error}");
                refused += 1;
            }
            Ok(last) => {
                assert_eq!(last, Lsn(10), "confirmed records were cut");
                cut += 1;
            }
        }
    }
    assert!(refused > 60 && cut <= 1, "{refused} {cut}");
}

#[test]
fn random_lives_lose_nothing_confirmed() {
    for seed in 0..600 {
        random_lives(seed, 12).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn rot_of_what_was_confirmed_is_always_noticed() {
    let results = (0..600).map(|seed| rot_is_noticed(seed).unwrap_or_else(|e| panic!("seed {seed}: {e}")));
    let noticed = results.filter(|noticed| *noticed).count();
    assert!(noticed > 150, "{noticed}");
}

/// The same seed does the same to the disk, byte for byte.
#[test]
fn random_lives_repeat() {
    let run = |seed| {
        let mut random = Random(seed);
        let mut machine = Machine::new(small_options());
        for _ in 0..5 {
            for _ in 0..20 {
                let bytes = random.below(500);
                machine.append_random(&mut random, bytes);
                machine.write().expect("a sound disk");
            }
            machine.crash(&mut random);
            machine.restart().expect("a sound log");
        }
        let names = machine.disk.list().expect("a list");
        names.into_iter().map(|n| (machine.disk.content(&n), n)).collect::<Vec<_>>()
    };
    assert_eq!(run(9), run(9));
    assert_ne!(run(9), run(10));
}

#[test]
fn a_batch_out_of_order_is_a_bug() {
    let mut machine = three_batches();
    machine.append(1, b"one");
    let _lost = machine.appender.take();
    machine.append(1, b"two");
    let mut batch = machine.appender.take();
    let mut wal: Wal<MemoryDisk> = machine.wal.take().expect("it runs");
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wal.write(&mut batch).map(|_| ())));
    assert!(result.is_err());
}
