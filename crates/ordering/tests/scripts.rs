//! Interaction scripts of the message orders: `interaction/fifo/*.txt`, `interaction/causal/*.txt`.

use std::marker::PhantomData;

use bytes::Bytes;
use keypact_ordering::Envelope;
use keypact_ordering::broadcast::{Body, Broadcast, Config, Order, Record, Timer, View};
use keypact_ordering::causal::CausalOrder;
use keypact_ordering::clock::{Dot, ReplicaId, VectorClock};
use keypact_ordering::fifo::FifoOrder;
use keypact_protocol::{Incarnation, NodeId, Wire};
use keypact_simulator::script::{Settings, Story, run_scripts};

struct BroadcastStory<O>(PhantomData<O>);

/// `n2`, or `n2#3` for another incarnation than the first.
fn stream(replica: ReplicaId) -> String {
    let (node, incarnation) = replica.life();
    if incarnation == Incarnation(1) { node.to_string() } else { format!("{node}#{}", incarnation.0) }
}

fn read_stream(text: &str) -> Result<ReplicaId, String> {
    let (node, incarnation) = text.split_once('#').unwrap_or((text, "1"));
    let node = node.strip_prefix('n').and_then(|number| number.parse().ok());
    let life = node.zip(incarnation.parse().ok());
    let replica = life.and_then(|(node, life)| ReplicaId::of_life(NodeId(node), Incarnation(life)));
    replica.ok_or_else(|| format!("`{text}` is no stream; `n2` is, and `n2#3`"))
}

/// `n2.5`.
fn read_dot(text: &str) -> Result<Dot, String> {
    let (name, counter) =
        text.rsplit_once('.').ok_or_else(|| format!("`{text}` is no message; `n2.5` is"))?;
    let counter: u64 = counter.parse().map_err(|_| format!("`{text}` has no number"))?;
    if counter == 0 {
        Err("messages are counted from 1".into())
    } else {
        Ok(Dot::new(read_stream(name)?, counter))
    }
}

fn clock(clock: &VectorClock) -> String {
    let entries: Vec<String> =
        clock.iter().map(|(replica, counter)| format!("{}.{counter}", stream(replica))).collect();
    if entries.is_empty() { "nothing".into() } else { entries.join(" ") }
}

fn read_clock(words: &[&str]) -> Result<VectorClock, String> {
    let dots: Result<Vec<Dot>, String> = words.iter().map(|word| read_dot(word)).collect();
    Ok(dots?.into_iter().map(|dot| (dot.replica, dot.counter)).collect())
}

fn envelope(envelope: &Envelope) -> String {
    let after = match envelope.after.is_empty() {
        true => String::new(),
        false => format!(" after {}", clock(&envelope.after)),
    };
    let body = String::from_utf8_lossy(&envelope.body);
    format!("{}.{}{after} \"{body}\"", stream(envelope.dot.replica), envelope.dot.counter)
}

fn view(view: &View) -> String {
    format!("view {} {:?}", view.number, view.members)
}

impl<O: Order> Story for BroadcastStory<O> {
    type Protocol = Broadcast<O>;

