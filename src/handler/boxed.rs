//! A handler of any type.

use std::fmt;

use super::caught::CatchPanics;
use super::{BodyPolicy, Handler, Outcome};
use crate::http::{Rejection, Request, Response};

/// Any handler, boxed: what wraps handlers conditionally has one type with it.
///
/// ```
/// use std::time::Duration;
/// use tws::{BoxHandler, Request, Response, SlowLog};
///
/// fn app(slow_log: Option<Duration>) -> BoxHandler {
///     let handler = |_: &Request<'_>| Response::text("hello\n");
///     match slow_log {
///         Some(threshold) => BoxHandler::new(SlowLog::new(handler, threshold)),
///         None => BoxHandler::new(handler),
///     }
/// }
/// ```
pub struct BoxHandler(Box<dyn Handler>);

impl BoxHandler {
    /// Boxes a handler.
    pub fn new(handler: impl Handler + 'static) -> Self {
        Self(Box::new(handler))
    }

    /// Wraps the handler in a layer, as [`Router::layer`](crate::Router::layer) does.
    pub fn layer<H: Handler + 'static>(self, wrap: impl FnOnce(Self) -> H) -> Self {
        Self::new(wrap(Self::new(CatchPanics(self.0))))
    }
}

impl Handler for BoxHandler {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        self.0.handle(request)
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        self.0.admit(request)
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        self.0.reject(request, rejection)
    }
}

impl fmt::Debug for BoxHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxHandler")
    }
}
