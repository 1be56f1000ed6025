//! `keypact node`: who belongs to a running cluster, and how that changes.

use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use keypact_client::Value;
use keypact_node::Member;

use crate::cluster::{self, Furnished};
use crate::config::PASSWORD_VARIABLE;
use crate::failure::Failure;
use crate::output::{note, say, say_json};
use crate::ports;
use crate::probe::Asking;
use view::{GROUPS, Standing, View};

#[cfg(test)]
mod tests;
mod view;

const AFTER: &str = "\
Examples:
  keypact node list
  keypact node add --dir keypact-data        makes DIR/node-4; `keypact up` starts it by itself
  keypact node transfer 2                    node 2 shall lead
  keypact node remove 4                      `keypact up` stops it and puts its folder aside

A node that comes gets everything as a learner first, and votes once it has caught up; `add` shows how far it is.
Exit codes: 0 done; 1 refused (quorum would be lost, a member already, no member, not caught up), nothing has changed;
2 it could not be done, takes longer than --patience, or whether it was done is not known: `keypact node list` shows how it stands.";

const ADD_AFTER: &str = "\
Examples:
  keypact node add                           in ./keypact-data, on the next free port
  keypact node add --dir cluster --at db4:7001
  keypact node add --id 3                    node 3 again, after it was removed

The folder gets the cluster's secret and settings from the other nodes' folders in DIR. With `keypact up` the node starts by itself. On \
another host: copy DIR/node-N there and run `keypact serve --config node-N/keypact.toml`.";

const REMOVE_AFTER: &str = "\
Examples:
  keypact node remove 3
  keypact node remove 2 --port 7601 --json

The node may be down. The nodes that stay must have a majority alive among them. This life of its folder is over for good: the node \
can come back only with `keypact node add --id N`.";

const TRANSFER_AFTER: &str = "\
Examples:
  keypact node transfer 2
  keypact node transfer 1 --json

Both groups, the catalog and `default`, are handed over. Writes wait for a moment meanwhile, and none is lost.";

const LIST_AFTER: &str = "\
Examples:
  keypact node list
  keypact node list --port 7601 --json";

/// How long a node may take to answer.
const ANSWER_PATIENCE: Duration = Duration::from_millis(700);
/// Between two looks at how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Show, add and remove nodes of a running cluster, and hand leadership over
#[derive(Args)]
#[command(after_help = AFTER)]
pub(crate) struct Node {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show all nodes with their seats in each group
    #[command(after_help = LIST_AFTER)]
    List(Target),
    /// Make a folder for a new node and let it in: as a learner, then as a voter
    #[command(after_help = ADD_AFTER)]
    Add(Add),
    /// Take a node out of the cluster
    #[command(after_help = REMOVE_AFTER)]
    Remove(Remove),
    /// Hand leadership to a node
    #[command(after_help = TRANSFER_AFTER)]
    Transfer(Transfer),
}

/// Which cluster, and how to speak.
#[derive(Args)]
struct Target {
    /// Clients' port of any node
    #[arg(long, default_value_t = 7001)]
    port: u16,
    /// Its host
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// What to say in AUTH (better: the variable, which other users of this machine can't see)
    #[arg(long, env = PASSWORD_VARIABLE, hide_env_values = true)]
    password: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Add {
    #[command(flatten)]
    target: Target,
    /// Folder with the folders of the cluster's nodes, or of one of them
    #[arg(long, default_value = "./keypact-data", value_name = "DIR")]
    dir: PathBuf,
    /// Where clients will reach it; peers use the port 100 above, the admin HTTP 200 above [default: beside the last node]
    #[arg(long, value_name = "HOST:PORT")]
    at: Option<String>,
    /// Its number [default: one that was never used]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    id: Option<u64>,
    /// How long to wait until it votes, seconds; 0: not at all
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    patience: u64,
}

#[derive(Args)]
struct Remove {
    #[command(flatten)]
    target: Target,
    /// Which node
    node: u64,
    /// How long to wait until it is out of all groups, seconds; 0: not at all
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    patience: u64,
}

#[derive(Args)]
struct Transfer {
    #[command(flatten)]
    target: Target,
    /// Which node
    node: u64,
    /// How long to wait until it leads, seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    patience: u64,
}

impl Node {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::List(target) => target.view()?.tell(target.json),
            Action::Add(add) => add.run(),
            Action::Remove(remove) => remove.run(),
            Action::Transfer(transfer) => transfer.run(),
        }
    }
}

/// How a leader answered.
enum Told {
    Done,
    /// It is not the leader, or can't do it now: ask again.
    Later(String),
    /// The connection broke before the answer.
    Perhaps(String),
    Refused(String),
}

