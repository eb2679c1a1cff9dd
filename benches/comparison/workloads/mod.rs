//! The workloads and their targets. Each child module measures one kind of workload.

mod binary_size;
mod cold_compression;
mod cold_disk;
pub(crate) mod context;
mod during_downloads;
mod http2_load;
mod http_load;
mod idle_memory;
mod large_download;
mod latency;
mod measurement;
pub(crate) mod result;
mod start_time;
mod stylesheet;
mod target;
mod tls_handshake;

use crate::Result;
use crate::servers::{Profile, ServerKind, Transport};
use crate::tls_client::Sessions;

use context::{BenchContext, FEW_RULES};
use http_load::{ExpectedResponse, HttpLoad, LoadScript, RequestHeaders, SMALL_FILE};
use http2_load::{Http2Content, Http2Load};
use measurement::Measurements;
use result::{Metric, MetricResult};
use target::{Baseline, Target};

/// A task for the servers, and the targets for tws.
#[derive(Debug)]
pub(crate) struct Workload {
    /// The name for `--only`.
    pub(crate) name: &'static str,
    title: &'static str,
    kind: WorkloadKind,
    targets: &'static [Target],
}

#[derive(Debug)]
enum WorkloadKind {
    HttpLoad(HttpLoad),
    TlsHandshake(Sessions),
    ColdCompression,
    LargeDownload(Transport),
    Http2Load(Http2Load),
    Stylesheet,
    IdleMemory,
    DuringDownloads(Transport),
    ColdDisk,
    StartTime,
    BinarySize,
}

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "1-KiB",
        title: "1 KiB, kept alive, 64 connections",
        kind: WorkloadKind::HttpLoad(SMALL_FILE),
        targets: SMALL_RESPONSE_TARGETS,
    },
    Workload {
        name: "1-KiB-pipelined",
        title: "1 KiB, pipelined 16 deep",
        kind: WorkloadKind::HttpLoad(HttpLoad {
            script: LoadScript::Pipelined,
            ..SMALL_FILE
        }),
        // The bare loop sends each response separately.
        targets: &[Target::ratio(ServerKind::BareLoop, 1.6)],
    },
    Workload {
        name: "browser",
        title: "1 KiB for a browser (12 header fields)",
        kind: WorkloadKind::HttpLoad(HttpLoad {
            headers: RequestHeaders::Browser,
            ..SMALL_FILE
        }),
        targets: &[Target::best_peer(0, 0.97)],
    },
    Workload {
        name: "10000-files",
        title: "10,000 files of 4 KiB, Zipf",
        kind: WorkloadKind::HttpLoad(HttpLoad {
            path: "/many/0.png",
            script: LoadScript::Zipf,
            ..SMALL_FILE
        }),
        targets: &[Target::ratio(ServerKind::Nginx, 0.75)],
    },
    Workload {
        name: "100-KiB",
        title: "100 KiB, 64 connections",
        kind: WorkloadKind::HttpLoad(MEDIUM_FILE),
        targets: &[Target::best_peer(1, 0.95)],
    },
    Workload {
        name: "1-MiB",
        title: "1 MiB, 32 connections",
        kind: WorkloadKind::HttpLoad(LARGE_FILE),
        targets: &[Target::best_peer(1, 0.95)],
    },
    Workload {
        name: "1-GiB",
        title: "1 GiB, one connection",
        kind: WorkloadKind::LargeDownload(Transport::Http1),
        targets: &[Target::best_peer(1, 0.95)],
    },
    Workload {
        name: "new-connections",
        title: "1 KiB, a new connection per request",
        kind: WorkloadKind::HttpLoad(HttpLoad {
            headers: RequestHeaders::Close,
            ..SMALL_FILE
        }),
        targets: &[Target::ratio(ServerKind::Nginx, 1.1)],
    },
    Workload {
        name: "304",
        title: "304 Not Modified",
        kind: WorkloadKind::HttpLoad(HttpLoad {
            headers: RequestHeaders::Validators,
            expected: ExpectedResponse::NotModified,
            ..SMALL_FILE
        }),
        targets: SMALL_RESPONSE_TARGETS,
    },
    Workload {
        name: "404",
        title: "404 Not Found",
        kind: WorkloadKind::HttpLoad(HttpLoad {
            path: "/none.png",
            expected: ExpectedResponse::NotFound,
            ..SMALL_FILE
        }),
        targets: SMALL_RESPONSE_TARGETS,
    },
    Workload {
        name: "range",
        title: "1 KiB of 100 KiB, a single range",
        kind: WorkloadKind::HttpLoad(HttpLoad {
            path: "/100K.png",
            headers: RequestHeaders::Range,
            expected: ExpectedResponse::Range(2048, 3072),
            ..SMALL_FILE
        }),
        targets: SMALL_RESPONSE_TARGETS,
    },
    Workload {
        name: "access-log",
        title: "1 KiB with the access log, combined",
        kind: WorkloadKind::HttpLoad(HttpLoad {
            profile: Profile::AccessLog,
            ..SMALL_FILE
        }),
        targets: &[Target::ratio(ServerKind::Nginx, 0.75)],
    },
    Workload {
        name: "rules-10",
        title: "1 KiB with 10 rules",
        kind: WorkloadKind::HttpLoad(HttpLoad {
            profile: FEW_RULES,
            ..SMALL_FILE
        }),
        targets: &[],
    },
    Workload {
        name: "rules-10000",
        title: "1 KiB with 10,000 rules",
        kind: WorkloadKind::HttpLoad(HttpLoad {
            profile: Profile::Rules(10_000),
            ..SMALL_FILE
        }),
        targets: &[Target {
            metric: 0,
            baseline: Baseline::Above(FEW_RULES),
            limit: 1.0,
        }],
    },
    Workload {
        name: "compression-warm",
        title: "20 kB of text with gzip, requested before",
        kind: WorkloadKind::HttpLoad(HttpLoad {
            profile: Profile::Compression,
            path: "/text/0.html",
            headers: RequestHeaders::Gzip,
            expected: ExpectedResponse::Compressed,
            ..SMALL_FILE
        }),
        targets: &[],
    },
    Workload {
        name: "compression-cold",
        title: "20 kB of text with gzip, for the first time",
        kind: WorkloadKind::ColdCompression,
        targets: &[],
    },
    Workload {
        name: "tls-full",
        title: "TLS: full handshake, 1 KiB, close",
        kind: WorkloadKind::TlsHandshake(Sessions::New),
        targets: &[Target::ratio(ServerKind::Nginx, 0.60)],
    },
    Workload {
        name: "tls-resumed",
        title: "TLS: resumed handshake, 1 KiB, close",
        kind: WorkloadKind::TlsHandshake(Sessions::Resumed),
        targets: &[Target::ratio(ServerKind::Nginx, 0.60)],
    },
    Workload {
        name: "tls-1-KiB",
        title: "TLS: 1 KiB, kept alive, 64 connections",
        kind: WorkloadKind::HttpLoad(SMALL_FILE.over_tls()),
        targets: &[Target::ratio(ServerKind::Nginx, 0.55)],
    },
    Workload {
        name: "tls-100-KiB",
        title: "TLS: 100 KiB, 64 connections",
        kind: WorkloadKind::HttpLoad(MEDIUM_FILE.over_tls()),
        targets: &[Target::ratio(ServerKind::Nginx, 0.50)],
    },
    Workload {
        name: "tls-1-MiB",
        title: "TLS: 1 MiB, 32 connections",
        kind: WorkloadKind::HttpLoad(LARGE_FILE.over_tls()),
        targets: &[Target::ratio(ServerKind::Nginx, 0.50)],
    },
    Workload {
        name: "tls-1-GiB",
        title: "TLS: 1 GiB, one connection",
        kind: WorkloadKind::LargeDownload(Transport::Http1Tls),
        targets: &[Target::ratio(ServerKind::Nginx, 0.55)],
    },
    Workload {
        name: "h2-1-KiB",
        title: "1 KiB, HTTP/2, 10 × 32 streams",
        kind: WorkloadKind::Http2Load(Http2Load {
            transport: Transport::Http2Cleartext,
            content: HTTP2_SMALL_FILE,
        }),
        targets: &[Target::ratio(ServerKind::Nginx, 0.85)],
    },
    Workload {
        name: "h2-tls-1-KiB",
        title: "1 KiB, HTTP/2 and TLS, 10 × 32 streams",
        kind: WorkloadKind::Http2Load(Http2Load {
            transport: Transport::Http2Tls,
            content: HTTP2_SMALL_FILE,
        }),
        targets: &[
            Target::ratio(ServerKind::Nginx, 0.85),
            Target::ratio(ServerKind::H2o, 0.95),
        ],
    },
    Workload {
        name: "h2-100-KiB",
        title: "100 KiB, HTTP/2, 10 × 32 streams",
        kind: WorkloadKind::Http2Load(Http2Load {
            transport: Transport::Http2Cleartext,
            content: HTTP2_MEDIUM_FILE,
        }),
        targets: &[],
    },
    Workload {
        name: "h2-tls-100-KiB",
        title: "100 KiB, HTTP/2 and TLS, 10 × 32 streams",
        kind: WorkloadKind::Http2Load(Http2Load {
            transport: Transport::Http2Tls,
            content: HTTP2_MEDIUM_FILE,
        }),
        targets: &[],
    },
    Workload {
        name: "h2-1-GiB",
        title: "1 GiB, HTTP/2",
        kind: WorkloadKind::Http2Load(Http2Load {
            transport: Transport::Http2Cleartext,
            content: Http2Content::Large,
        }),
        targets: &[],
    },
    Workload {
        name: "h2-tls-1-GiB",
        title: "1 GiB, HTTP/2 and TLS",
        kind: WorkloadKind::Http2Load(Http2Load {
            transport: Transport::Http2Tls,
            content: Http2Content::Large,
        }),
        targets: &[Target {
            metric: 0,
            baseline: Baseline::BetterOf(ServerKind::Nginx, ServerKind::H2o),
            limit: 1.05,
        }],
    },
    Workload {
        name: "h2-stylesheet",
        title: "Download that comes before a stylesheet, HTTP/2",
        kind: WorkloadKind::Stylesheet,
        targets: &[
            Target::absolute(200.0),
            Target {
                metric: 1,
                baseline: Baseline::Absolute,
                limit: 200.0,
            },
            Target {
                metric: 2,
                baseline: Baseline::Absolute,
                limit: 200.0,
            },
        ],
    },
    Workload {
        name: "idle-memory",
        title: "An idle connection",
        kind: WorkloadKind::IdleMemory,
        targets: &[Target::absolute(256.0)],
    },
    Workload {
        name: "during-downloads",
        title: "1 KiB during 4 running, 200 stalled downloads",
        kind: WorkloadKind::DuringDownloads(Transport::Http1),
        targets: &[
            Target::ratio(ServerKind::Nginx, 0.80),
            Target {
                metric: 1,
                baseline: Baseline::Server(ServerKind::Nginx),
                limit: 1.0,
            },
            Target {
                metric: 1,
                baseline: Baseline::NginxReference(Profile::DistributionDefault),
                limit: 0.2,
            },
        ],
    },
    Workload {
        name: "during-tls-downloads",
        title: "TLS: 1 KiB during 4 running, 200 stalled downloads",
        kind: WorkloadKind::DuringDownloads(Transport::Http1Tls),
        targets: &[Target {
            metric: 1,
            baseline: Baseline::NginxReference(Profile::WithoutTls),
            limit: 1.0,
        }],
    },
    Workload {
        name: "cold-disk",
        title: "1 KiB during 8 downloads from a disk of 2 MB/s",
        kind: WorkloadKind::ColdDisk,
        targets: &[
            Target::ratio(ServerKind::Nginx, 1.0),
            Target {
                metric: 1,
                baseline: Baseline::Server(ServerKind::Nginx),
                limit: 1.0,
            },
            Target {
                metric: 2,
                baseline: Baseline::Absolute,
                limit: 10.0,
            },
        ],
    },
    Workload {
        name: "start",
        title: "From start to first byte",
        kind: WorkloadKind::StartTime,
        targets: &[Target::absolute(3.0)],
    },
    Workload {
        name: "size",
        title: binary_size::TITLE_AND_TARGET.0,
        kind: WorkloadKind::BinarySize,
        targets: &[Target::absolute(binary_size::TITLE_AND_TARGET.1)],
    },
];

