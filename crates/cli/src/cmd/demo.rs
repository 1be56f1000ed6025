//! `keypact demo`: kills the leader under load, and lets a checker say whether anything was lost.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use keypact_checker::format::write_jsonl;
use keypact_checker::report::Judgement;
use keypact_checker::{History, Limits, ModelKind, Operation, Outcome, Report, Value, check_history};
use keypact_node::Reads;
use serde::Serialize;

use crate::cluster::{self, Plan};
use crate::failure::Failure;
use crate::fleet::{Event, Fleet};
use crate::load::{Load, Promised, Recorded, longest_gap_ns, quantile};
use crate::output::{grouped, note, say, say_json, table};
use crate::{ports, probe, random, signals};

const AFTER: &str = "\
Examples:
  keypact demo
  keypact demo --json
  keypact demo --seconds 20 --clients 64

Three nodes run in a temporary folder (TMPDIR chooses the disk) on free ports. Clients read and write; the leader is killed with \
SIGKILL and later started again; at the end all keys are read back. The verdict is the checker's, on everything the clients were told: \
exit code 0 if that is linearizable and no acknowledged write is missing, else 1, and the folder is kept.";

const NODES: u16 = 3;
/// How long the checker may take.
const CHECK_LIMIT: Duration = Duration::from_secs(60);
/// More operations would only make the check long.
const OPERATIONS_MAX: u64 = 400_000;
/// How long all keys may take to be read back.
const READ_BACK_LIMIT: Duration = Duration::from_secs(20);
/// How long after the restart clients may wait for their first write.
const WRITES_AGAIN_LIMIT: Duration = Duration::from_secs(20);
/// How long a killed process may take to be gone.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Kill the leader under load, and check that nothing was lost
#[derive(Args)]
#[command(after_help = AFTER)]
pub(crate) struct Demo {
    /// How long the load lasts
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(2..=600))]
    seconds: u64,
    /// How many clients
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: u16,
    /// How reads are answered: lease or read-index (stale reads are not linearizable, and would be found out)
    #[arg(long, default_value = "lease", value_parser = crate::cmd::init::parse_reads)]
    reads: Reads,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was seen.
#[derive(Debug, Serialize)]
struct Figures {
    /// Asked by clients, the reads at the end among them.
    operations: u64,
    /// Of those: told that it was done.
    acknowledged: u64,
    /// Acknowledged writes that are not there at the end.
    lost: u64,
    /// The longest time without an acknowledged write around the kill.
    write_gap_ms: f64,
    p50_us: u64,
    p99_us: u64,
    /// The checker's: linearizable, not-linearizable, undecided.
    verdict: Judgement,
    /// Told that it was not done.
    not_applied: u64,
    /// Told neither, or nothing: it may have been done.
    uncertain: u64,
    keys: usize,
    clients: u16,
    killed_node: u64,
    seconds: f64,
    check_ms: f64,
    /// Where the history and the nodes' folders are, if something was wrong.
    kept: Option<PathBuf>,
}

