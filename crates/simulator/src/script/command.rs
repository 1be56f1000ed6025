//! The command set.

use keypact_protocol::{Input, NodeId, ReadLevel};

use super::stage::Stage;
use super::{Settings, Story};
use crate::Loss;

/// Runs one command line.
pub(super) fn run<S: Story>(stage: &mut Stage<S>, line: &str) -> Result<(), String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    match word {
        "quiet" => {
            let from = stage.lines_len();
            let result = run(stage, rest);
            stage.hush(from);
            result
        }
        "expect-panic" => expect_panic(stage, rest),
        _ if stage.actors.is_empty() && word != "nodes" => Err("a script begins with `nodes`".into()),
        "nodes" => nodes(stage, rest),
        "request" => request(stage, rest),
        "deliver" => deliver(stage, rest),
        "drop" => take_links(stage, rest).map(|_| ()),
        "duplicate" => duplicate(stage, rest),
        "delay" => take_links(stage, rest).map(|taken| stage.delayed.extend(taken)),
        "arrive" => {
            let delayed = std::mem::take(&mut stage.delayed);
            delayed.into_iter().try_for_each(|message| stage.deliver(message))
        }
        "hold" => links(rest).map(|links| stage.held_links.extend(links)),
        "release" => links(rest).map(|links| stage.held_links.retain(|held| !links.contains(held))),
        "say" => say(stage, rest),
        "messages" => messages(stage),
        "durable" => each_node(stage, rest, |stage, index| stage.durable(index).map(|_| ())),
        "hang" => each_node(stage, rest, |stage, index| set_hung(stage, index, true)),
        "unhang" => each_node(stage, rest, |stage, index| set_hung(stage, index, false)),
        "timer" => {
            let (index, name) = node_and_rest(stage, rest)?;
            stage.fire(index, name)
        }
        "tick" => stage.tick(duration_ns(rest)?, false),
        "run" => stage.tick(duration_ns(rest)?, true),
        "crash" => crash(stage, rest),
        "restart" => each_node(stage, rest, Stage::start),
        "partition" => partition(stage, rest),
        "cut" => links(rest).map(|links| stage.cuts.extend(links)),
        "heal" => {
            stage.cuts.clear();
            Ok(())
        }
        "stabilize" => stage.stabilize(),
        "state" => each_node(stage, rest, |stage, index| {
            stage.show_state(index);
            Ok(())
        }),
        "log" => each_node(stage, rest, |stage, index| {
            stage.show_log(index);
            Ok(())
        }),
        "unreachable" => {
            let (index, peer) = node_and_rest(stage, rest)?;
            stage.input(index, Input::Unreachable(node(peer)?))
        }
        "checkpoint" => each_node(stage, rest, |stage, index| stage.input(index, Input::Compact)),
        "skew" => skew(stage, rest),
        "drift" => {
            let (index, amount) = node_and_rest(stage, rest)?;
            let ppm = amount.strip_suffix("ppm").and_then(|ppm| ppm.parse().ok());
            stage.drift(index, ppm.ok_or("how much? `200ppm`")?);
            Ok(())
        }
        "pause" => pause(stage, rest),
        "resume" => each_node(stage, rest, Stage::resume),
        _ => Err(format!("what is `{word}`?")),
    }
}

fn expect_panic<S: Story>(stage: &mut Stage<S>, rest: &str) -> Result<(), String> {
    let from = stage.lines_len();
    stage.panics_expected = true;
    let result = run(stage, rest);
    stage.panics_expected = false;
    result?;
    if stage.has_panicked_since(from) { Ok(()) } else { Err("no assertion failed".into()) }
}

fn nodes<S: Story>(stage: &mut Stage<S>, rest: &str) -> Result<(), String> {
    let mut words = rest.split_whitespace();
    let count = words.next().and_then(|count| count.parse().ok()).ok_or("how many nodes?")?;
    let mut settings = Settings::default();
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| format!("`{word}` is no key=value"))?;
        settings.0.insert(key.into(), value.into());
    }
    stage.begin(count, settings)
}

fn request<S: Story>(stage: &mut Stage<S>, rest: &str) -> Result<(), String> {
    let (index, what) = node_and_rest(stage, rest)?;
    let (verb, argument) = what.split_once(' ').unwrap_or((what, ""));
    match (verb, argument) {
        ("propose", text) if !text.is_empty() => stage.propose(index, text),
        ("read", argument) => {
            let (level, key) = match argument.split_once(" key=") {
                Some((level, key)) => {
                    (level, Some(key.parse().map_err(|_| format!("`{key}` is no number"))?))
                }
                None => (argument, None),
            };
            stage.read(index, read_level(level)?, key)
        }
        _ => Err("`propose TEXT`, or `read linearizable|lease|stale|INDEX@EPOCH [key=N]`".into()),
    }
}