/// Small responses that are sent from memory.
const SMALL_RESPONSE_TARGETS: &[Target] = &[
    Target::ratio(ServerKind::BareLoop, 1.10),
    Target::best_peer(0, 0.97),
];

const MEDIUM_FILE: HttpLoad = HttpLoad {
    profile: Profile::LargeFiles,
    path: "/100K.png",
    counts_client: true,
    ..SMALL_FILE
};

const LARGE_FILE: HttpLoad = HttpLoad {
    path: "/1M.png",
    connections: 32,
    ..MEDIUM_FILE
};

const HTTP2_SMALL_FILE: Http2Content = Http2Content::Repeated {
    path: "/1K.png",
    profile: Profile::SmallFiles,
};

const HTTP2_MEDIUM_FILE: Http2Content = Http2Content::Repeated {
    path: "/100K.png",
    profile: Profile::LargeFiles,
};

/// Returns the workloads whose names contain one of `names`, or all if `names` is empty.
pub(crate) fn matching(names: &[&str]) -> Vec<&'static Workload> {
    let is_wanted = |workload: &&Workload| {
        names.is_empty() || names.iter().any(|name| workload.name.contains(name))
    };
    WORKLOADS.iter().filter(is_wanted).collect()
}

/// Returns the names of all workloads, separated by commas.
pub(crate) fn names() -> String {
    let names: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
    names.join(", ")
}

