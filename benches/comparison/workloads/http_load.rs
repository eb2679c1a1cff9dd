//! CPU time per request while wrk repeats a request on many connections.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::Result;
use crate::client;
use crate::servers::{Profile, RunningServer, ServerKind, Transport};
use crate::wrk::{self, PIPELINE_DEPTH, WrkRun};

use super::context::BenchContext;
use super::measurement::{Measurements, measure_running};
use super::result::{Metric, Plot};

pub(super) const METRICS: &[Metric] = METRICS_WITH_CLIENT.split_at(1).0;

const METRICS_WITH_CLIENT: &[Metric] = &[
    Metric {
        name: "CPU per request",
        unit: "µs",
        plot: Plot::Cpu,
    },
    // A server can save time at the expense of its clients: it sends smaller packets.
    Metric {
        name: "CPU per request, client included",
        unit: "µs",
        plot: Plot::None,
    },
];

/// A request that wrk repeats, and the response that every server must give.
#[derive(Debug)]
pub(super) struct HttpLoad {
    pub(super) profile: Profile,
    /// HTTP/1.1 with or without TLS.
    pub(super) transport: Transport,
    pub(super) path: &'static str,
    pub(super) connections: usize,
    pub(super) script: LoadScript,
    pub(super) headers: RequestHeaders,
    pub(super) expected: ExpectedResponse,
    /// Whether the CPU time of the client is a metric, too.
    pub(super) counts_client: bool,
}

/// The Lua script that generates the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoadScript {
    None,
    Pipelined,
    Zipf,
}

/// The header fields that are sent in addition to `Host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestHeaders {
    None,
    Close,
    Range,
    /// What a browser sends for a cached page: the entity tag and the date from the same server.
    Validators,
    /// What Chromium sends for an image of a page, with a cookie.
    Browser,
    Gzip,
}

/// The response that every server must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpectedResponse {
    WholeFile,
    /// The bytes from the first offset up to, not including, the second.
    Range(usize, usize),
    NotModified,
    /// The content is not compared: each server has an error page of its own.
    NotFound,
    /// With gzip. The content is not compared: each server has a level of its own.
    Compressed,
}

const BROWSER_FIELDS: [&str; 11] = [
    "Connection: keep-alive",
    "sec-ch-ua-platform: \"Linux\"",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
     Chrome/140.0.0.0 Safari/537.36",
    "sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"",
    "sec-ch-ua-mobile: ?0",
    "Accept: image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: no-cors",
    "Referer: http://localhost:8000/index.html",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-GB,en;q=0.9",
];

/// The load of the first workload; others are variations of it.
pub(super) const SMALL_FILE: HttpLoad = HttpLoad {
    profile: Profile::SmallFiles,
    transport: Transport::Http1,
    path: "/1K.png",
    connections: 64,
    script: LoadScript::None,
    headers: RequestHeaders::None,
    expected: ExpectedResponse::WholeFile,
    counts_client: false,
};

impl HttpLoad {
    /// The same load over TLS.
    pub(super) const fn over_tls(self) -> Self {
        Self {
            transport: Transport::Http1Tls,
            ..self
        }
    }

