//! The folders of a cluster's nodes: made once, then only opened.
//!
//! ```text
//! DIR/node-1/keypact.toml   configuration, for people
//! DIR/node-1/node.log       what the process says (written by `up`)
//! DIR/node-1/data/          identity, log, checkpoints: the server's
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use keypact_node::{Member, Reads};
use keypact_server::Identity;

use crate::config::Template;
use crate::failure::Failure;

/// Where folders are made before they get their names, so that a cluster is formed as a whole or not at all.
const FORMING: &str = "forming";

/// One node's place.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Who it is and where it listens.
    pub(crate) member: Member,
    /// `DIR/node-N`.
    pub(crate) folder: PathBuf,
}

impl Place {
    /// Its configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join("keypact.toml")
    }

    /// What its process says.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("node.log")
    }
}

/// What a new cluster is to be.
pub(crate) struct Plan<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Its members.
    pub(crate) members: &'a [Member],
    /// How it answers reads.
    pub(crate) reads: Reads,
    /// What clients must say; `None`: nothing.
    pub(crate) password: Option<&'a str>,
}

/// Whether nothing is in this folder, or no folder is there.
pub(crate) fn is_empty(folder: &Path) -> Result<bool, Failure> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Failure::cannot(format!("cannot read the folder {}: {error}", folder.display()))),
    }
}

/// Writes a new cluster's folders, one a node, with configuration and identity.
///
/// # Errors
/// The folder is not empty, or can't be written.
pub(crate) fn form(folder: &Path, plan: &Plan<'_>) -> Result<Vec<Place>, Failure> {
    if !is_empty(folder)? {
        return Err(Failure::cannot(format!("{} is not empty: choose another folder", folder.display())));
    }
    let failed =
        |path: &Path, error: io::Error| Failure::cannot(format!("cannot write {}: {error}", path.display()));
    let forming = folder.join(FORMING);
    private_folder(&forming).map_err(|error| failed(&forming, error))?;
    let mut places = Vec::with_capacity(plan.members.len());
    for identity in Identity::of_new_cluster(plan.name, plan.members) {
        let member = plan.members.iter().find(|member| member.id == identity.node);
        let member = member.expect("there is one identity per member").clone();
        let name = format!("node-{}", member.id);
        let early = Place { folder: forming.join(&name), member: member.clone() };
        write_node(&early, &identity, plan)?;
        places.push(Place { folder: folder.join(&name), member });
    }
    for place in &places {
        let name = place.folder.file_name().expect("node-N");
        fs::rename(forming.join(name), &place.folder).map_err(|error| failed(&place.folder, error))?;
    }
    let synced = fs::File::open(folder).and_then(|file| file.sync_all());
    synced.and_then(|()| fs::remove_dir(&forming)).map_err(|error| failed(folder, error))?;
    assert_eq!(places.len(), plan.members.len(), "a folder for each member");
    Ok(places)
}

fn write_node(place: &Place, identity: &Identity, plan: &Plan<'_>) -> Result<(), Failure> {
    let failed =
        |path: &Path, error: io::Error| Failure::cannot(format!("cannot write {}: {error}", path.display()));
    let data = place.folder.join("data");
    private_folder(&data).map_err(|error| failed(&data, error))?;
    keypact_server::init(&data, identity).map_err(Failure::cannot)?;
    let Member { id, resp, peer, http, .. } = &place.member;
    let template = Template {
        id: *id,
        cluster: plan.name,
        addresses: [resp, peer, http],
        reads: plan.reads,
        password: plan.password,
    };
    let config = place.config();
    // It may hold a password, so nobody else reads it.
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&config);
    let written = opened.and_then(|mut file| {
        io::Write::write_all(&mut file, template.text().as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| failed(&config, error))
}

/// A folder that only its owner can look into: a node's identity holds the cluster's secret.
fn private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The cluster in this folder.
///
/// # Errors
/// The folder holds something else, or not all of the cluster; a node in it is running, damaged or of another format.
pub(crate) fn open(folder: &Path) -> Result<Vec<Place>, Failure> {
    let shown = folder.display();
    if folder.join(FORMING).exists() {
        return Err(Failure::cannot(format!(
            "{shown} was left half formed when `keypact` was interrupted; no node ever ran in it: delete it and start again"
        )));
    }
    let first = folder.join("node-1");
    if !first.join("data").is_dir() {
        return Err(Failure::cannot(format!(
            "{shown} is not empty, and not made by `keypact up`: choose another folder with --dir"
        )));
    }
    let members = identity(&first)?.members;
    let mut places = Vec::with_capacity(members.len());
    for member in members {
        let place = Place { folder: folder.join(format!("node-{}", member.id)), member };
        if !place.folder.join("data").is_dir() {
            return Err(Failure::cannot(format!(
                "{} is missing: restore it, or delete {shown} to begin anew without its data",
                place.folder.display()
            )));
        }
        let found = identity(&place.folder)?;
        if found.node != place.member.id {
            return Err(Failure::cannot(format!(
                "{} holds node {}, not node {}: put the folders back in their places",
                place.folder.display(),
                found.node,
                place.member.id
            )));
        }
        places.push(place);
    }
    Ok(places)
}

fn identity(folder: &Path) -> Result<Identity, Failure> {
    let data = folder.join("data");
    let found = keypact_server::identity_of(&data).map_err(Failure::cannot)?;
    found.ok_or_else(|| {
        Failure::cannot(format!(
            "{} holds no node's identity: choose another folder with --dir",
            data.display()
        ))
    })
}
