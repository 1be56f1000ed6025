//! A UDP server that answers which slot a key has and who owns it: `cargo run -p keypact-partitioning --example hash`.
//! It asks itself a few keys and ends; with `serve` as an argument it goes on.

use std::error::Error;
use std::net::UdpSocket;
use std::{env, thread};

use keypact_partitioning::hash::{Slot, SlotTable};
use keypact_protocol::NodeId;

fn answer(table: &SlotTable, key: &[u8]) -> String {
    format!("{:?} {}", Slot::of(key), table.find(key).owner())
}

fn serve(socket: &UdpSocket, table: &SlotTable, questions: usize) -> std::io::Result<()> {
    let mut buffer = [0; 1_500];
    for _ in 0..questions {
        let (len, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(answer(table, &buffer[..len]).as_bytes(), from)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let nodes = [1, 2, 3].map(NodeId);
    let table = SlotTable::even(&nodes)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    println!("listening on {address}");
    if env::args().any(|argument| argument == "serve") {
        return Ok(serve(&socket, &table, usize::MAX)?);
    }
    let keys = ["foo", "{user:7}:name", "{user:7}:cart"];
    let server = thread::spawn(move || serve(&socket, &table, keys.len()));
    let client = UdpSocket::bind("127.0.0.1:0")?;
    let mut buffer = [0; 100];
    for key in keys {
        client.send_to(key.as_bytes(), address)?;
        let len = client.recv(&mut buffer)?;
        println!("{key}: slot and owner {}", String::from_utf8_lossy(&buffer[..len]));
    }
    server.join().map_err(|_| "the server failed")??;
    Ok(())
}
