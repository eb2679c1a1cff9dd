//! What the bench does in processes of its own: it starts itself again with these arguments.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::Result;
use crate::client::Client;
use crate::statistics::percentile;

mod floor;

#[derive(Debug)]
pub(crate) enum Child {
    /// The bare event loop.
    Floor { port: u16, file: PathBuf },
    /// Downloads that go on until it is killed; it prints how many of the stalled ones began.
    Load {
        port: u16,
        stalled: usize,
        /// One download after another of each of these.
        paths: Vec<String>,
    },
    /// Asks again and again, and prints the median, the 99th percentile and the greatest of its
    /// waits in milliseconds.
    Probe {
        port: u16,
        path: String,
        duration: Duration,
    },
}

/// What the arguments name, if they name a child.
pub(crate) fn named_by(args: &[String]) -> Option<Result<Child>> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let port = |text: &str| {
        text.parse::<u16>()
            .map_err(|_| format!("{text} is no port"))
    };
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|_| format!("{text} is no number"))
    };
    let child = match args[..] {
        ["--child", "floor", at, file] => port(at).map(|port| Child::Floor {
            port,
            file: PathBuf::from(file),
        }),
        ["--child", "load", at, stalled, ref paths @ ..] => port(at).and_then(|port| {
            Ok(Child::Load {
                port,
                stalled: number(stalled)? as usize,
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            })
        }),
        ["--child", "probe", at, path, milliseconds] => port(at).and_then(|port| {
            Ok(Child::Probe {
                port,
                path: path.to_owned(),
                duration: Duration::from_millis(number(milliseconds)?),
            })
        }),
        ["--child", ..] => Err("no such child".to_owned()),
        _ => return None,
    };
    Some(child)
}

impl Child {
    pub(crate) fn arguments(&self) -> Vec<String> {
        let words = match self {
            Self::Floor { port, file } => {
                vec![
                    "floor".to_owned(),
                    port.to_string(),
                    file.display().to_string(),
                ]
            }
            Self::Load {
                port,
                stalled,
                paths,
            } => {
                let mut words = vec!["load".to_owned(), port.to_string(), stalled.to_string()];
                words.extend(paths.iter().cloned());
                words
            }
            Self::Probe {
                port,
                path,
                duration,
            } => vec![
                "probe".to_owned(),
                port.to_string(),
                path.clone(),
                duration.as_millis().to_string(),
            ],
        };
        std::iter::once("--child".to_owned()).chain(words).collect()
    }

    pub(crate) fn run(self) -> Result<()> {
        // A bench that is killed outright takes its children with it.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        let ran = match self {
            Self::Floor { port, file } => floor::run(port, &file),
            Self::Load {
                port,
                stalled,
                paths,
            } => load(local(port), stalled, paths),
            Self::Probe {
                port,
                path,
                duration,
            } => probe(local(port), &path, duration),
        };
        ran.map_err(|error| error.to_string())
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn load(address: SocketAddr, stalled: usize, paths: Vec<String>) -> std::io::Result<()> {
    let first = paths.first().cloned().unwrap_or_default();
    for path in paths {
        std::thread::spawn(move || {
            loop {
                let Ok(mut client) = Client::connect(address) else {
                    continue;
                };
                while client.download(&path, &[], |_| {}).is_ok() {}
            }
        });
    }
    let clients = (0..stalled).map(|_| {
        let mut client = Client::connect(address)?;
        client.ask(&first, &[])?;
        Ok(client)
    });
    let clients: Vec<Client> = clients.collect::<std::io::Result<_>>()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let began = clients
        .iter()
        .filter(|client| client.has_bytes_by(deadline));
    println!("{}", began.count());
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}

fn probe(address: SocketAddr, path: &str, duration: Duration) -> std::io::Result<()> {
    let end = Instant::now() + duration;
    let mut waits = Vec::new();
    // Some servers starve a small request for many seconds; then its wait is cut off, and the
    // figure flatters them.
    let patience = (3 * duration).max(Duration::from_secs(2));
    let mut client = Client::connect_with(address, patience)?;
    while Instant::now() < end {
        let asked = Instant::now();
        let fetched = client.fetch(path, &[]);
        waits.push(asked.elapsed().as_secs_f64() * 1e3);
        let goes_on = fetched.is_ok_and(|(head, _)| head.field("Connection") != Some("close"));
        if !goes_on {
            client = Client::connect_with(address, patience)?;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    for part in [0.5, 0.99, 1.0] {
        println!("{}", percentile(&waits, part).unwrap_or(f64::NAN));
    }
    Ok(())
}
