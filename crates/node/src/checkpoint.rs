//! Checkpoints and snapshots of a replica's state: out to the disk, in from a peer.

use bytes::Bytes;
use keypact_data::Loader;
use keypact_protocol::{GroupId, Input, SnapshotChunk, SnapshotInput};

use crate::catalog::Catalog;
use crate::node::{DEFAULT_AT, Node, Work};
use crate::outside::Outside;
use crate::replica::{CheckpointUnderWay, Incoming, Install, Machine};

/// Largest chunk, bytes.
const CHUNK_BYTES: usize = 256 * 1024;

/// First chunks of abandoned snapshots for which the disk may owe an answer when another snapshot begins.
const STALE_FIRST_CHUNKS_MAX: u32 = 8;

impl Node {
    /// The protocol asks for a checkpoint of all that was delivered so far, which is all that was applied.
    pub(crate) fn begin_checkpoint(&mut self, at: usize, meta: Bytes, out: &mut impl Outside) {
        let replica = &mut self.replicas[at];
        assert!(replica.checkpoint.is_none(), "one checkpoint at a time");
        let chunk = match &mut replica.machine {
            Machine::Catalog(catalog) => Some(catalog.to_chunk()),
            Machine::Data(partition) => {
                partition.begin_snapshot();
                None
            }
        };
        replica.checkpoint = Some(CheckpointUnderWay { meta: meta.clone(), chunk, finished: false });
        self.counters.checkpoints += 1;
        out.checkpoint_begin(replica.group, meta);
    }

    /// The writer has room.
    pub(crate) fn next_checkpoint_chunk(&mut self, group: GroupId, out: &mut impl Outside) {
        let Some(at) = self.place_of(group) else { return };
        let replica = &mut self.replicas[at];
        let Some(under_way) = replica.checkpoint.as_mut().filter(|c| !c.finished) else { return };
        let chunk = match &mut replica.machine {
            Machine::Catalog(_) => under_way.chunk.take(),
            Machine::Data(partition) => partition.next_chunk(CHUNK_BYTES),
        };
        match chunk {
            Some(chunk) => out.checkpoint_chunk(group, chunk),
            None => {
                under_way.finished = true;
                out.checkpoint_finish(group);
            }
        }
    }

    /// The checkpoint is durable.
    pub(crate) fn checkpointed(&mut self, group: GroupId) {
        let Some(at) = self.place_of(group) else { return };
        // None if a snapshot was installed meanwhile: that is the newer checkpoint.
        if let Some(under_way) = self.replicas[at].checkpoint.take() {
            let meta = under_way.meta;
            self.work.push_back(Work::Drive(at, Input::Snapshot(SnapshotInput::Checkpointed { meta })));
        }
    }

    /// The protocol gives a chunk of a peer's snapshot. It is understood before it is written, so that nothing bad becomes a checkpoint.
    pub(crate) fn take_incoming(&mut self, at: usize, chunk: SnapshotChunk, out: &mut impl Outside) {
        if self.understand(at, &chunk).is_none() {
            self.replicas[at].install = None;
            self.work.push_back(Work::Drive(at, Input::Snapshot(SnapshotInput::InstallFailed)));
            return;
        }
        let group = self.replicas[at].group;
        out.incoming_chunk(group, chunk);
    }

    fn understand(&mut self, at: usize, chunk: &SnapshotChunk) -> Option<()> {
        let replica = &mut self.replicas[at];
        if chunk.chunk == 0 {
            let incoming = match replica.machine {
                Machine::Catalog(_) => Incoming::Catalog(None),
                Machine::Data(_) => Incoming::Loading(Box::new(Loader::new())),
            };
            let meta = chunk.meta.clone();
            let before = replica.install.take();
            // Its answer would look like the one about this snapshot's first chunk.
            replica.stale_first_chunks += u32::from(before.is_some_and(|install| install.writing == Some(0)));
            // While the disk hangs one leader after another, or newer checkpoints of one, may each begin anew: what is asked has a limit.
            if replica.stale_first_chunks > STALE_FIRST_CHUNKS_MAX {
                return None;
            }
            replica.install =
                Some(Install { meta, incoming, next_chunk: 0, writing: None, last_chunk: None });
        }
        let install = replica.install.as_mut()?;
        if install.next_chunk != chunk.chunk || install.meta != chunk.meta || install.last_chunk.is_some() {
            return None;
        }
        assert!(install.writing.is_none(), "one chunk at a time");
        install.next_chunk += 1;
        match &mut install.incoming {
            Incoming::Catalog(catalog) => *catalog = Some(Catalog::from_chunk(&chunk.bytes).ok()?),
            Incoming::Loading(loader) => loader.chunk(chunk.bytes.clone()).ok()?,
            Incoming::Loaded(_) => return None,
        }
        if chunk.last {
            install.last_chunk = Some(chunk.chunk);
            if let Incoming::Loading(loader) = &mut install.incoming {
                let loader = core::mem::take(loader);
                install.incoming = Incoming::Loaded(Box::new(loader.finish().ok()?));
            }
        }
        install.writing = Some(chunk.chunk);
        Some(())
    }

    /// A chunk of a peer's snapshot is written; after the last the snapshot is the newest checkpoint, and becomes the state.
    pub(crate) fn incoming_taken(&mut self, group: GroupId, chunk: u32, out: &mut impl Outside) {
        let Some(at) = self.place_of(group) else { return };
        let replica = &mut self.replicas[at];
        if chunk == 0 && replica.stale_first_chunks > 0 {
            replica.stale_first_chunks -= 1;
            return;
        }
        let Some(install) = replica.install.as_mut().filter(|install| install.writing == Some(chunk)) else {
            return;
        };
        install.writing = None;
        if install.last_chunk != Some(chunk) {
            self.work.push_back(Work::Drive(at, Input::Snapshot(SnapshotInput::Taken { chunk })));
            return;
        }
        let Install { meta, incoming, .. } = replica.install.take().expect("just seen");
        let newer = match incoming {
            Incoming::Catalog(catalog) => Machine::Catalog(catalog.expect("a last chunk holds a catalog")),
            Incoming::Loaded(partition) => Machine::Data(partition),
            Incoming::Loading(_) => unreachable!("loading ends with the last chunk"),
        };
        let older = core::mem::replace(&mut replica.machine, newer);
        if let (Machine::Data(newer), Machine::Data(older)) = (&mut replica.machine, older) {
            newer.replace(*older);
        }
        if replica.checkpoint.take().is_some() {
            out.checkpoint_abort(group);
        }
        if at == DEFAULT_AT {
            self.lose_listings(out);
        }
        let replica = &mut self.replicas[at];
        let applied = replica.applied_index();
        while let Some(entry) = replica.reads_at.first_entry()
            && *entry.key() <= applied
        {
            self.work.extend(entry.remove().into_iter().map(Work::Read));
        }
        self.counters.snapshots_installed += 1;
        self.work.push_back(Work::Drive(at, Input::Snapshot(SnapshotInput::Installed { meta })));
    }
}
