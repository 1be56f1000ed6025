//! Where a promotion may lose what was acknowledged, the whole history has no one order. Between two promotions it has one: what a leader answers
//! is linearizable, from the state with which its epoch began.

use std::collections::BTreeMap;

use keypact_checker::{Call, History, ModelKind, Operation, Outcome, Value};
use keypact_protocol::NodeId;
use keypact_simulator::{Kv, KvClients, KvCommand, KvWork, StateMachine, Violation};

use super::Process;
use crate::scenarios::judge::check_history;
use crate::scenarios::raft::operation;

/// One leader's time.
#[derive(Debug)]
struct Span {
    leader: NodeId,
    /// The index of the epoch's first entry.
    start: u64,
    /// The state, and up to which index: all of it once that is `start`.
    machine: Kv,
    applied: u64,
}

/// All leaders' times.
#[derive(Debug, Default)]
pub(super) struct Spans {
    by_epoch: BTreeMap<u64, Span>,
}

impl Spans {
    pub(super) fn stepped(&mut self, node: NodeId, process: &Process) {
        let member = process.protocol().member();
        let Some(start) = member.epoch_start() else { return };
        if let Some(span) = self.by_epoch.get_mut(&member.epoch()) {
            let fresh = process.delivered().iter().filter(|_| span.leader == node);
            for delivery in fresh {
                if delivery.index == span.applied + 1 && delivery.index <= span.start {
                    span.applied += 1;
                    if !delivery.command.is_empty() {
                        span.machine.apply(delivery).expect("the group keeps commands as they were proposed");
                    }
                }
            }
        } else if process.applied_index() < start {
            let (machine, applied) = (process.machine().clone(), process.applied_index());
            self.by_epoch.insert(member.epoch(), Span { leader: node, start, machine, applied });
        }
    }

    /// Judges the registers' answers, leader by leader. `answered`: in which epoch an answer was given, by client and when it came.
    pub(super) fn judge(
        &self,
        clients: &KvClients,
        answered: &BTreeMap<(u32, u64), u64>,
    ) -> Result<u64, Violation> {
        let first = clients.workload().lists + clients.workload().counters;
        let mut judged = 0;
        for (epoch, span) in self.by_epoch.iter().filter(|(_, span)| span.applied == span.start) {
            let mut by_key: BTreeMap<u16, Vec<Operation>> = BTreeMap::new();
            for (index, op) in clients.history().iter().enumerate() {
                let Some(mut operation) = operation(index, op, first) else { continue };
                let given = op.returned_ns.and_then(|at_ns| answered.get(&(op.client, at_ns)));
                match (&operation.outcome, given) {
                    (Outcome::Ok(_), Some(given)) if given == epoch => {}
                    // Another leader's answer.
                    (Outcome::Ok(_), Some(_)) | (Outcome::Failed, _) => continue,
                    // Nobody knows whose answer, or there was none: a write may be in any epoch.
                    _ if operation.call == Call::Read => continue,
                    _ => (operation.outcome, operation.returned) = (Outcome::Unknown, None),
                }
                let (KvWork::Read(key, _)
                | KvWork::Write(KvCommand::Set { key, .. } | KvCommand::CompareAndSet { key, .. })) = op.work
                else {
                    continue;
                };
                by_key.entry(key).or_default().push(operation);
            }
            for (key, operations) in by_key {
                if operations.iter().any(|operation| operation.returned.is_some()) {
                    let history = History::merge(operations)
                        .map_err(|problem| Violation::new("history", problem.to_string()))?;
                    let initial = Value::Integer(span.machine.number(key));
                    judged += check_history(&history, &ModelKind::CasRegister, &initial)?;
                }
            }
        }
        Ok(judged)
    }
}
