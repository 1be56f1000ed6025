//! One batch of a node's life: inputs that were collected go in, effects go out.
//!
//! ```text
//! 1. every ready socket is read and parsed: inputs gather in the inbox      (reader tasks)
//! 2. the clocks are sampled, so nothing is judged by a time before it came  (here, from here on)
//! 3. the node handles each input, and is flushed once
//! 4. what it appended goes to the log's thread, if that is idle
//! 5. each peer's, then each client's output is written, one system call each
//! ```

use std::rc::Rc;

use keypact_node::{GROUPS, Node, NodeInput, SessionId};
use keypact_protocol::Lsn;
use keypact_storage::StorageError;
use tokio::net::tcp::OwnedWriteHalf;

use crate::clock;
use crate::connection::Written;
use crate::link::LinkId;
use crate::log_thread::LogThread;
use crate::settings::Limits;
use crate::world::World;

/// The node, and all that its thread owns.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) node: Node,
    pub(crate) world: World,
    pub(crate) log: LogThread,
    pub(crate) inbox: Vec<NodeInput>,
    /// The inbox of the batch before, for its memory.
    spare: Vec<NodeInput>,
    /// The node was told that the log is durable up to here.
    told_durable: Lsn,
    /// The log's length at which its groups are told next that it is long.
    log_long_at: u64,
    pub(crate) started_ns: u64,
    pub(crate) limits: Limits,
    /// What the operator must say; `None`: nothing.
    pub(crate) password: Option<String>,
}

/// Sockets that are full, for tasks that wait until they are not.
#[derive(Debug, Default)]
pub(crate) struct Stuck {
    pub(crate) clients: Vec<(SessionId, Rc<OwnedWriteHalf>)>,
    pub(crate) links: Vec<(LinkId, Rc<OwnedWriteHalf>)>,
}

impl Core {
    pub(crate) fn new(
        node: Node,
        world: World,
        log: LogThread,
        limits: Limits,
        password: Option<String>,
    ) -> Core {
        let told_durable = log.durable();
        let log_long_at = limits.log_bytes;
        let (inbox, spare) = (vec![NodeInput::Start], Vec::new());
        Core {
            node,
            world,
            log,
            inbox,
            spare,
            told_durable,
            log_long_at,
            started_ns: clock::now_ns(),
            limits,
            password,
        }
    }

    /// Steps 2 to 5. `stuck` gets what has to be waited for.
    ///
    /// # Errors
    /// If the log failed: then nothing more may be acknowledged.
    pub(crate) fn batch(&mut self, stuck: &mut Stuck) -> Result<(), StorageError> {
        let durable = self.hear_log()?;
        let context = clock::context();
        self.world.now_ns = context.now_ns;
        let mut inputs = std::mem::replace(&mut self.inbox, std::mem::take(&mut self.spare));
        self.world.figures.batch_inputs.record(inputs.len() as u64);
        // First, so that what waits for the disk leaves before anything new is taken.
        if let Some(lsn) = durable {
            self.node.handle(NodeInput::Durable(lsn), context, &mut self.world);
        }
        for input in inputs.drain(..) {
            self.node.handle(input, context, &mut self.world);
        }
        self.node.flush(context, &mut self.world);
        assert!(self.inbox.is_empty(), "inputs come from sockets and threads, not from the node");
        // The group asks again after a while.
        let unread = self.world.unread.drain(..);
        self.inbox.extend(unread.map(|(group, to)| NodeInput::CheckpointRead { group, to, chunk: None }));
        self.spare = inputs;
        self.submit();
        self.write_links(stuck);
        self.write_clients(stuck);
        Ok(())
    }

    /// What the log's thread has to tell: how far it is durable, if that is news.
    fn hear_log(&mut self) -> Result<Option<Lsn>, StorageError> {
        if self.log.has_ended() {
            return Err(self.log.failure());
        }
        let durable = self.log.durable();
        assert!(durable >= self.told_durable, "the durable number never falls");
        let news = (durable > self.told_durable).then_some(durable);
        self.told_durable = durable;
        if let Some(batch) = self.log.take_back() {
            self.world.appender.recycle(batch);
        }
        let bytes = self.log.len_bytes();
        if bytes >= self.log_long_at {
            // Whoever needs nothing old does nothing. Told again once the log has grown by an eighth.
            self.inbox.extend(GROUPS.map(NodeInput::LogLong));
            self.log_long_at = bytes + self.limits.log_bytes / 8;
        } else if bytes < self.limits.log_bytes {
            self.log_long_at = self.limits.log_bytes;
        }
        Ok(news)
    }

    fn submit(&mut self) {
        if self.log.is_busy() || self.world.appender.is_empty() {
            return;
        }
        let batch = self.world.appender.take();
        self.log.submit(batch, self.world.drop_before.take());
    }

    fn write_links(&mut self, stuck: &mut Stuck) {
        let mut broken = Vec::new();
        self.world.links.write_out(&mut stuck.links, &mut broken);
        for id in broken {
            self.disconnect(id);
        }
    }

    fn write_clients(&mut self, stuck: &mut Stuck) {
        let touched = std::mem::take(&mut self.world.touched);
        for &id in &touched {
            let all = self.world.in_flight_bytes;
            let Some(connection) = self.world.connections.at(id) else { continue };
            connection.is_touched = false;
            match connection.write_out(&self.limits, all) {
                Written::All => {}
                Written::Stuck => stuck.clients.push((id, connection.write_half())),
                Written::End => self.close(id),
            }
        }
        let mut touched = touched;
        touched.clear();
        self.world.touched = touched;
    }

    /// Forgets a client's connection; the node hears of it with the next batch.
    pub(crate) fn close(&mut self, id: SessionId) {
        let Some(connection) = self.world.connections.remove(id) else { return };
        self.world.in_flight_bytes -= connection.in_flight_bytes();
        self.inbox.push(NodeInput::SessionClosed(id));
    }

    /// Forgets a peer's connection that broke.
    pub(crate) fn disconnect(&mut self, id: LinkId) {
        if self.world.links.disconnect(id) {
            tracing::info!(peer = %id.peer, "the last connection to it is gone");
            self.inbox.push(NodeInput::Unreachable(id.peer));
        }
    }

    /// The log's end: what was gathered is written if nothing is under way, then the log is closed.
    pub(crate) fn finish(mut self) -> Result<(), StorageError> {
        self.hear_log()?;
        self.submit();
        let Core { log, .. } = self;
        log.close()
    }
}
