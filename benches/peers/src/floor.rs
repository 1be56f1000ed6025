//! What the disk and the loopback give by themselves: no system that syncs before it answers can be faster.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::error::Failure;
use crate::process::{Folder, loopback};

const BLOCK_BYTES: usize = 4096;
/// A file as long as a segment of a log; written over from its start when its end is reached.
const FILE_BYTES: u64 = 64 << 20;
/// As many writers as there are nodes.
pub(crate) const WRITERS: usize = 3;

/// Latencies of one kind of step.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Step {
    /// Median, microseconds.
    pub(crate) p50_us: f64,
    /// 99th percentile, microseconds.
    pub(crate) p99_us: f64,
    /// Steps per second, of all writers together.
    pub(crate) per_s: f64,
}

/// The floor.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Floor {
    /// 4 KiB write and fdatasync into zero-filled space, one writer.
    pub(crate) alone: Step,
    /// The same, three writers at once, each with a file of its own.
    pub(crate) together: Step,
    /// 64 bytes to another thread and back over the loopback.
    pub(crate) round_trip: Step,
}

/// Measures all three, each for this long.
///
/// # Errors
/// If the files can't be written or the loopback can't be used.
pub(crate) fn measure(parent: &Path, each: Duration) -> Result<Floor, Failure> {
    let folder = Folder::create(parent, "floor")?;
    for writer in 0..WRITERS {
        fill(&folder.path().join(writer.to_string()))?;
    }
    Ok(Floor {
        alone: sync(folder.path(), 1, each)?,
        together: sync(folder.path(), WRITERS, each)?,
        round_trip: round_trip(each)?,
    })
}

fn fill(path: &Path) -> Result<(), Failure> {
    let mut file = File::create(path).map_err(Failure::io("a file for the disk's floor"))?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..FILE_BYTES / (1 << 20) {
        file.write_all(&zeros).map_err(Failure::io("filling a file with zeros"))?;
    }
    file.sync_all().map_err(Failure::io("syncing a zero-filled file"))
}

fn sync(folder: &Path, writers: usize, each: Duration) -> Result<Step, Failure> {
    let start = Instant::now();
    let results: Vec<Result<Histogram<u64>, Failure>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..writers)
            .map(|writer| scope.spawn(move || write_and_sync(&folder.join(writer.to_string()), each)))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("writers do not panic")).collect()
    });
    summary(results, start.elapsed())
}

fn write_and_sync(path: &Path, each: Duration) -> Result<Histogram<u64>, Failure> {
    let file = File::options().write(true).open(path).map_err(Failure::io("a file for the disk's floor"))?;
    let block = [7; BLOCK_BYTES];
    let mut latencies = histogram();
    let mut offset = 0;
    let end = Instant::now() + each;
    let mut start = Instant::now();
    while start < end {
        file.write_all_at(&block, offset).map_err(Failure::io("writing 4 KiB"))?;
        file.sync_data().map_err(Failure::io("fdatasync"))?;
        offset = (offset + BLOCK_BYTES as u64) % FILE_BYTES;
        start = record(&mut latencies, start);
    }
    Ok(latencies)
}

fn round_trip(each: Duration) -> Result<Step, Failure> {
    let listener = TcpListener::bind(loopback(0)).map_err(Failure::io("a loopback port"))?;
    let address = listener.local_addr().map_err(Failure::io("a loopback port"))?;
    let mut near = TcpStream::connect(address).map_err(Failure::io("the loopback"))?;
    let (mut far, _) = listener.accept().map_err(Failure::io("the loopback"))?;
    for stream in [&near, &far] {
        stream.set_nodelay(true).map_err(Failure::io("TCP_NODELAY"))?;
    }
    let echo = thread::spawn(move || {
        let mut message = [0; 64];
        while far.read_exact(&mut message).is_ok() && far.write_all(&message).is_ok() {}
    });
    let mut latencies = histogram();
    let mut message = [1; 64];
    let begin = Instant::now();
    let mut start = begin;
    while begin.elapsed() < each {
        near.write_all(&message).map_err(Failure::io("the loopback"))?;
        near.read_exact(&mut message).map_err(Failure::io("the loopback"))?;
        start = record(&mut latencies, start);
    }
    drop(near);
    echo.join().expect("the echo does not panic");
    summary(vec![Ok(latencies)], begin.elapsed())
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("fixed bounds are valid")
}

fn record(latencies: &mut Histogram<u64>, start: Instant) -> Instant {
    let now = Instant::now();
    latencies.saturating_record(u64::try_from((now - start).as_nanos()).unwrap_or(u64::MAX));
    now
}

fn summary(results: Vec<Result<Histogram<u64>, Failure>>, elapsed: Duration) -> Result<Step, Failure> {
    let mut all = histogram();
    for result in results {
        all.add(result?).expect("equal bounds");
    }
    Ok(Step {
        p50_us: all.value_at_quantile(0.5) as f64 / 1e3,
        p99_us: all.value_at_quantile(0.99) as f64 / 1e3,
        per_s: all.len() as f64 / elapsed.as_secs_f64(),
    })
}
