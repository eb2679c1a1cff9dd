//! Tasks that run in processes of their own: the bench starts itself with `--child` and arguments.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Signal, set_parent_process_death_signal};
use rustls::ClientConfig;

use crate::Result;
use crate::client::Client;
use crate::statistics::percentile;
use crate::tls_client::{self, Sessions};

mod bare_loop;

/// A task for a process of its own.
#[derive(Debug)]
pub(crate) enum Subprocess {
    /// The bare event loop, with the response that it sends.
    BareLoop { port: u16, response: PathBuf },
    /// Downloads until it is killed. Prints how many of the stalled downloads have started.
    Load {
        port: u16,
        uses_tls: bool,
        stalled: usize,
        /// One download after another of each of these runs; the first is the one that stalls.
        paths: Vec<String>,
    },
    /// Sends one request after another and prints the median, the 99th percentile and the greatest
    /// latency in milliseconds.
    Probe {
        port: u16,
        uses_tls: bool,
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
        let tls = |text: &str| text == "tls";
        let child = match args[..] {
            ["--child", "bare-loop", at, response] => port(at).map(|port| Self::BareLoop {
                port,
                response: PathBuf::from(response),
            }),
            ["--child", "load", at, over, stalled, ref paths @ ..] => port(at).and_then(|port| {
                Ok(Self::Load {
                    port,
                    uses_tls: tls(over),
                    stalled: number(stalled)? as usize,
                    paths: paths.iter().map(|path| (*path).to_owned()).collect(),
                })
            }),
            ["--child", "probe", at, over, path, milliseconds] => port(at).and_then(|port| {
                Ok(Self::Probe {
                    port,
                    uses_tls: tls(over),
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
        let over = |uses_tls: bool| if uses_tls { "tls" } else { "plain" }.to_owned();
        let arguments = match self {
            Self::BareLoop { port, response } => {
                vec![
                    "bare-loop".to_owned(),
                    port.to_string(),
                    response.display().to_string(),
                ]
            }
            Self::Load {
                port,
                uses_tls,
                stalled,
                paths,
            } => {
                let mut arguments = vec![
                    "load".to_owned(),
                    port.to_string(),
                    over(*uses_tls),
                    stalled.to_string(),
                ];
                arguments.extend(paths.iter().cloned());
                arguments
            }
            Self::Probe {
                port,
                uses_tls,
                path,
                duration,
            } => vec![
                "probe".to_owned(),
                port.to_string(),
                over(*uses_tls),
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
        let server = |port: u16, uses_tls: bool| {
            let config = || tls_client::config(Sessions::Resumed);
            Ok::<_, String>(ClientOf {
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                tls: uses_tls.then(config).transpose()?,
            })
        };
        let ran = match self {
            Self::BareLoop { port, response } => bare_loop::run(port, &response),
            Self::Load {
                port,
                uses_tls,
                stalled,
                paths,
            } => load(&server(port, uses_tls)?, stalled, paths),
            Self::Probe {
                port,
                uses_tls,
                path,
                duration,
            } => probe(&server(port, uses_tls)?, &path, duration),
        };
        ran.map_err(|error| error.to_string())
    }
}

/// How to connect to a server.
#[derive(Clone)]
struct ClientOf {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl ClientOf {
    fn connect(&self, timeout: Duration) -> std::io::Result<Client> {
        Client::connect_over(self.address, self.tls.as_ref(), timeout)
    }
}

fn load(server: &ClientOf, stalled: usize, paths: Vec<String>) -> std::io::Result<()> {
    let first = paths.first().cloned().unwrap_or_default();
    for path in paths {
        let server = server.clone();
        std::thread::spawn(move || {
            loop {
                let Ok(mut client) = server.connect(Client::TIMEOUT) else {
                    continue;
                };
                while client.download(&path, &[], |_| {}).is_ok() {}
            }
        });
    }
    let deadline = Instant::now() + Client::TIMEOUT;
    let mut clients = Vec::with_capacity(stalled);
    // With TLS, connecting includes a handshake, which takes some servers a second beside downloads.
    while clients.len() < stalled && Instant::now() < deadline {
        let mut client = server.connect(Client::TIMEOUT)?;
        client.send_request(&first, &[])?;
        clients.push(client);
    }
    let started = clients
        .iter_mut()
        .filter_map(|client| client.has_bytes_by(deadline).then_some(()));
    println!("{}", started.count());
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}

fn probe(server: &ClientOf, path: &str, duration: Duration) -> std::io::Result<()> {
    let end = Instant::now() + duration;
    let mut latencies = Vec::new();
    // Some servers delay a small request for many seconds. The timeout then limits the measured
    // latency, so the figure is better than the server.
    let timeout = (3 * duration).max(Duration::from_secs(2));
    let mut client = server.connect(timeout)?;
    while Instant::now() < end {
        let sent = Instant::now();
        let fetched = client.fetch(path, &[]);
        latencies.push(sent.elapsed().as_secs_f64() * 1e3);
        let is_persistent =
            fetched.is_ok_and(|(head, _)| head.field("Connection") != Some("close"));
        if !is_persistent {
            client = server.connect(timeout)?;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    for fraction in [0.5, 0.99, 1.0] {
        println!("{}", percentile(&latencies, fraction).unwrap_or(f64::NAN));
    }
    Ok(())
}
