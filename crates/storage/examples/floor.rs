//! The disk's floor: how long 4 KiB and an fdatasync take, by the state of the file, and how near the log comes to it.
//!
//! `cargo run --release -p keypact-storage --example floor [FOLDER] [SECONDS]`
//!
//! One process, then three at once, as three nodes on one machine. Figures of one run compare with each other only.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keypact_protocol::GroupId;
use keypact_storage::{Disk, File, FileDisk, Wal, WalOptions};

const PIECE_BYTES: usize = 4096;
const FILE_BYTES: u64 = 64 << 20;
const KINDS: [&str; 4] = ["growing", "reserved", "zero-filled", "log"];

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [child, kind, folder, seconds] = &arguments[..]
        && child == "child"
    {
        let seconds = seconds.parse().map_err(io::Error::other)?;
        return measure_and_print(kind, Path::new(folder), Duration::from_secs_f64(seconds));
    }
    let folder = arguments.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.get(1).map_or("3", String::as_str);
    measure_recovery(&folder)?;
    println!("{:<12} {:>9} {:>10} {:>10} {:>12}", "file", "processes", "p50 us", "p99 us", "syncs/s, all");
    for processes in [1, 3] {
        for kind in KINDS {
            run(kind, processes, &folder, seconds)?;
        }
    }
    Ok(())
}

/// How long a log's beginning takes, and reading it back when it is one segment full of small records.
fn measure_recovery(folder: &Path) -> io::Result<()> {
    let own = folder.join(format!("keypact-floor-{}", std::process::id()));
    let open = || FileDisk::open(&own).map_err(io::Error::other);
    let start = Instant::now();
    let mut recovered = Wal::recover(open()?, WalOptions::default(), |_| ()).map_err(io::Error::other)?;
    println!("a new log of 64 MiB of zeros: {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    while recovered.wal.len_bytes() < FILE_BYTES - (2 << 20) {
        for _ in 0..1000 {
            recovered.appender.push(GroupId(1), &[&[0x5a; 100]]);
        }
        let mut batch = recovered.appender.take();
        while !batch.is_written() {
            recovered.wal.write(&mut batch).map_err(io::Error::other)?;
        }
        recovered.appender.recycle(batch);
    }
    recovered.wal.close().map_err(io::Error::other)?;
    let start = Instant::now();
    let recovered = Wal::recover(open()?, WalOptions::default(), |_| ()).map_err(io::Error::other)?;
    let records = recovered.report.records;
    println!("reading {records} records of 100 bytes back: {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    drop(recovered);
    std::fs::remove_dir_all(&own)
}

/// Starts the processes, each in a folder of its own, and prints one line for them.
fn run(kind: &str, processes: usize, folder: &Path, seconds: &str) -> io::Result<()> {
    let mut children = Vec::new();
    let base = folder.join(format!("keypact-floor-{}", std::process::id()));
    for number in 0..processes {
        let own = base.join(number.to_string());
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["child", kind]).arg(&own).arg(seconds).stdin(Stdio::piped()).stdout(Stdio::piped());
        children.push(command.spawn()?);
    }
    let (mut p50, mut p99, mut rate) = (Vec::new(), Vec::new(), 0.0);
    for child in children {
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let figures: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [one_p50, one_p99, one_rate] = figures[..] else {
            return Err(io::Error::other(format!("a process ended with {}: {text}", output.status)));
        };
        p50.push(one_p50);
        p99.push(one_p99);
        rate += one_rate;
    }
    std::fs::remove_dir_all(&base)?;
    p50.sort_by(f64::total_cmp);
    p99.sort_by(f64::total_cmp);
    let middle = processes / 2;
    println!("{kind:<12} {processes:>9} {:>10.0} {:>10.0} {rate:>12.0}", p50[middle], p99[middle]);
    Ok(())
}

fn measure_and_print(kind: &str, folder: &Path, time: Duration) -> io::Result<()> {
    let disk = FileDisk::open(folder).map_err(io::Error::other)?;
    let mut samples = if kind == "log" { measure_log(disk, time)? } else { measure_file(kind, &disk, time)? };
    let total: Duration = samples.iter().sum();
    samples.sort_unstable();
    let micros = |share: usize| samples[samples.len() * share / 100].as_secs_f64() * 1e6;
    let rate = samples.len() as f64 / total.as_secs_f64();
    writeln!(io::stdout(), "{} {} {rate}", micros(50), micros(99))
}

fn measure_file(kind: &str, disk: &FileDisk, time: Duration) -> io::Result<Vec<Duration>> {
    let file = disk.create("floor")?;
    if kind != "growing" {
        file.reserve(FILE_BYTES)?;
    }
    let piece = [0x5a; PIECE_BYTES];
    if kind == "zero-filled" {
        let zeros = vec![0; 1 << 20];
        (0..FILE_BYTES).step_by(zeros.len()).try_for_each(|at| file.write_at(at, &zeros))?;
    }
    file.sync()?;
    disk.sync_directory()?;
    let mut samples = Vec::new();
    let end = Instant::now() + time;
    let mut at = 0;
    while Instant::now() < end && at + PIECE_BYTES as u64 <= FILE_BYTES {
        let start = Instant::now();
        file.write_at(at, &piece)?;
        file.sync()?;
        samples.push(start.elapsed());
        at += PIECE_BYTES as u64;
    }
    Ok(samples)
}

/// The same through the log, a frame of 4 KiB each, with segments made ahead and recycled as a node does.
fn measure_log(disk: FileDisk, time: Duration) -> io::Result<Vec<Duration>> {
    let mut recovered = Wal::recover(disk, WalOptions::default(), |_| ()).map_err(io::Error::other)?;
    let body = [0x5a; PIECE_BYTES - 64 - 40];
    let mut samples = Vec::new();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let start = Instant::now();
        recovered.appender.push(GroupId(1), &[&body]);
        let mut batch = recovered.appender.take();
        recovered.wal.write(&mut batch).map_err(io::Error::other)?;
        let durable = recovered.wal.sync().map_err(io::Error::other)?;
        samples.push(start.elapsed());
        recovered.appender.recycle(batch);
        recovered.wal.drop_before(durable);
        if samples.len() % 16 == 0 {
            recovered.wal.prepare_ahead(128 << 10).map_err(io::Error::other)?;
        }
    }
    Ok(samples)
}
