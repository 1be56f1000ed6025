//! Commands of `interaction/ring`.

use keypact_partitioning::Member;
use keypact_partitioning::ring::{Point, Ring, RingConfig, RingTable, Tokens};

use super::general::Stage;
use super::{names, node, number};

/// A ring, and the map that was made of it.
pub(crate) struct RingStory {
    ring: Ring,
    stage: Option<Stage<Point>>,
}

impl RingStory {
    /// `ring random|allocated TOKENS`: of the members told so far.
    pub(crate) fn begin(words: &[&str], members: &[Member]) -> Result<RingStory, String> {
        let [how, tokens] = words else { return Err("ring random|allocated TOKENS".into()) };
        let tokens_per_weight = number(tokens)? as u32;
        let tokens = match *how {
            "random" => Tokens::Random,
            "allocated" => Tokens::Allocated,
            other => return Err(format!("no tokens {other}")),
        };
        let config = RingConfig { tokens_per_weight, tokens, seed: 7, tokens_max: 10_000 };
        Ok(RingStory { ring: Ring::of(config, members).map_err(|error| error.to_string())?, stage: None })
    }

    pub(crate) fn tell(
        &mut self,
        words: &[&str],
        members: &[Member],
        out: &mut Vec<String>,
    ) -> Result<(), String> {
        match words {
            ["tokens"] => out.extend(self.ring.tokens().map(|(point, node)| format!("  {point:?}  {node}"))),
            ["shares"] => {
                let shares = self.ring.shares();
                let named = self.ring.members().iter().zip(shares);
                out.extend(named.map(|(member, share)| format!("  {}  {:.1} %", member.node, share * 100.0)));
            }
            ["find", keys @ ..] => {
                let table = RingTable::new(&self.ring).ok_or("nobody is there")?;
                for key in keys {
                    let point = Point::of(key.as_bytes());
                    assert!(self.ring.owner(point) == Some(table.owner(point)), "both find the same");
                    out.push(format!("{key}  {point:?}  {}", table.owner(point)));
                }
            }
            ["prefer", count, keys @ ..] => {
                for key in keys {
                    let list = self.ring.preference(Point::of(key.as_bytes()), number(count)? as usize);
                    out.push(format!("{key}  {}  in {} zones", names(&list.nodes), list.zones));
                }
            }
            ["join" | "leave", name] => {
                let before = self.ring.clone();
                let node = node(name)?;
                let done = match words[0] {
                    "join" => {
                        let member =
                            members.iter().find(|member| member.node == node).ok_or("no such member")?;
                        self.ring.join(*member)
                    }
                    _ => self.ring.leave(node),
                };
                match done {
                    Ok(()) => {
                        let moved = before.moved(&self.ring, node);
                        let (share, elsewhere) = (moved.share * 100.0, moved.elsewhere * 100.0);
                        out.push(format!("{share:.1} % moves, {elsewhere:.1} % of it between others"));
                    }
                    Err(error) => out.push(error.to_string()),
                }
            }
            ["place", replicas] => {
                let map = self.ring.map(1, number(replicas)? as usize).map_err(|error| error.to_string())?;
                self.stage = Some(Stage::new(map));
            }
            ["replan", replicas] => {
                let stage = self.stage.as_mut().ok_or("`place` first")?;
                let wanted = self.ring.map(stage.map().version(), number(replicas)? as usize);
                let wanted = wanted.map_err(|error| error.to_string())?;
                stage.plan(&wanted, |_| 100, out);
            }
            _ => {
                let stage = self.stage.as_mut().ok_or_else(|| format!("what is `{}`?", words[0]))?;
                return stage.tell(words, out).unwrap_or_else(|| Err(format!("what is `{}`?", words[0])));
            }
        }
        Ok(())
    }
}