/// An order that nobody confirmed.
struct Undone {
    /// What was said last. If it is a refusal, it may be one of an order that was asked twice.
    failure: Failure,
    /// Whether it may have been written down all the same: a connection broke before the answer.
    perhaps: bool,
}

impl Undone {
    /// What is told of an order of which nothing else is known: what was asked `before` counts too.
    fn told(self, before: bool) -> Failure {
        let Undone { failure: Failure { code, text }, perhaps } = self;
        match perhaps || before {
            true => Failure::cannot(format!(
                "{text}; whether it was written down before is not known: `keypact node list` shows it"
            )),
            // A refusal says by its exit code that nothing has changed.
            false if code == 1 => Failure { code, text },
            false => Failure { code, text: format!("{text}; nothing has changed") },
        }
    }
}

/// What is told of an order that was taken, perhaps, and that the catalog does not show in time.
fn not_seen(undone: Option<Undone>) -> Failure {
    let undone = undone.unwrap_or_else(|| Undone {
        failure: Failure::cannot("the leader took the order, and no node shows it yet"),
        perhaps: true,
    });
    undone.told(true)
}

impl Target {
    fn asking(&self) -> Asking {
        Asking { password: self.password.clone(), patience: ANSWER_PATIENCE }
    }

    fn view(&self) -> Result<View, Failure> {
        let asking = self.asking();
        let first = asking.ask_near(&self.host, self.port)?;
        Ok(View::new(&first, asking.ask_cluster(&first)))
    }

