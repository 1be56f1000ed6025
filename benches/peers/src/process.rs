//! Child processes, their ports, their processor time; each is ended by its id, whatever happens.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Failure, shown};

/// How long a process may take to stop by itself.
const STOP_MAX: Duration = Duration::from_secs(5);

/// A process that we started. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    output: PathBuf,
    /// Whether to ask it to stop before it is killed: needed if it has children of its own.
    gentle: bool,
}

impl Server {
    /// Starts a program with its output going to the file `output`. Standard input is a pipe that closes with us.
    pub(crate) fn start(mut command: Command, output: PathBuf, gentle: bool) -> Result<Server, Failure> {
        let file = File::create(&output).map_err(Failure::io(shown(&output)))?;
        let copy = file.try_clone().map_err(Failure::io(shown(&output)))?;
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::piped())
            .stdout(file)
            .stderr(copy)
            .spawn()
            .map_err(Failure::io(format!("starting {name}")))?;
        Ok(Server { child, output, gentle })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last lines that it wrote, for messages.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// Fails, with its last words, if it has ended.
    pub(crate) fn check_running(&mut self, system: &str) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                Err(Failure::server(system, format!("ended with {status}: {}", self.last_words())))
            }
            Err(error) => Err(Failure::io("waiting for a process")(error)),
        }
    }

    /// Kills it with SIGKILL and waits for its end.
    pub(crate) fn kill(&mut self) {
        // Fails only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.gentle {
            drop(self.child.stdin.take());
            signal(self.child.id(), Signal::TERM);
            let deadline = Instant::now() + STOP_MAX;
            while Instant::now() < deadline {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.kill();
    }
}

/// Sends a signal; nothing happens if the process has ended.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        kill_process(pid, signal).ok();
    }
}

/// User and system time of a process so far, all threads; `None` if it has ended.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = cpu_ticks(&stat)?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Fields 14 and 15 of proc(5)'s `stat`. The second field is the name in parentheses, which may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Processes that `parent` started and that run now.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    found
}

/// Which of `pids` listens on this loopback port.
pub(crate) fn listener(pids: &[u32], port: u16) -> Option<u32> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = listening_inode(&table, port)?;
    let link = PathBuf::from(format!("socket:[{inode}]"));
    let owns = |pid: &u32| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.into_iter().any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == link))
    };
    pids.iter().copied().find(owns)
}

/// The inode of the socket in state LISTEN (0A) on this port, from proc(5)'s `net/tcp`.
fn listening_inode(table: &str, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, hex) = fields.get(1)?.split_once(':')?;
        let here = u16::from_str_radix(hex, 16).ok()? == port && *fields.get(3)? == "0A";
        if here { fields.get(9)?.parse().ok() } else { None }
    })
}

/// A port `p` such that `p + offset` is free for every offset. Below the range from which the system gives ports to clients.
///
/// # Errors
/// If none is found.
pub(crate) fn free_ports(offsets: &[u16]) -> Result<u16, Failure> {
    let start = u16::try_from(std::process::id() % 10_000).expect("below 10,000");
    (0..500u16)
        .map(|step| 12_000 + (start + step * 37) % 18_000)
        .find(|port| offsets.iter().all(|offset| is_free(port + offset)))
        .ok_or_else(|| Failure::Usage(String::from("no free ports between 12000 and 30000 on 127.0.0.1")))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(loopback(port)).is_ok()
}

/// 127.0.0.1 with a port.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Fails if a program is not in the path.
///
/// # Errors
/// [`Failure::Missing`] names Debian's package.
pub(crate) fn require(program: &'static str, package: &'static str) -> Result<(), Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if found { Ok(()) } else { Err(Failure::Missing { program, package }) }
}

/// A folder that is removed when dropped.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Creates an empty folder with this name, removing what an earlier run left.
    pub(crate) fn create(parent: &Path, name: &str) -> Result<Folder, Failure> {
        let path = parent.join(name);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::io(shown(&path))(error));
            }
            _ => {}
        }
        std::fs::create_dir_all(&path).map_err(Failure::io(shown(&path)))?;
        Ok(Folder(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What can't be removed is data of a finished measurement; the next run with this name removes it.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194560 100 0 0 0 70 30 5 6 20 0 1 0 100 1 1";
        assert_eq!(cpu_ticks(stat), Some(100));
        assert_eq!(cpu_ticks("12 (a"), None);
        assert!(cpu_time(std::process::id()).is_some());
    }

    #[test]
    fn a_listener_is_found_by_its_port() {
        let listener_here = TcpListener::bind(loopback(0)).unwrap();
        let port = listener_here.local_addr().unwrap().port();
        assert_eq!(listener(&[std::process::id()], port), Some(std::process::id()));
        drop(listener_here);
        assert_eq!(listener(&[std::process::id()], port), None);
    }
}
