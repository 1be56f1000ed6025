//! A coordinator and two participants on one machine, over UDP, each with its log in a file: `cargo run -p keypact-coordination --example
//! two_phase_commit_udp`. Unreplicated, so a participant whose coordinator is killed here waits until it is started again.

use std::fs::File;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use bytes::Bytes;
use keypact_coordination::two_phase_commit::*;
use keypact_protocol::{GroupId, RequestId, Wire};

const BASE_PORT: u16 = 47_310;

/// A group of one: its socket, its log, and what its machine wanted last.
struct Host<R> {
    group: GroupId,
    socket: UdpSocket,
    log: File,
    appends: Vec<R>,
    proofs: Vec<u64>,
    answers: Vec<Outcome>,
}

impl<R: Wire> Host<R> {
    /// Opens the log; returns the records that it kept.
    fn open(group: u64) -> std::io::Result<(Host<R>, Vec<R>)> {
        let path = std::env::temp_dir().join(format!("keypact-two-phase-commit-{group}.log"));
        let mut log = File::options().read(true).append(true).create(true).open(path)?;
        let (mut bytes, mut records) = (Vec::new(), Vec::new());
        log.read_to_end(&mut bytes)?;
        let mut rest = Bytes::from(bytes);
        while rest.len() > 4 {
            let length = u32::from_le_bytes(rest.split_to(4)[..].try_into().expect("four bytes")) as usize;
            records.push(R::decode(rest.split_to(length)).expect("the file holds what was encoded"));
        }
        let socket = UdpSocket::bind(("127.0.0.1", BASE_PORT + group as u16))?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let (appends, proofs, answers) = (Vec::new(), Vec::new(), Vec::new());
        Ok((Host { group: GroupId(group), socket, log, appends, proofs, answers }, records))
    }

    /// Makes what was appended durable, and gives it back to be applied, with proofs: nobody else can lead a log of one.
    fn persist(&mut self) -> Vec<Input<R>> {
        let records = std::mem::take(&mut self.appends);
        for record in &records {
            let mut bytes = vec![0; 4];
            record.encode(&mut bytes);
            let length = bytes.len() as u32 - 4;
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            self.log
                .write_all(&bytes)
                .and_then(|()| self.log.sync_data())
                .expect("a log that fails ends the process");
        }
        let proofs = self.proofs.drain(..).map(|token| Input::Proven { token });
        records.into_iter().map(Input::Applied).chain(proofs).collect()
    }

    fn receive(&self) -> Input<R> {
        let mut buffer = [0; 1_400];
        let Ok((length, from)) = self.socket.recv_from(&mut buffer) else { return Input::Tick };
        let message = Message::decode(Bytes::copy_from_slice(&buffer[..length]));
        let from = GroupId(u64::from(from.port().saturating_sub(BASE_PORT)));
        message.map_or(Input::Tick, |message| Input::Message { from, message })
    }
}

impl<R: Wire> Outlet<R> for Host<R> {
    fn append(&mut self, record: R) {
        self.appends.push(record);
    }
    fn send(&mut self, to: GroupId, message: Message) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        // What is lost is said again.
        let _sent = self.socket.send_to(&bytes, ("127.0.0.1", BASE_PORT + to.0 as u16));
    }
    fn prove(&mut self, token: u64) {
        self.proofs.push(token);
    }
    fn answer(&mut self, request: RequestId, outcome: Outcome) {
        println!("{}: {request}: {outcome:?}", self.group);
        self.answers.push(outcome);
    }
}

/// A balance; operations are one amount.
struct Balance(i64);

impl Store for Balance {
    fn admits(&self, operations: &[u8]) -> bool {
        self.0 + amount(operations) >= 0
    }
    fn read(&self, _operations: &[u8]) -> Bytes {
        Bytes::from(self.0.to_string())
    }
    fn apply(&mut self, operations: &Bytes) -> Bytes {
        self.0 += amount(operations);
        self.read(operations)
    }
}

fn amount(operations: &[u8]) -> i64 {
    i64::from_le_bytes(operations.try_into().expect("eight bytes"))
}

fn participant(group: u64, begun: Instant) -> std::io::Result<()> {
    let (mut host, records) = Host::open(group)?;
    let mut machine = Participant::new(ParticipantConfig::new(GroupId(group)), ParticipantTable::new(1_000));
    let mut balance = Balance(100);
    let mut inputs: Vec<Input<ParticipantRecord>> = records.into_iter().map(Input::Applied).collect();
    let mut lead = true;
    while begun.elapsed() < Duration::from_secs(3) {
        for input in std::mem::take(&mut inputs) {
            let _: Effect = machine.handle(input, begun.elapsed().as_nanos() as u64, &mut balance, &mut host);
        }
        let epoch = machine.table().epoch() + 1;
        inputs = if std::mem::take(&mut lead) { vec![Input::Lead { epoch }] } else { host.persist() };
        if inputs.is_empty() {
            inputs.push(host.receive());
        }
    }
    println!("{}: balance {}", host.group, balance.0);
    Ok(())
}

fn main() -> std::io::Result<()> {
    let begun = Instant::now();
    let threads = [2, 3].map(|group| std::thread::spawn(move || participant(group, begun)));
    let (mut host, records) = Host::open(1)?;
    let seed = u64::from(std::process::id());
    let mut machine = Coordinator::new(CoordinatorConfig::new(GroupId(1)), CoordinatorTable::default(), seed);
    let mut inputs: Vec<Input<CoordinatorRecord>> = records.into_iter().map(Input::Applied).collect();
    let (mut lead, mut asked) = (true, 0);
    while host.answers.len() < 3 && begun.elapsed() < Duration::from_secs(3) {
        let now_ns = begun.elapsed().as_nanos() as u64;
        for input in std::mem::take(&mut inputs) {
            let _: Decision = machine.handle(input, now_ns, &mut host);
        }
        if machine.leads() && asked == host.answers.len() as u64 {
            asked += 1;
            // 40 from one account to the other, until the first has too little.
            let parts = [(2, -40_i64), (3, 40)].map(|(group, amount)| {
                let locks = vec![Lock { key: Bytes::from_static(b"balance"), mode: Mode::Exclusive }];
                let operations = Bytes::copy_from_slice(&amount.to_le_bytes());
                Part { participant: GroupId(group), work: Work { locks, operations } }
            });
            machine.begin(RequestId(asked), parts.into(), now_ns, &mut host);
        }
        let epoch = machine.table().epoch() + 1;
        inputs = if std::mem::take(&mut lead) { vec![Input::Lead { epoch }] } else { host.persist() };
        if inputs.is_empty() {
            inputs.push(host.receive());
        }
    }
    threads.into_iter().try_for_each(|thread| thread.join().expect("a participant ends"))
}
