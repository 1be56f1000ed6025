//! Running other programs: with their output shown or kept, and within a time.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::repository::Repository;

/// How often a running program with a time limit is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Why a task or a step did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A program could not be started at all.
    #[error("`{command}` did not start: {source}")]
    Start {
        /// What was to run.
        command: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A program ran and said no; what it printed stands above.
    #[error("`{command}` ended with {status}")]
    Exit {
        /// What ran.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// A program did not end in its time, and was killed.
    #[error("`{command}` did not end within {limit:?}")]
    TooLong {
        /// What ran.
        command: String,
        /// Its time.
        limit: Duration,
    },
    /// A file of the repository could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A program's output is not what it is documented to be.
    #[error("`{command}` printed something else than expected: {reason}")]
    Output {
        /// What ran.
        command: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A rule of the repository is broken, one line a place.
    #[error("{}", .0.join("\n"))]
    Found(Vec<String>),
}

impl Failure {
    /// One finding.
    pub(crate) fn found(what: impl Into<String>) -> Failure {
        Failure::Found(vec![what.into()])
    }
}

/// `Ok` if nothing was found.
pub(crate) fn none_found(found: Vec<String>) -> Result<(), Failure> {
    if found.is_empty() { Ok(()) } else { Err(Failure::Found(found)) }
}

/// What becomes of a program's standard output. Its standard error is always shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    Keep,
    ShowAndKeep,
}

/// How a program ended, and what it wrote to standard output.
pub(crate) struct Finished {
    /// The exit status.
    pub(crate) status: std::process::ExitStatus,
    /// Standard output; invalid UTF-8 is replaced.
    pub(crate) stdout: String,
}

/// One program to run, without standard input.
pub(crate) struct Task {
    command: Command,
    limit: Option<Duration>,
}

impl Task {
    /// A program, run in the repository's root.
    pub(crate) fn new(repository: &Repository, program: impl AsRef<OsStr>) -> Task {
        let mut command = Command::new(program);
        command.current_dir(&repository.root).stdin(Stdio::null());
        Task { command, limit: None }
    }

    /// The cargo that runs us, or the one in the path.
    pub(crate) fn cargo<'a>(repository: &Repository, arguments: impl IntoIterator<Item = &'a str>) -> Task {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        Task::new(repository, cargo).arguments(arguments)
    }

    /// One more argument.
    pub(crate) fn argument(mut self, argument: impl AsRef<OsStr>) -> Task {
        self.command.arg(argument);
        self
    }

    /// More arguments.
    pub(crate) fn arguments<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Task {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    pub(crate) fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Task {
        self.command.env(name, value);
        self
    }

    /// Kills the program, and what it started, after this time.
    pub(crate) fn within(mut self, limit: Duration) -> Task {
        self.limit = Some(limit);
        self
    }

    /// The command as one would type it.
    pub(crate) fn shown(&self) -> String {
        let program = PathBuf::from(self.command.get_program());
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        let arguments = self.command.get_args().map(|argument| argument.to_string_lossy().into_owned());
        std::iter::once(name).chain(arguments).collect::<Vec<_>>().join(" ")
    }

    /// Runs with all output shown; any end but success is a failure.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let command = self.shown();
        let (status, _) = self.wait(None)?;
        if status.success() { Ok(()) } else { Err(Failure::Exit { command, status }) }
    }

    /// Runs and keeps standard output; how it ended is for the caller to judge.
    pub(crate) fn keep(self) -> Result<Finished, Failure> {
        let (status, stdout) = self.wait(Some(Output::Keep))?;
        Ok(Finished { status, stdout })
    }

    /// As [`Task::keep`], and any end but success is a failure.
    pub(crate) fn output(self) -> Result<String, Failure> {
        let command = self.shown();
        let finished = self.keep()?;
        if finished.status.success() {
            Ok(finished.stdout)
        } else {
            Err(Failure::Exit { command, status: finished.status })
        }
    }

    /// Shows standard output as it comes, and keeps it.
    pub(crate) fn show_and_keep(self) -> Result<Finished, Failure> {
        let (status, stdout) = self.wait(Some(Output::ShowAndKeep))?;
        Ok(Finished { status, stdout })
    }

    fn wait(mut self, output: Option<Output>) -> Result<(std::process::ExitStatus, String), Failure> {
        let command = self.shown();
        let failed = |source| Failure::Start { command: command.clone(), source };
        if output.is_some() {
            self.command.stdout(Stdio::piped());
        }
        let mut child = self.command.spawn().map_err(failed)?;
        let reader = output.and_then(|output| {
            let stdout = child.stdout.take()?;
            Some(thread::spawn(move || collect(stdout, output == Output::ShowAndKeep)))
        });
        let status = match self.limit {
            None => child.wait().map_err(failed)?,
            Some(limit) => {
                let Some(status) = wait_until(&mut child, Instant::now() + limit).map_err(failed)? else {
                    kill_tree(child.id());
                    child.wait().map_err(failed)?;
                    return Err(Failure::TooLong { command, limit });
                };
                status
            }
        };
        let stdout = reader.map(|reader| reader.join().expect("the reader only collects lines"));
        Ok((status, stdout.unwrap_or_default()))
    }
}

