//! A coordinator and two participants over UDP, each with its log in a file: `cargo run -p keypact-coordination --example two_phase_commit_udp`.
//! Unreplicated, so a participant whose coordinator is killed waits until it is started again. Run it twice: the notes are kept.

use bytes::Bytes;
use keypact_coordination::two_phase_commit::*;
use keypact_protocol::{GroupId, RequestId, Wire};
use std::{fs::File, io::Read, io::Result, io::Write, net::UdpSocket, time::Duration, time::SystemTime};

const BASE_PORT: u16 = 47_310;

/// A group of one: its socket, and what its log is to take.
struct Host<R>(UdpSocket, Vec<R>);
impl<R: Wire> Outlet<R> for Host<R> {
    fn append(&mut self, record: R) {
        self.1.push(record);
    }
    fn send(&mut self, to: GroupId, message: Message) {
        let mut bytes = vec![];
        message.encode(&mut bytes);
        let _ = self.0.send_to(&bytes, ("127.0.0.1", BASE_PORT + to.0 as u16)); // What is lost is said again.
    }
    fn prove(&mut self, _: u64, _: u64) {} // Nobody only reads here.
    fn answer(&mut self, request: RequestId, outcome: Outcome) {
        println!("{request}: {outcome:?}");
    }
}

/// Drives a machine for three seconds; `step` hands it an input.
fn drive<R: Wire>(group: u64, mut step: impl FnMut(Input<R>, u64, &mut Host<R>)) -> Result<()> {
    let path = std::env::temp_dir().join(format!("keypact-two-phase-commit-{group}.log"));
    let mut log = File::options().read(true).append(true).create(true).open(path)?;
    let (mut old, mut inputs, mut buffer) = (vec![], vec![], [0; 1_400]);
    log.read_to_end(&mut old)?;
    let mut rest = Bytes::from(old);
    while rest.len() > 4 {
        let length = u32::from_le_bytes(rest.split_to(4)[..].try_into().expect("four bytes")) as usize;
        inputs.push(Input::Applied(R::decode(rest.split_to(length)).expect("what was encoded")));
    }
    let now_ns = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let begun_ns = now_ns();
    inputs.push(Input::Lead { epoch: begun_ns }); // Greater than at any start before.
    let mut host = Host(UdpSocket::bind(("127.0.0.1", BASE_PORT + group as u16))?, vec![]);
    host.0.set_read_timeout(Some(Duration::from_millis(20)))?;
    while now_ns() - begun_ns < 3_000_000_000 {
        inputs.drain(..).for_each(|input| step(input, now_ns(), &mut host));
        for record in host.1.drain(..) {
            let mut bytes = vec![];
            record.encode(&mut bytes);
            log.write_all(&[&(bytes.len() as u32).to_le_bytes(), &bytes[..]].concat())?;
            inputs.push(Input::Applied(record));
        }
        log.sync_data()?;
        if let (true, Ok((length, from))) = (inputs.is_empty(), host.0.recv_from(&mut buffer)) {
            let from = GroupId(u64::from(from.port().saturating_sub(BASE_PORT)));
            let message = Message::decode(Bytes::copy_from_slice(&buffer[..length]));
            inputs.extend(message.map(|message| Input::Message { from, message }));
        }
        inputs.push(Input::Tick);
    }
    Ok(())
}

/// Notes, each once.
struct Notes(Vec<Bytes>);
impl Store for Notes {
    fn admits(&self, note: &[u8]) -> bool {
        !self.0.iter().any(|known| known == note)
    }
    fn read(&self, _: &[u8]) -> Bytes {
        self.0.concat().into()
    }
    fn apply(&mut self, note: &Bytes) -> Bytes {
        self.0.push(note.clone());
        self.read(note)
    }
}

fn main() -> Result<()> {
    for group in [2, 3] {
        let config = ParticipantConfig::new(GroupId(group));
        let mut machine = Participant::new(config.clone(), ParticipantTable::new(config.table_limits()));
        let mut notes = Notes(vec![]);
        let step = move |input, now_ns, host: &mut _| drop(machine.handle(input, now_ns, &mut notes, host));
        std::thread::spawn(move || drive(group, step).expect("a port and a file"));
    }
    let mut machine = Coordinator::new(CoordinatorConfig::new(GroupId(1)), CoordinatorTable::default(), 7);
    let mut words = std::env::args().skip(1).chain(["one ".into(), "two ".into()]).zip(1..);
    drive(1, |input, now_ns, host| {
        let _: Decision = machine.handle(input, now_ns, host);
        while machine.leads()
            && let Some((word, request)) = words.next()
        {
            let locks = vec![Lock { key: word.clone().into(), mode: Mode::Exclusive }];
            let work = Work { locks, operations: word.into() };
            let parts = [2, 3].map(|to| Part { participant: GroupId(to), work: work.clone() });
            machine.begin(RequestId(request), parts.into(), now_ns, host);
        }
    })
}
