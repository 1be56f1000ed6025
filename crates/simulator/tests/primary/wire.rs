//! The toy's bytes.

use bytes::{Buf, BufMut, Bytes};
use keypact_protocol::{DecodeError, SnapshotChunk, Wire};

use super::{Entry, Message};

impl Wire for Entry {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.index);
        out.put_u64_le(self.stamp_ms);
        out.put_u64_le(self.seed);
        out.put_slice(&self.command);
    }

    fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        let bad = |_| DecodeError::new("an entry");
        Ok(Entry {
            index: bytes.try_get_u64_le().map_err(bad)?,
            stamp_ms: bytes.try_get_u64_le().map_err(bad)?,
            seed: bytes.try_get_u64_le().map_err(bad)?,
            command: bytes,
        })
    }
}

impl Wire for Message {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Message::Append { entries, commit } => {
                out.put_u8(0);
                out.put_u64_le(*commit);
                for entry in entries {
                    out.put_u32_le(24 + entry.command.len() as u32);
                    entry.encode(out);
                }
            }
            Message::Ack { index } => {
                out.put_u8(2);
                out.put_u64_le(*index);
            }
            Message::Chunk(chunk) => {
                out.put_u8(3);
                out.put_u32_le(chunk.chunk);
                out.put_u8(u8::from(chunk.last));
                out.put_u32_le(chunk.meta.len() as u32);
                out.put_slice(&chunk.meta);
                out.put_slice(&chunk.bytes);
            }
            Message::ChunkTaken { chunk } => {
                out.put_u8(4);
                out.put_u32_le(*chunk);
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        let bad = |_| DecodeError::new("a message");
        match bytes.try_get_u8().map_err(bad)? {
            0 => {
                let commit = bytes.try_get_u64_le().map_err(bad)?;
                let mut entries = Vec::new();
                while bytes.has_remaining() {
                    let len = bytes.try_get_u32_le().map_err(bad)? as usize;
                    if bytes.len() < len {
                        return Err(DecodeError::new("a message"));
                    }
                    entries.push(Entry::decode(bytes.split_to(len))?);
                }
                Ok(Message::Append { entries, commit })
            }
            2 => Ok(Message::Ack { index: bytes.try_get_u64_le().map_err(bad)? }),
            3 => {
                let chunk = bytes.try_get_u32_le().map_err(bad)?;
                let last = bytes.try_get_u8().map_err(bad)? != 0;
                let len = bytes.try_get_u32_le().map_err(bad)? as usize;
                if bytes.len() < len {
                    return Err(DecodeError::new("a message"));
                }
                let meta = bytes.split_to(len);
                Ok(Message::Chunk(SnapshotChunk { meta, chunk, bytes, last }))
            }
            4 => Ok(Message::ChunkTaken { chunk: bytes.try_get_u32_le().map_err(bad)? }),
            _ => Err(DecodeError::new("a message")),
        }
    }
}
