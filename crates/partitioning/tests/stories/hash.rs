//! Commands of `interaction/hash`.

use std::num::NonZeroU32;

use keypact_partitioning::hash::{Modulo, SLOTS, Slot, SlotTable, crc16, tag};
use keypact_partitioning::placement::{Unit, balance};
use keypact_partitioning::{Map, Member, Slice};

use super::general::Stage;
use super::{names, nodes, number};

/// Slots of a slice.
fn count(slice: &Slice<Slot>) -> u64 {
    u64::from(slice.high().map_or(SLOTS, |high| high.number()) - slice.low().number())
}

/// `slots even n1,n2,n3`.
pub(crate) fn begin(words: &[&str]) -> Result<Stage<Slot>, String> {
    match words {
        ["even", list] => {
            let table = SlotTable::even(&nodes(list)?).map_err(|error| error.to_string())?;
            Ok(Stage::new(table.map().clone()))
        }
        _ => Err("slots even n1,n2".into()),
    }
}

pub(crate) fn tell(
    stage: Option<&mut Stage<Slot>>,
    words: &[&str],
    members: &[Member],
    out: &mut Vec<String>,
) -> Result<(), String> {
    match words {
        ["crc", texts @ ..] => {
            out.extend(texts.iter().map(|text| format!("{text}  {:04x}", crc16(text.as_bytes()))));
            return Ok(());
        }
        ["slot", keys @ ..] => {
            for key in keys {
                let tag = tag(key.as_bytes()).escape_ascii();
                out.push(format!("{key}  hashes `{tag}`  slot {:?}", Slot::of(key.as_bytes())));
            }
            return Ok(());
        }
        ["modulo", before, after, keys] => return modulo(before, after, keys, out),
        _ => {}
    }
    let stage = stage.ok_or("a script begins with `slots`")?;
    match words {
        ["find", keys @ ..] => {
            let table = SlotTable::new(stage.map().clone());
            for key in keys {
                let part = table.find(key.as_bytes());
                out.push(format!("{key}  slot {:?}  {}", Slot::of(key.as_bytes()), names(&part.replicas)));
            }
            Ok(())
        }
        ["owned"] => {
            let table = SlotTable::new(stage.map().clone());
            out.extend(table.owned().iter().map(|(node, slots)| format!("  {node}  {slots} slots")));
            Ok(())
        }
        ["rebalance", replicas] => rebalance(stage, number(replicas)? as usize, members, out),
        _ => stage.tell(words, out).unwrap_or_else(|| Err(format!("what is `{}`?", words[0]))),
    }
}

fn rebalance(
    stage: &mut Stage<Slot>,
    replicas: usize,
    members: &[Member],
    out: &mut Vec<String>,
) -> Result<(), String> {
    let lows: Vec<Slot> = (0..SLOTS).filter_map(Slot::new).collect();
    let map = stage.map().clone();
    let unit = |low: &Slot| Unit { size: 1, replicas: map.find(low).replicas.clone() };
    let units: Vec<Unit> = lows.iter().map(unit).collect();
    match balance(&units, members, replicas) {
        Ok(placed) => {
            let wanted = Map::from_lows(map.version(), lows.into_iter().zip(placed).collect());
            stage.plan(&wanted.map_err(|error| error.to_string())?.coalesced(), count, out);
        }
        Err(error) => out.push(error.to_string()),
    }
    Ok(())
}

/// How many of so many keys another number of nodes moves, by `hash % n` and by slots.
fn modulo(before: &str, after: &str, keys: &str, out: &mut Vec<String>) -> Result<(), String> {
    let modulo = |count: &str| -> Result<Modulo, String> {
        let count = NonZeroU32::new(number(count)? as u32).ok_or("at least one node")?;
        Ok(Modulo::new(count))
    };
    let (was, is) = (modulo(before)?, modulo(after)?);
    let keys = number(keys)?;
    let moved = (0..keys).filter(|key| {
        let key = format!("key{key}");
        was.index(key.as_bytes()) != is.index(key.as_bytes())
    });
    let moved = moved.count() as f64 / keys as f64;
    let all = number(before)?.max(number(after)?) as f64;
    out.push(format!("hash % n moves {moved:.2} of the keys; {:.2} would do", 1.0 / all));
    Ok(())
}