fn collect(stdout: impl Read, show: bool) -> String {
    let mut all = String::new();
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    while matches!(stdout.read_until(b'\n', &mut line), Ok(read) if read > 0) {
        let text = String::from_utf8_lossy(&line);
        if show {
            print!("{text}");
        }
        all.push_str(&text);
        line.clear();
    }
    all
}

fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<std::process::ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// Kills a process and all that it started. A process group of its own would be simpler, but Ctrl-C would then end us and
/// leave the group running.
fn kill_tree(root: u32) {
    let mut doomed = vec![root];
    let parents = parents();
    let mut next = 0;
    while let Some(&parent) = doomed.get(next) {
        doomed.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(process, _)| *process));
        next += 1;
    }
    for process in doomed {
        let id = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            // It may have ended by itself meanwhile, which is as good.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
        }
    }
}

/// Every process and its parent, as the proc file system lists them; empty where there is none.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let processes = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    processes
        .filter_map(|process| {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            Some((process, parent_in_stat(&stat)?))
        })
        .collect()
}

/// The parent in a line of `/proc/<id>/stat`: the second field after the name, which may itself contain brackets and blanks.
fn parent_in_stat(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        let rows = [
            ("12 (sh) S 7 12 12 0", Some(7)),
            ("12 (a) b (c) S 8 12", Some(8)),
            ("12 (cut", None),
            ("12 (x) S", None),
            ("", None),
        ];
        for (stat, parent) in rows {
            assert_eq!(parent_in_stat(stat), parent, "{stat}");
        }
    }

    #[test]
    fn a_program_past_its_time_dies_with_what_it_started() {
        let repository = Repository::find().expect("the tests run in the repository");
        let limit = Duration::from_millis(300);
        let task = Task::new(&repository, "sh").arguments(["-c", "sleep 1000 & echo $!; wait"]).within(limit);
        let mut command = task.command;
        let mut child = command.stdout(Stdio::piped()).spawn().expect("sh runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("sh prints the id of sleep");
        let sleeper: u32 = line.trim().parse().expect("a process id");
        assert!(parents().contains(&(sleeper, child.id())));

        kill_tree(child.id());
        child.wait().expect("sh was killed");
        // Killed, it may stay listed until it is reaped, but no longer as sleeping.
        let deadline = Instant::now() + Duration::from_secs(10);
        let gone = || {
            let stat = fs::read_to_string(format!("/proc/{sleeper}/stat"));
            stat.map_or(true, |stat| stat.contains(") Z "))
        };
        while !gone() {
            assert!(Instant::now() < deadline, "the sleeper lives on");
            thread::sleep(POLL);
        }
    }

    #[test]
    fn ends_are_told_apart() {
        let repository = Repository::find().expect("the tests run in the repository");
        let shell = |script: &str| Task::new(&repository, "sh").arguments(["-c", script]);
        assert_eq!(shell("echo out").output().expect("succeeds"), "out\n");
        assert!(matches!(shell("exit 3").output(), Err(Failure::Exit { .. })));
        assert!(matches!(shell("exit 3").run(), Err(Failure::Exit { .. })));
        assert_eq!(shell("echo kept; exit 3").keep().expect("ran").stdout, "kept\n");
        let late = shell("sleep 1000").within(Duration::from_millis(50)).keep();
        assert!(matches!(late, Err(Failure::TooLong { .. })));
        let absent = Task::new(&repository, "no-such-program").run();
        assert!(matches!(absent, Err(Failure::Start { .. })));
    }
}
