//! Guards against: frames that allocate by what they announce, bytes that panic, frames cut in two that are lost.

use keypact_node::{ForwardReply, Resolution};

use super::*;

fn frame(message: &PeerMessage) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH_BYTES];
    message.encode(&mut bytes);
    let length = u32::try_from(bytes.len() - LENGTH_BYTES).expect("short");
    bytes[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    bytes
}

fn reply(place: u64) -> PeerMessage {
    PeerMessage::ForwardReply(ForwardReply {
        life: 1,
        session: 2,
        generation: 3,
        place,
        resolution: Resolution::Uncertain,
    })
}

#[test]
fn frames_come_out_whole_however_they_are_cut() {
    let bytes: Vec<u8> = (0..3).flat_map(|place| frame(&reply(place))).collect();
    for cut in 0..bytes.len() {
        let mut places = Vec::new();
        let mut input = BytesMut::new();
        for part in [&bytes[..cut], &bytes[cut..]] {
            input.extend_from_slice(part);
            while let Some((message, _)) = next_message(&mut input, 1 << 20).expect("they are ours") {
                let PeerMessage::ForwardReply(ForwardReply { place, .. }) = message else {
                    panic!("{message:?}")
                };
                places.push(place);
            }
        }
        assert_eq!(places, [0, 1, 2], "cut at {cut}");
        assert!(input.is_empty());
    }
}

#[test]
fn a_long_or_strange_frame_is_the_end() {
    let mut long = BytesMut::from(&1001u32.to_le_bytes()[..]);
    assert_eq!(next_message(&mut long, 1000).err(), Some(Cut::FrameTooLong));
    let mut strange = BytesMut::from(&[1, 0, 0, 0, 0xff][..]);
    assert_eq!(next_message(&mut strange, 1000).err(), Some(Cut::BadMessage));
    let mut empty = BytesMut::from(&[0, 0, 0, 0][..]);
    assert_eq!(next_message(&mut empty, 1000).err(), Some(Cut::BadMessage));
}

#[test]
fn what_is_announced_is_not_allocated() {
    let mut input = BytesMut::from(&(60u32 << 20).to_le_bytes()[..]);
    input.extend_from_slice(&[0; 100]);
    assert!(next_message(&mut input, 64 << 20).expect("it may come yet").is_none());
    assert!(input.capacity() < 1024, "{}", input.capacity());
}

#[test]
fn without_a_connection_messages_are_dropped_and_counted() {
    let member =
        |id| Member { id, incarnation: 1, resp: String::new(), peer: String::new(), http: String::new() };
    let mut links = Links::new(NodeId(1), &[member(1), member(2)], &Limits::default());
    links.send(NodeId(2), Traffic::Bulk, &reply(0));
    links.send(NodeId(9), Traffic::Bulk, &reply(0));
    assert_eq!(links.figures.dropped_unconnected, 2);
    assert_eq!(links.figures.messages_out, 0);
}
