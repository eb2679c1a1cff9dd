//! Tasks that run in processes of their own: the bench starts itself with `--child` and arguments.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::Result;
use crate::client::Client;
use crate::statistics::percentile;

mod bare_loop;

/// A task for a process of its own.
#[derive(Debug)]
pub(crate) enum Subprocess {
    /// The bare event loop.
    BareLoop { port: u16, file: PathBuf },
    /// Downloads until it is killed. Prints how many of the stalled downloads have started.
    Load {
        port: u16,
        stalled: usize,
        /// One download after another of each of these runs; the first is the one that stalls.
        paths: Vec<String>,
    },
    /// Sends one request after another and prints the median, the 99th percentile and the greatest
    /// latency in milliseconds.
    Probe {
        port: u16,
        path: String,
        duration: Duration,
    },
}

impl Subprocess {
    /// Parses the arguments; `None` if they do not begin with `--child`.
    pub(crate) fn parse(args: &[String]) -> Option<Result<Self>> {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let port = |text: &str| {
            text.parse::<u16>()
                .map_err(|_| format!("{text}: not a port"))
        };
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|_| format!("{text}: not a number"))
        };
        let child = match args[..] {
            ["--child", "bare-loop", at, file] => port(at).map(|port| Self::BareLoop {
                port,
                file: PathBuf::from(file),
            }),
            ["--child", "load", at, stalled, ref paths @ ..] => port(at).and_then(|port| {
                Ok(Self::Load {
                    port,
                    stalled: number(stalled)? as usize,
                    paths: paths.iter().map(|path| (*path).to_owned()).collect(),
                })
            }),
            ["--child", "probe", at, path, milliseconds] => port(at).and_then(|port| {
                Ok(Self::Probe {
                    port,
                    path: path.to_owned(),
                    duration: Duration::from_millis(number(milliseconds)?),
                })
            }),
            ["--child", ..] => Err("--child: unknown task".to_owned()),
            _ => return None,
        };
        Some(child)
    }

    /// Returns the arguments that [`Self::parse`] takes.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let arguments = match self {
            Self::BareLoop { port, file } => {
                vec![
                    "bare-loop".to_owned(),
                    port.to_string(),
                    file.display().to_string(),
                ]
            }
            Self::Load {
                port,
                stalled,
                paths,
            } => {
                let mut arguments = vec!["load".to_owned(), port.to_string(), stalled.to_string()];
                arguments.extend(paths.iter().cloned());
                arguments
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
        std::iter::once("--child".to_owned())
            .chain(arguments)
            .collect()
    }

    /// Runs the task in this process.
    pub(crate) fn run(self) -> Result<()> {
        // Ends this process if the bench is killed without a chance to clean up.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        let ran = match self {
            Self::BareLoop { port, file } => bare_loop::run(port, &file),
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
        client.send_request(&first, &[])?;
        Ok(client)
    });
    let clients: Vec<Client> = clients.collect::<std::io::Result<_>>()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let started = clients
        .iter()
        .filter(|client| client.has_bytes_by(deadline));
    println!("{}", started.count());
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}

fn probe(address: SocketAddr, path: &str, duration: Duration) -> std::io::Result<()> {
    let end = Instant::now() + duration;
    let mut latencies = Vec::new();
    // Some servers delay a small request for many seconds. The timeout then limits the measured
    // latency, so the figure is better than the server.
    let timeout = (3 * duration).max(Duration::from_secs(2));
    let mut client = Client::connect_with_timeout(address, timeout)?;
    while Instant::now() < end {
        let sent = Instant::now();
        let fetched = client.fetch(path, &[]);
        latencies.push(sent.elapsed().as_secs_f64() * 1e3);
        let is_persistent =
            fetched.is_ok_and(|(head, _)| head.field("Connection") != Some("close"));
        if !is_persistent {
            client = Client::connect_with_timeout(address, timeout)?;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    for fraction in [0.5, 0.99, 1.0] {
        println!("{}", percentile(&latencies, fraction).unwrap_or(f64::NAN));
    }
    Ok(())
}
