//! A node's figures at one moment, as Prometheus wants them.

use std::fmt;

use keypact_data::{CommandId, table};
use keypact_node::{Counters, Role, Status};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::batch::Core;
use crate::clock;
use crate::handshake::Cut;
use crate::link::LinkFigures;
use crate::log_thread::LogFigures;
use crate::metrics::{ERRORS, Figures, Log2};

/// Copies of all that a node counts.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) status: Status,
    counters: Counters,
    figures: Figures,
    latency_us: Log2,
    links: LinkFigures,
    log: LogFigures,
    durable_lsn: u64,
    connections: (u64, u64, u64),
    in_flight_bytes: u64,
    clock_ahead_ms: i64,
}

impl Core {
    /// Copies all that is counted. O(members, groups, commands).
    pub(crate) fn report(&self) -> Report {
        let connections = &self.world.connections;
        Report {
            status: self.node.status(),
            counters: self.node.counters(),
            figures: self.world.figures.clone(),
            latency_us: self.world.latency_us.clone(),
            links: self.world.links.figures.clone(),
            log: self.log.figures(),
            durable_lsn: self.log.durable().0,
            connections: (connections.len() as u64, connections.accepted, connections.refused),
            in_flight_bytes: self.world.in_flight_bytes as u64,
            clock_ahead_ms: self.node.clock_ahead_ms(clock::context()),
        }
    }
}

impl Report {
    /// The OpenMetrics text.
    pub(crate) fn encode(self: Box<Report>) -> String {
        let mut registry = Registry::with_prefix("keypact");
        registry.register_collector(self);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes any text");
        text
    }

    fn encode_node(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let c = &self.counters;
        for (name, help, value) in [
            ("writes_applied", "Clients' writes applied", c.writes_applied),
            ("reads_answered", "Reads answered", c.reads_answered),
            ("forwarded", "Commands forwarded to another node", c.forwarded),
            ("forwards_taken", "Forwarded commands taken from other nodes", c.forwards_taken),
            ("redirects", "Forwarded commands refused for another node to take", c.redirects),
            ("uncertain", "Commands answered uncertain", c.uncertain),
            ("no_quorum", "Commands refused because no leader was found in time", c.no_quorum),
            ("idle_ticks", "Empty entries proposed so that expired keys leave the memory", c.idle_ticks),
            ("overloaded", "Commands refused because too much was under way", c.overloaded),
            ("checkpoints", "Checkpoints begun", c.checkpoints),
            ("snapshots_installed", "Snapshots of peers installed", c.snapshots_installed),
        ] {
            out.counter(name, help, value)?;
        }
        out.seconds(
            "clock_ahead_seconds",
            "How far this node's wall clock is ahead of the latest time that a majority of the members' clocks have reached",
            self.clock_ahead_ms,
        )?;
        out.gauge("keys", "Keys in keyspace default, as applied here", self.status.keys)?;
        out.gauge("data_bytes", "Bytes of keys and values, as applied here", self.status.memory_bytes)
    }

    fn encode_groups(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let groups = &self.status.groups;
        type Field = fn(&keypact_node::GroupStatus) -> u64;
        let fields: [(&str, &str, Field); 6] = [
            ("group_term", "Term", |g| g.term),
            ("group_leader", "Node id of the leader, 0 if none is known", |g| g.leader.unwrap_or(0)),
            ("group_commit_index", "Index up to which the group's log is committed", |g| g.commit),
            ("group_applied_index", "Index up to which it is applied here", |g| g.applied),
            (
                "group_lag_entries",
                "Entries that the slowest member lacks, or that are not applied here",
                |g| g.lag,
            ),
            ("group_tail_bytes", "Bytes of the log held in memory", |g| g.tail_bytes),
        ];
        for (name, help, field) in fields {
            let rows = groups.iter().map(|g| (g.name.clone(), field(g)));
            out.gauges(name, help, "group", rows)?;
        }
        let own = self.status.nodes.iter().find(|n| n.id == self.status.node).map(|n| n.role);
        let rows = [("leader", Role::Leader), ("follower", Role::Follower), ("candidate", Role::Candidate)];
        let rows = rows.map(|(name, role)| (name.to_owned(), u64::from(own == Some(role))));
        out.gauges("role", "1 for this node's part in group default", "role", rows.into_iter())
    }

