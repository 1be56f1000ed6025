//! Replies on their way between nodes: RESP3, with the one thing that it can't say (which null it was) in front.

use bytes::{Bytes, BytesMut};
use keypact_protocol::DecodeError;
use keypact_resp::{Limits, Value, ValueParser, Version};

/// A reply is as long as the peer's frames allow; it is in memory already.
const LIMITS: Limits = Limits {
    max_arguments: u32::MAX as usize,
    max_bulk_bytes: u32::MAX as usize,
    max_inline_bytes: u32::MAX as usize,
    max_command_bytes: u32::MAX as usize,
    authenticated: true,
};

const NULL_ARRAY: u8 = 1;
const OTHER: u8 = 0;

/// Appends a reply.
pub(crate) fn encode(value: &Value, out: &mut Vec<u8>) {
    if matches!(value, Value::NullArray) {
        out.push(NULL_ARRAY);
        return;
    }
    out.push(OTHER);
    let mut text = BytesMut::new();
    value.encode(Version::Resp3, &mut text);
    out.extend_from_slice(&text);
}

/// Reads back what [`encode`] wrote.
pub(crate) fn decode(bytes: Bytes) -> Result<Value, DecodeError> {
    match bytes.first() {
        Some(&NULL_ARRAY) if bytes.len() == 1 => Ok(Value::NullArray),
        Some(&OTHER) => {
            let mut text = BytesMut::from(&bytes[1..]);
            let value = ValueParser::new(LIMITS).next(&mut text);
            match value {
                Ok(Some(value)) if text.is_empty() => Ok(value),
                _ => Err(DecodeError::new("a forwarded reply")),
            }
        }
        _ => Err(DecodeError::new("a forwarded reply")),
    }
}
