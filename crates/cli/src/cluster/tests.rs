//! Guards the lives that are written down: one that comes twice forgets its votes.

use super::*;

fn member(id: u64, incarnation: u64) -> Member {
    let address = String::from("127.0.0.1:1");
    Member { id, incarnation, resp: address.clone(), peer: address.clone(), http: address }
}

#[test]
fn a_torn_line_hides_no_life_after_it() {
    let dir = std::env::temp_dir().join(format!("keypact-cluster-lives-{}", std::process::id()));
    private_folder(&dir).expect("it can be made");
    let last = |id| last_life(&dir, id).expect("it can be read");
    assert_eq!(last(2), None);
    note_lives(&dir, &[member(1, 1), member(2, 1), member(12, 30)]).expect("it can be written");
    assert_eq!([last(1), last(2), last(3), last(12)], [Some(1), Some(1), None, Some(30)]);
    for (number, torn) in ["2", "2 ", "2 1", "1", "", "2 1\n"].into_iter().enumerate() {
        let life = number as u64 + 2;
        let before = fs::read_to_string(dir.join(LIVES)).expect("it is there");
        fs::write(dir.join(LIVES), before + torn).expect("it can be written");
        assert_eq!(last(2), Some(life - 1), "{torn:?} was never made");
        note_lives(&dir, &[member(2, life)]).expect("it can be written");
        assert_eq!([last(1), last(2), last(12)], [Some(1), Some(life), Some(30)], "after {torn:?}");
    }
    fs::remove_dir_all(&dir).expect("it is there");
}
