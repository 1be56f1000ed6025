//! The thread that owns sockets, parsing, protocol and replies: one tokio `LocalRuntime`, whose tasks call the node directly.
//!
//! Readers put inputs into the node's inbox and mark the node as touched; the first to do so wakes the task that runs batches. The
//! runtime runs tasks in the order in which they were woken, and one poll of the operating system wakes all ready readers before any of
//! them runs. So the batch comes after all of them, without a timer and without counting: all ready sockets are parsed before `flush`.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use keypact_node::{NodeInput, SessionId};
use keypact_resp::CommandParser;
use keypact_storage::StorageError;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, spawn_local};

use crate::ServeError;
use crate::batch::{Core, Stuck};
use crate::checkpoint_thread::Answer;
use crate::clock;
use crate::commands::Next;
use crate::connection::Connection;
use crate::handshake::Credentials;
use crate::http::Question;

/// A connection's read buffer grows by this much, bytes.
const READ_BYTES: usize = 16 << 10;
/// Less room than this is not worth a read, bytes.
const READ_BYTES_MIN: usize = 4 << 10;
/// After an error of `accept` (no more file descriptors) it is not called again for so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all tasks of the node's thread share.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) core: RefCell<Core>,
    is_touched: Cell<bool>,
    touched: Notify,
    /// When the timer task will look next; `u64::MAX`: when it is told to.
    armed_ns: Cell<u64>,
    rearm: Notify,
    failure: RefCell<Option<ServeError>>,
    failed: Notify,
}

impl Engine {
    pub(crate) fn new(core: Core) -> Rc<Engine> {
        Rc::new(Engine {
            core: RefCell::new(core),
            is_touched: Cell::new(false),
            touched: Notify::new(),
            armed_ns: Cell::new(u64::MAX),
            rearm: Notify::new(),
            failure: RefCell::new(None),
            failed: Notify::new(),
        })
    }

    /// The node and its world, once all tasks have ended.
    pub(crate) fn into_core(self) -> Core {
        self.core.into_inner()
    }

    /// There is something for a batch.
    #[inline]
    pub(crate) fn touch(&self) {
        if !self.is_touched.replace(true) {
            self.touched.notify_one();
        }
    }

    /// Puts an input into the inbox.
    pub(crate) fn input(&self, input: NodeInput) {
        self.core.borrow_mut().inbox.push(input);
        self.touch();
    }

    /// The node can't go on.
    fn fail(&self, error: ServeError) {
        self.failure.borrow_mut().get_or_insert(error);
        self.failed.notify_one();
    }

    /// Starts a task. If it panics, which is a bug, the node stops: it does not go on with half of itself.
    pub(crate) fn spawn(
        self: &Rc<Self>,
        name: &'static str,
        task: impl Future<Output = ()> + 'static,
    ) -> AbortHandle {
        let guard = PanicGuard { engine: self.clone(), name };
        spawn_local(async move {
            let _guard = guard;
            task.await;
        })
        .abort_handle()
    }

    /// Waits until the node can't go on.
    pub(crate) async fn failure(&self) -> ServeError {
        loop {
            if let Some(error) = self.failure.borrow_mut().take() {
                return error;
            }
            self.failed.notified().await;
        }
    }

    /// Runs batches for ever.
    pub(crate) async fn run_batches(self: Rc<Self>, credentials: Rc<Credentials>) {
        let mut stuck = Stuck::default();
        loop {
            self.touched.notified().await;
            self.is_touched.set(false);
            let mut core = self.core.borrow_mut();
            if let Err(error) = core.batch(&mut stuck) {
                return self.fail(error.into());
            }
            let (wish_ns, has_more) = (core.world.wake_at_ns, !core.inbox.is_empty());
            let roster_is_new = core.world.roster_is_new;
            drop(core);
            if roster_is_new {
                self.follow_roster(&credentials);
            }
            if has_more {
                self.touch();
            }
            if wish_ns < self.armed_ns.get() {
                self.rearm.notify_one();
            }
            self.wait_for_stuck(&mut stuck);
        }
    }

    /// Waits, beside everything else, for sockets that are full. Rare: it costs a task each time.
    fn wait_for_stuck(self: &Rc<Self>, stuck: &mut Stuck) {
        for (id, write) in stuck.clients.drain(..) {
            let engine = self.clone();
            let task = self.spawn("waiter", async move {
                let is_writable = write.writable().await.is_ok();
                let mut core = engine.core.borrow_mut();
                match core.world.connections.at(id) {
                    Some(connection) if is_writable => connection.unstick(),
                    _ => core.close(id),
                }
                core.world.touch(id);
                drop(core);
                engine.touch();
            });
            if let Some(connection) = self.core.borrow_mut().world.connections.at(id) {
                connection.set_waiter(task);
            }
        }
        for (id, write) in stuck.links.drain(..) {
            let engine = self.clone();
            let task = self.spawn("waiter", async move {
                // An error shows with the next write.
                let _ = write.writable().await;
                engine.core.borrow_mut().world.links.unstick(id);
                engine.touch();
            });
            self.core.borrow_mut().world.links.set_waiter(id, task);
        }
    }

