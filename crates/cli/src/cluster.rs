//! The folders of a cluster's nodes: made once, then only opened.
//!
//! ```text
//! DIR/node-1/keypact.toml   configuration, for people
//! DIR/node-1/node.log       what the process says (written by `up`)
//! DIR/node-1/data/          identity, log, checkpoints: the server's
//! DIR/lives                 which lives of which nodes' folders were made here, so that none comes twice
//! DIR/removed-node-1-life-1 what is left of a node that was removed
//! DIR/lost-node-1-life-1    what was left of a folder that lost its identity
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use keypact_node::{Member, Reads};
use keypact_server::Identity;

use crate::config::Template;
use crate::failure::Failure;

#[cfg(test)]
mod tests;

/// Where folders are made before they get their names, so that a cluster is formed as a whole or not at all.
const FORMING: &str = "forming";
const CONFIG: &str = "keypact.toml";
/// Lines `node life`, one for each folder that was made here; written before the folder is.
const LIVES: &str = "lives";

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
        self.folder.join(CONFIG)
    }

    /// Whether its identity is gone, and with it all that its folder was worth. What can't be looked at now is not gone.
    pub(crate) fn is_lost(&self) -> bool {
        is_lost(&self.folder)
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
    note_lives(folder, plan.members)?;
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
    write_private(&place.config(), &template.text())
}

/// A folder that only its owner can look into: a node's identity holds the cluster's secret.
fn private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// What a cluster's folder holds.
pub(crate) struct Found {
    /// The nodes whose folders are there, by id.
    pub(crate) places: Vec<Place>,
    /// Founders whose folders are missing, and that were not removed, under the last life of which a folder was made here.
    pub(crate) missing: Vec<Place>,
}

/// The cluster in this folder.
///
/// # Errors
/// The folder holds something else; a node in it is running, damaged or of another format; of a missing one the lives are not known.
pub(crate) fn open(folder: &Path) -> Result<Found, Failure> {
    assert!(!REMOVED.starts_with("node-"), "what was removed is not taken for a node");
    let shown = folder.display();
    if folder.join(FORMING).exists() {
        return Err(Failure::cannot(format!(
            "{shown} was left half formed when `keypact` was interrupted; no node ever ran in it: delete it and start again"
        )));
    }
    let mut places = Vec::new();
    let mut founders: Vec<Member> = Vec::new();
    for folder in node_folders(folder)?.into_iter().filter(|folder| !is_lost(folder)) {
        let found = identity(&folder)?;
        let member = found.me().clone();
        if folder.file_name() != Some(folder_name(member.id).as_ref()) {
            return Err(Failure::cannot(format!(
                "{} holds node {}: put the folders back in their places",
                folder.display(),
                member.id
            )));
        }
        if !found.joins {
            founders.extend(found.members);
        }
        places.push(Place { member, folder });
    }
    if places.is_empty() && folder.join(LIVES).exists() {
        return Err(Failure::cannot(format!(
            "{shown} held a cluster, and no node's folder is left in it: put the folders back as their nodes left them, or delete {shown} to begin anew without its data"
        )));
    }
    if places.is_empty() {
        return Err(Failure::cannot(format!(
            "{shown} is not empty, and not made by `keypact up`: choose another folder with --dir"
        )));
    }
    places.sort_by_key(|place| place.member.id);
    founders.sort_by_key(|founder| founder.id);
    founders.dedup_by_key(|founder| founder.id);
    let here = |founder: &Member| places.iter().any(|place| place.member.id == founder.id);
    let lost = founders.into_iter().filter(|founder| !here(founder) && !was_removed(folder, founder.id));
    let missing = lost.map(|founder| missing_place(folder, founder)).collect::<Result<_, _>>()?;
    Ok(Found { places, missing })
}