fn read_level(text: &str) -> Result<ReadLevel, String> {
    match text {
        "linearizable" => Ok(ReadLevel::Linearizable),
        "lease" => Ok(ReadLevel::Lease),
        "stale" => Ok(ReadLevel::Stale),
        _ => session_level(text).ok_or_else(|| {
            format!("`{text}`: `linearizable`, `lease`, `stale`, or `INDEX@EPOCH` of a write")
        }),
    }
}

/// `7@2`: a read that sees entry 7 of epoch 2.
fn session_level(text: &str) -> Option<ReadLevel> {
    let (index, epoch) = text.split_once('@')?;
    Some(ReadLevel::Session { epoch: epoch.parse().ok()?, index: index.parse().ok()? })
}

/// Takes what is in flight on these links; of held ones too, since they are named.
fn take_links<S: Story>(
    stage: &mut Stage<S>,
    rest: &str,
) -> Result<Vec<super::outlet::InFlight<S::Protocol>>, String> {
    let wanted = links(rest)?;
    let taken: Vec<_> =
        stage.in_flight.extract_if(.., |message| wanted.contains(&(message.from, message.to))).collect();
    if taken.is_empty() { Err(format!("nothing is in flight on {rest}")) } else { Ok(taken) }
}

fn duplicate<S: Story>(stage: &mut Stage<S>, rest: &str) -> Result<(), String> {
    for message in take_links(stage, rest)? {
        let again = super::outlet::InFlight { message: message.message.clone(), ..message };
        stage.in_flight.push(message);
        stage.in_flight.push(again);
    }
    Ok(())
}

fn say<S: Story>(stage: &mut Stage<S>, rest: &str) -> Result<(), String> {
    let (who, text) = rest.split_once(' ').ok_or("who says what? `n0>n1 TEXT`")?;
    let (from, to) = link(who)?;
    if stage.index_of(from).is_ok() {
        return Err(format!("{from} is on the stage and speaks for itself"));
    }
    stage.say(from, to, text.trim())
}

fn messages<S: Story>(stage: &mut Stage<S>) -> Result<(), String> {
    let texts: Vec<String> = stage
        .in_flight
        .iter()
        .map(|message| {
            let held = stage.held_links.contains(&(message.from, message.to));
            format!("{}{}", stage.message_text(message), if held { " (held back)" } else { "" })
        })
        .collect();
    texts.into_iter().for_each(|text| stage.line(text));
    Ok(())
}

/// What `deliver` was told.
#[derive(Default)]
struct Choice {
    links: Vec<(NodeId, NodeId)>,
    from: Vec<NodeId>,
    drop_links: Vec<(NodeId, NodeId)>,
    drop_from: Vec<NodeId>,
    count: Option<usize>,
    all: bool,
}

impl Choice {
    fn parse(rest: &str) -> Result<Choice, String> {
        let mut choice = Choice::default();
        for word in rest.split_whitespace() {
            if word == "all" {
                choice.all = true;
            } else if let Some(count) = word.strip_prefix("count=") {
                choice.count = Some(count.parse().map_err(|_| format!("`{word}`: how many?"))?);
            } else if let Some(dropped) = word.strip_prefix("drop=") {
                match link(dropped) {
                    Ok(link) => choice.drop_links.push(link),
                    Err(_) => choice.drop_from.push(node(dropped)?),
                }
            } else {
                match link(word) {
                    Ok(link) => choice.links.push(link),
                    Err(_) => choice.from.push(node(word)?),
                }
            }
        }
        Ok(choice)
    }

    fn drops(&self, (from, to): (NodeId, NodeId)) -> bool {
        self.drop_links.contains(&(from, to)) || self.drop_from.contains(&from)
    }

    fn takes(&self, (from, to): (NodeId, NodeId)) -> bool {
        let any = self.links.is_empty() && self.from.is_empty();
        any || self.links.contains(&(from, to)) || self.from.contains(&from)
    }
}

fn deliver<S: Story>(stage: &mut Stage<S>, rest: &str) -> Result<(), String> {
    let choice = Choice::parse(rest)?;
    let mut delivered = 0;
    for _ in 0..1_000 {
        let mut news = false;
        for message in std::mem::take(&mut stage.in_flight) {
            let link = (message.from, message.to);
            let enough = choice.count.is_some_and(|count| delivered >= count);
            if choice.drops(link) {
                news = true;
            } else if choice.takes(link) && !stage.held_links.contains(&link) && !enough {
                news = true;
                delivered += 1;
                stage.deliver(message)?;
            } else {
                stage.in_flight.push(message);
            }
        }
        if !news && delivered == 0 {
            return Err("nothing to deliver".into());
        }
        if !choice.all || !news {
            return Ok(());
        }
    }
    Err("messages give rise to messages without end".into())
}

