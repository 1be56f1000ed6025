//! The leader is killed with SIGKILL while one writer writes: how long nothing was acknowledged, and whether all that was is still there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::compare::{Settings, Spread, System};
use crate::error::Failure;
use crate::generator::{Connection, Key, Wire, key};
use crate::resp::Owned;
use crate::{etcd, keypact};

/// The writer writes undisturbed for this long.
const BEFORE: Duration = Duration::from_millis(1_000);
/// And for this long after the first acknowledgement by the next leader.
const AFTER: Duration = Duration::from_millis(300);
/// After a refusal the writer waits this long.
const PAUSE: Duration = Duration::from_millis(2);
/// No write for this long: the cluster is taken for dead.
const GAP_MAX: Duration = Duration::from_secs(20);
/// Readers of the final check.
const READERS: usize = 16;

/// All runs of one side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs {
    /// Write gaps, milliseconds.
    pub(crate) gaps_ms: Vec<f64>,
    /// Writes that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Acknowledged writes that were not found afterwards.
    pub(crate) lost: u64,
}

impl Runs {
    /// Median and ends of the gaps.
    pub(crate) fn spread(&self) -> Option<Spread> {
        Spread::of(self.gaps_ms.iter().copied())
    }
}

/// Both sides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failovers {
    /// Ours.
    pub(crate) ours: Runs,
    /// The other's.
    pub(crate) theirs: Runs,
}

/// Kills leaders in turn: ours each time, etcd's every second time. Each run has a new cluster.
///
/// # Errors
/// If a cluster does not start, or never takes writes again.
pub(crate) async fn measure(settings: &Settings) -> Result<Failovers, Failure> {
    let mut failovers = Failovers::default();
    for run in 0..settings.failovers {
        if let Some(binary) = &settings.keypact {
            let cluster = keypact::Cluster::start(binary, settings.folder("ours")?, 3, "lease").await?;
            once(System::Keypact(cluster), "keypact", settings.attempt, &mut failovers.ours).await?;
        }
        if run % 2 == 0 {
            let cluster = etcd::Cluster::start(settings.folder("etcd")?).await?;
            once(System::Etcd(cluster), "etcd", settings.attempt, &mut failovers.theirs).await?;
        }
    }
    Ok(failovers)
}

async fn once(mut system: System, name: &str, attempt_max: Duration, runs: &mut Runs) -> Result<(), Failure> {
    let leader = system.leader().await?;
    let killed = Arc::new(AtomicBool::new(false));
    let writer = Writer::new(system.wire(), &system.addresses(), leader, attempt_max);
    let writing = tokio::spawn(writer.write(Arc::clone(&killed)));
    tokio::time::sleep(BEFORE).await;
    let killed_at = Instant::now();
    killed.store(true, Ordering::Relaxed);
    system.kill(leader);
    let acknowledged = writing.await.expect("the writer does not panic")?;
    let gap = gap(&acknowledged, killed_at);
    let survivor = system.addresses()[(leader + 1) % system.addresses().len()];
    let lost = missing(system.wire(), survivor, acknowledged.len() as u64).await?;
    let gap_ms = gap.as_secs_f64() * 1e3;
    eprintln!(
        "{name}: leader killed, write gap {gap_ms:.0} ms, {} acknowledged, {lost} lost",
        acknowledged.len()
    );
    runs.gaps_ms.push(gap_ms);
    runs.acknowledged += acknowledged.len() as u64;
    runs.lost += lost;
    Ok(())
}

