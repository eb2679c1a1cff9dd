//! The result of a workload: a figure for each server, and whether the targets are met.

use crate::Result;
use crate::servers::ServerSetup;
use crate::statistics::Summary;

/// What a workload measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) plot: Plot,
}

/// The plot that shows a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plot {
    None,
    Cpu,
    Latency,
    Stylesheet,
}

/// The result of one metric of a workload.
#[derive(Debug)]
pub(crate) struct MetricResult {
    /// The name and the title of the workload.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) metric: Metric,
    /// The median of all measurements of tws.
    pub(crate) tws: Result<f64>,
    pub(crate) others: Vec<ServerResult>,
    pub(crate) targets: Vec<TargetResult>,
}

/// The result of a server other than tws, or the reason why it was left out.
#[derive(Debug)]
pub(crate) struct ServerResult {
    pub(crate) setup: ServerSetup,
    pub(crate) comparison: Result<Comparison>,
}

/// A server's figure and its comparison with tws.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison {
    /// The median of the server's measurements.
    pub(crate) value: f64,
    /// tws / server, for each pair of measurements.
    pub(crate) ratio: Summary,
}

/// Whether a target is met.
#[derive(Debug)]
pub(crate) struct TargetResult {
    /// The limit in words, such as "0.75 of nginx".
    pub(crate) description: String,
    /// The figure that must not exceed the limit, or the reason why it is missing.
    pub(crate) measured: Result<f64>,
    pub(crate) limit: f64,
}

impl TargetResult {
    pub(crate) fn is_missed(&self) -> bool {
        matches!(self.measured, Ok(value) if value > self.limit)
    }
}
