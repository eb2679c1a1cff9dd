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
    /// The ratio tws / nginx in a configuration that is only a reference.
    NginxReference(Profile),
    /// The greatest ratio tws / server of the other projects' servers.
    BestPeer,
    /// How much the figure is above that of tws with this profile.
    Above(Profile),
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

    /// A limit of the greatest of the ratios tws / server.
    pub(super) const fn best_peer(metric: usize, limit: f64) -> Self {
        Self {
            metric,
            baseline: Baseline::BestPeer,
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
        let ratio = |server: ServerKind, reference: Option<Profile>| {
            let result = others.iter().find(|other| {
                let is_wanted = match reference {
                    Some(profile) => other.setup.profile == profile,
                    None => !other.setup.is_reference(),
                };
                other.setup.server == server && is_wanted
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
                ratio(server, None),
            ),
            Baseline::NginxReference(profile) => (
                match profile {
                    Profile::WithoutTls => format!("{limit:.2} of nginx without TLS"),
                    _ => format!("{limit:.2} of nginx as installed"),
                },
                ratio(ServerKind::Nginx, Some(profile)),
            ),
            Baseline::BestPeer => (
                format!("{limit:.2} of the best other server"),
                ServerKind::OTHERS
                    .iter()
                    .filter_map(|server| ratio(*server, None).ok())
                    .reduce(f64::max)
                    .ok_or_else(|| "no other server was measured".to_owned()),
            ),
            Baseline::Above(profile) => {
                let mut others = others.iter();
                let other = others.find(|other| {
                    other.setup.server == ServerKind::Tws && other.setup.profile == profile
                });
                let other = other.map(|other| other.comparison.clone());
                let other = other.unwrap_or_else(|| Err("not measured".to_owned()));
                let above = tws.clone().and_then(|tws| Ok(tws - other?.value));
                (
                    format!("{limit} {} more than with 10 rules", metric.unit),
                    above,
                )
            }
            Baseline::BetterOf(one, other) => (
                format!(
                    "{limit:.2} of the better of {} and {}",
                    one.name(),
                    other.name()
                ),
                match (ratio(one, None), ratio(other, None)) {
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
