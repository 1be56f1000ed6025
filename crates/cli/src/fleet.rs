//! Node processes on this machine: started, watched, ended by their ids.
//!
//! Each child leads a process group of its own, so that Ctrl-C reaches only us, and its standard input is a pipe that we hold: when we
//! are gone, however that happened, the pipe closes and the child stops cleanly (`serve --stop-with-stdin`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use keypact_node::Member;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::cluster::Place;
use crate::config;
use crate::failure::Failure;
use crate::output::note;
use crate::probe::{Answer, Asking, all_serve};

/// A node's log is moved away when it is longer than this at a start; one old log is kept.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// How long nodes may take until they serve.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long they may take to stop cleanly.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How often nodes that start are asked whether they serve.
const ASK_EVERY: Duration = Duration::from_millis(25);
/// Lines of its log that are shown when a node ended.
const LAST_LINES: usize = 12;

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// The process of the node at this place ended; it is not yet reaped.
    Ended {
        /// Place in the fleet.
        index: usize,
        /// Which process.
        pid: u32,
    },
    /// We were asked to stop.
    Signal(&'static str),
}

struct Slot {
    place: Place,
    child: Option<Child>,
    /// It was removed from the cluster.
    is_retired: bool,
}

impl Slot {
    fn new(place: Place) -> Slot {
        Slot { place, child: None, is_retired: false }
    }

    /// Asks its process to stop.
    fn ask_to_stop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.stdin.take());
            // Fails only if it has just ended.
            let _ = kill_process(process_id(child.id()), Signal::TERM);
        }
    }
}

/// The processes of a cluster's nodes.
pub(crate) struct Fleet {
    program: PathBuf,
    slots: Vec<Slot>,
    events: Sender<Event>,
    /// How to ask them.
    pub(crate) asking: Asking,
}

impl Fleet {
    /// No process yet; `events` is told of each end of one.
    ///
    /// # Errors
    /// We can't find our own program; a node's configuration can't be read.
    pub(crate) fn new(places: Vec<Place>, events: Sender<Event>) -> Result<Fleet, Failure> {
        assert!(!places.is_empty(), "a cluster has nodes");
        let program = std::env::current_exe()
            .map_err(|error| Failure::cannot(format!("cannot find this program itself: {error}")))?;
        let model = places.iter().find(|place| place.config().is_file()).unwrap_or(&places[0]);
        let password = config::load(&model.config())?.settings.password;
        let asking = Asking { password, patience: Duration::from_secs(1) };
        let slots = places.into_iter().map(Slot::new).collect();
        Ok(Fleet { program, slots, events, asking })
    }

    /// The nodes' places, in order.
    pub(crate) fn places(&self) -> impl ExactSizeIterator<Item = &Place> {
        self.slots.iter().map(|slot| &slot.place)
    }

    /// A node's place.
    pub(crate) fn place(&self, index: usize) -> &Place {
        &self.slots[index].place
    }

    /// A node that has come; returns its place in the fleet.
    pub(crate) fn add(&mut self, place: Place) -> usize {
        self.slots.push(Slot::new(place));
        self.slots.len() - 1
    }

    /// A node that does not run has another folder now.
    pub(crate) fn replace(&mut self, index: usize, place: Place) {
        let slot = &mut self.slots[index];
        assert!(
            slot.child.is_none() && slot.place.member.id == place.member.id,
            "a new folder for the same node"
        );
        slot.place = place;
    }

    /// A node was removed from the cluster: it is stopped, and not started again.
    pub(crate) fn retire(&mut self, index: usize) {
        self.slots[index].is_retired = true;
        self.slots[index].ask_to_stop();
    }

    /// Whether it was removed.
    pub(crate) fn is_retired(&self, index: usize) -> bool {
        self.slots[index].is_retired
    }

    /// The process of a node, if it runs.
    pub(crate) fn pid(&self, index: usize) -> Option<u32> {
        self.slots[index].child.as_ref().map(Child::id)
    }

