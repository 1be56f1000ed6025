//! Clients that broadcast, one note after the other, at any node.

use std::collections::BTreeSet;

use keypact_protocol::{NodeId, Protocol};
use keypact_simulator::{
    Ask, ClientEffects, ClientId, Clients, MILLISECOND_NS, MachineOutcome, MachineReply, MachineRequest,
    ProtocolProcess, Random, SECOND_NS, Tally, Violation,
};

use super::{Inbox, Note, Opens};

/// What clients do in one seed.
#[derive(Clone, Copy, Debug)]
pub struct BroadcastWork {
    /// How many clients.
    pub clients: u32,
    /// Notes that each broadcasts in the safety phase, at most.
    pub notes: u32,
    /// Between two notes, at most.
    pub think_max_ns: u64,
    /// A note without an answer for so long is given up; what became of it is not known.
    pub timeout_ns: u64,
    /// The same once faults have ended. Longer than a full window takes: who gives up sooner, and asks again, is never served.
    pub lively_timeout_ns: u64,
    /// Notes that go to another node than the last, parts per million.
    pub wander_ppm: u32,
    /// From the end of faults to the notes that must succeed: what changes by itself must have come to an end. Above 0 clients then go on.
    pub calm_ns: u64,
}

impl BroadcastWork {
    /// A mix.
    #[must_use]
    pub fn draw(random: &mut Random) -> BroadcastWork {
        let mut work = BroadcastWork {
            clients: random.between(1, 6) as u32,
            notes: random.pick(&[50, 150, 400]),
            think_max_ns: random.pick(&[2, 10, 50]) * MILLISECOND_NS,
            timeout_ns: random.pick(&[100, 400, 1_500]) * MILLISECOND_NS,
            lively_timeout_ns: 0,
            wander_ppm: random.pick(&[100_000, 500_000, 1_000_000]),
            calm_ns: 0,
        };
        work.lively_timeout_ns = work.timeout_ns;
        work
    }
}

#[derive(Debug)]
struct Client {
    target: usize,
    /// Notes begun.
    number: u32,
    /// The note that waits for an answer.
    waits: Option<Note>,
    /// Nodes at which a note still has to succeed.
    to_do: Vec<usize>,
}

/// All clients, and what they were told.
#[derive(Debug)]
pub struct BroadcastClients {
    work: BroadcastWork,
    nodes: Vec<NodeId>,
    clients: Vec<Client>,
    done: BTreeSet<Note>,
    refused: BTreeSet<Note>,
    tally: Tally,
    lively: bool,
    calm_until_ns: u64,
}

impl BroadcastClients {
    /// Clients that do this.
    #[must_use]
    pub fn new(work: BroadcastWork) -> BroadcastClients {
        let client = |_| Client { target: 0, number: 0, waits: None, to_do: Vec::new() };
        BroadcastClients {
            work,
            nodes: Vec::new(),
            clients: (0..work.clients).map(client).collect(),
            done: BTreeSet::new(),
            refused: BTreeSet::new(),
            tally: Tally::default(),
            lively: false,
            calm_until_ns: 0,
        }
    }

    /// Notes of which a client was told that they were broadcast.
    #[must_use]
    pub fn done(&self) -> &BTreeSet<Note> {
        &self.done
    }

    /// Notes of which a client was told that they were not, and never will be.
    #[must_use]
    pub fn refused_notes(&self) -> &BTreeSet<Note> {
        &self.refused
    }

    fn go_on<P: Protocol, K: Opens>(
        &mut self,
        now_ns: u64,
        client: ClientId,
        random: &mut Random,
        out: &mut ClientEffects<ProtocolProcess<P, Inbox<K>>>,
    ) where
        P::Config: Clone,
    {
        let count = self.nodes.len();
        let state = &mut self.clients[client.0 as usize];
        if state.waits.is_some() {
            return;
        }
        if self.lively {
            if now_ns < self.calm_until_ns {
                return;
            }
            match state.to_do.last() {
                Some(next) => state.target = *next,
                None if self.work.calm_ns > 0 => state.target = (state.target + 1) % count,
                None => return,
            }
        } else if state.number >= self.work.notes {
            return;
        } else if random.chance(self.work.wander_ppm) {
            state.target = random.index(count);
        }
        state.number += 1;
        let node = self.nodes[state.target];
        let note = Note { client: client.0, number: state.number, node };
        state.waits = Some(note);
        let token = u64::from(state.number);
        out.request(client, node, MachineRequest { token, ask: Ask::Write(note) });
        let timeout_ns = if self.lively { self.work.lively_timeout_ns } else { self.work.timeout_ns };
        out.wake_at(now_ns + timeout_ns, client, token);
    }

