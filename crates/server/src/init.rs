//! Who a node is: written once into its folder, by [`init`].
//!
//! Invariant: a folder without identity never forms or joins a cluster.

use std::path::Path;

use keypact_node::Member;
use keypact_storage::{FileDisk, Folder};
use serde::{Deserialize, Serialize};

use crate::ServeError;
use crate::random;

/// Who a node is, and which cluster it belongs to. Whoever reads it can join the cluster: it holds the secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster's id: random, made once.
    pub cluster_id: [u8; 16],
    /// The cluster's name, for people.
    pub cluster: String,
    /// This node's id, from 1.
    pub node: u64,
    /// Which life of the folder.
    pub incarnation: u64,
    /// Key of the hash by which keys are put into buckets.
    pub hash_key: [u8; 16],
    /// What peers prove to each other that they know.
    pub secret: [u8; 32],
    /// All first members, this node among them; of a node that joins later: itself and those whom it asks to be let in.
    pub members: Vec<Member>,
    /// Whether it was not there when the cluster was formed: it has no vote before the cluster has let it in.
    #[serde(skip)]
    pub joins: bool,
}

/// What follows the identity of a node that joins. A program that does not know of such must not take it for a founder's.
const JOINS: u8 = 1;

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .field("incarnation", &self.incarnation)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// The identities of a new cluster's nodes, one per member, with new random id, hash key and secret.
    #[must_use]
    pub fn of_new_cluster(name: &str, members: &[Member]) -> Vec<Identity> {
        let first = Identity {
            cluster_id: random::bytes(),
            cluster: name.to_owned(),
            node: 0,
            incarnation: 0,
            hash_key: random::bytes(),
            secret: random::bytes(),
            members: members.to_vec(),
            joins: false,
        };
        members.iter().map(|m| Identity { node: m.id, incarnation: m.incarnation, ..first.clone() }).collect()
    }

    /// The identity of a node that joins this one's cluster, and asks `contacts` to be let in.
    #[must_use]
    pub fn of_joining(&self, member: &Member, contacts: &[Member]) -> Identity {
        let others = contacts.iter().filter(|contact| contact.id != member.id);
        let members: Vec<Member> = others.chain([member]).cloned().collect();
        Identity { node: member.id, incarnation: member.incarnation, members, joins: true, ..self.clone() }
    }

    /// This node among the members.
    ///
    /// # Panics
    /// If it is not there, which is checked when an identity is read.
    #[must_use]
    pub fn me(&self) -> &Member {
        self.members.iter().find(|m| m.id == self.node).expect("checked when the identity was read")
    }

    fn decode(bytes: &[u8]) -> Result<Identity, String> {
        let (identity, rest) = postcard::take_from_bytes::<Identity>(bytes)
            .map_err(|e| format!("it is not one of ours: {e}"))?;
        let joins = match rest {
            [] => false,
            [JOINS] => true,
            _ => return Err(format!("{} bytes follow it", rest.len())),
        };
        let identity = Identity { joins, ..identity };
        let me = identity.members.iter().filter(|m| m.id == identity.node).count();
        if me != 1 {
            return Err(format!("node {} is {me} times among the members", identity.node));
        }
        Ok(identity)
    }
}

/// Makes a folder a node's. Durable when it returns.
///
/// # Errors
/// [`ServeError::Storage`] if the folder has an identity already, is in use, or can't be written.
pub fn init(folder: &Path, identity: &Identity) -> Result<(), ServeError> {
    let disk = FileDisk::open(folder)?;
    let mut opened = Folder::open(disk)?;
    let mut bytes = postcard::to_allocvec(identity).map_err(|e| ServeError::Identity {
        folder: folder.display().to_string(),
        what: format!("it can't be written: {e}"),
    })?;
    bytes.extend(identity.joins.then_some(JOINS));
    opened.write_identity(&bytes)?;
    Ok(())
}

/// Who the node in a folder is; `None` if [`init`] was never run there. Fails while a node is running on it.
///
/// # Errors
/// As [`crate::run`] for this folder.
pub fn identity_of(folder: &Path) -> Result<Option<Identity>, ServeError> {
    if !folder.exists() {
        return Ok(None);
    }
    let opened = Folder::open(FileDisk::open(folder)?)?;
    read_identity(&opened, folder)
}

/// Who the node in a folder is, while it may be running there; `None` if there is no folder, or [`init`] was never run there.
///
/// # Errors
/// [`ServeError`] if it can't be read, or makes no sense.
pub fn peek_identity(folder: &Path) -> Result<Option<Identity>, ServeError> {
    let Some(bytes) = keypact_storage::peek_identity(folder)? else { return Ok(None) };
    Identity::decode(&bytes)
        .map(Some)
        .map_err(|what| ServeError::Identity { folder: folder.display().to_string(), what })
}

/// The identity in a folder that is open already.
pub(crate) fn read_identity(
    opened: &Folder<FileDisk>,
    folder: &Path,
) -> Result<Option<Identity>, ServeError> {
    let Some(bytes) = opened.identity() else { return Ok(None) };
    Identity::decode(&bytes)
        .map(Some)
        .map_err(|what| ServeError::Identity { folder: folder.display().to_string(), what })
}
