//! The least that a program does that sends an event to many sockets: one call of `send` for each. No
//! queue, no event loop, no HTTP.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use crate::Result;

pub(crate) struct BareSender {
    address: SocketAddr,
    threads: Vec<Sender<Arc<[u8]>>>,
}

impl BareSender {
    /// Starts threads that share the clients.
    pub(crate) fn start(clients: usize, threads: NonZeroUsize) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let mut senders = Vec::new();
        for thread in 0..threads.get() {
            let listener = listener.try_clone()?;
            let share = (clients + thread) / threads;
            let (sender, messages) = mpsc::channel();
            thread::spawn(move || serve(&listener, share, &messages).expect("clients that stay"));
            senders.push(sender);
        }
        let threads = senders;
        Ok(Self { address, threads })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends the same bytes as the server does for an event.
    pub(crate) fn send(&self, data: &str, id: &str) {
        let event = format!("id: {id}\ndata: {data}\n\n");
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        let chunk: Arc<[u8]> = chunk.into_bytes().into();
        for thread in &self.threads {
            thread.send(Arc::clone(&chunk)).expect("a thread");
        }
    }

    /// Ends all streams.
    pub(crate) fn end(self) {
        drop(self.threads);
    }
}

/// Accepts `share` connections, and sends them all messages.
fn serve(listener: &TcpListener, share: usize, messages: &Receiver<Arc<[u8]>>) -> Result<()> {
    let mut sockets: Vec<TcpStream> = Vec::with_capacity(share);
    for _ in 0..share {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        let mut request = [0; 1024];
        let _ = socket.read(&mut request)?;
        socket.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        sockets.push(socket);
    }
    for message in messages {
        send_all(&mut sockets, &message)?;
    }
    send_all(&mut sockets, b"0\r\n\r\n")
}

fn send_all(sockets: &mut [TcpStream], bytes: &[u8]) -> Result<()> {
    for socket in sockets {
        socket.write_all(bytes)?;
    }
    Ok(())
}
