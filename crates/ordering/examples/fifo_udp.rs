//! FIFO broadcast over UDP, with its log in a file. Three terminals:
//! `cargo run -p keypact-ordering --example fifo_udp -- 1 7001 7002 7003`, and with 2 and 3 for 1. What is typed is broadcast.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, Read, Write};
use std::net::UdpSocket;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use keypact_ordering::Envelope;
use keypact_ordering::broadcast::{Body, Config, Record, Timer};
use keypact_ordering::fifo::Fifo;
use keypact_protocol::{
    Context, Delivery, Draft, Gate, Input, Lsn, NodeId, Outlet, Protocol, Recover, Reply, Request, RequestId,
    SnapshotChunk, SnapshotRead, Wire,
};

struct World {
    socket: UdpSocket,
    ports: Vec<u16>,
    log: File,
    appended: u64,
    wake_ns: u64,
}

impl Outlet<Fifo> for World {
    fn append(&mut self, record: Record) -> Lsn {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.log.write_all(&(bytes.len() as u32).to_le_bytes()).expect("the log can be written");
        self.log.write_all(&bytes).expect("the log can be written");
        self.appended += 1;
        Lsn(self.appended)
    }
    fn send(&mut self, to: NodeId, message: Body) {
        let mut bytes = vec![];
        message.encode(&mut bytes);
        // A packet that is too large or lost is asked for again.
        let _ = self.socket.send_to(&bytes, ("127.0.0.1", self.ports[to.0 as usize - 1]));
    }
    fn deliver(&mut self, delivery: Delivery) {
        let envelope = Envelope::decode(delivery.command).expect("deliveries are envelopes");
        println!("{}  {}  {}", delivery.index, envelope.dot, String::from_utf8_lossy(&envelope.body));
    }
    fn reply(&mut self, reply: Reply) {
        println!("{reply:?}");
    }
    fn set_timer(&mut self, _: Timer, at_ns: u64) {
        self.wake_ns = at_ns;
    }
    fn cancel_timer(&mut self, _: Timer) {}
    // This parent keeps its whole log.
    fn checkpoint(&mut self, _: Bytes) {}
    fn drop_log_before(&mut self, _: Lsn) {}
    fn snapshot_out(&mut self, _: SnapshotRead) {}
    fn snapshot_in(&mut self, _: SnapshotChunk) {}
}

fn main() -> std::io::Result<()> {
    let numbers: Vec<u64> = std::env::args().skip(1).map(|word| word.parse().expect("numbers")).collect();
    let (id, ports) = (numbers[0], numbers[1..].iter().map(|port| *port as u16).collect::<Vec<_>>());
    let path = std::env::temp_dir().join(format!("fifo-{id}.log"));
    let members = (1..=ports.len() as u64).map(NodeId).collect();
    let mut recovery = Fifo::begin(Config::new(NodeId(id), members), None, id).expect("settings that work");
    let (mut old, mut appended) = (Vec::new(), 0);
    let _ = File::open(&path).and_then(|mut file| file.read_to_end(&mut old));
    let mut rest = Bytes::from(old);
    // A torn record at the end counts as never written.
    while rest.len() >= 4
        && rest.len() >= 4 + u32::from_le_bytes(rest[..4].try_into().expect("four")) as usize
    {
        let len = u32::from_le_bytes(rest.split_to(4)[..].try_into().expect("four")) as usize;
        appended += 1;
        let record = Record::decode(rest.split_to(len)).expect("our own record");
        recovery.replay(Lsn(appended), record).expect("records in order");
    }
    let kept = std::fs::metadata(&path).map_or(0, |file| file.len()) - rest.len() as u64;
    let log = OpenOptions::new().create(true).append(true).open(&path)?;
    log.set_len(kept)?;
    let socket = UdpSocket::bind(("127.0.0.1", ports[id as usize - 1]))?;
    socket.set_read_timeout(Some(Duration::from_millis(5)))?;
    let (mut world, mut gate) =
        (World { socket, ports, log, appended, wake_ns: 0 }, Gate::new(Lsn(appended)));
    let (typed, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        std::io::stdin().lock().lines().try_for_each(|line| typed.send(line.unwrap_or_default()))
    });
    let (mut member, begun, mut requests) = (recovery.finish(), Instant::now(), 0);
    let mut inputs = vec![Input::Start];
    let mut packet = vec![0; 65_536];
    loop {
        if let Ok((len, from)) = world.socket.recv_from(&mut packet) {
            let from =
                world.ports.iter().position(|port| *port == from.port()).map(|at| NodeId(at as u64 + 1));
            let message = Body::decode(Bytes::copy_from_slice(&packet[..len])).ok();
            inputs.extend(from.zip(message).map(|(from, message)| Input::Message { from, message }));
        }
        while let Ok(line) = lines.try_recv() {
            requests += 1;
            let command = Draft::copy_of(line.as_bytes());
            inputs.push(Input::Request(Request::Propose { id: RequestId(requests), command }));
        }
        let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
        let context = Context { now_ns: begun.elapsed().as_nanos() as u64, wall_ms };
        if context.now_ns >= world.wake_ns && !matches!(inputs.first(), Some(Input::Start)) {
            inputs.push(Input::Timer(Timer::Status));
        }
        for input in inputs.drain(..) {
            member.handle(input, context, &mut gate.sink(&mut world));
        }
        member.flush(context, &mut gate.sink(&mut world));
        member.assert_invariants();
        world.log.sync_data()?;
        gate.release(Lsn(world.appended), &mut world);
    }
}
