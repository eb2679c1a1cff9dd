//! A call of a handler that was not asked about the content of its request in time.

use crate::handler::{BodyPolicy, Handler, Outcome};
use crate::http::Request;
use crate::http::admission::Admission;

/// Asks a handler about content that has been received, or is being received, and calls it if it accepts that.
/// It was not asked when the head was received, or without effect on what counts requests.
pub(super) fn handle_late(handler: &dyn Handler, request: &Request<'_>) -> Outcome {
    if !request.may_have_content() {
        return handler.handle(request);
    }
    let admission = Admission::default();
    let request = request.with_admission(&admission);
    if let BodyPolicy::Reject(response) = handler.admit(&request) {
        return response.closing().into();
    }
    admission.mark_decided();
    handler.handle(&request)
}
