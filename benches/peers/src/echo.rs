//! A bare echo server, in a process of its own, and the client's side of it: what the generator and the loopback can do when the server
//! does nothing.

use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::error::Failure;
use crate::generator::Request;
use crate::process::{self, Folder, Server};
use crate::resp::Refused;

/// Bytes of a request beside its value: what a `SET` carries around it.
const AROUND_VALUE: usize = 38;

/// The client's side: sends a message as long as a `SET`, waits until it is back.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Takes over a connected stream.
    pub(crate) fn new(stream: TcpStream) -> Connection {
        Connection { stream, buffer: Vec::new() }
    }

    /// Sends a batch in one write and waits until all of it is back.
    pub(crate) async fn batch(&mut self, request: &Request<'_>) -> Result<Refused, Failure> {
        self.buffer.clear();
        for key in request.keys {
            self.buffer.extend_from_slice(&[b'.'; AROUND_VALUE]);
            self.buffer.extend_from_slice(key);
            self.buffer.extend_from_slice(request.value);
        }
        self.stream.write_all(&self.buffer).await.map_err(Failure::io("sending"))?;
        self.stream.read_exact(&mut self.buffer).await.map_err(Failure::io("receiving"))?;
        Ok(Refused::default())
    }
}

/// Starts this program again as the echo server.
pub(crate) fn start(folder: &Folder) -> Result<(Server, u16), Failure> {
    let port = process::free_ports(&[0])?;
    let this = std::env::current_exe().map_err(Failure::io("the path of this program"))?;
    let mut command = Command::new(this);
    command.args(["echo-server", "--port", &port.to_string()]);
    let server = Server::start(command, folder.path().join("echo.log"), false)?;
    Ok((server, port))
}

/// Serves until our standard input closes: then whoever started us is gone.
pub(crate) async fn serve(port: u16) -> Result<(), Failure> {
    let listener = TcpListener::bind(process::loopback(port)).await.map_err(Failure::io("the echo port"))?;
    // Reading standard input blocks, so it has a thread of its own; its end is the process's.
    std::thread::spawn(|| {
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        std::process::exit(0);
    });
    loop {
        let (stream, _) = listener.accept().await.map_err(Failure::io("accepting"))?;
        stream.set_nodelay(true).map_err(Failure::io("TCP_NODELAY"))?;
        tokio::spawn(answer(stream));
    }
}

async fn answer(mut stream: TcpStream) {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => {
                if stream.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}
