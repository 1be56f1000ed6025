//! One node's log on a disk in memory, and a model of what must come back.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::collections::BTreeMap;

use keypact_protocol::{GroupId, Lsn};
use keypact_storage::{
    Appender, Disk, MemoryDisk, Record, Recovered, StorageError, Wal, WalOptions, checksum,
};

/// A seeded generator (splitmix64), so that the tests repeat.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

pub fn small_options() -> WalOptions {
    WalOptions { segment_bytes: 4096, frame_bytes_max: 1024, seed: 7, ..WalOptions::default() }
}

/// Reads a log back, with its records.
pub fn recover(
    disk: &MemoryDisk,
    options: WalOptions,
) -> Result<(Recovered<MemoryDisk>, Vec<Record>), StorageError> {
    let mut records = Vec::new();
    let recovered = Wal::recover(disk.clone(), options, |record| records.push(record))?;
    Ok((recovered, records))
}

/// What a record was when it was appended.
pub type Appended = (GroupId, Vec<u8>);

pub struct Machine {
    pub disk: MemoryDisk,
    pub options: WalOptions,
    pub wal: Option<Wal<MemoryDisk>>,
    pub appender: Appender,
    /// The history as it stands: of each number, what was appended last under it.
    pub appended: BTreeMap<u64, Appended>,
    /// Confirmed to the node.
    pub durable: Lsn,
    pub kept_from: Lsn,
    /// Whether syncs may fail.
    pub faulty: bool,
}

impl Machine {
    pub fn new(options: WalOptions) -> Self {
        let disk = MemoryDisk::new();
        let (recovered, records) = recover(&disk, options).expect("an empty disk");
        assert!(records.is_empty() && recovered.report.created);
        Self {
            disk,
            options,
            wal: Some(recovered.wal),
            appender: recovered.appender,
            appended: BTreeMap::new(),
            durable: Lsn::ZERO,
            kept_from: Lsn(1),
            faulty: false,
        }
    }

    pub fn wal(&mut self) -> &mut Wal<MemoryDisk> {
        self.wal.as_mut().expect("the process runs")
    }

    pub fn append(&mut self, group: u64, body: &[u8]) -> Lsn {
        let group = GroupId(group);
        let half = body.len() / 2;
        let lsn = match body.len() % 3 {
            0 => self.appender.push(group, &[&body[..half], &body[half..]]),
            1 => self.appender.push_with(group, |buffer| buffer.extend_from_slice(body)),
            _ => {
                self.appender.push_with_checksum(group, &body[..half], &body[half..], checksum(&body[half..]))
            }
        };
        self.appended.insert(lsn.0, (group, body.to_vec()));
        lsn
    }

    /// Appends a record of that many bytes, unlike any other.
    pub fn append_random(&mut self, random: &mut Random, bytes: u64) -> Lsn {
        let body: Vec<u8> = (0..bytes).map(|_| random.next().to_le_bytes()[3]).collect();
        self.append(random.below(5), &body)
    }

    /// Writes what gathered, without a sync.
    pub fn write(&mut self) -> Result<(), StorageError> {
        let mut batch = self.appender.take();
        while !batch.is_written() {
            self.wal().write(&mut batch)?;
        }
        self.appender.recycle(batch);
        Ok(())
    }

    pub fn sync(&mut self) -> Result<(), StorageError> {
        let durable = self.wal().sync()?;
        assert!(durable >= self.durable, "what is durable stays so");
        self.durable = durable;
        Ok(())
    }

    /// Writes what gathered, with a sync after each frame, as the log's thread does.
    pub fn commit(&mut self) -> Result<(), StorageError> {
        let mut batch = self.appender.take();
        while !batch.is_written() {
            self.wal().write(&mut batch)?;
            self.sync()?;
        }
        self.appender.recycle(batch);
        Ok(())
    }

    pub fn drop_before(&mut self, lsn: Lsn) {
        self.wal().drop_before(lsn);
        self.kept_from = self.kept_from.max(lsn);
    }

    pub fn crash(&mut self, random: &mut Random) {
        self.wal = None;
        self.disk.crash(|n| random.below(n));
    }

    /// Reads the log back and holds it against the model; says what is wrong.
    pub fn restart(&mut self) -> Result<(), String> {
        let (recovered, records) = recover(&self.disk, self.options).map_err(|e| e.to_string())?;
        self.judge(&records, recovered.report.last)?;
        self.appended.retain(|lsn, _| *lsn <= recovered.report.last.0);
        self.durable = recovered.report.last;
        self.wal = Some(recovered.wal);
        self.appender = recovered.appender;
        Ok(())
    }