    fn config(&self, id: NodeId, members: &[NodeId], settings: &Settings) -> Result<Config, String> {
        let mut config = Config::new(id, members.to_vec());
        // A newcomer is on the stage, but not in the first view.
        if let Some(founders) = settings.number("founders")? {
            config.members.retain(|member| member.0 <= founders);
            config.joins = id.0 > founders;
        }
        for key in settings.keys() {
            let number = settings.number(key).ok().flatten().unwrap_or(0);
            match key {
                "founders" | "timers" | "chunk_bytes" => {}
                "window" => config.window = number,
                "held_back" => config.held_back_max = number as usize,
                "batch_bytes" => config.max_batch_bytes = number as usize,
                "checkpoint_bytes" => config.checkpoint_after_bytes = number as usize,
                "body_bytes" => config.max_body_bytes = number as usize,
                other => return Err(format!("no setting {other}")),
            }
        }
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    fn state(&self, member: &Broadcast<O>) -> String {
        let place = match (member.has_joined(), member.view().has(member.replica().life().0)) {
            (false, _) => "joining, ",
            (true, false) => "out, ",
            (true, true) => "",
        };
        format!(
            "{place}view {}, delivered {}, held back {}, kept {}",
            member.view().number,
            clock(member.delivered()),
            member.held_back(),
            member.kept()
        )
    }

    fn message(&self, body: &Body) -> String {
        match body {
            Body::Data { envelopes } => {
                let each: Vec<String> = envelopes.iter().map(envelope).collect();
                format!("data {}", each.join(", "))
            }
            Body::Status { view, holds } => format!("holds {}, view {view}", clock(holds)),
            Body::Want { replica, first, last } => format!("wants {}.{first} to {last}", stream(*replica)),
            Body::Join => "where do I begin?".into(),
            Body::Welcome { holds } => format!("begin at {}", clock(holds)),
            Body::Gone { replica, counter, holds } => {
                format!("has {}.{counter} no more, holds {}", stream(*replica), clock(holds))
            }
            Body::View(shown) => view(shown),
        }
    }

    /// `view 2 n1 n2`, `data n9.1 TEXT`, `data n9.2 after n1.1 n2.5 : TEXT`, `holds 0 n1.5`.
    fn said(&self, text: &str) -> Result<Body, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["view", number, members @ ..] => {
                let number = number.parse().map_err(|_| "which view?")?;
                let members: Result<Vec<NodeId>, String> =
                    members.iter().map(|member| read_stream(member).map(|stream| stream.life().0)).collect();
                let members = members?;
                if !View::is_sound(&members) {
                    return Err("these can't be members".into());
                }
                Ok(Body::View(View::new(number, members)))
            }
            ["holds", view, holds @ ..] => {
                let view = view.parse().map_err(|_| "in which view?")?;
                Ok(Body::Status { view, holds: read_clock(holds)? })
            }
            ["data", dot, "after", rest @ ..] => {
                let colon = rest.iter().position(|word| *word == ":").ok_or("`: TEXT` is missing")?;
                let after = read_clock(&rest[..colon])?;
                let body = Bytes::from(rest[colon + 1..].join(" "));
                Ok(Body::Data { envelopes: vec![Envelope { dot: read_dot(dot)?, after, body }] })
            }
            ["data", dot, rest @ ..] => {
                let body = Bytes::from(rest.join(" "));
                let envelope = Envelope { dot: read_dot(dot)?, after: VectorClock::new(), body };
                Ok(Body::Data { envelopes: vec![envelope] })
            }
            _ => Err(format!("`{text}`: `view`, `data` or `holds`")),
        }
    }

    fn record(&self, record: &Record) -> String {
        match record {
            Record::Delivered { index, envelope: delivered, .. } => {
                format!("{index}: {}", envelope(delivered))
            }
            Record::Jumped(jump) => format!("began anew at {}", clock(&jump.to)),
            Record::View(shown) => view(shown),
        }
    }

    fn timer(&self, Timer::Status: Timer) -> String {
        "status".into()
    }

    fn command(&self, command: &[u8]) -> String {
        match Envelope::decode(Bytes::copy_from_slice(command)) {
            Ok(delivered) => {
                let body = String::from_utf8_lossy(&delivered.body);
                format!("{}.{} \"{body}\"", stream(delivered.dot.replica), delivered.dot.counter)
            }
            Err(error) => error.to_string(),
        }
    }
}

#[test]
fn fifo_scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../interaction/fifo");
    run_scripts(folder, || BroadcastStory::<FifoOrder>(PhantomData));
}

#[test]
fn causal_scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../interaction/causal");
    run_scripts(folder, || BroadcastStory::<CausalOrder>(PhantomData));
}
