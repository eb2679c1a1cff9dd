//! What is measured, and the bars.

use std::cell::OnceCell;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::arguments::Plan;
use crate::cleanup::Undo;
use crate::client::{self, Client};
use crate::environment::Facts;
use crate::pairs::{self, Pairs};
use crate::process::{self, Core, Process};
use crate::servers::{self, Contestant, Running, Server, Setting};
use crate::site::{GIANT, Site};
use crate::slow_disk::SlowDisk;
use crate::statistics::Spread;
use crate::subprocess::Child;
use crate::wrk::{self, Drive, Scripts};

/// How many requests are written at once.
const DEPTH: usize = 16;

/// Something to do, and how cheap it should be.
#[derive(Debug)]
pub(crate) struct Work {
    /// For `--only`.
    pub(crate) name: &'static str,
    title: &'static str,
    kind: Kind,
    bars: &'static [Bar],
}

#[derive(Debug)]
enum Kind {
    /// wrk asks again and again.
    Load(Load),
    /// One download of 1 GiB.
    Giant,
    IdleMemory,
    /// A probe beside downloads that run or stall.
    BesideDownloads,
    /// A probe beside downloads from a slow disk.
    BesideColdDisk,
    Start,
    BinarySize,
}

#[derive(Debug)]
struct Load {
    setting: Setting,
    path: &'static str,
    connections: usize,
    script: Script,
    fields: Fields,
    answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    None,
    Pipelined,
    Zipf,
}

/// What is sent beside the request line and `Host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fields {
    None,
    Close,
    Range,
    /// What a browser sends for a page it has: this server's own tag and date.
    Validators,
}

/// What every server must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Whole,
    Part(usize, usize),
    NotModified,
    /// Each has a page of its own for this.
    NotFound,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bar {
    /// Which of the work's metrics.
    metric: usize,
    against: Against,
    limit: f64,
}

#[derive(Clone, Copy, Debug)]
enum Against {
    Peer(Server),
    NginxAsInstalled,
    /// The one that costs less.
    BetterOf(Server, Server),
    /// The figure itself.
    Nobody,
}

const fn of(server: Server, limit: f64) -> Bar {
    Bar {
        metric: 0,
        against: Against::Peer(server),
        limit,
    }
}

const fn at_most(limit: f64) -> Bar {
    Bar {
        metric: 0,
        against: Against::Nobody,
        limit,
    }
}

const SMALL: Load = Load {
    setting: Setting::SmallFiles,
    path: "/1K.png",
    connections: 64,
    script: Script::None,
    fields: Fields::None,
    answer: Answer::Whole,
};

