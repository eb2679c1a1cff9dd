//! Snapshots of the event loops for metrics and the transfers page.

pub(crate) mod histogram;
pub(crate) mod observer;
pub(crate) mod question;
pub(crate) mod report;
