//! Clients that read their own writes at any member: each appends to a list of its own, and reads it back with the write's token.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use keypact_protocol::{NodeId, ReadLevel, Refusal};
use keypact_simulator::{
    Ask, ClientId, Kv, KvAnswer, KvCommand, MILLISECOND_NS, MachineOutcome, MachineReply, MachineRequest,
    Random, StateMachine, Violation,
};

use super::Out;
use super::board::{SharedBoard, Token};

const TIMEOUT: u64 = 1 << 62;
const RETRY: u64 = 1 << 63;
/// An operation without an answer for so long is given up.
const TIMEOUT_NS: u64 = 500 * MILLISECOND_NS;
/// After so many refusals, too.
const ATTEMPTS_MAX: u32 = 12;
/// So many earlier writes a session remembers, and one fewer.
const WRITTEN_MAX: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Doing {
    Nothing,
    /// Appending this.
    Writing(u64),
    /// Reading back a list that had this length with the write of this token.
    Reading(Token, u64),
}

#[derive(Debug)]
struct Session {
    doing: Doing,
    /// Tells answers and time-outs of this operation from those of earlier ones.
    token: u64,
    target: usize,
    attempts: u32,
    left: u32,
    /// Earlier writes, and how long the list was with each.
    written: VecDeque<(Token, u64)>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Sessions {
    /// The first one's number, and the first one's key.
    first: u32,
    first_key: u16,
    sessions: Vec<Session>,
    nodes: Vec<NodeId>,
    board: SharedBoard,
    next_element: u64,
    finishing: bool,
    broken: Option<Violation>,
}

fn encoded(command: &KvCommand) -> Bytes {
    let mut bytes = BytesMut::new();
    Kv::encode(command, &mut bytes);
    bytes.freeze()
}

impl Sessions {
    pub(super) fn new(first: u32, first_key: u16, count: u32, writes: u32, board: SharedBoard) -> Sessions {
        let session = |_| Session {
            doing: Doing::Nothing,
            token: 0,
            target: 0,
            attempts: 0,
            left: writes,
            written: VecDeque::new(),
        };
        Sessions {
            first,
            first_key,
            sessions: (0..count).map(session).collect(),
            nodes: Vec::new(),
            board,
            // Apart from what other clients append.
            next_element: 1 << 40,
            finishing: false,
            broken: None,
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.sessions.len() as u32
    }

    pub(super) fn has(&self, client: ClientId) -> bool {
        client.0 >= self.first
    }

    pub(super) fn start(&mut self, nodes: &[NodeId], random: &mut Random, out: &mut Out) {
        self.nodes = nodes.to_vec();
        for at in 0..self.len() {
            out.wake_at(random.below(100 * MILLISECOND_NS), ClientId(self.first + at), 0);
        }
    }

    pub(super) fn finish(&mut self) {
        self.finishing = true;
    }

    pub(super) fn satisfied(&self) -> bool {
        self.sessions.iter().all(|session| session.doing == Doing::Nothing)
    }

    pub(super) fn judge(&self) -> Result<(), Violation> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    fn command(&self, at: usize, element: u64) -> KvCommand {
        KvCommand::Append { key: self.first_key + at as u16, element }
    }

    fn ask(&mut self, client: ClientId, out: &mut Out) {
        let at = (client.0 - self.first) as usize;
        let session = &mut self.sessions[at];
        session.attempts += 1;
        let (token, target) = (session.token, self.nodes[session.target]);
        let ask = match session.doing {
            Doing::Nothing => return,
            Doing::Writing(element) => Ask::Write(self.command(at, element)),
            Doing::Reading((epoch, index), _) => {
                self.board.borrow_mut().asked.insert((client, token), (epoch, index));
                Ask::Read(self.first_key + at as u16, ReadLevel::Session { epoch, index })
            }
        };
        out.request(client, target, MachineRequest { token, ask });
    }

    fn begin(&mut self, now_ns: u64, client: ClientId, doing: Doing, random: &mut Random, out: &mut Out) {
        let session = &mut self.sessions[(client.0 - self.first) as usize];
        (session.doing, session.attempts) = (doing, 0);
        session.token += 1;
        session.target = random.index(self.nodes.len());
        out.wake_at(now_ns + TIMEOUT_NS, client, session.token | TIMEOUT);
        self.ask(client, out);
    }

    fn end(&mut self, now_ns: u64, client: ClientId, random: &mut Random, out: &mut Out) {
        self.sessions[(client.0 - self.first) as usize].doing = Doing::Nothing;
        out.wake_at(now_ns + random.below(60 * MILLISECOND_NS), client, 0);
    }

    pub(super) fn wake(
        &mut self,
        now_ns: u64,
        client: ClientId,
        token: u64,
        random: &mut Random,
        out: &mut Out,
    ) {
        let session = &mut self.sessions[(client.0 - self.first) as usize];
        if token == 0 {
            if session.doing != Doing::Nothing || session.left == 0 || self.finishing {
                return;
            }
            session.left -= 1;
            // Now and then an earlier write: much may have happened to it since.
            let earlier = random.index(WRITTEN_MAX);
            let doing = match session.written.get(earlier) {
                Some((token, length)) => Doing::Reading(*token, *length),
                None => {
                    self.next_element += 1;
                    Doing::Writing(self.next_element)
                }
            };
            self.begin(now_ns, client, doing, random, out);
        } else if session.token == token & !(TIMEOUT | RETRY) && session.doing != Doing::Nothing {
            if token & TIMEOUT != 0 {
                self.end(now_ns, client, random, out);
            } else {
                self.ask(client, out);
            }
        }
    }

    pub(super) fn reply(
        &mut self,
        now_ns: u64,
        client: ClientId,
        reply: &MachineReply<Kv>,
        random: &mut Random,
        out: &mut Out,
    ) {
        let at = (client.0 - self.first) as usize;
        let session = &self.sessions[at];
        if session.token != reply.token {
            return;
        }
        match (session.doing, &reply.outcome) {
            (Doing::Nothing, _) => {}
            (Doing::Writing(element), MachineOutcome::Done(KvAnswer::List { length, .. })) => {
                let command = encoded(&self.command(at, element));
                let placed = self.board.borrow().placed.get(&command).copied();
                let token = placed.expect("what was acknowledged was delivered before");
                let written = &mut self.sessions[at].written;
                written.push_back((token, *length));
                if written.len() == WRITTEN_MAX {
                    written.pop_front();
                }
                self.begin(now_ns, client, Doing::Reading(token, *length), random, out);
            }
            (Doing::Reading(token, wrote), MachineOutcome::Done(KvAnswer::List { length, .. })) => {
                if *length < wrote && self.broken.is_none() {
                    let detail = format!(
                        "c{} read {length} elements with token {token:?}, and had written {wrote}",
                        client.0
                    );
                    self.broken = Some(Violation::new("own-writes-are-read", detail));
                }
                self.end(now_ns, client, random, out);
            }
            (doing, MachineOutcome::Refused(Refusal::Lost)) => {
                if let Doing::Reading(lost, _) = doing {
                    self.sessions[at].written.retain(|(token, _)| *token != lost);
                }
                self.end(now_ns, client, random, out);
            }
            (_, MachineOutcome::Refused(why)) => {
                let leader = match why {
                    Refusal::NotLeader { leader: Some(leader) } => Some(*leader),
                    _ => None,
                };
                self.again(now_ns, client, leader, random, out);
            }
            _ => self.end(now_ns, client, random, out),
        }
    }

    /// Tries elsewhere.
    pub(super) fn again(
        &mut self,
        now_ns: u64,
        client: ClientId,
        leader: Option<NodeId>,
        random: &mut Random,
        out: &mut Out,
    ) {
        let nodes = self.nodes.len();
        let known = leader.and_then(|leader| self.nodes.iter().position(|node| *node == leader));
        let session = &mut self.sessions[(client.0 - self.first) as usize];
        if session.doing == Doing::Nothing {
            return;
        }
        if session.attempts >= ATTEMPTS_MAX {
            return self.end(now_ns, client, random, out);
        }
        session.target = known.unwrap_or_else(|| random.index(nodes));
        out.wake_at(now_ns + random.between(1, 30) * MILLISECOND_NS, client, session.token | RETRY);
    }

    /// Where to note the places of the sessions' writes: commands of these keys.
    pub(super) fn keys(&self) -> std::ops::Range<u64> {
        u64::from(self.first_key)..u64::from(self.first_key) + self.sessions.len() as u64
    }
}

/// Which of a step's deliveries are sessions' writes, by their keys.
pub(super) fn note_places(
    keys: &std::ops::Range<u64>,
    deliveries: impl Iterator<Item = (Bytes, Token)>,
    placed: &mut BTreeMap<Bytes, Token>,
) {
    for (command, token) in deliveries {
        let mut of_session = false;
        keypact_simulator::key_of_command(&command, &mut |key| of_session |= keys.contains(&key));
        if of_session {
            placed.insert(command, token);
        }
    }
}
