//! Total order over UDP, with its log in a file. Three terminals: `cargo run -p keypact-ordering --example total_udp -- 1 7001 7002 7003`, and
//! with 2 and 3 for 1. What is typed is broadcast. You are the catalog: `!4` makes this node the sequencer of epoch 4. Give each number once.

use std::io::{BufRead, Write};
use std::{collections::BTreeMap, fs::File, net::UdpSocket, sync::mpsc::channel, time::*};

use bytes::Bytes;
use keypact_ordering::total::sequencer::{self, Body, CATALOG, Record};
use keypact_ordering::{Envelope, total::*};
use keypact_protocol::*;
/// Socket, ports, log, records written, timers.
struct World(UdpSocket, Vec<u16>, File, u64, BTreeMap<Timer<sequencer::Timer>, u64>);
impl Outlet<Sequenced> for World {
    fn append(&mut self, record: Record) -> Lsn {
        let mut bytes = vec![0; 4];
        record.encode(&mut bytes);
        bytes.splice(..4, (bytes.len() as u32 - 4).to_le_bytes());
        self.2.write_all(&bytes).expect("the log can be written");
        self.3 += 1;
        Lsn(self.3)
    }
    fn send(&mut self, to: NodeId, message: Message<sequencer::Message>) {
        let mut bytes = vec![];
        message.encode(&mut bytes);
        // The catalog, node 0, has no port. A packet that is lost is sent again.
        let port = (to.0 as usize).checked_sub(1).map(|place| self.1[place]);
        port.map(|port| self.0.send_to(&bytes, ("127.0.0.1", port)));
    }
    fn deliver(&mut self, delivery: Delivery) {
        let Ok(envelope) = Envelope::decode(delivery.command) else { return };
        println!("{}  {}  {}", delivery.index, envelope.dot, String::from_utf8_lossy(&envelope.body));
    }
    fn reply(&mut self, reply: Reply) {
        println!("{reply:?}");
    }
    fn set_timer(&mut self, timer: Timer<sequencer::Timer>, at_ns: u64) {
        self.4.insert(timer, at_ns);
    }
    fn cancel_timer(&mut self, timer: Timer<sequencer::Timer>) {
        self.4.remove(&timer);
    }
    fn checkpoint(&mut self, _: Bytes) {} // This parent keeps its whole log.
    fn drop_log_before(&mut self, _: Lsn) {}
    fn snapshot_out(&mut self, _: SnapshotRead) {}
    fn snapshot_in(&mut self, _: SnapshotChunk) {}
}
fn main() -> std::io::Result<()> {
    let mut numbers = std::env::args().skip(1).flat_map(|word| word.parse::<u16>());
    let (id, ports) = (NodeId(numbers.next().map_or(0, u64::from)), numbers.collect::<Vec<_>>());
    if !(1..=ports.len() as u64).contains(&id.0) {
        return Err(std::io::Error::other("say number and all ports: 1 7001 7002 7003"));
    }
    let path = std::env::temp_dir().join(format!("total-{}-{}.log", ports[0], id.0));
    let members: Vec<NodeId> = (1..=ports.len() as u64).map(NodeId).collect();
    let config = Config::new(id, members.clone(), sequencer::Config::new(id, members));
    let begun = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970"));
    let begin = Sequenced::begin(config, None, begun.1.as_nanos() as u64);
    let mut rest = Bytes::from(std::fs::read(&path).unwrap_or_default());
    let (mut recovery, all, mut appended) = (begin.expect("settings that work"), rest.len(), 0);
    let next = |rest: &Bytes| rest.first_chunk::<4>().map(|len| 4 + u32::from_le_bytes(*len) as usize);
    // A torn record at the end counts as never written.
    while let Some(len) = next(&rest).filter(|len| *len <= rest.len()) {
        appended += 1;
        let record = Record::decode(rest.split_to(len).slice(4..)).expect("our own record");
        recovery.replay(Lsn(appended), record).expect("records in order");
    }
    let log = File::options().create(true).append(true).open(&path)?;
    log.set_len((all - rest.len()) as u64)?;
    let socket = UdpSocket::bind(("127.0.0.1", ports[id.0 as usize - 1]))?;
    socket.set_read_timeout(Some(Duration::from_millis(5)))?;
    let (mut world, (typed, lines)) = (World(socket, ports, log, appended, BTreeMap::new()), channel());
    std::thread::spawn(move || std::io::stdin().lock().lines().try_for_each(|line| typed.send(line)));
    let (mut member, mut requests, mut packet) = (recovery.finish(), 0, vec![0; 65_536]);
    let (mut gate, mut inputs) = (Gate::new(Lsn(appended)), vec![Input::Start]);
    loop {
        if let Ok((len, from)) = world.0.recv_from(&mut packet) {
            let from = world.1.iter().position(|port| *port == from.port()).map(|at| NodeId(at as u64 + 1));
            let message = Message::decode(Bytes::copy_from_slice(&packet[..len])).ok();
            inputs.extend(from.zip(message).map(|(from, message)| Input::Message { from, message }));
        }
        while let Ok(Ok(line)) = lines.try_recv() {
            requests += 1;
            let (id, command) = (RequestId(requests), Draft::copy_of(line.as_bytes()));
            let assign = |epoch| Message::Log(sequencer::Message { epoch, body: Body::Assign });
            inputs.push(match line.strip_prefix('!').and_then(|epoch| epoch.parse().ok()) {
                Some(epoch) => Input::Message { from: CATALOG, message: assign(epoch) },
                None => Input::Request(Request::Propose { id, command }),
            });
        }
        let now_ns = begun.0.elapsed().as_nanos() as u64;
        let context = Context { now_ns, wall_ms: (begun.1 + begun.0.elapsed()).as_millis() as u64 };
        inputs.extend(world.4.extract_if(.., |_, at_ns| *at_ns <= now_ns).map(|(due, _)| Input::Timer(due)));
        inputs.drain(..).for_each(|input| member.handle(input, context, &mut gate.sink(&mut world)));
        member.flush(context, &mut gate.sink(&mut world));
        world.2.sync_data()?;
        gate.release(Lsn(world.3), &mut world);
        member.handle(Input::Durable(Lsn(world.3)), context, &mut gate.sink(&mut world));
    }
}