const WORKS: &[Work] = &[
    Work {
        name: "1-KiB",
        title: "1 KiB, kept alive, 64 connections",
        kind: Kind::Load(SMALL),
        bars: &[
            of(Server::Nginx, 0.72),
            Bar {
                metric: 0,
                against: Against::BetterOf(Server::Lighttpd, Server::H2o),
                limit: 0.80,
            },
            of(Server::Floor, 1.15),
        ],
    },
    Work {
        name: "1-KiB-pipelined",
        title: "1 KiB, pipelined 16 deep",
        kind: Kind::Load(Load {
            script: Script::Pipelined,
            ..SMALL
        }),
        bars: &[of(Server::Nginx, 0.20)],
    },
    Work {
        name: "10000-files",
        title: "10,000 files of 4 KiB, Zipf",
        kind: Kind::Load(Load {
            path: "/many/0.png",
            script: Script::Zipf,
            ..SMALL
        }),
        bars: &[of(Server::Nginx, 0.75)],
    },
    Work {
        name: "100-KiB",
        title: "100 KiB, 64 connections",
        kind: Kind::Load(Load {
            setting: Setting::LargeFiles,
            path: "/100K.png",
            ..SMALL
        }),
        bars: &[of(Server::Nginx, 0.95)],
    },
    Work {
        name: "1-MiB",
        title: "1 MiB, 32 connections",
        kind: Kind::Load(Load {
            setting: Setting::LargeFiles,
            path: "/1M.png",
            connections: 32,
            ..SMALL
        }),
        bars: &[of(Server::Nginx, 1.0)],
    },
    Work {
        name: "1-GiB",
        title: "1 GiB, one connection",
        kind: Kind::Giant,
        bars: &[of(Server::Nginx, 1.0)],
    },
    Work {
        name: "new-connections",
        title: "1 KiB, a new connection per request",
        kind: Kind::Load(Load {
            fields: Fields::Close,
            ..SMALL
        }),
        bars: &[of(Server::Nginx, 1.1)],
    },
    Work {
        name: "304",
        title: "304 Not Modified",
        kind: Kind::Load(Load {
            fields: Fields::Validators,
            answer: Answer::NotModified,
            ..SMALL
        }),
        bars: &[of(Server::Nginx, 0.75)],
    },
    Work {
        name: "404",
        title: "404 Not Found",
        kind: Kind::Load(Load {
            path: "/none.png",
            answer: Answer::NotFound,
            ..SMALL
        }),
        bars: &[of(Server::Nginx, 0.75)],
    },
    Work {
        name: "range",
        title: "1 KiB of 100 KiB, a single range",
        kind: Kind::Load(Load {
            path: "/100K.png",
            fields: Fields::Range,
            answer: Answer::Part(2048, 3072),
            ..SMALL
        }),
        bars: &[of(Server::Nginx, 0.75)],
    },
    Work {
        name: "access-log",
        title: "1 KiB with the access log, combined",
        kind: Kind::Load(Load {
            setting: Setting::Logged,
            ..SMALL
        }),
        bars: &[of(Server::Nginx, 0.75)],
    },
    Work {
        name: "idle-memory",
        title: "Idle kept-alive connections",
        kind: Kind::IdleMemory,
        bars: &[at_most(256.0)],
    },
    Work {
        name: "beside-downloads",
        title: "1 KiB beside 4 downloads that run and 200 that stall",
        kind: Kind::BesideDownloads,
        bars: &[
            of(Server::Nginx, 0.80),
            Bar {
                metric: 1,
                against: Against::Peer(Server::Nginx),
                limit: 1.0,
            },
            Bar {
                metric: 1,
                against: Against::NginxAsInstalled,
                limit: 0.2,
            },
        ],
    },
    Work {
        name: "cold-disk",
        title: "1 KiB beside 8 downloads from a disk of 2 MB/s",
        kind: Kind::BesideColdDisk,
        bars: &[
            of(Server::Nginx, 1.0),
            Bar {
                metric: 1,
                against: Against::Peer(Server::Nginx),
                limit: 1.0,
            },
            Bar {
                metric: 2,
                against: Against::Nobody,
                limit: 10.0,
            },
        ],
    },
    Work {
        name: "start",
        title: "From start to first byte",
        kind: Kind::Start,
        bars: &[at_most(5.0)],
    },
    Work {
        name: "size",
        title: SIZE.0,
        kind: Kind::BinarySize,
        bars: &[at_most(SIZE.1)],
    },
];

/// Which program was built is known when this is.
const SIZE: (&str, f64) = match (cfg!(feature = "sqlite"), cfg!(feature = "compress")) {
    (false, false) => ("The program without default features", 1.5),
    _ => ("The program with default features", 6.0),
};

/// What a work's figures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) figure: Figure,
}

/// In which plot a figure stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    None,
    Cpu,
    Latency,
}

const CPU_PER_REQUEST: &[Metric] = &[Metric {
    name: "CPU per request",
    unit: "µs",
    figure: Figure::Cpu,
}];

const CPU_PER_MIB: &[Metric] = &[Metric {
    name: "CPU per MiB",
    unit: "µs",
    figure: Figure::Cpu,
}];

const BYTES: &[Metric] = &[Metric {
    name: "memory per connection",
    unit: "bytes",
    figure: Figure::None,
}];

const TIME: &[Metric] = &[Metric {
    name: "time",
    unit: "ms",
    figure: Figure::None,
}];

const SIZES: &[Metric] = &[Metric {
    name: "size",
    unit: "MB",
    figure: Figure::None,
}];

const LATENCIES: &[Metric] = &[
    Metric {
        name: "p50",
        unit: "ms",
        figure: Figure::Latency,
    },
    Metric {
        name: "p99",
        unit: "ms",
        figure: Figure::Latency,
    },
    Metric {
        name: "max",
        unit: "ms",
        figure: Figure::Latency,
    },
];

