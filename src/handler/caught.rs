//! Calls of a handler that may panic: the response to its panic is a 500.

use super::outcome::{RequestName, handler_panicked};
use super::{BodyPolicy, Handler, Outcome};
use crate::http::{Rejection, Request, Response};
use crate::panics::{Panicked, catch};

pub(crate) fn handle(handler: &dyn Handler, request: &Request<'_>) -> Outcome {
    catch(|| handler.handle(request)).unwrap_or_else(|Panicked| panicked(request).into())
}

pub(crate) fn admit(handler: &dyn Handler, request: &Request<'_>) -> BodyPolicy {
    catch(|| handler.admit(request))
        .unwrap_or_else(|Panicked| BodyPolicy::Reject(panicked(request)))
}

pub(crate) fn reject(
    handler: &dyn Handler,
    request: &Request<'_>,
    rejection: Rejection,
) -> Response {
    catch(|| handler.reject(request, rejection)).unwrap_or_else(|Panicked| panicked(request))
}

fn panicked(request: &Request<'_>) -> Response {
    handler_panicked(&RequestName(request))
}

/// A handler whose panics do not reach the layers around it, so that they change the 500 as any other
/// response.
pub(crate) struct CatchPanics(pub(crate) Box<dyn Handler>);

impl Handler for CatchPanics {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        handle(&*self.0, request)
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        admit(&*self.0, request)
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        reject(&*self.0, request, rejection)
    }
}
