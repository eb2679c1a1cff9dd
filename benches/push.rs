//! Measures server-sent events: the time from [`Broadcast::send`] until the last of
//! 10,000 clients has received the event, and the memory of the server.
//!
//! ```text
//! cargo bench --bench push [-- CLIENTS [EVENT_LOOPS]]
//! ```
//!
//! Both ends need a file descriptor for each client, so the clients are a process of their own, which
//! this program starts. The time includes that the clients read, on the same processors.

use std::env;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use tws::{Broadcast, Config, Event, Request, Response, Router, Server};

const CLIENTS: usize = 10_000;
const ROUNDS: usize = 20;

/// Ends the data of each event, and occurs nowhere else.
const END_OF_EVENT: u8 = b'!';

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["clients", address, count] => receive(address.parse()?, count.parse()?),
        // `cargo test --benches` runs every benchmark once.
        [.., "--test"] | ["--test", ..] => measure(100, NonZeroUsize::MIN),
        _ => {
            let mut numbers = arguments
                .iter()
                .filter_map(|argument| argument.parse().ok());
            let clients = numbers.next().unwrap_or(CLIENTS);
            let event_loops = numbers.next().and_then(NonZeroUsize::new);
            measure(clients, event_loops.unwrap_or(NonZeroUsize::MIN))
        }
    }
}

fn measure(clients: usize, event_loops: NonZeroUsize) -> Result<()> {
    let news = Broadcast::new(16);
    let router = Router::with_state(news.clone())
        .get("/events", |news: &Broadcast, _: &Request<'_>| {
            Response::sse(news.subscribe())
        });
    let mut config = Config::default().with_port(0);
    config.workers = Some(event_loops);
    let server = Server::bind(config)?;
    let handle = server.handle();
    let address = handle.local_addresses()[0];
    let served = std::thread::spawn(|| server.serve(router));
    let before = resident_kib()?;
    let mut process = Command::new(env::current_exe()?)
        .args(["clients", &address.to_string(), &clients.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = process.stdout.take().ok_or("no output")?;
    let mut lines = BufReader::new(output).lines();
    let mut wait = move || {
        lines
            .next()
            .ok_or("the clients have ended")?
            .map_err(Box::<dyn Error>::from)
    };
    wait()?;
    let idle = resident_kib()?;
    let mut times = Vec::new();
    let cpu_before = cpu_time()?;
    for round in 0..ROUNDS {
        let start = Instant::now();
        news.send(Event::new(format!(
            "round {round}{}",
            char::from(END_OF_EVENT)
        )));
        let sent = start.elapsed();
        wait()?;
        times.push((start.elapsed(), sent));
    }
    let cpu = (cpu_time()? - cpu_before) / ROUNDS as u32;
    let after = resident_kib()?;
    let start = Instant::now();
    handle.shut_down();
    wait()?;
    let ended = start.elapsed();
    drop(process.stdin.take());
    process.wait()?;
    served.join().map_err(|_| "the server panicked")??;
    times.sort_unstable();
    let millis = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    let (median, of_send) = times[ROUNDS / 2];
    println!("{clients} clients, event loops: {event_loops}");
    println!(
        "last client has the event: median {}, worst {}",
        millis(median),
        millis(times[ROUNDS - 1].0)
    );
    println!("Broadcast::send:           {}", millis(of_send));
    println!(
        "processor time:            {} of the server for each event",
        millis(cpu)
    );
    println!(
        "all streams have ended:    {} after the shutdown",
        millis(ended)
    );
    println!(
        "resident memory:           {before} KiB without clients, {idle} KiB with them, {after} KiB after the events"
    );
    Ok(())
}

fn resident_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmRSS")?.parse()?)
}

/// Returns the processor time that the threads of this process have used.
fn cpu_time() -> Result<Duration> {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let running: u64 = stat.split(' ').next().ok_or("no schedstat")?.parse()?;
        nanos += running;
    }
    Ok(Duration::from_nanos(nanos))
}

/// The clients: prints a line when all of them have the head of the response, when all have received an
/// event, and when all streams have ended.
fn receive(address: SocketAddr, count: usize) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut sockets = Vec::with_capacity(count);
    for key in 0..count {
        let mut socket = TcpStream::connect(address)?;
        socket.write_all(b"GET /events HTTP/1.1\r\nHost: bench\r\n\r\n")?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            socket.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        if !head.starts_with(b"HTTP/1.1 200 ") {
            return Err(String::from_utf8_lossy(&head).into());
        }
        socket.set_nonblocking(true)?;
        let mut socket = mio::net::TcpStream::from_std(socket);
        poll.registry()
            .register(&mut socket, Token(key), Interest::READABLE)?;
        sockets.push(socket);
    }
    println!("connected");
    let mut events = Events::with_capacity(1024);
    let (mut received, mut ended) = (0, 0);
    let mut buffer = [0; 4096];
    while ended < count {
        poll.poll(&mut events, Some(Duration::from_secs(60)))?;
        if events.is_empty() {
            return Err("no event within a minute".into());
        }
        for event in &events {
            let socket = &mut sockets[event.token().0];
            loop {
                match socket.read(&mut buffer) {
                    Ok(0) => {
                        ended += 1;
                        break;
                    }
                    Ok(len) => {
                        let ends = buffer[..len].iter().filter(|byte| **byte == END_OF_EVENT);
                        let before = received / count;
                        received += ends.count();
                        if received / count > before {
                            println!("received");
                        }
                        // Readiness is edge-triggered, and a short read has drained the socket.
                        if len < buffer.len() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        // Otherwise each write of the server would wake this thread, which clients elsewhere do not cost.
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("ended");
    // Until the other process has measured.
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