/// What came of one metric of a work.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) title: &'static str,
    pub(crate) metric: Metric,
    /// The median of all our measurements.
    pub(crate) ours: Result<f64>,
    pub(crate) rows: Vec<Row>,
    pub(crate) verdicts: Vec<Verdict>,
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) contestant: Contestant,
    pub(crate) result: Result<Compared>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Compared {
    /// The median of its measurements.
    pub(crate) value: f64,
    /// Ours / theirs, pair by pair.
    pub(crate) ratio: Spread,
}

#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) bar: String,
    /// What stands against the bar, or why nothing does.
    pub(crate) measured: Result<f64>,
    pub(crate) limit: f64,
}

impl Verdict {
    pub(crate) fn is_missed(&self) -> bool {
        matches!(self.measured, Ok(value) if value > self.limit)
    }
}

/// What all works share.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    plan: Plan,
    facts: &'a Facts,
    scripts: Scripts,
    // It lies within the site's folder, so it goes first.
    slow_disk: OnceCell<Result<SlowDisk>>,
    site: Site,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(plan: Plan, facts: &'a Facts) -> Result<Self> {
        let site = Site::new()?;
        let scripts = Scripts::write(&site.scratch, DEPTH)?;
        Ok(Self {
            plan,
            facts,
            site,
            scripts,
            slow_disk: OnceCell::new(),
        })
    }

    fn start(&self, contestant: Contestant, root: &Path) -> Result<Running> {
        let scratch = &self.site.scratch;
        servers::start(contestant, root, scratch, "/1K.png", self.facts.cores)
    }

    /// tws and everybody who is installed, set up for a work.
    fn contestants(&self, setting: Setting) -> (Contestant, Vec<Contestant>) {
        let with = |server| Contestant { server, setting };
        let peers = self.facts.peers.iter().map(|(peer, _)| with(*peer));
        let others = peers.chain([with(Server::TwsAgain)]).collect();
        (with(Server::Tws), others)
    }
}

/// The works whose names contain one of `names`; all, if there are none.
pub(crate) fn named(names: &[&str]) -> Vec<&'static Work> {
    let is_wanted =
        |work: &&Work| names.is_empty() || names.iter().any(|name| work.name.contains(name));
    WORKS.iter().filter(is_wanted).collect()
}

pub(crate) fn names() -> String {
    let names: Vec<&str> = WORKS.iter().map(|work| work.name).collect();
    names.join(", ")
}

impl Work {
    /// One outcome per metric, also of what could not be measured.
    pub(crate) fn measure(&self, bench: &Bench<'_>) -> Vec<Outcome> {
        let metrics = self.kind.metrics();
        let measured = self.kind.measure(bench);
        let of_metric = |(index, metric): (usize, &Metric)| {
            let (ours, rows) = match &measured {
                Ok(measured) => measured.of_metric(index),
                Err(reason) => (Err(reason.clone()), Vec::new()),
            };
            let bars = self.bars.iter().filter(|bar| bar.metric == index);
            let verdict = |bar: &Bar| bar.verdict(*metric, &ours, &rows, bench.facts);
            let verdicts = bars.map(verdict).collect();
            Outcome {
                title: self.title,
                metric: *metric,
                ours,
                rows,
                verdicts,
            }
        };
        metrics.iter().enumerate().map(of_metric).collect()
    }
}

/// Everybody's measurements.
#[derive(Debug)]
struct Measured {
    /// Per metric.
    ours: Vec<Vec<f64>>,
    others: Vec<(Contestant, Result<Vec<Pairs>>)>,
}

impl Measured {
    fn of_metric(&self, index: usize) -> (Result<f64>, Vec<Row>) {
        let ours = self.ours.get(index).and_then(|values| Spread::of(values));
        let compared = |pairs: &Vec<Pairs>| {
            let pairs = pairs.get(index)?;
            Some(Compared {
                value: Spread::of(&pairs.theirs)?.median,
                ratio: pairs.ratio()?,
            })
        };
        let row = |(contestant, pairs): &(Contestant, Result<Vec<Pairs>>)| Row {
            contestant: *contestant,
            result: pairs
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|pairs| compared(pairs).ok_or_else(|| "it has no figure".to_owned())),
        };
        let ours = ours.map(|spread| spread.median);
        (
            ours.ok_or_else(|| "no figure".to_owned()),
            self.others.iter().map(row).collect(),
        )
    }
}

