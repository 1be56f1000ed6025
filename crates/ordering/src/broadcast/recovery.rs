//! From checkpoint and log back to a member.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::marker::PhantomData;

use bytes::Bytes;
use keypact_protocol::{Lsn, Plant, Recover, RecoveryError, Wire, planted};

use super::record::Meta;
use super::store::Store;
use super::streams::check_union;
use super::{Broadcast, Config, Counters, Log, Order, Pace, Record, View, delivery_of};
use crate::clock::{ReplicaId, VectorClock};

/// A member on its way back.
#[derive(Debug)]
pub struct Recovering<O: Order> {
    member: Broadcast<O>,
}

impl<O: Order> Recovering<O> {
    pub(super) fn begin(config: Config, checkpoint: Option<Bytes>) -> Result<Recovering<O>, RecoveryError> {
        let refused = |what| RecoveryError { what, lsn: Lsn::ZERO };
        config.validate().map_err(|_| refused("a configuration that can't work"))?;
        let me = ReplicaId::of_life(config.id, config.incarnation).expect("the configuration was checked");
        let meta = match checkpoint {
            Some(meta) => {
                Meta::decode(meta).map_err(|_| refused("a checkpoint's meta of another protocol"))?
            }
            None => Meta {
                index: 0,
                stamp_ms: 0,
                joined: !config.joins,
                delivered: VectorClock::new(),
                view: View::new(0, config.members.clone()),
            },
        };
        let log = Log {
            last_append: Lsn::ZERO,
            bytes_since_checkpoint: 0,
            pending: None,
            checkpointed: Lsn::ZERO,
            dropped_before: Lsn::ZERO.next(),
            compact_wanted: false,
        };
        let member = Broadcast {
            config,
            me,
            view: meta.view,
            joined: meta.joined,
            own: 0,
            delivered: meta.delivered,
            index: meta.index,
            stamp_ms: meta.stamp_ms,
            store: Store::default(),
            held_back: BTreeMap::new(),
            peers: BTreeMap::new(),
            fresh: Vec::new(),
            asked: BTreeMap::new(),
            gone: BTreeMap::new(),
            log,
            again: Vec::new(),
            pace: Pace::default(),
            jump: None,
            counters: Counters::default(),
            order: PhantomData,
        };
        Ok(Recovering { member })
    }
}

fn too_many_streams(lsn: Lsn) -> RecoveryError {
    RecoveryError { what: "more streams than a member knows", lsn }
}

impl<O: Order> Recover<Broadcast<O>> for Recovering<O> {
    fn replay(&mut self, lsn: Lsn, record: Record) -> Result<(), RecoveryError> {
        let member = &mut self.member;
        if lsn <= member.log.last_append {
            return Err(RecoveryError { what: "a record before the one before it", lsn });
        }
        member.log.last_append = lsn;
        match record {
            Record::Delivered { index, stamp_ms, envelope } => {
                let uncounted = RecoveryError { what: "a delivery counted from 1", lsn };
                let before = index.checked_sub(1).ok_or(uncounted)?;
                if before > member.index {
                    return Err(RecoveryError { what: "a delivery after a gap", lsn });
                }
                if before == member.index {
                    if !member.has_stream(envelope.dot.replica) {
                        return Err(too_many_streams(lsn));
                    }
                    member.index = index;
                    member.stamp_ms = stamp_ms;
                    member.delivered.observe(envelope.dot);
                    member.again.push(delivery_of(index, stamp_ms, &envelope, None));
                }
                member.log.bytes_since_checkpoint += envelope.encoded_len();
                member.store.insert(lsn, envelope);
            }
            Record::Jumped(jump) => {
                if jump.after_index > member.index {
                    return Err(RecoveryError { what: "a jump after a gap", lsn });
                }
                check_union(&member.delivered, &jump.to).map_err(|_| too_many_streams(lsn))?;
                member.delivered.merge(&jump.to);
                member.joined = true;
                // Not where this life is: a checkpoint may cover what was delivered after it.
                member.jump = Some(jump);
            }
            Record::View(view) => {
                if view.number > member.view.number {
                    member.view = view;
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Broadcast<O> {
        let mut member = self.member;
        member.own = member.delivered.get(member.me);
        if planted(Plant::SequenceRestarts) {
            member.own = 0;
        }
        assert!(member.own <= member.delivered.get(member.me), "own messages are delivered first");
        member
    }
}
