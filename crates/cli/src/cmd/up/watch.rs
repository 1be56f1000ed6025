//! Looking after nodes that serve: whoever ends is started again, a lost folder is replaced, who was let in is started, who was removed is stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use keypact_node::Member;

use crate::cluster::{self, Place};
use crate::failure::Failure;
use crate::fleet::{Event, Fleet};
use crate::output::note;
use crate::probe::{Answer, best_view};

/// A node that ended is started again after this; twice as long each time it ends soon after.
const BACK_OFF: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// Whoever ran so long is well again.
const WELL_AFTER: Duration = Duration::from_secs(30);
/// Between two looks at the folders.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between two questions about who was removed.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// A folder comes a moment after its node was let in; if it does not, that is said.
const STRANGE_AFTER: Duration = Duration::from_secs(3);
/// A lost folder is replaced after this: whatever deletes it shall be done by then.
const REPLACE_AFTER: Duration = Duration::from_millis(500);

/// Looks after nodes that serve, until a signal comes or none is left.
pub(super) struct Watch<'a> {
    fleet: &'a mut Fleet,
    events: &'a Receiver<Event>,
    dir: &'a Path,
    no_restart: bool,
    /// When each was started last, and how long it waits after it ends.
    since: Vec<(Instant, Duration)>,
    /// Who is to be started again, and when.
    due: BTreeMap<usize, Instant>,
    /// Whose folders are lost.
    lost: BTreeSet<usize>,
    /// Who belongs to the cluster and has no folder here: since when that is known, and whether it was said.
    strangers: BTreeMap<u64, (Instant, bool)>,
    look_at: Instant,
    ask_at: Instant,
    /// Who is asked next.
    turn: usize,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        fleet: &'a mut Fleet,
        events: &'a Receiver<Event>,
        dir: &'a Path,
        no_restart: bool,
    ) -> Watch<'a> {
        let now = Instant::now();
        let since = vec![(now, BACK_OFF); fleet.places().len()];
        let (due, lost, strangers) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let (look_at, ask_at) = (now, now);
        Watch { fleet, events, dir, no_restart, since, due, lost, strangers, look_at, ask_at, turn: 0 }
    }

    pub(super) fn run(mut self) -> Result<(), Failure> {
        loop {
            if self.fleet.running() == 0 && self.due.is_empty() {
                return Err(Failure::wrong("no node runs any more"));
            }
            let now = Instant::now();
            if now >= self.look_at {
                self.look_at = now + LOOK_EVERY;
                self.look();
            }
            let next = self.due.values().copied().min().map_or(self.look_at, |due| due.min(self.look_at));
            match self.events.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Event::Signal(name)) => {
                    note(format!("\n{name}: stopping the nodes"));
                    return Ok(());
                }
                Ok(Event::Ended { index, pid }) => {
                    if let Some(status) = self.fleet.reap(index, pid)? {
                        self.ended(index, pid, status);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.start_due(),
                Err(RecvTimeoutError::Disconnected) => unreachable!("the fleet itself holds a sender"),
            }
        }
    }

    fn id(&self, index: usize) -> u64 {
        self.fleet.place(index).member.id
    }

    fn ended(&mut self, index: usize, pid: u32, status: ExitStatus) {
        if self.fleet.is_retired(index) {
            return self.put_aside(index);
        }
        if self.lost.contains(&index) {
            note(format!("node {} (process {pid}) is stopped", self.id(index)));
            self.due.insert(index, Instant::now() + REPLACE_AFTER);
            return;
        }
        note(self.fleet.obituary(index, pid, status));
        if self.no_restart {
            return;
        }
        if self.fleet.place(index).is_lost() {
            return self.folder_is_lost(index);
        }
        if let Some(code @ (2 | 3)) = status.code() {
            note(format!(
                "  it is not started again: after exit code {code} it would end the same way, until you do what it says"
            ));
            return;
        }
        if self.since[index].0.elapsed() >= WELL_AFTER {
            self.since[index].1 = BACK_OFF;
        }
        self.start_later(index);
    }

    fn start_later(&mut self, index: usize) {
        let back_off = &mut self.since[index].1;
        note(format!("  starting it again in {} ms", back_off.as_millis()));
        self.due.insert(index, Instant::now() + *back_off);
        *back_off = (*back_off * 2).min(BACK_OFF_MAX);
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        let ready: Vec<usize> =
            self.due.iter().filter(|(_, due)| **due <= now).map(|(index, _)| *index).collect();
        for index in ready {
            self.due.remove(&index);
            // It may have gone while the node waited for its start.
            if !self.lost.contains(&index) && self.fleet.place(index).is_lost() {
                self.folder_is_lost(index);
                continue;
            }
            if !self.lost.contains(&index) {
                self.start(index, "was started again");
                continue;
            }
            match self.replace_folder(index) {
                Ok(Some(life)) => {
                    self.lost.remove(&index);
                    self.start(index, &format!("was started with an empty folder, as life {life} of it"));
                }
                Ok(None) => self.removed(index),
                Err(failure) => {
                    note(format!("node {} can't get a new folder yet: {}", self.id(index), failure.text));
                    self.due.insert(index, now + BACK_OFF_MAX);
                }
            }
        }
    }

    /// Starts a node; a system that refuses now may not later, and the others serve meanwhile.
    fn start(&mut self, index: usize, how: &str) {
        match self.fleet.start(index) {
            Ok(pid) => {
                self.since[index].0 = Instant::now();
                note(format!("node {} {how} (process {pid})", self.id(index)));
            }
            Err(failure) => {
                note(failure.text);
                self.start_later(index);
            }
        }
    }

    /// Looks at the folders, and asks who was removed.
    fn look(&mut self) {
        let places = self.fleet.places().len();
        for index in 0..places {
            if !self.no_restart && !self.fleet.is_retired(index) && self.fleet.place(index).is_lost() {
                self.folder_is_lost(index);
            }
        }
        self.adopt();
        let now = Instant::now();
        if now >= self.ask_at {
            self.ask_at = now + ASK_EVERY;
            self.find_removed();
        }
    }

    fn folder_is_lost(&mut self, index: usize) {
        if !self.lost.insert(index) {
            return;
        }
        let runs = self.fleet.pid(index).is_some();
        let stopped = if runs { ", so it is stopped," } else { ":" };
        let and = if runs { "and gets" } else { "it gets" };
        note(format!("node {}: its folder is gone{stopped} {and} an empty one", self.id(index)));
        if runs {
            // Without its folder it could acknowledge what no disk has. If it ended just now that is told as usual.
            if let Err(failure) = self.fleet.kill(index) {
                note(failure.text);
            }
        } else {
            self.due.insert(index, Instant::now() + REPLACE_AFTER);
        }
    }

    /// Makes an empty folder for a node, under a life later than each that anybody heard of; returns which, or `None` if it was removed.
    fn replace_folder(&mut self, index: usize) -> Result<Option<u64>, Failure> {
        let place = self.fleet.place(index).clone();
        let others: Vec<Place> = (0..self.fleet.places().len())
            .filter(|other| {
                *other != index && !self.fleet.is_retired(*other) && !self.fleet.place(*other).is_lost()
            })
            .map(|other| self.fleet.place(other).clone())
            .collect();
        let addresses: Vec<String> = others.iter().map(|place| place.member.resp.clone()).collect();
        let answers: Vec<Answer> = self.fleet.asking.ask_all(&addresses).into_iter().flatten().collect();
        let told: Vec<&Answer> = answers.iter().collect();
        let id = place.member.id;
        let knows =
            told.iter().any(|answer| best_view("catalog", &[answer]).is_some_and(|c| c.leader.is_some()));
        let model = others.first().filter(|_| knows).ok_or_else(|| {
            Failure::cannot("no other node has its folder and knows a leader; it is tried again")
        })?;
        if answers.iter().any(|answer| answer.is_gone(id, place.member.incarnation)) {
            return Ok(None);
        }
        // This program made or read the folder that is lost, or read which were made, so it knows the last life that anybody can have seen.
        let heard = answers.iter().map(|answer| answer.next_life(id)).max().unwrap_or(1);
        let incarnation = heard.max(place.member.incarnation + 1);
        let newest = super::newest_catalog(&answers);
        let contacts: Vec<Member> = newest.into_iter().flat_map(|answer| &answer.nodes).map(member).collect();
        let next = Member { incarnation, ..place.member.clone() };
        cluster::put_remains_aside(&place)?;
        let place = cluster::furnish(&model.folder, &next, &contacts)?.settle()?;
        assert!(place.member.incarnation > self.fleet.place(index).member.incarnation, "no life comes twice");
        self.fleet.replace(index, place);
        Ok(Some(incarnation))
    }

    /// Starts nodes whose folders have come: `keypact node add` made them.
    fn adopt(&mut self) {
        // What can't be looked at now is looked at again, and is no reason to stop those that serve.
        let Ok(folders) = cluster::node_folders(self.dir) else { return };
        for folder in folders {
            let known = (0..self.fleet.places().len())
                .any(|index| !self.fleet.is_retired(index) && self.fleet.place(index).folder == folder);
            if known {
                continue;
            }
            // A folder that is still being written, or is no node's, is no reason to stop those that serve.
            let Ok(Some(identity)) = keypact_server::peek_identity(&folder.join("data")) else { continue };
            let place = Place { member: identity.me().clone(), folder };
            if !place.config().is_file() {
                continue;
            }
            let index = self.fleet.add(place);
            self.since.push((Instant::now(), BACK_OFF));
            self.start(index, "has come, and was started");
        }
    }

    /// Asks one node after another whether some of ours were removed from the cluster: then they are stopped.
    fn find_removed(&mut self) {
        let places = self.fleet.places().len();
        let running = |index: &usize| self.fleet.pid(*index).is_some();
        let Some(asked) = (0..places).map(|step| (self.turn + step) % places).find(running) else { return };
        self.turn = asked + 1;
        let Ok(answer) = self.fleet.asking.ask(&self.fleet.place(asked).member.resp) else { return };
        for index in 0..places {
            let Member { id, incarnation, .. } = self.fleet.place(index).member;
            if self.fleet.is_retired(index) || !answer.is_gone(id, incarnation) {
                continue;
            }
            self.removed(index);
        }
        self.find_strangers(&answer);
    }

    /// Whoever belongs to the cluster and has no folder here may run elsewhere, or be lost: only people know.
    fn find_strangers(&mut self, answer: &Answer) {
        let now = Instant::now();
        for member in &answer.nodes {
            let (id, resp) = (member.id, &member.resp);
            if self.fleet.places().any(|place| place.member.id == id) {
                self.strangers.remove(&id);
                continue;
            }
            let (since, is_said) = self.strangers.entry(id).or_insert((now, false));
            if !*is_said && now.duration_since(*since) >= STRANGE_AFTER {
                *is_said = true;
                note(format!(
                    "node {id} ({resp}) belongs to the cluster and has no folder in {}: it is not started here. If it is lost: keypact node remove {id}",
                    self.dir.display()
                ));
            }
        }
    }

    fn removed(&mut self, index: usize) {
        note(format!("node {} was removed from the cluster: it is stopped", self.id(index)));
        self.due.remove(&index);
        self.fleet.retire(index);
        if self.fleet.pid(index).is_none() {
            self.put_aside(index);
        }
    }

    /// A removed node has stopped: nobody shall start it again.
    fn put_aside(&mut self, index: usize) {
        let place = self.fleet.place(index);
        let aside = cluster::removed_folder(place);
        match fs::rename(&place.folder, &aside) {
            Ok(()) => note(format!("node {}: its folder is now {}", place.member.id, aside.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => note(format!("cannot put {} aside: {error}", place.folder.display())),
        }
    }
}

fn member(told: &crate::probe::Member) -> Member {
    Member {
        id: told.id,
        incarnation: told.incarnation,
        resp: told.resp.clone(),
        peer: told.peer.clone(),
        http: told.http.clone(),
    }
}