    /// Tells the leader of a group; whoever that is by then, until `deadline`.
    ///
    /// # Errors
    /// It refuses; there is no leader in time.
    fn order(&self, group: &str, order: &[&str], deadline: Instant) -> Result<(), Undone> {
        let (mut last, mut perhaps) = (String::from("no leader is known"), false);
        loop {
            let view = match self.view() {
                Ok(view) => view,
                Err(failure) => return Err(Undone { failure, perhaps }),
            };
            if let Some(leader) = view.leader(group) {
                match self.tell(leader, order) {
                    Told::Done => return Ok(()),
                    Told::Refused(why) => {
                        return Err(Undone { failure: Failure::wrong(format!("refused: {why}")), perhaps });
                    }
                    Told::Later(why) => last = why,
                    Told::Perhaps(why) => (last, perhaps) = (why, true),
                }
            }
            if Instant::now() > deadline {
                let failure = Failure::cannot(format!("nobody could carry it out in time: {last}"));
                return Err(Undone { failure, perhaps });
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn tell(&self, address: &str, order: &[&str]) -> Told {
        let words: Vec<&[u8]> = ["KEYPACT", "NODE"].iter().chain(order).map(|word| word.as_bytes()).collect();
        let mut connection = match self.asking().open(address) {
            Ok(connection) => connection,
            Err(error) => return Told::Later(error),
        };
        match connection.call(&words) {
            Ok(Value::Error(error)) if error.code == "REFUSED" => Told::Refused(error.message.into_owned()),
            Ok(Value::Error(error)) if error.code == "TRYAGAIN" || error.code == "NOTLEADER" => {
                Told::Later(error.message.into_owned())
            }
            Ok(Value::Error(error)) => Told::Refused(error.to_string()),
            Ok(_) => Told::Done,
            Err(error) => Told::Perhaps(error.to_string()),
        }
    }

    /// Looks again and again until `holds`, and says what changes meanwhile.
    fn wait(
        &self,
        patience: Duration,
        holds: impl Fn(&View) -> bool,
        progress: impl Fn(&View) -> String,
    ) -> Result<View, Failure> {
        let deadline = Instant::now() + patience;
        let mut said = String::new();
        loop {
            if let Ok(view) = self.view() {
                if holds(&view) {
                    return Ok(view);
                }
                let now = progress(&view);
                if now != said {
                    note(format!("  {now}"));
                    said = now;
                }
            }
            if Instant::now() > deadline {
                return Err(Failure::cannot(format!(
                    "not after {} s: {said}; it goes on by itself, `keypact node list` shows how it stands",
                    patience.as_secs()
                )));
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Add {
    fn run(self) -> Result<(), Failure> {
        let view = self.target.view()?;
        let model = self.model(&view)?;
        let member = self.member(&view)?;
        let (id, patience) = (member.id, Duration::from_secs(self.patience));
        let folder = self.dir.join(format!("node-{id}"));
        if folder.join("data").exists() {
            return Err(Failure::cannot(format!(
                "{} is there already: move it away first",
                folder.display()
            )));
        }
        let furnished = cluster::furnish(&model, &member, &view.members())?;
        let deadline = Instant::now() + Duration::from_secs(self.patience.max(10));
        let place = self.admit(&member, furnished, deadline)?;
        note(format!(
            "node {id} ({}) is let in; its folder is {}\n  `keypact up` starts it by itself; elsewhere: keypact serve --config {}",
            member.resp,
            place.display(),
            place.join("keypact.toml").display()
        ));
        if self.patience == 0 {
            return Ok(());
        }
        let standing = |view: &View| view.standing(id, member.incarnation);
        let view = self.target.wait(
            patience,
            |view| standing(view) == Standing::Votes,
            |view| match standing(view) {
                Standing::Unknown => format!("node {id} is let in, and has not been heard yet"),
                Standing::Votes => format!("node {id} votes"),
                Standing::Learns { missing: Some(missing) } => {
                    format!("node {id} catches up: {missing} entries to go")
                }
                Standing::Learns { missing: None } => format!("node {id} catches up"),
            },
        )?;
        self.target.done(&view, &format!("node {id} votes in all groups"))
    }

    /// A node's folder in DIR that belongs to this cluster.
    fn model(&self, view: &View) -> Result<PathBuf, Failure> {
        let found = if self.dir.is_dir() { cluster::node_folders(&self.dir)? } else { Vec::new() };
        let fits = |folder: &&PathBuf| {
            let identity = keypact_server::peek_identity(&folder.join("data"));
            identity.is_ok_and(|identity| identity.is_some_and(|identity| identity.cluster == view.cluster))
        };
        found.iter().find(fits).cloned().ok_or_else(|| {
            Failure::cannot(format!(
                "{} has no folder of a node of cluster {}, from which the new one gets its secret: say where with --dir",
                self.dir.display(),
                view.cluster
            ))
        })
    }

    fn member(&self, view: &View) -> Result<Member, Failure> {
        let id = self.id.unwrap_or_else(|| view.unused_id());
        let (host, port) = match &self.at {
            Some(at) => address(at)?,
            None => next_address(view)?,
        };
        if port > u16::MAX - ports::HTTP_OFFSET {
            return Err(Failure::cannot(format!(
                "--at: the port must be at most {}",
                u16::MAX - ports::HTTP_OFFSET
            )));
        }
        let mut member = ports::member(&host, port, id);
        member.incarnation = view.next_life(id);
        if view.knows(id) {
            return Err(Failure::wrong(format!("refused: node {id} is a member already")));
        }
        if host == "localhost" || host.parse().is_ok_and(|host: IpAddr| host.is_loopback()) {
            ports::check_free(std::slice::from_ref(&member), "Choose another address with --at.")?;
        }
        Ok(member)
    }

    /// Has the catalog take the node in, and puts its folder in its place; neither if it is refused. Where that is not known the folder stays:
    /// the node may be awaited.
    fn admit(&self, member: &Member, furnished: Furnished, deadline: Instant) -> Result<PathBuf, Failure> {
        let numbers = (member.id.to_string(), member.incarnation.to_string());
        let order = ["ADD", &numbers.0, &numbers.1, &member.resp, &member.peer, &member.http];
        // What is written down may be lost with its leader; then it is asked again.
        let mut asked = false;
        loop {
            let undone = self.target.order("catalog", &order, deadline).err();
            let until = Instant::now() + Duration::from_secs(2);
            asked |= undone.as_ref().is_none_or(|undone| undone.perhaps);
            while asked && Instant::now() < until {
                if self.is_let_in(member) {
                    return furnished.settle().map(|place| place.folder);
                }
                thread::sleep(LOOK_EVERY);
            }
            let mut failure = match undone {
                Some(undone) if !asked => {
                    furnished.discard();
                    return Err(undone.told(false));
                }
                _ if Instant::now() <= deadline => continue,
                undone => not_seen(undone),
            };
            let folder = furnished.settle()?.folder;
            failure.text.push_str(&format!(
                "\n  the node's folder is {}, in case it is let in: delete it if the node does not belong to the cluster",
                folder.display()
            ));
            return Err(failure);
        }
    }

    fn is_let_in(&self, member: &Member) -> bool {
        self.target.view().is_ok_and(|view| view.members().contains(member))
    }
}

impl Remove {
    fn run(self) -> Result<(), Failure> {
        let (node, target) = (self.node, &self.target);
        let deadline = Instant::now() + Duration::from_secs(self.patience.max(10));
        self.dismiss(deadline)?;
        if self.patience == 0 {
            return Ok(());
        }
        let holds = |view: &View| {
            GROUPS.iter().all(|group| view.seat(group, node).is_none() && view.leader(group).is_some())
        };
        let view =
            target.wait(Duration::from_secs(self.patience), holds, |_| format!("node {node} is leaving"))?;
        target.done(
            &view,
            &format!("node {node} belongs to the cluster no more; stop its process if `keypact up` does not"),
        )
    }

    /// Has the catalog take the node out, and sees that it did: a leader that dies may take the order with it, and then it is asked again.
    fn dismiss(&self, deadline: Instant) -> Result<(), Failure> {
        let (node, target) = (self.node, &self.target);
        let mut asked = false;
        loop {
            let undone = target.order("catalog", &["REMOVE", &node.to_string()], deadline).err();
            asked |= undone.as_ref().is_none_or(|undone| undone.perhaps);
            let until = Instant::now() + Duration::from_secs(2);
            while asked && Instant::now() < until {
                if target.view().is_ok_and(|view| !view.knows(node)) {
                    // Refused as no member, perhaps: because the first asking was carried out.
                    return Ok(());
                }
                thread::sleep(LOOK_EVERY);
            }
            match undone {
                Some(undone) if !asked => return Err(undone.told(false)),
                _ if Instant::now() <= deadline => {}
                undone => return Err(not_seen(undone)),
            }
        }
    }
}

impl Transfer {
    fn run(self) -> Result<(), Failure> {
        let (node, target) = (self.node, &self.target);
        let deadline = Instant::now() + Duration::from_secs(self.patience);
        let view = target.view()?;
        if !view.knows(node) {
            return Err(Failure::wrong(format!("refused: node {node} is no member")));
        }
        if GROUPS.iter().all(|group| view.leads(group, node)) {
            return Err(Failure::wrong(format!("refused: node {node} leads already")));
        }
        for (before, group) in GROUPS.into_iter().enumerate() {
            self.hand_over(group, deadline).map_err(|failure| match before {
                0 => failure,
                _ => Failure::cannot(format!("{}; node {node} leads {} by now", failure.text, GROUPS[0])),
            })?;
        }
        let view = target.view()?;
        target.done(&view, &format!("node {node} leads"))
    }

    /// One group; told again if the heir was not elected.
    fn hand_over(&self, group: &str, deadline: Instant) -> Result<(), Failure> {
        let node = self.node;
        // Whoever can't be asked now may be in a moment: leadership changes.
        let leads = || self.target.view().is_ok_and(|view| view.leads(group, node));
        while !leads() {
            let told = self.target.order(group, &["TRANSFER", group, &node.to_string()], deadline);
            if let Err(undone) = told {
                // It may lead by now.
                return if leads() { Ok(()) } else { Err(undone.told(false)) };
            }
            let until = Instant::now() + Duration::from_secs(2);
            while Instant::now() < until && !leads() {
                thread::sleep(LOOK_EVERY);
            }
            if Instant::now() > deadline && !leads() {
                return Err(Failure::cannot(format!("node {node} does not lead {group} in time")));
            }
        }
        Ok(())
    }
}

impl Target {
    fn done(&self, view: &View, what: &str) -> Result<(), Failure> {
        if self.json {
            return say_json(view);
        }
        say(what);
        Ok(())
    }
}

fn address(text: &str) -> Result<(String, u16), Failure> {
    let parts = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let parsed = parts.and_then(|(host, port)| Some((host.to_owned(), port.parse::<u16>().ok()?)));
    parsed
        .filter(|(_, port)| *port > 0)
        .ok_or_else(|| Failure::cannot(format!("--at: {text:?} is not of the form host:port")))
}

/// On the host of all others, on the port after the last; elsewhere nobody but the operator knows where.
fn next_address(view: &View) -> Result<(String, u16), Failure> {
    let addresses: Vec<(String, u16)> =
        view.members().iter().map(|member| address(&member.resp)).collect::<Result<_, _>>()?;
    let one_host = addresses.windows(2).all(|pair| pair[0].0 == pair[1].0);
    let last = addresses.into_iter().max_by_key(|(_, port)| *port).filter(|_| one_host);
    match last {
        Some((host, port)) if host == "127.0.0.1" && port < u16::MAX => {
            // The first after it on which nobody listens: a node that was removed may still be there.
            let free = (port + 1..=port.saturating_add(PORTS_TRIED)).find(|port| {
                *port <= u16::MAX - ports::HTTP_OFFSET
                    && ports::check_free(&[ports::member(&host, *port, u64::MAX)], "").is_ok()
            });
            Ok((host, free.unwrap_or(port + 1)))
        }
        _ => Err(Failure::cannot("say with --at where clients will reach the new node: HOST:PORT")),
    }
}

/// Ports that are looked at for a new node on this machine.
const PORTS_TRIED: u16 = 20;
