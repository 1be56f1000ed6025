//! Guards recovery: what makes no sense is a typed error, and nothing starts on it.

use bytes::Bytes;
use keypact_protocol::{GroupId, Lsn, NodeId};

use super::cluster::{Cluster, members};
use crate::{CATALOG, DEFAULT, NodeConfig, NodeRecovery, Reads, StartError};

fn begin() -> NodeRecovery {
    NodeRecovery::begin(NodeConfig::new(NodeId(1), members(1)), 1).expect("the defaults fit together")
}

type Records = Vec<(GroupId, Bytes)>;
type Checkpoints = Vec<(GroupId, Bytes, Bytes)>;

/// A folder with checkpoints of both groups and a log.
fn folder() -> (Records, Checkpoints) {
    let mut cluster = Cluster::new(1, Reads::Lease);
    assert_eq!(cluster.run(1, 1, "SET a 1"), "+OK");
    for group in [CATALOG, DEFAULT] {
        cluster.input(1, crate::NodeInput::LogLong(group));
    }
    cluster.settle();
    let world = &cluster.worlds[&1];
    let checkpoints =
        world.checkpoints.iter().map(|(g, (meta, chunks))| (*g, meta.clone(), chunks[0].clone()));
    (world.log.clone(), checkpoints.collect())
}

#[test]
fn an_empty_folder_makes_a_node() {
    assert_eq!(begin().finish(Lsn::ZERO).expect("nothing to contradict").id(), NodeId(1));
}

#[test]
fn bad_checkpoints_are_refused() {
    let (_, checkpoints) = folder();
    let unknown = GroupId(99);
    let is_about =
        |error: StartError, of: GroupId| matches!(error, StartError::Checkpoint { group, .. } if group == of);
    assert!(is_about(begin().checkpoint(unknown, Bytes::new()).expect_err("unknown"), unknown));
    assert!(is_about(begin().checkpoint_chunk(unknown, Bytes::new()).expect_err("unknown"), unknown));
    assert!(is_about(begin().checkpoint_end(unknown).expect_err("unknown"), unknown));
    for (group, meta, chunk) in checkpoints {
        let begun = || {
            let mut recovery = begin();
            recovery.checkpoint(group, meta.clone()).expect("its own meta");
            recovery
        };
        assert!(is_about(begun().checkpoint(group, meta.clone()).expect_err("twice"), group));
        assert!(is_about(begun().checkpoint_end(group).expect_err("empty"), group));
        assert!(is_about(begun().finish(Lsn::ZERO).expect_err("not ended"), group));
        assert!(is_about(begin().checkpoint_chunk(group, chunk.clone()).expect_err("no checkpoint"), group));
        let nonsense = Bytes::from_static(b"\xff\xff\xffnonsense");
        assert!(is_about(begun().checkpoint_chunk(group, nonsense.clone()).expect_err("nonsense"), group));
        let mut recovery = begin();
        recovery.checkpoint(group, nonsense).expect("it is read later");
        recovery.checkpoint_chunk(group, chunk.clone()).expect("its own chunk");
        recovery.checkpoint_end(group).expect("complete");
        assert!(matches!(recovery.finish(Lsn::ZERO), Err(StartError::Recovery(_))));
    }
}

#[test]
fn bad_records_are_refused_with_their_place() {
    let (log, _) = folder();
    let lsn = Lsn(7);
    let error = begin().replay(lsn, DEFAULT, Bytes::from_static(b"nonsense")).expect_err("nonsense");
    assert!(matches!(error, StartError::Record { lsn: at, .. } if at == lsn), "{error:?}");
    let error = begin().replay(lsn, GroupId(99), log[0].1.clone()).expect_err("unknown group");
    assert!(matches!(error, StartError::Record { lsn: at, .. } if at == lsn), "{error:?}");
    assert!(error.to_string().contains("l7"), "{error}");
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let mut config = NodeConfig::new(NodeId(1), members(1));
    config.session_limit = 0;
    let error = NodeRecovery::begin(config, 1).expect_err("no session could ask anything");
    assert!(matches!(error, StartError::Config(_)));
    assert!(error.to_string().contains("session_limit"));
}
