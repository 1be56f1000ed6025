//! Runs Raft alone in the simulator, with all invariants on, and says how fast:
//! `cargo run --release -p keypact-simulator --example raft -- --seeds 200`, `-- --seed 7 --trace`, `-- --first 1000 --nodes 3`.

use std::ops::ControlFlow;
use std::time::Instant;

use keypact_coordination::raft::invariants::{self, RaftInvariants};
use keypact_coordination::raft::{Config, Raft, Role};
use keypact_protocol::{Incarnation, NodeId};
use keypact_simulator::{
    Agreement, Counters, Kv, KvClients, Limits, Observer, ProcessConfig, ProtocolProcess, Random, RecordDisk,
    Scenario, Setup, Swarm, Violation, Workload, run_seed, run_seeds,
};

type Process = ProtocolProcess<Raft, Kv>;

/// Raft's own invariants, called where the simulator calls.
struct Watch {
    invariants: RaftInvariants,
    leaderships: u64,
    led: Vec<bool>,
}

impl Watch {
    fn check(&mut self, node: NodeId, process: &Process) -> Result<(), Violation> {
        self.invariants
            .check(node, process.protocol())
            .map_err(|invariants::Violation { property, detail }| Violation { property, detail })
    }
}

impl Observer<Process> for Watch {
    fn started(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Process,
        _disk: &RecordDisk<Raft>,
    ) -> Result<(), Violation> {
        self.invariants.restarted(node);
        self.check(node, process)
    }

    fn stepped(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Process,
        _disk: &RecordDisk<Raft>,
    ) -> Result<(), Violation> {
        let role = process.protocol().role();
        let led = &mut self.led[node.0 as usize - 1];
        self.leaderships += u64::from(role == Role::Leader && !*led);
        *led = role == Role::Leader;
        self.check(node, process)
    }

    fn count(&self, counters: &mut Counters) {
        counters.add("raft-checks", self.invariants.checks());
        counters.add("leaderships", self.leaderships);
    }
}

struct RaftAlone {
    nodes: Vec<usize>,
}

fn config(id: NodeId, members: &[(NodeId, Incarnation)], random: &mut Random) -> Config {
    let mut config = Config::new(id, members.to_vec());
    config.heartbeat_ms = random.pick(&[20, 50]);
    config.election_timeout_ms = config.heartbeat_ms * random.pick(&[3, 6]);
    config.election_jitter_ms = random.pick(&[10, config.election_timeout_ms]);
    config.drift_bound_ppm = 2_000;
    config.resend_ms = random.pick(&[50, 300]);
    config.max_append_bytes = random.pick(&[100, 1_000, 256 * 1024]);
    config.max_inflight = random.pick(&[1, 4, 64]);
    config.checkpoint_after_bytes = random.pick(&[500, 4_000, 100_000]);
    config.max_command_bytes = 200;
    config.disk_hang_ms = 300;
    config
}

impl Scenario for RaftAlone {
    type Process = Process;
    type Clients = KvClients;
    type Observer = (Watch, Agreement);

    fn name(&self) -> &'static str {
        "raft"
    }

    fn setup(&self, random: &mut Random) -> Setup<Process, KvClients, Self::Observer> {
        let limits = Limits { nodes: self.nodes.clone(), ..Limits::default() };
        let swarm = Swarm::draw(&limits, random);
        let ids: Vec<NodeId> = (1..=swarm.nodes as u64).map(NodeId).collect();
        let members: Vec<_> = ids.iter().map(|id| (*id, Incarnation(1))).collect();
        // Equal on all members, so drawn once.
        let drawn = config(ids[0], &members, random);
        let configs = ids
            .iter()
            .map(|id| ProcessConfig { protocol: Config { id: *id, ..drawn.clone() }, pending_limit: 256 })
            .collect();
        let disks = ids.iter().map(|_| RecordDisk::default()).collect();
        let watch =
            Watch { invariants: RaftInvariants::new(&ids), leaderships: 0, led: vec![false; ids.len()] };
        let clients = KvClients::new(Workload::draw(random));
        Setup { swarm, configs, disks, clients, observer: (watch, Agreement::default()) }
    }
}

fn argument(name: &str) -> Option<u64> {
    let mut arguments = std::env::args();
    arguments.find(|argument| argument == name)?;
    arguments.next()?.parse().ok()
}

#[cfg(feature = "plant")]
fn plant() {
    let mut arguments = std::env::args();
    if arguments.any(|argument| argument == "--plant") {
        let name = arguments.next().unwrap_or_default();
        let plant = keypact_protocol::Plant::ALL.iter().copied().find(|plant| plant.name() == name);
        keypact_protocol::switch_on(Some(plant.expect("a plant of this name")));
    }
}

#[cfg(not(feature = "plant"))]
fn plant() {
    assert!(!std::env::args().any(|argument| argument == "--plant"), "build with --features plant");
}

fn main() {
    plant();
    let sizes = argument("--nodes").map_or(Limits::default().nodes, |nodes| vec![nodes as usize]);
    let scenario = RaftAlone { nodes: sizes };
    if let Some(seed) = argument("--seed") {
        let trace = std::env::args().any(|argument| argument == "--trace");
        let report = run_seed(
            &scenario,
            seed,
            trace.then(|| Box::new(|line: std::fmt::Arguments<'_>| println!("{line}")) as _),
        );
        return println!("{report:#?}");
    }
    let first = argument("--first").unwrap_or(1);
    let begun = Instant::now();
    let report = run_seeds(&scenario, first, argument("--seeds").unwrap_or(100), 1, |report| {
        for failure in &report.failures {
            println!("seed {}: {}", failure.seed, failure.violation);
        }
        ControlFlow::Continue(())
    });
    let seconds = begun.elapsed().as_secs_f64();
    println!("{} seeds, {} failed, {seconds:.2} s", report.seeds, report.failures.len());
    println!("{:.0} simulated seconds", report.simulated_ns as f64 / 1e9);
    println!(
        "{} messages, {:.0}/s; {} steps",
        report.delivered,
        report.delivered as f64 / seconds,
        report.steps
    );
    println!("{:?}, trace {:016x}", report.operations, report.trace_hash);
    for (kind, count) in report.faults.iter() {
        print!("{} {count}, ", kind.name());
    }
    println!();
    for (name, count) in report.sometimes.iter() {
        print!("{name} {count}, ");
    }
    println!();
}