/// The longest time between two acknowledgements of which the second came after the kill.
fn gap(acknowledged: &[Instant], killed_at: Instant) -> Duration {
    let pairs = acknowledged.windows(2).filter(|pair| pair[1] > killed_at);
    pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// The value that stands at the key with this number.
fn value_of(number: u64) -> Bytes {
    Bytes::from(format!("{number:064}"))
}

/// One client that writes key after key, each until it is acknowledged.
struct Writer {
    wire: Wire,
    addresses: Vec<SocketAddr>,
    /// Whom it asks now.
    at: usize,
    connection: Option<Connection>,
    /// An attempt without an answer is given up after this long; the next goes to the next node.
    attempt_max: Duration,
}

impl Writer {
    fn new(wire: Wire, addresses: &[SocketAddr], leader: usize, attempt_max: Duration) -> Writer {
        Writer { wire, addresses: addresses.to_vec(), at: leader, connection: None, attempt_max }
    }

    /// Writes until some time after the first acknowledgement that follows the kill; gives when each write was acknowledged.
    async fn write(mut self, killed: Arc<AtomicBool>) -> Result<Vec<Instant>, Failure> {
        let mut acknowledged: Vec<Instant> = Vec::new();
        let mut resumed_at: Option<Instant> = None;
        let mut failed_since_kill = false;
        let mut last = Instant::now();
        loop {
            let number = acknowledged.len() as u64;
            let done = self.attempt(number).await;
            let now = Instant::now();
            if done {
                acknowledged.push(now);
                last = now;
                if failed_since_kill {
                    resumed_at.get_or_insert(now);
                }
            } else {
                failed_since_kill |= killed.load(Ordering::Relaxed);
                if now - last > GAP_MAX {
                    return Err(Failure::Wrong(format!("no write was acknowledged for {GAP_MAX:?}")));
                }
            }
            if resumed_at.is_some_and(|resumed| now - resumed > AFTER) {
                return Ok(acknowledged);
            }
        }
    }

    /// One attempt; on failure the next goes elsewhere. The key and value stay the same, so an attempt whose outcome is unknown does no
    /// harm when it is repeated.
    async fn attempt(&mut self, number: u64) -> bool {
        let connection = self.connection.take();
        match tokio::time::timeout(
            self.attempt_max,
            put(connection, self.wire, self.addresses[self.at], number),
        )
        .await
        {
            Ok(Ok((connection, acknowledged))) => {
                self.connection = Some(connection);
                if acknowledged {
                    return true;
                }
                tokio::time::sleep(PAUSE).await;
            }
            Ok(Err(_)) => tokio::time::sleep(PAUSE).await,
            Err(_) => {}
        }
        self.connection = None;
        self.at = (self.at + 1) % self.addresses.len();
        false
    }
}

async fn put(
    connection: Option<Connection>,
    wire: Wire,
    address: SocketAddr,
    number: u64,
) -> Result<(Connection, bool), Failure> {
    let mut connection = match connection {
        Some(connection) => connection,
        None => Connection::dial(wire, address).await?,
    };
    let (name, value) = (written_key(number), value_of(number));
    let acknowledged = match &mut connection {
        Connection::Resp(resp) => {
            resp.call(&[b"SET", &name, &value]).await? == Owned::Simple(String::from("OK"))
        }
        Connection::Grpc(grpc) => grpc.put(Bytes::copy_from_slice(&name), value).await?.is_none(),
        Connection::Echo(_) => unreachable!("an echo has no leader"),
    };
    Ok((connection, acknowledged))
}

async fn value_at(connection: &mut Connection, number: u64) -> Result<Option<Bytes>, Failure> {
    let name = written_key(number);
    match connection {
        Connection::Resp(resp) => match resp.call(&[b"GET", &name]).await? {
            Owned::Bulk(bulk) => Ok(bulk.map(Bytes::from)),
            other => Err(Failure::Wrong(format!("reading back: {other:?}"))),
        },
        Connection::Grpc(grpc) => match grpc.range(Bytes::copy_from_slice(&name)).await? {
            Ok(value) => Ok(value),
            Err(why) => Err(Failure::Wrong(format!("reading back: {why}"))),
        },
        Connection::Echo(_) => unreachable!("an echo keeps nothing"),
    }
}

fn written_key(number: u64) -> Key {
    key(b'f', number)
}

/// Reads the first `count` keys back, linearizably, and counts those that do not hold what was acknowledged.
async fn missing(wire: Wire, address: SocketAddr, count: u64) -> Result<u64, Failure> {
    let mut tasks = tokio::task::JoinSet::new();
    for reader in 0..READERS {
        tasks.spawn(async move {
            let mut connection = Connection::dial(wire, address).await?;
            let mut lost = 0;
            for number in (reader as u64..count).step_by(READERS) {
                lost += u64::from(value_at(&mut connection, number).await? != Some(value_of(number)));
            }
            Ok::<u64, Failure>(lost)
        });
    }
    let mut lost = 0;
    while let Some(ended) = tasks.join_next().await {
        lost += ended.expect("readers do not panic")?;
    }
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_the_one_behind_the_kill() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let acknowledged = [at(0), at(900), at(1_000), at(1_600), at(1_601)];
        assert_eq!(gap(&acknowledged, at(1_050)), Duration::from_millis(600));
        assert_eq!(gap(&acknowledged[..1], at(1_050)), Duration::ZERO);
    }
}
