//! The table itself: numbers that stand in logs never move, and rows agree with their handlers.

use super::*;

/// Numbers are for ever: a log written by one version is read by the next.
#[test]
fn numbers_stay() {
    let numbers: Vec<String> = TABLE.iter().map(|row| format!("{} {}", row.id.0, row.name)).collect();
    let expected = include_str!("numbers.txt");
    assert_eq!(numbers.join("\n"), expected.trim_end());
}

#[test]
fn rows_are_sound() {
    for row in TABLE {
        assert!(by_id(row.id).is_some_and(|found| found.name == row.name));
        assert!(row.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'|'), "{}", row.name);
        assert!(row.arity != 0 && row.summary.ends_with('.'), "{}", row.name);
        match row.handler {
            Handler::Write(_) => assert!(row.is_write()),
            Handler::Read(_) => assert!(row.flags.contains(Flags::READONLY)),
            Handler::Node => assert!(!row.is_write() && !row.flags.contains(Flags::READONLY)),
        }
        let has_keys = row.first_key != 0;
        let on_partition = row.place() == Place::Partition;
        assert_eq!(on_partition, has_keys || row.is_keyspace_wide(), "{}: who runs it", row.name);
        assert_eq!(has_keys, !row.key_flags.is_empty(), "{}", row.name);
        assert_eq!(row.container().is_some(), row.name.contains('|'));
        if let Some(container) = row.container() {
            assert!(find(container.as_bytes()).unwrap().flags.contains(Flags::CONTAINER));
        }
    }
    assert!(by_id(CommandId(0)).is_none());
    assert!(by_id(CommandId(u16::MAX)).is_none());
}
