//! Interaction scripts of Raft: `interaction/raft/*.txt`.

use std::cell::Cell;

use keypact_coordination::raft::{
    AppendOutcome, Body, Change, Config, Membership, Message, ProgressState, Raft, Record, Role, Seat,
    SnapshotOutcome, Timer,
};
use keypact_log::{Kind, Position};
use keypact_protocol::{Incarnation, NodeId};
use keypact_simulator::script::{Settings, Story, run_scripts};

#[derive(Default)]
struct RaftStory {
    /// Whether states show the term of each entry (`show=terms`).
    shows_terms: Cell<bool>,
    /// Or the members (`show=members`).
    shows_members: Cell<bool>,
}

fn place(position: Position) -> String {
    format!("{}@{}", position.index, position.term)
}

fn joins(config: &mut Config, incarnation: u64) {
    config.members.clear();
    config.incarnation = Incarnation(incarnation);
}

fn members(membership: &Membership) -> String {
    let each = membership.members().iter().map(|member| {
        let seat = match member.seat {
            Seat::Voter => "",
            Seat::Learner => " learns",
            Seat::Joining => " joins",
            Seat::Leaving => " leaves",
        };
        let life =
            if member.incarnation.0 == 1 { String::new() } else { format!("@{}", member.incarnation.0) };
        format!("{}{life}{seat}", member.id)
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() { "unknown".into() } else { each.join(", ") }
}

impl Story for RaftStory {
    type Protocol = Raft;

    fn config(&self, id: NodeId, members: &[NodeId], settings: &Settings) -> Result<Config, String> {
        // The first so many found the group; the others join.
        let voters = settings.number("voters")?.unwrap_or(members.len() as u64);
        let founding = members.iter().filter(|id| id.0 <= voters).map(|id| (*id, Incarnation(1)));
        let mut config = Config::new(id, founding.collect());
        if id.0 > voters {
            joins(&mut config, 1);
        }
        self.shows_members.set(settings.text("show") == Some("members"));
        self.shows_terms.set(settings.text("show") == Some("terms"));
        for key in settings.keys() {
            let number = || settings.number(key).map(Option::unwrap_or_default);
            match key {
                "chunk_bytes" | "timers" | "show" | "voters" => {}
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

    fn reborn(&self, config: &mut Config, losses: u64) {
        joins(config, losses + 1);
    }

    /// `learn n4`, `learn n3@2 promote n4 remove n1`, `transfer n2`.
    fn said(&self, text: &str) -> Result<Message, String> {
        let mut change = Change::default();
        let mut words = text.split_whitespace();
        let mut transfer = None;
        while let Some(verb) = words.next() {
            let who = words.next().and_then(|who| who.strip_prefix('n')).ok_or("whom?")?;
            let (id, incarnation) = who.split_once('@').unwrap_or((who, "1"));
            let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number"));
            let (id, incarnation) = (NodeId(number(id)?), Incarnation(number(incarnation)?));
            match verb {
                "learn" => change = change.learn(id, incarnation),
                "promote" => change = change.promote(id),
                "remove" => change = change.remove(id),
                "transfer" => transfer = Some(id),
                _ => return Err(format!("what is `{verb}`?")),
            }
        }
        let body = transfer.map_or(Body::Change(change), |to| Body::Transfer { to });
        Ok(Message { term: 0, incarnation: Incarnation(0), body })
    }

    fn state(&self, raft: &Raft) -> String {
        if self.shows_members.get() {
            let role = if raft.role() == Role::Leader { "leads" } else { "follows" };
            let members = members(raft.membership());
            return format!(
                "term {} {role}, last {}, commit {}, members {members}",
                raft.term(),
                place(raft.last()),
                raft.commit_index()
            );
        }
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
            Body::Vote { last, transfer } => {
                format!(
                    "vote? last {}{}",
                    place(*last),
                    if *transfer { ", wanted by the leader" } else { "" }
                )
            }
            Body::VoteReply { granted, .. } => format!("vote: {}", if *granted { "yes" } else { "no" }),
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
            Body::TimeoutNow => "campaign now".into(),
            Body::Change(change) => format!("{change:?}"),
            Body::Transfer { to } => format!("transfer to {to}"),
            Body::Answer(Ok(())) => return "begun".into(),
            Body::Answer(Err(refusal)) => return format!("refused: {refusal}"),
        };
        format!("term {} {what}", message.term)
    }

    fn record(&self, record: &Record) -> String {
        match record {
            Record::Entry(entry) if entry.header().kind == Kind::Membership => {
                let membership = Membership::decode(&entry.command()).expect("a leader wrote it");
                format!("{entry:?}: {}", members(&membership))
            }
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
