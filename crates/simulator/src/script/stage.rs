//! The stage: processes, links and disks that do nothing unless told.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes};
use keypact_protocol::{
    Context, Draft, Gate, Input, NodeId, Protocol, ReadLevel, Recover, Request, RequestId, SnapshotChunk,
    SnapshotInput, SnapshotRead,
};

use super::outlet::{InFlight, Scribe, StageOutlet, Wish};
use super::{Settings, Story};
use crate::clock::Clock;
use crate::trace::catch;
use crate::{Checkpoint, Disk, Loss, Origin, Random, RecordDisk};

/// `stabilize`, `deliver all` and `tick` give up after so many steps: something feeds itself.
const STEPS_LIMIT: usize = 10_000;
/// Wall clock at the beginning: small, so that stamps are easily read.
const WALL_START_MS: u64 = 1_000_000;

/// One process and its machine.
pub(super) struct Actor<P: Protocol> {
    pub(super) id: NodeId,
    life: Option<(P, Gate<P>)>,
    lives: u64,
    losses: u64,
    pub(super) disk: RecordDisk<P>,
    pub(super) clock: Clock,
    timers: Vec<(P::Timer, u64)>,
    applied: Vec<(u64, Bytes)>,
    pub(super) hung: bool,
    paused: bool,
    inbox: VecDeque<Input<P>>,
    incoming: Vec<u8>,
}

/// Everything.
pub(super) struct Stage<S: Story> {
    story: S,
    settings: Settings,
    pub(super) actors: Vec<Actor<S::Protocol>>,
    now_ns: u64,
    pub(super) in_flight: Vec<InFlight<S::Protocol>>,
    /// Links whose messages wait, and those messages.
    pub(super) held_links: Vec<(NodeId, NodeId)>,
    pub(super) cuts: Vec<(NodeId, NodeId)>,
    /// What was taken out of the way, to arrive after later messages.
    pub(super) delayed: Vec<InFlight<S::Protocol>>,
    requests: u64,
    lines: Vec<String>,
    pub(super) panics_expected: bool,
}

impl<S: Story> Stage<S> {
    pub(super) fn new(story: S) -> Stage<S> {
        Stage {
            story,
            settings: Settings::default(),
            actors: Vec::new(),
            now_ns: 0,
            in_flight: Vec::new(),
            held_links: Vec::new(),
            cuts: Vec::new(),
            delayed: Vec::new(),
            requests: 0,
            lines: Vec::new(),
            panics_expected: false,
        }
    }

