//! What a command costs in the node alone: one member, all in memory, a disk that is always done at once. Prints nanoseconds per command:
//! `cargo run --release -p keypact-node --example hot_path`.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "it measures and prints; the node itself does neither"
)]

use std::time::Instant;

use bytes::Bytes;
use keypact_coordination::raft;
use keypact_data::Command;
use keypact_node::{
    Member, Node, NodeConfig, NodeInput, NodeRecovery, Outside, PeerMessage, Roster, SessionId, Traffic,
};
use keypact_protocol::{Context, GroupId, Lsn, NodeId, SnapshotChunk};
use keypact_resp::{Arguments, Value};

#[derive(Default)]
struct World {
    last: u64,
    replies: u64,
    wake_at_ns: Option<u64>,
}

impl Outside for World {
    fn append(&mut self, _: GroupId, _: &raft::Record) -> Lsn {
        self.last += 1;
        Lsn(self.last)
    }

    fn send(&mut self, _: NodeId, _: Traffic, _: PeerMessage) {}

    fn reply(&mut self, _: SessionId, _: u64, value: Value) {
        assert!(!matches!(value, Value::Error(_)), "every command succeeds: {value:?}");
        self.replies += 1;
    }

    fn wake_at(&mut self, at_ns: u64) {
        self.wake_at_ns = Some(at_ns);
    }

    fn checkpoint_begin(&mut self, _: GroupId, _: Bytes) {}
    fn checkpoint_chunk(&mut self, _: GroupId, _: Bytes) {}
    fn checkpoint_finish(&mut self, _: GroupId) {}
    fn checkpoint_abort(&mut self, _: GroupId) {}
    fn checkpoint_read(&mut self, _: GroupId, _: NodeId, _: u32) {}
    fn incoming_chunk(&mut self, _: GroupId, _: SnapshotChunk) {}
    fn drop_log_before(&mut self, _: Lsn) {}
    fn roster_changed(&mut self, _: &Roster) {}
}

fn leading_node(world: &mut World) -> (Node, Context) {
    let address = String::from("127.0.0.1:1");
    let (resp, peer, http) = (address.clone(), address.clone(), address);
    let members = vec![Member { id: 1, incarnation: 0, resp, peer, http }];
    let mut config = NodeConfig::new(NodeId(1), members);
    // No checkpoint comes in between.
    config.checkpoint_after_bytes = 4 << 30;
    config.tail_limit_bytes = 8 << 30;
    let recovery = NodeRecovery::begin(config, 1).expect("the settings fit together");
    let mut node = recovery.finish(Lsn::ZERO).expect("nothing to recover");
    let mut context = Context { now_ns: 1, wall_ms: 1_700_000_000_000 };
    node.handle(NodeInput::Start, context, world);
    while node.partition().applied_index() == 0 {
        context.now_ns += 10_000_000;
        node.handle(NodeInput::Wake, context, world);
        node.flush(context, world);
        node.handle(NodeInput::Durable(Lsn(world.last)), context, world);
        node.flush(context, world);
    }
    (node, context)
}

fn measure(name: &str, pipeline: u64, sessions: u64, commands: &[Command]) {
    let mut world = World::default();
    let (mut node, mut context) = leading_node(&mut world);
    let total = 600_000;
    let mut best_ns = u128::MAX;
    for _ in 0..5 {
        let (began, before) = (Instant::now(), world.replies);
        let mut asked = 0;
        while asked < total {
            context.now_ns += 1_000;
            let session = SessionId(asked / pipeline % sessions);
            for seq in asked..asked + pipeline {
                let command = commands[seq as usize % commands.len()].clone();
                node.handle(NodeInput::Command { session, seq, command }, context, &mut world);
            }
            asked += pipeline;
            node.flush(context, &mut world);
            let lsn = Lsn(world.last);
            node.handle(NodeInput::Durable(lsn), context, &mut world);
            node.flush(context, &mut world);
        }
        best_ns = best_ns.min(began.elapsed().as_nanos() / u128::from(asked));
        assert!(world.replies - before == asked, "every command is answered");
    }
    println!("{name} pipeline {pipeline:>2}, {sessions:>5} connections: {best_ns:>5} ns");
}

fn main() {
    let command = |parts: &[&[u8]]| Command::parse(Arguments::from_parts(parts)).expect("it exists");
    let keys: Vec<String> = (0..1_000).map(|key| format!("key:{key:010}")).collect();
    let value = [b'x'; 64];
    let sets: Vec<Command> = keys.iter().map(|key| command(&[b"SET", key.as_bytes(), &value])).collect();
    let gets: Vec<Command> = keys.iter().map(|key| command(&[b"GET", key.as_bytes()])).collect();
    let only = std::env::args().nth(1);
    for (pipeline, sessions) in [(1, 50), (64, 50), (1, 10_000)] {
        for (name, commands) in [("SET", &sets), ("GET", &gets)] {
            if only.as_deref().is_none_or(|only| only == name) {
                measure(name, pipeline, sessions, commands);
            }
        }
    }
}
