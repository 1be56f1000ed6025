//! A chain of three over UDP, each with a file, and a small catalog: `cargo run -p keypact-replication --example chain_udp`.

use std::{collections::BTreeMap, fs::File, io::Write, net::UdpSocket, time::Instant};

use bytes::Bytes;
use keypact_protocol::*;
use keypact_replication::chain::{Body, Chain, Config, Layout, Message, Record, Timer};

/// Node n listens at this port plus n; the catalog is node 0.
const PORT: u16 = 47_310;
const GROUP: GroupId = GroupId(1);

fn post(socket: &UdpSocket, to: NodeId, message: &Message) {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    socket.send_to(&bytes, ("127.0.0.1", PORT + to.0 as u16)).expect("loopback takes it");
}

fn receive(socket: &UdpSocket) -> Option<(NodeId, Message)> {
    let mut buffer = [0; 65_536];
    let (len, from) = socket.recv_from(&mut buffer).ok()?;
    let message = Message::decode(Bytes::copy_from_slice(&buffer[..len])).ok()?;
    Some((NodeId(u64::from(from.port() - PORT)), message))
}

/// What is around a member: socket, file, records written, timers, commands applied.
struct Machine(UdpSocket, File, Lsn, BTreeMap<Timer, u64>, u64);

impl Outlet<Chain> for Machine {
    fn append(&mut self, record: Record) -> Lsn {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.1.write_all(&(bytes.len() as u32).to_le_bytes()).expect("the file takes it");
        self.1.write_all(&bytes).expect("the file takes it");
        self.2 = self.2.next();
        self.2
    }
    fn send(&mut self, to: NodeId, message: Message) {
        post(&self.0, to, &message);
    }
    fn deliver(&mut self, it: Delivery) {
        println!("{:?} applies {} {:?}, for {:?}", self.0.local_addr(), it.index, it.command, it.request);
        self.4 += 1;
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

fn main() {
    let (start, nodes, mut proposed) = (Instant::now(), [1, 2, 3].map(NodeId), 0);
    let bind = |node: u64| UdpSocket::bind(("127.0.0.1", PORT + node as u16)).expect("a free port");
    let (catalog, mut layout) = (bind(0), Layout::new(&nodes));
    catalog.set_nonblocking(true).expect("sockets can");
    let mut row = nodes.map(|id| {
        let file = File::create(std::env::temp_dir().join(format!("chain-udp-{id}.log"))).expect("a file");
        let machine = Machine(bind(id.0), file, Lsn::ZERO, BTreeMap::new(), 0);
        machine.0.set_nonblocking(true).expect("sockets can");
        let recovery = Chain::begin(Config::new(id, GROUP, nodes.to_vec()), None, id.0);
        (machine, recovery.expect("nothing to read").finish(), Gate::new(Lsn::ZERO), vec![Input::Start])
    });
    while row.iter().any(|(machine, ..)| machine.4 < 3) {
        for (machine, chain, gate, inputs) in &mut row {
            inputs.extend(receive(&machine.0).map(|(from, message)| Input::Message { from, message }));
            let now_ns = start.elapsed().as_nanos() as u64;
            inputs.extend(machine.3.extract_if(.., |_, at| *at <= now_ns).map(|(due, _)| Input::Timer(due)));
            if proposed < 3 && chain.orders() && chain.lease_until_ns() > now_ns {
                proposed += 1;
                let command = Draft::copy_of(b"a command");
                inputs.push(Input::Request(Request::Propose { id: RequestId(proposed), command }));
            }
            let context = Context { now_ns, wall_ms: now_ns / 1_000_000 };
            inputs.drain(..).for_each(|input| chain.handle(input, context, &mut gate.sink(machine)));
            chain.flush(context, &mut gate.sink(machine));
            machine.1.sync_data().expect("a failed sync is never tried again");
            gate.release(machine.2, machine);
            inputs.push(Input::Durable(machine.2));
        }
        let Some((from, Message { epoch, body, .. })) = receive(&catalog) else { continue };
        if let Body::Synced { node, life } = body {
            layout.synced(from, epoch, node, life);
        } else if let Body::Renew { life, sent_ns } = body {
            layout.heard(from, life);
            let grant = Body::Grant { life, sent_ns, lease_ns: 1_000_000_000 };
            for body in [Body::Assign { members: layout.members.clone() }, grant] {
                post(&catalog, from, &Message { group: GROUP, epoch: layout.epoch, body });
            }
        }
    }
}