    fn encode_clients(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let (now, accepted, refused) = self.connections;
        out.gauge("connections", "Clients' connections", now)?;
        out.counter("connections_accepted", "Clients' connections taken", accepted)?;
        out.counter(
            "connections_refused",
            "Clients' connections refused because there were too many",
            refused,
        )?;
        out.counter(
            "protocol_errors",
            "Connections closed because they broke the protocol",
            self.figures.protocol_errors,
        )?;
        out.gauge("in_flight_bytes", "Bytes of clients' commands under way", self.in_flight_bytes)?;
        let commands = self.figures.commands.iter().enumerate().filter(|(_, count)| **count > 0);
        let commands = commands.filter_map(|(id, count)| {
            let spec = table::by_id(CommandId(u16::try_from(id).ok()?))?;
            Some((spec.name.to_owned(), *count))
        });
        out.counters("commands", "Commands taken, by name", "command", commands)?;
        let classes = ERRORS.iter().copied().chain(["other"]).zip(self.figures.errors);
        let classes = classes.map(|(class, count)| (class.to_owned(), count));
        out.counters("errors", "Error replies, by class", "code", classes)?;
        out.histogram(
            "command_seconds",
            "From a partition's command read to its reply",
            &self.latency_us,
            1e-6,
        )?;
        out.histogram("batch_inputs", "Inputs per batch", &self.figures.batch_inputs, 1.0)
    }

    fn encode_log(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        out.gauge("log_durable_lsn", "Log sequence number up to which the log is on disk", self.durable_lsn)?;
        out.gauge("log_bytes", "Bytes of log segments that hold records", self.log.bytes)?;
        out.histogram("log_batch_bytes", "Bytes per write to the log", &self.log.batch_bytes, 1.0)?;
        out.histogram("log_sync_seconds", "Write and sync of a frame of the log", &self.log.sync_us, 1e-6)
    }

    fn encode_links(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let l = &self.links;
        for (name, help, value) in [
            ("peer_messages_sent", "Messages sent to peers", l.messages_out),
            ("peer_sent_bytes", "Bytes sent to peers", l.bytes_out),
            ("peer_messages_received", "Messages from peers", l.messages_in),
            ("peer_received_bytes", "Bytes from peers", l.bytes_in),
            ("peer_connects", "Connections made to peers", l.connects),
            ("peer_disconnects", "Connections to peers that broke", l.disconnects),
        ] {
            out.counter(name, help, value)?;
        }
        let dropped = [
            ("unconnected", l.dropped_unconnected),
            ("queue-full", l.dropped_full),
            ("too-long", l.dropped_long),
        ];
        let dropped = dropped.map(|(reason, count)| (reason.to_owned(), count));
        out.counters(
            "peer_messages_dropped",
            "Messages to peers not sent, by reason",
            "reason",
            dropped.into_iter(),
        )?;
        let cuts = Cut::ALL.iter().zip(l.cuts).map(|(cut, count)| (cut.name().to_owned(), count));
        out.counters("peer_cuts", "Peers and strangers cut off, by reason", "reason", cuts)
    }
}

impl Collector for Report {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut Out { encoder: &mut encoder };
        self.encode_node(out)?;
        self.encode_groups(out)?;
        self.encode_clients(out)?;
        self.encode_log(out)?;
        self.encode_links(out)
    }
}

struct Out<'a, 'e> {
    encoder: &'a mut DescriptorEncoder<'e>,
}

impl Out<'_, '_> {
    fn metric(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        write: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        write(self.encoder.encode_descriptor(name, help, None, kind)?)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, help, MetricType::Counter, |encoder| ConstCounter::new(value).encode(encoder))
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.metric(name, help, MetricType::Gauge, |encoder| ConstGauge::new(value).encode(encoder))
    }

    fn seconds(&mut self, name: &str, help: &str, ms: i64) -> fmt::Result {
        let value = ms as f64 / 1e3;
        self.metric(name, help, MetricType::Gauge, |encoder| ConstGauge::new(value).encode(encoder))
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        mut rows: impl Iterator<Item = (String, u64)>,
    ) -> fmt::Result {
        self.metric(name, help, MetricType::Counter, |mut encoder| {
            rows.try_for_each(|(value, count)| {
                ConstCounter::new(count).encode(encoder.encode_family(&[(label, value.as_str())])?)
            })
        })
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        mut rows: impl Iterator<Item = (String, u64)>,
    ) -> fmt::Result {
        self.metric(name, help, MetricType::Gauge, |mut encoder| {
            rows.try_for_each(|(value, number)| {
                let number = i64::try_from(number).unwrap_or(i64::MAX);
                ConstGauge::new(number).encode(encoder.encode_family(&[(label, value.as_str())])?)
            })
        })
    }

    fn histogram(&mut self, name: &str, help: &str, values: &Log2, unit: f64) -> fmt::Result {
        let (sum, count, buckets) = values.buckets(unit);
        self.metric(name, help, MetricType::Histogram, |mut encoder| {
            encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        })
    }
}