    /// What was written down since the last call.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    pub(super) fn line(&mut self, line: String) {
        self.lines.push(line);
    }

    /// Drops all lines since the first `from` but deliveries, replies and panics.
    pub(super) fn hush(&mut self, from: usize) {
        let loud = |line: &String| {
            let what = line.split(' ').nth(1).unwrap_or("");
            matches!(what, "deliver" | "reply" | "panics:") && !line.contains("(held until ")
        };
        let mut at = 0;
        self.lines.retain(|line| {
            at += 1;
            at <= from || loud(line)
        });
    }

    pub(super) fn has_panicked_since(&self, from: usize) -> bool {
        self.lines[from..].iter().any(|line| line.split(' ').nth(1) == Some("panics:"))
    }

    pub(super) fn lines_len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn begin(&mut self, count: u64, settings: Settings) -> Result<(), String> {
        if count == 0 || count > 9 {
            return Err("between 1 and 9 nodes".into());
        }
        self.settings = settings;
        self.actors = (1..=count)
            .map(|id| Actor {
                id: NodeId(id),
                life: None,
                lives: 0,
                losses: 0,
                disk: RecordDisk::default(),
                clock: Clock::new(0, WALL_START_MS),
                timers: Vec::new(),
                applied: Vec::new(),
                hung: false,
                paused: false,
                inbox: VecDeque::new(),
                incoming: Vec::new(),
            })
            .collect();
        self.in_flight.clear();
        self.held_links.clear();
        self.cuts.clear();
        self.delayed.clear();
        self.now_ns = 0;
        for index in 0..self.actors.len() {
            self.start(index)?;
        }
        Ok(())
    }

    pub(super) fn index_of(&self, id: NodeId) -> Result<usize, String> {
        self.actors.iter().position(|actor| actor.id == id).ok_or_else(|| format!("there is no {id}"))
    }

    /// Begins a life: recovers from the disk.
    pub(super) fn start(&mut self, index: usize) -> Result<(), String> {
        let members: Vec<NodeId> = self.actors.iter().map(|actor| actor.id).collect();
        let actor = &mut self.actors[index];
        if actor.life.is_some() {
            return Err(format!("{} is alive", actor.id));
        }
        actor.lives += 1;
        actor.timers.clear();
        actor.inbox.clear();
        actor.incoming.clear();
        actor.hung = false;
        actor.paused = false;
        let mut config = self.story.config(actor.id, &members, &self.settings)?;
        if actor.losses > 0 {
            self.story.reborn(&mut config, actor.losses);
        }
        let checkpoint = actor.disk.checkpoint();
        actor.applied = checkpoint.map_or_else(Vec::new, |kept| decode_applied(kept.state.clone()));
        let meta = checkpoint.map(|kept| kept.meta.clone());
        let seed = actor.id.0 * 1_000 + actor.lives;
        let mut recovery =
            <S::Protocol as Protocol>::begin(config, meta, seed).map_err(|error| error.to_string())?;
        for (lsn, record) in actor.disk.records() {
            recovery.replay(lsn, record.clone()).map_err(|error| error.to_string())?;
        }
        actor.life = Some((recovery.finish(), Gate::new(actor.disk.durable())));
        self.input(index, Input::Start)
    }

    pub(super) fn lose_disk(&mut self, index: usize) {
        let actor = &mut self.actors[index];
        actor.losses += 1;
        actor.disk = RecordDisk::default();
    }

    pub(super) fn crash(&mut self, index: usize, loss: Loss) -> Result<(), String> {
        let actor = &mut self.actors[index];
        if actor.life.take().is_none() {
            return Err(format!("{} is not alive", actor.id));
        }
        // No chance is needed: scripts lose all or nothing.
        actor.disk.crash(loss, &mut Random::new(0));
        actor.timers.clear();
        actor.inbox.clear();
        Ok(())
    }

    /// Gives one input, as a batch of its own; or lets it wait if the process is paused. Passed over if it is dead.
    pub(super) fn input(&mut self, index: usize, input: Input<S::Protocol>) -> Result<(), String> {
        let actor = &mut self.actors[index];
        if actor.life.is_none() {
            return Ok(());
        }
        actor.inbox.push_back(input);
        if actor.paused { Ok(()) } else { self.take_batch(index) }
    }

    /// Gives everything that waits, as one batch; then what that gave rise to on this machine, until nothing is left.
    fn take_batch(&mut self, index: usize) -> Result<(), String> {
        for _ in 0..STEPS_LIMIT {
            let actor = &mut self.actors[index];
            if actor.inbox.is_empty() || actor.life.is_none() {
                return Ok(());
            }
            let batch = std::mem::take(&mut actor.inbox);
            let context = actor.clock.sample(self.now_ns);
            let mut wishes = Vec::new();
            let result = self.with_actor(index, &mut wishes, |protocol, out| {
                for input in batch {
                    protocol.handle(input, context, out);
                }
                protocol.flush(context, out);
                protocol.assert_invariants();
            });
            if let Err(panic) = result {
                return self.died(index, &panic);
            }
            for wish in wishes {
                self.grant(index, wish);
            }
        }
        Err("a process feeds itself without end".into())
    }

    fn died(&mut self, index: usize, panic: &str) -> Result<(), String> {
        let actor = &mut self.actors[index];
        actor.life = None;
        actor.inbox.clear();
        // The place in the source changes with every edit.
        let what = panic.rsplit_once(", ").map_or(panic, |(what, _)| what);
        let line = format!("{} panics: {what}", actor.id);
        self.lines.push(line);
        if self.panics_expected { Ok(()) } else { Err(format!("{} panics: {panic}", self.actors[index].id)) }
    }

    fn with_actor<T>(
        &mut self,
        index: usize,
        wishes: &mut Vec<Wish>,
        body: impl FnOnce(&mut S::Protocol, &mut Scribe<'_, '_, S>) -> T,
    ) -> Result<T, String> {
        let actors = self.actors.len() as u64;
        let actor = &mut self.actors[index];
        let (protocol, gate) = actor.life.as_mut().expect("only the living are given inputs");
        let mut outlet = StageOutlet {
            story: &self.story,
            id: actor.id,
            actors,
            show_timers: self.settings.text("timers") == Some("on"),
            lines: &mut self.lines,
            sent: &mut self.in_flight,
            cuts: &self.cuts,
            disk: &mut actor.disk,
            timers: &mut actor.timers,
            applied: &mut actor.applied,
            wishes,
        };
        catch(|| body(protocol, &mut Scribe { gate, outlet: &mut outlet }))
    }

    fn grant(&mut self, index: usize, wish: Wish) {
        let chunk_bytes = self.settings.number("chunk_bytes").ok().flatten().unwrap_or(64).max(1) as usize;
        let actor = &mut self.actors[index];
        match wish {
            Wish::Checkpoint(meta) => {
                let applied = actor.applied.last().map_or(0, |(index, _)| *index);
                let state = encode_applied(&actor.applied);
                actor.disk.write_checkpoint(Origin::Own, Checkpoint { meta, applied, state });
            }
            Wish::Read(SnapshotRead { to, chunk }) => {
                let found = actor.disk.checkpoint().and_then(|kept| chunk_of(kept, chunk, chunk_bytes));
                let answer = match found {
                    Some(chunk) => SnapshotInput::Read { to, chunk },
                    None => SnapshotInput::ReadFailed { to },
                };
                actor.inbox.push_back(Input::Snapshot(answer));
            }
            Wish::Chunk(chunk) => {
                if chunk.chunk == 0 {
                    actor.incoming.clear();
                }
                actor.incoming.extend_from_slice(&chunk.bytes);
                if chunk.last {
                    let state = Bytes::from(std::mem::take(&mut actor.incoming));
                    let applied = decode_applied(state.clone()).last().map_or(0, |(index, _)| *index);
                    let checkpoint = Checkpoint { meta: chunk.meta, applied, state };
                    actor.disk.write_checkpoint(Origin::Peer, checkpoint);
                } else {
                    actor.inbox.push_back(Input::Snapshot(SnapshotInput::Taken { chunk: chunk.chunk }));
                }
            }
        }
    }

    /// The disk has everything. Returns whether that is news.
    pub(super) fn durable(&mut self, index: usize) -> Result<bool, String> {
        let actor = &mut self.actors[index];
        if actor.life.is_none() {
            return Ok(false);
        }
        if actor.hung {
            return Err(format!("the disk of {} hangs", actor.id));
        }
        let mut news = false;
        if actor.disk.durable() < actor.disk.last() {
            news = true;
            let lsn = actor.disk.last();
            actor.disk.synced(lsn);
            let mut wishes = Vec::new();
            let release =
                |_: &mut S::Protocol, out: &mut Scribe<'_, '_, S>| out.gate.release(lsn, out.outlet);
            if let Err(panic) = self.with_actor(index, &mut wishes, release) {
                return self.died(index, &panic).map(|()| true);
            }
            assert!(wishes.is_empty(), "the gate holds no wishes");
            self.input(index, Input::Durable(lsn))?;
        }
        if self.actors[index].disk.writing(Origin::Own).is_some() {
            news = true;
            let meta = self.actors[index].disk.checkpoint_written(Origin::Own).meta;
            self.input(index, Input::Snapshot(SnapshotInput::Checkpointed { meta }))?;
        }
        if self.actors[index].disk.writing(Origin::Peer).is_some() {
            news = true;
            let actor = &mut self.actors[index];
            let written = actor.disk.checkpoint_written(Origin::Peer);
            actor.applied = decode_applied(written.state);
            let line = format!("{} has the state up to {}", actor.id, written.applied);
            self.lines.push(line);
            self.input(index, Input::Snapshot(SnapshotInput::Installed { meta: written.meta }))?;
        }
        Ok(news)
    }

    pub(super) fn propose(&mut self, index: usize, text: &str) -> Result<(), String> {
        self.requests += 1;
        let id = RequestId(self.requests);
        let command = Draft::copy_of(text.as_bytes());
        self.input(index, Input::Request(Request::Propose { id, command }))
    }

    pub(super) fn read(&mut self, index: usize, level: ReadLevel, key: Option<u64>) -> Result<(), String> {
        self.requests += 1;
        let id = RequestId(self.requests);
        let request = match key {
            Some(key) => Request::ReadKey { id, level, key },
            None => Request::Read { id, level },
        };
        self.input(index, Input::Request(request))
    }

    /// Delivers a message; it is lost if its link is cut.
    pub(super) fn deliver(&mut self, message: InFlight<S::Protocol>) -> Result<(), String> {
        let InFlight { from, to, message } = message;
        if self.cuts.contains(&(from, to)) {
            let line = format!("{from} x {to} {}", self.story.message(&message));
            self.lines.push(line);
            return Ok(());
        }
        let index = self.index_of(to)?;
        self.input(index, Input::Message { from, message })
    }

    /// Somebody who is not on the stage says this.
    pub(super) fn say(&mut self, from: NodeId, to: NodeId, text: &str) -> Result<(), String> {
        let message = self.story.said(text)?;
        let index = self.index_of(to)?;
        self.input(index, Input::Message { from, message })
    }

    pub(super) fn message_text(&self, message: &InFlight<S::Protocol>) -> String {
        format!("{} > {} {}", message.from, message.to, self.story.message(&message.message))
    }

    /// Delivers and syncs until all is quiet.
    pub(super) fn stabilize(&mut self) -> Result<(), String> {
        for _ in 0..STEPS_LIMIT {
            let mut news = false;
            let waiting = std::mem::take(&mut self.in_flight);
            for message in waiting {
                if self.held_links.contains(&(message.from, message.to)) {
                    self.in_flight.push(message);
                } else {
                    news = true;
                    self.deliver(message)?;
                }
            }
            for index in 0..self.actors.len() {
                if !self.actors[index].hung {
                    news |= self.durable(index)?;
                }
            }
            if !news {
                return Ok(());
            }
        }
        Err("it does not become quiet".into())
    }

    /// Fires a timer by name; time goes on to it if it is later.
    pub(super) fn fire(&mut self, index: usize, name: &str) -> Result<(), String> {
        let actor = &mut self.actors[index];
        let found = actor.timers.iter().position(|(timer, _)| self.story.timer(*timer) == name);
        let Some(found) = found else {
            let set: Vec<String> = actor.timers.iter().map(|(timer, _)| self.story.timer(*timer)).collect();
            return Err(format!("{} has no timer {name}; set are: {}", actor.id, set.join(", ")));
        };
        let (timer, at_ns) = actor.timers.remove(found);
        self.now_ns = actor.clock.true_ns(at_ns, self.now_ns);
        self.input(index, Input::Timer(timer))
    }

    /// Time goes on; timers fire as they come due. If it `settles`, all is delivered and synced after each.
    pub(super) fn tick(&mut self, by_ns: u64, settles: bool) -> Result<(), String> {
        if settles {
            self.stabilize()?;
        }
        let end_ns = self.now_ns + by_ns;
        for _ in 0..STEPS_LIMIT {
            let mut next: Option<(u64, usize)> = None;
            for (index, actor) in self.actors.iter().enumerate() {
                if actor.life.is_none() || actor.paused {
                    continue;
                }
                let earliest = actor.timers.iter().map(|(_, at_ns)| *at_ns).min();
                let Some(local_ns) = earliest else { continue };
                let at_ns = actor.clock.true_ns(local_ns, self.now_ns);
                if at_ns <= end_ns && next.is_none_or(|(earlier, _)| at_ns < earlier) {
                    next = Some((at_ns, index));
                }
            }
            let Some((at_ns, index)) = next else {
                self.now_ns = end_ns;
                return Ok(());
            };
            self.now_ns = at_ns;
            self.fire_earliest(index)?;
            if settles {
                self.stabilize()?;
            }
        }
        Err("timers fire without end".into())
    }

    fn fire_earliest(&mut self, index: usize) -> Result<(), String> {
        let timers = &mut self.actors[index].timers;
        let least = timers.iter().map(|(timer, at_ns)| (*at_ns, *timer)).min();
        let (_, timer) = least.expect("a timer is due");
        timers.retain(|(set, _)| *set != timer);
        let name = self.story.timer(timer);
        let line = format!("{} timer {name} fires at {} ms", self.actors[index].id, self.now_ns / 1_000_000);
        self.lines.push(line);
        self.input(index, Input::Timer(timer))
    }

    pub(super) fn pause(&mut self, index: usize) {
        self.actors[index].paused = true;
    }

    /// What gathered comes as one batch; what came due meanwhile is in it.
    pub(super) fn resume(&mut self, index: usize) -> Result<(), String> {
        let actor = &mut self.actors[index];
        actor.paused = false;
        let local_ns = actor.clock.local_ns(self.now_ns);
        let mut due: Vec<_> = actor.timers.extract_if(.., |(_, at_ns)| *at_ns <= local_ns).collect();
        due.sort_by_key(|(timer, at_ns)| (*at_ns, *timer));
        actor.inbox.extend(due.into_iter().map(|(timer, _)| Input::Timer(timer)));
        self.take_batch(index)
    }

    pub(super) fn drift(&mut self, index: usize, ppm: i64) {
        self.actors[index].clock.drift(self.now_ns, ppm);
    }

    pub(super) fn show_state(&mut self, index: usize) {
        let actor = &self.actors[index];
        let text =
            actor.life.as_ref().map_or_else(|| "is dead".into(), |(protocol, _)| self.story.state(protocol));
        let line = format!("{} {text}", actor.id);
        self.lines.push(line);
    }

    pub(super) fn show_log(&mut self, index: usize) {
        let actor = &self.actors[index];
        if let Some(kept) = actor.disk.checkpoint() {
            self.lines.push(format!("{} checkpoint up to {}", actor.id, kept.applied));
        }
        for (lsn, record) in actor.disk.records() {
            let mark = if lsn <= actor.disk.durable() { "" } else { " (not durable)" };
            let text = self.story.record(record);
            self.lines.push(format!("{} {lsn} {text}{mark}", actor.id));
        }
    }

    pub(super) fn context(&self, index: usize) -> Context {
        self.actors[index].clock.sample(self.now_ns)
    }
}

/// The parent's state on the stage: every command with its index.
fn encode_applied(applied: &[(u64, Bytes)]) -> Bytes {
    let mut out = Vec::new();
    for (index, command) in applied {
        out.put_u64_le(*index);
        out.put_u32_le(command.len() as u32);
        out.put_slice(command);
    }
    Bytes::from(out)
}

fn decode_applied(mut bytes: Bytes) -> Vec<(u64, Bytes)> {
    let mut applied = Vec::new();
    while bytes.has_remaining() {
        let index = bytes.get_u64_le();
        let len = bytes.get_u32_le() as usize;
        applied.push((index, bytes.split_to(len)));
    }
    applied
}

fn chunk_of(kept: &Checkpoint, chunk: u32, chunk_bytes: usize) -> Option<SnapshotChunk> {
    let from = chunk as usize * chunk_bytes;
    let len = kept.state.len();
    if from > len || (from == len && chunk > 0) {
        return None;
    }
    let to = (from + chunk_bytes).min(len);
    Some(SnapshotChunk { meta: kept.meta.clone(), chunk, bytes: kept.state.slice(from..to), last: to == len })
}