/// The place of a founder whose folder is missing. Under which lives it was there must be known: a life that comes twice forgets its votes.
fn missing_place(cluster: &Path, founder: Member) -> Result<Place, Failure> {
    let folder = cluster.join(folder_name(founder.id));
    match last_life(cluster, founder.id)? {
        Some(incarnation) if incarnation >= founder.incarnation => {
            Ok(Place { member: Member { incarnation, ..founder }, folder })
        }
        _ => Err(Failure::cannot(format!(
            "{} is missing, and {} does not tell its lives. Put back the folder as its node left it, never an older copy: that has forgotten \
             votes and writes it confirmed. If it is lost, start the other nodes (keypact serve --config node-N/keypact.toml), then: \
             keypact node remove {}",
            folder.display(),
            cluster.join(LIVES).display(),
            founder.id
        ))),
    }
}

/// Writes down that these lives are used. Durable when it returns.
fn note_lives(cluster: &Path, members: &[Member]) -> Result<(), Failure> {
    let path = cluster.join(LIVES);
    let mut lines: String =
        members.iter().map(|member| format!("{} {}\n", member.id, member.incarnation)).collect();
    if fs::read(&path).is_ok_and(|before| before.last().is_some_and(|byte| *byte != b'\n')) {
        // What was torn must not make this one unreadable, too.
        lines.insert(0, '\n');
    }
    let opened = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    let written = opened.and_then(|mut file| {
        io::Write::write_all(&mut file, lines.as_bytes())?;
        file.sync_all()?;
        fs::File::open(cluster)?.sync_all()
    });
    written.map_err(|error| Failure::cannot(format!("cannot write {}: {error}", path.display())))
}

/// The last life of a node of which a folder was made here, if that is known.
fn last_life(cluster: &Path, id: u64) -> Result<Option<u64>, Failure> {
    let path = cluster.join(LIVES);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::cannot(format!("cannot read {}: {error}", path.display()))),
    };
    let mut last = None;
    for line in text.lines() {
        let numbers =
            line.split_once(' ').and_then(|(node, life)| Some((node.parse().ok()?, life.parse().ok()?)));
        // The folder of a line that was torn was never made.
        let Some((node, life)): Option<(u64, u64)> = numbers else { continue };
        if node == id {
            last = last.max(Some(life));
        }
    }
    Ok(last)
}

fn is_lost(folder: &Path) -> bool {
    matches!(folder.join("data").join("identity").try_exists(), Ok(false))
}

/// `node-N`.
fn folder_name(id: u64) -> String {
    format!("node-{id}")
}

