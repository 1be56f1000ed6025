//! Claim 35.

use std::collections::{BTreeMap, BTreeSet};

use keypact_coordination::raft::Raft;
use keypact_protocol::NodeId;
use keypact_simulator::{
    Kv, Observer, ProtocolProcess, Random, RecordDisk, Scenario, Setup, Violation, World,
};

use crate::claims::finding::{Control, Figure, Finding, Verdict};
use crate::claims::{Claim, Effort};
use crate::{Member, RaftScenario};

pub(in crate::claims) const CLAIM: Claim = Claim {
    number: 35,
    part: "coordination",
    text: "An entry on a majority is safe to commit",
    how: "seeds of scenario `raft` without changes of members: every entry that is on the disks of a majority at one time is followed up: can a member be elected that lacks it, is one \
          elected, and is another entry committed in its place? Told apart: entries of the newest leader's own term, and older ones (figure 8 of the paper); control: \
          entries that only a minority ever had",
    measure,
};

/// Scenario seeds for each of the effort's.
const RUNS: u64 = 60;

/// A place in the log.
type Place = (u64, u64);

/// What became of entries on disks.
#[derive(Debug, Default)]
struct Disks {
    nodes: usize,
    /// Each node's durable log since its checkpoint: term by index.
    logs: BTreeMap<NodeId, BTreeMap<u64, u64>>,
    /// Index and term of entries that a majority had at one time, and whether their term was then the newest leader's.
    on_majority: BTreeMap<Place, bool>,
    /// Those that some disk had.
    on_any: BTreeMap<Place, ()>,
    /// Each node's last durable entry, term before index, as voters compare them.
    lasts: BTreeMap<NodeId, (u64, u64)>,
    /// Up to where each node's checkpoint has everything.
    bases: BTreeMap<NodeId, u64>,
    /// Those of a majority that a member lacked which a majority would have elected; and such while only a minority had them.
    endangered: BTreeSet<Place>,
    endangered_before: BTreeSet<Place>,
    /// Those of a majority that a later leader was elected without.
    missed: BTreeSet<Place>,
    committed: BTreeMap<u64, u64>,
    newest_leader_term: u64,
}

impl Disks {
    fn look(&mut self, node: NodeId, raft: &Raft) {
        let tail = raft.tail();
        if raft.term_start().is_some() && raft.term() > self.newest_leader_term {
            self.newest_leader_term = raft.term();
            let open = self.on_majority.range((raft.commit_index().max(tail.base().index) + 1, 0)..);
            self.missed.extend(
                open.map(|(place, _)| *place).filter(|(index, term)| tail.term_at(*index) != Some(*term)),
            );
        }
        let (base, durable) = (tail.base().index, tail.durable_index());
        let last_term = tail.term_at(durable).expect("what is durable is held");
        self.lasts.insert(node, (last_term, durable));
        self.bases.insert(node, base);
        let log = self.logs.entry(node).or_default();
        log.split_off(&(durable + 1));
        let mut new = Vec::new();
        // Logs that agree in one place agree before it.
        for index in (base + 1..=durable).rev() {
            let term = tail.term_at(index).expect("the tail has what follows its base");
            if log.insert(index, term) == Some(term) {
                break;
            }
            new.push((index, term));
        }
        for (index, term) in new {
            let copies = self.logs.values().filter(|log| log.get(&index) == Some(&term)).count();
            self.on_any.insert((index, term), ());
            let is_majority = copies > self.nodes / 2;
            if is_majority {
                let own = term == self.newest_leader_term;
                self.on_majority.entry((index, term)).or_insert(own);
            }
            if self.can_be_lacked((index, term)) {
                let endangered = if is_majority { &mut self.endangered } else { &mut self.endangered_before };
                endangered.insert((index, term));
            }
        }
        for index in (base + 1..=raft.commit_index().min(tail.last().index)).rev() {
            let term = tail.term_at(index).expect("the tail has what follows its base");
            if self.committed.insert(index, term).is_some() {
                break;
            }
        }
    }

    /// Whether a member lacks it whose log is at least as new as those of a majority (paper, 5.4.1).
    fn can_be_lacked(&self, (index, term): Place) -> bool {
        let lacks = |node: &NodeId| index > self.bases[node] && self.logs[node].get(&index) != Some(&term);
        self.lasts
            .iter()
            .filter(|(node, _)| lacks(node))
            .any(|(_, last)| self.lasts.values().filter(|other| *other <= last).count() > self.nodes / 2)
    }

