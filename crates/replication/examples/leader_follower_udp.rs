//! A leader and two followers over UDP, each with a file, and a small catalog. The first leader falls silent after three commands; another goes
//! on: `cargo run -p keypact-replication --example leader_follower_udp`.

use bytes::Bytes;
use keypact_protocol::*;
use keypact_replication::leader_follower::*;
use std::{collections::BTreeMap, fs::File, io::Write, net::UdpSocket, time::Instant};

const PORT: u16 = 47_320; // plus the node's number; the catalog is node 0
const LEASE_NS: u64 = 300_000_000;
fn post(socket: &UdpSocket, to: NodeId, message: &Message) {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    socket.send_to(&bytes, ("127.0.0.1", PORT + to.0 as u16)).expect("loopback takes it");
}

fn receive(socket: &UdpSocket) -> Option<(NodeId, Message)> {
    socket.set_nonblocking(true).expect("sockets can");
    let mut buffer = [0; 65_536];
    let (len, from) = socket.recv_from(&mut buffer).ok()?;
    Some((NodeId((from.port() - PORT).into()), Message::decode(Bytes::copy_from_slice(&buffer[..len])).ok()?))
}

/// Socket, file, records written, timers, commands applied.
struct Machine(UdpSocket, File, Lsn, BTreeMap<Timer, u64>, u64);

impl Outlet<LeaderFollower> for Machine {
    fn append(&mut self, record: Record) -> Lsn {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.1.write_all(&bytes).expect("the file takes it");
        self.2 = self.2.next();
        self.2
    }
    fn send(&mut self, to: NodeId, message: Message) {
        post(&self.0, to, &message);
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

fn main() {
    let (start, nodes, mut proposed, mut heard_ns) = (Instant::now(), [1, 2, 3].map(NodeId), 0, 0);
    let bind = |node: u64| UdpSocket::bind(("127.0.0.1", PORT + node as u16)).expect("a free port");
    let (catalog, mut group) = (bind(0), Succession::new(SuccessionConfig::new(nodes.to_vec(), 1)));
    let mut row = nodes.map(|id| {
        let file = File::create(std::env::temp_dir().join(format!("leader-udp-{id}.log"))).expect("a file");
        let machine = Machine(bind(id.0), file, Lsn::ZERO, BTreeMap::new(), 0);
        let recovery = LeaderFollower::begin(Config::new(id, nodes.to_vec(), 1), None, id.0);
        (machine, recovery.expect("nothing to read").finish(), Gate::new(Lsn::ZERO), vec![Input::Start])
    });
    while row.iter().skip(1).any(|(machine, ..)| machine.4 < 6) {
        let now_ns = start.elapsed().as_nanos() as u64;
        for (machine, member, gate, inputs) in row.iter_mut().skip(usize::from(proposed == 3)) {
            inputs.extend(receive(&machine.0).map(|(from, message)| Input::Message { from, message }));
            inputs.extend(machine.3.extract_if(.., |_, at| *at <= now_ns).map(|(due, _)| Input::Timer(due)));
            if proposed < 6 && member.lease_until_ns() > now_ns && machine.4 == proposed {
                proposed += 1;
                let command = Draft::copy_of(b"a command");
                inputs.push(Input::Request(Request::Propose { id: RequestId(proposed), command }));
            }
            let context = Context { now_ns, wall_ms: 0 };
            inputs.drain(..).for_each(|input| member.handle(input, context, &mut gate.sink(machine)));
            member.flush(context, &mut gate.sink(machine));
            machine.1.sync_data().expect("a failed sync is never tried again");
            gate.release(machine.2, machine);
            inputs.push(Input::Durable(machine.2));
        }
        let say = |to, epoch, body| post(&catalog, to, &Message { epoch, body });
        if now_ns > heard_ns + LEASE_NS && group.sealing().is_none() {
            let epoch = group.begin_sealing();
            nodes.iter().for_each(|to| say(*to, epoch, Body::Seal));
        }
        let Some((from, Message { epoch, body })) = receive(&catalog) else { continue };
        heard_ns = now_ns;
        if let Body::Renew { sent_ns, last } = body {
            let Some((allowed, _)) = group.renewed(from, epoch, last) else { continue };
            say(from, epoch, Body::Grant { sent_ns, lease_ns: LEASE_NS, allowed });
        } else if let Body::Sealed { last, visible } = body {
            group.sealed(from, epoch, last, visible);
            let Ok(Leadership { leader, after, .. }) = group.choose(Choice::Safe) else { continue };
            println!("epoch {epoch} begins: {leader} leads, after {after:?}");
            nodes.iter().for_each(|to| say(*to, epoch, Body::Assign { leader, after }));
        }
    }
}
