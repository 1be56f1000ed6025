//! Interaction scripts of leader-follower: `interaction/leader-follower/*.txt`.

use keypact_log::Position;
use keypact_protocol::NodeId;
use keypact_replication::leader_follower::{
    AppendOutcome, Body, Config, LeaderFollower, Message, Record, SnapshotOutcome, Timer,
};
use keypact_simulator::script::{Settings, Story, run_scripts};

struct LeaderFollowerStory;

fn place(position: Position) -> String {
    format!("{}@{}", position.index, position.term)
}

fn node(text: &str) -> Result<NodeId, String> {
    let number = text.strip_prefix('n').and_then(|number| number.parse().ok());
    number.map(NodeId).ok_or_else(|| format!("`{text}` is no node"))
}

/// The value of `key=` among `words`.
fn value<'a>(words: &[&'a str], key: &str) -> Result<&'a str, String> {
    words
        .iter()
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        .ok_or_else(|| format!("`{key}=` is missing"))
}

/// `4@1`: entry 4 of epoch 1.
fn said_place(text: &str) -> Result<Position, String> {
    let parts =
        text.split_once('@').and_then(|(index, term)| Some((index.parse().ok()?, term.parse().ok()?)));
    parts.map(|(index, term)| Position { index, term }).ok_or_else(|| format!("`{text}` is no place"))
}

fn number(words: &[&str], key: &str) -> Result<u64, String> {
    value(words, key)?.parse().map_err(|_| format!("`{key}=` is no number"))
}

impl Story for LeaderFollowerStory {
    type Protocol = LeaderFollower;

    fn config(&self, id: NodeId, members: &[NodeId], settings: &Settings) -> Result<Config, String> {
        let acks = settings.number("acks")?.unwrap_or(0) as usize;
        let mut config = Config::new(id, members.to_vec(), acks);
        for key in settings.keys() {
            match key {
                "acks" | "chunk_bytes" | "timers" => {}
                "checkpoint_bytes" => {
                    config.checkpoint_after_bytes = settings.number(key)?.unwrap_or(0) as usize;
                }
                other => return Err(format!("no setting {other}")),
            }
        }
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    fn state(&self, member: &LeaderFollower) -> String {
        let role = match (member.leads(), member.leader()) {
            (true, _) => format!("leads, lease until {} ms", member.lease_until_ns() / 1_000_000),
            (false, Some(leader)) => format!("follows {leader}"),
            (false, None) => "follows nobody".into(),
        };
        let diverged = if member.is_diverged() { ", diverged" } else { "" };
        let fresh = member.fresh_as_of_ns().map(|at_ns| format!(", as fresh as at {} ms", at_ns / 1_000_000));
        let diverged = fresh.unwrap_or_default() + diverged;
        format!(
            "epoch {} {role}, last {}, visible {}{diverged}",
            member.epoch(),
            place(member.last()),
            member.commit_index()
        )
    }

    fn message(&self, message: &Message) -> String {
        let what = match &message.body {
            Body::Append { prev, entries, commit, .. } if entries.is_empty() => {
                format!("heartbeat after {} visible {commit}", place(*prev))
            }
            Body::Append { prev, entries, commit, .. } => {
                format!("append after {} {entries:?} visible {commit}", place(*prev))
            }
            Body::AppendReply { outcome, .. } => match outcome {
                AppendOutcome::Match { index } => format!("match {index}"),
                AppendOutcome::Conflict { prev_index, next } => {
                    format!("conflict at {prev_index}, try {next}")
                }
                AppendOutcome::Diverged { agreed } => format!("diverged after {agreed}"),
            },
            Body::Snapshot { chunk, .. } => {
                format!("chunk {}{}", chunk.chunk, if chunk.last { ", the last" } else { "" })
            }
            Body::SnapshotReply { index, outcome: SnapshotOutcome::Next { chunk } } => {
                format!("snapshot up to {index}: chunk {chunk} next")
            }
            Body::SnapshotReply { index, outcome: SnapshotOutcome::Ahead { base } } => {
                format!("snapshot up to {index}: own checkpoint up to {base}")
            }
            Body::SnapshotReply { index, outcome: SnapshotOutcome::Installed } => {
                format!("snapshot up to {index} installed")
            }
            Body::Seal => "seal".into(),
            Body::Sealed { last, visible } => format!("sealed, last {}, visible {visible}", place(*last)),
            Body::Assign { leader, after } => format!("assign {leader} after {}", place(*after)),
            Body::Tail { last, before, entries } => {
                format!("tail up to {}, after {} {entries:?}", place(*last), place(*before))
            }
            Body::Noted { last, kept } => format!("noted, up to {}, kept up to {kept}", place(*last)),
            Body::Renew { sent_ns, last } => {
                format!("renew, asked at {} ms, last {last}", sent_ns / 1_000_000)
            }
            Body::Resigned => "resigned".into(),
            Body::Grant { sent_ns, lease_ns, allowed } => {
                let (lease_ms, sent_ms) = (lease_ns / 1_000_000, sent_ns / 1_000_000);
                format!("grant {lease_ms} ms from {sent_ms} ms, up to {allowed}")
            }
        };
        format!("epoch {} {what}", message.epoch)
    }

    /// `seal epoch=2`, `assign n2 after=4@1 epoch=2`, `noted last=5@1 kept=4 epoch=2`, `grant epoch=2 sent_ms=0 lease_ms=500 [allowed=10]`.
    fn said(&self, text: &str) -> Result<Message, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let body = match words.first().copied() {
            Some("seal") => Body::Seal,
            Some("assign") => Body::Assign {
                leader: node(words.get(1).copied().unwrap_or(""))?,
                after: said_place(value(&words, "after")?)?,
            },
            Some("noted") => {
                Body::Noted { last: said_place(value(&words, "last")?)?, kept: number(&words, "kept")? }
            }
            Some("grant") => Body::Grant {
                sent_ns: number(&words, "sent_ms")? * 1_000_000,
                lease_ns: number(&words, "lease_ms")? * 1_000_000,
                allowed: value(&words, "allowed").map_or(Ok(1_000), |_| number(&words, "allowed"))?,
            },
            _ => return Err(format!("`{text}`: `seal`, `assign`, `noted` or `grant`")),
        };
        Ok(Message { epoch: number(&words, "epoch")?, body })
    }

    fn record(&self, record: &Record) -> String {
        match record {
            Record::Entry(entry) => format!("{entry:?}"),
            Record::HardState(hard) => format!("epoch {}{}", hard.epoch, if hard.led { ", led" } else { "" }),
            Record::Reset { position } => format!("reset to {}", place(*position)),
        }
    }

    fn timer(&self, timer: Timer) -> String {
        match timer {
            Timer::Heartbeat => "heartbeat".into(),
            Timer::Renew => "renew".into(),
        }
    }
}

#[test]
fn scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../interaction/leader-follower");
    run_scripts(folder, || LeaderFollowerStory);
}
