//! How a [`Succession`] is kept: all of it in one record, but for the reports of a sealing under way, which are asked for anew.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_log::{Entry, Position};
use keypact_protocol::{DecodeError, NodeId, Wire};
use serde::{Deserialize, Serialize};

use super::succession::{Extent, Leadership, Loss, Sealing, Succession, SuccessionConfig};
use super::{MEMBERS_MAX, message::COUNT_MAX};

#[derive(Serialize, Deserialize)]
struct Kept {
    members: Vec<u64>,
    acks: u64,
    first: (u64, u64),
    allowance: u64,
    limits: (u64, u64),
    history: Vec<KeptLeadership>,
    sealing: Option<u64>,
    losses: Vec<KeptLoss>,
    losses_forgotten: u64,
}

#[derive(Serialize, Deserialize)]
struct KeptLeadership {
    epoch: u64,
    leader: u64,
    after: (u64, u64),
    allowed: u64,
    forced: bool,
}

#[derive(Serialize, Deserialize)]
struct KeptLoss {
    member: u64,
    epoch: u64,
    after: u64,
    extent: KeptExtent,
    answered: bool,
    withdrawn: bool,
}

#[derive(Serialize, Deserialize)]
enum KeptExtent {
    /// The last place, and the listed entries' bytes, one behind the other.
    Known((u64, u64), Vec<u8>),
    Unknown(u64, u64),
}

const fn pair(place: Position) -> (u64, u64) {
    (place.index, place.term)
}

const fn place((index, term): (u64, u64)) -> Position {
    Position { index, term }
}

fn keep_loss(loss: &Loss) -> KeptLoss {
    let extent = match &loss.extent {
        Extent::Known { last, listed } => {
            assert!(last.index > loss.after, "what is lost is behind what is kept");
            let mut bytes = Vec::new();
            for entry in listed {
                bytes.extend_from_slice(entry.bytes());
            }
            KeptExtent::Known(pair(*last), bytes)
        }
        Extent::Unknown { led, at_most } => KeptExtent::Unknown(*led, *at_most),
    };
    let Loss { member, epoch, after, answered, withdrawn, .. } = *loss;
    KeptLoss { member: member.0, epoch, after, extent, answered, withdrawn }
}

fn take_loss(kept: KeptLoss) -> Result<Loss, DecodeError> {
    let extent = match kept.extent {
        KeptExtent::Known(last, bytes) => {
            if last.0 < kept.after || last.0 > COUNT_MAX {
                return Err(DecodeError::new("a loss that ends behind its beginning"));
            }
            let (mut rest, mut listed) = (Bytes::from(bytes), Vec::new());
            while !rest.is_empty() {
                listed.push(Entry::take(&mut rest)?);
            }
            assert!(rest.is_empty(), "all that was kept is listed");
            Extent::Known { last: place(last), listed }
        }
        KeptExtent::Unknown(led, at_most) => Extent::Unknown { led, at_most },
    };
    let KeptLoss { member, epoch, after, answered, withdrawn, .. } = kept;
    Ok(Loss { member: NodeId(member), epoch, after, extent, answered, withdrawn })
}

impl Wire for Succession {
    fn encode(&self, out: &mut Vec<u8>) {
        self.assert_invariants();
        let config = &self.config;
        let kept = Kept {
            members: config.members.iter().map(|member| member.0).collect(),
            acks: config.acks as u64,
            first: (config.epoch, config.leader.0),
            allowance: config.allowance,
            limits: (config.history_max as u64, config.losses_max as u64),
            history: self.history.iter().map(keep_leadership).collect(),
            sealing: self.sealing.as_ref().map(|sealing| sealing.epoch),
            losses: self.losses.iter().map(keep_loss).collect(),
            losses_forgotten: self.losses_forgotten,
        };
        let buffer = core::mem::take(out);
        *out = postcard::to_extend(&kept, buffer).expect("a vector takes any record");
    }

    fn decode(bytes: Bytes) -> Result<Succession, DecodeError> {
        let kept: Kept =
            postcard::from_bytes(&bytes).map_err(|_| DecodeError::new("what a catalog keeps of a group"))?;
        let members: Vec<NodeId> = kept.members.into_iter().map(NodeId).collect();
        let (acks, (epoch, leader)) = (kept.acks as usize, kept.first);
        let (history_max, losses_max) = (kept.limits.0 as usize, kept.limits.1 as usize);
        let bounded = (1..=MEMBERS_MAX).contains(&members.len()) && acks < members.len();
        let fits = kept.history.len() <= history_max && kept.losses.len() <= losses_max;
        if !bounded || !fits || history_max < 2 || losses_max == 0 || kept.history.is_empty() {
            return Err(DecodeError::new("a group within its limits"));
        }
        let config = SuccessionConfig {
            members,
            acks,
            epoch,
            leader: NodeId(leader),
            allowance: kept.allowance,
            history_max,
            losses_max,
        };
        let history: Vec<Leadership> = kept.history.into_iter().map(take_leadership).collect();
        let rises = |pair: &[Leadership]| pair[0].epoch < pair[1].epoch && pair[1].after.term < pair[1].epoch;
        let newest = history.last().map_or(0, |leadership| leadership.epoch);
        if !history.windows(2).all(rises) || kept.sealing.is_some_and(|epoch| epoch <= newest) {
            return Err(DecodeError::new("epochs that rise"));
        }
        let losses = kept.losses.into_iter().map(take_loss).collect::<Result<_, _>>()?;
        let sealing = kept.sealing.map(Sealing::begun);
        let group = Succession { config, history, sealing, losses, losses_forgotten: kept.losses_forgotten };
        group.assert_invariants();
        assert!(
            group.sealing.as_ref().is_none_or(|sealing| sealing.heard() == 0),
            "reports are asked for anew"
        );
        Ok(group)
    }
}

fn keep_leadership(of: &Leadership) -> KeptLeadership {
    let Leadership { epoch, leader, after, allowed, forced } = *of;
    assert!(after.term < epoch, "each epoch begins in the log of an earlier one");
    KeptLeadership { epoch, leader: leader.0, after: pair(after), allowed, forced }
}

fn take_leadership(kept: KeptLeadership) -> Leadership {
    let KeptLeadership { epoch, leader, after, allowed, forced } = kept;
    Leadership { epoch, leader: NodeId(leader), after: place(after), allowed, forced }
}
