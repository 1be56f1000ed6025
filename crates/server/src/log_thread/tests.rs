//! Guards against: durable said before it is so, an error of the disk that is survived, a thread that ends unnoticed.

use keypact_protocol::GroupId;
use keypact_storage::{Appender, MemoryDisk, WalOptions};

use super::*;

fn open(disk: &MemoryDisk) -> (LogThread, Appender, Arc<Notify>) {
    let options = WalOptions { segment_bytes: 64 << 10, ..WalOptions::default() };
    let recovered = Wal::recover(disk.clone(), options, |_| {}).expect("the disk is good");
    let news = Arc::new(Notify::new());
    let log = LogThread::spawn(recovered.wal, news.clone()).expect("a thread can be started");
    (log, recovered.appender, news)
}

fn wait(news: &Notify) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(news.notified());
}

#[test]
fn what_is_called_durable_survives_a_crash() {
    let mut disk = MemoryDisk::new();
    let (mut log, mut appender, news) = open(&disk);
    let mut last = Lsn::ZERO;
    for round in 0..200u32 {
        last = appender.push(GroupId(1), &[&round.to_le_bytes(), &[7; 700]]);
        log.submit(appender.take(), None);
        while log.durable() < last || log.is_busy() {
            if let Some(batch) = log.take_back() {
                appender.recycle(batch);
            } else {
                wait(&news);
            }
        }
    }
    assert_eq!(log.figures().batch_bytes.count(), 200);
    assert!(log.figures().sync_us.quantile_bound(500) > 0);
    // Everything that was not synced is lost.
    let mut after = disk.fork();
    after.crash(|_| 0);
    drop(log);
    disk.crash(|_| 0);
    let mut seen = 0;
    let options = WalOptions { segment_bytes: 64 << 10, ..WalOptions::default() };
    let recovered = Wal::recover(after, options, |_| seen += 1).expect("the disk is good");
    assert_eq!((seen, recovered.wal.durable()), (200, last));
}

#[test]
fn a_failed_sync_is_the_end_and_is_told() {
    let mut disk = MemoryDisk::new();
    let (mut log, mut appender, news) = open(&disk);
    let before = log.durable();
    let last = appender.push(GroupId(1), &[b"record"]);
    disk.fail_syncs(1);
    log.submit(appender.take(), None);
    while !log.has_ended() {
        wait(&news);
    }
    assert!(before < last && log.durable() == before, "nothing is durable that was not synced");
    let error = log.failure();
    assert!(error.to_string().contains("sync"), "{error}");
}

#[test]
fn a_clean_end_says_in_the_log_what_is_durable() {
    let disk = MemoryDisk::new();
    let (mut log, mut appender, _news) = open(&disk);
    let last = appender.push(GroupId(1), &[b"record"]);
    log.submit(appender.take(), None);
    log.close().expect("the disk is good");
    let recovered =
        Wal::recover(disk, WalOptions { segment_bytes: 64 << 10, ..WalOptions::default() }, |_| {})
            .expect("the disk is good");
    assert_eq!(recovered.wal.durable(), last);
    assert_eq!(recovered.report.cut_bytes, 0);
}
