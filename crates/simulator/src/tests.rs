//! The small parts: clock, queue, network, typed disk, order of one key's history.

use bytes::{Bytes, BytesMut};
use keypact_protocol::{DecodeError, Delivery, Lsn, Wire};

use crate::network::{Network, Route};
use crate::queue::Queue;
use crate::{
    Checkpoint, Clock, Disk, FaultCounts, FaultKind, FaultSet, Kv, KvAnswer, KvCommand, Loss, Origin, Random,
    StateMachine, Swarm, Traffic,
};

#[test]
fn a_clock_drifts_by_what_it_is_told_and_back_again() {
    let mut clock = Clock::new(1_000, 500);
    clock.drift(0, 500);
    assert_eq!(clock.local_ns(1_000_000), 1_000 + 1_000_500);
    clock.drift(1_000_000, -500);
    assert_eq!(clock.local_ns(2_000_000), 1_000 + 1_000_500 + 999_500);
    for local_ns in [0, 1_001_500, 1_001_501, 1_500_000, 9_999_999] {
        let at_ns = clock.true_ns(local_ns, 1_000_000);
        assert!(clock.local_ns(at_ns) >= local_ns, "woken too early for {local_ns}");
        assert!(at_ns == 1_000_000 || clock.local_ns(at_ns - 1) < local_ns, "woken too late for {local_ns}");
    }
}

#[test]
fn a_wall_clock_jumps_and_the_monotonic_one_does_not() {
    let mut clock = Clock::new(7, 10_000);
    let before = clock.sample(3_000_000);
    clock.skew_wall(-9_000);
    let after = clock.sample(3_000_000);
    assert_eq!((before.wall_ms, after.wall_ms), (10_003, 1_003));
    assert_eq!(before.now_ns, after.now_ns);
}

#[test]
fn events_come_by_time_and_equal_ones_in_order() {
    let mut queue = Queue::new();
    for (at_ns, name) in [(5, 'c'), (1, 'a'), (5, 'd'), (u64::MAX, 'z'), (1, 'b')] {
        queue.push(at_ns, name);
    }
    assert_eq!(queue.next_at(), Some(1));
    let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, name)| name).collect();
    assert_eq!(order, "abcdz");
    assert_eq!(queue.len(), 0);
}

#[test]
fn an_ordered_connection_keeps_its_order_and_another_does_not() {
    let mut random = Random::new(1);
    for ordered in [true, false] {
        let swarm = Swarm { ordered, ..Swarm::calm(2) };
        let (mut network, mut counts) = (Network::new(2), FaultCounts::default());
        let mut arrivals: Vec<u64> = Vec::new();
        for now_ns in 0..100 {
            match network.route(now_ns, (0, 1), Traffic::Bulk, &swarm, &mut counts, &mut random) {
                Route::Once(at_ns) => arrivals.push(at_ns),
                other => panic!("a calm network did {other:?}"),
            }
        }
        assert_eq!(arrivals.is_sorted(), ordered);
    }
}

#[test]
fn every_cut_leaves_what_its_name_says() {
    let mut random = Random::new(2);
    let reached = |network: &Network, from: usize, to: usize| !network.is_cut(from, to);
    for seed in 0..50 {
        let node = seed % 5;
        let mut cut_count = |kind| {
            let mut network = Network::new(5);
            let cut = network.draw(kind, node, &mut random);
            network.cut(&cut);
            let one_way = cut.iter().filter(|(from, to)| reached(&network, *to, *from)).count();
            let cut_len = cut.len();
            network.mend(&cut);
            assert!(cut.iter().all(|(from, to)| reached(&network, *from, *to)));
            (cut_len, one_way)
        };
        let (cut, one_way) = cut_count(FaultKind::Partition);
        assert!([8, 12].contains(&cut) && one_way == 0, "1|4 or 2|3: {cut}");
        let (cut, one_way) = cut_count(FaultKind::OneWay);
        assert!((1..=4).contains(&cut) && one_way == cut);
        assert_eq!(cut_count(FaultKind::Partial), (2, 0));
        assert_eq!(cut_count(FaultKind::Chained), (20 - 8, 0), "four links are left of ten");
    }
    assert!(Network::new(1).draw(FaultKind::Partition, 0, &mut random).is_empty());
}

#[test]
fn sets_of_faults() {
    let some = FaultSet::of(&[FaultKind::Crash, FaultKind::Drift]);
    assert!(some.has(FaultKind::Drift) && !some.has(FaultKind::Pause));
    assert_eq!(some.without(FaultSet::ALL), FaultSet::NONE);
    assert_eq!(FaultSet::ALL.iter().count(), FaultKind::ALL.len());
}

mod disk {
    use super::*;
    use crate::RecordDisk;
    use keypact_protocol::{Context, Input, Protocol, Recover, RecoveryError, Sink};

    /// Nothing: the disk only needs a protocol's types.
    struct Mute;

    #[derive(Clone, PartialEq, Debug)]
    struct Word(u8);

    impl Wire for Word {
        fn encode(&self, out: &mut Vec<u8>) {
            out.push(self.0);
        }

        fn decode(bytes: Bytes) -> Result<Word, DecodeError> {
            match bytes[..] {
                [byte] => Ok(Word(byte)),
                _ => Err(DecodeError::new("one byte")),
            }
        }
    }

    impl Recover<Mute> for Mute {
        fn replay(&mut self, _: Lsn, _: Word) -> Result<(), RecoveryError> {
            Ok(())
        }

        fn finish(self) -> Mute {
            self
        }
    }