    pub(super) fn metrics(&self) -> &'static [Metric] {
        match self.counts_client {
            true => METRICS_WITH_CLIENT,
            false => METRICS,
        }
    }

    pub(super) fn measure(&self, context: &BenchContext<'_>) -> Result<Measurements> {
        let wrk = context.environment.wrk.as_deref();
        let wrk = wrk.ok_or("wrk is not installed")?;
        let mut lineup = match self.profile {
            Profile::Rules(_) => context.lineup_of_tws(self.profile),
            profile => context.lineup_over(self.transport, profile),
        };
        if self.transport == Transport::Http1 {
            lineup.others.push(context.bare_loop(self.profile));
        }
        let check = |running: &RunningServer| self.check(context, running);
        let measure = |running: &RunningServer, headers: &Vec<String>| {
            let run = WrkRun {
                url: &format!("{}{}", running.origin(), self.path),
                connections: self.connections,
                headers,
                script: match self.script {
                    LoadScript::None => None,
                    LoadScript::Pipelined => Some(&context.scripts.pipelined),
                    LoadScript::Zipf => Some(&context.scripts.zipf),
                },
                duration: context.plan.load,
            };
            self.measure_once(context, wrk, &run, running)
        };
        measure_running(context, &context.files.root, lineup, check, measure)
    }

    /// Returns microseconds of CPU time per request, without and with those of the client.
    fn measure_once(
        &self,
        context: &BenchContext<'_>,
        wrk: &Path,
        run: &WrkRun<'_>,
        running: &RunningServer,
    ) -> Result<Vec<f64>> {
        let log = context
            .files
            .scratch
            .join(running.address.port().to_string());
        let log = log.join("access.log");
        let lines_before = count_lines(&log);
        let before = running.process.cpu_time();
        let counts = wrk::run(wrk, run, context.environment.cores)?;
        if self.profile == Profile::AccessLog {
            // A server that logs from another thread may still be writing; that costs CPU time,
            // too.
            std::thread::sleep(Duration::from_millis(200));
        }
        let cpu_time = running.process.cpu_time().since(&before);
        let expected_errors = match self.expected {
            ExpectedResponse::NotFound => counts.responses,
            _ => 0,
        };
        if counts.connection_errors > 0 {
            return Err(format!(
                "wrk counted {} connection errors",
                counts.connection_errors
            ));
        }
        if counts.error_responses != expected_errors {
            return Err(format!(
                "wrk counted {} error responses",
                counts.error_responses
            ));
        }
        if self.profile == Profile::AccessLog {
            // Some servers buffer the last 64 KiB of the log.
            let logged = count_lines(&log) - lines_before;
            if logged + 1_500 < counts.responses {
                return Err(format!("logged {logged} of {} requests", counts.responses));
            }
        }
        let each = |time: f64| time / counts.responses as f64 / 1e3;
        Ok(vec![each(cpu_time), each(cpu_time + counts.cpu_time)])
    }

    /// Checks that the server gives the expected response, so that all servers do equal work.
    /// Returns the header fields to send. The bare loop will send what tws sends.
    fn check(&self, context: &BenchContext<'_>, running: &RunningServer) -> Result<Vec<String>> {
        let path = self.path;
        let headers = match self.headers {
            RequestHeaders::None => {
                // The least requested file of the Zipf workload must exist, too.
                if self.script == LoadScript::Zipf {
                    let (head, _) = running.fetch("/many/9999.png", &[])?;
                    if head.status != 200 {
                        return Err(format!("status {} for the last file", head.status));
                    }
                }
                Vec::new()
            }
            RequestHeaders::Close => vec!["Connection: close".to_owned()],
            RequestHeaders::Range => vec!["Range: bytes=2048-3071".to_owned()],
            RequestHeaders::Validators => {
                let (head, _) = running.fetch(path, &[])?;
                let field = |received: &str, sent: &str| {
                    let value = head.field(received);
                    let value = value.ok_or_else(|| format!("no {received} field"))?;
                    Ok::<_, String>(format!("{sent}: {value}"))
                };
                vec![
                    field("ETag", "If-None-Match")?,
                    field("Last-Modified", "If-Modified-Since")?,
                ]
            }
            RequestHeaders::Browser => BROWSER_FIELDS.map(str::to_owned).to_vec(),
            RequestHeaders::Gzip => vec!["Accept-Encoding: gzip".to_owned()],
        };
        let (head, content) = running.fetch(path, &headers)?;
        if (running.setup.server, self.transport) == (ServerKind::Tws, Transport::Http1) {
            context.save_response(running, path, &headers)?;
        }
        let file = || {
            let path = context.files.root.join(&path[1..]);
            fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let (status, expected) = match self.expected {
            ExpectedResponse::WholeFile => (200, Some(file()?)),
            ExpectedResponse::Range(from, to) => (206, Some(file()?[from..to].to_vec())),
            ExpectedResponse::NotModified => (304, Some(Vec::new())),
            ExpectedResponse::NotFound => (404, None),
            ExpectedResponse::Compressed => (200, None),
        };
        if head.status != status {
            return Err(format!("status {} instead of {status}", head.status));
        }
        let is_compressed = head.field("Content-Encoding") == Some("gzip");
        if is_compressed != (self.expected == ExpectedResponse::Compressed) {
            return Err(format!("compressed: {is_compressed}"));
        }
        if expected.is_some_and(|expected| expected != content) {
            return Err("the content differs from the file".to_owned());
        }
        if self.script == LoadScript::Pipelined {
            let responses = client::pipelined(running.address, path, PIPELINE_DEPTH, &content);
            match responses.map_err(|error| format!("no pipelining: {error}"))? {
                PIPELINE_DEPTH => {}
                other => {
                    return Err(format!(
                        "{other} responses to {PIPELINE_DEPTH} pipelined requests"
                    ));
                }
            }
        }
        Ok(headers)
    }
}

fn count_lines(file: &Path) -> u64 {
    let text = fs::read(file).unwrap_or_default();
    memchr::memchr_iter(b'\n', &text).count() as u64
}