    /// Wakes the node when it wants to be woken. One timer for the whole node, which is set anew only for an earlier wish: a later one is
    /// found when the timer fires.
    pub(crate) async fn run_timer(self: Rc<Self>) {
        loop {
            let wish_ns = self.core.borrow().world.wake_at_ns;
            self.armed_ns.set(wish_ns);
            let now_ns = clock::now_ns();
            if wish_ns <= now_ns {
                // Sockets are looked at first. A node that works in slices has its next wish due when a slice ends, and would hear of no
                // peer until `BATCH_TASKS` of them are done.
                tokio::task::yield_now().await;
                self.core.borrow_mut().world.wake_at_ns = u64::MAX;
                self.armed_ns.set(u64::MAX);
                self.input(NodeInput::Wake);
                self.rearm.notified().await;
                continue;
            }
            let sleep = async {
                match wish_ns {
                    u64::MAX => pending().await,
                    _ => tokio::time::sleep(Duration::from_nanos(wish_ns - now_ns)).await,
                }
            };
            tokio::select! {
                () = sleep => {}
                () = self.rearm.notified() => {}
            }
        }
    }

    /// The log's thread has news.
    pub(crate) async fn hear_log(self: Rc<Self>, news: Arc<Notify>) {
        loop {
            news.notified().await;
            self.touch();
        }
    }

    /// The checkpoints' thread answers.
    pub(crate) async fn hear_checkpoints(self: Rc<Self>, mut answers: mpsc::Receiver<Answer>) {
        loop {
            match answers.recv().await {
                Some(Ok(input)) => self.input(input),
                Some(Err(error)) => return self.fail(error.into()),
                None => return self.fail(StorageError::Failed.into()),
            }
        }
    }

    /// The admin HTTP asks.
    pub(crate) async fn answer_http(self: Rc<Self>, mut questions: mpsc::Receiver<Question>) {
        while let Some(question) = questions.recv().await {
            let answer = self.core.borrow().report();
            // Whoever asked may have gone.
            let _ = question.answer.send(Box::new(answer));
        }
    }

    /// Accepts clients.
    pub(crate) async fn accept_clients(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => self.take_client(stream, address),
                Err(error) => {
                    tracing::warn!(%error, "a client could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn take_client(self: &Rc<Self>, stream: TcpStream, address: SocketAddr) {
        let (Ok(()), Ok(local_address)) = (stream.set_nodelay(true), stream.local_addr()) else { return };
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        let connections = &mut core.world.connections;
        let has_room = connections.len() < core.limits.connections;
        let Some(id) = Some(()).filter(|()| has_room).and_then(|()| connections.new_id()) else {
            connections.refused += 1;
            // As much as a fresh socket takes; then it is closed.
            let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
            return;
        };
        let is_authenticated = core.password.is_none();
        let (read, write) = stream.into_split();
        let now_ns = clock::now_ns();
        connections.insert(Connection::new(id, write, address, local_address, is_authenticated, now_ns));
        let parser = CommandParser::new(core.resp_limits(is_authenticated));
        let task = self.spawn("client", self.clone().read_client(id, read, parser));
        if let Some(connection) = core.world.connections.at(id) {
            connection.set_reader(task);
        }
    }

    async fn read_client(self: Rc<Self>, id: SessionId, mut read: OwnedReadHalf, mut parser: CommandParser) {
        let mut input = BytesMut::new();
        loop {
            if input.capacity() - input.len() < READ_BYTES_MIN {
                input.reserve(READ_BYTES);
            }
            match read.read_buf(&mut input).await {
                // Half a connection may be closed: what was asked is still answered.
                Ok(0) => {
                    if let Some(connection) = self.core.borrow_mut().world.connections.at(id) {
                        connection.close_when_said();
                    }
                    break;
                }
                Ok(_) => {}
                Err(_) => {
                    self.core.borrow_mut().close(id);
                    self.touch();
                    return;
                }
            }
            if !self.give_commands(id, &mut parser, &mut input).await {
                break;
            }
        }
        self.core.borrow_mut().world.touch(id);
        self.touch();
    }

    /// Gives the node what was received; returns whether to read on.
    async fn give_commands(&self, id: SessionId, parser: &mut CommandParser, input: &mut BytesMut) -> bool {
        loop {
            let room = {
                let mut core = self.core.borrow_mut();
                let next = core.take_commands(id, parser, input);
                match next {
                    Next::Read => None,
                    Next::End => return false,
                    Next::Wait => core.world.connections.at(id).map(|connection| connection.room()),
                }
            };
            self.touch();
            match room {
                None => return true,
                Some(room) => room.notified().await,
            }
        }
    }
}

/// Tells the engine of a task that panicked.
struct PanicGuard {
    engine: Rc<Engine>,
    name: &'static str,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.engine.fail(ServeError::Panicked { task: self.name });
        }
    }
}
