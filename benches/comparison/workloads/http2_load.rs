//! CPU time per request, or per MiB of a download, while h2load sends requests over HTTP/2.

use std::fs;
use std::path::Path;

use crate::Result;
use crate::h2load::{self, H2loadRun, LoadAmount};
use crate::servers::{Profile, RunningServer, Transport};
use crate::test_files::LARGE_FILE_LEN;

use super::context::BenchContext;
use super::measurement::{Measurements, measure_running};
use super::result::Metric;
use super::{http_load, large_download};

/// Requests over HTTP/2.
#[derive(Debug)]
pub(super) struct Http2Load {
    pub(super) transport: Transport,
    pub(super) content: Http2Content,
}

/// What is requested, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Http2Content {
    /// Requests for a file on 10 connections, 32 of them at a time on each.
    Repeated {
        path: &'static str,
        profile: Profile,
    },
    /// One download of the largest file.
    Large,
}

const CONNECTIONS: usize = 10;
const STREAMS: usize = 32;

impl Http2Load {
    pub(super) fn metrics(&self) -> &'static [Metric] {
        match self.content {
            Http2Content::Repeated { .. } => http_load::METRICS,
            // Not the CPU time of h2load.
            Http2Content::Large => &large_download::METRICS[..1],
        }
    }

    pub(super) fn measure(&self, context: &BenchContext<'_>) -> Result<Measurements> {
        let h2load = context.environment.h2load.as_deref();
        let h2load = h2load.ok_or("h2load is not installed")?;
        let (path, profile) = match self.content {
            Http2Content::Repeated { path, profile } => (path, profile),
            Http2Content::Large => (context.files.large_file()?, Profile::LargeFiles),
        };
        let lineup = context.lineup_over(self.transport, profile);
        let url = |running: &RunningServer| format!("{}{path}", running.origin());
        let file = context.files.root.join(&path[1..]);
        let len = fs::metadata(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let check = |running: &RunningServer| {
            let url = url(running);
            let run = H2loadRun {
                url: &url,
                connections: 1,
                streams: 1,
                amount: LoadAmount::Requests(1),
            };
            let counts = h2load::run(h2load, &run, context.environment.cores)?;
            match counts.content_bytes {
                count if count == len.len() => Ok(()),
                count => Err(format!("received {count} of {} bytes", len.len())),
            }
        };
        let measure = |running: &RunningServer, (): &()| {
            self.measure_once(context, h2load, &url(running), running)
        };
        measure_running(context, &context.files.root, lineup, check, measure)
    }

    /// Returns microseconds of CPU time per request, or per MiB.
    fn measure_once(
        &self,
        context: &BenchContext<'_>,
        h2load: &Path,
        url: &str,
        running: &RunningServer,
    ) -> Result<Vec<f64>> {
        let (connections, streams, amount) = match self.content {
            Http2Content::Repeated { .. } => (
                CONNECTIONS,
                STREAMS,
                LoadAmount::Duration(context.plan.load),
            ),
            Http2Content::Large => (1, 1, LoadAmount::Requests(1)),
        };
        let run = H2loadRun {
            url,
            connections,
            streams,
            amount,
        };
        let before = running.process.cpu_time();
        let counts = h2load::run(h2load, &run, context.environment.cores)?;
        let cpu_time = running.process.cpu_time().since(&before);
        let units = match self.content {
            Http2Content::Repeated { .. } => counts.succeeded,
            Http2Content::Large => LARGE_FILE_LEN >> 20,
        };
        Ok(vec![cpu_time / units as f64 / 1e3])
    }
}
