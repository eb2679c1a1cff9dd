//! Targets: upper limits of a metric, absolute or relative to another server.

use crate::Result;
use crate::environment::Environment;
use crate::servers::{Profile, ServerKind};

use super::result::{Metric, ServerResult, TargetResult};

/// An upper limit of one metric.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// The index of the metric among those of the workload.
    pub(super) metric: usize,
    pub(super) baseline: Baseline,
    pub(super) limit: f64,
}

/// What a target's limit refers to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Baseline {
    /// The ratio tws / server.
    Server(ServerKind),
    /// The ratio tws / nginx in the configuration that distributions install.
    NginxAsInstalled,
    /// The greater of two ratios, so the one to the server with the lower cost.
    BetterOf(ServerKind, ServerKind),
    /// The figure of tws itself.
    Absolute,
}

impl Target {
    /// A limit of the first metric's ratio tws / `server`.
    pub(super) const fn ratio(server: ServerKind, limit: f64) -> Self {
        Self {
            metric: 0,
            baseline: Baseline::Server(server),
            limit,
        }
    }

    /// A limit of the first metric's figure.
    pub(super) const fn absolute(limit: f64) -> Self {
        Self {
            metric: 0,
            baseline: Baseline::Absolute,
            limit,
        }
    }

    /// Compares the measured figures with the limit.
    pub(super) fn evaluate(
        self,
        metric: Metric,
        tws: &Result<f64>,
        others: &[ServerResult],
        environment: &Environment,
    ) -> TargetResult {
        let limit = self.limit;
        let ratio = |server: ServerKind, as_installed: bool| {
            let result = others.iter().find(|other| {
                let is_default = other.setup.profile == Profile::DistributionDefault;
                other.setup.server == server && is_default == as_installed
            });
            match result.map(|result| &result.comparison) {
                Some(Ok(comparison)) => Ok(comparison.ratio.median),
                Some(Err(reason)) => Err(format!("{}: {reason}", server.name())),
                None if !environment.has(server) => {
                    Err(format!("{} is not installed", server.name()))
                }
                None => Err(tws.clone().err().unwrap_or_default()),
            }
        };
        let (description, measured) = match self.baseline {
            Baseline::Server(server) => (
                format!("{limit:.2} of {}", server.name()),
                ratio(server, false),
            ),
            Baseline::NginxAsInstalled => (
                format!("{limit:.2} of nginx as installed"),
                ratio(ServerKind::Nginx, true),
            ),
            Baseline::BetterOf(one, other) => (
                format!(
                    "{limit:.2} of the better of {} and {}",
                    one.name(),
                    other.name()
                ),
                match (ratio(one, false), ratio(other, false)) {
                    (Ok(one), Ok(other)) => Ok(one.max(other)),
                    (Err(reason), _) | (_, Err(reason)) => Err(reason),
                },
            ),
            Baseline::Absolute => (format!("{limit} {}", metric.unit), tws.clone()),
        };
        TargetResult {
            description,
            measured,
            limit,
        }
    }
}
