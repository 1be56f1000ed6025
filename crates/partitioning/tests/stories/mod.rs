//! The command set of the partitioners' scripts: one for all three, over whichever map the script begins with.

mod general;
mod hash;
mod range;
mod ring;

use keypact_partitioning::Member;
use keypact_protocol::NodeId;

use general::Stage;

/// A script's state.
#[derive(Default)]
pub(crate) struct Story {
    members: Vec<Member>,
    range: Option<range::RangeStory>,
    hash: Option<Stage<keypact_partitioning::hash::Slot>>,
    ring: Option<ring::RingStory>,
}

impl Story {
    /// Runs one command.
    pub(crate) fn tell(&mut self, words: &[&str], out: &mut Vec<String>) -> Result<(), String> {
        match words {
            ["member", rest @ ..] => {
                for word in rest {
                    self.members.push(member(word)?);
                }
                Ok(())
            }
            ["weight", name, weight] => {
                let (node, weight) = (node(name)?, number(weight)? as u32);
                let found = self.members.iter_mut().find(|member| member.node == node);
                let found = found.ok_or("no such member")?;
                *found = found.with_weight(weight);
                Ok(())
            }
            ["range", rest @ ..] => {
                self.range = Some(range::RangeStory::begin(rest)?);
                Ok(())
            }
            ["slots", rest @ ..] => {
                self.hash = Some(hash::begin(rest)?);
                Ok(())
            }
            ["ring", rest @ ..] => {
                self.ring = Some(ring::RingStory::begin(rest, &self.members)?);
                Ok(())
            }
            _ => {
                if let Some(range) = &mut self.range {
                    return range.tell(words, &self.members, out);
                }
                if let Some(ring) = &mut self.ring {
                    return ring.tell(words, &self.members, out);
                }
                hash::tell(self.hash.as_mut(), words, &self.members, out)
            }
        }
    }
}

/// `n3`, `n3@2/7` (zone 2, host 7), `n3*4` (weight 4), `n3@2/7*4`.
fn member(word: &str) -> Result<Member, String> {
    let (word, weight) = match word.split_once('*') {
        Some((word, weight)) => (word, number(weight)? as u32),
        None => (word, 1),
    };
    let (name, place) = match word.split_once('@') {
        Some((name, place)) => (name, Some(place)),
        None => (word, None),
    };
    let member = Member::alone(node(name)?).with_weight(weight);
    match place.map(|place| place.split_once('/').ok_or("a place is zone/host")) {
        None => Ok(member),
        Some(place) => {
            let (zone, host) = place?;
            Ok(member.at(number(zone)? as u32, number(host)? as u32))
        }
    }
}

pub(crate) fn node(word: &str) -> Result<NodeId, String> {
    let digits = word.strip_prefix('n').ok_or_else(|| format!("`{word}` is no node; n1 is"))?;
    Ok(NodeId(number(digits)?))
}

pub(crate) fn nodes(word: &str) -> Result<Vec<NodeId>, String> {
    word.split(',').map(node).collect()
}

pub(crate) fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

pub(crate) fn names(nodes: &[NodeId]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
