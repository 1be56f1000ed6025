//! raft-rs 0.7, driven as its documentation says, with `batch_append` as TiKV has it: without it every proposal is a message of its own.

use std::time::{Duration, Instant};

use raft::eraftpb::{Entry, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};

use super::{COMMAND_BYTES, Cluster, NODES, client_of, command};
use crate::error::Failure;

/// As long as our own heartbeat.
const TICK: Duration = Duration::from_millis(50);
/// A node's log in memory is cut when it is longer than this, entries,
const LOG_ENTRIES_MAX: u64 = 65_536;
/// and so many stay, for followers that are behind.
const LOG_ENTRIES_KEPT: u64 = 16_384;

/// Three nodes, of which the first leads.
pub(super) struct Nodes {
    nodes: Vec<RawNode<MemStorage>>,
    inboxes: [Vec<Message>; NODES],
    last_tick: Instant,
}

fn failed(error: raft::Error) -> Failure {
    Failure::server("raft-rs", error.to_string())
}

impl Nodes {
    pub(super) fn start() -> Result<Nodes, Failure> {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let members: Vec<u64> = (1..=NODES as u64).collect();
        let mut nodes = Vec::new();
        for id in &members {
            let config = Config {
                id: *id,
                election_tick: 10,
                heartbeat_tick: 1,
                max_size_per_msg: 256 * 1024,
                max_inflight_msgs: 64,
                check_quorum: true,
                pre_vote: true,
                batch_append: true,
                ..Config::default()
            };
            let storage = MemStorage::new_with_conf_state((members.clone(), Vec::new()));
            nodes.push(RawNode::new(&config, storage, &logger).map_err(failed)?);
        }
        let mut cluster = Nodes { nodes, inboxes: Default::default(), last_tick: Instant::now() };
        cluster.nodes[0].campaign().map_err(failed)?;
        for _ in 0..100 {
            cluster.pass(&[], &mut Vec::new())?;
            if cluster.nodes[0].raft.state == StateRole::Leader {
                return Ok(cluster);
            }
        }
        Err(Failure::server("raft-rs", "no leader"))
    }

    fn deliver(&mut self, messages: Vec<Message>) {
        for message in messages {
            let to = usize::try_from(message.to - 1).expect("few nodes");
            self.inboxes[to].push(message);
        }
    }

    /// Collects a node's outcome until there is none.
    fn process(&mut self, at: usize, committed: &mut Vec<u32>) -> Result<(), Failure> {
        while self.nodes[at].has_ready() {
            let mut ready = self.nodes[at].ready();
            self.deliver(ready.take_messages());
            applied(at, ready.take_committed_entries(), committed);
            let storage = self.nodes[at].store().clone();
            let entries = ready.take_entries();
            storage.wl().append(&entries).map_err(failed)?;
            if let Some(hard) = ready.hs() {
                storage.wl().set_hardstate(hard.clone());
            }
            // The log is memory: what was appended is durable, and what waited for that may leave.
            self.deliver(ready.take_persisted_messages());
            let mut light = self.nodes[at].advance(ready);
            if let Some(commit) = light.commit_index() {
                storage.wl().mut_hard_state().commit = commit;
            }
            self.deliver(light.take_messages());
            applied(at, light.take_committed_entries(), committed);
            self.nodes[at].advance_apply();
        }
        self.cut(at)
    }

    fn cut(&self, at: usize) -> Result<(), Failure> {
        use raft::Storage;
        let applied = self.nodes[at].raft.raft_log.applied;
        let store = self.nodes[at].store();
        let first = store.first_index().map_err(failed)?;
        if applied.saturating_sub(first) > LOG_ENTRIES_MAX {
            store.wl().compact(applied - LOG_ENTRIES_KEPT).map_err(failed)?;
        }
        Ok(())
    }
}

/// Only the leader, the first node, answers clients.
fn applied(at: usize, entries: Vec<Entry>, committed: &mut Vec<u32>) {
    if at == 0 {
        let commands = entries.iter().filter(|entry| entry.data.len() == COMMAND_BYTES);
        committed.extend(commands.filter_map(|entry| client_of(&entry.data)));
    }
}

impl Cluster for Nodes {
    fn pass(&mut self, proposals: &[u32], committed: &mut Vec<u32>) -> Result<(), Failure> {
        let now = Instant::now();
        let tick = now - self.last_tick >= TICK;
        if tick {
            self.last_tick = now;
        }
        for at in 0..NODES {
            if tick {
                self.nodes[at].tick();
            }
            let mut inbox = std::mem::take(&mut self.inboxes[at]);
            for message in inbox.drain(..) {
                self.nodes[at].step(message).map_err(failed)?;
            }
            // The empty vector's memory serves the next pass.
            inbox.append(&mut self.inboxes[at]);
            self.inboxes[at] = inbox;
            if at == 0 {
                for client in proposals {
                    self.nodes[0].propose(Vec::new(), command(*client).to_vec()).map_err(failed)?;
                }
            }
            self.process(at, committed)?;
        }
        Ok(())
    }
}
