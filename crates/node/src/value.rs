//! Replies on their way between nodes: RESP3, with the one thing that it can't say (which null it was) in front.

use bytes::{Bytes, BytesMut};
use keypact_protocol::DecodeError;
use keypact_resp::{Bulks, Limits, Value, ValueParser, Version};

/// A reply is as long as the peer's frames allow; it is in memory already.
const LIMITS: Limits = Limits {
    max_arguments: u32::MAX as usize,
    max_bulk_bytes: u32::MAX as usize,
    max_inline_bytes: u32::MAX as usize,
    max_command_bytes: u32::MAX as usize,
    authenticated: true,
};

const NULL_ARRAY: u8 = 1;
/// A long list as it will be sent: number of strings u64, little-endian, then the strings.
const BULKS: u8 = 2;
const OTHER: u8 = 0;

/// Appends a reply.
pub(crate) fn encode(value: &Value, out: &mut Vec<u8>) {
    if matches!(value, Value::NullArray) {
        out.push(NULL_ARRAY);
        return;
    }
    if let Value::Bulks(bulks) = value {
        out.push(BULKS);
        out.extend_from_slice(&(bulks.len() as u64).to_le_bytes());
        out.extend_from_slice(bulks.text());
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
        Some(&BULKS) => {
            let (count, text) = bytes[1..].split_first_chunk().ok_or(DecodeError::new("a forwarded list"))?;
            let count = usize::try_from(u64::from_le_bytes(*count)).unwrap_or(usize::MAX);
            // The shortest string takes six bytes. What is in between is the client's, as the leader said it.
            if count > text.len() / 6
                || (count == 0) != text.is_empty()
                || !(text.is_empty() || text.ends_with(b"\r\n"))
            {
                return Err(DecodeError::new("a forwarded list"));
            }
            Ok(Value::Bulks(Bulks::of_text(count, text)))
        }
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
