//! Rounds: digests, and what they show to be missing.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_crdt::Delta;
use keypact_ordering::clock::{DotContext, HybridStamp};
use keypact_protocol::{Context, NodeId, Sink, Wire};

use super::change::{Change, Replicated};
use super::config::ns;
use super::{Ask, Body, Gossip, Timer};

/// How often a replica speaks, and to whom.
#[derive(Debug)]
pub(super) struct Pace {
    /// Of a generator that is seeded with every life.
    random: u64,
    /// Rounds in which nothing was new.
    quiet: u32,
}

impl Pace {
    pub(super) fn new(seed: u64) -> Pace {
        Pace { random: seed, quiet: 0 }
    }

    /// 64 random bits: SplitMix64.
    pub(super) fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "nothing is below zero");
        ((u128::from(self.draw()) * bound as u128) >> 64) as usize
    }

    /// Something is new: rounds come at their full pace again.
    pub(super) fn news(&mut self) {
        self.quiet = 0;
    }
}

impl<L: Replicated> Gossip<L> {
    pub(super) fn begin_rounds(&mut self, now_ns: u64, out: &mut impl Sink<Self>) {
        // At a random moment: replicas that were started together need not speak together.
        let phase_ns = self.pace.draw() % ns(self.config.interval_ms).max(1);
        out.set_timer(Timer::Round, now_ns.saturating_add(phase_ns));
    }

    pub(super) fn on_round_timer(&mut self, context: Context, out: &mut impl Sink<Self>) {
        let interval_ms = self.config.interval_ms.saturating_mul(1 << self.pace.quiet.min(16));
        let idle = interval_ms >= self.config.idle_interval_ms;
        let interval_ms = interval_ms.min(self.config.idle_interval_ms);
        assert!(interval_ms >= self.config.interval_ms, "rounds come no faster than at full pace");
        out.set_timer(Timer::Round, context.now_ns.saturating_add(ns(interval_ms)));
        self.pace.quiet += u32::from(!idle);
        self.counters.idle_rounds += u64::from(idle);
        self.give_up_transfers(context.now_ns);
        if self.row().is_none() {
            return;
        }
        self.counters.rounds += 1;
        let ask = if self.serving && !self.wants_acknowledgement() { Ask::Back } else { Ask::Always };
        let peers = match &self.incoming {
            // Whoever is sending goes on; another would begin the same again.
            Some(incoming) => Vec::from([incoming.from]),
            None => self.pick_peers(self.config.fan_out),
        };
        for peer in peers {
            self.send_digest(peer, ask, out);
        }
    }

    /// Says what was applied here, once that is durable: who lost it in a crash must not have claimed it.
    pub(super) fn send_digest(&mut self, peer: NodeId, ask: Ask, out: &mut impl Sink<Self>) {
        assert!(self.row().is_some() && peer != self.config.id, "members speak to others");
        self.counters.digests += 1;
        let body = Body::Digest { version: self.version.clone(), serving: self.serving, ask };
        out.send(peer, self.message(body));
    }

    /// So many other members at random, or all there are. O(k^2).
    pub(super) fn pick_peers(&mut self, count: usize) -> Vec<NodeId> {
        let own = self.view.place(self.config.id);
        let others = self.view.members.len() - usize::from(own.is_some());
        let nth = |at: usize| at + usize::from(own.is_some_and(|own| at >= own));
        let mut places: Vec<usize> = Vec::new();
        if count >= others {
            places.extend((0..others).map(nth));
        }
        while places.len() < count.min(others) {
            let place = nth(self.pace.below(others));
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let peers: Vec<NodeId> = places.into_iter().map(|place| self.view.members[place].node).collect();
        assert!(!peers.contains(&self.config.id), "nobody speaks to itself");
        assert!(peers.len() == count.min(others), "as many as were asked for, or all");
        peers
    }

    pub(super) fn on_digest(
        &mut self,
        from: NodeId,
        version: &DotContext,
        serving: bool,
        ask: Ask,
        context: Context,
        out: &mut impl Sink<Self>,
    ) {
        self.confirm(from, version, out);
        if !self.serving && serving && self.target.is_none() {
            self.target = Some(version.clone());
            self.serve_if_caught_up(out);
        }
        let they_lack = self.version.difference(version);
        let we_lack = !self.version.contains_all(version);
        if !they_lack.is_empty() || we_lack {
            self.pace.news();
        }
        self.close_transfer(from, version);
        if !they_lack.is_empty() {
            self.send_missing(from, version, &they_lack, context.now_ns, out);
        }
        assert!(!they_lack.meets(version), "what they lack they have not");
        let asks_back = match ask {
            Ask::No => false,
            Ask::Back => we_lack,
            Ask::Always => true,
        };
        if asks_back {
            self.send_digest(from, Ask::No, out);
        }
    }

    /// Sends what a peer lacks: as it came, if all of that is still here; else in one large delta, made for it.
    fn send_missing(
        &mut self,
        to: NodeId,
        version: &DotContext,
        missing: &DotContext,
        now_ns: u64,
        out: &mut impl Sink<Self>,
    ) {
        let turn = self.pace.draw() as usize % missing.span_count().max(1);
        let Some((deltas, all)) = self.recent.cover(missing, self.config.budget_bytes, turn) else {
            return self.send_transfer(to, version, now_ns, out);
        };
        assert!(all || !deltas.is_empty(), "something goes, however small the budget");
        self.counters.deltas_sent += deltas.len() as u64;
        self.counters.cut_to_budget += u64::from(!all);
        let body = Body::Deltas { stamp: self.clock.last(), deltas, answer: !all };
        out.send(to, self.message(body));
    }

    pub(super) fn on_deltas(
        &mut self,
        from: NodeId,
        stamp: HybridStamp,
        deltas: Vec<Bytes>,
        answer: bool,
        context: Context,
        out: &mut impl Sink<Self>,
    ) {
        self.observe(stamp, context.wall_ms);
        for bytes in deltas {
            if self.held.len() >= self.config.held_max {
                // What is not taken comes again.
                self.counters.refused_full += 1;
                return;
            }
            let Ok(delta) = L::Delta::decode(bytes.clone()) else {
                self.counters.refused_undecodable += 1;
                return;
            };
            let events = delta.events();
            if self.version.contains_all(&events) {
                self.counters.redundant += 1;
                continue;
            }
            self.state.apply(delta);
            self.version = self.state.version();
            self.recent.insert(&events, bytes.clone());
            self.write_applied(bytes.clone(), 0, out);
            self.give(self.index, Change::Join(bytes), None, None, out);
            assert!(self.held.len() <= self.config.held_max, "room was looked for");
            self.counters.deltas_applied += 1;
            self.pace.news();
        }
        self.serve_if_caught_up(out);
        if answer {
            self.send_digest(from, Ask::No, out);
        }
    }
}
