//! Handlers around handlers: each is made with the handler that it wraps, and has a say in all
//! three questions, those about contents too.

mod cors;
mod slow_log;

pub use cors::Cors;
pub use slow_log::SlowLog;