    /// The note that waits has an outcome; plans the next one.
    fn settle<P: Protocol, K: Opens>(
        &mut self,
        now_ns: u64,
        client: ClientId,
        token: u64,
        outcome: Option<bool>,
        random: &mut Random,
        out: &mut ClientEffects<ProtocolProcess<P, Inbox<K>>>,
    ) where
        P::Config: Clone,
    {
        let state = &mut self.clients[client.0 as usize];
        let Some(note) = state.waits.filter(|note| u64::from(note.number) == token) else { return };
        state.waits = None;
        match outcome {
            Some(true) => {
                self.tally.ok += 1;
                self.done.insert(note);
                if self.lively {
                    let target = state.target;
                    state.to_do.retain(|node| *node != target);
                }
            }
            Some(false) => {
                self.tally.failed += 1;
                self.refused.insert(note);
            }
            None => self.tally.unknown += 1,
        }
        // Who began anew behind the last note of a stream shows where it is with the next one. In between all is quiet.
        let pause_ns = if self.lively && state.to_do.is_empty() { SECOND_NS / 2 } else { 1 };
        out.wake_at(now_ns + pause_ns + random.below(self.work.think_max_ns), client, 0);
    }
}

impl<P: Protocol, K: Opens> Clients<ProtocolProcess<P, Inbox<K>>> for BroadcastClients
where
    P::Config: Clone,
{
    fn len(&self) -> u32 {
        self.work.clients
    }

    fn start(
        &mut self,
        nodes: &[NodeId],
        random: &mut Random,
        out: &mut ClientEffects<ProtocolProcess<P, Inbox<K>>>,
    ) {
        self.nodes = nodes.to_vec();
        for client in 0..self.work.clients {
            self.clients[client as usize].target = random.index(nodes.len());
            out.wake_at(random.below(self.work.think_max_ns), ClientId(client), 0);
        }
    }

    fn wake(
        &mut self,
        now_ns: u64,
        client: ClientId,
        token: u64,
        random: &mut Random,
        out: &mut ClientEffects<ProtocolProcess<P, Inbox<K>>>,
    ) {
        if token == 0 {
            self.go_on(now_ns, client, random, out);
        } else {
            self.settle(now_ns, client, token, None, random, out);
        }
    }

    fn reply(
        &mut self,
        now_ns: u64,
        client: ClientId,
        _from: NodeId,
        reply: MachineReply<Inbox<K>>,
        random: &mut Random,
        out: &mut ClientEffects<ProtocolProcess<P, Inbox<K>>>,
    ) {
        let outcome = match reply.outcome {
            MachineOutcome::Done(_) => Some(true),
            MachineOutcome::Refused(_) => Some(false),
            MachineOutcome::Uncertain => None,
        };
        self.settle(now_ns, client, reply.token, outcome, random, out);
    }

    fn refused(
        &mut self,
        now_ns: u64,
        client: ClientId,
        _by: NodeId,
        request: MachineRequest<Inbox<K>>,
        random: &mut Random,
        out: &mut ClientEffects<ProtocolProcess<P, Inbox<K>>>,
    ) {
        self.settle(now_ns, client, request.token, Some(false), random, out);
    }

    fn liveness_begins(
        &mut self,
        now_ns: u64,
        random: &mut Random,
        out: &mut ClientEffects<ProtocolProcess<P, Inbox<K>>>,
    ) {
        self.lively = true;
        for client in 0..self.work.clients {
            // At every node: a member that can't broadcast any more would else not be noticed.
            self.clients[client as usize].to_do = (0..self.nodes.len()).collect();
            self.calm_until_ns = now_ns + self.work.calm_ns;
            out.wake_at(self.calm_until_ns + random.below(self.work.think_max_ns), ClientId(client), 0);
        }
    }

    fn satisfied(&self) -> bool {
        self.clients.iter().all(|client| client.to_do.is_empty())
    }

    fn waiting_for(&self) -> String {
        let waiting: Vec<String> = (0..)
            .zip(&self.clients)
            .filter(|(_, client)| !client.to_do.is_empty())
            .map(|(number, client)| format!("client {number} at {:?}", client.to_do))
            .collect();
        waiting.join(", ")
    }

    fn tally(&self) -> Tally {
        self.tally
    }

    fn judge(&self, processes: &[&ProtocolProcess<P, Inbox<K>>]) -> Result<(), Violation> {
        if processes.is_empty() {
            return Err(Violation::new("liveness", "no process is left"));
        }
        Ok(())
    }
}
