//! Commands of `interaction/range`.

use keypact_partitioning::placement::{Unit, even_out};
use keypact_partitioning::range::{
    KeyOrder, LoadSample, RangeKey, RangeMap, Scan, SplitPolicy, split_by_size,
};
use keypact_partitioning::{Assigned, Map, Member, Slice};

use super::general::Stage;
use super::{names, nodes, number};

/// A range map, and keys with their sizes.
pub(crate) struct RangeStory {
    order: KeyOrder,
    stage: Stage<RangeKey>,
    keys: Vec<(RangeKey, u64)>,
    sample: LoadSample,
}

impl RangeStory {
    /// `range bytes|integer n1 POINT n2 POINT n1,n2`: replicas and split points in turn.
    pub(crate) fn begin(words: &[&str]) -> Result<RangeStory, String> {
        let [order, rest @ ..] = words else { return Err("bytes or integer?".into()) };
        let order = match *order {
            "bytes" => KeyOrder::Bytes,
            "integer" => KeyOrder::Integer,
            other => return Err(format!("no order {other}")),
        };
        let replicas = rest.iter().step_by(2).map(|word| nodes(word)).collect::<Result<Vec<_>, _>>()?;
        let points: Vec<RangeKey> =
            rest.iter().skip(1).step_by(2).map(|word| order.split_point(word.as_bytes())).collect();
        let map = RangeMap::new(order, &points, replicas).map_err(|error| error.to_string())?;
        let sample = LoadSample::new(16);
        Ok(RangeStory { order, stage: Stage::new(map.map().clone()), keys: Vec::new(), sample })
    }

    fn slice(&self, low: &str, high: Option<&&str>) -> Result<Slice<RangeKey>, String> {
        let high = high.filter(|high| **high != "end").map(|high| self.order.split_point(high.as_bytes()));
        Slice::new(self.order.split_point(low.as_bytes()), high).ok_or_else(|| "an empty range".into())
    }

    fn bytes_of(&self, slice: &Slice<RangeKey>) -> u64 {
        self.keys.iter().filter(|(key, _)| slice.contains(key)).map(|(_, bytes)| bytes).sum()
    }

    pub(crate) fn tell(
        &mut self,
        words: &[&str],
        members: &[Member],
        out: &mut Vec<String>,
    ) -> Result<(), String> {
        match words {
            ["find", keys @ ..] => {
                for key in keys {
                    let part = self.stage.map().find(&self.order.position(key.as_bytes()));
                    out.push(format!("{key}  {}  {:?}", names(&part.replicas), part.slice));
                }
            }
            ["sort", keys @ ..] => {
                let mut keys: Vec<RangeKey> =
                    keys.iter().map(|key| self.order.position(key.as_bytes())).collect();
                keys.sort_unstable();
                out.push(keys.iter().map(|key| format!("{key:?}")).collect::<Vec<_>>().join(" < "));
            }
            ["scan", low, rest @ ..] => self.scan(low, rest.first(), out)?,
            ["key", key, bytes] => {
                self.keys.push((self.order.position(key.as_bytes()), number(bytes)?));
                self.keys.sort();
            }
            ["ask", key, times] => {
                for _ in 0..number(times)? {
                    self.sample.request(|| self.order.position(key.as_bytes()));
                }
            }
            ["split", "by", how, low] => self.split_by(how, low, out)?,
            ["split", at] => {
                let at = self.order.split_point(at.as_bytes());
                match self.stage.executor.split(&at) {
                    Ok(record) => self.stage.write(&record),
                    Err(error) => out.push(error.to_string()),
                }
            }
            ["merge", at] => {
                let at = self.order.split_point(at.as_bytes());
                match self.stage.executor.merge(&at) {
                    Ok(record) => self.stage.write(&record),
                    Err(error) => out.push(error.to_string()),
                }
            }
            ["move", low, high, to] => {
                let slice = self.slice(low, Some(high))?;
                let mut wanted = self.stage.map().clone();
                let from = wanted.find(slice.low()).replicas.clone();
                match wanted.assign(&slice, &from, &nodes(to)?) {
                    Ok(()) => {
                        let keys = self.keys.clone();
                        let bytes = move |slice: &Slice<RangeKey>| {
                            keys.iter().filter(|(key, _)| slice.contains(key)).map(|(_, bytes)| bytes).sum()
                        };
                        self.stage.plan(&wanted, bytes, out);
                    }
                    Err(error) => out.push(error.to_string()),
                }
            }
            ["rebalance", replicas] => self.rebalance(number(replicas)? as usize, members, out)?,
            _ => {
                return self
                    .stage
                    .tell(words, out)
                    .unwrap_or_else(|| Err(format!("what is `{}`?", words[0])));
            }
        }
        Ok(())
    }

    fn scan(&mut self, low: &str, high: Option<&&str>, out: &mut Vec<String>) -> Result<(), String> {
        let mut scan = Scan::new(self.slice(low, high)?);
        while let Some(leg) = scan.next(self.stage.map()) {
            out.push(format!("ask {} for {:?}", leg.owner, leg.slice));
            scan.answered(&leg);
        }
        out.push(format!("{} of {} slices touched", scan.legs(), self.stage.map().parts().len()));
        Ok(())
    }

    fn split_by(&mut self, how: &str, low: &str, out: &mut Vec<String>) -> Result<(), String> {
        let part = self.stage.map().find(&self.order.split_point(low.as_bytes())).slice.clone();
        let policy = SplitPolicy { bytes_max: 100, requests_per_s_max: 10, samples_max: 16 };
        let bytes = self.bytes_of(&part);
        let requests = self.sample.requests();
        let at = match how {
            "size" => {
                let inside = self.keys.iter().filter(|(key, _)| part.contains(key));
                split_by_size(&part, inside.map(|(key, bytes)| (key, *bytes)))
            }
            _ => self.sample.split_point(&part),
        };
        let reason = policy.reason(bytes, requests);
        out.push(format!("{part:?} has {bytes} bytes, {requests} requests: {reason:?}, at {at:?}"));
        if let (Some(_), Some(at)) = (reason, at)
            && let Ok(record) = self.stage.executor.split(&at)
        {
            self.stage.write(&record);
        }
        Ok(())
    }

    fn rebalance(
        &mut self,
        replicas: usize,
        members: &[Member],
        out: &mut Vec<String>,
    ) -> Result<(), String> {
        let map = self.stage.map().clone();
        let unit = |part: &Assigned<RangeKey>| Unit {
            size: self.bytes_of(&part.slice),
            replicas: part.replicas.clone(),
        };
        let units: Vec<Unit> = map.parts().iter().map(unit).collect();
        match even_out(&units, members, replicas, 10, 8) {
            Ok(placed) => {
                let parts = map.parts().iter().zip(placed);
                let parts = parts.map(|(part, replicas)| Assigned { slice: part.slice.clone(), replicas });
                let wanted = Map::new(map.version(), parts.collect()).map_err(|error| error.to_string())?;
                let keys = self.keys.clone();
                let bytes = move |slice: &Slice<RangeKey>| {
                    keys.iter().filter(|(key, _)| slice.contains(key)).map(|(_, bytes)| bytes).sum()
                };
                self.stage.plan(&wanted, bytes, out);
            }
            Err(error) => out.push(error.to_string()),
        }
        Ok(())
    }
}
