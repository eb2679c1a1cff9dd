//! The check of a server's limits, before it binds and before it reloads.

use crate::config::{Config, Limits};
use crate::error::Error;

/// More event loops than any machine has use for.
const MAX_WORKERS: usize = 1024;

/// Checks the limits of a configuration.
///
/// # Errors
///
/// [`Error::Setting`] if limits contradict each other or are out of range.
pub(super) fn check(config: &Config) -> Result<(), Error> {
    let limits = &config.limits;
    let max_fields = crate::proto::h1::MAX_FIELDS;
    if limits.max_fields > max_fields {
        let value = limits.max_fields;
        return invalid(format!(
            "max_fields: {value} is above the maximum, {max_fields}"
        ));
    }
    if limits.max_outbox_bytes == 0 {
        return invalid("max_outbox_bytes: must be at least 1".to_owned());
    }
    if limits.h2_max_streams == 0 {
        return invalid("h2_max_streams: must be at least 1".to_owned());
    }
    if let Some(workers) = config.workers.filter(|workers| workers.get() > MAX_WORKERS) {
        return invalid(format!(
            "workers: {workers} is above the maximum, {MAX_WORKERS}"
        ));
    }
    let bandwidths = [limits.bandwidth_per_client, limits.bandwidth_per_connection];
    let min = Limits::MIN_BANDWIDTH;
    if let Some(low) = bandwidths.iter().flatten().find(|rate| rate.get() < min) {
        return invalid(format!(
            "bandwidth: {low} bytes per second is below the minimum, {min}"
        ));
    }
    if u32::try_from(limits.max_head_bytes).is_err() {
        let value = limits.max_head_bytes;
        return invalid(format!(
            "max_head_bytes: {value} is above the maximum, 4 GiB"
        ));
    }
    Ok(())
}

fn invalid(text: String) -> Result<(), Error> {
    Err(Error::Setting(text))
}
