//! Any bytes at all in the files: a typed error or a right answer, never a panic, never a record that was not appended.

mod machine;

use keypact_protocol::GroupId;
use keypact_storage::{Checkpoints, Disk, Folder, MemoryDisk, SECTOR_BYTES, StorageError};
use machine::{Machine, recover, small_options};
use proptest::prelude::*;

/// What happens to a file, in order.
#[derive(Clone, Debug)]
enum Edit {
    Splice {
        at: usize,
        bytes: Vec<u8>,
    },
    /// A sector's bytes also stand in place of another's, perhaps of another file.
    Copy {
        from_file: usize,
        from: usize,
        to: usize,
    },
    Truncate {
        at: usize,
    },
}

fn edit() -> impl Strategy<Value = Edit> {
    let bytes = prop::collection::vec(any::<u8>(), 1..40);
    prop_oneof![
        (0..5000_usize, bytes).prop_map(|(at, bytes)| Edit::Splice { at, bytes }),
        (any::<usize>(), 0..9_usize, 0..9_usize).prop_map(|(from_file, from, to)| Edit::Copy {
            from_file,
            from,
            to
        }),
        (0..5000_usize).prop_map(|at| Edit::Truncate { at }),
    ]
}

fn apply(disk: &mut MemoryDisk, name: &str, names: &[String], edit: &Edit) {
    let mut content = disk.content(name).expect("it is there");
    match edit {
        Edit::Splice { at, bytes } => {
            let at = at % (content.len() + 1);
            let end = (at + bytes.len()).min(content.len());
            content.splice(at..end, bytes.iter().copied());
        }
        Edit::Copy { from_file, from, to } => {
            let source = disk.content(&names[from_file % names.len()]).expect("it is there");
            let sector = source.chunks(SECTOR_BYTES).nth(*from).unwrap_or_default().to_vec();
            let at = (to * SECTOR_BYTES).min(content.len());
            let end = (at + sector.len()).min(content.len());
            content.splice(at..end, sector);
        }
        Edit::Truncate { at } => content.truncate(*at),
    }
    disk.set_content(name, &content);
}

fn log() -> Machine {
    let mut machine = Machine::new(small_options());
    for byte in 0..14 {
        machine.append(u64::from(byte), &[byte; 400]);
        machine.commit().expect("a sound disk");
    }
    machine.disk.kill();
    machine
}

fn typed(error: &StorageError) -> bool {
    matches!(error, StorageError::Damaged(_) | StorageError::Version { .. })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_of_any_bytes(file in any::<usize>(), edits in prop::collection::vec(edit(), 1..6)) {
        let mut machine = log();
        let names = machine.disk.list().expect("a list");
        let name = &names[file % names.len()];
        edits.iter().for_each(|edit| apply(&mut machine.disk, name, &names, edit));
        match recover(&machine.disk, machine.options) {
            Err(error) => prop_assert!(typed(&error), "{error}"),
            Ok((_, records)) => {
                for (index, record) in records.iter().enumerate() {
                    prop_assert_eq!(record.lsn.0, index as u64 + 1);
                    prop_assert_eq!(&record.body[..], &machine.appended[&record.lsn.0].1[..]);
                }
            }
        }
    }

    #[test]
    fn a_checkpoint_or_small_file_of_any_bytes(file in any::<usize>(), edits in prop::collection::vec(edit(), 1..6)) {
        let mut disk = MemoryDisk::new();
        Folder::open(disk.clone()).expect("an empty folder").write_identity(b"node 1").expect("a sound disk");
        let mut checkpoints = Checkpoints::open(disk.clone()).expect("an empty folder");
        let mut writer = checkpoints.begin(GroupId(1), b"meta").expect("a sound disk");
        for byte in 0..4 {
            writer.chunk(&[byte; 700]).expect("a sound disk");
        }
        checkpoints.finish(writer).expect("a sound disk");
        drop(checkpoints);
        let names = disk.list().expect("a list");
        edits.iter().for_each(|edit| apply(&mut disk, &names[file % names.len()], &names, edit));
        match Folder::open(disk.clone()) {
            Err(error) => prop_assert!(typed(&error), "{error}"),
            Ok(folder) => prop_assert_eq!(folder.identity().expect("it was written"), "node 1"),
        }
        match Checkpoints::open(disk.clone()) {
            Err(error) => prop_assert!(typed(&error), "{error}"),
            Ok(checkpoints) => {
                let reader = checkpoints.newest(GroupId(1)).expect("it is there");
                prop_assert_eq!(reader.meta(), "meta");
                for (index, chunk) in reader.chunks().enumerate() {
                    match chunk {
                        Err(error) => prop_assert!(typed(&error), "{error}"),
                        Ok(bytes) => prop_assert_eq!(&bytes[..], &[u8::try_from(index).expect("four"); 700][..]),
                    }
                }
            }
        }
    }
}
