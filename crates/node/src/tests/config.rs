//! Guards the settings: what can't work is named before anything starts.

use keypact_protocol::{Incarnation, NodeId};

use super::cluster::members;
use crate::{NodeConfig, Reads};

fn valid() -> NodeConfig {
    NodeConfig::new(NodeId(1), members(3))
}

#[test]
fn the_defaults_fit_together() {
    assert_eq!(valid().validate(), Ok(()));
    assert_eq!(NodeConfig::new(NodeId(1), members(7)).validate(), Ok(()));
}

#[test]
fn what_does_not_fit_is_named() {
    type Spoil = fn(&mut NodeConfig);
    let table: [(&str, Spoil); 21] = [
        ("itself", |c| c.id = NodeId(4)),
        ("itself", |c| c.members.clear()),
        ("id of its own", |c| c.members.push(c.members[1].clone())),
        ("at most 7", |c| c.members = members(8)),
        ("from 1", |c| c.members[1].id = 0),
        ("incarnation", |c| c.incarnation = Incarnation(9)),
        ("heartbeat_ms", |c| c.heartbeat_ms = 0),
        ("election_timeout_ms", |c| c.election_timeout_ms = 149),
        ("election_jitter_ms", |c| c.election_jitter_ms = 0),
        ("drift_bound_ppm", |c| c.drift_bound_ppm = 500_000),
        ("disk_hang_ms", |c| c.disk_hang_ms = 0),
        ("hold_ms", |c| c.hold_ms = 0),
        ("forward_timeout_ms", |c| c.forward_timeout_ms = 0),
        ("an hour", |c| c.hold_ms = u64::MAX),
        ("an hour", |c| c.election_timeout_ms = u64::MAX),
        ("session_limit", |c| c.session_limit = 0),
        ("keys_at_once", |c| c.keys_at_once = 0),
        ("value_limit_bytes", |c| c.value_limit_bytes = 0),
        ("value_limit_bytes", |c| c.value_limit_bytes = usize::MAX),
        ("checkpoint_after_bytes", |c| c.checkpoint_after_bytes = 0),
        ("tail", |c| c.checkpoint_after_bytes = c.tail_limit_bytes - 1),
    ];
    for (at, (word, spoil)) in table.into_iter().enumerate() {
        let mut config = valid();
        spoil(&mut config);
        let error = config.validate().expect_err(word);
        assert!(error.to_string().contains(word), "row {at}: {error}");
    }
}

#[test]
fn levels_of_reads_have_names() {
    for reads in [Reads::Lease, Reads::ReadIndex, Reads::Stale] {
        assert_eq!(Reads::from_name(reads.name()), Some(reads));
    }
    assert_eq!(Reads::from_name("strong"), None);
}
