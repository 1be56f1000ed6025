//! [`run`]: opens the folder, recovers the node, starts the threads, serves.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use keypact_node::{Node, NodeConfig, NodeRecovery, StartError};
use keypact_protocol::{Incarnation, Lsn, NodeId};
use keypact_storage::{Checkpoints, FileDisk, Folder, Recovered, Wal, WalOptions};
use tokio::net::TcpListener;
use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::{Notify, mpsc};

use crate::batch::Core;
use crate::checkpoint_thread::CheckpointThread;
use crate::connection::Connections;
use crate::handshake::Credentials;
use crate::init::read_identity;
use crate::link::Links;
use crate::log_thread::LogThread;
use crate::metrics::{Figures, Log2};
use crate::node_thread::Engine;
use crate::settings::{Listeners, Settings, Shutdown};
use crate::world::World;
use crate::{Identity, ServeError, checkpoint_thread, clock, http, random};

/// What a node did until it was stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Served {
    /// Client connections taken.
    pub connections: u64,
    /// Commands taken.
    pub commands: u64,
}

/// What the folder held.
struct Opened {
    identity: Identity,
    config: NodeConfig,
    node: Node,
    recovered: Recovered<FileDisk>,
    checkpoints: Checkpoints<FileDisk>,
}

/// Runs the node of a folder on the calling thread until `shutdown` is asked, or until the disk fails.
///
/// # Errors
/// [`ServeError`]; after one of the disk nothing more was acknowledged.
///
/// # Panics
/// If the node contradicts itself: a bug. The process should end then; what it acknowledged is on disk.
pub fn run(mut settings: Settings, shutdown: &Shutdown) -> Result<Served, ServeError> {
    if cfg!(feature = "plant") {
        return Err(ServeError::Planted);
    }
    let disk = open_folder(&settings.folder)?;
    let folder = Folder::open(disk.clone())?;
    let Some(identity) = read_identity(&folder, &settings.folder)? else {
        return Err(ServeError::NotInitialised { folder: settings.folder.display().to_string() });
    };
    // Before anything is read or written: a taken port should cost nothing.
    let config = settings.node_config(&identity)?;
    let listeners = settings.listen(&identity)?;
    let had_log = folder.expect_log()?;
    let opened = open(&settings, identity, config, disk, had_log)?;
    folder.log_was_made()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // A batch takes all that is ready; going back to the operating system in the middle of it only makes smaller ones.
        .event_interval(BATCH_TASKS)
        .build_local(LocalOptions::default())
        .map_err(|source| ServeError::System { operation: "start the runtime", source })?;
    serve(runtime, settings, opened, listeners, shutdown)
}

/// Tasks that run between two polls of the operating system, at most.
const BATCH_TASKS: u32 = 512;

fn open_folder(folder: &Path) -> Result<FileDisk, ServeError> {
    // `FileDisk` would make it; a node that was never initialised should leave nothing behind.
    if !folder.is_dir() {
        return Err(ServeError::NotInitialised { folder: folder.display().to_string() });
    }
    Ok(FileDisk::open(folder)?)
}

fn open(
    settings: &Settings,
    identity: Identity,
    config: NodeConfig,
    disk: FileDisk,
    had_log: bool,
) -> Result<Opened, ServeError> {
    let began_ns = clock::now_ns();
    let folder = settings.folder.display().to_string();
    let bad = |source: StartError| ServeError::Recovery { folder: folder.clone(), source };
    let mut recovery = NodeRecovery::begin(config.clone(), random::number()).map_err(bad)?;
    let checkpoints = Checkpoints::open(disk.clone())?;
    let groups: Vec<_> = checkpoints.groups().collect();
    for group in groups {
        let Some(reader) = checkpoints.newest(group) else { continue };
        recovery.checkpoint(group, reader.meta()).map_err(bad)?;
        for chunk in reader.chunks() {
            recovery.checkpoint_chunk(group, chunk?).map_err(bad)?;
        }
        recovery.checkpoint_end(group).map_err(bad)?;
    }
    let options = WalOptions {
        segment_bytes: settings.limits.segment_bytes,
        // Another one for each folder, the same in each life.
        seed: identity.node
            ^ u64::from_le_bytes(*identity.cluster_id.first_chunk().expect("it has 16 bytes")),
        had_log,
        ..WalOptions::default()
    };
    let mut replayed: Result<(), StartError> = Ok(());
    let recovered = Wal::recover(disk, options, |record| {
        if replayed.is_ok() {
            replayed = recovery.replay(record.lsn, record.group, record.body);
        }
    })?;
    replayed.map_err(bad)?;
    let durable = recovered.wal.durable();
    let node = recovery.finish(durable).map_err(bad)?;
    let report = recovered.report;
    tracing::info!(
        node = identity.node,
        cluster = identity.cluster,
        records = report.records,
        cut_bytes = report.cut_bytes,
        milliseconds = (clock::now_ns() - began_ns) / 1_000_000,
        "recovered from {folder}"
    );
    assert!(durable >= Lsn::ZERO && durable == recovered.wal.written(), "what was recovered is durable");
    Ok(Opened { identity, config, node, recovered, checkpoints })
}

