//! Guards the catalog: written once, equal on all nodes, whatever leaders come and go.

use super::cluster::{Cluster, Fate};
use crate::node::CATALOG_AT;
use crate::replica::Machine;
use crate::{CATALOG, Catalog, CatalogCommand, Keyspace, Reads};

fn catalog(cluster: &Cluster, id: u64) -> &Catalog {
    match &cluster.nodes[&id].replicas[CATALOG_AT].machine {
        Machine::Catalog(catalog) => catalog,
        Machine::Data(_) => panic!("the catalog has the first place"),
    }
}

#[test]
fn it_is_founded_once_and_equal_on_all() {
    let mut cluster = Cluster::new(3, Reads::ReadIndex);
    cluster.until(|cluster| (1..=3).all(|id| catalog(cluster, id).is_founded()));
    for id in 1..=3 {
        assert_eq!(catalog(&cluster, id), catalog(&cluster, 1));
        assert_eq!(catalog(&cluster, id).nodes(), super::cluster::members(3));
        assert_eq!(catalog(&cluster, id).keyspaces()[0].reads, "read-index");
    }
    let founded_at = catalog(&cluster, 1).applied_index();
    let leader = cluster.nodes.keys().copied().find(|id| cluster.nodes[id].replicas[CATALOG_AT].leads());
    let leader = leader.expect("someone leads the catalog");
    cluster.network(
        move |packet| {
            if packet.from == leader || packet.to == leader { Fate::Lost } else { Fate::Arrives }
        },
    );
    cluster.advance(3_000);
    cluster.network_heals();
    cluster.advance(3_000);
    cluster.until(|cluster| (2..=3).all(|id| catalog(cluster, id) == catalog(cluster, 1)));
    let entries = cluster.nodes[&1].raft(CATALOG).expect("it has the group").tail().len() as u64;
    assert!(catalog(&cluster, 1).applied_index() > founded_at, "the next leader's first entry");
    assert_eq!(
        entries,
        catalog(&cluster, 1).applied_index(),
        "no entry but foundation and leaders' first ones"
    );
}

/// Two leaders in a row propose the foundation: the first counts.
#[test]
fn a_second_foundation_changes_nothing() {
    let found = |name: &str| CatalogCommand::Found {
        cluster: String::from(name),
        nodes: super::cluster::members(3),
        keyspaces: Vec::new(),
    };
    let mut catalog = Catalog::default();
    catalog.apply(1, None);
    catalog.apply(2, Some(found("first")));
    let before = catalog.clone();
    catalog.apply(3, Some(found("second")));
    assert_eq!(catalog.keyspaces(), before.keyspaces());
    assert_eq!(catalog.applied_index(), 3);
    assert_eq!(Catalog::from_chunk(&catalog.to_chunk()).expect("its own chunk"), catalog);
}

#[test]
fn its_commands_survive_the_wire() {
    let keyspace = Keyspace {
        name: String::from("default"),
        replication: String::from("raft"),
        partitions: 1,
        reads: String::from("lease"),
    };
    let command = CatalogCommand::Found {
        cluster: String::from("c"),
        nodes: super::cluster::members(2),
        keyspaces: vec![keyspace],
    };
    let bytes = command.encode();
    assert_eq!(CatalogCommand::decode(&bytes).expect("its own bytes"), command);
    for length in 0..bytes.len() {
        assert!(CatalogCommand::decode(&bytes[..length]).is_err());
        assert!(Catalog::from_chunk(&bytes[..length]).is_err());
    }
}
