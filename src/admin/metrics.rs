//! Metrics in the Prometheus text format 0.0.4. Names begin with `tws_`, except those of the process,
//! which have the names that all exporters use. Units are seconds and bytes.

use std::fmt::{Display, Write};
use std::time::SystemTime;

use super::sources::{RESPONSE_TIMEOUT, Sources};
use crate::net::observe::histogram::Histogram;
use crate::net::observe::report::{BlockedOn, Direction, QueueStats, ServerReport};
use crate::server::ServerState;

/// Writes metrics in the text format.
#[derive(Default)]
struct MetricsWriter {
    text: String,
}

#[derive(Clone, Copy)]
enum MetricType {
    Counter,
    Gauge,
    Histogram,
}

impl MetricsWriter {
    /// Writes the name, the help text and the type of a metric; its samples follow.
    fn family(&mut self, name: &str, metric_type: MetricType, help: &str) {
        let metric_type = match metric_type {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
        };
        self.put(format_args!(
            "# HELP {name} {help}\n# TYPE {name} {metric_type}\n"
        ));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.put(format_args!("{name}"));
        for (at, (label, value)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            self.put(format_args!("{before}{label}=\"{}\"", escape(value)));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.put(format_args!("{end} {value}\n"));
    }

    /// Writes a metric with one sample.
    fn single(&mut self, name: &str, metric_type: MetricType, help: &str, value: impl Display) {
        self.family(name, metric_type, help);
        self.sample(name, &[], value);
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut sum = 0;
        for (end, count) in &histogram.buckets {
            sum += count;
            let end = end.map_or("+Inf".to_owned(), |end| end.as_secs_f64().to_string());
            let labels = [labels, &[("le", end.as_str())]].concat();
            self.sample(&format!("{name}_bucket"), &labels, sum);
        }
        let seconds = histogram.sum.as_secs_f64();
        self.sample(&format!("{name}_sum"), labels, seconds);
        self.sample(&format!("{name}_count"), labels, sum);
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.text.write_fmt(text);
    }
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

pub(super) fn render(sources: &Sources) -> String {
    let mut out = MetricsWriter::default();
    let report = sources.observer.report(RESPONSE_TIMEOUT);
    server(&mut out, sources);
    responses(&mut out, sources);
    connections(&mut out, sources, &report);
    #[cfg(feature = "tls")]
    tls(&mut out, sources);
    certificates(&mut out, sources);
    transfers(&mut out, &report);
    http2(&mut out, sources, &report);
    threads(&mut out, sources, &report);
    files(&mut out, sources);
    process(&mut out, sources);
    out.text
}

fn server(out: &mut MetricsWriter, sources: &Sources) {
    let name = "tws_build_info";
    out.family(name, MetricType::Gauge, "Version of tws, as a label.");
    out.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let is_ready = sources.handle.state() == ServerState::Serving;
    out.single(
        "tws_ready",
        MetricType::Gauge,
        "1 while the server accepts requests, 0 before and from shutdown on.",
        u8::from(is_ready),
    );
}

fn responses(out: &mut MetricsWriter, sources: &Sources) {
    let totals = sources.observer.totals();
    let counts = sources.handle.stats();
    out.single(
        "tws_requests_total",
        MetricType::Counter,
        "Requests passed to the handler.",
        counts.requests,
    );
    let name = "tws_responses_total";
    out.family(
        name,
        MetricType::Counter,
        "Finished responses by status; 499 if the client disconnected before one was sent.",
    );
    for (status, count) in &totals.responses {
        out.sample(name, &[("code", status.as_str())], count);
    }
    out.single(
        "tws_response_content_bytes_total",
        MetricType::Counter,
        "Bytes of content sent in finished responses.",
        totals.content_bytes,
    );
    let name = "tws_response_duration_seconds";
    out.family(
        name,
        MetricType::Histogram,
        "Time from the first byte of a request to the last byte of its response.",
    );
    out.histogram(name, &[], &totals.durations);
    out.single(
        "tws_access_log_dropped_lines_total",
        MetricType::Counter,
        "Access log lines dropped.",
        counts.dropped_log_lines,
    );
}

fn connections(out: &mut MetricsWriter, sources: &Sources, report: &ServerReport) {
    let counts = sources.handle.stats();
    let name = "tws_connections";
    out.family(name, MetricType::Gauge, "Open connections by state.");
    for (state, count) in report.connections.named() {
        out.sample(name, &[("state", state)], count);
    }
    out.single(
        "tws_connections_accepted_total",
        MetricType::Counter,
        "Connections accepted.",
        counts.accepted,
    );
    let name = "tws_connections_rejected_total";
    out.family(
        name,
        MetricType::Counter,
        "Connections rejected with 503 by limit: all connections, or those of one client.",
    );
    let of_clients = counts.rejected_clients;
    let of_all = counts.rejected.saturating_sub(of_clients);
    out.sample(name, &[("reason", "all")], of_all);
    out.sample(name, &[("reason", "client")], of_clients);
    out.single(
        "tws_connections_evicted_total",
        MetricType::Counter,
        "Idle connections closed to make room for new ones.",
        counts.evicted,
    );
}

#[cfg(feature = "tls")]
fn tls(out: &mut MetricsWriter, sources: &Sources) {
    let name = "tws_tls_handshakes_total";
    out.family(
        name,
        MetricType::Counter,
        "TLS handshakes by kind (full, resumed, retried with another group) and key-exchange group.",
    );
    for (kind, group, count) in sources.handle.tls_handshakes() {
        out.sample(name, &[("kind", kind), ("group", group)], count);
    }
}

/// A name without a certificate, and one whose last attempt did not fail, has no sample.
fn certificates(out: &mut MetricsWriter, sources: &Sources) {
    let certificates = sources.certificates();
    if certificates.is_empty() {
        return;
    }
    let name = "tws_certificate_expiry_seconds";
    out.family(
        name,
        MetricType::Gauge,
        "Time at which the certificate of a name expires, in seconds since 1970.",
    );
    for certificate in &certificates {
        if let Some(not_after) = certificate.not_after {
            out.sample(name, &[("name", &certificate.name)], not_after);
        }
    }
    let name = "tws_certificate_last_error_seconds";
    out.family(
        name,
        MetricType::Gauge,
        "Time at which the last attempt to obtain a certificate failed, in seconds since 1970, by error; \
         none after a success.",
    );
    for certificate in &certificates {
        if let Some(error) = &certificate.last_error {
            let labels = [("name", certificate.name.as_str()), ("error", &error.kind)];
            out.sample(name, &labels, error.at);
        }
    }
}

fn transfers(out: &mut MetricsWriter, report: &ServerReport) {
    let name = "tws_transfers";
    out.family(
        name,
        MetricType::Gauge,
        "Running transfers by direction and by what they wait for.",
    );
    for (direction, way) in [(Direction::Down, "down"), (Direction::Up, "up")] {
        for (blocked_on, what) in [
            (BlockedOn::Client, "client"),
            (BlockedOn::Disk, "disk"),
            (BlockedOn::Handler, "handler"),
            (BlockedOn::RunQueue, "server"),
            (BlockedOn::Bandwidth, "bandwidth"),
        ] {
            let matching = report.transfers.iter().filter(|transfer| {
                (transfer.direction, transfer.blocked_on) == (direction, blocked_on)
            });
            let labels = [("direction", way), ("blocked_on", what)];
            out.sample(name, &labels, matching.count());
        }
    }
}

fn http2(out: &mut MetricsWriter, sources: &Sources, report: &ServerReport) {
    out.single(
        "tws_http2_connections",
        MetricType::Gauge,
        "Open HTTP/2 connections.",
        report.http2.connections,
    );
    out.single(
        "tws_http2_streams",
        MetricType::Gauge,
        "Open streams on HTTP/2 connections.",
        report.http2.streams,
    );
    let totals = sources.observer.totals().http2;
    let name = "tws_http2_resets_total";
    out.family(
        name,
        MetricType::Counter,
        "HTTP/2 streams reset by error code, received from clients or sent to them.",
    );
    for (direction, counts) in [
        ("received", &totals.resets_received),
        ("sent", &totals.resets_sent),
    ] {
        for (code, count) in counts {
            out.sample(name, &[("direction", direction), ("code", code)], count);
        }
    }
    let name = "tws_http2_floods_total";
    out.family(
        name,
        MetricType::Counter,
        "HTTP/2 connections closed because their client exceeded a limit, by the limit.",
    );
    for (limit, count) in &totals.floods {
        out.sample(name, &[("limit", limit)], count);
    }
}

fn threads(out: &mut MetricsWriter, sources: &Sources, report: &ServerReport) {
    let totals = sources.observer.totals();
    let name = "tws_worker_up";
    out.family(
        name,
        MetricType::Gauge,
        "1 if the event loop responds within a second.",
    );
    for worker in 0..totals.iterations.len() {
        let up = u8::from(!report.silent.contains(&worker));
        out.sample(name, &[("worker", &worker.to_string())], up);
    }
    let name = "tws_event_loop_iteration_duration_seconds";
    out.family(
        name,
        MetricType::Histogram,
        "Duration of event loop iterations; an event waits for at most one.",
    );
    for (worker, turns) in totals.iterations.iter().enumerate() {
        out.histogram(name, &[("worker", &worker.to_string())], turns);
    }
    let name = "tws_helper_tasks";
    out.family(
        name,
        MetricType::Gauge,
        "Tasks of helper threads by pool: handler jobs, streamed bodies, disk reads.",
    );
    for (pool, QueueStats { waiting, running }) in [
        ("jobs", totals.jobs),
        ("streams", totals.streams),
        ("disks", totals.disks),
    ] {
        out.sample(name, &[("pool", pool), ("state", "waiting")], waiting);
        out.sample(name, &[("pool", pool), ("state", "running")], running);
    }
    out.single(
        "tws_cold_reads_total",
        MetricType::Counter,
        "Reads by disk threads, of files that were not wholly in the page cache.",
        totals.cold_reads,
    );
}

fn files(out: &mut MetricsWriter, sources: &Sources) {
    let Some(cache) = &sources.cache else {
        return;
    };
    let counts = cache();
    let name = "tws_file_cache_lookups_total";
    out.family(
        name,
        MetricType::Counter,
        "File cache lookups by result (hit, revalidated, miss).",
    );
    for (result, count) in [
        ("hit", counts.hits),
        ("revalidated", counts.revalidations),
        ("miss", counts.misses),
    ] {
        out.sample(name, &[("result", result)], count);
    }
}

/// Values that the system does not provide are omitted.
fn process(out: &mut MetricsWriter, sources: &Sources) {
    let process = &sources.process;
    let since_1970 = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
    let values = [
        (
            "process_cpu_seconds_total",
            MetricType::Counter,
            "User and system CPU time in seconds.",
            process.cpu_time().map(|time| time.as_secs_f64()),
        ),
        (
            "process_resident_memory_bytes",
            MetricType::Gauge,
            "Resident memory in bytes.",
            process.resident_bytes().map(|bytes| bytes as f64),
        ),
        (
            "process_open_fds",
            MetricType::Gauge,
            "Open file descriptors.",
            process.open_descriptors().map(|count| count as f64),
        ),
        (
            "process_max_fds",
            MetricType::Gauge,
            "Maximum number of open file descriptors.",
            process.max_descriptors().map(|count| count as f64),
        ),
        (
            "process_start_time_seconds",
            MetricType::Gauge,
            "Start time of the process in seconds since 1970.",
            process
                .started()
                .and_then(since_1970)
                .map(|time| time.as_secs_f64()),
        ),
    ];
    for (name, metric_type, help, value) in values {
        if let Some(value) = value {
            out.single(name, metric_type, help, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut out = MetricsWriter::default();
        out.sample("a", &[("b", "\\ \" \n"), ("c", "d")], 1.5);
        assert_eq!(out.text, "a{b=\"\\\\ \\\" \\n\",c=\"d\"} 1.5\n");
    }
}
