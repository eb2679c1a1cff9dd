//! tws
pub mod http;
mod config; mod error; mod handler;
mod h1;
pub mod access_log;
mod router;
pub use config::*; pub use error::*; pub use handler::*; pub use crate::http::{Request,Response};
pub use router::Router;