impl Bar {
    fn verdict(self, metric: Metric, ours: &Result<f64>, rows: &[Row], facts: &Facts) -> Verdict {
        let limit = self.limit;
        let ratio = |server: Server, as_installed: bool| {
            let row = rows.iter().find(|row| {
                let is_installed = row.contestant.setting == Setting::AsInstalled;
                row.contestant.server == server && is_installed == as_installed
            });
            match row.map(|row| &row.result) {
                Some(Ok(compared)) => Ok(compared.ratio.median),
                Some(Err(reason)) => Err(format!("{}: {reason}", server.name())),
                None if !facts.has(server) => Err(format!("{} is not installed", server.name())),
                None => Err(ours.clone().err().unwrap_or_default()),
            }
        };
        let (bar, measured) = match self.against {
            Against::Peer(server) => (
                format!("{limit:.2} of {}", server.name()),
                ratio(server, false),
            ),
            Against::NginxAsInstalled => (
                format!("{limit:.2} of nginx as installed"),
                ratio(Server::Nginx, true),
            ),
            Against::BetterOf(one, other) => (
                format!(
                    "{limit:.2} of the better of {} and {}",
                    one.name(),
                    other.name()
                ),
                match (ratio(one, false), ratio(other, false)) {
                    // Who costs less makes our ratio greater.
                    (Ok(one), Ok(other)) => Ok(one.max(other)),
                    (Err(reason), _) | (_, Err(reason)) => Err(reason),
                },
            ),
            Against::Nobody => (format!("{limit} {}", metric.unit), ours.clone()),
        };
        Verdict {
            bar,
            measured,
            limit,
        }
    }
}

impl Kind {
    fn metrics(&self) -> &'static [Metric] {
        match self {
            Self::Load(_) => CPU_PER_REQUEST,
            Self::Giant => CPU_PER_MIB,
            Self::IdleMemory => BYTES,
            Self::BesideDownloads | Self::BesideColdDisk => LATENCIES,
            Self::Start => TIME,
            Self::BinarySize => SIZES,
        }
    }

    fn measure(&self, bench: &Bench<'_>) -> Result<Measured> {
        match self {
            Self::Load(load) => load.measure(bench),
            Self::Giant => giant(bench),
            Self::IdleMemory => idle_memory(bench),
            Self::BesideDownloads => beside_downloads(bench),
            Self::BesideColdDisk => beside_cold_disk(bench),
            Self::Start => start(bench),
            Self::BinarySize => binary_size(bench),
        }
    }
}

/// A contest of servers that run all the while. Who does not start, or fails `check`, is left out
/// with the reason; `measure` gets the servers and what `check` found out.
fn among_running<T>(
    bench: &Bench<'_>,
    root: &Path,
    (ours, others): (Contestant, Vec<Contestant>),
    check: impl Fn(&Running) -> Result<T>,
    measure: impl Fn(&Running, &T) -> Result<Vec<f64>>,
) -> Result<Measured> {
    let start = |contestant: Contestant| {
        let running = bench.start(contestant, root)?;
        let checked = check(&running)?;
        Ok::<_, String>((running, checked))
    };
    let ours = start(ours)?;
    let started: Vec<_> = others.iter().map(|other| (*other, start(*other))).collect();
    let mut running = Vec::new();
    let mut left_out = Vec::new();
    for (contestant, started) in started {
        match started {
            Ok(server) => running.push(server),
            Err(reason) => left_out.push((contestant, Err(reason))),
        }
    }
    let each = |(running, checked): &(Running, T)| measure(running, checked);
    let mut measured = contest(&ours, &running, bench.plan.rounds, each, |(running, _)| {
        running.contestant
    })?;
    measured.others.extend(left_out);
    Ok(measured)
}

fn contest<C>(
    ours: &C,
    others: &[C],
    rounds: usize,
    measure: impl Fn(&C) -> Result<Vec<f64>>,
    name: impl Fn(&C) -> Contestant,
) -> Result<Measured> {
    let mut all_ours: Vec<Vec<f64>> = Vec::new();
    let results = pairs::run(ours, others, rounds, |contestant| {
        let values = measure(contestant)?;
        if std::ptr::eq(contestant, ours) {
            all_ours.resize(values.len(), Vec::new());
            let columns = all_ours.iter_mut().zip(&values);
            columns.for_each(|(column, value)| column.push(*value));
        }
        Ok(values)
    })?;
    let others = others.iter().map(name).zip(results).collect();
    Ok(Measured {
        ours: all_ours,
        others,
    })
}