    /// How many processes run.
    pub(crate) fn running(&self) -> usize {
        self.slots.iter().filter(|slot| slot.child.is_some()).count()
    }

    /// Starts a node's process.
    ///
    /// # Errors
    /// The system refuses; then nothing runs.
    pub(crate) fn start(&mut self, index: usize) -> Result<u32, Failure> {
        let slot = &mut self.slots[index];
        assert!(slot.child.is_none(), "node {} runs already", slot.place.member.id);
        let id = slot.place.member.id;
        let cannot = |error: io::Error| Failure::cannot(format!("cannot start node {id}: {error}"));
        let log = open_log(&slot.place.log()).map_err(cannot)?;
        let mut command = Command::new(&self.program);
        command.arg("serve").arg("--config").arg(slot.place.config()).arg("--stop-with-stdin");
        command.stdin(Stdio::piped()).stdout(log.try_clone().map_err(cannot)?).stderr(log).process_group(0);
        let child = command.spawn().map_err(cannot)?;
        let pid = child.id();
        slot.child = Some(child);
        if let Err(error) = self.watch(index, pid) {
            // Nobody would hear of its end.
            let mut child = self.slots[index].child.take().expect("just put there");
            let ended = child.kill().and_then(|()| child.wait());
            assert!(ended.is_ok(), "a child that was not reaped can be killed: {ended:?}");
            return Err(cannot(error));
        }
        Ok(pid)
    }

