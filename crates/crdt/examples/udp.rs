//! Three replicas of a set, each with a socket and a file, on this machine: `cargo run -p keypact-crdt --example udp`.
//!
//! A mutation's delta is written to the file, then sent. Every third datagram is thrown away; versions that go round repair that.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use keypact_crdt::{Lattice, OrSet};
use keypact_ordering::clock::{DotContext, ReplicaId};
use keypact_protocol::Wire;

type Set = OrSet<String>;
type SetDelta = <Set as Lattice>::Delta;

/// Reads what the file kept: deltas, each behind its length. A half-written one at the end was never sent, and is passed over.
fn recover(path: &Path) -> std::io::Result<(Set, File)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let (mut kept, mut set) = (Vec::new(), Set::default());
    file.read_to_end(&mut kept)?;
    let mut kept = Bytes::from(kept);
    while kept.len() >= 4 {
        let length = u32::from_le_bytes(kept.split_to(4)[..].try_into().expect("four bytes")) as usize;
        if length > kept.len() {
            break;
        }
        set.apply(SetDelta::decode(kept.split_to(length)).expect("the file has what was written"));
    }
    Ok((set, file))
}

fn encoded(mut kind: Vec<u8>, value: &impl Wire) -> Vec<u8> {
    value.encode(&mut kind);
    kind
}

/// Persist, then speak: a delta that was sent and then lost would give its dots to other events.
fn persist(file: &mut File, delta: &[u8]) -> std::io::Result<()> {
    file.write_all(&[&(delta.len() as u32).to_le_bytes()[..], delta].concat())?;
    file.sync_data()
}

fn replica(id: u64, socket: &UdpSocket, peers: &[SocketAddr], path: &Path) -> std::io::Result<Set> {
    let (mut set, mut file) = recover(path)?;
    socket.set_read_timeout(Some(Duration::from_millis(5)))?;
    let (begin, mut heard, mut buffer) = (Instant::now(), 0_u64, [0; 65_536]);
    for round in 0.. {
        if round < 20 {
            let delta = encoded(vec![b'd'], &set.add(format!("{id}-{round}"), ReplicaId(id)));
            persist(&mut file, &delta[1..])?;
            peers.iter().try_for_each(|peer| socket.send_to(&delta, peer).map(drop))?;
        }
        let peer = peers[round % peers.len()];
        socket.send_to(&encoded(vec![b'v'], &set.version()), peer)?;
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            heard += 1;
            if heard.is_multiple_of(3) || length == 0 {
                continue;
            }
            let body = Bytes::copy_from_slice(&buffer[1..length]);
            if buffer[0] == b'v' {
                let seen = DotContext::decode(body).unwrap_or_default();
                socket.send_to(&encoded(vec![b'd'], &set.delta_since(&seen)), from)?;
            } else if SetDelta::decode(body.clone()).is_ok_and(|delta| set.apply(delta)) {
                persist(&mut file, &body)?;
            }
        }
        if begin.elapsed() > Duration::from_secs(2) {
            return Ok(set);
        }
    }
    unreachable!("time passes")
}

fn main() -> std::io::Result<()> {
    let folder = std::env::temp_dir().join(format!("keypact-crdt-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let sockets: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let addresses: Vec<SocketAddr> = sockets.iter().map(UdpSocket::local_addr).collect::<Result<_, _>>()?;
    let run = &|(at, socket): (usize, &UdpSocket)| {
        let peers: Vec<SocketAddr> = addresses.iter().copied().filter(|to| *to != addresses[at]).collect();
        replica(at as u64 + 1, socket, &peers, &folder.join(format!("{at}.deltas")))
    };
    let sets: Vec<Set> = std::thread::scope(|scope| {
        let threads: Vec<_> = sockets.iter().enumerate().map(|each| scope.spawn(move || run(each))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Result<_, _>>()
    })?;
    let (again, _) = recover(&folder.join("0.deltas"))?;
    let equal = sets.iter().all(|set| *set == sets[0]);
    println!("{} elements, all equal: {equal}, file: {}", sets[0].len(), again == sets[0]);
    std::fs::remove_dir_all(folder)
}
