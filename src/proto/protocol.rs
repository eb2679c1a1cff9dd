//! The protocol of a connection, behind one set of methods for the driver.
//!
//! A machine of either protocol is asked for the [`next`](Protocol::next) action, lends what the
//! action is about, and is told the result. Answers that arrive later name their exchange; those for
//! an exchange that is over are dropped.

use std::io;

use bytes::Bytes;

use super::context::Context;
use super::exchange::{BodyMode, ExchangeId};
use super::h1;
use super::segment::Segment;
use super::transfer::TransferProgress;
use super::{Action, CloseReason, Timer};
use crate::body::file_range::Resident;
use crate::body::stream::BodySource;
use crate::http::forwarded::ClientInfo;
use crate::http::{Request, Response};

/// The protocol machine of a connection.
#[derive(Debug)]
pub(crate) enum Protocol {
    H1(h1::machine::Machine),
}

/// Delegates to the variant.
macro_rules! delegate {
    ($protocol:expr, $machine:ident => $call:expr) => {
        match $protocol {
            Protocol::H1($machine) => $call,
        }
    };
}

impl Protocol {
    /// A connection that begins with HTTP/1.1.
    pub(crate) fn http1(client: ClientInfo) -> Self {
        Self::H1(h1::machine::Machine::new(client))
    }

    /// What to do next.
    pub(crate) fn next(&mut self, cx: &mut Context) -> Action {
        delegate!(self, machine => machine.next(cx))
    }

    /// The buffer for [`Action::Read`]: append to it, within its capacity.
    pub(crate) fn read_buf(&mut self, cx: &mut Context) -> &mut Vec<u8> {
        delegate!(self, machine => machine.read_buf(cx))
    }

    /// The next bytes to send, for [`Action::Write`].
    pub(crate) fn segment(&self) -> Segment<'_> {
        delegate!(self, machine => machine.segment())
    }

    /// The request of an exchange that the last [`Action`] named.
    pub(crate) fn request<'a>(&'a self, id: ExchangeId, cx: &'a Context) -> Request<'a> {
        delegate!(self, machine => machine.request(id, cx))
    }

    /// The handler's decision about a request body.
    pub(crate) fn on_admission(
        &mut self,
        id: ExchangeId,
        admission: Result<BodyMode, Response>,
        cx: &mut Context,
    ) {
        delegate!(self, machine => machine.on_admission(id, admission, cx));
    }

    /// The response to a request that was dispatched or rejected.
    pub(crate) fn on_response(&mut self, id: ExchangeId, response: Response, cx: &mut Context) {
        delegate!(self, machine => machine.on_response(id, response, cx));
    }

    /// The chunk that [`Action::PullBody`] asked for, or the end of the body.
    pub(crate) fn on_body_chunk(
        &mut self,
        id: ExchangeId,
        chunk: io::Result<Option<(Bytes, BodySource)>>,
        cx: &mut Context,
    ) {
        delegate!(self, machine => machine.on_body_chunk(id, chunk, cx));
    }

    /// The beginning of the file range that [`Action::ProbeFile`] named is in memory, or cannot be
    /// read.
    pub(crate) fn on_probed(
        &mut self,
        id: ExchangeId,
        resident: io::Result<Resident>,
        cx: &mut Context,
    ) {
        delegate!(self, machine => machine.on_probed(id, resident, cx));
    }

    /// The first `count` bytes of the [`segment`](Self::segment) are sent.
    pub(crate) fn on_written(&mut self, count: usize) {
        delegate!(self, machine => machine.on_written(count));
    }

    /// The peer will send no more.
    pub(crate) fn on_eof(&mut self) {
        delegate!(self, machine => machine.on_eof());
    }

    /// Nothing is sent for a while: the peer takes no more, or the connection is throttled.
    pub(crate) fn on_pause(&mut self) {
        delegate!(self, machine => machine.on_pause());
    }

    /// A time limit has passed.
    pub(crate) fn on_timeout(&mut self, cx: &mut Context) {
        delegate!(self, machine => machine.on_timeout(cx));
    }

    /// Ends the connection. Requests without a response are recorded as such.
    pub(crate) fn on_lost(&mut self, reason: CloseReason) {
        delegate!(self, machine => machine.on_lost(reason));
    }

    /// Closes the connection, and returns true, if the server shuts down and no exchange is in
    /// progress. Only to be called when there is nothing to read.
    pub(crate) fn close_if_draining(&mut self, cx: &Context) -> bool {
        delegate!(self, machine => machine.close_if_draining(cx))
    }

    /// What the connection as a whole waits for.
    pub(crate) fn timer(&self) -> Timer {
        delegate!(self, machine => machine.timer())
    }

    /// The exchange that [`timer`](Self::timer) is about; 0 before the first.
    pub(crate) fn waiting_exchange(&self) -> ExchangeId {
        match self {
            Self::H1(machine) => machine.exchange_id(),
        }
    }

    /// True if answers for an exchange are of use.
    pub(crate) fn is_open(&self, id: ExchangeId) -> bool {
        match self {
            Self::H1(machine) => machine.exchange_id() == id,
        }
    }

    /// The exchanges whose request body a handler has admitted and that is being received, if the
    /// handler is called when the body is complete.
    pub(crate) fn admitted(&self) -> Vec<ExchangeId> {
        match self {
            Self::H1(machine) => {
                let admitted = machine.is_admitted().then(|| machine.exchange_id());
                admitted.into_iter().collect()
            }
        }
    }

    /// True if nothing remains but to close the socket.
    pub(crate) fn is_closed(&self) -> bool {
        delegate!(self, machine => machine.is_closed())
    }

    /// True while a large body is being sent, which other connections' requests may overtake.
    pub(crate) fn is_sending_bulk(&self) -> bool {
        delegate!(self, machine => machine.is_sending_bulk())
    }

    /// The progress of the bodies that are being transferred, if they are large or streamed, and
    /// their exchanges are recorded.
    pub(crate) fn transfers(&self) -> impl Iterator<Item = (ExchangeId, TransferProgress<'_>)> {
        match self {
            Self::H1(machine) => {
                let id = machine.exchange_id();
                machine
                    .transfer()
                    .map(|progress| (id, progress))
                    .into_iter()
            }
        }
    }

    /// Returns the buffers that hold nothing.
    pub(crate) fn release_buffers(&mut self, cx: &mut Context) {
        delegate!(self, machine => machine.release_buffers(cx));
    }
}