impl Workload {
    /// Measures all servers. Returns one result per metric, also if the measurement failed.
    pub(crate) fn measure(&self, context: &BenchContext<'_>) -> Vec<MetricResult> {
        let measurements = self.kind.measure(context);
        let result = |(index, metric): (usize, &Metric)| {
            let (tws, others) = match &measurements {
                Ok(measurements) => measurements.metric(index),
                Err(reason) => (Err(reason.clone()), Vec::new()),
            };
            let targets = self.targets.iter().filter(|target| target.metric == index);
            let targets = targets
                .map(|target| target.evaluate(*metric, &tws, &others, context.environment))
                .collect();
            MetricResult {
                name: self.name,
                title: self.title,
                metric: *metric,
                tws,
                others,
                targets,
            }
        };
        self.kind.metrics().iter().enumerate().map(result).collect()
    }
}

impl WorkloadKind {
    fn metrics(&self) -> &'static [Metric] {
        match self {
            Self::HttpLoad(load) => load.metrics(),
            Self::TlsHandshake(_) => tls_handshake::METRICS,
            Self::ColdCompression => http_load::METRICS,
            Self::LargeDownload(_) => large_download::METRICS,
            Self::Http2Load(load) => load.metrics(),
            Self::Stylesheet => stylesheet::METRICS,
            Self::IdleMemory => idle_memory::METRICS,
            Self::DuringDownloads(_) | Self::ColdDisk => latency::METRICS,
            Self::StartTime => start_time::METRICS,
            Self::BinarySize => binary_size::METRICS,
        }
    }

    fn measure(&self, context: &BenchContext<'_>) -> Result<Measurements> {
        match self {
            Self::HttpLoad(load) => load.measure(context),
            Self::TlsHandshake(sessions) => tls_handshake::measure(context, *sessions),
            Self::ColdCompression => cold_compression::measure(context),
            Self::LargeDownload(transport) => large_download::measure(context, *transport),
            Self::Http2Load(load) => load.measure(context),
            Self::Stylesheet => stylesheet::measure(context),
            Self::IdleMemory => idle_memory::measure(context),
            Self::DuringDownloads(transport) => during_downloads::measure(context, *transport),
            Self::ColdDisk => cold_disk::measure(context),
            Self::StartTime => start_time::measure(context),
            Self::BinarySize => binary_size::measure(context),
        }
    }
}
