//! `keypact status`: what each node says of itself, and what they say of the groups.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::config::PASSWORD_VARIABLE;
use crate::failure::Failure;
use crate::output::{grouped, note, say, say_json, table};
use crate::probe::{self, Answer, Asking, DEFAULT_GROUP, Group, best_view};

const AFTER: &str = "\
Examples:
  keypact status
  keypact status --port 7601 --json
  KEYPACT_PASSWORD=... keypact status --host db1

Asks one node who the members are, and then each of them by itself. If that one is down, neighbouring ports are tried.
Exit code 1: no node answers, or group `default` has no leader.";

/// How long a node may take.
const PATIENCE: Duration = Duration::from_millis(700);

/// Show which nodes live, who leads, and how far each group is
#[derive(Args)]
#[command(after_help = AFTER)]
pub(crate) struct Status {
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

/// A cluster as its nodes tell it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct View {
    cluster: String,
    nodes: Vec<Node>,
    groups: Vec<Group>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Node {
    id: u64,
    resp: String,
    peer: String,
    http: String,
    /// Whether it answered just now.
    alive: bool,
    /// Its own word on its part in `default`; none from a node that does not answer.
    role: Option<String>,
    /// Which life of its folder belongs to the cluster.
    incarnation: u64,
    /// Its seat in `default` under that life, as the leader knows it: `voter`, `learner`, `joining`, `leaving`, or none.
    seat: Option<String>,
    /// Index up to which it has applied `default`'s log.
    applied: Option<u64>,
    /// Why it does not answer.
    error: Option<String>,
}

impl Status {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let asking = Asking { password: self.password.clone(), patience: PATIENCE };
        let first = asking.ask_near(&self.host, self.port)?;
        let answers = asking.ask_cluster(&first);
        let view = View::new(&first, &answers);
        match self.json {
            true => say_json(&view)?,
            false => view.say(),
        }
        let leads = probe::leader(answers.values().flatten()).is_some();
        let alive = view.nodes.iter().filter(|node| node.alive).count();
        if leads {
            return Ok(());
        }
        Err(Failure::wrong(format!(
            "group {DEFAULT_GROUP} has no leader: {alive} of {} nodes answer, and a majority must reach each other to elect one",
            view.nodes.len()
        )))
    }
}

impl View {
    fn new(first: &Answer, answers: &BTreeMap<u64, Result<Answer, String>>) -> View {
        let told: Vec<&Answer> = answers.values().flatten().collect();
        let default = best_view(DEFAULT_GROUP, &told);
        let nodes = first.nodes.iter().map(|member| {
            let seats = default.into_iter().flat_map(|group| &group.members);
            let mut seats = seats.filter(|s| s.node == member.id && s.incarnation == member.incarnation);
            let answer = answers.get(&member.id);
            let own = answer.and_then(|answer| answer.as_ref().ok());
            Node {
                id: member.id,
                resp: member.resp.clone(),
                peer: member.peer.clone(),
                http: member.http.clone(),
                alive: own.is_some(),
                incarnation: member.incarnation,
                seat: seats.next().map(|seat| seat.seat.clone()),
                role: own.and_then(|told| told.role().map(ToOwned::to_owned)),
                applied: own.and_then(|told| told.group(DEFAULT_GROUP)).map(|group| group.applied),
                error: answer.and_then(|answer| answer.as_ref().err().cloned()),
            }
        });
        let groups = first.groups.iter().map(|group| best_view(&group.name, &told).unwrap_or(group).clone());
        View { cluster: first.cluster.clone(), nodes: nodes.collect(), groups: groups.collect() }
    }

    fn say(&self) {
        let dash = || "-".to_owned();
        let rows: Vec<Vec<String>> = self
            .nodes
            .iter()
            .map(|node| {
                let alive = if node.alive { "yes".to_owned() } else { "no".to_owned() };
                let applied = node.applied.map_or_else(dash, grouped);
                let role = node.role.clone().unwrap_or_else(dash);
                let (resp, peer) = (node.resp.clone(), node.peer.clone());
                let seat = node.seat.clone().unwrap_or_else(dash);
                let http = format!("http://{}", node.http);
                vec![node.id.to_string(), resp, peer, http, alive, seat, role, applied]
            })
            .collect();
        let header = ["node", "RESP", "peer", "HTTP", "alive", "seat", "role", "applied"];
        say(format!("cluster {}\n", self.cluster));
        say(table(&header, &["node", "applied"], &rows));
        let rows: Vec<Vec<String>> = self
            .groups
            .iter()
            .map(|group| {
                let leader = group.leader.map_or_else(dash, |id| id.to_string());
                let numbers = [group.commit, group.applied, group.lag].map(grouped);
                [vec![group.name.clone(), group.term.to_string(), leader], numbers.to_vec()].concat()
            })
            .collect();
        say("");
        let header = ["group", "term", "leader", "commit", "applied", "lag"];
        say(table(&header, &["term", "leader", "commit", "applied", "lag"], &rows));
        for node in &self.nodes {
            if let Some(error) = &node.error {
                note(format!("node {} ({}) does not answer: {error}", node.id, node.resp));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::tests::answer;

    #[test]
    fn each_node_speaks_for_itself() {
        let first = answer(2, "follower", 4, Some(3));
        let mut answers = BTreeMap::new();
        answers.insert(1, Err("connection refused".to_owned()));
        answers.insert(3, Ok(answer(3, "leader", 4, Some(3))));
        answers.insert(2, Ok(first.clone()));
        let view = View::new(&first, &answers);
        let seen: Vec<_> = view.nodes.iter().map(|node| (node.alive, node.role.as_deref())).collect();
        assert_eq!(seen, [(false, None), (true, Some("follower")), (true, Some("leader"))]);
        assert_eq!(view.nodes[0].error.as_deref(), Some("connection refused"));
    }

    #[test]
    fn a_group_is_shown_as_its_leader_sees_it() {
        let mut leader = answer(3, "leader", 4, Some(3));
        leader.groups[1].lag = 17;
        let mut deposed = answer(1, "leader", 3, Some(1));
        deposed.groups[1].commit = 99;
        let follower = answer(2, "follower", 4, Some(3));
        let best = best_view(DEFAULT_GROUP, &[&deposed, &leader, &follower]).unwrap();
        assert_eq!((best.term, best.lag), (4, 17));
        assert_eq!(best_view(DEFAULT_GROUP, &[&deposed]).unwrap().commit, 99);
        assert!(best_view("cart", &[&leader]).is_none());
    }
}
