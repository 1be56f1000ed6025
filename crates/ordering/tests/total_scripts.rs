//! Interaction scripts of total order by a sequencer: `interaction/total/*.txt`.

use bytes::Bytes;
use keypact_ordering::Envelope;
use keypact_ordering::total::sequencer::{self, Body, Entry, Record, Role};
use keypact_ordering::total::{Config, Item, Message, Sequenced, Timer};
use keypact_protocol::{NodeId, Wire};
use keypact_simulator::script::{Settings, Story, run_scripts};

struct TotalStory;

/// An item of the log. Sessions are drawn; what is equal in all runs is whose they are.
fn item(bytes: &Bytes) -> String {
    match Item::decode(bytes.clone()) {
        Ok(Item::Open { node, after, .. }) => {
            format!("{node} opens{}", if after == 0 { "" } else { " again" })
        }
        Ok(Item::Message { node, counter, body, .. }) => {
            format!("{node}.{counter} \"{}\"", String::from_utf8_lossy(&body))
        }
        Err(error) => error.to_string(),
    }
}

fn entry(entry: &Entry) -> String {
    if entry.command.is_empty() {
        return format!("{} epoch opens", entry.at);
    }
    format!("{} {}", entry.at, item(&entry.command))
}

fn entries(all: &[Entry]) -> String {
    let each: Vec<String> = all.iter().map(entry).collect();
    if each.is_empty() { "nothing".into() } else { each.join(", ") }
}

fn said(body: &Body) -> String {
    match body {
        Body::Assign => "you sequence".into(),
        Body::Working { committed } => format!("at work, committed {committed}"),
        Body::Collect => "what do you hold?".into(),
        Body::Holds { last } => format!("holds up to {last}"),
        Body::Fetch { after } => format!("wants what comes after {after}"),
        Body::Fetched { prev, entries: all } => format!("after {prev} comes {}", entries(all)),
        Body::Compacted { base } => format!("has it in a checkpoint up to {base}"),
        Body::Order { prev, entries: all, committed } => {
            format!("order after {prev}: {}; committed {committed}", entries(all))
        }
        Body::Accept { held } => format!("has up to {held}"),
        Body::Gap { last } => format!("has not; try after {last}"),
        Body::Snapshot { chunk } => format!("snapshot chunk {}", chunk.chunk),
        Body::WantChunk { position, chunk } => format!("wants chunk {chunk} of {position}"),
    }
}

impl Story for TotalStory {
    type Protocol = Sequenced;

    fn config(
        &self,
        id: NodeId,
        members: &[NodeId],
        settings: &Settings,
    ) -> Result<Config<sequencer::Config>, String> {
        let mut config = Config::new(id, members.to_vec(), sequencer::Config::new(id, members.to_vec()));
        for key in settings.keys() {
            let number = settings.number(key).ok().flatten().unwrap_or(0);
            match key {
                "timers" | "chunk_bytes" => {}
                "window" => config.window = number as usize,
                "batch_bytes" => config.max_batch_bytes = number as usize,
                "body_bytes" => config.max_body_bytes = number as usize,
                "inflight" => config.log.max_inflight = number,
                other => return Err(format!("no setting {other}")),
            }
        }
        config.validate().map_err(|error| error.to_string())?;
        config.log.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    fn state(&self, member: &Sequenced) -> String {
        let log = member.log();
        let role = match log.role() {
            Role::Member => "member",
            Role::Collecting => "collecting",
            Role::Sequencing => "sequencing",
        };
        let waiting = match member.waiting() {
            0 => String::new(),
            waiting => format!(", {waiting} waiting"),
        };
        format!(
            "{role} in epoch {}, log up to {}, committed {}{waiting}",
            log.hard_state().epoch,
            log.last(),
            log.committed()
        )
    }

    fn message(&self, message: &Message<sequencer::Message>) -> String {
        match message {
            Message::Log(message) => format!("[{}] {}", message.epoch, said(&message.body)),
            Message::Submit { items } => {
                let each: Vec<String> = items.iter().map(item).collect();
                format!("submits {}", each.join(", "))
            }
        }
    }

    /// `assign 2`: the epoch; `collect 2`; `holds 2 3@1`.
    fn said(&self, text: &str) -> Result<Message<sequencer::Message>, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is no number"));
        let (epoch, body) = match words.as_slice() {
            ["assign", epoch] => (number(epoch)?, Body::Assign),
            ["collect", epoch] => (number(epoch)?, Body::Collect),
            ["accept", epoch, held] => (number(epoch)?, Body::Accept { held: number(held)? }),
            _ => return Err(format!("`{text}`: `assign 2`, `collect 2`, `accept 2 7`")),
        };
        Ok(Message::Log(sequencer::Message { epoch, body }))
    }

    fn record(&self, record: &Record) -> String {
        match record {
            Record::Entry(written) => entry(written),
            Record::HardState(hard) => match hard.sequencer {
                Some(node) => format!("epoch {} is {node}'s", hard.epoch),
                None => format!("epoch {}", hard.epoch),
            },
            Record::Reset { at } => format!("snapshot up to {at}"),
        }
    }

    fn timer(&self, timer: Timer<sequencer::Timer>) -> String {
        match timer {
            Timer::Log(sequencer::Timer::Heartbeat) => "heartbeat".into(),
            Timer::Resend => "resend".into(),
        }
    }

    fn command(&self, command: &[u8]) -> String {
        match Envelope::decode(Bytes::copy_from_slice(command)) {
            Ok(delivered) => {
                let body = String::from_utf8_lossy(&delivered.body);
                format!("{}.{} \"{body}\"", delivered.dot.replica.life().0, delivered.dot.counter)
            }
            // What the log makes for itself, and what came twice.
            Err(_) if command.is_empty() => "nothing".into(),
            Err(error) => error.to_string(),
        }
    }
}

#[test]
fn total_scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../interaction/total");
    run_scripts(folder, || TotalStory);
}
