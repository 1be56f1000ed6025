//! Many short lives under a rough network and crashing nodes, each decided by a seed: all cluster-wide checks after every step, then a calm
//! phase in which the members must agree and go on.

use keypact_protocol::{Input, NodeId, ReadLevel, Wire};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::driver::World;
use crate::raft::{Message, Timer};

pub(super) fn rough(seed: u64, members: u64) -> World {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let small_log = rng.random_bool(0.5);
    let mut world = World::with(members, |config| {
        if small_log {
            config.max_command_bytes = 64;
            config.checkpoint_after_bytes = 600;
            config.tail_limit_bytes = 2_000;
            config.max_append_bytes = 200;
            config.max_inflight = 3;
        }
    });
    world.seed = seed;
    for id in 1..=members {
        world.node_mut(id).syncs = rng.random_bool(0.3);
    }
    // Who takes no input, and until which step.
    let mut paused = (0, 0);
    for request in 0..3_000 {
        let id = rng.random_range(1..=members);
        if paused.1 == request {
            // The first that a process sees after a pause is often a client.
            let level = if rng.random_bool(0.5) { ReadLevel::Linearizable } else { ReadLevel::Lease };
            world.replies(paused.0.max(1));
            world.read(paused.0.max(1), request, level);
            paused = (0, 0);
        }
        if paused.0 == id {
            continue;
        }
        match rng.random_range(0..100) {
            0..=49 => messages(&mut world, &mut rng, paused.0),
            50..=59 => {
                let up = world.leader().unwrap_or(id);
                world.propose(up, request, &std::format!("c{request}"));
            }
            60..=63 => {
                let level = if rng.random_bool(0.5) { ReadLevel::Linearizable } else { ReadLevel::Lease };
                world.replies(id);
                world.read(id, request, level);
            }
            64..=77 => world.sync(id),
            78..=84 if world.node(id).raft.is_some() => {
                world.serve_parent(id);
            }
            85..=93 => timers(&mut world, &mut rng, paused.0),
            94 if paused.0 == 0 && rng.random_bool(0.2) => {
                paused = (world.leader().unwrap_or(id), request + rng.random_range(50..500));
            }
            95 => world.step(id, Input::Unreachable(NodeId(rng.random_range(1..=members)))),
            96 if rng.random_bool(0.3) => {
                world.crash(id);
            }
            97 => {
                for id in 1..=members {
                    if world.node(id).raft.is_none() {
                        world.restart(id);
                    }
                }
            }
            98 if rng.random_bool(0.5) => world.isolate(id),
            99 => world.heal(),
            _ => {}
        }
    }
    world
}

fn messages(world: &mut World, rng: &mut ChaCha8Rng, paused: u64) {
    for _ in 0..rng.random_range(1..8) {
        let len = world.network.len();
        if len == 0 {
            return;
        }
        let at = rng.random_range(0..len.min(6));
        let Some((from, to, message)) = world.network.remove(at) else { return };
        if to.0 == paused {
            world.network.push_back((from, to, message));
            continue;
        }
        if rng.random_bool(0.03) {
            world.network.push_back((from, to, message.clone()));
        }
        if rng.random_bool(0.95) {
            let mut bytes = std::vec::Vec::new();
            message.encode(&mut bytes);
            let message = Message::decode(bytes.into()).unwrap();
            world.step(to.0, Input::Message { from, message });
        }
    }
}

fn timers(world: &mut World, rng: &mut ChaCha8Rng, paused: u64) {
    world.now_ns += rng.random_range(0..80_000_000);
    let due: std::vec::Vec<(u64, Timer)> = (1..=world.nodes.len() as u64)
        .flat_map(|id| world.node(id).effects.timers.iter().map(move |(timer, at)| (id, *timer, *at)))
        .filter(|(id, _, at_ns)| *at_ns <= world.now_ns && *id != paused)
        .map(|(id, timer, _)| (id, timer))
        .collect();
    for (id, timer) in due {
        world.fire(id, timer);
    }
}

pub(super) fn calm(world: &mut World) {
    world.heal();
    for id in 1..=world.nodes.len() as u64 {
        world.node_mut(id).syncs = true;
        if world.node(id).raft.is_none() {
            world.restart(id);
        }
        world.sync(id);
    }
    world.advance(5_000);
    let leader = world.leader().expect("a calm group has a leader");
    world.propose(leader, 1_000_000, "last");
    world.advance(2_000);
    assert!(
        world.applied(leader).ends_with(&["last".into()]),
        "{leader} {:?} {:?} {:#?}",
        world.replies(leader),
        world.raft(leader).peers().collect::<std::vec::Vec<_>>(),
        world.raft(leader)
    );
    for id in 1..=world.nodes.len() as u64 {
        assert_eq!(world.node(id).effects.state, world.node(leader).effects.state, "n{id}");
    }
}

fn seeds(range: core::ops::Range<u64>, members: u64) {
    let (mut elections, mut truncations, mut installed, mut reads) = (0, 0, 0, 0);
    for seed in range {
        std::println!("seed {seed} members {members}");
        let mut world = rough(seed, members);
        calm(&mut world);
        for id in 1..=members {
            let counters = world.raft(id).counters();
            elections += counters.leaderships;
            truncations += counters.truncations;
            installed += counters.snapshots_installed;
            reads += counters.index_reads;
        }
    }
    assert!(
        elections > 0 && truncations > 0 && installed > 0 && reads > 0,
        "the seeds reach what they are for"
    );
}

/// How many seeds; `KEYPACT_ROUGH_SEEDS=20000` for a long run.
fn count(usual: u64) -> u64 {
    std::env::var("KEYPACT_ROUGH_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

#[test]
fn three_members_survive() {
    seeds(0..count(150), 3);
}

#[test]
fn five_members_survive() {
    seeds(1_000_000..1_000_000 + count(60), 5);
}
