//! One node's process: an owner, perhaps the catalog, a log, and a gate that holds back what is not yet on disk.

use std::collections::VecDeque;

use keypact_partitioning::Map;
use keypact_partitioning::placement::Throttle;
use keypact_protocol::{Context, NodeId};
use keypact_simulator::{
    Applied, ClientId, Counters, DiskWork, Effects, Process, ProcessInput, StartRefused, TraceHash, Traffic,
};

use super::Scheme;
use super::catalog::{Catalog, Done};
use super::disk::PlainDisk;
use super::message::{Answer, Message, Record, Reply, Request};
use super::owner::{Owner, Served};

/// A record's size on disk, about.
const RECORD_BYTES: u64 = 100;

/// What every node is told.
#[derive(Clone, Debug)]
pub(crate) struct ShardConfig<S> {
    pub(crate) catalog_at: NodeId,
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) tick_ns: u64,
    pub(crate) round_gap_ns: u64,
    pub(crate) throttle: Throttle,
    pub(crate) scheme: S,
}

/// What waits for the disk.
#[derive(Debug)]
enum Held<A> {
    Send(NodeId, Message<A>),
    Reply(ClientId, Reply<A>),
}

/// One node.
#[derive(Debug)]
pub(crate) struct Shard<S: Scheme> {
    id: NodeId,
    config: ShardConfig<S>,
    owner: Owner<S>,
    catalog: Option<Catalog<S>>,
    /// The newest map that it knows.
    map: Map<S::At>,
    /// With how many records must be durable before they leave.
    held: VecDeque<(usize, Held<S::At>)>,
    /// How many records the sync under way covers.
    syncing: Option<usize>,
    next_tick_ns: u64,
}

impl<S: Scheme> Shard<S> {
    pub(crate) fn owner(&self) -> &Owner<S> {
        &self.owner
    }

    pub(crate) fn catalog(&self) -> Option<&Catalog<S>> {
        self.catalog.as_ref()
    }

    /// The newest map that it knows; the catalog's node: that is on its disk.
    pub(crate) fn map(&self) -> &Map<S::At> {
        &self.map
    }

    fn hold(&mut self, what: Held<S::At>, disk: &PlainDisk<Record<S::At>>) {
        self.held.push_back((disk.records().len(), what));
    }

    fn carry_out(&mut self, done: Done<S::At>, disk: &mut PlainDisk<Record<S::At>>) {
        for record in done.records {
            disk.append(record);
        }
        for (to, message) in done.messages {
            self.hold(Held::Send(to, message), disk);
        }
    }

    fn hear(
        &mut self,
        from: NodeId,
        message: Message<S::At>,
        now_ns: u64,
        disk: &mut PlainDisk<Record<S::At>>,
    ) {
        match message {
            Message::Map(map) => {
                if map.version() > self.map.version() {
                    self.map = map;
                }
                let version = self.map.version();
                self.hold(Held::Send(from, Message::Known { version }), disk);
            }
            Message::Took { .. }
            | Message::Active { .. }
            | Message::Released { .. }
            | Message::Known { .. }
            | Message::Reports(_) => {
                if let Some(catalog) = &mut self.catalog {
                    let done = catalog.hear(from, message, now_ns);
                    self.carry_out(done, disk);
                }
            }
            _ => {
                let (record, answer) = self.owner.hear(message, self.config.catalog_at);
                let done =
                    Done { records: record.into_iter().collect(), messages: answer.into_iter().collect() };
                self.carry_out(done, disk);
            }
        }
    }

    fn serve(&mut self, client: ClientId, request: Request<S::At>, disk: &mut PlainDisk<Record<S::At>>) {
        let answer = match self.owner.serve(&request.ask) {
            Served::Write(record) => {
                disk.append(record);
                Answer::Appended
            }
            Served::List(list) => Answer::List(list),
            Served::Rows(rows) => Answer::Rows(rows),
            Served::NotMine => Answer::NotMine(Box::new(self.map.clone())),
            Served::Crossing => Answer::Crossing,
        };
        // A read waits, too: what it has seen may not be durable.
        self.hold(Held::Reply(client, Reply { op: request.op, answer }), disk);
    }

    fn tick(&mut self, now_ns: u64, disk: &mut PlainDisk<Record<S::At>>, out: &mut Effects<Self>) {
        if now_ns >= self.next_tick_ns {
            self.next_tick_ns = now_ns + self.config.tick_ns;
            if let Some(catalog) = &mut self.catalog {
                let done = catalog.tick(now_ns);
                self.carry_out(done, disk);
            }
            let reports = self.owner.reports(self.id, &self.map);
            let version = self.map.version();
            for message in [Message::Reports(reports), Message::Known { version }] {
                self.hold(Held::Send(self.config.catalog_at, message), disk);
            }
        }
        out.wake_at(self.next_tick_ns);
    }