impl Load {
    fn measure(&self, bench: &Bench<'_>) -> Result<Measured> {
        let wrk = bench.facts.wrk.as_deref().ok_or("wrk is not installed")?;
        let (ours, mut others) = bench.contestants(self.setting);
        // The bare loop knows one file.
        if self.path == SMALL.path && self.fields == Fields::None && self.setting == SMALL.setting {
            others.push(Contestant {
                server: Server::Floor,
                setting: self.setting,
            });
        }
        let root = &bench.site.root;
        let check = |running: &Running| self.check(bench, running);
        let measure = |running: &Running, fields: &Vec<String>| {
            let drive = Drive {
                url: &format!("http://{}{}", running.address, self.path),
                connections: self.connections,
                fields,
                script: match self.script {
                    Script::None => None,
                    Script::Pipelined => Some(&bench.scripts.pipelined),
                    Script::Zipf => Some(&bench.scripts.zipf),
                },
                duration: bench.plan.load,
            };
            self.drive(bench, wrk, &drive, running)
        };
        among_running(bench, root, (ours, others), check, measure)
    }

    /// Microseconds of CPU time per request.
    fn drive(
        &self,
        bench: &Bench<'_>,
        wrk: &Path,
        drive: &Drive<'_>,
        running: &Running,
    ) -> Result<Vec<f64>> {
        let log = bench.site.scratch.join(running.address.port().to_string());
        let log = log.join("access.log");
        let lines_before = lines(&log);
        let before = running.process.cpu_time();
        let count = wrk::run(wrk, drive, bench.facts.cores)?;
        if self.setting == Setting::Logged {
            // Who writes from another thread may be a little behind; that is work, too.
            std::thread::sleep(Duration::from_millis(200));
        }
        let spent = running.process.cpu_time().since(&before);
        let refused = match self.answer {
            Answer::NotFound => count.answers,
            _ => 0,
        };
        if count.errors > 0 {
            return Err(format!("wrk saw {} broken connections", count.errors));
        }
        if count.refused != refused {
            return Err(format!("wrk saw {} errors", count.refused));
        }
        if self.setting == Setting::Logged {
            // Some keep the last 64 KiB to themselves.
            let logged = lines(&log) - lines_before;
            if logged + 1_500 < count.answers {
                return Err(format!("it logged {logged} of {} requests", count.answers));
            }
        }
        Ok(vec![spent / count.answers as f64 / 1e3])
    }

