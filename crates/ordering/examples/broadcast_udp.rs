//! FIFO or causal broadcast over UDP, with its log in a file. Three terminals:
//! `cargo run -p keypact-ordering --example broadcast_udp -- fifo 1 7001 7002 7003`, and with 2 and 3 for 1; or `causal` for `fifo`. What is
//! typed is broadcast.

use std::io::{BufRead, Write};
use std::{fs::File, net::UdpSocket, time::*};

use bytes::Bytes;
use keypact_ordering::broadcast::{Body, Broadcast, Config, Order, Record, Timer};
use keypact_ordering::{Envelope, causal::CausalOrder, fifo::FifoOrder};
use keypact_protocol::*;
/// Socket, ports, log, records written, when to wake up.
struct World(UdpSocket, Vec<u16>, File, u64, u64);
impl<O: Order> Outlet<Broadcast<O>> for World {
    fn append(&mut self, record: Record) -> Lsn {
        let mut bytes = vec![0; 4];
        record.encode(&mut bytes);
        bytes.splice(..4, (bytes.len() as u32 - 4).to_le_bytes());
        self.2.write_all(&bytes).expect("the log can be written");
        self.3 += 1;
        Lsn(self.3)
    }
    fn send(&mut self, to: NodeId, message: Body) {
        let mut bytes = vec![];
        message.encode(&mut bytes);
        // A packet that is too large or lost is asked for again.
        let _ = self.0.send_to(&bytes, ("127.0.0.1", self.1[to.0 as usize - 1]));
    }
    fn deliver(&mut self, delivery: Delivery) {
        let envelope = Envelope::decode(delivery.command).expect("deliveries are envelopes");
        println!("{}  {}  {}", delivery.index, envelope.dot, String::from_utf8_lossy(&envelope.body));
    }
    fn reply(&mut self, reply: Reply) {
        println!("{reply:?}");
    }
    fn set_timer(&mut self, _: Timer, at_ns: u64) {
        self.4 = at_ns;
    }
    fn cancel_timer(&mut self, _: Timer) {}
    fn checkpoint(&mut self, _: Bytes) {} // This parent keeps its whole log.
    fn drop_log_before(&mut self, _: Lsn) {}
    fn snapshot_out(&mut self, _: SnapshotRead) {}
    fn snapshot_in(&mut self, _: SnapshotChunk) {}
}

fn run<O: Order>(name: &str, id: u64, ports: &[u16]) -> std::io::Result<()> {
    let path = std::env::temp_dir().join(format!("{name}-{}-{id}.log", ports[0]));
    let members = (1..=ports.len() as u64).map(NodeId).collect();
    let begin = Broadcast::<O>::begin(Config::new(NodeId(id), members), None, id);
    let mut recovery = begin.expect("settings that work");
    let mut rest = Bytes::from(std::fs::read(&path).unwrap_or_default());
    let (all, mut appended) = (rest.len(), 0);
    let next = |rest: &Bytes| rest.first_chunk::<4>().map(|len| 4 + u32::from_le_bytes(*len) as usize);
    // A torn record at the end counts as never written.
    while let Some(len) = next(&rest).filter(|len| *len <= rest.len()) {
        appended += 1;
        let record = Record::decode(rest.split_to(len).slice(4..)).expect("our own record");
        recovery.replay(Lsn(appended), record).expect("records in order");
    }
    let log = File::options().create(true).append(true).open(&path)?;
    log.set_len((all - rest.len()) as u64)?;
    let socket = UdpSocket::bind(("127.0.0.1", ports[id as usize - 1]))?;
    socket.set_read_timeout(Some(Duration::from_millis(5)))?;
    let (mut world, mut gate) = (World(socket, ports.to_vec(), log, appended, 0), Gate::new(Lsn(appended)));
    let (typed, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || std::io::stdin().lock().lines().try_for_each(|line| typed.send(line)));
    let (mut member, mut requests, mut packet) = (recovery.finish(), 0, vec![0; 65_536]);
    let (begun, mut inputs) = (Instant::now(), vec![Input::Start]);
    loop {
        if let Ok((len, from)) = world.0.recv_from(&mut packet) {
            let from = world.1.iter().position(|port| *port == from.port()).map(|at| NodeId(at as u64 + 1));
            let message = Body::decode(Bytes::copy_from_slice(&packet[..len])).ok();
            inputs.extend(from.zip(message).map(|(from, message)| Input::Message { from, message }));
        }
        while let Ok(Ok(line)) = lines.try_recv() {
            requests += 1;
            let (id, command) = (RequestId(requests), Draft::copy_of(line.as_bytes()));
            inputs.push(Input::Request(Request::Propose { id, command }));
        }
        let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
        let context = Context { now_ns: begun.elapsed().as_nanos() as u64, wall_ms };
        let is_due = context.now_ns >= world.4 && !matches!(inputs.first(), Some(Input::Start));
        inputs.extend(is_due.then_some(Input::Timer(Timer::Status)));
        inputs.drain(..).for_each(|input| member.handle(input, context, &mut gate.sink(&mut world)));
        member.flush(context, &mut gate.sink(&mut world));
        world.2.sync_data()?;
        gate.release(Lsn(world.3), &mut world);
    }
}
fn main() -> std::io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u16> = words.iter().flat_map(|word| word.parse()).collect();
    let sound = |(id, ports): &(&u16, &[u16])| (1..=ports.len()).contains(&usize::from(**id));
    let Some((id, ports)) = numbers.split_first().filter(sound) else {
        return Err(std::io::Error::other("say order, number and all ports: fifo 1 7001 7002 7003"));
    };
    let run = if words[0] == "causal" { run::<CausalOrder> } else { run::<FifoOrder> };
    run(&words[0], u64::from(*id), ports)
}
