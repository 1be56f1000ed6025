//! Three Raft members over UDP, each with a file. After three commands the leader is killed; the others elect another and go on, and the first
//! comes back from its file: `cargo run -p keypact-coordination --example raft_udp`.

use bytes::Bytes;
use keypact_coordination::raft::*;
use keypact_protocol::*;
use std::{collections::BTreeMap, fs, io::Write, net::UdpSocket, path::PathBuf, time::Instant};

const PORT: u16 = 47_340; // plus the node's number
/// Socket, file, records written, timers, commands applied.
struct Machine(UdpSocket, fs::File, Lsn, BTreeMap<Timer, u64>, u64);
impl Outlet<Raft> for Machine {
    fn append(&mut self, record: Record) -> Lsn {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        let length = (bytes.len() as u32).to_le_bytes();
        self.1.write_all(&[&length, &bytes[..]].concat()).expect("the file takes it");
        self.2 = self.2.next();
        self.2
    }
    fn send(&mut self, to: NodeId, message: Message) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.0.send_to(&bytes, ("127.0.0.1", PORT + to.0 as u16)).expect("loopback takes it");
    }
    fn deliver(&mut self, it: Delivery) {
        println!("{:?} applies {} {:?}, for {:?}", self.0.local_addr(), it.index, it.command, it.request);
        self.4 += u64::from(!it.command.is_empty());
    }
    fn set_timer(&mut self, timer: Timer, at_ns: u64) {
        self.3.insert(timer, at_ns);
    }
    fn cancel_timer(&mut self, timer: Timer) {
        self.3.remove(&timer);
    }
    fn reply(&mut self, _: Reply) {}
    fn checkpoint(&mut self, _: Bytes) {}
    fn drop_log_before(&mut self, _: Lsn) {}
    fn snapshot_out(&mut self, _: SnapshotRead) {}
    fn snapshot_in(&mut self, _: SnapshotChunk) {}
}

type Member = (Machine, Raft, Gate<Raft>, Vec<Input<Raft>>);
fn path(node: u64) -> PathBuf {
    std::env::temp_dir().join(format!("raft-udp-{node}.log"))
}

/// A member as its file has it: nothing yet, or the records of an earlier life.
fn start(node: u64, life: u64) -> Member {
    let config = Config::new(NodeId(node), [1, 2, 3].map(|id| (NodeId(id), Incarnation(1))).to_vec());
    let mut recovery = Raft::begin(config, None, 10 * life + node).expect("there is no checkpoint to read");
    let (mut lsn, bytes) = (Lsn::ZERO, fs::read(path(node)).unwrap_or_default());
    let mut rest = &bytes[..];
    while let Some((length, more)) = rest.split_first_chunk::<4>() {
        let (record, behind) = more.split_at(u32::from_le_bytes(*length) as usize);
        let record = Record::decode(Bytes::copy_from_slice(record)).expect("what was written");
        (lsn, rest) = (lsn.next(), behind);
        recovery.replay(lsn, record).expect("in the order in which it was written");
    }
    let file = fs::File::options().create(true).append(true).open(path(node)).expect("a file");
    let socket = UdpSocket::bind(("127.0.0.1", PORT + node as u16)).expect("a free port");
    socket.set_nonblocking(true).expect("sockets can");
    (Machine(socket, file, lsn, BTreeMap::new(), 0), recovery.finish(), Gate::new(lsn), vec![Input::Start])
}

fn main() {
    (1..=3).for_each(|node| drop(fs::remove_file(path(node))));
    let mut group: BTreeMap<u64, Member> = (1..=3).map(|node| (node, start(node, 1))).collect();
    let (begin, mut buffer, mut killed) = (Instant::now(), [0; 65_536], None);
    while group.len() < 3 || group.values().any(|(machine, ..)| machine.4 < 6) {
        for (machine, member, gate, inputs) in group.values_mut() {
            while let Ok((length, from)) = machine.0.recv_from(&mut buffer) {
                if let Ok(message) = Message::decode(Bytes::copy_from_slice(&buffer[..length])) {
                    inputs.push(Input::Message { from: NodeId((from.port() - PORT).into()), message });
                }
            }
            let now_ns = begin.elapsed().as_nanos() as u64;
            inputs.extend(machine.3.extract_if(.., |_, at| *at <= now_ns).map(|(due, _)| Input::Timer(due)));
            let idle = member.role() == Role::Leader && member.last().index == member.delivered_index();
            if machine.4 < 6 && idle {
                let (id, command) = (RequestId(machine.4 + 1), Draft::copy_of(b"a command"));
                inputs.push(Input::Request(Request::Propose { id, command }));
            }
            let context = Context { now_ns, wall_ms: 0 };
            inputs.drain(..).for_each(|input| member.handle(input, context, &mut gate.sink(machine)));
            member.flush(context, &mut gate.sink(machine));
            machine.1.sync_data().expect("a failed sync is never tried again");
            gate.release(machine.2, machine);
            inputs.push(Input::Durable(machine.2));
        }
        let all = |count: u64| group.values().all(|it| it.0.4 == count);
        let leader = group.iter().find(|(_, it)| it.1.role() == Role::Leader).map(|it| *it.0);
        match (killed, leader) {
            (None, Some(node)) if all(3) => killed = group.remove(&node).map(|_| node),
            (Some(node), _) if all(6) && group.len() < 3 => drop(group.insert(node, start(node, 2))),
            _ => {}
        }
    }
}
