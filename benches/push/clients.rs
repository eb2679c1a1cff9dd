//! The clients: a process that opens the streams, and sleeps until it is asked for the times at which an
//! event has arrived. The kernel records them (`SO_TIMESTAMPNS`, socket(7)).

use std::io::{self, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::cmsg_space;
use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;

use crate::Result;

/// Ends the data of each event, and occurs nowhere else.
pub(crate) const END_OF_EVENT: char = '!';

/// The commands that the process reads, a line each.
pub(crate) const READ: &str = "read";
pub(crate) const END: &str = "end";

/// The last chunk of the chunked coding.
const END_OF_STREAM: &[u8] = b"0\r\n\r\n";

/// Opens `count` streams, prints a line, and executes commands: prints when the median and the last of the
/// streams have received an event or their end, in nanoseconds of the system clock.
pub(crate) fn run(address: SocketAddr, count: usize) -> Result<()> {
    let streams: Result<Vec<TcpStream>> = (0..count).map(|_| open(address)).collect();
    let streams = streams?;
    println!("connected");
    for line in io::stdin().lines() {
        let mut end_of_event = [0; 4];
        let end = match line?.as_str() {
            READ => END_OF_EVENT.encode_utf8(&mut end_of_event).as_bytes(),
            _ => END_OF_STREAM,
        };
        let arrivals = streams.iter().map(|stream| arrival_of(end, stream));
        let mut arrivals = arrivals.collect::<Result<Vec<Duration>>>()?;
        arrivals.sort_unstable();
        let [median, last] = [count / 2, count - 1].map(|at| arrivals[at].as_nanos());
        println!("{median} {last}");
    }
    Ok(())
}

/// Opens a stream and reads the head of the response.
fn open(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut buffer)?;
        head.extend_from_slice(&buffer[..count]);
        if count == 0 {
            break;
        }
    }
    if !head.starts_with(b"HTTP/1.1 200 ") {
        return Err(String::from_utf8_lossy(&head).into());
    }
    setsockopt(&stream, ReceiveTimestampns, &true)?;
    Ok(stream)
}

/// Reads up to `end`. Returns when it has arrived, since the Unix epoch.
fn arrival_of(end: &[u8], stream: &TcpStream) -> Result<Duration> {
    let mut buffer = [0; 4096];
    let mut control = cmsg_space!(TimeSpec);
    loop {
        let slices = &mut [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::empty();
        let received = recvmsg::<()>(stream.as_raw_fd(), slices, Some(&mut control), flags)?;
        let arrival = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
            _ => None,
        });
        let count = received.bytes;
        if count == 0 {
            return Err("a stream has ended".into());
        }
        let mut parts = buffer[..count].windows(end.len());
        if parts.any(|part| part == end) {
            return arrival.ok_or_else(|| "the kernel has recorded no time".into());
        }
    }
}