    /// Equal work: what is answered is compared with the file. Gives the fields to send.
    fn check(&self, bench: &Bench<'_>, running: &Running) -> Result<Vec<String>> {
        let address = running.address;
        let path = self.path;
        let fields = match self.fields {
            Fields::None => {
                // The rarest file of the Zipf work is there, too.
                if self.script == Script::Zipf {
                    let (head, _) = client::fetch(address, "/many/9999.png", &[])?;
                    if head.status != 200 {
                        return Err(format!("it answers {} for the rarest file", head.status));
                    }
                }
                Vec::new()
            }
            Fields::Close => vec!["Connection: close".to_owned()],
            Fields::Range => vec!["Range: bytes=2048-3071".to_owned()],
            Fields::Validators => {
                let (head, _) = client::fetch(address, path, &[])?;
                let field = |given: &str, sent: &str| {
                    let value = head.field(given).ok_or_else(|| format!("no {given}"))?;
                    Ok::<_, String>(format!("{sent}: {value}"))
                };
                vec![
                    field("ETag", "If-None-Match")?,
                    field("Last-Modified", "If-Modified-Since")?,
                ]
            }
        };
        let (head, content) = client::fetch(address, path, &fields)?;
        let file = || {
            let path = bench.site.root.join(&path[1..]);
            fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let (status, expected) = match self.answer {
            Answer::Whole => (200, Some(file()?)),
            Answer::Part(from, to) => (206, Some(file()?[from..to].to_vec())),
            Answer::NotModified => (304, Some(Vec::new())),
            Answer::NotFound => (404, None),
        };
        if head.status != status {
            return Err(format!("it answers {} instead of {status}", head.status));
        }
        if expected.is_some_and(|expected| expected != content) {
            return Err("it sends other bytes".to_owned());
        }
        if self.script == Script::Pipelined {
            let answers = client::pipelined(address, path, DEPTH, &content);
            match answers.map_err(|error| format!("it does not pipeline: {error}"))? {
                DEPTH => {}
                other => return Err(format!("it gives {other} answers to {DEPTH} requests")),
            }
        }
        Ok(fields)
    }
}

fn lines(file: &Path) -> u64 {
    let text = fs::read(file).unwrap_or_default();
    memchr::memchr_iter(b'\n', &text).count() as u64
}

fn giant(bench: &Bench<'_>) -> Result<Measured> {
    let path = bench.site.giant()?;
    let root = &bench.site.root;
    let check = |running: &Running| {
        // The beginning, the middle and the end are compared; the length is, with each download.
        let mut file = fs::File::open(root.join(&path[1..])).map_err(|error| error.to_string())?;
        for from in [0, GIANT / 2, GIANT - (1 << 20)] {
            let range = format!("Range: bytes={from}-{}", from + (1 << 20) - 1);
            let (_, content) = client::fetch(running.address, path, &[range])?;
            let mut expected = vec![0; 1 << 20];
            std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(from))
                .and_then(|_| std::io::Read::read_exact(&mut file, &mut expected))
                .map_err(|error| error.to_string())?;
            if content != expected {
                return Err("it sends other bytes".to_owned());
            }
        }
        Ok(())
    };
    let measure = |running: &Running, (): &()| {
        let failed = |error| format!("the download failed: {error}");
        let before = running.process.cpu_time();
        let mut client = Client::connect(running.address).map_err(failed)?;
        let mut received = 0;
        let count = |bytes: &[u8]| received += bytes.len() as u64;
        client.download(path, &[], count).map_err(failed)?;
        let spent = running.process.cpu_time().since(&before);
        match received {
            GIANT => Ok(vec![spent / 1e3 / (GIANT >> 20) as f64]),
            _ => Err(format!("it sent {received} bytes of {GIANT}")),
        }
    };
    among_running(
        bench,
        root,
        bench.contestants(Setting::LargeFiles),
        check,
        measure,
    )
}

fn idle_memory(bench: &Bench<'_>) -> Result<Measured> {
    let spare = process::descriptor_limit().saturating_sub(500);
    let count = bench
        .plan
        .idle
        .min(usize::try_from(spare).unwrap_or(usize::MAX));
    let (ours, others) = bench.contestants(Setting::SmallFiles);
    let measure = |contestant: &Contestant| {
        let running = bench.start(*contestant, &bench.site.root)?;
        let before = running.process.own_memory();
        let hold = |_| {
            let mut client = Client::connect(running.address)?;
            client.fetch("/1K.png", &[])?;
            Ok(client.into_stream())
        };
        let count = count.min(contestant.server.most_connections());
        let held: std::io::Result<Vec<_>> = (0..count).map(hold).collect();
        let held = held.map_err(|error| format!("{count} connections are too many: {error}"))?;
        std::thread::sleep(Duration::from_millis(300));
        let grown = running.process.own_memory().saturating_sub(before);
        drop(held);
        Ok(vec![grown as f64 / count as f64])
    };
    contest(&ours, &others, 1, measure, |contestant| *contestant)
}

fn beside_downloads(bench: &Bench<'_>) -> Result<Measured> {
    const RUNNING: usize = 4;
    const STALLED: usize = 200;
    let path = bench.site.giant()?;
    let (ours, mut others) = bench.contestants(Setting::LargeFiles);
    if bench.facts.has(Server::Nginx) {
        others.insert(
            1,
            Contestant {
                server: Server::Nginx,
                setting: Setting::AsInstalled,
            },
        );
    }
    let root = &bench.site.root;
    let measure = |running: &Running, (): &()| {
        let paths = vec![path.to_owned(); RUNNING];
        let _load = begin_load(bench, running, STALLED, paths)?;
        probe(bench, running)
    };
    among_running(bench, root, (ours, others), |_| Ok(()), measure)
}