    /// Lets go what the disk has, and has it write what it has not. What is for this node itself is heard at once.
    fn pump(&mut self, now_ns: u64, disk: &mut PlainDisk<Record<S::At>>, out: &mut Effects<Self>) {
        while self.held.front().is_some_and(|(records, _)| *records <= disk.durable()) {
            match self.held.pop_front().expect("just seen").1 {
                Held::Send(to, message) if to == self.id => self.hear(to, message, now_ns, disk),
                Held::Send(to, message) => out.send(to, Traffic::Bulk, message),
                Held::Reply(client, reply) => out.reply(client, reply),
            }
        }
        let written = disk.records().len();
        if self.syncing.is_none() && written > disk.durable() {
            self.syncing = Some(written);
            let bytes = (written - disk.durable()) as u64 * RECORD_BYTES;
            out.disk(0, DiskWork::LogSync { bytes });
        }
    }
}

impl<S: Scheme> Process for Shard<S> {
    type Config = ShardConfig<S>;
    type Disk = PlainDisk<Record<S::At>>;
    type Message = Message<S::At>;
    type Request = Request<S::At>;
    type Reply = Reply<S::At>;

    fn start(
        config: &Self::Config,
        id: NodeId,
        disk: &mut Self::Disk,
        _seed: u64,
        context: Context,
        out: &mut Effects<Self>,
    ) -> Result<Self, StartRefused> {
        let mut owner = Owner::new(id, config.scheme.clone());
        let mut catalog = (config.catalog_at == id).then(|| {
            Catalog::new(config.scheme.clone(), config.nodes.clone(), config.throttle, config.round_gap_ns)
        });
        for record in disk.records() {
            owner.replay(record);
            if let Some(catalog) = &mut catalog {
                catalog.replay(record)?;
            }
        }
        if let Some(catalog) = &mut catalog {
            catalog.recovered();
        }
        let map = catalog.as_ref().map_or_else(|| config.scheme.first_map(), |catalog| catalog.map().clone());
        out.wake_at(context.now_ns);
        Ok(Shard {
            id,
            config: config.clone(),
            owner,
            catalog,
            map,
            held: VecDeque::new(),
            syncing: None,
            next_tick_ns: context.now_ns,
        })
    }

    fn step(
        &mut self,
        batch: &mut Vec<ProcessInput<Self>>,
        disk: &mut Self::Disk,
        context: Context,
        out: &mut Effects<Self>,
    ) {
        for input in batch.drain(..) {
            match input {
                ProcessInput::Peer { from, message } => self.hear(from, message, context.now_ns, disk),
                ProcessInput::Client { client, request } => self.serve(client, request, disk),
                ProcessInput::WakeUp => self.tick(context.now_ns, disk, out),
                ProcessInput::DiskDone { ok: true, .. } => {
                    let synced = self.syncing.take().expect("one sync is under way");
                    disk.synced(synced);
                }
                ProcessInput::DiskDone { ok: false, .. } => return out.stop("a sync failed"),
                ProcessInput::Unreachable(_) => {}
            }
        }
        self.pump(context.now_ns, disk, out);
        self.owner.holdings.assert_invariants();
    }

    /// In the end all know one map, and nothing is left to do.
    fn applied(&self) -> Option<Applied> {
        let left = self.catalog.as_ref().map_or(0, Catalog::left);
        let digest = left + self.owner.unsettled() as u64;
        Some(Applied {
            index: self.map.version(),
            digest: if digest == 0 { 0 } else { digest << 8 | self.id.0 },
        })
    }

    fn fingerprint(&self) -> u64 {
        let mut hash = TraceHash::default();
        hash.add(self.map.version());
        hash.add(self.owner.holdings.held().len() as u64);
        hash.add(self.held.len() as u64);
        hash.value()
    }

    fn count(&self, counters: &mut Counters) {
        let owner = &self.owner.counts;
        counters.add("slice-given", owner.given);
        counters.add("slice-taken", owner.taken);
        counters.add("content-came-again", owner.taken_again);
        counters.add("slice-activated", owner.activated);
        counters.add("slice-released", owner.released);
        counters.add("request-refused", owner.refused);
        counters.add("range-answered", owner.ranges);
        counters.add("range-refused", owner.ranges_refused);
        counters.add("stale-plan-refused", owner.stale_plans);
        let Some(catalog) = &self.catalog else { return };
        let catalog = &catalog.counts;
        counters.add("plan-begun", catalog.plans);
        counters.add("plan-resumed", catalog.resumed);
        counters.add("step-switched", catalog.switched);
        counters.add("stale-word-refused", catalog.stale);
        counters.add("slice-split", catalog.splits);
        counters.add("slices-merged", catalog.merges);
        counters.add("plan-cancelled", catalog.cancelled);
        counters.add("throttle-waited", catalog.throttled);
    }
}