fn set_hung<S: Story>(stage: &mut Stage<S>, index: usize, hung: bool) -> Result<(), String> {
    stage.actors[index].hung = hung;
    Ok(())
}

fn crash<S: Story>(stage: &mut Stage<S>, rest: &str) -> Result<(), String> {
    let mut loss = Loss::Unsynced;
    let mut disk = false;
    let mut ids = Vec::new();
    for word in rest.split_whitespace() {
        match word {
            "lose=unsynced" => loss = Loss::Unsynced,
            "lose=none" => loss = Loss::Nothing,
            "lose=disk" => disk = true,
            _ => ids.push(stage.index_of(node(word)?)?),
        }
    }
    ids.into_iter().try_for_each(|index| {
        stage.crash(index, loss)?;
        if disk {
            stage.lose_disk(index);
        }
        Ok(())
    })
}

fn partition<S: Story>(stage: &mut Stage<S>, rest: &str) -> Result<(), String> {
    let sides: Vec<Vec<NodeId>> = rest
        .split('|')
        .map(|side| side.split_whitespace().map(node).collect())
        .collect::<Result<_, String>>()?;
    if sides.len() < 2 {
        return Err("`partition n1 | n2 n3`".into());
    }
    for (i, side) in sides.iter().enumerate() {
        for (j, other) in sides.iter().enumerate() {
            if i != j {
                for from in side {
                    stage.cuts.extend(other.iter().map(|to| (*from, *to)));
                }
            }
        }
    }
    Ok(())
}

fn skew<S: Story>(stage: &mut Stage<S>, rest: &str) -> Result<(), String> {
    let (index, amount) = node_and_rest(stage, rest)?;
    let (sign, amount) = match amount.strip_prefix('-') {
        Some(amount) => (-1, amount),
        None => (1, amount),
    };
    let ms = i64::try_from(duration_ns(amount)? / 1_000_000).map_err(|_| "too far")?;
    stage.actors[index].clock.skew_wall(sign * ms);
    let wall_ms = stage.context(index).wall_ms;
    stage.line(format!("n{} wall clock shows {wall_ms} ms", index + 1));
    Ok(())
}

fn pause<S: Story>(stage: &mut Stage<S>, rest: &str) -> Result<(), String> {
    let (id, length) = rest.split_once(' ').unwrap_or((rest, ""));
    let index = stage.index_of(node(id)?)?;
    stage.pause(index);
    if !length.is_empty() {
        stage.tick(duration_ns(length)?, false)?;
        stage.resume(index)?;
    }
    Ok(())
}

/// `n1 n2`, or nothing or `all` for all.
fn each_node<S: Story>(
    stage: &mut Stage<S>,
    rest: &str,
    mut act: impl FnMut(&mut Stage<S>, usize) -> Result<(), String>,
) -> Result<(), String> {
    if rest.is_empty() || rest == "all" {
        return (0..stage.actors.len()).try_for_each(|index| act(stage, index));
    }
    for word in rest.split_whitespace() {
        let index = stage.index_of(node(word)?)?;
        act(stage, index)?;
    }
    Ok(())
}

fn node_and_rest<'a, S: Story>(stage: &Stage<S>, rest: &'a str) -> Result<(usize, &'a str), String> {
    let (id, rest) = rest.split_once(' ').ok_or("a node, and more")?;
    Ok((stage.index_of(node(id)?)?, rest.trim()))
}

fn node(word: &str) -> Result<NodeId, String> {
    let number = word.strip_prefix('n').and_then(|number| number.parse().ok());
    number.map(NodeId).ok_or_else(|| format!("`{word}` is no node"))
}

fn link(word: &str) -> Result<(NodeId, NodeId), String> {
    let (from, to) = word.split_once('>').ok_or_else(|| format!("`{word}` is no link; `n1>n2` is"))?;
    Ok((node(from)?, node(to)?))
}

fn links(rest: &str) -> Result<Vec<(NodeId, NodeId)>, String> {
    let links: Vec<_> = rest.split_whitespace().map(link).collect::<Result<_, _>>()?;
    if links.is_empty() { Err("which links? `n1>n2`".into()) } else { Ok(links) }
}

/// `150ms`, `2s`, `500us`.
fn duration_ns(text: &str) -> Result<u64, String> {
    for (unit, factor) in [("ms", 1_000_000), ("us", 1_000), ("ns", 1), ("s", 1_000_000_000)] {
        if let Some(number) = text.strip_suffix(unit).and_then(|number| number.parse::<u64>().ok()) {
            return number.checked_mul(factor).ok_or_else(|| "too long".into());
        }
    }
    Err(format!("`{text}` is no duration; `150ms` is"))
}
