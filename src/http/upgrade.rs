//! A protocol that a connection speaks after a response with status 101 (RFC 9110 §7.8).
//!
//! The connection is still driven by its event loop. The protocol is pure: received bytes go in, bytes
//! to send come out. It has no socket and no clock, and what other threads have to say to it is announced
//! by its [`UpgradeWaker`].

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Makes the event loop of a connection call [`UpgradedProtocol::advance`], from any thread.
pub(crate) type UpgradeWaker = Arc<dyn Fn() + Send + Sync>;

/// What the connection speaks in place of HTTP.
pub(crate) trait UpgradedProtocol: fmt::Debug + Send {
    /// The connection has changed to this protocol. Called once, before the other methods.
    fn start(&mut self, waker: UpgradeWaker, now: Instant);

    /// Takes received bytes from the beginning of `input`, and appends bytes to send to `output`.
    fn advance(&mut self, input: &[u8], output: &mut Vec<u8>, turn: &Turn) -> Advance;

    /// Returns when [`advance`](Self::advance) must be called although nothing has happened.
    fn deadline(&self) -> Option<Instant>;
}

/// The circumstances of one call of [`UpgradedProtocol::advance`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) now: Instant,
    pub(crate) input: UpgradedInput,
    /// Output of earlier calls is not sent yet. The time limits of the transport apply to it.
    pub(crate) is_sending: bool,
    /// No more input should be taken after so many bytes of output have been appended.
    pub(crate) max_output: usize,
    /// The server shuts down.
    pub(crate) is_draining: bool,
}

/// Whether the client may have sent more than the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpgradedInput {
    /// It may: the transport has not been read to its end.
    Unread,
    /// Everything that has arrived is in the input.
    Drained,
    /// The client has closed its sending side, and everything is in the input.
    Ended,
}

/// The result of [`UpgradedProtocol::advance`].
#[derive(Debug)]
pub(crate) struct Advance {
    /// How many bytes of the input were taken.
    pub(crate) taken: usize,
    pub(crate) next: AfterAdvance,
}

/// What a connection does after a call of [`UpgradedProtocol::advance`].
#[derive(Debug)]
pub(crate) enum AfterAdvance {
    /// Continue with more input.
    Read,
    /// Continue when some output is sent.
    Write,
    /// Run the job on a helper thread. Its end is announced by the waker.
    RunJob(UpgradeJob),
    /// Read nothing until the waker announces the end of a job.
    Wait,
    /// Close the connection when the output is sent, after a regular end of the protocol.
    Finish,
    /// Close the connection at once: the client does not respond.
    TimeOut,
    /// Close the connection when the output is sent: the client has closed its side without a regular end of
    /// the protocol.
    Lost,
}

/// Work of an upgraded connection that may block.
pub(crate) struct UpgradeJob(Box<dyn FnOnce() + Send>);

impl UpgradeJob {
    pub(crate) fn new(run: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(run))
    }

    pub(crate) fn run(self) {
        (self.0)();
    }
}

impl fmt::Debug for UpgradeJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpgradeJob")
    }
}
