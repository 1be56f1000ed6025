//! Three replicas of a set over UDP, each with a file: `cargo run -p keypact-replication --example gossip_udp`.

use std::{collections::BTreeMap, fs::File, io::Write, net::UdpSocket, time::Instant};

use bytes::Bytes;
use keypact_crdt::OrSet;
use keypact_protocol::*;
use keypact_replication::gossip::{Config, Gossip, Message, Record, Timer, View};

/// Node n listens at this port plus n.
const PORT: u16 = 47_320;
const GROUP: GroupId = GroupId(1);

type Set = OrSet<Bytes>;

/// What is around a replica: socket, file, records written, timers.
struct Machine(UdpSocket, File, Lsn, BTreeMap<Timer, u64>);

impl Outlet<Gossip<Set>> for Machine {
    fn append(&mut self, record: Record) -> Lsn {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.1.write_all(&(bytes.len() as u32).to_le_bytes()).expect("the file takes it");
        self.1.write_all(&bytes).expect("the file takes it");
        self.2 = self.2.next();
        self.2
    }
    fn send(&mut self, to: NodeId, message: Message) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.0.send_to(&bytes, ("127.0.0.1", PORT + to.0 as u16)).expect("loopback takes it");
    }
    fn deliver(&mut self, it: Delivery) {
        println!("{:?} applies change {}, for {:?}", self.0.local_addr(), it.index, it.request);
    }
    fn set_timer(&mut self, timer: Timer, at_ns: u64) {
        self.3.insert(timer, at_ns);
    }
    fn cancel_timer(&mut self, timer: Timer) {
        self.3.remove(&timer);
    }
    fn reply(&mut self, _: Reply) {}
    // A checkpoint is asked for after 16 MiB of log; so much is not written here.
    fn checkpoint(&mut self, _: Bytes) {}
    fn drop_log_before(&mut self, _: Lsn) {}
    fn snapshot_out(&mut self, _: SnapshotRead) {}
    fn snapshot_in(&mut self, _: SnapshotChunk) {}
}

fn receive(socket: &UdpSocket) -> Option<Input<Gossip<Set>>> {
    let mut buffer = [0; 65_536];
    let (len, from) = socket.recv_from(&mut buffer).ok()?;
    let message = Message::decode(Bytes::copy_from_slice(&buffer[..len])).ok()?;
    Some(Input::Message { from: NodeId(u64::from(from.port() - PORT)), message })
}

fn main() {
    let (start, nodes) = (Instant::now(), [1, 2, 3].map(NodeId));
    let mut row = nodes.map(|id| {
        // No catalog: the members are fixed, and nobody is reported to. A datagram holds what a message may.
        let fixed = Config::new(id, GROUP, View::of_founders(&nodes));
        let config = Config { report_ms: 0, interval_ms: 20, budget_bytes: 32 * 1024, ..fixed };
        let socket = UdpSocket::bind(("127.0.0.1", PORT + id.0 as u16)).expect("a free port");
        socket.set_nonblocking(true).expect("sockets can");
        let file = File::create(std::env::temp_dir().join(format!("gossip-udp-{id}.log"))).expect("a file");
        let replica = Gossip::<Set>::begin(config, None, id.0).expect("nothing to read").finish();
        // Each writes at once, without asking the others; two of them the same.
        let words: &[&str] = if id.0 == 3 { &["+milk", "+salt", "-salt"] } else { &["+milk", "+bread"] };
        let mut inputs = vec![Input::Start];
        inputs.extend((1..).zip(words).map(|(number, word)| {
            let command = Draft::copy_of(word.as_bytes());
            Input::Request(Request::Propose { id: RequestId(number), command })
        }));
        (Machine(socket, file, Lsn::ZERO, BTreeMap::new()), replica, Gate::new(Lsn::ZERO), inputs)
    });
    while row.iter().any(|(_, replica, ..)| replica.version().dot_count() < 7) {
        for (machine, replica, gate, inputs) in &mut row {
            inputs.extend(receive(&machine.0));
            let now_ns = start.elapsed().as_nanos() as u64;
            inputs.extend(machine.3.extract_if(.., |_, at| *at <= now_ns).map(|(due, _)| Input::Timer(due)));
            let context = Context { now_ns, wall_ms: now_ns / 1_000_000 };
            inputs.drain(..).for_each(|input| replica.handle(input, context, &mut gate.sink(machine)));
            replica.flush(context, &mut gate.sink(machine));
            machine.1.sync_data().expect("a failed sync is never tried again");
            gate.release(machine.2, machine);
            inputs.push(Input::Durable(machine.2));
        }
    }
    for (_, replica, ..) in &row {
        println!("{} holds {:?}", replica.config().id, replica.state().keys().collect::<Vec<_>>());
    }
}
