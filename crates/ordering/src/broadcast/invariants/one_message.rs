//! One name, one message: no two different messages are ever delivered under one dot.

use alloc::collections::BTreeMap;
use alloc::format;

use bytes::Bytes;
use keypact_protocol::NodeId;

use super::Violation;
use crate::clock::Dot;
use crate::envelope::Envelope;

#[derive(Debug, Default)]
pub(super) struct OneMessage {
    bodies: BTreeMap<Dot, Bytes>,
}

impl OneMessage {
    pub(super) fn check(&mut self, node: NodeId, envelope: &Envelope) -> Result<(), Violation> {
        let first = self.bodies.entry(envelope.dot).or_insert_with(|| envelope.body.clone());
        if *first == envelope.body {
            return Ok(());
        }
        let detail = format!("{node} delivers another message as {}", envelope.dot);
        Err(Violation { property: "one-message-per-name", detail })
    }
}
