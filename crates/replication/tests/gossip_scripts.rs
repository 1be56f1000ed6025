//! Interaction scripts of gossip: `interaction/gossip/*.txt`. What is replicated is a set: `+milk` adds, `-milk` removes.

use bytes::Bytes;
use keypact_crdt::{Delta, Lattice, OrSet};
use keypact_ordering::clock::ReplicaId;
use keypact_protocol::{GroupId, Incarnation, NodeId, Wire};
use keypact_replication::gossip::{
    Ask, Body, Change, Config, Forget, Gossip, Member, Message, Record, Timer, View,
};
use keypact_simulator::script::{Settings, Story, run_scripts};

const GROUP: GroupId = GroupId(7);

type Set = OrSet<Bytes>;

struct GossipStory;

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

/// `n2`, `n2/1` under its second identity, `n2@1/1` on its second folder too, `n2!` if it drains.
fn member(text: &str) -> Result<Member, String> {
    let (text, draining) = text.strip_suffix('!').map_or((text, false), |text| (text, true));
    let (place, life) = text.split_once('/').unwrap_or((text, "0"));
    let (name, folder) = place.split_once('@').unwrap_or((place, "0"));
    let node = NodeId(number(name.strip_prefix('n').ok_or_else(|| format!("`{name}` is no node"))?)?);
    let replica = ReplicaId::of_life(node, Incarnation(number(life)?)).ok_or("small numbers, please")?;
    Ok(Member { node, folder: Incarnation(number(folder)?), replica, draining })
}

fn member_text(member: &Member) -> String {
    let (_, life) = member.replica.life();
    let life = if life.0 == 0 { String::new() } else { format!("/{}", life.0) };
    let folder = if member.folder.0 == 0 { String::new() } else { format!("@{}", member.folder.0) };
    format!("{}{folder}{life}{}", member.node, if member.draining { "!" } else { "" })
}

fn view_text(view: &View) -> String {
    let members: Vec<String> = view.members.iter().map(member_text).collect();
    let forgets = view.forgets.iter().map(|forget| format!(" forget {}", forget.replica));
    format!("view {}: {}{}", view.number, members.join(" "), forgets.collect::<String>())
}

fn holds_text(set: &Set) -> String {
    let names: Vec<String> = set.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    if names.is_empty() { "nothing".into() } else { names.join(" ") }
}

fn delta_text(bytes: &Bytes) -> String {
    let delta = <Set as Lattice>::Delta::decode(bytes.clone()).expect("peers send what they encoded");
    let mut shown = Set::default();
    shown.apply(delta.clone());
    format!("[{} of {} in {}]", holds_text(&shown), delta.events(), delta.context())
}

impl Story for GossipStory {
    type Protocol = Gossip<Set>;

    fn config(&self, id: NodeId, members: &[NodeId], settings: &Settings) -> Result<Config, String> {
        let mut config = Config::new(id, GROUP, View::of_founders(members));
        config.report_ms = 0;
        config.push_to = 0;
        for key in settings.keys() {
            let number = settings.number(key)?.unwrap_or(0);
            match key {
                "push" => config.push_to = number as usize,
                "acks" => config.acks = number as usize,
                "budget" => config.budget_bytes = number as usize,
                "recent" => config.recent_bytes_max = number as usize,
                "report_ms" => config.report_ms = number,
                "fan_out" => config.fan_out = number as usize,
                "held" => config.held_max = number as usize,
                other => return Err(format!("no setting {other}")),
            }
        }
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    fn reborn(&self, config: &mut Config, losses: u64) {
        config.folder = Incarnation(losses);
    }

    fn state(&self, replica: &Gossip<Set>) -> String {
        let role = match (replica.replica(), replica.serves(), replica.drains()) {
            (None, ..) => "out".into(),
            (Some(name), false, _) => format!("{name} joining"),
            (Some(name), true, true) => format!("{name} draining"),
            (Some(name), true, false) => format!("{name} serving"),
        };
        let held = match replica.held_len() {
            0 => String::new(),
            held => format!(", {held} held"),
        };
        format!(
            "view {} {role}, version {}, holds {}{held}",
            replica.view().number,
            replica.version(),
            holds_text(replica.state()),
        )
    }

    fn message(&self, message: &Message) -> String {
        let what = match &message.body {
            Body::Digest { version, serving, ask } => {
                let who = if *serving { "" } else { ", joining" };
                let ask = match ask {
                    Ask::No => "",
                    Ask::Back => ", ask back",
                    Ask::Always => ", answer me",
                };
                format!("digest {version}{who}{ask}")
            }
            Body::Deltas { deltas, answer, .. } => {
                let deltas: Vec<String> = deltas.iter().map(delta_text).collect();
                format!("deltas {}{}", deltas.join(" "), if *answer { ", answer me" } else { "" })
            }
            Body::Part { index, count, delta, .. } => {
                format!("part {} of {count} {}", index + 1, delta_text(delta))
            }
            Body::Next { index, .. } => format!("next part {}", index + 1),
            Body::View(view) => view_text(view),
            Body::Report { folder, replica, serving, version, spent } => {
                let who =
                    replica.map_or_else(|| format!("nobody@{}", folder.0), |replica| replica.to_string());
                let serving = if *serving { "" } else { ", not serving" };
                let spent: String = spent.iter().map(|replica| format!(", {replica} is spent")).collect();
                format!("report of {who}: {version}{serving}{spent}")
            }
        };
        format!("in {}: {what}", message.view)
    }

    /// `view 2: n1 n2@1/1 n3! forget n2/0`.
    fn said(&self, text: &str) -> Result<Message, String> {
        let text = text.strip_prefix("view ").ok_or("`view 2: n1 n2@1/1 n3! forget n2/0`")?;
        let (view, rest) = text.split_once(':').ok_or("`view 2: ..`")?;
        let view = number(view)?;
        let mut words = rest.split_whitespace().peekable();
        let mut members = Vec::new();
        while let Some(word) = words.next_if(|word| *word != "forget") {
            members.push(member(word)?);
        }
        let forgets = words.skip(1).map(|word| member(word).map(|of| Forget { view, replica: of.replica }));
        let forgets = forgets.collect::<Result<_, String>>()?;
        let body = Body::View(View { number: view, members: members.into(), forgets });
        Ok(Message { group: GROUP, view, body })
    }

    fn record(&self, record: &Record) -> String {
        match record {
            Record::Part { delta } => format!("part {}", delta_text(delta)),
            Record::Applied { index, parts, delta, .. } => {
                let parts = if *parts == 0 { String::new() } else { format!(" with {parts} parts") };
                format!("applied {index}{parts} {}", delta_text(delta))
            }
            Record::View { view, .. } => view_text(view),
            Record::Serving { replica } => format!("{replica} serves"),
            Record::Folder { folder } => format!("folder {}", folder.0),
        }
    }

    fn timer(&self, timer: Timer) -> String {
        match timer {
            Timer::Round => "round".into(),
            Timer::Report => "report".into(),
            Timer::Acknowledge => "acknowledge".into(),
        }
    }

    fn command(&self, command: &[u8]) -> String {
        match Change::decode(Bytes::copy_from_slice(command)).expect("it is a change") {
            Change::Join(delta) => delta_text(&delta),
            Change::Reset => "begin anew".into(),
            Change::Forget(replica) => format!("forget {replica}"),
        }
    }
}

#[test]
fn scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../interaction/gossip");
    run_scripts(folder, || GossipStory);
}