impl Demo {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let (sender, events) = channel();
        let signals = sender.clone();
        signals::watch(move |name| {
            let _ = signals.send(Event::Signal(name));
        })?;
        let folder = Temporary::new()?;
        let members = ports::free_members(NODES)?;
        let plan = Plan { name: "demo", members: &members, reads: self.reads, password: None };
        let places = cluster::form(&folder.path, &plan)?;
        let mut fleet = Fleet::new(places, sender)?;
        for index in 0..usize::from(NODES) {
            fleet.start(index)?;
        }
        let ran = self.run_on(&mut fleet, &events);
        fleet.stop(&events);
        let seen = ran.inspect_err(|failure| {
            if failure.code != 130 {
                folder.keep();
                note(format!("the nodes' folders are kept in {}", folder.path.display()));
            }
        })?;
        self.judge(seen, &folder)
    }

    fn tell(&self, text: impl AsRef<str>) {
        if !self.json {
            note(text);
        }
    }

    /// The load, the kill, the restart, the reading back.
    fn run_on(&self, fleet: &mut Fleet, events: &Receiver<Event>) -> Result<Seen, Failure> {
        fleet.wait_until_serving(events)?;
        self.tell(format!(
            "{NODES} nodes serve; {} clients read and write for {} s",
            self.clients, self.seconds
        ));
        let addresses: Vec<String> = fleet.places().map(|place| place.member.resp.clone()).collect();
        let load = Load::new(addresses.clone(), fleet.asking.password.clone(), OPERATIONS_MAX);
        let seed = random::number().map_err(|error| Failure::cannot(format!("no random number: {error}")))?;
        let (told, recorded) = thread::scope(|scope| {
            let client = |index: usize| {
                let load = &load;
                scope.spawn(move || load.client(index, seed.wrapping_mul(2 * index as u64 + 1)))
            };
            let clients: Vec<_> = (0..usize::from(self.clients)).map(client).collect();
            let told = self.disturb(fleet, events, &load, &addresses);
            load.stop.store(true, Ordering::Relaxed);
            let recorded = clients.into_iter().map(|client| client.join());
            let joined = recorded.collect::<Result<Vec<Recorded>, _>>();
            (told, joined.map_err(|_| Failure::cannot("a client failed, which is a bug")))
        });
        let killed = told?;
        let mut seen = Seen::new(recorded?, killed, load.now_ns());
        seen.read_back(&load, addresses.len())?;
        Ok(seen)
    }

    /// Kills the leader after a third of the time, and starts it again after two thirds.
    fn disturb(
        &self,
        fleet: &mut Fleet,
        events: &Receiver<Event>,
        load: &Load,
        addresses: &[String],
    ) -> Result<Killed, Failure> {
        let third = Duration::from_secs(self.seconds) / 3;
        pass(events, third)?;
        let answers = fleet.asking.ask_all(addresses);
        let leader = probe::leader(answers.iter().flatten()).map(|answer| answer.node);
        let node = leader.ok_or_else(|| Failure::wrong("no node leads, although all of them live"))?;
        let index = fleet.places().position(|place| place.member.id == node).expect("the leader is a member");
        let pid = fleet.pid(index).ok_or_else(|| Failure::wrong("the leader's process ended by itself"))?;
        let killed_ns = load.now_ns();
        fleet.kill(index)?;
        self.tell(format!(
            "killed node {node}, the leader (process {pid}), after {} operations",
            grouped(load.operations())
        ));
        wait_for_end(fleet, events, index, pid)?;
        pass(events, third)?;
        fleet.start(index)?;
        self.tell(format!("started node {node} again"));
        let restarted = Instant::now();
        fleet.wait_until_serving(events)?;
        pass(events, third.saturating_sub(restarted.elapsed()))?;
        let deadline = Instant::now() + WRITES_AGAIN_LIMIT;
        while load.last_write_ns() < killed_ns {
            if Instant::now() > deadline {
                return Err(Failure::wrong("no write was acknowledged after the leader was killed"));
            }
            pass(events, Duration::from_millis(10))?;
        }
        Ok(Killed { node, from_ns: killed_ns })
    }

    fn judge(&self, mut seen: Seen, folder: &Temporary) -> Result<(), Failure> {
        let lost = seen.promised.lost(&seen.found);
        self.tell(format!(
            "checking what {} clients were told: {} operations",
            self.clients,
            grouped(seen.operations.len() as u64)
        ));
        let history = History::merge(std::mem::take(&mut seen.operations));
        let history = history
            .map_err(|problem| Failure::cannot(format!("the recorded history makes no sense: {problem}")))?;
        let limits = Limits { time: Some(CHECK_LIMIT), ..Limits::default() };
        let report = check_history(&history, &ModelKind::Kv, &Value::Nil, &limits);
        let report = report.inspect_err(|_| folder.keep()).map_err(|error| {
            Failure::wrong(format!("the recorded history holds what no node should say: {error}"))
        });
        let right =
            report.as_ref().is_ok_and(|report| lost == 0 && report.verdict == Judgement::Linearizable);
        let kept = if right { None } else { Some(keep(folder, &history)?) };
        let report = report?;
        let figures = seen.figures(self, &history, lost, &report, kept);
        match self.json {
            true => say_json(&figures)?,
            false => figures.say(),
        }
        if right {
            return Ok(());
        }
        if let Some(violation) = &report.violation {
            note(&violation.text);
        }
        let kept = figures.kept.unwrap_or_default();
        Err(Failure::wrong(format!(
            "{lost} acknowledged writes lost, verdict {}; the history and the nodes' folders are kept in {}",
            verdict_text(report.verdict),
            kept.display()
        )))
    }
}

/// Writes the history down, and keeps the folder.
fn keep(folder: &Temporary, history: &History) -> Result<PathBuf, Failure> {
    folder.keep();
    let file = folder.path.join("history.jsonl");
    let written = std::fs::write(&file, write_jsonl(history));
    written.map_err(|error| Failure::cannot(format!("cannot write {}: {error}", file.display())))?;
    Ok(folder.path.clone())
}

/// Lets time go by; the end of a process that nobody killed, or a signal, ends the demo.
fn pass(events: &Receiver<Event>, time: Duration) -> Result<(), Failure> {
    match events.recv_timeout(time) {
        Err(RecvTimeoutError::Timeout) => Ok(()),
        Ok(Event::Signal(_)) => Err(Failure::interrupted()),
        Ok(Event::Ended { pid, .. }) => {
            Err(Failure::wrong(format!("a node (process {pid}) ended by itself")))
        }
        Err(RecvTimeoutError::Disconnected) => unreachable!("the fleet holds a sender"),
    }
}

fn wait_for_end(fleet: &mut Fleet, events: &Receiver<Event>, index: usize, pid: u32) -> Result<(), Failure> {
    match events.recv_timeout(END_LIMIT) {
        Ok(Event::Ended { pid: ended, .. }) if ended == pid => fleet.reap(index, pid).map(drop),
        Ok(Event::Ended { pid, .. }) => {
            Err(Failure::wrong(format!("a node (process {pid}) ended by itself")))
        }
        Ok(Event::Signal(_)) => Err(Failure::interrupted()),
        Err(_) => Err(Failure::cannot(format!("process {pid} is still there after SIGKILL"))),
    }
}