    impl Protocol for Mute {
        type Config = ();
        type Message = Word;
        type Record = Word;
        type Timer = ();
        type Recovery = Mute;

        fn begin((): (), _: Option<Bytes>, _: u64) -> Result<Mute, RecoveryError> {
            Ok(Mute)
        }

        fn handle(&mut self, _: Input<Mute>, _: Context, _: &mut impl Sink<Mute>) {}

        fn flush(&mut self, _: Context, _: &mut impl Sink<Mute>) {}

        fn assert_invariants(&self) {}
    }

    fn disk_of(records: u8, durable: u64) -> RecordDisk<Mute> {
        let mut disk = RecordDisk::default();
        for word in 1..=records {
            disk.append(Word(word));
        }
        disk.synced(Lsn(durable));
        disk
    }

    #[test]
    fn a_crash_takes_nothing_durable_and_leaves_no_gap() {
        let mut random = Random::new(3);
        let mut kept = [0; 6];
        for _ in 0..200 {
            let mut disk = disk_of(5, 2);
            disk.crash(Loss::Part, &mut random);
            let words: Vec<u8> = disk.records().map(|(_, word)| word.0).collect();
            assert!(words.len() >= 2 && words.iter().copied().eq(1..=words.len() as u8), "{words:?}");
            assert_eq!((disk.durable(), disk.last()), (Lsn(words.len() as u64), Lsn(words.len() as u64)));
            kept[words.len()] += 1;
        }
        assert!(kept[2..].iter().all(|times| *times > 0), "every prefix is possible: {kept:?}");
        let mut disk = disk_of(5, 2);
        disk.crash(Loss::Unsynced, &mut random);
        assert_eq!(disk.len(), 2);
        let mut disk = disk_of(5, 2);
        disk.crash(Loss::Nothing, &mut random);
        assert_eq!(disk.len(), 5);
    }

    #[test]
    fn records_go_only_once_what_replaces_them_is_durable() {
        let mut disk = disk_of(5, 4);
        disk.drop_before(Lsn(4));
        assert_eq!(disk.first(), Lsn(1));
        disk.synced(Lsn(5));
        assert_eq!((disk.first(), disk.len()), (Lsn(4), 2));
        disk.drop_before(Lsn(5));
        assert_eq!((disk.first(), disk.last()), (Lsn(5), Lsn(5)));
    }

    #[test]
    fn a_checkpoint_in_writing_is_there_whole_or_not_at_all_and_never_replaces_a_newer_one() {
        let at = |applied| Checkpoint { meta: Bytes::new(), applied, state: Bytes::new() };
        let mut random = Random::new(4);
        let mut seen = [false; 2];
        for _ in 0..50 {
            let mut disk = disk_of(1, 1);
            disk.write_checkpoint(Origin::Own, at(7));
            disk.crash(Loss::Part, &mut random);
            seen[usize::from(disk.checkpoint() == Some(&at(7)))] = true;
        }
        assert_eq!(seen, [true, true]);
        let mut disk = disk_of(1, 1);
        disk.write_checkpoint(Origin::Own, at(7));
        disk.write_checkpoint(Origin::Peer, at(9));
        disk.checkpoint_written(Origin::Peer);
        disk.checkpoint_written(Origin::Own);
        assert_eq!(disk.checkpoint(), Some(&at(9)));
    }
}

fn apply(kv: &mut Kv, command: KvCommand) -> KvAnswer {
    let mut bytes = BytesMut::new();
    Kv::encode(&command, &mut bytes);
    let command = bytes.freeze();
    kv.apply(&Delivery { index: 1, stamp_ms: 0, seed: 0, command, request: None }).expect("a command")
}

#[test]
fn the_kv_machine_answers_and_survives_saving() {
    let mut kv = Kv::default();
    assert_eq!(apply(&mut kv, KvCommand::Increment { key: 1 }), KvAnswer::Number(1));
    assert_eq!(apply(&mut kv, KvCommand::Set { key: 2, value: 5 }), KvAnswer::Number(5));
    let swap = |expected| KvCommand::CompareAndSet { key: 2, expected, value: 6 };
    assert_eq!(apply(&mut kv, swap(4)), KvAnswer::Swapped(false));
    assert_eq!(apply(&mut kv, swap(5)), KvAnswer::Swapped(true));
    apply(&mut kv, KvCommand::Append { key: 0, element: 9 });
    assert_eq!((kv.list(0), kv.number(2), kv.number(1)), (&[9][..], 6, 1));
    let mut saved = Vec::new();
    kv.save(&mut saved);
    let loaded = Kv::load(Bytes::from(saved.clone())).expect("what was saved");
    assert_eq!(loaded, kv);
    for cut in 0..saved.len() {
        assert!(Kv::load(Bytes::copy_from_slice(&saved[..cut])).is_err(), "cut at {cut}");
    }
}

#[test]
fn the_kv_digest_follows_the_state_and_not_the_way_there() {
    let (mut one, mut other) = (Kv::default(), Kv::default());
    apply(&mut one, KvCommand::Set { key: 1, value: 3 });
    assert_ne!(one.digest(), other.digest());
    apply(&mut other, KvCommand::Set { key: 1, value: 2 });
    apply(&mut other, KvCommand::Set { key: 1, value: 3 });
    assert_eq!(one.digest(), other.digest());
    apply(&mut one, KvCommand::Set { key: 1, value: 0 });
    assert_eq!(one.digest(), Kv::default().digest(), "a register that holds 0 is as if never set");
}