/// The folders of nodes in a cluster's folder that have data.
pub(crate) fn node_folders(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed =
        |error: io::Error| Failure::cannot(format!("cannot read the folder {}: {error}", folder.display()));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name.strip_prefix("node-").and_then(|number| number.parse::<u64>().ok());
        if number.is_some() && path.join("data").is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Where a removed node's folder goes, so that nobody starts it again.
pub(crate) fn removed_folder(place: &Place) -> PathBuf {
    aside(place, REMOVED)
}

/// A name of this kind that nothing has yet.
fn aside(place: &Place, kind: &str) -> PathBuf {
    let Member { id, incarnation, .. } = &place.member;
    let name = format!("{kind}{id}-life-{incarnation}");
    let numbered = (2_u64..).map(|number| place.folder.with_file_name(format!("{name}-{number}")));
    let mut names = std::iter::once(place.folder.with_file_name(&name)).chain(numbered);
    names.find(|path| !path.exists()).expect("a folder has fewer entries than there are numbers")
}

/// What is left of a folder that lost its identity is worth nothing to the node; it is kept beside, for who wants to look.
pub(crate) fn put_remains_aside(place: &Place) -> Result<(), Failure> {
    let data = place.folder.join("data");
    if !data.exists() {
        return Ok(());
    }
    fs::rename(&data, aside(place, LOST))
        .map_err(|error| Failure::cannot(format!("cannot put {} aside: {error}", data.display())))
}

fn was_removed(folder: &Path, id: u64) -> bool {
    let prefix = format!("{REMOVED}{id}-life-");
    let mut entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
}

const REMOVED: &str = "removed-node-";
const LOST: &str = "lost-node-";

/// Makes the folder of a node that joins, or comes back with an empty one: under a temporary name first, which [`Furnished::settle`] changes.
///
/// `model` is another node's place in the same cluster: its identity has the secret, its configuration file the settings.
///
/// # Errors
/// The model can't be read, or the folder can't be written.
pub(crate) fn furnish(model: &Path, member: &Member, contacts: &[Member]) -> Result<Furnished, Failure> {
    let failed =
        |path: &Path, error: io::Error| Failure::cannot(format!("cannot write {}: {error}", path.display()));
    let known = keypact_server::peek_identity(&model.join("data")).map_err(Failure::cannot)?;
    let known = known.ok_or_else(|| Failure::cannot(format!("{} holds no node", model.display())))?;
    let text = fs::read_to_string(model.join(CONFIG))
        .map_err(|error| Failure::cannot(format!("cannot read {}: {error}", model.join(CONFIG).display())))?;
    let folder = model.with_file_name(folder_name(member.id));
    let making = model.with_file_name(format!("making-{}", folder_name(member.id)));
    if making.exists() {
        // Left by a command that was interrupted: no node ever ran in it.
        fs::remove_dir_all(&making).map_err(|error| failed(&making, error))?;
    }
    private_folder(&making.join("data")).map_err(|error| failed(&making, error))?;
    note_lives(model.parent().unwrap_or(Path::new(".")), std::slice::from_ref(member))?;
    keypact_server::init(&making.join("data"), &known.of_joining(member, contacts))
        .map_err(Failure::cannot)?;
    write_private(&making.join(CONFIG), &config_for(&text, member)?)?;
    Ok(Furnished { place: Place { member: member.clone(), folder }, making })
}

/// A folder that is ready, and not yet in its place.
pub(crate) struct Furnished {
    place: Place,
    making: PathBuf,
}

impl Furnished {
    /// Puts it in its place. Of a node that lost its data the configuration file stays, if it is there.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn settle(self) -> Result<Place, Failure> {
        let Furnished { place, making } = self;
        let settled = match place.folder.is_dir() {
            false => fs::rename(&making, &place.folder),
            true => settle_into(&making, &place),
        };
        let parent = place.folder.parent().unwrap_or(Path::new("."));
        settled.and_then(|()| fs::File::open(parent)?.sync_all()).map_err(|error| {
            Failure::cannot(format!("cannot put {} in its place: {error}", place.folder.display()))
        })?;
        assert!(place.config().is_file(), "a node's place has its configuration");
        Ok(place)
    }

    /// It is not wanted after all.
    pub(crate) fn discard(self) {
        // What is left is taken away by the next attempt.
        let _ = fs::remove_dir_all(&self.making);
    }
}

/// What is left of the node's folder stays, but for its data.
fn settle_into(making: &Path, place: &Place) -> io::Result<()> {
    let data = place.folder.join("data");
    if !place.config().is_file() {
        fs::rename(making.join(CONFIG), place.config())?;
    }
    fs::rename(making.join("data"), &data)?;
    fs::remove_dir_all(making)
}

/// Another node's configuration, for this member.
fn config_for(text: &str, member: &Member) -> Result<String, Failure> {
    let quoted = |text: &String| toml::Value::from(text.as_str()).to_string();
    let values = [
        ("id", member.id.to_string()),
        ("resp", quoted(&member.resp)),
        ("peer", quoted(&member.peer)),
        ("http", quoted(&member.http)),
    ];
    let mut found = [false; 4];
    let lines = text.lines().map(|line| {
        let key = line.split_once('=').map(|(key, _)| key.trim());
        match values.iter().position(|(name, _)| key == Some(name)) {
            Some(at) => {
                found[at] = true;
                format!("{} = {}\n", values[at].0, values[at].1)
            }
            None if line.starts_with("# Node ") => {
                let rest =
                    line.trim_start_matches("# Node ").trim_start_matches(|c: char| c.is_ascii_digit());
                format!("# Node {}{rest}\n", member.id)
            }
            None => format!("{line}\n"),
        }
    });
    let written: String = lines.collect();
    match found.iter().position(|found| !found) {
        None => Ok(written),
        Some(at) => Err(Failure::cannot(format!(
            "the configuration to go by has no line `{} = ...`: add it, or make the node's folder by hand",
            values[at].0
        ))),
    }
}

/// A file that only its owner can read: it may hold a password.
fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| {
        io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| Failure::cannot(format!("cannot write {}: {error}", path.display())))
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
