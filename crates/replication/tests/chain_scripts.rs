//! Interaction scripts of chain replication: `interaction/chain/*.txt`.

use keypact_log::Position;
use keypact_protocol::{GroupId, NodeId};
use keypact_replication::chain::{
    Body, Chain, Config, Life, Member, MemberState, Message, Record, SnapshotOutcome, Timer,
};
use keypact_simulator::script::{Settings, Story, run_scripts};

const GROUP: GroupId = GroupId(7);

struct ChainStory;

fn place(position: Position) -> String {
    format!("{}@{}", position.index, position.term)
}

fn node(text: &str) -> Result<NodeId, String> {
    let number = text.strip_prefix('n').and_then(|number| number.parse().ok());
    number.map(NodeId).ok_or_else(|| format!("`{text}` is no node"))
}

/// `n2`, or `n2#3` for its third start. On the stage a node's copy is named by its first life's seed: 1000 times its number.
fn member(text: &str, state: MemberState) -> Result<Member, String> {
    let (name, start) = text.split_once('#').unwrap_or((text, "1"));
    let node = node(name)?;
    let start = start.parse().map_err(|_| format!("`{text}`: `n2#3`"))?;
    Ok(Member { node, life: Life { copy: node.0 * 1_000 + 1, start }, state })
}

/// The value of `key=` among `words`.
fn value<'a>(words: &[&'a str], key: &str) -> Result<&'a str, String> {
    words
        .iter()
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        .ok_or_else(|| format!("`{key}=` is missing"))
}

fn number(words: &[&str], key: &str) -> Result<u64, String> {
    value(words, key)?.parse().map_err(|_| format!("`{key}=` is no number"))
}

const STATES: [(&str, MemberState); 5] = [
    ("serving", MemberState::Serving),
    ("syncing", MemberState::Syncing),
    ("waiting", MemberState::Waiting),
    ("last", MemberState::LastServer),
    ("offline", MemberState::Offline),
];

fn name(state: MemberState) -> &'static str {
    STATES.iter().find(|(_, known)| *known == state).map_or("", |(name, _)| name)
}

/// `key=value` commands write the key that is named by the bytes before `=`; all others may write any.
fn keys_of(command: &[u8], mark: &mut dyn FnMut(u64)) {
    let text = core::str::from_utf8(command).unwrap_or("");
    if let Some((Ok(key), _)) = text.split_once('=').map(|(key, value)| (key.parse(), value)) {
        mark(key);
    }
}

fn members_text(members: &[Member]) -> String {
    let words = members.iter().map(|member| format!("{}#{}", member.node, member.life.start));
    let states = members.iter().map(|member| name(member.state));
    words.zip(states).map(|(node, state)| format!("{node} {state}")).collect::<Vec<_>>().join(", ")
}

impl Story for ChainStory {
    type Protocol = Chain;

    fn config(&self, id: NodeId, members: &[NodeId], settings: &Settings) -> Result<Config, String> {
        let mut config = Config::new(id, GROUP, members.to_vec());
        config.keys_of = keys_of;
        for key in settings.keys() {
            let number = settings.number(key);
            match key {
                "chunk_bytes" | "timers" => {}
                "checkpoint_bytes" => config.checkpoint_after_bytes = number?.unwrap_or(0) as usize,
                "sync_lag" => config.sync_lag_entries = number?.unwrap_or(0),
                other => return Err(format!("no setting {other}")),
            }
        }
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    fn state(&self, chain: &Chain) -> String {
        let role = match (chain.orders(), chain.commits()) {
            (true, true) => " alone",
            (true, false) => " head",
            (false, true) => " tail",
            (false, false) => "",
        };
        let lease = match chain.lease_until_ns() {
            0 => String::new(),
            until_ns => format!(", lease until {} ms", until_ns / 1_000_000),
        };
        format!(
            "epoch {} {}{role}{lease}, last {}, durable {}, committed {}",
            chain.epoch(),
            name(chain.state()),
            place(chain.last()),
            chain.tail().durable_index(),
            chain.commit_index(),
        )
    }

    fn message(&self, message: &Message) -> String {
        let what = match &message.body {
            Body::Forward { prev, entries, watermark, commit } if entries.is_empty() => {
                format!("nothing after {} watermark {watermark} committed {commit}", place(*prev))
            }
            Body::Forward { prev, entries, watermark, commit } => {
                format!("forward after {} {entries:?} watermark {watermark} committed {commit}", place(*prev))
            }
            Body::Ack { received, durable, commit, gap } => {
                let gap = if *gap { ", a gap" } else { "" };
                format!("ack {received} durable {durable} committed {commit}{gap}")
            }
            Body::Snapshot(chunk) => {
                format!("chunk {}{}", chunk.chunk, if chunk.last { ", the last" } else { "" })
            }
            Body::SnapshotReply { index, outcome: SnapshotOutcome::Next { chunk } } => {
                format!("snapshot up to {index}: chunk {chunk} next")
            }
            Body::SnapshotReply { index, outcome: SnapshotOutcome::Installed } => {
                format!("snapshot up to {index} installed")
            }
            Body::Query { round } => format!("query {round}"),
            Body::Answer { round, commit } => format!("answer {round}: committed {commit}"),
            Body::Assign { members } => format!("assign {}", members_text(members)),
            Body::Renew { life, sent_ns } => {
                format!("renew start {}, asked at {} ms", life.start, sent_ns / 1_000_000)
            }
            Body::Grant { sent_ns, lease_ns, .. } => {
                format!("grant {} ms from {} ms", lease_ns / 1_000_000, sent_ns / 1_000_000)
            }
            Body::Synced { node, life } => format!("{node}#{} is synced", life.start),
        };
        format!("epoch {} {what}", message.epoch)
    }

    /// `assign epoch=2 serving=n1,n2 syncing=n3#2`, `grant n1 epoch=2 sent_ms=0 lease_ms=500`, `ack epoch=1 received=3 committed=3`.
    fn said(&self, text: &str) -> Result<Message, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let body = match words.first().copied() {
            Some("assign") => {
                let mut members = Vec::new();
                for (key, state) in STATES {
                    let named = value(&words, key).unwrap_or("");
                    for text in named.split(',').filter(|text| !text.is_empty()) {
                        members.push(member(text, state)?);
                    }
                }
                Body::Assign { members }
            }
            Some("grant") => {
                let text = words.get(1).copied().unwrap_or("");
                let life = member(text, MemberState::Serving)?.life;
                let sent_ns = number(&words, "sent_ms")? * 1_000_000;
                Body::Grant { life, sent_ns, lease_ns: number(&words, "lease_ms")? * 1_000_000 }
            }
            Some("ack") => {
                let received = number(&words, "received")?;
                let commit = number(&words, "committed")?;
                Body::Ack { received, durable: received, commit, gap: false }
            }
            _ => return Err(format!("`{text}`: `assign`, `grant` or `ack`")),
        };
        Ok(Message { group: GROUP, epoch: number(&words, "epoch")?, body })
    }

    fn record(&self, record: &Record) -> String {
        match record {
            Record::Entry(entry) => format!("{entry:?}"),
            Record::Life(life) => format!("start {}", life.start),
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
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../interaction/chain");
    run_scripts(folder, || ChainStory);
}