fn beside_cold_disk(bench: &Bench<'_>) -> Result<Measured> {
    let disk = bench
        .slow_disk
        .get_or_init(|| SlowDisk::make(&bench.site.scratch));
    let disk = disk.as_ref().map_err(Clone::clone)?;
    let check = |running: &Running| {
        let slowness = disk.slow_down(running)?;
        disk.check(running).map(|()| slowness)
    };
    let measure = |running: &Running, _: &Undo| {
        disk.cool()?;
        let _load = begin_load(bench, running, 0, SlowDisk::paths())?;
        probe(bench, running)
    };
    among_running(
        bench,
        &disk.root,
        bench.contestants(Setting::ColdDisk),
        check,
        measure,
    )
}

/// Downloads that go on until the process is dropped.
fn begin_load(
    bench: &Bench<'_>,
    running: &Running,
    stalled: usize,
    paths: Vec<String>,
) -> Result<Process> {
    let port = running.address.port();
    let child = Child::Load {
        port,
        stalled,
        paths,
    };
    let mut command = Command::new(own_program()?);
    command.args(child.arguments()).stdout(Stdio::piped());
    let process = Process::start(&mut command, bench.facts.cores, Core::Client)?;
    let mut line = String::new();
    if let Some(stdout) = process.stdout() {
        let mut stdout = std::io::BufReader::new(stdout);
        std::io::BufRead::read_line(&mut stdout, &mut line).map_err(|error| error.to_string())?;
    }
    // The downloads that run fill their windows meanwhile.
    std::thread::sleep(Duration::from_millis(200));
    match line.trim().parse::<usize>() {
        Ok(began) if began == stalled => Ok(process),
        Ok(began) => Err(format!(
            "only {began} of {stalled} downloads began within 10 s"
        )),
        Err(_) => Err("the downloads did not begin".to_owned()),
    }
}

/// Milliseconds: median, 99th percentile, greatest.
fn probe(bench: &Bench<'_>, running: &Running) -> Result<Vec<f64>> {
    let child = Child::Probe {
        port: running.address.port(),
        path: SMALL.path.to_owned(),
        duration: bench.plan.probe,
    };
    let program = own_program()?;
    let mut command = match &bench.facts.real_time {
        Some(chrt) => {
            let mut command = Command::new(chrt);
            command.args(["-f", "10"]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(child.arguments()).stdout(Stdio::piped());
    let process = Process::start(&mut command, bench.facts.cores, Core::Client)?;
    process.wait_for(bench.plan.probe + Duration::from_secs(30))?;
    let text = process.output()?;
    let values: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    match values.len() == LATENCIES.len() {
        true => Ok(values),
        false => Err("the probe was cut off".to_owned()),
    }
}

fn own_program() -> Result<std::path::PathBuf> {
    std::env::current_exe().map_err(|error| format!("cannot start itself: {error}"))
}

fn start(bench: &Bench<'_>) -> Result<Measured> {
    let (ours, others) = bench.contestants(Setting::SmallFiles);
    let measure = |contestant: &Contestant| {
        let running = bench.start(*contestant, &bench.site.root)?;
        Ok(vec![running.start.as_secs_f64() * 1e3])
    };
    let rounds = bench.plan.short_rounds;
    contest(&ours, &others, rounds, measure, |contestant| *contestant)
}

/// Files only: what a program loads beside itself is not counted.
fn binary_size(bench: &Bench<'_>) -> Result<Measured> {
    let (ours, others) = bench.contestants(Setting::SmallFiles);
    let others: Vec<Contestant> = others
        .into_iter()
        .filter(|contestant| contestant.server != Server::TwsAgain)
        .collect();
    let megabytes = |path: &Path| {
        let len = fs::metadata(path).map(|file| file.len());
        let len = len.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok::<_, String>(vec![len as f64 / 1e6])
    };
    let measure = |contestant: &Contestant| {
        let program = contestant.server.program().ok_or("it is not installed")?;
        if contestant.server != Server::Tws {
            return megabytes(&program);
        }
        if cfg!(debug_assertions) {
            return Err("this is no release build".to_owned());
        }
        // Benches are built with symbols, releases without.
        let strip = crate::environment::program("strip").ok_or("strip is not installed")?;
        let stripped = bench.site.scratch.join("tws-stripped");
        let mut command = Command::new(strip);
        let status = command.arg("-o").arg(&stripped).arg(program).status();
        match status {
            Ok(status) if status.success() => megabytes(&stripped),
            _ => Err("strip failed".to_owned()),
        }
    };
    contest(&ours, &others, 1, measure, |contestant| *contestant)
}