    fn judge(&self, records: &[Record], last: Lsn) -> Result<(), String> {
        if last < self.durable {
            return Err(format!("{} was confirmed, the log ends at {last}", self.durable));
        }
        if let Some(first) = records.first().filter(|first| first.lsn > self.kept_from) {
            return Err(format!("{} is needed, the log begins at {}", self.kept_from, first.lsn));
        }
        for pair in records.windows(2) {
            if pair[1].lsn != pair[0].lsn.next() {
                return Err(format!("{} follows {}", pair[1].lsn, pair[0].lsn));
            }
        }
        if records.last().is_some_and(|r| r.lsn != last) || records.is_empty() && self.kept_from <= last {
            return Err(format!("{} records do not end at {last}", records.len()));
        }
        for record in records {
            let Some((group, body)) = self.appended.get(&record.lsn.0) else {
                return Err(format!("{} was never appended", record.lsn));
            };
            if record.group != *group || record.body != body[..] {
                return Err(format!("{} is not what was appended", record.lsn));
            }
            if record.payload_checksum != checksum(&record.payload()) {
                return Err(format!("{} has another checksum", record.lsn));
            }
        }
        Ok(())
    }
}

/// One random life after another on one disk: writes, syncs, drops, idles, fails, stops at any point, also within recovery.
/// Returns what went wrong, if anything.
pub fn random_lives(seed: u64, lives: u32) -> Result<(), String> {
    let mut random = Random(seed);
    let mut machine = Machine::new(WalOptions { seed, ..small_options() });
    machine.faulty = true;
    for life in 0..lives {
        if random.below(3) == 0 {
            let changes = random.below(60);
            machine.disk.stop_after(changes);
        }
        let steps = random.below(60);
        for _ in 0..steps {
            if random_step(&mut machine, &mut random).is_err() {
                break;
            }
        }
        match random.below(4) {
            0 => {
                machine.wal = None;
                machine.disk.kill();
            }
            _ => machine.crash(&mut random),
        }
        while random.below(3) == 0 {
            machine.recover_partly(random.below(12));
            machine.crash(&mut random);
        }
        machine.disk.kill();
        machine.restart().map_err(|e| format!("seed {seed}, life {life}: {e}"))?;
    }
    Ok(())
}

impl Machine {
    /// Recovers on a disk that stops after some changes. If it got to its end all the same, what it found counts as confirmed.
    fn recover_partly(&mut self, changes: u64) {
        self.disk.stop_after(changes);
        if let Ok((recovered, _)) = recover(&self.disk, self.options) {
            self.durable = self.durable.max(recovered.report.last);
        }
    }
}

fn random_step(machine: &mut Machine, random: &mut Random) -> Result<(), StorageError> {
    match random.below(16) {
        0..=5 => {
            let bytes = if random.below(12) == 0 { random.below(6000) } else { random.below(400) };
            machine.append_random(random, bytes);
            Ok(())
        }
        6..=8 => machine.commit(),
        9 => machine.write(),
        10 => machine.sync(),
        11 => machine.wal().note_durable().map(|_| ()),
        12 | 13 => {
            let budget = random.below(3000);
            machine.wal().prepare_ahead(budget).map(|_| ())
        }
        14 => {
            let lsn = Lsn(1 + random.below(machine.wal().durable().0 + 1));
            machine.drop_before(lsn);
            Ok(())
        }
        _ => {
            if random.below(20) == 0 && machine.faulty {
                machine.disk.fail_syncs(1);
            }
            Ok(())
        }
    }
}

/// A random life, cleanly ended or crashed; then a byte of a frame rots that a later frame tells durable. Recovery must say so,
/// or give back every record as it was.
pub fn rot_is_noticed(seed: u64) -> Result<bool, String> {
    let mut random = Random(seed);
    let mut machine = Machine::new(WalOptions { seed, ..small_options() });
    for _ in 0..random.below(80) {
        random_step(&mut machine, &mut random).map_err(|e| e.to_string())?;
    }
    machine.wal().note_durable().map_err(|e| e.to_string())?;
    machine.sync().map_err(|e| e.to_string())?;
    let (last_name, end) = machine.wal().provable_end();
    let mut names = machine.disk.list().map_err(|e| e.to_string())?;
    names.retain(|name| name.starts_with("wal-") && *name <= last_name);
    let index = usize::try_from(random.below(names.len() as u64)).expect("small");
    let name = &names[index];
    let bytes =
        if *name == last_name { end } else { machine.disk.content(name).map_or(0, |c| c.len() as u64) };
    machine.disk.rot(name, random.below(bytes), 1 << random.below(8));
    machine.crash(&mut random);
    match recover(&machine.disk, machine.options) {
        Err(error) if error.is_damage() => Ok(true),
        Err(error) => Err(error.to_string()),
        Ok((recovered, records)) => machine.judge(&records, recovered.report.last).map(|()| false),
    }
}