/// Starts the threads and serves.
fn serve(
    runtime: LocalRuntime,
    settings: Settings,
    opened: Opened,
    listeners: Listeners,
    shutdown: &Shutdown,
) -> Result<Served, ServeError> {
    let system = |operation| move |source| ServeError::System { operation, source };
    let Opened { identity, config, node, recovered, checkpoints } = opened;
    let limits = settings.limits;
    let news = Arc::new(Notify::new());
    let log = LogThread::spawn(recovered.wal, news.clone()).map_err(system("start the log's thread"))?;
    let (answers, checkpoint_answers) = mpsc::channel(checkpoint_thread::ANSWERS);
    let checkpoints = CheckpointThread::spawn(checkpoints, limits.checkpoint_bytes_per_second, answers)
        .map_err(system("start the checkpoints' thread"))?;
    let (questions, http_questions) = mpsc::channel(http::QUESTIONS);
    let http_shutdown = Shutdown::new();
    let Listeners { resp, peer, http: http_listener } = listeners;
    let http_password = http::password_for(&http_listener, settings.password.as_deref())
        .map_err(system("read a listening socket's address"))?;
    let http = http::spawn(http_listener, questions, http_password, http_shutdown.clone())
        .map_err(system("start the admin HTTP's thread"))?;
    let world = World {
        connections: Connections::new(clock::wall_ms()),
        touched: Vec::new(),
        links: Links::new(config.id, node.roster().nodes(), &limits),
        appender: recovered.appender,
        checkpoints,
        in_flight_bytes: 0,
        wake_at_ns: u64::MAX,
        drop_before: None,
        unread: Vec::new(),
        now_ns: 0,
        latency_us: Log2::default(),
        figures: Figures::default(),
        roster_is_new: false,
    };
    let credentials = Rc::new(credentials(&identity, &node));
    let engine = Engine::new(Core::new(node, world, log, limits, settings.password));
    let result = runtime.block_on(async {
        let resp = TcpListener::from_std(resp).map_err(system("watch the clients' socket"))?;
        let peer = TcpListener::from_std(peer).map_err(system("watch the peers' socket"))?;
        engine.spawn("batches", engine.clone().run_batches(credentials.clone()));
        engine.spawn("timer", engine.clone().run_timer());
        engine.spawn("log", engine.clone().hear_log(news));
        engine.spawn("checkpoints", engine.clone().hear_checkpoints(checkpoint_answers));
        engine.spawn("http", engine.clone().answer_http(http_questions));
        engine.spawn("clients", engine.clone().accept_clients(resp));
        engine.start_links(&credentials, peer);
        engine.touch();
        tokio::select! {
            () = shutdown.asked() => Ok(()),
            error = engine.failure() => Err(error),
        }
    });
    http_shutdown.stop();
    // All tasks end with the runtime, and with them everyone else's hold on the engine.
    drop(runtime);
    // A panic there was printed, and harms nobody now.
    let _ = http.join();
    result?;
    let engine = Rc::into_inner(engine).expect("tasks ended with the runtime");
    stop(engine.into_core())
}

/// The log's clean end.
fn stop(core: Core) -> Result<Served, ServeError> {
    let commands = core.world.figures.commands.iter().sum();
    let served = Served { connections: core.world.connections.accepted, commands };
    core.finish()?;
    Ok(served)
}

fn credentials(identity: &Identity, node: &Node) -> Credentials {
    Credentials {
        cluster: identity.cluster_id,
        node: NodeId(identity.node),
        incarnation: Incarnation(identity.incarnation),
        secret: identity.secret,
        roster: RefCell::new(node.roster().clone()),
    }
}
