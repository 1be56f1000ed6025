//! Hash tags: the part of a key that is hashed, so that keys which belong together get one slot.

use keypact_protocol::{Plant, planted};

/// What of the key is hashed: what stands between its first `{` and the first `}` behind it, if that is anything; else all of it.
#[must_use]
#[inline]
pub fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else { return key };
    let behind = &key[open + 1..];
    let close = if planted(Plant::TagToLastBrace) {
        behind.iter().rposition(|byte| *byte == b'}')
    } else {
        behind.iter().position(|byte| *byte == b'}')
    };
    match close {
        // `{}` says nothing, and all such keys in one slot would help nobody.
        None | Some(0) => key,
        Some(close) => {
            debug_assert!(close < behind.len(), "the brace is in the key");
            &behind[..close]
        }
    }
}