    /// Tells of the process's end without reaping it, so that its id stays its own until [`Fleet::reap`].
    fn watch(&self, index: usize, pid: u32) -> io::Result<()> {
        let events = self.events.clone();
        let id = process_id(pid);
        let watching = move || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(id), options), Err(rustix::io::Errno::INTR)) {}
            // Nobody listens any more: then nobody needs to know.
            let _ = events.send(Event::Ended { index, pid });
        };
        thread::Builder::new().name(format!("watch-{pid}")).spawn(watching).map(drop)
    }

    /// Takes leave of an ended process; `None` if it was reaped before.
    ///
    /// # Errors
    /// The system lost track of it.
    pub(crate) fn reap(&mut self, index: usize, pid: u32) -> Result<Option<ExitStatus>, Failure> {
        let slot = &mut self.slots[index];
        if slot.child.as_ref().map(Child::id) != Some(pid) {
            return Ok(None);
        }
        let mut child = slot.child.take().expect("just seen");
        let status = child.wait();
        status.map(Some).map_err(|error| Failure::cannot(format!("cannot wait for process {pid}: {error}")))
    }

    /// `kill -9`. The end is told as an event.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn kill(&mut self, index: usize) -> Result<(), Failure> {
        let child = self.slots[index].child.as_mut().expect("only a running node is killed");
        child.kill().map_err(|error| Failure::cannot(format!("cannot kill process {}: {error}", child.id())))
    }

    /// Waits until all nodes that were started serve, and returns their answers.
    ///
    /// # Errors
    /// One ended, which is told with the end of its log; it takes too long; a signal came.
    pub(crate) fn wait_until_serving(&mut self, events: &Receiver<Event>) -> Result<Vec<Answer>, Failure> {
        let started: Vec<usize> = (0..self.slots.len()).filter(|at| self.pid(*at).is_some()).collect();
        let places: Vec<Place> = started.iter().map(|at| self.place(*at).clone()).collect();
        let addresses: Vec<String> = places.iter().map(|place| place.member.resp.clone()).collect();
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match events.recv_timeout(ASK_EVERY) {
                Ok(Event::Signal(_)) => return Err(Failure::interrupted()),
                Ok(Event::Ended { index, pid }) => {
                    if let Some(status) = self.reap(index, pid)? {
                        return Err(Failure::cannot(self.obituary(index, pid, status)));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the fleet itself holds a sender"),
            }
            let answers = self.asking.ask_all(&addresses);
            // Who was removed while it was down serves no more, and may not have been told.
            let removed = |place: &&Place| {
                let Member { id, incarnation, .. } = place.member;
                answers.iter().flatten().any(|answer| answer.is_gone(id, incarnation))
            };
            let here = places.iter().zip(&answers).filter(|(place, _)| !removed(place));
            if all_serve(&here.map(|(_, answer)| answer.clone()).collect::<Vec<_>>()) {
                return Ok(answers.into_iter().flatten().collect());
            }
            if Instant::now() > deadline {
                return Err(Fleet::not_in_time(&places, &answers));
            }
        }
    }

    fn not_in_time(places: &[Place], answers: &[Result<Answer, String>]) -> Failure {
        let said = places.iter().zip(answers).map(|(place, answer)| {
            let said = match answer {
                Ok(answer) => format!("{} without an agreed leader", answer.role().unwrap_or("unknown")),
                Err(error) => error.clone(),
            };
            format!(
                "\n  node {} ({}): {said}; its log is {}",
                place.member.id,
                place.member.resp,
                place.log().display()
            )
        });
        let said: String = said.collect();
        Failure::cannot(format!("the nodes do not serve after {} s:{said}", START_LIMIT.as_secs()))
    }

    /// How a process ended, with the last lines of its log.
    pub(crate) fn obituary(&self, index: usize, pid: u32, status: ExitStatus) -> String {
        let place = &self.slots[index].place;
        let lines = last_lines(&place.log(), LAST_LINES).unwrap_or_default();
        let lines: String = lines.lines().map(|line| format!("\n    {line}")).collect();
        let said = if lines.is_empty() { String::new() } else { format!("; the end of its log:{lines}") };
        format!("node {} (process {pid}) ended: {status}{said}", place.member.id)
    }

    /// Ends all processes: cleanly, and what is still there after a while by force.
    pub(crate) fn stop(&mut self, events: &Receiver<Event>) {
        for slot in &mut self.slots {
            slot.ask_to_stop();
        }
        let deadline = Instant::now() + STOP_LIMIT;
        while self.running() > 0 {
            match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Ended { index, pid }) => {
                    if let Err(failure) = self.reap(index, pid) {
                        note(failure.text);
                    }
                }
                Ok(Event::Signal(_)) | Err(_) => break,
            }
        }
        for slot in self.slots.iter().filter(|slot| slot.child.is_some()) {
            note(format!("node {} did not stop in time and is killed", slot.place.member.id));
        }
        self.end();
    }

    fn end(&mut self) {
        for mut child in self.slots.iter_mut().filter_map(|slot| slot.child.take()) {
            let _ = child.kill();
            let _ = child.wait();
        }
        assert_eq!(self.running(), 0, "no process is left");
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.end();
    }
}

fn process_id(pid: u32) -> Pid {
    i32::try_from(pid).ok().and_then(Pid::from_raw).expect("the system gave this id to a child")
}

/// Opens a node's log for appending; a long one is moved aside first.
fn open_log(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
        fs::rename(path, path.with_extension("log.old"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// The last lines of a file, from at most its last 16 KiB.
fn last_lines(path: &Path, count: usize) -> io::Result<String> {
    const BYTES: u64 = 16 << 10;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(count)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_log_are_found() {
        let path = std::env::temp_dir().join(format!("keypact-fleet-test-{}", std::process::id()));
        let long: String = (0..5_000).map(|line| format!("line {line}\n")).collect();
        for (content, expected) in
            [("", ""), ("a\n", "a"), ("a\nb\nc\n", "b\nc"), (&*long, "line 4998\nline 4999")]
        {
            fs::write(&path, content).unwrap();
            assert_eq!(last_lines(&path, 2).unwrap(), expected);
        }
        fs::remove_file(&path).unwrap();
    }
}
