//! The stories in `tests/commands` against our partition. Their replies are Redis 7.0's own (see `redis.rs`), so this
//! guards every reply and error text. UPDATE=1 rewrites them with ours; commit only what you can explain.

mod story;

use keypact_data::{Command, Limits, Partition, Place, describe};
use keypact_resp::{Arguments, Value};

const START_MS: u64 = 1_700_000_000_000;

struct Server {
    partition: Partition,
    now_ms: u64,
}

impl Server {
    /// As a node would: parse, encode, decode, apply or read.
    fn answer(&mut self, parts: &[&[u8]]) -> Value {
        let command = match Command::parse(Arguments::from_parts(parts)) {
            Ok(command) => command,
            Err(error) => return Value::Error(error),
        };
        if command.spec().place() == Place::Node {
            return describe::answer(&command);
        }
        let mut bytes = Default::default();
        command.encode(&mut bytes);
        let command = Command::decode(bytes.freeze()).expect("what was encoded");
        if !command.spec().is_write() {
            if self.partition.read_meets_deadline(&command, self.now_ms) {
                self.partition.skip(self.partition.applied_index() + 1, self.now_ms);
            }
            return self.partition.read(self.now_ms, &command);
        }
        let reply = self.partition.apply(self.partition.applied_index() + 1, self.now_ms, 0, &command);
        self.partition.assert_invariants();
        reply
    }
}

#[test]
fn stories_get_the_replies_of_redis() {
    let mut failed = Vec::new();
    for path in story::files() {
        // As in the server that made the replies: proto-max-bulk-len 1mb, its least.
        let limits = Limits { max_value_bytes: 1024 * 1024 };
        let server = std::cell::RefCell::new(Server {
            partition: Partition::with_limits([7; 16], limits),
            now_ms: START_MS,
        });
        let advance = |time| server.borrow_mut().now_ms += time;
        failed.extend(story::run(&path, advance, |parts, _| Some(server.borrow_mut().answer(parts))));
    }
    assert!(failed.is_empty(), "{} replies differ\n{}", failed.len(), failed.join("\n"));
}
