//! Measures server-sent events: the time from [`Broadcast::send`] until an event is in the sockets of
//! 10,000 clients, and the memory of the server. The first part is the floor: threads that do nothing but
//! send the same bytes to as many sockets.
//!
//! ```text
//! cargo bench --bench push [-- CLIENTS [EVENT_LOOPS]]
//! ```
//!
//! Both ends need a file descriptor for each client, so the clients are a process of their own, which
//! this program starts. It sleeps until a round is over, because real clients take no processor time of
//! the server; the kernel has recorded when the event arrived. On the loopback device, the work of the
//! kernel for the receiving end is part of the time.

mod bare_sender;
mod clients;
mod measurement;

use std::env;
use std::error::Error;
use std::num::NonZeroUsize;
use std::thread;

use tws::{Broadcast, Config, Event, Request, Response, Router, Server};

use bare_sender::BareSender;
use measurement::Measurement;

const CLIENTS: usize = 10_000;
const ROUNDS: usize = 20;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["clients", address, count] = arguments[..] {
        return clients::run(address.parse()?, count.parse()?);
    }
    let numbers = arguments
        .iter()
        .filter_map(|argument| argument.parse().ok());
    let numbers: Vec<usize> = numbers.collect();
    // `cargo test --benches` gives no argument, and `cargo bench` this one.
    if numbers.is_empty() && !arguments.contains(&"--bench") {
        return measure(100, NonZeroUsize::MIN, 1);
    }
    let clients = numbers.first().copied().unwrap_or(CLIENTS);
    let event_loops = numbers.get(1).copied().and_then(NonZeroUsize::new);
    // The default of the server.
    let event_loops = event_loops.map_or_else(thread::available_parallelism, Ok)?;
    measure(clients, event_loops, ROUNDS)
}

fn measure(clients: usize, event_loops: NonZeroUsize, rounds: usize) -> Result<()> {
    println!("floor: {clients} clients, threads: {event_loops}");
    let floor = BareSender::start(clients, event_loops)?;
    let measurement = Measurement::start(floor.address(), clients)?;
    let connected = measurement.run(rounds, |round| floor.send(&data(round), &id(round)))?;
    let ended = connected.end(|| floor.end())?;
    println!("  the last stream ends:  {ended:.1?} after the call");
    println!("tws: {clients} clients, event loops: {event_loops}");
    measure_server(clients, event_loops, rounds)
}

fn measure_server(clients: usize, event_loops: NonZeroUsize, rounds: usize) -> Result<()> {
    let news = Broadcast::new(16);
    let router = Router::with_state(news.clone())
        .get("/events", |news: &Broadcast, _: &Request<'_>| {
            Response::sse(news.subscribe())
        });
    let mut config = Config::default().with_port(0);
    config.workers = Some(event_loops);
    let server = Server::bind(config)?;
    let handle = server.handle();
    let served = thread::spawn(|| server.serve(router));
    let measurement = Measurement::start(handle.local_addresses()[0], clients)?;
    let connected = measurement.run(rounds, |round| {
        news.send(Event::new(data(round)).with_id(id(round)));
    })?;
    let ended = connected.end(|| handle.shut_down())?;
    println!("  the last stream ends:  {ended:.1?} after the shutdown");
    served.join().map_err(|_| "the server panicked")??;
    Ok(())
}

fn id(round: usize) -> String {
    round.to_string()
}

fn data(round: usize) -> String {
    format!("the event of round {round}{}", clients::END_OF_EVENT)
}
