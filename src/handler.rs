//! What turns a request into a response. A handler knows no connection: it can be called with a
//! [`Request`] made by hand, and what it returns can be read.

use crate::http::{Refusal, Request, Response};

/// Work that may wait: for a disk, a lock, another server. It runs on a helper thread.
pub type Job = Box<dyn FnOnce() -> Response + Send>;

/// A handler's answer.
pub enum Reply {
    /// The response, at once.
    Now(Response),
    /// A job that makes the response. The connection waits for it, the event loop does not.
    Blocking(Job),
}

impl Reply {
    /// A job that makes the response on a helper thread.
    pub fn blocking(job: impl FnOnce() -> Response + Send + 'static) -> Self {
        Self::Blocking(Box::new(job))
    }

    /// The response, waiting for the job if there is one. For tests and other callers that may wait.
    pub fn wait(self) -> Response {
        match self {
            Self::Now(response) => response,
            Self::Blocking(job) => job(),
        }
    }
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self::Now(response)
    }
}

/// Turns requests into responses.
///
/// `handle` is called on an event loop that serves many connections: it must not wait. What may
/// wait goes into [`Reply::Blocking`]. Closures `Fn(&Request<'_>) -> Response` are handlers.
pub trait Handler: Send + Sync {
    /// Answers one request.
    fn handle(&self, request: &Request<'_>) -> Reply;

    /// Answers a request whose head is fine but whose content is refused: too large (413), badly
    /// framed (400), or with an expectation nobody meets (417). The request has no content then.
    fn refuse(&self, request: &Request<'_>, refusal: Refusal) -> Response {
        let _ = request;
        refusal.into()
    }
}

impl<F, R> Handler for F
where
    F: Fn(&Request<'_>) -> R + Send + Sync,
    R: Into<Reply>,
{
    fn handle(&self, request: &Request<'_>) -> Reply {
        self(request).into()
    }
}
