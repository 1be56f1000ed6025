//! Time per transaction in the machines alone, without network and disk; and of the lock table. `cargo bench -p keypact-coordination --bench two_phase_commit`

use std::collections::VecDeque;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use keypact_coordination::two_phase_commit::*;
use keypact_protocol::{GroupId, RequestId};

struct Nothing;

impl Store for Nothing {
    fn admits(&self, _operations: &[u8]) -> bool {
        true
    }

    fn read(&self, _operations: &[u8]) -> Bytes {
        Bytes::new()
    }

    fn apply(&mut self, _operations: &Bytes) -> Bytes {
        Bytes::new()
    }
}

struct Effects<R> {
    appends: VecDeque<R>,
    sends: Vec<(GroupId, Message)>,
    proofs: Vec<(u64, u64)>,
    answers: usize,
}

impl<R> Default for Effects<R> {
    fn default() -> Self {
        Effects { appends: VecDeque::new(), sends: Vec::new(), proofs: Vec::new(), answers: 0 }
    }
}

impl<R> Outlet<R> for Effects<R> {
    fn append(&mut self, record: R) {
        self.appends.push_back(record);
    }

    fn send(&mut self, to: GroupId, message: Message) {
        self.sends.push((to, message));
    }

    fn prove(&mut self, epoch: u64, token: u64) {
        self.proofs.push((epoch, token));
    }

    fn answer(&mut self, _request: RequestId, _outcome: Outcome) {
        self.answers += 1;
    }
}

const C: GroupId = GroupId(1);

/// One coordinator and two participants over logs that take everything at once.
struct System {
    coordinator: Coordinator,
    participants: Vec<Participant>,
    of_coordinator: Effects<CoordinatorRecord>,
    of_participants: Vec<Effects<ParticipantRecord>>,
    request: u64,
}

impl System {
    fn new() -> System {
        let participant = |group| {
            let config = ParticipantConfig::new(GroupId(group));
            let table = ParticipantTable::new(config.table_limits());
            Participant::new(config, table)
        };
        let mut system = System {
            coordinator: Coordinator::new(CoordinatorConfig::new(C), CoordinatorTable::default(), 1),
            participants: vec![participant(2), participant(3)],
            of_coordinator: Effects::default(),
            of_participants: vec![Effects::default(), Effects::default()],
            request: 0,
        };
        let _: Decision = system.coordinator.handle(Input::Lead { epoch: 1 }, 0, &mut system.of_coordinator);
        for (participant, out) in system.participants.iter_mut().zip(&mut system.of_participants) {
            let _: Effect = participant.handle(Input::Lead { epoch: 1 }, 0, &mut Nothing, out);
        }
        system.settle();
        system
    }

    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(record) = self.of_coordinator.appends.pop_front() {
                let _: Decision =
                    self.coordinator.handle(Input::Applied(record), 0, &mut self.of_coordinator);
            }
            for (to, message) in std::mem::take(&mut self.of_coordinator.sends) {
                quiet = false;
                let at = to.0 as usize - 2;
                let input = Input::Message { from: C, message };
                let _: Effect =
                    self.participants[at].handle(input, 0, &mut Nothing, &mut self.of_participants[at]);
            }
            for at in 0..self.participants.len() {
                let (participant, out) = (&mut self.participants[at], &mut self.of_participants[at]);
                while let Some(record) = out.appends.pop_front() {
                    let _: Effect = participant.handle(Input::Applied(record), 0, &mut Nothing, out);
                }
                for (epoch, token) in std::mem::take(&mut out.proofs) {
                    let _: Effect = participant.handle(Input::Proven { epoch, token }, 0, &mut Nothing, out);
                }
                for (_, message) in std::mem::take(&mut out.sends) {
                    quiet = false;
                    let input = Input::Message { from: GroupId(at as u64 + 2), message };
                    let _: Decision = self.coordinator.handle(input, 0, &mut self.of_coordinator);
                }
            }
            if quiet && self.of_coordinator.appends.is_empty() {
                return;
            }
        }
    }

    fn transaction(&mut self, modes: &[Mode]) {
        self.request += 1;
        let key = Bytes::copy_from_slice(&(self.request % 1_000).to_le_bytes());
        let part = |(at, mode): (usize, &Mode)| Part {
            participant: GroupId(at as u64 + 2),
            work: Work { locks: vec![Lock { key: key.clone(), mode: *mode }], operations: key.clone() },
        };
        let parts = modes.iter().enumerate().map(part).collect();
        self.coordinator.begin(RequestId(self.request), parts, 0, &mut self.of_coordinator);
        self.settle();
        assert!(std::mem::take(&mut self.of_coordinator.answers) == 1, "every request is answered");
    }
}

fn transactions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("two-phase-commit");
    group.throughput(Throughput::Elements(1));
    let kinds = [
        ("one participant", &[Mode::Exclusive][..]),
        ("two writers", &[Mode::Exclusive, Mode::Exclusive]),
        ("writer and reader", &[Mode::Exclusive, Mode::Shared]),
        ("two readers", &[Mode::Shared, Mode::Shared]),
    ];
    for (name, modes) in kinds {
        let mut system = System::new();
        group.bench_function(name, |bencher| bencher.iter(|| system.transaction(black_box(modes))));
    }
    group.finish();
}

fn locks(criterion: &mut Criterion) {
    let mut table = Locks::default();
    let owner = |number| TransactionId { coordinator: C, epoch: 1, number };
    let lock =
        |number: u64| Lock { key: Bytes::copy_from_slice(&number.to_le_bytes()), mode: Mode::Exclusive };
    for number in 0..10_000 {
        table.take(owner(number), &[lock(number)]).expect("keys are free");
    }
    let four: Vec<Lock> = (20_000..20_004).map(lock).collect();
    criterion.bench_function("locks: take and release 4 among 10,000", |bencher| {
        bencher.iter(|| {
            table.take(owner(99_999), black_box(&four)).expect("keys are free");
            table.release(owner(99_999));
        });
    });
}

criterion_group!(benches, transactions, locks);
criterion_main!(benches);
