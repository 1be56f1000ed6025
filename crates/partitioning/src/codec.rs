//! Numbers and lists from and to bytes. All numbers are little-endian.

use alloc::vec::Vec;

use bytes::Bytes;
use keypact_protocol::{DecodeError, NodeId};

/// More elements than this no encoder of ours writes into one list.
pub(crate) const LIST_LIMIT: usize = 1 << 20;

pub(crate) fn byte(bytes: &mut Bytes) -> Result<u8, DecodeError> {
    Ok(take::<1>(bytes)?[0])
}

#[cfg(feature = "hash")]
pub(crate) fn u16(bytes: &mut Bytes) -> Result<u16, DecodeError> {
    take(bytes).map(u16::from_le_bytes)
}

pub(crate) fn u32(bytes: &mut Bytes) -> Result<u32, DecodeError> {
    take(bytes).map(u32::from_le_bytes)
}

pub(crate) fn u64(bytes: &mut Bytes) -> Result<u64, DecodeError> {
    take(bytes).map(u64::from_le_bytes)
}

fn take<const N: usize>(bytes: &mut Bytes) -> Result<[u8; N], DecodeError> {
    let Some(head) = bytes.first_chunk::<N>().copied() else {
        return Err(DecodeError::new("more bytes"));
    };
    let before = bytes.len();
    drop(bytes.split_to(N));
    assert!(bytes.len() + N == before, "exactly the number's bytes are taken");
    Ok(head)
}

/// The length of a list that follows. Bounded by what is left: an element has at least one byte.
pub(crate) fn len(bytes: &mut Bytes) -> Result<usize, DecodeError> {
    let len = u32(bytes)? as usize;
    if len > LIST_LIMIT || len > bytes.len() {
        return Err(DecodeError::new("a list of a length that fits"));
    }
    Ok(len)
}

pub(crate) fn push_len(len: usize, out: &mut Vec<u8>) {
    assert!(len <= LIST_LIMIT, "a list of {len} elements is over the limit");
    out.extend_from_slice(&(len as u32).to_le_bytes());
}

pub(crate) fn nodes(bytes: &mut Bytes) -> Result<Vec<NodeId>, DecodeError> {
    let count = len(bytes)?;
    (0..count).map(|_| u64(bytes).map(NodeId)).collect()
}

pub(crate) fn push_nodes(nodes: &[NodeId], out: &mut Vec<u8>) {
    push_len(nodes.len(), out);
    for node in nodes {
        out.extend_from_slice(&node.0.to_le_bytes());
    }
}

pub(crate) fn end(bytes: &Bytes) -> Result<(), DecodeError> {
    if bytes.is_empty() { Ok(()) } else { Err(DecodeError::new("the end")) }
}