struct Killed {
    node: u64,
    from_ns: u64,
}

/// All that the clients saw.
struct Seen {
    operations: Vec<Operation>,
    latencies_us: Vec<u64>,
    writes_ns: Vec<u64>,
    promised: Promised,
    found: std::collections::BTreeMap<String, Value>,
    killed: Killed,
    /// When the clients stopped.
    end_ns: u64,
}

impl Seen {
    fn new(recorded: Vec<Recorded>, killed: Killed, end_ns: u64) -> Seen {
        let mut seen = Seen {
            operations: Vec::new(),
            latencies_us: Vec::new(),
            writes_ns: Vec::new(),
            promised: Promised::default(),
            found: std::collections::BTreeMap::new(),
            killed,
            end_ns,
        };
        for client in recorded {
            seen.operations.extend(client.operations);
            seen.latencies_us.extend(client.latencies_us);
            seen.writes_ns.extend(client.writes_ns);
            seen.promised.add(client.promised);
        }
        seen
    }

    /// Reads every key, from one node after the other until one answers for all.
    fn read_back(&mut self, load: &Load, nodes: usize) -> Result<(), Failure> {
        let keys: std::collections::BTreeSet<String> =
            self.operations.iter().map(|operation| operation.key.to_string()).collect();
        let keys: Vec<String> = keys.into_iter().collect();
        let deadline = Instant::now() + READ_BACK_LIMIT;
        for node in (0..nodes).cycle() {
            match load.read_back(node, &keys) {
                Ok((found, operations)) => {
                    self.found = found;
                    self.operations.extend(operations);
                    return Ok(());
                }
                Err(error) if Instant::now() > deadline => {
                    return Err(Failure::wrong(format!("the data can't be read back at the end: {error}")));
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
        unreachable!("the nodes are asked in a circle")
    }

    fn figures(
        &mut self,
        demo: &Demo,
        history: &History,
        lost: u64,
        report: &Report,
        kept: Option<PathBuf>,
    ) -> Figures {
        let count =
            |of: fn(&Outcome) -> bool| history.operations.iter().filter(|o| of(&o.outcome)).count() as u64;
        let gap_ns = longest_gap_ns(&mut self.writes_ns, self.killed.from_ns, self.end_ns);
        Figures {
            operations: history.operations.len() as u64,
            acknowledged: count(|outcome| matches!(outcome, Outcome::Ok(_))),
            lost,
            write_gap_ms: (gap_ns as f64 / 1e5).round() / 10.0,
            p50_us: quantile(&mut self.latencies_us, 0.5),
            p99_us: quantile(&mut self.latencies_us, 0.99),
            verdict: report.verdict,
            not_applied: count(|outcome| *outcome == Outcome::Failed),
            uncertain: count(|outcome| *outcome == Outcome::Unknown),
            keys: report.keys,
            clients: demo.clients,
            killed_node: self.killed.node,
            seconds: (self.end_ns as f64 / 1e7).round() / 100.0,
            check_ms: (report.elapsed_ms * 10.0).round() / 10.0,
            kept,
        }
    }
}

fn verdict_text(verdict: Judgement) -> &'static str {
    match verdict {
        Judgement::Linearizable => "linearizable",
        Judgement::NotLinearizable => "not linearizable",
        Judgement::Undecided => "undecided",
    }
}

impl Figures {
    fn say(&self) {
        let rows = [
            ("operations", grouped(self.operations)),
            ("  acknowledged", grouped(self.acknowledged)),
            ("  not applied", grouped(self.not_applied)),
            ("  uncertain", grouped(self.uncertain)),
            ("acknowledged writes lost", grouped(self.lost)),
            ("longest pause of writes", format!("{:.1} ms", self.write_gap_ms)),
            ("latency, median", format!("{} us", grouped(self.p50_us))),
            ("latency, 99 %", format!("{} us", grouped(self.p99_us))),
            ("keys", grouped(self.keys as u64)),
            ("check took", format!("{:.1} ms", self.check_ms)),
            ("verdict", verdict_text(self.verdict).to_owned()),
        ];
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
        say(table(&["what", "seen"], &["seen"], &rows));
    }
}

/// A folder of our own, removed at the end unless it is to be kept.
struct Temporary {
    path: PathBuf,
    keep: std::cell::Cell<bool>,
}

impl Temporary {
    fn new() -> Result<Temporary, Failure> {
        let number =
            random::number().map_err(|error| Failure::cannot(format!("no random number: {error}")))?;
        let path = std::env::temp_dir().join(format!("keypact-demo-{:x}", number >> 24));
        let made = std::fs::create_dir(&path);
        made.map_err(|error| Failure::cannot(format!("cannot make the folder {}: {error}", path.display())))?;
        Ok(Temporary { path, keep: std::cell::Cell::new(false) })
    }

    fn keep(&self) {
        self.keep.set(true);
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.keep.get() {
            remove(&self.path);
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        note(format!("cannot remove {}: {error}", path.display()));
    }
}
