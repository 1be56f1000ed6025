//! Interaction scripts of Raft: `interaction/raft/*.txt`.

use std::cell::Cell;

use keypact_coordination::raft::{
    AppendOutcome, Body, Config, Message, ProgressState, Raft, Record, Role, SnapshotOutcome, Timer,
};
use keypact_log::Position;
use keypact_protocol::{Incarnation, NodeId};
use keypact_simulator::script::{Settings, Story, run_scripts};

#[derive(Default)]
struct RaftStory {
    /// Whether states show the term of each entry (`show=terms`).
    shows_terms: Cell<bool>,
}

fn place(position: Position) -> String {
    format!("{}@{}", position.index, position.term)
}

impl Story for RaftStory {
    type Protocol = Raft;

    fn config(&self, id: NodeId, members: &[NodeId], settings: &Settings) -> Result<Config, String> {
        let mut config = Config::new(id, members.iter().map(|id| (*id, Incarnation(1))).collect());
        self.shows_terms.set(settings.text("show") == Some("terms"));
        for key in settings.keys() {
            let number = || settings.number(key).map(Option::unwrap_or_default);
            match key {
                "chunk_bytes" | "timers" | "show" => {}
                "lease" => config.lease = settings.text(key) == Some("on"),
                "election_ms" => config.election_timeout_ms = number()?,
                "jitter_ms" => config.election_jitter_ms = number()?,
                "heartbeat_ms" => config.heartbeat_ms = number()?,
                "drift_bound_ppm" => config.drift_bound_ppm = number()?,
                "disk_hang_ms" => config.disk_hang_ms = number()?,
                "append_bytes" => config.max_append_bytes = number()? as usize,
                "checkpoint_bytes" => config.checkpoint_after_bytes = number()? as usize,
                other => return Err(format!("no setting {other}")),
            }
        }
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    fn state(&self, raft: &Raft) -> String {
        if self.shows_terms.get() {
            let slots = raft.tail().slots_from(raft.tail().base().index + 1).into_iter().flatten();
            let terms: Vec<String> = slots.map(|slot| slot.entry.term().to_string()).collect();
            return format!("log {}, commit {}", terms.join(" "), raft.commit_index());
        }
        let role = match raft.role() {
            Role::Leader => "leads".into(),
            Role::PreCandidate => "asks for pre-votes".into(),
            Role::Candidate => "asks for votes".into(),
            Role::Follower => {
                raft.leader().map_or_else(|| "follows nobody".into(), |leader| format!("follows {leader}"))
            }
        };
        let peers: Vec<String> = raft
            .peers()
            .map(|peer| {
                let how = match peer.state {
                    ProgressState::Probe => "probe",
                    ProgressState::Replicate => "replicate",
                    ProgressState::Snapshot => "snapshot",
                };
                format!("; {} {how} match {} next {}", peer.id, peer.matched, peer.next)
            })
            .collect();
        format!(
            "term {} {role}, last {}, commit {}{}",
            raft.term(),
            place(raft.last()),
            raft.commit_index(),
            peers.concat()
        )
    }

    fn message(&self, message: &Message) -> String {
        let what = match &message.body {
            Body::PreVote { next_term, last } => {
                format!("pre-vote? for term {next_term}, last {}", place(*last))
            }
            Body::PreVoteReply { next_term, granted } => {
                format!("pre-vote for term {next_term}: {}", if *granted { "yes" } else { "no" })
            }
            Body::Vote { last } => format!("vote? last {}", place(*last)),
            Body::VoteReply { granted } => format!("vote: {}", if *granted { "yes" } else { "no" }),
            Body::Append { prev, entries, commit, round } => {
                format!("append after {} {entries:?} commit {commit} round {round}", place(*prev))
            }
            Body::AppendReply { outcome: AppendOutcome::Match { index }, round } => {
                format!("match {index} round {round}")
            }
            Body::AppendReply {
                outcome: AppendOutcome::Conflict { prev_index, hint_term, hint_index },
                ..
            } => format!("conflict at {prev_index}, there from {hint_index} on term {hint_term}"),
            Body::Heartbeat { commit, round } => format!("heartbeat commit {commit} round {round}"),
            Body::HeartbeatReply { round } => format!("heard round {round}"),
            Body::Snapshot { chunk } => {
                format!("chunk {}{}", chunk.chunk, if chunk.last { ", the last" } else { "" })
            }
            Body::SnapshotReply { index, outcome: SnapshotOutcome::Next { chunk } } => {
                format!("snapshot up to {index}: chunk {chunk} next")
            }
            Body::SnapshotReply { index, outcome: SnapshotOutcome::Installed } => {
                format!("snapshot up to {index} installed")
            }
        };
        format!("term {} {what}", message.term)
    }

    fn record(&self, record: &Record) -> String {
        match record {
            Record::Entry(entry) => format!("{entry:?}"),
            Record::HardState(hard) => {
                let vote = hard.voted_for.map_or_else(String::new, |voted| format!(", vote for {voted}"));
                format!("term {}{vote}", hard.term)
            }
            Record::Reset { position, .. } => format!("reset to {}", place(*position)),
        }
    }

    fn timer(&self, timer: Timer) -> String {
        match timer {
            Timer::Election => "election".into(),
            Timer::Heartbeat => "heartbeat".into(),
        }
    }
}

#[test]
fn scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../interaction/raft");
    run_scripts(folder, RaftStory::default);
}
