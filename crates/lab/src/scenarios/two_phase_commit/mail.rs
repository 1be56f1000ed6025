//! What the scenario's machines say to each other.

use bytes::{Buf, Bytes};
use keypact_coordination::two_phase_commit::Message;
use keypact_protocol::{DecodeError, GroupId, Wire};

/// A message: to a group's log, from it, or to whoever leads the group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mail {
    /// Which group.
    pub(crate) group: GroupId,
    /// What.
    pub(crate) body: Body,
}

/// What it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Body {
    /// Replica to log: let me lead. `forced`: although another one does.
    Campaign {
        /// See above.
        forced: bool,
        /// Which life of the replica asks: an epoch belongs to one life.
        life: u64,
    },
    /// Leader to log: records of this epoch from this number on; none: I am still here.
    Append {
        /// The epoch.
        epoch: u64,
        /// The first record's number in the epoch.
        first: u64,
        /// The records.
        records: Vec<Bytes>,
    },
    /// Leader to log: am I still the newest?
    Prove {
        /// The epoch.
        epoch: u64,
        /// Comes back.
        token: u64,
    },
    /// Replica to log: what comes from here on?
    Fetch {
        /// The next index wanted.
        next: u64,
    },
    /// Log to replica: lead this epoch.
    Elected {
        /// The epoch.
        epoch: u64,
        /// As asked.
        life: u64,
    },
    /// Log to leader: everything before this number is durable, and this is wanted next.
    Wanted {
        /// The epoch.
        epoch: u64,
        /// The next number.
        next: u64,
    },
    /// Log to leader: another epoch was granted.
    Deposed {
        /// Which.
        epoch: u64,
    },
    /// Log to leader: you still were.
    Proven {
        /// The epoch.
        epoch: u64,
        /// As asked.
        token: u64,
    },
    /// Log to replica: durable entries from this index on.
    Entries {
        /// The first one's index.
        first: u64,
        /// The entries.
        records: Vec<Bytes>,
    },
    /// Group to group.
    TwoPhase {
        /// From which group.
        from: GroupId,
        /// What.
        message: Message,
    },
}

fn put_list(list: &[Bytes], out: &mut Vec<u8>) {
    out.extend_from_slice(&(list.len() as u32).to_le_bytes());
    for bytes in list {
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    }
}

fn take_list(bytes: &mut Bytes) -> Result<Vec<Bytes>, DecodeError> {
    let wrong = |_| DecodeError::new("a list of records");
    let count = bytes.try_get_u32_le().map_err(wrong)?;
    let mut list = Vec::new();
    for _ in 0..count {
        let length = bytes.try_get_u32_le().map_err(wrong)? as usize;
        if length > bytes.len() {
            return Err(DecodeError::new("a record"));
        }
        list.push(bytes.split_to(length));
    }
    Ok(list)
}

impl Wire for Mail {
    fn encode(&self, out: &mut Vec<u8>) {
        let (kind, numbers): (u8, [u64; 2]) = match &self.body {
            Body::Campaign { forced, life } => (0, [u64::from(*forced), *life]),
            Body::Append { epoch, first, .. } => (1, [*epoch, *first]),
            Body::Prove { epoch, token } => (2, [*epoch, *token]),
            Body::Fetch { next } => (3, [*next, 0]),
            Body::Elected { epoch, life } => (4, [*epoch, *life]),
            Body::Wanted { epoch, next } => (5, [*epoch, *next]),
            Body::Deposed { epoch } => (6, [*epoch, 0]),
            Body::Proven { epoch, token } => (7, [*epoch, *token]),
            Body::Entries { first, .. } => (8, [*first, 0]),
            Body::TwoPhase { from, .. } => (9, [from.0, 0]),
        };
        out.push(kind);
        for number in [self.group.0, numbers[0], numbers[1]] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        match &self.body {
            Body::Append { records, .. } | Body::Entries { records, .. } => put_list(records, out),
            Body::TwoPhase { message, .. } => message.encode(out),
            _ => {}
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Mail, DecodeError> {
        let wrong = |_| DecodeError::new("a mail's header");
        let kind = bytes.try_get_u8().map_err(wrong)?;
        let group = GroupId(bytes.try_get_u64_le().map_err(wrong)?);
        let one = bytes.try_get_u64_le().map_err(wrong)?;
        let two = bytes.try_get_u64_le().map_err(wrong)?;
        let body = match kind {
            0 => Body::Campaign { forced: one == 1, life: two },
            1 => Body::Append { epoch: one, first: two, records: take_list(&mut bytes)? },
            2 => Body::Prove { epoch: one, token: two },
            3 => Body::Fetch { next: one },
            4 => Body::Elected { epoch: one, life: two },
            5 => Body::Wanted { epoch: one, next: two },
            6 => Body::Deposed { epoch: one },
            7 => Body::Proven { epoch: one, token: two },
            8 => Body::Entries { first: one, records: take_list(&mut bytes)? },
            9 => Body::TwoPhase { from: GroupId(one), message: Message::decode(bytes)? },
            _ => return Err(DecodeError::new("a kind of mail")),
        };
        Ok(Mail { group, body })
    }
}