    fn was_replaced(&self, (index, term): Place) -> bool {
        self.committed.get(&index).is_some_and(|committed| *committed != term)
    }
}

type Process = ProtocolProcess<Member, Kv>;

impl Observer<Process> for Disks {
    fn started(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Process,
        _disk: &RecordDisk<Member>,
    ) -> Result<(), Violation> {
        self.look(node, process.protocol().raft());
        Ok(())
    }

    fn stepped(
        &mut self,
        _now_ns: u64,
        node: NodeId,
        process: &Process,
        _disk: &RecordDisk<Member>,
    ) -> Result<(), Violation> {
        self.look(node, process.protocol().raft());
        Ok(())
    }
}

/// Entries that were followed up, how many of them an electable member lacked, a later leader lacked, and how many were
/// replaced: of the own term, older, and of a minority.
#[derive(Default)]
struct Fates {
    own: [u64; 4],
    older: [u64; 4],
    minority: [u64; 4],
    /// Runs that a violation ended early.
    ended_early: u64,
}

fn follow(seed: u64, fates: &mut Fates) {
    // A majority of how many must stay the same for as long as an entry is followed.
    let scenario = RaftScenario { changes_members: false, ..RaftScenario::default() };
    let Setup { swarm, configs, disks, clients, observer: _ } = scenario.setup(&mut Random::new(seed));
    let observer = Disks { nodes: swarm.nodes, ..Disks::default() };
    let mut world = World::new(Setup { swarm, configs, disks, clients, observer }, seed);
    // Nothing watches here but this; a cluster that is not served in the end would still be one. What was seen until then counts.
    fates.ended_early += u64::from(world.run().is_err());
    let disks = world.observer();
    for place in disks.on_any.keys() {
        let replaced = u64::from(disks.was_replaced(*place));
        let count = match disks.on_majority.get(place) {
            Some(true) => &mut fates.own,
            Some(false) => &mut fates.older,
            None => &mut fates.minority,
        };
        count[0] += 1;
        let endangered = match disks.on_majority.contains_key(place) {
            true => &disks.endangered,
            false => &disks.endangered_before,
        };
        count[1] += u64::from(endangered.contains(place));
        count[2] += u64::from(disks.missed.contains(place));
        count[3] += replaced;
    }
}

fn measure(effort: Effort) -> Finding {
    let mut fates = Fates::default();
    let seeds = effort.seeds * RUNS;
    for seed in effort.first_seed..effort.first_seed.saturating_add(seeds) {
        follow(seed, &mut fates);
    }
    let Fates { own, older, minority, ended_early } = fates;
    let verdict = match (own[1..].iter().sum(), older[1..].iter().sum()) {
        (0u64, 0u64) => Verdict::Holds,
        (0, _) => Verdict::HoldsOnlyIf,
        _ => Verdict::DoesNotHold,
    };
    let figure = |what: &str, count: u64| Figure::new(what, count as f64, "entries");
    Finding {
        verdict,
        because: match verdict {
            Verdict::HoldsOnlyIf => "it holds only for entries of the leader's own term: older ones were on a majority, and a member that lacks them could be elected all the same",
            Verdict::Holds => "nobody could be elected without an entry that was on a majority in these seeds",
            Verdict::DoesNotHold => "members could be elected without entries of the leader's own term that were on a majority",
        }
        .into(),
        figures: [("of the leader's own term", own), ("of an older term", older)]
            .into_iter()
            .flat_map(|(which, counts)| {
                [
                    figure(&format!("{which}, on a majority"), counts[0]),
                    figure("of these, a member that could be elected lacked", counts[1]),
                    figure("of these, a later leader lacked", counts[2]),
                    figure("of these, replaced", counts[3]),
                ]
            })
            .chain([Figure::new("runs that ended early", ended_early as f64, "runs")])
            .collect(),
        control: Control {
            what: "entries that only a minority ever had".into(),
            figures: vec![
                figure("on a minority", minority[0]),
                figure("of these, a member that could be elected lacked", minority[1]),
                figure("of these, replaced", minority[3]),
            ],
            differs: minority[1] > 0 && minority[3] > 0,
        },
        plots: Vec::new(),
        seeds,
    }
}
